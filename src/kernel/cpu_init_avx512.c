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

/* Blocks after one another: 4 x 4 values are turned in each half of a register, that is, blocks l and l + 4.
 */
static inline void store_f32(const value_t value[INIT_COLUMNS], float *to) {
  __m256 column[INIT_COLUMNS];
  for (int i = 0; i < INIT_COLUMNS; i++) column[i] = _mm512_cvtpd_ps((__m512d)value[i]);
  const __m256 low01 = _mm256_unpacklo_ps(column[0], column[1]);
  const __m256 high01 = _mm256_unpackhi_ps(column[0], column[1]);
  const __m256 low23 = _mm256_unpacklo_ps(column[2], column[3]);
  const __m256 high23 = _mm256_unpackhi_ps(column[2], column[3]);
  const __m256 block04 = _mm256_shuffle_ps(low01, low23, 0x44);
  const __m256 block15 = _mm256_shuffle_ps(low01, low23, 0xEE);
  const __m256 block26 = _mm256_shuffle_ps(high01, high23, 0x44);
  const __m256 block37 = _mm256_shuffle_ps(high01, high23, 0xEE);
  _mm256_storeu_ps(to, _mm256_permute2f128_ps(block04, block15, 0x20));
  _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(block26, block37, 0x20));
  _mm256_storeu_ps(to + 16, _mm256_permute2f128_ps(block04, block15, 0x31));
  _mm256_storeu_ps(to + 24, _mm256_permute2f128_ps(block26, block37, 0x31));
}

#define ISA(name)      name##_avx512
#define WORD           word_t
#define VALUE          value_t
#define MULTIPLY(a, b) multiply(a, b)
#define NORMAL_SQRT(x) ((value_t)_mm512_sqrt_pd((__m512d)(x)))
#include "kernel/cpu_init_isa.inc"
