/* The kernels' integer ops, each against what its contract in kernel.h says, written out plainly here. */
#include "kernel_case.h"

#include <string.h>

Suite *kernel_integer_suite(void);

enum { ROUNDS = 60, FEATURES_MAX = 3, RANKS = 3 };

/* Dies with the first place where two arrays differ. */
static void check_ints(const char *what, const int64_t *got, const int64_t *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(got[i] == wanted[i], "%s[%lld] is %lld, not %lld", what, (long long)i, (long long)got[i],
                  (long long)wanted[i]);
}

/* ---- edges ---- */

typedef struct edges_case {
  edges_feature_t features[FEATURES_MAX];
  int64_t *offset[FEATURES_MAX]; /* [bags + 1] of each feature, whatever its form */
  int64_t *index[FEATURES_MAX];
  int64_t entries, first[FEATURES_MAX + 1];
  plan_t *plan;
  edges_request_t request;
} edges_case_t;

static const void *as_type(kernel_case_t *c, sbag_index_t type, const int64_t *values, int64_t count) {
  if (type == SBAG_I64) return values;
  int32_t *narrow = arena_alloc(&c->arena, count, sizeof *narrow);
  for (int64_t i = 0; i < count; i++) narrow[i] = (int32_t)values[i];
  return narrow;
}

static sbag_bags_t draw_bags(kernel_case_t *c, draw_t *draw, int64_t bags, int64_t low, int64_t high,
                             int64_t **offset, int64_t **index) {
  sbag_bags_t made = {.index_type = draw_one_in(draw, 2) ? SBAG_I32 : SBAG_I64};
  if (draw_one_in(draw, 3)) {
    made.bag_length = draw_between(draw, 0, 4);
    *offset = arena_ints(&c->arena, bags + 1);
    for (int64_t b = 0; b <= bags; b++) (*offset)[b] = b * made.bag_length;
  } else {
    made.include_last_offset = draw_one_in(draw, 2);
    made.offset_count = bags + made.include_last_offset;
    *offset = kernel_draw_segments(c, draw, bags, 4);
    made.offsets = as_type(c, made.index_type, *offset, bags + 1);
  }
  made.index_count = (*offset)[bags];
  *index = arena_ints(&c->arena, made.index_count);
  for (int64_t i = 0; i < made.index_count; i++) (*index)[i] = draw_between(draw, low, high);
  made.indices = as_type(c, made.index_type, *index, made.index_count);
  return made;
}

static void draw_edges(kernel_case_t *c, draw_t *draw, edges_case_t *e) {
  sbag_table_options_t tables[FEATURES_MAX];
  sbag_status_t status = {0};
  int features = (int)draw_between(draw, 1, FEATURES_MAX), drop = draw_one_in(draw, 2);
  int64_t bags = draw_between(draw, 0, 5);
  *e = (edges_case_t){.request = {.feature_count = features, .bag_count = bags, .drop = drop}};
  for (int f = 0; f < features; f++) {
    tables[f] = sbag_table_options_default("t", draw_between(draw, 1, 20), 1);
    tables[f].layout = (sbag_layout_t)draw_below(draw, 3);
  }
  ck_assert_int_eq(plan_create(c->mem, RANKS, tables, features, &e->plan, &status), SBAG_OK);
  for (int f = 0; f < features; f++) {
    edges_feature_t *feature = &e->features[f];
    int64_t rows = tables[f].num_embeddings, beyond = drop ? 3 : 0;
    *feature = (edges_feature_t){.num_embeddings = rows,
                                 .padding_idx = draw_one_in(draw, 2) ? -1 : draw_below(draw, rows),
                                 .touch_padding = draw_one_in(draw, 2),
                                 .plan = &e->plan->tables[f]};
    feature->bags = draw_bags(c, draw, bags, -beyond, rows - 1 + beyond, &e->offset[f], &e->index[f]);
    e->first[f + 1] = e->first[f] + feature->bags.index_count;
  }
  e->entries = e->first[features];
  e->request.features = e->features;
}

enum { OUT_SLOT_BEGIN, OUT_KEY, OUT_ROW, OUT_SLOT, OUT_ENTRY, OUT_TOUCH, OUTPUTS, ALL_OUTPUTS = 63 };

/* wanted: a bit an output. */
static void take_outputs(kernel_case_t *c, edges_case_t *e, int64_t wanted) {
  edges_request_t *r = &e->request;
  int64_t **out[OUTPUTS] = {&r->slot_begin, &r->key, &r->row, &r->slot, &r->entry, &r->touch};
  for (int i = 0; i < OUTPUTS; i++) {
    int64_t count = i == OUT_SLOT_BEGIN ? r->feature_count * r->bag_count + 1 : e->entries;
    *out[i] = wanted >> i & 1 ? kernel_new_ints(c, count) : NULL;
  }
}

/* Of an output that is wanted. */
static void check_output(kernel_case_t *c, const char *what, const int64_t *got, const int64_t *wanted,
                         int64_t count) {
  if (got != NULL) check_ints(what, kernel_get_ints(c, got, count), wanted, count);
}

static void check_edges(kernel_case_t *c, const edges_case_t *e, const edges_info_t *info) {
  const edges_request_t *r = &e->request;
  int64_t slots = r->feature_count * r->bag_count, edges = 0, touched = 0, dropped = 0, longest = 0;
  int64_t *begin = arena_ints(&c->arena, slots + 1), *wanted[5];
  for (int i = 0; i < 5; i++) wanted[i] = arena_ints(&c->arena, e->entries);
  for (int f = 0; f < r->feature_count; f++)
    for (int64_t b = 0; b < r->bag_count; b++) {
      const edges_feature_t *feature = &e->features[f];
      for (int64_t i = e->offset[f][b]; i < e->offset[f][b + 1]; i++) {
        int64_t row = e->index[f][i];
        if (row < 0 || row >= feature->num_embeddings) {
          dropped++;
        } else if (row == feature->padding_idx) {
          if (feature->touch_padding) wanted[4][touched++] = plan_key(feature->plan, row);
        } else {
          wanted[0][edges] = plan_key(feature->plan, row);
          wanted[1][edges] = row;
          wanted[2][edges] = f * r->bag_count + b;
          wanted[3][edges++] = e->first[f] + i;
        }
      }
      begin[f * r->bag_count + b + 1] = edges;
      if (edges - begin[f * r->bag_count + b] > longest) longest = edges - begin[f * r->bag_count + b];
    }
  ck_assert_int_eq(info->fault, EDGES_FINE);
  ck_assert_int_eq(info->edge_count, edges);
  ck_assert_int_eq(info->touch_count, touched);
  ck_assert_int_eq(info->dropped, dropped);
  ck_assert_int_eq(info->longest, longest);
  ck_assert_int_eq(info->plain, edges == e->entries);
  for (int64_t i = edges; i < e->entries; i++) {
    wanted[0][i] = r->pad;
    wanted[2][i] = 0;
  }
  int64_t padded = r->pad != 0 ? e->entries : edges;
  check_output(c, "slot_begin", r->slot_begin, begin, slots + 1);
  check_output(c, "key", r->key, wanted[0], padded);
  check_output(c, "row", r->row, wanted[1], edges);
  check_output(c, "slot", r->slot, wanted[2], padded);
  check_output(c, "entry", r->entry, wanted[3], edges);
  check_output(c, "touch", r->touch, wanted[4], touched);
}

/* All outputs, some of them, or none: then the batch is only checked. */
START_TEST(edges_are_the_entries_that_count) {
  int plain = 0;
  for (uint64_t number = 0; number < 200; number++) {
    kernel_case_t c;
    edges_case_t e;
    edges_info_t info;
    draw_t draw = draw_start(1, number);
    kernel_case_open(&c, _i);
    draw_edges(&c, &draw, &e);
    take_outputs(&c, &e,
                 number % 2 == 0   ? ALL_OUTPUTS
                 : number % 9 == 0 ? 0
                                   : draw_below(&draw, ALL_OUTPUTS));
    e.request.pad = number % 3 == 0 ? 1000000 + (int64_t)number : 0;
    c.ops->edges_build(c.kernel, NULL, &e.request, &info);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
    check_edges(&c, &e, &info);
    plain += info.plain && e.entries > 0;
    plan_destroy(&e.plan);
    kernel_case_close(&c);
  }
  ck_assert(plain > 0 && plain < 200);
}
END_TEST

/* Two features of three bags and rows 0 to 9; what is changed in them, and the fault it must give. */
typedef struct fault_case {
  int64_t offsets[2][4], indices[2][6];
  int include_last, drop;
  edges_fault_t fault;
  int feature;
  int64_t position, value;
} fault_case_t;

#define FINE_OFFSETS                                                                                         \
  { 0, 2, 4, 6 }
#define FINE_INDICES                                                                                         \
  { 0, 1, 2, 7, 8, 9 }

static const fault_case_t faults[] = {
    {{FINE_OFFSETS, FINE_OFFSETS}, {FINE_INDICES, FINE_INDICES}, 1, 0, EDGES_FINE, 0, 0, 0},
    {{FINE_OFFSETS, FINE_OFFSETS}, {FINE_INDICES, {0, 1, 2, 10, 8, -1}}, 1, 0, EDGES_OUT_OF_RANGE, 1, 3, 10},
    {{FINE_OFFSETS, FINE_OFFSETS}, {{0, 1, 2, 3, 4, -1}, {11}}, 0, 0, EDGES_OUT_OF_RANGE, 0, 5, -1},
    {{{1, 2, 4, 6}, FINE_OFFSETS}, {FINE_INDICES, FINE_INDICES}, 0, 0, EDGES_FIRST_OFFSET, 0, 0, 1},
    {{FINE_OFFSETS, {-1, 2, 4, 6}}, {FINE_INDICES, FINE_INDICES}, 1, 1, EDGES_FIRST_OFFSET, 1, 0, -1},
    {{FINE_OFFSETS, {0, 3, 2, 6}}, {FINE_INDICES, FINE_INDICES}, 0, 0, EDGES_OFFSET_FALLS, 1, 2, 2},
    {{{0, 5, 6, 3}, FINE_OFFSETS}, {FINE_INDICES, FINE_INDICES}, 1, 1, EDGES_OFFSET_FALLS, 0, 3, 3},
    {{FINE_OFFSETS, {0, 2, 7, 8}}, {FINE_INDICES, FINE_INDICES}, 0, 1, EDGES_OFFSET_TOO_BIG, 1, 2, 7},
    {{{0, 2, 4, 5}, FINE_OFFSETS}, {FINE_INDICES, FINE_INDICES}, 1, 0, EDGES_LAST_OFFSET, 0, 3, 5},
    /* The first by feature; within one, its offsets before its indices. */
    {{FINE_OFFSETS, {0, 3, 2, 6}}, {{0, 1, 20}, FINE_INDICES}, 0, 0, EDGES_OUT_OF_RANGE, 0, 2, 20},
    {{FINE_OFFSETS, {0, 3, 2, 6}}, {FINE_INDICES, {20}}, 0, 0, EDGES_OFFSET_FALLS, 1, 2, 2},
};

static void check_fault(kernel_case_t *c, const fault_case_t *wanted, sbag_index_t type) {
  sbag_table_options_t table = sbag_table_options_default("t", 10, 1);
  sbag_status_t status = {0};
  edges_case_t e = {.request = {.feature_count = 2, .bag_count = 3, .drop = wanted->drop}, .entries = 12};
  edges_info_t info;
  ck_assert_int_eq(plan_create(c->mem, 1, &table, 1, &e.plan, &status), SBAG_OK);
  for (int f = 0; f < 2; f++)
    e.features[f] = (edges_feature_t){.bags = {.index_type = type,
                                               .indices = as_type(c, type, wanted->indices[f], 6),
                                               .index_count = 6,
                                               .offsets = as_type(c, type, wanted->offsets[f], 4),
                                               .offset_count = 3 + wanted->include_last,
                                               .include_last_offset = wanted->include_last},
                                      .num_embeddings = 10,
                                      .padding_idx = -1,
                                      .plan = &e.plan->tables[0]};
  e.request.features = e.features;
  take_outputs(c, &e, ALL_OUTPUTS);
  c->ops->edges_build(c->kernel, NULL, &e.request, &info);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
  ck_assert_int_eq(info.fault, wanted->fault);
  if (info.fault == EDGES_FINE) {
    ck_assert_int_eq(info.edge_count, 12);
  } else {
    ck_assert_int_eq(info.fault_feature, wanted->feature);
    ck_assert_int_eq(info.fault_position, wanted->position);
    ck_assert_int_eq(info.fault_value, wanted->value);
    ck_assert(info.edge_count == 0 && info.touch_count == 0 && info.dropped == 0);
  }
  plan_destroy(&e.plan);
}

START_TEST(the_first_fault_is_named) {
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
    for (int type = 0; type < 2; type++) {
      kernel_case_t c;
      kernel_case_open(&c, _i);
      check_fault(&c, &faults[i], type == 0 ? SBAG_I64 : SBAG_I32);
      kernel_case_close(&c);
    }
}
END_TEST

/* Winners of a feature that is not the first, with padding and out-of-range entries among the indices. */
START_TEST(winner_rows_are_index_values) {
  enum { BAGS = 3, DIM = 2, STRIDE = 3, FIRST_ENTRY = 5 };
  static const int64_t index[] = {7, 3, 3, 9, 1};
  static const int64_t begin[] = {2, 4, 4, 6}; /* edges 0 and 1 are another feature's */
  static const int64_t entry[] = {0, 1, FIRST_ENTRY + 0, FIRST_ENTRY + 2, FIRST_ENTRY + 3, FIRST_ENTRY + 4};
  static const int64_t position[BAGS * STRIDE] = {0, 1, 77, -1, -1, 77, 1, 0, 77};
  static const int64_t wanted[BAGS * DIM] = {7, 3, 0, 0, 1, 9};
  for (int type = 0; type < 2; type++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    sbag_index_t as = type == 0 ? SBAG_I64 : SBAG_I32;
    sbag_bags_t bags = {.index_type = as, .indices = as_type(&c, as, index, 5), .index_count = 5};
    int64_t *to = kernel_new_ints(&c, (int64_t)BAGS * DIM);
    c.ops->winner_rows(c.kernel, NULL, &bags, FIRST_ENTRY, kernel_put_ints(&c, begin, BAGS + 1), BAGS, DIM,
                       kernel_put_ints(&c, entry, 6), kernel_put_ints(&c, position, (int64_t)BAGS * STRIDE),
                       STRIDE, to);
    check_ints("row", kernel_get_ints(&c, to, (int64_t)BAGS * DIM), wanted, (int64_t)BAGS * DIM);
    kernel_case_close(&c);
  }
}
END_TEST

/* ---- distinct keys ---- */

/* Without begin and member: the same keys and numbers; and each output alone. In place, as the exchange asks.
 */
static void check_unique_parts(kernel_case_t *c, const unique_request_t *all, const int64_t *key,
                               int64_t found) {
  int64_t count = all->count, first = all->key_limit;
  for (int64_t i = 0; i < count; i++) first = key[i] < first ? key[i] : first;
  for (int part = 0; part < 4; part++) { /* the last: the first one again, with the least key told */
    int64_t *again = kernel_put_ints(c, key, count), least = part == 3 ? first : 0, distinct = -1;
    unique_request_t u = {.count = count,
                          .key = again,
                          .key_first = least,
                          .key_limit = all->key_limit,
                          .distinct = again,
                          .begin = part == 1 ? kernel_new_ints(c, count + 1) : NULL,
                          .member = part == 2 ? kernel_new_ints(c, count) : NULL,
                          .which = part % 3 == 0 ? kernel_new_ints(c, count) : NULL,
                          .scratch = kernel_new_ints(c, unique_scratch(count, least, all->key_limit))};
    int64_t place[] = {0, all->key_limit / 3, all->key_limit}, wanted[3] = {0};
    u.bound = u.place = place;
    u.bounds = 3;
    u.place_at = part > 1 ? kernel_new_ints(c, 3) : NULL;
    const int64_t *listed = kernel_get_ints(c, all->distinct, found);
    for (int i = 0; i < 3; i++)
      for (int64_t d = 0; d < found; d++) wanted[i] += listed[d] < place[i];
    c->ops->unique(c->kernel, NULL, &u, &distinct);
    ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
    ck_assert_int_eq(distinct, found);
    check_ints("places", place, wanted, 3);
    if (u.place_at != NULL) check_ints("places", kernel_get_ints(c, u.place_at, 3), wanted, 3);
    check_ints("distinct", kernel_get_ints(c, again, found), kernel_get_ints(c, all->distinct, found), found);
    if (part % 3 == 0)
      check_ints("which", kernel_get_ints(c, u.which, count), kernel_get_ints(c, all->which, count), count);
    if (part == 1)
      check_ints("begin", kernel_get_ints(c, u.begin, found + 1), kernel_get_ints(c, all->begin, found + 1),
                 found + 1);
    if (part == 2)
      check_ints("member", kernel_get_ints(c, u.member, count), kernel_get_ints(c, all->member, count),
                 count);
  }
}

static void check_unique(kernel_case_t *c, const int64_t *key, int64_t count, int64_t limit) {
  unique_request_t u = {.count = count,
                        .key = kernel_put_ints(c, key, count),
                        .key_limit = limit,
                        .distinct = kernel_new_ints(c, count),
                        .begin = kernel_new_ints(c, count + 1),
                        .member = kernel_new_ints(c, count),
                        .which = kernel_new_ints(c, count),
                        .scratch = kernel_new_ints(c, unique_scratch(count, 0, limit))};
  int64_t found = -1, at = 0;
  c->ops->unique(c->kernel, NULL, &u, &found);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
  ck_assert(found >= 0 && found <= count);
  const int64_t *distinct = kernel_get_ints(c, u.distinct, found);
  const int64_t *begin = kernel_get_ints(c, u.begin, found + 1);
  const int64_t *member = kernel_get_ints(c, u.member, count);
  const int64_t *which = kernel_get_ints(c, u.which, count);
  check_ints("key", kernel_get_ints(c, u.key, count), key, count);
  ck_assert(begin[0] == 0 && begin[found] == count);
  for (int64_t d = 0; d < found; d++) {
    if (d > 0) ck_assert_int_lt(distinct[d - 1], distinct[d]);
    ck_assert_int_lt(begin[d], begin[d + 1]);
    for (int64_t m = begin[d]; m < begin[d + 1]; m++, at++) {
      ck_assert(member[m] >= 0 && member[m] < count);
      if (m > begin[d]) ck_assert_int_lt(member[m - 1], member[m]); /* in order, so none twice */
      ck_assert_int_eq(key[member[m]], distinct[d]);
      ck_assert_int_eq(which[member[m]], d);
    }
  }
  ck_assert_int_eq(at, count);
  check_unique_parts(c, &u, key, found);
}

START_TEST(unique_sorts_and_groups) {
  static const int64_t limits[] = {1, 2, 7, 2048, 2049, (int64_t)1 << 22, (int64_t)1 << 31, (int64_t)1 << 60};
  static const int64_t counts[] = {0, 1, 2, 17, 1000};
  draw_t draw = draw_start(2, 0);
  for (size_t l = 0; l < sizeof limits / sizeof *limits; l++)
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
      for (int repeated = 0; repeated < 2; repeated++) {
        kernel_case_t c;
        kernel_case_open(&c, _i);
        int64_t *key = arena_ints(&c.arena, counts[n]);
        for (int64_t i = 0; i < counts[n]; i++)
          key[i] = i > 0 && repeated && draw_one_in(&draw, 2) ? key[draw_below(&draw, i)]
                                                              : draw_below(&draw, limits[l]);
        if (counts[n] > 2) key[1] = limits[l] - 1;
        check_unique(&c, key, counts[n], limits[l]);
        kernel_case_close(&c);
      }
}
END_TEST

/* ---- sorting, searching, running sums ---- */

START_TEST(bucket_is_a_stable_sort) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(3, number);
    int64_t count = draw_between(&draw, 0, 200), buckets = draw_between(&draw, 1, 30), at = 0;
    int64_t *bucket = arena_ints(&c.arena, count), *wanted = arena_ints(&c.arena, count);
    int64_t *begin = arena_ints(&c.arena, buckets + 1);
    for (int64_t i = 0; i < count; i++) bucket[i] = draw_below(&draw, buckets);
    for (int64_t b = 0; b < buckets; b++) {
      begin[b] = at;
      for (int64_t i = 0; i < count; i++)
        if (bucket[i] == b) wanted[at++] = i;
    }
    begin[buckets] = at;
    int64_t *got_begin = kernel_new_ints(&c, buckets + 1), *got = kernel_new_ints(&c, count);
    c.ops->bucket(c.kernel, NULL, kernel_put_ints(&c, bucket, count), count, buckets, got_begin, got);
    check_ints("begin", kernel_get_ints(&c, got_begin, buckets + 1), begin, buckets + 1);
    check_ints("member", kernel_get_ints(&c, got, count), wanted, count);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(lower_bounds_count_what_is_below) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    enum { BOUNDS = 12 };
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(4, number);
    int64_t count = draw_between(&draw, 0, 50), bound[BOUNDS], place[BOUNDS], below[BOUNDS] = {0};
    int64_t *sorted = kernel_draw_segments(&c, &draw, count, 3); /* ascends, some equal, some empty ranges */
    for (int b = 0; b < BOUNDS; b++) bound[b] = draw_between(&draw, -2, 100);
    for (int b = 0; b < BOUNDS; b++)
      for (int64_t i = 0; i < count; i++) below[b] += sorted[i] < bound[b];
    c.ops->lower_bounds(c.kernel, NULL, kernel_put_ints(&c, sorted, count), count, bound, BOUNDS, place);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
    check_ints("place", place, below, BOUNDS);
    kernel_case_close(&c);
  }
}
END_TEST

/* Runs end where the slot changes and where a group does. */
START_TEST(runs_are_neighbours_of_one_slot_in_one_group) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(5, number);
    int groups = (int)draw_between(&draw, 1, 5);
    int64_t *group = kernel_draw_segments(&c, &draw, groups, 12), count = group[groups], runs = 0;
    int64_t *slot = arena_ints(&c.arena, count), *order = kernel_draw_order(&c, &draw, count);
    int64_t *begin = arena_ints(&c.arena, count + 1), *of = arena_ints(&c.arena, count);
    int64_t *first = arena_ints(&c.arena, groups + 1), *got_first = arena_ints(&c.arena, groups + 1);
    for (int64_t i = 0; i < count; i++) slot[i] = draw_below(&draw, 3);
    for (int g = 0; g < groups; g++) {
      first[g] = runs;
      for (int64_t i = group[g]; i < group[g + 1]; i++)
        if (i == group[g] || slot[order[i]] != slot[order[i - 1]]) {
          begin[runs] = i;
          of[runs++] = slot[order[i]];
        }
    }
    first[groups] = runs;
    begin[runs] = count;
    int64_t *got_begin = kernel_new_ints(&c, count + 1), *got_of = kernel_new_ints(&c, count);
    int64_t more = draw_below(&draw, 20); /* places behind the groups, of any order */
    run_list_t list = {.slot = kernel_put_ints(&c, slot, count),
                       .order = kernel_put_ints(&c, order, count),
                       .group_begin = kernel_put_ints(&c, group, groups + 1),
                       .groups = groups,
                       .most = count + more,
                       .run_begin = got_begin,
                       .run_slot = got_of,
                       .group_run = number % 3 == 0 ? NULL : got_first,
                       .group_run_at = number % 2 == 0 ? kernel_new_ints(&c, groups + 1) : NULL};
    c.ops->runs(c.kernel, NULL, &list);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
    if (list.group_run_at != NULL)
      check_ints("group_run_at", kernel_get_ints(&c, list.group_run_at, groups + 1), first, groups + 1);
    if (list.group_run == NULL) got_first = first;
    check_ints("group_run", got_first, first, groups + 1);
    check_ints("run_begin", kernel_get_ints(&c, got_begin, runs + 1), begin, runs + 1);
    check_ints("run_slot", kernel_get_ints(&c, got_of, runs), of, runs);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(nonempty_segments) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(6, number);
    int64_t count = draw_between(&draw, 0, 40), base = draw_between(&draw, 0, 9), full = 0, got = -1;
    int64_t *begin = kernel_draw_segments(&c, &draw, count, 2);
    int64_t *shifted = arena_ints(&c.arena, count + 1), *wanted = arena_ints(&c.arena, count);
    for (int64_t i = 0; i < count; i++)
      if (begin[i] < begin[i + 1]) wanted[full++] = i;
    for (int64_t i = 0; i <= count; i++) shifted[i] = begin[i] + base;
    int64_t *which = kernel_new_ints(&c, count);
    int64_t *device = kernel_put_ints(&c, shifted, count + 1);
    c.ops->nonempty(c.kernel, NULL, device, count, which, &got);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
    ck_assert_int_eq(got, full);
    check_ints("which", kernel_get_ints(&c, which, full), wanted, full);
    kernel_case_close(&c);
  }
}
END_TEST

/* ---- moving ---- */

START_TEST(gather_fill_and_expand) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(7, number);
    int64_t runs = draw_between(&draw, 0, 20), add = draw_between(&draw, -5, 5), base = draw_below(&draw, 7);
    int64_t *begin = kernel_draw_segments(&c, &draw, runs, 4), count = begin[runs];
    int64_t *value = arena_ints(&c.arena, runs), *index = arena_ints(&c.arena, count);
    int64_t *wanted = arena_ints(&c.arena, count), *plain = arena_ints(&c.arena, runs);
    int64_t *to = kernel_new_ints(&c, count), *few = kernel_new_ints(&c, runs);
    for (int64_t r = 0; r < runs; r++) value[r] = draw_below(&draw, (int64_t)1 << 50);
    for (int64_t r = 0; r < runs; r++) plain[r] = value[r] + add;
    for (int64_t i = 0; i < count; i++) index[i] = draw_below(&draw, runs);
    for (int64_t i = 0; i < count; i++) wanted[i] = value[index[i]] + add;
    int64_t *from = kernel_put_ints(&c, value, runs);
    c.ops->gather_i64(c.kernel, NULL, from, kernel_put_ints(&c, index, count), count, add, to);
    check_ints("gathered", kernel_get_ints(&c, to, count), wanted, count);
    c.ops->gather_i64(c.kernel, NULL, from, NULL, runs, add, few);
    check_ints("shifted", kernel_get_ints(&c, few, runs), plain, runs);
    c.ops->gather_i64(c.kernel, NULL, few, NULL, runs, -add, few); /* in place */
    check_ints("shifted back", kernel_get_ints(&c, few, runs), value, runs);
    for (int64_t i = 0; i < count; i++) wanted[i] = base + i * add;
    c.ops->fill_i64(c.kernel, NULL, to, count, base, add);
    check_ints("filled", kernel_get_ints(&c, to, count), wanted, count);
    for (int64_t r = 0; r < runs; r++)
      for (int64_t i = begin[r]; i < begin[r + 1]; i++) wanted[i] = value[r];
    for (int64_t r = 0; r <= runs; r++) begin[r] += base; /* a part of a longer list of runs */
    c.ops->expand(c.kernel, NULL, kernel_put_ints(&c, begin, runs + 1), from, runs, to);
    check_ints("expanded", kernel_get_ints(&c, to, count), wanted, count);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(select_invert_and_fill_blocks) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(10, number);
    int64_t blocks = draw_between(&draw, 0, 12), *begin = kernel_draw_segments(&c, &draw, blocks, 5);
    int64_t count = begin[blocks], otherwise = draw_between(&draw, -9, 9), *order;
    int64_t *test = arena_ints(&c.arena, count), *from = arena_ints(&c.arena, count);
    int64_t *first = arena_ints(&c.arena, blocks), *step = arena_ints(&c.arena, blocks);
    int64_t *wanted = arena_ints(&c.arena, count), *to = kernel_new_ints(&c, count);
    for (int64_t i = 0; i < count; i++) test[i] = draw_between(&draw, -2, 2);
    for (int64_t i = 0; i < count; i++) from[i] = draw_below(&draw, (int64_t)1 << 50);
    for (int64_t i = 0; i < count; i++) wanted[i] = test[i] >= 0 ? from[i] : otherwise;
    c.ops->select_i64(c.kernel, NULL, kernel_put_ints(&c, test, count), kernel_put_ints(&c, from, count),
                      otherwise, count, to);
    check_ints("selected", kernel_get_ints(&c, to, count), wanted, count);
    order = kernel_draw_order(&c, &draw, count);
    for (int64_t i = 0; i < count; i++) wanted[order[i]] = i;
    c.ops->invert(c.kernel, NULL, kernel_put_ints(&c, order, count), count, to);
    check_ints("inverse", kernel_get_ints(&c, to, count), wanted, count);
    for (int64_t b = 0; b < blocks; b++) {
      first[b] = draw_between(&draw, -50, 50);
      step[b] = draw_between(&draw, -3, 3);
      for (int64_t i = begin[b]; i < begin[b + 1]; i++) wanted[i] = first[b] + (i - begin[b]) * step[b];
    }
    c.ops->fill_blocks(c.kernel, NULL, begin, first, step, blocks, to);
    check_ints("filled", kernel_get_ints(&c, to, count), wanted, count);
    kernel_case_close(&c);
  }
}
END_TEST

/* Owners and bags without an edge, features in order, and keys that are left out. */
START_TEST(groups_of_edges_by_owner_and_feature) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    draw_t draw = draw_start(11, number);
    int ranks = (int)draw_between(&draw, 1, 9), features = (int)draw_between(&draw, 1, 4);
    int64_t bags = draw_between(&draw, 1, 5), slots = features * bags;
    int64_t *owner_key = kernel_draw_segments(&c, &draw, ranks, 4), keys = owner_key[ranks];
    int64_t *begin = kernel_draw_segments(&c, &draw, slots, keys > 0 ? 3 : 0), count = begin[slots];
    int64_t *which = arena_ints(&c.arena, count), *slot = arena_ints(&c.arena, count);
    int64_t *keep = arena_ints(&c.arena, keys), *wanted = arena_ints(&c.arena, count);
    int some = draw_one_in(&draw, 2);
    for (int64_t k = 0; k < keys; k++) keep[k] = draw_below(&draw, 2);
    for (int64_t s = 0; s < slots; s++)
      for (int64_t e = begin[s]; e < begin[s + 1]; e++) {
        int64_t owner = 0;
        which[e] = draw_below(&draw, keys);
        slot[e] = s;
        while (which[e] >= owner_key[owner + 1]) owner++;
        wanted[e] = some && !keep[which[e]] ? (int64_t)ranks * features : owner * features + s / bags;
      }
    edge_groups_t groups = {.count = count,
                            .which = kernel_put_ints(&c, which, count),
                            .slot = kernel_put_ints(&c, slot, count),
                            .keep = some ? kernel_put_ints(&c, keep, keys) : NULL,
                            .ranks = ranks,
                            .features = features,
                            .owner_key = owner_key,
                            .bag_count = bags,
                            .group = kernel_new_ints(&c, count)};
    c.ops->edge_groups(c.kernel, NULL, &groups);
    check_ints("group", kernel_get_ints(&c, groups.group, count), wanted, count);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(positions_of_edges_in_their_bags) {
  kernel_case_t c;
  kernel_case_open(&c, _i);
  draw_t draw = draw_start(8, 0);
  int64_t slots = 30, *begin = kernel_draw_segments(&c, &draw, slots, 5), count = begin[slots];
  int64_t *slot = arena_ints(&c.arena, count), *order = kernel_draw_order(&c, &draw, count);
  int64_t *wanted = arena_ints(&c.arena, count), *to = kernel_new_ints(&c, count);
  for (int64_t s = 0; s < slots; s++)
    for (int64_t e = begin[s]; e < begin[s + 1]; e++) {
      slot[e] = s;
      for (int64_t i = 0; i < count; i++)
        if (order[i] == e) wanted[i] = e - begin[s];
    }
  c.ops->edge_positions(c.kernel, NULL, kernel_put_ints(&c, order, count), kernel_put_ints(&c, slot, count),
                        kernel_put_ints(&c, begin, slots + 1), count, to);
  check_ints("position", kernel_get_ints(&c, to, count), wanted, count);
  kernel_case_close(&c);
}
END_TEST

START_TEST(global_rows_undo_locate) {
  enum { ROWS = 50 };
  for (int layout = 0; layout < 3; layout++) {
    kernel_case_t c;
    plan_t *plan = NULL;
    kernel_case_open(&c, _i);
    sbag_table_options_t table = sbag_table_options_default("t", ROWS, 1);
    table.layout = (sbag_layout_t)layout;
    ck_assert_int_eq(plan_create(c.mem, RANKS, &table, 1, &plan, NULL), SBAG_OK);
    for (int shard = 0; shard < RANKS; shard++) {
      int64_t wanted[ROWS], local[ROWS], count = 0, *rows = kernel_new_ints(&c, ROWS);
      for (int64_t row = ROWS - 1; row >= 0; row--) {
        int of;
        int64_t place;
        plan_locate(&plan->tables[0], row, &of, &place);
        if (of != shard) continue;
        wanted[count] = row;
        local[count++] = place;
      }
      c.ops->global_rows(c.kernel, NULL, &plan->tables[0], shard, kernel_put_ints(&c, local, count), count,
                         rows);
      check_ints("row", kernel_get_ints(&c, rows, count), wanted, count);
    }
    plan_destroy(&plan);
    kernel_case_close(&c);
  }
}
END_TEST

#ifndef SHARDBAG_TEST_CUDA
/* ---- threads ---- */

enum { THREAD_KERNELS = 4 };

static void check_equal(const int64_t *got, const int64_t *wanted, int64_t count) {
  ck_assert_mem_eq(got, wanted, (size_t)count * sizeof *got);
}

/* One thread and three, with no and with all of the machine's instructions, on batches that are worth it. */
static void open_threaded(mem_t *mem, kernel_t **kernel) {
  for (int i = 0; i < THREAD_KERNELS; i++) {
    const kernel_cpu_options_t options = {.threads = i % 2 == 0 ? 1 : 3,
                                          .isa = i < 2 ? ISA_SCALAR : ISA_BEST};
    ck_assert_int_eq(kernel_cpu_create(mem, &options, &kernel[i], NULL), SBAG_OK);
  }
}

static void close_threaded(mem_t *mem, kernel_t **kernel, arena_t *arena) {
  for (int i = 0; i < THREAD_KERNELS; i++) kernel_destroy(&kernel[i]);
  mem_destroy(&mem);
  arena_free(arena);
}

START_TEST(unique_and_bucket_do_not_depend_on_threads) {
  static const int64_t limits[] = {2000, (int64_t)1 << 22, (int64_t)1 << 35, (int64_t)1 << 60};
  enum { COUNT = 70001 };
  kernel_t *kernel[THREAD_KERNELS];
  arena_t arena = {0};
  mem_t *mem = NULL;
  draw_t draw = draw_start(12, (uint64_t)_i);
  int64_t limit = limits[_i], *key = arena_ints(&arena, COUNT), *begin[2], *member[2], *which[2],
          *distinct[2];
  int64_t *scratch = arena_ints(&arena, unique_scratch(COUNT, 0, limit)), found[2];
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  open_threaded(mem, kernel);
  for (int64_t i = 0; i < COUNT; i++) key[i] = draw_below(&draw, draw_one_in(&draw, 3) ? 100 : limit);
  for (int i = 0; i < 2; i++) {
    begin[i] = arena_ints(&arena, COUNT + 1), member[i] = arena_ints(&arena, COUNT);
    which[i] = arena_ints(&arena, COUNT), distinct[i] = arena_ints(&arena, COUNT);
  }
  for (int i = 0; i < 2 * THREAD_KERNELS; i++) {
    int at = i > 0, map = i >= THREAD_KERNELS; /* the first one's results are what the others must give */
    kernel_t *k = kernel[i % THREAD_KERNELS];
    unique_request_t u = {.count = COUNT,
                          .key = key,
                          .key_limit = limit,
                          .distinct = distinct[at],
                          .begin = map ? NULL : begin[at],
                          .member = map ? NULL : member[at],
                          .which = which[at],
                          .scratch = scratch};
    k->ops->unique(k, NULL, &u, &found[at]);
    ck_assert_int_eq(found[at], found[0]);
    check_equal(distinct[at], distinct[0], found[0]);
    check_equal(which[at], which[0], COUNT);
    if (!map) check_equal(begin[at], begin[0], found[0] + 1);
    if (!map) check_equal(member[at], member[0], COUNT);
  }
  for (int i = 0; i < THREAD_KERNELS; i++) { /* by distinct key: begin and member again */
    kernel[i]->ops->bucket(kernel[i], NULL, which[0], COUNT, found[0], begin[1], member[1]);
    check_equal(begin[1], begin[0], found[0] + 1);
    check_equal(member[1], member[0], COUNT);
  }
  close_threaded(mem, kernel, &arena);
}
END_TEST

enum { SORT_BAGS = 20000, SORT_PIECES = 4, SORT_TABLES = 4 };

static int64_t number_of(const row_sort_t *s, int table, int64_t row) {
  int64_t low = s->table_row[table], high = s->table_row[table + 1];
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (s->row[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  ck_assert(low < s->table_row[table + 1] && s->row[low] == row);
  return low;
}

/* Every edge's term is the next of its row, and rows have no others. */
static void check_sorted(const row_sort_t *s, int64_t edges, int64_t *next) {
  const int64_t rows = s->table_row[SORT_TABLES];
  ck_assert(s->table_row[0] == 0 && s->begin[0] == 0 && s->begin[rows] == edges);
  for (int64_t i = 0; i < rows; i++) ck_assert_int_lt(s->begin[i], s->begin[i + 1]);
  memcpy(next, s->begin, (size_t)rows * sizeof *next);
  for (int p = 0; p < SORT_PIECES; p++)
    for (int64_t b = 0; b < SORT_BAGS; b++)
      for (int64_t e = s->pieces[p].begin[b]; e < s->pieces[p].begin[b + 1]; e++) {
        const int64_t row = number_of(s, s->pieces[p].table, s->pieces[p].row[e]);
        ck_assert_int_eq(s->term[next[row]++], s->pieces[p].first_term + b);
      }
  for (int64_t i = 0; i < rows; i++) ck_assert_int_eq(next[i], s->begin[i + 1]);
}

START_TEST(terms_by_row) {
  static const int table[SORT_PIECES] = {0, 0, 2, 3};
  static const int64_t limit[SORT_TABLES] = {2000, 7, (int64_t)1 << 40, 1};
  kernel_t *kernel[THREAD_KERNELS];
  row_piece_t pieces[SORT_PIECES];
  arena_t arena = {0};
  mem_t *mem = NULL;
  draw_t draw = draw_start(31, 0);
  int64_t edges = 0, *begin = arena_ints(&arena, SORT_PIECES * SORT_BAGS + 1), table_row[SORT_TABLES + 1];
  int64_t *row = arena_ints(&arena, 3 * SORT_PIECES * SORT_BAGS);
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  open_threaded(mem, kernel);
  for (int p = 0; p < SORT_PIECES; p++) {
    pieces[p] = (row_piece_t){table[p], begin + p * SORT_BAGS, row, p == 1 ? SORT_BAGS : 0};
    for (int64_t b = 0; b < SORT_BAGS; b++) {
      const int64_t end = edges + draw_between(&draw, 0, 3);
      begin[p * SORT_BAGS + b] = edges;
      for (; edges < end; edges++) row[edges] = draw_below(&draw, limit[table[p]]);
    }
    begin[(p + 1) * SORT_BAGS] = edges;
  }
  ck_assert(edges > 1 << 15);
  row_sort_t sort = {.pieces = pieces,
                     .piece_count = SORT_PIECES,
                     .bag_count = SORT_BAGS,
                     .tables = SORT_TABLES,
                     .row_limit = limit,
                     .term_limit = 2 * SORT_BAGS,
                     .row = arena_ints(&arena, edges),
                     .begin = arena_ints(&arena, edges + 1),
                     .term = arena_ints(&arena, edges),
                     .table_row = table_row,
                     .scratch = arena_ints(&arena, 2 * edges)};
  int64_t *next = arena_ints(&arena, edges);
  for (int i = 0; i < THREAD_KERNELS; i++) {
    kernel[i]->ops->sort_rows(kernel[i], NULL, &sort);
    check_sorted(&sort, edges, next);
  }
  close_threaded(mem, kernel, &arena);
}
END_TEST

enum { LONG_BAGS = 9000 };

/* A batch of three features long enough for threads: offsets, 2-D, and with padding and entries out of range.
 */
static void make_long_batch(arena_t *arena, draw_t *draw, const plan_t *plan, edges_feature_t *feature) {
  for (int f = 0; f < FEATURES_MAX; f++) {
    int64_t *offset = arena_ints(arena, LONG_BAGS), end = 0, beyond = f == 2 ? 5 : 0;
    for (int64_t b = 0; b < LONG_BAGS; b++, end += f == 1 ? 4 : draw_below(draw, 10)) offset[b] = end;
    int64_t *index = arena_ints(arena, end);
    for (int64_t i = 0; i < end; i++) index[i] = draw_between(draw, -beyond, 999 + beyond);
    feature[f] = (edges_feature_t){.bags = {.indices = index, .index_count = end, .bag_length = 4},
                                   .num_embeddings = 1000,
                                   .padding_idx = f == 2 ? 7 : -1,
                                   .touch_padding = 1,
                                   .plan = &plan->tables[f]};
    if (f != 1) feature[f].bags.offsets = offset, feature[f].bags.offset_count = LONG_BAGS;
  }
}

START_TEST(edges_do_not_depend_on_threads) {
  sbag_table_options_t tables[FEATURES_MAX];
  edges_feature_t feature[FEATURES_MAX];
  kernel_t *kernel[THREAD_KERNELS];
  arena_t arena = {0};
  mem_t *mem = NULL;
  plan_t *plan = NULL;
  draw_t draw = draw_start(13, 0);
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  open_threaded(mem, kernel);
  for (int f = 0; f < FEATURES_MAX; f++) {
    tables[f] = sbag_table_options_default("t", 1000, 1);
    tables[f].layout = (sbag_layout_t)f;
  }
  ck_assert_int_eq(plan_create(mem, RANKS, tables, FEATURES_MAX, &plan, NULL), SBAG_OK);
  make_long_batch(&arena, &draw, plan, feature);
  int64_t slots = (int64_t)FEATURES_MAX * LONG_BAGS, entries = 0, *out[2][OUTPUTS];
  for (int f = 0; f < FEATURES_MAX; f++) entries += feature[f].bags.index_count;
  for (int i = 0; i < 2 * OUTPUTS; i++) out[i % 2][i / 2] = arena_ints(&arena, entries + slots + 1);
  edges_info_t info[2];
  for (int i = 0; i < THREAD_KERNELS; i++) {
    int64_t **to = out[i > 0];
    edges_request_t r = {
        feature,      FEATURES_MAX,  LONG_BAGS,     1, to[OUT_SLOT_BEGIN], to[OUT_KEY], to[OUT_ROW],
        to[OUT_SLOT], to[OUT_ENTRY], to[OUT_TOUCH], 0};
    kernel[i]->ops->edges_build(kernel[i], NULL, &r, &info[i > 0]);
    ck_assert_mem_eq(&info[i > 0], &info[0], sizeof info[0]);
    for (int o = 0; o < OUTPUTS; o++) check_equal(to[o], out[0][o], entries);
  }
  ck_assert(info[0].dropped > 0 && info[0].touch_count > 0 && info[0].edge_count > 1 << 15);
  plan_destroy(&plan);
  close_threaded(mem, kernel, &arena);
}
END_TEST
#endif

Suite *kernel_integer_suite(void) {
  Suite *suite = suite_create("kernel_integer");
  TCase *test_case = tcase_create("kernel_integer");
  int kernels = kernel_case_count();
  tcase_add_loop_test(test_case, edges_are_the_entries_that_count, 0, kernels);
  tcase_add_loop_test(test_case, the_first_fault_is_named, 0, kernels);
  tcase_add_loop_test(test_case, winner_rows_are_index_values, 0, kernels);
  tcase_add_loop_test(test_case, unique_sorts_and_groups, 0, kernels);
  tcase_add_loop_test(test_case, bucket_is_a_stable_sort, 0, kernels);
  tcase_add_loop_test(test_case, lower_bounds_count_what_is_below, 0, kernels);
  tcase_add_loop_test(test_case, runs_are_neighbours_of_one_slot_in_one_group, 0, kernels);
  tcase_add_loop_test(test_case, nonempty_segments, 0, kernels);
  tcase_add_loop_test(test_case, gather_fill_and_expand, 0, kernels);
  tcase_add_loop_test(test_case, select_invert_and_fill_blocks, 0, kernels);
  tcase_add_loop_test(test_case, groups_of_edges_by_owner_and_feature, 0, kernels);
  tcase_add_loop_test(test_case, positions_of_edges_in_their_bags, 0, kernels);
  tcase_add_loop_test(test_case, global_rows_undo_locate, 0, kernels);
#ifndef SHARDBAG_TEST_CUDA
  tcase_add_loop_test(test_case, unique_and_bucket_do_not_depend_on_threads, 0, 4);
  tcase_add_test(test_case, terms_by_row);
  tcase_add_test(test_case, edges_do_not_depend_on_threads);
#endif
  suite_add_tcase(suite, test_case);
  return suite;
}
