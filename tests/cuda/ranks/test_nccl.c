/* NCCL over MPI, as the product calls it: the same tests would hold on GPUs. */
#include "mpi/mpi_test.h"

#include <mpi.h>
#include <nccl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static ncclComm_t comm;
static int rank, ranks;

#define NCCL(call)                                                                                           \
  do {                                                                                                       \
    const ncclResult_t result_ = (call);                                                                     \
    ck_assert_msg(result_ == ncclSuccess, "%s: %s", #call, ncclGetLastError(NULL));                          \
  } while (0)

static ncclComm_t connect_ranks(MPI_Comm members) {
  ncclUniqueId id;
  ncclComm_t made = NULL;
  int me = 0, count = 0;
  MPI_Comm_rank(members, &me);
  MPI_Comm_size(members, &count);
  if (me == 0) NCCL(ncclGetUniqueId(&id));
  MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, members);
  NCCL(ncclCommInitRank(&made, count, id, me));
  return made;
}

static void set_up(void) {
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  comm = connect_ranks(MPI_COMM_WORLD);
}

static void tear_down(void) {
  ncclResult_t error = ncclInternalError;
  NCCL(ncclCommGetAsyncError(comm, &error));
  ck_assert_int_eq(error, ncclSuccess);
  NCCL(ncclCommDestroy(comm));
}

static void *numbers(size_t bytes) {
  void *block = calloc(1, bytes + 1);
  ck_assert_ptr_nonnull(block);
  return block;
}

static cudaStream_t stream_new(void) {
  cudaStream_t made = NULL;
  ck_assert_int_eq(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), cudaSuccess);
  return made;
}

static void wait_for(cudaStream_t stream) {
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
}

/* ---- pairs ---- */

enum { PART = 20000 };

static size_t part_of(int from, int to) {
  return (from + to) % 3 == 0 ? 0 : (size_t)(PART - 7 * ((2 * from + to) % 5));
}

/* Parts of many lengths, some empty, one's own among them; and within groups in groups. */
static void exchange_all(void) {
  float *from = numbers((size_t)ranks * PART * sizeof *from),
        *to = numbers((size_t)ranks * PART * sizeof *to);
  cudaStream_t stream = stream_new();
  for (int i = 0; i < ranks * PART; i++) from[i] = (float)(rank * 1000 + i / PART);
  NCCL(ncclGroupStart());
  for (int p = 0; p < ranks; p++) {
    NCCL(ncclGroupStart());
    if (part_of(rank, p) > 0)
      NCCL(ncclSend(from + (ptrdiff_t)p * PART, part_of(rank, p), ncclFloat, p, comm, stream));
    if (part_of(p, rank) > 0)
      NCCL(ncclRecv(to + (ptrdiff_t)p * PART, part_of(p, rank), ncclFloat, p, comm, stream));
    NCCL(ncclGroupEnd());
  }
  NCCL(ncclGroupEnd());
  wait_for(stream);
  for (int p = 0; p < ranks; p++)
    for (size_t i = 0; i < PART; i++)
      ck_assert_float_eq(to[(size_t)p * PART + i], i < part_of(p, rank) ? (float)(p * 1000 + rank) : 0.0f);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
  free(from);
  free(to);
}

START_TEST(parts_of_any_length_travel) {
  exchange_all();
}
END_TEST

/* Two groups that were issued on two streams run in the order of issue, whoever is waited for first. */
START_TEST(groups_run_as_issued) {
  cudaStream_t one = stream_new(), other = stream_new();
  int64_t first = rank, second = rank, sum = 0, most = 0;
  NCCL(ncclAllReduce(&first, &sum, 1, ncclInt64, ncclSum, comm, one));
  NCCL(ncclAllReduce(&second, &most, 1, ncclInt64, ncclMax, comm, other));
  wait_for(rank % 2 == 0 ? other : one);
  wait_for(rank % 2 == 0 ? one : other);
  ck_assert_int_eq(sum, (int64_t)ranks * (ranks - 1) / 2);
  ck_assert_int_eq(most, ranks - 1);
  ck_assert_int_eq(cudaStreamDestroy(one), cudaSuccess);
  ck_assert_int_eq(cudaStreamDestroy(other), cudaSuccess);
}
END_TEST

/* One group with operations on two streams: both wait for all of it, and it for both. */
START_TEST(a_group_joins_its_streams) {
  cudaStream_t one = stream_new(), other = stream_new();
  int64_t before = -1, a = -1, b = -1, mine = rank;
  ck_assert_int_eq(cudaMemcpyAsync(&before, &mine, sizeof before, cudaMemcpyDefault, other), cudaSuccess);
  NCCL(ncclGroupStart());
  NCCL(ncclAllReduce(&mine, &a, 1, ncclInt64, ncclSum, comm, one));
  NCCL(ncclAllReduce(&before, &b, 1, ncclInt64, ncclSum, comm, other));
  NCCL(ncclGroupEnd());
  wait_for(other);
  ck_assert_int_eq(a, (int64_t)ranks * (ranks - 1) / 2);
  ck_assert_int_eq(b, a);
  ck_assert_int_eq(cudaStreamDestroy(one), cudaSuccess);
  ck_assert_int_eq(cudaStreamDestroy(other), cudaSuccess);
}
END_TEST

/* ---- collectives, in place and not ---- */

enum { COUNT = 1000 };

static void reduce_all(int in_place) {
  int64_t *from = numbers(COUNT * sizeof *from), *to = in_place ? from : numbers(COUNT * sizeof *to);
  for (int i = 0; i < COUNT; i++) from[i] = rank + i % 7;
  NCCL(ncclAllReduce(from, to, COUNT, ncclInt64, ncclSum, comm, NULL));
  for (int i = 0; i < COUNT; i++)
    ck_assert_int_eq(to[i], (int64_t)ranks * (ranks - 1) / 2 + (int64_t)ranks * (i % 7));
  if (!in_place) free(to);
  free(from);
}

static void reduce_scatter(int in_place) {
  float *from = numbers((size_t)ranks * COUNT * sizeof *from);
  float *to = in_place ? from + (ptrdiff_t)rank * COUNT : numbers(COUNT * sizeof *to);
  for (int i = 0; i < ranks * COUNT; i++) from[i] = (float)(rank * 10 + i % 11);
  NCCL(ncclReduceScatter(from, to, COUNT, ncclFloat, ncclSum, comm, NULL));
  for (int i = 0; i < COUNT; i++)
    ck_assert_float_eq(to[i], (float)(5 * ranks * (ranks - 1) + ranks * ((rank * COUNT + i) % 11)));
  if (!in_place) free(to);
  free(from);
}

static void gather_all(int in_place) {
  int32_t *to = numbers((size_t)ranks * COUNT * sizeof *to);
  int32_t *from = in_place ? to + (ptrdiff_t)rank * COUNT : numbers(COUNT * sizeof *from);
  for (int i = 0; i < COUNT; i++) from[i] = rank * COUNT + i;
  NCCL(ncclAllGather(from, to, COUNT, ncclInt32, comm, NULL));
  for (int i = 0; i < ranks * COUNT; i++) ck_assert_int_eq(to[i], i);
  if (!in_place) free(from);
  free(to);
}

static void broadcast(int in_place) {
  const int root = ranks - 1;
  int64_t from[3] = {rank == root ? 42 : 0, rank, 7}, other[3] = {0};
  int64_t *to = in_place ? from : other;
  NCCL(ncclBroadcast(from, to, 3, ncclInt64, root, comm, NULL));
  ck_assert_int_eq(to[0], 42);
  ck_assert_int_eq(to[1], root);
}

static void (*const collectives[])(int) = {reduce_all, reduce_scatter, gather_all, broadcast};
enum { COLLECTIVES = sizeof collectives / sizeof collectives[0] };

START_TEST(collectives_in_place_and_not) {
  collectives[_i / 2](_i % 2);
}
END_TEST

/* A transfer in pieces, as above 2 GiB, is the same as one. */
START_TEST(pieces_make_no_difference) {
  setenv("EMU_NCCL_PIECE", "1000", 1);
  exchange_all();
  for (int i = 0; i < 2 * COLLECTIVES; i++) collectives[i / 2](i % 2);
  unsetenv("EMU_NCCL_PIECE");
}
END_TEST

/* Every collective of a kind of number: 1, 2, -1 and rank, over all ranks. */
START_TEST(halves_are_added_with_one_rounding_a_step) {
  uint16_t f16[4] = {0x3c00, 0x4000, 0xbc00, 0}, bf16[4] = {0x3f80, 0x4000, 0xbf80, 0};
  static const uint16_t f16_of[9] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800};
  static const uint16_t bf16_of[9] = {0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100};
  ck_assert_int_le(ranks, 8);
  NCCL(ncclAllReduce(f16, f16, 4, ncclFloat16, ncclSum, comm, NULL));
  NCCL(ncclAllReduce(bf16, bf16, 4, ncclBfloat16, ncclSum, comm, NULL));
  ck_assert_uint_eq(f16[0], f16_of[ranks]);
  ck_assert_uint_eq(f16[2], f16_of[ranks] | 0x8000);
  ck_assert_uint_eq(f16[3], 0);
  ck_assert_uint_eq(bf16[0], bf16_of[ranks]);
  ck_assert_uint_eq(bf16[2], bf16_of[ranks] | 0x8000);
  uint16_t most[2] = {f16_of[rank + 1], (uint16_t)(f16_of[rank + 1] | 0x8000)}, tiny[2] = {0x0001, 0x7bff};
  NCCL(ncclAllReduce(most, most, 2, ncclFloat16, ncclMax, comm, NULL));
  ck_assert_uint_eq(most[0], f16_of[ranks]);
  ck_assert_uint_eq(most[1], 0xbc00);
  NCCL(ncclAllReduce(tiny, tiny, 2, ncclFloat16, ncclSum, comm, NULL));
  ck_assert_uint_eq(tiny[0], (unsigned)ranks);              /* subnormal */
  ck_assert_uint_eq(tiny[1], ranks == 1 ? 0x7bff : 0x7c00); /* beyond the largest: inf */
}
END_TEST

START_TEST(an_average_divides) {
  float value = (float)(rank * 4), mean = -1;
  NCCL(ncclAllReduce(&value, &mean, 1, ncclFloat, ncclAvg, comm, NULL));
  ck_assert_float_eq(mean, 2.0f * (float)(ranks - 1));
}
END_TEST

START_TEST(communicators_of_some_ranks) {
  MPI_Comm some;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &some); /* and in another order */
  ncclComm_t part = connect_ranks(some);
  int count = 0, mine = -1, expected = -1;
  int64_t ones = 1;
  NCCL(ncclCommCount(part, &count));
  NCCL(ncclCommUserRank(part, &mine));
  MPI_Comm_rank(some, &expected);
  ck_assert_int_eq(mine, expected);
  NCCL(ncclAllReduce(&ones, &ones, 1, ncclInt64, ncclSum, part, NULL));
  ck_assert_int_eq(ones, count);
  NCCL(ncclCommDestroy(part));
  MPI_Comm_free(&some);
}
END_TEST

/* ---- what goes wrong ---- */

START_TEST(arguments_are_checked) {
  float value = 0;
  ck_assert_int_eq(ncclSend(&value, 1, ncclFloat, ranks, comm, NULL), ncclInvalidArgument);
  ck_assert_int_eq(ncclSend(&value, 1, ncclNumTypes, 0, comm, NULL), ncclInvalidArgument);
  ck_assert_int_eq(ncclSend(&value, 1, ncclFloat, 0, NULL, NULL), ncclInvalidArgument);
  ck_assert_int_eq(ncclGroupEnd(), ncclInvalidUsage);
}
END_TEST

/* The failure of what was queued, on a communicator that is then given up. */
static void expect_failure(ncclComm_t broken, const char *says) {
  ncclResult_t error = ncclSuccess;
  NCCL(ncclCommGetAsyncError(broken, &error));
  ck_assert_int_ne(error, ncclSuccess);
  ck_assert_msg(strstr(ncclGetLastError(broken), says) != NULL, "it said: %s", ncclGetLastError(broken));
  NCCL(ncclCommAbort(broken));
}

/* Ranks beside the two find nothing wrong, and wait for them in vain. */
START_TEST(counts_that_differ_are_told) {
  if (ranks < 2) return;
  setenv("EMU_NCCL_DEADLINE_S", "5", 1);
  ncclComm_t broken = connect_ranks(MPI_COMM_WORLD);
  const int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;
  float from[4] = {0}, to[4] = {0};
  NCCL(ncclGroupStart());
  NCCL(ncclSend(from, rank == 0 ? 4 : 3, ncclFloat, next, broken, NULL));
  NCCL(ncclRecv(to, 3, ncclFloat, before, broken, NULL));
  NCCL(ncclGroupEnd());
  if (rank == 0) expect_failure(broken, "sends 16 bytes to rank 1, which expects 12");
  if (rank == 1) expect_failure(broken, "expects 12 bytes of rank 0, which sends 16");
  if (rank > 1) NCCL(ncclCommAbort(broken));
  MPI_Barrier(MPI_COMM_WORLD);
  unsetenv("EMU_NCCL_DEADLINE_S");
  broken = connect_ranks(MPI_COMM_WORLD);
  NCCL(ncclAllReduce(from, to, rank == 0 ? 4 : 3, ncclFloat, ncclSum, broken, NULL));
  expect_failure(broken, "bytes differ between ranks, 12 to 16");
}
END_TEST

/* A peer that never comes: an error after the deadline, and an abort that waits for nobody. */
START_TEST(a_peer_that_does_not_come_is_an_error) {
  if (ranks < 2) return;
  ncclComm_t broken = connect_ranks(MPI_COMM_WORLD);
  setenv("EMU_NCCL_DEADLINE_S", "1", 1);
  float value = 1;
  if (rank != 0) {
    NCCL(ncclAllReduce(&value, &value, 1, ncclFloat, ncclSum, broken, NULL));
    expect_failure(broken, "waited 1 s for its peers");
  } else {
    NCCL(ncclCommAbort(broken));
  }
  unsetenv("EMU_NCCL_DEADLINE_S");
  MPI_Barrier(MPI_COMM_WORLD);
}
END_TEST

Suite *nccl_suite(void);
Suite *nccl_suite(void) {
  Suite *suite = suite_create("nccl over mpi");
  TCase *tests = tcase_create("nccl");
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, parts_of_any_length_travel);
  tcase_add_test(tests, groups_run_as_issued);
  tcase_add_test(tests, a_group_joins_its_streams);
  tcase_add_loop_test(tests, collectives_in_place_and_not, 0, 2 * COLLECTIVES);
  tcase_add_test(tests, pieces_make_no_difference);
  tcase_add_test(tests, halves_are_added_with_one_rounding_a_step);
  tcase_add_test(tests, an_average_divides);
  tcase_add_test(tests, communicators_of_some_ranks);
  tcase_add_test(tests, arguments_are_checked);
  tcase_add_test(tests, counts_that_differ_are_told);
  tcase_add_test(tests, a_peer_that_does_not_come_is_an_error);
  suite_add_tcase(suite, tests);
  return suite;
}
