/* Communication behind a table of functions: self (one process), MPI, and NCCL when there are GPUs.
 *
 * What comes in: pointers and int64 byte counts per peer. What goes out: the same bytes at the peers. One
 * thread calls into a comm. Every wait progresses all of the comm's operations, has a deadline, and notices a
 * peer that gave up: it then returns an error on every rank instead of hanging. After such an error
 * (SBAG_ERR_COMM, SBAG_ERR_TIMEOUT, a begin that failed, or a peer's own code) the comm is broken for good:
 * the peers are told and every later call returns the same status. Buffers of operations that were in flight
 * then may still be touched: they must live until comm_destroy, best until the process ends.
 *
 * A status that names its rank (rank >= 0) has "rank N: " in its message already where size > 1; it is never
 * prefixed again.
 *
 * Memory is the host's; where the comm has a device (comm/device.h) it may be the device's too: all of one
 * operation's, on all ranks, is of one kind. What was written to the host's must be finished before the
 * begin; the device comes after the stream that it was made with (cuda/comm_nccl.h). What comes in is there
 * after the wait.
 *
 * All calls but comm_fail, comm_progress, comm_rank and comm_size are collective, in the same order on all
 * ranks. Operations may be in flight together; each request must be ended by comm_wait. */
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include "base/mem.h"
#include "base/status.h"
#include "comm/trace.h"
#include <stdint.h>

typedef struct comm comm_t;
typedef struct comm_device comm_device_t;   /* comm/device.h */
typedef struct comm_request comm_request_t; /* owned by the comm and recycled; valid until comm_wait */

typedef enum comm_type { COMM_U8, COMM_I32, COMM_I64, COMM_F32, COMM_F64 } comm_type_t;
typedef enum comm_reduce { COMM_SUM, COMM_MAX, COMM_MIN } comm_reduce_t;

/* One side of an exchange: what goes to or comes from each peer. */
typedef struct comm_part {
  void *data; /* may be NULL if bytes is 0 */
  int64_t bytes;
} comm_part_t;

typedef struct comm_ops {
  const char *name;
  /* All-to-all: send[p] goes to rank p, where it arrives in its recv[this rank]. Byte counts must agree.
   * The arrays are read during the call only; the buffers belong to the comm until comm_wait. */
  sbag_code_t (*exchange_begin)(comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                comm_request_t **request, sbag_status_t *status);
  /* Element-wise reduction in place over all ranks; the order of the sum is the implementation's.
   * Integer sums must not overflow (MPI may wrap or saturate). */
  sbag_code_t (*allreduce_begin)(comm_t *comm, void *data, int64_t count, comm_type_t type, comm_reduce_t op,
                                 comm_request_t **request, sbag_status_t *status);
  /* The sum over all ranks of what each has for rank p goes to rank p. send: rank p's part has counts[p]
   * elements, one part behind the other; the counts are the same on all ranks and read during the call only.
   * recv: counts[this rank] elements. The order of the sum is the implementation's. */
  sbag_code_t (*reduce_scatter_begin)(comm_t *comm, const void *send, const int64_t *counts, void *recv,
                                      comm_type_t type, comm_request_t **request, sbag_status_t *status);
  sbag_code_t (*broadcast_begin)(comm_t *comm, void *data, int64_t bytes, int root, comm_request_t **request,
                                 sbag_status_t *status);
  /* Makes progress; *done says whether the request has completed (it must still be waited for). */
  sbag_code_t (*test)(comm_t *comm, comm_request_t *request, int *done, sbag_status_t *status);
  /* Makes progress of whatever is under way, for a rank that computes meanwhile. */
  sbag_code_t (*progress)(comm_t *comm, sbag_status_t *status);
  /* what: see comm_wait. */
  sbag_code_t (*wait)(comm_t *comm, comm_request_t **request, const char *what, sbag_status_t *status);
  void (*fail)(comm_t *comm, const sbag_status_t *cause);
  void (*destroy)(comm_t **comm);
} comm_ops_t;

typedef struct comm_options {
  int64_t chunk_bytes; /* largest single message; at most 2^30, at least 1; 0 = default (64 MiB) */
  double timeout_s; /* a wait in which nothing moves for so long fails, unless all peers answer and one is at
                       work, calling comm_progress; 0 = no deadline */
} comm_options_t;

/* Where a rank waits, as it answers to a peer that has waited long. */
typedef struct comm_place {
  int32_t round; /* of the question */
  char what[60]; /* the phase, "forward: ids"; "" at work */
} comm_place_t;

/* What a comm itself sends. A block of its own, because the transport may hold it longer than a broken comm
 * lives: comm_destroy then leaves it. */
typedef struct comm_wire {
  int32_t vote;          /* of comm_agree and comm_barrier */
  int32_t round;         /* of the last question where the peers are */
  sbag_status_t cause;   /* of comm_agree */
  sbag_status_t told;    /* what comm_fail sends to the peers */
  comm_place_t places[]; /* [size], the answers to each peer */
} comm_wire_t;

/* The part that all implementations share; each puts it first in its own struct. */
struct comm {
  const comm_ops_t *ops;
  int rank, size;
  mem_t *mem;
  comm_options_t options;
  sbag_status_t broken; /* code SBAG_OK while the comm works */
  comm_part_t *parts;   /* [2 * size], scratch of comm_allgatherv */
  comm_wire_t *wire;
  comm_trace_t trace;    /* where this rank's time goes */
  comm_device_t *device; /* NULL, or what moves a GPU's memory: the comm's own from then on */
  double next_look_s;    /* when comm_progress may look again */
};

/* For implementations: fills the shared part (checks the options, sets the default chunk) and clears it. */
sbag_code_t comm_init(comm_t *comm, const comm_ops_t *ops, int rank, int size, mem_t *mem,
                      const comm_options_t *options, sbag_status_t *status);
void comm_clear(comm_t *comm);
/* SBAG_OK, or the status that broke the comm. */
sbag_code_t comm_check(const comm_t *comm, sbag_status_t *status);
/* The status by which a comm breaks: `cause` (NULL or SBAG_OK become SBAG_ERR_COMM) with this rank's name. */
sbag_status_t comm_cause(const comm_t *comm, const sbag_status_t *cause);
int64_t comm_type_bytes(comm_type_t type);
/* Refuses an exchange's counts below 0, and unequal ones with itself. */
sbag_code_t comm_check_parts(const comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                             sbag_status_t *status);

/* A comm of one rank; needs no MPI. */
sbag_code_t comm_self_create(mem_t *mem, const comm_options_t *options, comm_t **comm, sbag_status_t *status);

static inline int comm_rank(const comm_t *comm) {
  return comm->rank;
}
static inline int comm_size(const comm_t *comm) {
  return comm->size;
}

/* `what` names the phase for the deadline's message: "forward: ids". */
sbag_code_t comm_exchange(comm_t *comm, const comm_part_t *send, const comm_part_t *recv, const char *what,
                          sbag_status_t *status);
sbag_code_t comm_allreduce(comm_t *comm, void *data, int64_t count, comm_type_t type, comm_reduce_t op,
                           const char *what, sbag_status_t *status);
sbag_code_t comm_broadcast(comm_t *comm, void *data, int64_t bytes, int root, const char *what,
                           sbag_status_t *status);
sbag_code_t comm_barrier(comm_t *comm, const char *what, sbag_status_t *status);
/* Every rank gives `bytes` at `mine`; all receive them in rank order at `all` (size * bytes). */
sbag_code_t comm_allgather(comm_t *comm, const void *mine, int64_t bytes, void *all, const char *what,
                           sbag_status_t *status);
/* Rank r gives counts[r] bytes; all receive them one behind the other in rank order at `all`. counts is known
 * to all. */
sbag_code_t comm_allgatherv(comm_t *comm, const void *mine, const int64_t *counts, void *all,
                            const char *what, sbag_status_t *status);
/* Waits; the phase's name goes into a deadline's message. Nulls *request. */
sbag_code_t comm_wait(comm_t *comm, comm_request_t **request, const char *what, sbag_status_t *status);

/* Not collective: makes progress of all that is under way. One thread calls MPI, so between its begin and its
 * wait a transfer moves only here: to be called every now and then from long work, between two layers, say.
 * Costs next to nothing where nothing is under way, or right after another one. */
sbag_code_t comm_progress(comm_t *comm, sbag_status_t *status);

/* Makes all ranks agree on an outcome: if any rank comes with an error, every rank returns that of the lowest
 * such rank, with its message (prefixed by "rank N: " where size > 1). Collective also for ranks that come
 * with an error. The comm stays usable. */
sbag_code_t comm_agree(comm_t *comm, sbag_code_t mine, sbag_status_t *status);

/* Not collective: tells every peer that this rank gave up with `cause`; their current or next wait returns
 * it. Breaks the comm. */
void comm_fail(comm_t *comm, const sbag_status_t *cause);
/* Of what may fail on this rank alone, where a vote in every step would cost all ranks a round trip: an error
 * is told to the peers by comm_fail, and returned as the comm's. */
sbag_code_t comm_fail_by(comm_t *comm, sbag_code_t code, const sbag_status_t *cause, sbag_status_t *status);
/* NULL is allowed. Not collective for self; collective for MPI unless the comm is broken. */
void comm_destroy(comm_t **comm);

#endif
