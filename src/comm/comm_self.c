/* A comm of one rank, without MPI: everything is done when it begins, unless it is the device's. */
#include "comm/device.h"

#include <sched.h>
#include <string.h>

/* All of a comm's operations share one: a wait for any of the device's is one for those before it too. */
struct comm_request {
  int64_t ticket; /* the last operation's of the device */
};

typedef struct self {
  comm_t base;
  comm_request_t request;
} self_t;

static sbag_code_t begun(comm_t *comm, comm_request_t **request) {
  *request = &((self_t *)(void *)comm)->request;
  return SBAG_OK;
}

static void self_fail(comm_t *comm, const sbag_status_t *cause) {
  if (comm->broken.code != SBAG_OK) return;
  comm->broken = comm_cause(comm, cause);
  if (comm->device != NULL) comm->device->ops->abort(comm->device);
}

static sbag_code_t give_up(comm_t *comm, const sbag_status_t *cause, sbag_status_t *status) {
  self_fail(comm, cause);
  return comm_check(comm, status);
}

/* `code` and `cause` are of the device's begin, which wrote the ticket. */
static sbag_code_t begun_by_device(comm_t *comm, sbag_code_t code, const sbag_status_t *cause,
                                   comm_request_t **request, sbag_status_t *status) {
  return code == SBAG_OK ? begun(comm, request) : give_up(comm, cause, status);
}

static int64_t *ticket_of(comm_t *comm) {
  return &((self_t *)(void *)comm)->request.ticket;
}

static sbag_code_t self_exchange_begin(comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                       comm_request_t **request, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  sbag_status_t cause;
  comm_device_t *device = NULL;
  SBAG_TRY(comm_check_parts(comm, send, recv, status));
  SBAG_TRY(comm_device_of_parts(comm, send, recv, &device, status));
  if (device != NULL) {
    sbag_code_t code = device->ops->exchange_begin(device, send, recv, ticket_of(comm), &cause);
    return begun_by_device(comm, code, &cause, request, status);
  }
  if (send->bytes > 0 && send->data != recv->data) memmove(recv->data, send->data, (size_t)send->bytes);
  return begun(comm, request);
}

static sbag_code_t self_allreduce_begin(comm_t *comm, void *data, int64_t count, comm_type_t type,
                                        comm_reduce_t op, comm_request_t **request, sbag_status_t *status) {
  (void)data;
  (void)type;
  (void)op;
  SBAG_TRY(comm_check(comm, status));
  if (count < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "allreduce: count is %lld; it must be 0 or more",
                      (long long)count);
  return begun(comm, request);
}

static sbag_code_t self_reduce_scatter_begin(comm_t *comm, const void *send, const int64_t *counts,
                                             void *recv, comm_type_t type, comm_request_t **request,
                                             sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  if (counts[0] < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "reduce_scatter: count is %lld; it must be 0 or more",
                      (long long)counts[0]);
  comm_device_t *device = comm_device_of(comm, send);
  sbag_status_t cause;
  if (device != NULL) {
    sbag_code_t code =
        device->ops->reduce_scatter_begin(device, send, counts, recv, type, ticket_of(comm), &cause);
    return begun_by_device(comm, code, &cause, request, status);
  }
  if (counts[0] > 0) memcpy(recv, send, (size_t)(counts[0] * comm_type_bytes(type)));
  return begun(comm, request);
}

static sbag_code_t self_broadcast_begin(comm_t *comm, void *data, int64_t bytes, int root,
                                        comm_request_t **request, sbag_status_t *status) {
  (void)data;
  SBAG_TRY(comm_check(comm, status));
  if (bytes < 0 || root != 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "broadcast: %lld bytes from root %d; bytes must be 0 or more and the root rank 0",
                      (long long)bytes, root);
  return begun(comm, request);
}

static sbag_code_t progress(comm_t *comm, int *done, sbag_status_t *status) {
  sbag_status_t cause;
  int moved = 0;
  SBAG_TRY(comm_check(comm, status));
  if (comm->device != NULL && comm->device->ops->progress(comm->device, &moved, &cause) != SBAG_OK)
    return give_up(comm, &cause, status);
  *done = comm->device == NULL || comm->device->ended >= *ticket_of(comm);
  return SBAG_OK;
}

static sbag_code_t self_test(comm_t *comm, comm_request_t *request, int *done, sbag_status_t *status) {
  (void)request;
  return progress(comm, done, status);
}

static sbag_code_t self_progress(comm_t *comm, sbag_status_t *status) {
  int done = 0;
  return progress(comm, &done, status);
}

/* There are no peers, and so no deadline: only a copy of the device's own can be under way. */
static sbag_code_t self_wait(comm_t *comm, comm_request_t **request, const char *what,
                             sbag_status_t *status) {
  (void)what;
  *request = NULL;
  int done = 0;
  for (;;) {
    SBAG_TRY(progress(comm, &done, status));
    if (done) return SBAG_OK;
    sched_yield();
  }
}

static void self_destroy(comm_t **comm) {
  mem_t *mem = (*comm)->mem;
  comm_clear(*comm);
  mem_free(mem, *comm);
  *comm = NULL;
}

static const comm_ops_t self_ops = {
    .name = "self",
    .exchange_begin = self_exchange_begin,
    .allreduce_begin = self_allreduce_begin,
    .reduce_scatter_begin = self_reduce_scatter_begin,
    .broadcast_begin = self_broadcast_begin,
    .test = self_test,
    .progress = self_progress,
    .wait = self_wait,
    .fail = self_fail,
    .destroy = self_destroy,
};

sbag_code_t comm_self_create(mem_t *mem, const comm_options_t *options, comm_t **comm,
                             sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(self_t), "comm: self", &block, status));
  comm_t *made = block;
  sbag_code_t code = comm_init(made, &self_ops, 0, 1, mem, options, status);
  if (code != SBAG_OK) {
    self_destroy(&made);
    return code;
  }
  *comm = made;
  return SBAG_OK;
}
