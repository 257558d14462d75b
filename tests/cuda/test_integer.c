/* The integer ops of the GPU against the scalar reference. */
#include "cuda_case.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static cuda_case_t fixture;

static void set_up(void) {
  cuda_case_open(&fixture);
}

static void tear_down(void) {
  cuda_case_close(&fixture);
}

enum { MOST = 70000 };
static const int64_t counts[] = {0, 1, 31, 32, 33, 255, 256, 257, 1000, MOST};
enum { COUNTS = sizeof counts / sizeof counts[0] };

static int64_t *numbers(int64_t count, int64_t limit) {
  int64_t *made = malloc(((size_t)count + 1) * sizeof *made);
  ck_assert_ptr_nonnull(made);
  uint64_t state = 7;
  for (int64_t i = 0; i <= count; i++) made[i] = (int64_t)(cuda_case_random(&state) % (uint64_t)limit);
  return made;
}

/* The device's array is the expected one; one element more than `count` is compared: it stays as it was. */
static void expect(const int64_t *expected, void *device, int64_t count) {
  const size_t bytes = ((size_t)count + 1) * sizeof *expected;
  int64_t *got = malloc(bytes);
  ck_assert_ptr_nonnull(got);
  cuda_case_get(&fixture, got, device, bytes);
  for (int64_t i = 0; i <= count; i++)
    ck_assert_msg(got[i] == expected[i], "element %lld of %lld is %lld, not %lld", (long long)i,
                  (long long)count, (long long)got[i], (long long)expected[i]);
  free(got);
}

START_TEST(fill_is_the_reference) {
  const int64_t count = counts[_i];
  int64_t *host = numbers(count, 1000);
  void *device = cuda_case_put(&fixture, host, ((size_t)count + 1) * sizeof *host);
  fixture.cpu->ops->fill_i64(fixture.cpu, NULL, host, count, -5, INT64_C(3000000000));
  fixture.gpu->ops->fill_i64(fixture.gpu, NULL, device, count, -5, INT64_C(3000000000));
  expect(host, device, count);
  cuda_case_drop(&fixture, device);
  free(host);
}
END_TEST

START_TEST(gather_is_the_reference) {
  const int64_t count = counts[_i];
  const size_t bytes = ((size_t)count + 1) * sizeof(int64_t);
  int64_t *from = numbers(count, INT64_C(1) << 30), *index = numbers(count, count + 1),
          *to = numbers(count, 9);
  void *gpu_from = cuda_case_put(&fixture, from, bytes), *gpu_index = cuda_case_put(&fixture, index, bytes);
  void *gpu_to = cuda_case_put(&fixture, to, bytes);
  for (int with_index = 0; with_index < 2; with_index++) {
    fixture.cpu->ops->gather_i64(fixture.cpu, NULL, from, with_index ? index : NULL, count, 11, to);
    fixture.gpu->ops->gather_i64(fixture.gpu, NULL, gpu_from, with_index ? gpu_index : NULL, count, 11,
                                 gpu_to);
    expect(to, gpu_to, count);
  }
  cuda_case_drop(&fixture, gpu_from);
  cuda_case_drop(&fixture, gpu_index);
  cuda_case_drop(&fixture, gpu_to);
  free(from);
  free(index);
  free(to);
}
END_TEST

Suite *cuda_integer_suite(void);
Suite *cuda_integer_suite(void) {
  Suite *suite = suite_create("cuda integer");
  TCase *tests = tcase_create("integer");
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, fill_is_the_reference, 0, COUNTS);
  tcase_add_loop_test(tests, gather_is_the_reference, 0, COUNTS);
  suite_add_tcase(suite, tests);
  return suite;
}
