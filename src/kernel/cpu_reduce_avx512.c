/* Sums and maxima of segments with AVX-512 (F, BW, VL, DQ): see cpu_reduce_simd.inc. */
#include "kernel/cpu_reduce.h"

#include <immintrin.h>
#include <string.h>

enum { LANES = 16 };
typedef __m512 vec_t;
typedef __m512i index_t; /* 16 positions in 32 bits */
typedef __mmask16 mask_t;

#define vec_fetch(at) _mm_prefetch((const char *)(at), _MM_HINT_T1)

static inline mask_t mask_first(int64_t lanes) {
  return (mask_t)(lanes >= LANES ? 0xFFFFu : (1u << lanes) - 1u);
}

static inline mask_t mask_all(void) {
  return (mask_t)0xFFFF;
}

static inline vec_t vec_zero(void) {
  return _mm512_setzero_ps();
}

static inline vec_t vec_set(float value) {
  return _mm512_set1_ps(value);
}

static inline vec_t vec_add(vec_t a, vec_t b) {
  return _mm512_add_ps(a, b);
}

static inline vec_t vec_mul(vec_t a, vec_t b) {
  return _mm512_mul_ps(a, b);
}

static inline vec_t vec_div(vec_t a, vec_t b) {
  return _mm512_div_ps(a, b);
}

static inline vec_t vec_add_where(mask_t mask, vec_t a, vec_t b) {
  return _mm512_mask_add_ps(a, mask, a, b);
}

static inline void vec_store(float *to, vec_t value) {
  _mm512_storeu_ps(to, value);
}

static inline void vec_store_part(float *to, vec_t value, mask_t mask) {
  _mm512_mask_storeu_ps(to, mask, value);
}

static inline void vec_stream(float *to, vec_t value) {
  _mm512_stream_ps(to, value);
}

/* Other threads see what was streamed. */
static inline void vec_fence(void) {
  _mm_sfence();
}

static inline vec_t load_f32(const char *from) {
  return _mm512_loadu_ps(from);
}

static inline vec_t load_f32_part(const char *from, mask_t mask) {
  return _mm512_maskz_loadu_ps(mask, from);
}

static inline vec_t load_f16(const char *from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

static inline vec_t load_f16_part(const char *from, mask_t mask) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from));
}

static inline vec_t bf16_values(__m256i codes) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}

static inline vec_t load_bf16(const char *from) {
  return bf16_values(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

static inline vec_t load_bf16_part(const char *from, mask_t mask) {
  return bf16_values(_mm256_maskz_loadu_epi16(mask, from));
}

/* A row's scale and bias in every lane; of 4 bits instead the values of all codes. */
typedef struct {
  vec_t by, bias;
} scale_t;

static inline scale_t scale_int8(const char *at) {
  float pair[2];
  memcpy(pair, at, sizeof pair);
  return (scale_t){_mm512_set1_ps(pair[0]), _mm512_set1_ps(pair[1])};
}

static inline scale_t scale_int4(const char *at) {
  const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int32_t pair;
  memcpy(&pair, at, sizeof pair);
  const __m128 wide = _mm_cvtph_ps(_mm_cvtsi32_si128(pair));
  const __m512 by = _mm512_broadcastss_ps(wide), bias = _mm512_broadcastss_ps(_mm_movehdup_ps(wide));
  return (scale_t){_mm512_add_ps(_mm512_mul_ps(by, codes), bias), bias};
}

static inline vec_t int8_values(__m128i codes, scale_t s) {
  return _mm512_add_ps(_mm512_mul_ps(s.by, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes))), s.bias);
}

static inline vec_t load_int8(const char *from, scale_t s) {
  return int8_values(_mm_loadu_si128((const __m128i *)(const void *)from), s);
}

static inline vec_t load_int8_part(const char *from, mask_t mask, scale_t s) {
  return int8_values(_mm_maskz_loadu_epi8(mask, from), s);
}

/* Of 8 bytes; a lane looks its value up by its lowest 4 bits. */
static inline vec_t int4_values(__m128i codes, scale_t s) {
  const __m512i bytes = _mm512_cvtepu8_epi64(codes);
  return _mm512_permutexvar_ps(_mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28)), s.by);
}

static inline vec_t load_int4(const char *from, scale_t s) {
  return int4_values(_mm_loadl_epi64((const __m128i *)(const void *)from), s);
}

static inline vec_t load_int4_part(const char *from, mask_t mask, scale_t s) {
  const int lanes = __builtin_popcount(mask);
  const __mmask16 bytes = (__mmask16)((1u << (lanes + 1) / 2) - 1);
  return int4_values(_mm_maskz_loadu_epi8(bytes, from), s);
}

/* Lanes of `mask` where 64-bit integers are equal. */
static inline mask_t mask_equal(const int64_t *values, int64_t to, mask_t mask) {
  const __m512i wanted = _mm512_set1_epi64(to);
  const __mmask8 low = (__mmask8)(mask & 0xFF), high = (__mmask8)(mask >> 8);
  const __mmask8 a = _mm512_mask_cmpeq_epi64_mask(low, _mm512_maskz_loadu_epi64(low, values), wanted);
  const __mmask8 b = _mm512_mask_cmpeq_epi64_mask(high, _mm512_maskz_loadu_epi64(high, values + 8), wanted);
  return (mask_t)(a | (unsigned)b << 8);
}

static inline index_t index_set(int32_t value) {
  return _mm512_set1_epi32(value);
}

static inline index_t index_load(const int64_t *from, mask_t mask) {
  const __m512i low = _mm512_maskz_loadu_epi64((__mmask8)(mask & 0xFF), from);
  const __m512i high = _mm512_maskz_loadu_epi64((__mmask8)(mask >> 8), from + 8);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(low)), _mm512_cvtepi64_epi32(high),
                            1);
}

static inline void index_store(int64_t *to, index_t value, mask_t mask) {
  const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(value));
  const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(value, 1));
  _mm512_mask_storeu_epi64(to, (__mmask8)(mask & 0xFF), low);
  _mm512_mask_storeu_epi64(to + 8, (__mmask8)(mask >> 8), high);
}

static inline void vec_take_max(vec_t value, index_t here, vec_t *best, index_t *which) {
  const mask_t wins = _mm512_cmp_ps_mask(value, *best, _CMP_GT_OQ);
  *best = _mm512_mask_mov_ps(*best, wins, value);
  *which = _mm512_mask_mov_epi32(*which, wins, here);
}

#include "kernel/cpu_reduce_simd.inc"

enum { FEW = 12 }; /* vectors of a run that keeps two registers a vector */

RUN_OF(1)
RUN_OF(2)
RUN_OF(3)
RUN_OF(4)
RUN_OF(5)
RUN_OF(6)
RUN_OF(7)
RUN_OF(8)
RUN_OF(9)
RUN_OF(10)
RUN_OF(11)
RUN_OF(12)
RUN_OF(13)
RUN_OF(14)
RUN_OF(15)
RUN_OF(16)
RUN_OF_FEW(1)
RUN_OF_FEW(2)
RUN_OF_FEW(3)
RUN_OF_FEW(4)
RUN_OF_FEW(5)
RUN_OF_FEW(6)
RUN_OF_FEW(7)
RUN_OF_FEW(8)
RUN_OF_FEW(9)
RUN_OF_FEW(10)
RUN_OF_FEW(11)
RUN_OF_FEW(12)

#define FEW_OF(name)                                                                                         \
  name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8, name##_9, name##_10,       \
      name##_11, name##_12
#define ALL_OF(name) FEW_OF(name), name##_13, name##_14, name##_15, name##_16

const reduce_isa_t reduce_isa_avx512 = {
    .lanes = LANES,
    .vectors = {RUN_VECTORS, RUN_VECTORS, FEW, FEW, RUN_VECTORS},
    .run = {[RUN_SUM] = {{ALL_OF(sum_f32)},
                         {ALL_OF(sum_f16)},
                         {ALL_OF(sum_bf16)},
                         {ALL_OF(sum_int8)},
                         {ALL_OF(sum_int4)}},
            [RUN_DIRECT] = {{ALL_OF(direct_f32)}},
            [RUN_SCALED] = {{ALL_OF(scaled_f32)},
                            {ALL_OF(scaled_f16)},
                            {ALL_OF(scaled_bf16)},
                            {ALL_OF(scaled_int8)},
                            {ALL_OF(scaled_int4)}},
            [RUN_SELECTED] = {{FEW_OF(selected_f32)}},
            [RUN_MAX] = {{FEW_OF(max_f32)},
                         {FEW_OF(max_f16)},
                         {FEW_OF(max_bf16)},
                         {FEW_OF(max_int8)},
                         {FEW_OF(max_int4)}}},
};
