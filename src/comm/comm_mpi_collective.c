/* All-reduce, reduce-scatter and broadcast over MPI's non-blocking collectives, in chunks whose counts fit an
 * int.
 *
 * MPI wants collective calls of a communicator in one order on all ranks. When a chunk completes differs
 * from rank to rank, so chunks are posted strictly in the order of a queue: all of the first operation
 * before any of the second, however many operations are in flight. */
#include "comm/comm_mpi_impl.h"

static MPI_Datatype mpi_type(comm_type_t type) {
  switch (type) {
  case COMM_U8:
    return MPI_UINT8_T;
  case COMM_I32:
    return MPI_INT32_T;
  case COMM_I64:
    return MPI_INT64_T;
  case COMM_F32:
    return MPI_FLOAT;
  case COMM_F64:
    break;
  }
  return MPI_DOUBLE;
}

static MPI_Op mpi_op(comm_reduce_t op) {
  return op == COMM_SUM ? MPI_SUM : op == COMM_MAX ? MPI_MAX : MPI_MIN;
}

static int free_slot(const comm_request_t *r) {
  for (int i = 0; i < r->slot_count; i++)
    if (r->requests[i] == MPI_REQUEST_NULL) return i;
  return -1;
}

/* One reduction to each rank in turn: libnbc's own reduce-scatter gathers all on rank 0 first. flow_count is
 * the rank whose part is being posted. */
static sbag_code_t post_part(comm_mpi_t *c, comm_request_t *r, int slot, sbag_status_t *status) {
  int64_t chunk = c->base.options.chunk_bytes / r->element_bytes;
  while (r->flows[r->flow_count].posted == r->flows[r->flow_count].bytes) r->flow_count++;
  comm_mpi_flow_t *flow = &r->flows[r->flow_count];
  int64_t left = flow->bytes - flow->posted;
  if (chunk < 1) chunk = 1;
  int count = (int)(left < chunk ? left : chunk);
  int64_t at = flow->posted * r->element_bytes;
  char *to = flow->peer == c->base.rank ? r->data + at : NULL;
  SBAG_TRY(comm_mpi_check(
      MPI_Ireduce(flow->data + at, to, count, r->type, MPI_SUM, flow->peer, c->data, &r->requests[slot]),
      "MPI_Ireduce", status));
  flow->posted += count;
  r->posted += count;
  r->pending++;
  return SBAG_OK;
}

static sbag_code_t post_chunk(comm_mpi_t *c, comm_request_t *r, int slot, sbag_status_t *status) {
  if (r->kind == COMM_MPI_REDUCE_SCATTER) return post_part(c, r, slot, status);
  int64_t chunk = c->base.options.chunk_bytes / r->element_bytes, left = r->total - r->posted;
  if (chunk < 1) chunk = 1;
  int count = (int)(left < chunk ? left : chunk);
  char *at = r->data + r->posted * r->element_bytes;
  MPI_Request *request = &r->requests[slot];
  if (r->kind == COMM_MPI_ALLREDUCE)
    SBAG_TRY(comm_mpi_check(MPI_Iallreduce(MPI_IN_PLACE, at, count, r->type, r->op, c->data, request),
                            "MPI_Iallreduce", status));
  else
    SBAG_TRY(comm_mpi_check(MPI_Ibcast(at, count, r->type, r->root, c->data, request), "MPI_Ibcast", status));
  r->posted += count;
  r->pending++;
  return SBAG_OK;
}

sbag_code_t comm_mpi_collective_post(comm_mpi_t *c, sbag_status_t *status) {
  while (c->queue_first != NULL) {
    comm_request_t *r = c->queue_first;
    int slot;
    while (r->posted < r->total && (slot = free_slot(r)) >= 0) SBAG_TRY(post_chunk(c, r, slot, status));
    if (r->posted < r->total) return SBAG_OK;
    c->queue_first = r->next_queued;
    if (c->queue_first == NULL) c->queue_last = NULL;
  }
  return SBAG_OK;
}

/* `r` has its kind, data, type and total. Listens first: a peer that gave up may have left a collective
 * operation of another size behind, and Open MPI ends the job where two do not match. */
static sbag_code_t enqueue(comm_mpi_t *c, comm_request_t *r, sbag_status_t *status) {
  SBAG_TRY(comm_mpi_listen(c, status));
  r->done = r->total == 0;
  if (r->done) return SBAG_OK;
  r->slot_count = COMM_MPI_WINDOW;
  if (c->queue_last != NULL)
    c->queue_last->next_queued = r;
  else
    c->queue_first = r;
  c->queue_last = r;
  return comm_mpi_collective_post(c, status);
}

sbag_code_t comm_mpi_allreduce_begin(comm_mpi_t *c, void *data, int64_t count, comm_type_t type,
                                     comm_reduce_t op, comm_request_t **request, sbag_status_t *status) {
  if (count < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "allreduce: count is %lld; it must be 0 or more",
                      (long long)count);
  comm_device_t *device = comm_device_of(&c->base, data);
  int64_t ticket = 0;
  if (device != NULL) {
    SBAG_TRY(device->ops->allreduce_begin(device, data, count, type, op, &ticket, status));
    return comm_mpi_request_of_device(c, device, ticket, request, status);
  }
  comm_request_t *r = NULL;
  SBAG_TRY(comm_mpi_request_take(c, &r, status));
  r->kind = COMM_MPI_ALLREDUCE;
  r->data = data;
  r->total = count;
  r->element_bytes = comm_type_bytes(type);
  r->type = mpi_type(type);
  r->op = mpi_op(op);
  SBAG_TRY(enqueue(c, r, status));
  *request = r;
  return SBAG_OK;
}

sbag_code_t comm_mpi_reduce_scatter_begin(comm_mpi_t *c, const void *send, const int64_t *counts, void *recv,
                                          comm_type_t type, comm_request_t **request, sbag_status_t *status) {
  comm_request_t *r = NULL;
  for (int p = 0; p < c->base.size; p++)
    if (counts[p] < 0)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "reduce_scatter: count is %lld for rank %d; it must be 0 or more",
                        (long long)counts[p], p);
  comm_device_t *device = comm_device_of(&c->base, send);
  int64_t ticket = 0;
  if (device != NULL) {
    SBAG_TRY(device->ops->reduce_scatter_begin(device, send, counts, recv, type, &ticket, status));
    return comm_mpi_request_of_device(c, device, ticket, request, status);
  }
  SBAG_TRY(comm_mpi_request_take(c, &r, status));
  r->kind = COMM_MPI_REDUCE_SCATTER;
  r->data = recv;
  r->element_bytes = comm_type_bytes(type);
  r->type = mpi_type(type);
  for (int p = 0; p < c->base.size; p++) {
    char *part = (char *)(uintptr_t)send + r->total * r->element_bytes; /* only read */
    r->flows[p] = (comm_mpi_flow_t){.data = part, .bytes = counts[p], .peer = p};
    r->total += counts[p];
  }
  SBAG_TRY(enqueue(c, r, status));
  *request = r;
  return SBAG_OK;
}

sbag_code_t comm_mpi_broadcast_begin(comm_mpi_t *c, void *data, int64_t bytes, int root,
                                     comm_request_t **request, sbag_status_t *status) {
  if (bytes < 0 || root < 0 || root >= c->base.size)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "broadcast: %lld bytes from root %d; bytes must be 0 or more and the root below %d",
                      (long long)bytes, root, c->base.size);
  comm_device_t *device = comm_device_of(&c->base, data);
  int64_t ticket = 0;
  if (device != NULL) {
    SBAG_TRY(device->ops->broadcast_begin(device, data, bytes, root, &ticket, status));
    return comm_mpi_request_of_device(c, device, ticket, request, status);
  }
  comm_request_t *r = NULL;
  SBAG_TRY(comm_mpi_request_take(c, &r, status));
  r->kind = COMM_MPI_BROADCAST;
  r->data = data;
  r->total = bytes;
  r->element_bytes = 1;
  r->type = MPI_BYTE;
  r->root = root;
  SBAG_TRY(enqueue(c, r, status));
  *request = r;
  return SBAG_OK;
}

sbag_code_t comm_mpi_collective_progress(comm_mpi_t *c, comm_request_t *r, int *moved,
                                         sbag_status_t *status) {
  int count = 0;
  SBAG_TRY(comm_mpi_request_poll(r, &count, status));
  r->pending -= count;
  if (count > 0) *moved = 1;
  SBAG_TRY(comm_mpi_collective_post(c, status));
  r->done = r->pending == 0 && r->posted == r->total;
  return SBAG_OK;
}
