/* What the files of the NCCL device share. Nobody else includes this. */
#ifndef CUDA_COMM_NCCL_IMPL_H
#define CUDA_COMM_NCCL_IMPL_H

#include "comm/device.h"
#include "cuda/comm_nccl.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

enum {
  NCCL_WINDOW = 8,  /* rounds that the stream may hold: the host watches the time, so it must not block in a
                       launch because the GPU's queue is full */
  NCCL_BLOCKS = 64, /* of staging memory; each is twice the one before */
};

typedef enum nccl_kind { NCCL_EXCHANGE, NCCL_ALLREDUCE, NCCL_REDUCE_SCATTER, NCCL_BROADCAST } nccl_kind_t;

/* An operation on its way. It is cut into rounds, each one launch of at most chunk_bytes a message: what has
 * begun on the GPU can't be watched, but rounds can be seen to end. */
typedef struct nccl_op {
  struct nccl_op *next;
  nccl_kind_t kind;
  cudaEvent_t asked; /* what was asked of the kernel's stream before the begin */
  int posted_any, posted_all;
  int64_t last_round; /* how many rounds of the device have ended when it has; once all are posted */

  comm_part_t *send, *recv; /* [size] exchange: what is left of each part */
  int64_t *counts;          /* [size] reduce-scatter */

  char *from, *to;                      /* collective operation; from: of a reduce-scatter alone */
  int64_t element_bytes, total, posted; /* elements; reduce-scatter: of the largest part */
  ncclDataType_t type;
  ncclRedOp_t reduction;
  int root;
} nccl_op_t;

typedef struct comm_nccl {
  comm_device_t base;
  comm_t *comm; /* whose device it is */
  int gpu, ready;
  ncclUniqueId id;
  ncclComm_t nccl;     /* NULL: one rank, or aborted */
  cudaStream_t stream; /* its own, beside the kernel's */
  cudaStream_t kernel_stream;
  cudaEvent_t round_end[NCCL_WINDOW];
  int64_t begun; /* operations */
  int64_t rounds_posted, rounds_ended;
  int launching;         /* NCCL is still at work on the last round's launch */
  comm_part_t last_copy; /* what that round copies at its end: from `staged` to here */
  const void *staged;
  nccl_op_t *first, *last, *next, *idle; /* under way, in order; next: the first that has rounds to post */
  void *block[NCCL_BLOCKS];              /* staging memory; the last is in use, the others may still be */
  int blocks;
  int64_t block_bytes;
} comm_nccl_t;

static inline comm_nccl_t *comm_nccl_of(comm_device_t *device) {
  return (comm_nccl_t *)(void *)device;
}

/* SBAG_OK, or SBAG_ERR_COMM with the call's name and its library's reason. */
sbag_code_t comm_nccl_check_cuda(const comm_nccl_t *d, cudaError_t error, const char *call,
                                 sbag_status_t *status);
sbag_code_t comm_nccl_check(const comm_nccl_t *d, ncclResult_t result, const char *call,
                            sbag_status_t *status);

/* The next round of an operation (comm_nccl_round.c): enqueued on the stream, or, where NCCL is not done with
 * it on return, in d->launching. Sets op->posted_all with the last one. */
sbag_code_t comm_nccl_post(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status);
/* A round's launch is done. */
sbag_code_t comm_nccl_launched(comm_nccl_t *d, sbag_status_t *status);
/* Staging memory for the rounds of a reduce-scatter whose parts differ; 0 bytes where they do not. */
sbag_code_t comm_nccl_stage(comm_nccl_t *d, const nccl_op_t *op, sbag_status_t *status);

/* Whether NCCL is at work on something that was asked of it. */
sbag_code_t comm_nccl_busy(const comm_nccl_t *d, int *busy, sbag_status_t *status);

extern const comm_device_ops_t comm_nccl_ops;
void comm_nccl_abort(comm_device_t *device);
void comm_nccl_destroy(comm_device_t **device);

#endif
