/* Synthetic samples of any number: sample i of a split is a function of (seed, split, i) alone.
 *
 * Dense values are standard normal, rows have a Zipf popularity, and the label is drawn from a logistic
 * function of both whose coefficients follow from the seed: there is something to learn, and the same thing
 * in every split. */
#include "base/random.h"
#include "reader/source.h"
#include "reader/zipf.h"

#include <math.h>
#include <stdio.h>

typedef struct synthetic {
  zipf_t *zipf;                           /* [feature_count] */
  uint64_t *weight_keys;                  /* [feature_count] hidden weights of the rows */
  double *dense_weights;                  /* [dense_count] */
  uint64_t row_key, dense_key, label_key; /* of the split being read */
  reader_split_t split;
  int shuffled;
  uint64_t order_key;
} synthetic_t;

static sbag_code_t check_config(const reader_synthetic_config_t *c, sbag_status_t *status) {
  for (int s = 0; s < READER_SPLITS; s++)
    if (c->samples[s] < 0 || c->samples[s] > (int64_t)1 << 40)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "synthetic data: %lld samples in split %d; it must be 0 to 2^40",
                        (long long)c->samples[s], s);
  if (c->dense_count < 0 || c->dense_count > 1 << 20 || c->feature_count > 1 << 20)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "synthetic data: %d dense values and %d features; each must be 0 to 2^20",
                      c->dense_count, c->feature_count);
  if (!(c->zipf >= 0.0 && c->zipf <= 20.0))
    return status_set(status, SBAG_ERR_ARGUMENT, "synthetic data: Zipf exponent %g; it must be 0 to 20",
                      c->zipf);
  for (int f = 0; f < c->feature_count; f++)
    if (c->rows[f] < 1 || c->rows[f] > (int64_t)1 << 40 || c->bag_length[f] < 0 || c->bag_length[f] > 1 << 24)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "synthetic data: feature %d has %lld rows and bags of %lld; rows must be 1 to 2^40, "
                        "bag lengths 0 to 2^24",
                        f, (long long)c->rows[f], (long long)c->bag_length[f]);
  return SBAG_OK;
}

static sbag_code_t describe(source_t *source, sbag_status_t *status) {
  const reader_synthetic_config_t *c = &source->config->source.synthetic;
  SBAG_TRY(reader_source_set_features(source, c->feature_count, status));
  for (int f = 0; f < c->feature_count; f++) {
    snprintf(source->features[f].name, sizeof source->features[f].name, "feature_%d", f);
    source->features[f].rows = c->rows[f];
    source->features[f].multi_hot = c->bag_length[f] != 1;
    source->bag_room[f] = c->bag_length[f];
  }
  source->dense_count = c->dense_count;
  for (int s = 0; s < READER_SPLITS; s++) source->samples[s] = c->samples[s];
  return SBAG_OK;
}

static sbag_code_t synthetic_open(source_t *source, sbag_status_t *status) {
  const reader_synthetic_config_t *c = &source->config->source.synthetic;
  uint64_t seed = source->config->seed;
  SBAG_TRY(check_config(c, status));
  SBAG_TRY(describe(source, status));
  SBAG_TRY(mem_calloc(source->mem, sizeof(synthetic_t), "synthetic data", &source->state, status));
  synthetic_t *s = source->state;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(c->feature_count, sizeof *s->zipf), "synthetic data",
                      (void **)&s->zipf, status));
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(c->feature_count, sizeof *s->weight_keys),
                      "synthetic data", (void **)&s->weight_keys, status));
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(c->dense_count, sizeof *s->dense_weights),
                      "synthetic data", (void **)&s->dense_weights, status));
  for (int f = 0; f < c->feature_count; f++) {
    char name[64];
    snprintf(name, sizeof name, "synthetic weights of feature %d", f);
    s->weight_keys[f] = random_key(seed, name);
    s->zipf[f] = reader_zipf_make(c->rows[f], c->zipf);
  }
  uint64_t key = random_key(seed, "synthetic weights of dense values");
  for (int d = 0; d < c->dense_count; d++) s->dense_weights[d] = 2.0 * random_unit53(key, (uint64_t)d) - 1.0;
  return SBAG_OK;
}

static void synthetic_close(source_t *source) {
  synthetic_t *s = source->state;
  if (s == NULL) return;
  mem_free(source->mem, s->zipf);
  mem_free(source->mem, s->weight_keys);
  mem_free(source->mem, s->dense_weights);
  mem_free(source->mem, s);
  source->state = NULL;
}

static uint64_t split_key(const source_t *source, const char *what, reader_split_t split) {
  char name[64];
  snprintf(name, sizeof name, "synthetic %s split %d", what, (int)split);
  return random_key(source->config->seed, name);
}

static sbag_code_t synthetic_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                                  sbag_status_t *status) {
  synthetic_t *s = source->state;
  (void)position;
  (void)status;
  s->split = split;
  s->row_key = split_key(source, "rows", split);
  s->dense_key = split_key(source, "dense", split);
  s->label_key = split_key(source, "label", split);
  s->shuffled = source->config->shuffle && split == READER_TRAIN;
  s->order_key = reader_source_epoch_key(source, epoch);
  return SBAG_OK;
}

/* Dense values of sample i; returns their part of the logit, of variance about 1. */
static double write_dense(const synthetic_t *s, int count, uint64_t i, float *out) {
  double normal[4], sum = 0.0;
  for (int d = 0; d < count; d++) {
    if (d % 4 == 0) random_normal4(random_block(s->dense_key, i, (uint64_t)d / 4), normal);
    out[d] = (float)normal[d % 4];
    sum += s->dense_weights[d] * (double)out[d];
  }
  return count > 0 ? sum * sqrt(3.0 / count) : 0.0;
}

/* One bag; returns the mean of its rows' hidden weights, each uniform in [-1, 1). */
static double write_bag(const synthetic_t *s, int f, int64_t length, uint64_t i, int64_t *out) {
  double sum = 0.0;
  for (int64_t j = 0; j < length; j++) {
    out[j] = reader_zipf_draw(&s->zipf[f], s->row_key, i, (uint64_t)f << 24 | (uint64_t)j);
    sum += 2.0 * random_unit53(s->weight_keys[f], (uint64_t)out[j]) - 1.0;
  }
  return length > 0 ? sum / (double)length : 0.0;
}

static sbag_code_t write_sample(const source_t *source, uint64_t i, slot_t *slot, sbag_status_t *status) {
  const synthetic_t *s = source->state;
  const reader_synthetic_config_t *c = &source->config->source.synthetic;
  double bags = 0.0, logit = write_dense(s, c->dense_count, i, reader_slot_dense(slot));
  for (int f = 0; f < c->feature_count; f++) {
    int64_t *room;
    SBAG_TRY(reader_slot_room(slot, f, c->bag_length[f], &room, status));
    bags += write_bag(s, f, c->bag_length[f], i, room);
    slot->bags[f].nnz += c->bag_length[f];
  }
  if (c->feature_count > 0) logit += 2.0 * sqrt(3.0 / c->feature_count) * bags;
  *reader_slot_label(slot) = random_unit53(s->label_key, i) * (1.0 + exp(-logit)) < 1.0 ? 1.0F : 0.0F;
  reader_slot_end_sample(slot);
  return SBAG_OK;
}

static sbag_code_t synthetic_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                                  sbag_status_t *status) {
  const synthetic_t *s = source->state;
  for (int64_t position = begin; position < end; position++) {
    int64_t i = s->shuffled ? random_permute(s->order_key, source->samples[s->split], position) : position;
    SBAG_TRY(write_sample(source, (uint64_t)i, slot, status));
  }
  return SBAG_OK;
}

const source_ops_t reader_source_synthetic = {.form = BINARY_SAMPLES,
                                              .open = synthetic_open,
                                              .close = synthetic_close,
                                              .seek = synthetic_seek,
                                              .fill = synthetic_fill};
