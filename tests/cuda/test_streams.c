/* Streams, events, memory and devices of the stand-in for the CUDA runtime. With EMU_STREAMS=lazy
 * what nobody waits for has not happened; both ways, what is waited for has. */
#include "probe.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 64 };

static int is_lazy(void) {
  const char *how = getenv("EMU_STREAMS");
  return how != NULL && strcmp(how, "lazy") == 0;
}

static cudaStream_t first, second;
static cudaEvent_t event;
static float *from, *to, *copy;

static void set_up(void) {
  ck_assert_int_eq(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), cudaSuccess);
  ck_assert_int_eq(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  ck_assert_int_eq(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ck_assert_int_eq(cudaMalloc((void **)&from, COUNT * sizeof *from), cudaSuccess);
  ck_assert_int_eq(cudaMalloc((void **)&to, COUNT * sizeof *to), cudaSuccess);
  ck_assert_int_eq(cudaHostAlloc((void **)&copy, COUNT * sizeof *copy, cudaHostAllocDefault), cudaSuccess);
  for (int i = 0; i < COUNT; i++) from[i] = (float)i;
  memset(to, 0, COUNT * sizeof *to);
}

static void tear_down(void) {
  ck_assert_int_eq(cudaEventDestroy(event), cudaSuccess);
  ck_assert_int_eq(cudaStreamDestroy(first), cudaSuccess);
  ck_assert_int_eq(cudaStreamDestroy(second), cudaSuccess);
  ck_assert_int_eq(cudaFree(from), cudaSuccess);
  ck_assert_int_eq(cudaFree(to), cudaSuccess);
  ck_assert_int_eq(cudaFreeHost(copy), cudaSuccess);
}

/* A kernel on one stream, its result copied on another, with and without the wait between. */
static float copied(int waits) {
  ck_assert_int_eq(probe_vectors(from, COUNT, to, first), cudaSuccess);
  ck_assert_int_eq(cudaEventRecord(event, first), cudaSuccess);
  if (waits) ck_assert_int_eq(cudaStreamWaitEvent(second, event, 0), cudaSuccess);
  ck_assert_int_eq(cudaMemcpyAsync(copy, to, COUNT * sizeof *to, cudaMemcpyDeviceToHost, second),
                   cudaSuccess);
  ck_assert_int_eq(cudaStreamSynchronize(second), cudaSuccess);
  return copy[COUNT - 1];
}

START_TEST(a_stream_waits_for_an_event) {
  ck_assert_float_eq(copied(1), 2.0f * (COUNT - 1));
}
END_TEST

START_TEST(a_missing_wait_shows_where_streams_are_lazy) {
  ck_assert_float_eq(copied(0), is_lazy() ? 0.0f : 2.0f * (COUNT - 1));
}
END_TEST

START_TEST(an_event_that_is_polled_comes) {
  ck_assert_int_eq(probe_vectors(from, COUNT, to, first), cudaSuccess);
  ck_assert_int_eq(cudaEventRecord(event, first), cudaSuccess);
  int polls = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady) ck_assert_int_lt(++polls, 10);
  ck_assert_int_eq(polls, is_lazy() ? 1 : 0);
  ck_assert_float_eq(to[1], 2.0f);
}
END_TEST

/* The default stream waits for streams that are not non-blocking, and only for them. */
START_TEST(the_default_stream_waits_for_blocking_ones) {
  cudaStream_t blocking;
  ck_assert_int_eq(cudaStreamCreate(&blocking), cudaSuccess);
  ck_assert_int_eq(probe_vectors(from, COUNT / 2, to, blocking), cudaSuccess);
  ck_assert_int_eq(probe_vectors(from + COUNT / 2, COUNT / 2, to + COUNT / 2, first), cudaSuccess);
  ck_assert_int_eq(cudaMemcpy(copy, to, COUNT * sizeof *to, cudaMemcpyDeviceToHost), cudaSuccess);
  ck_assert_float_eq(copy[1], 2.0f);
  ck_assert_float_eq(copy[COUNT - 1], is_lazy() ? 0.0f : 2.0f * (COUNT - 1));
  ck_assert_int_eq(cudaStreamDestroy(blocking), cudaSuccess);
}
END_TEST

START_TEST(memory_has_an_end) {
  size_t free_bytes = 0, total_bytes = 0;
  void *block = from;
  setenv("EMU_MEMORY", "1000000", 1);
  ck_assert_int_eq(cudaMalloc(&block, 2000000), cudaErrorMemoryAllocation);
  ck_assert_ptr_null(block);
  ck_assert_int_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
  ck_assert_int_eq(cudaGetLastError(), cudaSuccess);
  ck_assert_int_eq(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  ck_assert_uint_eq(total_bytes, 1000000);
  ck_assert_uint_eq(free_bytes, 1000000 - 2 * COUNT * sizeof *from);
  unsetenv("EMU_MEMORY");
}
END_TEST

START_TEST(devices_may_be_missing) {
  int count = -1;
  setenv("EMU_DEVICES", "0", 1);
  ck_assert_int_eq(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  setenv("EMU_DEVICES", "-35", 1);
  ck_assert_int_eq(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  setenv("EMU_DEVICES", "4", 1);
  ck_assert_int_eq(cudaGetDeviceCount(&count), cudaSuccess);
  ck_assert_int_eq(count, 4);
  ck_assert_int_eq(cudaSetDevice(4), cudaErrorInvalidDevice);
  unsetenv("EMU_DEVICES");
}
END_TEST

Suite *cuda_streams_suite(void);
Suite *cuda_streams_suite(void) {
  Suite *suite = suite_create("cuda streams");
  TCase *tests = tcase_create("streams");
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, a_stream_waits_for_an_event);
  tcase_add_test(tests, a_missing_wait_shows_where_streams_are_lazy);
  tcase_add_test(tests, an_event_that_is_polled_comes);
  tcase_add_test(tests, the_default_stream_waits_for_blocking_ones);
  tcase_add_test(tests, memory_has_an_end);
  tcase_add_test(tests, devices_may_be_missing);
  suite_add_tcase(suite, tests);
  return suite;
}
