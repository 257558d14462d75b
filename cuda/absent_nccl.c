/* What stands in for this folder's NCCL files in a build without the CUDA toolkit. */
#include "cuda/comm_nccl.h"

static sbag_code_t absent(sbag_status_t *status) {
  return status_set(status, SBAG_ERR_UNSUPPORTED, "this build has no NCCL");
}

sbag_code_t comm_nccl_gpu_name(int gpu, char name[COMM_NCCL_GPU_BYTES], sbag_status_t *status) {
  (void)gpu, (void)name;
  return absent(status);
}

sbag_code_t comm_nccl_attach(comm_t *comm, int gpu, void *stream, sbag_status_t *status) {
  (void)comm, (void)gpu, (void)stream;
  return absent(status);
}
