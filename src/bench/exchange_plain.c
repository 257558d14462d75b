/* The same bytes without the exchange's work: see exchange_plain.h. */
#include "bench/exchange_plain.h"

#include "comm/comm_mpi.h"
#include <limits.h>
#include <string.h>

static void set_kind(bench_plain_side_t *side, kernel_memory_t kind) {
  side->send.kind = side->recv.kind = side->copy.kind = kind;
}

sbag_code_t bench_plain_create(comm_t *comm, kernel_t *kernel, int legs, bench_plain_t *plain,
                               sbag_status_t *status) {
  int64_t ranks = comm_size(comm);
  void *block = NULL;
  *plain = (bench_plain_t){.comm = comm,
                           .kernel = kernel,
                           .handle = ranks > 1 ? comm_mpi_handle(comm) : MPI_COMM_NULL,
                           .ranks = (int)ranks,
                           .legs = legs,
                           .on_device = kernel->ops->device == SBAG_DEVICE_CUDA};
  set_kind(&plain->host, MEMORY_HOST);
  set_kind(&plain->device, MEMORY_DEVICE);
  SBAG_TRY(mem_calloc(kernel->mem, mem_array_bytes(2 * ranks, sizeof *plain->parts), "bench: parts", &block,
                      status));
  plain->parts = block;
  SBAG_TRY(mem_calloc(kernel->mem, mem_array_bytes(4 * ranks * legs, sizeof *plain->counts), "bench: counts",
                      &block, status));
  plain->counts = block;
  return SBAG_OK;
}

void bench_plain_destroy(bench_plain_t *plain) {
  kernel_buffer_t *const buffers[] = {&plain->host.send,   &plain->host.recv,   &plain->host.copy,
                                      &plain->device.send, &plain->device.recv, &plain->device.copy};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) kernel_buffer_free(plain->kernel, buffers[i]);
  mem_free(plain->kernel->mem, plain->parts);
  mem_free(plain->kernel->mem, plain->counts);
  *plain = (bench_plain_t){.handle = MPI_COMM_NULL};
}

/* Written once, so that its pages are there before a clock runs. */
static sbag_code_t grow(bench_plain_t *plain, kernel_buffer_t *buffer, int64_t bytes, sbag_status_t *status) {
  kernel_t *k = plain->kernel;
  size_t had = buffer->bytes;
  SBAG_TRY(kernel_buffer_reserve(k, buffer, (size_t)bytes, "bench: messages", status));
  if (buffer->bytes == had) return SBAG_OK;
  if (buffer->kind == MEMORY_HOST)
    memset(buffer->data, 1, buffer->bytes);
  else
    k->ops->clear(k, NULL, buffer->data, (int64_t)buffer->bytes);
  return k->ops->stream_sync(k, NULL, status);
}

static sbag_code_t reserve(bench_plain_t *plain, int64_t send, int64_t recv, sbag_status_t *status) {
  bench_plain_side_t *const sides[] = {&plain->host, &plain->device};
  for (int i = 0; i < 1 + plain->on_device; i++) {
    SBAG_TRY(grow(plain, &sides[i]->send, send, status));
    SBAG_TRY(grow(plain, &sides[i]->recv, recv, status));
    SBAG_TRY(grow(plain, &sides[i]->copy, recv, status));
  }
  return SBAG_OK;
}

/* Bytes of a leg per peer; returns their sum. MPI 4.1's counts are int. */
static sbag_code_t sum_leg(const bench_plain_t *plain, const bench_comm_tap_t *tap, int leg,
                           const int64_t *bytes, int *counts, int64_t *total, sbag_status_t *status) {
  *total = 0;
  for (int p = 0; p < plain->ranks; p++) {
    int64_t sum = 0;
    for (int m = 0; m < tap->count; m++)
      if (tap->legs[m] == leg) sum += bytes[m * plain->ranks + p];
    if (*total + sum > INT_MAX)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "bench: a step sends more than 2 GiB, which MPI_Alltoallv cannot; a smaller batch or "
                        "fewer tables would do");
    counts[p] = (int)sum;
    counts[plain->ranks + p] = (int)*total;
    *total += sum;
  }
  return SBAG_OK;
}

sbag_code_t bench_plain_take(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status) {
  if (tap->lost > 0)
    return status_set(status, SBAG_ERR_STATE, "bench: a step sent %d messages; at most %d are kept",
                      tap->count + tap->lost, BENCH_MESSAGES_MAX);
  for (int leg = 0; leg < plain->legs; leg++) {
    int *counts = plain->counts + 4 * plain->ranks * leg;
    int64_t sent = 0, received = 0;
    SBAG_TRY(sum_leg(plain, tap, leg, tap->send, counts, &sent, status));
    SBAG_TRY(sum_leg(plain, tap, leg, tap->recv, counts + 2 * plain->ranks, &received, status));
    SBAG_TRY(reserve(plain, sent, received, status));
  }
  return SBAG_OK;
}

/* The pass over what came. */
static sbag_code_t pass(bench_plain_t *plain, const bench_plain_side_t *side, int64_t bytes,
                        sbag_status_t *status) {
  kernel_t *k = plain->kernel;
  const copy_part_t part = {side->copy.data, side->recv.data, bytes};
  if (bytes == 0) return SBAG_OK;
  if (side == &plain->host) {
    memcpy(side->copy.data, side->recv.data, (size_t)bytes);
    return SBAG_OK;
  }
  k->ops->copy(k, NULL, &part, 1);
  return k->ops->stream_sync(k, NULL, status);
}

/* A part of what is sent or comes, and *at moves behind it. */
static comm_part_t part_at(const kernel_buffer_t *buffer, int64_t bytes, int64_t *at) {
  comm_part_t part = {bytes > 0 ? (char *)buffer->data + *at : NULL, bytes};
  *at += bytes;
  return part;
}

sbag_code_t bench_plain_again(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status) {
  comm_part_t *send = plain->parts, *recv = send + plain->ranks;
  for (int m = 0; m < tap->count; m++) {
    bench_plain_side_t *side = tap->on_device[m] ? &plain->device : &plain->host;
    int64_t sent = 0, received = 0;
    for (int p = 0; p < plain->ranks; p++) {
      int64_t at = (int64_t)m * plain->ranks + p;
      send[p] = part_at(&side->send, tap->send[at], &sent);
      recv[p] = part_at(&side->recv, tap->recv[at], &received);
    }
    comm_request_t *request = NULL;
    SBAG_TRY(tap->real->exchange_begin(plain->comm, send, recv, &request, status));
    SBAG_TRY(comm_wait(plain->comm, &request, "bench: messages again", status));
    SBAG_TRY(pass(plain, side, received, status));
  }
  return SBAG_OK;
}

/* A leg on the device. */
static sbag_code_t exchange_leg(bench_plain_t *plain, const int *counts, sbag_status_t *status) {
  comm_part_t *send = plain->parts, *recv = send + plain->ranks;
  int64_t sent = 0, received = 0;
  for (int p = 0; p < plain->ranks; p++) {
    send[p] = part_at(&plain->device.send, counts[p], &sent);
    recv[p] = part_at(&plain->device.recv, counts[2 * plain->ranks + p], &received);
  }
  SBAG_TRY(comm_exchange(plain->comm, send, recv, "bench: plain messages", status));
  return pass(plain, &plain->device, received, status);
}

sbag_code_t bench_plain_alltoall(bench_plain_t *plain, sbag_status_t *status) {
  int n = plain->ranks;
  for (int leg = 0; leg < plain->legs; leg++) {
    const int *counts = plain->counts + 4 * n * leg;
    if (plain->on_device) {
      SBAG_TRY(exchange_leg(plain, counts, status));
      continue;
    }
    const bench_plain_side_t *host = &plain->host;
    if (MPI_Alltoallv(host->send.data, counts, counts + n, MPI_BYTE, host->recv.data, counts + 2 * n,
                      counts + 3 * n, MPI_BYTE, plain->handle) != MPI_SUCCESS)
      return status_set(status, SBAG_ERR_COMM, "bench: MPI_Alltoallv failed");
    SBAG_TRY(pass(plain, host, (int64_t)counts[4 * n - 1] + counts[3 * n - 1], status));
  }
  return SBAG_OK;
}
