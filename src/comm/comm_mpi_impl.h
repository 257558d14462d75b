/* What the files of the MPI comm share. Nobody else includes this. */
#ifndef COMM_COMM_MPI_IMPL_H
#define COMM_COMM_MPI_IMPL_H

#include "comm/comm_mpi.h"
#include "comm/device.h"

/* Chunks posted at a time, per flow of an exchange or per collective operation: enough to keep a wire busy,
 * and few enough that a tiny chunk size does not flood MPI with requests. */
enum { COMM_MPI_WINDOW = 8 };

typedef enum comm_mpi_kind {
  COMM_MPI_EXCHANGE,
  COMM_MPI_ALLREDUCE,
  COMM_MPI_REDUCE_SCATTER,
  COMM_MPI_BROADCAST,
  COMM_MPI_DEVICE /* not MPI's: the device moves it */
} comm_mpi_kind_t;

/* One direction of an exchange with one peer. */
typedef struct comm_mpi_flow {
  char *data;
  int64_t bytes, posted, moved;
  int peer, receives;
} comm_mpi_flow_t;

/* What is under way in the MPI request of the same number. */
typedef struct comm_mpi_slot {
  int flow, bytes;
} comm_mpi_slot_t;

/* The slots hold the posted chunks; slots [0, slot_count) may be in use, `pending` of them are. */
struct comm_request {
  comm_request_t *next;        /* in the comm's active or idle list */
  comm_request_t *next_queued; /* in the queue of collective operations */
  comm_mpi_kind_t kind;
  int done, pending, slot_count;
  comm_trace_span_t span;

  MPI_Request *requests; /* [slot capacity], as the next three */
  comm_mpi_slot_t *slots;
  int *finished;
  MPI_Status *statuses;

  comm_mpi_flow_t
      *flows; /* [2 * size] exchange: receives first; reduce-scatter: the ranks' parts, in elements */
  int flow_count, tag;

  char *data; /* collective operation, in elements of `type` */
  int64_t element_bytes, total, posted;
  MPI_Datatype type;
  MPI_Op op;
  int root;

  int64_t ticket; /* device */
};

/* What this rank knows of a peer from the control channel. */
typedef struct comm_mpi_peer {
  MPI_Request asking, answering; /* the sends of wire->round and wire->places[] */
  comm_place_t place;            /* its last answer */
} comm_mpi_peer_t;

typedef struct comm_mpi {
  comm_t base;
  MPI_Comm data, control; /* duplicates of the parent */
  int64_t sequence;       /* of exchanges: gives their tags */
  int64_t tag_count;
  comm_request_t *active, *idle;
  comm_request_t *queue_first, *queue_last; /* collective operations with chunks to post */
  MPI_Request *telling;                     /* [size], the sends of wire->told */
  comm_mpi_peer_t *peers;                   /* [size] */
  const char *phase;                        /* of the wait that is under way; "" outside */
  int quiet_tests;
} comm_mpi_t;

static inline comm_mpi_t *comm_mpi_of(comm_t *comm) {
  return (comm_mpi_t *)(void *)comm;
}

/* SBAG_OK, or SBAG_ERR_COMM with the call's name and MPI's text. */
sbag_code_t comm_mpi_check(int mpi_code, const char *call, sbag_status_t *status);

/* Requests (comm_mpi_request.c). A taken request is in the active list until it is given back. */
sbag_code_t comm_mpi_request_take(comm_mpi_t *c, comm_request_t **request, sbag_status_t *status);
void comm_mpi_request_give(comm_mpi_t *c, comm_request_t *request);
void comm_mpi_requests_free(comm_mpi_t *c);
/* Takes a request for what `device` began under that number. */
sbag_code_t comm_mpi_request_of_device(comm_mpi_t *c, comm_device_t *device, int64_t ticket,
                                       comm_request_t **request, sbag_status_t *status);
/* MPI_Testsome over the request's slots: finished[0 .. count) are the slots that completed. */
sbag_code_t comm_mpi_request_poll(comm_request_t *request, int *count, sbag_status_t *status);

/* Each makes what progress there is; *moved is set if there was any. */
sbag_code_t comm_mpi_exchange_progress(comm_mpi_t *c, comm_request_t *request, int *moved,
                                       sbag_status_t *status);
sbag_code_t comm_mpi_collective_progress(comm_mpi_t *c, comm_request_t *request, int *moved,
                                         sbag_status_t *status);
/* Posts chunks of the queued collective operations while there are free slots. */
sbag_code_t comm_mpi_collective_post(comm_mpi_t *c, sbag_status_t *status);

/* The operations of the table. A begin leaves the breaking of the comm to its caller in comm_mpi.c. */
sbag_code_t comm_mpi_exchange_begin(comm_mpi_t *c, const comm_part_t *send, const comm_part_t *recv,
                                    comm_request_t **request, sbag_status_t *status);
sbag_code_t comm_mpi_allreduce_begin(comm_mpi_t *c, void *data, int64_t count, comm_type_t type,
                                     comm_reduce_t op, comm_request_t **request, sbag_status_t *status);
sbag_code_t comm_mpi_reduce_scatter_begin(comm_mpi_t *c, const void *send, const int64_t *counts, void *recv,
                                          comm_type_t type, comm_request_t **request, sbag_status_t *status);
sbag_code_t comm_mpi_broadcast_begin(comm_mpi_t *c, void *data, int64_t bytes, int root,
                                     comm_request_t **request, sbag_status_t *status);
sbag_code_t comm_mpi_wait(comm_mpi_t *c, comm_request_t *request, const char *what, sbag_status_t *status);
sbag_code_t comm_mpi_progress(comm_mpi_t *c, sbag_status_t *status);
sbag_code_t comm_mpi_test(comm_mpi_t *c, comm_request_t *request, int *done, sbag_status_t *status);

/* Creation (comm_mpi_create.c): everything but the table of operations. */
sbag_code_t comm_mpi_make(MPI_Comm parent, const comm_ops_t *ops, mem_t *mem, const comm_options_t *options,
                          comm_mpi_t **made, sbag_status_t *status);
void comm_mpi_release(comm_mpi_t *c);

/* How long before the end of a deadline the peers are asked where they are: what they have to answer. */
static inline double comm_mpi_grace_s(double timeout_s) {
  return timeout_s < 4.0 ? 0.5 * timeout_s : 2.0;
}

/* The control channel (comm_mpi_control.c). */
enum { COMM_MPI_FAIL_TAG, COMM_MPI_ASK_TAG, COMM_MPI_PLACE_TAG };
void comm_mpi_fail(comm_t *comm, const sbag_status_t *cause);
/* Breaks the comm and returns the peer's code if a peer has given up. */
sbag_code_t comm_mpi_listen(comm_mpi_t *c, sbag_status_t *status);
/* Withdraws the posted receives of a broken comm. Returns whether MPI still holds the comm's wire. */
int comm_mpi_withdraw(comm_mpi_t *c);

/* Who is silent (comm_mpi_silence.c). Asks every peer where it waits; those in a wait of this comm answer. */
sbag_code_t comm_mpi_ask(comm_mpi_t *c, sbag_status_t *status);
/* Takes a question or an answer in. */
sbag_code_t comm_mpi_hear_of_place(comm_mpi_t *c, const MPI_Status *envelope, sbag_status_t *status);
/* Whether all peers have answered, at least one of them while it was at work: it is slow, but not gone. */
int comm_mpi_somebody_works(const comm_mpi_t *c);
/* The error of a wait that has come to its end: names the peers that did not answer, or else where those are
 * that did. */
sbag_code_t comm_mpi_expired(const comm_mpi_t *c, const comm_request_t *r, const char *what,
                             sbag_status_t *status);
/* Whether MPI still holds a question or an answer. */
int comm_mpi_places_held(comm_mpi_t *c);

/* Names of ranks in a message: "1, 2", and from the ninth on "and others". */
enum { COMM_MPI_RANKS_NAMED = 8 };
typedef struct comm_mpi_names {
  int count, used;
  char text[16 * (COMM_MPI_RANKS_NAMED + 1)];
} comm_mpi_names_t;
void comm_mpi_name_rank(comm_mpi_names_t *names, int rank);
sbag_code_t comm_mpi_silence(const comm_mpi_names_t *names, const char *what, double limit_s,
                             sbag_status_t *status);

#endif
