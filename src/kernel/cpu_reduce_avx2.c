/* Sums and maxima of segments with AVX2 and F16C: see cpu_reduce_simd.inc. */
#include "kernel/cpu_reduce.h"

#include <immintrin.h>
#include <string.h>

enum { LANES = 8 };
typedef __m256 vec_t;
typedef __m256i index_t; /* 8 positions in 32 bits */
typedef __m256i mask_t;  /* lanes of 32 bits, all ones or none */

#define vec_fetch(at) _mm_prefetch((const char *)(at), _MM_HINT_T1)

static inline mask_t mask_first(int64_t lanes) {
  const __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes >= LANES ? LANES : (int)lanes), number);
}

static inline mask_t mask_all(void) {
  return _mm256_set1_epi32(-1);
}

static inline vec_t vec_zero(void) {
  return _mm256_setzero_ps();
}

static inline vec_t vec_set(float value) {
  return _mm256_set1_ps(value);
}

static inline vec_t vec_add(vec_t a, vec_t b) {
  return _mm256_add_ps(a, b);
}

static inline vec_t vec_mul(vec_t a, vec_t b) {
  return _mm256_mul_ps(a, b);
}

static inline vec_t vec_div(vec_t a, vec_t b) {
  return _mm256_div_ps(a, b);
}

static inline vec_t vec_add_where(mask_t mask, vec_t a, vec_t b) {
  return _mm256_blendv_ps(a, _mm256_add_ps(a, b), _mm256_castsi256_ps(mask));
}

static inline void vec_store(float *to, vec_t value) {
  _mm256_storeu_ps(to, value);
}

static inline void vec_store_part(float *to, vec_t value, mask_t mask) {
  _mm256_maskstore_ps(to, mask, value);
}

static inline void vec_stream(float *to, vec_t value) {
  _mm256_stream_ps(to, value);
}

/* Other threads see what was streamed. */
static inline void vec_fence(void) {
  _mm_sfence();
}

static inline vec_t load_f32(const char *from) {
  return _mm256_loadu_ps((const float *)(const void *)from);
}

static inline vec_t load_f32_part(const char *from, mask_t mask) {
  return _mm256_maskload_ps((const float *)(const void *)from, mask);
}

/* 16-bit elements of the lanes of `mask`, which are the first ones. */
static inline __m128i load_codes(const char *from, mask_t mask) {
  const unsigned lanes = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(mask));
  uint16_t code[LANES] = {0};
  if (lanes == 0xFF) return _mm_loadu_si128((const __m128i *)(const void *)from);
  memcpy(code, from, sizeof *code * (size_t)__builtin_ctz(~lanes));
  return _mm_loadu_si128((const __m128i *)(const void *)code);
}

static inline vec_t load_f16(const char *from) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline vec_t load_f16_part(const char *from, mask_t mask) {
  return _mm256_cvtph_ps(load_codes(from, mask));
}

static inline vec_t bf16_values(__m128i codes) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16));
}

static inline vec_t load_bf16(const char *from) {
  return bf16_values(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline vec_t load_bf16_part(const char *from, mask_t mask) {
  return bf16_values(load_codes(from, mask));
}

/* A row's scale and bias in every lane. */
typedef struct {
  vec_t by, bias;
} scale_t;

static inline scale_t scale_int8(const char *at) {
  float pair[2];
  memcpy(pair, at, sizeof pair);
  return (scale_t){_mm256_set1_ps(pair[0]), _mm256_set1_ps(pair[1])};
}

static inline scale_t scale_int4(const char *at) {
  int32_t pair;
  memcpy(&pair, at, sizeof pair);
  const __m128 wide = _mm_cvtph_ps(_mm_cvtsi32_si128(pair));
  return (scale_t){_mm256_broadcastss_ps(wide), _mm256_broadcastss_ps(_mm_movehdup_ps(wide))};
}

static inline vec_t scaled(__m256i codes, scale_t s) {
  return _mm256_add_ps(_mm256_mul_ps(s.by, _mm256_cvtepi32_ps(codes)), s.bias);
}

static inline vec_t load_int8(const char *from, scale_t s) {
  return scaled(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from)), s);
}

static inline vec_t load_int4(const char *from, scale_t s) {
  const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  int32_t codes;
  memcpy(&codes, from, sizeof codes);
  return scaled(_mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(codes), shift), _mm256_set1_epi32(15)),
                s);
}

/* What is read beyond the row's codes are its scale and bias, and nobody takes those lanes. */
static inline vec_t load_int8_part(const char *from, mask_t mask, scale_t s) {
  (void)mask;
  return load_int8(from, s);
}

static inline vec_t load_int4_part(const char *from, mask_t mask, scale_t s) {
  (void)mask;
  return load_int4(from, s);
}

static inline __m256i mask_low(mask_t mask) {
  return _mm256_cvtepi32_epi64(_mm256_castsi256_si128(mask));
}

static inline __m256i mask_high(mask_t mask) {
  return _mm256_cvtepi32_epi64(_mm256_extracti128_si256(mask, 1));
}

static inline __m256i load_i64(const int64_t *from, __m256i mask) {
  return _mm256_maskload_epi64((const long long *)from, mask);
}

/* The even 32-bit halves of eight 64-bit integers. */
static inline __m256i low_halves(__m256i low, __m256i high) {
  const __m256 halves = _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0x88);
  return _mm256_permute4x64_epi64(_mm256_castps_si256(halves), 0xD8);
}

/* Lanes of `mask` where 64-bit integers are equal. */
static inline mask_t mask_equal(const int64_t *values, int64_t to, mask_t mask) {
  const __m256i wanted = _mm256_set1_epi64x(to);
  const __m256i low = _mm256_cmpeq_epi64(load_i64(values, mask_low(mask)), wanted);
  const __m256i high = _mm256_cmpeq_epi64(load_i64(values + 4, mask_high(mask)), wanted);
  return _mm256_and_si256(low_halves(low, high), mask);
}

static inline index_t index_set(int32_t value) {
  return _mm256_set1_epi32(value);
}

static inline index_t index_load(const int64_t *from, mask_t mask) {
  return low_halves(load_i64(from, mask_low(mask)), load_i64(from + 4, mask_high(mask)));
}

static inline void index_store(int64_t *to, index_t value, mask_t mask) {
  _mm256_maskstore_epi64((long long *)to, mask_low(mask), mask_low(value));
  _mm256_maskstore_epi64((long long *)(to + 4), mask_high(mask), mask_high(value));
}

static inline void vec_take_max(vec_t value, index_t here, vec_t *best, index_t *which) {
  const __m256 wins = _mm256_cmp_ps(value, *best, _CMP_GT_OQ);
  *best = _mm256_blendv_ps(*best, value, wins);
  *which = _mm256_blendv_epi8(*which, here, _mm256_castps_si256(wins));
}

#include "kernel/cpu_reduce_simd.inc"

enum { MANY = 12, FEW = 6 }; /* vectors of a run that keeps one or two registers a vector */

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
RUN_OF_FEW(1)
RUN_OF_FEW(2)
RUN_OF_FEW(3)
RUN_OF_FEW(4)
RUN_OF_FEW(5)
RUN_OF_FEW(6)

#define FEW_OF(name) name##_1, name##_2, name##_3, name##_4, name##_5, name##_6
#define ALL_OF(name) FEW_OF(name), name##_7, name##_8, name##_9, name##_10, name##_11, name##_12

const reduce_isa_t reduce_isa_avx2 = {
    .lanes = LANES,
    .vectors = {MANY, MANY, FEW, FEW, MANY},
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
