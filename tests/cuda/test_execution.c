/* What executes kernels on the CPU: its primitives do what CUDA's do, and a kernel that breaks a rule ends
 * with a message that names file and line. What a sanitizer must see is tried in a process of its own. */
#include "probe.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

static void *device(size_t bytes) {
  void *block = NULL;
  ck_assert_int_eq(cudaMalloc(&block, bytes), cudaSuccess);
  return block;
}

START_TEST(blocks_sum_by_shuffles_and_shared_memory) {
  enum { BLOCKS = 5, COUNT = BLOCKS * 256 };
  int64_t *values = device(COUNT * sizeof *values), *sum = device(BLOCKS * sizeof *sum);
  for (int i = 0; i < COUNT; i++) values[i] = ((int64_t)i << 20) - i % 7;
  ck_assert_int_eq(probe_sum(values, BLOCKS, sum, NULL), cudaSuccess);
  for (int b = 0; b < BLOCKS; b++) {
    int64_t expected = 0;
    for (int i = 0; i < 256; i++) expected += values[b * 256 + i];
    ck_assert_int_eq(sum[b], expected);
  }
  cudaFree(values);
  cudaFree(sum);
}
END_TEST

START_TEST(atomics_count) {
  enum { COUNT = 1000 };
  int64_t *values = device(COUNT * sizeof *values), *histogram = device(8 * sizeof *histogram);
  for (int i = 0; i < COUNT; i++) values[i] = i * i;
  int64_t expected[8] = {0};
  for (int i = 0; i < COUNT; i++) expected[values[i] % 8]++;
  ck_assert_int_eq(cudaMemset(histogram, 0, 8 * sizeof *histogram), cudaSuccess);
  ck_assert_int_eq(probe_histogram(values, COUNT, histogram, NULL), cudaSuccess);
  ck_assert_mem_eq(histogram, expected, sizeof expected);
  cudaFree(values);
  cudaFree(histogram);
}
END_TEST

START_TEST(warp_primitives) {
  int64_t *out = device(32 * PROBE_WORDS * sizeof *out);
  ck_assert_int_eq(probe_warp(out, NULL), cudaSuccess);
  for (int lane = 0; lane < 32; lane++) {
    const int64_t *mine = out + (ptrdiff_t)lane * PROBE_WORDS;
    ck_assert_int_eq(mine[0], 0xaaaaaaaa);
    ck_assert_int_eq(mine[1], INT64_C(15) << (lane / 4 * 4));
    ck_assert_int_eq(mine[2], (int64_t)(lane < 31 ? lane + 1 : 31) << 33);
    ck_assert_int_eq(mine[3], lane % 8 < 2 ? lane : lane - 2);
    ck_assert_int_eq(mine[4], -16);
    ck_assert_int_eq(mine[5], -16);
    ck_assert_int_eq(mine[6], 15);
    ck_assert_int_eq(mine[7], 10);
  }
  cudaFree(out);
}
END_TEST

START_TEST(vectors_of_four) {
  enum { COUNT = 1000 };
  float *from = device(COUNT * sizeof *from), *to = device(COUNT * sizeof *to);
  for (int i = 0; i < COUNT; i++) from[i] = (float)i / 3;
  ck_assert_int_eq(probe_vectors(from, COUNT, to, NULL), cudaSuccess);
  for (int i = 0; i < COUNT; i++) ck_assert_float_eq(to[i], from[i] * 2);
  cudaFree(from);
  cudaFree(to);
}
END_TEST

START_TEST(much_shared_memory_is_asked_for) {
  enum { MUCH = 100 << 10, TOO_MUCH = 200 << 10 };
  int64_t *out = device(sizeof *out);
  ck_assert_int_eq(probe_dynamic(1000, 0, out, NULL), cudaSuccess);
  ck_assert_int_eq(*out, 333 * 3);
  ck_assert_int_eq(probe_dynamic(MUCH, 0, out, NULL), cudaErrorInvalidValue);
  ck_assert_int_eq(probe_dynamic(MUCH, MUCH, out, NULL), cudaSuccess);
  ck_assert_int_eq(*out, MUCH - 1);
  ck_assert_int_eq(probe_dynamic(TOO_MUCH, TOO_MUCH, out, NULL), cudaErrorInvalidValue);
  cudaFree(out);
}
END_TEST

/* All warps come once; with a seed, in another order. */
START_TEST(seeds_change_the_order) {
  enum { BLOCKS = 8, WARPS = 4 * BLOCKS };
  int *next = device(sizeof *next), *out = device(WARPS * sizeof *out), first[WARPS];
  int changed = 0;
  for (int seed = 0; seed < 4; seed++) {
    char text[8];
    snprintf(text, sizeof text, "%d", seed);
    setenv("EMU_SEED", text, 1);
    *next = 0;
    ck_assert_int_eq(probe_order(BLOCKS, next, out, NULL), cudaSuccess);
    ck_assert_int_eq(*next, WARPS);
    int64_t seen = 0;
    for (int i = 0; i < WARPS; i++) seen |= INT64_C(1) << out[i];
    ck_assert_int_eq(seen, (INT64_C(1) << WARPS) - 1);
    if (seed == 0)
      memcpy(first, out, sizeof first);
    else
      changed += memcmp(first, out, sizeof first) != 0;
  }
  ck_assert_int_eq(changed, 3);
  cudaFree(next);
  cudaFree(out);
}
END_TEST

/* ---- rules ---- */

/* Runs the faulty kernel in a child: its exit status, and what it wrote on stderr. */
static int run_fault(probe_fault_t fault, char *said, size_t bytes) {
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  const pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    int64_t *values = NULL;
    if (cudaMalloc((void **)&values, 64 * sizeof *values) != cudaSuccess) _exit(3);
    memset(values, 0, 64 * sizeof *values);
    const int error = probe_fault(fault, values, NULL) != cudaSuccess;
    cudaFree(values);
    exit(error);
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t got; length + 1 < bytes && (got = read(ends[0], said + length, bytes - 1 - length)) > 0;)
    length += (size_t)got;
  said[length] = '\0';
  close(ends[0]);
  int status = 0;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  return status;
}

typedef struct rule {
  probe_fault_t fault;
  const char *says;
} rule_t;

static const rule_t rules[] = {
    {FAULT_DIVERGENT_BARRIER, "divergent barrier"},
    {FAULT_TWO_BARRIERS, "others of its block at the barrier of"},
    {FAULT_LANE_ENDED, "names lanes that have ended"},
    {FAULT_LANE_ENDS, "ends, but other lanes wait for it"},
    {FAULT_MASK_WITHOUT_CALLER, "is not in its own mask"},
    {FAULT_MASK_TOO_WIDE, "that the block does not have"},
    {FAULT_TWO_PRIMITIVES, "at another warp primitive"},
};
enum { RULES = sizeof rules / sizeof rules[0] };

START_TEST(a_broken_rule_is_told) {
  static char said[65536];
  const int status = run_fault(rules[_i].fault, said, sizeof said);
  ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) != 0, "fault %d went unnoticed", rules[_i].fault);
  ck_assert_msg(strstr(said, rules[_i].says) != NULL, "fault %d said: %s", rules[_i].fault, said);
  ck_assert_msg(strstr(said, "probe.cu:") != NULL, "fault %d did not say where: %s", rules[_i].fault, said);
}
END_TEST

START_TEST(a_kernel_that_breaks_none_runs) {
  static char said[65536];
  const int status = run_fault(FAULT_NONE, said, sizeof said);
  ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it said: %s", said);
}
END_TEST

#if defined(UNDER_ASAN) || defined(UNDER_TSAN)
static void expect_sanitizer(probe_fault_t fault, const char *says) {
  static char said[65536];
  const int status = run_fault(fault, said, sizeof said);
  ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) != 0, "fault %d went unnoticed: %s", fault, said);
  ck_assert_msg(strstr(said, says) != NULL, "fault %d said: %s", fault, said);
}
#endif

#ifdef UNDER_ASAN
START_TEST(address_sanitizer_sees_overruns) {
  expect_sanitizer(FAULT_SHARED_OVERRUN, "heap-buffer-overflow");
  expect_sanitizer(FAULT_GLOBAL_OVERRUN, "heap-buffer-overflow");
}
END_TEST
#endif

#ifdef UNDER_TSAN
START_TEST(thread_sanitizer_sees_races) {
  expect_sanitizer(FAULT_NO_BARRIER, "data race");
  setenv("EMU_XBLOCK", "1", 1);
  expect_sanitizer(FAULT_BETWEEN_BLOCKS, "data race");
  unsetenv("EMU_XBLOCK");
  static char said[65536];
  const int status = run_fault(FAULT_BETWEEN_BLOCKS, said, sizeof said);
  ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "blocks that take turns: %s", said);
}
END_TEST
#endif

Suite *cuda_execution_suite(void);
Suite *cuda_execution_suite(void) {
  Suite *suite = suite_create("cuda execution");
  TCase *tests = tcase_create("execution");
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, blocks_sum_by_shuffles_and_shared_memory);
  tcase_add_test(tests, atomics_count);
  tcase_add_test(tests, warp_primitives);
  tcase_add_test(tests, vectors_of_four);
  tcase_add_test(tests, much_shared_memory_is_asked_for);
  tcase_add_test(tests, seeds_change_the_order);
  tcase_add_loop_test(tests, a_broken_rule_is_told, 0, RULES);
  tcase_add_test(tests, a_kernel_that_breaks_none_runs);
#ifdef UNDER_ASAN
  tcase_add_test(tests, address_sanitizer_sees_overruns);
#endif
#ifdef UNDER_TSAN
  tcase_add_test(tests, thread_sanitizer_sees_races);
#endif
  suite_add_tcase(suite, tests);
  return suite;
}
