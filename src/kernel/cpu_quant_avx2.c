/* Rows to codes with AVX2: see quant.h. */
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"

#include <immintrin.h>

enum { LANES = 8 };

static inline __m256i first_lanes(int64_t lanes) {
  const __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes >= LANES ? LANES : (int)lanes), number);
}

static quant_scale_t scale_of(sbag_storage_t storage, const float *values, int64_t dim) {
  __m256 least = _mm256_set1_ps(INFINITY), most = _mm256_set1_ps(-INFINITY), bad = _mm256_setzero_ps();
  for (int64_t c = 0; c < dim; c += LANES) {
    const __m256i mask = first_lanes(dim - c);
    const __m256 lanes = _mm256_castsi256_ps(mask), value = _mm256_maskload_ps(values + c, mask);
    least = _mm256_blendv_ps(least, _mm256_min_ps(least, value), lanes);
    most = _mm256_blendv_ps(most, _mm256_max_ps(most, value), lanes);
    bad = _mm256_or_ps(bad, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  }
  float low[LANES], high[LANES];
  _mm256_storeu_ps(low, least);
  _mm256_storeu_ps(high, most);
  for (int i = 1; i < LANES; i++) {
    if (low[i] < low[0]) low[0] = low[i];
    if (high[i] > high[0]) high[0] = high[i];
  }
  return quant_scale(storage, low[0], high[0], _mm256_movemask_ps(bad) != 0);
}

/* Eight codes in the low bytes; those of other lanes are 0. */
static inline __m128i codes_of(__m256 value, __m256i mask, const quant_scale_t *s, float levels) {
  const __m256 at = _mm256_mul_ps(_mm256_sub_ps(value, _mm256_set1_ps(s->bias)), _mm256_set1_ps(s->inverse));
  const __m256 within = _mm256_min_ps(_mm256_max_ps(at, _mm256_setzero_ps()), _mm256_set1_ps(levels));
  const __m256i codes = _mm256_and_si256(_mm256_cvtps_epi32(within), mask);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
  return _mm_packus_epi16(words, words);
}

void quant_row_avx2(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row) {
  const quant_scale_t s = scale_of(storage, values, dim);
  for (int64_t i = 0; i < quant_code_bytes(storage, dim) && s.bad; i++) row[i] = 0;
  for (int64_t c = 0; c < dim && !s.bad; c += LANES) {
    const int64_t lanes = dim - c < LANES ? dim - c : LANES;
    const __m256i mask = first_lanes(lanes);
    const __m256 value = _mm256_maskload_ps(values + c, mask);
    __m128i codes = codes_of(value, mask, &s, storage == SBAG_STORAGE_INT8 ? 255.0f : 15.0f);
    if (storage == SBAG_STORAGE_INT4) { /* a pair's first code and 16 times its second */
      codes = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x1001));
      codes = _mm_packus_epi16(codes, codes);
    }
    const int64_t packed = _mm_cvtsi128_si64(codes);
    const int64_t at = quant_code_bytes(storage, c), bytes = quant_code_bytes(storage, lanes);
    if (lanes == LANES && storage == SBAG_STORAGE_INT8)
      memcpy(row + at, &packed, LANES);
    else if (lanes == LANES)
      memcpy(row + at, &packed, LANES / 2);
    else
      memcpy(row + at, &packed, (size_t)bytes);
  }
  quant_put_scale(storage, dim, &s, row);
}
