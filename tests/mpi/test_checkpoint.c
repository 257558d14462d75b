/* Checkpoints: what N ranks write is read by N ranks and by one, and every error ends the call on all ranks
 * with one message and leaves nothing behind. */
#include "mpi_test.h"

#include "checkpoint/checkpoint.h"
#include "checkpoint/trailer.h"
#include "comm/comm_mpi.h"
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *checkpoint_suite(void);

static mem_t *mem;
static comm_t *comm;
static sbag_status_t status;
static char folder[256], path[300]; /* a folder of this job's own, the same on all ranks */

static void setup(void) {
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(comm_mpi_create(MPI_COMM_WORLD, mem, NULL, &comm, &status), SBAG_OK);
  const char *scratch = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/shardbag-checkpoint-XXXXXX", scratch != NULL ? scratch : "/tmp");
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

/* An array whose values follow from row and column, and what happened to it. */
typedef struct pattern {
  const char *name;
  checkpoint_type_t type;
  int rank;
  int64_t shape[2];
  int64_t calls, rows; /* of this rank's callback */
  int64_t seen[2];     /* first row and end of what came so far */
  int64_t fail_at_row; /* the callback that has it fails */
} pattern_t;

static int64_t pattern_columns(const pattern_t *p) {
  return p->rank == 2 ? p->shape[1] : 1;
}

static void pattern_value(const pattern_t *p, int64_t row, int64_t column, void *value) {
  int64_t v = row * 131 + column * 7 - 5;
  switch (p->type) {
  case CHECKPOINT_F32:
    *(float *)value = (float)v * 0.25f;
    break;
  case CHECKPOINT_F64:
    *(double *)value = (double)v / 3.0;
    break;
  case CHECKPOINT_I64:
    *(int64_t *)value = v * ((int64_t)1 << 40);
    break;
  case CHECKPOINT_I32:
    *(int32_t *)value = (int32_t)v;
    break;
  default:
    *(uint8_t *)value = (uint8_t)(v & 255);
  }
}

/* Collective, as the collection's reading of rows is. */
static void note_call(pattern_t *p, int64_t first, int64_t rows) {
  ck_assert_int_eq(comm_barrier(comm, "test: callback", &status), SBAG_OK);
  if (p->calls++ == 0) p->seen[0] = p->seen[1] = first;
  ck_assert_int_eq(first, p->seen[1]);
  p->seen[1] += rows;
  p->rows += rows;
}

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *st) {
  pattern_t *p = user;
  note_call(p, first, rows);
  int64_t columns = pattern_columns(p), each = checkpoint_type_bytes(p->type);
  for (int64_t i = 0; i < rows * columns; i++)
    pattern_value(p, first + i / columns, i % columns, (char *)out + i * each);
  if (p->fail_at_row >= first && p->fail_at_row < first + rows)
    return status_set(st, SBAG_ERR_ARGUMENT, "the planted error");
  return SBAG_OK;
}

static void check_rows(const pattern_t *p, int64_t first, int64_t rows, const void *data) {
  int64_t columns = pattern_columns(p), each = checkpoint_type_bytes(p->type);
  for (int64_t i = 0; i < rows * columns; i++) {
    char expected[8];
    pattern_value(p, first + i / columns, i % columns, expected);
    if (memcmp((const char *)data + i * each, expected, (size_t)each) != 0)
      ck_abort_msg("'%s' row %lld column %lld", p->name, (long long)(first + i / columns),
                   (long long)(i % columns));
  }
}

static sbag_code_t take(void *user, int64_t first, int64_t rows, const void *data, sbag_status_t *st) {
  pattern_t *p = user;
  note_call(p, first, rows);
  check_rows(p, first, rows, data);
  if (p->fail_at_row >= first && p->fail_at_row < first + rows)
    return status_set(st, SBAG_ERR_ARGUMENT, "the planted error");
  return SBAG_OK;
}

static sbag_code_t take_alone(void *user, int64_t first, int64_t rows, const void *data, sbag_status_t *st) {
  (void)st;
  pattern_t *p = user;
  check_rows(p, first, rows, data);
  p->rows += rows;
  return SBAG_OK;
}

static const pattern_t patterns[] = {
    {"tables/user/weight", CHECKPOINT_F32, 2, {1003, 16}, 0, 0, {0, 0}, -1},
    {"tables/user/state/sum", CHECKPOINT_F64, 1, {1003, 0}, 0, 0, {0, 0}, -1},
    {"tables/wide/weight", CHECKPOINT_F32, 2, {37, 3000}, 0, 0, {0, 0}, -1}, /* a row is more than a chunk */
    {"counts", CHECKPOINT_I64, 2, {5, 3}, 0, 0, {0, 0}, -1},
    {"few", CHECKPOINT_I32, 1, {2, 0}, 0, 0, {0, 0}, -1},
    {"empty", CHECKPOINT_F32, 2, {0, 8}, 0, 0, {0, 0}, -1},
    {"bytes", CHECKPOINT_U8, 2, {9, 2}, 0, 0, {0, 0}, -1},
};
enum { PATTERNS = sizeof patterns / sizeof patterns[0], CHUNK_BYTES = 10000, PIECE_BYTES = 3000 };

static const char vocabulary[] = "one\0two\n\xff";

/* Blobs and attributes. */
static void declare_rest(checkpoint_writer_t *writer) {
  int root = comm_rank(comm) == 0;
  ck_assert_int_eq(checkpoint_add_blob(writer, "vocabulary/user", root ? vocabulary : NULL,
                                       root ? (int64_t)sizeof vocabulary : 0, &status),
                   SBAG_OK);
  ck_assert_int_eq(checkpoint_add_blob(writer, "vocabulary/none", NULL, 0, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_int(writer, "", "step", INT64_MIN + 7, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_real(writer, "metrics/test", "auc", 0.1, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_text(writer, "tables/user", "mode", "mean \xc3\xa4", &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_text(writer, "tables/user/weight", "unit", "", &status), SBAG_OK);
}

static checkpoint_writer_t *declare(pattern_t *p) {
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  checkpoint_writer_set_chunk(writer, CHUNK_BYTES);
  checkpoint_writer_set_piece(writer, PIECE_BYTES);
  for (int i = 0; i < PATTERNS; i++) {
    p[i] = patterns[i];
    ck_assert_int_eq(
        checkpoint_add_array(writer, p[i].name, p[i].type, p[i].rank, p[i].shape, fill, &p[i], &status),
        SBAG_OK);
  }
  declare_rest(writer);
  return writer;
}

static void write_all(void) {
  pattern_t p[PATTERNS];
  checkpoint_writer_t *writer = declare(p);
  ck_assert_msg(checkpoint_commit(&writer, &status) == SBAG_OK, "%s", status.message);
  ck_assert_ptr_null(writer);
  for (int i = 0; i < PATTERNS; i++) {
    int64_t range[2] = {p[i].calls, -p[i].calls}, rows = p[i].rows;
    ck_assert_int_eq(comm_allreduce(comm, range, 2, COMM_I64, COMM_MAX, "test", &status), SBAG_OK);
    ck_assert_int_eq(range[0], -range[1]); /* the same number of calls everywhere */
    ck_assert_int_eq(comm_allreduce(comm, &rows, 1, COMM_I64, COMM_SUM, "test", &status), SBAG_OK);
    ck_assert_int_eq(rows, p[i].shape[0]);
  }
}

static void check_attributes(checkpoint_reader_t *reader) {
  int64_t step = 0;
  double auc = 0.0;
  char *text = NULL;
  ck_assert_int_eq(checkpoint_read_int(reader, "", "step", &step, &status), SBAG_OK);
  ck_assert(step == INT64_MIN + 7);
  ck_assert_int_eq(checkpoint_read_real(reader, "metrics/test", "auc", &auc, &status), SBAG_OK);
  ck_assert(auc == 0.1);
  ck_assert_int_eq(checkpoint_read_text(reader, "tables/user", "mode", &text, &status), SBAG_OK);
  ck_assert_str_eq(text, "mean \xc3\xa4");
  mem_free(mem, text);
  ck_assert_int_eq(checkpoint_read_text(reader, "tables/user/weight", "unit", &text, &status), SBAG_OK);
  ck_assert_str_eq(text, "");
  mem_free(mem, text);
  ck_assert_int_eq(checkpoint_read_int(reader, "", "stop", &step, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "'/' has no attribute 'stop'"));
  ck_assert_int_eq(checkpoint_read_int(reader, "nowhere/at/all", "step", &step, &status), SBAG_ERR_FORMAT);
  ck_assert_int_eq(checkpoint_read_int(reader, "tables/user", "mode", &step, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "is not one integer"));
  ck_assert_int_eq(checkpoint_read_text(reader, "", "step", &text, &status), SBAG_ERR_FORMAT);
}

static void check_blobs(checkpoint_reader_t *reader) {
  void *data = NULL;
  int64_t bytes = -1;
  ck_assert_int_eq(checkpoint_read_blob(reader, "vocabulary/user", &data, &bytes, &status), SBAG_OK);
  ck_assert_int_eq(bytes, (int64_t)sizeof vocabulary);
  ck_assert_int_eq(memcmp(data, vocabulary, sizeof vocabulary), 0);
  mem_free(mem, data);
  ck_assert_int_eq(checkpoint_read_blob(reader, "vocabulary/none", &data, &bytes, &status), SBAG_OK);
  ck_assert_int_eq(bytes, 0);
  ck_assert_int_eq(*(char *)data, '\0');
  mem_free(mem, data);
  ck_assert_int_eq(checkpoint_read_blob(reader, "counts", &data, &bytes, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "'counts' is i64 [5][3]; expected u8 [any]"));
}

static void read_by(comm_t *over, checkpoint_take_t taker, int64_t chunk_bytes) {
  checkpoint_reader_t *reader = NULL;
  ck_assert_msg(checkpoint_open(over, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  checkpoint_reader_set_chunk(reader, chunk_bytes);
  ck_assert_int_eq(checkpoint_count(reader), PATTERNS + 2);
  ck_assert_str_eq(checkpoint_name(reader, 0), "bytes");
  for (int i = 0; i < PATTERNS; i++) {
    pattern_t p = patterns[i];
    ck_assert_int_eq(checkpoint_expect(reader, p.name, p.type, p.rank, p.shape, &status), SBAG_OK);
    ck_assert_msg(checkpoint_read_array(reader, p.name, taker, &p, &status) == SBAG_OK, "%s", status.message);
    int64_t rows = p.rows;
    ck_assert_int_eq(comm_allreduce(over, &rows, 1, COMM_I64, COMM_SUM, "test", &status), SBAG_OK);
    ck_assert_int_eq(rows, p.shape[0]);
  }
  check_attributes(reader);
  check_blobs(reader);
  checkpoint_close(&reader);
  ck_assert_ptr_null(reader);
}

/* By parts of pieces and by several pieces at a time. */
static void read_all(comm_t *over, checkpoint_take_t taker) {
  read_by(over, taker, PIECE_BYTES / 2);
  read_by(over, taker, CHUNK_BYTES);
}

START_TEST(test_round_trip) {
  write_all();
  read_all(comm, take);
  comm_t *self = NULL;
  ck_assert_int_eq(comm_self_create(mem, NULL, &self, &status), SBAG_OK);
  read_all(self, take_alone);
  comm_destroy(&self);
}
END_TEST

/* ---- rows in memory ---- */

static char *whole_file(size_t *bytes) {
  struct stat about;
  FILE *file = fopen(path, "rb");
  ck_assert_ptr_nonnull(file);
  ck_assert_int_eq(fstat(fileno(file), &about), 0);
  *bytes = (size_t)about.st_size;
  char *data = malloc(*bytes);
  ck_assert_ptr_nonnull(data);
  ck_assert_uint_eq(fread(data, 1, *bytes, file), *bytes);
  ck_assert_int_eq(fclose(file), 0);
  return data;
}

typedef enum division {
  EVEN,       /* blocks */
  BACKWARDS,  /* the last rank has the first block */
  GROWING,    /* the first ranks' blocks are smaller than a piece, or empty */
  LAST_ALONE, /* the last rank has all */
  COVERING,   /* how many of them make up the array; no others may be written from memory */
  ROW_MISSING = COVERING,
  ROW_TWICE,
  HALF_TWICE, /* as many rows as the array has */
  DIVISIONS
} division_t;

/* What this rank has of a pattern. `pattern` stands first: `fill` takes it. */
typedef struct owned {
  pattern_t pattern;
  division_t division;
  checkpoint_rows_t rows;
  void *block;
  int asked, fails;
} owned_t;

static int64_t share(int64_t rows, int64_t part, int64_t parts) {
  return rows * part / parts;
}

static checkpoint_rows_t divided(division_t division, int64_t rows) {
  int64_t rank = comm_rank(comm), size = comm_size(comm), place = size - 1 - rank;
  checkpoint_rows_t own = {.first_row = share(rows, rank, size)};
  int64_t end = share(rows, rank + 1, size);
  if (division == BACKWARDS) own.first_row = share(rows, place, size), end = share(rows, place + 1, size);
  if (division == GROWING)
    own.first_row = share(rows, rank * rank * rank, size * size * size),
    end = share(rows, (rank + 1) * (rank + 1) * (rank + 1), size * size * size);
  if (division == LAST_ALONE) own.first_row = 0, end = place == 0 ? rows : 0;
  if (division == ROW_MISSING && place == 0 && end > own.first_row) end--;
  if (division == ROW_TWICE && rank == 0 && end < rows) end++;
  if (division == HALF_TWICE) {
    own.first_row = 0;
    end = rank == 0 ? rows / 2 : rank == 1 ? rows - rows / 2 : 0;
  }
  own.rows = end - own.first_row;
  return own;
}

static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *st) {
  owned_t *o = user;
  o->asked++;
  if (o->fails) return status_set(st, SBAG_ERR_ARGUMENT, "the planted error");
  *own = o->rows;
  return SBAG_OK;
}

static void own_begin(owned_t *o, int i, division_t division) {
  *o = (owned_t){.pattern = patterns[i], .division = division};
  pattern_t *p = &o->pattern;
  int64_t columns = pattern_columns(p), each = checkpoint_type_bytes(p->type);
  o->rows = divided(division, p->shape[0]);
  o->block = malloc((size_t)(o->rows.rows * columns * each) + 1);
  ck_assert_ptr_nonnull(o->block);
  for (int64_t k = 0; k < o->rows.rows * columns; k++)
    pattern_value(p, o->rows.first_row + k / columns, k % columns, (char *)o->block + k * each);
  o->rows.data = o->block;
}

/* As declare, by way of memory. */
static checkpoint_writer_t *declare_own(owned_t o[PATTERNS], division_t division, int64_t chunk_bytes) {
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  checkpoint_writer_set_chunk(writer, chunk_bytes);
  checkpoint_writer_set_piece(writer, PIECE_BYTES);
  for (int i = 0; i < PATTERNS; i++) {
    own_begin(&o[i], i, division);
    const pattern_t *p = &o[i].pattern;
    ck_assert_int_eq(
        checkpoint_add_own_array(writer, p->name, p->type, p->rank, p->shape, fill, own_rows, &o[i], &status),
        SBAG_OK);
  }
  declare_rest(writer);
  return writer;
}

static void own_end(owned_t o[PATTERNS]) {
  for (int i = 0; i < PATTERNS; i++) free(o[i].block);
}

/* Whether the rows came from memory: but for one piece a rank, none was asked for. */
static void check_own(const owned_t *o) {
  const pattern_t *p = &o->pattern;
  int64_t range[2] = {p->calls, -p->calls}, rows = p->rows, most = comm_size(comm) - 1;
  ck_assert_int_eq(comm_allreduce(comm, range, 2, COMM_I64, COMM_MAX, "test", &status), SBAG_OK);
  ck_assert_int_eq(comm_allreduce(comm, &rows, 1, COMM_I64, COMM_SUM, "test", &status), SBAG_OK);
  ck_assert_int_eq(range[0], -range[1]);
  ck_assert_int_eq(o->asked, 1);
  int64_t piece_rows = PIECE_BYTES / (pattern_columns(p) * checkpoint_type_bytes(p->type));
  if (piece_rows == 0) piece_rows = 1;
  if (o->division < COVERING) ck_assert(p->calls <= 1 && rows <= most * piece_rows);
  if (o->division == LAST_ALONE) ck_assert_int_eq(p->calls, 0);
  if (o->division == ROW_MISSING) ck_assert_int_eq(rows, p->shape[0]);
}

/* Chunks of one piece make several rounds; some of more than a few pages are written past the cache. */
START_TEST(test_own_rows) {
  const int64_t chunks[] = {1, CHUNK_BYTES, 6 * CHUNK_BYTES};
  write_all();
  size_t bytes = 0, own_bytes = 0;
  char *data = whole_file(&bytes);
  for (int division = 0; division < DIVISIONS; division++)
    for (int k = 0; k < 3; k++) {
      owned_t o[PATTERNS];
      ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK); /* all have read the last one */
      if (comm_rank(comm) == 0) unlink(path);
      checkpoint_writer_t *writer = declare_own(o, (division_t)division, chunks[k]);
      ck_assert_msg(checkpoint_commit(&writer, &status) == SBAG_OK, "%s", status.message);
      for (int i = 0; i < PATTERNS; i++) check_own(&o[i]);
      own_end(o);
      char *own = whole_file(&own_bytes);
      ck_assert_msg(own_bytes == bytes && memcmp(own, data, bytes) == 0, "division %d", division);
      free(own);
    }
  free(data);
}
END_TEST

/* One rank cannot tell its rows, or tells some that are not there: all ranks say so. */
START_TEST(test_own_rows_fail) {
  int last = comm_rank(comm) == comm_size(comm) - 1;
  for (int which = 0; which < 4; which++) {
    owned_t o[PATTERNS];
    checkpoint_writer_t *writer = declare_own(o, EVEN, CHUNK_BYTES);
    checkpoint_rows_t *rows = &o[1].rows;
    if (last && which == 0) o[1].fails = 1;
    if (last && which == 1) rows->rows++;
    if (last && which == 2) rows->data = NULL;
    if (last && which == 3) rows->first_row = -1;
    ck_assert_int_eq(checkpoint_commit(&writer, &status), SBAG_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(status.message, which == 0 ? "the planted error" : "are not in it"));
    ck_assert_int_eq(status.rank, comm_size(comm) - 1);
    own_end(o);
    struct stat file;
    ck_assert_int_ne(stat(path, &file), 0);
  }
}
END_TEST

/* The callback of a piece that two ranks share. */
START_TEST(test_own_callback_fails) {
  if (comm_size(comm) == 1) return;
  owned_t o[PATTERNS];
  checkpoint_writer_t *writer = declare_own(o, EVEN, CHUNK_BYTES);
  o[0].pattern.fail_at_row = 1003 / comm_size(comm);
  ck_assert_int_eq(checkpoint_commit(&writer, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "the planted error"));
  own_end(o);
}
END_TEST

/* Plain h5py reads it all, where it is installed. */
START_TEST(test_h5py) {
  write_all();
  if (comm_rank(comm) == 0) {
    const char *root = getenv("SHARDBAG_SOURCE_DIR");
    char command[1024];
    snprintf(command, sizeof command,
             "/usr/bin/python3 '%s/tests/python/check_checkpoint.py' '%s' > '%s/out' 2>&1",
             root != NULL ? root : SHARDBAG_SOURCE_DIR, path, folder);
    int code = system(command);
    char said[400] = "";
    snprintf(command, sizeof command, "%s/out", folder);
    FILE *out = fopen(command, "r");
    ck_assert_ptr_nonnull(out);
    said[fread(said, 1, sizeof said - 1, out)] = '\0';
    fclose(out);
    unlink(command);
    int skipped = WIFEXITED(code) && (WEXITSTATUS(code) == 77 || WEXITSTATUS(code) == 127);
    if (skipped) printf("checkpoint: h5py: %s\n", said);
    ck_assert_msg(code == 0 || skipped, "%s", said);
  }
}
END_TEST

/* One rank replaces what all wrote, by the same bytes. */
START_TEST(test_self_replaces) {
  write_all();
  if (comm_rank(comm) == 0) {
    comm_t *self = NULL, *all = comm;
    ck_assert_int_eq(comm_self_create(mem, NULL, &self, &status), SBAG_OK);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    struct stat first, second;
    ck_assert_int_eq(fstat(fileno(file), &first), 0);
    size_t bytes = 0, again_bytes = 0;
    char *data = whole_file(&bytes);
    comm = self;
    write_all();
    read_all(self, take);
    comm = all;
    ck_assert_int_eq(stat(path, &second), 0);
    ck_assert(first.st_ino != second.st_ino); /* the old file was replaced, not written into */
    fclose(file);
    char *again = whole_file(&again_bytes);
    ck_assert_uint_eq(bytes, again_bytes);
    ck_assert_int_eq(memcmp(data, again, bytes), 0);
    free(data);
    free(again);
    comm_destroy(&self);
  }
}
END_TEST

START_TEST(test_rows_anywhere) {
  write_all();
  checkpoint_reader_t *reader = NULL;
  ck_assert_int_eq(checkpoint_open(comm, mem, path, &reader, &status), SBAG_OK);
  const pattern_t *p = &patterns[0];
  float rows[3 * 16];
  int64_t first = 1000 - comm_rank(comm);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, first, 3, rows, &status), SBAG_OK);
  check_rows(p, first, 3, rows);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, 1003, 0, rows, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, 1001, 3, rows, &status), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, -1, 1, rows, &status), SBAG_ERR_ARGUMENT);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, 1, INT64_MAX, rows, &status), SBAG_ERR_ARGUMENT);
  checkpoint_close(&reader);
}
END_TEST

START_TEST(test_missing_and_other_shapes) {
  write_all();
  checkpoint_reader_t *reader = NULL;
  ck_assert_int_eq(checkpoint_open(comm, mem, path, &reader, &status), SBAG_OK);
  checkpoint_array_t array;
  ck_assert(checkpoint_exists(reader, "counts"));
  ck_assert(!checkpoint_exists(reader, "tables/user"));
  ck_assert_int_eq(checkpoint_array_info(reader, "tables/item/weight", &array, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "there is no array 'tables/item/weight'"));
  ck_assert_ptr_nonnull(strstr(status.message, path));
  pattern_t p = patterns[0];
  ck_assert_int_eq(checkpoint_read_array(reader, "nothing", take, &p, &status), SBAG_ERR_FORMAT);
  int64_t shape[2] = {-1, 17};
  ck_assert_int_eq(checkpoint_expect(reader, p.name, CHECKPOINT_F32, 2, shape, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(
      strstr(status.message, "'tables/user/weight' is f32 [1003][16]; expected f32 [any][17]"));
  shape[1] = 16;
  ck_assert_int_eq(checkpoint_expect(reader, p.name, CHECKPOINT_F32, 2, shape, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_expect(reader, p.name, CHECKPOINT_F64, 2, shape, &status), SBAG_ERR_FORMAT);
  ck_assert_int_eq(checkpoint_expect(reader, p.name, CHECKPOINT_F32, 1, shape, &status), SBAG_ERR_FORMAT);
  p.fail_at_row = 1002; /* the last rank's */
  ck_assert_int_eq(checkpoint_read_array(reader, p.name, take, &p, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "the planted error"));
  checkpoint_close(&reader);
}
END_TEST

static void expect_refused(const char *what) {
  checkpoint_reader_t *reader = NULL;
  ck_assert_int_ne(checkpoint_open(comm, mem, path, &reader, &status), SBAG_OK);
  ck_assert_ptr_null(reader);
  ck_assert_msg(strstr(status.message, what) != NULL, "'%s' lacks '%s'", status.message, what);
}

static void put_file(const void *data, size_t bytes) {
  if (comm_rank(comm) == 0) {
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
  }
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
}

START_TEST(test_not_a_checkpoint) {
  expect_refused("No such file or directory");
  put_file("this is no HDF5 file", 20);
  expect_refused("is no checkpoint: 20 bytes");
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
  put_file("", 0);
  expect_refused("is no checkpoint: 0 bytes");
  char *kept = path + strlen(folder);
  *kept = '\0';
  expect_refused("is no file"); /* the folder */
  *kept = '/';
}
END_TEST

/* What rank 0 does to the file, then all ranks look. */
static void rewrite(const char *data, size_t bytes) {
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
  put_file(data, bytes);
}

/* Cut anywhere, or longer than it was. */
START_TEST(test_cut_short) {
  write_all();
  size_t bytes = 0;
  char *data = whole_file(&bytes);
  for (size_t cut = bytes; cut > 0; cut = cut * 4 / 5) {
    rewrite(data, cut - 1);
    expect_refused(cut > 8 ? "is HDF5 without shardbag's trailer" : "is no checkpoint");
    ck_assert_int_eq(status.code, SBAG_ERR_FORMAT);
  }
  char *longer = calloc(1, bytes + 1);
  ck_assert_ptr_nonnull(longer);
  memcpy(longer, data, bytes);
  rewrite(longer, bytes + 1);
  expect_refused("without shardbag's trailer");
  free(longer);
  free(data);
}
END_TEST

static void put_word(char *at, uint64_t value) {
  memcpy(at, &value, sizeof value);
}

/* A footer whose own checksum holds. */
START_TEST(test_footer_lies) {
  write_all();
  size_t bytes = 0;
  char *data = whole_file(&bytes), *footer = data + bytes - TRAILER_FOOTER_BYTES, kept[TRAILER_FOOTER_BYTES];
  memcpy(kept, footer, sizeof kept);
  const struct {
    int word;
    uint64_t value;
    const char *said;
  } lies[] = {{1, 2, "is of format 2, this program reads format 1; a newer shardbag wrote it"},
              {2, bytes + 8, "its footer tells of"},
              {3, UINT64_MAX - 7, "its footer tells of"},
              {3, 0, "its footer tells of"},
              {4, 1ULL << 62, "its footer tells of"},
              {5, 0, "its list of pieces is damaged"},
              {6, 1, "its footer tells of"}};
  for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
    memcpy(footer, kept, sizeof kept);
    put_word(footer + 8 * lies[i].word, lies[i].value);
    put_word(footer + 56, checksum_piece(footer, 56));
    rewrite(data, bytes);
    expect_refused(lies[i].said);
  }
  footer[8] = 3; /* and one whose checksum does not */
  rewrite(data, bytes);
  expect_refused("is damaged in its last 64 bytes");
  free(data);
}
END_TEST

/* A bit in the rows: the file opens, every other row can be read, and those say which they are. */
START_TEST(test_damaged_rows) {
  write_all();
  size_t bytes = 0;
  char *data = whole_file(&bytes), value[4];
  const pattern_t *p = &patterns[0]; /* 46 rows a piece */
  pattern_value(p, 100, 0, value);
  size_t at = 0;
  while (memcmp(data + at, value, sizeof value) != 0) at++;
  data[at] ^= 16;
  rewrite(data, bytes);
  free(data);
  checkpoint_reader_t *reader = NULL;
  ck_assert_msg(checkpoint_open(comm, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  pattern_t copy = *p;
  ck_assert_int_eq(checkpoint_read_array(reader, p->name, take, &copy, &status), SBAG_ERR_FORMAT);
  const char *said = "'tables/user/weight': rows 92 to 137 do not match their checksum";
  ck_assert_msg(strstr(status.message, said) != NULL, "%s", status.message);
  float row[16];
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, 91, 1, row, &status), SBAG_OK);
  check_rows(p, 91, 1, row);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, 137, 1, row, &status), SBAG_ERR_FORMAT);
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, 138, 1, row, &status), SBAG_OK);
  check_rows(p, 138, 1, row);
  pattern_t other = patterns[1];
  ck_assert_int_eq(checkpoint_read_array(reader, other.name, take, &other, &status), SBAG_OK);
  checkpoint_close(&reader);
}
END_TEST

/* HDF5 of another program: chunked, big-endian. Only who trusts it can read it. */
static void write_foreign(void) {
  hsize_t shape[2] = {100, 3}, chunk[2] = {7, 3};
  int32_t values[300];
  for (int i = 0; i < 300; i++) values[i] = i - 5;
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  hid_t space = H5Screate_simple(2, shape, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
  ck_assert_int_ge(H5Pset_chunk(list, 2, chunk), 0);
  hid_t dataset = H5Dcreate2(file, "numbers", H5T_STD_I32BE, space, H5P_DEFAULT, list, H5P_DEFAULT);
  ck_assert_int_ge(H5Dwrite(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0);
  H5Dclose(dataset);
  H5Pclose(list);
  H5Sclose(space);
  ck_assert_int_ge(H5Fclose(file), 0);
}

static sbag_code_t take_numbers(void *user, int64_t first, int64_t rows, const void *data,
                                sbag_status_t *st) {
  (void)st;
  for (int64_t i = 0; i < 3 * rows; i++) ck_assert_int_eq(((const int32_t *)data)[i], 3 * first + i - 5);
  *(int64_t *)user += rows;
  return SBAG_OK;
}

START_TEST(test_foreign) {
  if (comm_rank(comm) == 0) write_foreign();
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
  expect_refused("is HDF5 without shardbag's trailer");
  checkpoint_reader_t *reader = NULL;
  int64_t rows = 0;
  ck_assert_msg(checkpoint_open_trusted(comm, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  checkpoint_reader_set_chunk(reader, 50);
  ck_assert_int_eq(checkpoint_read_array(reader, "numbers", take_numbers, &rows, &status), SBAG_OK);
  ck_assert_int_eq(comm_allreduce(comm, &rows, 1, COMM_I64, COMM_SUM, "test", &status), SBAG_OK);
  ck_assert_int_eq(rows, 100);
  checkpoint_close(&reader);
}
END_TEST

/* Trust opens our own files as well, but not when they are damaged. */
START_TEST(test_trusted_is_checked) {
  write_all();
  size_t bytes = 0;
  char *data = whole_file(&bytes);
  checkpoint_reader_t *reader = NULL;
  ck_assert_int_eq(checkpoint_open_trusted(comm, mem, path, &reader, &status), SBAG_OK);
  pattern_t p = patterns[0];
  ck_assert_int_eq(checkpoint_read_array(reader, p.name, take, &p, &status), SBAG_OK);
  checkpoint_close(&reader);
  rewrite(data, bytes - 1); /* HDF5 itself would not notice */
  ck_assert_int_eq(checkpoint_open_trusted(comm, mem, path, &reader, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "without shardbag's trailer"));
  data[9] ^= 1; /* in HDF5's superblock */
  rewrite(data, bytes);
  ck_assert_int_eq(checkpoint_open_trusted(comm, mem, path, &reader, &status), SBAG_ERR_FORMAT);
  ck_assert_ptr_nonnull(strstr(status.message, "do not match their checksum: it is damaged"));
  free(data);
}
END_TEST

/* Pieces and chunks as they are outside of tests. */
START_TEST(test_default_sizes) {
  pattern_t p = {"big", CHECKPOINT_F32, 2, {900000, 3}, 0, 0, {0, 0}, -1}, few = patterns[4];
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_array(writer, "a", few.type, few.rank, few.shape, fill, &few, &status), 0);
  ck_assert_int_eq(checkpoint_add_array(writer, p.name, p.type, p.rank, p.shape, fill, &p, &status), SBAG_OK);
  ck_assert_msg(checkpoint_commit(&writer, &status) == SBAG_OK, "%s", status.message);
  checkpoint_reader_t *reader = NULL;
  pattern_t again = {"big", CHECKPOINT_F32, 2, {900000, 3}, 0, 0, {0, 0}, -1};
  ck_assert_msg(checkpoint_open(comm, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  ck_assert_int_eq(checkpoint_read_array(reader, p.name, take, &again, &status), SBAG_OK);
  checkpoint_close(&reader);
  ck_assert_int_eq(again.rows, p.rows); /* the reader's blocks are the writer's */
}
END_TEST

static void flip_bit(const pattern_t *p, int64_t row) {
  size_t bytes = 0, at = 0;
  char *data = whole_file(&bytes), value[8];
  pattern_value(p, row, 0, value);
  while (memcmp(data + at, value, sizeof(float)) != 0) at++;
  data[at] ^= 16;
  rewrite(data, bytes);
  free(data);
}

/* What was written is on the disk then, and nowhere else. */
static void cool_file(void) {
  int file = open(path, O_RDONLY);
  ck_assert_int_ge(file, 0);
  ck_assert_int_eq(fsync(file), 0);
  ck_assert_int_eq(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
  close(file);
}

static void expect_damaged(checkpoint_reader_t *reader, const pattern_t *p, int64_t first, int64_t piece,
                           float *out) {
  char said[80];
  const int64_t rows = ((int64_t)1 << 20) / (4 * p->shape[1]); /* of a piece */
  snprintf(said, sizeof said, "'big': rows %lld to %lld do not match", (long long)(piece * rows),
           (long long)((piece + 1) * rows - 1));
  ck_assert_int_eq(checkpoint_read_rows(reader, p->name, first, p->shape[0] - first, out, &status),
                   SBAG_ERR_FORMAT);
  ck_assert_msg(strstr(status.message, said) != NULL, "%s", status.message);
}

/* So many bytes in one call that several threads read them: whole pieces, and from within one to within
 * another; of two that are damaged the first is told. Rows of 12 bytes do not begin with a block of the disk,
 * those of 16 do: these are read past the page cache, where it has not got them. */
START_TEST(test_many_pieces) {
  pattern_t p = {"big", CHECKPOINT_F32, 2, {900000, 3 + _i / 2}, 0, 0, {0, 0}, -1};
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_array(writer, p.name, p.type, p.rank, p.shape, fill, &p, &status), SBAG_OK);
  ck_assert_msg(checkpoint_commit(&writer, &status) == SBAG_OK, "%s", status.message);
  checkpoint_reader_t *reader = NULL;
  const int64_t rows = p.shape[0], piece_rows = ((int64_t)1 << 20) / (4 * p.shape[1]);
  float *out = aligned_alloc(4096, (size_t)16 << 20);
  ck_assert_ptr_nonnull(out);
  ck_assert_msg(checkpoint_open(comm, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  ck_assert_int_eq(checkpoint_read_rows(reader, p.name, 0, rows, out, &status), SBAG_OK);
  check_rows(&p, 0, rows, out);
  ck_assert_int_eq(checkpoint_read_rows(reader, p.name, 17, rows - 1000, out, &status), SBAG_OK);
  check_rows(&p, 17, rows - 1000, out);
  checkpoint_close(&reader);
  flip_bit(&p, 800000);
  flip_bit(&p, 100000);
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
  if (_i % 2 == 0) cool_file();
  ck_assert_msg(checkpoint_open(comm, mem, path, &reader, &status) == SBAG_OK, "%s", status.message);
  for (int i = 0; i < 5; i++) {
    expect_damaged(reader, &p, 0, 100000 / piece_rows, out);
    expect_damaged(reader, &p, 200000, 800000 / piece_rows, out);
  }
  checkpoint_close(&reader);
  free(out);
}
END_TEST

/* The older file of that name is as it was, and no temporary one is left (teardown's rmdir). */
START_TEST(test_callback_fails) {
  write_all();
  for (int which = 0; which < 3;
       which++) { /* first array, an array of many chunks, in the last rank's rows */
    pattern_t p[PATTERNS];
    checkpoint_writer_t *writer = declare(p);
    pattern_t *failing = &p[which == 0 ? 0 : 2];
    failing->fail_at_row = which == 2 ? failing->shape[0] - 1 : failing->shape[0] / 2;
    ck_assert_int_eq(checkpoint_commit(&writer, &status), SBAG_ERR_ARGUMENT);
    ck_assert_ptr_null(writer);
    ck_assert_ptr_nonnull(strstr(status.message, "the planted error"));
  }
  read_all(comm, take);
}
END_TEST

START_TEST(test_folder_is_missing) {
  checkpoint_writer_t *writer = NULL;
  char elsewhere[320];
  snprintf(elsewhere, sizeof elsewhere, "%s/none/file.h5", folder);
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, elsewhere, &writer, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_int(writer, "", "step", 1, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_commit(&writer, &status), SBAG_ERR_IO);
  ck_assert_ptr_null(writer);
  ck_assert_ptr_nonnull(strstr(status.message, "No such file or directory"));
  ck_assert_ptr_nonnull(strstr(status.message, elsewhere));
  ck_assert_int_eq(status.rank, 0);
}
END_TEST

/* What HDF5 itself refuses while the file is made: an attribute below an array. */
START_TEST(test_hdf5_refuses) {
  pattern_t p[PATTERNS];
  checkpoint_writer_t *writer = declare(p);
  ck_assert_int_eq(checkpoint_add_int(writer, "counts/below", "k", 1, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_commit(&writer, &status), SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(status.message, "attribute 'k' of 'counts/below': HDF5: "));
  write_all();
  read_all(comm, take);
}
END_TEST

START_TEST(test_ranks_declare_differently) {
  if (comm_size(comm) == 1) return;
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_int(writer, "", "step", comm_rank(comm), &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_commit(&writer, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "declared different"));
}
END_TEST

START_TEST(test_bad_declarations) {
  checkpoint_writer_t *w = NULL;
  pattern_t p = patterns[0];
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &w, &status), SBAG_OK);
  int64_t shape[2] = {4, 4}, negative[2] = {-1, 4}, none[2] = {4, 0}, huge[2] = {INT64_MAX / 8, 4};
  ck_assert_int_eq(checkpoint_add_array(w, "a/b", CHECKPOINT_F32, 2, shape, fill, &p, &status), SBAG_OK);
  const char *names[] = {"", "/a", "c/", "c//d", "c/./d", "../d", "a", "a/b", "a/b/c"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    ck_assert_msg(checkpoint_add_array(w, names[i], CHECKPOINT_F32, 2, shape, fill, &p, &status) ==
                      SBAG_ERR_ARGUMENT,
                  "'%s'", names[i]);
    ck_assert_ptr_nonnull(strstr(status.message, names[i]));
  }
  ck_assert_int_eq(checkpoint_add_array(w, "a/bc", CHECKPOINT_F32, 2, shape, fill, &p, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_array(w, "c", CHECKPOINT_OTHER, 2, shape, fill, &p, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_array(w, "c", CHECKPOINT_F32, 3, shape, fill, &p, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_array(w, "c", CHECKPOINT_F32, 2, negative, fill, &p, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_array(w, "c", CHECKPOINT_F32, 2, none, fill, &p, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_array(w, "c", CHECKPOINT_F32, 2, huge, fill, &p, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_blob(w, "c", NULL, 3, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_int(w, "a/b", "", 3, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_int(w, "a/b", "k", 3, &status), SBAG_OK);
  ck_assert_int_ne(checkpoint_add_real(w, "a/b", "k", 3.0, &status), SBAG_OK);
  char *text = calloc(1, CHECKPOINT_TEXT_BYTES + 2);
  ck_assert_ptr_nonnull(text);
  memset(text, 'x', CHECKPOINT_TEXT_BYTES + 1);
  ck_assert_int_ne(checkpoint_add_text(w, "a/b", "t", text, &status), SBAG_OK);
  text[CHECKPOINT_TEXT_BYTES] = '\0';
  ck_assert_int_eq(checkpoint_add_text(w, "a/b", "t", text, &status), SBAG_OK);
  free(text);
  checkpoint_abort(&w);
  ck_assert_ptr_null(w);
}
END_TEST

/* Every allocation of a commit fails once, on the last rank: all ranks say so, and the next attempt works. */
START_TEST(test_memory_fails) {
  int last = comm_rank(comm) == comm_size(comm) - 1;
  for (int64_t n = 1;; n++) {
    pattern_t p[PATTERNS];
    checkpoint_writer_t *writer = declare(p);
    int64_t before = mem_stats(mem).alloc_count;
    if (last) mem_fail_at(mem, n);
    sbag_code_t code = checkpoint_commit(&writer, &status);
    mem_fail_at(mem, 0);
    ck_assert_ptr_null(writer);
    int64_t reached = last && mem_stats(mem).alloc_count - before < n;
    ck_assert_int_eq(comm_broadcast(comm, &reached, sizeof reached, comm_size(comm) - 1, "test", &status),
                     SBAG_OK);
    if (code == SBAG_OK) break;
    ck_assert_int_eq(code, SBAG_ERR_MEMORY);
    ck_assert_int_lt(n, 1000);
  }
  read_all(comm, take);
}
END_TEST

/* A file system of 256 KiB, if this user may mount one. */
START_TEST(test_disk_is_full) {
  int mounted = 0;
  if (comm_rank(comm) == 0) mounted = mount("none", folder, "tmpfs", 0, "size=256k") == 0;
  ck_assert_int_eq(comm_broadcast(comm, &mounted, sizeof mounted, 0, "test", &status), SBAG_OK);
  if (!mounted) {
    if (comm_rank(comm) == 0) printf("checkpoint: full disk: skipped, a tmpfs cannot be mounted here\n");
    return;
  }
  pattern_t p[PATTERNS]; /* 500 kB: more than there is */
  checkpoint_writer_t *writer = declare(p);
  sbag_code_t code = checkpoint_commit(&writer, &status);
  sbag_status_t kept = status;
  int64_t shape = 4000;
  pattern_t small = {"small", CHECKPOINT_F64, 1, {4000, 0}, 0, 0, {0, 0}, -1};
  ck_assert_int_eq(checkpoint_writer_create(comm, mem, path, &writer, &status), SBAG_OK);
  ck_assert_int_eq(checkpoint_add_array(writer, small.name, small.type, 1, &shape, fill, &small, &status),
                   SBAG_OK);
  sbag_code_t fits = checkpoint_commit(&writer, &status);
  struct stat file;
  int there = stat(path, &file) == 0;
  ck_assert_int_eq(comm_barrier(comm, "test", &status), SBAG_OK);
  if (comm_rank(comm) == 0) ck_assert_int_eq(umount(folder), 0);
  ck_assert_int_eq(code, SBAG_ERR_IO);
  ck_assert_ptr_nonnull(strstr(kept.message, "No space left on device"));
  ck_assert_int_eq(fits, SBAG_OK);
  ck_assert(there);
}
END_TEST

Suite *checkpoint_suite(void) {
  Suite *suite = suite_create("checkpoint");
  TCase *tcase = tcase_create("checkpoint");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_set_timeout(tcase, 120);
  tcase_add_test(tcase, test_round_trip);
  tcase_add_test(tcase, test_own_rows);
  tcase_add_test(tcase, test_own_rows_fail);
  tcase_add_test(tcase, test_own_callback_fails);
  tcase_add_test(tcase, test_h5py);
  tcase_add_test(tcase, test_self_replaces);
  tcase_add_test(tcase, test_rows_anywhere);
  tcase_add_test(tcase, test_missing_and_other_shapes);
  tcase_add_test(tcase, test_not_a_checkpoint);
  tcase_add_test(tcase, test_cut_short);
  tcase_add_test(tcase, test_footer_lies);
  tcase_add_test(tcase, test_damaged_rows);
  tcase_add_test(tcase, test_foreign);
  tcase_add_test(tcase, test_trusted_is_checked);
  tcase_add_test(tcase, test_default_sizes);
  tcase_add_loop_test(tcase, test_many_pieces, 0, 4);
  tcase_add_test(tcase, test_callback_fails);
  tcase_add_test(tcase, test_folder_is_missing);
  tcase_add_test(tcase, test_hdf5_refuses);
  tcase_add_test(tcase, test_ranks_declare_differently);
  tcase_add_test(tcase, test_bad_declarations);
  tcase_add_test(tcase, test_memory_fails);
  tcase_add_test(tcase, test_disk_is_full);
  suite_add_tcase(suite, tcase);
  return suite;
}
