/* Integers on the wire: how count values of [0, range) are written in the fewest bits. The form and its size
 * follow from (count, range, ascending) alone, so that sender and receiver know them from the counts.
 *
 * Plain: each value in the bits that range - 1 takes (none if range is 1), one behind the other from the low
 * bit of a word on. Elias-Fano (Elias 1974, Fano 1971), for ascending distinct values: the low `low` bits of
 * all values plain, filled up to a word, then a bitmap of count + ((range - 1) >> low) + 1 bits with a one at
 * (value >> low) + i for value i. Ascending distinct values that fill the range are 0, 1, 2, ... and take
 * nothing. The smaller form is taken. */
#ifndef KERNEL_PACK_H
#define KERNEL_PACK_H

#include "base/device.h"
#include <stdint.h>

typedef struct pack_form {
  int elias;         /* 1: Elias-Fano */
  int low;           /* bits of a plain value, or of one's low part */
  int64_t low_words; /* 64-bit words of the plain part */
  int64_t words;     /* all of them */
} pack_form_t;

/* Bits that hold every value below range. */
HOST_DEVICE static inline int pack_width(int64_t range) {
  int width = 0;
  while (width < 63 && (range - 1) >> width > 0) width++;
  return width;
}

HOST_DEVICE static inline int64_t pack_words_of(int64_t count, int64_t bits) {
  return bits == 0 ? 0 : count / 64 * bits + (count % 64 * bits + 63) / 64;
}

HOST_DEVICE static inline pack_form_t pack_form(int64_t count, int64_t range, int ascending) {
  pack_form_t form = {0, 0, 0, 0}, elias = {1, 0, 0, 0};
  if (count == 0 || (ascending && count == range)) return form;
  form.low = pack_width(range);
  form.low_words = form.words = pack_words_of(count, form.low);
  if (!ascending) return form;
  elias.low = pack_width((range + count - 1) / count + 1) - 1; /* about log2(range / count) */
  elias.low_words = pack_words_of(count, elias.low);
  elias.words = elias.low_words + (count + ((range - 1) >> elias.low) + 1 + 63) / 64;
  return elias.words < form.words ? elias : form;
}

HOST_DEVICE static inline int64_t pack_bytes(int64_t count, int64_t range, int ascending) {
  return 8 * pack_form(count, range, ascending).words;
}

#endif
