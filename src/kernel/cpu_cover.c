/* Which rows travel as rows and which are pooled (scalar): see cover_request_t.
 *
 * Table by table, in passes over its keys and over its edges (by run). A key's degree and the cost of pooling
 * its edges stand side by side in the scratch; row[key] is a word of flags and a sum until the end. */
#include "kernel/cpu.h"

#include <string.h>

enum { THREADED_LEAST = 1 << 13 }; /* keys: below, threads cost more than they give */

/* row[key] while at work: bit 0: a row; bit 1: a run needs it as one; above: cost of the pools that it alone
 * keeps. */
enum { IS_ROW = 1, IS_NEEDED = 2, SAVING_SHIFT = 2 };

/* Costs by degree of one table over all owners. */
typedef struct histogram {
  int64_t rows[COVER_DEGREES + 1];  /* of the keys with this degree: as rows */
  int64_t edges[COVER_DEGREES + 1]; /* with all their edges pooled */
  int64_t pools[COVER_DEGREES + 1]; /* of the runs with this least degree: as pools */
} histogram_t;

static inline int64_t *degree_of(const cover_request_t *q, int64_t key) {
  return q->scratch + 2 * key;
}

static inline int64_t *pooling_of(const cover_request_t *q, int64_t key) {
  return q->scratch + 2 * key + 1;
}

static inline int64_t key_of(const cover_request_t *q, int64_t place) {
  return q->which[q->order[place]];
}

/* Some run has two edges. */
static int is_worth(const cover_request_t *q, int owner, int table) {
  for (int f = 0; f < q->features; f++) {
    const int64_t *run = q->run_block + (int64_t)owner * q->features + f;
    if (q->feature_table[f] == table && q->run_begin[run[1]] - q->run_begin[run[0]] > run[1] - run[0])
      return 1;
  }
  return 0;
}

static inline int is_wanted(const cover_request_t *q, int owner, int table) {
  return q->wanted[(int64_t)owner * q->tables + table] && (!q->only_worth || is_worth(q, owner, table));
}

/* ---- passes over the edges of one (owner, feature): runs [first, end) ---- */

static void count_degrees(const cover_request_t *q, int feature, int64_t first, int64_t end) {
  int64_t cost = q->edge_cost[feature];
  for (int64_t i = q->run_begin[first]; i < q->run_begin[end]; i++) {
    int64_t key = key_of(q, i);
    *degree_of(q, key) += 1;
    *pooling_of(q, key) += cost;
  }
}

static void count_runs(const cover_request_t *q, int feature, int64_t first, int64_t end, histogram_t *h) {
  int64_t cost = q->pool_cost[feature], i = q->run_begin[first];
  for (int64_t r = first; r < end; r++) {
    int64_t least = COVER_DEGREES, stop = q->run_begin[r + 1];
    for (; i < stop; i++) {
      int64_t degree = *degree_of(q, key_of(q, i));
      least = degree < least ? degree : least;
    }
    h->pools[least] += cost;
  }
}

/* Adds a run's pool cost to the key that is the only one pooled in it: where all pooled keys together have
 * the bits that they have in common. (No branch depends on a key: half of them would be guessed wrong.) */
static void find_savings(const cover_request_t *q, int feature, int64_t first, int64_t end) {
  int64_t saving = q->pool_cost[feature] << SAVING_SHIFT, i = q->run_begin[first];
  for (int64_t r = first; r < end; r++) {
    int64_t any = 0, common = -1, stop = q->run_begin[r + 1];
    for (; i < stop; i++) {
      int64_t key = key_of(q, i), is_row = -(q->row[key] & IS_ROW);
      any |= key & ~is_row;
      common &= key | is_row;
    }
    int64_t alone = any == common;
    q->row[any * alone] += saving * alone;
  }
}

/* Counts the runs with a pooled edge, and marks the rows of the others. */
static int64_t find_needs(const cover_request_t *q, int64_t first, int64_t end) {
  int64_t pools = 0, i = q->run_begin[first];
  for (int64_t r = first; r < end; r++) {
    int64_t start = i, stop = q->run_begin[r + 1], all_rows = IS_ROW;
    for (; i < stop; i++) all_rows &= q->row[key_of(q, i)];
    pools += !all_rows;
    if (all_rows)
      for (int64_t j = start; j < stop; j++) q->row[key_of(q, j)] |= IS_NEEDED;
  }
  return pools;
}

static int64_t count_pooled(const cover_request_t *q, int64_t first, int64_t end) {
  int64_t pooled = 0;
  for (int64_t i = q->run_begin[first]; i < q->run_begin[end]; i++)
    pooled += !(q->row[key_of(q, i)] & IS_ROW);
  return pooled;
}

/* ---- passes over the keys of one (owner, table): [first, end) ---- */

static void clear_keys(const cover_request_t *q, int64_t first, int64_t end) {
  memset(degree_of(q, first), 0, (size_t)(end - first) * 2 * sizeof *q->scratch);
}

static void count_keys(const cover_request_t *q, int table, int64_t first, int64_t end, histogram_t *h) {
  for (int64_t key = first; key < end; key++) {
    int64_t degree = *degree_of(q, key);
    degree = degree < COVER_DEGREES ? degree : COVER_DEGREES;
    h->rows[degree] += degree > 0 ? q->row_cost[table] : 0;
    h->edges[degree] += *pooling_of(q, key);
  }
}

static int64_t choose_rows(const cover_request_t *q, int64_t first, int64_t end, int64_t threshold) {
  int64_t rows = 0;
  for (int64_t key = first; key < end; key++) {
    q->row[key] = *degree_of(q, key) >= threshold;
    rows += q->row[key];
  }
  return rows;
}

/* A pooled key that alone keeps pools worth at least what it costs as a row, less what its edges cost, joins
 * the rows. */
static void promote(const cover_request_t *q, int table, int64_t first, int64_t end) {
  for (int64_t key = first; key < end; key++) {
    int64_t saving = q->row[key] >> SAVING_SHIFT;
    int joins = (saving > 0) & (saving + *pooling_of(q, key) >= q->row_cost[table]);
    q->row[key] = (q->row[key] & IS_ROW) | joins;
  }
}

/* A row that no run needs leaves the rows, unless its edges cost more than it does. Ends the work on row[].
 */
static int64_t demote(const cover_request_t *q, int table, int64_t first, int64_t end) {
  int64_t rows = 0;
  for (int64_t key = first; key < end; key++) {
    int64_t state = q->row[key], dear = *pooling_of(q, key) > q->row_cost[table];
    q->row[key] = state & (state / IS_NEEDED | dear) & IS_ROW;
    rows += q->row[key];
  }
  return rows;
}

/* ---- a table ---- */

/* The degree from which on keys are rows; beyond all degrees where none is. */
static int64_t find_threshold(const histogram_t *h) {
  int64_t cost = 0, least, best = 1;
  for (int d = 1; d <= COVER_DEGREES; d++) cost += h->rows[d];
  least = cost;
  for (int t = 2; t <= COVER_DEGREES + 1; t++) {
    cost += h->pools[t - 1] + h->edges[t - 1] - h->rows[t - 1];
    if (cost >= least) continue;
    least = cost;
    best = t;
  }
  return best <= COVER_DEGREES ? best : INT64_MAX;
}

/* The passes by name, so that one walk over owners and features serves them all. */
typedef enum pass { DEGREES, RUNS, SAVINGS, NEEDS, POOLED } pass_t;

static void over_edges(const cover_request_t *q, int table, pass_t pass, histogram_t *h) {
  for (int f = 0; f < q->features; f++) {
    if (q->feature_table[f] != table) continue;
    for (int owner = 0; owner < q->ranks; owner++) {
      int64_t block = (int64_t)owner * q->features + f;
      int64_t first = q->run_block[block], end = q->run_block[block + 1];
      if (first == end || !is_wanted(q, owner, table)) continue;
      if (pass == DEGREES) count_degrees(q, f, first, end);
      if (pass == RUNS) count_runs(q, f, first, end, h);
      if (pass == SAVINGS) find_savings(q, f, first, end);
      if (pass == NEEDS) q->pool_runs[block] = find_needs(q, first, end);
      if (pass == POOLED) q->pool_edges[block] = count_pooled(q, first, end);
    }
  }
}

typedef enum key_pass { CLEAR, KEYS, CHOOSE, PROMOTE, DEMOTE } key_pass_t;

static void over_keys(const cover_request_t *q, int table, key_pass_t pass, histogram_t *h,
                      int64_t threshold) {
  for (int owner = 0; owner < q->ranks; owner++) {
    int64_t block = (int64_t)owner * q->tables + table;
    int64_t first = q->key_block[block], end = q->key_block[block + 1];
    if (first == end || !is_wanted(q, owner, table)) continue;
    if (pass == CLEAR) clear_keys(q, first, end);
    if (pass == KEYS) count_keys(q, table, first, end, h);
    if (pass == CHOOSE) q->row_count[block] = choose_rows(q, first, end, threshold);
    if (pass == PROMOTE) promote(q, table, first, end);
    if (pass == DEMOTE) q->row_count[block] = demote(q, table, first, end);
  }
}

static void cover_table(const cover_request_t *q, int table) {
  histogram_t h = {0};
  over_keys(q, table, CLEAR, NULL, 0);
  over_edges(q, table, DEGREES, NULL);
  over_keys(q, table, KEYS, &h, 0);
  over_edges(q, table, RUNS, &h);
  int64_t threshold = find_threshold(&h);
  over_keys(q, table, CHOOSE, NULL, threshold);
  if (threshold == 1) return; /* rows only: nothing to add or to drop, and no pools */
  over_edges(q, table, SAVINGS, NULL);
  over_keys(q, table, PROMOTE, NULL, 0);
  over_edges(q, table, NEEDS, NULL);
  over_keys(q, table, DEMOTE, NULL, 0);
  over_edges(q, table, POOLED, NULL);
}

static void cpu_cover(kernel_t *k, kernel_stream_t *stream, const cover_request_t *q) {
  (void)stream;
  size_t runs = (size_t)q->ranks * (size_t)q->features * sizeof *q->pool_runs;
  memset(q->row, 0, (size_t)q->key_count * sizeof *q->row);
  memset(q->row_count, 0, (size_t)q->ranks * (size_t)q->tables * sizeof *q->row_count);
  memset(q->pool_runs, 0, runs);
  memset(q->pool_edges, 0, runs);
  int threads = q->key_count < THREADED_LEAST ? 1 : k->threads; /* no table reads what is another's */
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (int table = 0; table < q->tables; table++) cover_table(q, table);
}

static int is_row(share_t share, const int64_t *row, int64_t key) {
  return share == SHARE_MIXED ? row[key] != 0 : share == SHARE_ROWS;
}

static void cpu_key_classes(kernel_t *k, kernel_stream_t *stream, const int64_t *key_block, int64_t blocks,
                            const share_t *forward, const share_t *backward, const int64_t *row,
                            int64_t *bucket) {
  static const int class_of[2][2] = {{CLASS_POOL_POOL, CLASS_POOL_ROW}, {CLASS_ROW_POOL, CLASS_ROW_ROW}};
  (void)k, (void)stream;
  for (int64_t b = 0; b < blocks; b++) {
    share_t there = forward[b] == SHARE_NONE ? backward[b] : forward[b];
    share_t back = backward[b] == SHARE_NONE ? forward[b] : backward[b];
    for (int64_t key = key_block[b]; key < key_block[b + 1]; key++)
      bucket[key] = CLASSES * b + class_of[is_row(there, row, key)][is_row(back, row, key)];
  }
}

void cpu_cover_ops(kernel_ops_t *ops) {
  ops->cover = cpu_cover;
  ops->key_classes = cpu_key_classes;
}
