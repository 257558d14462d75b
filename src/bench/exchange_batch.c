/* Drawing batches: see exchange_batch.h. */
#include "bench/exchange_batch.h"

#include "base/random.h"
#include "reader/zipf.h"

int64_t bench_batch_indices(const bench_exchange_settings_t *settings, const bench_shape_t *of) {
  return settings->tables * settings->batch * of->length;
}

void bench_batch_table(const bench_exchange_settings_t *s, const bench_shape_t *of, int64_t rank,
                       int64_t number, int64_t table, int64_t *indices) {
  zipf_t zipf = reader_zipf_make(s->rows, of->zipf);
  uint64_t key = random_key((uint64_t)s->seed, "bench: rows");
  uint64_t places = random_key((uint64_t)s->seed, "bench: places") + (uint64_t)table;
  for (int64_t b = 0; b < s->batch; b++) {
    uint64_t bag = ((uint64_t)number << 40 | (uint64_t)rank << 24) + (uint64_t)b;
    for (int64_t j = 0; j < of->length; j++) {
      int64_t row = reader_zipf_draw(&zipf, key, bag, (uint64_t)table << 24 | (uint64_t)j);
      *indices++ = s->scatter ? random_permute(places, s->rows, row) : row;
    }
  }
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
