/* Arrays of a checkpoint into tables: of every layout, on any number of ranks, and what is refused. */
#include "mpi_test.h"

#include "checkpoint/checkpoint.h"
#include "collection/context.h"
#include "collection/load.h"
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TABLES = 5, ARRAYS = 2 * TABLES, ROWS = 3001, PIECE_BYTES = 1000 };

/* Rows that no number of ranks divides; table 4 lies on the last rank alone. */
static const char *const names[TABLES] = {"block", "cyclic", "scramble", "mirrored", "last"};
static const int64_t dims[TABLES] = {6, 5, 3, 4, 7};
static const sbag_layout_t layouts[TABLES] = {SBAG_LAYOUT_BLOCK, SBAG_LAYOUT_CYCLIC, SBAG_LAYOUT_SCRAMBLE,
                                              SBAG_LAYOUT_BLOCK, SBAG_LAYOUT_BLOCK};

typedef struct array {
  int number, table, state;
  int64_t width;
  char name[64];
} array_t;

static sbag_context_h context;
static sbag_collection_h collection;
static checkpoint_reader_t *reader;
static array_t arrays[ARRAYS];
static collection_load_t loads[ARRAYS];
static sbag_status_t failure;
static char path[256];

static float value_of(const array_t *array, int64_t row, int64_t column) {
  return (float)(1 + array->number + 16 * (row * array->width + column));
}

static sbag_code_t fill(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  (void)status;
  const array_t *a = user;
  for (int64_t i = 0; i < rows * a->width; i++)
    ((float *)out)[i] = value_of(a, first_row + i / a->width, i % a->width);
  return SBAG_OK;
}

static void create_collection(void) {
  sbag_table_options_t tables[TABLES];
  sbag_feature_options_t features[TABLES];
  int last = sbag_context_size(context) - 1;
  for (int t = 0; t < TABLES; t++) {
    tables[t] = sbag_table_options_default(names[t], ROWS + t, dims[t]);
    tables[t].layout = layouts[t];
    tables[t].replicated = t == 3;
    tables[t].optimizer =
        sbag_optimizer_options_default(t % 2 == 0 ? SBAG_OPT_ADAGRAD : SBAG_OPT_EXACT_ROWWISE_ADAGRAD);
    features[t] = sbag_feature_options_default(names[t], t);
  }
  tables[4].ranks = &last;
  tables[4].rank_count = 1;
  ck_assert_msg(sbag_collection_create(context, NULL, tables, TABLES, features, TABLES, &collection,
                                       &failure) == SBAG_OK,
                "%s", failure.message);
}

static void list_arrays(void) {
  for (int i = 0; i < ARRAYS; i++) {
    array_t *a = &arrays[i];
    *a = (array_t){.number = i, .table = i / 2, .state = i % 2 - 1};
    a->width = a->state < 0 ? dims[a->table] : sbag_collection_state_width(collection, a->table, 0);
    snprintf(a->name, sizeof a->name, "tables/%s/%s", names[a->table], a->state < 0 ? "weight" : "sum");
    loads[i] = (collection_load_t){.table = a->table, .state = a->state, .name = a->name};
  }
}

static void write_file(void) {
  const char *folder = getenv("TMPDIR");
  checkpoint_writer_t *writer = NULL;
  snprintf(path, sizeof path, "%s/shardbag-load-%d.h5", folder != NULL ? folder : "/tmp", (int)getuid());
  ck_assert_int_eq(
      checkpoint_writer_create(context_comm(context), context_mem(context), path, &writer, &failure),
      SBAG_OK);
  checkpoint_writer_set_piece(writer, PIECE_BYTES);
  for (int i = 0; i < ARRAYS; i++) {
    const int64_t shape[2] = {ROWS + arrays[i].table, arrays[i].width};
    ck_assert_int_eq(checkpoint_add_array(writer, arrays[i].name, CHECKPOINT_F32, arrays[i].width > 1 ? 2 : 1,
                                          shape, fill, &arrays[i], &failure),
                     SBAG_OK);
  }
  ck_assert_msg(checkpoint_commit(&writer, &failure) == SBAG_OK, "%s", failure.message);
}

static void open_file(void) {
  ck_assert_msg(checkpoint_open(context_comm(context), context_mem(context), path, &reader, &failure) ==
                    SBAG_OK,
                "%s", failure.message);
  checkpoint_reader_set_chunk(reader, 4096);
}

static void setup(void) {
  ck_assert_int_eq(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &failure), SBAG_OK);
  create_collection();
  list_arrays();
  write_file();
  open_file();
}

static void teardown(void) {
  checkpoint_close(&reader);
  sbag_collection_destroy(&collection);
  MPI_Barrier(MPI_COMM_WORLD);
  if (sbag_context_rank(context) == 0) unlink(path);
  sbag_context_destroy(&context);
}

/* Every rank looks at all rows. */
static void check_array(const array_t *array) {
  int64_t rows = ROWS + array->table;
  float *values = malloc((size_t)(rows * array->width) * sizeof *values);
  ck_assert_ptr_nonnull(values);
  ck_assert_int_eq(
      sbag_collection_read_range(collection, array->table, array->state, 0, rows, values, &failure), SBAG_OK);
  for (int64_t i = 0; i < rows * array->width; i++)
    ck_assert_float_eq(values[i], value_of(array, i / array->width, i % array->width));
  free(values);
}

/* The mirror, too, which the forward pass of a replicated table reads. */
static void check_mirror(void) {
  int64_t row = ROWS, empty = 0, offset = 0;
  sbag_bags_t bags[TABLES];
  float pooled[64];
  sbag_step_h step = NULL;
  for (int t = 0; t < TABLES; t++) bags[t] = sbag_bags_1d(t == 3 ? &row : &empty, t == 3, &offset, 1);
  ck_assert_int_eq(sbag_collection_forward_begin(collection, bags, SBAG_FORWARD_READ_ONLY, &step, &failure),
                   SBAG_OK);
  ck_assert_int_eq(sbag_step_forward_end(step, pooled, &failure), SBAG_OK);
  sbag_step_release(&step);
  for (int64_t c = 0; c < dims[3]; c++)
    ck_assert_float_eq(pooled[dims[0] + dims[1] + dims[2] + c], value_of(&arrays[6], row, c));
}

START_TEST(every_layout_loads) {
  ck_assert_msg(collection_load(collection, reader, loads, ARRAYS, &failure) == SBAG_OK, "%s",
                failure.message);
  for (int i = 0; i < ARRAYS; i++) check_array(&arrays[i]);
  check_mirror();
}
END_TEST

START_TEST(blocks_need_a_piece_of_memory) {
  int64_t before = mem_stats(context_mem(context)).peak_bytes;
  ck_assert_int_eq(collection_load(collection, reader, loads, 2, &failure), SBAG_OK);
  ck_assert_int_le(mem_stats(context_mem(context)).peak_bytes - before, 2 * PIECE_BYTES);
  check_array(&arrays[0]);
}
END_TEST

/* ---- saving ---- */

static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *status) {
  const array_t *a = user;
  return collection_own_rows(collection, a->table, a->state, own, status);
}

static sbag_code_t read_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const array_t *a = user;
  return sbag_collection_read_range(collection, a->table, a->state, first_row, rows, out, status);
}

static void save_file(const char *again) {
  checkpoint_writer_t *writer = NULL;
  ck_assert_int_eq(
      checkpoint_writer_create(context_comm(context), context_mem(context), again, &writer, &failure),
      SBAG_OK);
  checkpoint_writer_set_piece(writer, PIECE_BYTES);
  for (int i = 0; i < ARRAYS; i++) {
    const int64_t shape[2] = {ROWS + arrays[i].table, arrays[i].width};
    ck_assert_int_eq(checkpoint_add_own_array(writer, arrays[i].name, CHECKPOINT_F32,
                                              arrays[i].width > 1 ? 2 : 1, shape, read_rows, own_rows,
                                              &arrays[i], &failure),
                     SBAG_OK);
  }
  ck_assert_msg(checkpoint_commit(&writer, &failure) == SBAG_OK, "%s", failure.message);
}

static int is_same_file(const char *a, const char *b) {
  FILE *left = fopen(a, "rb"), *right = fopen(b, "rb");
  ck_assert(left != NULL && right != NULL);
  int x, y;
  do {
    x = getc(left);
    y = getc(right);
  } while (x == y && x != EOF);
  fclose(left);
  fclose(right);
  return x == y;
}

/* What the file's rows are, every layout gives back, from memory or by reading. */
START_TEST(saved_again_is_the_same_file) {
  char again[300];
  snprintf(again, sizeof again, "%s.again", path);
  ck_assert_int_eq(collection_load(collection, reader, loads, ARRAYS, &failure), SBAG_OK);
  save_file(again);
  if (sbag_context_rank(context) != 0) return;
  ck_assert(is_same_file(path, again));
  unlink(again);
}
END_TEST

/* Flips a bit of a row's first value. */
static void damage(const array_t *array, int64_t row) {
  float wanted = value_of(array, row, 0), next = value_of(array, row, 1), found[2] = {0};
  FILE *file = fopen(path, "r+b");
  ck_assert_ptr_nonnull(file);
  long at = 0;
  while (fseek(file, at, SEEK_SET) == 0 && fread(found, sizeof found, 1, file) == 1 &&
         (found[0] != wanted || found[1] != next))
    at += 4;
  found[0] += 16;
  ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
  ck_assert_uint_eq(fwrite(found, sizeof found, 1, file), 1);
  ck_assert_int_eq(fclose(file), 0);
}

/* Wherever the row lies, all ranks say the same. Row 2999 is of the last piece but for few. */
START_TEST(damage_is_told_by_all) {
  static const char *const said[TABLES] = {
      "'tables/block/weight': rows 2993 to 3000", "'tables/cyclic/weight': rows 2950 to 2999",
      "'tables/scramble/weight': rows 2988 to 3002", "'tables/mirrored/weight': rows 2976 to 3003",
      "'tables/last/weight': rows 2975 to 3004"};
  const array_t *array = &arrays[2 * _i];
  if (sbag_context_rank(context) == 0) damage(array, 2999);
  MPI_Barrier(MPI_COMM_WORLD);
  ck_assert_int_eq(collection_load(collection, reader, loads, ARRAYS, &failure), SBAG_ERR_FORMAT);
  ck_assert_msg(strstr(failure.message, said[_i]) != NULL, "%s", failure.message);
  ck_assert_int_eq(collection_load(collection, reader, &loads[2 * _i + 1], 1, &failure), SBAG_OK);
  check_array(&arrays[2 * _i + 1]); /* the comm works, and the rest can be read */
}
END_TEST

static void refused(const collection_load_t *load, const char *word) {
  ck_assert_int_ne(collection_load(collection, reader, load, 1, &failure), SBAG_OK);
  ck_assert_msg(strstr(failure.message, word) != NULL, "'%s' is not in: %s", word, failure.message);
}

START_TEST(what_does_not_fit_is_refused) {
  refused(&(collection_load_t){.table = 0, .state = -1, .name = "tables/cyclic/weight"}, "3001");
  refused(&(collection_load_t){.table = 0, .state = 0, .name = "tables/block/absent"}, "absent");
  refused(&(collection_load_t){.table = 0, .state = 3, .name = "tables/block/weight"}, "state");
  refused(&(collection_load_t){.table = TABLES, .state = -1, .name = "tables/block/weight"}, "table");
  /* on one rank alone */
  int other = sbag_context_rank(context) == 0;
  refused(&(collection_load_t){.table = 0, .state = -1, .name = other ? "nothing" : arrays[0].name},
          "nothing");
}
END_TEST

Suite *load_suite(void) {
  Suite *suite = suite_create("load");
  TCase *tcase = tcase_create("load");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, every_layout_loads);
  tcase_add_test(tcase, saved_again_is_the_same_file);
  tcase_add_test(tcase, blocks_need_a_piece_of_memory);
  tcase_add_loop_test(tcase, damage_is_told_by_all, 0, TABLES);
  tcase_add_test(tcase, what_does_not_fit_is_refused);
  suite_add_tcase(suite, tcase);
  return suite;
}
