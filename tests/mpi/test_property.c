/* Property tests: random tables, features, layouts, batches and options against the oracle.
 *
 * Each case is drawn from (seed, number); a failure prints both. SHARDBAG_PROPERTY_CASES and
 * SHARDBAG_PROPERTY_SEED set how many cases from which seed, SHARDBAG_PROPERTY_FIRST the first number. The
 * oracle's optimizers are given the library's own merged gradients after these were checked, and take over
 * its weights after each step in most cases ("synchronized"), so that every step is checked from equal
 * beginnings and tolerances stay a few units of rounding. */
#include "mpi_test.h"
#include "property_case.h"

#include <float.h>
#include <math.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *property_suite(void);

enum { EXCHANGES = 4, CHUNKS = 3, WIRES = 3, CASES_DEFAULT = 500 };

/* How a case is exchanged. */
typedef struct property_way {
  sbag_context_h context;
  sbag_exchange_t kind;
  double narrow; /* see property_run_t */
} property_way_t;

typedef struct contexts {
  sbag_context_h of[WIRES][EXCHANGES][CHUNKS][2];
} contexts_t;

/* A batch and its step, which may be under way before its turn comes. */
typedef struct property_turn {
  property_batch_t batch;
  int flags;
  sbag_step_h step;
  int begun; /* all the way, not only prefetched */
} property_turn_t;

/* Steps, of all ranks and cases, in which the exchange did what is not in every one. */
typedef struct seen {
  int64_t mixed, mixed_max, mixed_freq, mixed_weights, mixed_norm, mixed_ahead, mixed_narrow, dense,
      dense_ahead, narrow, ahead, kept_narrow, kept_narrow_mixed;
} seen_t;

/* What a case holds while it runs. */
typedef struct property_run {
  property_case_t *it;
  sbag_context_h context;
  sbag_collection_h collection;
  sbag_step_h previous;  /* held over from the last step, or NULL */
  int release_late;      /* previous is released after the next forward's end, not after its beginning */
  property_turn_t *next; /* NULL where nothing runs ahead */
  double narrow;         /* relative error of one value on the wire; 0 on a full one */
  sbag_exchange_t kind;
  seen_t *seen;
  int64_t columns;
  double *grad[TABLES_MAX];     /* the library's merged gradient, whole, dense */
  int64_t *touched[TABLES_MAX]; /* and its rows */
  double *before[TABLES_MAX];   /* weights before the update */
  double lr[TABLES_MAX];
} property_run_t;

static double epsilon(const property_case_t *it) {
  return it->options.dtype == SBAG_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
}

static int same(double expected, double got, double allowed) {
  if (isnan(expected) || isnan(got)) return isnan(expected) && isnan(got);
  if (isinf(expected) || isinf(got)) return expected == got;
  return fabs(expected - got) <= allowed;
}

static void check_value(const property_case_t *it, const char *what, int which, int64_t at, double expected,
                        double got, double allowed) {
  if (same(expected, got, allowed)) return;
  ck_abort_msg("seed %llu case %llu: %s of %d at %lld: expected %.17g, got %.17g (tolerance %.3g)",
               (unsigned long long)it->seed, (unsigned long long)it->number, what, which, (long long)at,
               expected, got, allowed);
}

static void check_ok(const property_case_t *it, sbag_code_t code, const sbag_status_t *status) {
  if (code == SBAG_OK) return;
  ck_abort_msg("seed %llu case %llu: %s error: %s", (unsigned long long)it->seed,
               (unsigned long long)it->number, sbag_code_name(code), status->message);
}

/* ---- Rows by rows ---- */

/* All rows of a table (state < 0) or a state, asked for by every rank in an order of its own, one twice. */
static double *read_all(const property_run_t *run, int t, int state, int64_t width) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  int64_t rows = it->weights[t].rows, count = rows + 1, *row = arena_ints(&it->arena, count);
  void *typed = arena_doubles(&it->arena, count * width);
  double *values = arena_doubles(&it->arena, count * width),
         *ordered = arena_doubles(&it->arena, rows * width);
  for (int64_t i = 0; i < count; i++) row[i] = (i + it->rank) % rows;
  check_ok(it,
           state < 0 ? sbag_collection_read_rows(run->collection, t, row, count, typed, &status)
                     : sbag_collection_read_state(run->collection, t, state, row, count, typed, &status),
           &status);
  batch_untyped(typed, count * width, it->options.dtype, values);
  for (int64_t i = 0; i < count; i++)
    memcpy(ordered + row[i] * width, values + i * width, (size_t)width * sizeof(double));
  return ordered;
}

/* The ranks write a part of the rows each, in turns. */
static void write_all(const property_run_t *run, int t, int state, int64_t width, const double *whole) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  int64_t rows = it->weights[t].rows, count = 0, *row = arena_ints(&it->arena, rows);
  double *part = arena_doubles(&it->arena, rows * width);
  for (int64_t r = it->rank; r < rows; r += it->size, count++) {
    row[count] = r;
    memcpy(part + count * width, whole + r * width, (size_t)width * sizeof(double));
  }
  void *typed = batch_typed(&it->arena, part, count * width, it->options.dtype);
  check_ok(it,
           state < 0 ? sbag_collection_write_rows(run->collection, t, row, count, typed, &status)
                     : sbag_collection_write_state(run->collection, t, state, row, count, typed, &status),
           &status);
}

/* Every row has one owner, a listed one, and a place of its own there. */
static void check_places(const property_run_t *run, int t) {
  property_case_t *it = run->it;
  const sbag_table_options_t *table = &it->tables[t];
  int64_t rows = table->num_embeddings;
  int *taken = arena_alloc(&it->arena, it->size * rows, sizeof *taken);
  for (int64_t r = 0; r < rows; r++) {
    int rank = -1, listed = table->ranks == NULL;
    int64_t place = -1;
    sbag_status_t status = {0};
    check_ok(it, sbag_collection_locate(run->collection, t, r, &rank, &place, &status), &status);
    for (int i = 0; i < table->rank_count; i++) listed |= table->ranks[i] == rank;
    ck_assert_msg(rank >= 0 && rank < it->size && listed && place >= 0 && place < rows &&
                      !taken[rank * rows + place]++,
                  "seed %llu case %llu: row %lld of table %d is at %d, %lld", (unsigned long long)it->seed,
                  (unsigned long long)it->number, (long long)r, t, rank, (long long)place);
  }
}

/* ---- Forward ---- */

static int64_t *looked_up(property_case_t *it, const property_batch_t *batch, int t, int64_t *count) {
  *count = 0;
  for (int f = 0; f < it->feature_count; f++)
    if (it->features[f].table == t) *count += batch->bags[f].offsets[batch->samples];
  int64_t *all = arena_ints(&it->arena, *count), filled = 0;
  for (int f = 0; f < it->feature_count; f++) {
    int64_t part = batch->bags[f].offsets[batch->samples];
    if (it->features[f].table != t) continue;
    memcpy(all + filled, batch->bags[f].indices, (size_t)part * sizeof *all);
    filled += part;
  }
  return all;
}

static void renorm_tables(property_case_t *it, const property_batch_t *batch, oracle_table_t *weights) {
  for (int t = 0; t < it->table_count; t++) {
    int64_t count, *all = looked_up(it, batch, t, &count);
    if (it->tables[t].has_max_norm)
      oracle_renorm(&weights[t], all, count, it->tables[t].max_norm, it->tables[t].norm_type);
  }
}

/* What 16 bits may have taken from a weight; f16 has units of 2^-24 near zero. */
static double storage_tolerance(const property_case_t *it, int t, double weight) {
  return it->unit[t] > 0 ? it->unit[t] * fabs(weight) + 0x1p-24 : 0;
}

/* Renormalised weights are compared and taken over before they are pooled, or rounding could turn a max. */
static void adopt_renormed(const property_run_t *run) {
  property_case_t *it = run->it;
  for (int t = 0; t < it->table_count; t++) {
    if (!it->tables[t].has_max_norm) continue;
    double *expected = it->weights[t].weight, *got = read_all(run, t, -1, it->weights[t].dim);
    for (int64_t i = 0; i < it->weights[t].rows * it->weights[t].dim; i++) {
      check_value(it, "renormalised weight", t, i, expected[i], got[i],
                  16 * epsilon(it) * fabs(expected[i]) + storage_tolerance(it, t, expected[i]));
      expected[i] = got[i];
    }
  }
}

/* What 16 bits take from values whose sizes add up to `scale`: from a row, its pool and its gradient. f16 has
 * units of 2^-24 near zero. */
static double wire_tolerance(const property_run_t *run, double scale) {
  return 3 * run->narrow * (scale + 0x1p-10);
}

/* A rounding error of the sum, or of weights that were not synchronized. */
static double pooled_tolerance(const property_run_t *run, double expected, double scale) {
  const property_case_t *it = run->it;
  if (!isfinite(scale)) scale = fabs(expected);
  return epsilon(it) * (it->synchronized ? 16 * scale : 1024 * (scale + 10)) + wire_tolerance(run, scale);
}

static void check_output(const property_run_t *run, const property_batch_t *batch,
                         const oracle_table_t *weights, sbag_step_h step, const double *out) {
  property_case_t *it = run->it;
  int64_t begin = batch->first[it->rank], samples = batch->first[it->rank + 1] - begin;
  for (int f = 0; f < it->feature_count; f++) {
    const oracle_table_t *table = &weights[it->features[f].table];
    int64_t dim = table->dim, column = sbag_collection_output_offset(run->collection, f);
    oracle_bags_t mine = batch->bags[f];
    mine.offsets += begin;
    mine.bag_count = samples;
    double *expected = arena_doubles(&it->arena, samples * dim),
           *scale = arena_doubles(&it->arena, samples * dim);
    int64_t *winner = arena_ints(&it->arena, samples * dim), *won = arena_ints(&it->arena, samples * dim);
    oracle_forward(table, &it->lookups[f], &mine, expected, scale, winner);
    for (int64_t i = 0; i < samples * dim; i++)
      check_value(it, "output of feature", f, i, expected[i], out[i / dim * run->columns + column + i % dim],
                  pooled_tolerance(run, expected[i], scale[i]));
    if (it->lookups[f].mode != SBAG_MAX) continue;
    sbag_status_t status = {0};
    check_ok(it, sbag_step_max_indices(step, f, won, &status), &status);
    for (int64_t i = 0; i < samples * dim; i++)
      check_value(it, "winner of feature", f, i, (double)winner[i], (double)won[i], 0);
  }
}

static void see(const property_run_t *run, const property_turn_t *turn, int ahead) {
  property_case_t *it = run->it;
  sbag_step_stats_t stats = sbag_step_stats(turn->step);
  seen_t *seen = run->seen;
  int max = 0, freq = 0, weights = 0, norm = 0, narrow = run->narrow > 0, kept_narrow = 0;
  for (int f = 0; f < it->feature_count; f++) {
    max |= it->features[f].mode == SBAG_MAX;
    freq |= it->features[f].scale_grad_by_freq;
    weights |= turn->batch.bags[f].weights != NULL;
    norm |= it->tables[it->features[f].table].has_max_norm;
    kept_narrow |= it->tables[it->features[f].table].storage != SBAG_STORAGE_FULL;
  }
  int mixed = stats.mixed_parts > 0, dense = run->kind == SBAG_EXCHANGE_AUTO && stats.dense_tables > 0;
  const seen_t more = {.mixed = mixed,
                       .mixed_max = mixed && max,
                       .mixed_freq = mixed && freq,
                       .mixed_weights = mixed && weights,
                       .mixed_norm = mixed && norm,
                       .mixed_ahead = mixed && ahead,
                       .mixed_narrow = mixed && narrow,
                       .dense = dense,
                       .dense_ahead = dense && ahead,
                       .narrow = narrow && stats.wire_error > 0,
                       .ahead = ahead,
                       .kept_narrow = kept_narrow,
                       .kept_narrow_mixed = kept_narrow && mixed};
  for (size_t i = 0; i < sizeof more / sizeof(int64_t); i++)
    ((int64_t *)seen)[i] += ((const int64_t *)&more)[i];
}

static void check_stats(const property_run_t *run, const property_batch_t *batch, sbag_step_h step) {
  sbag_step_stats_t stats = sbag_step_stats(step);
  check_value(run->it, "lookups", 0, 0, (double)batch->lookups, (double)stats.lookups, 0);
  check_value(run->it, "dropped", 0, 0, (double)batch->dropped, (double)stats.dropped, 0);
  check_value(run->it, "error on the wire", 0, 0, 0, stats.wire_error, run->narrow);
}

/* Begins the step in one call or, where its ids may already be on their way, in parts. */
static void begin(property_run_t *run, property_turn_t *turn) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  sbag_collection_h collection = run->collection;
  if (turn->begun) return;
  turn->begun = 1;
  if (turn->step == NULL && draw_one_in(&it->draw, 2)) {
    check_ok(it,
             sbag_collection_forward_begin(collection, turn->batch.mine, turn->flags, &turn->step, &status),
             &status);
    return;
  }
  if (turn->step == NULL)
    check_ok(it, sbag_collection_prefetch(collection, turn->batch.mine, turn->flags, &turn->step, &status),
             &status);
  for (int64_t parts = draw_below(&it->draw, 4); parts > 0; parts--)
    check_ok(it, sbag_step_advance(turn->step, &status), &status);
  check_ok(it, sbag_step_forward_begin(turn->step, &status), &status);
}

/* Begins and ends a forward; the step held over is released on the way. */
static double *forward(property_run_t *run, property_turn_t *turn) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  const property_batch_t *batch = &turn->batch;
  int64_t count = (batch->first[it->rank + 1] - batch->first[it->rank]) * run->columns;
  void *typed = arena_doubles(&it->arena, count);
  double *out = arena_doubles(&it->arena, count);
  memset(typed, 0x5a, (size_t)count * sizeof(double)); /* it must be written whole */
  begin(run, turn);
  if (!run->release_late) sbag_step_release(&run->previous);
  check_ok(it, sbag_step_forward_end(turn->step, typed, &status), &status);
  sbag_step_release(&run->previous);
  batch_untyped(typed, count, it->options.dtype, out);
  return out;
}

/* An inference between two training steps: it must leave no trace. */
static void forward_read_only(property_run_t *run) {
  property_case_t *it = run->it;
  property_turn_t turn = {.flags = SBAG_FORWARD_READ_ONLY | SBAG_FORWARD_NO_BACKWARD};
  oracle_table_t weights[TABLES_MAX];
  if (run->next != NULL) sbag_step_release(&run->previous); /* no room for three */
  property_batch_draw(it, &turn.batch);
  for (int t = 0; t < it->table_count; t++) {
    int64_t cells = it->weights[t].rows * it->weights[t].dim;
    weights[t] = it->weights[t];
    weights[t].weight = arena_doubles(&it->arena, cells);
    memcpy(weights[t].weight, it->weights[t].weight, (size_t)cells * sizeof(double));
    /* Rounding of a value that nobody can read may turn a max. */
    if (it->tables[t].has_max_norm && it->options.dtype == SBAG_F32) return;
  }
  renorm_tables(it, &turn.batch, weights);
  double *out = forward(run, &turn);
  check_output(run, &turn.batch, weights, turn.step, out);
  check_stats(run, &turn.batch, turn.step);
  sbag_step_release(&turn.step);
}

/* ---- The step that runs ahead ---- */

/* In the arena: a step reads its batch where it was given. */
static property_turn_t *draw_turn(property_case_t *it) {
  property_turn_t *turn = arena_alloc(&it->arena, 1, sizeof *turn);
  property_batch_draw(it, &turn->batch);
  turn->flags = draw_one_in(&it->draw, 2) ? SBAG_FORWARD_WEIGHT_GRADS : 0;
  return turn;
}

/* Draws the next batch and sends its ids off, at times. Nothing else is held then but the step of now. */
static void look_ahead(property_run_t *run) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  if (run->next != NULL || draw_one_in(&it->draw, 3)) return;
  property_turn_t *next = run->next = draw_turn(it);
  check_ok(it, sbag_collection_prefetch(run->collection, next->batch.mine, next->flags, &next->step, &status),
           &status);
}

/* Takes it further, at times: to its vectors only where reading rows does not write them. */
static void advance(property_run_t *run, int may_begin) {
  property_case_t *it = run->it;
  property_turn_t *next = run->next;
  sbag_status_t status = {0};
  if (next == NULL || next->begun || draw_one_in(&it->draw, 2)) return;
  for (int t = 0; t < it->table_count; t++) may_begin &= !it->tables[t].has_max_norm;
  if (may_begin && draw_one_in(&it->draw, 3))
    begin(run, next);
  else
    check_ok(it, sbag_step_advance(next->step, &status), &status);
}

/* ---- Backward ---- */

/* Every rank's sparse rows of all trainable tables as dense gradients, on every rank. */
static void gather_gradients(property_run_t *run, sbag_step_h step) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  int64_t total = 0, at = 0;
  for (int t = 0; t < it->table_count; t++) total += it->weights[t].rows * (it->weights[t].dim + 1);
  double *all = arena_doubles(&it->arena, total);
  for (int t = 0; t < it->table_count; t++) {
    int64_t dim = it->weights[t].dim, rows = it->weights[t].rows, count = 0, place;
    const int64_t *row = NULL;
    const void *values = NULL;
    if (!it->tables[t].freeze)
      check_ok(it, sbag_step_sparse_grad(step, t, &row, &values, &count, &status), &status);
    int64_t value_bytes = it->options.dtype == SBAG_F64 ? 8 : 4;
    int64_t *own_row = arena_ints(&it->arena, count);
    void *own_values = arena_alloc(&it->arena, count * dim, (size_t)value_bytes);
    check_ok(it, sbag_context_copy(run->context, own_row, row, count * 8, &status), &status);
    check_ok(it, sbag_context_copy(run->context, own_values, values, count * dim * value_bytes, &status),
             &status);
    row = own_row;
    double *part = arena_doubles(&it->arena, count * dim);
    batch_untyped(own_values, count * dim, it->options.dtype, part);
    for (int64_t i = 0; i < count; i++) {
      int owner = -1;
      ck_assert_msg(row[i] >= 0 && row[i] < rows, "seed %llu case %llu: gradient of row %lld",
                    (unsigned long long)it->seed, (unsigned long long)it->number, (long long)row[i]);
      check_ok(it, sbag_collection_locate(run->collection, t, row[i], &owner, &place, &status), &status);
      check_value(it, "owner in table", t, row[i], it->rank, owner, 0);
      all[at + rows * dim + row[i]] += 1;
      for (int64_t d = 0; d < dim; d++) all[at + row[i] * dim + d] += part[i * dim + d];
    }
    run->grad[t] = all + at;
    at += rows * (dim + 1);
  }
  MPI_Allreduce(MPI_IN_PLACE, all, (int)total, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  for (int t = 0; t < it->table_count; t++) {
    run->touched[t] = arena_ints(&it->arena, it->weights[t].rows);
    for (int64_t r = 0; r < it->weights[t].rows; r++)
      run->touched[t][r] = (int64_t)run->grad[t][it->weights[t].rows * it->weights[t].dim + r];
  }
}

/* A row that only lost every max may be left out of the sparse rows; all others that were looked up are in.
 */
static void check_table_gradient(const property_run_t *run, int t, const double *grad, const double *scale,
                                 const int64_t *looked, int has_max) {
  property_case_t *it = run->it;
  int64_t dim = it->weights[t].dim;
  if (it->tables[t].freeze) return;
  for (int64_t r = 0; r < it->weights[t].rows; r++) {
    int64_t wanted = looked[r] > 0;
    if (has_max && run->touched[t][r] <= 1 && run->touched[t][r] <= wanted) wanted = run->touched[t][r];
    check_value(it, "rows in the gradient of table", t, r, (double)wanted, (double)run->touched[t][r], 0);
    for (int64_t d = 0; d < dim; d++)
      check_value(it, "gradient of table", t, r * dim + d, grad[r * dim + d], run->grad[t][r * dim + d],
                  16 * epsilon(it) * scale[r * dim + d] + wire_tolerance(run, scale[r * dim + d]));
  }
}

static void check_gradients(const property_run_t *run, const property_batch_t *batch,
                            double *const *weight_grads) {
  property_case_t *it = run->it;
  double *grad[TABLES_MAX], *scale[TABLES_MAX];
  int64_t *looked[TABLES_MAX];
  int has_max[TABLES_MAX] = {0};
  for (int t = 0; t < it->table_count; t++) {
    grad[t] = arena_doubles(&it->arena, it->weights[t].rows * it->weights[t].dim);
    scale[t] = arena_doubles(&it->arena, it->weights[t].rows * it->weights[t].dim);
    looked[t] = arena_ints(&it->arena, it->weights[t].rows);
  }
  for (int f = 0; f < it->feature_count; f++) {
    int t = it->features[f].table;
    int64_t entries = batch->bags[f].offsets[batch->samples];
    int64_t first = batch->bags[f].offsets[batch->first[it->rank]];
    double *expected = arena_doubles(&it->arena, entries), *size = arena_doubles(&it->arena, entries);
    oracle_backward(&it->weights[t], &it->lookups[f], &batch->bags[f], batch->grads[f], grad[t], scale[t],
                    looked[t], expected, size);
    has_max[t] |= it->lookups[f].mode == SBAG_MAX;
    for (int64_t i = 0; weight_grads[f] != NULL && i < batch->mine[f].index_count; i++)
      check_value(it, "weight gradient of feature", f, i, expected[first + i], weight_grads[f][i],
                  pooled_tolerance(run, expected[first + i], size[first + i]));
  }
  for (int t = 0; t < it->table_count; t++)
    check_table_gradient(run, t, grad[t], scale[t], looked[t], has_max[t]);
}

static void check_norm(const property_run_t *run, sbag_step_h step) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  double got = -1;
  long double expected = 0; /* of many equal terms, which a sum in double would round the same way */
  for (int t = 0; t < it->table_count; t++)
    for (int64_t i = 0; !it->tables[t].freeze && i < it->weights[t].rows * it->weights[t].dim; i++)
      expected += (long double)run->grad[t][i] * (long double)run->grad[t][i];
  check_ok(it, sbag_step_grad_norm_squared(step, &got, &status), &status);
  check_value(it, "squared norm of the gradients", 0, 0, (double)expected, got,
              100 * epsilon(it) * (double)expected);
}

static void *my_grad_out(const property_run_t *run, const property_batch_t *batch) {
  property_case_t *it = run->it;
  int64_t begin = batch->first[it->rank], samples = batch->first[it->rank + 1] - begin;
  double *grad = arena_doubles(&it->arena, samples * run->columns);
  for (int f = 0; f < it->feature_count; f++) {
    int64_t dim = it->weights[it->features[f].table].dim;
    int64_t column = sbag_collection_output_offset(run->collection, f);
    for (int64_t s = 0; s < samples; s++)
      memcpy(grad + s * run->columns + column, batch->grads[f] + (begin + s) * dim,
             (size_t)dim * sizeof(double));
  }
  return batch_typed(&it->arena, grad, samples * run->columns, it->options.dtype);
}

/* Whole or in two parts, with parts of the next step before, between and behind. */
static void send_gradients(property_run_t *run, sbag_step_h step, const void *grad,
                           void *const *weight_grads) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  advance(run, 1);
  if (draw_one_in(&it->draw, 2)) {
    check_ok(it, sbag_step_backward(step, grad, weight_grads, &status), &status);
  } else {
    check_ok(it, sbag_step_backward_begin(step, grad, &status), &status);
    advance(run, 1);
    check_ok(it, sbag_step_backward_end(step, weight_grads, &status), &status);
  }
  advance(run, 1);
}

static void backward(property_run_t *run, const property_batch_t *batch, int wants_weight_grads,
                     sbag_step_h step) {
  property_case_t *it = run->it;
  void *typed[FEATURES_MAX] = {NULL};
  double *weight_grads[FEATURES_MAX] = {NULL};
  for (int f = 0; f < it->feature_count; f++) {
    int wanted =
        wants_weight_grads && !draw_one_in(&it->draw, 5) && batch->mine[f].per_sample_weights != NULL;
    if (wanted) typed[f] = arena_doubles(&it->arena, batch->mine[f].index_count);
  }
  void *grad = my_grad_out(run, batch);
  send_gradients(run, step, grad, wants_weight_grads ? typed : NULL);
  for (int f = 0; f < it->feature_count; f++) {
    if (typed[f] == NULL) continue;
    weight_grads[f] = arena_doubles(&it->arena, batch->mine[f].index_count);
    batch_untyped(typed[f], batch->mine[f].index_count, it->options.dtype, weight_grads[f]);
  }
  gather_gradients(run, step);
  check_gradients(run, batch, weight_grads);
  check_norm(run, step);
}

/* ---- Update ---- */

/* The largest of what goes into a row's update. */
static double row_magnitude(const property_run_t *run, int t, int64_t r) {
  property_case_t *it = run->it;
  const oracle_optimizer_t *optimizer = &it->optimizers[t];
  int64_t dim = it->weights[t].dim;
  double most = 1;
  if (it->special) return most;
  for (int64_t d = r * dim; d < (r + 1) * dim; d++) {
    most = fmax(most, fabs(it->weights[t].weight[d]));
    if (run->before[t] != NULL) most = fmax(most, fmax(fabs(run->before[t][d]), fabs(run->grad[t][d])));
  }
  for (int s = 0; s < optimizer->state_count; s++)
    for (int64_t d = r * optimizer->states[s].width; d < (r + 1) * optimizer->states[s].width; d++)
      most = fmax(most, fabs(optimizer->states[s].values[d]));
  return most;
}

/* Compares a table and its states with the oracle's, which takes them over. */
static void check_table(const property_run_t *run, int t) {
  property_case_t *it = run->it;
  oracle_table_t *table = &it->weights[t];
  oracle_optimizer_t *optimizer = &it->optimizers[t];
  double unit = epsilon(it) * (it->synchronized ? 1 : 64);
  double *magnitude = arena_doubles(&it->arena, table->rows), *got = read_all(run, t, -1, table->dim);
  for (int64_t r = 0; r < table->rows; r++) magnitude[r] = row_magnitude(run, t, r);
  for (int64_t i = 0; i < table->rows * table->dim; i++) {
    check_value(it, "weight of table", t, i, table->weight[i], got[i],
                unit * 32 * fabs(table->weight[i]) + unit * 128 * run->lr[t] * magnitude[i / table->dim] +
                    storage_tolerance(it, t, table->weight[i]));
    table->weight[i] = got[i];
  }
  if (!it->options.weight_grad || it->tables[t].freeze) return;
  int count = sbag_collection_state_count(run->collection, t);
  check_value(it, "states of table", t, 0, optimizer->state_count, count, 0);
  for (int s = 0; s < count; s++) {
    const char *name = sbag_collection_state_name(run->collection, t, s);
    double *state = oracle_optimizer_state(optimizer, name);
    ck_assert_msg(state != NULL, "table %d has a state '%s'", t, name);
    int64_t width = sbag_collection_state_width(run->collection, t, s);
    got = read_all(run, t, s, width);
    for (int64_t i = 0; i < table->rows * width; i++) {
      check_value(it, name, t, i, state[i], got[i], unit * 32 * (fabs(state[i]) + magnitude[i / width]));
      state[i] = got[i];
    }
  }
}

static void update(property_run_t *run, sbag_step_h step) {
  property_case_t *it = run->it;
  sbag_status_t status = {0};
  double factor = 0.5 + draw_unit(&it->draw), scale = draw_one_in(&it->draw, 2) ? 1 : draw_unit(&it->draw);
  check_ok(it, sbag_step_update(step, factor, scale, &status), &status);
  for (int t = 0; t < it->table_count; t++) {
    int64_t cells = it->weights[t].rows * it->weights[t].dim;
    if (it->tables[t].freeze) continue;
    run->lr[t] = it->tables[t].optimizer.lr * factor;
    run->before[t] = arena_doubles(&it->arena, cells);
    memcpy(run->before[t], it->weights[t].weight, (size_t)cells * sizeof(double));
    oracle_optimizer_update(&it->optimizers[t], &it->weights[t], run->grad[t], run->touched[t], run->lr[t],
                            scale);
  }
  for (int t = 0; it->synchronized && t < it->table_count; t++) check_table(run, t);
}

/* ---- A case ---- */

static void train_step(property_run_t *run, int last) {
  property_case_t *it = run->it;
  int ahead = run->next != NULL;
  property_turn_t *turn = ahead ? run->next : draw_turn(it);
  run->next = NULL;
  double *out = forward(run, turn);
  if (!last) look_ahead(run);
  renorm_tables(it, &turn->batch, it->weights);
  if (it->synchronized) adopt_renormed(run);
  check_output(run, &turn->batch, it->weights, turn->step, out);
  check_stats(run, &turn->batch, turn->step);
  see(run, turn, ahead);
  int wants_weight_grads = turn->flags == SBAG_FORWARD_WEIGHT_GRADS;
  if (it->options.weight_grad) backward(run, &turn->batch, wants_weight_grads, turn->step);
  if (it->options.weight_grad && !it->special) update(run, turn->step);
  advance(run, 0);
  run->release_late = draw_one_in(&it->draw, 2);
  if (draw_one_in(&it->draw, 2))
    run->previous = turn->step;
  else
    sbag_step_release(&turn->step);
}

/* States that a trained table would have: not negative; RMSprop's depend on each other, an iteration number
 * is no real. */
static void write_states(const property_run_t *run, int t) {
  property_case_t *it = run->it;
  sbag_optimizer_t kind = it->tables[t].optimizer.kind;
  if (it->tables[t].freeze || kind == SBAG_OPT_RMSPROP || kind == SBAG_OPT_ROWWISE_RMSPROP) return;
  for (int s = 0; s < sbag_collection_state_count(run->collection, t); s++) {
    const char *name = sbag_collection_state_name(run->collection, t, s);
    double *state = oracle_optimizer_state(&it->optimizers[t], name);
    int64_t width = sbag_collection_state_width(run->collection, t, s);
    ck_assert_msg(state != NULL, "table %d has a state '%s'", t, name);
    for (int64_t i = 0; i < it->weights[t].rows * width; i++)
      state[i] = (double)draw_between(&it->draw, 1, 12) / 8;
    write_all(run, t, s, width, state);
  }
}

static void run_case(property_case_t *it, const property_way_t *way, seen_t *seen) {
  sbag_status_t status = {0};
  property_run_t run = {
      .it = it, .context = way->context, .narrow = way->narrow, .kind = way->kind, .seen = seen};
  check_ok(it,
           sbag_collection_create(run.context, &it->options, it->tables, it->table_count, it->features,
                                  it->feature_count, &run.collection, &status),
           &status);
  run.columns = sbag_collection_output_dim(run.collection);
  int with_states = it->options.weight_grad && draw_one_in(&it->draw, 6);
  for (int t = 0; t < it->table_count; t++) {
    check_places(&run, t);
    if (it->writes_weights) write_all(&run, t, -1, it->weights[t].dim, it->weights[t].weight);
    if (with_states) write_states(&run, t);
  }
  for (int s = 0; s < it->step_count; s++) {
    train_step(&run, s + 1 == it->step_count);
    if (draw_one_in(&it->draw, 5)) forward_read_only(&run);
  }
  for (int t = 0; t < it->table_count; t++) check_table(&run, t);
  if (draw_one_in(&it->draw, 2)) sbag_step_release(&run.previous); /* else the collection does */
  sbag_collection_destroy(&run.collection);
}

static uint64_t setting(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

/* One context for each way to exchange, made when first drawn. Narrow wires are for cases in f32 in which no
 * rounding can turn a max. */
static property_way_t draw_way(draw_t *draw, const property_case_t *it, contexts_t *contexts) {
  static const int64_t chunk_bytes[CHUNKS] = {0, 1024, 56};
  static const double errors[WIRES] = {0, 0x1p-11, 0x1p-8};
  int exchange = (int)draw_below(draw, EXCHANGES), chunk = (int)draw_below(draw, CHUNKS);
  int reproducible = draw_one_in(draw, 5), narrow = it->options.dtype == SBAG_F32 && draw_one_in(draw, 3);
  for (int f = 0; f < it->feature_count; f++) narrow &= it->features[f].mode != SBAG_MAX;
  int wire = narrow ? (int)draw_between(draw, 1, WIRES - 1) : 0;
  if (wire > 0) chunk = 0;
  sbag_context_h *context = &contexts->of[wire][exchange][chunk][reproducible];
  sbag_status_t status = {0};
  sbag_context_options_t options = sbag_context_options_default();
  options.exchange = (sbag_exchange_t)exchange;
  options.wire = (sbag_wire_t)wire;
  options.chunk_bytes = chunk_bytes[chunk];
  options.reproducible = reproducible;
  if (*context == NULL && sbag_context_create_mpi(MPI_COMM_WORLD, &options, context, &status) != SBAG_OK)
    ck_abort_msg("%s", status.message);
  return (property_way_t){*context, options.exchange, errors[wire]};
}

/* The usual cases do come to what this exchange can do. */
static void check_seen(seen_t *seen, int size, int usual) {
  enum { COUNT = sizeof *seen / sizeof(int64_t) };
  int64_t *count = (int64_t *)seen;
  MPI_Allreduce(MPI_IN_PLACE, count, COUNT, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  for (int i = 0; usual && size >= 2 && size <= 4 && i < COUNT; i++)
    ck_assert_msg(count[i] > 0, "no step of the kind %d of seen_t", i);
}

START_TEST(random_cases_match_the_oracle) {
  contexts_t contexts = {0};
  seen_t seen = {0};
  uint64_t cases = setting("SHARDBAG_PROPERTY_CASES", CASES_DEFAULT);
  uint64_t seed = setting("SHARDBAG_PROPERTY_SEED", 1), first = setting("SHARDBAG_PROPERTY_FIRST", 0);
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (uint64_t number = first; number < first + cases; number++) {
    draw_t draw = draw_start(seed ^ 0xC0117EC7u, number);
    property_case_t it;
    property_case_draw(&it, seed, number, rank, size);
    property_way_t way = draw_way(&draw, &it, &contexts);
    run_case(&it, &way, &seen);
    arena_free(&it.arena);
  }
  check_seen(&seen, size, seed == 1 && first == 0 && cases >= CASES_DEFAULT);
  sbag_context_h *all = &contexts.of[0][0][0][0];
  for (size_t i = 0; i < sizeof contexts / sizeof *all; i++) sbag_context_destroy(&all[i]);
}
END_TEST

Suite *property_suite(void) {
  Suite *suite = suite_create("property");
  TCase *test_case = tcase_create("random cases");
  tcase_add_test(test_case, random_cases_match_the_oracle);
  suite_add_tcase(suite, test_case);
  return suite;
}
