/* Which rows travel as rows: small cases against the rules of cover_request_t written out plainly; large ones
 * against the exact minimum, by matching (Koenig; Hopcroft and Karp 1973); and the classes of keys. */
#include "kernel_case.h"

#include <math.h>
#include <string.h>

Suite *kernel_cover_suite(void);

enum { ROUNDS = 400, RANKS = 3, TABLES = 3, FEATURES = 4 };

/* A request whose arrays are all on the host, with their sizes. */
typedef struct covered {
  cover_request_t q;
  int64_t runs, edges;
} covered_t;

static void check_ints(const char *what, const int64_t *got, const int64_t *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(got[i] == wanted[i], "%s[%lld] is %lld, not %lld", what, (long long)i, (long long)got[i],
                  (long long)wanted[i]);
}

static int64_t table_block(const cover_request_t *q, int owner, int feature) {
  return (int64_t)owner * q->tables + q->feature_table[feature];
}

static int64_t key_of(const cover_request_t *q, int64_t place) {
  return q->which[q->order[place]];
}

/* Room for the results. */
static void take_results(kernel_case_t *c, cover_request_t *q) {
  q->row = arena_ints(&c->arena, q->key_count);
  q->row_count = arena_ints(&c->arena, (int64_t)q->ranks * q->tables);
  q->pool_runs = arena_ints(&c->arena, (int64_t)q->ranks * q->features);
  q->pool_edges = arena_ints(&c->arena, (int64_t)q->ranks * q->features);
}

/* The kernel's results, in arrays of the host that are not those of `on`. */
static cover_request_t run_kernel(kernel_case_t *c, const covered_t *on) {
  cover_request_t got = on->q, q = on->q;
  take_results(c, &got);
  memset(got.row_count, -1, (size_t)(q.ranks * q.tables) * sizeof *got.row_count);
  memset(got.pool_runs, -1, (size_t)(q.ranks * q.features) * sizeof *got.pool_runs);
  memset(got.pool_edges, -1, (size_t)(q.ranks * q.features) * sizeof *got.pool_edges);
  q = got;
  q.run_begin = kernel_put_ints(c, on->q.run_begin, on->runs + 1);
  q.order = kernel_put_ints(c, on->q.order, on->edges);
  q.which = kernel_put_ints(c, on->q.which, on->edges);
  q.row = kernel_new_ints(c, q.key_count);
  q.scratch = kernel_new_ints(c, 2 * q.key_count);
  q.key_block = kernel_put_ints(c, on->q.key_block, (int64_t)q.ranks * q.tables + 1);
  q.run_block = kernel_put_ints(c, on->q.run_block, (int64_t)q.ranks * q.features + 1);
  q.run_count = on->runs;
  c->ops->cover(c->kernel, NULL, &q);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
  got.row = kernel_get_ints(c, q.row, q.key_count);
  return got;
}

/* ---- the rules, plainly ---- */

/* Counts of the set q->row, and its cost over one table. */
static int64_t count_and_price(const cover_request_t *q, int table) {
  int64_t cost = 0;
  for (int o = 0; o < q->ranks; o++) {
    int64_t b = (int64_t)o * q->tables + table;
    if (!q->wanted[b]) continue;
    q->row_count[b] = 0;
    for (int64_t k = q->key_block[b]; k < q->key_block[b + 1]; k++) q->row_count[b] += q->row[k];
    cost += q->row_count[b] * q->row_cost[table];
    for (int f = 0; f < q->features; f++) {
      int64_t block = (int64_t)o * q->features + f, pools = 0, pooled = 0;
      if (q->feature_table[f] != table) continue;
      for (int64_t r = q->run_block[block]; r < q->run_block[block + 1]; r++) {
        int64_t before = pooled;
        for (int64_t i = q->run_begin[r]; i < q->run_begin[r + 1]; i++) pooled += !q->row[key_of(q, i)];
        pools += pooled > before;
      }
      q->pool_runs[block] = pools;
      q->pool_edges[block] = pooled;
      cost += pools * q->pool_cost[f] + pooled * q->edge_cost[f];
    }
  }
  return cost;
}

/* What a key's edges and runs say of it. */
typedef struct key_facts {
  int64_t degree, edge_cost; /* of its edges */
  int64_t alone;             /* cost of the pools that only it keeps */
  int needed;                /* a run without a pooled edge has it */
} key_facts_t;

static key_facts_t look_at(const cover_request_t *q, int owner, int table, int64_t key) {
  key_facts_t facts = {0};
  for (int f = 0; f < q->features; f++) {
    int64_t block = (int64_t)owner * q->features + f;
    if (q->feature_table[f] != table) continue;
    for (int64_t r = q->run_block[block]; r < q->run_block[block + 1]; r++) {
      int64_t here = 0, other = 0;
      for (int64_t i = q->run_begin[r]; i < q->run_begin[r + 1]; i++) {
        here += key_of(q, i) == key;
        other += key_of(q, i) != key && !q->row[key_of(q, i)];
      }
      facts.degree += here;
      facts.edge_cost += here * q->edge_cost[f];
      if (here > 0 && other == 0 && q->row[key]) facts.needed = 1;
      if (here > 0 && other == 0 && !q->row[key]) facts.alone += q->pool_cost[f];
    }
  }
  return facts;
}

typedef enum rule { BY_DEGREE, JOINS, LEAVES } rule_t;

/* Applies a rule to all keys of a table at once. */
static void apply(kernel_case_t *c, const cover_request_t *q, int table, rule_t rule, int64_t threshold) {
  int64_t *to = arena_ints(&c->arena, q->key_count);
  memcpy(to, q->row, (size_t)q->key_count * sizeof *to);
  for (int o = 0; o < q->ranks; o++) {
    int64_t b = (int64_t)o * q->tables + table;
    for (int64_t k = q->key_block[b]; k < q->key_block[b + 1] && q->wanted[b]; k++) {
      key_facts_t facts = look_at(q, o, table, k);
      int64_t degree = facts.degree < COVER_DEGREES ? facts.degree : COVER_DEGREES;
      if (rule == BY_DEGREE) to[k] = degree >= threshold;
      if (rule == JOINS && facts.alone > 0 && facts.alone + facts.edge_cost >= q->row_cost[table]) to[k] = 1;
      if (rule == LEAVES && q->row[k] && !facts.needed && facts.edge_cost <= q->row_cost[table]) to[k] = 0;
    }
  }
  memcpy(q->row, to, (size_t)q->key_count * sizeof *to);
}

static void cover_plainly(kernel_case_t *c, const cover_request_t *q) {
  for (int t = 0; t < q->tables; t++) {
    int64_t best = 0, least = INT64_MAX, cost = 0;
    for (int64_t threshold = 1; threshold <= COVER_DEGREES + 1; threshold++) {
      apply(c, q, t, BY_DEGREE, threshold);
      cost = count_and_price(q, t);
      if (cost < least) best = threshold, least = cost;
    }
    apply(c, q, t, BY_DEGREE, best);
    apply(c, q, t, JOINS, 0);
    ck_assert_int_le(count_and_price(q, t), least);
    apply(c, q, t, LEAVES, 0);
    ck_assert_int_le(count_and_price(q, t), least); /* no more than all rows or all pools */
  }
}

/* ---- small cases ---- */

/* Costs alike, and such that either way is the dear one. */
static int64_t *draw_costs(kernel_case_t *c, draw_t *draw, int64_t low, int64_t scales, int count) {
  static const int64_t most[] = {2, 6, 40, 2000};
  int64_t *cost = arena_ints(&c->arena, count);
  for (int i = 0; i < count; i++) cost[i] = draw_between(draw, low, most[draw_below(draw, scales)]);
  return cost;
}

static int single_runs; /* 1: most blocks have runs of one edge alone */

/* Runs of a block with `keys` keys from `first` on; some keys far above COVER_DEGREES. */
static void draw_runs(draw_t *draw, covered_t *on, int64_t first, int64_t keys) {
  int64_t *begin = (int64_t *)on->q.run_begin, *which = (int64_t *)on->q.which;
  int64_t runs = keys == 0 ? 0 : draw_below(draw, draw_one_in(draw, 3) ? 80 : 7);
  int64_t longest = single_runs && !draw_one_in(draw, 3) ? 1 : 4;
  for (int64_t r = 0; r < runs; r++) {
    int64_t length = draw_between(draw, 1, longest);
    for (int64_t i = 0; i < length; i++) /* low keys are hot */
      which[on->q.order[on->edges++]] = first + draw_below(draw, 1 + draw_below(draw, keys));
    begin[++on->runs] = on->edges;
  }
}

static covered_t draw_cover(kernel_case_t *c, draw_t *draw) {
  enum { EDGES = RANKS * FEATURES * 80 * 4 };
  covered_t on = {.q = {.ranks = (int)draw_between(draw, 1, RANKS),
                        .tables = (int)draw_between(draw, 1, TABLES),
                        .features = (int)draw_between(draw, 1, FEATURES)}};
  cover_request_t *q = &on.q;
  int blocks = q->ranks * q->tables;
  int *feature_table = arena_alloc(&c->arena, FEATURES, sizeof *feature_table);
  int *wanted = arena_alloc(&c->arena, blocks, sizeof *wanted);
  int64_t *run_block = arena_ints(&c->arena, (int64_t)q->ranks * q->features + 1);
  for (int f = 0; f < q->features; f++) feature_table[f] = (int)draw_below(draw, q->tables);
  for (int b = 0; b < blocks; b++) wanted[b] = !draw_one_in(draw, 5);
  q->feature_table = feature_table, q->wanted = wanted, q->run_block = run_block;
  q->key_block = kernel_draw_segments(c, draw, blocks, 8);
  q->key_count = q->key_block[blocks];
  q->run_begin = arena_ints(&c->arena, EDGES + 1);
  q->order = kernel_draw_order(c, draw, EDGES);
  q->which = arena_ints(&c->arena, EDGES);
  for (int o = 0; o < q->ranks; o++)
    for (int f = 0; f < q->features; f++) {
      int64_t b = table_block(q, o, f), first = q->key_block[b];
      draw_runs(draw, &on, first, q->key_block[b + 1] - first);
      run_block[o * q->features + f + 1] = on.runs;
    }
  on.edges = EDGES; /* the lists' length: places beyond the runs are read by none */
  q->row_cost = draw_costs(c, draw, 1, 4, q->tables);
  q->pool_cost = draw_costs(c, draw, 1, 4, q->features);
  q->edge_cost = draw_costs(c, draw, 0, 3, q->features);
  take_results(c, q);
  return on;
}

/* Those that are not worth it are as good as not wanted. */
static void check_only_worth(kernel_case_t *c, covered_t *on) {
  cover_request_t *q = &on->q, got;
  int blocks = q->ranks * q->tables, *worth = arena_alloc(&c->arena, blocks, sizeof *worth);
  q->only_worth = 1;
  got = run_kernel(c, on);
  for (int o = 0; o < q->ranks; o++)
    for (int f = 0; f < q->features; f++) {
      const int64_t *run = q->run_block + o * q->features + f, b = table_block(q, o, f);
      worth[b] |= q->wanted[b] && q->run_begin[run[1]] - q->run_begin[run[0]] > run[1] - run[0];
    }
  q->only_worth = 0;
  q->wanted = worth;
  cover_request_t wanted = run_kernel(c, on);
  check_ints("row", got.row, wanted.row, q->key_count);
  check_ints("row_count", got.row_count, wanted.row_count, blocks);
  check_ints("pool_runs", got.pool_runs, wanted.pool_runs, (int64_t)q->ranks * q->features);
  check_ints("pool_edges", got.pool_edges, wanted.pool_edges, (int64_t)q->ranks * q->features);
}

/* Runs of one edge in every third block of a list. */
START_TEST(covers_of_what_is_worth_it) {
  int left_out = 0;
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    draw_t draw = draw_start(7, number);
    kernel_case_open(&c, _i);
    single_runs = 1;
    covered_t on = draw_cover(&c, &draw);
    single_runs = 0;
    const int *wanted = on.q.wanted;
    check_only_worth(&c, &on);
    for (int b = 0; b < on.q.ranks * on.q.tables; b++) left_out += wanted[b] && !on.q.wanted[b];
    kernel_case_close(&c);
  }
  ck_assert_int_gt(left_out, ROUNDS / 4);
}
END_TEST

START_TEST(covers_follow_the_rules) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    draw_t draw = draw_start(1, number);
    kernel_case_open(&c, _i);
    covered_t on = draw_cover(&c, &draw);
    cover_request_t *q = &on.q, got = run_kernel(&c, &on);
    cover_plainly(&c, q);
    check_ints("row", got.row, q->row, q->key_count);
    check_ints("row_count", got.row_count, q->row_count, (int64_t)q->ranks * q->tables);
    check_ints("pool_runs", got.pool_runs, q->pool_runs, (int64_t)q->ranks * q->features);
    check_ints("pool_edges", got.pool_edges, q->pool_edges, (int64_t)q->ranks * q->features);
    kernel_case_close(&c);
  }
}
END_TEST

/* `times` runs of the keys [first, end), in one feature. */
typedef struct same_runs {
  int feature;
  int64_t first, end, times;
} same_runs_t;

/* One owner and one table with two features; what is to be a row, by key. */
static void check_made(kernel_case_t *c, const same_runs_t *made, int count, const int64_t cost[5],
                       const int64_t *wanted, int64_t keys) {
  enum { EDGES = 1000 };
  static const int feature_table[] = {0, 0}, all[] = {1};
  int64_t key_block[] = {0, keys}, run_block[3] = {0}, *begin = arena_ints(&c->arena, EDGES + 1);
  int64_t *which = arena_ints(&c->arena, EDGES), *order = arena_ints(&c->arena, EDGES);
  covered_t on = {.edges = EDGES};
  on.q = (cover_request_t){.ranks = 1,
                           .tables = 1,
                           .features = 2,
                           .feature_table = feature_table,
                           .wanted = all,
                           .key_block = key_block,
                           .run_block = run_block,
                           .run_begin = begin,
                           .order = order,
                           .which = which,
                           .key_count = keys,
                           .row_cost = cost,
                           .pool_cost = cost + 1,
                           .edge_cost = cost + 3};
  for (int64_t e = 0; e < EDGES; e++) order[e] = e;
  for (int i = 0, edges = 0; i < count; i++)
    for (int64_t r = 0; r < made[i].times; r++) {
      for (int64_t k = made[i].first; k < made[i].end; k++) which[edges++] = k;
      begin[++on.runs] = edges;
      for (int f = made[i].feature; f < 2; f++) run_block[f + 1] = on.runs;
    }
  check_ints("row", run_kernel(c, &on).row, wanted, keys);
}

/* Keys that are told apart by the highest degrees alone; and dear edges of keys that alone keep no pool. */
START_TEST(covers_of_made_cases) {
  static const same_runs_t degrees[] = {{0, 0, 2, 250}, {1, 2, 5, COVER_DEGREES - 1}};
  static const same_runs_t edges[] = {{0, 2, 6, 1}, {0, 6, 10, 1}, {1, 0, 2, 1}};
  static const int64_t costs[2][5] = {{100, 1, 1, 0, 0}, {20, 1, 1, 0, 30}}; /* row; pools; edges */
  static const int64_t hot[5] = {1, 1}, none[10] = {0};
  kernel_case_t c;
  kernel_case_open(&c, _i);
  check_made(&c, degrees, 2, costs[0], hot, 5);
  check_made(&c, edges, 3, costs[1], none, 10);
  kernel_case_close(&c);
}
END_TEST

/* ---- how near to the minimum ---- */

/* The bipartite graph of runs and keys, and its matching. */
typedef struct matching {
  int64_t runs, keys;
  const int64_t *begin, *key; /* edges of run r: key[begin[r] .. begin[r + 1]) */
  int64_t *run_mate, *key_mate, *layer, *next, *queue;
} matching_t;

/* Layers of runs by their distance from a free one. Returns 1 if a free key is met. */
static int find_layers(const matching_t *m) {
  int64_t head = 0, tail = 0;
  int found = 0;
  for (int64_t r = 0; r < m->runs; r++) {
    m->layer[r] = m->run_mate[r] < 0 ? 0 : -1;
    m->next[r] = m->begin[r];
    if (m->run_mate[r] < 0) m->queue[tail++] = r;
  }
  while (head < tail) {
    int64_t r = m->queue[head++];
    for (int64_t e = m->begin[r]; e < m->begin[r + 1]; e++) {
      int64_t mate = m->key_mate[m->key[e]];
      if (mate < 0) found = 1;
      if (mate < 0 || m->layer[mate] >= 0) continue;
      m->layer[mate] = m->layer[r] + 1;
      m->queue[tail++] = mate;
    }
  }
  return found;
}

static int augment(const matching_t *m, int64_t r) {
  for (; m->next[r] < m->begin[r + 1]; m->next[r]++) {
    int64_t key = m->key[m->next[r]], mate = m->key_mate[key];
    if (mate >= 0 && (m->layer[mate] != m->layer[r] + 1 || !augment(m, mate))) continue;
    m->run_mate[r] = key;
    m->key_mate[key] = r;
    return 1;
  }
  m->layer[r] = -1;
  return 0;
}

/* The maximum matching, which is the minimum cover. */
static int64_t minimum_cover(kernel_case_t *c, const covered_t *on) {
  matching_t m = {.runs = on->runs, .keys = on->q.key_count, .begin = on->q.run_begin};
  int64_t *key = arena_ints(&c->arena, on->edges), pairs = 0;
  for (int64_t i = 0; i < on->edges; i++) key[i] = key_of(&on->q, i);
  m.key = key;
  m.run_mate = arena_ints(&c->arena, m.runs);
  m.key_mate = arena_ints(&c->arena, m.keys);
  m.layer = arena_ints(&c->arena, m.runs);
  m.next = arena_ints(&c->arena, m.runs);
  m.queue = arena_ints(&c->arena, m.runs);
  for (int64_t r = 0; r < m.runs; r++) m.run_mate[r] = -1;
  for (int64_t k = 0; k < m.keys; k++) m.key_mate[k] = -1;
  while (find_layers(&m))
    for (int64_t r = 0; r < m.runs; r++)
      if (m.run_mate[r] < 0) pairs += augment(&m, r);
  return pairs;
}

enum { BATCH = 2048, ROWS = 1000000 };

/* A row's rank by popularity, Zipf with exponent z (0: uniform), by its share of the integral. */
static int64_t draw_row(draw_t *draw, double z) {
  double u = draw_unit(draw), top = pow(ROWS + 1.0, 1 - z);
  int64_t row = z > 0 ? (int64_t)pow(1 + u * (top - 1), 1 / (1 - z)) - 1 : (int64_t)(u * ROWS);
  return row < ROWS ? row : ROWS - 1;
}

/* One feature, BATCH bags of `length`; rows are dealt to owners by a hash. Groups are made by the kernel's
 * own ops, as a route does. */
static covered_t draw_batch(kernel_case_t *c, draw_t *draw, double z, int64_t length, int ranks) {
  static const int table[] = {0};
  int64_t edges = BATCH * length, distinct = 0, *key = arena_ints(&c->arena, edges);
  int64_t *slot = arena_ints(&c->arena, edges), *first = arena_ints(&c->arena, ranks + 1);
  int64_t *run_block = arena_ints(&c->arena, ranks + 1), *key_block = arena_ints(&c->arena, ranks + 1);
  int *wanted = arena_alloc(&c->arena, ranks, sizeof *wanted);
  for (int64_t e = 0; e < edges; e++) {
    int64_t row = draw_row(draw, z);
    key[e] = (int64_t)((uint64_t)row * 2654435761u % (uint64_t)ranks) * ROWS + row;
    slot[e] = e / length;
  }
  for (int64_t o = 0; o <= ranks; o++) first[o] = o * ROWS;
  for (int o = 0; o < ranks; o++) wanted[o] = 1;
  unique_request_t u = {.count = edges,
                        .key = kernel_put_ints(c, key, edges),
                        .key_limit = (int64_t)ranks * ROWS,
                        .distinct = kernel_new_ints(c, edges),
                        .begin = kernel_new_ints(c, edges + 1),
                        .member = kernel_new_ints(c, edges),
                        .which = kernel_new_ints(c, edges),
                        .scratch = kernel_new_ints(c, unique_scratch(edges, 0, (int64_t)ranks * ROWS))};
  c->ops->unique(c->kernel, NULL, &u, &distinct);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
  c->ops->lower_bounds(c->kernel, NULL, u.distinct, distinct, first, ranks + 1, key_block);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
  int64_t *group = kernel_new_ints(c, edges), *begin = kernel_new_ints(c, ranks + 2),
          *slots = kernel_put_ints(c, slot, edges);
  int64_t *order = kernel_new_ints(c, edges), *run_begin = kernel_new_ints(c, edges + 1);
  edge_groups_t groups = {edges, u.which, slots, NULL, ranks, 1, key_block, BATCH, group};
  c->ops->edge_groups(c->kernel, NULL, &groups);
  c->ops->bucket(c->kernel, NULL, group, edges, ranks + 1, begin, order);
  run_list_t list = {slots,     order, begin, ranks, edges, run_begin, kernel_new_ints(c, edges),
                     run_block, NULL};
  c->ops->runs(c->kernel, NULL, &list);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
  return (covered_t){.q = {.ranks = ranks,
                           .tables = 1,
                           .features = 1,
                           .feature_table = table,
                           .wanted = wanted,
                           .key_block = key_block,
                           .run_block = run_block,
                           .run_begin = kernel_get_ints(c, run_begin, run_block[ranks] + 1),
                           .order = kernel_get_ints(c, order, edges),
                           .which = kernel_get_ints(c, u.which, edges),
                           .key_count = distinct},
                     .runs = run_block[ranks],
                     .edges = edges};
}

static void check_quality(kernel_case_t *c, covered_t *on, double z, int64_t length) {
  static const int64_t costs[][3] = {{1, 1, 0}, {64 * 32 + 20, 64 * 32 + 11, 18}}; /* row, pool, edge */
  int64_t least = minimum_cover(c, on);
  for (int i = 0; i < 2; i++) {
    on->q.row_cost = &costs[i][0], on->q.pool_cost = &costs[i][1], on->q.edge_cost = &costs[i][2];
    cover_request_t got = run_kernel(c, on), again = got;
    take_results(c, &again);
    again.row = got.row;
    int64_t cost = count_and_price(&again, 0), vectors = 0;
    check_ints("row_count", got.row_count, again.row_count, got.ranks);
    check_ints("pool_runs", got.pool_runs, again.pool_runs, got.ranks);
    check_ints("pool_edges", got.pool_edges, again.pool_edges, got.ranks);
    for (int o = 0; o < got.ranks; o++) vectors += got.row_count[o] + got.pool_runs[o];
    ck_assert_msg(10 * vectors <= 11 * least && vectors >= least,
                  "z %g, %lld a bag, %d ranks: %lld vectors, %lld are possible", z, (long long)length,
                  got.ranks, (long long)vectors, (long long)least);
    ck_assert_int_le(cost, got.key_count * costs[i][0]);
    ck_assert_int_le(cost, on->runs * costs[i][1] + on->edges * costs[i][2]);
  }
}

START_TEST(covers_are_near_the_minimum) {
  static const double exponents[] = {0, 1.05};
  static const int64_t lengths[] = {1, 10, 40};
  static const int ranks[] = {8, 64};
  for (uint64_t i = 0; i < 12; i++) {
    kernel_case_t c;
    double z = exponents[i % 2];
    int64_t length = lengths[i / 2 % 3];
    draw_t draw = draw_start(2, i);
    kernel_case_open(&c, _i);
    covered_t on = draw_batch(&c, &draw, z, length, ranks[i / 6]);
    check_quality(&c, &on, z, length);
    kernel_case_close(&c);
  }
}
END_TEST

/* ---- classes ---- */

static int travels_as_row(share_t share, share_t other, int64_t row) {
  if (share == SHARE_NONE) share = other;
  return share == SHARE_ROWS || (share == SHARE_MIXED && row);
}

START_TEST(classes_of_keys_by_both_directions) {
  static const int classes[2][2] = {{CLASS_POOL_POOL, CLASS_POOL_ROW}, {CLASS_ROW_POOL, CLASS_ROW_ROW}};
  for (uint64_t number = 0; number < 40; number++) {
    kernel_case_t c;
    draw_t draw = draw_start(3, number);
    kernel_case_open(&c, _i);
    int64_t blocks = 16, *block = kernel_draw_segments(&c, &draw, blocks, 6), keys = block[blocks];
    int64_t *row = arena_ints(&c.arena, keys), *wanted = arena_ints(&c.arena, keys);
    int64_t *bucket = kernel_new_ints(&c, keys);
    share_t forward[16], backward[16];
    for (int b = 0; b < 16; b++) forward[b] = (share_t)(b % 4), backward[b] = (share_t)(b / 4);
    for (int64_t k = 0; k < keys; k++) row[k] = draw_below(&draw, 2);
    for (int b = 0; b < 16; b++)
      for (int64_t k = block[b]; k < block[b + 1]; k++)
        wanted[k] = CLASSES * b + classes[travels_as_row(forward[b], backward[b], row[k])]
                                         [travels_as_row(backward[b], forward[b], row[k])];
    c.ops->key_classes(c.kernel, NULL, block, blocks, forward, backward, kernel_put_ints(&c, row, keys),
                       bucket);
    check_ints("bucket", kernel_get_ints(&c, bucket, keys), wanted, keys);
    kernel_case_close(&c);
  }
}
END_TEST

Suite *kernel_cover_suite(void) {
  Suite *suite = suite_create("kernel_cover");
  TCase *test_case = tcase_create("kernel_cover");
  tcase_set_timeout(test_case, 60); /* sanitizers on a busy machine */
  tcase_add_loop_test(test_case, covers_follow_the_rules, 0, kernel_case_count());
  tcase_add_loop_test(test_case, covers_of_what_is_worth_it, 0, kernel_case_count());
  tcase_add_loop_test(test_case, covers_of_made_cases, 0, kernel_case_count());
  tcase_add_loop_test(test_case, covers_are_near_the_minimum, 0, kernel_case_count());
  tcase_add_loop_test(test_case, classes_of_keys_by_both_directions, 0, kernel_case_count());
  suite_add_tcase(suite, test_case);
  return suite;
}
