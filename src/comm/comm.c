/* What every comm can do on top of its table of operations: blocking forms, gathers, and the agreement of all
 * ranks on an outcome. Knows no transport. */
#include "comm/comm.h"
#include "base/clock.h"
#include "comm/device.h"

#include <string.h>

static const int64_t default_chunk_bytes = (int64_t)64 << 20;
/* Looks at MPI's queues: some microseconds each, and on a core that others want too, where MPI yields it,
 * much more. They are this far apart, and take so small a part of the time. */
static const double look_every_s = 50e-6, look_share = 0.05;
static const int64_t largest_chunk_bytes = (int64_t)1 << 30;

static sbag_code_t take_options(comm_t *comm, const comm_options_t *options, sbag_status_t *status) {
  if (options != NULL) comm->options = *options;
  int64_t chunk = comm->options.chunk_bytes;
  if (chunk < 0 || chunk > largest_chunk_bytes)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "comm: chunk_bytes is %lld; it must be 1 to 2^30, or 0 for the default",
                      (long long)chunk);
  if (!(comm->options.timeout_s >= 0.0))
    return status_set(status, SBAG_ERR_ARGUMENT, "comm: timeout_s is %g; it must be 0 (none) or more seconds",
                      comm->options.timeout_s);
  if (chunk == 0) comm->options.chunk_bytes = default_chunk_bytes;
  return SBAG_OK;
}

/* A function of its own, so that a leak checker can be told by its name that the wire may stay behind. */
static sbag_code_t comm_wire_create(comm_t *comm, sbag_status_t *status) {
  void *block = NULL;
  size_t places = mem_array_bytes(comm->size, sizeof(comm_place_t));
  SBAG_TRY(mem_calloc(comm->mem, sizeof(comm_wire_t) + places, "comm: wire", &block, status));
  comm->wire = block;
  return SBAG_OK;
}

sbag_code_t comm_init(comm_t *comm, const comm_ops_t *ops, int rank, int size, mem_t *mem,
                      const comm_options_t *options, sbag_status_t *status) {
  comm->ops = ops;
  comm->rank = rank;
  comm->size = size;
  comm->mem = mem;
  SBAG_TRY(take_options(comm, options, status));
  status_clear(&comm->broken);
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(2 * (int64_t)size, sizeof(comm_part_t)), "comm: parts", &block,
                      status));
  comm->parts = block;
  return comm_wire_create(comm, status);
}

void comm_clear(comm_t *comm) {
  if (comm->device != NULL) comm->device->ops->destroy(&comm->device);
  mem_free(comm->mem, comm->parts);
  mem_free(comm->mem, comm->wire);
  comm->parts = NULL;
  comm->wire = NULL;
}

sbag_code_t comm_check(const comm_t *comm, sbag_status_t *status) {
  if (comm->broken.code != SBAG_OK && status != NULL) *status = comm->broken;
  return comm->broken.code;
}

sbag_status_t comm_cause(const comm_t *comm, const sbag_status_t *cause) {
  sbag_status_t named;
  status_clear(&named);
  if (cause == NULL || cause->code == SBAG_OK)
    status_set(&named, SBAG_ERR_COMM, "gave up without a reason");
  else
    named = *cause;
  if (named.rank < 0) {
    if (comm->size > 1) status_prefix(&named, "rank %d", comm->rank);
    named.rank = comm->rank;
  }
  return named;
}

int64_t comm_type_bytes(comm_type_t type) {
  switch (type) {
  case COMM_U8:
    return 1;
  case COMM_I32:
  case COMM_F32:
    return 4;
  case COMM_I64:
  case COMM_F64:
    break;
  }
  return 8;
}

sbag_code_t comm_check_parts(const comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                             sbag_status_t *status) {
  for (int p = 0; p < comm->size; p++)
    if (send[p].bytes < 0 || recv[p].bytes < 0)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "exchange: %lld bytes to and %lld bytes from rank %d; both must be 0 or more",
                        (long long)send[p].bytes, (long long)recv[p].bytes, p);
  int me = comm->rank;
  if (send[me].bytes != recv[me].bytes)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "exchange: rank %d sends itself %lld bytes but expects %lld; they must be equal", me,
                      (long long)send[me].bytes, (long long)recv[me].bytes);
  return SBAG_OK;
}

comm_device_t *comm_device_of(const comm_t *comm, const void *data) {
  comm_device_t *device = comm->device;
  return device != NULL && data != NULL && device->ops->owns(device, data) ? device : NULL;
}

/* One question a side is enough, as its parts are all of one kind. */
static const void *first_data(const comm_t *comm, const comm_part_t *parts) {
  for (int p = 0; p < comm->size; p++)
    if (parts[p].bytes > 0) return parts[p].data;
  return NULL;
}

sbag_code_t comm_device_of_parts(const comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                 comm_device_t **device, sbag_status_t *status) {
  *device = NULL;
  if (comm->device == NULL) return SBAG_OK;
  const void *from = first_data(comm, send), *to = first_data(comm, recv);
  *device = comm_device_of(comm, from != NULL ? from : to);
  if (from != NULL && to != NULL && comm_device_of(comm, to) != *device)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "exchange: one side is the host's memory and the other the device's; they must be of one "
        "kind");
  return SBAG_OK;
}

sbag_code_t comm_wait(comm_t *comm, comm_request_t **request, const char *what, sbag_status_t *status) {
  return comm->ops->wait(comm, request, what, status);
}

sbag_code_t comm_progress(comm_t *comm, sbag_status_t *status) {
  if (comm->trace.under_way == 0) return comm_check(comm, status);
  double now_s = clock_now();
  if (now_s < comm->next_look_s) return SBAG_OK;
  const char *phase = comm_trace_phase(&comm->trace, comm_trace_progress);
  sbag_code_t code = comm->ops->progress(comm, status);
  comm_trace_phase(&comm->trace, phase);
  double end_s = clock_now(), rest_s = (end_s - now_s) / look_share;
  comm->next_look_s = end_s + (rest_s > look_every_s ? rest_s : look_every_s);
  return code;
}

sbag_code_t comm_exchange(comm_t *comm, const comm_part_t *send, const comm_part_t *recv, const char *what,
                          sbag_status_t *status) {
  comm_request_t *request = NULL;
  SBAG_TRY(comm->ops->exchange_begin(comm, send, recv, &request, status));
  return comm_wait(comm, &request, what, status);
}

sbag_code_t comm_allreduce(comm_t *comm, void *data, int64_t count, comm_type_t type, comm_reduce_t op,
                           const char *what, sbag_status_t *status) {
  comm_request_t *request = NULL;
  SBAG_TRY(comm->ops->allreduce_begin(comm, data, count, type, op, &request, status));
  return comm_wait(comm, &request, what, status);
}

sbag_code_t comm_broadcast(comm_t *comm, void *data, int64_t bytes, int root, const char *what,
                           sbag_status_t *status) {
  comm_request_t *request = NULL;
  SBAG_TRY(comm->ops->broadcast_begin(comm, data, bytes, root, &request, status));
  return comm_wait(comm, &request, what, status);
}

sbag_code_t comm_barrier(comm_t *comm, const char *what, sbag_status_t *status) {
  comm->wire->vote = 0;
  return comm_allreduce(comm, &comm->wire->vote, 1, COMM_I32, COMM_MAX, what, status);
}

sbag_code_t comm_allgather(comm_t *comm, const void *mine, int64_t bytes, void *all, const char *what,
                           sbag_status_t *status) {
  comm_part_t *send = comm->parts, *recv = comm->parts + comm->size;
  for (int p = 0; p < comm->size; p++) {
    send[p] = (comm_part_t){.data = (void *)(uintptr_t)mine, .bytes = bytes}; /* only read */
    recv[p] = (comm_part_t){.data = (char *)all + p * bytes, .bytes = bytes};
  }
  return comm_exchange(comm, send, recv, what, status);
}

sbag_code_t comm_allgatherv(comm_t *comm, const void *mine, const int64_t *counts, void *all,
                            const char *what, sbag_status_t *status) {
  comm_part_t *send = comm->parts, *recv = comm->parts + comm->size;
  int64_t first = 0;
  for (int p = 0; p < comm->size; p++) {
    send[p] = (comm_part_t){.data = (void *)(uintptr_t)mine, .bytes = counts[comm->rank]};
    recv[p] = (comm_part_t){.data = counts[p] > 0 ? (char *)all + first : NULL, .bytes = counts[p]};
    first += counts[p];
  }
  return comm_exchange(comm, send, recv, what, status);
}

sbag_code_t comm_agree(comm_t *comm, sbag_code_t mine, sbag_status_t *status) {
  sbag_status_t cause;
  status_clear(&cause);
  if (mine != SBAG_OK) {
    if (status != NULL && status->code == mine)
      cause = *status;
    else
      status_set(&cause, mine, "error: %s", sbag_code_name(mine));
    cause = comm_cause(comm, &cause);
  }
  comm_wire_t *wire = comm->wire;
  wire->vote = mine == SBAG_OK ? comm->size : comm->rank;
  SBAG_TRY(comm_allreduce(comm, &wire->vote, 1, COMM_I32, COMM_MIN, "agreement", status));
  int lowest = wire->vote;
  if (lowest == comm->size) return SBAG_OK;
  wire->cause = cause;
  SBAG_TRY(comm_broadcast(comm, &wire->cause, (int64_t)sizeof wire->cause, lowest, "agreement", status));
  if (status != NULL) *status = wire->cause;
  return wire->cause.code;
}

void comm_fail(comm_t *comm, const sbag_status_t *cause) {
  comm->ops->fail(comm, cause);
}

sbag_code_t comm_fail_by(comm_t *comm, sbag_code_t code, const sbag_status_t *cause, sbag_status_t *status) {
  if (code == SBAG_OK) return SBAG_OK;
  comm_fail(comm, cause);
  return comm_check(comm, status);
}

void comm_destroy(comm_t **comm) {
  if (comm == NULL || *comm == NULL) return;
  (*comm)->ops->destroy(comm);
}
