/* Rows in 8 or 4 bits a value, with a scale and a bias of their own: value = scale * code + bias, the product
 * rounded before the sum. A row stands as FBGEMM's fused rows do, its scale and bias behind its codes:
 *
 *   SBAG_STORAGE_INT8   [dim] codes of a byte; scale and bias in f32   (Fused8BitRowwiseQuantizedSBFloat)
 *   SBAG_STORAGE_INT4   [(dim + 1) / 2] bytes of two codes, the first one in the low bits, of an odd dim the
 *                       last one's high bits 0; scale and bias in f16   (FusedNBitRowwiseQuantizedSBHalf)
 *
 * one row after the other without a gap, so nothing in them is aligned. Rounding is that of FBGEMM's
 * FloatToFused8BitRowwiseQuantizedSBFloat and FloatToFusedNBitRowwiseQuantizedSBHalf (bit_rate 4), step by
 * step, as quant_int8 and quant_int4 below have it, to the nearest and ties to even throughout; but where the
 * least value is -0 the bias is 0. So int8 loses at most half of (most - least) / 255 a value, and rounding;
 * int4 at most half of (most - least) / 15, and what f16 takes from the least value and the scale.
 *
 * A row with a value that is no number, or whose range is beyond the scale's type, reads as NaN in all its
 * columns: its codes are 0 and its scale and bias are NaN. */
#ifndef KERNEL_QUANT_H
#define KERNEL_QUANT_H

#include "kernel/kernel.h"
#include "kernel/narrow.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the codes of so many values; a row has kernel_row_bytes(). */
static inline int64_t quant_code_bytes(sbag_storage_t storage, int64_t values) {
  return storage == SBAG_STORAGE_INT8 ? values : (values + 1) / 2;
}

/* What a row's codes stand for, and by what they are found: code = (value - bias) * inverse, rounded. */
typedef struct quant_scale {
  float scale, bias, inverse;
  int bad; /* 1: the row reads as NaN */
} quant_scale_t;

/* least and most of the row's values, all of which are numbers unless bad. */
static inline quant_scale_t quant_int8(float least, float most, int bad) {
  const float range = most - least;
  if (bad || !isfinite(range)) return (quant_scale_t){NAN, NAN, 0, 1};
  return (quant_scale_t){range / 255.0f, least, 255.0f / (range + 1e-8f), 0};
}

static inline quant_scale_t quant_int4(float least, float most, int bad) {
  const float bias = narrow_f16_value(narrow_f16_of(least));
  const float range = most - bias;
  float scale = narrow_f16_value(narrow_f16_of(range == 0 ? 1.0f : range / 15.0f));
  if (bad || !isfinite(bias) || !isfinite(scale)) return (quant_scale_t){NAN, NAN, 0, 1};
  if (scale == 0 || isinf(1.0f / scale)) scale = 1.0f;
  return (quant_scale_t){scale, bias, 1.0f / scale, 0};
}

static inline quant_scale_t quant_scale(sbag_storage_t storage, float least, float most, int bad) {
  least += 0.0f; /* of zeros of both signs any may have been found */
  most += 0.0f;
  return storage == SBAG_STORAGE_INT8 ? quant_int8(least, most, bad) : quant_int4(least, most, bad);
}

/* Scale and bias to where a row has them, and back. */
static inline void quant_put_scale(sbag_storage_t storage, int64_t dim, const quant_scale_t *s,
                                   uint8_t *row) {
  uint8_t *at = row + quant_code_bytes(storage, dim);
  const float reals[2] = {s->scale, s->bias};
  const uint16_t halves[2] = {narrow_f16_of(s->scale), narrow_f16_of(s->bias)};
  if (storage == SBAG_STORAGE_INT8)
    memcpy(at, reals, sizeof reals);
  else
    memcpy(at, halves, sizeof halves);
}

static inline void quant_get_scale(sbag_storage_t storage, int64_t dim, const uint8_t *row, float *scale,
                                   float *bias) {
  const uint8_t *at = row + quant_code_bytes(storage, dim);
  float reals[2];
  uint16_t halves[2];
  if (storage == SBAG_STORAGE_INT8) {
    memcpy(reals, at, sizeof reals);
  } else {
    memcpy(halves, at, sizeof halves);
    reals[0] = narrow_f16_value(halves[0]);
    reals[1] = narrow_f16_value(halves[1]);
  }
  *scale = reals[0];
  *bias = reals[1];
}

static inline int quant_get_code(sbag_storage_t storage, const uint8_t *row, int64_t column) {
  if (storage == SBAG_STORAGE_INT8) return row[column];
  return row[column / 2] >> (column % 2 != 0 ? 4 : 0) & 15;
}

#endif
