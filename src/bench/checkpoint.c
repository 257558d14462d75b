/* Rounds of save, raw write, load and raw read: see checkpoint.h. */
#include "bench/checkpoint.h"

#include "base/clock.h"
#include "bench/arrays.h"
#include "bench/device.h"
#include "bench/raw.h"
#include "bench/report.h"
#include "collection/context.h"
#include "kernel/optimizer.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum bench_column { SAVE, RAW_WRITE, LOAD, RAW_READ, COLUMNS } bench_column_t;

typedef struct bench {
  const bench_settings_t *settings;
  sbag_context_h context;
  comm_t *comm;
  bench_arrays_t source, target; /* what is saved, and what is loaded into */
  bench_raw_t raw;
  char *checkpoint_path, *raw_path;
  double *seconds[COLUMNS], *scratch; /* [rounds] each */
  void *block;                        /* of the times and paths */
  int64_t bytes, wrong;
  double resident; /* the largest part of a file that was in memory before it was read */
} bench_t;

static int saves(const bench_t *b) {
  return b->settings->part != BENCH_LOAD;
}
static int loads(const bench_t *b) {
  return b->settings->part != BENCH_SAVE;
}

static sbag_code_t allocate(bench_t *b, sbag_status_t *status) {
  int64_t rounds = b->settings->rounds;
  size_t path_bytes = strlen(b->settings->folder) + 64;
  SBAG_TRY(mem_calloc(context_mem(b->context),
                      mem_array_bytes(rounds * (COLUMNS + 1), sizeof(double)) + 2 * path_bytes,
                      "bench: times", &b->block, status));
  double *next = b->block;
  for (int column = 0; column < COLUMNS; column++, next += rounds) b->seconds[column] = next;
  b->scratch = next;
  b->checkpoint_path = (char *)(next + rounds);
  b->raw_path = b->checkpoint_path + path_bytes;
  snprintf(b->checkpoint_path, path_bytes, "%s/shardbag-bench.h5", b->settings->folder);
  snprintf(b->raw_path, path_bytes, "%s/shardbag-bench.raw", b->settings->folder);
  return SBAG_OK;
}

/* ---- a round ---- */

static sbag_code_t run_column(bench_t *b, bench_column_t column, sbag_status_t *status) {
  switch (column) {
  case SAVE:
    return bench_arrays_save(&b->source, b->checkpoint_path, status);
  case RAW_WRITE:
    return bench_raw_write(&b->raw, status);
  case LOAD:
    return bench_arrays_load(&b->target, b->checkpoint_path, status);
  default:
    return bench_raw_read(&b->raw, status);
  }
}

static void rest(double seconds) {
  struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(1e9 * (seconds - floor(seconds)))};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

/* Writing starts without the file, reading with cold ones, both on a disk that has nothing left to do. */
static sbag_code_t prepare(bench_t *b, bench_column_t column, sbag_status_t *status) {
  const char *path = column == SAVE || column == LOAD ? b->checkpoint_path : b->raw_path;
  const char *other = path == b->raw_path ? b->checkpoint_path : b->raw_path;
  int reading = column == LOAD || column == RAW_READ;
  double resident = 0, unused;
  if (!reading && comm_rank(b->comm) == 0) unlink(path); /* if it is there */
  SBAG_TRY(bench_raw_settle(b->comm, b->settings->folder, status));
  rest(b->settings->rest_s);
  if (!reading) return SBAG_OK;
  SBAG_TRY(bench_raw_cool(b->comm, other, &unused, status));
  SBAG_TRY(bench_raw_cool(b->comm, path, &resident, status));
  if (resident > b->resident) b->resident = resident;
  return SBAG_OK;
}

/* From when all ranks are ready until all are done. */
static sbag_code_t measure(bench_t *b, bench_column_t column, int64_t round, sbag_status_t *status) {
  SBAG_TRY(prepare(b, column, status));
  SBAG_TRY(comm_barrier(b->comm, "bench: start", status));
  double start = clock_now();
  SBAG_TRY(run_column(b, column, status));
  SBAG_TRY(bench_settle(b->context, status));
  SBAG_TRY(comm_barrier(b->comm, "bench: end", status));
  b->seconds[column][round] = clock_now() - start;
  return SBAG_OK;
}

/* Who comes first has the disk in another state than who comes second: they change places every round. */
static sbag_code_t measure_pair(bench_t *b, bench_column_t ours, bench_column_t raw, int64_t round,
                                sbag_status_t *status) {
  SBAG_TRY(measure(b, round % 2 == 0 ? ours : raw, round, status));
  return measure(b, round % 2 == 0 ? raw : ours, round, status);
}

static sbag_code_t load_round(bench_t *b, int64_t round, sbag_status_t *status) {
  int64_t wrong = 0;
  SBAG_TRY(bench_arrays_fill(&b->target, 1, status));
  SBAG_TRY(measure_pair(b, LOAD, RAW_READ, round, status));
  SBAG_TRY(bench_arrays_wrong(&b->target, &wrong, status));
  b->wrong += wrong;
  return SBAG_OK;
}

static sbag_code_t run_rounds(bench_t *b, sbag_status_t *status) {
  if (!saves(b)) SBAG_TRY(bench_raw_write(&b->raw, status));
  for (int64_t round = 0; round < b->settings->rounds; round++) {
    if (saves(b)) SBAG_TRY(measure_pair(b, SAVE, RAW_WRITE, round, status));
    if (loads(b)) SBAG_TRY(load_round(b, round, status));
  }
  return SBAG_OK;
}

/* ---- the report ---- */

static void print_setup(const bench_t *b, FILE *out) {
  const bench_settings_t *s = b->settings;
  fprintf(out, "# shardbag %s bench checkpoint: ranks %d, rounds %" PRId64 "\n", sbag_version(),
          comm_size(b->comm), s->rounds);
  fprintf(out, "# %" PRId64 " rows x %" PRId64 " float32, %s (states: %d), layout %s, on %s; files in %s\n",
          s->rows, s->dim, sbag_optimizer_name(s->kind), (saves(b) ? b->source.count : b->target.count) - 1,
          bench_layout_name(s), bench_device_name(b->context), s->folder);
  fprintf(
      out,
      "# raw: the same processes move as many bytes by pwrite and pread, in blocks of 16 MiB through "
      "one buffer,\n"
      "#      each in a region of its own of one file, without checksums; in turn with shardbag, first in\n"
      "#      every second round. Before each measurement the disk is given time to write what is left\n");
  if (saves(b))
    fprintf(
        out,
        "# writes make a new file, reserve its space and end with fsync on every rank; both ways' go %s\n",
        b->raw.direct ? "past the page cache\n#      (O_DIRECT)"
                      : "through the page\n#      cache: this file system has no direct writes");
  if (loads(b))
    fprintf(out,
            "# reads are cold: after the fsync every rank gave the file's pages up by "
            "posix_fadvise(DONTNEED);\n"
            "#      by mincore %.1f %% of a file at most were left. The disk's own cache is as it is\n",
            100 * b->resident);
}

static sbag_code_t report_case(bench_t *b, const bench_case_t *row, FILE *out, FILE *json,
                               const char *json_path, sbag_status_t *status) {
  bench_report_row(out, row, b->scratch);
  if (json == NULL) return SBAG_OK;
  return bench_report_json(json, json_path, comm_size(b->comm), row, b->scratch, status);
}

static sbag_code_t report(bench_t *b, FILE *out, FILE *json, const char *json_path, sbag_status_t *status) {
  bench_case_t row = {.name = "save", .bytes = b->bytes, .count = b->settings->rounds, .wrong = -1};
  print_setup(b, out);
  bench_report_head(out);
  row.seconds = b->seconds[SAVE];
  row.raw_seconds = b->seconds[RAW_WRITE];
  if (saves(b)) SBAG_TRY(report_case(b, &row, out, json, json_path, status));
  row.name = "load";
  row.seconds = b->seconds[LOAD];
  row.raw_seconds = b->seconds[RAW_READ];
  row.wrong = b->wrong;
  if (loads(b)) SBAG_TRY(report_case(b, &row, out, json, json_path, status));
  return SBAG_OK;
}

/* ---- all of it ---- */

/* Of the table and its states. */
static int64_t table_bytes(const bench_settings_t *s) {
  sbag_optimizer_options_t options = sbag_optimizer_options_default(s->kind);
  optimizer_info_t info = optimizer_info(&options);
  int64_t width = s->dim;
  for (int i = 0; i < info.state_count; i++) width += info.states[i].row_wise ? 1 : s->dim;
  return s->rows * width * (int64_t)sizeof(float);
}

static sbag_code_t create(bench_t *b, sbag_status_t *status) {
  const bench_settings_t *s = b->settings;
  b->bytes = table_bytes(s);
  int64_t files = saves(b) ? 2 : 1; /* the checkpoint and the raw file */
  SBAG_TRY(bench_raw_space(b->comm, s->folder, files * (b->bytes + ((int64_t)32 << 20)), status));
  if (saves(b)) {
    SBAG_TRY(bench_arrays_create(b->context, s, &b->source, status));
    SBAG_TRY(bench_arrays_fill(&b->source, 0, status));
  }
  if (loads(b)) SBAG_TRY(bench_arrays_create(b->context, s, &b->target, status));
  return bench_raw_create(b->comm, context_mem(b->context), b->raw_path, b->bytes, &b->raw, status);
}

sbag_code_t bench_checkpoint(sbag_context_h context, const bench_settings_t *settings, FILE *out, FILE *json,
                             const char *json_path, sbag_status_t *status) {
  bench_t b = {.settings = settings, .context = context, .comm = context_comm(context)};
  SBAG_TRY(comm_agree(b.comm, allocate(&b, status), status));
  sbag_code_t code = create(&b, status);
  if (code == SBAG_OK) code = run_rounds(&b, status);
  if (comm_rank(b.comm) == 0 && b.raw.block != NULL) {
    unlink(b.raw_path);
    if (settings->part == BENCH_BOTH) unlink(b.checkpoint_path);
  }
  if (code == SBAG_OK) {
    if (comm_rank(b.comm) == 0) code = report(&b, out, json, json_path, status);
    code = comm_agree(b.comm, code, status);
  }
  if (code == SBAG_OK && b.wrong > 0)
    code = status_set(status, SBAG_ERR_STATE, "%" PRId64 " rows were not read as they were written", b.wrong);
  if (comm_check(b.comm, NULL) == SBAG_OK) { /* a broken comm may still write into what it was given */
    bench_raw_destroy(&b.raw);
    bench_arrays_destroy(&b.target);
    bench_arrays_destroy(&b.source);
    mem_free(context_mem(context), b.block);
  }
  return code;
}
