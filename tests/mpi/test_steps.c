/* A forward's beginning in parts: prefetch, advance and forward_begin, well used and misused. */
#include "base/mem.h"
#include "collection/context.h"
#include "rig.h"

#include <string.h>

Suite *steps_suite(void);

static void check_refused(sbag_code_t code, const char *part) {
  ck_assert_int_eq(code, SBAG_ERR_STATE);
  ck_assert_msg(strstr(rig_failure.message, part) != NULL, "'%s' says nothing of '%s'", rig_failure.message,
                part);
  rig_failure.message[0] = '\0';
}

static sbag_step_h prefetch(rig_t *rig, const rig_batch_t *batch, int flags) {
  sbag_step_h step = NULL;
  rig_must(sbag_collection_prefetch(rig->collection, batch->bags, flags, &step, &rig_failure));
  ck_assert_ptr_nonnull(step);
  return step;
}

/* A whole step, whose output must be right: the collection works. */
static void check_works(rig_t *rig, uint64_t number) {
  rig_batch_t batch;
  double *tables[RIG_TABLES] = {rig_read(rig, 0, -1), rig_read(rig, 1, -1)};
  rig_draw(rig, &batch, number, 8, 1);
  rig_train(rig, &batch, 1);
  rig_check_forward(rig, &batch, tables);
}

/* A row that is not there, in the batch of the last rank alone. Each rank has an index to spoil. */
static void spoil(rig_t *rig, rig_batch_t *batch) {
  for (uint64_t number = 50; batch->bags[1].index_count == 0; number++) rig_draw(rig, batch, number, 8, 0);
  if (rig->rank == rig->size - 1) batch->index[1][0] = 1000;
}

static void check_spoiled(const rig_t *rig, sbag_code_t code) {
  ck_assert_int_eq(code, SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(rig_failure.message, "'mean': index 1000"));
  if (rig->size > 1) ck_assert_int_eq(rig_failure.rank, rig->size - 1);
}

/* All ranks are told of one rank's error where they next come by; from then on the step can only be released,
 * while another one under way is as good as before. */
START_TEST(an_error_in_a_prefetched_batch_is_told_to_all) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch = {.samples = 0}, good;
  options.context.exchange = (sbag_exchange_t)(_i / 2);
  rig_open(&rig, &options);
  spoil(&rig, &batch);
  for (uint64_t round = 0; round < 4; round++) {
    double *tables[RIG_TABLES] = {rig_read(&rig, 0, -1), rig_read(&rig, 1, -1)};
    rig_draw(&rig, &good, round, 8, 0);
    sbag_step_h well = round % 2 ? prefetch(&rig, &good, 0) : NULL;
    sbag_step_h step = prefetch(&rig, &batch, 0);
    if (well == NULL) well = prefetch(&rig, &good, 0);
    check_spoiled(&rig, _i % 2 ? sbag_step_advance(step, &rig_failure)
                               : sbag_step_forward_begin(step, &rig_failure));
    check_refused(sbag_step_advance(step, &rig_failure), "advance");
    check_refused(sbag_step_forward_begin(step, &rig_failure), "forward_begin");
    check_refused(sbag_step_forward_end(step, batch.out, &rig_failure), "forward_end");
    if (round < 2) sbag_step_release(&step);
    rig_must(sbag_step_forward_begin(well, &rig_failure));
    rig_must(sbag_step_forward_end(well, good.out, &rig_failure));
    rig_check_forward(&rig, &good, tables);
    rig_backward(&rig, well, &good, 0);
    rig_must(sbag_step_update(well, 1, 1, &rig_failure));
    sbag_step_release(&well);
    sbag_step_release(&step);
  }
  check_works(&rig, 5);
  rig_close(&rig);
}
END_TEST

/* The third step that one rank has no room for is refused on all; a fourth on top of it by that rank alone,
 * and nothing that is under way is hurt. */
START_TEST(more_prefetched_steps_than_there_may_be) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch[2];
  sbag_step_h step[2], third, fourth = NULL;
  rig_open(&rig, &options);
  for (int round = 0; round < 3; round++) {
    for (int s = 0; s < 2; s++) {
      rig_draw(&rig, &batch[s], (uint64_t)(2 * round + s), 8, 0);
      step[s] = prefetch(&rig, &batch[s], SBAG_FORWARD_NO_BACKWARD);
    }
    double *tables[RIG_TABLES] = {rig_read(&rig, 0, -1), rig_read(&rig, 1, -1)};
    third = prefetch(&rig, &batch[0], SBAG_FORWARD_NO_BACKWARD);
    if (round == 1) check_refused(sbag_step_advance(third, &rig_failure), "2 steps are under way");
    check_refused(sbag_collection_prefetch(rig.collection, batch[0].bags, 0, &fourth, &rig_failure),
                  "refused step");
    ck_assert_ptr_null(fourth);
    for (int s = 0; s < 2; s++) {
      rig_must(sbag_step_forward_begin(step[s], &rig_failure));
      rig_must(sbag_step_forward_end(step[s], batch[s].out, &rig_failure));
      rig_check_forward(&rig, &batch[s], tables);
      sbag_step_release(&step[s]);
    }
    sbag_step_release(&third);
  }
  check_works(&rig, 7);
  for (int s = 0; s < 3; s++) (void)prefetch(&rig, &batch[0], 0);
  rig_close(&rig); /* with all of them held */
}
END_TEST

enum { STAGES = 5 };

/* Prefetched, and `stage` parts further. */
static sbag_step_h go_to(rig_t *rig, const rig_batch_t *batch, int stage) {
  sbag_step_h step = prefetch(rig, batch, 0);
  for (int i = 0; i < stage && i < 3; i++) rig_must(sbag_step_advance(step, &rig_failure));
  if (stage == STAGES - 1) rig_must(sbag_step_forward_begin(step, &rig_failure));
  return step;
}

/* At any stage, alone or while another one is at any; the collection may also go with both. */
START_TEST(prefetched_steps_may_be_given_up) {
  rig_options_t options = rig_options_default();
  options.context.exchange = (sbag_exchange_t)_i;
  options.without_max = _i == SBAG_EXCHANGE_DENSE;
  for (int stage = 0; stage < STAGES; stage++) {
    rig_t rig;
    rig_batch_t batch, other;
    rig_open(&rig, &options);
    for (int beside = 0; beside < STAGES; beside++) {
      rig_draw(&rig, &batch, (uint64_t)beside, 8, 1);
      rig_draw(&rig, &other, (uint64_t)beside + 20, 8, 0);
      sbag_step_h step = go_to(&rig, &batch, stage), held = go_to(&rig, &other, beside);
      if (beside % 2) sbag_step_release(&held);
      sbag_step_release(&step);
      sbag_step_release(&held);
      check_works(&rig, (uint64_t)beside);
    }
    (void)go_to(&rig, &batch, stage);
    (void)go_to(&rig, &other, STAGES - 1 - stage);
    rig_close(&rig);
  }
}
END_TEST

/* Every call that does not fit is refused without a word to the others, and changes nothing. */
START_TEST(parts_out_of_order_change_nothing) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  rig_open(&rig, &options);
  int here = _i == 0 || rig.rank == rig.size - 1;
  for (uint64_t round = 0; round < 3; round++) {
    double *tables[RIG_TABLES] = {rig_read(&rig, 0, -1), rig_read(&rig, 1, -1)};
    rig_draw(&rig, &batch, round, 8, 1);
    sbag_step_h step = prefetch(&rig, &batch, 0);
    for (int i = 0; i < 5; i++) { /* more than there is to do */
      if (here) check_refused(sbag_step_forward_end(step, batch.out, &rig_failure), "forward_end");
      rig_must(sbag_step_advance(step, &rig_failure));
    }
    rig_must(sbag_step_forward_begin(step, &rig_failure));
    if (here) check_refused(sbag_step_advance(step, &rig_failure), "advance");
    if (here) check_refused(sbag_step_forward_begin(step, &rig_failure), "forward_begin");
    rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
    rig_check_forward(&rig, &batch, tables);
    if (here) check_refused(sbag_step_backward_end(step, NULL, &rig_failure), "backward_end");
    rig_must(sbag_step_backward_begin(step, batch.grad, &rig_failure));
    if (here) check_refused(sbag_step_backward_begin(step, batch.grad, &rig_failure), "backward");
    if (here) check_refused(sbag_step_update(step, 1, 1, &rig_failure), "update");
    rig_must(sbag_step_backward_end(step, NULL, &rig_failure));
    rig_must(sbag_step_update(step, 1, 1, &rig_failure));
    sbag_step_release(&step);
  }
  check_works(&rig, 9);
  rig_close(&rig);
}
END_TEST

/* A step's numbers are its own from the beginning, not those of the batch that had its place before. */
START_TEST(stats_begin_with_nothing) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  options.context.exchange = (sbag_exchange_t)_i;
  options.without_max = _i == SBAG_EXCHANGE_DENSE;
  rig_open(&rig, &options);
  for (uint64_t number = 0; number < 3; number++) {
    rig_draw(&rig, &batch, number, 8, 1);
    rig_train(&rig, &batch, 0);
    sbag_step_h step = prefetch(&rig, &batch, 0);
    sbag_step_stats_t stats = sbag_step_stats(step);
    ck_assert_int_eq(stats.vectors_sent, 0);
    ck_assert_int_eq(stats.vectors_received, 0);
    ck_assert_int_eq(stats.dense_tables, 0);
    ck_assert_int_eq(stats.owned_rows, 0);
    ck_assert_int_eq(stats.id_bytes_sent, 0);
    sbag_step_release(&step);
  }
  rig_close(&rig);
}
END_TEST

/* ---- ranks that do not do the same: an error on all of them, and no hang ---- */

typedef enum quarrel { FLAGS, FLAGS_AND_COUNTS, STAGE, QUARRELS } quarrel_t;

static sbag_code_t disagree(rig_t *rig, const rig_batch_t *batch, quarrel_t quarrel) {
  int odd = rig->rank == rig->size - 1, flags = odd && quarrel != STAGE ? SBAG_FORWARD_NO_BACKWARD : 0;
  sbag_step_h step = prefetch(rig, batch, flags);
  if (quarrel == STAGE && odd) { /* it gives up a step that the others go on with */
    sbag_step_release(&step);
    step = prefetch(rig, batch, flags);
  }
  sbag_code_t code = sbag_step_forward_begin(step, &rig_failure);
  if (code == SBAG_OK) code = sbag_step_forward_end(step, batch->out, &rig_failure);
  sbag_step_release(&step);
  return code;
}

START_TEST(ranks_that_disagree_end_with_an_error) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  MPI_Comm comm;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  options.context.timeout_s = 3;
  options.context.reproducible = _i == FLAGS_AND_COUNTS; /* other flags, other counts */
  rig_open_on(&rig, &options, comm);
  rig_draw(&rig, &batch, 1, 8, 0);
  if (rig.size > 1) {
    ck_assert_int_ne(disagree(&rig, &batch, (quarrel_t)_i), SBAG_OK);
    sbag_step_h step = NULL; /* the context has ended */
    ck_assert_int_ne(sbag_collection_prefetch(rig.collection, batch.bags, 0, &step, NULL), SBAG_OK);
    ck_assert_ptr_null(step);
  }
  rig_close(&rig);
  MPI_Comm_free(&comm);
}
END_TEST

/* What was on its way when a rank gave up is left where it is: MPI may still read it and write to it. */
START_TEST(a_broken_comm_keeps_its_buffers) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  MPI_Comm comm;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  options.context.exchange = SBAG_EXCHANGE_DENSE;
  options.without_max = 1;
  for (int stage = 0; stage < STAGES; stage++) {
    rig_open_on(&rig, &options, comm);
    rig_draw(&rig, &batch, 1, 8, 0);
    sbag_step_h step = go_to(&rig, &batch, stage);
    sbag_status_t cause = {.code = SBAG_ERR_STATE, .rank = -1, .message = "it has had enough"};
    mem_t *mem = context_mem(rig.context);
    MPI_Barrier(comm); /* all have come so far */
    if (rig.size > 1 && rig.rank == rig.size - 1) comm_fail(context_comm(rig.context), &cause);
    sbag_code_t code = stage < STAGES - 1 ? sbag_step_forward_begin(step, &rig_failure) : SBAG_OK;
    if (code == SBAG_OK) code = sbag_step_forward_end(step, batch.out, &rig_failure);
    if (code == SBAG_OK) code = sbag_step_backward(step, batch.grad, NULL, &rig_failure);
    ck_assert_int_eq(code == SBAG_OK, rig.size == 1);
    int64_t held = mem_stats(mem).live_bytes;
    sbag_step_release(&step);
    if (rig.size > 1) /* nothing is made anew in the place of what is held */
      ck_assert_int_ne(sbag_collection_prefetch(rig.collection, batch.bags, 0, &step, NULL), SBAG_OK);
    ck_assert_int_eq(mem_stats(mem).live_bytes, held);
    sbag_collection_destroy(&rig.collection);
    ck_assert_int_eq(mem_stats(mem).live_bytes > 10000, rig.size > 1);
    rig_close(&rig);
  }
  MPI_Comm_free(&comm);
}
END_TEST

Suite *steps_suite(void) {
  Suite *suite = suite_create("steps");
  TCase *test_case = tcase_create("steps");
  tcase_add_loop_test(test_case, an_error_in_a_prefetched_batch_is_told_to_all, 0, 6);
  tcase_add_test(test_case, more_prefetched_steps_than_there_may_be);
  tcase_add_loop_test(test_case, prefetched_steps_may_be_given_up, 0, 4);
  tcase_add_loop_test(test_case, parts_out_of_order_change_nothing, 0, 2);
  tcase_add_loop_test(test_case, stats_begin_with_nothing, 0, 4);
  tcase_add_loop_test(test_case, ranks_that_disagree_end_with_an_error, 0, QUARRELS);
  tcase_add_test(test_case, a_broken_comm_keeps_its_buffers);
  suite_add_tcase(suite, test_case);
  return suite;
}
