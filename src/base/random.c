/* Philox streams and what is derived from them. */
#include "base/random.h"

#include <Random123/philox.h>
#include <math.h>

/* FNV-1a over the name, finished by one Philox call with the seed, so that near names are unrelated. */
uint64_t random_key(uint64_t seed, const char *name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++)
    hash = (hash ^ *p) * 0x100000001b3u;
  random_block_t block = random_block(seed, hash, 0x73686172646261u);
  return (uint64_t)block.v[0] | (uint64_t)block.v[1] << 32;
}

random_block_t random_block(uint64_t key, uint64_t hi, uint64_t lo) {
  philox4x32_ctr_t counter = {{(uint32_t)lo, (uint32_t)(lo >> 32), (uint32_t)hi, (uint32_t)(hi >> 32)}};
  philox4x32_key_t k = {{(uint32_t)key, (uint32_t)(key >> 32)}};
  philox4x32_ctr_t r = philox4x32(counter, k);
  return (random_block_t){{r.v[0], r.v[1], r.v[2], r.v[3]}};
}

uint64_t random_u64(uint64_t key, uint64_t i) {
  random_block_t block = random_block(key, 0, i);
  return (uint64_t)block.v[0] | (uint64_t)block.v[1] << 32;
}

int64_t random_below(uint64_t key, uint64_t i, int64_t n) {
  __extension__ typedef unsigned __int128 wide_t;
  return (int64_t)((wide_t)random_u64(key, i) * (wide_t)(uint64_t)n >> 64);
}

double random_unit(uint32_t v) {
  return (2.0 * (double)v + 1.0) * (1.0 / 8589934592.0);
}

double random_unit53(uint64_t key, uint64_t i) {
  return (double)(random_u64(key, i) >> 11) * (1.0 / 9007199254740992.0);
}

void random_normal4(random_block_t block, double out[4]) {
  for (int pair = 0; pair < 2; pair++) {
    double radius = sqrt(-2.0 * log(random_unit(block.v[2 * pair])));
    double angle = 6.283185307179586476925286766559 * random_unit(block.v[2 * pair + 1]);
    out[2 * pair] = radius * cos(angle);
    out[2 * pair + 1] = radius * sin(angle);
  }
}

enum { FEISTEL_ROUNDS = 6 };

typedef struct feistel {
  int left_bits, right_bits; /* together the least width that holds n - 1, at least 2 */
  uint64_t key;
} feistel_t;

static feistel_t feistel_for(uint64_t key, int64_t n) {
  int bits = 2;
  while (bits < 63 && ((int64_t)1 << bits) < n) bits++;
  return (feistel_t){.left_bits = bits / 2, .right_bits = bits - bits / 2, .key = key};
}

static uint64_t feistel_round(const feistel_t *f, int round, uint64_t half, int out_bits) {
  uint64_t mixed = (half + 0x9e3779b97f4a7c15u * (uint64_t)(round + 1)) ^ f->key;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return (mixed ^ (mixed >> 31)) & (((uint64_t)1 << out_bits) - 1);
}

/* Even rounds change the left half from the right one, odd rounds the right from the left: each undoes
 * itself. */
static uint64_t feistel_walk(const feistel_t *f, uint64_t x, int inverse) {
  uint64_t right_mask = ((uint64_t)1 << f->right_bits) - 1;
  uint64_t left = x >> f->right_bits, right = x & right_mask;
  for (int i = 0; i < FEISTEL_ROUNDS; i++) {
    int round = inverse ? FEISTEL_ROUNDS - 1 - i : i;
    if (round % 2 == 0)
      left ^= feistel_round(f, round, right, f->left_bits);
    else
      right ^= feistel_round(f, round, left, f->right_bits);
  }
  return left << f->right_bits | right;
}

int64_t random_permute(uint64_t key, int64_t n, int64_t i) {
  feistel_t f = feistel_for(key, n);
  uint64_t x = (uint64_t)i;
  do {
    x = feistel_walk(&f, x, 0);
  } while (x >= (uint64_t)n);
  return (int64_t)x;
}

int64_t random_permute_inverse(uint64_t key, int64_t n, int64_t i) {
  feistel_t f = feistel_for(key, n);
  uint64_t x = (uint64_t)i;
  do {
    x = feistel_walk(&f, x, 1);
  } while (x >= (uint64_t)n);
  return (int64_t)x;
}
