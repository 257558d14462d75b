/* The choice of the implementation, and what does not depend on it. */
#include "dense/dense.h"

#include "cuda/dense/cuda_dense.h"
#include "dense/cpu.h"
#include <stddef.h>

sbag_code_t dense_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status) {
  if (kernel->ops->device == SBAG_DEVICE_CPU) return dense_cpu_create(kernel, reproducible, dense, status);
  return dense_cuda_create(kernel, reproducible, dense, status);
}

void dense_destroy(dense_t **dense) {
  if (dense == NULL || *dense == NULL) return;
  (*dense)->ops->destroy(*dense);
  *dense = NULL;
}

dropout_t dropout_make(double p, uint64_t key, int64_t step, int64_t first_sample) {
  return (dropout_t){.key = key,
                     .threshold = (uint32_t)(p * 4294967296.0),
                     .scale = (float)(1.0 / (1.0 - p)),
                     .step = step,
                     .first_sample = first_sample};
}

int64_t interaction_width(const interaction_t *shape) {
  int64_t n = shape->vectors;
  return shape->concat * shape->dim + (shape->concat_only ? 0 : n * (n - 1) / 2);
}

sbag_code_t dense_optimizer_check(const sbag_optimizer_options_t *options, sbag_status_t *status) {
  SBAG_TRY(optimizer_check(options, "dense optimizer", status));
  if (options->kind == SBAG_OPT_SGD || options->kind == SBAG_OPT_ADAGRAD || options->kind == SBAG_OPT_ADAM)
    return SBAG_OK;
  return status_set(status, SBAG_ERR_UNSUPPORTED,
                    "dense optimizer: %s is for tables only; dense layers take sgd, adagrad or adam",
                    sbag_optimizer_name(options->kind));
}
