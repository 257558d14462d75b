/* Who is silent: a rank whose wait comes to its deadline asks all peers where they are, and names those that
 * do not answer. A peer that is missing in this rank's exchange may itself wait for the one that is stopped;
 * and a collective operation of MPI does not tell who is missing at all.
 *
 * Questions and answers travel on the control channel. Whoever waits in the same comm answers, and who
 * works and calls comm_progress meanwhile. */
#include "comm/comm_mpi_impl.h"

#include <stdio.h>
#include <string.h>

/* A send that MPI still holds is of a peer that takes nothing: it needs no second one. */
static sbag_code_t post(comm_mpi_t *c, const void *data, size_t bytes, int peer, int tag,
                        MPI_Request *request, sbag_status_t *status) {
  int done = 0;
  SBAG_TRY(comm_mpi_check(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test", status));
  if (!done) return SBAG_OK;
  return comm_mpi_check(MPI_Isend(data, (int)bytes, MPI_BYTE, peer, tag, c->control, request), "MPI_Isend",
                        status);
}

sbag_code_t comm_mpi_ask(comm_mpi_t *c, sbag_status_t *status) {
  comm_wire_t *wire = c->base.wire;
  wire->round++; /* a question that is still on its way to a silent peer may change: nobody answers it */
  for (int p = 0; p < c->base.size; p++)
    if (p != c->base.rank)
      SBAG_TRY(post(c, &wire->round, sizeof wire->round, p, COMM_MPI_ASK_TAG, &c->peers[p].asking, status));
  return SBAG_OK;
}

static sbag_code_t answer(comm_mpi_t *c, int peer, sbag_status_t *status) {
  int32_t round = 0;
  SBAG_TRY(comm_mpi_check(
      MPI_Recv(&round, (int)sizeof round, MPI_BYTE, peer, COMM_MPI_ASK_TAG, c->control, MPI_STATUS_IGNORE),
      "MPI_Recv", status));
  comm_place_t *place = &c->base.wire->places[peer];
  place->round = round;
  snprintf(place->what, sizeof place->what, "%s", c->phase);
  return post(c, place, sizeof *place, peer, COMM_MPI_PLACE_TAG, &c->peers[peer].answering, status);
}

sbag_code_t comm_mpi_hear_of_place(comm_mpi_t *c, const MPI_Status *envelope, sbag_status_t *status) {
  int peer = envelope->MPI_SOURCE;
  if (envelope->MPI_TAG == COMM_MPI_ASK_TAG) return answer(c, peer, status);
  comm_place_t *place = &c->peers[peer].place;
  SBAG_TRY(comm_mpi_check(
      MPI_Recv(place, (int)sizeof *place, MPI_BYTE, peer, COMM_MPI_PLACE_TAG, c->control, MPI_STATUS_IGNORE),
      "MPI_Recv", status));
  place->what[sizeof place->what - 1] = '\0';
  return SBAG_OK;
}

int comm_mpi_places_held(comm_mpi_t *c) {
  int held = 0;
  for (int p = 0; p < c->base.size; p++) {
    int asked = 1, answered = 1;
    MPI_Test(&c->peers[p].asking, &asked, MPI_STATUS_IGNORE);
    MPI_Test(&c->peers[p].answering, &answered, MPI_STATUS_IGNORE);
    if (!asked || !answered) held = 1;
  }
  return held;
}

void comm_mpi_name_rank(comm_mpi_names_t *names, int rank) {
  if (names->count == COMM_MPI_RANKS_NAMED)
    names->used += snprintf(names->text + names->used, 16, " and others");
  if (names->count++ >= COMM_MPI_RANKS_NAMED) return;
  names->used += snprintf(names->text + names->used, 16, names->count == 1 ? "%d" : ", %d", rank);
}

sbag_code_t comm_mpi_silence(const comm_mpi_names_t *names, const char *what, double limit_s,
                             sbag_status_t *status) {
  return status_set(status, SBAG_ERR_TIMEOUT, "%s: no answer from rank%s %s within %g s", what,
                    names->count > 1 ? "s" : "", names->text, limit_s);
}

static int silent(const comm_mpi_t *c, int peer) {
  return peer != c->base.rank && c->peers[peer].place.round != c->base.wire->round;
}

int comm_mpi_somebody_works(const comm_mpi_t *c) {
  int works = 0;
  for (int p = 0; p < c->base.size; p++) {
    if (silent(c, p)) return 0;
    works |= p != c->base.rank && c->peers[p].place.what[0] == '\0';
  }
  return works;
}

/* Whose data is missing, or, if all of it has come, who has not taken ours. */
static int awaited(const comm_request_t *r, int peer) {
  int missing = 0, receives = 0;
  for (int i = 0; r->kind == COMM_MPI_EXCHANGE && i < r->flow_count; i++) {
    const comm_mpi_flow_t *flow = &r->flows[i];
    if (flow->moved >= flow->bytes) continue;
    receives |= flow->receives;
    if (flow->peer == peer) missing |= flow->receives ? 1 : 2;
  }
  return receives ? missing & 1 : missing;
}

/* Some answered from another call than this one: ranks that do not do the same. */
static const comm_place_t *elsewhere(const comm_mpi_t *c, const comm_request_t *r, const char *what,
                                     int *rank) {
  for (int waited_for = 1; waited_for >= 0; waited_for--)
    for (int p = 0; p < c->base.size; p++) {
      const comm_place_t *place = &c->peers[p].place;
      *rank = p;
      if (p == c->base.rank || (waited_for && !awaited(r, p))) continue;
      if (strncmp(place->what, what, sizeof place->what - 1) != 0) return place;
    }
  return NULL;
}

sbag_code_t comm_mpi_expired(const comm_mpi_t *c, const comm_request_t *r, const char *what,
                             sbag_status_t *status) {
  double limit_s = c->base.options.timeout_s;
  comm_mpi_names_t names = {.count = 0};
  for (int p = 0; p < c->base.size; p++)
    if (silent(c, p)) comm_mpi_name_rank(&names, p);
  if (names.count > 0) return comm_mpi_silence(&names, what, limit_s, status);
  int rank = -1;
  const comm_place_t *place = elsewhere(c, r, what, &rank);
  if (place == NULL)
    return status_set(status, SBAG_ERR_TIMEOUT, "%s: all ranks wait in it, and nothing came within %g s",
                      what, limit_s);
  return status_set(status, SBAG_ERR_TIMEOUT,
                    "%s: nothing came within %g s: rank %d is in '%s'; all ranks must make the same calls",
                    what, limit_s, rank, place->what);
}
