/* Steps of a collection that has nothing else to do, and in the same steps the messages' own cost: see
 * exchange.h. A case's batches are a few, made before the clock runs, and come in turn. Every time is that of
 * the slowest rank of its step. */
#include "bench/exchange.h"

#include "base/clock.h"
#include "bench/device.h"
#include "bench/exchange_plain.h"
#include "bench/exchange_report.h"
#include "bench/exchange_verify.h"
#include "collection/collection.h"
#include <string.h>

enum { BATCHES = 4 };
/* The times of a step, in ms; TIME_PART: what part of its time on a core the choice is. */
enum { TIME_WHOLE = LEGS, TIME_WAITS, TIME_CHOICE, TIME_PART, TIME_UPDATE, TIME_AGAIN, TIME_RAW, TIMES };

typedef struct bench {
  const bench_exchange_settings_t *s;
  sbag_context_h context;
  comm_t *comm;
  mem_t *mem;
  int cover, filled; /* filled: rows have the values that are verified, unless updated */
  bench_exchange_tables_t made;
  sbag_collection_h collection;
  bench_counter_t *counter;
  bench_comm_tap_t messages;
  bench_kernel_tap_t choice;
  bench_plain_t plain;
  int64_t *indices[BATCHES];
  sbag_bags_t *bags[BATCHES]; /* [tables] each */
  bench_twin_t out, grad;     /* [batch][columns] */
  double *ms[TIMES];          /* [steps] */
  double *scratch;            /* [steps] */
  double *waits[2];           /* [steps] of both directions, without and with work between begin and end */
  int64_t sums[LEGS + 2];     /* of all ranks */
  void *blocks[4];
} bench_t;

/* ---- storage ---- */

static sbag_code_t allocate(bench_t *b, sbag_status_t *status) {
  const bench_exchange_settings_t *s = b->s;
  int64_t most = 0, columns = s->tables * s->dim;
  size_t value = kernel_dtype_bytes((sbag_dtype_t)s->dtype);
  for (int l = 0; l < s->lengths.count; l++) {
    const bench_shape_t of = {.length = s->lengths.values[l]};
    int64_t indices = bench_batch_indices(s, &of);
    most = indices > most ? indices : most;
  }
  SBAG_TRY(mem_alloc(b->mem, mem_array_bytes(BATCHES * most, sizeof(int64_t)), "bench: batches",
                     &b->blocks[0], status));
  SBAG_TRY(mem_calloc(b->mem, mem_array_bytes(BATCHES * s->tables, sizeof(sbag_bags_t)), "bench: batches",
                      &b->blocks[1], status));
  SBAG_TRY(mem_calloc(b->mem, mem_array_bytes(2 * s->batch * columns, value), "bench: pools", &b->blocks[2],
                      status));
  SBAG_TRY(mem_calloc(b->mem, mem_array_bytes((TIMES + 3) * s->steps, sizeof(double)), "bench: times",
                      &b->blocks[3], status));
  for (int i = 0; i < BATCHES; i++) {
    b->indices[i] = (int64_t *)b->blocks[0] + i * most;
    b->bags[i] = (sbag_bags_t *)b->blocks[1] + i * s->tables;
  }
  int64_t bytes = s->batch * columns * (int64_t)value;
  bench_verify_grad(s, comm_rank(b->comm), (char *)b->blocks[2] + bytes);
  SBAG_TRY(bench_twin_create(b->context, b->blocks[2], bytes, &b->out, status));
  SBAG_TRY(bench_twin_create(b->context, (char *)b->blocks[2] + bytes, bytes, &b->grad, status));
  double *next = b->blocks[3];
  for (int t = 0; t < TIMES; t++, next += s->steps) b->ms[t] = next;
  for (int w = 0; w < 2; w++, next += s->steps) b->waits[w] = next;
  b->scratch = next;
  return SBAG_OK;
}

/* The choice is timed on the core that makes it: not on a GPU. */
static int has_choice(const bench_t *b) {
  return sbag_context_device(b->context) == SBAG_DEVICE_CPU;
}

static sbag_code_t create_own(bench_t *b, sbag_status_t *status) {
  const bench_counter_config_t counter = {.settings = b->s,
                                          .mem = b->mem,
                                          .owners = comm_size(b->comm),
                                          .ranks = comm_size(b->comm),
                                          .rank = comm_rank(b->comm),
                                          .cover = b->cover};
  SBAG_TRY(allocate(b, status));
  SBAG_TRY(bench_exchange_describe(b->s, NULL, 0, b->mem, &b->made, status));
  SBAG_TRY(bench_counter_create(&counter, &b->counter, status));
  SBAG_TRY(bench_plain_create(b->comm, b->context->kernel, LEGS, &b->plain, status));
  return bench_comm_tap_open(b->comm, b->mem, &b->messages, status);
}

static sbag_code_t create(bench_t *b, sbag_status_t *status) {
  sbag_collection_options_t options = sbag_collection_options_default();
  options.dtype = (sbag_dtype_t)b->s->dtype;
  SBAG_TRY(comm_agree(b->comm, create_own(b, status), status));
  SBAG_TRY(sbag_collection_create(b->context, &options, b->made.tables, b->made.count, b->made.features,
                                  b->made.count, &b->collection, status));
  if (has_choice(b)) bench_kernel_tap_open(b->context->kernel, &b->choice);
  return SBAG_OK;
}

/* A broken comm may still write into what is in flight: it is left. */
static void destroy(bench_t *b) {
  bench_kernel_tap_close(&b->choice);
  bench_comm_tap_close(&b->messages);
  sbag_collection_destroy(&b->collection);
  bench_counter_destroy(&b->counter);
  if (comm_check(b->comm, NULL) != SBAG_OK) return;
  if (b->plain.kernel != NULL) bench_plain_destroy(&b->plain);
  bench_twin_destroy(b->context, &b->out);
  bench_twin_destroy(b->context, &b->grad);
  mem_free(b->mem, b->made.block);
  for (size_t i = 0; i < sizeof b->blocks / sizeof *b->blocks; i++) mem_free(b->mem, b->blocks[i]);
}

/* ---- a step ---- */

/* What a step is told, and what it tells. */
typedef struct step {
  int batch;
  double work_ms; /* between begin and end of each direction */
  bench_verify_t *verify;
  int64_t wrong;
  double ms[TIMES], waits_ms; /* waits_ms: in the two directions alone */
  int64_t bytes[LEGS];
} step_t;

/* Something to do, with looks at what is under way as a model's layers have them. */
static sbag_code_t work(bench_t *b, double ms, sbag_status_t *status) {
  double end_s = clock_now() + 1e-3 * ms;
  while (clock_now() < end_s) {
    double pause_s = clock_now() + 50e-6;
    while (clock_now() < pause_s) continue;
    SBAG_TRY(comm_progress(b->comm, status));
  }
  return SBAG_OK;
}

static sbag_code_t end_leg(bench_t *b, step_t *s, int leg, sbag_step_h step, double *mark_s, int64_t *before,
                           sbag_status_t *status) {
  SBAG_TRY(bench_settle(b->context, status));
  int64_t sent = sbag_step_stats(step).bytes_sent;
  double now_s = clock_now();
  s->ms[leg] = 1e3 * (now_s - *mark_s);
  s->bytes[leg] = sent - *before;
  b->messages.leg = leg + 1;
  *mark_s = now_s;
  *before = sent;
  return SBAG_OK;
}

static sbag_code_t run_legs(bench_t *b, step_t *s, sbag_step_h *step, sbag_status_t *status) {
  double begin_s = clock_now(), mark_s = begin_s, waited_s = comm_trace_waited(&b->comm->trace);
  int64_t sent = 0;
  b->messages.leg = LEG_IDS;
  SBAG_TRY(sbag_collection_prefetch(b->collection, b->bags[s->batch], 0, step, status));
  SBAG_TRY(sbag_step_advance(*step, status));
  SBAG_TRY(sbag_step_advance(*step, status));
  SBAG_TRY(end_leg(b, s, LEG_IDS, *step, &mark_s, &sent, status));
  double waited_then_s = comm_trace_waited(&b->comm->trace);
  SBAG_TRY(sbag_step_forward_begin(*step, status));
  SBAG_TRY(work(b, s->work_ms, status));
  SBAG_TRY(sbag_step_forward_end(*step, b->out.there, status));
  SBAG_TRY(end_leg(b, s, LEG_FORWARD, *step, &mark_s, &sent, status));
  SBAG_TRY(sbag_step_backward_begin(*step, b->grad.there, status));
  SBAG_TRY(work(b, s->work_ms, status));
  SBAG_TRY(sbag_step_backward_end(*step, NULL, status));
  SBAG_TRY(end_leg(b, s, LEG_BACKWARD, *step, &mark_s, &sent, status));
  s->ms[TIME_WHOLE] = 1e3 * (mark_s - begin_s);
  s->ms[TIME_WAITS] = 1e3 * (comm_trace_waited(&b->comm->trace) - waited_s);
  s->waits_ms = 1e3 * (comm_trace_waited(&b->comm->trace) - waited_then_s);
  return SBAG_OK;
}

static sbag_code_t update(const bench_t *b, step_t *s, sbag_step_h step, sbag_status_t *status) {
  double begin_s = clock_now();
  SBAG_TRY(sbag_step_update(step, 1.0, 1.0, status));
  SBAG_TRY(bench_settle(b->context, status));
  s->ms[TIME_UPDATE] = 1e3 * (clock_now() - begin_s);
  return SBAG_OK;
}

static sbag_code_t verify(const bench_t *b, step_t *s, sbag_step_h step, sbag_status_t *status) {
  SBAG_TRY(bench_twin_fetch(b->context, &b->out, status));
  bench_verify_forward(s->verify, b->indices[s->batch], b->out.host, &s->wrong);
  return bench_verify_backward(s->verify, step, &s->wrong, status);
}

static sbag_code_t run_step(bench_t *b, step_t *s, sbag_status_t *status) {
  sbag_step_h step = NULL;
  bench_comm_tap_clear(&b->messages);
  SBAG_TRY(comm_barrier(b->comm, "bench: step", status));
  bench_comm_tap_clear(&b->messages);
  b->choice.choice_s = 0;
  double core_s = bench_core_now();
  sbag_code_t code = run_legs(b, s, &step, status);
  core_s = bench_core_now() - core_s;
  s->ms[TIME_CHOICE] = 1e3 * b->choice.choice_s;
  s->ms[TIME_PART] = core_s > 0 ? b->choice.choice_s / core_s : 0;
  if (code == SBAG_OK && s->verify != NULL) code = comm_agree(b->comm, verify(b, s, step, status), status);
  if (code == SBAG_OK && bench_exchange_updates(b->s) && s->verify == NULL) code = update(b, s, step, status);
  sbag_step_release(&step);
  return code;
}

static int compares(const bench_t *b) {
  return b->s->plain && b->plain.kernel != NULL && comm_size(b->comm) > 1;
}

/* The step's messages by themselves: as they were, and plainly. */
static sbag_code_t run_plain(bench_t *b, step_t *s, sbag_status_t *status) {
  if (!compares(b)) return SBAG_OK;
  bench_comm_tap_t kept = b->messages;
  SBAG_TRY(comm_agree(b->comm, bench_plain_take(&b->plain, &kept, status), status));
  double mark_s = clock_now();
  SBAG_TRY(bench_plain_again(&b->plain, &kept, status));
  s->ms[TIME_AGAIN] = 1e3 * (clock_now() - mark_s);
  SBAG_TRY(comm_barrier(b->comm, "bench: plain", status));
  mark_s = clock_now();
  SBAG_TRY(bench_plain_alltoall(&b->plain, status));
  s->ms[TIME_RAW] = 1e3 * (clock_now() - mark_s);
  return SBAG_OK;
}

/* ---- a case ---- */

static sbag_code_t count_batches(bench_t *b, bench_exchange_row_t *row, sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  for (int i = 0; i < BATCHES; i++) {
    bench_batch_fill(b->s, &row->of, comm_rank(b->comm), i, b->indices[i]);
    bench_batch_bags(b->s, &row->of, b->indices[i], b->bags[i]);
    if (code == SBAG_OK)
      code = bench_counter_add(b->counter, &row->of, b->indices[i], &row->count, NULL, status);
  }
  SBAG_TRY(comm_agree(b->comm, code, status));
  return comm_allreduce(b->comm, row->count.n, COUNTS, COMM_I64, COMM_SUM, "bench: counts", status);
}

/* A step of every batch, the first verified: their bytes are those of all that follow. */
static sbag_code_t run_batches(bench_t *b, bench_exchange_row_t *row, sbag_status_t *status) {
  int64_t *sums = b->sums, *wrong = &b->sums[LEGS], *most = &b->sums[LEGS + 1];
  memset(sums, 0, sizeof b->sums);
  for (int i = 0; i < BATCHES; i++) {
    bench_verify_t verify = {b->context, b->collection, b->s, row->of, i};
    step_t step = {.batch = i, .verify = i == 0 && b->s->verify ? &verify : NULL};
    SBAG_TRY(run_step(b, &step, status));
    for (int leg = 0; leg < LEGS; leg++) {
      sums[leg] += step.bytes[leg];
      *most += step.bytes[leg];
    }
    *wrong += step.wrong;
  }
  SBAG_TRY(comm_allreduce(b->comm, sums, LEGS + 1, COMM_I64, COMM_SUM, "bench: bytes", status));
  SBAG_TRY(comm_allreduce(b->comm, most, 1, COMM_I64, COMM_MAX, "bench: bytes", status));
  int64_t ranks = comm_size(b->comm), all = 0;
  for (int leg = 0; leg < LEGS; leg++) {
    row->sent[leg] = (double)sums[leg] / (double)(BATCHES * ranks);
    all += sums[leg];
  }
  row->bytes_most = all > 0 ? (double)(*most * ranks) / (double)all : 1.0;
  row->wrong = b->s->verify ? *wrong : -1;
  return SBAG_OK;
}

static sbag_code_t time_steps(bench_t *b, sbag_status_t *status) {
  for (int64_t i = -b->s->warmup; i < b->s->steps; i++) {
    step_t step = {.batch = (int)((i + b->s->warmup) % BATCHES)};
    SBAG_TRY(run_step(b, &step, status));
    SBAG_TRY(run_plain(b, &step, status));
    for (int t = 0; t < TIMES && i >= 0; t++) b->ms[t][i] = step.ms[t];
  }
  return comm_allreduce(b->comm, b->ms[0], TIMES * b->s->steps, COMM_F64, COMM_MAX, "bench: times", status);
}

static sbag_code_t time_hidden(bench_t *b, sbag_status_t *status) {
  for (int64_t i = 0; i < b->s->steps; i++)
    for (int with = 0; with < 2; with++) {
      step_t step = {.batch = (int)(i % BATCHES), .work_ms = with ? b->s->work_ms : 0};
      SBAG_TRY(run_step(b, &step, status));
      b->waits[with][i] = step.waits_ms;
    }
  return comm_allreduce(b->comm, b->waits[0], 2 * b->s->steps, COMM_F64, COMM_MAX, "bench: waits", status);
}

static bench_range_t range(const bench_t *b, const double *values) {
  memcpy(b->scratch, values, (size_t)b->s->steps * sizeof *values);
  return bench_range(b->scratch, b->s->steps);
}

/* Step by step. */
static bench_range_t ratio(const bench_t *b, const double *over, const double *under) {
  for (int64_t i = 0; i < b->s->steps; i++) b->scratch[i] = under[i] > 0 ? over[i] / under[i] : 0;
  return bench_range(b->scratch, b->s->steps);
}

static void take_times(const bench_t *b, bench_exchange_times_t *t) {
  for (int leg = 0; leg < LEGS; leg++) t->leg[leg] = range(b, b->ms[leg]);
  t->whole = range(b, b->ms[TIME_WHOLE]);
  t->waits = range(b, b->ms[TIME_WAITS]);
  t->has_choice = has_choice(b);
  t->choice = range(b, b->ms[TIME_CHOICE]);
  t->choice_part = range(b, b->ms[TIME_PART]).median;
  t->has_update = bench_exchange_updates(b->s);
  t->update = range(b, b->ms[TIME_UPDATE]);
  t->has_raw = compares(b);
  if (t->has_raw) {
    t->again = range(b, b->ms[TIME_AGAIN]);
    t->raw = range(b, b->ms[TIME_RAW]);
    t->again_ratio = ratio(b, b->ms[TIME_AGAIN], b->ms[TIME_RAW]);
    t->whole_ratio = ratio(b, b->ms[TIME_WHOLE], b->ms[TIME_RAW]);
  }
  t->has_hidden = b->s->work_ms > 0 && comm_size(b->comm) > 1;
  if (!t->has_hidden) return;
  double without = range(b, b->waits[0]).median, with = range(b, b->waits[1]).median;
  t->hidden = without > with ? 1 - with / without : 0;
}

static sbag_code_t run_case(bench_t *b, bench_exchange_row_t *row, sbag_status_t *status) {
  row->timed = 1;
  SBAG_TRY(count_batches(b, row, status));
  if (b->s->verify && (bench_exchange_updates(b->s) || !b->filled))
    SBAG_TRY(bench_verify_fill(b->context, b->collection, b->s, status));
  b->filled = 1;
  SBAG_TRY(run_batches(b, row, status));
  SBAG_TRY(time_steps(b, status));
  if (b->s->work_ms > 0) SBAG_TRY(time_hidden(b, status));
  take_times(b, &row->times);
  return SBAG_OK;
}

/* ---- all cases ---- */

typedef struct output {
  FILE *out, *json;
  const char *json_path;
} output_t;

static void report(const bench_t *b, const bench_exchange_row_t *rows, int count, int64_t wrong, FILE *out) {
  int within = 1;
  bench_exchange_report_counts_head(out);
  for (int i = 0; i < count; i++) {
    bench_exchange_report_counts(out, &rows[i]);
    within &= bench_exchange_within(b->s, &rows[i]);
  }
  bench_exchange_report_times_head(out);
  for (int i = 0; i < count; i++) bench_exchange_report_times(out, &rows[i]);
  if (b->s->kind == SBAG_EXCHANGE_AUTO) fprintf(out, "# within: %s\n", within ? "yes" : "no");
  if (b->s->verify) fprintf(out, "# wrong: %lld\n", (long long)wrong);
}

static sbag_code_t run_cases(bench_t *b, const output_t *o, bench_exchange_row_t *rows,
                             sbag_status_t *status) {
  const bench_exchange_settings_t *s = b->s;
  int count = s->lengths.count * s->zipf.count, speaks = comm_rank(b->comm) == 0;
  int64_t wrong = 0;
  for (int i = 0; i < count; i++) {
    rows[i].of = (bench_shape_t){.length = s->lengths.values[i % s->lengths.count],
                                 .zipf = s->zipf.values[i / s->lengths.count]};
    rows[i].ranks = comm_size(b->comm);
    rows[i].cover = b->cover;
    SBAG_TRY(run_case(b, &rows[i], status));
    sbag_code_t code =
        speaks ? bench_exchange_report_json(o->json, o->json_path, s, &rows[i], status) : SBAG_OK;
    SBAG_TRY(comm_agree(b->comm, code, status));
    wrong += rows[i].wrong > 0 ? rows[i].wrong : 0;
  }
  if (speaks) {
    bench_exchange_report_setup(o->out, s);
    fprintf(o->out, "# %d ranks, on %s, %lld steps of each case after %lld\n", comm_size(b->comm),
            bench_device_name(b->context), (long long)s->steps, (long long)s->warmup);
    report(b, rows, count, wrong, o->out);
  }
  if (wrong == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "%lld of the bags and rows that were computed again are wrong",
                    (long long)wrong);
}

/* All of it is one block, because a broken comm may still write into it. */
typedef struct whole {
  bench_t bench;
  bench_exchange_row_t rows[];
} whole_t;

sbag_code_t bench_exchange(sbag_context_h context, const bench_exchange_settings_t *settings, int cover,
                           FILE *out, FILE *json, const char *json_path, sbag_status_t *status) {
  int64_t cases = (int64_t)settings->lengths.count * settings->zipf.count;
  comm_t *comm = context_comm(context);
  mem_t *mem = context_mem(context);
  void *block = NULL;
  sbag_code_t code = mem_calloc(mem, sizeof(whole_t) + mem_array_bytes(cases, sizeof(bench_exchange_row_t)),
                                "bench: cases", &block, status);
  whole_t *whole = block;
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) {
    const output_t output = {out, json, json_path};
    whole->bench = (bench_t){.s = settings, .context = context, .comm = comm, .mem = mem, .cover = cover};
    code = create(&whole->bench, status);
    if (code == SBAG_OK) code = run_cases(&whole->bench, &output, whole->rows, status);
    destroy(&whole->bench);
  }
  if (comm_check(comm, NULL) == SBAG_OK) mem_free(mem, block);
  return code;
}
