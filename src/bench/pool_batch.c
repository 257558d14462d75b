/* Making batches: see pool_batch.h. */
#include "bench/pool_batch.h"

#include <omp.h>

static void draw(const bench_pool_settings_t *s, const bench_draw_t *d, int64_t rank, int64_t number,
                 bench_pool_batch_t *b) {
  int64_t tables = s->tables, batch = s->batch;
  int fixed = s->distribution == LENGTHS_FIXED;
#pragma omp parallel for schedule(dynamic) num_threads(omp_get_num_procs())
  for (int64_t t = 0; t < tables; t++) {
    int64_t *indices = b->indices + b->first[t];
    const int64_t *offsets = b->offsets + t * (batch + 1);
    bench_draw_rows(d, rank, number, t, offsets, indices);
    b->bags[t] = fixed ? sbag_bags_2d(indices, batch, d->length)
                       : sbag_bags_1d(indices, offsets[batch], offsets, batch);
  }
}

sbag_code_t bench_pool_batch_create(const bench_pool_settings_t *s, const bench_pool_case_t *of, int64_t rank,
                                    int64_t number, mem_t *mem, bench_pool_batch_t *batch,
                                    sbag_status_t *status) {
  bench_draw_t d = bench_pool_draw(s, of);
  bench_pool_batch_t b = {.first = NULL};
  int64_t offsets = s->tables * (s->batch + 1);
  size_t bytes = mem_array_bytes(offsets + s->tables + 1, sizeof(int64_t)) +
                 mem_array_bytes(s->tables, sizeof(sbag_bags_t));
  SBAG_TRY(mem_alloc(mem, bytes, "bench: offsets", &b.blocks[0], status));
  b.offsets = b.blocks[0];
  b.first = b.offsets + offsets;
  b.bags = (sbag_bags_t *)(void *)(b.first + s->tables + 1);
  b.first[0] = 0;
  for (int64_t t = 0; t < s->tables; t++)
    b.first[t + 1] = b.first[t] + bench_draw_offsets(&d, rank, number, t, b.offsets + t * (s->batch + 1));
  sbag_code_t code = mem_alloc(mem, mem_array_bytes(b.first[s->tables], sizeof(int64_t)), "bench: indices",
                               &b.blocks[1], status);
  if (code != SBAG_OK) {
    mem_free(mem, b.blocks[0]);
    return code;
  }
  b.indices = b.blocks[1];
  draw(s, &d, rank, number, &b);
  *batch = b;
  return SBAG_OK;
}

void bench_pool_batch_destroy(mem_t *mem, bench_pool_batch_t *batch) {
  for (int i = 0; i < 2; i++) mem_free(mem, batch->blocks[i]);
  *batch = (bench_pool_batch_t){.first = NULL};
}
