/* Initial values with AVX2: see cpu_init_isa.inc. */
#include "kernel/cpu_init.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { LANES = 4 };
typedef uint64_t word_t __attribute__((vector_size(32)));
typedef double value_t __attribute__((vector_size(32)));

static inline word_t multiply(word_t a, long long b) {
  return (word_t)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
}

#define ISA(name)      name##_avx2
#define WORD           word_t
#define VALUE          value_t
#define MULTIPLY(a, b) multiply(a, b)
#define NORMAL_SQRT(x) ((value_t)_mm256_sqrt_pd((__m256d)(x)))
#include "kernel/cpu_init_isa.inc"
