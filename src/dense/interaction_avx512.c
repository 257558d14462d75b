/* The dot interaction for AVX-512; called only where the machine has it. */
#define WIDE           16
#define NAME(function) function##_avx512
#include "dense/interaction_wide.inc"

cpu_pairs_t cpu_pairs_avx512(void) {
  return (cpu_pairs_t){forward_avx512, backward_avx512};
}
