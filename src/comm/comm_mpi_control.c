/* The control channel: how a rank that gives up ends its peers' waits.
 *
 * Its messages travel on a communicator of their own, so they never match data. A message is a whole status;
 * MPI sends so few bytes eagerly, without waiting for the receiver. */
#include "comm/comm_mpi_impl.h"

#include <sched.h>
#include <string.h>
#include <time.h>

enum { CONTROL_TAG = 0 };

static const int64_t linger_ns =
    1000000000; /* how long fail pushes its messages, if MPI does not take them */

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Receives can be withdrawn unless their message is arriving; sends and collective operations cannot. What
 * stays is polled a little, as most of it is done in fact. */
int comm_mpi_withdraw(comm_mpi_t *c) {
  int held = 0;
  for (comm_request_t *r = c->active; r != NULL; r = r->next) {
    for (int i = 0; i < r->slot_count; i++)
      if (r->kind == COMM_MPI_EXCHANGE && r->flows[r->slots[i].flow].receives &&
          r->requests[i] != MPI_REQUEST_NULL)
        MPI_Cancel(&r->requests[i]); /* the comm is broken already: an error here adds nothing */
    for (int i = 0; i < r->slot_count; i++) {
      int done = 1;
      if (r->requests[i] != MPI_REQUEST_NULL) MPI_Test(&r->requests[i], &done, MPI_STATUS_IGNORE);
      if (!done) held = 1;
    }
  }
  int told = 1;
  MPI_Testall(c->base.size, c->telling, &told, MPI_STATUSES_IGNORE);
  return held || !told;
}

static void tell_peers(comm_mpi_t *c) {
  *c->told = c->base.broken;
  for (int p = 0; p < c->base.size; p++)
    if (p != c->base.rank && MPI_Isend(c->told, (int)sizeof *c->told, MPI_BYTE, p, CONTROL_TAG, c->control,
                                       &c->telling[p]) != MPI_SUCCESS)
      c->telling[p] = MPI_REQUEST_NULL; /* that peer has its deadline */
  int64_t start = now_ns();
  int done = 0;
  while (!done && now_ns() - start < linger_ns) {
    if (MPI_Testall(c->base.size, c->telling, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) break;
    if (!done) sched_yield();
  }
}

void comm_mpi_fail(comm_t *comm, const sbag_status_t *cause) {
  if (comm->broken.code != SBAG_OK) return; /* all know already */
  comm_mpi_t *c = comm_mpi_of(comm);
  comm->broken = comm_cause(comm, cause);
  tell_peers(c);
  comm_mpi_withdraw(c);
}

sbag_code_t comm_mpi_listen(comm_mpi_t *c, sbag_status_t *status) {
  int there = 0;
  MPI_Status envelope;
  SBAG_TRY(comm_mpi_check(MPI_Iprobe(MPI_ANY_SOURCE, CONTROL_TAG, c->control, &there, &envelope),
                          "MPI_Iprobe", status));
  if (!there) return SBAG_OK;
  sbag_status_t heard;
  status_clear(&heard);
  SBAG_TRY(comm_mpi_check(MPI_Recv(&heard, (int)sizeof heard, MPI_BYTE, envelope.MPI_SOURCE, CONTROL_TAG,
                                   c->control, MPI_STATUS_IGNORE),
                          "MPI_Recv", status));
  heard.message[sizeof heard.message - 1] = '\0';
  c->base.broken = heard;
  comm_mpi_withdraw(c);
  return comm_check(&c->base, status);
}
