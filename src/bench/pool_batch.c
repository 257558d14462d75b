/* Making batches: see pool_batch.h. */
#include "bench/pool_batch.h"

#include "collection/context.h"
#include <omp.h>

enum { OFFSETS, INDICES };

static void draw(const bench_pool_settings_t *s, const bench_draw_t *d, int64_t rank, int64_t number,
                 const bench_pool_batch_t *b) {
  int64_t tables = s->tables, batch = s->batch;
#pragma omp parallel for schedule(dynamic) num_threads(omp_get_num_procs())
  for (int64_t t = 0; t < tables; t++)
    bench_draw_rows(d, rank, number, t, b->offsets + t * (batch + 1), b->indices + b->first[t]);
}

static void make_bags(const bench_pool_settings_t *s, const bench_draw_t *d, bench_pool_batch_t *b) {
  for (int64_t t = 0; t < s->tables; t++) {
    const int64_t *indices = (const int64_t *)b->twins[INDICES].there + b->first[t];
    const int64_t *offsets = (const int64_t *)b->twins[OFFSETS].there + t * (s->batch + 1);
    b->bags[t] = s->distribution == LENGTHS_FIXED
                     ? sbag_bags_2d(indices, s->batch, d->length)
                     : sbag_bags_1d(indices, b->first[t + 1] - b->first[t], offsets, s->batch);
  }
}

static sbag_code_t create(const bench_pool_settings_t *s, const bench_draw_t *d, int64_t rank, int64_t number,
                          sbag_context_h context, bench_pool_batch_t *b, sbag_status_t *status) {
  mem_t *mem = context_mem(context);
  int64_t offsets = s->tables * (s->batch + 1), size = (int64_t)sizeof(int64_t);
  size_t bytes = mem_array_bytes(offsets + s->tables + 1, sizeof(int64_t)) +
                 mem_array_bytes(s->tables, sizeof(sbag_bags_t));
  SBAG_TRY(mem_alloc(mem, bytes, "bench: offsets", &b->blocks[OFFSETS], status));
  b->offsets = b->blocks[OFFSETS];
  b->first = b->offsets + offsets;
  b->bags = (sbag_bags_t *)(void *)(b->first + s->tables + 1);
  b->first[0] = 0;
  for (int64_t t = 0; t < s->tables; t++)
    b->first[t + 1] = b->first[t] + bench_draw_offsets(d, rank, number, t, b->offsets + t * (s->batch + 1));
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(b->first[s->tables], sizeof(int64_t)), "bench: indices",
                     &b->blocks[INDICES], status));
  b->indices = b->blocks[INDICES];
  draw(s, d, rank, number, b);
  SBAG_TRY(bench_twin_create(context, b->offsets, offsets * size, &b->twins[OFFSETS], status));
  SBAG_TRY(bench_twin_create(context, b->indices, b->first[s->tables] * size, &b->twins[INDICES], status));
  make_bags(s, d, b);
  return SBAG_OK;
}

sbag_code_t bench_pool_batch_create(const bench_pool_settings_t *s, const bench_pool_case_t *of, int64_t rank,
                                    int64_t number, sbag_context_h context, bench_pool_batch_t *batch,
                                    sbag_status_t *status) {
  bench_draw_t d = bench_pool_draw(s, of);
  bench_pool_batch_t b = {.first = NULL};
  sbag_code_t code = create(s, &d, rank, number, context, &b, status);
  if (code == SBAG_OK)
    *batch = b;
  else
    bench_pool_batch_destroy(context, &b);
  return code;
}

void bench_pool_batch_destroy(sbag_context_h context, bench_pool_batch_t *batch) {
  for (int i = 0; i < 2; i++) {
    bench_twin_destroy(context, &batch->twins[i]);
    mem_free(context_mem(context), batch->blocks[i]);
  }
  *batch = (bench_pool_batch_t){.first = NULL};
}
