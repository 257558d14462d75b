/* What stands in for this folder in a build without the CUDA toolkit, whose kernels are never a GPU's. */
#include "cuda/dense/cuda_dense.h"

sbag_code_t dense_cuda_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status) {
  (void)kernel, (void)reproducible, (void)dense;
  return status_set(status, SBAG_ERR_UNSUPPORTED, "this build has no CUDA: the model runs on device cpu");
}
