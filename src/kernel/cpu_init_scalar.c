/* Initial values, the scalar reference: see cpu_init_isa.inc. */
#include "kernel/cpu_init.h"

#include <math.h>
#include <string.h>

enum { LANES = 1 };
typedef uint64_t word_t;
typedef double value_t;
typedef uint32_t half_t __attribute__((vector_size(8)));
typedef int32_t signed_half_t __attribute__((vector_size(8)));
typedef float single_t __attribute__((vector_size(8)));

static inline word_t multiply(word_t a, uint32_t b) {
  return (a & 0xFFFFFFFFu) * b;
}

static inline value_t value_sqrt(value_t x) {
  return sqrt(x);
}

static inline single_t single_sqrt(single_t x) {
  return (single_t){sqrtf(x[0]), sqrtf(x[1])};
}

static inline half_t pairs(word_t a, word_t b) {
  return (half_t){(uint32_t)a, (uint32_t)b};
}

static inline void store_pairs(single_t a, single_t b, float *to) {
  to[0] = a[0];
  to[1] = b[0];
  to[2] = a[1];
  to[3] = b[1];
}

#define ISA(name) name##_scalar
#include "kernel/cpu_init_isa.inc"
