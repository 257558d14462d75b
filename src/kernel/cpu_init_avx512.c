/* Initial values with AVX-512: see cpu_init_isa.inc. */
#include "kernel/cpu_init.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { LANES = 8 };
typedef uint64_t word_t __attribute__((vector_size(64)));
typedef double value_t __attribute__((vector_size(64)));
typedef uint32_t half_t __attribute__((vector_size(64)));
typedef int32_t signed_half_t __attribute__((vector_size(64)));
typedef float single_t __attribute__((vector_size(64)));

static inline word_t multiply(word_t a, long long b) {
  return (word_t)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
}

static inline value_t value_sqrt(value_t x) {
  return (value_t)_mm512_sqrt_pd((__m512d)x);
}

static inline single_t single_sqrt(single_t x) {
  return (single_t)_mm512_sqrt_ps((__m512)x);
}

static inline half_t pairs(word_t a, word_t b) {
  return (half_t)_mm512_mask_shuffle_epi32((__m512i)a, 0xAAAA, (__m512i)b, _MM_PERM_CCAA);
}

static inline void store_pairs(single_t a, single_t b, float *to) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_storeu_ps(to, _mm512_permutex2var_ps((__m512)a, low, (__m512)b));
  _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps((__m512)a, high, (__m512)b));
}

#define ISA(name) name##_avx512
#include "kernel/cpu_init_isa.inc"
