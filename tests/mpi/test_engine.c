/* The thread of a server that answers, on all ranks: batches that overlap are answered as if each stood
 * alone, also where two editions take turns and where one batch is refused. */
#include "mpi_test.h"

#include "collection/context.h"
#include "oracle/arena.h"
#include "oracle/draw.h"
#include "serve/engine.h"

#include <math.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <string.h>

enum { TABLES = 2, ROWS = 40, DIM = 4, DENSE = 2, TICKETS = 60, SAMPLES_MAX = 30, BAG_MAX = 5 };

/* `at` is the address of the status that the call is to fill. */
#define RUN_OK(call)                                                                                         \
  do {                                                                                                       \
    sbag_status_t run_status = {SBAG_OK, -1, ""};                                                            \
    sbag_status_t *at = &run_status;                                                                         \
    ck_assert_msg((call) == SBAG_OK, "%s", run_status.message);                                              \
  } while (0)

typedef struct run {
  arena_t arena;
  sbag_context_h context;
  model_config_t config[EDITIONS];
  sbag_table_options_t tables[EDITIONS][TABLES];
  sbag_feature_options_t features[TABLES];
  model_t *models[EDITIONS];
  engine_t engine;
  serve_signature_t signatures[EDITIONS][SERVE_KINDS];
  queue_t queue;
  counters_t metrics;
  int dropped; /* seats that were left */
  int answered;
} run_t;

static int world(int (*ask)(MPI_Comm, int *)) {
  int answer = 0;
  ask(MPI_COMM_WORLD, &answer);
  return answer;
}

static void drop(void *user, int seat) {
  run_t *run = user;
  engine_leave_seat(&run->engine, seat);
  model_destroy(&run->models[seat]);
  run->dropped++;
}

/* The two editions differ in every value. */
static void open_edition(run_t *run, int seat) {
  static const char *const names[TABLES] = {"user", "tags"};
  for (int t = 0; t < TABLES; t++) {
    run->tables[seat][t] = sbag_table_options_default(names[t], ROWS, DIM);
    run->tables[seat][t].init_b = 0.5;
    run->tables[seat][t].seed = (uint64_t)(5 + seat);
    run->tables[seat][t].layout = t == 0 ? SBAG_LAYOUT_CYCLIC : SBAG_LAYOUT_BLOCK;
    run->features[t] = sbag_feature_options_default(names[t], t);
  }
  run->config[seat] = (model_config_t){.seed = (uint64_t)(3 + seat),
                                       .dense_count = DENSE,
                                       .interaction_dim = DIM,
                                       .bottom_count = 1,
                                       .bottom = {6},
                                       .top_count = 1,
                                       .top = {8},
                                       .inference = 1,
                                       .dense_optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD),
                                       .tables = run->tables[seat],
                                       .table_count = TABLES,
                                       .features = run->features,
                                       .feature_count = TABLES};
  RUN_OK(model_create(run->context, &run->config[seat], context_mem(run->context), &run->models[seat], at));
  RUN_OK(engine_take_seat(&run->engine, seat, run->models[seat], &run->config[seat], NULL, at));
  run->signatures[seat][SERVE_PREDICTION] =
      (serve_signature_t){.kind = SERVE_PREDICTION, .columns = 2, .output_count = 2, .name = "m"};
  run->signatures[seat][SERVE_EMBEDDINGS] = (serve_signature_t){
      .kind = SERVE_EMBEDDINGS, .columns = TABLES * DIM, .output_count = 2, .name = "m/embeddings"};
}

static void open_run(run_t *run, int64_t max_batch) {
  *run = (run_t){.dropped = 0};
  const sbag_context_options_t options = sbag_context_options_default();
  RUN_OK(sbag_context_create_mpi(MPI_COMM_WORLD, &options, &run->context, at));
  run->engine = (engine_t){.comm = context_comm(run->context),
                           .mem = context_mem(run->context),
                           .queue = &run->queue,
                           .metrics = &run->metrics,
                           .max_batch = max_batch,
                           .drop = drop,
                           .user = run};
  for (int seat = 0; seat < EDITIONS; seat++) open_edition(run, seat);
  RUN_OK(engine_open(&run->engine, TABLES, at));
  RUN_OK(queue_open(4 * TICKETS, &run->queue, at));
  RUN_OK(counters_open(run->signatures[0], &run->config[0], world(MPI_Comm_size), run->engine.mem,
                       &run->metrics, at));
}

static void close_run(run_t *run) {
  for (int seat = 0; seat < EDITIONS; seat++)
    if (run->models[seat] != NULL) drop(run, seat);
  engine_close(&run->engine);
  counters_destroy(&run->metrics);
  queue_destroy(&run->queue);
  sbag_context_destroy(&run->context);
  arena_free(&run->arena);
}

/* ---- rank 0's tickets ---- */

static void count_answer(ticket_t *ticket) {
  run_t *run = ticket->user;
  run->answered++;
}

static void fill_bags(run_t *run, draw_t *draw, int64_t samples, request_bags_t *bags) {
  int64_t *indices = arena_ints(&run->arena, samples * BAG_MAX + 1);
  int64_t *offsets = arena_ints(&run->arena, samples + 1);
  for (int64_t i = 0; i < samples; i++) {
    int64_t length = draw_below(draw, BAG_MAX + 1);
    for (int64_t k = 0; k < length; k++) indices[offsets[i] + k] = draw_below(draw, ROWS);
    offsets[i + 1] = offsets[i] + length;
  }
  *bags = (request_bags_t){.given = 1, .count = offsets[samples], .indices = indices, .offsets = offsets};
}

/* Number n of a run: editions and kinds take turns, as they come when a newer checkpoint is served. */
static ticket_t *make_ticket(run_t *run, int n) {
  draw_t draw = draw_start(11, (uint64_t)n);
  ticket_t *t = arena_alloc(&run->arena, 1, sizeof *t);
  t->seat = n / 7 % EDITIONS;
  t->answered = count_answer;
  t->user = run;
  request_t *r = &t->request;
  r->signature = &run->signatures[t->seat][n % 5 == 4 ? SERVE_EMBEDDINGS : SERVE_PREDICTION];
  r->samples = draw_between(&draw, 1, SAMPLES_MAX);
  r->features = arena_alloc(&run->arena, TABLES, sizeof *r->features);
  for (int f = 0; f < TABLES; f++) fill_bags(run, &draw, r->samples, &r->features[f]);
  float *dense = arena_alloc(&run->arena, r->samples * DENSE, sizeof *dense);
  for (int64_t i = 0; i < r->samples * DENSE; i++) dense[i] = (float)draw_unit(&draw);
  r->dense = r->signature->kind == SERVE_PREDICTION ? dense : NULL;
  r->result = arena_alloc(&run->arena, r->samples * r->signature->columns, sizeof(float));
  return t;
}

static void turn(run_t *run) {
  RUN_OK(engine_turn(&run->engine, 0, at));
  ck_assert_ptr_null(run->engine.ahead);
}

static void answer_all(run_t *run, int tickets) {
  run->answered = 0;
  for (int i = 0; run->answered < tickets; i++) {
    ck_assert_int_lt(i, 10 * TICKETS);
    turn(run);
  }
  ck_assert_int_eq(run->answered, tickets);
}

/* One batch at a time. */
static void answer_alone(run_t *run, ticket_t **tickets) {
  for (int n = 0; n < TICKETS; n++) {
    ck_assert_int_eq(queue_put(&run->queue, tickets[n]), 1);
    answer_all(run, 1);
  }
  ck_assert_int_eq(run->metrics.overlapped, 0);
}

static void compare(const ticket_t *a, const ticket_t *b, double tolerance) {
  const request_t *r = &a->request, *s = &b->request;
  ck_assert_int_eq(a->code, SBAG_OK);
  ck_assert_int_eq(b->code, SBAG_OK);
  for (int64_t i = 0; i < r->samples * r->signature->columns; i++)
    ck_assert_msg(fabs((double)r->result[i] - (double)s->result[i]) <= tolerance, "%.9g alone, %.9g together",
                  (double)r->result[i], (double)s->result[i]);
}

/* ---- the tests ---- */

/* max_batch 1: each ticket is a batch of its own, so that no bit may differ; else some share one. Then the
 * first edition goes, as it does once a newer one has taken its place. */
START_TEST(test_overlap) {
  static run_t run;
  static ticket_t *alone[TICKETS], *together[TICKETS];
  open_run(&run, _i == 0 ? 1 : 2 * SAMPLES_MAX);
  if (world(MPI_Comm_rank) > 0) {
    RUN_OK(engine_follow(&run.engine, at));
    ck_assert_int_eq(run.dropped, 1);
    close_run(&run);
    return;
  }
  for (int n = 0; n < TICKETS; n++) {
    alone[n] = make_ticket(&run, n);
    together[n] = make_ticket(&run, n);
  }
  answer_alone(&run, alone);
  for (int n = 0; n < TICKETS; n++) ck_assert_int_eq(queue_put(&run.queue, together[n]), 1);
  answer_all(&run, TICKETS);
  for (int n = 0; n < TICKETS; n++) compare(alone[n], together[n], _i == 0 ? 0.0 : 1e-5);
  if (world(MPI_Comm_size) == 1)
    ck_assert_int_eq(run.metrics.overlapped, 0);
  else
    ck_assert_int_gt(run.metrics.overlapped, TICKETS / 8);
  RUN_OK(engine_drop(&run.engine, 0, at));
  RUN_OK(engine_end(&run.engine, at));
  close_run(&run);
}
END_TEST

/* A row that no table has, which no request that was parsed brings: all ranks refuse the batch, and those
 * before and behind it are answered. The first, the second, or the last but one of several is it. */
START_TEST(test_refused) {
  static run_t run;
  static ticket_t *alone[TICKETS], *together[TICKETS];
  enum { SOME = 6 };
  const int wrong = _i < 2 ? _i : SOME - 2;
  open_run(&run, 1);
  if (world(MPI_Comm_rank) > 0) {
    RUN_OK(engine_follow(&run.engine, at));
    close_run(&run);
    return;
  }
  for (int n = 0; n < TICKETS; n++) alone[n] = make_ticket(&run, n);
  answer_alone(&run, alone);
  for (int n = 0; n < SOME; n++) {
    together[n] = make_ticket(&run, n);
    if (n == wrong) {
      int64_t *indices = arena_ints(&run.arena, 1), *offsets = arena_ints(&run.arena, SAMPLES_MAX + 1);
      indices[0] = ROWS;
      for (int i = 1; i <= SAMPLES_MAX; i++) offsets[i] = 1;
      together[n]->request.features[0] =
          (request_bags_t){.given = 1, .count = 1, .indices = indices, .offsets = offsets};
    }
    ck_assert_int_eq(queue_put(&run.queue, together[n]), 1);
  }
  answer_all(&run, SOME);
  for (int n = 0; n < SOME; n++)
    if (n != wrong) compare(alone[n], together[n], 0.0);
  ck_assert_int_eq(together[wrong]->code, SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(together[wrong]->status.message, "user"));
  RUN_OK(engine_end(&run.engine, at));
  close_run(&run);
}
END_TEST

Suite *engine_suite(void);
Suite *engine_suite(void) {
  Suite *suite = suite_create("engine");
  TCase *tests = tcase_create("engine");
  tcase_set_timeout(tests, 120);
  tcase_add_loop_test(tests, test_overlap, 0, 2);
  tcase_add_loop_test(tests, test_refused, 0, 3);
  suite_add_tcase(suite, tests);
  return suite;
}
