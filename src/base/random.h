/* Counter-based random numbers (Philox4x32-10 of the Random123 library): a value is a pure function of a key
 * and a counter, so it does not depend on ranks, threads or the order of calls.
 *
 * key: random_key(seed, "name of the stream"); counter: up to 128 bits chosen by the caller, as (row, column
 * block). */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include "base/device.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct random_block {
  uint32_t v[4];
} random_block_t;

/* The key of a named stream. Different names or seeds give unrelated streams. */
uint64_t random_key(uint64_t seed, const char *name);

/* Four uniform 32-bit words for the counter (hi, lo). */
random_block_t random_block(uint64_t key, uint64_t hi, uint64_t lo);

/* The i-th 64-bit word of a stream, for readers and shuffles. */
uint64_t random_u64(uint64_t key, uint64_t i);

/* The i-th value of a stream in [0, n), n >= 1, by 128-bit multiplication (bias below n / 2^64). */
int64_t random_below(uint64_t key, uint64_t i, int64_t n);

/* A word to (0, 1): (2 v + 1) / 2^33, exact in double, never 0 or 1. */
double random_unit(uint32_t v);

/* The i-th value of a stream in [0, 1) with 53 bits. */
double random_unit53(uint64_t key, uint64_t i);

#define WORD            uint64_t
#define VALUE           double
#define NORMAL(name)    random_##name
#define NORMAL_FUNCTION HOST_DEVICE static inline
#define NORMAL_SQRT     sqrt
#include "base/random_normal.inc"
#undef WORD
#undef VALUE
#undef NORMAL
#undef NORMAL_FUNCTION
#undef NORMAL_SQRT

#define WORD            uint32_t
#define VALUE           float
#define SIGNED(x)       ((float)(int32_t)(x))
#define SINGLE(name)    random_##name
#define SINGLE_FUNCTION HOST_DEVICE static inline
#define SINGLE_SQRT     sqrtf
#include "base/random_single.inc"
#undef WORD
#undef VALUE
#undef SIGNED
#undef SINGLE
#undef SINGLE_FUNCTION
#undef SINGLE_SQRT

/* Four standard normal values of one block, by Box-Muller; the same bits on CPU and GPU. */
HOST_DEVICE static inline void random_normal4(random_block_t block, double out[4]) {
  for (int pair = 0; pair < 2; pair++) {
    const double radius = random_normal_radius(block.v[2 * pair]);
    random_normal_turn(radius, block.v[2 * pair + 1], &out[2 * pair], &out[2 * pair + 1]);
  }
}

/* The same in single precision, times `size`: of rows of floats, of which there are many. */
HOST_DEVICE static inline void random_normal4_single(random_block_t block, float size, float out[4]) {
  for (int pair = 0; pair < 2; pair++) {
    const float radius = random_single_radius(block.v[2 * pair]) * size;
    random_single_turn(radius, block.v[2 * pair + 1], &out[2 * pair], &out[2 * pair + 1]);
  }
}

/* ---- a keyed bijection of [0, n): a Feistel network with cycle walking ---- */

enum { FEISTEL_ROUNDS = 6 };

typedef struct feistel {
  int left_bits, right_bits; /* together the least width that holds n - 1, at least 2 */
  uint64_t key;
} feistel_t;

HOST_DEVICE static inline feistel_t feistel_for(uint64_t key, int64_t n) {
  feistel_t f;
  int bits = 2;
  while (bits < 63 && ((int64_t)1 << bits) < n) bits++;
  f.left_bits = bits / 2;
  f.right_bits = bits - bits / 2;
  f.key = key;
  return f;
}

#define WORD             uint64_t
#define FEISTEL(name)    name
#define FEISTEL_FUNCTION HOST_DEVICE static inline
#include "base/random_feistel.inc"
#undef WORD
#undef FEISTEL
#undef FEISTEL_FUNCTION

HOST_DEVICE static inline int64_t random_permute(uint64_t key, int64_t n, int64_t i) {
  feistel_t f = feistel_for(key, n);
  uint64_t x = (uint64_t)i;
  do {
    x = feistel_walk(&f, x, 0);
  } while (x >= (uint64_t)n);
  return (int64_t)x;
}

/* Undoes random_permute. */
HOST_DEVICE static inline int64_t random_permute_inverse(uint64_t key, int64_t n, int64_t i) {
  feistel_t f = feistel_for(key, n);
  uint64_t x = (uint64_t)i;
  do {
    x = feistel_walk(&f, x, 1);
  } while (x >= (uint64_t)n);
  return (int64_t)x;
}

#endif
