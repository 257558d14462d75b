/* Which networks there are, and what they share. */
#include "model/network.h"

#include "model/classify.h"
#include "model/ctr.h"
#include "model/match.h"

sbag_code_t network_create(dense_t *dense, const model_config_t *config, const network_features_t *features,
                           network_t **network, sbag_status_t *status) {
  static network_create_fn *const kinds[MODEL_KINDS] = {
      [MODEL_CTR] = ctr_create, [MODEL_CLASSIFY] = classify_create, [MODEL_MATCH] = match_create};
  if ((int)config->kind < 0 || config->kind >= MODEL_KINDS)
    return status_set(status, SBAG_ERR_ARGUMENT, "model: there is no kind %d", (int)config->kind);
  return kinds[config->kind](dense, config, features, network, status);
}

void network_destroy(network_t **network) {
  if (network == NULL || *network == NULL) return;
  (*network)->ops->destroy(*network);
  *network = NULL;
}

void network_drop(dense_t *dense, float **block) {
  if (*block != NULL) dense->kernel->ops->release(dense->kernel, MEMORY_DEVICE, *block);
  *block = NULL;
}

sbag_code_t network_renew(dense_t *dense, int64_t rows, int64_t width, float **block, sbag_status_t *status) {
  int64_t count;
  if (__builtin_mul_overflow(rows, width, &count)) count = INT64_MAX;
  network_drop(dense, block);
  void *grown = NULL;
  SBAG_TRY(dense->kernel->ops->alloc(dense->kernel, MEMORY_DEVICE, mem_array_bytes(count, sizeof(float)),
                                     "model: buffers of the batch", &grown, status));
  *block = grown;
  return SBAG_OK;
}

float *network_carve(float **next, int64_t rows, int64_t width) {
  float *part = *next;
  *next += rows * width;
  return part;
}

int64_t network_grown(int64_t old, int64_t rows) {
  return rows > old + old / 2 ? rows : old + old / 2;
}
