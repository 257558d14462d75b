/* A bag case: forward, gradients, winners and renormalised weights, once in the dtype of the case and once in
 * float64. See golden_case.h. */
#include "golden_case.h"

#include <math.h>
#include <string.h>

static int is_input(const char *name) {
  static const char *const inputs[] = {"weight", "input", "offsets", "per_sample_weights", "grad_output"};
  for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++)
    if (strcmp(name, inputs[i]) == 0) return 1;
  return 0;
}

/* Integers are held against the run in the weight's own dtype. */
static int belongs_to(arena_t *arena, const golden_array_t *array, sbag_dtype_t native, sbag_dtype_t dtype) {
  sbag_dtype_t kept;
  golden_base_name(arena, array, &kept);
  return !is_input(array->name) && (array->integers != NULL ? native : kept) == dtype;
}

static const char *run_library(const golden_run_t *run, arena_t *arena, const golden_lookup_t *lookup,
                               sbag_dtype_t dtype, golden_results_t *results) {
  sbag_collection_h collection = NULL;
  const char *wrong = golden_collection(run, arena, lookup, NULL, dtype, &collection);
  if (wrong == NULL) wrong = golden_step(run, arena, lookup, collection, dtype, NAN, results);
  if (wrong == NULL) {
    double *after = arena_doubles(arena, lookup->table.rows * lookup->table.dim);
    wrong = golden_read_rows(run, arena, collection, dtype, lookup->table.rows, lookup->table.dim, -1, after);
    golden_result_add(results, "weight_after", lookup->table.rows * lookup->table.dim, after, NULL);
  }
  sbag_collection_destroy(&collection);
  return wrong;
}

static const char *run_dtype(const golden_run_t *run, arena_t *arena, const golden_group_t *group,
                             const golden_lookup_t *lookup, sbag_dtype_t native, sbag_dtype_t dtype) {
  golden_results_t oracle = {0}, results = {0};
  const char *wrong = NULL;
  golden_lookup_oracle(arena, lookup, &oracle);
  if (run->oracle)
    results = oracle;
  else
    wrong = run_library(run, arena, lookup, dtype, &results);
  for (int i = 0; wrong == NULL && i < results.count; i++) {
    const golden_result_t *measure = golden_result(&oracle, results.items[i].name);
    if (measure != NULL && measure->count == results.items[i].count) results.items[i].scale = measure->scale;
  }
  for (int i = 0; wrong == NULL && i < group->array_count; i++) {
    const golden_array_t *array = &group->arrays[i];
    if (!belongs_to(arena, array, native, dtype)) continue;
    double error = golden_number(group, arena_text(arena, "f32_abs_err_%s", array->name), 0);
    wrong = golden_compare(arena, "", array, &results, dtype, error);
  }
  return wrong;
}

const char *golden_bag_case(const golden_run_t *run, arena_t *arena, const golden_group_t *group) {
  golden_lookup_t lookup;
  const golden_array_t *weight = golden_array(group, "weight");
  if (weight->values == NULL) return "weight: is not floating point";
  sbag_dtype_t native = weight->bytes == 8 ? SBAG_F64 : SBAG_F32;
  const char *wrong = golden_lookup_read(arena, group, group, weight, &lookup);
  if (wrong == NULL && native == SBAG_F32 && !run->oracle)
    wrong = run_dtype(run, arena, group, &lookup, native, SBAG_F32);
  /* The oracle knows float64 alone; winners do not depend on the dtype. */
  if (wrong == NULL) wrong = run_dtype(run, arena, group, &lookup, run->oracle ? SBAG_F64 : native, SBAG_F64);
  return wrong;
}
