/* How an MPI comm is made. Its calls on the parent do not block, so that a rank that never comes ends the
 * creation by the deadline like any other wait. There is no control channel yet: who waits for long says so
 * on the parent, with the highest tag and without data, and names those of whom it has not heard the same. */
#include "comm/comm_mpi_impl.h"

#include "base/clock.h"
#include <sched.h>
#include <stdlib.h>

static const double decline_s = 60.0; /* the deadline of a rank that came without options */

/* What is agreed on; in a block of its own, which stays if MPI may still write to it. */
typedef struct agreement {
  int64_t least[3]; /* the lowest rank with an error, or size; chunk_bytes; -chunk_bytes */
} agreement_t;

void comm_mpi_release(comm_mpi_t *c) {
  mem_t *mem = c->base.mem;
  comm_mpi_requests_free(c);
  comm_clear(&c->base);
  mem_free(mem, c->telling);
  mem_free(mem, c->peers);
  mem_free(mem, c);
}

static sbag_code_t make_channels(comm_mpi_t *c, sbag_status_t *status) {
  void *block = NULL;
  int size = c->base.size;
  size_t telling_bytes = mem_array_bytes(size, sizeof *c->telling);
  SBAG_TRY(mem_calloc(c->base.mem, telling_bytes, "comm: control", &block, status));
  c->telling = block;
  SBAG_TRY(mem_calloc(c->base.mem, mem_array_bytes(size, sizeof *c->peers), "comm: control", &block, status));
  c->peers = block;
  for (int p = 0; p < size; p++) {
    c->telling[p] = MPI_REQUEST_NULL;
    c->peers[p].asking = c->peers[p].answering = MPI_REQUEST_NULL;
  }
  return SBAG_OK;
}

/* Everything of creation that only concerns this rank. */
static sbag_code_t make_local(MPI_Comm parent, const comm_ops_t *ops, mem_t *mem,
                              const comm_options_t *options, comm_mpi_t **made, sbag_status_t *status) {
  int rank = 0, size = 0;
  SBAG_TRY(comm_mpi_check(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank", status));
  SBAG_TRY(comm_mpi_check(MPI_Comm_size(parent, &size), "MPI_Comm_size", status));
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof **made, "comm: mpi", &block, status));
  comm_mpi_t *c = block;
  c->data = c->control = MPI_COMM_NULL;
  c->phase = "";
  sbag_code_t code = comm_init(&c->base, ops, rank, size, mem, options, status);
  if (code == SBAG_OK) code = make_channels(c, status);
  if (code != SBAG_OK) {
    comm_mpi_release(c);
    return code;
  }
  *made = c;
  return SBAG_OK;
}

static int highest_tag(MPI_Comm comm) {
  int *largest = NULL, known = 0;
  if (MPI_Comm_get_attr(comm, MPI_TAG_UB, &largest, &known) != MPI_SUCCESS || !known)
    return 32767; /* what the standard grants */
  return *largest;
}

/* Without data there is no buffer that MPI could hold, so nobody needs to wait for these sends. */
static void announce(MPI_Comm parent, int tag) {
  int rank = 0, size = 0;
  MPI_Comm_rank(parent, &rank);
  MPI_Comm_size(parent, &size);
  for (int p = 0; p < size; p++) {
    MPI_Request request;
    if (p != rank && MPI_Isend(NULL, 0, MPI_BYTE, p, tag, parent, &request) == MPI_SUCCESS)
      MPI_Request_free(&request);
  }
}

static sbag_code_t nobody_came(MPI_Comm parent, int tag, const char *what, double limit_s,
                               sbag_status_t *status) {
  int rank = 0, size = 0;
  comm_mpi_names_t names = {.count = 0};
  MPI_Comm_rank(parent, &rank);
  MPI_Comm_size(parent, &size);
  for (int p = 0; p < size; p++) {
    int there = 0;
    for (int i = 0; i < 2 && !there; i++) MPI_Iprobe(p, tag, parent, &there, MPI_STATUS_IGNORE);
    if (p != rank && !there) comm_mpi_name_rank(&names, p);
  }
  if (names.count > 0) return comm_mpi_silence(&names, what, limit_s, status);
  return status_set(status, SBAG_ERR_TIMEOUT, "%s: not all ranks came within %g s", what, limit_s);
}

/* Waits for a call on `parent`; limit_s as comm_options.timeout_s. */
static sbag_code_t await(MPI_Comm parent, MPI_Request *request, const char *what, double limit_s,
                         sbag_status_t *status) {
  double start_s = clock_now();
  int tag = highest_tag(parent), announced = 0, done = 0;
  for (;;) {
    SBAG_TRY(comm_mpi_check(MPI_Test(request, &done, MPI_STATUS_IGNORE), what, status));
    if (done) return SBAG_OK;
    sched_yield();
    double waited_s = clock_now() - start_s;
    if (limit_s <= 0.0) continue;
    int heard = 0;
    if (!announced) MPI_Iprobe(MPI_ANY_SOURCE, tag, parent, &heard, MPI_STATUS_IGNORE);
    if (!announced && (heard || waited_s > limit_s - comm_mpi_grace_s(limit_s))) {
      announced = 1;
      announce(parent, tag);
    }
    if (waited_s > limit_s) return nobody_came(parent, tag, what, limit_s, status);
  }
}

/* Collective: no rank may enter MPI_Comm_dup alone. Messages are cut by chunk_bytes on both sides, so it must
 * be the same everywhere. */
static sbag_code_t reduce_agreement(MPI_Comm parent, agreement_t **agreement, double limit_s,
                                    sbag_status_t *status) {
  MPI_Request request;
  SBAG_TRY(comm_mpi_check(
      MPI_Iallreduce(MPI_IN_PLACE, (*agreement)->least, 3, MPI_INT64_T, MPI_MIN, parent, &request),
      "MPI_Iallreduce", status));
  sbag_code_t code = await(parent, &request, "start: agreement", limit_s, status);
  if (code != SBAG_OK) *agreement = NULL; /* left to MPI */
  return code;
}

static sbag_code_t agree_to_create(MPI_Comm parent, const comm_mpi_t *c, sbag_code_t mine,
                                   sbag_status_t *status) {
  int rank = 0, size = 0;
  SBAG_TRY(comm_mpi_check(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank", status));
  SBAG_TRY(comm_mpi_check(MPI_Comm_size(parent, &size), "MPI_Comm_size", status));
  agreement_t *block = calloc(1, sizeof *block); /* outlives every mem_t if a rank never comes */
  if (block == NULL) return status_set(status, SBAG_ERR_MEMORY, "comm: no memory for an agreement");
  int64_t chunk = c != NULL ? c->base.options.chunk_bytes : 0;
  *block = (agreement_t){{mine == SBAG_OK ? size : rank, chunk, -chunk}};
  sbag_status_t late;
  sbag_code_t code =
      reduce_agreement(parent, &block, c != NULL ? c->base.options.timeout_s : decline_s, &late);
  agreement_t result = block != NULL ? *block : (agreement_t){{0}};
  free(block);
  if (mine != SBAG_OK) return mine;
  if (code != SBAG_OK) {
    if (status != NULL) *status = late;
    return code;
  }
  if (result.least[0] < size)
    return status_set(status, SBAG_ERR_STATE, "comm: rank %lld could not make its part of the communicator",
                      (long long)result.least[0]);
  if (result.least[1] != -result.least[2])
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "comm: chunk_bytes must be the same on all ranks, but goes from %lld to %lld",
                      (long long)result.least[1], (long long)-result.least[2]);
  return SBAG_OK;
}

/* The new communicator's handle is written when the call completes: `to` must live until then. */
static sbag_code_t duplicate(MPI_Comm parent, double limit_s, MPI_Comm *to, sbag_status_t *status) {
  MPI_Request request;
  SBAG_TRY(comm_mpi_check(MPI_Comm_idup(parent, to, &request), "MPI_Comm_idup", status));
  SBAG_TRY(await(parent, &request, "start: channels", limit_s, status));
  return comm_mpi_check(MPI_Comm_set_errhandler(*to, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", status);
}

static sbag_code_t open_channels(comm_mpi_t *c, MPI_Comm parent, sbag_status_t *status) {
  double limit_s = c->base.options.timeout_s;
  SBAG_TRY(duplicate(parent, limit_s, &c->data, status));
  SBAG_TRY(duplicate(parent, limit_s, &c->control, status));
  c->tag_count = (int64_t)highest_tag(c->data) + 1;
  return SBAG_OK;
}

static sbag_code_t check_running(MPI_Comm parent, sbag_status_t *status) {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized)
    return status_set(status, SBAG_ERR_STATE,
                      "comm: MPI is not running; call MPI_Init before and MPI_Finalize after");
  if (parent == MPI_COMM_NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "comm: the parent communicator is MPI_COMM_NULL");
  return SBAG_OK;
}

sbag_code_t comm_mpi_make(MPI_Comm parent, const comm_ops_t *ops, mem_t *mem, const comm_options_t *options,
                          comm_mpi_t **made, sbag_status_t *status) {
  SBAG_TRY(check_running(parent, status));
  comm_mpi_t *c = NULL;
  sbag_code_t code = make_local(parent, ops, mem, options, &c, status);
  code = agree_to_create(parent, c, code, status);
  if (code == SBAG_OK) {
    code = open_channels(c, parent, status);
    if (code != SBAG_OK) return code; /* MPI may still write to what c holds: it stays */
  }
  if (code != SBAG_OK) {
    if (c != NULL) comm_mpi_release(c);
    return code;
  }
  *made = c;
  return SBAG_OK;
}

void comm_mpi_decline(MPI_Comm parent) {
  if (check_running(parent, NULL) == SBAG_OK) (void)agree_to_create(parent, NULL, SBAG_ERR_ARGUMENT, NULL);
}
