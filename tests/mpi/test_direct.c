/* Rows that are written past the page cache beside others that are not: arrays whose rows, regions and memory
 * fit no page, written by all ranks into one file, are read back by rows and whole, as often as it takes for
 * two writers of a page to meet. */
#include "mpi_test.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/direct.h"
#include "comm/comm_mpi.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *direct_suite(void);

static mem_t *mem;
static comm_t *comm;
static sbag_status_t status;
static char folder[256], path[300]; /* a folder of this job's own, the same on all ranks */

static void setup(void) {
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(comm_mpi_create(MPI_COMM_WORLD, mem, NULL, &comm, &status), SBAG_OK);
  const char *scratch = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/shardbag-direct-XXXXXX", scratch != NULL ? scratch : "/tmp");
  if (comm_rank(comm) == 0) ck_assert_ptr_nonnull(mkdtemp(folder));
  ck_assert_int_eq(comm_broadcast(comm, folder, sizeof folder, 0, "test", &status), SBAG_OK);
  snprintf(path, sizeof path, "%s/file.h5", folder);
}

static void teardown(void) {
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
  if (comm_rank(comm) == 0) {
    unlink(path);
    ck_assert_msg(rmdir(folder) == 0, "something is left in %s: %s", folder, strerror(errno));
  }
  comm_destroy(&comm);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}

/* What fits no page: a piece is 3000 bytes at most, a chunk 70000, whose direct blocks are four pages. */
enum { ARRAYS = 5, PIECE_BYTES = 3000, CHUNK_BYTES = 70000, COLUMNS_MAX = 1300, PAGE_BYTES = 4096 };
static const int64_t shapes[ARRAYS][2] = {{9001, 33}, {30011, 7}, {1021, 257}, {70, 1300}, {4096, 64}};
static const char *const names[ARRAYS] = {"t/a", "t/b", "t/c", "t/d", "t/e"};

typedef struct rows {
  int array, round, is_own;
  int64_t first, count; /* this rank's own */
  float *block, *data;  /* data: not aligned, or by a page, in turn */
} rows_t;

static float value(const rows_t *r, int64_t row, int64_t column) {
  return (float)((row * 131 + column * 7 + r->array * 17 + r->round * 1009) % 16000001);
}

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *st) {
  (void)st;
  const rows_t *r = user;
  int64_t columns = shapes[r->array][1];
  for (int64_t i = 0; i < rows * columns; i++) ((float *)out)[i] = value(r, first + i / columns, i % columns);
  return SBAG_OK;
}

static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *st) {
  (void)st;
  const rows_t *r = user;
  *own = (checkpoint_rows_t){r->data, r->first, r->count};
  return SBAG_OK;
}

/* Blocks of rows that end anywhere; every third array comes by callback. */
static void begin_rows(rows_t *r, int array, int round) {
  int64_t rank = comm_rank(comm), size = comm_size(comm), rows = shapes[array][0], columns = shapes[array][1];
  int64_t place = round % 2 == 0 ? rank : size - 1 - rank;
  *r = (rows_t){.array = array, .round = round, .is_own = (array + round) % 3 != 0};
  r->first = rows * place / size;
  r->count = rows * (place + 1) / size - r->first;
  void *block = NULL;
  ck_assert_int_eq(
      posix_memalign(&block, PAGE_BYTES, (size_t)(r->count * columns) * sizeof(float) + PAGE_BYTES), 0);
  r->block = block;
  r->data = r->block + (round % 3) * 3; /* 0, 12 or 24 bytes behind a page's begin */
  ck_assert_int_eq(fill(r, r->first, r->count, r->data, &status), SBAG_OK);
}

static void write_all(rows_t *rows, int round) {
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  checkpoint_writer_set_piece(writer, PIECE_BYTES);
  checkpoint_writer_set_chunk(writer, CHUNK_BYTES);
  for (int i = 0; i < ARRAYS; i++) {
    begin_rows(&rows[i], i, round);
    ck_assert_int_eq(checkpoint_add_own_array(writer, names[i], CHECKPOINT_F32, 2, shapes[i], fill,
                                              rows[i].is_own ? own_rows : NULL, &rows[i], &status),
                     SBAG_OK);
  }
  ck_assert_msg(checkpoint_commit(&writer, &status) == SBAG_OK, "%s", status.message);
  for (int i = 0; i < ARRAYS; i++) free(rows[i].block);
}

static sbag_code_t take(void *user, int64_t first, int64_t rows, const void *data, sbag_status_t *st) {
  const rows_t *r = user;
  int64_t columns = shapes[r->array][1];
  for (int64_t i = 0; i < rows * columns; i++)
    if (((const float *)data)[i] != value(r, first + i / columns, i % columns))
      return status_set(st, SBAG_ERR_STATE, "'%s' row %lld column %lld is %g", names[r->array],
                        (long long)(first + i / columns), (long long)(i % columns),
                        (double)((const float *)data)[i]);
  return SBAG_OK;
}

/* Whole, which holds every piece against its checksum, and single rows. */
static void read_all(rows_t *rows) {
  checkpoint_reader_t *reader = NULL;
  float row[COLUMNS_MAX];
  ck_assert_msg(checkpoint_open(comm, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  for (int i = 0; i < ARRAYS; i++) {
    ck_assert_msg(checkpoint_read_array(reader, names[i], take, &rows[i], &status) == SBAG_OK, "%s",
                  status.message);
    for (int64_t k = comm_rank(comm); k < shapes[i][0]; k += shapes[i][0] / 11 + 1) {
      ck_assert_msg(checkpoint_read_rows(reader, names[i], k, 1, row, &status) == SBAG_OK, "%s",
                    status.message);
      ck_assert_msg(take(&rows[i], k, 1, row, &status) == SBAG_OK, "%s", status.message);
    }
  }
  checkpoint_close(&reader);
}

/* Each round over the last one's file; then with the pages given up, from the disk itself. */
START_TEST(test_unaligned) {
  rows_t rows[ARRAYS];
  for (int round = 0; round < 6; round++) {
    write_all(rows, round);
    read_all(rows);
    int file = open(path, O_RDONLY);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(file);
    ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
    read_all(rows);
    ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK); /* all have read it */
  }
}
END_TEST

/* What the file system refuses is told by the count, not by an error. */
START_TEST(test_refused) {
  int64_t done = 0;
  void *block = NULL;
  char read_back[2 * PAGE_BYTES];
  if (comm_rank(comm) > 0) return;
  int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ck_assert_int_ge(file, 0);
  ck_assert_int_eq(ftruncate(file, 1 << 20), 0);
  direct_t direct;
  ck_assert_int_eq(direct_open(path, &direct, &status), SBAG_OK);
  if (direct.file < 0) {
    ck_assert_int_eq(direct.align, 1);
    printf("direct: skipped, %s has no direct writes\n", folder);
  } else {
    ck_assert_int_ge(direct.align, PAGE_BYTES);
    ck_assert_int_eq(posix_memalign(&block, (size_t)direct.align, 2 * (size_t)direct.align), 0);
    memset(block, 7, 2 * (size_t)direct.align);
    ck_assert_int_eq(direct_write(&direct, path, direct.align, direct.align, block, &done, &status), SBAG_OK);
    ck_assert_int_eq(done, direct.align);
    ck_assert_int_eq(direct_write(&direct, path, 1, direct.align, block, &done, &status), SBAG_OK);
    ck_assert(done == 0 || done == direct.align); /* tmpfs takes everything */
    ck_assert_int_eq(pread(file, read_back, 2, direct.align + 1), 2);
    ck_assert(read_back[0] == 7 && read_back[1] == 7);
    close(direct.file);
    free(block);
  }
  close(file);
  ck_assert_int_eq(direct_open("/nowhere/at/all", &direct, &status), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "/nowhere/at/all"));
}
END_TEST

Suite *direct_suite(void) {
  Suite *suite = suite_create("direct");
  TCase *tcase = tcase_create("direct");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_set_timeout(tcase, 120);
  tcase_add_test(tcase, test_unaligned);
  tcase_add_test(tcase, test_refused);
  suite_add_tcase(suite, tcase);
  return suite;
}
