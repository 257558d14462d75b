/* Blocks of parameters, gradients and state, their first values, and their names. */
#include "model/params.h"

#include "base/random.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static int64_t layer_size(const params_layer_t *layer) {
  return layer->in * layer->out + (layer->has_bias ? layer->out : 0);
}

int64_t params_layer_end(const params_t *params, int layer) {
  return params->layers[layer].offset + layer_size(&params->layers[layer]);
}

/* Saturates where a product or the sum leaves int64, so that the allocation fails with the number. */
static int64_t place_layers(params_t *params) {
  int64_t count = 0;
  for (int i = params->layer_count - 1; i >= 0; i--) {
    params_layer_t *layer = &params->layers[i];
    int64_t weights;
    layer->offset = count;
    if (__builtin_mul_overflow(layer->in, layer->out, &weights) ||
        __builtin_add_overflow(count, weights, &count) || __builtin_add_overflow(count, layer->out, &count))
      return INT64_MAX;
    if (!layer->has_bias) count -= layer->out;
  }
  return count;
}

static void fill_normal(uint64_t seed, const char *layer, const char *array, double deviation, int64_t count,
                        float *values) {
  char name[PARAMS_NAME_BYTES + 16];
  snprintf(name, sizeof name, "%s/%s", layer, array);
  uint64_t key = random_key(seed, name);
  double normal[4] = {0};
  for (int64_t i = 0; i < count; i++) {
    if (i % 4 == 0) random_normal4(random_block(key, 0, (uint64_t)(i / 4)), normal);
    values[i] = (float)(normal[i % 4] * deviation);
  }
}

static void fill_weights(params_t *params, uint64_t seed) {
  for (int i = 0; i < params->layer_count; i++) {
    const params_layer_t *layer = &params->layers[i];
    float *weight = params->weight + layer->offset, *bias = weight + layer->in * layer->out;
    fill_normal(seed, layer->name, "weight", sqrt(2.0 / (double)(layer->in + layer->out)),
                layer->in * layer->out, weight);
    if (layer->has_bias)
      fill_normal(seed, layer->name, "bias", sqrt(1.0 / (double)layer->out), layer->out, bias);
  }
}

/* Adds a layer's weight and bias, found in `block`, to the list; state is NULL for the parameters themselves.
 */
static void list_layer(params_t *params, const params_layer_t *layer, const char *state, float *block) {
  for (int bias = 0; bias <= layer->has_bias; bias++) {
    model_array_t *array = &params->arrays[params->array_count++];
    snprintf(array->name, sizeof array->name, "%s%s/%s%s%s", state == NULL ? "" : "state/", layer->name,
             bias ? "bias" : "weight", state == NULL ? "" : "/", state == NULL ? "" : state);
    array->rank = bias ? 1 : 2;
    array->shape[0] = layer->out;
    array->shape[1] = bias ? 1 : layer->in;
    array->data = block + layer->offset + (bias ? layer->in * layer->out : 0);
  }
}

static void list_arrays(params_t *params, const optimizer_info_t *info) {
  for (int i = 0; i < params->layer_count; i++) list_layer(params, &params->layers[i], NULL, params->weight);
  for (int i = 0; i < params->layer_count; i++)
    for (int s = 0; s < info->state_count; s++)
      list_layer(params, &params->layers[i], info->states[s].name, params->states[s]);
}

static sbag_code_t allocate(params_t *params, const optimizer_info_t *info, sbag_status_t *status) {
  void *block = NULL;
  size_t bytes = mem_array_bytes(params->count, sizeof(float));
  SBAG_TRY(mem_alloc(params->mem, bytes, "model: dense parameters", &block, status));
  params->weight = block;
  SBAG_TRY(mem_calloc(params->mem, bytes, "model: dense gradients", &block, status));
  params->grad = block;
  for (int s = 0; s < info->state_count; s++) {
    SBAG_TRY(mem_alloc(params->mem, bytes, "model: dense optimizer state", &block, status));
    params->states[s] = block;
    for (int64_t i = 0; i < params->count; i++) params->states[s][i] = (float)info->states[s].initial;
  }
  size_t arrays = (size_t)params->layer_count * 2 * (size_t)(1 + info->state_count);
  SBAG_TRY(mem_alloc(params->mem, arrays * sizeof(model_array_t), "model: array names", &block, status));
  params->arrays = block;
  return SBAG_OK;
}

sbag_code_t params_create(mem_t *mem, const params_layer_t *layers, int layer_count, uint64_t seed,
                          const sbag_optimizer_options_t *optimizer, params_t *params,
                          sbag_status_t *status) {
  params_t made = {.mem = mem, .layer_count = layer_count};
  size_t bytes = (size_t)layer_count * sizeof *layers;
  void *block = NULL;
  SBAG_TRY(mem_alloc(mem, bytes, "model: layers", &block, status));
  made.layers = block;
  memcpy(made.layers, layers, bytes);
  made.count = place_layers(&made);
  optimizer_info_t info = optimizer_info(optimizer);
  sbag_code_t code = allocate(&made, &info, status);
  if (code != SBAG_OK) {
    params_clear(&made);
    return code;
  }
  fill_weights(&made, seed);
  list_arrays(&made, &info);
  *params = made;
  return SBAG_OK;
}

void params_clear(params_t *params) {
  mem_free(params->mem, params->layers);
  mem_free(params->mem, params->weight);
  mem_free(params->mem, params->grad);
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++) mem_free(params->mem, params->states[s]);
  mem_free(params->mem, params->arrays);
  *params = (params_t){.mem = params->mem};
}

linear_t params_linear(const params_t *params, int layer) {
  const params_layer_t *l = &params->layers[layer];
  int64_t weight = l->offset, bias = l->offset + l->in * l->out;
  return (linear_t){.in = l->in,
                    .out = l->out,
                    .weight = params->weight + weight,
                    .bias = l->has_bias ? params->weight + bias : NULL,
                    .weight_grad = params->grad + weight,
                    .bias_grad = l->has_bias ? params->grad + bias : NULL,
                    .relu = l->relu};
}
