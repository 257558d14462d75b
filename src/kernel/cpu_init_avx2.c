/* Initial values with AVX2: see cpu_init_isa.inc. */
#include "kernel/cpu_init.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { LANES = 4 };
typedef uint64_t word_t __attribute__((vector_size(32)));
typedef double value_t __attribute__((vector_size(32)));
typedef uint32_t half_t __attribute__((vector_size(32)));
typedef int32_t signed_half_t __attribute__((vector_size(32)));
typedef float single_t __attribute__((vector_size(32)));

static inline word_t multiply(word_t a, long long b) {
  return (word_t)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
}

static inline value_t value_sqrt(value_t x) {
  return (value_t)_mm256_sqrt_pd((__m256d)x);
}

static inline single_t single_sqrt(single_t x) {
  return (single_t)_mm256_sqrt_ps((__m256)x);
}

static inline half_t pairs(word_t a, word_t b) {
  return (half_t)_mm256_blend_epi32((__m256i)a, _mm256_slli_epi64((__m256i)b, 32), 0xAA);
}

static inline void store_pairs(single_t a, single_t b, float *to) {
  const __m256 block02 = _mm256_unpacklo_ps((__m256)a, (__m256)b);
  const __m256 block13 = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  _mm256_storeu_ps(to, _mm256_permute2f128_ps(block02, block13, 0x20));
  _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(block02, block13, 0x31));
}

#define ISA(name) name##_avx2
#include "kernel/cpu_init_isa.inc"
