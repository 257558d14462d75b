/* shardbag bench step CONFIG: the training's own steps, without evaluations, checkpoints and lines of a log.
 */
#include "app/bench.h"
#include "bench/batches.h"
#include "bench/dense.h"
#include "bench/step.h"
#include "collection/context.h"
#include "train/walk.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct stepping {
  walk_t walk;
  bench_dense_t *dense;
  bench_batches_t batches;
  int64_t step, epoch;
} stepping_t;

/* Epochs follow each other for as long as it takes. */
static sbag_code_t find_batch(stepping_t *s, sbag_status_t *status) {
  const reader_batch_t *batch = NULL;
  SBAG_TRY(walk_batch(&s->walk, &batch, status));
  if (batch != NULL) return SBAG_OK;
  SBAG_TRY(walk_start(&s->walk, ++s->epoch, 0, status));
  SBAG_TRY(walk_batch(&s->walk, &batch, status));
  return batch != NULL
             ? SBAG_OK
             : status_set(status, SBAG_ERR_ARGUMENT, "the training split has no samples; check data");
}

static sbag_code_t take(void *user, int ahead, sbag_status_t *status) {
  stepping_t *s = user;
  double loss = 0;
  SBAG_TRY(find_batch(s, status));
  s->step++;
  if (ahead) SBAG_TRY(walk_ahead(&s->walk, s->step, status));
  SBAG_TRY(walk_compute(&s->walk, s->step, status));
  return walk_finish(&s->walk, 1.0, &loss, status);
}

static sbag_code_t take_alone(void *user, bench_alone_t what, sbag_status_t *status) {
  const stepping_t *s = user;
  if (what == BENCH_DENSE) return bench_dense_step(s->dense, status);
  bench_dense_products(s->dense);
  return SBAG_OK;
}

/* Rank 0's share of the batch is the largest. */
static int64_t share(const session_t *session) {
  int64_t ranks = comm_size(session->comm);
  return (session->settings->train.global_batch + ranks - 1) / ranks;
}

static void print_setup(const session_t *session) {
  const settings_t *s = session->settings;
  const model_config_t *model = &session->assembly.model;
  int64_t rows = 0;
  char batches[64] = "the reader beside the steps";
  if (s->bench.batches > 0)
    snprintf(batches, sizeof batches, "%" PRId64 " batches, read before", s->bench.batches);
  for (int t = 0; t < model->table_count; t++) rows += model->tables[t].num_embeddings;
  printf("# shardbag %s bench step: %s, ranks %d, %" PRId64 " rounds of %" PRId64
         " steps each way in turn, after %" PRId64 "\n",
         sbag_version(), s->name, comm_size(session->comm), s->bench.rounds, s->bench.steps, s->bench.warmup);
  printf("# global batch %" PRId64 ", %d tables of %" PRId64
         " rows in all, %d features, %d dense values%s; %s\n",
         s->train.global_batch, model->table_count, rows, model->feature_count, model->dense_count,
         s->train.reproducible ? ", reproducible" : "", batches);
  printf(
      "# one thread a rank: transfers move in waits and between layers. Each number is a rank's median over "
      "its steps,\n# of which the median and the largest over ranks are told\n#\n");
}

static sbag_code_t open(job_t *job, const settings_t *settings, const options_t *options, void *state,
                        sbag_status_t *status) {
  (void)options;
  sbag_code_t code = job_context(job, settings, status);
  if (code != SBAG_OK) return code;
  return session_open(settings, job->context, NULL, 0, SESSION_TRAINING | SESSION_MODEL, state, status);
}

/* Ranks find out apart whether they can. */
static sbag_code_t start(stepping_t *s, session_t *session, sbag_status_t *status) {
  const int64_t batches = session->settings->bench.batches;
  SBAG_TRY(walk_start(&s->walk, 0, 0, status));
  if (batches == 0) return SBAG_OK;
  sbag_code_t code = bench_batches_read(session->training, batches, session->mem, &s->batches, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  walk_replay(&s->walk, s->batches.batch, batches);
  return SBAG_OK;
}

static sbag_code_t measure(job_t *job, const options_t *options, void *state, FILE *json,
                           sbag_status_t *status) {
  (void)job;
  session_t *session = state;
  const settings_bench_t *bench = &session->settings->bench;
  stepping_t s = {.step = 0};
  sbag_code_t code = walk_open(session, &s.walk, status);
  if (code == SBAG_OK)
    code = bench_dense_create(session->model, share(session), session->mem, &s.dense, status);
  code = comm_agree(session->comm, code, status);
  if (code == SBAG_OK) code = start(&s, session, status);
  if (code == SBAG_OK) {
    const bench_step_config_t config = {.comm = session->comm,
                                        .mem = session->mem,
                                        .warmup = bench->warmup,
                                        .steps = bench->steps,
                                        .rounds = bench->rounds,
                                        .samples = session->settings->train.global_batch,
                                        .take = take,
                                        .alone = model_dense_on_host(session->model) ? take_alone : NULL,
                                        .user = &s};
    if (comm_rank(session->comm) == 0) print_setup(session);
    code = bench_step(&config, stdout, json, options->json, status);
  }
  bench_dense_destroy(&s.dense);
  walk_close(&s.walk);
  bench_batches_destroy(&s.batches);
  return code;
}

static void close(void *state) {
  session_close(state);
}

const bench_kind_t bench_kind_step = {
    .command = {.name = "bench step",
                .arguments = "CONFIG",
                .summary = "where the time of a training step goes, and what of the transfers is hidden",
                .argument_count = 1,
                .options = OPTION_SET | OPTION_DEVICE | OPTION_JSON | OPTION_TIMEOUT,
                .details =
                    "CONFIG is a training's; its section `bench` says how many steps: --set bench.steps=50,\n"
                    "bench.rounds=5, bench.warmup=10; with bench.batches=4 so many batches are read before\n"
                    "and come in turn, instead of a reader beside the steps. Trains with and without\n"
                    "train.pipeline in turn; nothing is saved. Beside them, on the CPU: the dense part\n"
                    "alone, and its matrix products.\n",
                .run = bench_run},
    .state_bytes = sizeof(session_t),
    .open = open,
    .measure = measure,
    .close = close};
