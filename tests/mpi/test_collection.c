/* The life of a step: two batches under way, calls out of order, steps given up, and a rank that runs out of
 * memory anywhere, which must end the call on all ranks. */
#include "collection/context.h"
#include "rig.h"

#include <string.h>

Suite *collection_suite(void);

/* ---- two batches under way ---- */

typedef struct tables {
  double *of[RIG_TABLES];
} tables_t;

static tables_t read_tables(rig_t *rig) {
  tables_t tables;
  for (int t = 0; t < RIG_TABLES; t++) tables.of[t] = rig_read(rig, t, -1);
  return tables;
}

static void check_same_tables(rig_t *rig, const tables_t *a, const tables_t *b) {
  for (int t = 0; t < RIG_TABLES; t++)
    ck_assert_mem_eq(a->of[t], b->of[t],
                     (size_t)(rig->options.rows[t] * rig->options.dims[t]) * sizeof(double));
}

enum { OVERLAPPED = 5 };

/* Each batch begins before the update of the one before it. */
static void train_overlapped(rig_t *rig, rig_batch_t *batches) {
  sbag_step_h step[2] = {NULL, NULL};
  rig_draw(rig, &batches[0], 0, 8, 1);
  step[0] = rig_begin(rig, &batches[0], SBAG_FORWARD_WEIGHT_GRADS);
  for (int b = 0; b < OVERLAPPED; b++) {
    sbag_step_h *now = &step[b % 2], *next = &step[(b + 1) % 2];
    int early = b % 3 == 0;
    if (b + 1 < OVERLAPPED) rig_draw(rig, &batches[b + 1], (uint64_t)b + 1, 8, 1);
    if (early && b + 1 < OVERLAPPED) *next = rig_begin(rig, &batches[b + 1], SBAG_FORWARD_WEIGHT_GRADS);
    rig_must(sbag_step_forward_end(*now, batches[b].out, &rig_failure));
    rig_backward(rig, *now, &batches[b], 1);
    if (!early && b + 1 < OVERLAPPED) *next = rig_begin(rig, &batches[b + 1], SBAG_FORWARD_WEIGHT_GRADS);
    ck_assert_ptr_ne(*now, *next);
    rig_must(sbag_step_update(*now, 1, 1, &rig_failure));
    sbag_step_release(now);
  }
}

/* Outputs, weights' gradients and tables are those of one batch after the other. */
START_TEST(two_batches_under_way) {
  static const sbag_optimizer_t kinds[] = {SBAG_OPT_SGD, SBAG_OPT_ADAM, SBAG_OPT_EXACT_ADAGRAD};
  rig_options_t options = rig_options_default();
  rig_t rig, alone;
  rig_batch_t batches[OVERLAPPED];
  options.context.exchange = (sbag_exchange_t)(_i % 3);
  options.layout = (sbag_layout_t)(_i % 3);
  options.replicated = _i >= 3;
  options.optimizer = sbag_optimizer_options_default(kinds[(_i + _i / 3) % 3]);
  rig_open(&rig, &options);
  rig_open(&alone, &options);
  tables_t before = read_tables(&rig);
  train_overlapped(&rig, batches);
  for (int b = 0; b < OVERLAPPED; b++) {
    rig_batch_t batch;
    rig_draw(&alone, &batch, (uint64_t)b, 8, 1);
    rig_train(&alone, &batch, 1);
    ck_assert_mem_eq(batches[b].out, batch.out, (size_t)(batch.samples * rig.columns) * sizeof(double));
    ck_assert_mem_eq(batches[b].weight_grads[0], batch.weight_grads[0],
                     (size_t)batch.bags[0].index_count * sizeof(double));
  }
  tables_t got = read_tables(&rig), wanted = read_tables(&alone);
  check_same_tables(&rig, &got, &wanted);
  ck_assert(memcmp(before.of[0], wanted.of[0], 40 * 4 * sizeof(double)) != 0);
  rig_close(&rig);
  rig_close(&alone);
}
END_TEST

/* Ended in the other order than begun. */
START_TEST(two_batches_in_any_order) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch[2];
  sbag_step_h step[2];
  rig_open(&rig, &options);
  tables_t tables = read_tables(&rig);
  for (int s = 0; s < 2; s++) {
    rig_draw(&rig, &batch[s], (uint64_t)s, 8, s);
    step[s] = rig_begin(&rig, &batch[s], 0);
  }
  for (int s = 1; s >= 0; s--) {
    rig_must(sbag_step_forward_end(step[s], batch[s].out, &rig_failure));
    rig_check_forward(&rig, &batch[s], tables.of);
  }
  for (int s = 1; s >= 0; s--) rig_backward(&rig, step[s], &batch[s], 0);
  for (int s = 1; s >= 0; s--) {
    rig_must(sbag_step_update(step[s], 1, 1, &rig_failure));
    sbag_step_release(&step[s]);
  }
  rig_close(&rig);
}
END_TEST

/* ---- calls out of order ---- */

static void check_refused(sbag_code_t code, const char *part) {
  ck_assert_int_eq(code, SBAG_ERR_STATE);
  ck_assert_msg(strstr(rig_failure.message, part) != NULL, "'%s' says nothing of '%s'", rig_failure.message,
                part);
  rig_failure.message[0] = '\0';
}

enum { END = 1, BACKWARD = 2, UPDATE = 4, LATE = 8 };

/* What does not fit the step now. None of these calls may communicate: one rank alone makes them. */
static void misuse(sbag_step_h step, rig_batch_t *batch, int fits) {
  const int64_t *rows;
  const void *values;
  int64_t count;
  double norm;
  if (!(fits & END)) check_refused(sbag_step_forward_end(step, batch->out, &rig_failure), "forward_end");
  if (!(fits & BACKWARD))
    check_refused(sbag_step_backward(step, batch->grad, NULL, &rig_failure), "backward");
  if (!(fits & UPDATE)) check_refused(sbag_step_update(step, 1, 1, &rig_failure), "update");
  if (fits & LATE) return;
  check_refused(sbag_step_sparse_grad(step, 0, &rows, &values, &count, &rig_failure), "sparse_grad");
  check_refused(sbag_step_grad_norm_squared(step, &norm, &rig_failure), "grad_norm_squared");
  if (fits & END) check_refused(sbag_step_max_indices(step, 2, batch->index[2], &rig_failure), "max_indices");
}

/* On all ranks, or on one while the others go on: the step is as good as before. */
START_TEST(calls_out_of_order_change_nothing) {
  rig_options_t options = rig_options_default();
  rig_t rig, well;
  rig_batch_t batch, same;
  rig_open(&rig, &options);
  rig_open(&well, &options);
  int here = _i == 0 || rig.rank == rig.size - 1;
  for (uint64_t round = 0; round < 3; round++) {
    rig_draw(&rig, &batch, round, 8, 1);
    rig_draw(&well, &same, round, 8, 1);
    sbag_step_h step = rig_begin(&rig, &batch, 0);
    if (here) misuse(step, &batch, END);
    rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
    if (here) misuse(step, &batch, BACKWARD);
    rig_backward(&rig, step, &batch, 0);
    if (here) misuse(step, &batch, UPDATE | LATE);
    rig_must(sbag_step_update(step, 1, 1, &rig_failure));
    if (here) misuse(step, &batch, LATE);
    sbag_step_release(&step);
    rig_train(&well, &same, 0);
  }
  tables_t got = read_tables(&rig), wanted = read_tables(&well);
  check_same_tables(&rig, &got, &wanted);
  rig_close(&rig);
  rig_close(&well);
}
END_TEST

START_TEST(backward_where_there_is_none) {
  static const int flags[] = {SBAG_FORWARD_READ_ONLY, SBAG_FORWARD_NO_BACKWARD};
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  rig_open(&rig, &options);
  rig_draw(&rig, &batch, 0, 8, 1);
  for (int i = 0; i < 2; i++) {
    sbag_step_h step = rig_begin(&rig, &batch, flags[i]);
    rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
    check_refused(sbag_step_backward(step, batch.grad, NULL, &rig_failure), "without one");
    check_refused(sbag_step_update(step, 1, 1, &rig_failure), "update");
    sbag_step_release(&step);
  }
  sbag_step_h step = rig_begin(&rig, &batch, 0);
  void *grads[RIG_FEATURES] = {batch.weight_grads[0], NULL, NULL, NULL};
  rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
  check_refused(sbag_step_backward(step, batch.grad, grads, &rig_failure), "SBAG_FORWARD_WEIGHT_GRADS");
  rig_backward(&rig, step, &batch, 0);
  sbag_step_release(&step);
  sbag_step_release(&step);
  sbag_step_release(NULL);
  rig_close(&rig);
}
END_TEST

/* The same pools; only who says that nothing will ask for them is refused the indices. */
START_TEST(maxima_without_indices) {
  static const int flags[] = {SBAG_FORWARD_READ_ONLY, SBAG_FORWARD_NO_BACKWARD};
  rig_options_t options = rig_options_default();
  options.dtype = _i == 0 ? SBAG_F64 : SBAG_F32;
  rig_t rig;
  rig_open(&rig, &options);
  for (uint64_t number = 0; number < 20; number++) {
    rig_batch_t with, without;
    rig_draw(&rig, &with, number, 8, 0);
    rig_draw(&rig, &without, number, 8, 0);
    sbag_step_h step = rig_begin(&rig, &with, flags[number % 2]);
    rig_must(sbag_step_forward_end(step, with.out, &rig_failure));
    sbag_step_release(&step);
    step = rig_begin(&rig, &without, flags[number % 2] | SBAG_FORWARD_NO_INDICES);
    rig_must(sbag_step_forward_end(step, without.out, &rig_failure));
    check_refused(sbag_step_max_indices(step, 2, with.index[2], &rig_failure), "SBAG_FORWARD_NO_INDICES");
    sbag_step_release(&step);
    const size_t bytes = options.dtype == SBAG_F64 ? sizeof(double) : sizeof(float);
    ck_assert_mem_eq(with.out, without.out, (size_t)(with.samples * rig.columns) * bytes);
  }
  rig_batch_t batch;
  rig_draw(&rig, &batch, 0, 8, 0);
  sbag_step_h step = NULL;
  ck_assert_int_eq(
      sbag_collection_forward_begin(rig.collection, batch.bags, SBAG_FORWARD_NO_INDICES, &step, &rig_failure),
      SBAG_ERR_ARGUMENT);
  ck_assert_ptr_null(step);
  rig_close(&rig);
}
END_TEST

/* A third batch while two are under way: on all ranks, or on one, whose refusal all return. */
START_TEST(a_third_batch_is_refused_on_all_ranks) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  sbag_step_h step[2], third = NULL;
  rig_open(&rig, &options);
  int holder = rig.size - 1, holds = _i == 0 || rig.rank == holder;
  rig_draw(&rig, &batch, 1, 8, 1);
  tables_t tables = read_tables(&rig);
  for (int round = 0; round < 3; round++) {
    for (int s = 0; s < 2; s++) {
      step[s] = rig_begin(&rig, &batch, SBAG_FORWARD_NO_BACKWARD);
      rig_must(sbag_step_forward_end(step[s], batch.out, &rig_failure));
    }
    if (!holds) sbag_step_release(&step[0]);
    for (int again = 0; again < 2; again++) {
      check_refused(sbag_collection_forward_begin(rig.collection, batch.bags, SBAG_FORWARD_NO_BACKWARD,
                                                  &third, &rig_failure),
                    "2 steps are under way");
      ck_assert_ptr_null(third);
      if (rig.size > 1) ck_assert_int_eq(rig_failure.rank, _i == 0 ? 0 : holder);
    }
    for (int s = 0; s < 2; s++) sbag_step_release(&step[s]);
    step[0] = rig_begin(&rig, &batch, 0);
    rig_must(sbag_step_forward_end(step[0], batch.out, &rig_failure));
    rig_check_forward(&rig, &batch, tables.of);
    sbag_step_release(&step[0]);
  }
  rig_close(&rig);
}
END_TEST

/* ---- steps given up ---- */

START_TEST(steps_may_be_given_up_anywhere) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  options.context.exchange = (sbag_exchange_t)_i;
  options.context.chunk_bytes = 64;
  rig_open(&rig, &options);
  tables_t tables = read_tables(&rig);
  for (uint64_t round = 0; round < 8; round++) {
    rig_draw(&rig, &batch, round, 8, 1);
    sbag_step_h step = rig_begin(&rig, &batch, 0);
    if (round % 4 > 0) rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
    if (round % 4 > 1) rig_backward(&rig, step, &batch, 0);
    sbag_step_release(&step);
    ck_assert_ptr_null(step);
  }
  /* What was under way has come to its end: nothing of it is left behind in the comm. */
  int64_t allocations = 0;
  for (int again = 0; again < 12; again++) {
    sbag_step_h step = rig_begin(&rig, &batch, 0);
    sbag_step_release(&step);
    if (again == 1) allocations = mem_stats(context_mem(rig.context)).alloc_count;
  }
  ck_assert_int_eq(mem_stats(context_mem(rig.context)).alloc_count, allocations);
  tables_t after = read_tables(&rig);
  check_same_tables(&rig, &after, &tables);
  rig_draw(&rig, &batch, 100, 8, 1);
  rig_train(&rig, &batch, 0);
  rig_check_forward(&rig, &batch, tables.of);
  sbag_step_h held[2] = {rig_begin(&rig, &batch, 0), rig_begin(&rig, &batch, 0)};
  ck_assert(held[0] != NULL && held[1] != NULL);
  rig_close(&rig); /* with both steps under way */
}
END_TEST

/* ---- out of memory ---- */

/* Steps until one fails here, three at most; releases what it holds. *updates: steps that changed the tables.
 */
static sbag_code_t steps_until_failure(rig_t *rig, rig_batch_t *batch, int *updates, sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  void *grads[RIG_FEATURES] = {batch->weight_grads[0], NULL, NULL, NULL};
  for (int s = 0; s < 3 && code == SBAG_OK; s++) {
    sbag_step_h step = NULL;
    code =
        sbag_collection_forward_begin(rig->collection, batch->bags, SBAG_FORWARD_WEIGHT_GRADS, &step, status);
    if (code == SBAG_OK) code = sbag_step_forward_end(step, batch->out, status);
    if (code == SBAG_OK) code = sbag_step_backward(step, batch->grad, grads, status);
    if (code == SBAG_OK) code = sbag_step_update(step, 1, 1, status);
    if (code == SBAG_OK) ++*updates;
    sbag_step_release(&step);
  }
  return code;
}

/* Rows are written and read until one of both fails here. */
static sbag_code_t transfers_until_failure(rig_t *rig, sbag_status_t *status) {
  int64_t rows[] = {0, 9, 39, 9};
  double values[4 * 4] = {0};
  sbag_code_t code = SBAG_OK;
  for (int i = 0; i < 3 && code == SBAG_OK; i++) {
    code = sbag_collection_write_rows(rig->collection, 0, rows, 4, values, status);
    if (code == SBAG_OK) code = sbag_collection_read_rows(rig->collection, 0, rows, 4, values, status);
  }
  return code;
}

/* A context of its own, in which the n-th allocation of one rank fails. Returns whether there was one. */
static int check_failing(int64_t n, int transfers, const rig_options_t *options, MPI_Comm comm) {
  rig_t rig;
  rig_batch_t batch;
  sbag_status_t status = {0};
  rig_open_on(&rig, options, comm);
  rig_draw(&rig, &batch, 1, 30, 1);
  tables_t tables = {{NULL, NULL}};
  if (!transfers) tables = read_tables(&rig); /* would leave transfers nothing to allocate */
  int victim = (int)(n % rig.size), failed, all, updates = 0;
  int64_t before = mem_stats(context_mem(rig.context)).live_bytes;
  if (rig.rank == victim) mem_fail_at(context_mem(rig.context), n);
  sbag_code_t code = transfers ? transfers_until_failure(&rig, &status)
                               : steps_until_failure(&rig, &batch, &updates, &status);
  mem_fail_at(context_mem(rig.context), 0);
  failed = code != SBAG_OK;
  MPI_Allreduce(&failed, &all, 1, MPI_INT, MPI_SUM, comm);
  ck_assert_msg(all == 0 || all == rig.size, "allocation %lld on rank %d: %d of %d ranks failed",
                (long long)n, victim, all, rig.size);
  ck_assert_msg(!failed || (code == SBAG_ERR_MEMORY && strstr(status.message, "cannot allocate") != NULL),
                "allocation %lld on rank %d: %s error: %s", (long long)n, victim, sbag_code_name(code),
                status.message);
  ck_assert(!failed || rig.rank == victim || status.rank == victim);
  ck_assert_int_ge(mem_stats(context_mem(rig.context)).live_bytes, before);
  /* An error that was agreed upon has changed nothing. */
  if (failed && context_comm(rig.context)->broken.code == SBAG_OK && !transfers) {
    if (updates > 0) tables = read_tables(&rig);
    sbag_step_h step = rig_begin(&rig, &batch, 0);
    rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
    rig_check_forward(&rig, &batch, tables.of);
    sbag_step_release(&step);
  }
  rig_close(&rig);
  return failed;
}

/* Every failure near the start, and then some. */
static int64_t next_failure(int64_t n, int rank_count) {
  return n < 6 ? n + 1 : n + 3 + n / 8 + rank_count;
}

START_TEST(a_rank_out_of_memory_ends_the_call_on_all) {
  MPI_Comm comm;
  int size;
  int64_t n = 1, found = 0;
  rig_options_t options = rig_options_default();
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  MPI_Comm_size(comm, &size);
  options.context.timeout_s = 30;
  options.context.exchange = (sbag_exchange_t)(_i % 3);
  options.replicated = _i == 3;
  for (; check_failing(n, _i == 4, &options, comm); n = next_failure(n, size)) found++;
  ck_assert_int_ge(found, 5);
  MPI_Comm_free(&comm);
}
END_TEST

/* Creation is agreed upon: the context works afterwards and holds nothing of it. */
START_TEST(a_collection_that_one_rank_cannot_create) {
  sbag_context_h context = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t tables[2] = {sbag_table_options_default("a", 20, 3),
                                    sbag_table_options_default("b", 10, 2)};
  sbag_feature_options_t features[2] = {sbag_feature_options_default("x", 0),
                                        sbag_feature_options_default("y", 1)};
  tables[0].optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  tables[1].replicated = 1;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &rig_failure));
  int64_t live = 0, n = 0, size = sbag_context_size(context);
  for (;; n += n < 4 ? 1 : size) {
    sbag_collection_h collection = NULL;
    int victim = (int)(n % size);
    if (n > 0 && sbag_context_rank(context) == victim) mem_fail_at(context_mem(context), n);
    sbag_code_t code =
        sbag_collection_create(context, &options, tables, 2, features, 2, &collection, &rig_failure);
    mem_fail_at(context_mem(context), 0);
    sbag_collection_destroy(&collection);
    if (n == 0) live = mem_stats(context_mem(context)).live_bytes;
    ck_assert_int_eq(mem_stats(context_mem(context)).live_bytes, live);
    if (n == 0) rig_must(code);
    if (n > 0 && code == SBAG_OK) break;
    ck_assert(n == 0 || code == SBAG_ERR_MEMORY);
    if (n > 0 && size > 1) ck_assert_int_eq(rig_failure.rank, victim);
  }
  ck_assert_int_ge(n, 50); /* it does take that many */
  sbag_context_destroy(&context);
}
END_TEST

Suite *collection_suite(void) {
  Suite *suite = suite_create("collection");
  TCase *test_case = tcase_create("collection");
  tcase_add_loop_test(test_case, two_batches_under_way, 0, 6);
  tcase_add_test(test_case, two_batches_in_any_order);
  tcase_add_loop_test(test_case, calls_out_of_order_change_nothing, 0, 2);
  tcase_add_test(test_case, backward_where_there_is_none);
  tcase_add_loop_test(test_case, maxima_without_indices, 0, 2);
  tcase_add_loop_test(test_case, a_third_batch_is_refused_on_all_ranks, 0, 2);
  tcase_add_loop_test(test_case, steps_may_be_given_up_anywhere, 0, 3);
  tcase_add_loop_test(test_case, a_rank_out_of_memory_ends_the_call_on_all, 0, 5);
  tcase_add_test(test_case, a_collection_that_one_rank_cannot_create);
  suite_add_tcase(suite, test_case);
  return suite;
}
