/* Distinct keys: by a map of bits where the keys are dense enough and nothing but their numbers is wanted,
 * else by a stable radix sort.
 *
 * The sort is of words, the key above its position: one array moves. Where both do not fit into 64 bits a
 * word is the position alone, and the key is looked up. Threads cut the words into ranges; each digit's place
 * for each range follows from all counts, so the order does not depend on the threads. */
#include "kernel/cpu.h"
#include "kernel/cpu_unique.h"

#include <string.h>

enum { RADIX_BITS = 11, SMALL_RADIX_BITS = 8, RANGES = 8 };
enum { SMALL = 1 << 14, THREADED_LEAST = 1 << 15 }; /* counts: few digits; threads */

/* Without an instruction for it (Warren, Hacker's Delight): pairs, fours, bytes. */
static inline int bits_in(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return (int)(word * 0x0101010101010101u >> 56);
}

#define UNIQUE_MAP    unique_map_scalar
#define BITS_IN(word) bits_in(word)

#include "kernel/cpu_unique_map.inc"

/* What is sorted: the request's keys, not packed yet; packed words; or positions whose keys are looked up. */
typedef enum kind { KEYS, WORDS, POSITIONS } kind_t;

typedef struct sorting {
  const int64_t *key;
  int64_t count;
  int position_bits; /* of a packed word, below the key */
  int threads;
  kind_t kind;
  uint64_t *from, *to;
} sorting_t;

typedef struct digit {
  int shift;
  uint64_t mask;
} digit_t;

static inline uint64_t word_at(kind_t kind, const sorting_t *s, int64_t i) {
  return kind == KEYS ? (uint64_t)s->key[i] << s->position_bits | (uint64_t)i : s->from[i];
}

static inline uint64_t key_of(kind_t kind, const sorting_t *s, uint64_t word) {
  return kind == POSITIONS ? (uint64_t)s->key[word] : word >> s->position_bits;
}

/* A range is counted and moved in two halves by turns, each with counters of its own: neighbours often share
 * a digit, and would wait for each other's count. */
typedef struct halves {
  int64_t first, middle, end;
  int64_t *at[2];
} halves_t;

static halves_t halves_of(const sorting_t *s, int range, int64_t (*at)[1 << RADIX_BITS]) {
  int64_t first = s->count * range / s->threads, end = s->count * (range + 1) / s->threads;
  return (halves_t){first, first + (end - first) / 2, end, {at[2 * range], at[2 * range + 1]}};
}

static inline uint64_t digit_at(kind_t kind, const sorting_t *s, digit_t d, int64_t i) {
  uint64_t key = kind == KEYS ? (uint64_t)s->key[i] : key_of(kind, s, s->from[i]);
  return key >> d.shift & d.mask;
}

static inline void count_as(kind_t kind, const sorting_t *s, digit_t d, halves_t h) {
  int64_t half = h.middle - h.first;
  for (int64_t i = h.first; i < h.middle; i++) {
    h.at[0][digit_at(kind, s, d, i)]++;
    h.at[1][digit_at(kind, s, d, i + half)]++;
  }
  for (int64_t i = h.middle + half; i < h.end; i++) h.at[1][digit_at(kind, s, d, i)]++;
}

static void count_digits(const sorting_t *s, digit_t d, halves_t h) {
  for (int i = 0; i < 2; i++) memset(h.at[i], 0, (d.mask + 1) * sizeof *h.at[i]);
  if (s->kind == KEYS) count_as(KEYS, s, d, h);
  if (s->kind == WORDS) count_as(WORDS, s, d, h);
  if (s->kind == POSITIONS) count_as(POSITIONS, s, d, h);
}

static inline void move_as(kind_t kind, const sorting_t *s, digit_t d, halves_t h) {
  uint64_t *to = s->to;
  int64_t half = h.middle - h.first;
  for (int64_t i = h.first; i < h.middle; i++) {
    uint64_t low = word_at(kind, s, i), high = word_at(kind, s, i + half);
    to[h.at[0][key_of(kind, s, low) >> d.shift & d.mask]++] = low;
    to[h.at[1][key_of(kind, s, high) >> d.shift & d.mask]++] = high;
  }
  for (int64_t i = h.middle + half; i < h.end; i++) {
    uint64_t word = word_at(kind, s, i);
    to[h.at[1][key_of(kind, s, word) >> d.shift & d.mask]++] = word;
  }
}

static void move_words(const sorting_t *s, digit_t d, halves_t h) {
  if (s->kind == KEYS) move_as(KEYS, s, d, h);
  if (s->kind == WORDS) move_as(WORDS, s, d, h);
  if (s->kind == POSITIONS) move_as(POSITIONS, s, d, h);
}

/* From how often a range has a digit to where its first word with it goes. Returns 0 where all words have the
 * same digit. */
static int place_digits(int64_t (*at)[1 << RADIX_BITS], int ranges, digit_t d, int64_t count) {
  int64_t sum = 0;
  for (uint64_t digit = 0; digit <= d.mask; digit++) {
    int64_t before = sum;
    for (int r = 0; r < ranges; r++) {
      int64_t here = at[r][digit];
      at[r][digit] = sum;
      sum += here;
    }
    if (sum - before == count) return 0;
  }
  return 1;
}

/* One stable pass. */
static void sort_by(sorting_t *s, digit_t d) {
  int64_t at[2 * RANGES][1 << RADIX_BITS];
  int ranges = s->threads;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) count_digits(s, d, halves_of(s, r, at));
  if (!place_digits(at, 2 * ranges, d, s->count)) return;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) move_words(s, d, halves_of(s, r, at));
  uint64_t *moved = s->to;
  s->to = s->from;
  s->from = moved;
  if (s->kind == KEYS) s->kind = WORDS;
}

static void sort_digits(sorting_t *s, int key_bits) {
  int most = s->count < SMALL ? SMALL_RADIX_BITS : RADIX_BITS;
  int passes = (key_bits + most - 1) / most, bits = passes > 0 ? (key_bits + passes - 1) / passes : 0;
  for (int shift = 0; shift < key_bits; shift += bits)
    sort_by(s, (digit_t){shift, ((uint64_t)1 << bits) - 1});
}

uint64_t *cpu_sort_words(uint64_t *words, uint64_t *room, int64_t count, int low_bits, int key_bits,
                         int threads) {
  sorting_t s = {.count = count,
                 .position_bits = low_bits,
                 .threads = threads < RANGES ? threads : RANGES,
                 .kind = WORDS,
                 .from = words,
                 .to = room};
  sort_digits(&s, key_bits);
  return s.from;
}

static sorting_t sort_keys(const unique_request_t *r, int threads) {
  int key_bits = cpu_bits_below(r->key_limit);
  sorting_t s = {.key = r->key,
                 .count = r->count,
                 .position_bits = cpu_bits_below(r->count),
                 .threads = threads < RANGES ? threads : RANGES,
                 .from = (uint64_t *)r->scratch,
                 .to = (uint64_t *)r->scratch + r->count};
  if (key_bits + s.position_bits > 64) {
    s.kind = POSITIONS;
    for (int64_t i = 0; i < r->count; i++) s.from[i] = (uint64_t)i;
  }
  sort_digits(&s, key_bits);
  return s;
}

/* The sorted words' distinct keys, and what the request wants to know of them. */
static inline int64_t list_as(kind_t kind, const sorting_t *s, const unique_request_t *r, int64_t *distinct) {
  uint64_t position_mask = kind == POSITIONS ? UINT64_MAX : ((uint64_t)1 << s->position_bits) - 1;
  uint64_t before = key_of(kind, s, word_at(kind, s, 0));
  int64_t number = 0;
  if (r->begin != NULL) r->begin[0] = 0;
  for (int64_t i = 0; i < s->count; i++) {
    uint64_t word = word_at(kind, s, i), key = key_of(kind, s, word);
    int64_t position = (int64_t)(word & position_mask);
    number += key != before;
    before = key;
    distinct[number] = (int64_t)key; /* number <= i: in place, what is overwritten has been read */
    if (r->begin != NULL) r->begin[number + 1] = i + 1;
    if (r->member != NULL) r->member[i] = position;
    if (r->which != NULL) r->which[position] = number;
  }
  return number + 1;
}

static int64_t by_sort(const unique_request_t *r, int threads) {
  sorting_t s = sort_keys(r, threads);
  int64_t *apart = (int64_t *)s.to;
  if (s.kind == KEYS) return list_as(KEYS, &s, r, r->distinct);
  if (s.kind == WORDS) return list_as(WORDS, &s, r, r->distinct);
  int64_t distinct = list_as(POSITIONS, &s, r, apart); /* keys are looked up until the end */
  memcpy(r->distinct, apart, (size_t)distinct * sizeof *apart);
  return distinct;
}

static int64_t by_map(kernel_isa_t isa, const unique_request_t *r, int threads) {
#if defined(__x86_64__)
  if (isa >= ISA_AVX2) return unique_map_avx2(r, threads);
#endif
  (void)isa;
  return unique_map_scalar(r, threads);
}

/* Where there is room for the map, which is where it is no more work than a sort. */
static int may_map(const unique_request_t *r) {
  int64_t words = (r->key_limit - r->key_first + 63) / 64;
  return r->member == NULL && r->begin == NULL && r->which != NULL && r->count <= UINT32_MAX &&
         words + (words + 1) / 2 <= unique_scratch(r->count, r->key_first, r->key_limit);
}

static void cpu_unique(kernel_t *k, kernel_stream_t *stream, const unique_request_t *r,
                       int64_t *distinct_count) {
  (void)stream;
  int threads = r->count < THREADED_LEAST ? 1 : k->threads;
  if (r->count == 0) {
    *distinct_count = 0;
    if (r->begin != NULL) r->begin[0] = 0;
  } else if (may_map(r)) {
    *distinct_count = by_map(k->isa, r, threads);
  } else {
    *distinct_count = by_sort(r, threads);
  }
  for (int64_t i = 0; i < r->bounds; i++) {
    r->place[i] = cpu_lower_bound(r->distinct, *distinct_count, r->bound[i]);
    if (r->place_at != NULL) r->place_at[i] = r->place[i];
  }
}

void cpu_unique_ops(kernel_ops_t *ops) {
  ops->unique = cpu_unique;
}
