/* The exact minimum cover that benchmarks print, against the matching found by one augmenting path after the
 * other. */
#include "bench/exchange_cover.h"

#include "base/random.h"
#include <check.h>
#include <string.h>

enum { ROWS = 24, BAGS = 20, EDGES = 160 };

typedef struct made {
  bench_graph_t graph;
  int64_t begin[ROWS + 1], bag[EDGES];
} made_t;

static int64_t cover_of(const bench_graph_t *graph) {
  int64_t scratch[4 * ROWS + BAGS];
  ck_assert_int_le(bench_cover_scratch(graph), (int64_t)(sizeof scratch / sizeof *scratch));
  memset(scratch, 0x55, sizeof scratch);
  return bench_cover(graph, scratch);
}

/* Kuhn's: one search of all edges for each row. */
static int augment(const bench_graph_t *g, int64_t row, int64_t *match, int *seen) {
  for (int64_t e = g->begin[row]; e < g->begin[row + 1]; e++) {
    int64_t bag = g->bag[e];
    if (seen[bag]) continue;
    seen[bag] = 1;
    if (match[bag] >= 0 && !augment(g, match[bag], match, seen)) continue;
    match[bag] = row;
    return 1;
  }
  return 0;
}

static int64_t matching_of(const bench_graph_t *g) {
  int64_t match[BAGS], found = 0;
  for (int64_t b = 0; b < BAGS; b++) match[b] = -1;
  for (int64_t row = 0; row < g->rows; row++) {
    int seen[BAGS] = {0};
    found += augment(g, row, match, seen);
  }
  return found;
}

/* Random edges, some of them twice, some rows without any. */
static void draw(made_t *made, uint64_t seed) {
  uint64_t i = 0, key = random_key(seed, "cover");
  int64_t edges = 0, most = 1 + random_below(key, i++, 7);
  int64_t rows = 1 + random_below(key, i++, ROWS), bags = 1 + random_below(key, i++, BAGS);
  made->graph = (bench_graph_t){.rows = rows, .bags = bags, .begin = made->begin, .bag = made->bag};
  for (int64_t row = 0; row < made->graph.rows; row++) {
    made->begin[row] = edges;
    int64_t count = random_below(key, i++, most);
    for (int64_t e = 0; e < count; e++) made->bag[edges++] = random_below(key, i++, made->graph.bags);
  }
  made->begin[made->graph.rows] = edges;
}

START_TEST(random_graphs) {
  int64_t beyond_greedy = 0;
  for (uint64_t seed = 0; seed < 3000; seed++) {
    made_t made;
    draw(&made, seed);
    int64_t want = matching_of(&made.graph);
    ck_assert_msg(cover_of(&made.graph) == want, "seed %d", (int)seed);
    beyond_greedy += want < made.graph.rows;
  }
  ck_assert_int_gt(beyond_greedy, 100);
}
END_TEST

/* A path of 2 n edges that greedy matching walks into from the wrong end: one augmenting path through all of
 * it. */
START_TEST(long_path) {
  enum { LONG = 5000 };
  static int64_t begin[LONG + 1], bag[2 * LONG], scratch[5 * LONG];
  int64_t edges = 0;
  for (int64_t row = 0; row < LONG; row++) {
    begin[row] = edges;
    if (row + 1 < LONG) bag[edges++] = row + 1;
    bag[edges++] = row;
  }
  begin[LONG] = edges;
  bench_graph_t graph = {.rows = LONG, .bags = LONG, .begin = begin, .bag = bag};
  ck_assert_int_eq(bench_cover(&graph, scratch), LONG);
}
END_TEST

START_TEST(small_cases) {
  const int64_t none[] = {0, 0, 0}, star[] = {0, 1, 2, 3, 4}, one[] = {0, 0, 0, 0};
  const int64_t all[] = {0, 3, 6, 9}, every[] = {0, 1, 2, 0, 1, 2, 0, 1, 2};
  ck_assert_int_eq(cover_of(&(bench_graph_t){2, 3, none, NULL}), 0);
  ck_assert_int_eq(cover_of(&(bench_graph_t){0, 3, none, NULL}), 0);
  ck_assert_int_eq(cover_of(&(bench_graph_t){4, 1, star, one}), 1);
  ck_assert_int_eq(cover_of(&(bench_graph_t){3, 3, all, every}), 3);
}
END_TEST

Suite *bench_cover_suite(void);

Suite *bench_cover_suite(void) {
  Suite *suite = suite_create("bench_cover");
  TCase *tests = tcase_create("bench_cover");
  tcase_add_test(tests, random_graphs);
  tcase_add_test(tests, long_path);
  tcase_add_test(tests, small_cases);
  suite_add_tcase(suite, tests);
  return suite;
}
