/* Plans: places and rows undo each other for every layout and list of ranks, shards are balanced, keys are
 * numbered by rank and then by table, sizes past 2^31, and what is refused. */
#include "oracle/draw.h"
#include "plan/plan.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *plan_suite(void);

enum { TABLES_MAX = 6, RANKS_MAX = 9 };

static const sbag_layout_t layouts[] = {SBAG_LAYOUT_BLOCK, SBAG_LAYOUT_CYCLIC, SBAG_LAYOUT_SCRAMBLE};

static mem_t *mem;
static sbag_status_t failure;

static void open_mem(void) {
  ck_assert_int_eq(mem_create(&mem, &failure), SBAG_OK);
}

static void close_mem(void) {
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}

static plan_t *make_plan(int rank_count, const sbag_table_options_t *tables, int table_count) {
  plan_t *plan = NULL;
  sbag_code_t code = plan_create(mem, rank_count, tables, table_count, &plan, &failure);
  ck_assert_msg(code == SBAG_OK, "%s", failure.message);
  return plan;
}

static sbag_table_options_t table_of(int64_t rows, sbag_layout_t layout) {
  sbag_table_options_t table = sbag_table_options_default("table", rows, 4);
  table.layout = layout;
  return table;
}

/* Every row has a place of its own within its shard, plan_row finds it back, and the places fill the shards.
 */
static void check_cover(const plan_table_t *t) {
  int64_t total = 0, least = t->rows, most = 0, first[RANKS_MAX + 1] = {0};
  for (int s = 0; s < t->shard_count; s++) {
    int64_t rows = plan_shard_rows(t, s);
    first[s] = total;
    total += rows;
    least = rows < least ? rows : least;
    most = rows > most ? rows : most;
  }
  ck_assert_int_eq(total, t->rows);
  ck_assert_int_le(most - least, 1);
  char *seen = calloc((size_t)t->rows, 1);
  ck_assert_ptr_nonnull(seen);
  for (int64_t row = 0; row < t->rows; row++) {
    int shard = -1;
    int64_t local = -1;
    plan_locate(t, row, &shard, &local);
    ck_assert(shard >= 0 && shard < t->shard_count && local >= 0 && local < plan_shard_rows(t, shard));
    ck_assert_int_eq(plan_row(t, shard, local), row);
    ck_assert_int_eq(seen[first[shard] + local]++, 0);
    ck_assert_int_eq(plan_key(t, row), t->shard_key[shard] + local);
  }
  free(seen);
}

START_TEST(places_and_rows_undo_each_other) {
  static const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 64, 100, 1021};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
      sbag_table_options_t table = table_of(sizes[i], layouts[_i]);
      plan_t *plan = make_plan(ranks, &table, 1);
      ck_assert_int_eq(plan->tables[0].shard_count, ranks);
      check_cover(&plan->tables[0]);
      for (int r = 0; r < ranks; r++) ck_assert_int_eq(plan_shard_of_rank(&plan->tables[0], r), r);
      plan_destroy(&plan);
      ck_assert_ptr_null(plan);
    }
}
END_TEST

/* What the layouts are called after. */
START_TEST(layouts_place_rows_as_named) {
  sbag_table_options_t tables[] = {table_of(11, SBAG_LAYOUT_BLOCK), table_of(11, SBAG_LAYOUT_CYCLIC)};
  static const int block_shard[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3};
  static const int64_t block_local[] = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1};
  plan_t *plan = make_plan(4, tables, 2);
  for (int64_t row = 0; row < 11; row++) {
    int shard;
    int64_t local;
    plan_locate(&plan->tables[0], row, &shard, &local);
    ck_assert(shard == block_shard[row] && local == block_local[row]);
    plan_locate(&plan->tables[1], row, &shard, &local);
    ck_assert(shard == row % 4 && local == row / 4);
  }
  plan_destroy(&plan);
}
END_TEST

/* Neighbouring ids, which are often hot together, do not share a shard more often than any others. */
START_TEST(scramble_spreads_neighbours) {
  enum { ROWS = 80000, SHARDS = 8, WINDOW = 800 };
  sbag_table_options_t table = table_of(ROWS, SBAG_LAYOUT_SCRAMBLE);
  plan_t *plan = make_plan(SHARDS, &table, 1);
  for (int64_t begin = 0; begin < ROWS; begin += WINDOW) {
    int count[SHARDS] = {0};
    for (int64_t row = begin; row < begin + WINDOW; row++) {
      int shard;
      int64_t local;
      plan_locate(&plan->tables[0], row, &shard, &local);
      count[shard]++;
    }
    /* 100 expected; 5 standard deviations are 47. */
    for (int s = 0; s < SHARDS; s++) ck_assert(count[s] > 50 && count[s] < 150);
  }
  plan_destroy(&plan);
}
END_TEST

START_TEST(scramble_differs_between_tables) {
  enum { ROWS = 1000 };
  sbag_table_options_t tables[] = {table_of(ROWS, SBAG_LAYOUT_SCRAMBLE),
                                   table_of(ROWS, SBAG_LAYOUT_SCRAMBLE)};
  tables[1].name = "other";
  plan_t *plan = make_plan(4, tables, 2);
  int same = 0;
  for (int64_t row = 0; row < ROWS; row++) {
    int shard[2];
    int64_t local[2];
    for (int t = 0; t < 2; t++) plan_locate(&plan->tables[t], row, &shard[t], &local[t]);
    same += shard[0] == shard[1];
  }
  ck_assert_int_lt(same, ROWS / 2);
  plan_destroy(&plan);
}
END_TEST

START_TEST(ranks_may_be_any_list) {
  static const int lists[][4] = {{3, 0, 2, 1}, {2}, {4, 1}, {0, 4, 3}};
  static const int lengths[] = {4, 1, 2, 3};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
    for (int64_t rows = 1; rows < 12; rows += 5) {
      sbag_table_options_t table = table_of(rows, layouts[_i]);
      table.ranks = lists[i];
      table.rank_count = lengths[i];
      plan_t *plan = make_plan(5, &table, 1);
      const plan_table_t *t = &plan->tables[0];
      ck_assert_int_eq(t->shard_count, lengths[i]);
      check_cover(t);
      for (int rank = 0; rank < 5; rank++) {
        int shard = plan_shard_of_rank(t, rank), wanted = -1;
        for (int s = 0; s < lengths[i]; s++)
          if (lists[i][s] == rank) wanted = s;
        ck_assert_int_eq(shard, wanted);
        ck_assert_int_eq(plan_rank_rows(plan, rank, 0), shard < 0 ? 0 : plan_shard_rows(t, shard));
        if (shard >= 0) ck_assert_int_eq(t->shard_key[shard], plan_rank_key(plan, rank));
      }
      plan_destroy(&plan);
    }
}
END_TEST

/* The caller's list may go after plan_create. */
START_TEST(the_list_of_ranks_is_copied) {
  int list[] = {2, 0};
  sbag_table_options_t table = table_of(10, SBAG_LAYOUT_BLOCK);
  table.ranks = list;
  table.rank_count = 2;
  plan_t *plan = make_plan(3, &table, 1);
  list[0] = list[1] = 1;
  ck_assert(plan->tables[0].ranks[0] == 2 && plan->tables[0].ranks[1] == 0);
  plan_destroy(&plan);
}
END_TEST

static void draw_table(draw_t *draw, int ranks, sbag_table_options_t *table, int *list) {
  *table = table_of(draw_between(draw, 1, 40), layouts[draw_below(draw, 3)]);
  if (draw_one_in(draw, 3)) return;
  for (int r = 0; r < ranks; r++) list[r] = r;
  for (int r = ranks - 1; r > 0; r--) {
    int other = (int)draw_below(draw, r + 1), swap = list[r];
    list[r] = list[other];
    list[other] = swap;
  }
  table->ranks = list;
  table->rank_count = (int)draw_between(draw, 1, ranks);
}

/* All rows' keys are 0, 1, 2, ... without a gap, and ascend by (rank, table, local row). */
START_TEST(keys_are_consecutive_by_rank_then_table) {
  for (uint64_t number = 0; number < 60; number++) {
    draw_t draw = draw_start(5, number);
    int ranks = (int)draw_between(&draw, 1, RANKS_MAX), count = (int)draw_between(&draw, 1, TABLES_MAX);
    int lists[TABLES_MAX][RANKS_MAX];
    sbag_table_options_t tables[TABLES_MAX];
    int64_t next = 0;
    for (int t = 0; t < count; t++) draw_table(&draw, ranks, &tables[t], lists[t]);
    plan_t *plan = make_plan(ranks, tables, count);
    for (int rank = 0; rank < ranks; rank++) {
      ck_assert_int_eq(plan_rank_key(plan, rank), next);
      for (int t = 0; t < count; t++) {
        int shard = plan_shard_of_rank(&plan->tables[t], rank);
        ck_assert_int_eq(plan_block_key(plan, rank, t), next);
        ck_assert_int_eq(plan_rank_rows(plan, rank, t),
                         shard < 0 ? 0 : plan_shard_rows(&plan->tables[t], shard));
        for (int64_t local = 0; local < plan_rank_rows(plan, rank, t); local++)
          ck_assert_int_eq(plan_key(&plan->tables[t], plan_row(&plan->tables[t], shard, local)), next++);
      }
    }
    ck_assert_int_eq(plan->block_key[ranks * count], next);
    plan_destroy(&plan);
  }
}
END_TEST

/* Arithmetic alone: no row is stored. */
START_TEST(sizes_past_2_31) {
  const int64_t sizes[] = {((int64_t)1 << 31) + 1000, (int64_t)1 << 40};
  for (int i = 0; i < 2; i++) {
    sbag_table_options_t tables[] = {table_of(5, SBAG_LAYOUT_BLOCK), table_of(sizes[i], layouts[_i])};
    plan_t *plan = make_plan(7, tables, 2);
    const plan_table_t *t = &plan->tables[1];
    draw_t draw = draw_start(7, (uint64_t)i);
    int64_t total = 0;
    for (int s = 0; s < 7; s++) {
      int64_t rows = plan_shard_rows(t, s);
      ck_assert(rows == sizes[i] / 7 || rows == sizes[i] / 7 + 1);
      total += rows;
    }
    ck_assert_int_eq(total, sizes[i]);
    ck_assert_int_eq(plan->block_key[14], sizes[i] + 5);
    for (int n = 0; n < 2000; n++) {
      int64_t row = n < 4 ? n : n < 8 ? sizes[i] - 1 - (n - 4) : draw_below(&draw, sizes[i]), local;
      int shard;
      plan_locate(t, row, &shard, &local);
      ck_assert(shard >= 0 && shard < 7 && local >= 0 && local < plan_shard_rows(t, shard));
      ck_assert_int_eq(plan_row(t, shard, local), row);
      ck_assert_int_eq(plan_key(t, row), plan_block_key(plan, shard, 1) + local);
    }
    plan_destroy(&plan);
  }
}
END_TEST

static void refuse(int ranks, const sbag_table_options_t *table, const char *part) {
  plan_t *plan = NULL;
  ck_assert_int_eq(plan_create(mem, ranks, table, 1, &plan, &failure), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_null(plan);
  ck_assert_msg(strstr(failure.message, "'table'") != NULL && strstr(failure.message, part) != NULL,
                "'%s' says nothing of '%s'", failure.message, part);
}

START_TEST(refusals) {
  static const int beyond[] = {0, 4}, below[] = {-1}, twice[] = {1, 3, 1}, five[] = {0, 1, 2, 3, 0};
  sbag_table_options_t table = table_of(10, SBAG_LAYOUT_BLOCK);
  table.ranks = beyond;
  table.rank_count = 2;
  refuse(4, &table, "rank 4");
  table.ranks = below;
  table.rank_count = 1;
  refuse(4, &table, "rank -1");
  table.ranks = twice;
  table.rank_count = 3;
  refuse(4, &table, "twice");
  table.rank_count = 0;
  refuse(4, &table, "0 owning ranks");
  table.ranks = five;
  table.rank_count = 5;
  refuse(4, &table, "5 owning ranks");
  table = table_of(10, (sbag_layout_t)3);
  refuse(4, &table, "layout 3");
}
END_TEST

START_TEST(out_of_memory_leaves_nothing) {
  sbag_table_options_t tables[] = {table_of(10, SBAG_LAYOUT_BLOCK), table_of(20, SBAG_LAYOUT_CYCLIC)};
  int64_t n = 1;
  for (;; n++) {
    plan_t *plan = NULL;
    mem_fail_at(mem, n);
    sbag_code_t code = plan_create(mem, 3, tables, 2, &plan, &failure);
    mem_fail_at(mem, 0);
    if (code == SBAG_OK) {
      plan_destroy(&plan);
      break;
    }
    ck_assert_int_eq(code, SBAG_ERR_MEMORY);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  }
  ck_assert_int_gt(n, 3);
}
END_TEST

Suite *plan_suite(void) {
  Suite *suite = suite_create("plan");
  TCase *test_case = tcase_create("plan");
  int count = sizeof layouts / sizeof *layouts;
  tcase_add_checked_fixture(test_case, open_mem, close_mem);
  tcase_add_loop_test(test_case, places_and_rows_undo_each_other, 0, count);
  tcase_add_test(test_case, layouts_place_rows_as_named);
  tcase_add_test(test_case, scramble_spreads_neighbours);
  tcase_add_test(test_case, scramble_differs_between_tables);
  tcase_add_loop_test(test_case, ranks_may_be_any_list, 0, count);
  tcase_add_test(test_case, the_list_of_ranks_is_copied);
  tcase_add_test(test_case, keys_are_consecutive_by_rank_then_table);
  tcase_add_loop_test(test_case, sizes_past_2_31, 0, count);
  tcase_add_test(test_case, refusals);
  tcase_add_test(test_case, out_of_memory_leaves_nothing);
  suite_add_tcase(suite, test_case);
  return suite;
}
