/* A small collection and its batches. */
#include "rig.h"
#include "oracle/batch.h"

#include <math.h>
#include <string.h>

sbag_status_t rig_failure;

static const int table_of[RIG_FEATURES] = {0, 1, 0, 1};
static const sbag_mode_t mode_of[RIG_FEATURES] = {SBAG_SUM, SBAG_MEAN, SBAG_MAX, SBAG_SUM};

void rig_must(sbag_code_t code) {
  if (code != SBAG_OK) ck_abort_msg("%s error: %s", sbag_code_name(code), rig_failure.message);
}

rig_options_t rig_options_default(void) {
  rig_options_t options = {.context = sbag_context_options_default(),
                           .dtype = SBAG_F64,
                           .rows = {40, 17},
                           .dims = {4, 3},
                           .optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD)};
  options.optimizer.lr = 0.25;
  return options;
}

static sbag_mode_t mode(const rig_t *rig, int f) {
  return mode_of[f] == SBAG_MAX && rig->options.without_max ? SBAG_SUM : mode_of[f];
}

static double draw_value(draw_t *draw) {
  return (double)draw_between(draw, -64, 64) / 8;
}

static double *draw_values(rig_t *rig, draw_t *draw, int64_t count) {
  double *values = arena_doubles(&rig->arena, count);
  for (int64_t i = 0; i < count; i++) values[i] = draw_value(draw);
  return values;
}

void rig_open(rig_t *rig, const rig_options_t *options) {
  rig_open_on(rig, options, MPI_COMM_WORLD);
}

void rig_open_on(rig_t *rig, const rig_options_t *options, MPI_Comm comm) {
  static const char *const table_names[RIG_TABLES] = {"first", "second"};
  static const char *const names[RIG_FEATURES] = {"sum", "mean", "max", "shared"};
  sbag_collection_options_t collection_options = sbag_collection_options_default();
  sbag_table_options_t tables[RIG_TABLES];
  sbag_feature_options_t features[RIG_FEATURES];
  draw_t draw = draw_start(21, 0);
  *rig = (rig_t){.options = *options};
  rig_must(sbag_context_create_mpi(comm, &options->context, &rig->context, &rig_failure));
  rig->rank = sbag_context_rank(rig->context);
  rig->size = sbag_context_size(rig->context);
  rig->owners[0] = rig->size - 1;
  for (int t = 0; t < RIG_TABLES; t++) {
    int64_t count = options->rows[t] * options->dims[t];
    tables[t] = sbag_table_options_default(table_names[t], options->rows[t], options->dims[t]);
    tables[t].layout = options->layout;
    tables[t].replicated = options->replicated;
    tables[t].optimizer = options->optimizer;
    tables[t].storage = options->storage[t];
    tables[t].rounding = options->rounding;
    tables[t].from_pretrained =
        batch_typed(&rig->arena, draw_values(rig, &draw, count), count, options->dtype);
    tables[t].ranks = t == 1 && options->subset ? rig->owners : NULL;
    tables[t].rank_count = 1;
  }
  for (int f = 0; f < RIG_FEATURES; f++) {
    features[f] = sbag_feature_options_default(names[f], table_of[f]);
    features[f].mode = mode(rig, f);
  }
  collection_options.dtype = options->dtype;
  collection_options.weight_grad = !options->inference;
  rig_must(sbag_collection_create(rig->context, &collection_options, tables, RIG_TABLES, features,
                                  RIG_FEATURES, &rig->collection, &rig_failure));
  rig->columns = sbag_collection_output_dim(rig->collection);
}

void rig_close(rig_t *rig) {
  sbag_collection_destroy(&rig->collection);
  sbag_context_destroy(&rig->context);
  arena_free(&rig->arena);
}

void rig_draw(rig_t *rig, rig_batch_t *batch, uint64_t number, int64_t samples, int weighted) {
  draw_t draw = draw_start(22 + (uint64_t)rig->rank, number);
  *batch = (rig_batch_t){.samples = draw_one_in(&draw, 6) ? 0 : draw_between(&draw, 1, samples)};
  for (int f = 0; f < RIG_FEATURES; f++) {
    int64_t rows = rig->options.rows[table_of[f]], n = batch->samples;
    int64_t *offset = arena_ints(&rig->arena, n + 1);
    for (int64_t s = 0; s < n; s++) offset[s + 1] = offset[s] + draw_between(&draw, 0, RIG_LENGTH_MAX);
    int64_t *index = arena_ints(&rig->arena, offset[n]);
    for (int64_t i = 0; i < offset[n]; i++)
      index[i] = draw_one_in(&draw, 2) ? draw_below(&draw, rows) : draw_below(&draw, (rows + 4) / 5);
    batch->offset[f] = offset;
    batch->index[f] = index;
    batch->bags[f] = sbag_bags_1d(index, offset[n], offset, n);
    batch->weight_grads[f] = arena_doubles(&rig->arena, offset[n]);
  }
  int64_t places = batch->samples * rig->columns, weights = batch->bags[0].index_count;
  batch->out = arena_doubles(&rig->arena, places);
  batch->grad = batch_typed(&rig->arena, draw_values(rig, &draw, places), places, rig->options.dtype);
  if (!weighted) return;
  batch->weight = draw_values(rig, &draw, weights);
  batch->bags[0].per_sample_weights = batch_typed(&rig->arena, batch->weight, weights, rig->options.dtype);
  batch->bags[0].per_sample_weight_count = weights;
}

/* The parts' bags of one feature. */
static void join_bags(rig_t *rig, const rig_batch_t *part, int count, int f, rig_batch_t *all) {
  int64_t *offset = arena_ints(&rig->arena, all->samples + 1), bag = 0, used = 0;
  for (int r = 0; r < count; r++) used += part[r].bags[f].index_count;
  int64_t *index = arena_ints(&rig->arena, used);
  char *weights = arena_alloc(&rig->arena, used, rig_bytes(rig));
  int weighted = part[0].bags[f].per_sample_weights != NULL;
  used = 0;
  for (int r = 0; r < count; r++) {
    size_t indices = (size_t)part[r].bags[f].index_count;
    for (int64_t s = 0; s < part[r].samples; s++) offset[bag++] = used + part[r].offset[f][s];
    memcpy(index + used, part[r].index[f], indices * sizeof *index);
    if (weighted)
      memcpy(weights + (size_t)used * rig_bytes(rig), part[r].bags[f].per_sample_weights,
             indices * rig_bytes(rig));
    used += part[r].bags[f].index_count;
  }
  offset[bag] = used;
  all->offset[f] = offset;
  all->index[f] = index;
  all->bags[f] = sbag_bags_1d(index, used, offset, all->samples);
  all->weight_grads[f] = arena_doubles(&rig->arena, used);
  if (!weighted) return;
  all->bags[f].per_sample_weights = weights;
  all->bags[f].per_sample_weight_count = used;
}

void rig_draw_parts(rig_t *rig, int first, int end, rig_batch_t *batch, uint64_t number, int64_t samples,
                    int weighted) {
  int count = end - first, rank = rig->rank;
  rig_batch_t *part = arena_alloc(&rig->arena, count, sizeof *part);
  *batch = (rig_batch_t){0};
  for (int r = 0; r < count; r++) {
    rig->rank = first + r;
    rig_draw(rig, &part[r], number, samples, weighted);
    batch->samples += part[r].samples;
  }
  rig->rank = rank;
  batch->out = arena_doubles(&rig->arena, batch->samples * rig->columns);
  char *grad = arena_alloc(&rig->arena, batch->samples * rig->columns, rig_bytes(rig));
  batch->grad = grad;
  for (int r = 0; r < count; r++) {
    size_t bytes = (size_t)(part[r].samples * rig->columns) * rig_bytes(rig);
    memcpy(grad, part[r].grad, bytes);
    grad += bytes;
  }
  for (int f = 0; f < RIG_FEATURES; f++) join_bags(rig, part, count, f, batch);
}

sbag_step_h rig_begin(rig_t *rig, const rig_batch_t *batch, int flags) {
  sbag_step_h step = NULL;
  rig_must(sbag_collection_forward_begin(rig->collection, batch->bags, flags, &step, &rig_failure));
  ck_assert_ptr_nonnull(step);
  return step;
}

void rig_backward(rig_t *rig, sbag_step_h step, const rig_batch_t *batch, int weight_grads) {
  (void)rig;
  void *grads[RIG_FEATURES] = {batch->weight_grads[0], NULL, NULL, NULL};
  rig_must(sbag_step_backward(step, batch->grad, weight_grads ? grads : NULL, &rig_failure));
}

sbag_step_stats_t rig_train(rig_t *rig, const rig_batch_t *batch, int weight_grads) {
  sbag_step_h step = rig_begin(rig, batch, weight_grads ? SBAG_FORWARD_WEIGHT_GRADS : 0);
  rig_must(sbag_step_forward_end(step, batch->out, &rig_failure));
  rig_backward(rig, step, batch, weight_grads);
  rig_must(sbag_step_update(step, 1, 1, &rig_failure));
  sbag_step_stats_t stats = sbag_step_stats(step);
  sbag_step_release(&step);
  ck_assert_ptr_null(step);
  return stats;
}

int64_t rig_width(const rig_t *rig, int table, int state) {
  return state < 0 ? rig->options.dims[table] : sbag_collection_state_width(rig->collection, table, state);
}

double *rig_read(rig_t *rig, int table, int state) {
  int64_t rows = rig->options.rows[table], count = rows * rig_width(rig, table, state);
  int64_t *row = arena_ints(&rig->arena, rows);
  double *typed = arena_doubles(&rig->arena, count), *values = arena_doubles(&rig->arena, count);
  for (int64_t r = 0; r < rows; r++) row[r] = r;
  rig_must(state < 0
               ? sbag_collection_read_rows(rig->collection, table, row, rows, typed, &rig_failure)
               : sbag_collection_read_state(rig->collection, table, state, row, rows, typed, &rig_failure));
  batch_untyped(typed, count, rig->options.dtype, values);
  return values;
}

static double pooled(const rig_t *rig, const rig_batch_t *batch, int f, int64_t sample, int64_t column,
                     const double *table) {
  int64_t first = batch->offset[f][sample], last = batch->offset[f][sample + 1];
  int64_t dim = rig->options.dims[table_of[f]];
  double value = 0;
  for (int64_t i = first; i < last; i++) {
    double term = table[batch->index[f][i] * dim + column];
    if (mode(rig, f) == SBAG_MAX)
      value = i == first || term > value ? term : value;
    else
      value += (f == 0 && batch->weight != NULL ? batch->weight[i] : 1) * term;
  }
  return mode(rig, f) == SBAG_MEAN && last > first ? value / (double)(last - first) : value;
}

void rig_check_forward(rig_t *rig, const rig_batch_t *batch, double *const tables[RIG_TABLES]) {
  double tolerance = rig->options.dtype == SBAG_F64 ? 1e-12 : 1e-5;
  int64_t places = batch->samples * rig->columns;
  double *out = arena_doubles(&rig->arena, places);
  batch_untyped(batch->out, places, rig->options.dtype, out);
  for (int f = 0; f < RIG_FEATURES; f++) {
    int64_t offset = sbag_collection_output_offset(rig->collection, f);
    for (int64_t s = 0; s < batch->samples; s++)
      for (int64_t c = 0; c < rig->options.dims[table_of[f]]; c++) {
        double wanted = pooled(rig, batch, f, s, c, tables[table_of[f]]);
        double got = out[s * rig->columns + offset + c];
        ck_assert_msg(fabs(got - wanted) <= tolerance * (1 + fabs(wanted)),
                      "feature %d, sample %lld, column %lld: %.17g, not %.17g", f, (long long)s, (long long)c,
                      got, wanted);
      }
  }
}
