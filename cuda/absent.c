/* What stands in for this folder's .cu files in a build without the CUDA toolkit. */
#include "cuda/cuda_kernel.h"

static sbag_code_t absent(sbag_status_t *status) {
  return status_set(status, SBAG_ERR_UNSUPPORTED,
                    "this build has no CUDA: install the CUDA toolkit and NCCL, and configure with "
                    "-DSHARDBAG_CUDA=ON");
}

sbag_code_t kernel_cuda_count(int *devices, sbag_status_t *status) {
  (void)devices;
  return absent(status);
}

sbag_code_t kernel_cuda_create(mem_t *mem, int device, kernel_t **kernel, sbag_status_t *status) {
  (void)mem, (void)device, (void)kernel;
  return absent(status);
}

sbag_code_t kernel_cuda_stream_create(kernel_t *kernel, kernel_stream_t **stream, sbag_status_t *status) {
  (void)kernel, (void)stream;
  return absent(status);
}

void kernel_cuda_stream_destroy(kernel_t *kernel, kernel_stream_t **stream) {
  (void)kernel, (void)stream; /* none was ever made */
}

void kernel_cuda_stream_wait(kernel_t *kernel, kernel_stream_t *later, kernel_stream_t *earlier) {
  (void)kernel, (void)later, (void)earlier;
}

void *kernel_cuda_stream(const kernel_t *kernel) {
  (void)kernel;
  return NULL;
}

int64_t kernel_cuda_alloc_count(const kernel_t *kernel) {
  (void)kernel;
  return 0;
}
