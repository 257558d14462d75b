/* Holds what was computed against what a peer computed. See golden_case.h. */
#include "golden_case.h"

#include <float.h>
#include <math.h>
#include <string.h>

void golden_result_add(golden_results_t *results, const char *name, int64_t count, double *values,
                       double *scale) {
  results->items[results->count++] = (golden_result_t){name, count, values, scale};
}

const golden_result_t *golden_result(const golden_results_t *results, const char *name) {
  for (int i = 0; i < results->count; i++)
    if (strcmp(results->items[i].name, name) == 0) return &results->items[i];
  return NULL;
}

const char *golden_base_name(arena_t *arena, const golden_array_t *array, sbag_dtype_t *dtype) {
  char *name = arena_text(arena, "%s", array->name);
  size_t length = strlen(name);
  *dtype = array->values != NULL && array->bytes == 8 ? SBAG_F64 : SBAG_F32;
  if (length > 4 && strcmp(name + length - 4, "_f64") == 0) name[length - 4] = '\0';
  return name;
}

/* A float32 result may miss by a few times what the peer's own float32 missed, and by the rounding of sums in
 * another order, which the magnitude of the terms bounds. Float64 has the peers' agreement of 1e-9. */
static double tolerance(sbag_dtype_t dtype, double expected, double scale, double error) {
  if (!isfinite(scale)) scale = fabs(expected);
  if (dtype == SBAG_F64) return 1e-9 * fabs(expected) + 1e-12 * scale;
  return 4 * (error > 0 ? error : 0) + 4 * (double)FLT_EPSILON * (scale + fabs(expected)) + 4 * 0x1p-149;
}

static int same(double expected, double got, double allowed) {
  if (isnan(expected) || isnan(got)) return isnan(expected) && isnan(got);
  if (isinf(expected) || isinf(got)) return expected == got;
  return fabs(expected - got) <= allowed;
}

static double largest(const golden_result_t *result) {
  double most = 0;
  for (int64_t i = 0; i < result->count; i++)
    if (isfinite(result->values[i])) most = fmax(most, fabs(result->values[i]));
  return most;
}

const char *golden_compare(arena_t *arena, const char *where, const golden_array_t *expected,
                           const golden_results_t *results, sbag_dtype_t dtype, double error) {
  sbag_dtype_t kept;
  const golden_result_t *got = golden_result(results, golden_base_name(arena, expected, &kept));
  if (got == NULL) return arena_text(arena, "%s%s: nothing of that name is computed", where, expected->name);
  if (got->count != expected->count)
    return arena_text(arena, "%s%s: has %lld values, not %lld", where, expected->name,
                      (long long)expected->count, (long long)got->count);
  double one_scale = got->scale == NULL ? largest(got) : 0;
  for (int64_t i = 0; i < expected->count; i++) {
    double value = expected->integers != NULL ? (double)expected->integers[i] : expected->values[i];
    double allowed = tolerance(dtype, value, got->scale == NULL ? one_scale : got->scale[i], error);
    if (expected->integers != NULL) allowed = 0;
    if (!same(value, got->values[i], allowed))
      return arena_text(arena, "%s%s[%lld][%lld]: expected %.17g, got %.17g (%s, tolerance %.3g)", where,
                        expected->name, (long long)(i / expected->width), (long long)(i % expected->width),
                        value, got->values[i], dtype == SBAG_F64 ? "float64" : "float32", allowed);
  }
  return NULL;
}
