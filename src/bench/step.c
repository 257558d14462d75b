/* Rounds of steps with and without the pipeline, and of the dense part by itself: see step.h.
 *
 * Every step gives each row of the comm's trace a number of its own. A rank's number for a row is the median
 * over its steps; what is printed is the median and the largest of the ranks' numbers. */
#include "bench/step.h"

#include "base/clock.h"
#include "bench/json.h"
#include "bench/report.h"
#include <inttypes.h>
#include <string.h>

enum { PIPELINED, PLAIN, STEP_WAYS, DENSE = STEP_WAYS, PRODUCTS, WAYS };
enum { NAME_BYTES = 48 };

static const char *const way_names[STEP_WAYS] = {"pipelined", "one step after the other"};

/* A row of the trace as rank 0 knows it, and what all ranks say of it. */
typedef struct step_name {
  int32_t is_transfer;
  char text[NAME_BYTES];
} step_name_t;

typedef struct step_number {
  double ms, hidden_ms, sent_bytes;
} step_number_t;

typedef struct bench {
  const bench_step_config_t *c;
  int ranks, ways;
  int64_t samples; /* of each way */
  int64_t taken[WAYS];
  double *ms[WAYS];     /* [samples] whole steps */
  double *row_ms[WAYS]; /* [COMM_TRACE_ROWS][samples] */
  double *row_hidden[WAYS];
  double bytes[WAYS][COMM_TRACE_ROWS]; /* sums */
  double *scratch;                     /* [samples or ranks] */
  double whole_ms[WAYS];               /* the slowest rank's */
  comm_trace_t before;
  struct {
    int64_t count;
    step_name_t name[COMM_TRACE_ROWS];
  } names;
  step_number_t *mine, *all; /* [rows + 1], [ranks][rows + 1]: the last one is the whole step */
  void *doubles, *numbers;
} bench_t;

enum { NUMBERS = COMM_TRACE_ROWS + 1, WHOLE = COMM_TRACE_ROWS };

static sbag_code_t allocate(bench_t *b, sbag_status_t *status) {
  int64_t n = b->samples, scratch = n > b->ranks ? n : b->ranks;
  int64_t doubles = WAYS * n * (1 + 2 * COMM_TRACE_ROWS) + scratch;
  SBAG_TRY(
      mem_calloc(b->c->mem, mem_array_bytes(doubles, sizeof(double)), "bench: times", &b->doubles, status));
  double *next = b->doubles;
  for (int way = 0; way < WAYS; way++) {
    b->ms[way] = next;
    b->row_ms[way] = next + n;
    b->row_hidden[way] = next + n + n * COMM_TRACE_ROWS;
    next += n * (1 + 2 * COMM_TRACE_ROWS);
  }
  b->scratch = next;
  SBAG_TRY(mem_calloc(b->c->mem, mem_array_bytes((int64_t)NUMBERS * (b->ranks + 1), sizeof(step_number_t)),
                      "bench: numbers", &b->numbers, status));
  b->mine = b->numbers;
  b->all = b->mine + NUMBERS;
  return SBAG_OK;
}

/* ---- steps ---- */

static void record(bench_t *b, int way, double seconds) {
  const comm_trace_t *now = &b->c->comm->trace;
  int64_t at = b->taken[way]++;
  b->ms[way][at] = 1e3 * seconds;
  for (int i = 0; i < now->row_count; i++) {
    comm_trace_row_t was = i < b->before.row_count ? b->before.rows[i] : (comm_trace_row_t){.seconds = 0};
    b->row_ms[way][i * b->samples + at] = 1e3 * (now->rows[i].seconds - was.seconds);
    b->row_hidden[way][i * b->samples + at] = 1e3 * (now->rows[i].hidden_s - was.hidden_s);
    b->bytes[way][i] += (double)(now->rows[i].bytes - was.bytes);
  }
}

static sbag_code_t take_step(bench_t *b, int way, int ahead, int measured, sbag_status_t *status) {
  comm_trace_t *trace = &b->c->comm->trace;
  comm_trace_phase(trace, "between phases");
  b->before = *trace;
  double start_s = clock_now();
  SBAG_TRY(b->c->take(b->c->user, ahead, status));
  comm_trace_phase(trace, "between phases");
  if (measured) record(b, way, clock_now() - start_s);
  comm_trace_phase(trace, NULL);
  return SBAG_OK;
}

/* The first step has nothing begun before it, and the last begins nothing: they are not measured. */
static sbag_code_t take_block(bench_t *b, int way, int64_t steps, int measured, sbag_status_t *status) {
  int ahead = way == PIPELINED;
  SBAG_TRY(take_step(b, way, ahead, 0, status));
  for (int64_t i = 0; i < steps; i++) SBAG_TRY(take_step(b, way, ahead, measured, status));
  return take_step(b, way, 0, 0, status);
}

/* A rank that fails alone tells the others by the comm. */
static sbag_code_t take_alone(bench_t *b, int way, int64_t count, int measured, sbag_status_t *status) {
  for (int64_t i = 0; i < count; i++) {
    double start_s = clock_now();
    sbag_code_t code = b->c->alone(b->c->user, way == DENSE ? BENCH_DENSE : BENCH_PRODUCTS, status);
    if (code != SBAG_OK) comm_fail(b->c->comm, status);
    SBAG_TRY(code);
    if (measured) b->ms[way][b->taken[way]++] = 1e3 * (clock_now() - start_s);
  }
  return SBAG_OK;
}

static sbag_code_t take_turn(bench_t *b, int way, int64_t count, int measured, sbag_status_t *status) {
  return way < STEP_WAYS ? take_block(b, way, count, measured, status)
                         : take_alone(b, way, count, measured, status);
}

static sbag_code_t run_rounds(bench_t *b, sbag_status_t *status) {
  for (int way = 0; way < b->ways; way++) SBAG_TRY(take_turn(b, way, b->c->warmup, 0, status));
  for (int64_t round = 0; round < b->c->rounds; round++)
    for (int turn = 0; turn < b->ways; turn++) {
      SBAG_TRY(comm_barrier(b->c->comm, "bench: round", status));
      SBAG_TRY(take_turn(b, (int)((turn + round) % b->ways), b->c->steps, 1, status));
    }
  return SBAG_OK;
}

/* ---- numbers of all ranks ---- */

/* Ranks may have met their rows in different orders: rank 0's is everybody's. */
static sbag_code_t share_names(bench_t *b, sbag_status_t *status) {
  const comm_trace_t *trace = &b->c->comm->trace;
  b->names.count = trace->row_count;
  for (int i = 0; i < trace->row_count; i++) {
    b->names.name[i].is_transfer = trace->rows[i].is_transfer;
    snprintf(b->names.name[i].text, NAME_BYTES, "%s", trace->rows[i].name);
  }
  return comm_broadcast(b->c->comm, &b->names, (int64_t)sizeof b->names, 0, "bench: names", status);
}

static int find_row(const comm_trace_t *trace, const step_name_t *name) {
  for (int i = 0; i < trace->row_count; i++)
    if (trace->rows[i].is_transfer == name->is_transfer &&
        strncmp(trace->rows[i].name, name->text, NAME_BYTES - 1) == 0)
      return i;
  return -1;
}

static double median(bench_t *b, const double *values, int64_t count) {
  memcpy(b->scratch, values, (size_t)count * sizeof *values);
  return bench_range(b->scratch, count).median;
}

static sbag_code_t gather(bench_t *b, int way, sbag_status_t *status) {
  int64_t n = b->taken[way];
  for (int r = 0; r < b->names.count; r++) {
    int row = find_row(&b->c->comm->trace, &b->names.name[r]);
    b->mine[r] = (step_number_t){.ms = 0.0};
    if (row < 0) continue;
    b->mine[r] = (step_number_t){.ms = median(b, b->row_ms[way] + row * b->samples, n),
                                 .hidden_ms = median(b, b->row_hidden[way] + row * b->samples, n),
                                 .sent_bytes = b->bytes[way][row] / (double)n};
  }
  b->mine[WHOLE] = (step_number_t){.ms = median(b, b->ms[way], n)};
  return comm_allgather(b->c->comm, b->mine, (int64_t)(NUMBERS * sizeof *b->mine), b->all, "bench: numbers",
                        status);
}

typedef struct over_ranks {
  double ms, ms_max, hidden_ms, hidden_ms_max, sent_bytes;
} over_ranks_t;

static bench_range_t over(bench_t *b, int number, size_t offset) {
  for (int r = 0; r < b->ranks; r++) {
    const char *at = (const char *)&b->all[(int64_t)r * NUMBERS + number] + offset;
    memcpy(&b->scratch[r], at, sizeof *b->scratch);
  }
  return bench_range(b->scratch, b->ranks);
}

static over_ranks_t over_ranks(bench_t *b, int number) {
  bench_range_t ms = over(b, number, offsetof(step_number_t, ms));
  bench_range_t hidden = over(b, number, offsetof(step_number_t, hidden_ms));
  bench_range_t bytes = over(b, number, offsetof(step_number_t, sent_bytes));
  return (over_ranks_t){.ms = ms.median,
                        .ms_max = ms.max,
                        .hidden_ms = hidden.median,
                        .hidden_ms_max = hidden.max,
                        .sent_bytes = bytes.median};
}

/* ---- the report ---- */

/* One row of a table and of the JSON lines. kind: "phase", "transfer", "step". */
static sbag_code_t report_row(bench_t *b, int way, const char *kind, const char *name, int number, FILE *out,
                              FILE *json, const char *json_path, sbag_status_t *status) {
  over_ranks_t row = over_ranks(b, number), whole = over_ranks(b, WHOLE);
  fprintf(out, "%-36s %9.3f %9.3f %7.1f %9.3f %9.3f", name, row.ms, row.ms_max,
          whole.ms > 0 ? 100 * row.ms / whole.ms : 0.0, row.hidden_ms, row.hidden_ms_max);
  if (strcmp(kind, "transfer") == 0)
    fprintf(out, " %9.1f\n", row.sent_bytes / 1e3);
  else
    fprintf(out, " %9s\n", "-");
  if (json == NULL) return SBAG_OK;
  json_object *object = bench_json("step");
  bench_json_int(object, "ranks", b->ranks);
  bench_json_bool(object, "pipeline", way == PIPELINED);
  bench_json_text(object, "kind", kind);
  bench_json_text(object, "name", name);
  bench_json_real(object, "ms", row.ms);
  bench_json_real(object, "ms_max", row.ms_max);
  bench_json_real(object, "hidden_ms", row.hidden_ms);
  bench_json_real(object, "hidden_ms_max", row.hidden_ms_max);
  bench_json_real(object, "sent_bytes", row.sent_bytes);
  return bench_json_write(json, json_path, object, status);
}

/* Rows that no step of any rank spent time in are left out. */
static int is_idle(bench_t *b, int number) {
  over_ranks_t row = over_ranks(b, number);
  return row.ms_max <= 0 && row.hidden_ms_max <= 0;
}

static void print_shares(bench_t *b, FILE *out) {
  double exposed = 0, hidden = 0;
  for (int r = 0; r < b->names.count; r++) {
    if (!b->names.name[r].is_transfer) continue;
    over_ranks_t row = over_ranks(b, r);
    exposed += row.ms;
    hidden += row.hidden_ms;
  }
  double all = exposed + hidden;
  fprintf(out, "# transfers, one by one: %.3f ms exposed, %.3f ms hidden (%.0f %%)\n#\n", exposed, hidden,
          all > 0 ? 100 * hidden / all : 0.0);
}

static sbag_code_t report_way(bench_t *b, int way, FILE *out, FILE *json, const char *json_path,
                              sbag_status_t *status) {
  static const char *const kinds[] = {"phase", "transfer"};
  fprintf(out,
          "# %s\n"
          "#                                    |----- ms -----| |share| |-- hidden ms --|      sent\n"
          "#                                       median   largest      %%    median   largest        kB\n",
          way_names[way]);
  for (int kind = 0; kind < 2; kind++) {
    fprintf(out, kind == 0 ? "# phases: work; hidden: of it, with a transfer under way\n"
                           : "# transfers: waits; hidden: under way, and the rank at work\n");
    for (int r = 0; r < b->names.count; r++)
      if (b->names.name[r].is_transfer == kind && !is_idle(b, r))
        SBAG_TRY(report_row(b, way, kinds[kind], b->names.name[r].text, r, out, json, json_path, status));
  }
  SBAG_TRY(report_row(b, way, "step", "the whole step", WHOLE, out, json, json_path, status));
  print_shares(b, out);
  return SBAG_OK;
}

/* Rank 0's medians of each round, in pairs. */
static void report_gain(bench_t *b, FILE *out) {
  int64_t steps = b->c->steps, rounds = b->c->rounds;
  double *ratios = b->ms[PLAIN]; /* the first `rounds` values, each behind what it is made of */
  for (int64_t round = 0; round < rounds; round++) {
    double piped = median(b, b->ms[PIPELINED] + round * steps, steps);
    double plain = median(b, b->ms[PLAIN] + round * steps, steps);
    ratios[round] = piped / plain;
  }
  bench_range_t range = bench_range(ratios, rounds);
  fprintf(out, "# pipelined / one after the other, by round: min %.3f, median %.3f, max %.3f\n", range.min,
          range.median, range.max);
}

static sbag_code_t report_rate(bench_t *b, int way, double ms, FILE *out, FILE *json, const char *json_path,
                               sbag_status_t *status) {
  static const char *const names[WAYS] = {"pipelined", "one step after the other", "the dense part alone",
                                          "its matrix products alone"};
  double rate = ms > 0 ? 1e3 * (double)b->c->samples / ms : 0;
  fprintf(out, "# %-26s %9.3f ms %9.0f samples/s", names[way], ms, rate);
  if (way == DENSE)
    fprintf(out, "; the steps': %.3f of it", rate > 0 ? b->whole_ms[DENSE] / b->whole_ms[PIPELINED] : 0);
  if (way == PRODUCTS) fprintf(out, "; the dense part's: %.3f of it", rate > 0 ? ms / b->whole_ms[DENSE] : 0);
  fprintf(out, "\n");
  if (json == NULL) return SBAG_OK;
  json_object *object = bench_json("step");
  bench_json_int(object, "ranks", b->ranks);
  bench_json_text(object, "kind", "rate");
  bench_json_text(object, "name", names[way]);
  bench_json_real(object, "ms", ms);
  bench_json_real(object, "samples_per_s", rate);
  return bench_json_write(json, json_path, object, status);
}

static sbag_code_t report(bench_t *b, FILE *out, FILE *json, const char *json_path, sbag_status_t *status) {
  SBAG_TRY(share_names(b, status));
  sbag_code_t code = SBAG_OK;
  int tells = comm_rank(b->c->comm) == 0;
  for (int way = 0; way < b->ways; way++) {
    SBAG_TRY(gather(b, way, status));
    if (tells && code == SBAG_OK && way < STEP_WAYS) code = report_way(b, way, out, json, json_path, status);
    b->whole_ms[way] = over_ranks(b, WHOLE).ms_max;
  }
  for (int way = 0; tells && code == SBAG_OK && way < b->ways; way++)
    code = report_rate(b, way, b->whole_ms[way], out, json, json_path, status);
  if (comm_rank(b->c->comm) == 0 && code == SBAG_OK) report_gain(b, out);
  return comm_agree(b->c->comm, code, status);
}

sbag_code_t bench_step(const bench_step_config_t *config, FILE *out, FILE *json, const char *json_path,
                       sbag_status_t *status) {
  void *block = NULL;
  sbag_code_t code = mem_calloc(config->mem, sizeof(bench_t), "bench: step", &block, status);
  bench_t *b = block;
  if (code == SBAG_OK) {
    *b = (bench_t){.c = config, .ranks = comm_size(config->comm), .samples = config->rounds * config->steps};
    b->ways = config->alone != NULL ? WAYS : STEP_WAYS;
    code = allocate(b, status);
  }
  code = comm_agree(config->comm, code, status);
  if (code == SBAG_OK) code = run_rounds(b, status);
  if (code == SBAG_OK) code = report(b, out, json, json_path, status);
  if (b != NULL && comm_check(config->comm, NULL) == SBAG_OK) { /* a broken comm may still write into it */
    mem_free(config->mem, b->doubles);
    mem_free(config->mem, b->numbers);
    mem_free(config->mem, b);
  }
  return code;
}
