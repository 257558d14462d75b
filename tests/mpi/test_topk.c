/* The distributed top-k against sorting all rows in one place: layouts, ties, excluded rows, uneven queries.
 */
#include "mpi_test.h"

#include "base/random.h"
#include "collection/context.h"
#include "model/topk.h"
#include <math.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <stdlib.h>
#include <string.h>

Suite *topk_suite(void);

enum { DIM = 12, ROWS_MAX = 9000, QUERIES = 70, FIRST_ROW = 1 };

static sbag_context_h context;
static sbag_status_t status;
static int rank, size;

#define OK(call) ck_assert_msg((call) == SBAG_OK, "%s", status.message)

static void setup(void) {
  OK(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &status));
  rank = sbag_context_rank(context);
  size = sbag_context_size(context);
}

static void teardown(void) {
  sbag_context_destroy(&context);
}

/* What the values are: any, few different ones so that scores tie, all the same, and of very unlike sizes. */
typedef enum shape { SPREAD, TIES, SAME, UNLIKE, SHAPES } shape_t;

static float value(shape_t shape, uint64_t key, uint64_t i) {
  double unit = random_unit53(key, i);
  if (shape == SAME) return 0.5f;
  if (shape == TIES) return (float)floor(unit * 3.0) - 1.0f;
  if (shape == UNLIKE) return (float)ldexp(unit - 0.5, (int)random_below(key ^ 1, i, 60) - 30);
  return (float)(unit - 0.5);
}

static int is_excluded(uint64_t query, int64_t row) {
  if (query % 7 == 3) return row % 2 == 0;
  return random_below(random_key(9, "excluded"), query * ROWS_MAX + (uint64_t)row, 10) == 0;
}

static int better(const void *a, const void *b) {
  const topk_hit_t *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return (x->row > y->row) - (x->row < y->row);
}

typedef struct data {
  shape_t shape;
  int64_t rows, k;
  float *table; /* [rows][DIM], on every rank */
} data_t;

static void query_of(const data_t *d, uint64_t query, float *out) {
  for (int i = 0; i < DIM; i++) out[i] = value(d->shape, random_key(3, "queries"), query * DIM + (uint64_t)i);
}

static void check_query(const data_t *d, uint64_t query, const topk_hit_t *hits) {
  static topk_hit_t all[ROWS_MAX];
  float vector[DIM];
  int64_t count = 0;
  query_of(d, query, vector);
  for (int64_t row = FIRST_ROW; row < d->rows; row++) {
    if (is_excluded(query, row)) continue;
    double score = 0.0;
    for (int i = 0; i < DIM; i++) score += (double)vector[i] * (double)d->table[row * DIM + i];
    all[count++] = (topk_hit_t){score, row};
  }
  qsort(all, (size_t)count, sizeof *all, better);
  for (int64_t i = 0; i < d->k; i++) {
    ck_assert_int_eq(hits[i].row, i < count ? all[i].row : -1);
    if (i < count) ck_assert(hits[i].score == all[i].score);
  }
}

/* Query q is rank q % size's; the last rank has none. */
static int64_t list_mine(uint64_t *mine) {
  int64_t count = 0;
  for (uint64_t q = 0; q < QUERIES; q++)
    if (size == 1 || (int)q % (size - 1) == rank) mine[count++] = q;
  return size > 1 && rank == size - 1 ? 0 : count;
}

static void search(topk_t *topk, const data_t *d) {
  uint64_t mine[QUERIES];
  int64_t count = list_mine(mine), counts[QUERIES], *lists[QUERIES];
  const int64_t *excluded[QUERIES];
  float vectors[QUERIES][DIM + 3];
  topk_hit_t *hits = calloc((size_t)(QUERIES * d->k), sizeof *hits);
  for (int64_t i = 0; i < count; i++) {
    lists[i] = malloc((size_t)d->rows * sizeof(int64_t));
    counts[i] = 0;
    for (int64_t row = 0; row < d->rows; row++)
      if (is_excluded(mine[i], row)) lists[i][counts[i]++] = row;
    excluded[i] = lists[i];
    query_of(d, mine[i], vectors[i]);
  }
  const topk_queries_t queries = {count, DIM + 3, &vectors[0][0], excluded, counts};
  OK(topk_search(topk, &queries, hits, &status));
  for (int64_t i = 0; i < count; i++) check_query(d, mine[i], hits + i * d->k);
  for (int64_t i = 0; i < count; i++) free(lists[i]);
  free(hits);
}

static void run_case(shape_t shape, sbag_layout_t layout, int64_t rows, int64_t k) {
  data_t d = {.shape = shape, .rows = rows, .k = k};
  sbag_table_options_t table = sbag_table_options_default("item", rows, DIM);
  table.layout = layout;
  sbag_feature_options_t feature = sbag_feature_options_default("item", 0);
  sbag_collection_h collection = NULL;
  topk_t *topk = NULL;
  OK(sbag_collection_create(context, NULL, &table, 1, &feature, 1, &collection, &status));
  d.table = malloc((size_t)(rows * DIM) * sizeof(float));
  for (int64_t i = 0; i < rows * DIM; i++) d.table[i] = value(shape, random_key(2, "rows"), (uint64_t)i);
  OK(sbag_collection_write_range(collection, 0, -1, 0, rank == 0 ? rows : 0, d.table, &status));
  const topk_options_t options = {.table = 0, .first_row = FIRST_ROW, .k = k};
  OK(topk_create(collection, context_comm(context), context_mem(context), &options, &topk, &status));
  search(topk, &d);
  search(topk, &d); /* a searcher serves again */
  topk_destroy(&topk);
  free(d.table);
  sbag_collection_destroy(&collection);
}

START_TEST(test_against_sorting) {
  static const sbag_layout_t layouts[] = {SBAG_LAYOUT_BLOCK, SBAG_LAYOUT_CYCLIC, SBAG_LAYOUT_SCRAMBLE};
  for (int layout = 0; layout < 3; layout++) run_case((shape_t)_i, layouts[layout], 600, 20);
  run_case((shape_t)_i, SBAG_LAYOUT_SCRAMBLE, ROWS_MAX, 7);
  run_case((shape_t)_i, SBAG_LAYOUT_BLOCK, 5, 9); /* fewer rows than k, and ranks without any */
}
END_TEST

START_TEST(test_refused) {
  sbag_table_options_t table = sbag_table_options_default("item", 10, DIM);
  sbag_feature_options_t feature = sbag_feature_options_default("item", 0);
  sbag_collection_h collection = NULL;
  topk_t *topk = NULL;
  OK(sbag_collection_create(context, NULL, &table, 1, &feature, 1, &collection, &status));
  topk_options_t options = {.table = 1, .k = 3};
  ck_assert_int_eq(
      topk_create(collection, context_comm(context), context_mem(context), &options, &topk, &status),
      SBAG_ERR_ARGUMENT);
  options = (topk_options_t){.table = 0, .k = rank == 0 ? 0 : 3};
  ck_assert_int_eq(
      topk_create(collection, context_comm(context), context_mem(context), &options, &topk, &status),
      SBAG_ERR_ARGUMENT);
  ck_assert_ptr_null(topk);
  sbag_collection_destroy(&collection);
}
END_TEST

Suite *topk_suite(void) {
  Suite *suite = suite_create("topk");
  TCase *tc = tcase_create("topk");
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 120);
  tcase_add_loop_test(tc, test_against_sorting, 0, SHAPES);
  tcase_add_test(tc, test_refused);
  suite_add_tcase(suite, tc);
  return suite;
}
