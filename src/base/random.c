/* Philox streams and what is derived from them. */
#include "base/random.h"

#include <Random123/philox.h>

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
