/* A comm of one rank, without MPI: everything is done when it begins. */
#include "comm/comm.h"

#include <string.h>

struct comm_request {
  char unused; /* nothing to remember; all of a comm's operations share one */
};

typedef struct self {
  comm_t base;
  comm_request_t request;
} self_t;

static sbag_code_t begun(comm_t *comm, comm_request_t **request) {
  *request = &((self_t *)(void *)comm)->request;
  return SBAG_OK;
}

static sbag_code_t self_exchange_begin(comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                       comm_request_t **request, sbag_status_t *status) {
  SBAG_TRY(comm_check(comm, status));
  if (send->bytes != recv->bytes || send->bytes < 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "exchange: rank 0 sends itself %lld bytes but expects %lld; they must be equal",
                      (long long)send->bytes, (long long)recv->bytes);
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

static sbag_code_t self_test(comm_t *comm, comm_request_t *request, int *done, sbag_status_t *status) {
  (void)request;
  SBAG_TRY(comm_check(comm, status));
  *done = 1;
  return SBAG_OK;
}

static sbag_code_t self_progress(comm_t *comm, sbag_status_t *status) {
  return comm_check(comm, status);
}

static sbag_code_t self_wait(comm_t *comm, comm_request_t **request, const char *what,
                             sbag_status_t *status) {
  (void)what;
  *request = NULL;
  return comm_check(comm, status);
}

static void self_fail(comm_t *comm, const sbag_status_t *cause) {
  if (comm->broken.code == SBAG_OK) comm->broken = comm_cause(comm, cause);
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
