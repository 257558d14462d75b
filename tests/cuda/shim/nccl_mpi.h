/* Inside the stand-in for NCCL: communicators, operations, and what runs them over MPI. */
#ifndef EMU_NCCL_MPI_H
#define EMU_NCCL_MPI_H

#include <mpi.h>
#include <nccl.h>
#include <stdint.h>

struct ncclComm {
  MPI_Comm mpi;
  int rank, ranks, device;
  int uses;                    /* operations that have not ended: an aborted one lives until then */
  volatile int aborted;        /* perhaps by another thread, while this one waits */
  volatile ncclResult_t async; /* the first failure of what was queued */
};

typedef enum emu_nccl_kind {
  NCCL_SEND,
  NCCL_RECEIVE,
  NCCL_ALL_REDUCE,
  NCCL_REDUCE_SCATTER,
  NCCL_ALL_GATHER,
  NCCL_BROADCAST
} emu_nccl_kind_t;

typedef struct emu_nccl_op {
  emu_nccl_kind_t kind;
  const void *from;
  void *to;
  size_t count; /* elements: of a rank's part where there are parts */
  ncclDataType_t type;
  ncclRedOp_t reduction;
  int peer; /* or root */
  ncclComm_t comm;
  cudaStream_t stream;
} emu_nccl_op_t;

/* Why the last call of this thread failed: one line. */
extern _Thread_local char emu_nccl_error[256];
ncclResult_t emu_nccl_fail(ncclResult_t result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Executes a group now: 0 or the failure, which is also each communicator's async error. */
ncclResult_t emu_nccl_run(const emu_nccl_op_t *ops, int count);

/* ---- types and reductions ---- */

size_t emu_nccl_bytes(ncclDataType_t type); /* of an element; 0: not known here */
MPI_Datatype emu_nccl_mpi_type(ncclDataType_t type);
/* MPI_OP_NULL where it cannot be done. */
MPI_Op emu_nccl_mpi_op(ncclDataType_t type, ncclRedOp_t reduction);
/* The second half of an average. */
void emu_nccl_divide(ncclDataType_t type, void *values, size_t count, int ranks);

#endif
