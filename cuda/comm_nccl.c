/* The NCCL device: operations wait in a queue, and are posted in its order, round by round. Ranks see the
 * ends of rounds at different times, but NCCL wants the same calls in the same order everywhere, so nothing
 * of an operation is posted before all of those begun earlier.
 *
 * Nothing here waits: progress asks NCCL and the stream's events, and the comm above watches the time. That
 * is why the communicator is one that does not block (see comm_nccl_create.c). */
#include "cuda/comm_nccl_impl.h"

#include <string.h>

sbag_code_t comm_nccl_check_cuda(const comm_nccl_t *d, cudaError_t error, const char *call,
                                 sbag_status_t *status) {
  if (error == cudaSuccess) return SBAG_OK;
  (void)cudaGetLastError(); /* told here */
  return status_set(status, error == cudaErrorMemoryAllocation ? SBAG_ERR_MEMORY : SBAG_ERR_COMM,
                    "GPU %d: %s: %s", d->gpu, call, cudaGetErrorString(error));
}

sbag_code_t comm_nccl_check(const comm_nccl_t *d, ncclResult_t result, const char *call,
                            sbag_status_t *status) {
  if (result == ncclSuccess || result == ncclInProgress) return SBAG_OK;
  const char *more = ncclGetLastError(d->nccl);
  int has_more = more != NULL && more[0] != '\0';
  return status_set(status, SBAG_ERR_COMM, "GPU %d: %s: NCCL: %s%s%s%s", d->gpu, call,
                    ncclGetErrorString(result), has_more ? " (" : "", has_more ? more : "",
                    has_more ? ")" : "");
}

sbag_code_t comm_nccl_busy(const comm_nccl_t *d, int *busy, sbag_status_t *status) {
  ncclResult_t state = ncclSuccess;
  *busy = 0;
  if (d->nccl == NULL) return SBAG_OK;
  SBAG_TRY(comm_nccl_check(d, ncclCommGetAsyncError(d->nccl, &state), "ncclCommGetAsyncError", status));
  *busy = state == ncclInProgress;
  return comm_nccl_check(d, state, "a transfer", status);
}

static int owns(comm_device_t *device, const void *data) {
  struct cudaPointerAttributes at;
  memset(&at, 0, sizeof at);
  if (!comm_nccl_of(device)->ready) return 0;
  if (cudaPointerGetAttributes(&at, data) != cudaSuccess) {
    (void)cudaGetLastError(); /* an answer, not a failure */
    return 0;
  }
  return at.type == cudaMemoryTypeDevice || at.type == cudaMemoryTypeManaged;
}

/* ---- progress ---- */

static sbag_code_t post(comm_nccl_t *d, int *moved, sbag_status_t *status) {
  while (d->next != NULL && !d->launching && d->rounds_posted - d->rounds_ended < NCCL_WINDOW) {
    nccl_op_t *op = d->next;
    SBAG_TRY(comm_nccl_post(d, op, status));
    *moved = 1;
    if (!op->posted_all) continue;
    op->last_round = d->rounds_posted + d->launching;
    d->next = op->next;
  }
  return SBAG_OK;
}

static sbag_code_t see_rounds_end(comm_nccl_t *d, int *moved, sbag_status_t *status) {
  while (d->rounds_ended < d->rounds_posted) {
    cudaError_t error = cudaEventQuery(d->round_end[d->rounds_ended % NCCL_WINDOW]);
    if (error == cudaErrorNotReady) return SBAG_OK;
    SBAG_TRY(comm_nccl_check_cuda(d, error, "a transfer", status));
    d->rounds_ended++;
    *moved = 1;
  }
  return SBAG_OK;
}

static void retire(comm_nccl_t *d) {
  while (d->first != NULL && d->first->posted_all && d->first->last_round <= d->rounds_ended) {
    nccl_op_t *op = d->first;
    d->first = op->next;
    if (d->first == NULL) d->last = NULL;
    op->next = d->idle;
    d->idle = op;
    d->base.ended++;
  }
}

static sbag_code_t progress(comm_device_t *device, int *moved, sbag_status_t *status) {
  comm_nccl_t *d = comm_nccl_of(device);
  int64_t ended = d->rounds_ended;
  int busy = 0;
  if (d->first == NULL) return SBAG_OK;
  SBAG_TRY(comm_nccl_busy(d, &busy, status));
  if (d->launching && !busy) SBAG_TRY(comm_nccl_launched(d, status));
  SBAG_TRY(see_rounds_end(d, moved, status));
  SBAG_TRY(post(d, moved, status));
  SBAG_TRY(see_rounds_end(d, moved, status));
  if (d->rounds_ended > ended) SBAG_TRY(comm_nccl_busy(d, &busy, status)); /* an error ends a round too */
  retire(d);
  return SBAG_OK;
}

/* ---- operations ---- */

static sbag_code_t op_parts(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status) {
  void *block = NULL;
  mem_t *mem = d->comm->mem;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(2 * (int64_t)d->comm->size, sizeof(comm_part_t)),
                      "comm: NCCL's request", &block, status));
  op->send = block;
  op->recv = op->send + d->comm->size;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(d->comm->size, sizeof(int64_t)), "comm: NCCL's request", &block,
                      status));
  op->counts = block;
  return comm_nccl_check_cuda(d, cudaEventCreateWithFlags(&op->asked, cudaEventDisableTiming), "an event",
                              status);
}

/* Recycled, so that a warm step allocates nothing. One that fails to be made stays with the idle ones. */
static sbag_code_t take(comm_nccl_t *d, nccl_kind_t kind, nccl_op_t **op, sbag_status_t *status) {
  if (d->idle == NULL) {
    void *block = NULL;
    SBAG_TRY(mem_calloc(d->comm->mem, sizeof(nccl_op_t), "comm: NCCL's request", &block, status));
    d->idle = block;
    SBAG_TRY(op_parts(d, d->idle, status));
  }
  nccl_op_t *taken = d->idle;
  taken->kind = kind;
  taken->posted_any = taken->posted_all = 0;
  taken->total = taken->posted = 0;
  *op = taken;
  return comm_nccl_check_cuda(d, cudaEventRecord(taken->asked, d->kernel_stream), "cudaEventRecord", status);
}

/* The operation, which take() left with the idle ones, is complete. */
static sbag_code_t enqueue(comm_nccl_t *d, nccl_op_t *op, int64_t *ticket, sbag_status_t *status) {
  int moved = 0;
  d->idle = op->next;
  op->next = NULL;
  if (d->last != NULL)
    d->last->next = op;
  else
    d->first = op;
  d->last = op;
  if (d->next == NULL) d->next = op;
  *ticket = ++d->begun;
  return progress(&d->base, &moved, status);
}

static sbag_code_t exchange_begin(comm_device_t *device, const comm_part_t *send, const comm_part_t *recv,
                                  int64_t *ticket, sbag_status_t *status) {
  comm_nccl_t *d = comm_nccl_of(device);
  nccl_op_t *op = NULL;
  SBAG_TRY(take(d, NCCL_EXCHANGE, &op, status));
  memcpy(op->send, send, (size_t)d->comm->size * sizeof *send);
  memcpy(op->recv, recv, (size_t)d->comm->size * sizeof *recv);
  return enqueue(d, op, ticket, status);
}

static ncclDataType_t nccl_type(comm_type_t type) {
  switch (type) {
  case COMM_U8:
    return ncclUint8;
  case COMM_I32:
    return ncclInt32;
  case COMM_I64:
    return ncclInt64;
  case COMM_F32:
    return ncclFloat32;
  case COMM_F64:
    break;
  }
  return ncclFloat64;
}

static sbag_code_t allreduce_begin(comm_device_t *device, void *data, int64_t count, comm_type_t type,
                                   comm_reduce_t reduction, int64_t *ticket, sbag_status_t *status) {
  comm_nccl_t *d = comm_nccl_of(device);
  nccl_op_t *op = NULL;
  SBAG_TRY(take(d, NCCL_ALLREDUCE, &op, status));
  op->to = data;
  op->total = count;
  op->element_bytes = comm_type_bytes(type);
  op->type = nccl_type(type);
  op->reduction = reduction == COMM_SUM ? ncclSum : reduction == COMM_MAX ? ncclMax : ncclMin;
  return enqueue(d, op, ticket, status);
}

static sbag_code_t reduce_scatter_begin(comm_device_t *device, const void *send, const int64_t *counts,
                                        void *recv, comm_type_t type, int64_t *ticket,
                                        sbag_status_t *status) {
  comm_nccl_t *d = comm_nccl_of(device);
  nccl_op_t *op = NULL;
  SBAG_TRY(take(d, NCCL_REDUCE_SCATTER, &op, status));
  op->from = (char *)(uintptr_t)send; /* only read */
  op->to = recv;
  op->element_bytes = comm_type_bytes(type);
  op->type = nccl_type(type);
  memcpy(op->counts, counts, (size_t)d->comm->size * sizeof *counts);
  for (int p = 0; p < d->comm->size; p++)
    if (counts[p] > op->total) op->total = counts[p];
  SBAG_TRY(comm_nccl_stage(d, op, status));
  return enqueue(d, op, ticket, status);
}

static sbag_code_t broadcast_begin(comm_device_t *device, void *data, int64_t bytes, int root,
                                   int64_t *ticket, sbag_status_t *status) {
  comm_nccl_t *d = comm_nccl_of(device);
  nccl_op_t *op = NULL;
  SBAG_TRY(take(d, NCCL_BROADCAST, &op, status));
  op->to = data;
  op->total = bytes;
  op->element_bytes = 1;
  op->root = root;
  return enqueue(d, op, ticket, status);
}

const comm_device_ops_t comm_nccl_ops = {
    .name = "nccl",
    .owns = owns,
    .exchange_begin = exchange_begin,
    .allreduce_begin = allreduce_begin,
    .reduce_scatter_begin = reduce_scatter_begin,
    .broadcast_begin = broadcast_begin,
    .progress = progress,
    .abort = comm_nccl_abort,
    .destroy = comm_nccl_destroy,
};
