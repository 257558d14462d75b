/* Arrays of the caller's in the host's memory and in the device's: results are the same in every mixture. On
 * the CPU both are one; tests/cuda runs this where neither can be touched in place of the other. */
#include "mpi_test.h"

#include "collection/context.h"
#include <mpi.h>
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>
#include <stdlib.h>
#include <string.h>

Suite *memory_suite(void);

enum { ROWS = 23, DIM = 5, BAGS = 7, ENTRIES = 19, FEATURES = 3, COLUMNS = FEATURES * DIM, STEPS = 3 };
enum { INDICES = 1, WEIGHTS = 2, OUT = 4, GRAD = 8, WEIGHT_GRADS = 16, WAYS = 32 }; /* on the device */
enum { WEIGHTED, MEAN, MAX };                                                       /* features */

static sbag_status_t failure;

static void must(sbag_code_t code) {
  ck_assert_msg(code == SBAG_OK, "%s", failure.message);
}

static sbag_context_h make_context(void) {
  sbag_context_h context = NULL;
  must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &failure));
  return context;
}

/* A copy of `bytes` bytes (NULL: of none) in memory of either kind. */
static void *put(sbag_context_h context, int on_device, const void *from, size_t bytes) {
  void *block = NULL;
  if (on_device)
    must(context->kernel->ops->alloc(context->kernel, MEMORY_DEVICE, bytes, "a test", &block, &failure));
  else
    block = malloc(bytes);
  ck_assert_ptr_nonnull(block);
  if (from != NULL) must(sbag_context_copy(context, block, from, (int64_t)bytes, &failure));
  return block;
}

static void drop(sbag_context_h context, int on_device, void *block) {
  if (on_device)
    context->kernel->ops->release(context->kernel, MEMORY_DEVICE, block);
  else
    free(block);
}

/* ---- a collection's steps ---- */

typedef struct results {
  float out[BAGS * COLUMNS], weight_grad[ENTRIES], rows[ROWS * DIM];
  int64_t winners[BAGS * DIM];
} results_t;

typedef struct arrays {
  int64_t *indices, *offsets, *winners;
  float *weights, *out, *grad, *weight_grad;
} arrays_t;

static arrays_t make_arrays(sbag_context_h context, int way) {
  int64_t indices[ENTRIES], offsets[BAGS] = {0, 3, 3, 8, 9, 14, 18};
  float weights[ENTRIES], grad[BAGS * COLUMNS];
  for (int i = 0; i < ENTRIES; i++) indices[i] = (i * 7 + sbag_context_rank(context) * 3) % ROWS;
  for (int i = 0; i < ENTRIES; i++) weights[i] = 0.25f * (float)(i % 5) - 0.5f;
  for (int i = 0; i < BAGS * COLUMNS; i++) grad[i] = 0.125f * (float)(i % 11 - 5);
  return (arrays_t){.indices = put(context, way & INDICES, indices, sizeof indices),
                    .offsets = put(context, way & INDICES, offsets, sizeof offsets),
                    .winners = put(context, way & INDICES, NULL, BAGS * DIM * sizeof(int64_t)),
                    .weights = put(context, way & WEIGHTS, weights, sizeof weights),
                    .out = put(context, way & OUT, NULL, BAGS * COLUMNS * sizeof(float)),
                    .grad = put(context, way & GRAD, grad, sizeof grad),
                    .weight_grad = put(context, way & WEIGHT_GRADS, NULL, ENTRIES * sizeof(float))};
}

static void drop_arrays(sbag_context_h context, int way, const arrays_t *a) {
  drop(context, way & INDICES, a->indices);
  drop(context, way & INDICES, a->offsets);
  drop(context, way & INDICES, a->winners);
  drop(context, way & WEIGHTS, a->weights);
  drop(context, way & OUT, a->out);
  drop(context, way & GRAD, a->grad);
  drop(context, way & WEIGHT_GRADS, a->weight_grad);
}

/* Forward, backward and update; then what the caller has. */
static void run_steps(sbag_context_h context, sbag_collection_h collection, const arrays_t *a, results_t *r) {
  sbag_bags_t batch[FEATURES];
  void *weight_grads[FEATURES] = {[WEIGHTED] = a->weight_grad};
  for (int f = 0; f < FEATURES; f++) batch[f] = sbag_bags_1d(a->indices, ENTRIES, a->offsets, BAGS);
  batch[WEIGHTED].per_sample_weights = a->weights;
  batch[WEIGHTED].per_sample_weight_count = ENTRIES;
  for (int i = 0; i < STEPS; i++) {
    sbag_step_h step = NULL;
    must(sbag_collection_forward_begin(collection, batch, SBAG_FORWARD_WEIGHT_GRADS, &step, &failure));
    must(sbag_step_forward_end(step, a->out, &failure));
    must(sbag_step_max_indices(step, MAX, a->winners, &failure));
    must(sbag_step_backward(step, a->grad, weight_grads, &failure));
    must(sbag_step_update(step, 1.0, 1.0, &failure));
    sbag_step_release(&step);
  }
  must(sbag_context_copy(context, r->out, a->out, sizeof r->out, &failure));
  must(sbag_context_copy(context, r->weight_grad, a->weight_grad, sizeof r->weight_grad, &failure));
  must(sbag_context_copy(context, r->winners, a->winners, sizeof r->winners, &failure));
}

/* All rows, asked for by every rank at once; first they are written back, as they were read. */
static void read_all(sbag_context_h context, sbag_collection_h collection, int way, float *values) {
  int64_t numbers[ROWS];
  for (int i = 0; i < ROWS; i++) numbers[i] = (i * 5) % ROWS;
  int64_t *rows = put(context, way & INDICES, numbers, sizeof numbers);
  float *block = put(context, way & OUT, NULL, ROWS * DIM * sizeof *block);
  must(sbag_collection_read_rows(collection, 0, rows, ROWS, block, &failure));
  must(sbag_collection_write_rows(collection, 0, rows, ROWS, block, &failure));
  must(sbag_collection_read_range(collection, 0, -1, 0, ROWS, block, &failure));
  must(sbag_context_copy(context, values, block, ROWS * DIM * (int64_t)sizeof *block, &failure));
  drop(context, way & INDICES, rows);
  drop(context, way & OUT, block);
}

static results_t *train(int way, int lags) {
  sbag_context_h context = make_context();
  sbag_collection_h collection = NULL;
  sbag_table_options_t table = sbag_table_options_default("table", ROWS, DIM);
  sbag_feature_options_t features[FEATURES];
  static const sbag_mode_t modes[FEATURES] = {SBAG_SUM, SBAG_MEAN, SBAG_MAX};
  static const char *const names[FEATURES] = {"weighted", "mean", "max"};
  for (int f = 0; f < FEATURES; f++) {
    features[f] = sbag_feature_options_default(names[f], 0);
    features[f].mode = modes[f];
  }
  if (lags) table.optimizer.momentum = 0.5; /* rows that a batch leaves out move later */
  must(sbag_collection_create(context, NULL, &table, 1, features, FEATURES, &collection, &failure));
  results_t *results = calloc(1, sizeof *results);
  ck_assert_ptr_nonnull(results);
  arrays_t arrays = make_arrays(context, way);
  run_steps(context, collection, &arrays, results);
  read_all(context, collection, way, results->rows);
  drop_arrays(context, way, &arrays);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
  return results;
}

START_TEST(arrays_may_be_anywhere) {
  results_t *wanted = train(0, 0), *got = train(_i, 0);
  ck_assert_mem_eq(got->out, wanted->out, sizeof got->out);
  ck_assert_mem_eq(got->winners, wanted->winners, sizeof got->winners);
  ck_assert_mem_eq(got->weight_grad, wanted->weight_grad, sizeof got->weight_grad);
  ck_assert_mem_eq(got->rows, wanted->rows, sizeof got->rows);
  free(wanted);
  free(got);
}
END_TEST

/* A row that several ranks ask for is brought up to date once: both of these have the same rows. */
START_TEST(rows_that_all_ranks_read_move_once) {
  results_t *results = train(0, 1);
  float *all = calloc(ROWS * DIM, sizeof *all);
  ck_assert_ptr_nonnull(all);
  memcpy(all, results->rows, sizeof results->rows);
  MPI_Bcast(all, ROWS * DIM, MPI_FLOAT, 0, MPI_COMM_WORLD);
  ck_assert_mem_eq(all, results->rows, sizeof results->rows);
  free(all);
  free(results);
}
END_TEST

/* ---- embedding_bag ---- */

typedef struct bag_results {
  float weight[ROWS * DIM], out[BAGS * DIM], grad_values[ENTRIES * DIM], weight_grad[ENTRIES];
  int64_t grad_rows[ENTRIES], row_count;
} bag_results_t;

static void embedding_bag(sbag_context_h context, int way, bag_results_t *r) {
  float weight[ROWS * DIM];
  sbag_embedding_bag_options_t options = sbag_embedding_bag_options_default(ROWS, DIM);
  for (int i = 0; i < ROWS * DIM; i++) weight[i] = 0.5f * (float)(i % 7) - 1;
  options.mode = SBAG_SUM;
  options.has_max_norm = 1;
  options.max_norm = 1;
  arrays_t a = make_arrays(context, way);
  float *table = put(context, way & WEIGHTS, weight, sizeof weight);
  float *values = put(context, way & OUT, NULL, sizeof r->grad_values);
  int64_t *rows = put(context, way & INDICES, NULL, sizeof r->grad_rows);
  sbag_bags_t bags = sbag_bags_1d(a.indices, ENTRIES, a.offsets, BAGS);
  bags.per_sample_weights = a.weights;
  bags.per_sample_weight_count = ENTRIES;
  must(sbag_embedding_bag_forward(context, &options, table, &bags, a.out, NULL, &failure));
  must(sbag_embedding_bag_backward(context, &options, table, &bags, a.grad, rows, values, &r->row_count,
                                   a.weight_grad, &failure));
  must(sbag_context_copy(context, r->weight, table, sizeof r->weight, &failure));
  must(sbag_context_copy(context, r->out, a.out, sizeof r->out, &failure));
  must(sbag_context_copy(context, r->weight_grad, a.weight_grad, sizeof r->weight_grad, &failure));
  must(sbag_context_copy(context, r->grad_rows, rows, r->row_count * 8, &failure));
  must(sbag_context_copy(context, r->grad_values, values, r->row_count * DIM * 4, &failure));
  drop(context, way & WEIGHTS, table);
  drop(context, way & OUT, values);
  drop(context, way & INDICES, rows);
  drop_arrays(context, way, &a);
}

START_TEST(embedding_bag_takes_arrays_from_anywhere) {
  sbag_context_h context = make_context();
  bag_results_t *wanted = calloc(1, sizeof *wanted), *got = calloc(1, sizeof *got);
  ck_assert_ptr_nonnull(wanted);
  ck_assert_ptr_nonnull(got);
  embedding_bag(context, 0, wanted);
  embedding_bag(context, _i, got);
  ck_assert_int_gt(wanted->row_count, 0);
  ck_assert_mem_eq(got, wanted, sizeof *got);
  free(wanted);
  free(got);
  sbag_context_destroy(&context);
}
END_TEST

START_TEST(a_copy_of_fewer_bytes_than_none_is_refused) {
  sbag_context_h context = make_context();
  char from = 1, to = 0;
  ck_assert_int_eq(sbag_context_copy(context, &to, &from, -1, &failure), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(failure.message, "-1 bytes"));
  must(sbag_context_copy(context, &to, &from, 1, &failure));
  ck_assert_int_eq(to, 1);
  sbag_context_destroy(&context);
}
END_TEST

Suite *memory_suite(void) {
  Suite *suite = suite_create("memory");
  TCase *test_case = tcase_create("memory");
  tcase_add_loop_test(test_case, arrays_may_be_anywhere, 0, WAYS);
  tcase_add_loop_test(test_case, embedding_bag_takes_arrays_from_anywhere, 0, WAYS);
  tcase_add_test(test_case, rows_that_all_ranks_read_move_once);
  tcase_add_test(test_case, a_copy_of_fewer_bytes_than_none_is_refused);
  suite_add_tcase(suite, test_case);
  return suite;
}
