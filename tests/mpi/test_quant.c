/* Tables kept in int8 and int4: what they pool on any number of ranks, how they come from checkpoints of any
 * type and with how much memory, and what is refused. */
#include "checkpoint/checkpoint.h"
#include "collection/context.h"
#include "collection/load.h"
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"
#include "oracle/batch.h"
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *quant_suite(void);

enum { SAMPLES = 6, PARTS = 8, EXCHANGES = 4, LAYOUTS = 3 };

/* What a row is read as that these values were written to. */
static void quantised(sbag_storage_t storage, const float *values, int64_t dim, float *read) {
  uint8_t row[512];
  float scale, bias;
  ck_assert_uint_le(kernel_row_bytes(SBAG_F32, storage, dim), sizeof row);
  quant_row_scalar(storage, values, dim, row);
  quant_get_scale(storage, dim, row, &scale, &bias);
  for (int64_t c = 0; c < dim; c++) read[c] = scale * (float)quant_get_code(storage, row, c) + bias;
}

static rig_options_t options_of(int i) {
  rig_options_t options = rig_options_default();
  options.dtype = SBAG_F32;
  options.inference = 1;
  options.context.exchange = (sbag_exchange_t)(i % EXCHANGES);
  options.layout = (sbag_layout_t)(i / EXCHANGES % LAYOUTS);
  options.replicated = i % 5 == 2;
  options.subset = i % 4 == 1;
  options.dims[0] = i % 2 == 0 ? 4 : 19;
  options.storage[0] = i % 2 == 0 ? SBAG_STORAGE_INT8 : SBAG_STORAGE_INT4;
  options.storage[1] = i % 2 == 0 ? SBAG_STORAGE_INT4 : SBAG_STORAGE_INT8;
  return options;
}

/* 0, and the one thing that is tested, where the device has no such tables. */
static int device_has_them(void) {
  sbag_context_h context = NULL;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &rig_failure));
  const int has = sbag_context_device(context) == SBAG_DEVICE_CPU;
  if (!has) {
    sbag_collection_h collection = NULL;
    sbag_collection_options_t options = sbag_collection_options_default();
    sbag_table_options_t table = sbag_table_options_default("t", 10, 4);
    sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
    options.weight_grad = 0;
    table.storage = SBAG_STORAGE_INT8;
    ck_assert_int_eq(
        sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &rig_failure),
        SBAG_ERR_ARGUMENT);
    ck_assert_msg(strstr(rig_failure.message, "looked up on the CPU") != NULL, "%s", rig_failure.message);
  }
  sbag_context_destroy(&context);
  return has;
}

static float *draw_table(rig_t *rig, int table, uint64_t seed) {
  const int64_t count = rig->options.rows[table] * rig->options.dims[table];
  draw_t draw = draw_start(seed, (uint64_t)table);
  float *values = arena_alloc(&rig->arena, count, sizeof *values);
  for (int64_t i = 0; i < count; i++) values[i] = (float)(2 * draw_unit(&draw) - 1);
  return values;
}

/* Values with more bits than any table here keeps; each rank writes some of the rows. */
static void write_random(rig_t *rig, int table, uint64_t seed) {
  const int64_t rows = rig->options.rows[table], dim = rig->options.dims[table];
  const float *all = draw_table(rig, table, seed);
  int64_t *row = arena_ints(&rig->arena, rows), count = 0;
  float *values = arena_alloc(&rig->arena, rows * dim, sizeof *values);
  for (int64_t r = rig->rank; r < rows; r += rig->size, count++) {
    row[count] = r;
    memcpy(values + count * dim, all + r * dim, (size_t)dim * sizeof *values);
  }
  rig_must(sbag_collection_write_rows(rig->collection, table, row, count, values, &rig_failure));
}

static void copy_tables(rig_t *from, rig_t *to) {
  for (int t = 0; t < RIG_TABLES; t++) {
    const int64_t rows = from->options.rows[t], count = rows * from->options.dims[t];
    const double *values = rig_read(from, t, -1);
    int64_t *row = arena_ints(&to->arena, rows);
    for (int64_t r = 0; r < rows; r++) row[r] = r;
    rig_must(sbag_collection_write_rows(to->collection, t, row, rows,
                                        batch_typed(&to->arena, values, count, SBAG_F32), &rig_failure));
  }
}

static void check_bits(const char *what, const void *got, const void *wanted, int64_t count) {
  const uint32_t *a = got, *b = wanted;
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(a[i] == b[i], "%s: value %lld is %#x, not %#x", what, (long long)i, a[i], b[i]);
}

/* ---- pooling ---- */

/* All the bits of f32 tables that hold what is read. */
START_TEST(pools_as_f32_rows_of_the_same_values) {
  rig_options_t options = options_of(_i), in_full = options;
  rig_t kept, full;
  if (!device_has_them()) return;
  in_full.storage[0] = in_full.storage[1] = SBAG_STORAGE_FULL;
  rig_open(&kept, &options);
  rig_open(&full, &in_full);
  for (int t = 0; t < RIG_TABLES; t++) write_random(&kept, t, (uint64_t)_i);
  copy_tables(&kept, &full);
  for (int number = 0; number < 6; number++) {
    rig_batch_t a, b;
    rig_draw(&kept, &a, (uint64_t)number, SAMPLES, number % 2);
    rig_draw(&full, &b, (uint64_t)number, SAMPLES, number % 2);
    sbag_step_h step = rig_begin(&kept, &a, SBAG_FORWARD_READ_ONLY),
                other = rig_begin(&full, &b, SBAG_FORWARD_READ_ONLY);
    rig_must(sbag_step_forward_end(step, a.out, &rig_failure));
    rig_must(sbag_step_forward_end(other, b.out, &rig_failure));
    check_bits("output", a.out, b.out, a.samples * kept.columns);
    sbag_step_release(&step);
    sbag_step_release(&other);
  }
  rig_close(&kept);
  rig_close(&full);
}
END_TEST

/* In reproducible mode what one rank pools of a global batch, for every number of ranks up to PARTS. */
START_TEST(pools_the_same_bits_on_any_ranks) {
  rig_options_t options = options_of(_i);
  rig_t alone, some;
  int rank, size;
  if (!device_has_them()) return;
  options.subset = 0;
  options.context.reproducible = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  rig_open_on(&alone, &options, MPI_COMM_SELF);
  for (int t = 0; t < RIG_TABLES; t++) write_random(&alone, t, 5);
  for (int ranks = 1; ranks <= size && ranks <= PARTS; ranks++) {
    MPI_Comm comm;
    MPI_Comm_split(MPI_COMM_WORLD, rank < ranks ? 0 : MPI_UNDEFINED, rank, &comm);
    if (comm == MPI_COMM_NULL) continue;
    rig_open_on(&some, &options, comm);
    for (int t = 0; t < RIG_TABLES; t++) write_random(&some, t, 5);
    for (uint64_t number = 0; number < 3; number++) {
      const int first = rank * PARTS / ranks, end = (rank + 1) * PARTS / ranks;
      rig_batch_t a, b;
      rig_draw_parts(&some, first, end, &a, number, SAMPLES, 1);
      rig_draw_parts(&alone, first, end, &b, number, SAMPLES, 1);
      sbag_step_h step = rig_begin(&some, &a, SBAG_FORWARD_READ_ONLY),
                  other = rig_begin(&alone, &b, SBAG_FORWARD_READ_ONLY);
      rig_must(sbag_step_forward_end(step, a.out, &rig_failure));
      rig_must(sbag_step_forward_end(other, b.out, &rig_failure));
      check_bits("output", a.out, b.out, a.samples * some.columns);
      sbag_step_release(&step);
      sbag_step_release(&other);
    }
    rig_close(&some);
    MPI_Comm_free(&comm);
  }
  rig_close(&alone);
}
END_TEST

/* max_norm applies to the value read, whatever the flags, and the table stays as it is. */
START_TEST(max_norm_is_of_what_is_read) {
  enum { ROWS = 30, DIM = 7, BAGS = 5 };
  static const int64_t indices[] = {3, 3, 29, 0, 7, 12, 3, 18, 29, 1}, offsets[BAGS] = {0, 2, 2, 5, 9};
  const sbag_storage_t storages[2] = {_i == 0 ? SBAG_STORAGE_INT8 : SBAG_STORAGE_INT4, SBAG_STORAGE_FULL};
  float out[2][BAGS * DIM], before[ROWS * DIM], after[ROWS * DIM];
  sbag_context_h context = NULL;
  if (!device_has_them()) return;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &rig_failure));
  for (int which = 0; which < 2; which++) {
    sbag_collection_h collection = NULL;
    sbag_step_h step = NULL;
    sbag_collection_options_t options = sbag_collection_options_default();
    sbag_table_options_t table = sbag_table_options_default("t", ROWS, DIM);
    sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
    sbag_bags_t bags = sbag_bags_1d(indices, sizeof indices / sizeof *indices, offsets, BAGS);
    options.weight_grad = 0;
    table.storage = storages[which];
    table.has_max_norm = 1;
    table.max_norm = 1.5;
    table.from_pretrained = which == 0 ? NULL : before; /* the values of the quantised rows */
    rig_must(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &rig_failure));
    if (which == 0) rig_must(sbag_collection_read_range(collection, 0, -1, 0, ROWS, before, &rig_failure));
    rig_must(sbag_collection_forward_begin(collection, &bags, which == 0 ? 0 : SBAG_FORWARD_READ_ONLY, &step,
                                           &rig_failure));
    rig_must(sbag_step_forward_end(step, out[which], &rig_failure));
    sbag_step_release(&step);
    rig_must(sbag_collection_read_range(collection, 0, -1, 0, ROWS, after, &rig_failure));
    check_bits("row", after, before, ROWS * DIM);
    sbag_collection_destroy(&collection);
  }
  check_bits("output", out[0], out[1], BAGS * DIM);
  sbag_context_destroy(&context);
}
END_TEST

/* ---- reading and writing ---- */

START_TEST(values_written_are_quantised) {
  rig_options_t options = options_of(_i);
  rig_t rig;
  if (!device_has_them()) return;
  rig_open(&rig, &options);
  for (int t = 0; t < RIG_TABLES; t++) {
    const int64_t rows = options.rows[t], dim = options.dims[t];
    float *values = draw_table(&rig, t, 9), *got = arena_alloc(&rig.arena, rows * dim, sizeof *got),
          *wanted = arena_alloc(&rig.arena, rows * dim, sizeof *wanted);
    write_random(&rig, t, 9);
    for (int64_t r = 0; r < rows; r++) quantised(options.storage[t], values + r * dim, dim, wanted + r * dim);
    rig_must(sbag_collection_read_range(rig.collection, t, -1, 0, rows, got, &rig_failure));
    check_bits("by rows", got, wanted, rows * dim);
    /* And by ranges, each rank its own. */
    const int64_t first = rig.rank * rows / rig.size, end = (rig.rank + 1) * rows / rig.size;
    for (int64_t i = 0; i < rows * dim; i++) values[i] = -3 * values[i];
    for (int64_t r = 0; r < rows; r++) quantised(options.storage[t], values + r * dim, dim, wanted + r * dim);
    rig_must(sbag_collection_write_range(rig.collection, t, -1, first, end - first, values + first * dim,
                                         &rig_failure));
    rig_must(sbag_collection_read_range(rig.collection, t, -1, 0, rows, got, &rig_failure));
    check_bits("by ranges", got, wanted, rows * dim);
  }
  rig_close(&rig);
}
END_TEST

/* ---- checkpoints ---- */

typedef struct saved {
  sbag_collection_h collection;
  int table;
} saved_t;

static sbag_code_t fill_rows(void *user, int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  const saved_t *s = user;
  return collection_read_kept(s->collection, s->table, -1, first_row, rows, out, status);
}

static sbag_code_t own_rows(void *user, checkpoint_rows_t *own, sbag_status_t *status) {
  const saved_t *s = user;
  return collection_own_rows(s->collection, s->table, -1, own, status);
}

static const char *const array_names[RIG_TABLES] = {"tables/first/weight", "tables/second/weight"};

static void path_of(char path[256]) {
  const char *folder = getenv("TMPDIR");
  snprintf(path, 256, "%s/shardbag-quant-%d.h5", folder != NULL ? folder : "/tmp", (int)getuid());
}

static void save(rig_t *rig, const char *path) {
  checkpoint_writer_t *writer = NULL;
  saved_t saved[RIG_TABLES];
  rig_must(checkpoint_writer_create(context_comm(rig->context), context_mem(rig->context), path, &writer,
                                    &rig_failure));
  for (int t = 0; t < RIG_TABLES; t++) {
    const int64_t shape[2] = {rig->options.rows[t], rig->options.dims[t]};
    saved[t] = (saved_t){rig->collection, t};
    rig_must(checkpoint_add_own_array(writer, array_names[t], collection_kept_type(rig->collection, t, -1), 2,
                                      shape, fill_rows, own_rows, &saved[t], &rig_failure));
  }
  rig_must(checkpoint_commit(&writer, &rig_failure));
}

static void load(rig_t *rig, const char *path) {
  checkpoint_reader_t *reader = NULL;
  collection_load_t loads[RIG_TABLES];
  rig_must(
      checkpoint_open(context_comm(rig->context), context_mem(rig->context), path, &reader, &rig_failure));
  for (int t = 0; t < RIG_TABLES; t++) loads[t] = (collection_load_t){t, -1, array_names[t]};
  rig_must(collection_load(rig->collection, reader, loads, RIG_TABLES, &rig_failure));
  checkpoint_close(&reader);
}

/* From tables of any type (int8 and int4 are saved as the f32 that they are read as), in any layout. */
START_TEST(checkpoints_of_any_type_load) {
  char path[256];
  rig_options_t from = options_of(_i), to = options_of(_i + 1);
  rig_t written, read;
  if (!device_has_them()) return;
  path_of(path);
  to.dims[0] = from.dims[0];
  for (int t = 0; t < RIG_TABLES; t++) from.storage[t] = (sbag_storage_t)((_i + t) % 5);
  rig_open(&written, &from);
  for (int t = 0; t < RIG_TABLES; t++) write_random(&written, t, (uint64_t)_i);
  save(&written, path);
  rig_open(&read, &to);
  load(&read, path);
  for (int t = 0; t < RIG_TABLES; t++) {
    const int64_t rows = from.rows[t], dim = from.dims[t];
    float *before = arena_alloc(&read.arena, rows * dim, sizeof *before),
          *after = arena_alloc(&read.arena, rows * dim, sizeof *after);
    rig_must(sbag_collection_read_range(written.collection, t, -1, 0, rows, before, &rig_failure));
    rig_must(sbag_collection_read_range(read.collection, t, -1, 0, rows, after, &rig_failure));
    for (int64_t r = 0; r < rows; r++) quantised(to.storage[t], before + r * dim, dim, before + r * dim);
    check_bits("row", after, before, rows * dim);
  }
  rig_close(&read);
  MPI_Barrier(MPI_COMM_WORLD);
  if (written.rank == 0) unlink(path);
  rig_close(&written);
}
END_TEST

/* A shard in few bits and 64 MiB hold what is loaded, in every layout. */
START_TEST(loading_takes_little_memory) {
  enum { ROWS = 600000, DIM = 64 };
  char path[256];
  rig_options_t options = options_of(0);
  rig_t rig;
  if (!device_has_them()) return;
  path_of(path);
  options.rows[0] = ROWS;
  options.dims[0] = DIM;
  options.storage[0] = SBAG_STORAGE_BF16;
  options.layout = SBAG_LAYOUT_BLOCK;
  options.replicated = 0;
  rig_open(&rig, &options);
  save(&rig, path);
  rig_close(&rig);
  options.layout = (sbag_layout_t)_i;
  options.storage[0] = SBAG_STORAGE_INT4;
  rig_open(&rig, &options);
  const mem_stats_t before = mem_stats(context_mem(rig.context));
  load(&rig, path);
  ck_assert_int_le(mem_stats(context_mem(rig.context)).peak_bytes,
                   before.live_bytes + (64 << 20) > before.peak_bytes ? before.live_bytes + (64 << 20)
                                                                      : before.peak_bytes);
  rig_close(&rig);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rig.rank == 0) unlink(path);
}
END_TEST

/* ---- refusals ---- */

static void refused(const sbag_collection_options_t *options, const sbag_table_options_t *table,
                    const char *part) {
  sbag_context_h context = NULL;
  sbag_collection_h collection = NULL;
  sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &rig_failure));
  ck_assert_int_eq(sbag_collection_create(context, options, table, 1, &feature, 1, &collection, &rig_failure),
                   SBAG_ERR_ARGUMENT);
  ck_assert_msg(strstr(rig_failure.message, part) != NULL, "'%s' says nothing of '%s'", rig_failure.message,
                part);
  sbag_context_destroy(&context);
}

START_TEST(training_is_refused) {
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("t", 10, 4);
  table.storage = SBAG_STORAGE_INT8;
  refused(&options, &table, "table 't': a table kept in int8 is for inference");
  table.storage = SBAG_STORAGE_INT4;
  table.freeze = 1;
  refused(&options, &table, "table 't': a table kept in int4 is for inference");
  options.weight_grad = 0;
  table.embedding_dim = 65537;
  refused(&options, &table, "table 't': embedding_dim 65537");
  table.embedding_dim = 4;
  options.dtype = SBAG_F64;
  refused(&options, &table, "table 't': a collection in f64 keeps its tables in f64, not in int4");
}
END_TEST

/* A collection for inference has neither backward nor update; so no call can change a table's codes behind
 * its scale. */
START_TEST(backward_and_update_are_refused) {
  rig_options_t options = options_of(_i);
  rig_t rig;
  rig_batch_t batch;
  if (!device_has_them()) return;
  rig_open(&rig, &options);
  rig_draw(&rig, &batch, 1, SAMPLES, 0);
  sbag_step_h step = rig_begin(&rig, &batch, 0);
  rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
  ck_assert_int_ne(sbag_step_backward(step, batch.grad, NULL, &rig_failure), SBAG_OK);
  ck_assert_int_ne(sbag_step_update(step, 1.0, 1.0, &rig_failure), SBAG_OK);
  sbag_step_release(&step);
  rig_close(&rig);
}
END_TEST

Suite *quant_suite(void) {
  Suite *suite = suite_create("quant");
  TCase *cases = tcase_create("quant");
  tcase_add_loop_test(cases, pools_as_f32_rows_of_the_same_values, 0, EXCHANGES * LAYOUTS);
  tcase_add_loop_test(cases, pools_the_same_bits_on_any_ranks, 0, EXCHANGES * LAYOUTS);
  tcase_add_loop_test(cases, max_norm_is_of_what_is_read, 0, 2);
  tcase_add_loop_test(cases, values_written_are_quantised, 0, EXCHANGES * LAYOUTS);
  tcase_add_loop_test(cases, checkpoints_of_any_type_load, 0, 2 * EXCHANGES * LAYOUTS);
  tcase_add_loop_test(cases, loading_takes_little_memory, 0, LAYOUTS);
  tcase_add_test(cases, training_is_refused);
  tcase_add_loop_test(cases, backward_and_update_are_refused, 0, 2);
  suite_add_tcase(suite, cases);
  return suite;
}
