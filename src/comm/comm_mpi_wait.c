/* Waiting: every round progresses all operations of the comm, so that none starves another; a quiet wait
 * listens for peers that gave up, watches the deadline, and leaves the core to other ranks. */
#include "comm/comm_mpi_impl.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

enum {
  QUIET_ROUNDS_TO_YIELD = 8,
  QUIET_ROUNDS_TO_LISTEN = 16, /* a probe costs about as much as a round */
  PEERS_NAMED = 8              /* in a deadline's message */
};

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static sbag_code_t progress_all(comm_mpi_t *c, int *moved, sbag_status_t *status) {
  for (comm_request_t *r = c->active; r != NULL; r = r->next) {
    if (r->done) continue;
    if (r->kind == COMM_MPI_EXCHANGE)
      SBAG_TRY(comm_mpi_exchange_progress(c, r, moved, status));
    else
      SBAG_TRY(comm_mpi_collective_progress(c, r, moved, status));
    if (r->done) comm_trace_done(&c->base.trace, &r->span);
  }
  return SBAG_OK;
}

/* Peers whose data is missing; if all of it has come, those that have not taken ours. */
static int awaits(const comm_request_t *r, int peer, int receives) {
  for (int i = 0; i < r->flow_count; i++) {
    const comm_mpi_flow_t *flow = &r->flows[i];
    if (flow->peer == peer && flow->receives == receives && flow->moved < flow->bytes) return 1;
  }
  return 0;
}

static int list_awaited(const comm_mpi_t *c, const comm_request_t *r, int receives, char *text, size_t size) {
  int found = 0;
  size_t used = 0;
  for (int p = 0; p < c->base.size; p++) {
    if (!awaits(r, p, receives)) continue;
    if (found == PEERS_NAMED) {
      snprintf(text + used, size - used, " and others");
      break;
    }
    used += (size_t)snprintf(text + used, size - used, found == 0 ? "%d" : ", %d", p);
    found++;
  }
  return found;
}

static sbag_code_t expired(const comm_mpi_t *c, const comm_request_t *r, const char *what,
                           sbag_status_t *status) {
  double limit = c->base.options.timeout_s;
  if (r->kind != COMM_MPI_EXCHANGE)
    return status_set(status, SBAG_ERR_TIMEOUT, "%s: not all ranks answered within %g s", what, limit);
  char peers[PEERS_NAMED * 16 + 16];
  int found = list_awaited(c, r, 1, peers, sizeof peers);
  if (found == 0) found = list_awaited(c, r, 0, peers, sizeof peers);
  return status_set(status, SBAG_ERR_TIMEOUT, "%s: no answer from rank%s %s within %g s", what,
                    found > 1 ? "s" : "", peers, limit);
}

sbag_code_t comm_mpi_wait(comm_mpi_t *c, comm_request_t *r, const char *what, sbag_status_t *status) {
  SBAG_TRY(comm_mpi_listen(c, status));
  double limit = c->base.options.timeout_s, quiet_since = 0.0;
  int quiet = 0;
  while (!r->done) {
    int moved = 0;
    SBAG_TRY(progress_all(c, &moved, status));
    quiet = moved ? 0 : quiet + 1;
    if (quiet == 1) quiet_since = now_s();
    if (quiet > QUIET_ROUNDS_TO_YIELD) sched_yield();
    if (quiet == 0 || quiet % QUIET_ROUNDS_TO_LISTEN != 0) continue;
    SBAG_TRY(comm_mpi_listen(c, status));
    if (limit > 0.0 && now_s() - quiet_since > limit) return expired(c, r, what, status);
  }
  return SBAG_OK;
}

sbag_code_t comm_mpi_progress(comm_mpi_t *c, sbag_status_t *status) {
  int moved = 0;
  SBAG_TRY(progress_all(c, &moved, status));
  c->quiet_tests = moved ? 0 : c->quiet_tests + 1;
  return c->quiet_tests % QUIET_ROUNDS_TO_LISTEN == 1 ? comm_mpi_listen(c, status) : SBAG_OK;
}

sbag_code_t comm_mpi_test(comm_mpi_t *c, comm_request_t *r, int *done, sbag_status_t *status) {
  if (!r->done) SBAG_TRY(comm_mpi_progress(c, status));
  *done = r->done;
  return SBAG_OK;
}
