/* Checkpoints under faults.
 *   fault io FOLDER     every file call of a commit and of an opening fails in turn, on the first and on the
 * last rank (needs shim.h's object preloaded); ends with `N passed, N failed` fault loop FILE     commits one
 * generation behind the other until it is killed fault check FILE    exits 0 if the file is a whole
 * generation, and prints which Any number of ranks. The file of generation g has numbers that follow from
 * row, column and g. */
#include "checkpoint/checkpoint.h"
#include "comm/comm_mpi.h"
#include "fault/shim.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 700, COLUMNS = 16, PIECE_BYTES = 2000, CHUNK_BYTES = 20000 };

typedef struct test {
  mem_t *mem;
  comm_t *comm;
  const char *path, *folder;
  fault_begin_t begin;
  fault_end_t end;
  fault_lost_t lost;
  int64_t passed, failed;
  int64_t ignored;           /* errors of calls that nobody told of */
  int64_t range[2];          /* what the ranks compare */
  float own[ROWS * COLUMNS]; /* this rank's rows of the array that the ranks have in memory */
  int64_t own_generation;
} test_t;

static float value(int64_t generation, int64_t i) {
  return (float)(generation * 1000 + i);
}

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  (void)status;
  for (int64_t i = 0; i < rows * COLUMNS; i++)
    ((float *)out)[i] = value(*(const int64_t *)user, first * COLUMNS + i);
  return SBAG_OK;
}

static sbag_code_t take(void *user, int64_t first, int64_t rows, const void *data, sbag_status_t *status) {
  for (int64_t i = 0; i < rows * COLUMNS; i++)
    if (((const float *)data)[i] != value(*(const int64_t *)user, first * COLUMNS + i))
      return status_set(status, SBAG_ERR_STATE, "number %" PRId64 " is not generation %" PRId64 "'s",
                        first * COLUMNS + i, *(const int64_t *)user);
  return SBAG_OK;
}

/* Of the array in memory: rows that end within pieces. */
static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *status) {
  (void)status;
  const test_t *t = user;
  int64_t rank = comm_rank(t->comm), size = comm_size(t->comm), first = ROWS * rank / size;
  *own = (checkpoint_rows_t){t->own, first, ROWS * (rank + 1) / size - first};
  return SBAG_OK;
}

static sbag_code_t fill_own(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  test_t *t = user;
  return fill(&t->own_generation, first, rows, out, status);
}

static sbag_code_t declare(test_t *t, checkpoint_writer_t *writer, int64_t *generation,
                           sbag_status_t *status) {
  const int64_t shape[2] = {ROWS, COLUMNS};
  checkpoint_rows_t own;
  t->own_generation = *generation;
  SBAG_TRY(own_rows(t, &own, status));
  SBAG_TRY(fill(generation, own.first_row, own.rows, t->own, status));
  checkpoint_writer_set_piece(writer, PIECE_BYTES);
  checkpoint_writer_set_chunk(writer, CHUNK_BYTES); /* has pages to be written directly, and edges */
  SBAG_TRY(checkpoint_add_int(writer, "", "generation", *generation, status));
  SBAG_TRY(checkpoint_add_array(writer, "a/weight", CHECKPOINT_F32, 2, shape, fill, generation, status));
  SBAG_TRY(
      checkpoint_add_own_array(writer, "b/weight", CHECKPOINT_F32, 2, shape, fill_own, own_rows, t, status));
  return checkpoint_add_blob(writer, "config", "a: 1", 4, status);
}

static sbag_code_t commit(test_t *t, int64_t generation, sbag_status_t *status) {
  checkpoint_writer_t *writer = NULL;
  SBAG_TRY(checkpoint_writer_create(t->comm, t->mem, t->path, &writer, status));
  sbag_code_t code = declare(t, writer, &generation, status);
  if (code == SBAG_OK) return checkpoint_commit(&writer, status);
  checkpoint_abort(&writer);
  return code;
}

/* Reads it all, on all ranks. */
static sbag_code_t check(test_t *t, int64_t *generation, sbag_status_t *status) {
  checkpoint_reader_t *reader = NULL;
  SBAG_TRY(checkpoint_open(t->comm, t->mem, t->path, &reader, status));
  sbag_code_t code = checkpoint_read_int(reader, "", "generation", generation, status);
  code = comm_agree(t->comm, code, status);
  if (code == SBAG_OK) code = checkpoint_read_array(reader, "a/weight", take, generation, status);
  if (code == SBAG_OK) code = checkpoint_read_array(reader, "b/weight", take, generation, status);
  checkpoint_close(&reader);
  return code;
}

/* ---- io ---- */

static void expect(test_t *t, int good, const char *what, const char *how, const sbag_status_t *status) {
  if (comm_rank(t->comm) != 0) return;
  if (good)
    t->passed++;
  else
    t->failed++;
  if (!good) printf("FAIL  %s: %s: %s\n", what, how, status->message);
}

/* Whether all ranks have the same number. */
static int is_equal(test_t *t, int64_t number) {
  sbag_status_t status;
  t->range[0] = number;
  t->range[1] = -number;
  if (comm_allreduce(t->comm, t->range, 2, COMM_I64, COMM_MAX, "test", &status) != SBAG_OK) return 0;
  return t->range[0] == -t->range[1];
}

static int64_t hash(const sbag_status_t *status) {
  uint64_t sum = (uint64_t)status->code;
  for (const char *at = status->message; status->code != SBAG_OK && *at != '\0'; at++)
    sum = sum * 31 + (uint64_t)*at;
  return (int64_t)(sum >> 2);
}

/* One fault during a commit. Returns whether there was a call that it could hit. */
static int commit_under(test_t *t, int victim, long n, fault_kind_t kind, int64_t *generation) {
  char what[96], temporary[512];
  sbag_status_t status, opened;
  snprintf(what, sizeof what, "commit, call %ld of rank %d, kind %d", n, victim, (int)kind);
  status_clear(&status);
  int mine = comm_rank(t->comm) == victim;
  if (mine) t->begin(t->folder, n, kind);
  sbag_code_t code = commit(t, *generation + 1, &status);
  int64_t reached = mine ? t->end() >= n : 0;
  (void)comm_broadcast(t->comm, &reached, sizeof reached, victim, "test", NULL);
  expect(t, is_equal(t, hash(&status)), what, "the ranks say different things", &status);
  if (code == SBAG_OK) status_clear(&status);
  int64_t found = -1;
  sbag_code_t whole = check(t, &found, &opened);
  expect(t, whole == SBAG_OK, what, "no complete file is left", &opened);
  /* An error behind the rename is one of the folder; the new file is there then, and whole. */
  int renamed = code != SBAG_OK && strstr(status.message, "folder") != NULL;
  expect(t, found == *generation + (code == SBAG_OK || renamed), what, "not the generation that it should be",
         &status);
  if (kind == FAULT_SHORT) expect(t, code == SBAG_OK, what, "a short call is no error", &status);
  if (kind != FAULT_SHORT) t->ignored += reached && code == SBAG_OK;
  snprintf(temporary, sizeof temporary, "%s.tmp", t->path);
  expect(t, access(temporary, F_OK) != 0, what, "a temporary file is left", &status);
  *generation = found;
  (void)comm_barrier(t->comm, "test", NULL);
  return (int)reached;
}

static int open_under(test_t *t, int victim, long n, fault_kind_t kind, int64_t generation) {
  char what[96];
  sbag_status_t status;
  snprintf(what, sizeof what, "open, call %ld of rank %d, kind %d", n, victim, (int)kind);
  status_clear(&status);
  int mine = comm_rank(t->comm) == victim;
  if (mine) t->begin(t->folder, n, kind);
  int64_t found = -1;
  sbag_code_t code = check(t, &found, &status);
  int64_t reached = mine ? t->end() >= n : 0;
  (void)comm_broadcast(t->comm, &reached, sizeof reached, victim, "test", NULL);
  if (code == SBAG_OK) status_clear(&status);
  expect(t, is_equal(t, hash(&status)), what, "the ranks say different things", &status);
  expect(t, code != SBAG_OK || found == generation, what, "read something else", &status);
  if (kind == FAULT_SHORT) expect(t, code == SBAG_OK, what, "a short call is no error", &status);
  if (kind != FAULT_SHORT) t->ignored += reached && code == SBAG_OK;
  return (int)reached;
}

/* Every call of a commit and of an opening. Only the close of what was merely read, the folder and the file,
 * may fail without a word. */
static void every_call(test_t *t, int victim, fault_kind_t kind, int64_t *generation) {
  char what[64];
  sbag_status_t status = {.message = "is as if nothing had failed"};
  snprintf(what, sizeof what, "rank %d, kind %d", victim, (int)kind);
  t->ignored = 0;
  for (long n = 1; commit_under(t, victim, n, kind, generation); n++) continue;
  expect(t, t->ignored <= (victim == 0), what, "an error of a commit is not told", &status);
  t->ignored = 0;
  for (long n = 1; open_under(t, victim, n, kind, *generation); n++) continue;
  expect(t, t->ignored <= 1, what, "an error of an opening is not told", &status);
}

/* Before a commit says that all is well, all of it is on disk, from every rank, and its name too. */
static void everything_is_synced(test_t *t, int64_t generation) {
  sbag_status_t status;
  status_clear(&status);
  t->begin(t->folder, 0, FAULT_EIO); /* there is no call 0: only to watch */
  expect(t, commit(t, generation, &status) == SBAG_OK, "commit", "no fault", &status);
  (void)t->end();
  t->range[0] = t->lost();
  (void)comm_allreduce(t->comm, t->range, 1, COMM_I64, COMM_SUM, "test", NULL);
  expect(t, t->range[0] == 0, "commit", "something is not brought to disk", &status);
}

static int io(test_t *t) {
  sbag_status_t status;
  *(void **)(&t->begin) = dlsym(RTLD_DEFAULT, "fault_begin");
  *(void **)(&t->end) = dlsym(RTLD_DEFAULT, "fault_end");
  *(void **)(&t->lost) = dlsym(RTLD_DEFAULT, "fault_lost");
  if (t->begin == NULL || t->end == NULL || t->lost == NULL) {
    fprintf(stderr, "fault io: the shim is not preloaded\n");
    return 2;
  }
  int64_t generation = 1;
  if (commit(t, generation, &status) != SBAG_OK) {
    fprintf(stderr, "fault io: %s\n", status.message);
    return 1;
  }
  everything_is_synced(t, ++generation);
  int last = comm_size(t->comm) - 1;
  for (int victim = 0; victim <= last; victim += last > 0 ? last : 1)
    for (int kind = 0; kind < FAULT_KINDS; kind++) every_call(t, victim, (fault_kind_t)kind, &generation);
  if (comm_rank(t->comm) == 0) printf("%" PRId64 " passed, %" PRId64 " failed\n", t->passed, t->failed);
  return is_equal(t, 0) && t->failed == 0 ? 0 : 1;
}

/* ---- loop, check ---- */

static int loop(test_t *t) {
  sbag_status_t status;
  for (int64_t generation = 1;; generation++)
    if (commit(t, generation, &status) != SBAG_OK) {
      if (comm_rank(t->comm) == 0) fprintf(stderr, "fault loop: %s\n", status.message);
      return 1;
    }
}

static int check_file(test_t *t) {
  sbag_status_t status;
  int64_t generation = 0;
  sbag_code_t code = check(t, &generation, &status);
  if (comm_rank(t->comm) != 0) return code == SBAG_OK ? 0 : 1;
  if (code == SBAG_OK)
    printf("generation %" PRId64 "\n", generation);
  else
    fprintf(stderr, "fault check: %s\n", status.message);
  return code == SBAG_OK ? 0 : 1;
}

static int run(test_t *t, const char *what, const char *path) {
  char file[400];
  if (strcmp(what, "io") == 0) {
    snprintf(file, sizeof file, "%s/file.h5", path);
    t->path = file;
    t->folder = path;
    return io(t);
  }
  t->path = path;
  return strcmp(what, "loop") == 0 ? loop(t) : check_file(t);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: fault io FOLDER | loop FILE | check FILE\n");
    return 2;
  }
  /* Without a launcher there is no MPI to start, and a killed process leaves nothing of it behind. */
  test_t t = {0};
  sbag_status_t status;
  int launched = getenv("OMPI_COMM_WORLD_SIZE") != NULL, provided = 0, code = 1;
  if (launched && MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) return 1;
  if (mem_create(&t.mem, &status) == SBAG_OK &&
      (launched ? comm_mpi_create(MPI_COMM_WORLD, t.mem, NULL, &t.comm, &status)
                : comm_self_create(t.mem, NULL, &t.comm, &status)) == SBAG_OK)
    code = run(&t, argv[1], argv[2]);
  else
    fprintf(stderr, "fault: %s\n", status.message);
  comm_destroy(&t.comm);
  mem_destroy(&t.mem);
  if (launched) MPI_Finalize();
  return code;
}
