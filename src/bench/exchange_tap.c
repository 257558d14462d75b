/* Functions that listen and pass on: see exchange_tap.h. */
#include "bench/exchange_tap.h"

#include "comm/device.h"
#include <time.h>

/* ---- messages ---- */

static void record(bench_comm_tap_t *tap, const comm_part_t *send, const comm_part_t *recv) {
  int ranks = comm_size(tap->comm), at = tap->count;
  if (at == BENCH_MESSAGES_MAX) {
    tap->lost++;
    return;
  }
  tap->legs[at] = tap->leg;
  tap->on_device[at] = 0;
  tap->count++;
  for (int p = 0; p < ranks; p++) {
    int other = p != comm_rank(tap->comm);
    tap->on_device[at] |= (send[p].bytes > 0 && comm_device_of(tap->comm, send[p].data) != NULL) ||
                          (recv[p].bytes > 0 && comm_device_of(tap->comm, recv[p].data) != NULL);
    tap->send[at * ranks + p] = other ? send[p].bytes : 0;
    tap->recv[at * ranks + p] = other ? recv[p].bytes : 0;
  }
}

static sbag_code_t tap_exchange_begin(comm_t *comm, const comm_part_t *send, const comm_part_t *recv,
                                      comm_request_t **request, sbag_status_t *status) {
  bench_comm_tap_t *tap = (bench_comm_tap_t *)(uintptr_t)comm->ops;
  record(tap, send, recv);
  return tap->real->exchange_begin(comm, send, recv, request, status);
}

sbag_code_t bench_comm_tap_open(comm_t *comm, mem_t *mem, bench_comm_tap_t *tap, sbag_status_t *status) {
  int64_t words = 2 * (int64_t)BENCH_MESSAGES_MAX * comm_size(comm);
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(words, sizeof(int64_t)), "bench: messages", &block, status));
  *tap = (bench_comm_tap_t){.ops = *comm->ops, .real = comm->ops, .comm = comm, .send = block};
  tap->recv = tap->send + words / 2;
  tap->ops.exchange_begin = tap_exchange_begin;
  comm->ops = &tap->ops;
  return SBAG_OK;
}

void bench_comm_tap_close(bench_comm_tap_t *tap) {
  if (tap->real == NULL) return;
  tap->comm->ops = tap->real;
  tap->real = NULL;
  mem_free(tap->comm->mem, tap->send);
}

void bench_comm_tap_clear(bench_comm_tap_t *tap) {
  tap->count = tap->lost = 0;
}

/* ---- the choice ---- */

double bench_core_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bench_kernel_tap_t *tap_of(const kernel_t *k) {
  return (bench_kernel_tap_t *)(uintptr_t)k->ops;
}

static bench_kernel_tap_t *chosen(const kernel_t *k) {
  bench_kernel_tap_t *tap = tap_of(k);
  if (tap->since_s > 0) tap->choice_s += bench_core_now() - tap->since_s;
  tap->since_s = 0;
  return tap;
}

static void tap_cover(kernel_t *k, kernel_stream_t *stream, const cover_request_t *request) {
  bench_kernel_tap_t *tap = tap_of(k);
  tap->since_s = bench_core_now();
  tap->real->cover(k, stream, request);
}
static void tap_key_classes(kernel_t *k, kernel_stream_t *stream, const int64_t *key_block, int64_t blocks,
                            const share_t *forward, const share_t *backward, const int64_t *row,
                            int64_t *bucket) {
  chosen(k)->real->key_classes(k, stream, key_block, blocks, forward, backward, row, bucket);
}
static void tap_fill_blocks(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *first,
                            const int64_t *step, int64_t blocks, int64_t *to) {
  chosen(k)->real->fill_blocks(k, stream, begin, first, step, blocks, to);
}
static void tap_pack(kernel_t *k, kernel_stream_t *stream, const pack_task_t *tasks, int64_t count) {
  chosen(k)->real->pack(k, stream, tasks, count);
}

void bench_kernel_tap_open(kernel_t *kernel, bench_kernel_tap_t *tap) {
  *tap = (bench_kernel_tap_t){.ops = *kernel->ops, .real = kernel->ops, .kernel = kernel};
  tap->ops.cover = tap_cover;
  tap->ops.key_classes = tap_key_classes;
  tap->ops.fill_blocks = tap_fill_blocks;
  tap->ops.pack = tap_pack;
  kernel->ops = &tap->ops;
}

void bench_kernel_tap_close(bench_kernel_tap_t *tap) {
  if (tap->real == NULL) return;
  tap->kernel->ops = tap->real;
  tap->real = NULL;
}
