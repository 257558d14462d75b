/* What the reader's suites share: a temporary folder, and an epoch read by any number of ranks, flattened
 * into one array in the global order. */
#ifndef TEST_READER_COMMON_H
#define TEST_READER_COMMON_H

#include "base/mem.h"
#include "reader/reader.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { RANKS_MAX = 8 };

static sbag_status_t status;
static mem_t *mem;
static char folder[64];
static char folder_files[32][160];
static int folder_file_count;

#define OK(call) ck_assert_msg((call) == SBAG_OK, "%s", status.message)

static inline void setup(void) {
  status_clear(&status);
  OK(mem_create(&mem, &status));
  snprintf(folder, sizeof folder, "/tmp/shardbag_reader_XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  folder_file_count = 0;
}

static inline void teardown(void) {
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0); /* nothing leaks, whatever failed */
  mem_destroy(&mem);
  for (int i = 0; i < folder_file_count; i++) unlink(folder_files[i]);
  ck_assert_int_eq(rmdir(folder), 0);
}

/* The path of a file in the folder; it is removed in the end. */
static inline const char *path_of(const char *name) {
  char path[160];
  ck_assert_int_lt(snprintf(path, sizeof path, "%s/%s", folder, name), (int)sizeof path);
  for (int i = 0; i < folder_file_count; i++)
    if (strcmp(folder_files[i], path) == 0) return folder_files[i];
  ck_assert_int_lt(folder_file_count, 32);
  memcpy(folder_files[folder_file_count], path, sizeof path);
  return folder_files[folder_file_count++];
}

/* A list of one path, for a config; valid in the whole program. */
static inline const char *const *one_path(const char *path) {
  static const char *paths[64];
  static int used;
  used = (used + 1) % 64;
  paths[used] = path;
  return &paths[used];
}

static inline const char *write_bytes(const char *name, const char *bytes, size_t length) {
  const char *path = path_of(name);
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert_uint_eq(fwrite(bytes, 1, length, file), length);
  ck_assert_int_eq(fclose(file), 0);
  return path;
}

static inline const char *write_text(const char *name, const char *text) {
  return write_bytes(name, text, strlen(text));
}

static inline const char *write_gzip(const char *name, const char *text) {
  const char *path = path_of(name);
  gzFile file = gzopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(gzwrite(file, text, (unsigned)strlen(text)), (int)strlen(text));
  ck_assert_int_eq(gzclose(file), Z_OK);
  return path;
}

/* Samples one after the other: label, dense values (as their bits), and each bag's length and indices. */
typedef struct samples {
  int64_t *values, *ends; /* [value_count], [count] */
  int64_t value_count, value_capacity, count, capacity;
} samples_t;

static inline void put(samples_t *s, int64_t value) {
  if (s->value_count == s->value_capacity) {
    s->value_capacity = 2 * s->value_capacity + 1024;
    s->values = realloc(s->values, (size_t)s->value_capacity * sizeof *s->values);
    ck_assert_ptr_nonnull(s->values);
  }
  s->values[s->value_count++] = value;
}

static inline void put_end(samples_t *s) {
  if (s->count == s->capacity) {
    s->capacity = 2 * s->capacity + 256;
    s->ends = realloc(s->ends, (size_t)s->capacity * sizeof *s->ends);
    ck_assert_ptr_nonnull(s->ends);
  }
  s->ends[s->count++] = s->value_count;
}

static inline void free_samples(samples_t *s) {
  free(s->values);
  free(s->ends);
  *s = (samples_t){0};
}

static inline int64_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (int64_t)bits;
}

/* Checks what a batch must always hold, and appends its samples. */
static inline void put_batch(samples_t *s, const reader_t *reader, const reader_batch_t *batch) {
  int dense = reader_dense_count(reader), features = reader_feature_count(reader);
  for (int f = 0; f < features; f++) {
    const reader_bags_t *bags = &batch->features[f];
    ck_assert_int_eq(bags->offsets[0], 0);
    ck_assert_int_eq(bags->offsets[batch->samples], bags->nnz);
    for (int64_t i = 0; i < bags->nnz; i++)
      ck_assert(bags->indices[i] >= 0 && bags->indices[i] < reader_feature(reader, f)->rows);
  }
  for (int64_t i = 0; i < batch->samples; i++) {
    ck_assert(batch->labels[i] == 0.0F || batch->labels[i] == 1.0F ||
              (batch->labels[i] > 0.0F && batch->labels[i] < (float)reader_class_count(reader)));
    put(s, float_bits(batch->labels[i]));
    for (int d = 0; d < dense; d++) put(s, float_bits(batch->dense[i * dense + d]));
    for (int f = 0; f < features; f++) {
      const reader_bags_t *bags = &batch->features[f];
      int64_t length = bags->offsets[i + 1] - bags->offsets[i];
      ck_assert(reader_feature(reader, f)->multi_hot ? length >= 0 : length == 1);
      put(s, length);
      for (int64_t j = bags->offsets[i]; j < bags->offsets[i + 1]; j++) put(s, bags->indices[j]);
    }
    put_end(s);
  }
}

/* One global batch of all ranks, in rank order; returns 0 at the epoch's end, which all ranks must see
 * together. */
static inline int put_global_batch(samples_t *s, reader_t **readers, const reader_config_t *config, int ranks,
                                   int64_t step) {
  int64_t expected_first = 0, global = -1;
  for (int r = 0; r < ranks; r++) {
    const reader_batch_t *batch = NULL;
    OK(reader_next(readers[r], &batch, &status));
    if (r == 0 && batch == NULL) global = 0;
    ck_assert_int_eq(batch == NULL, global == 0);
    if (batch == NULL) continue;
    if (r == 0) global = batch->global_samples;
    ck_assert_int_eq(batch->step, step);
    ck_assert_int_eq(batch->global_samples, global);
    ck_assert_int_eq(batch->first_sample, expected_first);
    ck_assert(batch->first_sample % config->slice == 0 || batch->first_sample == global);
    expected_first += batch->samples;
    put_batch(s, readers[r], batch);
  }
  ck_assert_int_eq(expected_first, global);
  return global > 0;
}

/* An epoch from a step on, read by `ranks` ranks side by side. */
static inline samples_t read_epoch(const reader_config_t *config, int ranks, reader_split_t split,
                                   int64_t epoch, int64_t step) {
  samples_t s = {0};
  reader_t *readers[RANKS_MAX] = {0};
  for (int r = 0; r < ranks; r++) {
    reader_config_t own = *config;
    own.rank = r;
    own.rank_count = ranks;
    OK(reader_open(&own, NULL, 0, mem, &readers[r], &status));
    OK(reader_start(readers[r], split, epoch, step, &status));
  }
  int64_t skipped = step * config->global_batch, all = reader_samples(readers[0], split);
  while (put_global_batch(&s, readers, config, ranks, step)) step++;
  ck_assert_int_eq(s.count, skipped > all ? 0 : all - skipped);
  for (int r = 0; r < ranks; r++) reader_close(&readers[r]);
  return s;
}

/* Of no numbers there need not be an address. */
static inline int same_numbers(const int64_t *a, const int64_t *b, int64_t count) {
  return count == 0 || memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

static inline int same_samples(const samples_t *a, const samples_t *b) {
  return a->count == b->count && a->value_count == b->value_count &&
         same_numbers(a->ends, b->ends, a->count) && same_numbers(a->values, b->values, a->value_count);
}

static inline int compare_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* A sorted list of the samples' fingerprints: equal lists mean the same samples, each as often. */
static inline uint64_t *fingerprints(const samples_t *s) {
  uint64_t *list = malloc((size_t)(s->count + 1) * sizeof *list);
  ck_assert_ptr_nonnull(list);
  for (int64_t i = 0; i < s->count; i++) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t j = i == 0 ? 0 : s->ends[i - 1]; j < s->ends[i]; j++)
      hash = ((hash ^ (uint64_t)s->values[j]) * 0x9e3779b97f4a7c15u) ^ (hash >> 29);
    list[i] = hash;
  }
  qsort(list, (size_t)s->count, sizeof *list, compare_u64);
  return list;
}

static inline int same_set(const samples_t *a, const samples_t *b) {
  if (a->count != b->count) return 0;
  uint64_t *x = fingerprints(a), *y = fingerprints(b);
  int same = memcmp(x, y, (size_t)a->count * sizeof *x) == 0;
  free(x);
  free(y);
  return same;
}

/* The promises that every source keeps: any number of ranks sees the same global order; a shuffled epoch has
 * the samples of the unshuffled one; epochs differ; a restart in the middle continues alike. */
static inline void check_order(const reader_config_t *config) {
  static const int rank_counts[] = {2, 3, 4, 8};
  for (int split = READER_TRAIN; split < READER_SPLITS; split++) {
    samples_t one = read_epoch(config, 1, (reader_split_t)split, 3, 0);
    for (int i = 0; i < 4; i++) {
      samples_t many = read_epoch(config, rank_counts[i], (reader_split_t)split, 3, 0);
      ck_assert_msg(same_samples(&one, &many), "split %d: %d ranks", split, rank_counts[i]);
      free_samples(&many);
    }
    samples_t rest = read_epoch(config, 3, (reader_split_t)split, 3, 2);
    ck_assert_int_gt(rest.value_count, 0);
    ck_assert_int_eq(memcmp(rest.values, one.values + one.value_count - rest.value_count,
                            (size_t)rest.value_count * sizeof *rest.values),
                     0);
    free_samples(&rest);
    reader_config_t plain = *config;
    plain.shuffle = 0;
    samples_t file_order = read_epoch(&plain, 1, (reader_split_t)split, 0, 0);
    samples_t other = read_epoch(config, 1, (reader_split_t)split, 4, 0);
    int shuffled = config->shuffle && split == READER_TRAIN;
    ck_assert_int_eq(same_samples(&one, &file_order), !shuffled);
    ck_assert_int_eq(same_samples(&one, &other), !shuffled);
    ck_assert(same_set(&one, &file_order));
    ck_assert(same_set(&one, &other));
    free_samples(&other);
    free_samples(&file_order);
    free_samples(&one);
  }
}

/* Two epochs of a source: from the given step on nothing may be allocated. */
static inline void check_warm(const reader_config_t *config, int64_t warm_step) {
  reader_t *reader = NULL;
  const reader_batch_t *batch = NULL;
  int64_t before = -1;
  OK(reader_open(config, NULL, 0, mem, &reader, &status));
  for (int64_t epoch = 0; epoch < 2; epoch++) {
    OK(reader_start(reader, READER_TRAIN, epoch, 0, &status));
    for (;;) {
      OK(reader_next(reader, &batch, &status));
      if (batch == NULL) break;
      if (epoch == 0 && batch->step == warm_step) before = mem_stats(mem).alloc_count;
    }
  }
  ck_assert_int_gt(before, 0);
  ck_assert_int_eq(mem_stats(mem).alloc_count, before);
  reader_close(&reader);
}

/* Lets each allocation fail in turn, in open, start and reading: always an error, never a leak or a hang. */
static inline void check_memory_failures(const reader_config_t *config) {
  int64_t nth = 0, failures = 0;
  sbag_code_t code;
  do {
    reader_t *reader = NULL;
    const reader_batch_t *batch = NULL;
    mem_fail_at(mem, ++nth);
    code = reader_open(config, NULL, 0, mem, &reader, &status);
    if (code == SBAG_OK) code = reader_start(reader, READER_TRAIN, 0, 0, &status);
    while (code == SBAG_OK) {
      code = reader_next(reader, &batch, &status);
      if (batch == NULL) break;
    }
    reader_close(&reader);
    ck_assert(code == SBAG_OK || code == SBAG_ERR_MEMORY);
    ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
    failures += code != SBAG_OK;
  } while (code != SBAG_OK);
  mem_fail_at(mem, 0);
  ck_assert_int_gt(failures, 10);
}

/* Opens with another reader's blobs, optionally changed by the caller. */
typedef struct blob_copy {
  reader_blob_t items[16];
  int count;
} blob_copy_t;

static inline blob_copy_t copy_blobs(const reader_t *reader) {
  blob_copy_t copy = {.count = reader_blob_count(reader)};
  ck_assert_int_lt(copy.count, 15);
  for (int i = 0; i < copy.count; i++) {
    copy.items[i] = *reader_blob(reader, i);
    copy.items[i].data = malloc((size_t)copy.items[i].bytes + 1);
    ck_assert_ptr_nonnull(copy.items[i].data);
    memcpy(copy.items[i].data, reader_blob(reader, i)->data, (size_t)copy.items[i].bytes);
  }
  return copy;
}

static inline void free_blobs(blob_copy_t *copy) {
  for (int i = 0; i < copy->count; i++) free(copy->items[i].data);
  copy->count = 0;
}

static inline void check_refused(const reader_config_t *config, const reader_blob_t *blobs, int count,
                                 const char *words) {
  reader_t *reader = NULL;
  ck_assert_int_ne(reader_open(config, blobs, count, mem, &reader, &status), SBAG_OK);
  ck_assert_ptr_null(reader);
  ck_assert_msg(strstr(status.message, words) != NULL, "'%s' lacks '%s'", status.message, words);
}

#endif
