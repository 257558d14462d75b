/* Tables kept in f16 and bf16: what they pool, how they train on any number of ranks, how they come from
 * checkpoints and go there, and what is refused. */
#include "checkpoint/checkpoint.h"
#include "collection/context.h"
#include "collection/load.h"
#include "kernel/narrow.h"
#include "oracle/batch.h"
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *storage_suite(void);

enum { STEPS = 5, SAMPLES = 6, PARTS = 8, STATES_MAX = 4, EXCHANGES = 4, LAYOUTS = 3 };

static float rounded(sbag_storage_t storage, float value) {
  if (storage == SBAG_STORAGE_FULL) return value;
  return storage == SBAG_STORAGE_F16 ? narrow_f16_value(narrow_f16_of(value))
                                     : narrow_bf16_value(narrow_bf16_of(value));
}

/* ---- pooling ---- */

static rig_options_t options_of(int i) {
  rig_options_t options = rig_options_default();
  options.dtype = SBAG_F32;
  options.context.exchange = (sbag_exchange_t)(i % EXCHANGES);
  options.layout = (sbag_layout_t)(i / EXCHANGES % LAYOUTS);
  options.replicated = i % 5 == 2;
  options.subset = i % 4 == 1;
  options.dims[0] = i % 2 == 0 ? 4 : 19;
  options.storage[0] = i % 2 == 0 ? SBAG_STORAGE_F16 : SBAG_STORAGE_BF16;
  options.storage[1] = i % 2 == 0 ? SBAG_STORAGE_BF16 : SBAG_STORAGE_F16;
  return options;
}

/* Values with more bits than any table here keeps; each rank writes some of the rows. */
static void write_random(rig_t *rig, int table, uint64_t seed) {
  const int64_t rows = rig->options.rows[table], dim = rig->options.dims[table];
  draw_t draw = draw_start(seed, (uint64_t)table);
  int64_t *row = arena_ints(&rig->arena, rows), count = 0;
  float *values = arena_alloc(&rig->arena, rows * dim, sizeof *values);
  for (int64_t r = 0; r < rows; r++) {
    const int mine = r % rig->size == rig->rank;
    for (int64_t c = 0; c < dim; c++) {
      const float value = (float)(2 * draw_unit(&draw) - 1);
      if (mine) values[count * dim + c] = value;
    }
    if (mine) row[count++] = r;
  }
  rig_must(sbag_collection_write_rows(rig->collection, table, row, count, values, &rig_failure));
}

/* The same rows in full. */
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
    ck_assert_msg(a[i] == b[i], "%s: value %lld is %#x, in full %#x", what, (long long)i, a[i], b[i]);
}

/* Outputs, gradients of weights and merged gradients: all the bits of f32 tables that hold the same values.
 */
START_TEST(pools_as_f32_rows_of_the_same_values) {
  rig_options_t options = options_of(_i), in_full = options;
  rig_t kept, full;
  in_full.storage[0] = in_full.storage[1] = SBAG_STORAGE_FULL;
  rig_open(&kept, &options);
  rig_open(&full, &in_full);
  for (int t = 0; t < RIG_TABLES; t++) write_random(&kept, t, (uint64_t)_i);
  copy_tables(&kept, &full);
  for (int number = 0; number < 4; number++) {
    rig_batch_t a, b;
    const int weighted = number % 2, flags = weighted ? SBAG_FORWARD_WEIGHT_GRADS : 0;
    rig_draw(&kept, &a, (uint64_t)number, SAMPLES, weighted);
    rig_draw(&full, &b, (uint64_t)number, SAMPLES, weighted);
    sbag_step_h step = rig_begin(&kept, &a, flags), other = rig_begin(&full, &b, flags);
    rig_must(sbag_step_forward_end(step, a.out, &rig_failure));
    rig_must(sbag_step_forward_end(other, b.out, &rig_failure));
    check_bits("output", a.out, b.out, a.samples * kept.columns);
    rig_backward(&kept, step, &a, weighted);
    rig_backward(&full, other, &b, weighted);
    if (weighted) check_bits("gradient", a.weight_grads[0], b.weight_grads[0], a.bags[0].index_count);
    sbag_step_release(&step);
    sbag_step_release(&other);
  }
  rig_close(&kept);
  rig_close(&full);
}
END_TEST

/* ---- reading and writing ---- */

START_TEST(values_written_are_rounded_to_the_nearest) {
  rig_options_t options = options_of(_i);
  rig_t rig;
  rig_open(&rig, &options);
  for (int t = 0; t < RIG_TABLES; t++) {
    const int64_t rows = options.rows[t], dim = options.dims[t];
    draw_t draw = draw_start(9, (uint64_t)t);
    float *values = arena_alloc(&rig.arena, rows * dim, sizeof *values),
          *got = arena_alloc(&rig.arena, rows * dim, sizeof *got);
    for (int64_t i = 0; i < rows * dim; i++) values[i] = (float)(2 * draw_unit(&draw) - 1);
    write_random(&rig, t, 9);
    const double *by_rows = rig_read(&rig, t, -1);
    rig_must(sbag_collection_read_range(rig.collection, t, -1, 0, rows, got, &rig_failure));
    for (int64_t i = 0; i < rows * dim; i++) {
      ck_assert(got[i] == rounded(options.storage[t], values[i]));
      ck_assert((double)got[i] == by_rows[i]);
    }
    /* And by ranges, each rank its own. */
    const int64_t first = rig.rank * rows / rig.size, end = (rig.rank + 1) * rows / rig.size;
    for (int64_t i = 0; i < rows * dim; i++) values[i] = -2 * values[i];
    rig_must(sbag_collection_write_range(rig.collection, t, -1, first, end - first, values + first * dim,
                                         &rig_failure));
    rig_must(sbag_collection_read_range(rig.collection, t, -1, 0, rows, got, &rig_failure));
    for (int64_t i = 0; i < rows * dim; i++) ck_assert(got[i] == rounded(options.storage[t], values[i]));
  }
  rig_close(&rig);
}
END_TEST

START_TEST(initial_values_are_those_of_f32_rounded) {
  enum { ROWS = 50, DIM = 5 };
  sbag_context_h context = NULL;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &rig_failure));
  const sbag_storage_t storage = _i % 2 == 0 ? SBAG_STORAGE_F16 : SBAG_STORAGE_BF16;
  float values[2][ROWS * DIM], given[ROWS * DIM];
  draw_t draw = draw_start(10, 0);
  for (int i = 0; i < ROWS * DIM; i++) given[i] = (float)draw_unit(&draw);
  for (int which = 0; which < 2; which++) {
    sbag_collection_h collection = NULL;
    sbag_table_options_t table = sbag_table_options_default("t", ROWS, DIM);
    sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
    feature.has_padding_idx = 1;
    table.layout = (sbag_layout_t)(_i % LAYOUTS);
    table.storage = which == 0 ? storage : SBAG_STORAGE_FULL;
    table.from_pretrained = _i < 6 ? NULL : given;
    rig_must(sbag_collection_create(context, NULL, &table, 1, &feature, 1, &collection, &rig_failure));
    rig_must(sbag_collection_read_range(collection, 0, -1, 0, ROWS, values[which], &rig_failure));
    sbag_collection_destroy(&collection);
  }
  for (int i = 0; i < ROWS * DIM; i++) ck_assert(values[0][i] == rounded(storage, values[1][i]));
  sbag_context_destroy(&context);
}
END_TEST

/* ---- training ---- */

static const sbag_optimizer_t KINDS[] = {SBAG_OPT_SGD,         SBAG_OPT_ADAGRAD,
                                         SBAG_OPT_SPARSE_ADAM, SBAG_OPT_EXACT_ROWWISE_ADAGRAD,
                                         SBAG_OPT_LAMB,        SBAG_OPT_PARTIAL_ROWWISE_ADAM,
                                         SBAG_OPT_FBGEMM_ADAM};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

typedef struct trained {
  double *of[RIG_TABLES][1 + STATES_MAX];
} trained_t;

/* STEPS steps of a global batch of PARTS parts, of which each rank brings its share. */
static trained_t train(rig_t *rig) {
  trained_t trained;
  memset(&trained, 0, sizeof trained);
  for (int n = 0; n < STEPS; n++) {
    rig_batch_t batch;
    rig_draw_parts(rig, rig->rank * PARTS / rig->size, (rig->rank + 1) * PARTS / rig->size, &batch,
                   (uint64_t)n, SAMPLES, 1);
    sbag_step_h step = rig_begin(rig, &batch, 0);
    rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
    rig_backward(rig, step, &batch, 0);
    rig_must(sbag_step_update(step, 0.1 / (n + 1), 0.5, &rig_failure));
    sbag_step_release(&step);
  }
  for (int t = 0; t < RIG_TABLES; t++)
    for (int s = 0; s <= sbag_collection_state_count(rig->collection, t); s++)
      trained.of[t][s] = rig_read(rig, t, s - 1);
  return trained;
}

/* In reproducible mode the same bits as on one rank, for every number of ranks up to PARTS. */
START_TEST(trains_to_the_same_bits_on_any_ranks) {
  rig_options_t options = options_of(_i);
  rig_t alone, some;
  int rank, size;
  options.subset = 0;
  options.context.reproducible = 1;
  options.optimizer = sbag_optimizer_options_default(KINDS[_i % KIND_COUNT]);
  options.optimizer.lr = 0.05;
  options.rounding = _i % 3 == 0 ? SBAG_ROUNDING_NEAREST : SBAG_ROUNDING_STOCHASTIC;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  rig_open_on(&alone, &options, MPI_COMM_SELF);
  const trained_t wanted = train(&alone);
  for (int ranks = 1; ranks <= size && ranks <= PARTS; ranks++) {
    MPI_Comm comm;
    MPI_Comm_split(MPI_COMM_WORLD, rank < ranks ? 0 : MPI_UNDEFINED, rank, &comm);
    if (comm == MPI_COMM_NULL) continue;
    rig_open_on(&some, &options, comm);
    const trained_t got = train(&some);
    for (int t = 0; t < RIG_TABLES; t++)
      for (int s = 0; s <= sbag_collection_state_count(some.collection, t); s++)
        for (int64_t i = 0; i < options.rows[t] * rig_width(&some, t, s - 1); i++)
          ck_assert_msg(got.of[t][s][i] == wanted.of[t][s][i],
                        "%d ranks: table %d, array %d, value %lld: %a, on one rank %a", ranks, t, s,
                        (long long)i, got.of[t][s][i], wanted.of[t][s][i]);
    rig_close(&some);
    MPI_Comm_free(&comm);
  }
  rig_close(&alone);
}
END_TEST

/* Rounding by chance changes what is kept, but not from one run to the next; the nearest is another table. */
START_TEST(rounding_is_the_options) {
  trained_t by[3];
  rig_t rigs[3];
  for (int i = 0; i < 3; i++) {
    rig_options_t options = options_of(_i);
    options.context.reproducible = 1;
    options.rounding = i == 2 ? SBAG_ROUNDING_NEAREST : SBAG_ROUNDING_STOCHASTIC;
    rig_open(&rigs[i], &options);
    by[i] = train(&rigs[i]);
  }
  for (int t = 0; t < RIG_TABLES; t++) {
    const int64_t count = rigs[0].options.rows[t] * rigs[0].options.dims[t];
    int64_t differ = 0;
    for (int64_t i = 0; i < count; i++) {
      ck_assert(by[0].of[t][0][i] == by[1].of[t][0][i]);
      differ += by[0].of[t][0][i] != by[2].of[t][0][i];
    }
    ck_assert_int_gt(differ, 0);
  }
  for (int i = 0; i < 3; i++) rig_close(&rigs[i]);
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

static void save(rig_t *rig, const char *path) {
  checkpoint_writer_t *writer = NULL;
  saved_t saved[RIG_TABLES];
  rig_must(checkpoint_writer_create(context_comm(rig->context), context_mem(rig->context), path, &writer,
                                    &rig_failure));
  checkpoint_writer_set_piece(writer, 100);
  checkpoint_writer_set_chunk(writer, 300);
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

/* From any type of tables into any, in any layout: exact, or rounded to the nearest. */
START_TEST(checkpoints_carry_every_type) {
  char path[256];
  const char *folder = getenv("TMPDIR");
  rig_options_t from = options_of(_i);
  snprintf(path, sizeof path, "%s/shardbag-storage-%d.h5", folder != NULL ? folder : "/tmp", (int)getuid());
  for (int t = 0; t < RIG_TABLES; t++) from.storage[t] = (sbag_storage_t)((_i + t) % 3);
  rig_t written;
  rig_open(&written, &from);
  for (int t = 0; t < RIG_TABLES; t++) write_random(&written, t, (uint64_t)_i);
  save(&written, path);
  for (int other = 0; other < 3; other++) {
    rig_options_t to = options_of(_i + other);
    rig_t read;
    to.dims[0] = from.dims[0];
    for (int t = 0; t < RIG_TABLES; t++) to.storage[t] = (sbag_storage_t)((_i + t + other) % 3);
    rig_open(&read, &to);
    load(&read, path);
    for (int t = 0; t < RIG_TABLES; t++) {
      const double *before = rig_read(&written, t, -1), *after = rig_read(&read, t, -1);
      for (int64_t i = 0; i < from.rows[t] * from.dims[t]; i++)
        ck_assert(after[i] == (double)rounded(to.storage[t], (float)before[i]));
    }
    rig_close(&read);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (written.rank == 0) unlink(path);
  rig_close(&written);
}
END_TEST

/* ---- refusals ---- */

static void refused(const sbag_table_options_t *table, sbag_dtype_t dtype, const char *part) {
  sbag_context_h context = NULL;
  sbag_collection_h collection = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_feature_options_t feature = sbag_feature_options_default("f", 0);
  options.dtype = dtype;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &rig_failure));
  ck_assert_int_eq(
      sbag_collection_create(context, &options, table, 1, &feature, 1, &collection, &rig_failure),
      SBAG_ERR_ARGUMENT);
  ck_assert_msg(strstr(rig_failure.message, part) != NULL, "'%s' says nothing of '%s'", rig_failure.message,
                part);
  sbag_context_destroy(&context);
}

START_TEST(refuses_what_cannot_be) {
  sbag_table_options_t table = sbag_table_options_default("t", 10, 4);
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  table.storage = SBAG_STORAGE_F16;
  refused(&table, SBAG_F64, "table 't': a collection in f64 keeps its tables in f64, not in f16");
  table.storage = (sbag_storage_t)5;
  refused(&table, SBAG_F32, "table 't': storage 5");
  table.storage = SBAG_STORAGE_BF16;
  table.rounding = (sbag_rounding_t)2;
  refused(&table, SBAG_F32, "table 't': rounding 2");
  table.rounding = SBAG_ROUNDING_NEAREST;
  table.embedding_dim = 65537;
  refused(&table, SBAG_F32, "table 't': embedding_dim 65537");
  table.embedding_dim = 4;
  table.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  refused(&table, SBAG_F32, "table 't': adam with these options moves rows that a batch does not touch");
  table.optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD);
  table.storage = rank == size - 1 ? SBAG_STORAGE_BF16 : SBAG_STORAGE_F16;
  if (size > 1) refused(&table, SBAG_F32, "is not described the same on all ranks");
  table.storage = SBAG_STORAGE_BF16;
  table.rounding = rank == size - 1 ? SBAG_ROUNDING_NEAREST : SBAG_ROUNDING_STOCHASTIC;
  if (size > 1) refused(&table, SBAG_F32, "is not described the same on all ranks");
}
END_TEST

Suite *storage_suite(void) {
  Suite *suite = suite_create("storage");
  TCase *cases = tcase_create("storage");
  tcase_add_loop_test(cases, pools_as_f32_rows_of_the_same_values, 0, EXCHANGES * LAYOUTS);
  tcase_add_loop_test(cases, values_written_are_rounded_to_the_nearest, 0, EXCHANGES * LAYOUTS);
  tcase_add_loop_test(cases, initial_values_are_those_of_f32_rounded, 0, 12);
  tcase_add_loop_test(cases, trains_to_the_same_bits_on_any_ranks, 0, 2 * KIND_COUNT);
  tcase_add_loop_test(cases, rounding_is_the_options, 0, 2);
  tcase_add_loop_test(cases, checkpoints_carry_every_type, 0, EXCHANGES * LAYOUTS);
  tcase_add_test(cases, refuses_what_cannot_be);
  suite_add_tcase(suite, cases);
  return suite;
}
