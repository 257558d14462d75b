/* Integer ops of the route: bucketing, runs, gathers. */
#include "kernel/cpu.h"

#include <string.h>

/* ---- buckets ---- */

/* Few buckets: as many counters a range of items as there are, on the stack. */
enum { FEW_BUCKETS = 2048, RANGES = 8, THREADED_LEAST = 1 << 15 };

/* Ranges of items beside each other, each with its own places: in threads, or, with one thread, two of them by
 * turns, as neighbours of one bucket would wait for each other's count. */
static void few_buckets(const int64_t *bucket, int64_t count, int64_t buckets, int threads, int64_t *begin,
                        int64_t *member) {
  int64_t at[RANGES][FEW_BUCKETS], sum = 0;
  int ranges = threads < RANGES ? threads : RANGES;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++) {
    memset(at[r], 0, (size_t)buckets * sizeof *at[r]);
    for (int64_t i = count * r / ranges; i < count * (r + 1) / ranges; i++) at[r][bucket[i]]++;
  }
  for (int64_t b = 0; b < buckets; b++) {
    begin[b] = sum;
    for (int r = 0; r < ranges; r++) {
      int64_t here = at[r][b];
      at[r][b] = sum;
      sum += here;
    }
  }
  begin[buckets] = count;
#pragma omp parallel for num_threads(ranges) if (ranges > 1)
  for (int r = 0; r < ranges; r++)
    for (int64_t i = count * r / ranges; i < count * (r + 1) / ranges; i++) member[at[r][bucket[i]]++] = i;
}

/* Counts stand one place on; the fill then moves each bucket's begin to its end, which is the next one's begin. */
static void many_buckets(const int64_t *bucket, int64_t count, int64_t buckets, int64_t *begin, int64_t *member) {
  int64_t *next = begin + 1, sum = 0;
  memset(begin, 0, (size_t)(buckets + 1) * sizeof *begin);
  for (int64_t i = 0; i < count; i++) next[bucket[i]]++;
  for (int64_t b = 0; b < buckets; b++) {
    int64_t here = next[b];
    next[b] = sum;
    sum += here;
  }
  for (int64_t i = 0; i < count; i++) member[next[bucket[i]]++] = i;
}

static void cpu_bucket(kernel_t *k, kernel_stream_t *stream, const int64_t *bucket, int64_t count,
                       int64_t buckets, int64_t *begin, int64_t *member) {
  (void)stream;
  if (buckets <= FEW_BUCKETS)
    few_buckets(bucket, count, buckets, count < THREADED_LEAST ? 1 : k->threads, begin, member);
  else
    many_buckets(bucket, count, buckets, begin, member);
}

/* ---- searches and runs ---- */

static int64_t lower_bound(const int64_t *sorted, int64_t count, int64_t bound) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (sorted[middle] < bound)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static void cpu_lower_bounds(kernel_t *k, kernel_stream_t *stream, const int64_t *sorted, int64_t count,
                             const int64_t *bound, int64_t bounds, int64_t *place) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < bounds; i++) place[i] = lower_bound(sorted, count, bound[i]);
}

static void cpu_runs(kernel_t *k, kernel_stream_t *stream, const int64_t *slot, const int64_t *order,
                     const int64_t *group_begin, int groups, int64_t *run_begin, int64_t *run_slot,
                     int64_t *group_run) {
  (void)k, (void)stream;
  int64_t runs = 0;
  for (int g = 0; g < groups; g++) {
    group_run[g] = runs;
    for (int64_t i = group_begin[g]; i < group_begin[g + 1]; i++) {
      int64_t here = slot[order[i]];
      if (i > group_begin[g] && here == run_slot[runs - 1]) continue;
      run_begin[runs] = i;
      run_slot[runs++] = here;
    }
  }
  group_run[groups] = runs;
  run_begin[runs] = group_begin[groups];
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
  (void)k, (void)stream;
  for (int64_t j = 0; j < runs; j++)
    for (int64_t i = begin[j] - begin[0]; i < begin[j + 1] - begin[0]; i++) to[i] = value[j];
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

static void cpu_edge_groups(kernel_t *k, kernel_stream_t *stream, const edge_groups_t *q) {
  (void)k, (void)stream;
  int64_t feature = 0, first = 0; /* slots ascend in steps, so a feature is seldom looked for */
  for (int64_t i = 0; i < q->count; i++) {
    int64_t key = q->which[i];
    if (q->keep != NULL && !q->keep[key]) {
      q->group[i] = (int64_t)q->ranks * q->features;
      continue;
    }
    if (q->slot[i] < first || q->slot[i] >= first + q->bag_count) {
      feature = q->slot[i] / q->bag_count;
      first = feature * q->bag_count;
    }
    q->group[i] = last_not_above(q->owner_key, q->ranks, key) * q->features + feature;
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
