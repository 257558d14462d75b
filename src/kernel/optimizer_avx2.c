/* The sparse optimizers with AVX2: see optimizer_isa.inc. */
#define ISA(name)    name##_avx2
#define VECTOR_BYTES 32
#include "kernel/optimizer_isa.inc"
