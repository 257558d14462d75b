/* The comm's operations on the GPU's memory, through its NCCL device: what arrives, several in flight beside
 * those of the host's memory, and that a peer that is lost ends them. NCCL and the GPU are the stand-ins of
 * ../shim; here they may also be late: an event that is asked says so some times more, or for ever, and NCCL
 * is still at work on a launch when it returns. */
#include "mpi/mpi_test.h"

#include "base/clock.h"
#include "base/random.h"
#include "comm/comm_mpi.h"
#include "comm/device.h"
#include "cuda/comm_nccl.h"
#include "cuda/cuda_kernel.h"
#include <shardbag/mpi.h>

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *comm_nccl_suite(void);

/* ---- a GPU that is late ---- */

cudaError_t __real_cudaEventQuery(cudaEvent_t event);
cudaError_t __wrap_cudaEventQuery(cudaEvent_t event);
ncclResult_t __real_ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error);
ncclResult_t __wrap_ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error);

static int stalled;            /* no event ends any more */
static int late, asked_events; /* every question but each (late + 1)-th is answered with "not yet" */
static int asked_nccl;

cudaError_t __wrap_cudaEventQuery(cudaEvent_t event) {
  if (stalled || asked_events++ % (late + 1) != late) return cudaErrorNotReady;
  return __real_cudaEventQuery(event);
}

ncclResult_t __wrap_ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  ncclResult_t result = __real_ncclCommGetAsyncError(comm, error);
  if (result == ncclSuccess && *error == ncclSuccess && asked_nccl++ % (late + 1) != late)
    *error = ncclInProgress;
  return result;
}

/* ---- a comm with a GPU ---- */

typedef struct fixture {
  mem_t *mem;
  comm_t *comm;
  kernel_t *gpu;
  int rank, size;
} fixture_t;

#define CHECK_OK(call) ck_assert_msg((call) == SBAG_OK, "%s", status.message)

static fixture_t open_on(MPI_Comm parent, int64_t chunk_bytes, double timeout_s) {
  fixture_t f = {.rank = 0};
  sbag_status_t status;
  comm_options_t options = {.chunk_bytes = chunk_bytes, .timeout_s = timeout_s};
  CHECK_OK(mem_create(&f.mem, &status));
  if (parent == MPI_COMM_NULL)
    CHECK_OK(comm_self_create(f.mem, &options, &f.comm, &status));
  else
    CHECK_OK(comm_mpi_create(parent, f.mem, &options, &f.comm, &status));
  f.rank = comm_rank(f.comm);
  f.size = comm_size(f.comm);
  CHECK_OK(kernel_cuda_create(f.mem, 0, &f.gpu, &status));
  CHECK_OK(comm_nccl_attach(f.comm, 0, kernel_cuda_stream(f.gpu), &status));
  return f;
}

/* All ranks have theirs when it returns: a test's failure must not reach one that is still at it. */
static fixture_t fixture_open(int64_t chunk_bytes, double timeout_s) {
  MPI_Barrier(MPI_COMM_WORLD);
  fixture_t f = open_on(MPI_COMM_WORLD, chunk_bytes, timeout_s);
  MPI_Barrier(MPI_COMM_WORLD);
  return f;
}

static void fixture_close(fixture_t *f) {
  comm_destroy(&f->comm);
  kernel_destroy(&f->gpu);
  ck_assert_int_eq(mem_stats(f->mem).live_bytes, 0);
  mem_destroy(&f->mem);
}

static void fixture_close_broken(fixture_t *f) {
  stalled = 0; /* or the GPU's memory could not be freed */
  comm_destroy(&f->comm);
  kernel_destroy(&f->gpu);
  mem_destroy(&f->mem);
}

static void *gpu_new(size_t bytes) {
  void *block = NULL;
  if (bytes > 0) ck_assert_int_eq(cudaMalloc(&block, bytes), cudaSuccess);
  return block;
}

static void *gpu_put(const void *host, size_t bytes) {
  void *block = gpu_new(bytes);
  if (bytes > 0) ck_assert_int_eq(cudaMemcpy(block, host, bytes, cudaMemcpyHostToDevice), cudaSuccess);
  return block;
}

static void gpu_get(void *host, const void *block, size_t bytes) {
  if (bytes > 0) ck_assert_int_eq(cudaMemcpy(host, block, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
}

static void gpu_drop(void *block) {
  ck_assert_int_eq(cudaFree(block), cudaSuccess);
}

/* ---- an exchange, a pure function of (round, from, to) ---- */

enum { RANKS_MOST = 16, TRAFFIC_MOST = 40000 };

typedef struct traffic {
  int round;
  comm_part_t send[RANKS_MOST], recv[RANKS_MOST];
} traffic_t;

static int64_t traffic_bytes(int round, int64_t most, int from, int to) {
  uint64_t key = random_key((uint64_t)round, "sizes"), pair = (uint64_t)from * 1000 + (uint64_t)to;
  return random_below(key, 2 * pair, 4) == 0 ? 0 : random_below(key, 2 * pair + 1, most + 1);
}

static void traffic_fill(unsigned char *at, int64_t bytes, int round, int from, int to) {
  for (int64_t i = 0; i < bytes; i++)
    at[i] = (unsigned char)((i * 2654435761) >> 7 ^ (from * 31 + to * 17 + round * 101));
}

static traffic_t traffic_open(const fixture_t *f, int round, int64_t most) {
  static unsigned char bytes[TRAFFIC_MOST];
  traffic_t t = {.round = round};
  ck_assert(most <= TRAFFIC_MOST && f->size <= RANKS_MOST);
  for (int p = 0; p < f->size; p++) {
    t.send[p].bytes = traffic_bytes(round, most, f->rank, p);
    t.recv[p].bytes = traffic_bytes(round, most, p, f->rank);
    traffic_fill(bytes, t.send[p].bytes, round, f->rank, p);
    t.send[p].data = gpu_put(bytes, (size_t)t.send[p].bytes);
    t.recv[p].data = gpu_new((size_t)t.recv[p].bytes);
  }
  return t;
}

static void traffic_close(const fixture_t *f, traffic_t *t) {
  static unsigned char got[TRAFFIC_MOST], want[TRAFFIC_MOST];
  for (int p = 0; p < f->size; p++) {
    size_t bytes = (size_t)t->recv[p].bytes;
    gpu_get(got, t->recv[p].data, bytes);
    traffic_fill(want, t->recv[p].bytes, t->round, p, f->rank);
    ck_assert_msg(memcmp(got, want, bytes) == 0, "round %d: what came from rank %d is wrong", t->round, p);
    gpu_drop(t->send[p].data);
    gpu_drop(t->recv[p].data);
  }
}

static const int64_t chunk_sizes[] = {64, 1024, 0};
enum { CHUNK_SIZES = sizeof chunk_sizes / sizeof chunk_sizes[0] };

START_TEST(test_exchange) {
  sbag_status_t status;
  fixture_t f = fixture_open(chunk_sizes[_i], 60.0);
  for (int round = 0; round < 10; round++) {
    traffic_t t = traffic_open(&f, round, round < 7 ? 200 : chunk_sizes[_i] == 64 ? 4000 : TRAFFIC_MOST);
    CHECK_OK(comm_exchange(f.comm, t.send, t.recv, "test", &status));
    traffic_close(&f, &t);
  }
  fixture_close(&f);
}
END_TEST

/* ---- after the kernel's stream ---- */

enum { FILLED = 700 };

/* Where streams are lazy nothing of the fills has run when the exchange begins: nobody waits for them here.
 */
START_TEST(test_comes_after_what_was_asked) {
  sbag_status_t status;
  fixture_t f = fixture_open(chunk_sizes[_i], 60.0);
  int64_t bytes = FILLED * (int64_t)sizeof(int64_t), *out = gpu_new((size_t)(f.size * bytes)),
          *in = gpu_new((size_t)(f.size * bytes)), got[FILLED];
  for (int round = 0; round < 3; round++) {
    comm_part_t send[RANKS_MOST], recv[RANKS_MOST];
    for (int p = 0; p < f.size; p++) {
      send[p] = (comm_part_t){out + (int64_t)p * FILLED, bytes};
      recv[p] = (comm_part_t){in + (int64_t)p * FILLED, bytes};
      f.gpu->ops->fill_i64(f.gpu, NULL, send[p].data, FILLED, 1000 * f.rank + 100 * round + p, 3);
    }
    CHECK_OK(comm_exchange(f.comm, send, recv, "test", &status));
    for (int p = 0; p < f.size; p++) {
      gpu_get(got, recv[p].data, sizeof got);
      for (int i = 0; i < FILLED; i++) ck_assert_int_eq(got[i], 1000 * p + 100 * round + f.rank + 3 * i);
    }
  }
  gpu_drop(out);
  gpu_drop(in);
  fixture_close(&f);
}
END_TEST

/* ---- several in flight, of both kinds of memory ---- */

enum { SUMS = 300, KINDS = 6 };

typedef struct many {
  traffic_t a, b;
  double *sums;  /* GPU's */
  int64_t *sent; /* GPU's */
  double host_sums[SUMS];
  int64_t host_sent[SUMS];
  comm_request_t *requests[KINDS];
} many_t;

static void many_begin(const fixture_t *f, many_t *m) {
  sbag_status_t status;
  const comm_ops_t *ops = f->comm->ops;
  int root = f->size - 1;
  CHECK_OK(ops->exchange_begin(f->comm, m->a.send, m->a.recv, &m->requests[0], &status));
  CHECK_OK(ops->allreduce_begin(f->comm, m->host_sums, SUMS, COMM_F64, COMM_SUM, &m->requests[1], &status));
  CHECK_OK(ops->allreduce_begin(f->comm, m->sums, SUMS, COMM_F64, COMM_SUM, &m->requests[2], &status));
  CHECK_OK(ops->broadcast_begin(f->comm, m->host_sent, 8 * SUMS, root, &m->requests[3], &status));
  CHECK_OK(ops->exchange_begin(f->comm, m->b.send, m->b.recv, &m->requests[4], &status));
  CHECK_OK(ops->broadcast_begin(f->comm, m->sent, 8 * SUMS, root, &m->requests[5], &status));
}

/* Ranks wait in different orders, and some poll before. */
static void many_end(const fixture_t *f, many_t *m, int round) {
  sbag_status_t status;
  int polls = (f->rank + round) % 3 == 0, done = 0;
  while (polls && !done) CHECK_OK(f->comm->ops->test(f->comm, m->requests[4], &done, &status));
  for (int k = 0; k < KINDS; k++) {
    int which = (f->rank + round) % 2 == 0 ? KINDS - 1 - k : (k + round) % KINDS;
    CHECK_OK(comm_wait(f->comm, &m->requests[which], "test", &status));
  }
}

static void many_check(const fixture_t *f, const many_t *m, int round) {
  double sums[SUMS];
  int64_t sent[SUMS];
  gpu_get(sums, m->sums, sizeof sums);
  gpu_get(sent, m->sent, sizeof sent);
  for (int i = 0; i < SUMS; i++) {
    ck_assert(sums[i] == f->size * i + f->size * (f->size - 1) / 2 && m->host_sums[i] == sums[i] + f->size);
    ck_assert(sent[i] == i * round && m->host_sent[i] == i + round);
  }
}

START_TEST(test_several_in_flight) {
  fixture_t f = fixture_open(chunk_sizes[_i], 60.0);
  for (int round = 0; round < 6; round++) {
    many_t m = {.a = traffic_open(&f, round, 1500), .b = traffic_open(&f, 100 + round, 3000)};
    double sums[SUMS];
    int64_t sent[SUMS];
    int is_root = f.rank == f.size - 1;
    for (int i = 0; i < SUMS; i++) {
      sums[i] = i + f.rank;
      m.host_sums[i] = sums[i] + 1;
      sent[i] = is_root ? i * round : -1;
      m.host_sent[i] = is_root ? i + round : -1;
    }
    m.sums = gpu_put(sums, sizeof sums);
    m.sent = gpu_put(sent, sizeof sent);
    many_begin(&f, &m);
    many_end(&f, &m, round);
    many_check(&f, &m, round);
    traffic_close(&f, &m.a);
    traffic_close(&f, &m.b);
    gpu_drop(m.sums);
    gpu_drop(m.sent);
  }
  fixture_close(&f);
}
END_TEST

/* ---- reductions ---- */

enum { VALUES = 500, VALUE_BYTES = 8 * VALUES };

static void value_put(void *values, comm_type_t type, int64_t i, int64_t x) {
  if (type == COMM_U8) ((uint8_t *)values)[i] = (uint8_t)x;
  if (type == COMM_I32) ((int32_t *)values)[i] = (int32_t)x;
  if (type == COMM_I64) ((int64_t *)values)[i] = x;
  if (type == COMM_F32) ((float *)values)[i] = (float)x;
  if (type == COMM_F64) ((double *)values)[i] = (double)x;
}

/* Rank r contributes (i + r) % 20 at element i. */
static int64_t reduced(int size, int64_t i, comm_reduce_t op) {
  int64_t sum = 0, most = 0, least = 20;
  for (int r = 0; r < size; r++) {
    int64_t v = (i + r) % 20;
    sum += v;
    if (v > most) most = v;
    if (v < least) least = v;
  }
  return op == COMM_SUM ? sum : op == COMM_MAX ? most : least;
}

static void check_allreduce(const fixture_t *f, comm_type_t type, comm_reduce_t op) {
  sbag_status_t status;
  int64_t mine[VALUES] = {0}, want[VALUES] = {0};
  for (int i = 0; i < VALUES; i++) {
    value_put(mine, type, i, (i + f->rank) % 20);
    value_put(want, type, i, reduced(f->size, i, op));
  }
  void *values = gpu_put(mine, sizeof mine);
  CHECK_OK(comm_allreduce(f->comm, values, VALUES, type, op, "test", &status));
  gpu_get(mine, values, sizeof mine);
  ck_assert_mem_eq(mine, want, sizeof mine);
  gpu_drop(values);
}

START_TEST(test_allreduce) {
  fixture_t f = fixture_open(chunk_sizes[_i], 60.0);
  for (int type = COMM_U8; type <= COMM_F64; type++)
    for (int op = COMM_SUM; op <= COMM_MIN; op++) check_allreduce(&f, (comm_type_t)type, (comm_reduce_t)op);
  fixture_close(&f);
}
END_TEST

/* spread 0: equal parts; else they differ, and every third is empty. */
static void check_reduce_scatter(const fixture_t *f, comm_type_t type, int64_t largest, int64_t spread) {
  sbag_status_t status;
  static char mine[RANKS_MOST * VALUE_BYTES], got[VALUE_BYTES + 8], want[VALUE_BYTES + 8];
  int64_t counts[RANKS_MOST], total = 0, first = 0, width = comm_type_bytes(type);
  ck_assert(largest <= VALUES);
  for (int p = 0; p < f->size; p++) {
    counts[p] = spread == 0 ? largest : p % 3 == 2 ? 0 : largest - (p * spread) % largest;
    first += p < f->rank ? counts[p] : 0;
    total += counts[p];
  }
  for (int64_t i = 0; i < total; i++) value_put(mine, type, i, (i + f->rank) % 20);
  int64_t bytes = counts[f->rank] * width;
  memset(want, '?', sizeof want);
  for (int64_t i = 0; i < counts[f->rank]; i++)
    value_put(want, type, i, reduced(f->size, first + i, COMM_SUM));
  void *from = gpu_put(mine, (size_t)(total * width)), *to = gpu_put(want, (size_t)bytes + 8);
  ck_assert_int_eq(cudaMemset(to, 0, (size_t)bytes), cudaSuccess);
  comm_request_t *request = NULL;
  CHECK_OK(f->comm->ops->reduce_scatter_begin(f->comm, from, counts, to, type, &request, &status));
  memset(counts, 0x7f, sizeof counts); /* read during the call only */
  CHECK_OK(comm_wait(f->comm, &request, "test", &status));
  gpu_get(got, to, (size_t)bytes + 8);
  ck_assert_mem_eq(got, want, (size_t)bytes + 8);
  gpu_drop(from);
  gpu_drop(to);
}

START_TEST(test_reduce_scatter) {
  static const int64_t largest[] = {1, 3, 64, 137, VALUES};
  fixture_t f = fixture_open(chunk_sizes[_i], 60.0);
  for (int n = 0; n < 5; n++)
    for (int64_t spread = 0; spread < 8; spread += 7) {
      check_reduce_scatter(&f, COMM_F32, largest[n], spread);
      check_reduce_scatter(&f, COMM_F64, largest[n], spread);
    }
  fixture_close(&f);
}
END_TEST

START_TEST(test_broadcast) {
  sbag_status_t status;
  fixture_t f = fixture_open(chunk_sizes[_i], 60.0);
  for (int root = 0; root < f.size; root++) {
    char text[1001], want[1001];
    memset(text, f.rank == root ? 'a' + root : '?', sizeof text);
    memset(want, 'a' + root, sizeof want);
    want[1000] = text[1000];
    void *data = gpu_put(text, sizeof text);
    CHECK_OK(comm_broadcast(f.comm, data, 1000, root, "test", &status));
    gpu_get(text, data, sizeof text);
    ck_assert_mem_eq(text, want, sizeof text);
    gpu_drop(data);
  }
  CHECK_OK(comm_broadcast(f.comm, NULL, 0, 0, "nothing", &status));
  fixture_close(&f);
}
END_TEST

START_TEST(test_gather) {
  sbag_status_t status;
  fixture_t f = fixture_open(0, 60.0);
  int64_t mine = 1000 + f.rank, all[RANKS_MOST];
  void *one = gpu_put(&mine, 8), *many = gpu_new(8 * (size_t)f.size);
  CHECK_OK(comm_allgather(f.comm, one, 8, many, "test", &status));
  gpu_get(all, many, 8 * (size_t)f.size);
  for (int r = 0; r < f.size; r++) ck_assert_int_eq(all[r], 1000 + r);
  gpu_drop(one);
  gpu_drop(many);
  fixture_close(&f);
}
END_TEST

/* A comm of one rank without MPI has a GPU too. */
START_TEST(test_self) {
  sbag_status_t status;
  MPI_Barrier(MPI_COMM_WORLD);
  fixture_t f = open_on(MPI_COMM_NULL, 0, 60.0);
  traffic_t t = traffic_open(&f, 3, 3000);
  CHECK_OK(comm_exchange(f.comm, t.send, t.recv, "test", &status));
  traffic_close(&f, &t);
  check_allreduce(&f, COMM_F32, COMM_SUM);
  check_reduce_scatter(&f, COMM_F32, 100, 0);
  fixture_close(&f);
}
END_TEST

static void warm_step(const fixture_t *f, many_t *m, void *from, void *to) {
  sbag_status_t status;
  int64_t counts[RANKS_MOST];
  comm_request_t *request = NULL;
  for (int p = 0; p < f->size; p++) counts[p] = 10 + 20 * (p % 2);
  many_begin(f, m);
  CHECK_OK(f->comm->ops->reduce_scatter_begin(f->comm, from, counts, to, COMM_F32, &request, &status));
  many_end(f, m, 1);
  CHECK_OK(comm_wait(f->comm, &request, "test", &status));
}

START_TEST(test_warm_steps_allocate_nothing) {
  fixture_t f = fixture_open(256, 60.0);
  many_t m = {.a = traffic_open(&f, 1, 300), .b = traffic_open(&f, 2, 3000)};
  size_t free_bytes[2], total_bytes;
  m.sums = gpu_put(m.host_sums, sizeof m.host_sums);
  m.sent = gpu_put(m.host_sent, sizeof m.host_sent);
  void *from = gpu_new(RANKS_MOST * 30 * sizeof(float)), *to = gpu_new(30 * sizeof(float));
  ck_assert_int_eq(cudaMemset(from, 0, RANKS_MOST * 30 * sizeof(float)), cudaSuccess);
  warm_step(&f, &m, from, to);
  int64_t before = mem_stats(f.mem).alloc_count;
  ck_assert_int_eq(cudaMemGetInfo(&free_bytes[0], &total_bytes), cudaSuccess);
  for (int step = 0; step < 10; step++) warm_step(&f, &m, from, to);
  ck_assert_int_eq(cudaMemGetInfo(&free_bytes[1], &total_bytes), cudaSuccess);
  ck_assert_int_eq(mem_stats(f.mem).alloc_count, before);
  ck_assert_uint_eq(free_bytes[0], free_bytes[1]);
  traffic_close(&f, &m.a);
  traffic_close(&f, &m.b);
  gpu_drop(m.sums);
  gpu_drop(m.sent);
  gpu_drop(from);
  gpu_drop(to);
  fixture_close(&f);
}
END_TEST

/* ---- what goes wrong ---- */

START_TEST(test_memory_of_two_kinds) {
  sbag_status_t status;
  fixture_t f = fixture_open(0, 60.0);
  comm_part_t send[RANKS_MOST] = {{NULL, 0}}, recv[RANKS_MOST] = {{NULL, 0}};
  char host[8] = {0};
  void *data = gpu_put(host, sizeof host);
  send[f.rank] = (comm_part_t){data, 8};
  recv[f.rank] = (comm_part_t){host, 8};
  ck_assert_int_eq(comm_exchange(f.comm, send, recv, "test", &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "they must be of one kind"));
  fixture_close_broken(&f);
  gpu_drop(data);
}
END_TEST

/* All ranks but rank 0 begin this; its group stays on the stream. */
static comm_request_t *begin_stalled(const fixture_t *f, float **data) {
  sbag_status_t status;
  comm_request_t *request = NULL;
  stalled = 1;
  *data = gpu_new(100 * sizeof(float));
  CHECK_OK(f->comm->ops->allreduce_begin(f->comm, *data, 100, COMM_F32, COMM_SUM, &request, &status));
  return request;
}

/* Lazy streams alone: else the stand-in's launch waits for the peers. */
static int launches_wait(void) {
  const char *streams = getenv("EMU_STREAMS");
  return streams == NULL || strcmp(streams, "lazy") != 0;
}

/* Rank 0 gives up while the others wait for their GPUs. */
START_TEST(test_fail_ends_a_wait) {
  fixture_t f = fixture_open(0, 0.0);
  sbag_status_t status;
  float *data = NULL;
  if (f.rank == 0) {
    usleep(50000);
    status_set(&status, SBAG_ERR_FORMAT, "line 7 is odd");
    comm_fail(f.comm, &status);
  } else {
    comm_request_t *request = begin_stalled(&f, &data);
    ck_assert_int_eq(comm_wait(f.comm, &request, "forward: rows", &status), SBAG_ERR_FORMAT);
    ck_assert_str_eq(status.message, "rank 0: line 7 is odd");
  }
  fixture_close_broken(&f);
  gpu_drop(data);
}
END_TEST

/* Rank 0 does not come, and does not answer: as if it were stopped. */
START_TEST(test_deadline) {
  fixture_t f = fixture_open(0, 0.5);
  sbag_status_t status;
  float *data = NULL;
  if (f.rank == 0) {
    usleep(f.size > 1 ? 1500000 : 0);
  } else {
    comm_request_t *request = begin_stalled(&f, &data);
    double start_s = clock_now();
    ck_assert_int_eq(comm_wait(f.comm, &request, "forward: rows", &status), SBAG_ERR_TIMEOUT);
    ck_assert_double_lt(clock_now() - start_s, 3.0);
    ck_assert_msg(strstr(status.message, "forward: rows: no answer from rank 0 within 0.5 s") != NULL, "%s",
                  status.message);
    ck_assert_int_eq(comm_barrier(f.comm, "later", &status), SBAG_ERR_TIMEOUT);
  }
  fixture_close_broken(&f);
  gpu_drop(data);
}
END_TEST

/* What NCCL finds out by itself, here that counts differ, ends all ranks. */
START_TEST(test_an_error_of_nccl) {
  fixture_t f = fixture_open(0, 5.0);
  sbag_status_t status;
  status_clear(&status);
  if (f.size > 1) {
    comm_part_t send[RANKS_MOST] = {{NULL, 0}}, recv[RANKS_MOST] = {{NULL, 0}};
    void *data = gpu_new(64);
    if (f.rank == 0) send[1] = (comm_part_t){data, 16};
    if (f.rank == 1) recv[0] = (comm_part_t){data, 12};
    sbag_code_t code = comm_exchange(f.comm, send, recv, "rows", &status);
    if (code == SBAG_OK) code = comm_barrier(f.comm, "after", &status);
    ck_assert_int_eq(code, SBAG_ERR_COMM);
    ck_assert_msg(strstr(status.message, "a transfer: NCCL: ") != NULL, "%s", status.message);
    fixture_close_broken(&f);
    gpu_drop(data);
    return;
  }
  fixture_close_broken(&f);
}
END_TEST

/* ---- the choice of the device ---- */

/* "" if a context of that device is made (*chosen: which), else the error's message, the same everywhere. */
static void context_with(const char *gpus, sbag_device_t device, sbag_device_t *chosen,
                         sbag_status_t *status) {
  sbag_context_options_t options = sbag_context_options_default();
  sbag_context_h context = NULL;
  options.device = device;
  status_clear(status);
  ck_assert_int_eq(setenv("EMU_DEVICES", gpus, 1), 0);
  MPI_Barrier(MPI_COMM_WORLD);
  if (sbag_context_create_mpi(MPI_COMM_WORLD, &options, &context, status) == SBAG_OK) {
    *chosen = sbag_context_device(context);
    sbag_context_destroy(&context);
  }
  ck_assert_int_eq(unsetenv("EMU_DEVICES"), 0);
}

START_TEST(test_choice) {
  static const struct {
    const char *gpus, *says;
  } cases[] = {{"-35", "there is no NVIDIA driver"},
               {"0", "no GPU can be used"},
               {"1", "would share GPU 0000:00:00.0"}};
  sbag_device_t chosen = SBAG_DEVICE_AUTO;
  sbag_status_t status;
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (int i = 0; i < (size > 1 ? 3 : 2); i++) {
    context_with(cases[i].gpus, SBAG_DEVICE_CUDA, &chosen, &status);
    ck_assert_msg(strstr(status.message, cases[i].says) != NULL, "%s", status.message);
    context_with(cases[i].gpus, SBAG_DEVICE_AUTO, &chosen, &status);
    ck_assert_msg(status.code == SBAG_OK && chosen == SBAG_DEVICE_CPU, "%s", status.message);
  }
  char enough[8];
  snprintf(enough, sizeof enough, "%d", size);
  for (int device = SBAG_DEVICE_CUDA; device <= SBAG_DEVICE_AUTO; device++) {
    context_with(enough, (sbag_device_t)device, &chosen, &status);
    ck_assert_msg(status.code == SBAG_OK && chosen == SBAG_DEVICE_CUDA, "%s", status.message);
  }
}
END_TEST

/* ---- */

static void on_time(void) {
  stalled = late = 0;
}

static void too_late(void) {
  stalled = 0;
  late = 3;
}

static void add_working(TCase *tcase) {
  tcase_add_loop_test(tcase, test_exchange, 0, CHUNK_SIZES);
  tcase_add_loop_test(tcase, test_comes_after_what_was_asked, 0, CHUNK_SIZES);
  tcase_add_loop_test(tcase, test_several_in_flight, 0, CHUNK_SIZES);
  tcase_add_loop_test(tcase, test_allreduce, 0, CHUNK_SIZES);
  tcase_add_loop_test(tcase, test_reduce_scatter, 0, CHUNK_SIZES);
  tcase_add_loop_test(tcase, test_broadcast, 0, CHUNK_SIZES);
  tcase_add_test(tcase, test_gather);
  tcase_add_test(tcase, test_self);
  tcase_add_test(tcase, test_warm_steps_allocate_nothing);
}

Suite *comm_nccl_suite(void) {
  Suite *suite = suite_create("comm over NCCL");
  TCase *working = tcase_create("working"), *slow = tcase_create("late"), *failing = tcase_create("failing");
  tcase_add_checked_fixture(working, on_time, on_time);
  tcase_add_checked_fixture(slow, too_late, on_time);
  tcase_add_checked_fixture(failing, on_time, on_time);
  add_working(working);
  add_working(slow);
  if (!launches_wait()) {
    tcase_add_test(failing, test_fail_ends_a_wait);
    tcase_add_test(failing, test_deadline);
  }
  tcase_add_test(failing, test_memory_of_two_kinds);
  tcase_add_test(failing, test_an_error_of_nccl);
  tcase_add_test(failing, test_choice);
  suite_add_tcase(suite, working);
  suite_add_tcase(suite, slow);
  suite_add_tcase(suite, failing);
  return suite;
}
