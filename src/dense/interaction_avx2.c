/* The dot interaction for AVX2; called only where the machine has it. */
#define WIDE           8
#define NAME(function) function##_avx2
#include "dense/interaction_wide.inc"

cpu_pairs_t cpu_pairs_avx2(void) {
  return (cpu_pairs_t){forward_avx2, backward_avx2};
}
