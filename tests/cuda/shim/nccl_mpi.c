/* A stand-in for NCCL, for tests: the real nccl.h's calls over MPI, one rank a process, host memory as device
 * memory. Groups nest and are queued on their streams; whatever the streams, operations run in the order in
 * which they were issued, as NCCL asks of its user. Their failures are found by ncclCommGetAsyncError. */
#include "nccl_mpi.h"
#include "apart.h"
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_BASE = 20000, TAG_RANGE = 1000 };

/* ---- groups ---- */

/* A group on its way: in a list by issue. */
typedef struct queued {
  emu_nccl_op_t *ops;
  int count;
  cudaStream_t stream;
  uint64_t position; /* its stream has run it when it has run so many */
  struct queued *next;
} queued_t;

static _Thread_local int depth;
static _Thread_local emu_nccl_op_t *pending;
static _Thread_local int pending_count, pending_room;
static queued_t *first_queued, *last_queued;

static void queued_run(void *argument) {
  queued_t *self = argument;
  while (first_queued != self) { /* what was issued before, on other streams */
    queued_t *before = first_queued;
    emu_stream_run(before->stream, before->position);
    if (first_queued == before) abort();
  }
  if (emu_nccl_run(self->ops, self->count) != ncclSuccess)
    fprintf(stderr, "NCCL over MPI: %s\n", emu_nccl_error);
  first_queued = self->next;
  if (first_queued == NULL) last_queued = NULL;
  for (int i = 0; i < self->count; i++) {
    ncclComm_t comm = self->ops[i].comm;
    if (--comm->uses == 0 && comm->aborted) free(comm);
  }
  free(self->ops);
  free(self);
}

/* A group's other streams wait for the one that runs it, and it for what they hold. */
static void queued_join(queued_t *self, cudaStream_t stream, cudaEvent_t event) {
  (void)cudaEventRecord(event, stream);
  (void)cudaStreamWaitEvent(self->stream, event, 0);
}

static ncclResult_t issue(void) {
  queued_t *self = calloc(1, sizeof *self);
  cudaEvent_t event = NULL;
  if (pending_count == 0 || self == NULL ||
      cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) {
    free(self);
    return pending_count == 0 ? ncclSuccess : ncclSystemError;
  }
  self->ops = pending;
  self->count = pending_count;
  self->stream = pending[0].stream;
  pending = NULL;
  pending_count = pending_room = 0;
  cudaStream_t *other = calloc((size_t)self->count, sizeof(cudaStream_t));
  int others = 0;
  if (other == NULL) abort();
  for (int i = 0; i < self->count; i++)
    if (self->ops[i].stream != self->stream) other[others++] = self->ops[i].stream;
  for (int i = 0; i < others; i++) queued_join(self, other[i], event);
  if (last_queued != NULL)
    last_queued->next = self;
  else
    first_queued = self;
  last_queued = self;
  self->position = emu_stream_position(self->stream) + 1;
  const cudaStream_t stream = self->stream;
  emu_enqueue(stream, queued_run, self); /* which may free it */
  if (others > 0) (void)cudaEventRecord(event, stream);
  for (int i = 0; i < others; i++) (void)cudaStreamWaitEvent(other[i], event, 0);
  (void)cudaEventDestroy(event);
  free(other);
  return ncclSuccess;
}

/* Where the two are told apart. */
static int is_on_device(const void *at) {
  struct cudaPointerAttributes attributes;
  return !emu_apart() || (cudaPointerGetAttributes(&attributes, at) == cudaSuccess &&
                          attributes.type == cudaMemoryTypeDevice);
}

static ncclResult_t add(emu_nccl_op_t op) {
  if (op.comm == NULL) return emu_nccl_fail(ncclInvalidArgument, "the communicator is NULL");
  if (emu_nccl_bytes(op.type) == 0)
    return emu_nccl_fail(ncclInvalidArgument, "type %d is not known", (int)op.type);
  if (op.peer < 0 || op.peer >= op.comm->ranks)
    return emu_nccl_fail(ncclInvalidArgument, "there is no rank %d among %d", op.peer, op.comm->ranks);
  if (op.reduction < 0 || op.reduction > ncclAvg)
    return emu_nccl_fail(ncclInvalidArgument, "reduction %d is not known", (int)op.reduction);
  if (op.count > 0 &&
      ((op.from != NULL && !is_on_device(op.from)) || (op.to != NULL && !is_on_device(op.to))))
    return emu_nccl_fail(ncclInvalidArgument, "a transfer of memory that is not the device's");
  if (op.comm->async != ncclSuccess) return op.comm->async;
  if (pending_count == pending_room) {
    pending_room = 2 * pending_room + 16;
    pending = realloc(pending, (size_t)pending_room * sizeof *pending);
    if (pending == NULL) abort();
  }
  pending[pending_count++] = op;
  op.comm->uses++;
  return depth > 0 ? ncclSuccess : issue();
}

ncclResult_t ncclGroupStart(void) {
  depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  if (depth == 0) return emu_nccl_fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  return --depth > 0 ? ncclSuccess : issue();
}

/* ---- operations ---- */

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add((emu_nccl_op_t){NCCL_SEND, from, NULL, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add((emu_nccl_op_t){NCCL_RECEIVE, NULL, to, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
  return add((emu_nccl_op_t){NCCL_ALL_REDUCE, from, to, count, type, reduction, 0, comm, stream});
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type,
                               ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
  return add((emu_nccl_op_t){NCCL_REDUCE_SCATTER, from, to, count, type, reduction, 0, comm, stream});
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return add((emu_nccl_op_t){NCCL_ALL_GATHER, from, to, count, type, ncclSum, 0, comm, stream});
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return add((emu_nccl_op_t){NCCL_BROADCAST, from, to, count, type, ncclSum, root, comm, stream});
}

/* ---- communicators ---- */

/* What an id holds: who made it, and his how-manieth. */
typedef struct meeting {
  int root, number;
} meeting_t;

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  static int number;
  meeting_t made = {0, ++number};
  memset(id, 0, sizeof *id);
  if (MPI_Comm_rank(MPI_COMM_WORLD, &made.root) != MPI_SUCCESS)
    return emu_nccl_fail(ncclSystemError, "MPI has not begun");
  memcpy(id, &made, sizeof made);
  return ncclSuccess;
}

/* Each member tells the id's maker who it is, and learns who has which rank: world[ranks]. */
static int members(meeting_t at, int rank, int ranks, int *world) {
  const int tag = TAG_BASE + at.number % TAG_RANGE, back = tag + TAG_RANGE;
  int me = 0, error = MPI_Comm_rank(MPI_COMM_WORLD, &me);
  if (me != at.root) {
    const int hello[2] = {rank, me};
    error |= MPI_Send(hello, 2, MPI_INT, at.root, tag, MPI_COMM_WORLD);
    return error | MPI_Recv(world, ranks, MPI_INT, at.root, back, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  world[rank] = me;
  for (int i = 1; i < ranks; i++) {
    int hello[2];
    error |= MPI_Recv(hello, 2, MPI_INT, MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    world[hello[0]] = hello[1];
  }
  for (int i = 0; i < ranks; i++)
    if (world[i] != me) error |= MPI_Send(world, ranks, MPI_INT, world[i], back, MPI_COMM_WORLD);
  return error;
}

static int connect_members(meeting_t at, const int *world, int ranks, MPI_Comm *mpi) {
  MPI_Group all, group;
  int error = MPI_Comm_group(MPI_COMM_WORLD, &all);
  error |= MPI_Group_incl(all, ranks, world, &group);
  error |=
      MPI_Comm_create_group(MPI_COMM_WORLD, group, TAG_BASE + 2 * TAG_RANGE + at.number % TAG_RANGE, mpi);
  error |= MPI_Comm_set_errhandler(*mpi, MPI_ERRORS_RETURN);
  return error | MPI_Group_free(&all) | MPI_Group_free(&group);
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank) {
  meeting_t at;
  memcpy(&at, &id, sizeof at);
  if (rank < 0 || rank >= ranks) return emu_nccl_fail(ncclInvalidArgument, "rank %d of %d", rank, ranks);
  int *world = calloc((size_t)ranks, sizeof(int));
  ncclComm_t made = calloc(1, sizeof *made);
  int error = world == NULL || made == NULL;
  if (!error) error = members(at, rank, ranks, world) | connect_members(at, world, ranks, &made->mpi);
  free(world);
  if (error) {
    free(made);
    return emu_nccl_fail(ncclSystemError, "rank %d of %d could not join", rank, ranks);
  }
  made->rank = rank;
  made->ranks = ranks;
  (void)cudaGetDevice(&made->device);
  *comm = made;
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
  (void)config; /* a call here always blocks, which a caller that asks for less may see too */
  return ncclCommInitRank(comm, ranks, id, rank);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return comm->async;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const int error = MPI_Comm_free(&comm->mpi);
  free(comm);
  return error == MPI_SUCCESS ? ncclSuccess : ncclSystemError;
}

/* Not collective: the peers may be gone. What is being executed sees it and ends. */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->aborted = 1;
  comm->async = ncclInvalidUsage;
  if (comm->uses == 0) free(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  *error = comm->async;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *ranks) {
  *ranks = comm->ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
  *rank = comm->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device) {
  *device = comm->device;
  return ncclSuccess;
}

ncclResult_t ncclGetVersion(int *version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
  switch (result) {
  case ncclSuccess:
    return "no error";
  case ncclSystemError:
    return "unhandled system error";
  case ncclInternalError:
    return "internal error";
  case ncclInvalidArgument:
    return "invalid argument";
  case ncclInvalidUsage:
    return "invalid usage";
  case ncclRemoteError:
    return "remote process exited or there was a network error";
  default:
    return "an error of NCCL that the tests do not know";
  }
}

const char *ncclGetLastError(ncclComm_t comm) {
  (void)comm;
  return emu_nccl_error;
}
