/* Drawing batches: see exchange_batch.h. */
#include "bench/exchange_batch.h"

#include "bench/draw.h"

int64_t bench_batch_indices(const bench_exchange_settings_t *settings, const bench_shape_t *of) {
  return settings->tables * settings->batch * of->length;
}

void bench_batch_table(const bench_exchange_settings_t *s, const bench_shape_t *of, int64_t rank,
                       int64_t number, int64_t table, int64_t *indices) {
  const bench_draw_t draw = {.rows = s->rows,
                             .batch = s->batch,
                             .length = of->length,
                             .zipf = of->zipf,
                             .scatter = s->scatter,
                             .seed = s->seed};
  bench_draw_rows(&draw, rank, number, table, NULL, indices);
}

void bench_batch_fill(const bench_exchange_settings_t *s, const bench_shape_t *of, int64_t rank,
                      int64_t number, int64_t *indices) {
  for (int64_t t = 0; t < s->tables; t++)
    bench_batch_table(s, of, rank, number, t, indices + t * s->batch * of->length);
}

void bench_batch_bags(const bench_exchange_settings_t *s, const bench_shape_t *of, const int64_t *indices,
                      sbag_bags_t *bags) {
  for (int64_t t = 0; t < s->tables; t++)
    bags[t] = sbag_bags_2d(indices + t * s->batch * of->length, s->batch, of->length);
}
