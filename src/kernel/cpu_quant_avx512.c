/* Rows to codes with AVX-512: see quant.h. */
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"

#include <immintrin.h>

enum { LANES = 16 };

static inline __mmask16 first_lanes(int64_t lanes) {
  return (__mmask16)(lanes >= LANES ? 0xFFFFu : (1u << lanes) - 1u);
}

static quant_scale_t scale_of(sbag_storage_t storage, const float *values, int64_t dim) {
  __m512 least = _mm512_set1_ps(INFINITY), most = _mm512_set1_ps(-INFINITY);
  unsigned bad = 0;
  for (int64_t c = 0; c < dim; c += LANES) {
    const __mmask16 mask = first_lanes(dim - c);
    const __m512 value = _mm512_maskz_loadu_ps(mask, values + c);
    least = _mm512_mask_min_ps(least, mask, least, value);
    most = _mm512_mask_max_ps(most, mask, most, value);
    bad |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  }
  return quant_scale(storage, _mm512_reduce_min_ps(least), _mm512_reduce_max_ps(most), bad != 0);
}

static inline __m128i codes_of(__m512 value, __mmask16 mask, const quant_scale_t *s, float levels) {
  const __m512 at = _mm512_mul_ps(_mm512_sub_ps(value, _mm512_set1_ps(s->bias)), _mm512_set1_ps(s->inverse));
  const __m512 within = _mm512_min_ps(_mm512_max_ps(at, _mm512_setzero_ps()), _mm512_set1_ps(levels));
  return _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(mask, within));
}

void quant_row_avx512(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row) {
  const quant_scale_t s = scale_of(storage, values, dim);
  for (int64_t i = 0; i < quant_code_bytes(storage, dim) && s.bad; i++) row[i] = 0;
  for (int64_t c = 0; c < dim && !s.bad; c += LANES) {
    const __mmask16 mask = first_lanes(dim - c);
    const __m512 value = _mm512_maskz_loadu_ps(mask, values + c);
    if (storage == SBAG_STORAGE_INT8) {
      _mm_mask_storeu_epi8(row + c, mask, codes_of(value, mask, &s, 255.0f));
    } else { /* a pair's first code and 16 times its second */
      const __m128i pairs = _mm_maddubs_epi16(codes_of(value, mask, &s, 15.0f), _mm_set1_epi16(0x1001));
      const __mmask16 bytes = first_lanes(dim - c < LANES ? (dim - c + 1) / 2 : LANES / 2);
      _mm_mask_storeu_epi8(row + c / 2, bytes, _mm_packus_epi16(pairs, pairs));
    }
  }
  quant_put_scale(storage, dim, &s, row);
}
