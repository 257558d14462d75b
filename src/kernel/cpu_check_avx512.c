/* Checks of a batch with AVX-512: see cpu_check.inc. */
#define CHECK_ISA check_isa_avx512

#include "kernel/cpu_check.inc"
