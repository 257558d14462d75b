/* The comm of one rank. */
#include "comm/comm.h"

#include <check.h>
#include <string.h>

typedef struct fixture {
  mem_t *mem;
  comm_t *comm;
} fixture_t;

static fixture_t fixture_open(void) {
  fixture_t f = {NULL, NULL};
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&f.mem, &status), SBAG_OK);
  ck_assert_int_eq(comm_self_create(f.mem, NULL, &f.comm, &status), SBAG_OK);
  return f;
}

static void fixture_close(fixture_t *f) {
  comm_destroy(&f->comm);
  ck_assert_ptr_null(f->comm);
  ck_assert_int_eq(mem_stats(f->mem).live_bytes, 0);
  mem_destroy(&f->mem);
}

START_TEST(test_shape) {
  fixture_t f = fixture_open();
  ck_assert_int_eq(comm_rank(f.comm), 0);
  ck_assert_int_eq(comm_size(f.comm), 1);
  ck_assert_str_eq(f.comm->ops->name, "self");
  ck_assert_int_eq(f.comm->options.chunk_bytes, 64 << 20);
  fixture_close(&f);
}
END_TEST

START_TEST(test_options_are_checked) {
  mem_t *mem = NULL;
  comm_t *comm = NULL;
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  comm_options_t negative = {.chunk_bytes = -1}, large = {.chunk_bytes = ((int64_t)1 << 30) + 1};
  comm_options_t early = {.timeout_s = -0.5}, good = {.chunk_bytes = 1, .timeout_s = 2.0};
  ck_assert_int_eq(comm_self_create(mem, &negative, &comm, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "chunk_bytes is -1"));
  ck_assert_int_eq(comm_self_create(mem, &large, &comm, &status), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(comm_self_create(mem, &early, &comm, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "timeout_s is -0.5"));
  ck_assert_ptr_null(comm);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  ck_assert_int_eq(comm_self_create(mem, &good, &comm, &status), SBAG_OK);
  ck_assert_int_eq(comm->options.chunk_bytes, 1);
  comm_destroy(&comm);
  mem_destroy(&mem);
}
END_TEST

START_TEST(test_exchange_copies) {
  fixture_t f = fixture_open();
  char from[6] = "bytes", to[6] = "";
  comm_part_t send = {from, 6}, recv = {to, 6}, nothing = {NULL, 0};
  ck_assert_int_eq(comm_exchange(f.comm, &send, &recv, "test", NULL), SBAG_OK);
  ck_assert_str_eq(to, "bytes");
  ck_assert_int_eq(comm_exchange(f.comm, &send, &send, "test", NULL), SBAG_OK);
  ck_assert_str_eq(from, "bytes");
  ck_assert_int_eq(comm_exchange(f.comm, &nothing, &nothing, "test", NULL), SBAG_OK);
  fixture_close(&f);
}
END_TEST

START_TEST(test_exchange_checks_counts) {
  fixture_t f = fixture_open();
  char from[8] = "1234567", to[8] = "abcdefg";
  comm_part_t send = {from, 8}, recv = {to, 4}, negative = {from, -1};
  sbag_status_t status;
  ck_assert_int_eq(comm_exchange(f.comm, &send, &recv, "test", &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "8 bytes but expects 4"));
  ck_assert_str_eq(to, "abcdefg");
  ck_assert_int_eq(comm_exchange(f.comm, &negative, &negative, "test", &status), SBAG_ERR_ARGUMENT);
  fixture_close(&f);
}
END_TEST

START_TEST(test_requests) {
  fixture_t f = fixture_open();
  char from[4] = "abc", to[4] = "";
  comm_part_t send = {from, 4}, recv = {to, 4};
  float sum[2] = {1.5f, -2.0f};
  comm_request_t *first = NULL, *second = NULL;
  int done = 0;
  ck_assert_int_eq(f.comm->ops->exchange_begin(f.comm, &send, &recv, &first, NULL), SBAG_OK);
  ck_assert_int_eq(f.comm->ops->allreduce_begin(f.comm, sum, 2, COMM_F32, COMM_SUM, &second, NULL), SBAG_OK);
  ck_assert_int_eq(f.comm->ops->test(f.comm, first, &done, NULL), SBAG_OK);
  ck_assert_int_eq(done, 1);
  ck_assert_int_eq(comm_wait(f.comm, &second, "test", NULL), SBAG_OK);
  ck_assert_int_eq(comm_wait(f.comm, &first, "test", NULL), SBAG_OK);
  ck_assert_ptr_null(first);
  ck_assert_ptr_null(second);
  ck_assert_str_eq(to, "abc");
  ck_assert(sum[0] == 1.5f && sum[1] == -2.0f);
  fixture_close(&f);
}
END_TEST

START_TEST(test_gathers) {
  fixture_t f = fixture_open();
  int64_t mine = 42, all = 0, count = 8, none = 0;
  ck_assert_int_eq(comm_allgather(f.comm, &mine, 8, &all, "test", NULL), SBAG_OK);
  ck_assert_int_eq(all, 42);
  all = 0;
  ck_assert_int_eq(comm_allgatherv(f.comm, &mine, &count, &all, "test", NULL), SBAG_OK);
  ck_assert_int_eq(all, 42);
  ck_assert_int_eq(comm_allgatherv(f.comm, NULL, &none, NULL, "test", NULL), SBAG_OK);
  ck_assert_int_eq(comm_broadcast(f.comm, &mine, 8, 0, "test", NULL), SBAG_OK);
  ck_assert_int_eq(mine, 42);
  ck_assert_int_eq(comm_broadcast(f.comm, &mine, 8, 1, "test", NULL), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(comm_allreduce(f.comm, &mine, -1, COMM_I64, COMM_MAX, "test", NULL), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(comm_barrier(f.comm, "test", NULL), SBAG_OK);
  fixture_close(&f);
}
END_TEST

START_TEST(test_agree) {
  fixture_t f = fixture_open();
  sbag_status_t status;
  status_set(&status, SBAG_ERR_FORMAT, "line 3 is odd");
  ck_assert_int_eq(comm_agree(f.comm, SBAG_ERR_FORMAT, &status), SBAG_ERR_FORMAT);
  ck_assert_str_eq(status.message, "line 3 is odd");
  ck_assert_int_eq(status.rank, 0);
  ck_assert_int_eq(comm_agree(f.comm, SBAG_OK, &status), SBAG_OK);
  ck_assert_int_eq(comm_agree(f.comm, SBAG_ERR_IO, NULL), SBAG_ERR_IO);
  fixture_close(&f);
}
END_TEST

START_TEST(test_fail_is_sticky) {
  fixture_t f = fixture_open();
  sbag_status_t cause, status;
  status_set(&cause, SBAG_ERR_IO, "disk full");
  comm_fail(f.comm, &cause);
  status_set(&cause, SBAG_ERR_FORMAT, "another");
  comm_fail(f.comm, &cause);
  ck_assert_int_eq(comm_barrier(f.comm, "test", &status), SBAG_ERR_IO);
  ck_assert_str_eq(status.message, "disk full");
  ck_assert_int_eq(comm_agree(f.comm, SBAG_OK, &status), SBAG_ERR_IO);
  fixture_close(&f);
}
END_TEST

START_TEST(test_out_of_memory) {
  mem_t *mem = NULL;
  comm_t *comm = NULL;
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  int n = 0;
  sbag_code_t code;
  do {
    mem_fail_at(mem, ++n);
    code = comm_self_create(mem, NULL, &comm, &status);
    ck_assert(code == SBAG_OK || (code == SBAG_ERR_MEMORY && mem_stats(mem).live_bytes == 0));
  } while (code != SBAG_OK);
  ck_assert_int_gt(n, 3);
  comm_destroy(&comm);
  comm_destroy(&comm);
  mem_destroy(&mem);
}
END_TEST

Suite *comm_self_suite(void) {
  Suite *suite = suite_create("comm_self");
  TCase *tcase = tcase_create("comm_self");
  tcase_add_test(tcase, test_shape);
  tcase_add_test(tcase, test_options_are_checked);
  tcase_add_test(tcase, test_exchange_copies);
  tcase_add_test(tcase, test_exchange_checks_counts);
  tcase_add_test(tcase, test_requests);
  tcase_add_test(tcase, test_gathers);
  tcase_add_test(tcase, test_agree);
  tcase_add_test(tcase, test_fail_is_sticky);
  tcase_add_test(tcase, test_out_of_memory);
  suite_add_tcase(suite, tcase);
  return suite;
}
