/* Checks of a batch with AVX2: see cpu_check.inc. */
#define CHECK_ISA check_isa_avx2

#include "kernel/cpu_check.inc"
