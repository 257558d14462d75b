/* Counting (positive above negative) pairs over all ranks: see ranking.h.
 *
 * Every rank sorts its pairs and merges equal keys into (key, positives, negatives). Splitters are found
 * digit by digit, so that each rank receives an equal share of these entries however skewed the keys are; the
 * entries go to their rank, and each counts within its key range. No rank holds more than its share. */
#include "train/ranking.h"

#include <math.h>
#include <string.h>

typedef struct entry {
  int64_t key;
  int64_t positives, negatives;
} entry_t;

enum { KEY_BITS = 32, DIGIT_BITS = 8, DIGITS = 256 };

uint32_t ranking_key(float value) {
  float zero_or_value = value == 0.0f ? 0.0f : value; /* -0 and +0 tie */
  uint32_t bits;
  memcpy(&bits, &zero_or_value, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

uint64_t ranking_pair(float value, int label, float weight) {
  float positive_zero = weight + 0.0f;
  uint32_t bits;
  memcpy(&bits, &positive_zero, sizeof bits);
  return (uint64_t)ranking_key(value) << 32 | (uint64_t)(label != 0) << 31 | bits;
}

/* The order of weights is that of their bits. */
static float weight_of(uint64_t bits) {
  uint32_t low = (uint32_t)bits & 0x7fffffffu;
  float weight;
  memcpy(&weight, &low, sizeof weight);
  return weight;
}

/* What a weight of 1 counts as: 1 where all are 1, else the largest of all ranks counts as 2^31. */
static sbag_code_t find_unit(const ranking_t *m, double *unit, sbag_status_t *status) {
  int64_t most[2] = {m->weighted, 0};
  for (int64_t i = 0; i < m->count; i++) {
    int64_t bits = (int64_t)(m->pairs[i] & 0x7fffffffu);
    if (bits > most[1]) most[1] = bits;
  }
  SBAG_TRY(comm_allreduce(m->comm, most, 2, COMM_I64, COMM_MAX, "metrics: largest weight", status));
  double largest = (double)weight_of((uint64_t)most[1]);
  *unit = !most[0] ? 1.0 : largest > 0.0 ? 2147483648.0 / largest : 0.0;
  return SBAG_OK;
}

/* Three passes of 11 bits over the upper 33 bits of a pair; the result lies in `scratch`. */
static void radix_sort(uint64_t *pairs, uint64_t *scratch, int64_t n) {
  uint64_t *from = pairs, *to = scratch;
  for (int shift = 31; shift < 64; shift += 11) {
    int64_t first[2049] = {0};
    for (int64_t i = 0; i < n; i++) first[(from[i] >> shift & 2047) + 1]++;
    for (int b = 0; b < 2048; b++) first[b + 1] += first[b];
    for (int64_t i = 0; i < n; i++) to[first[from[i] >> shift & 2047]++] = from[i];
    uint64_t *swap = from;
    from = to;
    to = swap;
  }
}

/* This rank's distinct keys in ascending order, with how many positives and negatives have each, or their
 * weight. */
static sbag_code_t merge_equal(ranking_t *m, double unit, entry_t **entries, int64_t *count,
                               sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(
      mem_alloc(m->mem, mem_array_bytes(m->capacity, sizeof *m->pairs), "metrics: sort", &block, status));
  radix_sort(m->pairs, block, m->count);
  mem_free(m->mem, m->pairs);
  m->pairs = block;
  int64_t distinct = 0;
  for (int64_t i = 0; i < m->count; i++) distinct += i == 0 || m->pairs[i] >> 32 != m->pairs[i - 1] >> 32;
  SBAG_TRY(mem_alloc(m->mem, mem_array_bytes(distinct, sizeof **entries), "metrics: keys", &block, status));
  entry_t *made = block;
  int64_t last = -1;
  for (int64_t i = 0; i < m->count; i++) {
    int64_t key = (int64_t)(m->pairs[i] >> 32), positive = (int64_t)(m->pairs[i] >> 31 & 1);
    int64_t weight = llround(unit * (double)weight_of(m->pairs[i]));
    if (last < 0 || made[last].key != key) made[++last] = (entry_t){.key = key};
    *(positive ? &made[last].positives : &made[last].negatives) += weight;
  }
  *entries = made;
  *count = distinct;
  return SBAG_OK;
}

/* The first entry whose key is not below `key`. */
static int64_t lower_bound(const entry_t *entries, int64_t count, int64_t key) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (entries[middle].key < key)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* splitter[r] becomes the key at position total * r / size of all ranks' entries in order: rank r takes keys
 * of [splitter[r], splitter[r + 1]). Found from the highest digit to the lowest, all splitters together.
 * work: [size * (DIGITS + 1)]. */
static sbag_code_t find_splitters(comm_t *comm, const entry_t *entries, int64_t count, int64_t total,
                                  int64_t *splitter, int64_t *work, sbag_status_t *status) {
  int size = comm_size(comm);
  int64_t *histogram = work, *rest = work + (int64_t)size * DIGITS;
  for (int r = 0; r < size; r++) {
    splitter[r] = 0;
    rest[r] = total / size * r + total % size * r / size;
  }
  for (int shift = KEY_BITS - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
    for (int r = 0; r < size; r++) {
      int64_t below = lower_bound(entries, count, splitter[r]);
      for (int64_t d = 0; d < DIGITS; d++) {
        int64_t end = lower_bound(entries, count, splitter[r] + ((d + 1) << shift));
        histogram[r * DIGITS + d] = end - below;
        below = end;
      }
    }
    SBAG_TRY(comm_allreduce(comm, histogram, (int64_t)size * DIGITS, COMM_I64, COMM_SUM, "metrics: splitters",
                            status));
    for (int r = 0; r < size; r++) {
      int64_t digit = 0;
      while (digit < DIGITS - 1 && rest[r] >= histogram[r * DIGITS + digit])
        rest[r] -= histogram[r * DIGITS + digit++];
      splitter[r] += digit << shift;
    }
  }
  splitter[0] = 0;
  splitter[size] = (int64_t)1 << KEY_BITS;
  return SBAG_OK;
}

/* One sorted run of what a peer sent. */
typedef struct run {
  const entry_t *next, *end;
} run_t;

/* Restores the heap (smallest next key at the root) below position i. */
static void sift_down(run_t *heap, int count, int i) {
  for (;;) {
    int least = i, left = 2 * i + 1, right = left + 1;
    if (left < count && heap[left].next->key < heap[least].next->key) least = left;
    if (right < count && heap[right].next->key < heap[least].next->key) least = right;
    if (least == i) return;
    run_t swap = heap[i];
    heap[i] = heap[least];
    heap[least] = swap;
    i = least;
  }
}

/* Twice the number of (positive, negative) pairs with the positive above, ties counted once, where
 * `negatives` negatives lie below all of the runs. Consumes the runs. */
static ranking_wide_t count_pairs(run_t *heap, int count, int64_t negatives) {
  ranking_wide_t twice = 0;
  for (int i = count / 2 - 1; i >= 0; i--) sift_down(heap, count, i);
  while (count > 0) {
    entry_t equal = {.key = heap[0].next->key};
    while (count > 0 && heap[0].next->key == equal.key) {
      equal.positives += heap[0].next->positives;
      equal.negatives += heap[0].next->negatives;
      if (++heap[0].next == heap[0].end) heap[0] = heap[--count];
      sift_down(heap, count, 0);
    }
    twice +=
        (ranking_wide_t)equal.positives * (2 * (ranking_wide_t)negatives + (ranking_wide_t)equal.negatives);
    negatives += equal.negatives;
  }
  return twice;
}

/* What the exchange of entries needs for each peer. */
typedef struct dealer {
  int64_t *splitter;        /* [size + 1] */
  int64_t *work;            /* [size * (DIGITS + 1)] */
  int64_t *sent, *got;      /* [size] entries */
  comm_part_t *send, *recv; /* [size] */
  run_t *runs;              /* [size] */
  ranking_wide_t *partial;  /* [size] every rank's count of pairs */
  entry_t *received;
} dealer_t;

static void dealer_free(mem_t *mem, dealer_t *d) {
  void *blocks[] = {d->splitter, d->work, d->sent,    d->got,     d->send,
                    d->recv,     d->runs, d->partial, d->received};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(mem, blocks[i]);
  memset(d, 0, sizeof *d);
}

static sbag_code_t dealer_alloc(mem_t *mem, int size, dealer_t *d, sbag_status_t *status) {
  const char *what = "metrics: exchange";
  void *blocks[8] = {NULL};
  size_t each[8] = {sizeof *d->splitter, sizeof *d->work, sizeof *d->sent, sizeof *d->got,
                    sizeof *d->send,     sizeof *d->recv, sizeof *d->runs, sizeof *d->partial};
  sbag_code_t code = SBAG_OK;
  for (int i = 0; i < 8 && code == SBAG_OK; i++) {
    int64_t count = i == 0 ? size + 1 : i == 1 ? (int64_t)size * (DIGITS + 1) : size;
    code = mem_calloc(mem, mem_array_bytes(count, each[i]), what, &blocks[i], status);
  }
  *d = (dealer_t){.splitter = blocks[0],
                  .work = blocks[1],
                  .sent = blocks[2],
                  .got = blocks[3],
                  .send = blocks[4],
                  .recv = blocks[5],
                  .runs = blocks[6],
                  .partial = blocks[7]};
  return code;
}

/* Sends every entry to the rank of its key range; d->got and d->received describe what arrived. */
static sbag_code_t deal_entries(const ranking_t *m, entry_t *entries, int64_t count, dealer_t *d,
                                sbag_status_t *status) {
  int size = comm_size(m->comm);
  int64_t each = (int64_t)sizeof(entry_t), arriving = 0, first = 0;
  for (int p = 0; p < size; p++) {
    int64_t end = p == size - 1 ? count : lower_bound(entries, count, d->splitter[p + 1]);
    d->sent[p] = end - first;
    d->send[p] = (comm_part_t){.data = &d->sent[p], .bytes = (int64_t)sizeof(int64_t)};
    d->recv[p] = (comm_part_t){.data = &d->got[p], .bytes = (int64_t)sizeof(int64_t)};
    first = end;
  }
  SBAG_TRY(comm_exchange(m->comm, d->send, d->recv, "metrics: counts", status));
  for (int p = 0; p < size; p++) arriving += d->got[p];
  void *block = NULL;
  sbag_code_t code =
      mem_alloc(m->mem, mem_array_bytes(arriving, sizeof(entry_t)), "metrics: received", &block, status);
  d->received = block;
  SBAG_TRY(comm_agree(m->comm, code, status));
  first = arriving = 0;
  for (int p = 0; p < size; p++) {
    d->send[p] = (comm_part_t){.data = entries + first, .bytes = d->sent[p] * each};
    d->recv[p] = (comm_part_t){.data = d->received + arriving, .bytes = d->got[p] * each};
    first += d->sent[p];
    arriving += d->got[p];
  }
  return comm_exchange(m->comm, d->send, d->recv, "metrics: keys", status);
}

/* Counts the pairs of this rank's key range and adds up all ranks' counts. */
static sbag_code_t sum_pairs(const ranking_t *m, dealer_t *d, ranking_wide_t *twice, sbag_status_t *status) {
  int size = comm_size(m->comm), runs = 0;
  int64_t mine = 0, below = 0;
  const entry_t *next = d->received;
  for (int p = 0; p < size; p++) {
    const entry_t *end = next + d->got[p];
    if (next < end) d->runs[runs++] = (run_t){.next = next, .end = end};
    for (; next < end; next++) mine += next->negatives;
  }
  SBAG_TRY(comm_allgather(m->comm, &mine, (int64_t)sizeof mine, d->sent, "metrics: negatives", status));
  for (int p = 0; p < comm_rank(m->comm); p++) below += d->sent[p];
  ranking_wide_t part = count_pairs(d->runs, runs, below);
  SBAG_TRY(comm_allgather(m->comm, &part, (int64_t)sizeof part, d->partial, "metrics: pairs", status));
  *twice = 0;
  for (int p = 0; p < size; p++) *twice += d->partial[p];
  return SBAG_OK;
}

static sbag_code_t count_dealt(const ranking_t *m, entry_t *entries, int64_t count, dealer_t *d,
                               ranking_wide_t *twice, sbag_status_t *status) {
  int64_t total = count;
  SBAG_TRY(comm_allreduce(m->comm, &total, 1, COMM_I64, COMM_SUM, "metrics: distinct logits", status));
  SBAG_TRY(find_splitters(m->comm, entries, count, total, d->splitter, d->work, status));
  SBAG_TRY(deal_entries(m, entries, count, d, status));
  return sum_pairs(m, d, twice, status);
}

/* Over all ranks. */
static sbag_code_t sum_labels(const ranking_t *m, const entry_t *entries, int64_t count,
                              ranking_counts_t *counts, sbag_status_t *status) {
  int64_t sums[2] = {0};
  for (int64_t i = 0; i < count; i++) {
    sums[0] += entries[i].positives;
    sums[1] += entries[i].negatives;
  }
  SBAG_TRY(comm_allreduce(m->comm, sums, 2, COMM_I64, COMM_SUM, "metrics: labels", status));
  counts->positives = sums[0];
  counts->negatives = sums[1];
  return SBAG_OK;
}

sbag_code_t ranking_count(ranking_t *ranking, ranking_counts_t *counts, sbag_status_t *status) {
  entry_t *entries = NULL;
  int64_t count = 0;
  double unit = 1.0;
  dealer_t dealer = {0};
  SBAG_TRY(find_unit(ranking, &unit, status));
  sbag_code_t code = merge_equal(ranking, unit, &entries, &count, status);
  if (code == SBAG_OK) code = dealer_alloc(ranking->mem, comm_size(ranking->comm), &dealer, status);
  code = comm_agree(ranking->comm, code, status);
  if (code == SBAG_OK) code = sum_labels(ranking, entries, count, counts, status);
  if (code == SBAG_OK) code = count_dealt(ranking, entries, count, &dealer, &counts->twice, status);
  dealer_free(ranking->mem, &dealer);
  mem_free(ranking->mem, entries);
  return code;
}

sbag_code_t ranking_reserve(ranking_t *ranking, int64_t more, sbag_status_t *status) {
  if (more <= ranking->capacity - ranking->count) return SBAG_OK;
  int64_t wanted = ranking->count + more, doubled = 2 * ranking->capacity;
  if (wanted < doubled) wanted = doubled;
  void *block = ranking->pairs;
  SBAG_TRY(mem_realloc(ranking->mem, mem_array_bytes(wanted, sizeof *ranking->pairs), "metrics: pairs",
                       &block, status));
  ranking->pairs = block;
  ranking->capacity = wanted;
  return SBAG_OK;
}
