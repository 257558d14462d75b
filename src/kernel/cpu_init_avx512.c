/* Initial values with AVX-512: see cpu_init_isa.inc. */
#include "kernel/cpu_init.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { LANES = 8 };
typedef uint64_t word_t __attribute__((vector_size(64)));
typedef double value_t __attribute__((vector_size(64)));

static inline word_t multiply(word_t a, long long b) {
  return (word_t)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
}

#define ISA(name)      name##_avx512
#define WORD           word_t
#define VALUE          value_t
#define MULTIPLY(a, b) multiply(a, b)
#define NORMAL_SQRT(x) ((value_t)_mm512_sqrt_pd((__m512d)(x)))
#include "kernel/cpu_init_isa.inc"
