/* The MPI comm: how it is made and ended, and its table of operations. An operation that fails breaks the
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

static void release(comm_mpi_t *c) {
  mem_t *mem = c->base.mem;
  comm_mpi_requests_free(c);
  comm_clear(&c->base);
  mem_free(mem, c->telling);
  mem_free(mem, c);
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
    MPI_Comm_free(&c->control);
    MPI_Comm_free(&c->data);
  } else if (!finalized && comm_mpi_withdraw(c)) {
    c->base.wire = NULL;
  }
  release(c);
}

static const comm_ops_t mpi_ops = {
    .name = "mpi",
    .exchange_begin = op_exchange_begin,
    .allreduce_begin = op_allreduce_begin,
    .broadcast_begin = op_broadcast_begin,
    .test = op_test,
    .progress = op_progress,
    .wait = op_wait,
    .fail = comm_mpi_fail,
    .destroy = op_destroy,
};

/* Everything of creation that only concerns this rank. */
static sbag_code_t make_local(MPI_Comm parent, mem_t *mem, const comm_options_t *options, comm_mpi_t **made,
                              sbag_status_t *status) {
  int rank = 0, size = 0;
  SBAG_TRY(comm_mpi_check(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank", status));
  SBAG_TRY(comm_mpi_check(MPI_Comm_size(parent, &size), "MPI_Comm_size", status));
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof **made, "comm: mpi", &block, status));
  comm_mpi_t *c = block;
  c->data = c->control = MPI_COMM_NULL;
  sbag_code_t code = SBAG_OK;
  SBAG_TRY_GOTO(comm_init(&c->base, &mpi_ops, rank, size, mem, options, status), failed);
  size_t telling_bytes = mem_array_bytes(size, sizeof *c->telling);
  SBAG_TRY_GOTO(mem_calloc(mem, telling_bytes, "comm: control", &block, status), failed);
  c->telling = block;
  for (int p = 0; p < size; p++) c->telling[p] = MPI_REQUEST_NULL;
  *made = c;
  return SBAG_OK;
failed:
  release(c);
  return code;
}

/* Collective: no rank may enter MPI_Comm_dup alone. Messages are cut by chunk_bytes on both sides, so it must
 * be the same everywhere. */
static sbag_code_t agree_to_create(MPI_Comm parent, const comm_mpi_t *c, sbag_code_t mine,
                                   sbag_status_t *status) {
  int rank = 0, size = 0;
  SBAG_TRY(comm_mpi_check(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank", status));
  SBAG_TRY(comm_mpi_check(MPI_Comm_size(parent, &size), "MPI_Comm_size", status));
  int64_t chunk = c != NULL ? c->base.options.chunk_bytes : 0;
  int64_t least[3] = {mine == SBAG_OK ? size : rank, chunk, -chunk};
  SBAG_TRY(comm_mpi_check(MPI_Allreduce(MPI_IN_PLACE, least, 3, MPI_INT64_T, MPI_MIN, parent),
                          "MPI_Allreduce", status));
  if (mine != SBAG_OK) return mine;
  if (least[0] < size)
    return status_set(status, SBAG_ERR_STATE, "comm: rank %lld could not make its part of the communicator",
                      (long long)least[0]);
  if (least[1] != -least[2])
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "comm: chunk_bytes must be the same on all ranks, but goes from %lld to %lld",
                      (long long)least[1], (long long)-least[2]);
  return SBAG_OK;
}

static sbag_code_t open_channels(comm_mpi_t *c, MPI_Comm parent, sbag_status_t *status) {
  SBAG_TRY(comm_mpi_check(MPI_Comm_dup(parent, &c->data), "MPI_Comm_dup", status));
  SBAG_TRY(comm_mpi_check(MPI_Comm_dup(parent, &c->control), "MPI_Comm_dup", status));
  SBAG_TRY(
      comm_mpi_check(MPI_Comm_set_errhandler(c->data, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", status));
  SBAG_TRY(comm_mpi_check(MPI_Comm_set_errhandler(c->control, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
                          status));
  int *largest = NULL, known = 0;
  SBAG_TRY(
      comm_mpi_check(MPI_Comm_get_attr(c->data, MPI_TAG_UB, &largest, &known), "MPI_Comm_get_attr", status));
  c->tag_count = known ? (int64_t)*largest + 1 : 32768; /* what the standard grants */
  return SBAG_OK;
}

sbag_code_t comm_mpi_create(MPI_Comm parent, mem_t *mem, const comm_options_t *options, comm_t **comm,
                            sbag_status_t *status) {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized)
    return status_set(status, SBAG_ERR_STATE,
                      "comm: MPI is not running; call MPI_Init before and MPI_Finalize after");
  if (parent == MPI_COMM_NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "comm: the parent communicator is MPI_COMM_NULL");
  comm_mpi_t *c = NULL;
  sbag_code_t code = make_local(parent, mem, options, &c, status);
  code = agree_to_create(parent, c, code, status);
  if (code == SBAG_OK) code = open_channels(c, parent, status);
  if (code != SBAG_OK) {
    if (c != NULL) release(c);
    return code;
  }
  *comm = &c->base;
  return SBAG_OK;
}

void comm_mpi_decline(MPI_Comm parent) {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized || parent == MPI_COMM_NULL) return;
  (void)agree_to_create(parent, NULL, SBAG_ERR_ARGUMENT, NULL);
}

MPI_Comm comm_mpi_handle(const comm_t *comm) {
  return comm->ops == &mpi_ops ? ((const comm_mpi_t *)(const void *)comm)->data : MPI_COMM_NULL;
}
