/* Waiting: every round progresses all operations of the comm, so that none starves another; a quiet wait
 * listens for peers that gave up, watches the deadline, and leaves the core to other ranks. */
#include "comm/comm_mpi_impl.h"

#include "base/clock.h"
#include <sched.h>

enum {
  QUIET_ROUNDS_TO_YIELD = 8,
  QUIET_ROUNDS_TO_LISTEN = 16,    /* a probe costs about as much as a round */
  QUIET_ROUNDS_TO_HEED = 16 * 64, /* from then on in every round: on a full machine a yield may take long */
};

static sbag_code_t progress_all(comm_mpi_t *c, int *moved, sbag_status_t *status) {
  comm_device_t *device = c->base.device;
  if (device != NULL) SBAG_TRY(device->ops->progress(device, moved, status));
  for (comm_request_t *r = c->active; r != NULL; r = r->next) {
    if (r->done) continue;
    if (r->kind == COMM_MPI_DEVICE)
      r->done = device->ended >= r->ticket;
    else if (r->kind == COMM_MPI_EXCHANGE)
      SBAG_TRY(comm_mpi_exchange_progress(c, r, moved, status));
    else
      SBAG_TRY(comm_mpi_collective_progress(c, r, moved, status));
    if (r->done) comm_trace_done(&c->base.trace, &r->span);
  }
  return SBAG_OK;
}

/* A wait's clock. */
typedef struct patience {
  double since_s; /* nothing has come */
  int asked;      /* the peers where they are */
} patience_t;

/* A quiet wait, every now and then. Close to the deadline the peers are asked where they are; its message
 * names those that do not answer. Where all answer, and one from its work, that one is waited for again. */
static sbag_code_t watch(comm_mpi_t *c, const comm_request_t *r, const char *what, patience_t *patience,
                         sbag_status_t *status) {
  double limit_s = c->base.options.timeout_s, now_s = clock_now(), quiet_s = now_s - patience->since_s;
  SBAG_TRY(comm_mpi_listen(c, status));
  if (limit_s <= 0.0) return SBAG_OK;
  if (!patience->asked && quiet_s > limit_s - comm_mpi_grace_s(limit_s)) {
    patience->asked = 1;
    return comm_mpi_ask(c, status);
  }
  if (quiet_s <= limit_s) return SBAG_OK;
  if (!comm_mpi_somebody_works(c)) return comm_mpi_expired(c, r, what, status);
  *patience = (patience_t){.since_s = now_s};
  return SBAG_OK;
}

static sbag_code_t wait_done(comm_mpi_t *c, comm_request_t *r, const char *what, sbag_status_t *status) {
  patience_t patience = {.since_s = 0.0};
  int quiet = 0;
  SBAG_TRY(comm_mpi_listen(c, status));
  while (!r->done) {
    int moved = 0;
    SBAG_TRY(progress_all(c, &moved, status));
    quiet = moved ? 0 : quiet + (quiet < QUIET_ROUNDS_TO_HEED);
    if (quiet == 1) patience = (patience_t){.since_s = clock_now()};
    if (quiet > QUIET_ROUNDS_TO_YIELD) sched_yield();
    if (quiet == 0 || (quiet < QUIET_ROUNDS_TO_HEED && quiet % QUIET_ROUNDS_TO_LISTEN != 0)) continue;
    SBAG_TRY(watch(c, r, what, &patience, status));
  }
  return SBAG_OK;
}

sbag_code_t comm_mpi_wait(comm_mpi_t *c, comm_request_t *r, const char *what, sbag_status_t *status) {
  c->phase = what;
  sbag_code_t code = wait_done(c, r, what, status);
  c->phase = "";
  return code;
}

sbag_code_t comm_mpi_progress(comm_mpi_t *c, sbag_status_t *status) {
  int moved = 0;
  SBAG_TRY(progress_all(c, &moved, status));
  c->quiet_tests = moved ? 0 : c->quiet_tests + 1;
  return c->quiet_tests % QUIET_ROUNDS_TO_LISTEN == 1 ? comm_mpi_listen(c, status) : SBAG_OK;
}

sbag_code_t comm_mpi_test(comm_mpi_t *c, comm_request_t *r, int *done, sbag_status_t *status) {
  c->phase = "a test of what it began";
  sbag_code_t code = r->done ? SBAG_OK : comm_mpi_progress(c, status);
  c->phase = "";
  if (code == SBAG_OK) *done = r->done;
  return code;
}
