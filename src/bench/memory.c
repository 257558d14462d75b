/* Cases of loops over memory: see memory.h. Each takes the better of two loops where there are two, at the
 * distance ahead that is best here, found before the measurements that count. */
#include "bench/memory.h"

#include "base/clock.h"
#include "bench/draw.h"
#include "bench/huge.h"
#include "bench/json.h"
#include "bench/loops.h"
#include "bench/memory_device.h"
#include "collection/context.h"
#include <inttypes.h>
#include <string.h>

enum { SAMPLED = 4096 };

/* What is measured: loops (two where there is a choice), and bytes a word of the walk. */
typedef struct kind {
  const char *name;
  bench_loop_t one, other;
  int bytes;
  int distinct; /* rows are changed: each once */
} kind_t;

static const kind_t in_order[] = {{"read", LOOP_READ, LOOP_READ, 4, 0},
                                  {"copy", LOOP_COPY, LOOP_COPY_STREAM, 8, 0},
                                  {"triad", LOOP_TRIAD, LOOP_TRIAD_STREAM, 12, 0}};
static const kind_t at_random[] = {{"gather", LOOP_GATHER, LOOP_GATHER, 4, 0},
                                   {"gather+out", LOOP_ROWS_OUT, LOOP_ROWS_STREAM, 8, 0},
                                   {"read+write", LOOP_UPDATE, LOOP_UPDATE, 8, 1}};

typedef struct bench {
  const bench_memory_settings_t *s;
  comm_t *comm;
  mem_t *mem;
  bench_huge_t table, out; /* out: as large as the largest output, and half a table at least */
  int64_t *rows, *distinct;
  int64_t distinct_count;
  uint64_t *seen;   /* a bit a row */
  uint32_t *before; /* [SAMPLED] */
  double *ms;       /* [rounds] */
  int threads;      /* of this case */
  int most_threads; /* what 0 stands for */
  FILE *out_file, *json;
  const char *json_path;
  int64_t wrong; /* of all cases */
  void *block;
} bench_t;

/* ---- verification: a sample of the words that a loop should have left, computed plainly ---- */

static int64_t words_out(const bench_walk_t *w) {
  return w->count * w->words;
}

/* What the loop is to leave at place i of its output. */
static uint32_t expected(bench_loop_t loop, const bench_walk_t *w, int64_t i) {
  if (w->rows != NULL) return w->table[w->rows[i / w->words] * w->words + i % w->words];
  return loop == LOOP_TRIAD || loop == LOOP_TRIAD_STREAM ? w->table[i] + 3 * w->also[i] : w->table[i];
}

static uint32_t plain_sum(const bench_walk_t *w) {
  uint32_t sum = 0;
  for (int64_t i = 0; i < w->count; i++) {
    const uint32_t *row = w->rows != NULL ? w->table + w->rows[i] * w->words : w->table + i;
    for (int64_t word = 0; word < w->words; word++) sum += row[word];
  }
  return sum;
}

static int64_t verify_update(bench_t *b, const bench_walk_t *w, int64_t stride) {
  int64_t wrong = 0, sampled = 0;
  for (int64_t i = 0; i < w->count; i += stride)
    b->before[sampled++] = w->table[w->rows[i] * w->words + i % w->words];
  bench_loop_run(LOOP_UPDATE, w, b->threads);
  if (b->s->spoil) w->table[w->rows[0] * w->words] ^= 1;
  sampled = 0;
  for (int64_t i = 0; i < w->count; i += stride)
    wrong += w->table[w->rows[i] * w->words + i % w->words] != b->before[sampled++] + 1;
  return wrong;
}

static int64_t verify(bench_t *b, bench_loop_t loop, const bench_walk_t *w) {
  if (loop == LOOP_UPDATE) return verify_update(b, w, w->count / SAMPLED + 1);
  int64_t wrong = 0, stride = words_out(w) / SAMPLED + 1;
  if (loop != LOOP_GATHER && loop != LOOP_READ)
    for (int64_t i = 0; i < words_out(w); i += stride) w->out[i] = ~expected(loop, w, i);
  uint32_t sum = bench_loop_run(loop, w, b->threads);
  if (b->s->spoil) w->table[w->rows != NULL ? w->rows[0] * w->words : 0] ^= 1;
  if (loop == LOOP_GATHER || loop == LOOP_READ) return sum != plain_sum(w);
  for (int64_t i = 0; i < words_out(w); i += stride) wrong += w->out[i] != expected(loop, w, i);
  return wrong;
}

/* ---- a case ---- */

static void print_head(const bench_t *b) {
  const bench_memory_settings_t *s = b->s;
  fprintf(b->out_file,
          "# shardbag %s bench memory: ranks %d, rounds %" PRId64 ", loops in %s\n"
          "# a table of %" PRId64 " MiB and %" PRId64
          " lookups a measurement on every rank, popular rows %s\n",
          sbag_version(), comm_size(b->comm), s->rounds, bench_loops_name(), s->mib, s->lookups,
          s->scatter ? "anywhere" : "first");
  fprintf(
      b->out_file,
      "# %" PRId64 " MiB are on huge pages. GB/s: of all ranks, bytes read and written (gather: rows; "
      "gather+out: rows\n"
      "# and output; read+write: distinct rows, twice; copy, triad: 2 and 3 blocks). ahead: rows that are "
      "asked for early\n#\n",
      bench_huge_kib() / 1024);
  fprintf(b->out_file,
          "#                                     |---- ms ----| |-------- GB/s --------|\n"
          "#       case   dim  zipf threads ahead    min  median     min  median     max #wrong\n");
}

static sbag_code_t report(bench_t *b, const kind_t *kind, const bench_walk_t *w, double zipf, double bytes,
                          int64_t wrong, sbag_status_t *status) {
  bench_range_t ms = bench_range(b->ms, b->s->rounds);
  bench_range_t gb = {bytes / ms.max / 1e6, bytes / ms.median / 1e6, bytes / ms.min / 1e6};
  int random = w->rows != NULL;
  char text[3][24] = {"-", "-", "-"};
  if (random) {
    snprintf(text[0], sizeof text[0], "%" PRId64, w->words);
    snprintf(text[1], sizeof text[1], "%.2f", zipf);
    snprintf(text[2], sizeof text[2], "%" PRId64, w->ahead);
  }
  fprintf(b->out_file, "%12s %5s %5s %7d %5s %7.2f %7.2f %7.2f %7.2f %7.2f %6" PRId64 "\n", kind->name,
          text[0], text[1], b->threads, text[2], ms.min, ms.median, gb.min, gb.median, gb.max, wrong);
  if (b->json == NULL) return SBAG_OK;
  json_object *line = bench_json("memory");
  bench_json_text(line, "case", kind->name);
  bench_json_int(line, "ranks", comm_size(b->comm));
  bench_json_int(line, "threads", b->threads);
  if (random) {
    bench_json_int(line, "dim", w->words);
    bench_json_real(line, "zipf", zipf);
    bench_json_int(line, "ahead", w->ahead);
  }
  bench_json_range(line, "ms", ms);
  bench_json_range(line, "gb_per_s", gb);
  bench_json_int(line, "wrong", wrong);
  return bench_json_write(b->json, b->json_path, line, status);
}

static sbag_code_t run_case(bench_t *b, const kind_t *kind, bench_walk_t *w, double zipf,
                            sbag_status_t *status) {
  bench_loop_t loop = bench_loop_tune(kind->one, kind->other, w, b->threads);
  int64_t wrong = verify(b, loop, w);
  double bytes = (double)words_out(w) * kind->bytes;
  for (int64_t i = 0; i < b->s->rounds; i++) {
    SBAG_TRY(comm_barrier(b->comm, "bench: memory", status));
    double start_s = clock_now();
    bench_loop_run(loop, w, b->threads);
    b->ms[i] = 1e3 * (clock_now() - start_s);
  }
  SBAG_TRY(comm_allreduce(b->comm, b->ms, b->s->rounds, COMM_F64, COMM_MAX, "bench: times", status));
  SBAG_TRY(comm_allreduce(b->comm, &bytes, 1, COMM_F64, COMM_SUM, "bench: bytes", status));
  SBAG_TRY(comm_allreduce(b->comm, &wrong, 1, COMM_I64, COMM_SUM, "bench: wrong", status));
  b->wrong += wrong;
  sbag_code_t code = comm_rank(b->comm) == 0 ? report(b, kind, w, zipf, bytes, wrong, status) : SBAG_OK;
  return comm_agree(b->comm, code, status);
}

/* ---- all cases ---- */

/* Sets those of the t-th case; 0 where an earlier one has as many. */
static int set_threads(bench_t *b, int t) {
  const int64_t *given = b->s->threads.values;
  for (int i = 0; i <= t; i++) {
    b->threads = given[i] > 0 ? (int)given[i] : b->most_threads;
    if (i == t) break;
    int64_t here = given[t] > 0 ? given[t] : b->most_threads;
    if (b->threads == here) return 0;
  }
  return 1;
}

static sbag_code_t run_in_order(bench_t *b, sbag_status_t *status) {
  int64_t half = b->table.count / 32 * 16;
  for (int i = 0; i < 3; i++) {
    bench_walk_t w = {.table = b->table.words, .words = 1, .count = half};
    w.out = b->out.words;
    w.also = b->table.words + half;
    SBAG_TRY(run_case(b, &in_order[i], &w, 0, status));
  }
  return SBAG_OK;
}

static sbag_code_t run_at_random(bench_t *b, int64_t dim, double zipf, sbag_status_t *status) {
  const bench_draw_t draw = {.rows = b->table.count / dim,
                             .batch = b->s->lookups,
                             .length = 1,
                             .zipf = zipf,
                             .scatter = b->s->scatter,
                             .seed = b->s->seed};
  bench_draw_rows(&draw, comm_rank(b->comm), 0, 0, NULL, b->rows);
  b->distinct_count = bench_draw_distinct(b->rows, b->s->lookups, draw.rows, b->seen, b->distinct);
  for (int t = 0; t < b->s->threads.count; t++) {
    if (!set_threads(b, t)) continue;
    for (int i = 0; i < 3; i++) {
      bench_walk_t w = {.table = b->table.words, .words = dim, .rows = b->rows, .count = b->s->lookups};
      w.out = b->out.words;
      if (at_random[i].distinct) {
        w.rows = b->distinct;
        w.count = b->distinct_count;
      }
      SBAG_TRY(run_case(b, &at_random[i], &w, zipf, status));
    }
  }
  return SBAG_OK;
}

static sbag_code_t run_cases(bench_t *b, sbag_status_t *status) {
  const bench_memory_settings_t *s = b->s;
  if (comm_rank(b->comm) == 0) print_head(b);
  for (int t = 0; t < s->threads.count; t++) {
    if (set_threads(b, t)) SBAG_TRY(run_in_order(b, status));
  }
  for (int z = 0; z < s->zipf.count; z++)
    for (int d = 0; d < s->dims.count; d++)
      SBAG_TRY(run_at_random(b, s->dims.values[d], s->zipf.values[z], status));
  if (b->wrong == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "%" PRId64 " of the words that were computed again are wrong",
                    b->wrong);
}

static sbag_code_t allocate(bench_t *b, sbag_status_t *status) {
  const bench_memory_settings_t *s = b->s;
  int64_t words = s->mib << 18, least = s->dims.values[0], most = 0;
  for (int d = 0; d < s->dims.count; d++) {
    least = s->dims.values[d] < least ? s->dims.values[d] : least;
    most = s->dims.values[d] > most ? s->dims.values[d] : most;
  }
  int64_t out = s->lookups * most > words / 2 ? s->lookups * most : words / 2;
  int64_t longs = 2 * s->lookups + (words / least / 64 + 1) + s->rounds + SAMPLED;
  SBAG_TRY(mem_alloc(b->mem, mem_array_bytes(longs, 8), "bench: rows", &b->block, status));
  b->rows = b->block;
  b->distinct = b->rows + s->lookups;
  b->seen = (uint64_t *)(void *)(b->distinct + s->lookups);
  b->ms = (double *)(void *)(b->seen + words / least / 64 + 1);
  b->before = (uint32_t *)(void *)(b->ms + s->rounds);
  SBAG_TRY(bench_huge_create(b->mem, words, b->most_threads, "bench: table", &b->table, status));
  return bench_huge_create(b->mem, out, b->most_threads, "bench: output", &b->out, status);
}

sbag_code_t bench_memory(sbag_context_h context, const bench_memory_settings_t *settings, FILE *out,
                         FILE *json, const char *json_path, sbag_status_t *status) {
  if (sbag_context_device(context) == SBAG_DEVICE_CUDA)
    return bench_memory_device(context, settings, out, json, json_path, status);
  bench_t b = {.s = settings, .comm = context_comm(context), .mem = context_mem(context)};
  b.most_threads = sbag_context_threads(context);
  b.out_file = out;
  b.json = json;
  b.json_path = json_path;
  sbag_code_t code = comm_agree(b.comm, allocate(&b, status), status);
  if (code == SBAG_OK) code = run_cases(&b, status);
  bench_huge_destroy(b.mem, &b.out);
  bench_huge_destroy(b.mem, &b.table);
  mem_free(b.mem, b.block);
  return code;
}
