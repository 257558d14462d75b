/* The same bytes without the exchange's work: see exchange_plain.h. */
#include "bench/exchange_plain.h"

#include "comm/comm_mpi.h"
#include <limits.h>
#include <string.h>

sbag_code_t bench_plain_create(comm_t *comm, mem_t *mem, int legs, bench_plain_t *plain,
                               sbag_status_t *status) {
  int64_t ranks = comm_size(comm);
  void *block = NULL;
  *plain = (bench_plain_t){.comm = comm,
                           .handle = ranks > 1 ? comm_mpi_handle(comm) : MPI_COMM_NULL,
                           .mem = mem,
                           .ranks = (int)ranks,
                           .legs = legs};
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(2 * ranks, sizeof *plain->parts), "bench: parts", &block, status));
  plain->parts = block;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(4 * ranks * legs, sizeof *plain->counts), "bench: counts", &block,
                      status));
  plain->counts = block;
  return SBAG_OK;
}

void bench_plain_destroy(bench_plain_t *plain) {
  void *const blocks[] = {plain->send, plain->recv, plain->copy, plain->parts, plain->counts};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(plain->mem, blocks[i]);
  *plain = (bench_plain_t){.handle = MPI_COMM_NULL};
}

/* Written once, so that its pages are there before a clock runs. */
static sbag_code_t grow(bench_plain_t *plain, char **block, int64_t bytes, sbag_status_t *status) {
  void *made = *block;
  SBAG_TRY(mem_realloc(plain->mem, (size_t)bytes, "bench: messages", &made, status));
  *block = made;
  memset(made, 1, (size_t)bytes);
  return SBAG_OK;
}

static sbag_code_t reserve(bench_plain_t *plain, int64_t send, int64_t recv, sbag_status_t *status) {
  if (send > plain->send_bytes) {
    SBAG_TRY(grow(plain, &plain->send, send + send / 4, status));
    plain->send_bytes = send + send / 4;
  }
  if (recv <= plain->recv_bytes) return SBAG_OK;
  SBAG_TRY(grow(plain, &plain->recv, recv + recv / 4, status));
  SBAG_TRY(grow(plain, &plain->copy, recv + recv / 4, status));
  plain->recv_bytes = recv + recv / 4;
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

sbag_code_t bench_plain_again(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status) {
  comm_part_t *send = plain->parts, *recv = send + plain->ranks;
  for (int m = 0; m < tap->count; m++) {
    int64_t sent = 0, received = 0;
    for (int p = 0; p < plain->ranks; p++) {
      int64_t at = (int64_t)m * plain->ranks + p;
      send[p] = (comm_part_t){tap->send[at] > 0 ? plain->send + sent : NULL, tap->send[at]};
      recv[p] = (comm_part_t){tap->recv[at] > 0 ? plain->recv + received : NULL, tap->recv[at]};
      sent += tap->send[at];
      received += tap->recv[at];
    }
    comm_request_t *request = NULL;
    SBAG_TRY(tap->real->exchange_begin(plain->comm, send, recv, &request, status));
    SBAG_TRY(comm_wait(plain->comm, &request, "bench: messages again", status));
    if (received > 0) memcpy(plain->copy, plain->recv, (size_t)received);
  }
  return SBAG_OK;
}

sbag_code_t bench_plain_alltoallv(bench_plain_t *plain, sbag_status_t *status) {
  int n = plain->ranks;
  for (int leg = 0; leg < plain->legs; leg++) {
    const int *counts = plain->counts + 4 * n * leg;
    if (MPI_Alltoallv(plain->send, counts, counts + n, MPI_BYTE, plain->recv, counts + 2 * n, counts + 3 * n,
                      MPI_BYTE, plain->handle) != MPI_SUCCESS)
      return status_set(status, SBAG_ERR_COMM, "bench: MPI_Alltoallv failed");
    int64_t received = (int64_t)counts[4 * n - 1] + counts[3 * n - 1];
    if (received > 0) memcpy(plain->copy, plain->recv, (size_t)received);
  }
  return SBAG_OK;
}
