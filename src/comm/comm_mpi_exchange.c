/* The exchange over MPI: point-to-point messages of at most chunk_bytes, a window of them per peer and way.
 *
 * All chunks of one exchange have its tag; MPI keeps the order of messages of one source and tag, so the
 * chunks need no numbers. Receives are posted before sends, and peers are visited in a staggered order, so
 * that not all ranks send to rank 0 first. */
#include "comm/comm_mpi_impl.h"

#include <string.h>

static sbag_code_t post_chunk(comm_mpi_t *c, comm_request_t *r, int slot, int flow_index,
                              sbag_status_t *status) {
  comm_mpi_flow_t *flow = &r->flows[flow_index];
  int64_t left = flow->bytes - flow->posted;
  int bytes = (int)(left < c->base.options.chunk_bytes ? left : c->base.options.chunk_bytes);
  char *at = flow->data + flow->posted;
  MPI_Request *request = &r->requests[slot];
  if (flow->receives)
    SBAG_TRY(comm_mpi_check(MPI_Irecv(at, bytes, MPI_BYTE, flow->peer, r->tag, c->data, request), "MPI_Irecv",
                            status));
  else
    SBAG_TRY(comm_mpi_check(MPI_Isend(at, bytes, MPI_BYTE, flow->peer, r->tag, c->data, request), "MPI_Isend",
                            status));
  r->slots[slot] = (comm_mpi_slot_t){.flow = flow_index, .bytes = bytes};
  r->pending++;
  flow->posted += bytes;
  return SBAG_OK;
}

static sbag_code_t open_flow(comm_mpi_t *c, comm_request_t *r, const comm_part_t *part, int peer,
                             int receives, sbag_status_t *status) {
  if (part->bytes == 0) return SBAG_OK;
  int index = r->flow_count++;
  r->flows[index] =
      (comm_mpi_flow_t){.data = part->data, .bytes = part->bytes, .peer = peer, .receives = receives};
  for (int i = 0; i < COMM_MPI_WINDOW && r->flows[index].posted < part->bytes; i++)
    SBAG_TRY(post_chunk(c, r, r->slot_count++, index, status));
  return SBAG_OK;
}

sbag_code_t comm_mpi_exchange_begin(comm_mpi_t *c, const comm_part_t *send, const comm_part_t *recv,
                                    comm_request_t **request, sbag_status_t *status) {
  comm_request_t *r = NULL;
  comm_device_t *device = NULL;
  int64_t ticket = 0;
  SBAG_TRY(comm_check_parts(&c->base, send, recv, status));
  SBAG_TRY(comm_device_of_parts(&c->base, send, recv, &device, status));
  /* Also for the device's: a rank with nothing to send or receive can't tell whose the others' memory is, and
   * its tags must stay in step with theirs. */
  const int tag = (int)(c->sequence++ % c->tag_count);
  if (device != NULL) {
    SBAG_TRY(device->ops->exchange_begin(device, send, recv, &ticket, status));
    return comm_mpi_request_of_device(c, device, ticket, request, status);
  }
  SBAG_TRY(comm_mpi_request_take(c, &r, status));
  r->kind = COMM_MPI_EXCHANGE;
  r->tag = tag;
  int me = c->base.rank, size = c->base.size;
  for (int k = 1; k < size; k++) {
    int from = (me + size - k) % size;
    SBAG_TRY(open_flow(c, r, &recv[from], from, 1, status));
  }
  for (int k = 1; k < size; k++) {
    int to = (me + k) % size;
    SBAG_TRY(open_flow(c, r, &send[to], to, 0, status));
  }
  if (send[me].bytes > 0 && send[me].data != recv[me].data)
    memmove(recv[me].data, send[me].data, (size_t)send[me].bytes);
  r->done = r->pending == 0;
  *request = r;
  return SBAG_OK;
}

/* A shorter message than expected completes without an error in MPI, but the two ranks then disagree on the
 * byte counts. (A longer one is MPI's truncation error.) */
static sbag_code_t finish_chunk(comm_request_t *r, const MPI_Status *message, int slot,
                                sbag_status_t *status) {
  comm_mpi_flow_t *flow = &r->flows[r->slots[slot].flow];
  int expected = r->slots[slot].bytes;
  r->pending--;
  flow->moved += expected;
  if (!flow->receives) return SBAG_OK;
  int bytes = 0;
  SBAG_TRY(comm_mpi_check(MPI_Get_count(message, MPI_BYTE, &bytes), "MPI_Get_count", status));
  if (bytes != expected)
    return status_set(status, SBAG_ERR_COMM,
                      "exchange: rank %d sent a message of %d bytes where %d of %lld were expected; its send "
                      "and the receive must agree",
                      flow->peer, bytes, expected, (long long)flow->bytes);
  return SBAG_OK;
}

sbag_code_t comm_mpi_exchange_progress(comm_mpi_t *c, comm_request_t *r, int *moved, sbag_status_t *status) {
  int count = 0;
  SBAG_TRY(comm_mpi_request_poll(r, &count, status));
  for (int i = 0; i < count; i++) {
    int slot = r->finished[i], index = r->slots[slot].flow;
    SBAG_TRY(finish_chunk(r, &r->statuses[i], slot, status));
    if (r->flows[index].posted < r->flows[index].bytes) SBAG_TRY(post_chunk(c, r, slot, index, status));
  }
  if (count > 0) *moved = 1;
  r->done = r->pending == 0;
  return SBAG_OK;
}
