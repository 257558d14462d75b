/* What the suites of the binary form share: conversions, and a file beside its source. */
#ifndef TEST_READER_BINARY_H
#define TEST_READER_BINARY_H

#include "comm/comm.h"
#include "reader/convert.h"
#include "test_reader_common.h"

static inline reader_config_t binary_config(const reader_config_t *like, const char *path) {
  reader_config_t config = *like;
  config.kind = READER_BINARY;
  config.source.binary = (reader_binary_config_t){.path = path, .shuffle_window = -1};
  return config;
}

/* Converts the splits whose bits are set. */
static inline sbag_code_t convert(const reader_config_t *from, const char *output, int splits,
                                  convert_result_t *result) {
  reader_config_t plain = *from;
  reader_t *reader = NULL;
  comm_t *comm = NULL;
  plain.shuffle = 0;
  OK(reader_open(&plain, NULL, 0, mem, &reader, &status));
  OK(comm_self_create(mem, NULL, &comm, &status));
  const convert_options_t options = {.output = output, .source = "test", .splits = splits};
  sbag_code_t code = reader_convert(reader, comm, &options, mem, result, &status);
  comm_destroy(&comm);
  reader_close(&reader);
  return code;
}

static inline int same_name(const char *a, const char *b) {
  return a == NULL ? b == NULL : b != NULL && strcmp(a, b) == 0;
}

/* What a model is made by. */
static inline void check_description(const reader_config_t *source, const reader_config_t *binary) {
  reader_t *a = NULL, *b = NULL;
  OK(reader_open(source, NULL, 0, mem, &a, &status));
  OK(reader_open(binary, NULL, 0, mem, &b, &status));
  int64_t window_a, window_b;
  ck_assert_int_eq(reader_order(a, &window_a), reader_order(b, &window_b));
  ck_assert_int_eq(window_a, window_b);
  ck_assert_int_eq(reader_class_count(a), reader_class_count(b));
  ck_assert_int_eq(reader_interactions(a) != NULL, reader_interactions(b) != NULL);
  ck_assert_int_eq(reader_feature_count(a), reader_feature_count(b));
  for (int f = 0; f < reader_feature_count(a); f++) {
    const reader_feature_t *x = reader_feature(a, f), *y = reader_feature(b, f);
    ck_assert_str_eq(x->name, y->name);
    ck_assert_int_eq(x->rows, y->rows);
    ck_assert_int_eq(x->multi_hot, y->multi_hot);
    ck_assert_int_eq((int)x->role, (int)y->role);
    ck_assert(same_name(x->table, y->table));
  }
  ck_assert_int_eq(reader_blob_count(a), reader_blob_count(b));
  for (int i = 0; i < reader_blob_count(a); i++) {
    int found = 0;
    for (int j = 0; j < reader_blob_count(b); j++) {
      const reader_blob_t *x = reader_blob(a, i), *y = reader_blob(b, j);
      found |= strcmp(x->name, y->name) == 0 && x->bytes == y->bytes &&
               memcmp(x->data, y->data, (size_t)x->bytes) == 0;
    }
    ck_assert_msg(found, "%s", reader_blob(a, i)->name);
  }
  reader_close(&a);
  reader_close(&b);
}

/* The file gives what the source gives, on any number of ranks, from any step on, in several epochs. */
static inline void check_samples(const reader_config_t *source) {
  convert_result_t result;
  const char *path = path_of("samples.h5");
  OK(convert(source, path, 7, &result));
  reader_config_t binary = binary_config(source, path);
  for (int s = 0; s < READER_SPLITS; s++)
    for (int ranks = 1; ranks <= 3; ranks += 2)
      for (int64_t step = 0; step < 4; step += 3) {
        if (step * source->global_batch > result.samples[s]) continue;
        samples_t want = read_epoch(source, ranks, (reader_split_t)s, 2, step);
        samples_t got = read_epoch(&binary, ranks, (reader_split_t)s, 2, step);
        ck_assert_msg(same_samples(&want, &got), "split %d, %d ranks, from step %d", s, ranks, (int)step);
        if (step == 0) ck_assert_int_eq(got.count, result.samples[s]);
        free_samples(&want);
        free_samples(&got);
      }
  check_description(source, &binary);
}

/* And all that a reader promises holds for the file too. */
static inline void check_same(const reader_config_t *source) {
  check_samples(source);
  reader_config_t binary = binary_config(source, path_of("samples.h5"));
  check_order(&binary);
}

#endif
