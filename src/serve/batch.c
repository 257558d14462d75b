/* Joining and dealing. */
#include "serve/batch.h"

#include "dense/loss.h"
#include "reader/grow.h"
#include <math.h>
#include <string.h>

sbag_code_t batch_create(const model_config_t *config, mem_t *mem, batch_t *batch, sbag_status_t *status) {
  void *block = NULL;
  *batch = (batch_t){.mem = mem, .config = config, .input_count = signature_inputs(config)};
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(batch->input_count, sizeof *batch->features), "serving: a batch",
                      &block, status));
  batch->features = block;
  sbag_code_t code = mem_calloc(mem, mem_array_bytes(config->feature_count, sizeof *batch->bags),
                                "serving: a batch", &block, status);
  if (code == SBAG_OK)
    batch->bags = block;
  else
    batch_clear(batch);
  return code;
}

void batch_clear(batch_t *batch) {
  if (batch->mem == NULL) return;
  for (int f = 0; f < batch->input_count; f++) {
    mem_free(batch->mem, batch->features[f].indices);
    mem_free(batch->mem, batch->features[f].offsets);
    mem_free(batch->mem, batch->features[f].weights);
  }
  mem_free(batch->mem, batch->features);
  mem_free(batch->mem, batch->bags);
  mem_free(batch->mem, batch->dense);
  mem_free(batch->mem, batch->outputs);
  memset(batch, 0, sizeof *batch);
}

/* Never NULL afterwards. */
static sbag_code_t fit(batch_t *b, int64_t count, size_t size, void **block, int64_t *room,
                       sbag_status_t *status) {
  return reader_grow_to(b->mem, block, room, count > 0 ? count : 1, size, "serving: a batch", status);
}

static sbag_code_t fit_feature(batch_t *b, int f, int64_t indices, int weighted, sbag_status_t *status) {
  batch_feature_t *at = &b->features[f];
  void *block = at->indices;
  SBAG_TRY(fit(b, indices, sizeof *at->indices, &block, &at->index_room, status));
  at->indices = block;
  block = at->offsets;
  SBAG_TRY(fit(b, b->samples + 1, sizeof *at->offsets, &block, &at->offset_room, status));
  at->offsets = block;
  if (!weighted) return SBAG_OK;
  block = at->weights;
  SBAG_TRY(fit(b, indices, sizeof *at->weights, &block, &at->weight_room, status));
  at->weights = block;
  return SBAG_OK;
}

static void copy_weights(float *to, const request_bags_t *from) {
  for (int64_t i = 0; i < from->count; i++) to[i] = from->weights != NULL ? from->weights[i] : 1.0f;
}

static void copy_bags(batch_feature_t *at, int f, const ticket_t *tickets, int weighted) {
  int64_t sample = 0, index = 0;
  at->offsets[0] = 0;
  for (const ticket_t *t = tickets; t != NULL; t = t->next) {
    const request_bags_t *from = &t->request.features[f];
    if (from->count > 0)
      memcpy(at->indices + index, from->indices, (size_t)from->count * sizeof *at->indices);
    if (weighted) copy_weights(at->weights + index, from);
    for (int64_t i = 1; i <= t->request.samples; i++) at->offsets[sample + i] = index + from->offsets[i];
    sample += t->request.samples;
    index += from->count;
  }
}

/* One ticket's bags need no copy. */
static sbag_code_t join_feature(batch_t *b, int f, const ticket_t *tickets, sbag_status_t *status) {
  static const int64_t nothing[1] = {0};
  const int64_t *indices = nothing, *offsets = nothing;
  const float *weights = NULL;
  int64_t count = 0;
  int weighted = 0;
  for (const ticket_t *t = tickets; t != NULL; t = t->next) {
    count += t->request.features[f].count;
    weighted |= t->request.features[f].weights != NULL;
  }
  if (b->tickets == 1) {
    const request_bags_t *only = &tickets->request.features[f];
    if (only->count > 0) indices = only->indices;
    offsets = only->offsets;
    weights = only->weights;
  } else if (b->tickets > 1) {
    SBAG_TRY(fit_feature(b, f, count, weighted, status));
    copy_bags(&b->features[f], f, tickets, weighted);
    indices = b->features[f].indices;
    offsets = b->features[f].offsets;
    weights = weighted ? b->features[f].weights : NULL;
  }
  b->bags[f] = sbag_bags_1d(indices, count, offsets, b->samples + 1);
  b->bags[f].include_last_offset = 1;
  b->bags[f].per_sample_weights = weights;
  b->bags[f].per_sample_weight_count = weights != NULL ? count : 0;
  return SBAG_OK;
}

static sbag_code_t join_dense(batch_t *b, const ticket_t *tickets, sbag_status_t *status) {
  int64_t width = b->config->dense_count, used = 0;
  void *block = b->dense;
  SBAG_TRY(fit(b, b->samples * width, sizeof *b->dense, &block, &b->dense_room, status));
  b->dense = block;
  for (const ticket_t *t = tickets; t != NULL && width > 0; t = t->next) {
    if (t->request.dense == NULL) continue; /* embeddings */
    memcpy(b->dense + used, t->request.dense, (size_t)(t->request.samples * width) * sizeof *b->dense);
    used += t->request.samples * width;
  }
  return SBAG_OK;
}

sbag_code_t batch_join(batch_t *b, const ticket_t *tickets, sbag_status_t *status) {
  b->samples = b->tickets = 0;
  for (const ticket_t *t = tickets; t != NULL; t = t->next) {
    b->samples += t->request.samples;
    b->tickets++;
  }
  for (int f = 0; f < b->input_count; f++) SBAG_TRY(join_feature(b, f, tickets, status));
  /* First-order weights read the bags of their feature. */
  for (int f = b->input_count; f < b->config->feature_count; f++) b->bags[f] = b->bags[f - b->input_count];
  return join_dense(b, tickets, status);
}

sbag_code_t batch_room(batch_t *b, int64_t columns, sbag_status_t *status) {
  void *block = b->outputs;
  SBAG_TRY(fit(b, b->samples * columns, sizeof *b->outputs, &block, &b->output_room, status));
  b->outputs = block;
  return SBAG_OK;
}

/* ---- results ---- */

/* The sum of exponentials in double, as the loss has it. */
static void put_softmax(const float *logits, int64_t classes, float *probabilities) {
  double sum = 0.0, most = (double)logits[0];
  for (int64_t k = 1; k < classes; k++) most = fmax(most, (double)logits[k]);
  for (int64_t k = 0; k < classes; k++) sum += loss_exp_negative((double)logits[k] - most);
  for (int64_t k = 0; k < classes; k++)
    probabilities[k] = (float)(loss_exp_negative((double)logits[k] - most) / sum);
}

static void put_prediction(const batch_t *b, const float *outputs, float *result) {
  double probability = 0.0;
  if (b->config->kind == MODEL_CTR) {
    (void)loss_bce((double)outputs[0], 0.0, &probability);
    result[0] = (float)probability;
    result[1] = outputs[0];
  } else {
    put_softmax(outputs, b->config->classes, result);
    memcpy(result + b->config->classes, outputs, (size_t)b->config->classes * sizeof *result);
  }
}

void batch_deal(const batch_t *b, ticket_t *tickets, int model_outputs) {
  const float *from = b->outputs;
  for (ticket_t *t = tickets; t != NULL; t = t->next) {
    const serve_signature_t *s = t->request.signature;
    int64_t samples = t->request.samples;
    if (s->kind == SERVE_EMBEDDINGS) {
      memcpy(t->request.result, from, (size_t)(samples * s->columns) * sizeof *from);
      from += samples * s->columns;
      continue;
    }
    for (int64_t i = 0; i < samples; i++, from += model_outputs)
      put_prediction(b, from, t->request.result + i * s->columns);
  }
}
