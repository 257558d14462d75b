/* Rows to keys: plan_key of many rows of one table, without a division a row.
 *
 * Blocks of few shards are told apart by comparisons, a mask a boundary, which vectorises. Else the quotient
 * is the row times floor((2^64 - 1) / divisor), high half: that is the quotient or one less, for any row, and
 * the remainder says which. */
#include "kernel/cpu.h"

#include <string.h>

enum { CHUNK = 512, COMPARED_SHARDS = 8 };

typedef struct divisor {
  uint64_t by, reciprocal;
} divisor_t;

static divisor_t divisor_for(int64_t by) {
  return (divisor_t){(uint64_t)by, by > 0 ? UINT64_MAX / (uint64_t)by : 0};
}

static inline uint64_t divide(divisor_t d, uint64_t value, uint64_t *rest) {
  __extension__ typedef unsigned __int128 wide_t;
  uint64_t quotient = (uint64_t)((wide_t)value * d.reciprocal >> 64);
  uint64_t left = value - quotient * d.by, more = left >= d.by;
  *rest = left - (d.by & (0 - more));
  return quotient + more;
}

static void cyclic_keys(const plan_table_t *t, int64_t count, int64_t *key) {
  divisor_t shards = divisor_for(t->shard_count);
  for (int64_t i = 0; i < count; i++) {
    uint64_t shard, local = divide(shards, (uint64_t)key[i], &shard);
    key[i] = t->shard_key[shard] + (int64_t)local;
  }
}

/* The place of a shard's first row. */
static int64_t shard_place(const plan_table_t *t, int shard) {
  int64_t wide = shard < t->block_extra ? shard : t->block_extra;
  return shard * t->block_rows + wide;
}

/* A shard's keys are its places plus a constant; each boundary that a place has passed adds how much that
 * constant grows there. In: places. */
static void few_block_keys(const plan_table_t *t, int64_t count, int64_t *restrict key) {
  uint64_t place[CHUNK], add = (uint64_t)t->shard_key[0];
  memcpy(place, key, (size_t)count * sizeof *place);
  for (int64_t i = 0; i < count; i++) key[i] = (int64_t)(place[i] + add);
  for (int s = 1; s < t->shard_count; s++) {
    uint64_t first = (uint64_t)shard_place(t, s), here = (uint64_t)t->shard_key[s] - first;
    uint64_t grows = here - add;
    for (int64_t i = 0; i < count; i++) {
      uint64_t below = (place[i] - first) >> 63;
      key[i] = (int64_t)((uint64_t)key[i] + (grows & (below - 1)));
    }
    add = here;
  }
}

static void many_block_keys(const plan_table_t *t, int64_t count, int64_t *key) {
  uint64_t extra = (uint64_t)t->block_extra, wide_end = extra * ((uint64_t)t->block_rows + 1);
  divisor_t wide = divisor_for(t->block_rows + 1), narrow = divisor_for(t->block_rows);
  for (int64_t i = 0; i < count; i++) {
    uint64_t place = (uint64_t)key[i], local;
    int in_wide = place < wide_end;
    uint64_t shard = divide(in_wide ? wide : narrow, in_wide ? place : place - wide_end, &local);
    key[i] = t->shard_key[in_wide ? shard : shard + extra] + (int64_t)local;
  }
}

static void scramble(const plan_table_t *t, int64_t count, int64_t *key) {
  feistel_t f = feistel_for(t->scramble_key, t->rows);
  for (int64_t i = 0; i < count; i++) {
    uint64_t place = (uint64_t)key[i];
    do {
      place = feistel_walk(&f, place, 0);
    } while (place >= (uint64_t)t->rows);
    key[i] = (int64_t)place;
  }
}

/* Of at most CHUNK rows. */
static void chunk_keys(const plan_table_t *t, int64_t count, int64_t *key) {
  if (t->layout == SBAG_LAYOUT_CYCLIC) {
    cyclic_keys(t, count, key);
    return;
  }
  if (t->layout == SBAG_LAYOUT_SCRAMBLE) scramble(t, count, key);
  if (t->shard_count <= COMPARED_SHARDS)
    few_block_keys(t, count, key);
  else
    many_block_keys(t, count, key);
}

void cpu_keys_in_place(const plan_table_t *plan, int64_t count, int64_t *key) {
  for (int64_t at = 0; at < count; at += CHUNK)
    chunk_keys(plan, count - at < CHUNK ? count - at : CHUNK, key + at);
}

void cpu_keys(const plan_table_t *plan, sbag_index_t type, const void *rows, int64_t first, int64_t count,
              int64_t *key) {
  for (int64_t at = 0; at < count; at += CHUNK) {
    int64_t here = count - at < CHUNK ? count - at : CHUNK;
    if (type == SBAG_I32)
      for (int64_t i = 0; i < here; i++) key[at + i] = ((const int32_t *)rows)[first + at + i];
    else
      memcpy(key + at, (const int64_t *)rows + first + at, (size_t)here * sizeof *key);
    chunk_keys(plan, here, key + at);
  }
}
