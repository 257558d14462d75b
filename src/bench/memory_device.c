/* Cases of ops over the device's memory: see memory_device.h. A case is verified before it is measured, by a
 * sample of the words that it should have left. */
#include "bench/memory_device.h"

#include "base/clock.h"
#include "bench/device.h"
#include "bench/draw.h"
#include "bench/json.h"
#include "collection/context.h"
#include <inttypes.h>
#include <string.h>

enum { SAMPLED = 256, BLOCK_WORDS = 1 << 20 };

typedef enum op { COPY, GATHER, SCATTER, OPS } op_t;
static const char *const names[OPS] = {"copy", "gather+out", "scatter"};

typedef struct bench {
  const bench_memory_settings_t *s;
  sbag_context_h context;
  kernel_t *kernel;
  comm_t *comm;
  int64_t words, out_words;
  kernel_buffer_t table, out; /* [words], [out_words] floats */
  int64_t *rows, *distinct, distinct_count;
  uint64_t *seen;                    /* a bit a row */
  bench_twin_t rows_twin, once_twin; /* of rows and distinct */
  float *block;                      /* [BLOCK_WORDS] */
  double *ms;                        /* [rounds] */
  void *host;
  FILE *out_file, *json;
  const char *json_path;
  int64_t wrong; /* of all cases */
} bench_t;

/* One case: ops over `count` rows of `dim` values, or over a block. */
typedef struct walk {
  op_t op;
  int64_t dim, count;
  const int64_t *rows, *host_rows; /* on the device, and on the host */
  double zipf;
} walk_t;

/* Whole numbers below 2^24. */
static float value_at(int64_t word) {
  return (float)(((uint32_t)word * UINT32_C(2654435761)) >> 8);
}

/* ---- ops ---- */

static void run(const bench_t *b, const walk_t *w) {
  const kernel_ops_t *ops = b->kernel->ops;
  const copy_part_t part = {b->out.data, b->table.data, w->count * w->dim * (int64_t)sizeof(float)};
  if (w->op == COPY)
    ops->copy(b->kernel, NULL, &part, 1);
  else if (w->op == GATHER)
    ops->gather_rows(b->kernel, NULL, SBAG_F32, SBAG_STORAGE_FULL, b->table.data, w->dim, w->rows, w->count,
                     b->out.data);
  else
    ops->scatter_rows(b->kernel, NULL, SBAG_F32, SBAG_STORAGE_FULL, b->out.data, w->dim, w->rows, w->count,
                      b->table.data);
}

static sbag_code_t fill(bench_t *b, kernel_buffer_t *to, int64_t words, int64_t add, sbag_status_t *status) {
  for (int64_t first = 0; first < words; first += BLOCK_WORDS) {
    int64_t count = words - first < BLOCK_WORDS ? words - first : BLOCK_WORDS;
    for (int64_t i = 0; i < count; i++) b->block[i] = value_at(first + i + add);
    SBAG_TRY(sbag_context_copy(b->context, (float *)to->data + first, b->block,
                               count * (int64_t)sizeof(float), status));
  }
  return SBAG_OK;
}

/* ---- verification ---- */

enum { OF_OUT = 977 }; /* the output's values are those of other words than the table's */

/* Word `word` of `row`, the i-th that the walk visits: where it is after the op, and what it should be. */
static sbag_code_t check_word(const bench_t *b, const walk_t *w, int64_t i, int64_t row, int64_t word,
                              int64_t *wrong, sbag_status_t *status) {
  int64_t in_table = row * w->dim + word, in_out = i * w->dim + word;
  const float *from =
      w->op == SCATTER ? (const float *)b->table.data + in_table : (const float *)b->out.data + in_out;
  float found = 0, want = w->op == SCATTER ? value_at(in_out + OF_OUT) : value_at(in_table);
  SBAG_TRY(sbag_context_copy(b->context, &found, from, sizeof found, status));
  *wrong += found != want;
  return SBAG_OK;
}

/* Each side is filled anew, as the case before has left it. */
static sbag_code_t verify(bench_t *b, const walk_t *w, int64_t *wrong, sbag_status_t *status) {
  int64_t stride = w->count / SAMPLED + 1;
  const float spoilt = -1;
  SBAG_TRY(fill(b, &b->table, b->words, 0, status));
  SBAG_TRY(fill(b, &b->out, b->out_words, OF_OUT, status));
  int64_t first = w->host_rows != NULL ? w->host_rows[0] * w->dim : 0;
  float *spoil = w->op == SCATTER ? b->out.data : (float *)b->table.data + first;
  if (b->s->spoil) SBAG_TRY(sbag_context_copy(b->context, spoil, &spoilt, sizeof spoilt, status));
  run(b, w);
  for (int64_t i = 0; i < w->count; i += stride)
    SBAG_TRY(check_word(b, w, i, w->host_rows != NULL ? w->host_rows[i] : i, i % w->dim, wrong, status));
  return SBAG_OK;
}

/* ---- a case ---- */

static void print_head(const bench_t *b) {
  const bench_memory_settings_t *s = b->s;
  fprintf(b->out_file,
          "# shardbag %s bench memory: ranks %d, rounds %" PRId64 ", on cuda\n"
          "# a table of %" PRId64 " MiB and %" PRId64
          " lookups a measurement on every rank's GPU, popular rows %s\n"
          "# GB/s: of all ranks, bytes read and written, rows and output (scatter: distinct rows from an "
          "output)\n#\n",
          sbag_version(), comm_size(b->comm), s->rounds, s->mib, s->lookups,
          s->scatter ? "anywhere" : "first");
  fprintf(b->out_file, "#                         |---- ms ----| |-------- GB/s --------|\n"
                       "#       case   dim  zipf     min  median     min  median     max #wrong\n");
}

static sbag_code_t report(bench_t *b, const walk_t *w, double bytes, int64_t wrong, sbag_status_t *status) {
  bench_range_t ms = bench_range(b->ms, b->s->rounds);
  bench_range_t gb = {bytes / ms.max / 1e6, bytes / ms.median / 1e6, bytes / ms.min / 1e6};
  char text[2][24] = {"-", "-"};
  if (w->op != COPY) {
    snprintf(text[0], sizeof text[0], "%" PRId64, w->dim);
    snprintf(text[1], sizeof text[1], "%.2f", w->zipf);
  }
  fprintf(b->out_file, "%12s %5s %5s %7.3f %7.3f %7.2f %7.2f %7.2f %6" PRId64 "\n", names[w->op], text[0],
          text[1], ms.min, ms.median, gb.min, gb.median, gb.max, wrong);
  if (b->json == NULL) return SBAG_OK;
  json_object *line = bench_json("memory");
  bench_json_text(line, "case", names[w->op]);
  bench_json_text(line, "device", bench_device_name(b->context));
  bench_json_int(line, "ranks", comm_size(b->comm));
  if (w->op != COPY) {
    bench_json_int(line, "dim", w->dim);
    bench_json_real(line, "zipf", w->zipf);
  }
  bench_json_range(line, "ms", ms);
  bench_json_range(line, "gb_per_s", gb);
  bench_json_int(line, "wrong", wrong);
  return bench_json_write(b->json, b->json_path, line, status);
}

static sbag_code_t run_case(bench_t *b, const walk_t *w, sbag_status_t *status) {
  int64_t wrong = 0;
  double bytes = 2.0 * sizeof(float) * (double)(w->count * w->dim);
  SBAG_TRY(comm_agree(b->comm, verify(b, w, &wrong, status), status));
  for (int64_t i = 0; i < b->s->rounds; i++) {
    SBAG_TRY(comm_barrier(b->comm, "bench: memory", status));
    double start_s = clock_now();
    run(b, w);
    SBAG_TRY(bench_settle(b->context, status));
    b->ms[i] = 1e3 * (clock_now() - start_s);
  }
  SBAG_TRY(comm_allreduce(b->comm, b->ms, b->s->rounds, COMM_F64, COMM_MAX, "bench: times", status));
  SBAG_TRY(comm_allreduce(b->comm, &bytes, 1, COMM_F64, COMM_SUM, "bench: bytes", status));
  SBAG_TRY(comm_allreduce(b->comm, &wrong, 1, COMM_I64, COMM_SUM, "bench: wrong", status));
  b->wrong += wrong;
  sbag_code_t code = comm_rank(b->comm) == 0 ? report(b, w, bytes, wrong, status) : SBAG_OK;
  return comm_agree(b->comm, code, status);
}

/* ---- all cases ---- */

static sbag_code_t draw(bench_t *b, int64_t dim, double zipf, sbag_status_t *status) {
  const bench_memory_settings_t *s = b->s;
  const bench_draw_t draw = {.rows = b->words / dim,
                             .batch = s->lookups,
                             .length = 1,
                             .zipf = zipf,
                             .scatter = s->scatter,
                             .seed = s->seed};
  bench_draw_rows(&draw, comm_rank(b->comm), 0, 0, NULL, b->rows);
  b->distinct_count = bench_draw_distinct(b->rows, s->lookups, draw.rows, b->seen, b->distinct);
  SBAG_TRY(sbag_context_copy(b->context, b->rows_twin.there, b->rows, b->rows_twin.bytes, status));
  return sbag_context_copy(b->context, b->once_twin.there, b->distinct,
                           b->distinct_count * (int64_t)sizeof(int64_t), status);
}

static sbag_code_t run_at_random(bench_t *b, int64_t dim, double zipf, sbag_status_t *status) {
  SBAG_TRY(comm_agree(b->comm, draw(b, dim, zipf, status), status));
  const walk_t gather = {GATHER, dim, b->s->lookups, b->rows_twin.there, b->rows, zipf};
  const walk_t scatter = {SCATTER, dim, b->distinct_count, b->once_twin.there, b->distinct, zipf};
  SBAG_TRY(run_case(b, &gather, status));
  return run_case(b, &scatter, status);
}

static sbag_code_t run_cases(bench_t *b, sbag_status_t *status) {
  const bench_memory_settings_t *s = b->s;
  const walk_t copy = {.op = COPY, .dim = 1, .count = b->words / 2};
  if (comm_rank(b->comm) == 0) print_head(b);
  SBAG_TRY(run_case(b, &copy, status));
  for (int z = 0; z < s->zipf.count; z++)
    for (int d = 0; d < s->dims.count; d++)
      SBAG_TRY(run_at_random(b, s->dims.values[d], s->zipf.values[z], status));
  if (b->wrong == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "%" PRId64 " of the words that were looked at are wrong",
                    b->wrong);
}

static sbag_code_t allocate(bench_t *b, sbag_status_t *status) {
  const bench_memory_settings_t *s = b->s;
  int64_t least = s->dims.values[0], most = 0, lookups = s->lookups, size = (int64_t)sizeof(int64_t);
  for (int d = 0; d < s->dims.count; d++) {
    least = s->dims.values[d] < least ? s->dims.values[d] : least;
    most = s->dims.values[d] > most ? s->dims.values[d] : most;
  }
  b->words = s->mib << 18;
  b->out_words = lookups * most > b->words / 2 ? lookups * most : b->words / 2;
  int64_t bits = b->words / least / 64 + 1;
  SBAG_TRY(mem_calloc(context_mem(b->context),
                      mem_array_bytes(2 * lookups + bits + s->rounds, 8) + BLOCK_WORDS * sizeof(float),
                      "bench: rows", &b->host, status));
  b->rows = b->host;
  b->distinct = b->rows + lookups;
  b->seen = (uint64_t *)(void *)(b->distinct + lookups);
  b->ms = (double *)(void *)(b->seen + bits);
  b->block = (float *)(void *)(b->ms + s->rounds);
  SBAG_TRY(bench_twin_create(b->context, b->rows, lookups * size, &b->rows_twin, status));
  SBAG_TRY(bench_twin_create(b->context, b->distinct, lookups * size, &b->once_twin, status));
  SBAG_TRY(kernel_buffer_reserve(b->kernel, &b->table, mem_array_bytes(b->words, sizeof(float)),
                                 "bench: table", status));
  return kernel_buffer_reserve(b->kernel, &b->out, mem_array_bytes(b->out_words, sizeof(float)),
                               "bench: output", status);
}

sbag_code_t bench_memory_device(sbag_context_h context, const bench_memory_settings_t *settings, FILE *out,
                                FILE *json, const char *json_path, sbag_status_t *status) {
  bench_t b = {.s = settings,
               .context = context,
               .kernel = context->kernel,
               .comm = context_comm(context),
               .table = {.kind = MEMORY_DEVICE},
               .out = {.kind = MEMORY_DEVICE},
               .out_file = out,
               .json = json,
               .json_path = json_path};
  sbag_code_t code = comm_agree(b.comm, allocate(&b, status), status);
  if (code == SBAG_OK) code = run_cases(&b, status);
  kernel_buffer_free(b.kernel, &b.out);
  kernel_buffer_free(b.kernel, &b.table);
  bench_twin_destroy(context, &b.once_twin);
  bench_twin_destroy(context, &b.rows_twin);
  mem_free(context_mem(context), b.host);
  return code;
}
