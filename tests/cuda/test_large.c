/* Integer ops of the GPU against the scalar reference where they take more than one tile, group or block,
 * which the suites of tests/unit do not reach; copies of all kinds; and steps without allocations. */
#include "cuda_case.h"

#include "cuda/cuda_kernel.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *cuda_large_suite(void);

enum { BLOCKS_MOST = 64 };

/* Each array is on the host for the reference and on the device for the GPU. */
typedef struct pair {
  void *host, *device;
  size_t bytes;
} pair_t;

static cuda_case_t fixture;
static pair_t pairs[BLOCKS_MOST];
static int pair_count;
static uint64_t state;

static void set_up(void) {
  cuda_case_open(&fixture);
  pair_count = 0;
  state = 11;
}

static void tear_down(void) {
  for (int i = 0; i < pair_count; i++) {
    cuda_case_drop(&fixture, pairs[i].device);
    free(pairs[i].host);
  }
  cuda_case_close(&fixture);
}

/* An array of 8-byte numbers below the limit, on both sides. */
static pair_t *take(int64_t count, int64_t limit) {
  ck_assert_int_lt(pair_count, BLOCKS_MOST);
  pair_t *p = &pairs[pair_count++];
  p->bytes = (size_t)count * sizeof(int64_t);
  p->host = malloc(p->bytes + 1);
  ck_assert_ptr_nonnull(p->host);
  for (int64_t i = 0; i < count; i++)
    ((int64_t *)p->host)[i] = (int64_t)(cuda_case_random(&state) % (uint64_t)limit);
  p->device = cuda_case_put(&fixture, p->host, p->bytes);
  return p;
}

static int64_t *ints(const pair_t *p) {
  return p->host;
}

/* The host's array, changed since, to the device. */
static void send(const pair_t *p) {
  const copy_part_t part = {p->device, p->host, (int64_t)p->bytes};
  fixture.gpu->ops->copy(fixture.gpu, NULL, &part, 1);
  cuda_case_sync(&fixture);
}

static void expect_same(const char *what, const pair_t *p, int64_t count) {
  int64_t *got = malloc((size_t)count * sizeof *got + 1);
  ck_assert_ptr_nonnull(got);
  cuda_case_get(&fixture, got, p->device, (size_t)count * sizeof *got);
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(got[i] == ints(p)[i], "%s[%lld] is %lld, not %lld", what, (long long)i, (long long)got[i],
                  (long long)ints(p)[i]);
  free(got);
}

/* Segments of 0 to most - 1 items; `begin` of the array is 0. */
static pair_t *take_segments(int64_t segments, int64_t most) {
  pair_t *p = take(segments + 1, most);
  int64_t at = 0;
  for (int64_t i = 0; i <= segments; i++) {
    const int64_t length = ints(p)[i];
    ints(p)[i] = at;
    at += length;
  }
  send(p);
  return p;
}

/* ---- lists ---- */

/* More groups of bits than one turn of the running sums takes. */
START_TEST(nonempty_of_millions) {
  const int64_t count = INT64_C(1024) * 8 * 256 + 300;
  int64_t wanted = -1, got = -1;
  pair_t *begin = take_segments(count, 2), *which = take(count, 9);
  fixture.cpu->ops->nonempty(fixture.cpu, NULL, begin->host, count, which->host, &wanted);
  fixture.gpu->ops->nonempty(fixture.gpu, NULL, begin->device, count, which->device, &got);
  cuda_case_sync(&fixture);
  ck_assert_int_eq(got, wanted);
  expect_same("which", which, count);
}
END_TEST

/* Keys that repeat often and seldom, of 16, 32 and more bits. */
START_TEST(unique_of_many_keys) {
  static const int64_t limits[] = {50, INT64_C(1) << 16, INT64_C(1) << 32, INT64_C(1) << 50};
  const int64_t count = 30000, limit = limits[_i];
  int64_t wanted = -1, got = -1;
  pair_t *key = take(count, limit), *distinct = take(count, 9), *begin = take(count + 1, 9);
  pair_t *member = take(count, 9), *which = take(count, 9), *scratch = take(2 * count, 9);
  const unique_request_t host = {.count = count,
                                 .key = key->host,
                                 .key_limit = limit,
                                 .distinct = distinct->host,
                                 .begin = begin->host,
                                 .member = member->host,
                                 .which = which->host,
                                 .scratch = scratch->host};
  const unique_request_t device = {.count = count,
                                   .key = key->device,
                                   .key_limit = limit,
                                   .distinct = distinct->device,
                                   .begin = begin->device,
                                   .member = member->device,
                                   .which = which->device,
                                   .scratch = scratch->device};
  fixture.cpu->ops->unique(fixture.cpu, NULL, &host, &wanted);
  fixture.gpu->ops->unique(fixture.gpu, NULL, &device, &got);
  cuda_case_sync(&fixture);
  ck_assert_int_eq(got, wanted);
  expect_same("distinct", distinct, wanted);
  expect_same("begin", begin, wanted + 1);
  expect_same("member", member, count);
  expect_same("which", which, count);
}
END_TEST

/* Buckets that 8, 16 and 32 bits hold; `distinct` in the place of `key` is the other way in which it is used.
 */
START_TEST(buckets_few_and_many) {
  static const int64_t buckets[] = {3, 256, 257, 65536, 70000};
  const int64_t count = 30000;
  pair_t *bucket = take(count, buckets[_i]), *begin = take(buckets[_i] + 1, 9), *member = take(count, 9);
  fixture.cpu->ops->bucket(fixture.cpu, NULL, bucket->host, count, buckets[_i], begin->host, member->host);
  fixture.gpu->ops->bucket(fixture.gpu, NULL, bucket->device, count, buckets[_i], begin->device,
                           member->device);
  cuda_case_sync(&fixture);
  expect_same("begin", begin, buckets[_i] + 1);
  expect_same("member", member, count);
}
END_TEST

START_TEST(unique_in_place) {
  const int64_t count = 5000;
  int64_t wanted = -1, got = -1;
  pair_t *key = take(count, 700), *member = take(count, 9), *which = take(count, 9);
  pair_t *scratch = take(2 * count, 9);
  const unique_request_t host = {.count = count,
                                 .key = key->host,
                                 .key_limit = 700,
                                 .distinct = key->host,
                                 .member = member->host,
                                 .which = which->host,
                                 .scratch = scratch->host};
  const unique_request_t device = {.count = count,
                                   .key = key->device,
                                   .key_limit = 700,
                                   .distinct = key->device,
                                   .member = member->device,
                                   .which = which->device,
                                   .scratch = scratch->device};
  fixture.cpu->ops->unique(fixture.cpu, NULL, &host, &wanted);
  fixture.gpu->ops->unique(fixture.gpu, NULL, &device, &got);
  cuda_case_sync(&fixture);
  ck_assert_int_eq(got, wanted);
  expect_same("distinct", key, wanted);
  expect_same("member", member, count);
  expect_same("which", which, count);
}
END_TEST

/* Runs of a few and of thousands of members, with empty ones between. */
START_TEST(expanded_runs_short_and_long) {
  const int64_t runs = 900;
  pair_t *begin = take_segments(runs, 4), *value = take(runs, INT64_C(1) << 40);
  int64_t *at = ints(begin), longer = 0;
  for (int64_t r = 0; r <= runs; r++) {
    at[r] += longer + 17; /* a part of a longer list */
    longer += r % 300 == 5 ? 9000 : 0;
  }
  send(begin);
  const int64_t count = at[runs] - at[0];
  pair_t *to = take(count, 9);
  fixture.cpu->ops->expand(fixture.cpu, NULL, at, value->host, runs, to->host);
  fixture.gpu->ops->expand(fixture.gpu, NULL, begin->device, value->device, runs, to->device);
  expect_same("expanded", to, count);
}
END_TEST

/* ---- packed lists ---- */

/* Bitmaps of many tiles beside plain lists and lists that need no words. */
START_TEST(packed_lists_of_many_tiles) {
  enum { TASKS = 5 };
  static const int64_t counts[TASKS] = {60000, 1000, 33000, 500, 40000};
  static const int64_t ranges[TASKS] = {100000, 7, INT64_C(1) << 40, 500, 40000 * 3};
  static const int ascending[TASKS] = {1, 0, 1, 1, 1};
  pack_task_t pack[2][TASKS];
  unpack_task_t unpack[2][TASKS];
  pair_t *words[TASKS], *to[TASKS];
  for (int t = 0; t < TASKS; t++) {
    const int64_t count = counts[t], step = ranges[t] / count;
    pair_t *from = take(count, ascending[t] ? step : ranges[t]);
    for (int64_t i = 0; ascending[t] && i < count; i++) ints(from)[i] += i * step;
    send(from);
    words[t] = take(pack_form(count, ranges[t], ascending[t]).words, 9);
    to[t] = take(count, 9);
    pack[0][t] = (pack_task_t){count, ranges[t], ascending[t], from->host, NULL, -3, words[t]->host};
    pack[1][t] = (pack_task_t){count, ranges[t], ascending[t], from->device, NULL, -3, words[t]->device};
    for (int64_t i = 0; i < count; i++) ints(from)[i] -= 3; /* less the base: within the range again */
    send(from);
    unpack[0][t] = (unpack_task_t){count, ranges[t], ascending[t], words[t]->host, 5, to[t]->host};
    unpack[1][t] = (unpack_task_t){count, ranges[t], ascending[t], words[t]->device, 5, to[t]->device};
  }
  fixture.cpu->ops->pack(fixture.cpu, NULL, pack[0], TASKS);
  fixture.gpu->ops->pack(fixture.gpu, NULL, pack[1], TASKS);
  fixture.cpu->ops->unpack(fixture.cpu, NULL, unpack[0], TASKS);
  fixture.gpu->ops->unpack(fixture.gpu, NULL, unpack[1], TASKS);
  cuda_case_sync(&fixture);
  for (int t = 0; t < TASKS; t++) {
    expect_same("word", words[t], pack_form(counts[t], ranges[t], ascending[t]).words);
    expect_same("value", to[t], counts[t]);
  }
}
END_TEST

/* ---- cover ---- */

/* Runs of one edge and of thousands, over keys that repeat; two owners, two features of one table. Costs for
 * which neither all rows nor all pools are best. */
START_TEST(cover_of_long_runs) {
  enum { RUNS = 400, KEYS = 3000, OWNERS = 2, FEATURES = 2 };
  static const int tables[FEATURES] = {0, 0}, wanted[OWNERS] = {1, 1};
  static const int64_t key_begin[] = {0, KEYS / 2, KEYS}, run_first[] = {0, 90, 200, 310, RUNS};
  pair_t *key_block = take(OWNERS + 1, 1), *run_block = take(OWNERS * FEATURES + 1, 1);
  memcpy(key_block->host, key_begin, sizeof key_begin);
  memcpy(run_block->host, run_first, sizeof run_first);
  send(key_block);
  send(run_block);
  static const int64_t row_cost[] = {40}, pool_cost[] = {30, 35}, edge_cost[] = {0, 1};
  pair_t *begin = take_segments(RUNS, 3);
  for (int64_t r = 0, longer = 0; r <= RUNS; r++) {
    ints(begin)[r] += longer;
    longer += r % 50 == 7 ? 2500 : 1;
  }
  send(begin);
  const int64_t edges = ints(begin)[RUNS];
  pair_t *order = take(edges, 1), *which = take(edges, KEYS / 2), *row = take(KEYS, 9);
  pair_t *scratch = take(2 * KEYS, 9);
  for (int64_t i = 0; i < edges; i++) {
    ints(order)[i] = i;
    if (i % 3 > 0) ints(which)[i] %= 60; /* some are hot */
    if (i >= ints(begin)[200]) ints(which)[i] += KEYS / 2;
  }
  for (int64_t r = 0; r < RUNS; r++) /* what decides of a long run stands at its end */
    for (int64_t i = ints(begin)[r], end = ints(begin)[r + 1]; end - i > 1 && end - ints(begin)[r] > 1000;
         i++)
      ints(which)[i] = ints(which)[i] % (KEYS / 2) % 60 + (r < 200 ? 0 : KEYS / 2);
  send(order);
  send(which);
  int64_t counts[2][OWNERS + 2 * OWNERS * FEATURES];
  for (int side = 0; side < 2; side++) {
    kernel_t *k = side == 0 ? fixture.cpu : fixture.gpu;
    const cover_request_t q = {.ranks = OWNERS,
                               .tables = 1,
                               .features = FEATURES,
                               .feature_table = tables,
                               .wanted = wanted,
                               .key_block = side == 0 ? key_block->host : key_block->device,
                               .run_block = side == 0 ? run_block->host : run_block->device,
                               .run_begin = side == 0 ? begin->host : begin->device,
                               .order = side == 0 ? order->host : order->device,
                               .which = side == 0 ? which->host : which->device,
                               .key_count = KEYS,
                               .run_count = RUNS,
                               .row_cost = row_cost,
                               .pool_cost = pool_cost,
                               .edge_cost = edge_cost,
                               .row = side == 0 ? row->host : row->device,
                               .row_count = counts[side],
                               .pool_runs = counts[side] + OWNERS,
                               .pool_edges = counts[side] + OWNERS + OWNERS * FEATURES,
                               .scratch = side == 0 ? scratch->host : scratch->device};
    k->ops->cover(k, NULL, &q);
  }
  cuda_case_sync(&fixture);
  expect_same("row", row, KEYS);
  for (size_t i = 0; i < sizeof counts[0] / sizeof counts[0][0]; i++)
    ck_assert_int_eq(counts[1][i], counts[0][i]);
  ck_assert(counts[0][0] > 0 && counts[0][OWNERS] > 0); /* a mixture */
}
END_TEST

/* ---- edges ---- */

/* Bags of a thousand entries beside empty ones, in several features; the batch on the host and on the device.
 */
START_TEST(edges_of_long_bags) {
  enum { FEATURES = 3, BAGS = 40 };
  const int on_device = _i;
  sbag_table_options_t options[FEATURES];
  edges_feature_t features[2][FEATURES] = {0};
  plan_t *plan = NULL;
  int64_t entries = 0;
  for (int f = 0; f < FEATURES; f++) {
    options[f] = sbag_table_options_default("t", 5000, 1);
    options[f].layout = (sbag_layout_t)f;
  }
  ck_assert_int_eq(plan_create(fixture.mem, 4, options, FEATURES, &plan, NULL), SBAG_OK);
  for (int f = 0; f < FEATURES; f++) {
    pair_t *offset = take_segments(BAGS, f == 1 ? 2 : 1000);
    const int64_t count = ints(offset)[BAGS];
    pair_t *index = take(count, 5003);
    features[0][f] = (edges_feature_t){.bags = {.indices = index->host,
                                                .index_count = count,
                                                .offsets = offset->host,
                                                .offset_count = BAGS + 1,
                                                .include_last_offset = 1},
                                       .num_embeddings = 5000,
                                       .padding_idx = 7,
                                       .touch_padding = f != 2,
                                       .plan = &plan->tables[f]};
    features[1][f] = features[0][f];
    if (on_device) {
      features[1][f].bags.indices = index->device;
      features[1][f].bags.offsets = offset->device;
    }
    entries += count;
  }
  pair_t *out[5], *slot_begin = take(FEATURES * BAGS + 1, 9);
  for (int i = 0; i < 5; i++) out[i] = take(entries, 9);
  edges_info_t wanted, got;
  const edges_request_t host = {
      features[0],  FEATURES,     BAGS,         1, slot_begin->host, out[0]->host, out[1]->host,
      out[2]->host, out[3]->host, out[4]->host, 0};
  const edges_request_t device = {
      features[1],    FEATURES,       BAGS,           1, slot_begin->device, out[0]->device, out[1]->device,
      out[2]->device, out[3]->device, out[4]->device, 0};
  fixture.cpu->ops->edges_build(fixture.cpu, NULL, &host, &wanted);
  fixture.gpu->ops->edges_build(fixture.gpu, NULL, &device, &got);
  cuda_case_sync(&fixture);
  ck_assert(wanted.dropped > 0 && wanted.touch_count > 0 && wanted.longest > 256);
  ck_assert_int_eq(got.fault, EDGES_FINE);
  ck_assert_int_eq(got.edge_count, wanted.edge_count);
  ck_assert_int_eq(got.touch_count, wanted.touch_count);
  ck_assert_int_eq(got.dropped, wanted.dropped);
  ck_assert_int_eq(got.longest, wanted.longest);
  ck_assert_int_eq(got.plain, wanted.plain);
  expect_same("slot_begin", slot_begin, FEATURES * BAGS + 1);
  for (int i = 0; i < 4; i++) expect_same("list", out[i], wanted.edge_count);
  expect_same("touch", out[4], wanted.touch_count);
  plan_destroy(&plan);
}
END_TEST

/* ---- copies ---- */

/* Many parts of odd sizes and places, in both directions and within the device; the host's side changes at
 * once. */
START_TEST(copies_of_many_parts) {
  enum { PARTS = 40, BYTES = 200000 };
  char *host = malloc(BYTES), *back = malloc(BYTES), *wanted = malloc(BYTES), *pinned = NULL;
  ck_assert(host != NULL && back != NULL && wanted != NULL);
  ck_assert_int_eq(
      fixture.gpu->ops->alloc(fixture.gpu, MEMORY_PINNED, BYTES, "a test", (void **)&pinned, NULL), SBAG_OK);
  char *a = cuda_case_put(&fixture, NULL, BYTES), *b = cuda_case_put(&fixture, NULL, BYTES);
  copy_part_t in[PARTS], within[PARTS], out[PARTS];
  for (int i = 0; i < BYTES; i++) host[i] = pinned[i] = (char)cuda_case_random(&state);
  memcpy(wanted, host, BYTES);
  memset(back, 0, BYTES);
  for (int64_t i = 0, at = 0; i < PARTS; i++) {
    const int64_t bytes = i == PARTS - 1 ? BYTES - at : i == 7 ? 90000 : i % 5 == 0 ? 0 : 4 * i + i % 3;
    in[i] = (copy_part_t){a + at, (i % 2 ? host : pinned) + at, bytes};
    within[i] = (copy_part_t){b + at, a + at, bytes};
    out[i] = (copy_part_t){back + at, b + at, bytes};
    at += bytes;
  }
  fixture.gpu->ops->copy(fixture.gpu, NULL, in, PARTS);
  memset(host, 1, BYTES);
  memset(pinned, 2, BYTES);
  fixture.gpu->ops->copy(fixture.gpu, NULL, within, PARTS);
  fixture.gpu->ops->copy(fixture.gpu, NULL, out, PARTS);
  cuda_case_sync(&fixture);
  ck_assert(memcmp(back, wanted, BYTES) == 0);
  const copy_part_t beside = {pinned, back, BYTES};
  fixture.gpu->ops->copy(fixture.gpu, NULL, &beside, 1);
  ck_assert(memcmp(pinned, wanted, BYTES) == 0);
  fixture.gpu->ops->clear(fixture.gpu, NULL, a + 1, BYTES - 2);
  cuda_case_get(&fixture, back, a, BYTES);
  ck_assert(back[0] == wanted[0] && back[BYTES - 1] == wanted[BYTES - 1]);
  for (int i = 1; i < BYTES - 1; i++) ck_assert_int_eq(back[i], 0);
  cuda_case_drop(&fixture, a);
  cuda_case_drop(&fixture, b);
  fixture.gpu->ops->release(fixture.gpu, MEMORY_PINNED, pinned);
  free(host);
  free(back);
  free(wanted);
}
END_TEST

/* ---- memory ---- */

static void step(const pair_t *key, const pair_t *lists[5], int64_t count, int64_t limit) {
  int64_t distinct = 0;
  const unique_request_t u = {.count = count,
                              .key = key->device,
                              .key_limit = limit,
                              .distinct = lists[0]->device,
                              .begin = lists[1]->device,
                              .member = lists[2]->device,
                              .which = lists[3]->device,
                              .scratch = lists[4]->device};
  fixture.gpu->ops->unique(fixture.gpu, NULL, &u, &distinct);
  fixture.gpu->ops->bucket(fixture.gpu, NULL, key->device, count, limit, lists[4]->device, lists[0]->device);
  cuda_case_sync(&fixture);
  ck_assert_int_gt(distinct, 0);
}

START_TEST(warm_steps_allocate_nothing) {
  const int64_t count = 20000, limit = 3000;
  const pair_t *key = take(count, limit), *lists[5];
  for (int i = 0; i < 5; i++) lists[i] = take(2 * count, 9);
  for (int i = 0; i < 3; i++) step(key, lists, count, limit);
  const int64_t allocs = kernel_cuda_alloc_count(fixture.gpu), host = mem_stats(fixture.mem).alloc_count;
  for (int i = 0; i < 3; i++) step(key, lists, count - i, limit);
  ck_assert_int_eq(kernel_cuda_alloc_count(fixture.gpu), allocs);
  ck_assert_int_eq(mem_stats(fixture.mem).alloc_count, host);
}
END_TEST

Suite *cuda_large_suite(void) {
  Suite *suite = suite_create("large");
  TCase *test_case = tcase_create("large");
  tcase_add_checked_fixture(test_case, set_up, tear_down);
  tcase_set_timeout(test_case, 120); /* sanitizers on a busy machine */
  tcase_add_test(test_case, nonempty_of_millions);
  tcase_add_loop_test(test_case, unique_of_many_keys, 0, 4);
  tcase_add_loop_test(test_case, buckets_few_and_many, 0, 5);
  tcase_add_test(test_case, unique_in_place);
  tcase_add_test(test_case, expanded_runs_short_and_long);
  tcase_add_test(test_case, packed_lists_of_many_tiles);
  tcase_add_test(test_case, cover_of_long_runs);
  tcase_add_loop_test(test_case, edges_of_long_bags, 0, 2);
  tcase_add_test(test_case, copies_of_many_parts);
  tcase_add_test(test_case, warm_steps_allocate_nothing);
  suite_add_tcase(suite, test_case);
  return suite;
}
