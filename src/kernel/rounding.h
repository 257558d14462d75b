/* f32 results as the 16 bits of a table that is kept in them, up or down by chance: value plus a number drawn
 * from [0, one unit of the last place) and cut off, so that what is expected is the value itself. What the 16
 * bits hold exactly stays, and no value becomes infinite that the nearest 16 bits would not.
 *
 * The number has 16 bits, from a Philox block of (table's key; row, update, column / 8): it depends on
 * nothing else. That is every bit that bf16 and f16 drop of a float but for subnormal f16, where what is
 * expected is less than 2^-40 below the value. The same code on CPU and GPU. */
#ifndef KERNEL_ROUNDING_H
#define KERNEL_ROUNDING_H

#include "kernel/narrow.h"
#include <Random123/philox.h>

enum { ROUNDING_COLUMNS = 8 }; /* of one block */

typedef struct rounding_block {
  uint32_t v[ROUNDING_COLUMNS / 2];
} rounding_block_t;

/* `step` counts the table's updates from 1; block: column / ROUNDING_COLUMNS. */
HOST_DEVICE static inline rounding_block_t rounding_block(uint64_t key, int64_t row, int64_t step,
                                                          int64_t block) {
  const philox4x32_ctr_t counter = {
      {(uint32_t)block, (uint32_t)step, (uint32_t)row, (uint32_t)((uint64_t)row >> 32)}};
  const philox4x32_key_t k = {{(uint32_t)key, (uint32_t)(key >> 32)}};
  const philox4x32_ctr_t drawn = philox4x32(counter, k);
  rounding_block_t words;
  for (int i = 0; i < ROUNDING_COLUMNS / 2; i++) words.v[i] = drawn.v[i];
  return words;
}

/* 16 bits for the i-th column of a block. */
HOST_DEVICE static inline uint32_t rounding_bits(const rounding_block_t *block, int i) {
  return block->v[i / 2] >> 16 * (i % 2) & 0xFFFFu;
}

HOST_DEVICE static inline uint16_t rounding_bf16_of(float value, uint32_t drawn) {
  const uint32_t bits = narrow_bits_of(value);
  if ((bits & 0x7FFFFFFFu) >= 0x7F7F0000u) return narrow_bf16_of(value); /* the largest, inf, NaN */
  return (uint16_t)((bits + drawn) >> 16);
}

HOST_DEVICE static inline uint16_t rounding_f16_of(float value, uint32_t drawn) {
  const uint32_t sign = narrow_bits_of(value) >> 16 & 0x8000u, bits = narrow_bits_of(value) & 0x7FFFFFFFu;
  if (bits >= 0x477FE000u) return narrow_f16_of(value); /* 65504 and more, inf, NaN */
  if (bits < (127u - 14u) << 23) {                      /* units of 2^-24, counted in 2^-40 */
    const float scaled = narrow_float_of(bits) * 1099511627776.0f;
    return (uint16_t)(sign | (((uint32_t)scaled + drawn) >> 16));
  }
  return (uint16_t)(sign | (((bits + (drawn >> 3)) >> NARROW_DROPPED) - (NARROW_REBIAS << 10)));
}

#endif
