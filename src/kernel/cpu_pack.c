/* Packed integers (scalar): see pack.h for the forms. Every word is written whole and none is read before. */
#include "kernel/cpu.h"

#include <string.h>

static inline uint64_t value_at(const pack_task_t *t, int64_t i) {
  return (uint64_t)(t->from[t->index != NULL ? t->index[i] : i] - t->base);
}

/* The low `width` bits of all values, one behind the other; width is at most 63. */
static inline void pack_plain(const pack_task_t *t, int width) {
  if (width == 0) return;
  uint64_t mask = ((uint64_t)1 << width) - 1, filling = 0, *word = t->words;
  int filled = 0;
  for (int64_t i = 0; i < t->count; i++) {
    uint64_t value = value_at(t, i) & mask;
    filling |= value << filled;
    filled += width;
    if (filled < 64) continue;
    *word++ = filling;
    filled -= 64;
    filling = value >> (width - filled); /* what did not fit: `filled` bits of it, perhaps none */
  }
  if (filled > 0) *word = filling;
}

/* A one at (value >> low) + i; the places ascend, so that a word is done when another one follows. It is
 * written at every value: a guess whether it is done would often be wrong. */
static inline void pack_bitmap(const pack_task_t *t, const pack_form_t *form) {
  uint64_t *bitmap = t->words + form->low_words, filling = 0, before = 0;
  memset(bitmap, 0, (size_t)(form->words - form->low_words) * sizeof *bitmap);
  for (int64_t i = 0; i < t->count; i++) {
    uint64_t at = (value_at(t, i) >> form->low) + (uint64_t)i, word = at / 64;
    filling = (filling & -(uint64_t)(word == before)) | (uint64_t)1 << at % 64;
    bitmap[word] = filling;
    before = word;
  }
}

static void cpu_pack(kernel_t *k, kernel_stream_t *stream, const pack_task_t *tasks, int64_t count) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) {
    pack_task_t t = tasks[i];
    pack_form_t form = pack_form(t.count, t.range, t.ascending);
    if (form.words == 0) continue;
    pack_plain(&t, form.low);
    if (form.elias) pack_bitmap(&t, &form);
  }
}

/* Bits [at, at + width) of the words, width from 1 to 63. The word of the last bit is the next one only where
 * the value goes on there; else it is the same, and what it adds is beyond the mask. */
static inline uint64_t bits_at(const uint64_t *words, uint64_t at, uint64_t width, uint64_t mask) {
  uint64_t skip = at % 64, head = words[at / 64] >> skip, tail = words[(at + width - 1) / 64];
  return (head | tail << 1 << (63 - skip)) & mask;
}

static void unpack_plain(const unpack_task_t *t, int low) {
  uint64_t width = (uint64_t)low, mask = ((uint64_t)1 << low) - 1, at = 0;
  for (int64_t i = 0; i < t->count; i++, at += width)
    t->to[i] = (int64_t)bits_at(t->words, at, width, mask) + t->base;
}

static void unpack_bitmap(const unpack_task_t *t, const pack_form_t *form) {
  uint64_t width = (uint64_t)form->low, mask = ((uint64_t)1 << width) - 1, at = 0;
  const uint64_t *bitmap = t->words + form->low_words;
  int64_t i = 0;
  for (int64_t w = 0; w < form->words - form->low_words; w++)
    for (uint64_t ones = bitmap[w]; ones != 0 && i < t->count; ones &= ones - 1, i++, at += width) {
      uint64_t high = (uint64_t)(64 * w + __builtin_ctzll(ones) - i);
      uint64_t low = width > 0 ? bits_at(t->words, at, width, mask) : 0;
      t->to[i] = (int64_t)(high << width | low) + t->base;
    }
}

static void cpu_unpack(kernel_t *k, kernel_stream_t *stream, const unpack_task_t *tasks, int64_t count) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) {
    unpack_task_t t = tasks[i];
    pack_form_t form = pack_form(t.count, t.range, t.ascending);
    if (form.elias)
      unpack_bitmap(&t, &form);
    else if (form.words > 0)
      unpack_plain(&t, form.low);
    else /* nothing was sent: one value is possible, or all values are there */
      for (int64_t j = 0; j < t.count; j++) t.to[j] = t.base + (t.ascending ? j : 0);
  }
}

void cpu_pack_ops(kernel_ops_t *ops) {
  ops->pack = cpu_pack;
  ops->unpack = cpu_unpack;
}
