/* Times reduce beside a plain gather of as many other rows of the same table, which is the machine's limit:
 * both take turns, and the table shows the median of their ratios. */
#include "kernels.h"
#include "oracle/draw.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { TASKS = 26, BAGS = 2048, ROUNDS_MOST = 64, AHEAD = 32 };

typedef struct bench_case {
  kernel_t *kernel;
  const char *op, *ids;
  int dim, length, threads;
  sbag_storage_t storage;
  int64_t row_bytes, rows, terms; /* of the table; of a call */
  const char *table;
  const int64_t *term; /* [4 * terms] */
  int64_t *begin;      /* [TASKS * BAGS + 1] */
  float *scale;        /* [terms] */
  char *out;
  int64_t *position;
} bench_case_t;

/* One thread's time is its own, without that of others which share the machine. */
static double now(int threads) {
  struct timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the limit ---- */

/* Reads rows in pieces of 64 bytes (the last one of other rows is what is left of it and something of what
 * follows), with a fetch of those AHEAD rows later; to out (unless NULL): copies of them. The sum is there so
 * that nothing is left out. */
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float gather_512(const char *table, int64_t row_bytes,
                                                           const int64_t *id, int64_t count, char *out) {
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t i = 0; i < count; i++) {
    const char *row = table + id[i] * row_bytes, *next = table + id[i + AHEAD] * row_bytes;
    for (int64_t at = 0; at < row_bytes; at += 64) {
      _mm_prefetch(next + at, _MM_HINT_T1);
      const __m512 value = _mm512_loadu_ps(row + at);
      sum[at >> 6 & 3] = _mm512_add_ps(sum[at >> 6 & 3], value);
      if (out != NULL) _mm512_storeu_ps(out + i * row_bytes + at, value);
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}
#endif

static float gather_plain(const char *table, int64_t row_bytes, const int64_t *id, int64_t count, char *out) {
  float sum = 0;
  for (int64_t i = 0; i < count; i++) {
    const char *row = table + id[i] * row_bytes, *next = table + id[i + AHEAD] * row_bytes;
    for (int64_t at = 0; at < row_bytes; at += 64) {
      float value[16];
      __builtin_prefetch(next + at, 0, 2);
      memcpy(value, row + at, sizeof value);
      for (int j = 0; j < 16; j++) sum += value[j];
      if (out != NULL) memcpy(out + i * row_bytes + at, value, sizeof value);
    }
  }
  return sum;
}

static float gather_part(const bench_case_t *c, const int64_t *id, int64_t count, char *out) {
#if defined(__x86_64__)
  if (kernel_isa_available(ISA_AVX512)) return gather_512(c->table, c->row_bytes, id, count, out);
#endif
  return gather_plain(c->table, c->row_bytes, id, count, out);
}

static float gather(const bench_case_t *c, const int64_t *id) {
  char *out = c->length == 1 ? c->out : NULL;
  float sum = 0;
#pragma omp parallel num_threads(c->threads) reduction(+ : sum)
  {
    const int64_t me = omp_get_thread_num(), team = omp_get_num_threads();
    const int64_t first = c->terms * me / team, end = c->terms * (me + 1) / team;
    sum += gather_part(c, id + first, end - first, out != NULL ? out + first * c->row_bytes : NULL);
  }
  return sum;
}

/* ---- reduce ---- */

static void pool(const bench_case_t *c, const int64_t *id) {
  reduce_task_t tasks[TASKS];
  const int is_max = strcmp(c->op, "max") == 0;
  for (int i = 0; i < TASKS; i++) {
    const int64_t first = (int64_t)i * BAGS;
    tasks[i] = (reduce_task_t){.op = is_max ? REDUCE_MAX : REDUCE_SUM,
                               .dim = c->dim,
                               .segment_begin = first,
                               .segment_end = first + BAGS,
                               .begin = c->begin,
                               .term = id,
                               .stride = c->dim,
                               .src = c->table,
                               .storage = c->storage,
                               .scale = strcmp(c->op, "weighted") == 0 ? c->scale : NULL,
                               .count_begin = strcmp(c->op, "mean") == 0 ? c->begin : NULL,
                               .out = (float *)(void *)c->out + first * c->dim,
                               .out_stride = c->dim,
                               .out_position = is_max ? c->position + first * c->dim : NULL};
  }
  c->kernel->ops->reduce(c->kernel, NULL, SBAG_F32, tasks, TASKS);
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, by_value);
  return values[count / 2];
}

static void time_case(const bench_case_t *c, int rounds) {
  double ratio[ROUNDS_MOST], limit[ROUNDS_MOST], pooled[ROUNDS_MOST];
  static volatile float sink;
  for (int r = -1; r < rounds; r++) {
    const int64_t *own = c->term + (2 * r + 2) % 4 * c->terms, *other = c->term + (2 * r + 3) % 4 * c->terms;
    const double start = now(c->threads);
    if (r % 2 == 0)
      pool(c, own);
    else
      sink = sink + gather(c, other);
    const double middle = now(c->threads);
    if (r % 2 == 0)
      sink = sink + gather(c, other);
    else
      pool(c, own);
    const double end = now(c->threads);
    if (r < 0) continue; /* outputs are touched */
    pooled[r] = r % 2 == 0 ? middle - start : end - middle;
    limit[r] = r % 2 == 0 ? end - middle : middle - start;
    ratio[r] = limit[r] / pooled[r];
  }
  const double bytes =
      (double)(c->terms * c->row_bytes) + (c->length == 1 ? (double)c->terms * c->dim * 4 : 0);
  const double pool_s = median(pooled, rounds), limit_s = median(limit, rounds);
  static const char *const storages[] = {"f32", "f16", "bf16", "int8", "int4"};
  printf("%-8s %4d %6d %-8s %-7s %-7s %7d %8.2f %7.2f %7.2f %7.1f\n", c->op, c->dim, c->length, c->ids,
         storages[c->storage], c->kernel->ops->name, c->threads, pool_s * 1e9 / (double)c->terms,
         bytes / pool_s * 1e-9, bytes / limit_s * 1e-9, 100 * median(ratio, rounds));
  fflush(stdout);
}

/* ---- cases ---- */

/* Ranks by a power law of exponent 1.05, dealt over the table. */
static int64_t draw_row(draw_t *draw, int64_t rows, int zipf) {
  if (!zipf) return draw_below(draw, rows);
  const double s = 1 - 1.05, most = pow((double)rows, s), u = draw_unit(draw);
  const int64_t rank = (int64_t)pow(1 + u * (most - 1), 1 / s) - 1;
  return (int64_t)((uint64_t)rank * 0x9E3779B1u % (uint64_t)rows);
}

static void *room(mem_t *mem, int64_t count, size_t bytes) {
  sbag_status_t status = {0};
  void *block = NULL;
  if (mem_alloc(mem, mem_array_bytes(count, bytes), "kernels", &block, &status) == SBAG_OK) return block;
  fprintf(stderr, "kernels: %s\n", status.message);
  exit(1);
}

static int wants(int option, int value) {
  return option == 0 || option == value;
}

static void time_variants(mem_t *mem, const kernels_bench_t *options, bench_case_t *c) {
  static const char *const ops[] = {"sum", "mean", "weighted", "max"};
  for (kernel_isa_t isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
    for (int threads = 1; threads <= 2; threads++) {
      if (!kernel_isa_available(isa) || !wants(options->isa, (int)isa) || !wants(options->threads, threads))
        continue;
      c->threads = threads;
      c->kernel = kernels_create(mem, isa, threads);
      for (int i = 0; i < 4; i++) {
        c->op = ops[i];
        if (options->op == NULL || strcmp(options->op, c->op) == 0) time_case(c, options->rounds);
      }
      kernel_destroy(&c->kernel);
    }
  }
}

static void time_shape(mem_t *mem, const kernels_bench_t *options, bench_case_t *c) {
  const int64_t bags = (int64_t)TASKS * BAGS;
  c->row_bytes = (int64_t)kernel_row_bytes(SBAG_F32, c->storage, c->dim);
  c->rows = options->table_bytes / c->row_bytes;
  c->terms = bags * c->length;
  int64_t *term = room(mem, 4 * c->terms + AHEAD, sizeof *term);
  draw_t draw = draw_start(5, 1);
  for (int64_t i = 0; i < 4 * c->terms + AHEAD; i++)
    term[i] = draw_row(&draw, c->rows, strcmp(c->ids, "zipf") == 0);
  c->term = term;
  c->begin = room(mem, bags + 1, sizeof *c->begin);
  for (int64_t i = 0; i <= bags; i++) c->begin[i] = i * c->length;
  c->scale = room(mem, c->terms, sizeof *c->scale);
  for (int64_t i = 0; i < c->terms; i++) c->scale[i] = 1.5f;
  c->out = room(mem, bags * c->dim, sizeof(float));
  c->position = room(mem, bags * c->dim, sizeof *c->position);
  time_variants(mem, options, c);
  mem_free(mem, term);
  mem_free(mem, c->begin);
  mem_free(mem, c->scale);
  mem_free(mem, c->out);
  mem_free(mem, c->position);
}

void kernels_bench_reduce(mem_t *mem, const kernels_bench_t *options) {
  static const int dims[] = {16, 32, 64, 128, 256}, lengths[] = {1, 10, 40, 100};
  static const char *const ids[] = {"uniform", "zipf"};
  char *table = room(mem, options->table_bytes + 64, 1);
  memset(table, 0, (size_t)options->table_bytes + 64);
  printf(
      "# %d tables' bags of %d, one table of %lld MiB; limit: a gather of as many rows (length 1: and their "
      "copies)\n",
      TASKS, BAGS, (long long)(options->table_bytes >> 20));
  printf("%-8s %4s %6s %-8s %-7s %-7s %7s %8s %7s %7s %7s\n", "op", "dim", "length", "ids", "storage", "isa",
         "threads", "ns/row", "GB/s", "limit", "%limit");
  for (int storage = 0; storage < 5; storage++)
    for (int d = 0; d < 5; d++)
      for (int l = 0; l < 4; l++)
        for (int i = 0; i < 2; i++) {
          bench_case_t c = {.dim = dims[d], .length = lengths[l], .ids = ids[i], .table = table};
          c.storage = (sbag_storage_t)storage;
          const int whole = kernel_row_bytes(SBAG_F32, c.storage, c.dim) % 64 == 0;
          if (!wants(options->storage, storage + 1) || (!whole && !kernel_is_quantised(c.storage))) continue;
          if (!wants(options->dim, c.dim) || !wants(options->length, c.length)) continue;
          if (options->ids == NULL || strcmp(options->ids, c.ids) == 0) time_shape(mem, options, &c);
        }
  mem_free(mem, table);
}
