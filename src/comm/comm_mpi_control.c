/* The control channel: how a rank that gives up ends its peers' waits.
 *
 * Its messages travel on a communicator of their own, so they never match data. A message is a whole status
 * (or a question or an answer of comm_mpi_silence.c); MPI sends so few bytes eagerly, without waiting for the
 * receiver. */
#include "comm/comm_mpi_impl.h"

#include "base/clock.h"
#include <sched.h>

static const double linger_s = 1.0; /* how long fail pushes its messages, if MPI does not take them */

static void withdraw_exchange(comm_request_t *r) {
  for (int i = 0; i < r->slot_count; i++) {
    if (r->requests[i] == MPI_REQUEST_NULL) continue;
    int done = 0;
    if (r->flows[r->slots[i].flow].receives) MPI_Cancel(&r->requests[i]);
    MPI_Test(&r->requests[i], &done, MPI_STATUS_IGNORE);
  }
}

static int inside(const void *at, const comm_wire_t *wire) {
  return (uintptr_t)at >= (uintptr_t)wire && (uintptr_t)at < (uintptr_t)(wire + 1);
}

/* Receives can be withdrawn unless their message is arriving; sends and collective operations cannot. The
 * latter are not even tested: Open MPI ends the job if one of them has met with an error. What MPI answers no
 * longer matters, as the comm is broken already. */
int comm_mpi_withdraw(comm_mpi_t *c) {
  int held = 0;
  if (c->base.device != NULL) c->base.device->ops->abort(c->base.device);
  for (comm_request_t *r = c->active; r != NULL; r = r->next) {
    if (r->kind == COMM_MPI_EXCHANGE)
      withdraw_exchange(r);
    else if (!r->done && inside(r->data, c->base.wire))
      held = 1;
  }
  int told = 0;
  MPI_Testall(c->base.size, c->telling, &told, MPI_STATUSES_IGNORE);
  return comm_mpi_places_held(c) || held || !told;
}

static void tell_peers(comm_mpi_t *c) {
  sbag_status_t *told = &c->base.wire->told;
  *told = c->base.broken;
  for (int p = 0; p < c->base.size; p++)
    if (p != c->base.rank && MPI_Isend(told, (int)sizeof *told, MPI_BYTE, p, COMM_MPI_FAIL_TAG, c->control,
                                       &c->telling[p]) != MPI_SUCCESS)
      c->telling[p] = MPI_REQUEST_NULL; /* that peer has its deadline */
  double start_s = clock_now();
  int done = 0;
  while (!done && clock_now() - start_s < linger_s) {
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

static sbag_code_t hear(comm_mpi_t *c, int source, sbag_status_t *status) {
  sbag_status_t heard;
  status_clear(&heard);
  SBAG_TRY(comm_mpi_check(
      MPI_Recv(&heard, (int)sizeof heard, MPI_BYTE, source, COMM_MPI_FAIL_TAG, c->control, MPI_STATUS_IGNORE),
      "MPI_Recv", status));
  heard.message[sizeof heard.message - 1] = '\0';
  c->base.broken = heard;
  comm_mpi_withdraw(c);
  return comm_check(&c->base, status);
}

sbag_code_t comm_mpi_listen(comm_mpi_t *c, sbag_status_t *status) {
  int there = 0;
  for (int i = 0; i < 2 || there;
       i++) { /* MPI may look for new messages only after its answer to the first */
    MPI_Status envelope;
    SBAG_TRY(comm_mpi_check(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->control, &there, &envelope),
                            "MPI_Iprobe", status));
    if (!there) continue;
    if (envelope.MPI_TAG == COMM_MPI_FAIL_TAG) return hear(c, envelope.MPI_SOURCE, status);
    SBAG_TRY(comm_mpi_hear_of_place(c, &envelope, status));
  }
  return SBAG_OK;
}
