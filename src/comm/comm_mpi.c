/* The MPI comm: its table of operations, and how it ends. An operation that fails breaks the
 * comm here, in one place, and tells the peers. */
#include "comm/comm_mpi_impl.h"

static sbag_code_t give_up(comm_mpi_t *c, const sbag_status_t *cause, sbag_status_t *status) {
  comm_mpi_fail(&c->base, cause); /* does nothing if `cause` came from a peer: the comm is broken then */
  return comm_check(&c->base, status);
}

static sbag_code_t begun(comm_t *comm, comm_request_t *request, int64_t bytes) {
  comm_trace_begin(&comm->trace, &request->span, bytes);
  if (request->done) comm_trace_done(&comm->trace, &request->span);
  return SBAG_OK;
}

/* What leaves this rank. */
static int64_t parts_bytes(const comm_t *comm, const comm_part_t *send) {
  int64_t bytes = 0;
  for (int p = 0; p < comm->size; p++) bytes += p == comm->rank ? 0 : send[p].bytes;
  return bytes;
}

static sbag_code_t op_exchange_begin(comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                     comm_request_t **request, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  if (comm_mpi_exchange_begin(comm_mpi_of(comm), send, recv, request, &cause) == SBAG_OK)
    return begun(comm, *request, parts_bytes(comm, send));
  return give_up(comm_mpi_of(comm), &cause, status);
}

static sbag_code_t op_allreduce_begin(comm_t *comm, void *data, int64_t count, comm_type_t type,
                                      comm_reduce_t op, comm_request_t **request, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  if (comm_mpi_allreduce_begin(comm_mpi_of(comm), data, count, type, op, request, &cause) == SBAG_OK)
    return begun(comm, *request, count * comm_type_bytes(type));
  return give_up(comm_mpi_of(comm), &cause, status);
}

static sbag_code_t op_reduce_scatter_begin(comm_t *comm, const void *send, const int64_t *counts, void *recv,
                                           comm_type_t type, comm_request_t **request,
                                           sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  int64_t others = 0;
  for (int p = 0; p < comm->size; p++) others += p == comm->rank ? 0 : counts[p];
  if (comm_mpi_reduce_scatter_begin(comm_mpi_of(comm), send, counts, recv, type, request, &cause) == SBAG_OK)
    return begun(comm, *request, others * comm_type_bytes(type));
  return give_up(comm_mpi_of(comm), &cause, status);
}

static sbag_code_t op_broadcast_begin(comm_t *comm, void *data, int64_t bytes, int root,
                                      comm_request_t **request, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  if (comm_mpi_broadcast_begin(comm_mpi_of(comm), data, bytes, root, request, &cause) == SBAG_OK)
    return begun(comm, *request, comm->rank == root ? bytes : 0);
  return give_up(comm_mpi_of(comm), &cause, status);
}

static sbag_code_t op_test(comm_t *comm, comm_request_t *request, int *done, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  if (comm_mpi_test(comm_mpi_of(comm), request, done, &cause) == SBAG_OK) return SBAG_OK;
  return give_up(comm_mpi_of(comm), &cause, status);
}

static sbag_code_t op_progress(comm_t *comm, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  if (comm_mpi_progress(comm_mpi_of(comm), &cause) == SBAG_OK) return SBAG_OK;
  return give_up(comm_mpi_of(comm), &cause, status);
}

/* A request of a broken comm stays in the active list: MPI may still hold what it describes. */
static sbag_code_t op_wait(comm_t *comm, comm_request_t **request, const char *what, sbag_status_t *status) {
  comm_request_t *r = *request;
  *request = NULL;
  SBAG_TRY(comm_check(comm, status));
  comm_mpi_t *c = comm_mpi_of(comm);
  sbag_status_t cause;
  comm_trace_wait(&comm->trace);
  sbag_code_t code = comm_mpi_wait(c, r, what, &cause);
  comm_trace_waited_for(&comm->trace, what, &r->span);
  if (code != SBAG_OK) return give_up(c, &cause, status);
  comm_mpi_request_give(c, r);
  return SBAG_OK;
}

/* A peer may have given up while this rank saw nothing of it, so a barrier that listens comes before the
 * collective MPI_Comm_free. A broken comm's communicators are left to MPI_Finalize: its peers may be gone,
 * and a collective call would wait for them for ever. Its wire stays too if MPI may still read or write it.
 */
static void op_destroy(comm_t **comm) {
  comm_mpi_t *c = comm_mpi_of(*comm);
  *comm = NULL;
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized && comm_barrier(&c->base, "closing", NULL) == SBAG_OK) {
    if (comm_mpi_places_held(c)) c->base.wire = NULL;
    MPI_Comm_free(&c->control);
    MPI_Comm_free(&c->data);
  } else if (!finalized && comm_mpi_withdraw(c)) {
    c->base.wire = NULL;
  }
  comm_mpi_release(c);
}

static const comm_ops_t mpi_ops = {
    .name = "mpi",
    .exchange_begin = op_exchange_begin,
    .allreduce_begin = op_allreduce_begin,
    .reduce_scatter_begin = op_reduce_scatter_begin,
    .broadcast_begin = op_broadcast_begin,
    .test = op_test,
    .progress = op_progress,
    .wait = op_wait,
    .fail = comm_mpi_fail,
    .destroy = op_destroy,
};

sbag_code_t comm_mpi_create(MPI_Comm parent, mem_t *mem, const comm_options_t *options, comm_t **comm,
                            sbag_status_t *status) {
  comm_mpi_t *c = NULL;
  SBAG_TRY(comm_mpi_make(parent, &mpi_ops, mem, options, &c, status));
  *comm = &c->base;
  return SBAG_OK;
}

MPI_Comm comm_mpi_handle(const comm_t *comm) {
  return comm->ops == &mpi_ops ? ((const comm_mpi_t *)(const void *)comm)->data : MPI_COMM_NULL;
}
