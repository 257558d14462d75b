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

/* Blocks after one another. */
static inline void store_f32(const value_t value[INIT_COLUMNS], float *to) {
  __m128 block[INIT_COLUMNS];
  for (int i = 0; i < INIT_COLUMNS; i++) block[i] = _mm256_cvtpd_ps((__m256d)value[i]);
  _MM_TRANSPOSE4_PS(block[0], block[1], block[2], block[3]);
  for (int i = 0; i < INIT_COLUMNS; i++) _mm_storeu_ps(to + i * INIT_COLUMNS, block[i]);
}

#define ISA(name)      name##_avx2
#define WORD           word_t
#define VALUE          value_t
#define MULTIPLY(a, b) multiply(a, b)
#define NORMAL_SQRT(x) ((value_t)_mm256_sqrt_pd((__m256d)(x)))
#include "kernel/cpu_init_isa.inc"
