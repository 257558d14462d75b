/* Runs a batch through the public interface on all ranks and gathers what came out. See golden_case.h. */
#include "golden_case.h"

#include <math.h>
#include <mpi.h>
#include <string.h>

static const char *failed(arena_t *arena, const sbag_status_t *status) {
  return arena_text(arena, "library: %s error: %s", sbag_code_name(status->code), status->message);
}

/* Calls that are not collective may fail on one rank alone. */
static int agree(const golden_run_t *run, sbag_code_t code, sbag_status_t *status) {
  return sbag_context_agree(run->context, code, status) == SBAG_OK;
}

static void place_table(const golden_run_t *run, arena_t *arena, sbag_table_options_t *table) {
  static const sbag_layout_t layouts[] = {[GOLDEN_BLOCK] = SBAG_LAYOUT_BLOCK,
                                          [GOLDEN_CYCLIC] = SBAG_LAYOUT_CYCLIC,
                                          [GOLDEN_SUBSET] = SBAG_LAYOUT_BLOCK,
                                          [GOLDEN_REPLICATED] = SBAG_LAYOUT_BLOCK,
                                          [GOLDEN_SCRAMBLE] = SBAG_LAYOUT_SCRAMBLE};
  int *ranks = arena_alloc(arena, run->size, sizeof *ranks);
  table->layout = layouts[run->layout];
  table->replicated = run->layout == GOLDEN_REPLICATED;
  int subset = run->layout == GOLDEN_SUBSET || (table->replicated && run->number % 3 == 0);
  if (!subset || run->size == 1) return;
  int one = run->number % 2 == 1;
  table->rank_count = one ? 1 : run->size - 1;
  for (int i = 0; i < table->rank_count; i++) ranks[i] = one ? run->number % run->size : i;
  table->ranks = ranks;
}

const char *golden_collection(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                              const sbag_optimizer_options_t *optimizer, sbag_dtype_t dtype,
                              sbag_collection_h *collection) {
  sbag_status_t status = {0};
  int64_t rows = lookup->table.rows, dim = lookup->table.dim;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_table_options_t table = sbag_table_options_default("table", rows, dim);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  options.dtype = dtype;
  table.from_pretrained = batch_typed(arena, lookup->table.weight, rows * dim, dtype);
  table.has_max_norm = lookup->has_max_norm;
  table.max_norm = lookup->max_norm;
  table.norm_type = lookup->norm_type;
  if (optimizer != NULL) table.optimizer = *optimizer;
  place_table(run, arena, &table);
  feature.mode = lookup->feature.mode;
  feature.has_padding_idx = lookup->feature.has_padding;
  feature.padding_idx = lookup->feature.padding;
  feature.scale_grad_by_freq = lookup->feature.scale_by_freq;
  if (sbag_collection_create(run->context, &options, &table, 1, &feature, 1, collection, &status) != SBAG_OK)
    return failed(arena, &status);
  return NULL;
}

/* Every rank's part, one after the other: [*total]. */
static double *gather(const golden_run_t *run, arena_t *arena, const double *part, int64_t count,
                      int64_t *total) {
  int *counts = arena_alloc(arena, run->size, sizeof *counts);
  int *starts = arena_alloc(arena, run->size + 1, sizeof *starts);
  int mine = (int)count;
  MPI_Allgather(&mine, 1, MPI_INT, counts, 1, MPI_INT, MPI_COMM_WORLD);
  for (int r = 0; r < run->size; r++) starts[r + 1] = starts[r] + counts[r];
  double *whole = arena_doubles(arena, starts[run->size]);
  MPI_Allgatherv(part, mine, MPI_DOUBLE, whole, counts, starts, MPI_DOUBLE, MPI_COMM_WORLD);
  *total = starts[run->size];
  return whole;
}

static void add_gathered(const golden_run_t *run, arena_t *arena, const char *name, const double *part,
                         int64_t count, golden_results_t *results) {
  int64_t total;
  double *whole = gather(run, arena, part, count, &total);
  golden_result_add(results, name, total, whole, NULL);
}

/* The sparse rows of all ranks as one dense gradient. A row comes from its owner, once. */
static const char *gather_gradient(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                                   sbag_collection_h collection, sbag_step_h step, sbag_dtype_t dtype,
                                   golden_results_t *results) {
  int64_t rows = lookup->table.rows, dim = lookup->table.dim, count = 0;
  const int64_t *row = NULL;
  const void *values = NULL;
  sbag_status_t status = {0};
  double *dense = arena_doubles(arena, rows * dim);
  int64_t *seen = arena_ints(arena, rows), wrong = -1;
  if (!agree(run, sbag_step_sparse_grad(step, 0, &row, &values, &count, &status), &status))
    return failed(arena, &status);
  int64_t value_bytes = dtype == SBAG_F64 ? 8 : 4;
  int64_t *own_row = arena_ints(arena, count);
  void *own_values = arena_alloc(arena, count * dim, (size_t)value_bytes);
  sbag_code_t code = sbag_context_copy(run->context, own_row, row, count * 8, &status);
  if (code == SBAG_OK)
    code = sbag_context_copy(run->context, own_values, values, count * dim * value_bytes, &status);
  if (!agree(run, code, &status)) return failed(arena, &status);
  row = own_row;
  double *part = arena_doubles(arena, count * dim);
  batch_untyped(own_values, count * dim, dtype, part);
  for (int64_t i = 0; i < count; i++) {
    int owner = -1;
    int64_t place;
    if (sbag_collection_locate(collection, 0, row[i], &owner, &place, NULL) != SBAG_OK ||
        owner != run->rank) {
      wrong = row[i];
      continue;
    }
    seen[row[i]]++;
    memcpy(dense + row[i] * dim, part + i * dim, (size_t)dim * sizeof(double));
  }
  MPI_Allreduce(MPI_IN_PLACE, dense, (int)(rows * dim), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, seen, (int)rows, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
  if (wrong >= 0) return arena_text(arena, "sparse gradient: row %lld is not its owner's", (long long)wrong);
  for (int64_t r = 0; r < rows; r++)
    if (seen[r] > 1) return arena_text(arena, "sparse gradient: row %lld comes twice", (long long)r);
  golden_result_add(results, "grad_weight", rows * dim, dense, NULL);
  return NULL;
}

static const char *gather_winners(const golden_run_t *run, arena_t *arena, sbag_step_h step, int64_t count,
                                  golden_results_t *results) {
  sbag_status_t status = {0};
  int64_t *winner = arena_ints(arena, count);
  double *part = arena_doubles(arena, count);
  if (!agree(run, sbag_step_max_indices(step, 0, winner, &status), &status)) return failed(arena, &status);
  for (int64_t i = 0; i < count; i++) part[i] = (double)winner[i];
  add_gathered(run, arena, "max_indices", part, count, results);
  return NULL;
}

static const char *backward(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                            sbag_collection_h collection, sbag_step_h step, sbag_dtype_t dtype,
                            const double *grad_output, int64_t samples, int64_t entries,
                            golden_results_t *results) {
  sbag_status_t status = {0};
  double *weight_grad = arena_doubles(arena, entries);
  void *typed = arena_doubles(arena, entries), *grads[1] = {typed};
  void *grad = batch_typed(arena, grad_output, samples * lookup->table.dim, dtype);
  if (sbag_step_backward(step, grad, lookup->wants_weight_grads ? grads : NULL, &status) != SBAG_OK)
    return failed(arena, &status);
  if (lookup->wants_weight_grads) {
    batch_untyped(typed, entries, dtype, weight_grad);
    add_gathered(run, arena, "grad_per_sample_weights", weight_grad, entries, results);
  }
  return gather_gradient(run, arena, lookup, collection, step, dtype, results);
}

static const char *run_step(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                            sbag_collection_h collection, sbag_dtype_t dtype, double lr_factor,
                            sbag_step_h *step, golden_results_t *results) {
  sbag_status_t status = {0};
  draw_t draw = draw_start(1, (uint64_t)run->number);
  int64_t dim = lookup->table.dim, *first = arena_ints(arena, run->size + 1);
  batch_form_t form = lookup->form;
  form.dtype = dtype;
  batch_split(&draw, lookup->bags.bag_count, run->size, first);
  int64_t begin = first[run->rank], samples = first[run->rank + 1] - begin;
  sbag_bags_t bags = batch_slice(arena, &lookup->bags, begin, begin + samples, &form);
  int flags = lookup->wants_weight_grads ? SBAG_FORWARD_WEIGHT_GRADS : 0;
  void *out = arena_doubles(arena, samples * dim);
  double *pooled = arena_doubles(arena, samples * dim);
  if (sbag_collection_forward_begin(collection, &bags, flags, step, &status) != SBAG_OK ||
      sbag_step_forward_end(*step, out, &status) != SBAG_OK)
    return failed(arena, &status);
  batch_untyped(out, samples * dim, dtype, pooled);
  add_gathered(run, arena, "output", pooled, samples * dim, results);
  if (lookup->feature.mode == SBAG_MAX) {
    const char *wrong = gather_winners(run, arena, *step, samples * dim, results);
    if (wrong != NULL) return wrong;
  }
  const char *wrong = backward(run, arena, lookup, collection, *step, dtype,
                               lookup->grad_output + begin * dim, samples, bags.index_count, results);
  if (wrong != NULL) return wrong;
  if (!isnan(lr_factor) && sbag_step_update(*step, lr_factor, 1, &status) != SBAG_OK)
    return failed(arena, &status);
  return NULL;
}

const char *golden_step(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                        sbag_collection_h collection, sbag_dtype_t dtype, double lr_factor,
                        golden_results_t *results) {
  sbag_step_h step = NULL;
  const char *wrong = run_step(run, arena, lookup, collection, dtype, lr_factor, &step, results);
  sbag_step_release(&step);
  return wrong;
}

const char *golden_read_rows(const golden_run_t *run, arena_t *arena, sbag_collection_h collection,
                             sbag_dtype_t dtype, int64_t rows, int64_t width, int state, double *values) {
  sbag_status_t status = {0};
  int64_t *row = arena_ints(arena, rows), total;
  void *typed = arena_doubles(arena, rows * width);
  /* One rank asks for all, another one from case to case. */
  int64_t count = run->rank == run->number % run->size ? rows : 0;
  for (int64_t r = 0; r < rows; r++) row[r] = r;
  sbag_code_t code = state < 0 ? sbag_collection_read_rows(collection, 0, row, count, typed, &status)
                               : sbag_collection_read_state(collection, 0, state, row, count, typed, &status);
  if (code != SBAG_OK) return failed(arena, &status);
  double *part = arena_doubles(arena, rows * width);
  batch_untyped(typed, count * width, dtype, part);
  double *whole = gather(run, arena, part, count * width, &total);
  memcpy(values, whole, (size_t)(rows * width) * sizeof(double));
  return NULL;
}
