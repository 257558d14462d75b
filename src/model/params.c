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

/* Every layer begins at a whole cache line: a BLAS is slower, or has no fused products, where a matrix or a
 * bias is not aligned. What is between two layers is zero, and so are its gradients: an update leaves it so.
 * Saturates where a product or the sum leaves int64, so that the allocation fails with the number. */
static int64_t place_layers(params_t *params) {
  enum { LINE_VALUES = 64 / sizeof(float) };
  int64_t count = 0;
  for (int i = params->layer_count - 1; i >= 0; i--) {
    params_layer_t *layer = &params->layers[i];
    int64_t weights;
    layer->offset = count;
    if (__builtin_mul_overflow(layer->in, layer->out, &weights) ||
        __builtin_add_overflow(count, weights, &count) || __builtin_add_overflow(count, layer->out, &count) ||
        count > INT64_MAX - LINE_VALUES)
      return INT64_MAX;
    count = layer->offset + layer_size(layer);
    if (i > 0) count = (count + LINE_VALUES - 1) / LINE_VALUES * LINE_VALUES;
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
  memset(params->host_weight, 0, (size_t)params->count * sizeof *params->host_weight);
  for (int i = 0; i < params->layer_count; i++) {
    const params_layer_t *layer = &params->layers[i];
    float *weight = params->host_weight + layer->offset, *bias = weight + layer->in * layer->out;
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
  for (int i = 0; i < params->layer_count; i++)
    list_layer(params, &params->layers[i], NULL, params->host_weight);
  for (int i = 0; i < params->layer_count; i++)
    for (int s = 0; s < info->state_count; s++)
      list_layer(params, &params->layers[i], info->states[s].name, params->host_states[s]);
}

/* ---- memory ---- */

/* A block of the device, and the host's beside it where that is another memory. */
static sbag_code_t allocate_block(const params_t *params, const char *what, float **block, float **host,
                                  sbag_status_t *status) {
  const dense_t *dense = params->dense;
  kernel_t *kernel = dense->kernel;
  void *made = NULL;
  size_t bytes = mem_array_bytes(params->count, sizeof(float));
  SBAG_TRY(kernel->ops->alloc(kernel, MEMORY_DEVICE, bytes, what, &made, status));
  *block = made;
  if (!dense->on_host) SBAG_TRY(kernel->ops->alloc(kernel, MEMORY_PINNED, bytes, what, &made, status));
  *host = made;
  return SBAG_OK;
}

static sbag_code_t allocate(params_t *params, const optimizer_info_t *info, sbag_status_t *status) {
  kernel_t *kernel = params->dense->kernel;
  void *block = NULL;
  SBAG_TRY(allocate_block(params, "model: dense parameters", &params->weight, &params->host_weight, status));
  size_t bytes = mem_array_bytes(params->count, sizeof(float));
  SBAG_TRY(kernel->ops->alloc(kernel, MEMORY_DEVICE, bytes, "model: dense gradients", &block, status));
  params->grad = block;
  kernel->ops->clear(kernel, NULL, params->grad, (int64_t)bytes);
  for (int s = 0; s < info->state_count; s++) {
    SBAG_TRY(allocate_block(params, "model: dense optimizer state", &params->states[s],
                            &params->host_states[s], status));
    for (int64_t i = 0; i < params->count; i++) params->host_states[s][i] = (float)info->states[s].initial;
  }
  size_t arrays = (size_t)params->layer_count * 2 * (size_t)(1 + info->state_count);
  SBAG_TRY(mem_alloc(kernel->mem, arrays * sizeof(model_array_t), "model: array names", &block, status));
  params->arrays = block;
  return SBAG_OK;
}

static void free_block(const params_t *params, float *block, float *host) {
  kernel_t *kernel = params->dense->kernel;
  if (host != block && host != NULL) kernel->ops->release(kernel, MEMORY_PINNED, host);
  if (block != NULL) kernel->ops->release(kernel, MEMORY_DEVICE, block);
}

void params_clear(params_t *params) {
  if (params->dense == NULL) return;
  mem_t *mem = params->dense->kernel->mem;
  mem_free(mem, params->layers);
  free_block(params, params->weight, params->host_weight);
  free_block(params, params->grad, params->grad);
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++)
    free_block(params, params->states[s], params->host_states[s]);
  mem_free(mem, params->arrays);
  *params = (params_t){.dense = params->dense};
}

/* ---- creation ---- */

static sbag_code_t fill(params_t *params, uint64_t seed, const sbag_optimizer_options_t *optimizer,
                        sbag_status_t *status) {
  optimizer_info_t info = optimizer_info(optimizer);
  SBAG_TRY(allocate(params, &info, status));
  fill_weights(params, seed);
  list_arrays(params, &info);
  return params_send(params, status);
}

sbag_code_t params_create(dense_t *dense, const params_layer_t *layers, int layer_count, uint64_t seed,
                          const sbag_optimizer_options_t *optimizer, params_t *params,
                          sbag_status_t *status) {
  params_t made = {.dense = dense, .layer_count = layer_count};
  size_t bytes = (size_t)layer_count * sizeof *layers;
  void *block = NULL;
  SBAG_TRY(mem_alloc(dense->kernel->mem, bytes, "model: layers", &block, status));
  made.layers = block;
  memcpy(made.layers, layers, bytes);
  made.count = place_layers(&made);
  sbag_code_t code = fill(&made, seed, optimizer, status);
  if (code != SBAG_OK) {
    params_clear(&made);
    return code;
  }
  *params = made;
  return SBAG_OK;
}

/* ---- the host's copy ---- */

static sbag_code_t copy_all(const params_t *params, int to_host, sbag_status_t *status) {
  kernel_t *kernel = params->dense->kernel;
  int64_t bytes = params->count * (int64_t)sizeof(float);
  copy_part_t parts[1 + OPTIMIZER_STATES_MAX] = {{params->weight, params->host_weight, bytes}};
  int64_t count = 1;
  if (params->dense->on_host) return SBAG_OK;
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++)
    if (params->states[s] != NULL)
      parts[count++] = (copy_part_t){params->states[s], params->host_states[s], bytes};
  for (int64_t i = 0; i < count && to_host; i++)
    parts[i] = (copy_part_t){(void *)(uintptr_t)parts[i].from, parts[i].to, bytes};
  kernel->ops->copy(kernel, NULL, parts, count);
  return dense_sync(params->dense, status);
}

sbag_code_t params_fetch(const params_t *params, sbag_status_t *status) {
  return copy_all(params, 1, status);
}

sbag_code_t params_send(const params_t *params, sbag_status_t *status) {
  return copy_all(params, 0, status);
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
