/* Checks of a batch with any processor's instructions, and which ones a kernel uses. */
#define CHECK_ISA check_isa_scalar

#include "kernel/cpu_check.inc"

const check_isa_t *check_for(kernel_isa_t isa) {
#if defined(__x86_64__)
  if (isa == ISA_AVX512) return &check_isa_avx512;
  if (isa == ISA_AVX2) return &check_isa_avx2;
#endif
  (void)isa;
  return &check_isa_scalar;
}
