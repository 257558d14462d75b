/* A batch out of a file, and what the oracle makes of it. See golden_case.h. */
#include "golden_case.h"

#include <math.h>
#include <string.h>

static const char *read_mode(arena_t *arena, const char *text, sbag_mode_t *mode) {
  static const char *const names[] = {[SBAG_SUM] = "sum", [SBAG_MEAN] = "mean", [SBAG_MAX] = "max"};
  for (int i = 0; i < 3; i++)
    if (strcmp(text, names[i]) == 0) {
      *mode = (sbag_mode_t)i;
      return NULL;
    }
  return arena_text(arena, "mode '%s' is none of sum, mean, max", text);
}

/* CSR with the last offset, whatever form the file has. */
static const char *read_offsets(arena_t *arena, const golden_array_t *input, const golden_array_t *offsets,
                                golden_lookup_t *lookup) {
  oracle_bags_t *bags = &lookup->bags;
  int last = lookup->form.include_last_offset;
  int64_t stored = lookup->form.two_d ? 0 : offsets->count;
  if (!lookup->form.two_d && last && stored < 1) return "offsets: has no last offset";
  bags->bag_count = lookup->form.two_d ? input->rows : stored - (last ? 1 : 0);
  int64_t *ends = arena_ints(arena, bags->bag_count + 1);
  for (int64_t bag = 0; bag < bags->bag_count; bag++)
    ends[bag] = lookup->form.two_d ? bag * input->width : offsets->integers[bag];
  ends[bags->bag_count] = input->count;
  for (int64_t bag = 0; bag < bags->bag_count; bag++)
    if (ends[bag] < 0 || ends[bag] > ends[bag + 1]) return "offsets: decrease or leave the input";
  if (ends[0] != 0) return "offsets: do not begin with 0";
  lookup->form.bag_length = input->width;
  bags->offsets = ends;
  return NULL;
}

static void read_attributes(const golden_group_t *group, golden_lookup_t *lookup) {
  lookup->feature.has_padding = (int)golden_number(group, "has_padding_idx", 0);
  lookup->feature.padding = (int64_t)golden_number(group, "padding_idx", 0);
  lookup->feature.scale_by_freq = (int)golden_number(group, "scale_grad_by_freq", 0);
  lookup->has_max_norm = (int)golden_number(group, "has_max_norm", 0);
  lookup->max_norm = golden_number(group, "max_norm", 0);
  lookup->norm_type = golden_number(group, "norm_type", 2);
  lookup->form.two_d = (int)golden_number(group, "two_d", 0);
  lookup->form.include_last_offset = (int)golden_number(group, "include_last_offset", 0);
}

const char *golden_lookup_read(arena_t *arena, const golden_group_t *group, const golden_group_t *data,
                               const golden_array_t *weight, golden_lookup_t *lookup) {
  const golden_array_t *input = golden_array(data, "input"), *offsets = golden_array(data, "offsets");
  const golden_array_t *gradient = golden_array(data, "grad_output");
  const golden_array_t *weights = golden_array(data, "per_sample_weights");
  *lookup = (golden_lookup_t){.table = {weight->rows, weight->width, NULL}};
  read_attributes(group, lookup);
  const char *wrong = read_mode(arena, golden_text(group, "mode"), &lookup->feature.mode);
  if (wrong != NULL) return wrong;
  if (input == NULL || input->integers == NULL) return "input: is missing or not of integers";
  if (!lookup->form.two_d && (offsets == NULL || offsets->integers == NULL))
    return "offsets: is missing or not of integers";
  if (gradient == NULL || gradient->values == NULL) return "grad_output: is missing or not floating point";
  wrong = read_offsets(arena, input, offsets, lookup);
  if (wrong != NULL) return wrong;
  if (gradient->count != lookup->bags.bag_count * weight->width) return "grad_output: has a wrong shape";
  lookup->grad_output = gradient->values;
  lookup->form.index_type = input->bytes == 4 ? SBAG_I32 : SBAG_I64;
  lookup->bags.indices = input->integers;
  if (golden_number(group, "has_per_sample_weights", 0) != 0) {
    if (weights == NULL || weights->values == NULL || weights->count != input->count)
      return "per_sample_weights: is missing or has a wrong shape";
    lookup->bags.weights = weights->values;
    lookup->wants_weight_grads = (int)golden_number(group, "psw_requires_grad", 0);
  }
  lookup->table.weight = arena_doubles(arena, weight->count);
  memcpy(lookup->table.weight, weight->values, (size_t)weight->count * sizeof(double));
  return NULL;
}

/* Rounding of a renormalised value is measured by the value before. */
static double *magnitudes(arena_t *arena, const double *values, int64_t count) {
  double *scale = arena_doubles(arena, count);
  for (int64_t i = 0; i < count; i++) scale[i] = fabs(values[i]);
  return scale;
}

void golden_lookup_oracle(arena_t *arena, const golden_lookup_t *lookup, golden_results_t *results) {
  oracle_table_t table = lookup->table;
  int64_t cells = table.rows * table.dim, pooled = lookup->bags.bag_count * table.dim;
  int64_t entries = lookup->bags.offsets[lookup->bags.bag_count];
  double *before = magnitudes(arena, table.weight, cells);
  double *out = arena_doubles(arena, pooled), *out_scale = arena_doubles(arena, pooled);
  double *grad = arena_doubles(arena, cells), *grad_scale = arena_doubles(arena, cells);
  double *weight_grad = arena_doubles(arena, entries), *weight_scale = arena_doubles(arena, entries);
  double *winners = arena_doubles(arena, pooled);
  int64_t *winner = arena_ints(arena, pooled);
  table.weight = arena_doubles(arena, cells);
  memcpy(table.weight, lookup->table.weight, (size_t)cells * sizeof(double));
  if (lookup->has_max_norm)
    oracle_renorm(&table, lookup->bags.indices, entries, lookup->max_norm, lookup->norm_type);
  oracle_forward(&table, &lookup->feature, &lookup->bags, out, out_scale, winner);
  oracle_backward(&table, &lookup->feature, &lookup->bags, lookup->grad_output, grad, grad_scale,
                  arena_ints(arena, table.rows), weight_grad, weight_scale);
  for (int64_t i = 0; i < pooled; i++) winners[i] = (double)winner[i];
  golden_result_add(results, "output", pooled, out, out_scale);
  golden_result_add(results, "grad_weight", cells, grad, grad_scale);
  golden_result_add(results, "weight_after", cells, table.weight, before);
  if (lookup->wants_weight_grads)
    golden_result_add(results, "grad_per_sample_weights", entries, weight_grad, weight_scale);
  if (lookup->feature.mode == SBAG_MAX) golden_result_add(results, "max_indices", pooled, winners, NULL);
}
