/* Rounds of steps, in turn with the limit: see pool.h. A case's batches are a few, made before the clock
 * runs, and come in turn; a round is one step with each. Every time is that of the slowest rank. */
#include "bench/pool.h"

#include "base/clock.h"
#include "bench/device.h"
#include "bench/json.h"
#include "bench/pool_limit.h"
#include "bench/pool_verify.h"
#include "collection/context.h"
#include "kernel/optimizer.h"
#include <inttypes.h>
#include <string.h>

/* The times of a round, in ms. */
enum { FORWARD, BACKWARD, UPDATE, LIMIT_FORWARD, LIMIT_UPDATE, TIMES };

typedef struct bench {
  const bench_pool_settings_t *s;
  sbag_context_h context;
  comm_t *comm;
  mem_t *mem;
  sbag_collection_h collection;
  bench_limit_t limit;
  bench_pool_batch_t *batches; /* [batches] */
  bench_twin_t out, grad;      /* [batch][columns] */
  double *ms[TIMES];           /* [rounds] */
  double *scratch;             /* [rounds] */
  int limits;                  /* 1: with the limit */
  int64_t wrong;               /* of all cases */
  FILE *out_file, *json;
  const char *json_path;
  void *blocks[2];
} bench_t;

/* ---- a round ---- */

/* Adds what passed since the mark, which is now, to *ms. */
static sbag_code_t stop(const bench_t *b, double *mark_s, double *ms, sbag_status_t *status) {
  SBAG_TRY(bench_settle(b->context, status));
  double now_s = clock_now();
  *ms += 1e3 * (now_s - *mark_s);
  *mark_s = now_s;
  return SBAG_OK;
}

static sbag_code_t take_step(bench_t *b, const bench_pool_case_t *of, int64_t i, double ms[TIMES],
                             sbag_status_t *status) {
  int trains = of->optimizer.trains, flags = trains ? 0 : BENCH_POOL_FORWARD;
  sbag_step_h step = NULL;
  SBAG_TRY(comm_barrier(b->comm, "bench: step", status));
  double mark_s = clock_now();
  sbag_code_t code = sbag_collection_forward_begin(b->collection, b->batches[i].bags, flags, &step, status);
  if (code == SBAG_OK) code = sbag_step_forward_end(step, b->out.there, status);
  if (code == SBAG_OK) code = stop(b, &mark_s, &ms[FORWARD], status);
  if (code == SBAG_OK && trains) code = sbag_step_backward(step, b->grad.there, NULL, status);
  if (code == SBAG_OK) code = stop(b, &mark_s, &ms[BACKWARD], status);
  if (code == SBAG_OK && trains) code = sbag_step_update(step, 1.0, 1.0, status);
  sbag_step_release(&step);
  return code == SBAG_OK ? stop(b, &mark_s, &ms[UPDATE], status) : code;
}

static sbag_code_t take_limit(bench_t *b, const bench_pool_case_t *of, double ms[TIMES],
                              sbag_status_t *status) {
  if (!b->limits) return SBAG_OK;
  for (int64_t i = 0; i < b->s->batches; i++) {
    SBAG_TRY(comm_barrier(b->comm, "bench: limit", status));
    double mark_s = clock_now();
    bench_limit_forward(&b->limit, i);
    SBAG_TRY(stop(b, &mark_s, &ms[LIMIT_FORWARD], status));
  }
  for (int64_t i = 0; i < b->s->batches && of->optimizer.trains; i++) {
    double mark_s = clock_now();
    bench_limit_update(&b->limit, i);
    SBAG_TRY(stop(b, &mark_s, &ms[LIMIT_UPDATE], status));
  }
  return SBAG_OK;
}

static sbag_code_t take_round(bench_t *b, const bench_pool_case_t *of, int64_t round, double ms[TIMES],
                              sbag_status_t *status) {
  memset(ms, 0, TIMES * sizeof *ms);
  if (round % 2 == 1) SBAG_TRY(take_limit(b, of, ms, status));
  for (int64_t i = 0; i < b->s->batches; i++) SBAG_TRY(take_step(b, of, i, ms, status));
  if (round % 2 == 0) SBAG_TRY(take_limit(b, of, ms, status));
  for (int t = 0; t < TIMES; t++) ms[t] /= (double)b->s->batches;
  return SBAG_OK;
}

/* ---- the report ---- */

static void print_head(const bench_t *b) {
  const bench_pool_settings_t *s = b->s;
  fprintf(b->out_file,
          "# shardbag %s bench pool: ranks %d, %d threads a rank, %s, %" PRId64 " rounds of %" PRId64
          " batches after %" PRId64 "\n",
          sbag_version(), comm_size(b->comm), sbag_context_threads(b->context), bench_device_name(b->context),
          s->rounds, s->batches, s->warmup);
  fprintf(b->out_file,
          "# %" PRId64 " tables of %" PRId64 " rows, layout %s; batch %" PRId64
          " bags of each table on every rank, lengths %s, popular rows %s, seed %" PRId64 "\n",
          s->tables, s->rows, bench_pool_layout_name(s), s->batch, bench_pool_lengths_name(s),
          s->scatter ? "anywhere" : "first", s->seed);
  fprintf(
      b->out_file,
      "# GB/s as FBGEMM's benchmark counts: forward, all looked-up rows and the output; backward and update, "
      "twice that\n");
  if (b->limits)
    fprintf(b->out_file,
            "# limit, in the same rounds, loops in %s: the same rows gathered (L=1: and written to an "
            "output); for "
            "the update\n# the batch's distinct rows read and written, and as much again for a state of "
            "their size, a "
            "cache line for one value\n",
            bench_loops_name());
  fprintf(b->out_file,
          "#\n"
          "#                                                   |----- forward ------| |---- backward "
          "and update ----| |step|\n"
          "# mode storage            optimizer  dim    L  zipf     ms    GB/s limit%%  bwd ms  upd ms   "
          " GB/s limit%%     ms"
          " #wrong\n");
}

static bench_range_t range(const bench_t *b, const double *values) {
  memcpy(b->scratch, values, (size_t)b->s->rounds * sizeof *values);
  return bench_range(b->scratch, b->s->rounds);
}

/* Round by round: above[i] * times / (one[i] + other[i]). */
static double part(const bench_t *b, const double *above, double times, const double *one,
                   const double *other) {
  for (int64_t i = 0; i < b->s->rounds; i++)
    b->scratch[i] = above[i] * times / (one[i] + (other != NULL ? other[i] : 0));
  return bench_range(b->scratch, b->s->rounds).median;
}

/* Of 32 bits, in a row. */
static int64_t words_of(int64_t dim, sbag_storage_t storage) {
  return ((int64_t)kernel_row_bytes(SBAG_F32, storage, dim) + 3) / 4;
}

/* What a row and its states take, in rows. */
static double row_with_states(const bench_pool_case_t *of) {
  sbag_optimizer_options_t options = sbag_optimizer_options_default(of->optimizer.kind);
  optimizer_info_t info = optimizer_info(&options);
  double row = (double)words_of(of->dim, of->storage), words = row;
  for (int i = 0; i < info.state_count; i++) words += info.states[i].row_wise ? 16.0 : (double)of->dim;
  return words / row;
}

typedef struct numbers {
  bench_range_t ms[TIMES], step;
  double bytes, forward_part, update_part; /* bytes of the forward, of all ranks */
  int64_t wrong;                           /* negative: not looked for */
} numbers_t;

static void print_part(const bench_t *b, double part_of_limit) {
  if (b->limits)
    fprintf(b->out_file, " %6.1f", 100 * part_of_limit);
  else
    fprintf(b->out_file, " %6s", "-");
}

static void print_row(const bench_t *b, const bench_pool_case_t *of, const numbers_t *n) {
  double grad_ms = n->ms[BACKWARD].median + n->ms[UPDATE].median;
  fprintf(b->out_file, "%6s %7s %20s %4" PRId64 " %4" PRId64 " %5.2f %6.2f %7.2f",
          bench_pool_mode_name(of->mode), bench_pool_storage_name(of->storage),
          bench_pool_optimizer_name(&of->optimizer), of->dim, of->length, of->zipf, n->ms[FORWARD].median,
          n->bytes / n->ms[FORWARD].median / 1e6);
  print_part(b, n->forward_part);
  if (of->optimizer.trains) {
    fprintf(b->out_file, " %7.2f %7.2f %7.2f", n->ms[BACKWARD].median, n->ms[UPDATE].median,
            2 * n->bytes / grad_ms / 1e6);
    print_part(b, n->update_part);
  } else {
    fprintf(b->out_file, " %7s %7s %7s %6s", "-", "-", "-", "-");
  }
  char wrong[24] = "N/A";
  if (n->wrong >= 0) snprintf(wrong, sizeof wrong, "%" PRId64, n->wrong);
  fprintf(b->out_file, " %6.2f %6s\n", n->step.median, wrong);
}

static sbag_code_t write_json(const bench_t *b, const bench_pool_case_t *of, const numbers_t *n,
                              sbag_status_t *status) {
  json_object *line = bench_json("pool");
  bench_json_int(line, "ranks", comm_size(b->comm));
  bench_json_int(line, "threads", sbag_context_threads(b->context));
  bench_json_text(line, "device", bench_device_name(b->context));
  bench_json_text(line, "mode", bench_pool_mode_name(of->mode));
  bench_json_text(line, "storage", bench_pool_storage_name(of->storage));
  bench_json_text(line, "optimizer", bench_pool_optimizer_name(&of->optimizer));
  bench_json_int(line, "rows", b->s->rows);
  bench_json_int(line, "tables", b->s->tables);
  bench_json_int(line, "batch", b->s->batch);
  bench_json_int(line, "dim", of->dim);
  bench_json_int(line, "length", of->length);
  bench_json_text(line, "lengths", bench_pool_lengths_name(b->s));
  bench_json_real(line, "zipf", of->zipf);
  bench_json_range(line, "forward_ms", n->ms[FORWARD]);
  bench_json_real(line, "forward_gb_per_s", n->bytes / n->ms[FORWARD].median / 1e6);
  if (b->limits) bench_json_range(line, "limit_ms", n->ms[LIMIT_FORWARD]);
  if (b->limits) bench_json_real(line, "forward_of_limit", n->forward_part);
  if (of->optimizer.trains) {
    bench_json_range(line, "backward_ms", n->ms[BACKWARD]);
    bench_json_range(line, "update_ms", n->ms[UPDATE]);
    bench_json_range(line, "step_ms", n->step);
    if (b->limits) bench_json_range(line, "update_limit_ms", n->ms[LIMIT_UPDATE]);
    if (b->limits) bench_json_real(line, "update_of_limit", n->update_part);
  }
  if (n->wrong >= 0) bench_json_int(line, "wrong", n->wrong);
  return bench_json_write(b->json, b->json_path, line, status);
}

static sbag_code_t report(bench_t *b, const bench_pool_case_t *of, numbers_t *n, sbag_status_t *status) {
  for (int t = 0; t < TIMES; t++) n->ms[t] = range(b, b->ms[t]);
  if (b->limits) {
    n->forward_part = part(b, b->ms[LIMIT_FORWARD], 1.0, b->ms[FORWARD], NULL);
    if (of->optimizer.trains)
      n->update_part = part(b, b->ms[LIMIT_UPDATE], row_with_states(of), b->ms[BACKWARD], b->ms[UPDATE]);
  }
  for (int64_t i = 0; i < b->s->rounds; i++)
    b->scratch[i] = b->ms[FORWARD][i] + b->ms[BACKWARD][i] + b->ms[UPDATE][i];
  n->step = bench_range(b->scratch, b->s->rounds);
  print_row(b, of, n);
  fflush(b->out_file);
  return b->json != NULL ? write_json(b, of, n, status) : SBAG_OK;
}

/* ---- a case ---- */

static void give_up_batches(bench_t *b) {
  for (int64_t i = 0; i < b->s->batches && b->batches != NULL; i++)
    bench_pool_batch_destroy(b->context, &b->batches[i]);
}

static sbag_code_t make_batches(bench_t *b, const bench_pool_case_t *of, sbag_status_t *status) {
  give_up_batches(b);
  for (int64_t i = 0; i < b->s->batches; i++)
    SBAG_TRY(bench_pool_batch_create(b->s, of, comm_rank(b->comm), i, b->context, &b->batches[i], status));
  return b->limits ? bench_limit_take(&b->limit, b->s, of, b->batches, status) : SBAG_OK;
}

static double forward_bytes(const bench_t *b, const bench_pool_case_t *of) {
  double rows = 0, pools = (double)(b->s->tables * b->s->batch);
  for (int64_t i = 0; i < b->s->batches; i++)
    rows += (double)b->batches[i].first[b->s->tables] / (double)b->s->batches;
  double row_bytes = (double)kernel_row_bytes(SBAG_F32, of->storage, of->dim);
  return rows * row_bytes + pools * (double)of->dim * 4.0;
}

static sbag_code_t verify(bench_t *b, const bench_pool_case_t *of, int64_t *wrong, sbag_status_t *status) {
  const bench_pool_verify_t v = {.context = b->context,
                                 .collection = b->collection,
                                 .settings = b->s,
                                 .of = of,
                                 .batch = &b->batches[0],
                                 .grad = &b->grad,
                                 .out = &b->out};
  *wrong = 0;
  SBAG_TRY(bench_pool_verify(&v, wrong, status));
  SBAG_TRY(comm_allreduce(b->comm, wrong, 1, COMM_I64, COMM_SUM, "bench: wrong", status));
  b->wrong += *wrong;
  return SBAG_OK;
}

static sbag_code_t run_case(bench_t *b, const bench_pool_case_t *of, sbag_status_t *status) {
  numbers_t n = {.wrong = -1};
  SBAG_TRY(comm_agree(b->comm, make_batches(b, of, status), status));
  if (b->s->verify) SBAG_TRY(verify(b, of, &n.wrong, status));
  n.bytes = forward_bytes(b, of);
  SBAG_TRY(comm_allreduce(b->comm, &n.bytes, 1, COMM_F64, COMM_SUM, "bench: bytes", status));
  for (int64_t i = -b->s->warmup; i < b->s->rounds; i++) {
    double ms[TIMES];
    SBAG_TRY(take_round(b, of, i + b->s->warmup, ms, status));
    for (int t = 0; t < TIMES && i >= 0; t++) b->ms[t][i] = ms[t];
  }
  SBAG_TRY(
      comm_allreduce(b->comm, b->ms[0], TIMES * b->s->rounds, COMM_F64, COMM_MAX, "bench: times", status));
  sbag_code_t code = comm_rank(b->comm) == 0 ? report(b, of, &n, status) : SBAG_OK;
  return comm_agree(b->comm, code, status);
}

/* ---- all cases ---- */

enum { NAME_BYTES = 16 };

static sbag_code_t create_collection(bench_t *b, const bench_pool_case_t *of, sbag_status_t *status) {
  const bench_pool_settings_t *s = b->s;
  void *block = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  size_t each = sizeof(sbag_table_options_t) + sizeof(sbag_feature_options_t) + NAME_BYTES;
  sbag_code_t code = mem_calloc(b->mem, mem_array_bytes(s->tables, each), "bench: tables", &block, status);
  SBAG_TRY(comm_agree(b->comm, code, status));
  sbag_table_options_t *tables = block;
  sbag_feature_options_t *features = (sbag_feature_options_t *)(tables + s->tables);
  char *name = (char *)(features + s->tables);
  options.weight_grad = of->optimizer.trains;
  for (int t = 0; t < s->tables; t++, name += NAME_BYTES) {
    snprintf(name, NAME_BYTES, "t%d", t);
    tables[t] = sbag_table_options_default(name, s->rows, of->dim);
    tables[t].init = SBAG_INIT_CONSTANT;
    tables[t].init_a = 0.5;
    tables[t].storage = of->storage;
    tables[t].layout = (sbag_layout_t)s->layout;
    if (of->optimizer.trains) tables[t].optimizer = sbag_optimizer_options_default(of->optimizer.kind);
    features[t] = sbag_feature_options_default(name, t);
    features[t].mode = of->mode;
  }
  code = sbag_collection_create(b->context, &options, tables, (int)s->tables, features, (int)s->tables,
                                &b->collection, status);
  mem_free(b->mem, block);
  return code;
}

static sbag_code_t run_cases_of(bench_t *b, bench_pool_case_t *of, sbag_status_t *status) {
  SBAG_TRY(create_collection(b, of, status));
  for (int z = 0; z < b->s->zipf.count; z++)
    for (int l = 0; l < b->s->lengths.count; l++) {
      of->zipf = b->s->zipf.values[z];
      of->length = b->s->lengths.values[l];
      SBAG_TRY(run_case(b, of, status));
    }
  sbag_collection_destroy(&b->collection);
  return SBAG_OK;
}

static sbag_code_t create_for_rows(bench_t *b, int64_t dim, sbag_storage_t storage, sbag_status_t *status) {
  int64_t values = b->s->batch * b->s->tables * dim;
  SBAG_TRY(
      mem_calloc(b->mem, mem_array_bytes(2 * values, sizeof(float)), "bench: pools", &b->blocks[1], status));
  float *out = b->blocks[1], *grad = out + values;
  int64_t bytes = values * (int64_t)sizeof *out;
  bench_pool_grad(b->s, dim, comm_rank(b->comm), grad);
  SBAG_TRY(bench_twin_create(b->context, out, bytes, &b->out, status));
  SBAG_TRY(bench_twin_create(b->context, grad, bytes, &b->grad, status));
  if (!b->limits) return SBAG_OK;
  return bench_limit_create(b->s, words_of(dim, storage), comm_size(b->comm),
                            sbag_context_threads(b->context), b->mem, &b->limit, status);
}

static void destroy_for_rows(bench_t *b) {
  bench_limit_destroy(&b->limit);
  bench_twin_destroy(b->context, &b->out);
  bench_twin_destroy(b->context, &b->grad);
  mem_free(b->mem, b->blocks[1]);
  b->blocks[1] = NULL;
}

static sbag_code_t run_rows(bench_t *b, int64_t dim, sbag_storage_t storage, sbag_status_t *status) {
  SBAG_TRY(comm_agree(b->comm, create_for_rows(b, dim, storage, status), status));
  for (int o = 0; o < b->s->optimizer_count; o++)
    for (int m = 0; m < b->s->modes.count; m++) {
      bench_pool_case_t of = {.storage = storage, .optimizer = b->s->optimizers[o], .dim = dim};
      of.mode = (sbag_mode_t)b->s->modes.values[m];
      SBAG_TRY(run_cases_of(b, &of, status));
    }
  destroy_for_rows(b);
  return SBAG_OK;
}

static sbag_code_t run_all(bench_t *b, sbag_status_t *status) {
  if (comm_rank(b->comm) == 0) print_head(b);
  for (int d = 0; d < b->s->dims.count; d++)
    for (int i = 0; i < b->s->storages.count; i++)
      SBAG_TRY(run_rows(b, b->s->dims.values[d], (sbag_storage_t)b->s->storages.values[i], status));
  return SBAG_OK;
}

static sbag_code_t allocate(bench_t *b, sbag_status_t *status) {
  size_t bytes = mem_array_bytes((TIMES + 1) * b->s->rounds, sizeof(double)) +
                 mem_array_bytes(b->s->batches, sizeof(bench_pool_batch_t));
  SBAG_TRY(mem_calloc(b->mem, bytes, "bench: times", &b->blocks[0], status));
  double *next = b->blocks[0];
  for (int t = 0; t < TIMES; t++, next += b->s->rounds) b->ms[t] = next;
  b->scratch = next;
  b->batches = (bench_pool_batch_t *)(void *)(next + b->s->rounds);
  return SBAG_OK;
}

/* A broken comm may still write into what is in flight: it is left. */
static void destroy(bench_t *b) {
  sbag_collection_destroy(&b->collection);
  if (comm_check(b->comm, NULL) != SBAG_OK) return;
  destroy_for_rows(b);
  give_up_batches(b);
  mem_free(b->mem, b->blocks[0]);
}

sbag_code_t bench_pool(sbag_context_h context, const bench_pool_settings_t *settings, FILE *out, FILE *json,
                       const char *json_path, sbag_status_t *status) {
  bench_t b = {.s = settings, .context = context, .comm = context_comm(context), .mem = context_mem(context)};
  b.limits = settings->limit && sbag_context_device(context) == SBAG_DEVICE_CPU;
  b.out_file = out;
  b.json = json;
  b.json_path = json_path;
  sbag_code_t code = comm_agree(b.comm, allocate(&b, status), status);
  if (code == SBAG_OK) code = run_all(&b, status);
  destroy(&b);
  if (code != SBAG_OK || b.wrong == 0) return code;
  return status_set(status, SBAG_ERR_STATE,
                    "%" PRId64 " of the bags and rows that were computed again are wrong", b.wrong);
}
