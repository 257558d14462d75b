/* A group of NCCL operations over MPI: first the sides tell each other what they are about to do, for a count
 * that differs hangs in NCCL and is told here; then everything starts without blocking, receives first, and
 * is waited for as one. Whoever waits longer than EMU_NCCL_DEADLINE_S (60), or is aborted, goes on with an
 * error, as NCCL's kernels do when they are aborted. A call of MPI moves at most EMU_NCCL_PIECE bytes (1
 * GiB): its counts are ints. */
#include "nccl_mpi.h"

#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAG_SENDS = 1, TAG_EXPECTS = 2, TAG_DATA = 3, DIGEST = 4 };

_Thread_local char emu_nccl_error[256];

ncclResult_t emu_nccl_fail(ncclResult_t result, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(emu_nccl_error, sizeof emu_nccl_error, format, arguments);
  va_end(arguments);
  return result;
}

/* What was told about an operation: my numbers, and the other side's. */
typedef struct told {
  int64_t mine[2 * DIGEST], other[2 * DIGEST];
} told_t;

typedef struct group {
  const emu_nccl_op_t *ops;
  int count;
  told_t *told;
  MPI_Request *request;
  int requests, request_room;
  void **block; /* temporary memory, by operation */
  struct group *abandoned;
} group_t;

/* Groups that were given up while MPI may still write to their memory. */
static group_t *abandoned;

static void *get(size_t bytes) {
  void *block = calloc(1, bytes == 0 ? 1 : bytes);
  if (block == NULL) {
    fprintf(stderr, "NCCL over MPI: no memory for %zu bytes\n", bytes);
    abort();
  }
  return block;
}

static MPI_Request *request_next(group_t *g) {
  if (g->requests == g->request_room) {
    g->request_room = 2 * g->request_room + 16;
    g->request = realloc(g->request, (size_t)g->request_room * sizeof(MPI_Request));
    if (g->request == NULL) abort();
  }
  g->request[g->requests] = MPI_REQUEST_NULL;
  return &g->request[g->requests++];
}

static long long setting(const char *name, long long otherwise) {
  const char *text = getenv(name);
  return text == NULL ? otherwise : strtoll(text, NULL, 10);
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int is_aborted(const group_t *g) {
  for (int i = 0; i < g->count; i++)
    if (g->ops[i].comm->aborted) return 1;
  return 0;
}

static ncclResult_t wait_all(group_t *g) {
  const double limit_s = (double)setting("EMU_NCCL_DEADLINE_S", 60), begin_s = now_s();
  for (;;) {
    int done = 0;
    if (MPI_Testall(g->requests, g->request, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
      return emu_nccl_fail(ncclSystemError, "MPI failed in a group of %d operations", g->count);
    if (done) break;
    if (is_aborted(g)) return emu_nccl_fail(ncclInternalError, "the communicator was aborted");
    if (now_s() - begin_s > limit_s)
      return emu_nccl_fail(ncclRemoteError, "rank %d waited %.0f s for its peers", g->ops[0].comm->rank,
                           limit_s);
    sched_yield();
  }
  g->requests = 0;
  return ncclSuccess;
}

/* ---- what each side is about to do ---- */

static int is_pairwise(const emu_nccl_op_t *op) {
  return op->kind == NCCL_SEND || op->kind == NCCL_RECEIVE;
}

static int tell(group_t *g, int i) {
  const emu_nccl_op_t *op = &g->ops[i];
  told_t *told = &g->told[i];
  MPI_Comm mpi = op->comm->mpi;
  told->mine[0] = (int64_t)(op->count * emu_nccl_bytes(op->type));
  if (is_pairwise(op)) {
    const int sends = op->kind == NCCL_SEND;
    return MPI_Irecv(told->other, 1, MPI_INT64_T, op->peer, sends ? TAG_EXPECTS : TAG_SENDS, mpi,
                     request_next(g)) |
           MPI_Isend(told->mine, 1, MPI_INT64_T, op->peer, sends ? TAG_SENDS : TAG_EXPECTS, mpi,
                     request_next(g));
  }
  told->mine[1] = op->kind;
  told->mine[2] = op->type;
  told->mine[3] = op->kind == NCCL_BROADCAST ? op->peer : (int)op->reduction;
  for (int k = 0; k < DIGEST; k++) told->mine[DIGEST + k] = -told->mine[k];
  return MPI_Iallreduce(told->mine, told->other, 2 * DIGEST, MPI_INT64_T, MPI_MIN, mpi, request_next(g));
}

static ncclResult_t compare(const group_t *g, int i) {
  static const char *const what[DIGEST] = {"bytes", "operation", "type", "reduction or root"};
  const emu_nccl_op_t *op = &g->ops[i];
  const told_t *told = &g->told[i];
  if (is_pairwise(op)) {
    if (told->mine[0] == told->other[0]) return ncclSuccess;
    const char *form = op->kind == NCCL_SEND ? "rank %d sends %lld bytes to rank %d, which expects %lld"
                                             : "rank %d expects %lld bytes of rank %d, which sends %lld";
    char line[160];
    snprintf(line, sizeof line, form, op->comm->rank, (long long)told->mine[0], op->peer,
             (long long)told->other[0]);
    return emu_nccl_fail(ncclInvalidUsage, "%s: NCCL would hang", line);
  }
  for (int k = 0; k < DIGEST; k++)
    if (told->other[k] != -told->other[DIGEST + k])
      return emu_nccl_fail(ncclInvalidUsage,
                           "a collective's %s differ between ranks, %lld to %lld: NCCL would hang", what[k],
                           (long long)told->other[k], (long long)-told->other[DIGEST + k]);
  return ncclSuccess;
}

static ncclResult_t agree(group_t *g) {
  int error = 0;
  for (int i = 0; i < g->count; i++) error |= tell(g, i);
  if (error != MPI_SUCCESS) return emu_nccl_fail(ncclSystemError, "MPI failed before a group");
  ncclResult_t result = wait_all(g);
  for (int i = 0; i < g->count && result == ncclSuccess; i++) result = compare(g, i);
  return result;
}

/* ---- the data ---- */

typedef struct piece {
  size_t at, count; /* elements */
} piece_t;

/* The next piece of an operation's elements; 0 after the last. Parts: how many pieces one call moves at once.
 */
static int piece_next(const emu_nccl_op_t *op, int parts, piece_t *piece) {
  const size_t bytes = emu_nccl_bytes(op->type) * (size_t)parts;
  size_t most = (size_t)setting("EMU_NCCL_PIECE", 1ll << 30) / bytes;
  if (most < 1) most = 1;
  piece->at += piece->count;
  piece->count = op->count - piece->at < most ? op->count - piece->at : most;
  return piece->count > 0;
}

static int start_pairwise(group_t *g, const emu_nccl_op_t *op) {
  const size_t bytes = emu_nccl_bytes(op->type);
  int error = 0;
  for (piece_t p = {0, 0}; piece_next(op, 1, &p);) {
    const int size = (int)(p.count * bytes);
    if (op->kind == NCCL_SEND)
      error |= MPI_Isend((const char *)op->from + p.at * bytes, size, MPI_BYTE, op->peer, TAG_DATA,
                         op->comm->mpi, request_next(g));
    else
      error |= MPI_Irecv((char *)op->to + p.at * bytes, size, MPI_BYTE, op->peer, TAG_DATA, op->comm->mpi,
                         request_next(g));
  }
  return error;
}

static int start_whole(group_t *g, const emu_nccl_op_t *op) {
  const size_t bytes = emu_nccl_bytes(op->type);
  const int copies = op->from != op->to;
  int error = 0;
  if (op->kind == NCCL_BROADCAST && copies && op->comm->rank == op->peer)
    memmove(op->to, op->from, op->count * bytes);
  for (piece_t p = {0, 0}; piece_next(op, 1, &p);) {
    char *to = (char *)op->to + p.at * bytes;
    const void *from = copies ? (const char *)op->from + p.at * bytes : MPI_IN_PLACE;
    if (op->kind == NCCL_BROADCAST)
      error |= MPI_Ibcast(to, (int)(p.count * bytes), MPI_BYTE, op->peer, op->comm->mpi, request_next(g));
    else
      error |= MPI_Iallreduce(from, to, (int)p.count, emu_nccl_mpi_type(op->type),
                              emu_nccl_mpi_op(op->type, op->reduction), op->comm->mpi, request_next(g));
  }
  return error;
}

/* By way of a copy, in which the ranks' parts of a piece are neighbours: in place means other things in MPI.
 */
static int start_parts(group_t *g, int i) {
  const emu_nccl_op_t *op = &g->ops[i];
  const size_t bytes = emu_nccl_bytes(op->type), ranks = (size_t)op->comm->ranks;
  const int gathers = op->kind == NCCL_ALL_GATHER;
  char *block = g->block[i] = get((ranks + 1) * op->count * bytes);
  int error = 0;
  if (gathers) memcpy(block + ranks * op->count * bytes, op->from, op->count * bytes);
  for (piece_t p = {0, 0}; piece_next(op, op->comm->ranks, &p);) {
    char *parts = block + ranks * p.at * bytes;
    if (gathers) {
      const int size = (int)(p.count * bytes);
      error |= MPI_Iallgather(block + (ranks * op->count + p.at) * bytes, size, MPI_BYTE, parts, size,
                              MPI_BYTE, op->comm->mpi, request_next(g));
      continue;
    }
    for (size_t r = 0; r < ranks; r++)
      memcpy(parts + r * p.count * bytes, (const char *)op->from + (r * op->count + p.at) * bytes,
             p.count * bytes);
    error |= MPI_Ireduce_scatter_block(parts, block + (ranks * op->count + p.at) * bytes, (int)p.count,
                                       emu_nccl_mpi_type(op->type), emu_nccl_mpi_op(op->type, op->reduction),
                                       op->comm->mpi, request_next(g));
  }
  return error;
}

static ncclResult_t start(group_t *g) {
  int error = 0;
  for (int i = 0; i < g->count; i++)
    if (g->ops[i].kind == NCCL_RECEIVE) error |= start_pairwise(g, &g->ops[i]);
  for (int i = 0; i < g->count; i++) switch (g->ops[i].kind) {
    case NCCL_SEND:
      error |= start_pairwise(g, &g->ops[i]);
      break;
    case NCCL_RECEIVE:
      break;
    case NCCL_ALL_REDUCE:
    case NCCL_BROADCAST:
      error |= start_whole(g, &g->ops[i]);
      break;
    case NCCL_REDUCE_SCATTER:
    case NCCL_ALL_GATHER:
      error |= start_parts(g, i);
      break;
    }
  return error == MPI_SUCCESS ? ncclSuccess : emu_nccl_fail(ncclSystemError, "MPI could not begin a group");
}

static void finish(group_t *g, int i) {
  const emu_nccl_op_t *op = &g->ops[i];
  const size_t bytes = emu_nccl_bytes(op->type), ranks = (size_t)op->comm->ranks;
  const char *block = g->block[i];
  if (op->kind == NCCL_REDUCE_SCATTER) memcpy(op->to, block + ranks * op->count * bytes, op->count * bytes);
  if (op->kind == NCCL_ALL_GATHER)
    for (piece_t p = {0, 0}; piece_next(op, op->comm->ranks, &p);)
      for (size_t r = 0; r < ranks; r++)
        memcpy((char *)op->to + (r * op->count + p.at) * bytes, block + (ranks * p.at + r * p.count) * bytes,
               p.count * bytes);
  if (op->reduction == ncclAvg && (op->kind == NCCL_ALL_REDUCE || op->kind == NCCL_REDUCE_SCATTER))
    emu_nccl_divide(op->type, op->to, op->count, op->comm->ranks);
}

static void group_free(group_t *g) {
  for (int i = 0; i < g->count; i++) free(g->block[i]);
  free(g->block);
  free(g->told);
  free(g->request);
  free(g);
}

ncclResult_t emu_nccl_run(const emu_nccl_op_t *ops, int count) {
  group_t *g = get(sizeof *g);
  g->ops = ops;
  g->count = count;
  g->told = get((size_t)count * sizeof *g->told);
  g->block = get((size_t)count * sizeof *g->block);
  ncclResult_t result =
      is_aborted(g) ? emu_nccl_fail(ncclInvalidUsage, "the communicator was aborted") : ncclSuccess;
  if (result == ncclSuccess) result = agree(g);
  if (result == ncclSuccess) result = start(g);
  if (result == ncclSuccess) result = wait_all(g);
  if (result == ncclSuccess) {
    for (int i = 0; i < count; i++) finish(g, i);
    group_free(g);
    return result;
  }
  for (int i = 0; i < count; i++) ops[i].comm->async = result;
  g->abandoned = abandoned;
  abandoned = g;
  return result;
}
