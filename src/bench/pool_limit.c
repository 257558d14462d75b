/* Walks over a batch's rows: see pool_limit.h. */
#include "bench/pool_limit.h"

#include <string.h>

sbag_code_t bench_limit_create(const bench_pool_settings_t *s, int64_t words, int ranks, int threads,
                               mem_t *mem, bench_limit_t *limit, sbag_status_t *status) {
  bench_limit_t l = {.mem = mem, .words = words, .threads = threads, .batches = s->batches};
  l.rows = (s->rows + ranks - 1) / ranks;
  size_t bytes = mem_array_bytes(s->batches, 2 * sizeof(bench_walk_t) + sizeof(void *));
  SBAG_TRY(mem_calloc(mem, bytes, "bench: limit", &l.block, status));
  l.walks = l.block;
  l.once = l.walks + s->batches;
  l.blocks = (void **)(void *)(l.once + s->batches);
  sbag_code_t code = bench_huge_create(mem, s->tables * l.rows * words, threads, "bench: the limit's table",
                                       &l.table, status);
  int64_t out = s->tables * s->batch * words; /* one row a bag */
  if (code == SBAG_OK)
    code = bench_huge_create(mem, out, threads, "bench: the limit's output", &l.out, status);
  if (code == SBAG_OK)
    *limit = l;
  else
    bench_limit_destroy(&l);
  return code;
}

static void give_up_rows(bench_limit_t *l) {
  for (int64_t i = 0; i < l->batches && l->blocks != NULL; i++) {
    mem_free(l->mem, l->blocks[i]);
    l->blocks[i] = NULL;
  }
}

void bench_limit_destroy(bench_limit_t *l) {
  if (l->mem == NULL) return;
  give_up_rows(l);
  bench_huge_destroy(l->mem, &l->out);
  bench_huge_destroy(l->mem, &l->table);
  mem_free(l->mem, l->block);
  *l = (bench_limit_t){.mem = NULL};
}

/* Rows over all tables; returns how many are distinct, in the order in which they come first. */
static int64_t flatten(const bench_limit_t *l, int64_t tables, const bench_pool_batch_t *batch,
                       uint64_t *seen, int64_t *rows, int64_t *once) {
  int64_t distinct = 0;
  for (int64_t t = 0; t < tables; t++)
    for (int64_t i = batch->first[t]; i < batch->first[t + 1]; i++) {
      int64_t row = t * l->rows + batch->indices[i] % l->rows;
      uint64_t bit = UINT64_C(1) << (row % 64), *word = &seen[row / 64];
      rows[i] = row;
      if ((*word & bit) == 0) once[distinct++] = row;
      *word |= bit;
    }
  return distinct;
}

static sbag_code_t take_batch(bench_limit_t *l, const bench_pool_settings_t *s,
                              const bench_pool_batch_t *batch, int64_t i, sbag_status_t *status) {
  int64_t count = batch->first[s->tables], bits = s->tables * l->rows / 64 + 1;
  void *seen = NULL;
  SBAG_TRY(mem_alloc(l->mem, mem_array_bytes(2 * count, sizeof(int64_t)), "bench: the limit's rows",
                     &l->blocks[i], status));
  SBAG_TRY(
      mem_calloc(l->mem, mem_array_bytes(bits, sizeof(uint64_t)), "bench: the limit's rows", &seen, status));
  int64_t *rows = l->blocks[i], *once = rows + count;
  int64_t distinct = flatten(l, s->tables, batch, seen, rows, once);
  mem_free(l->mem, seen);
  l->walks[i] = (bench_walk_t){.table = l->table.words, .words = l->words, .rows = rows, .count = count};
  l->walks[i].out = l->out.words;
  l->once[i] = (bench_walk_t){.table = l->table.words, .words = l->words, .rows = once, .count = distinct};
  return SBAG_OK;
}

sbag_code_t bench_limit_take(bench_limit_t *l, const bench_pool_settings_t *s, const bench_pool_case_t *of,
                             const bench_pool_batch_t *batches, sbag_status_t *status) {
  give_up_rows(l);
  for (int64_t i = 0; i < l->batches; i++) SBAG_TRY(take_batch(l, s, &batches[i], i, status));
  int copies = of->length == 1 && s->distribution == LENGTHS_FIXED;
  l->forward = bench_loop_tune(copies ? LOOP_ROWS_OUT : LOOP_GATHER, copies ? LOOP_ROWS_STREAM : LOOP_GATHER,
                               &l->walks[0], l->threads);
  if (of->optimizer.trains) bench_loop_tune(LOOP_UPDATE, LOOP_UPDATE, &l->once[0], l->threads);
  for (int64_t i = 1; i < l->batches; i++) {
    l->walks[i].ahead = l->walks[0].ahead;
    l->once[i].ahead = l->once[0].ahead;
  }
  return SBAG_OK;
}

void bench_limit_forward(const bench_limit_t *l, int64_t batch) {
  bench_loop_run(l->forward, &l->walks[batch], l->threads);
}

void bench_limit_update(const bench_limit_t *l, int64_t batch) {
  bench_loop_run(LOOP_UPDATE, &l->once[batch], l->threads);
}
