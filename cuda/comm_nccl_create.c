/* How a comm gets its NCCL device, and how it loses it. The comm carries NCCL's id, and everything that ranks
 * have to tell each other before NCCL can. */
#include "cuda/comm_nccl_impl.h"

#include "base/clock.h"
#include <sched.h>
#include <stdio.h>
#include <string.h>

static const double close_s = 10.0; /* how long the end of a working communicator may take */

sbag_code_t comm_nccl_gpu_name(int gpu, char name[COMM_NCCL_GPU_BYTES], sbag_status_t *status) {
  memset(name, 0, COMM_NCCL_GPU_BYTES);
  cudaError_t error = cudaDeviceGetPCIBusId(name, COMM_NCCL_GPU_BYTES, gpu);
  if (error == cudaSuccess) return SBAG_OK;
  return status_set(status, SBAG_ERR_STATE, "GPU %d: its PCI address: %s", gpu, cudaGetErrorString(error));
}

/* Not collective: NCCL's kernels and threads see the flag that this sets and end. */
void comm_nccl_abort(comm_device_t *device) {
  comm_nccl_t *d = comm_nccl_of(device);
  ncclComm_t nccl = d->nccl;
  d->nccl = NULL;
  if (nccl != NULL) (void)ncclCommAbort(nccl);
}

/* Collective: nothing is under way on any rank. */
static void close_nccl(comm_nccl_t *d) {
  int busy = 1;
  double start_s = clock_now();
  ncclResult_t result = ncclCommFinalize(d->nccl);
  int fine = result == ncclSuccess || result == ncclInProgress;
  while (fine && busy) {
    fine = comm_nccl_busy(d, &busy, NULL) == SBAG_OK && clock_now() - start_s < close_s;
    if (busy) sched_yield();
  }
  if (!fine) {
    comm_nccl_abort(&d->base);
    return;
  }
  (void)ncclCommDestroy(d->nccl);
  d->nccl = NULL;
}

static void ops_free(mem_t *mem, nccl_op_t **list) {
  while (*list != NULL) {
    nccl_op_t *op = *list;
    *list = op->next;
    if (op->asked != NULL) (void)cudaEventDestroy(op->asked);
    mem_free(mem, op->send);
    mem_free(mem, op->counts);
    mem_free(mem, op);
  }
}

void comm_nccl_destroy(comm_device_t **device) {
  comm_nccl_t *d = comm_nccl_of(*device);
  mem_t *mem = d->comm->mem;
  *device = NULL;
  if (d->nccl != NULL) close_nccl(d);
  for (int i = 0; i < NCCL_WINDOW; i++)
    if (d->round_end[i] != NULL) (void)cudaEventDestroy(d->round_end[i]);
  if (d->stream != NULL) (void)cudaStreamDestroy(d->stream);
  for (int i = 0; i < d->blocks; i++) (void)cudaFree(d->block[i]);
  ops_free(mem, &d->first);
  ops_free(mem, &d->idle);
  mem_free(mem, d);
}

/* What concerns this rank alone. The stream goes before the kernel's: peers wait for what is on it. */
static sbag_code_t make_local(comm_nccl_t *d, sbag_status_t *status) {
  int least = 0, greatest = 0;
  SBAG_TRY(comm_nccl_check_cuda(d, cudaSetDevice(d->gpu), "cudaSetDevice", status));
  SBAG_TRY(comm_nccl_check_cuda(d, cudaDeviceGetStreamPriorityRange(&least, &greatest),
                                "cudaDeviceGetStreamPriorityRange", status));
  SBAG_TRY(comm_nccl_check_cuda(d, cudaStreamCreateWithPriority(&d->stream, cudaStreamNonBlocking, greatest),
                                "a stream", status));
  for (int i = 0; i < NCCL_WINDOW; i++)
    SBAG_TRY(comm_nccl_check_cuda(d, cudaEventCreateWithFlags(&d->round_end[i], cudaEventDisableTiming),
                                  "an event", status));
  if (d->comm->rank > 0 || d->comm->size == 1) return SBAG_OK;
  return comm_nccl_check(d, ncclGetUniqueId(&d->id), "ncclGetUniqueId", status);
}

/* The comm listens to its peers meanwhile. */
static sbag_code_t await_nccl(comm_nccl_t *d, sbag_status_t *status) {
  double start_s = clock_now(), limit_s = d->comm->options.timeout_s;
  for (int busy = 1;;) {
    SBAG_TRY(comm_nccl_busy(d, &busy, status));
    if (!busy) return SBAG_OK;
    SBAG_TRY(d->comm->ops->progress(d->comm, status));
    sched_yield();
    if (limit_s > 0 && clock_now() - start_s > limit_s)
      return status_set(
          status, SBAG_ERR_TIMEOUT,
          "start of NCCL: GPUs of %d ranks did not find each other within %g s (NCCL_DEBUG=INFO "
          "tells more)",
          d->comm->size, limit_s);
  }
}

static sbag_code_t connect(comm_nccl_t *d, sbag_status_t *status) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  SBAG_TRY(comm_nccl_check(d, ncclCommInitRankConfig(&d->nccl, d->comm->size, d->id, d->comm->rank, &config),
                           "ncclCommInitRankConfig", status));
  return await_nccl(d, status);
}

sbag_code_t comm_nccl_attach(comm_t *comm, int gpu, void *stream, sbag_status_t *status) {
  void *block = NULL;
  sbag_code_t code = mem_calloc(comm->mem, sizeof(comm_nccl_t), "comm: NCCL", &block, status);
  comm_nccl_t *d = block;
  if (code == SBAG_OK) {
    d->base.ops = &comm_nccl_ops;
    d->comm = comm;
    d->gpu = gpu;
    d->kernel_stream = stream;
    comm->device = &d->base; /* which frees it, also after a failure: a broken comm may still write the id */
    code = make_local(d, status);
  }
  SBAG_TRY(comm_agree(comm, code, status));
  if (comm->size > 1) {
    SBAG_TRY(comm_broadcast(comm, &d->id, (int64_t)sizeof d->id, 0, "start of NCCL", status));
    code = connect(d, status);
    if (code != SBAG_OK) comm_fail(comm, status); /* the others may wait for this rank in NCCL */
    SBAG_TRY(comm_check(comm, status));
    SBAG_TRY(comm_agree(comm, SBAG_OK, status));
  }
  d->ready = 1;
  return SBAG_OK;
}
