/* Integer ops of the route: bucketing, runs, gathers. */
#include "kernel/cpu.h"

#include <string.h>

/* ---- buckets ---- */

/* Few buckets: as many counters a range of items as there are, on the stack. */
enum { FEW_BUCKETS = 2048, RANGES = 8, THREADED_LEAST = 1 << 15 };

/* Each thread has a range of items, and does its two halves by turns, each with places of its own: neighbours
 * often share a bucket, and would wait for each other's count. */
static void few_buckets(const int64_t *bucket, int64_t count, int64_t buckets, int threads, int64_t *begin,
                        int64_t *member) {
  int64_t at[2 * RANGES][FEW_BUCKETS], sum = 0;
  int ranges = threads < RANGES ? threads : RANGES;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) {
    int64_t *low = at[2 * r], *high = at[2 * r + 1];
    int64_t first = count * r / ranges, end = count * (r + 1) / ranges, half = (end - first) / 2, i = first;
    memset(low, 0, (size_t)buckets * sizeof *low);
    memset(high, 0, (size_t)buckets * sizeof *high);
    for (; i < first + half; i++) low[bucket[i]]++, high[bucket[i + half]]++;
    for (i += half; i < end; i++) high[bucket[i]]++;
  }
  for (int64_t b = 0; b < buckets; b++) {
    begin[b] = sum;
    for (int r = 0; r < 2 * ranges; r++) {
      int64_t here = at[r][b];
      at[r][b] = sum;
      sum += here;
    }
  }
  begin[buckets] = count;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) {
    int64_t *low = at[2 * r], *high = at[2 * r + 1];
    int64_t first = count * r / ranges, end = count * (r + 1) / ranges, half = (end - first) / 2, i = first;
    for (; i < first + half; i++) {
      member[low[bucket[i]]++] = i;
      member[high[bucket[i + half]]++] = i + half;
    }
    for (i += half; i < end; i++) member[high[bucket[i]]++] = i;
  }
}

/* Each thread has a range of buckets and looks at all items; items of neighbouring buckets are mostly
 * neighbours. Counts stand one place on; the fill then moves each bucket's begin to its end, which is the
 * next one's begin. */
static void many_buckets(const int64_t *bucket, int64_t count, int64_t buckets, int threads, int64_t *begin,
                         int64_t *member) {
  int64_t *next = begin + 1, items[RANGES] = {0};
  int ranges = threads < RANGES ? threads : RANGES;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) {
    int64_t first = buckets * r / ranges, end = buckets * (r + 1) / ranges, sum = 0;
    memset(next + first, 0, (size_t)(end - first) * sizeof *next);
    if (ranges == 1)
      for (int64_t i = 0; i < count; i++) next[bucket[i]]++;
    else
      for (int64_t i = 0; i < count; i++)
        if (bucket[i] >= first && bucket[i] < end) next[bucket[i]]++;
    for (int64_t b = first; b < end; b++) {
      int64_t here = next[b];
      next[b] = sum;
      sum += here;
    }
    items[r] = sum;
  }
  begin[0] = 0;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) {
    int64_t first = buckets * r / ranges, end = buckets * (r + 1) / ranges, before = 0;
    for (int q = 0; q < r; q++) before += items[q];
    for (int64_t b = first; r > 0 && b < end; b++) next[b] += before;
    if (ranges == 1)
      for (int64_t i = 0; i < count; i++) member[next[bucket[i]]++] = i;
    else
      for (int64_t i = 0; i < count; i++)
        if (bucket[i] >= first && bucket[i] < end) member[next[bucket[i]]++] = i;
  }
}

static void cpu_bucket(kernel_t *k, kernel_stream_t *stream, const int64_t *bucket, int64_t count,
                       int64_t buckets, int64_t *begin, int64_t *member) {
  (void)stream;
  int threads = count < THREADED_LEAST ? 1 : k->threads;
  if (buckets <= FEW_BUCKETS)
    few_buckets(bucket, count, buckets, threads, begin, member);
  else
    many_buckets(bucket, count, buckets, threads, begin, member);
}

/* ---- searches and runs ---- */

static void cpu_lower_bounds(kernel_t *k, kernel_stream_t *stream, const int64_t *sorted, int64_t count,
                             const int64_t *bound, int64_t bounds, int64_t *place) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < bounds; i++) place[i] = cpu_lower_bound(sorted, count, bound[i]);
}

static void cpu_runs(kernel_t *k, kernel_stream_t *stream, const run_list_t *q) {
  (void)k, (void)stream;
  const int64_t *slot = q->slot, *order = q->order, *group_begin = q->group_begin;
  int64_t runs = 0, *run_begin = q->run_begin, *run_slot = q->run_slot;
  for (int64_t g = 0; g <= q->groups; g++) {
    int64_t before = -1; /* no slot */
    if (q->group_run != NULL) q->group_run[g] = runs;
    if (q->group_run_at != NULL) q->group_run_at[g] = runs;
    if (g == q->groups) break;
    for (int64_t i = group_begin[g]; i < group_begin[g + 1];
         i++) { /* where runs end is hard to guess: no branch */
      int64_t here = slot[order[i]];
      run_begin[runs] = i;
      runs += here != before;
      run_slot[runs - 1] = before = here;
    }
  }
  run_begin[runs] = group_begin[q->groups];
}

static void cpu_gather_i64(kernel_t *k, kernel_stream_t *stream, const int64_t *from, const int64_t *index,
                           int64_t count, int64_t add, int64_t *to) {
  (void)k, (void)stream;
  if (index == NULL)
    for (int64_t i = 0; i < count; i++) to[i] = from[i] + add;
  else
    for (int64_t i = 0; i < count; i++) to[i] = from[index[i]] + add;
}

static void cpu_fill_i64(kernel_t *k, kernel_stream_t *stream, int64_t *to, int64_t count, int64_t first,
                         int64_t step) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) to[i] = first + i * step;
}

static void cpu_expand(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *value,
                       int64_t runs, int64_t *to) {
  enum {
    AT_ONCE = 4
  }; /* what is too much the next run overwrites: how long a run is would be guessed wrong */
  (void)k, (void)stream;
  int64_t total = runs > 0 ? begin[runs] - begin[0] : 0, i = 0;
  for (int64_t j = 0; j < runs; j++) {
    int64_t end = begin[j + 1] - begin[0], here = value[j];
    if (i + AT_ONCE <= total)
      for (int64_t n = 0; n < AT_ONCE; n++) to[i + n] = here;
    else
      for (int64_t n = i; n < end; n++) to[n] = here;
    for (i += AT_ONCE; i < end; i++) to[i] = here;
    i = end;
  }
}

static void cpu_edge_positions(kernel_t *k, kernel_stream_t *stream, const int64_t *order,
                               const int64_t *slot, const int64_t *slot_begin, int64_t count,
                               int64_t *position) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) position[i] = order[i] - slot_begin[slot[order[i]]];
}

static void cpu_nonempty(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, int64_t count,
                         int64_t *which, int64_t *nonempty) {
  (void)k, (void)stream;
  int64_t n = 0;
  for (int64_t i = 0; i < count; i++)
    if (begin[i] < begin[i + 1]) which[n++] = i;
  *nonempty = n;
}

static void cpu_select_i64(kernel_t *k, kernel_stream_t *stream, const int64_t *test, const int64_t *from,
                           int64_t otherwise, int64_t count, int64_t *to) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) to[i] = test[i] >= 0 ? from[i] : otherwise;
}

static void cpu_invert(kernel_t *k, kernel_stream_t *stream, const int64_t *order, int64_t count,
                       int64_t *to) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) to[order[i]] = i;
}

static void cpu_fill_blocks(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *first,
                            const int64_t *step, int64_t blocks, int64_t *to) {
  (void)k, (void)stream;
  for (int64_t b = 0; b < blocks; b++)
    for (int64_t i = begin[b]; i < begin[b + 1]; i++) to[i] = first[b] + (i - begin[b]) * step[b];
}

enum { FEW_OWNERS = 8 };

/* The last j with bound[j] <= value, without a branch that depends on it. */
static int64_t last_not_above(const int64_t *bound, int64_t count, int64_t value) {
  const int64_t *at = bound;
  for (int64_t left = count; left > 1;) {
    int64_t half = left / 2;
    at += at[half] <= value ? half : 0;
    left -= half;
  }
  return at - bound;
}

/* Whether slots [first, first + bags) hold all these: a sign bit says where one is not among them. */
static int all_within(const int64_t *slot, int64_t count, int64_t first, int64_t bags) {
  uint64_t signs = 0;
  for (int64_t i = 0; i < count; i++) {
    uint64_t bag = (uint64_t)(slot[i] - first);
    signs |= bag | ((uint64_t)bags - 1 - bag);
  }
  return signs >> 63 == 0;
}

/* Of edges of one feature. */
static void group_chunk(const edge_groups_t *q, int64_t first, int64_t count, int64_t feature) {
  const int64_t *which = q->which + first, *keep = q->keep;
  int64_t *restrict group = q->group + first, none = (int64_t)q->ranks * q->features;
  if (q->ranks > FEW_OWNERS) {
    for (int64_t i = 0; i < count; i++)
      group[i] = last_not_above(q->owner_key, q->ranks, which[i]) * q->features + feature;
  } else {
    for (int64_t i = 0; i < count; i++) group[i] = feature;
    for (int o = 1; o < q->ranks; o++) {
      uint64_t begin = (uint64_t)q->owner_key[o];
      for (int64_t i = 0; i < count; i++) /* a sign bit: the key is below */
        group[i] += q->features & (int64_t)((((uint64_t)which[i] - begin) >> 63) - 1);
    }
  }
  for (int64_t i = 0; keep != NULL && i < count; i++) group[i] = keep[which[i]] ? group[i] : none;
}

static void cpu_edge_groups(kernel_t *k, kernel_stream_t *stream, const edge_groups_t *q) {
  enum { CHUNK = 512 };
  (void)stream;
  int64_t chunks = (q->count + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(k->threads) if (k->threads > 1 && q->count >= THREADED_LEAST)
  for (int64_t c = 0; c < chunks; c++) {
    int64_t end = (c + 1) * CHUNK < q->count ? (c + 1) * CHUNK : q->count, count;
    for (int64_t i = c * CHUNK; i < end; i += count) { /* mostly all at once: slots ascend in steps */
      int64_t feature = q->slot[i] / q->bag_count, first = feature * q->bag_count;
      count = end - i;
      if (!all_within(q->slot + i, count, first, q->bag_count))
        for (count = 1; i + count < end && q->slot[i + count] / q->bag_count == feature;) count++;
      group_chunk(q, i, count, feature);
    }
  }
}

static void cpu_global_rows(kernel_t *k, kernel_stream_t *stream, const plan_table_t *plan, int shard,
                            const int64_t *local, int64_t count, int64_t *rows) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) rows[i] = plan_row(plan, shard, local[i]);
}

void cpu_integer_ops(kernel_ops_t *ops) {
  ops->bucket = cpu_bucket;
  ops->lower_bounds = cpu_lower_bounds;
  ops->runs = cpu_runs;
  ops->gather_i64 = cpu_gather_i64;
  ops->fill_i64 = cpu_fill_i64;
  ops->expand = cpu_expand;
  ops->edge_positions = cpu_edge_positions;
  ops->nonempty = cpu_nonempty;
  ops->select_i64 = cpu_select_i64;
  ops->invert = cpu_invert;
  ops->fill_blocks = cpu_fill_blocks;
  ops->edge_groups = cpu_edge_groups;
  ops->global_rows = cpu_global_rows;
}
