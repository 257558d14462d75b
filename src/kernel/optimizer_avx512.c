/* The sparse optimizers with AVX-512: see optimizer_isa.inc. */
#define ISA(name)    name##_avx512
#define VECTOR_BYTES 64
#include "kernel/optimizer_isa.inc"
