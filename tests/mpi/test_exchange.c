/* What the exchange moves: rows and states from and to any rank under every layout, the mirrors of replicated
 * tables, and how many bytes take which way. */
#include "rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *exchange_suite(void);

static int is(double value, double wanted) {
  return !(value < wanted) && !(value > wanted);
}

static int64_t sum_over_ranks(int64_t value) {
  MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return value;
}

/* ---- rows and states ---- */

/* What a rank writes: rows with repetitions, and values that tell writes apart. */
typedef struct writing {
  int64_t count, *rows;
  double *values; /* [count][width] */
} writing_t;

static writing_t draw_writing(rig_t *rig, draw_t *draw, int rank, int64_t rows, int64_t width, int round) {
  writing_t w = {.count = draw_one_in(draw, 4) ? 0 : draw_between(draw, 1, rows)};
  w.rows = arena_ints(&rig->arena, w.count);
  w.values = arena_doubles(&rig->arena, w.count * width);
  for (int64_t i = 0; i < w.count; i++) w.rows[i] = draw_below(draw, rows);
  for (int64_t i = 0; i < w.count * width; i++) w.values[i] = round * 100000 + rank * 1000 + (double)i + 1;
  return w;
}

/* The last value that this rank gave to a row, or NULL. */
static const double *last_value(const writing_t *w, int64_t row, int64_t width) {
  const double *last = NULL;
  for (int64_t i = 0; i < w->count; i++)
    if (w->rows[i] == row) last = w->values + i * width;
  return last;
}

/* A row holds what some rank gave it last, or what it held. */
static void check_row(const double *row, const double *before, const writing_t *all, int size, int64_t number,
                      int64_t width) {
  int written = 0;
  for (int rank = 0; rank < size; rank++) {
    const double *last = last_value(&all[rank], number, width);
    written |= last != NULL;
    if (last != NULL && memcmp(row, last, (size_t)width * sizeof *row) == 0) return;
  }
  ck_assert_msg(!written, "row %lld holds what nobody wrote last", (long long)number);
  ck_assert_mem_eq(row, before, (size_t)width * sizeof *row);
}

/* Any rows in any order, some of them several times. */
static void check_reading(rig_t *rig, draw_t *draw, int table, int state, const double *whole) {
  int64_t rows = rig->options.rows[table], width = rig_width(rig, table, state);
  int64_t count = draw_one_in(draw, 5) ? 0 : draw_between(draw, 1, 3 * rows);
  int64_t *list = arena_ints(&rig->arena, count);
  double *values = arena_doubles(&rig->arena, count * width);
  for (int64_t i = 0; i < count; i++) list[i] = draw_below(draw, rows);
  rig_must(state < 0 ? sbag_collection_read_rows(rig->collection, table, list, count, values, &rig_failure)
                     : sbag_collection_read_state(rig->collection, table, state, list, count, values,
                                                  &rig_failure));
  for (int64_t i = 0; i < count * width; i++)
    ck_assert(is(values[i], whole[list[i / width] * width + i % width]));
}

static void check_same_everywhere(double *values, int64_t count) {
  double *first = malloc((size_t)count * sizeof *first);
  ck_assert_ptr_nonnull(first);
  memcpy(first, values, (size_t)count * sizeof *first);
  MPI_Bcast(first, (int)count, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  ck_assert_mem_eq(first, values, (size_t)count * sizeof *first);
  free(first);
}

static void check_writing(rig_t *rig, int table, int state) {
  int64_t rows = rig->options.rows[table], width = rig_width(rig, table, state);
  draw_t common = draw_start(1, (uint64_t)(table * 10 + state + 1)), own = draw_start(2, (uint64_t)rig->rank);
  writing_t *all = arena_alloc(&rig->arena, rig->size, sizeof *all);
  double *before = rig_read(rig, table, state);
  for (int round = 1; round < 5; round++) {
    for (int rank = 0; rank < rig->size; rank++)
      all[rank] = draw_writing(rig, &common, rank, rows, width, round);
    const writing_t *w = &all[rig->rank];
    rig_must(state < 0 ? sbag_collection_write_rows(rig->collection, table, w->rows, w->count, w->values,
                                                    &rig_failure)
                       : sbag_collection_write_state(rig->collection, table, state, w->rows, w->count,
                                                     w->values, &rig_failure));
    double *after = rig_read(rig, table, state);
    check_same_everywhere(after, rows * width);
    for (int64_t r = 0; r < rows; r++)
      check_row(after + r * width, before + r * width, all, rig->size, r, width);
    check_reading(rig, &own, table, state, after);
    before = after;
  }
}

/* Layouts, a table on one rank only, mirrors; weights, states of a value a column and of one a row. */
START_TEST(rows_and_states_of_any_rank) {
  static const sbag_optimizer_t kinds[] = {SBAG_OPT_ADAM, SBAG_OPT_PARTIAL_ROWWISE_ADAM,
                                           SBAG_OPT_EXACT_ROWWISE_ADAGRAD};
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    rig_options_t options = rig_options_default();
    rig_t rig;
    rig_batch_t batch;
    options.layout = (sbag_layout_t)(_i % 3);
    options.subset = _i == 3;
    options.replicated = _i == 4;
    options.optimizer = sbag_optimizer_options_default(kinds[k]);
    rig_open(&rig, &options);
    rig_draw(&rig, &batch, 1, 10, 0);
    rig_train(&rig, &batch, 0);
    for (int t = 0; t < RIG_TABLES; t++) {
      double *whole = rig_read(&rig, t, -1);
      for (int s = 0; s < sbag_collection_state_count(rig.collection, t); s++) check_writing(&rig, t, s);
      ck_assert_mem_eq(rig_read(&rig, t, -1), whole,
                       (size_t)(options.rows[t] * options.dims[t]) * sizeof *whole);
      check_writing(&rig, t, -1);
    }
    rig_close(&rig);
  }
}
END_TEST

/* ---- mirrors ---- */

/* Every row looked up alone: what a forward sees must be what the owners hold. */
static void check_mirror(rig_t *rig) {
  for (int table = 0; table < RIG_TABLES; table++) {
    int64_t rows = rig->options.rows[table], dim = rig->options.dims[table];
    int64_t *index = arena_ints(&rig->arena, rows), feature = table == 0 ? 0 : 3;
    double *out = arena_doubles(&rig->arena, rows * rig->columns), *held = rig_read(rig, table, -1);
    sbag_bags_t bags[RIG_FEATURES];
    sbag_step_h step = NULL;
    for (int64_t r = 0; r < rows; r++) index[r] = r;
    for (int f = 0; f < RIG_FEATURES; f++) bags[f] = sbag_bags_2d(index, rows, f == feature);
    rig_must(
        sbag_collection_forward_begin(rig->collection, bags, SBAG_FORWARD_READ_ONLY, &step, &rig_failure));
    rig_must(sbag_step_forward_end(step, out, &rig_failure));
    sbag_step_release(&step);
    int64_t offset = sbag_collection_output_offset(rig->collection, (int)feature);
    for (int64_t i = 0; i < rows * dim; i++) {
      double seen = out[i / dim * rig->columns + offset + i % dim];
      ck_assert_msg(is(seen, held[i]), "table %d, row %lld: %.17g is seen, %.17g held", table,
                    (long long)(i / dim), seen, held[i]);
    }
  }
}

enum { RANGE_ROWS = 40, RANGE_DIM = 4 }; /* the rig's first table */

static void check_range_reads(rig_t *rig, draw_t *draw, int state) {
  double range[RANGE_ROWS * RANGE_DIM], listed[RANGE_ROWS * RANGE_DIM];
  int64_t rows[RANGE_ROWS], first = draw_between(draw, 0, RANGE_ROWS);
  int64_t count = draw_between(draw, 0, RANGE_ROWS - first);
  for (int64_t i = 0; i < count; i++) rows[i] = first + i;
  rig_must(sbag_collection_read_range(rig->collection, 0, state, first, count, range, &rig_failure));
  if (state < 0)
    rig_must(sbag_collection_read_rows(rig->collection, 0, rows, count, listed, &rig_failure));
  else
    rig_must(sbag_collection_read_state(rig->collection, 0, state, rows, count, listed, &rig_failure));
  ck_assert(count == 0 || memcmp(range, listed, (size_t)count * RANGE_DIM * sizeof *range) == 0);
}

/* Each rank writes its share; the mirrors, where there are some, must hear of it. */
static void check_range_writes(rig_t *rig) {
  double values[RANGE_ROWS * RANGE_DIM], out[RANGE_ROWS * RANGE_DIM];
  int64_t first = RANGE_ROWS * rig->rank / rig->size, end = RANGE_ROWS * (rig->rank + 1) / rig->size;
  for (int64_t i = 0; i < (end - first) * RANGE_DIM; i++) values[i] = (double)(first * RANGE_DIM + i);
  rig_must(sbag_collection_write_range(rig->collection, 0, -1, first, end - first, values, &rig_failure));
  rig_must(sbag_collection_read_range(rig->collection, 0, -1, 0, RANGE_ROWS, out, &rig_failure));
  for (int64_t i = 0; i < RANGE_ROWS * RANGE_DIM; i++) ck_assert_double_eq(out[i], (double)i);
}

START_TEST(ranges_are_the_rows_they_name) {
  rig_options_t options = rig_options_default();
  rig_batch_t batch;
  rig_t rig;
  options.layout = (sbag_layout_t)(_i % 3);
  options.replicated = _i / 3;
  options.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  rig_open(&rig, &options);
  draw_t draw = draw_start(31, (uint64_t)rig.rank);
  rig_draw(&rig, &batch, 1, 30, 1);
  rig_train(&rig, &batch, 0);
  for (int round = 0; round < 30; round++) check_range_reads(&rig, &draw, round % 3 - 1);
  check_range_writes(&rig);
  double value[RANGE_DIM];
  int bad = rig.rank == rig.size - 1; /* one rank's mistake is an error on all */
  sbag_code_t code =
      sbag_collection_read_range(rig.collection, 0, -1, bad ? RANGE_ROWS : 0, 1, value, &rig_failure);
  ck_assert_int_eq(code, SBAG_ERR_ARGUMENT);
  ck_assert(strstr(rig_failure.message, "rows 40 and 1 more") != NULL);
  rig_close(&rig);
}
END_TEST

/* Also where the optimizer moves rows that are not looked up. */
START_TEST(mirrors_are_what_the_owners_hold) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  options.layout = (sbag_layout_t)(_i % 3);
  options.subset = _i % 2;
  options.replicated = 1;
  options.optimizer = sbag_optimizer_options_default((sbag_optimizer_t)(_i % SBAG_OPT_COUNT));
  if (_i == SBAG_OPT_COUNT) options.optimizer.momentum = 0.9;
  rig_open(&rig, &options);
  check_mirror(&rig);
  for (uint64_t step = 0; step < 4; step++) {
    rig_batch_t batch;
    rig_draw(&rig, &batch, step, 8, 1);
    rig_train(&rig, &batch, 0);
    check_mirror(&rig);
    int64_t row = (int64_t)step + rig.rank;
    double value[] = {1.5, -2, (double)step, rig.rank};
    rig_must(sbag_collection_write_rows(rig.collection, 0, &row, step % 2, value, &rig_failure));
    check_mirror(&rig);
  }
  rig_close(&rig);
}
END_TEST

/* ---- bytes ---- */

enum { WAYS = SBAG_EXCHANGE_DENSE + 1 };

typedef struct moved {
  int64_t bytes, vectors;
} moved_t;

/* One step; all that ranks send must be what they receive. flags: 0, no backward, or weights' gradients. */
static moved_t step_moves(rig_t *rig, uint64_t number, int64_t samples, int flags, int weighted) {
  rig_batch_t batch;
  rig_draw(rig, &batch, number, samples, weighted);
  sbag_step_h step = rig_begin(rig, &batch, flags);
  rig_must(sbag_step_forward_end(step, batch.out, &rig_failure));
  if (!(flags & SBAG_FORWARD_NO_BACKWARD))
    rig_backward(rig, step, &batch, (flags & SBAG_FORWARD_WEIGHT_GRADS) != 0);
  sbag_step_stats_t stats = sbag_step_stats(step);
  sbag_step_release(&step);
  moved_t moved = {sum_over_ranks(stats.bytes_sent), sum_over_ranks(stats.vectors_sent)};
  ck_assert_int_eq(moved.bytes, sum_over_ranks(stats.bytes_received));
  ck_assert_int_eq(moved.vectors, sum_over_ranks(stats.vectors_received));
  ck_assert((moved.bytes > 0) == (rig->size > 1));
  int64_t lookups = 0;
  for (int f = 0; f < RIG_FEATURES; f++) lookups += batch.bags[f].index_count;
  ck_assert(stats.lookups == lookups && stats.dropped == 0);
  return moved;
}

/* In float64 no message is padded, so that the choice by predicted bytes must hold for those that moved. */
START_TEST(auto_moves_no_more_than_any_other_way) {
  static const int flags[] = {0, SBAG_FORWARD_NO_BACKWARD, SBAG_FORWARD_WEIGHT_GRADS};
  static const int64_t dims[][2] = {{4, 3}, {1, 1}, {40, 2}, {2, 40}};
  static const sbag_exchange_t kinds[] = {SBAG_EXCHANGE_AUTO, SBAG_EXCHANGE_POOLS, SBAG_EXCHANGE_ROWS,
                                          SBAG_EXCHANGE_DENSE};
  rig_t rig[WAYS];
  int64_t total[WAYS] = {0};
  for (int k = 0; k < WAYS; k++) {
    rig_options_t options = rig_options_default();
    options.context.exchange = kinds[k];
    options.without_max = _i % 2;
    options.dims[0] = dims[_i / 2][0];
    options.dims[1] = dims[_i / 2][1];
    options.layout = SBAG_LAYOUT_CYCLIC;
    rig_open(&rig[k], &options);
  }
  for (uint64_t number = 0; number < 24; number++) {
    moved_t moved[WAYS];
    int kind = (int)(number % 3), weighted = kind == 2 || number % 2;
    for (int k = 0; k < WAYS; k++)
      moved[k] = step_moves(&rig[k], number, number % 4 < 2 ? 3 : 40, flags[kind], weighted);
    for (int k = 0; k < WAYS; k++) total[k] += moved[k].bytes;
    for (int k = 1; k < WAYS; k++)
      ck_assert_msg(moved[0].bytes <= moved[k].bytes,
                    "batch %d, flags %d: %lld bytes by auto, %lld by kind %d", (int)number, flags[kind],
                    (long long)moved[0].bytes, (long long)moved[k].bytes, k);
  }
  /* The kinds are not all one: a choice was there to make. */
  if (rig[0].size > 1) ck_assert(total[1] != total[2]);
  for (int k = 0; k < WAYS; k++) rig_close(&rig[k]);
}
END_TEST

/* ---- the way that messages are cut, and widths ---- */

/* Output and weights after some steps, in bytes. */
static char *run_to_end(rig_t *rig, int64_t *bytes) {
  rig_batch_t batch;
  for (uint64_t step = 0; step < 3; step++) {
    rig_draw(rig, &batch, step, 5, 1);
    rig_train(rig, &batch, 1);
  }
  int64_t out = batch.samples * rig->columns * (int64_t)rig_bytes(rig), at = out;
  *bytes = out;
  for (int t = 0; t < RIG_TABLES; t++) *bytes += rig->options.rows[t] * rig->options.dims[t] * 8;
  char *all = malloc((size_t)*bytes + 1);
  ck_assert_ptr_nonnull(all);
  memcpy(all, batch.out, (size_t)out);
  for (int t = 0; t < RIG_TABLES; t++) {
    size_t whole = (size_t)(rig->options.rows[t] * rig->options.dims[t]) * sizeof(double);
    memcpy(all + at, rig_read(rig, t, -1), whole);
    at += (int64_t)whole;
  }
  return all;
}

/* Not dense pools: MPI adds up in an order that goes by the size of a message. */
START_TEST(chunks_of_any_size_give_the_same_bits) {
  static const int64_t chunks[] = {0, 1, 100};
  char *first = NULL;
  int64_t first_bytes = 0;
  for (int i = 0; i < 3; i++) {
    rig_options_t options = rig_options_default();
    rig_t rig;
    int64_t bytes;
    options.context.chunk_bytes = chunks[i];
    options.context.exchange = (sbag_exchange_t)(_i % 3);
    options.replicated = _i == 3;
    options.dtype = SBAG_F32;
    rig_open(&rig, &options);
    char *all = run_to_end(&rig, &bytes);
    rig_close(&rig);
    if (i == 0) {
      first = all;
      first_bytes = bytes;
      continue;
    }
    ck_assert_int_eq(bytes, first_bytes);
    ck_assert_mem_eq(all, first, (size_t)bytes);
    free(all);
  }
  free(first);
}
END_TEST

/* ---- ways and wires ---- */

/* Weights after some steps in each way, and which ways were taken. */
static double *train_in(sbag_exchange_t kind, sbag_wire_t wire, sbag_dtype_t dtype, int64_t samples,
                        int64_t *count, sbag_step_stats_t *stats) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_batch_t batch;
  options.context.exchange = kind;
  options.context.wire = wire;
  options.dtype = dtype;
  options.layout = SBAG_LAYOUT_CYCLIC;
  options.dims[0] = 24;
  options.dims[1] = 33;
  rig_open(&rig, &options);
  *stats = (sbag_step_stats_t){0};
  for (uint64_t step = 0; step < 4; step++) {
    rig_draw(&rig, &batch, step, samples, 1);
    sbag_step_stats_t s = rig_train(&rig, &batch, 1);
    stats->row_parts += s.row_parts;
    stats->pool_parts += s.pool_parts;
    stats->mixed_parts += s.mixed_parts;
    stats->dense_tables += s.dense_tables;
    stats->id_bytes_sent += s.id_bytes_sent;
    stats->bytes_sent += s.bytes_sent;
    if (s.wire_error > stats->wire_error) stats->wire_error = s.wire_error;
  }
  *count = 0;
  for (int t = 0; t < RIG_TABLES; t++) *count += options.rows[t] * options.dims[t];
  double *all = malloc((size_t)*count * sizeof *all), *to = all;
  ck_assert_ptr_nonnull(all);
  for (int t = 0; t < RIG_TABLES; t++) {
    int64_t n = options.rows[t] * options.dims[t];
    memcpy(to, rig_read(&rig, t, -1), (size_t)n * sizeof *to);
    to += n;
  }
  rig_close(&rig);
  return all;
}

/* The largest difference over the largest value. */
static double distance(const double *a, const double *b, int64_t count) {
  double most = 0, size = 0;
  for (int64_t i = 0; i < count; i++) {
    if (fabs(a[i] - b[i]) > most) most = fabs(a[i] - b[i]);
    if (fabs(b[i]) > size) size = fabs(b[i]);
  }
  return most / size;
}

START_TEST(every_way_gives_the_same_and_repeats_itself) {
  int64_t count;
  sbag_step_stats_t stats, again;
  double *wanted = train_in(SBAG_EXCHANGE_ROWS, SBAG_WIRE_FULL, SBAG_F64, 50, &count, &stats);
  ck_assert(stats.pool_parts == 0 && stats.mixed_parts == 0 && stats.dense_tables == 0);
  for (int kind = 0; kind < WAYS; kind++) {
    double *first = train_in((sbag_exchange_t)kind, SBAG_WIRE_FULL, SBAG_F64, 50, &count, &stats);
    double *second = train_in((sbag_exchange_t)kind, SBAG_WIRE_FULL, SBAG_F64, 50, &count, &again);
    ck_assert_mem_eq(first, second, (size_t)count * sizeof *first);
    ck_assert(distance(first, wanted, count) < 1e-13);
    ck_assert_int_eq(stats.bytes_sent, again.bytes_sent);
    ck_assert(stats.id_bytes_sent <= stats.bytes_sent);
    int64_t size;
    MPI_Allreduce(&stats.mixed_parts, &size, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    int ranks;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    /* Some parts are mixtures where there is a choice; table 1, which no feature takes the maximum of, is
     * dense. */
    if (kind == SBAG_EXCHANGE_AUTO && ranks > 3) ck_assert_int_gt(size, 0);
    if (kind != SBAG_EXCHANGE_AUTO) ck_assert_int_eq(stats.mixed_parts, 0);
    if (kind == SBAG_EXCHANGE_DENSE && ranks > 1) ck_assert_int_eq(stats.dense_tables, 4);
    free(first);
    free(second);
  }
  free(wanted);
}
END_TEST

/* 16 bits on the wire: f16 keeps 11 of a value's leading bits, bf16 8. A lone rank sends nothing. */
START_TEST(narrow_wires_lose_what_they_say) {
  static const double kept[] = {0, 1.0 / 2048, 1.0 / 256};
  int64_t count;
  int ranks;
  sbag_step_stats_t full, narrow;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  sbag_exchange_t kind = (sbag_exchange_t)(_i / 2);
  sbag_wire_t wire = _i % 2 == 0 ? SBAG_WIRE_F16 : SBAG_WIRE_BF16;
  double *wanted = train_in(kind, SBAG_WIRE_FULL, SBAG_F32, 50, &count, &full);
  double *got = train_in(kind, wire, SBAG_F32, 50, &count, &narrow);
  double lost = distance(got, wanted, count);
  ck_assert_msg(lost <= 30 * kept[wire], "lost %g", lost);
  ck_assert(full.wire_error <= 0);
  if (ranks == 1) ck_assert(lost <= 0 && narrow.wire_error <= 0);
  if (ranks > 1) {
    ck_assert(narrow.wire_error <= kept[wire]);
    if (wire == SBAG_WIRE_BF16) ck_assert(narrow.wire_error > 0 && lost > 0);
    if (kind != SBAG_EXCHANGE_DENSE) ck_assert(10 * narrow.bytes_sent < 7 * full.bytes_sent);
  }
  free(wanted);
  free(got);
}
END_TEST

/* One column beside a thousand, in all kinds of exchange and both types. */
START_TEST(wide_and_narrow_tables) {
  static const int64_t dims[][2] = {{1000, 1}, {1, 1000}, {1, 1}, {1001, 999}};
  for (int kind = 0; kind < WAYS; kind++) {
    rig_options_t options = rig_options_default();
    rig_t rig;
    rig_batch_t batch;
    options.context.exchange = (sbag_exchange_t)kind;
    options.dtype = (sbag_dtype_t)((_i + kind) % 2);
    for (int t = 0; t < RIG_TABLES; t++) {
      options.rows[t] = 11;
      options.dims[t] = dims[_i][t];
    }
    rig_open(&rig, &options);
    double *tables[] = {rig_read(&rig, 0, -1), rig_read(&rig, 1, -1)};
    rig_draw(&rig, &batch, 0, 5, 1);
    rig_train(&rig, &batch, 1);
    rig_check_forward(&rig, &batch, tables);
    rig_close(&rig);
  }
}
END_TEST

/* ---- at the edges of the messages' widths ---- */

enum { EDGE_TABLES = 70 };

/* Collections of `count` tables of `rows` x 1, each with one feature; values are row numbers. */
static sbag_collection_h open_many(sbag_context_h context, arena_t *arena, int count, int64_t rows,
                                   sbag_mode_t mode) {
  sbag_table_options_t tables[EDGE_TABLES];
  sbag_feature_options_t features[EDGE_TABLES];
  sbag_collection_h collection = NULL;
  float *values = arena_alloc(arena, rows, sizeof *values);
  for (int64_t r = 0; r < rows; r++) values[r] = (float)r;
  for (int t = 0; t < count; t++) {
    tables[t] = sbag_table_options_default(arena_text(arena, "table%d", t), rows, 1);
    tables[t].from_pretrained = values;
    tables[t].layout = SBAG_LAYOUT_CYCLIC;
    tables[t].optimizer.lr = 1;
    features[t] = sbag_feature_options_default(arena_text(arena, "feature%d", t), t);
    features[t].mode = mode;
  }
  rig_must(sbag_collection_create(context, NULL, tables, count, features, count, &collection, &rig_failure));
  return collection;
}

/* A max over bags about as long as a place in 1, 2 or 4 bytes can say; the largest row comes at the very end
 * and, on all ranks alike, takes the whole gradient. */
START_TEST(places_in_the_longest_bags) {
  static const int64_t lengths[] = {1, 254, 255, 256, 65534, 65535, 65536, 70001};
  sbag_context_options_t options = sbag_context_options_default();
  sbag_context_h context;
  int size;
  options.exchange = (sbag_exchange_t)_i;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, &options, &context, &rig_failure));
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
    arena_t arena = {NULL};
    int64_t rows = 300, length = lengths[l], offset = 0, winner = -1, last = rows - 1;
    sbag_collection_h collection = open_many(context, &arena, 1, rows, SBAG_MAX);
    int64_t *index = arena_ints(&arena, length);
    for (int64_t i = 0; i < length; i++) index[i] = i + 1 == length ? last : i % last;
    sbag_bags_t bags = sbag_bags_1d(index, length, &offset, 1);
    sbag_step_h step = NULL;
    float out = -1, grad = 0.5f, value = -1;
    rig_must(sbag_collection_forward_begin(collection, &bags, 0, &step, &rig_failure));
    rig_must(sbag_step_forward_end(step, &out, &rig_failure));
    rig_must(sbag_step_max_indices(step, 0, &winner, &rig_failure));
    rig_must(sbag_step_backward(step, &grad, NULL, &rig_failure));
    rig_must(sbag_step_update(step, 1, 1, &rig_failure));
    sbag_step_release(&step);
    rig_must(sbag_collection_read_rows(collection, 0, &last, 1, &value, &rig_failure));
    int right = winner == last && is(out, (double)last) && is(value, (double)last - 0.5 * size);
    ck_assert_msg(right, "length %lld: %g of row %lld, then %g", (long long)length, out, (long long)winner,
                  value);
    sbag_collection_destroy(&collection);
    arena_free(&arena);
  }
  sbag_context_destroy(&context);
}
END_TEST

/* More tables than one word of the counts has bits for their dense pools. */
START_TEST(dense_pools_of_many_tables) {
  sbag_context_options_t options = sbag_context_options_default();
  sbag_context_h context;
  arena_t arena = {NULL};
  sbag_bags_t bags[EDGE_TABLES];
  sbag_step_h step = NULL;
  int64_t index[EDGE_TABLES][2], offset = 0;
  float out[EDGE_TABLES];
  options.exchange = SBAG_EXCHANGE_DENSE;
  rig_must(sbag_context_create_mpi(MPI_COMM_WORLD, &options, &context, &rig_failure));
  sbag_collection_h collection = open_many(context, &arena, EDGE_TABLES, 100, SBAG_SUM);
  for (int t = 0; t < EDGE_TABLES; t++) {
    index[t][0] = t;
    index[t][1] = 99 - sbag_context_rank(context);
    bags[t] = sbag_bags_1d(index[t], 2, &offset, 1);
  }
  rig_must(sbag_collection_forward_begin(collection, bags, 0, &step, &rig_failure));
  rig_must(sbag_step_forward_end(step, out, &rig_failure));
  sbag_step_stats_t stats = sbag_step_stats(step);
  for (int t = 0; t < EDGE_TABLES; t++) ck_assert(is(out[t], (double)(index[t][0] + index[t][1])));
  ck_assert_int_eq(stats.dense_tables, sbag_context_size(context) > 1 ? EDGE_TABLES : 0);
  sbag_step_release(&step);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
  arena_free(&arena);
}
END_TEST

Suite *exchange_suite(void) {
  Suite *suite = suite_create("exchange");
  TCase *test_case = tcase_create("exchange");
  tcase_add_loop_test(test_case, rows_and_states_of_any_rank, 0, 5);
  tcase_add_loop_test(test_case, ranges_are_the_rows_they_name, 0, 6);
  tcase_add_loop_test(test_case, mirrors_are_what_the_owners_hold, 0, SBAG_OPT_COUNT + 1);
  tcase_add_loop_test(test_case, auto_moves_no_more_than_any_other_way, 0, 8);
  tcase_add_loop_test(test_case, chunks_of_any_size_give_the_same_bits, 0, 4);
  tcase_add_test(test_case, every_way_gives_the_same_and_repeats_itself);
  tcase_add_loop_test(test_case, narrow_wires_lose_what_they_say, 0, 2 * WAYS);
  tcase_add_loop_test(test_case, wide_and_narrow_tables, 0, 4);
  tcase_add_loop_test(test_case, places_in_the_longest_bags, 0, WAYS);
  tcase_add_test(test_case, dense_pools_of_many_tables);
  suite_add_tcase(suite, test_case);
  return suite;
}
