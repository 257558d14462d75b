/* Tables that start from a file: the same rows on any number of ranks and in any layout, and what is refused.
 */
#include "mpi_test.h"

#include "checkpoint/checkpoint.h"
#include "collection/context.h"
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 37, DIM = 3 };

static sbag_context_h context;
static sbag_status_t failure;
static char path[256];

static float value_of(int64_t row, int64_t column) {
  return (float)(100 * row + column);
}

static sbag_code_t fill(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  (void)user, (void)status;
  for (int64_t i = 0; i < rows * DIM; i++) ((float *)out)[i] = value_of(first_row + i / DIM, i % DIM);
  return SBAG_OK;
}

static void write_file(void) {
  const char *folder = getenv("TMPDIR");
  checkpoint_writer_t *writer = NULL;
  const int64_t shape[2] = {ROWS, DIM};
  snprintf(path, sizeof path, "%s/shardbag-init-file-%d.h5", folder != NULL ? folder : "/tmp", (int)getuid());
  ck_assert_int_eq(
      checkpoint_writer_create(context_comm(context), context_mem(context), path, &writer, &failure),
      SBAG_OK);
  ck_assert_int_eq(
      checkpoint_add_array(writer, "tables/t/weight", CHECKPOINT_F32, 2, shape, fill, NULL, &failure),
      SBAG_OK);
  ck_assert_int_eq(checkpoint_add_array(writer, "other", CHECKPOINT_F32, 2, shape, fill, NULL, &failure),
                   SBAG_OK);
  ck_assert_int_eq(checkpoint_commit(&writer, &failure), SBAG_OK);
}

static void setup(void) {
  ck_assert_int_eq(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &failure), SBAG_OK);
  write_file();
}

static void teardown(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  if (sbag_context_rank(context) == 0) unlink(path);
  sbag_context_destroy(&context);
}

static sbag_code_t create(const sbag_table_options_t *table, sbag_collection_h *collection) {
  sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
  feature.mode = SBAG_SUM;
  return sbag_collection_create(context, NULL, table, 1, &feature, 1, collection, &failure);
}

START_TEST(rows_come_from_the_file) {
  sbag_table_options_t table = sbag_table_options_default("t", ROWS, DIM);
  sbag_collection_h collection = NULL;
  int64_t rows[ROWS], offsets[ROWS];
  float values[ROWS * DIM], pooled[ROWS * DIM];
  sbag_step_h step = NULL;
  table.init_file = path;
  table.init_dataset = _i % 2 == 0 ? NULL : "other";
  table.layout = (sbag_layout_t)(_i % 3);
  table.replicated = _i / 3;
  ck_assert_msg(create(&table, &collection) == SBAG_OK, "%s", failure.message);
  for (int64_t r = 0; r < ROWS; r++) rows[r] = offsets[r] = r;
  ck_assert_int_eq(sbag_collection_read_rows(collection, 0, rows, ROWS, values, &failure), SBAG_OK);
  sbag_bags_t bags = sbag_bags_1d(rows, ROWS, offsets, ROWS);
  ck_assert_int_eq(sbag_collection_forward_begin(collection, &bags, SBAG_FORWARD_READ_ONLY, &step, &failure),
                   SBAG_OK);
  ck_assert_int_eq(sbag_step_forward_end(step, pooled, &failure), SBAG_OK);
  sbag_step_release(&step);
  for (int64_t i = 0; i < ROWS * DIM; i++) {
    ck_assert_float_eq(values[i], value_of(i / DIM, i % DIM));
    ck_assert_float_eq(pooled[i], value_of(i / DIM, i % DIM));
  }
  sbag_collection_destroy(&collection);
}
END_TEST

static void refused(const sbag_table_options_t *table, const char *word) {
  sbag_collection_h collection = NULL;
  ck_assert_int_ne(create(table, &collection), SBAG_OK);
  ck_assert_msg(strstr(failure.message, word) != NULL, "'%s' is not in: %s", word, failure.message);
  ck_assert_ptr_null(collection);
}

START_TEST(what_does_not_fit_is_refused) {
  sbag_table_options_t table = sbag_table_options_default("t", ROWS + 1, DIM);
  float weights[DIM] = {0};
  table.init_file = path;
  refused(&table, "tables/t/weight"); /* another number of rows */
  table.num_embeddings = ROWS;
  table.init_dataset = "absent";
  refused(&table, "absent");
  table.init_dataset = NULL;
  table.from_pretrained = weights;
  refused(&table, "from_pretrained");
  table.from_pretrained = NULL;
  table.init_file = "/nowhere/nothing.h5";
  refused(&table, "/nowhere/nothing.h5");
  table.init_file = NULL;
  table.init_dataset = "other";
  refused(&table, "init_file");
}
END_TEST

Suite *init_file_suite(void) {
  Suite *suite = suite_create("init_file");
  TCase *tcase = tcase_create("init_file");
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_loop_test(tcase, rows_come_from_the_file, 0, 6);
  tcase_add_test(tcase, what_does_not_fit_is_refused);
  suite_add_tcase(suite, tcase);
  return suite;
}
