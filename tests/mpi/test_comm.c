/* The MPI comm: what arrives, several operations in flight, agreement, and that no failure hangs a peer. */
#include "mpi_test.h"

#include "base/random.h"
#include "comm/comm_mpi.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef struct fixture {
  mem_t *mem;
  comm_t *comm;
  int rank, size;
} fixture_t;

static const int64_t chunk_sizes[] = {1, 7, 1024, 0};
enum { CHUNK_SIZES = sizeof chunk_sizes / sizeof chunk_sizes[0] };

/* Ranks come together first: the deadline holds for the creation too. */
static fixture_t fixture_open(int64_t chunk_bytes, double timeout_s) {
  fixture_t f = {NULL, NULL, 0, 0};
  MPI_Barrier(MPI_COMM_WORLD);
  comm_options_t options = {.chunk_bytes = chunk_bytes, .timeout_s = timeout_s};
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&f.mem, &status), SBAG_OK);
  ck_assert_msg(comm_mpi_create(MPI_COMM_WORLD, f.mem, &options, &f.comm, &status) == SBAG_OK, "%s",
                status.message);
  f.rank = comm_rank(f.comm);
  f.size = comm_size(f.comm);
  return f;
}

static void fixture_close(fixture_t *f) {
  comm_destroy(&f->comm);
  ck_assert_ptr_null(f->comm);
  ck_assert_int_eq(mem_stats(f->mem).live_bytes, 0);
  mem_destroy(&f->mem);
}

/* A broken comm may leave behind what MPI still holds, so live bytes are not checked. */
static void fixture_close_broken(fixture_t *f) {
  comm_destroy(&f->comm);
  ck_assert_ptr_null(f->comm);
  mem_destroy(&f->mem);
}

#define CHECK_OK(call) ck_assert_msg((call) == SBAG_OK, "%s", status.message)

/* The traffic of one exchange, a pure function of (round, from, to), so that the receiver can check it. */
typedef struct traffic {
  int round;
  int64_t bytes_max;
  comm_part_t *send, *recv;
} traffic_t;

static int64_t traffic_bytes(const traffic_t *t, int from, int to) {
  uint64_t key = random_key((uint64_t)t->round, "sizes");
  uint64_t pair = (uint64_t)from * 1000 + (uint64_t)to;
  if (random_below(key, 2 * pair, 4) == 0) return 0;
  return random_below(key, 2 * pair + 1, t->bytes_max + 1);
}

static unsigned char traffic_byte(const traffic_t *t, int from, int to, int64_t i) {
  return (unsigned char)((i * 2654435761) >> 7 ^ (from * 31 + to * 17 + t->round * 101));
}

static void traffic_alloc(const fixture_t *f, comm_part_t *part, int64_t bytes) {
  void *block = NULL;
  *part = (comm_part_t){NULL, bytes};
  if (bytes == 0) return;
  ck_assert_int_eq(mem_calloc(f->mem, (size_t)bytes, "test", &block, NULL), SBAG_OK);
  part->data = block;
}

static traffic_t traffic_open(const fixture_t *f, int round, int64_t bytes_max) {
  traffic_t t = {.round = round, .bytes_max = bytes_max};
  void *block = NULL;
  ck_assert_int_eq(mem_calloc(f->mem, 2 * (size_t)f->size * sizeof *t.send, "test", &block, NULL), SBAG_OK);
  t.send = block;
  t.recv = t.send + f->size;
  for (int p = 0; p < f->size; p++) {
    traffic_alloc(f, &t.send[p], traffic_bytes(&t, f->rank, p));
    traffic_alloc(f, &t.recv[p], traffic_bytes(&t, p, f->rank));
    for (int64_t i = 0; i < t.send[p].bytes; i++)
      ((unsigned char *)t.send[p].data)[i] = traffic_byte(&t, f->rank, p, i);
  }
  return t;
}

static void traffic_close(const fixture_t *f, traffic_t *t) {
  for (int p = 0; p < f->size; p++) {
    const unsigned char *got = t->recv[p].data;
    for (int64_t i = 0; i < t->recv[p].bytes; i++)
      if (got[i] != traffic_byte(t, p, f->rank, i))
        ck_abort_msg("round %d: byte %lld of %lld from rank %d is wrong", t->round, (long long)i,
                     (long long)t->recv[p].bytes, p);
  }
  for (int p = 0; p < 2 * f->size; p++) mem_free(f->mem, t->send[p].data);
  mem_free(f->mem, t->send);
}

START_TEST(test_shape) {
  fixture_t f = fixture_open(0, 60.0);
  int rank = -1, size = -1;
  MPI_Comm_rank(comm_mpi_handle(f.comm), &rank);
  MPI_Comm_size(comm_mpi_handle(f.comm), &size);
  ck_assert_int_eq(f.rank, rank);
  ck_assert_int_eq(f.size, size);
  comm_t *self = NULL;
  ck_assert_int_eq(comm_self_create(f.mem, NULL, &self, NULL), SBAG_OK);
  ck_assert(comm_mpi_handle(self) == MPI_COMM_NULL);
  comm_destroy(&self);
  fixture_close(&f);
}
END_TEST

START_TEST(test_exchange) {
  sbag_status_t status;
  for (int c = 0; c < CHUNK_SIZES; c++) {
    fixture_t f = fixture_open(chunk_sizes[c], 60.0);
    for (int round = 0; round < 12; round++) {
      traffic_t t = traffic_open(&f, round, round < 8 ? 50 : chunk_sizes[c] == 1 ? 2000 : 30000);
      CHECK_OK(comm_exchange(f.comm, t.send, t.recv, "test", &status));
      traffic_close(&f, &t);
    }
    fixture_close(&f);
  }
}
END_TEST

/* A hundred thousand messages of one byte between two ranks. */
START_TEST(test_exchange_one_byte_chunks) {
  sbag_status_t status;
  fixture_t f = fixture_open(1, 60.0);
  enum { BYTES = 100000 };
  static unsigned char from[BYTES], to[BYTES];
  comm_part_t *parts = NULL;
  void *block = NULL;
  ck_assert_int_eq(mem_calloc(f.mem, 2 * (size_t)f.size * sizeof *parts, "test", &block, NULL), SBAG_OK);
  parts = block;
  int next = (f.rank + 1) % f.size, last = (f.rank + f.size - 1) % f.size;
  for (int i = 0; i < BYTES; i++) from[i] = (unsigned char)(i * 7 + f.rank);
  parts[next] = (comm_part_t){from, BYTES};
  parts[f.size + last] = (comm_part_t){to, BYTES};
  CHECK_OK(comm_exchange(f.comm, parts, parts + f.size, "test", &status));
  for (int i = 0; i < BYTES; i++) ck_assert_uint_eq(to[i], (unsigned char)(i * 7 + last));
  mem_free(f.mem, parts);
  fixture_close(&f);
}
END_TEST

static void begin_four(const fixture_t *f, traffic_t *a, traffic_t *b, double *sums, int64_t *sent,
                       comm_request_t **requests) {
  sbag_status_t status;
  const comm_ops_t *ops = f->comm->ops;
  CHECK_OK(ops->exchange_begin(f->comm, a->send, a->recv, &requests[0], &status));
  CHECK_OK(ops->allreduce_begin(f->comm, sums, 300, COMM_F64, COMM_SUM, &requests[1], &status));
  CHECK_OK(ops->exchange_begin(f->comm, b->send, b->recv, &requests[2], &status));
  CHECK_OK(ops->broadcast_begin(f->comm, sent, 8 * 100, f->size - 1, &requests[3], &status));
}

/* Ranks wait in different orders, and some poll before. */
static void end_four(const fixture_t *f, comm_request_t **requests, int round) {
  sbag_status_t status;
  int polled = (f->rank + round) % 3 == 0, done = 0;
  while (polled && !done) CHECK_OK(f->comm->ops->test(f->comm, requests[2], &done, &status));
  for (int k = 0; k < 4; k++) {
    int which = (f->rank + round) % 2 == 0 ? 3 - k : (k + round) % 4;
    CHECK_OK(comm_wait(f->comm, &requests[which], "test", &status));
    ck_assert_ptr_null(requests[which]);
  }
}

START_TEST(test_several_in_flight) {
  for (int c = 0; c < CHUNK_SIZES; c++) {
    fixture_t f = fixture_open(chunk_sizes[c], 60.0);
    for (int round = 0; round < 6; round++) {
      traffic_t a = traffic_open(&f, round, 1500), b = traffic_open(&f, 100 + round, 3000);
      double sums[300];
      int64_t sent[100] = {0};
      comm_request_t *requests[4] = {NULL};
      for (int i = 0; i < 300; i++) sums[i] = i + f.rank;
      for (int i = 0; i < 100 && f.rank == f.size - 1; i++) sent[i] = i * round;
      begin_four(&f, &a, &b, sums, sent, requests);
      end_four(&f, requests, round);
      for (int i = 0; i < 300; i++) ck_assert(sums[i] == f.size * i + f.size * (f.size - 1) / 2);
      for (int i = 0; i < 100; i++) ck_assert_int_eq(sent[i], i * round);
      traffic_close(&f, &a);
      traffic_close(&f, &b);
    }
    fixture_close(&f);
  }
}
END_TEST

/* Two chunked collective operations, ended in different orders on different ranks: their chunks must still be
 * posted in one order everywhere. */
START_TEST(test_collectives_keep_their_order) {
  sbag_status_t status;
  fixture_t f = fixture_open(8, 60.0);
  for (int round = 0; round < 5; round++) {
    int64_t a[200], b[150];
    comm_request_t *first = NULL, *second = NULL;
    for (int i = 0; i < 200; i++) a[i] = i * (f.rank + 1);
    for (int i = 0; i < 150; i++) b[i] = -i * (f.rank + 1);
    CHECK_OK(f.comm->ops->allreduce_begin(f.comm, a, 200, COMM_I64, COMM_SUM, &first, &status));
    CHECK_OK(f.comm->ops->allreduce_begin(f.comm, b, 150, COMM_I64, COMM_MIN, &second, &status));
    if ((f.rank + round) % 2 == 0) CHECK_OK(comm_wait(f.comm, &first, "first", &status));
    CHECK_OK(comm_wait(f.comm, &second, "second", &status));
    if (first != NULL) CHECK_OK(comm_wait(f.comm, &first, "first", &status));
    for (int i = 0; i < 200; i++) ck_assert_int_eq(a[i], i * f.size * (f.size + 1) / 2);
    for (int i = 0; i < 150; i++) ck_assert_int_eq(b[i], -i * f.size);
  }
  fixture_close(&f);
}
END_TEST

/* Rank r contributes (i + r) % 20 at element i, so that 8-bit sums of 13 ranks fit: what the reduction gives.
 */
static int64_t reduced(int size, int i, comm_reduce_t op) {
  int64_t sum = 0, most = 0, least = 20;
  for (int r = 0; r < size; r++) {
    int64_t v = (i + r) % 20;
    sum += v;
    if (v > most) most = v;
    if (v < least) least = v;
  }
  return op == COMM_SUM ? sum : op == COMM_MAX ? most : least;
}

enum { REDUCED = 500 };

typedef union values {
  uint8_t u8[REDUCED];
  int32_t i32[REDUCED];
  int64_t i64[REDUCED];
  float f32[REDUCED];
  double f64[REDUCED];
} values_t;

static void values_put(values_t *v, comm_type_t type, int i, int64_t x) {
  if (type == COMM_U8) v->u8[i] = (uint8_t)x;
  if (type == COMM_I32) v->i32[i] = (int32_t)x;
  if (type == COMM_I64) v->i64[i] = x;
  if (type == COMM_F32) v->f32[i] = (float)x;
  if (type == COMM_F64) v->f64[i] = (double)x;
}

static void check_reduction(const fixture_t *f, comm_type_t type, comm_reduce_t op) {
  sbag_status_t status;
  static values_t got, want;
  memset(&got, 0, sizeof got);
  memset(&want, 0, sizeof want);
  for (int i = 0; i < REDUCED; i++) {
    values_put(&got, type, i, (i + f->rank) % 20);
    values_put(&want, type, i, reduced(f->size, i, op));
  }
  CHECK_OK(comm_allreduce(f->comm, &got, REDUCED, type, op, "test", &status));
  ck_assert_mem_eq(&got, &want, sizeof got);
}

START_TEST(test_allreduce) {
  sbag_status_t status;
  for (int c = 0; c < CHUNK_SIZES; c++) {
    fixture_t f = fixture_open(chunk_sizes[c] == 1 ? 64 : chunk_sizes[c], 60.0);
    for (int type = COMM_U8; type <= COMM_F64; type++)
      for (int op = COMM_SUM; op <= COMM_MIN; op++) check_reduction(&f, (comm_type_t)type, (comm_reduce_t)op);
    CHECK_OK(comm_allreduce(f.comm, NULL, 0, COMM_F32, COMM_SUM, "nothing", &status));
    fixture_close(&f);
  }
}
END_TEST

START_TEST(test_broadcast) {
  sbag_status_t status;
  for (int c = 0; c < CHUNK_SIZES; c++) {
    fixture_t f = fixture_open(chunk_sizes[c], 60.0);
    for (int root = 0; root < f.size; root++) {
      char text[101];
      memset(text, f.rank == root ? 'a' + root : '?', sizeof text);
      CHECK_OK(comm_broadcast(f.comm, text, 100, root, "test", &status));
      for (int i = 0; i < 100; i++) ck_assert_int_eq(text[i], 'a' + root);
      ck_assert_int_eq(text[100], f.rank == root ? 'a' + root : '?');
    }
    CHECK_OK(comm_broadcast(f.comm, NULL, 0, 0, "nothing", &status));
    fixture_close(&f);
  }
}
END_TEST

START_TEST(test_gathers) {
  sbag_status_t status;
  fixture_t f = fixture_open(7, 60.0);
  ck_assert_int_le(f.size, 64);
  int64_t mine = 1000 + f.rank, all[64], counts[64], first = 0, total = 0;
  CHECK_OK(comm_allgather(f.comm, &mine, 8, all, "test", &status));
  for (int r = 0; r < f.size; r++) ck_assert_int_eq(all[r], 1000 + r);
  char piece[64 * 3], whole[64 * 64 * 3];
  for (int r = 0; r < f.size; r++) {
    counts[r] = r % 3 == 1 ? 0 : 3 * r + 1;
    if (r < f.rank) first += counts[r];
    total += counts[r];
  }
  memset(piece, 'a' + f.rank, sizeof piece);
  for (int in_place = 0; in_place < 2; in_place++) {
    memset(whole, '?', sizeof whole);
    if (in_place) memset(whole + first, 'a' + f.rank, (size_t)counts[f.rank]);
    CHECK_OK(comm_allgatherv(f.comm, in_place ? whole + first : piece, counts, whole, "test", &status));
    for (int64_t r = 0, at = 0; r < f.size; r++)
      for (int64_t i = 0; i < counts[r]; i++) ck_assert_int_eq(whole[at++], 'a' + (int)r);
    ck_assert_int_eq(whole[total], '?');
  }
  fixture_close(&f);
}
END_TEST

/* A barrier holds every rank until the last has come. */
START_TEST(test_barrier) {
  sbag_status_t status;
  fixture_t f = fixture_open(0, 60.0);
  struct timespec begin, end;
  CHECK_OK(comm_barrier(f.comm, "start", &status));
  clock_gettime(CLOCK_MONOTONIC, &begin);
  if (f.rank == f.size - 1) usleep(100000);
  CHECK_OK(comm_barrier(f.comm, "test", &status));
  clock_gettime(CLOCK_MONOTONIC, &end);
  double took = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
  ck_assert_double_gt(took, 0.05);
  fixture_close(&f);
}
END_TEST

/* Ranks whose bit is set in `failing` come with an error. */
static void check_agreement(const fixture_t *f, unsigned failing) {
  sbag_status_t status;
  status_set(&status, SBAG_ERR_STATE, "left over");
  sbag_code_t mine = SBAG_OK;
  if (failing >> f->rank & 1)
    mine = status_set(&status, f->rank % 2 ? SBAG_ERR_IO : SBAG_ERR_FORMAT, "file %d is bad", f->rank);
  int lowest = 0;
  while (lowest < f->size && !(failing >> lowest & 1)) lowest++;
  sbag_code_t code = comm_agree(f->comm, mine, &status);
  if (lowest == f->size) {
    ck_assert_int_eq(code, SBAG_OK);
    return;
  }
  char want[64];
  snprintf(want, sizeof want, "rank %d: file %d is bad", lowest, lowest);
  ck_assert_int_eq(code, lowest % 2 ? SBAG_ERR_IO : SBAG_ERR_FORMAT);
  ck_assert_int_eq(status.code, code);
  ck_assert_int_eq(status.rank, lowest);
  ck_assert_str_eq(status.message, f->size > 1 ? want : "file 0 is bad");
}

START_TEST(test_agree) {
  fixture_t f = fixture_open(7, 60.0);
  check_agreement(&f, 0);
  for (int r = 0; r < f.size; r++) check_agreement(&f, 1u << r);
  for (unsigned round = 0; round < 10; round++)
    check_agreement(&f, (unsigned)random_below(9, round, (int64_t)1 << f.size));
  check_agreement(&f, ~0u);
  ck_assert_int_eq(comm_agree(f.comm, f.rank == 0 ? SBAG_ERR_IO : SBAG_OK, NULL), SBAG_ERR_IO);
  check_agreement(&f, 0);
  fixture_close(&f);
}
END_TEST

/* An error that was agreed on already keeps its rank and its one prefix. */
START_TEST(test_agree_twice) {
  fixture_t f = fixture_open(0, 60.0);
  sbag_status_t status, again;
  status_set(&status, SBAG_ERR_IO, "gone");
  sbag_code_t mine = f.rank == f.size - 1 ? SBAG_ERR_IO : SBAG_OK;
  ck_assert_int_eq(comm_agree(f.comm, mine, &status), SBAG_ERR_IO);
  again = status;
  ck_assert_int_eq(comm_agree(f.comm, SBAG_ERR_IO, &again), SBAG_ERR_IO);
  ck_assert_int_eq(again.rank, f.size - 1);
  ck_assert_str_eq(again.message, status.message);
  fixture_close(&f);
}
END_TEST

static void warm_step(const fixture_t *f, traffic_t *a, traffic_t *b) {
  sbag_status_t status;
  double sums[300] = {0};
  int64_t sent[100] = {0}, all[64], mine = f->rank;
  comm_request_t *requests[4] = {NULL};
  begin_four(f, a, b, sums, sent, requests);
  end_four(f, requests, 0);
  CHECK_OK(comm_allgather(f->comm, &mine, 8, all, "test", &status));
  CHECK_OK(comm_barrier(f->comm, "test", &status));
  status_set(&status, SBAG_ERR_IO, "x");
  ck_assert_int_eq(comm_agree(f->comm, SBAG_ERR_IO, &status), SBAG_ERR_IO);
}

START_TEST(test_warm_steps_allocate_nothing) {
  fixture_t f = fixture_open(64, 60.0);
  traffic_t a = traffic_open(&f, 1, 300), b = traffic_open(&f, 2, 3000);
  warm_step(&f, &a, &b);
  int64_t before = mem_stats(f.mem).alloc_count;
  for (int step = 0; step < 20; step++) warm_step(&f, &a, &b);
  ck_assert_int_eq(mem_stats(f.mem).alloc_count, before);
  traffic_close(&f, &a);
  traffic_close(&f, &b);
  fixture_close(&f);
}
END_TEST

/* Everybody but `absent` exchanges 64 KiB with everybody: too much to leave without the receiver. */
static sbag_code_t exchange_64k(const fixture_t *f, const char *what, sbag_status_t *status) {
  enum { BYTES = 65536 };
  static char from[BYTES], to[64][BYTES]; /* static: MPI may hold them after a failure */
  comm_part_t send[64], recv[64];
  for (int p = 0; p < f->size; p++) {
    send[p] = (comm_part_t){from, BYTES};
    recv[p] = (comm_part_t){to[p], BYTES};
  }
  return comm_exchange(f->comm, send, recv, what, status);
}

/* The comm is broken by now: with this code and message, for every later call. */
static void check_broken(fixture_t *f, const sbag_status_t *status, sbag_code_t code, int rank,
                         const char *message) {
  ck_assert_int_eq(status->code, code);
  ck_assert_int_eq(status->rank, rank);
  ck_assert_str_eq(status->message, message);
  sbag_status_t later;
  ck_assert_int_eq(comm_barrier(f->comm, "later", &later), code);
  ck_assert_str_eq(later.message, message);
  status_set(&later, SBAG_ERR_MEMORY, "mine");
  ck_assert_int_eq(comm_agree(f->comm, SBAG_ERR_MEMORY, &later), code);
  ck_assert_str_eq(later.message, message);
}

START_TEST(test_fail_ends_the_waits) {
  fixture_t f = fixture_open(0, 0.0); /* no deadline: only the message can end the waits */
  sbag_status_t status;
  char want[64];
  snprintf(want, sizeof want, f.size > 1 ? "rank %d: line 7 is odd" : "line 7 is odd", f.size - 1);
  if (f.rank == f.size - 1) {
    usleep(50000); /* the others are waiting by now */
    status_set(&status, SBAG_ERR_FORMAT, "line 7 is odd");
    comm_fail(f.comm, &status);
    ck_assert_int_eq(comm_barrier(f.comm, "after", &status), SBAG_ERR_FORMAT);
  } else {
    ck_assert_int_eq(exchange_64k(&f, "forward: ids", &status), SBAG_ERR_FORMAT);
  }
  check_broken(&f, &status, SBAG_ERR_FORMAT, f.size - 1, want);
  fixture_close_broken(&f);
}
END_TEST

START_TEST(test_fail_ends_a_collective) {
  fixture_t f = fixture_open(0, 0.0);
  sbag_status_t status;
  static double sums[10000];
  if (f.rank == 0) {
    comm_fail(f.comm, NULL);
    ck_assert_int_eq(comm_barrier(f.comm, "after", &status), SBAG_ERR_COMM);
  } else {
    ck_assert_int_eq(comm_allreduce(f.comm, sums, 10000, COMM_F64, COMM_SUM, "dense", &status),
                     SBAG_ERR_COMM);
  }
  check_broken(&f, &status, SBAG_ERR_COMM, 0,
               f.size > 1 ? "rank 0: gave up without a reason" : "gave up without a reason");
  fixture_close_broken(&f);
}
END_TEST

/* A rank that sees nothing of a peer's failure goes to its comm_destroy, which is collective otherwise. */
START_TEST(test_fail_ends_a_destroy) {
  fixture_t f = fixture_open(0, 0.0);
  if (f.rank == f.size / 2) comm_fail(f.comm, NULL);
  fixture_close_broken(&f);
}
END_TEST

START_TEST(test_all_fail_at_once) {
  fixture_t f = fixture_open(0, 0.0);
  sbag_status_t status;
  status_set(&status, SBAG_ERR_IO, "everybody's disk is full");
  comm_fail(f.comm, &status);
  ck_assert_int_eq(comm_barrier(f.comm, "after", &status), SBAG_ERR_IO);
  ck_assert_int_eq(status.rank, f.rank);
  fixture_close_broken(&f);
}
END_TEST

/* Rank 0 takes no part until the others have given it up; then it hears that they did. */
static void check_deadline(sbag_code_t (*operation)(const fixture_t *, const char *, sbag_status_t *),
                           const char *reason) {
  fixture_t f = fixture_open(0, 1.0);
  sbag_status_t status;
  status_clear(&status);
  if (f.size == 1) { /* nobody to wait for: the deadline must not strike */
    ck_assert_int_eq(operation(&f, "forward: ids", &status), SBAG_OK);
    fixture_close(&f);
    return;
  }
  if (f.rank == 0) usleep(3000000);
  ck_assert_int_eq(f.rank == 0 ? comm_barrier(f.comm, "late", &status)
                               : operation(&f, "forward: ids", &status),
                   SBAG_ERR_TIMEOUT);
  ck_assert_int_gt(status.rank, 0);
  char want[128];
  snprintf(want, sizeof want, "rank %d: forward: ids: %s within 1 s", status.rank, reason);
  check_broken(&f, &status, SBAG_ERR_TIMEOUT, status.rank, want);
  fixture_close_broken(&f);
}

static sbag_code_t reduce_some(const fixture_t *f, const char *what, sbag_status_t *status) {
  static int32_t sums[100];
  return comm_allreduce(f->comm, sums, 100, COMM_I32, COMM_SUM, what, status);
}

START_TEST(test_deadline_of_an_exchange) {
  check_deadline(exchange_64k, "no answer from rank 0");
}
END_TEST

START_TEST(test_deadline_of_a_collective) {
  check_deadline(reduce_some, "no answer from rank 0");
}
END_TEST

/* Ranks that wait for one that waits for the silent one are not named. */
START_TEST(test_only_the_silent_rank_is_named) {
  fixture_t f = fixture_open(0, 1.5);
  sbag_status_t status;
  status_clear(&status);
  if (f.size > 1) {
    static char from[65536], to[65536]; /* more than MPI sends to a rank that does not take it */
    comm_part_t parts[128] = {{NULL, 0}};
    int next = (f.rank + 1) % f.size, last = (f.rank + f.size - 1) % f.size;
    parts[next] = (comm_part_t){from, sizeof from};
    parts[64 + last] = (comm_part_t){to, sizeof to};
    if (f.rank == 0) usleep(4500000);
    sbag_code_t code =
        f.rank == 0 ? SBAG_OK : comm_exchange(f.comm, parts, parts + 64, "forward: ids", &status);
    if (code == SBAG_OK) code = comm_barrier(f.comm, "late", &status);
    ck_assert_int_eq(code, SBAG_ERR_TIMEOUT);
    ck_assert_msg(strstr(status.message, ": no answer from rank 0 within 1.5 s") != NULL, "%s",
                  status.message);
  }
  fixture_close_broken(&f);
}
END_TEST

/* Three deadlines long, but it makes progress meanwhile: it is waited for. (The deadline leaves a busy machine time to
 * let the rank answer at all.) */
START_TEST(test_a_rank_at_work_is_waited_for) {
  fixture_t f = fixture_open(0, 1.5);
  sbag_status_t status;
  int32_t one = 1;
  comm_request_t *request = NULL;
  CHECK_OK(f.comm->ops->allreduce_begin(f.comm, &one, 1, COMM_I32, COMM_SUM, &request, &status));
  for (int i = 0; f.rank == 0 && i < 4500; i++) {
    CHECK_OK(f.comm->ops->progress(f.comm, &status));
    usleep(1000);
  }
  CHECK_OK(comm_wait(f.comm, &request, "first", &status));
  CHECK_OK(comm_barrier(f.comm, "second", &status));
  ck_assert_int_eq(one, f.size);
  fixture_close(&f);
}
END_TEST

/* All ranks wait, but not in the same call. */
START_TEST(test_ranks_in_different_calls) {
  fixture_t f = fixture_open(0, 1.5);
  sbag_status_t status;
  status_clear(&status);
  if (f.size > 1) {
    static char to[8];
    comm_part_t parts[128] = {{NULL, 0}};
    parts[64 + 1] = (comm_part_t){to, sizeof to};
    ck_assert_int_eq(f.rank == 0 ? comm_exchange(f.comm, parts, parts + 64, "backward: gradients", &status)
                                 : comm_barrier(f.comm, "end", &status),
                     SBAG_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(status.message, "nothing came within 1.5 s: rank "));
    ck_assert_ptr_nonnull(strstr(status.message, "is in '"));
  }
  fixture_close_broken(&f);
}
END_TEST

/* Rank 0 does not come, and never will: the others end, and know who it was. */
START_TEST(test_create_without_a_rank) {
  mem_t *mem = NULL;
  comm_t *comm = NULL;
  comm_options_t options = {.timeout_s = 1.5};
  sbag_status_t status;
  MPI_Comm parent;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_dup(MPI_COMM_WORLD, &parent);
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank > 0) {
    ck_assert_int_eq(comm_mpi_create(parent, mem, &options, &comm, &status), SBAG_ERR_TIMEOUT);
    ck_assert_str_eq(status.message, "start: agreement: no answer from rank 0 within 1.5 s");
    ck_assert_ptr_null(comm);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  mem_destroy(&mem); /* `parent` stays: MPI still waits for rank 0 there */
}
END_TEST

/* The last rank sends rank 0 `sent` bytes where 8 are expected. */
static void check_disagreement(int64_t sent) {
  fixture_t f = fixture_open(0, 10.0);
  sbag_status_t status;
  static char from[16], to[16];
  comm_part_t parts[128] = {{NULL, 0}};
  if (f.rank == f.size - 1) parts[0] = (comm_part_t){from, sent};
  if (f.rank == 0) parts[64 + f.size - 1] = (comm_part_t){to, 8};
  sbag_code_t code = comm_exchange(f.comm, parts, parts + 64, "counts", &status);
  if (code == SBAG_OK)
    code = comm_barrier(f.comm, "after", &status); /* others hear of it in their next wait */
  ck_assert_int_eq(code, f.size == 1 ? SBAG_ERR_ARGUMENT : SBAG_ERR_COMM);
  ck_assert_int_eq(status.rank, 0);
  ck_assert_ptr_nonnull(strstr(status.message, f.size == 1 ? "sends itself" : "exchange"));
  fixture_close_broken(&f);
}

START_TEST(test_counts_disagree) {
  check_disagreement(4);
  check_disagreement(12);
}
END_TEST

/* The allocation of a request fails on one rank: all ranks hear of it. */
START_TEST(test_out_of_memory_in_begin) {
  fixture_t f = fixture_open(0, 0.0);
  sbag_status_t status;
  if (f.rank == 0) mem_fail_at(f.mem, 1);
  ck_assert_int_eq(exchange_64k(&f, "forward: ids", &status), SBAG_ERR_MEMORY);
  ck_assert_int_eq(status.rank, 0);
  ck_assert_ptr_nonnull(strstr(status.message, "comm: request"));
  fixture_close_broken(&f);
}
END_TEST

START_TEST(test_create_fails_together) {
  mem_t *mem = NULL;
  comm_t *comm = NULL;
  sbag_status_t status;
  int rank = 0, size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  for (int n = 1; n <= 5; n++) {
    if (rank == size - 1) mem_fail_at(mem, n);
    ck_assert_int_eq(comm_mpi_create(MPI_COMM_WORLD, mem, NULL, &comm, &status),
                     rank == size - 1 ? SBAG_ERR_MEMORY : SBAG_ERR_STATE);
    ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  }
  comm_options_t bad = {.chunk_bytes = -5}, differs = {.chunk_bytes = 100 + rank};
  ck_assert_int_eq(comm_mpi_create(MPI_COMM_WORLD, mem, &bad, &comm, &status), SBAG_ERR_ARGUMENT);
  if (size > 1) {
    ck_assert_int_eq(comm_mpi_create(MPI_COMM_WORLD, mem, &differs, &comm, &status), SBAG_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(status.message, "the same on all ranks"));
  }
  ck_assert_int_eq(comm_mpi_create(MPI_COMM_NULL, mem, NULL, &comm, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_null(comm);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}
END_TEST

START_TEST(test_wrong_arguments) {
  sbag_status_t status;
  fixture_t f = fixture_open(0, 0.0);
  comm_part_t parts[64] = {{NULL, 0}};
  for (int p = 0; p < f.size; p++) parts[p].bytes = -1;
  ck_assert_int_eq(comm_exchange(f.comm, parts, parts, "test", &status), SBAG_ERR_ARGUMENT);
  fixture_close_broken(&f);
  f = fixture_open(0, 0.0);
  ck_assert_int_eq(comm_broadcast(f.comm, parts, 1, f.size, "test", &status), SBAG_ERR_ARGUMENT);
  fixture_close_broken(&f);
  f = fixture_open(0, 0.0);
  ck_assert_int_eq(comm_allreduce(f.comm, parts, -1, COMM_U8, COMM_SUM, "test", &status), SBAG_ERR_ARGUMENT);
  fixture_close_broken(&f);
}
END_TEST

enum { SEGMENT = 64 << 20, SEGMENTS = 33 };

/* 2 GiB and one segment of addresses over 128 MiB of memory: all segments but the last are the same pages, as
 * memory takes longer to get than to fill. What lies beyond 2^31 has pages of its own. */
static char *large_map(void) {
  int file = memfd_create("large", 0);
  ck_assert_int_ge(file, 0);
  ck_assert_int_eq(ftruncate(file, 2 * (off_t)SEGMENT), 0);
  char *start =
      mmap(NULL, (size_t)SEGMENTS * SEGMENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ck_assert(start != MAP_FAILED);
  for (int i = 0; i < SEGMENTS; i++) {
    char *at = start + (int64_t)i * SEGMENT;
    off_t offset = i == SEGMENTS - 1 ? SEGMENT : 0;
    ck_assert(mmap(at, SEGMENT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, offset) == at);
  }
  close(file);
  return start;
}

/* Byte offsets beyond 2^31; on two ranks only, because it takes a second. */
START_TEST(test_exchange_beyond_int) {
  fixture_t f = fixture_open(0, 60.0);
  sbag_status_t status;
  int64_t edge = (int64_t)1 << 31, bytes = edge + 1000;
  char *data = large_map();
  for (int64_t i = 0; f.rank == 0 && i < SEGMENT; i += 4096) data[i] = (char)(i / 4096 % 127);
  for (int64_t i = edge; f.rank == 0 && i < bytes; i++) data[i] = (char)('a' + i % 26);
  comm_part_t parts[4] = {{NULL, 0}};
  parts[f.rank == 0 ? 1 : 2] = (comm_part_t){data, bytes};
  CHECK_OK(comm_exchange(f.comm, parts, parts + 2, "large", &status));
  for (int64_t i = 0; i < SEGMENT; i += 4096) ck_assert_int_eq(data[i], (char)(i / 4096 % 127));
  for (int64_t i = edge; i < bytes; i++) ck_assert_int_eq(data[i], (char)('a' + i % 26));
  ck_assert_int_eq(data[bytes], 0);
  ck_assert_int_eq(munmap(data, (size_t)SEGMENTS * SEGMENT), 0);
  fixture_close(&f);
}
END_TEST

static void add_working(TCase *tcase) {
  tcase_add_test(tcase, test_shape);
  tcase_add_test(tcase, test_exchange);
  tcase_add_test(tcase, test_exchange_one_byte_chunks);
  tcase_add_test(tcase, test_several_in_flight);
  tcase_add_test(tcase, test_collectives_keep_their_order);
  tcase_add_test(tcase, test_allreduce);
  tcase_add_test(tcase, test_broadcast);
  tcase_add_test(tcase, test_gathers);
  tcase_add_test(tcase, test_barrier);
  tcase_add_test(tcase, test_agree);
  tcase_add_test(tcase, test_agree_twice);
  tcase_add_test(tcase, test_warm_steps_allocate_nothing);
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size == 2) tcase_add_test(tcase, test_exchange_beyond_int);
}

static void add_failing(TCase *tcase) {
  tcase_add_test(tcase, test_fail_ends_the_waits);
  tcase_add_test(tcase, test_fail_ends_a_collective);
  tcase_add_test(tcase, test_fail_ends_a_destroy);
  tcase_add_test(tcase, test_all_fail_at_once);
  tcase_add_test(tcase, test_deadline_of_an_exchange);
  tcase_add_test(tcase, test_deadline_of_a_collective);
  tcase_add_test(tcase, test_only_the_silent_rank_is_named);
  tcase_add_test(tcase, test_a_rank_at_work_is_waited_for);
  tcase_add_test(tcase, test_ranks_in_different_calls);
  tcase_add_test(tcase, test_create_without_a_rank);
  tcase_add_test(tcase, test_counts_disagree);
  tcase_add_test(tcase, test_out_of_memory_in_begin);
  tcase_add_test(tcase, test_create_fails_together);
  tcase_add_test(tcase, test_wrong_arguments);
}

Suite *comm_suite(void) {
  Suite *suite = suite_create("comm");
  TCase *working = tcase_create("working"), *failing = tcase_create("failing");
  add_working(working);
  add_failing(failing);
  suite_add_tcase(suite, working);
  suite_add_tcase(suite, failing);
  return suite;
}
