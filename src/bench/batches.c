/* Copies of a reader's batches: see batches.h. */
#include "bench/batches.h"

#include <string.h>

/* Behind the features: the integers of each, then the floats. */
typedef struct room {
  int64_t *integers;
  float *floats;
} room_t;

static size_t bytes_of(const reader_batch_t *batch, int features, int dense, int64_t *integers) {
  *integers = 0;
  for (int f = 0; f < features; f++) *integers += batch->features[f].nnz + batch->samples + 1;
  return mem_array_bytes(features, sizeof(reader_bags_t)) + mem_array_bytes(*integers, sizeof(int64_t)) +
         mem_array_bytes(batch->samples * (2 + dense), sizeof(float));
}

static const int64_t *keep_integers(room_t *room, const int64_t *from, int64_t count) {
  int64_t *to = room->integers;
  if (count > 0) memcpy(to, from, (size_t)count * sizeof *to);
  room->integers += count;
  return to;
}

static const float *keep_floats(room_t *room, const float *from, int64_t count) {
  float *to = room->floats;
  if (from == NULL) return NULL;
  if (count > 0) memcpy(to, from, (size_t)count * sizeof *to);
  room->floats += count;
  return to;
}

static sbag_code_t keep(const reader_t *reader, const reader_batch_t *batch, mem_t *mem, reader_batch_t *kept,
                        void **block, sbag_status_t *status) {
  const int features = reader_feature_count(reader), dense = reader_dense_count(reader);
  int64_t integers;
  const size_t bytes = bytes_of(batch, features, dense, &integers);
  SBAG_TRY(mem_alloc(mem, bytes, "bench: batches", block, status));
  reader_bags_t *bags = *block;
  room_t room = {.integers = (int64_t *)(void *)(bags + features)};
  room.floats = (float *)(void *)(room.integers + integers);
  for (int f = 0; f < features; f++) {
    const reader_bags_t *from = &batch->features[f];
    bags[f].nnz = from->nnz;
    bags[f].indices = keep_integers(&room, from->indices, from->nnz);
    bags[f].offsets = keep_integers(&room, from->offsets, batch->samples + 1);
  }
  *kept = *batch;
  kept->features = bags;
  kept->labels = keep_floats(&room, batch->labels, batch->samples);
  kept->weights = keep_floats(&room, batch->weights, batch->samples);
  kept->dense = keep_floats(&room, batch->dense, batch->samples * dense);
  return SBAG_OK;
}

static sbag_code_t next_batch(reader_t *reader, const reader_batch_t **batch, sbag_status_t *status) {
  SBAG_TRY(reader_next(reader, batch, status));
  if (*batch != NULL) return SBAG_OK;
  SBAG_TRY(reader_start(reader, READER_TRAIN, 0, 0, status));
  SBAG_TRY(reader_next(reader, batch, status));
  if (*batch != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "the training split has no samples; check data");
}

sbag_code_t bench_batches_read(reader_t *reader, int64_t count, mem_t *mem, bench_batches_t *batches,
                               sbag_status_t *status) {
  void *table = NULL;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(count, sizeof(reader_batch_t) + sizeof(void *)), "bench: batches",
                      &table, status));
  bench_batches_t made = {.mem = mem, .count = count, .batch = table};
  made.block = (void **)(void *)(made.batch + count);
  sbag_code_t code = SBAG_OK;
  for (int64_t i = 0; code == SBAG_OK && i < count; i++) {
    const reader_batch_t *batch = NULL;
    code = next_batch(reader, &batch, status);
    if (code == SBAG_OK) code = keep(reader, batch, mem, &made.batch[i], &made.block[i], status);
  }
  if (code == SBAG_OK)
    *batches = made;
  else
    bench_batches_destroy(&made);
  return code;
}

void bench_batches_destroy(bench_batches_t *batches) {
  if (batches->mem == NULL) return;
  for (int64_t i = 0; i < batches->count; i++) mem_free(batches->mem, batches->block[i]);
  mem_free(batches->mem, batches->batch);
  *batches = (bench_batches_t){.mem = NULL};
}
