/* Counter-based random numbers (Philox4x32-10 of the Random123 library): a value is a pure function of a key
 * and a counter, so it does not depend on ranks, threads or the order of calls.
 *
 * key: random_key(seed, "name of the stream"); counter: up to 128 bits chosen by the caller, as (row, column
 * block). */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

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

/* Four standard normal values of one block, by Box-Muller. */
void random_normal4(random_block_t block, double out[4]);

/* A keyed bijection of [0, n): a Feistel network with cycle walking. random_permute_inverse undoes it. */
int64_t random_permute(uint64_t key, int64_t n, int64_t i);
int64_t random_permute_inverse(uint64_t key, int64_t n, int64_t i);

#endif
