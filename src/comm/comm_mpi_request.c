/* Request objects of the MPI comm: made once, recycled for good, so that a warm step allocates nothing. */
#include "comm/comm_mpi_impl.h"

#include <stdio.h>

sbag_code_t comm_mpi_check(int mpi_code, const char *call, sbag_status_t *status) {
  if (mpi_code == MPI_SUCCESS) return SBAG_OK;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(mpi_code, text, &length) != MPI_SUCCESS)
    snprintf(text, sizeof text, "error %d", mpi_code);
  return status_set(status, SBAG_ERR_COMM, "%s failed: %s", call, text);
}

static void request_free(mem_t *mem, comm_request_t *r) {
  mem_free(mem, r->requests);
  mem_free(mem, r->slots);
  mem_free(mem, r->finished);
  mem_free(mem, r->statuses);
  mem_free(mem, r->flows);
  mem_free(mem, r);
}

static sbag_code_t array_alloc(mem_t *mem, int64_t count, size_t size, void **block, sbag_status_t *status) {
  return mem_calloc(mem, mem_array_bytes(count, size), "comm: request", block, status);
}

/* Room for the fullest exchange at once: no operation needs more slots than a window each way and peer. */
static sbag_code_t request_fill(comm_mpi_t *c, comm_request_t *r, sbag_status_t *status) {
  mem_t *mem = c->base.mem;
  int64_t flows = 2 * (int64_t)c->base.size, slots = flows * COMM_MPI_WINDOW;
  void *block = NULL;
  SBAG_TRY(array_alloc(mem, slots, sizeof *r->requests, &block, status));
  r->requests = block;
  SBAG_TRY(array_alloc(mem, slots, sizeof *r->slots, &block, status));
  r->slots = block;
  SBAG_TRY(array_alloc(mem, slots, sizeof *r->finished, &block, status));
  r->finished = block;
  SBAG_TRY(array_alloc(mem, slots, sizeof *r->statuses, &block, status));
  r->statuses = block;
  SBAG_TRY(array_alloc(mem, flows, sizeof *r->flows, &block, status));
  r->flows = block;
  for (int64_t i = 0; i < slots; i++) r->requests[i] = MPI_REQUEST_NULL;
  return SBAG_OK;
}

sbag_code_t comm_mpi_request_take(comm_mpi_t *c, comm_request_t **request, sbag_status_t *status) {
  comm_request_t *r = c->idle;
  if (r != NULL) {
    c->idle = r->next;
  } else {
    void *block = NULL;
    SBAG_TRY(mem_calloc(c->base.mem, sizeof *r, "comm: request", &block, status));
    r = block;
    sbag_code_t code = request_fill(c, r, status);
    if (code != SBAG_OK) {
      request_free(c->base.mem, r);
      return code;
    }
  }
  r->done = r->pending = r->slot_count = r->flow_count = 0;
  r->posted = r->total = 0;
  r->next_queued = NULL;
  r->next = c->active;
  c->active = r;
  *request = r;
  return SBAG_OK;
}

sbag_code_t comm_mpi_request_of_device(comm_mpi_t *c, comm_device_t *device, int64_t ticket,
                                       comm_request_t **request, sbag_status_t *status) {
  comm_request_t *r = NULL;
  SBAG_TRY(comm_mpi_request_take(c, &r, status));
  r->kind = COMM_MPI_DEVICE;
  r->data = NULL;
  r->ticket = ticket;
  r->done = device->ended >= ticket;
  *request = r;
  return SBAG_OK;
}

void comm_mpi_request_give(comm_mpi_t *c, comm_request_t *request) {
  comm_request_t **link = &c->active;
  while (*link != request) link = &(*link)->next;
  *link = request->next;
  request->next = c->idle;
  c->idle = request;
}

static void list_free(mem_t *mem, comm_request_t **list) {
  while (*list != NULL) {
    comm_request_t *r = *list;
    *list = r->next;
    request_free(mem, r);
  }
}

void comm_mpi_requests_free(comm_mpi_t *c) {
  list_free(c->base.mem, &c->active);
  list_free(c->base.mem, &c->idle);
}

/* MPI_ERR_IN_STATUS says only that one of them failed: the first such one has the reason. */
static sbag_code_t first_error(const comm_request_t *r, int count, sbag_status_t *status) {
  for (int i = 0; i < count; i++) {
    int code = r->statuses[i].MPI_ERROR;
    if (code == MPI_SUCCESS || code == MPI_ERR_PENDING) continue;
    if (r->kind != COMM_MPI_EXCHANGE) return comm_mpi_check(code, "a collective operation", status);
    const comm_mpi_flow_t *flow = &r->flows[r->slots[r->finished[i]].flow];
    comm_mpi_check(code, flow->receives ? "receiving" : "sending", status);
    return status_prefix(status, "exchange with rank %d", flow->peer);
  }
  return comm_mpi_check(MPI_ERR_IN_STATUS, "MPI_Testsome", status);
}

sbag_code_t comm_mpi_request_poll(comm_request_t *r, int *count, sbag_status_t *status) {
  int found = 0;
  int mpi_code = MPI_Testsome(r->slot_count, r->requests, &found, r->finished, r->statuses);
  if (found == MPI_UNDEFINED) found = 0;
  if (mpi_code == MPI_ERR_IN_STATUS) return first_error(r, found, status);
  SBAG_TRY(comm_mpi_check(mpi_code, "MPI_Testsome", status));
  *count = found;
  return SBAG_OK;
}
