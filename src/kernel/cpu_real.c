/* Ops on values: the template of cpu_real.inc for both dtypes, the choice between them, and what each thread
 * does of an op's items, none of which depends on another. */
#include "kernel/cpu.h"

#include <math.h>
#include <string.h>

#define REAL     float
#define NAME(fn) fn##_f32
#include "kernel/cpu_real.inc"
#undef REAL
#undef NAME

#define REAL     double
#define NAME(fn) fn##_f64
#include "kernel/cpu_real.inc"

/* Calls the dtype's instance. */
#define BY_DTYPE(fn, ...)                                                                                    \
  do {                                                                                                       \
    (void)k, (void)stream;                                                                                   \
    if (dtype == SBAG_F64)                                                                                   \
      fn##_f64(__VA_ARGS__);                                                                                 \
    else                                                                                                     \
      fn##_f32(__VA_ARGS__);                                                                                 \
  } while (0)

static char *element(const void *array, sbag_dtype_t dtype, int64_t i) {
  return (char *)(uintptr_t)array + (size_t)i * kernel_dtype_bytes(dtype);
}

static void cpu_gather_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                            const int64_t *index, int64_t count, void *to) {
  const int parts = cpu_parts(k, count * (int64_t)sizeof *index);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++) {
    const int64_t first = cpu_part(count, p, parts), n = cpu_part(count, p + 1, parts) - first;
    BY_DTYPE(gather, from, index + first, n, element(to, dtype, first));
  }
}

static void cpu_scatter_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                             const int64_t *index, int64_t count, void *to) {
  const int parts = cpu_parts(k, count * (int64_t)sizeof *index);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++) {
    const int64_t first = cpu_part(count, p, parts), n = cpu_part(count, p + 1, parts) - first;
    BY_DTYPE(scatter, element(from, dtype, first), index + first, n, to);
  }
}

static void cpu_edge_weights(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype,
                             const edges_feature_t *features, int feature_count, const int64_t *first_entry,
                             const int64_t *entry, int64_t edge_count, void *weight) {
  const int parts = cpu_parts(k, edge_count * (int64_t)sizeof *entry);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++)
    BY_DTYPE(edge_weights, features, feature_count, first_entry, entry, cpu_part(edge_count, p, parts),
             cpu_part(edge_count, p + 1, parts), weight);
}

static void cpu_grad_terms(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const slot_map_t *map,
                           const grad_terms_t *terms) {
  const int parts = cpu_parts(k, terms->count * (int64_t)sizeof *terms->slot);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++)
    BY_DTYPE(grad_terms, map, terms, cpu_part(terms->count, p, parts), cpu_part(terms->count, p + 1, parts));
}

static void cpu_dot(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, int64_t dim, int64_t count,
                    const void *left, const int64_t *left_at, const void *right, const int64_t *right_at,
                    int64_t right_stride, void *dot) {
  const int parts = cpu_parts(k, count * dim * (int64_t)kernel_dtype_bytes(dtype));
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++) {
    const int64_t first = cpu_part(count, p, parts), n = cpu_part(count, p + 1, parts) - first;
    BY_DTYPE(dot, dim, n, left, left_at + first, right, right_at + first, right_stride,
             element(dot, dtype, first));
  }
}

static void cpu_frequency_scale(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype,
                                const int64_t *begin, int64_t segments, const int64_t *order,
                                const int64_t *feature, int feature_count, const int *by_freq, void *scale) {
  (void)feature_count;
  BY_DTYPE(frequency_scale, begin, segments, order, feature, by_freq, scale);
}

static void cpu_norm_squared(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *rows,
                             int64_t count, int64_t dim, exact_sum_t *sum, int64_t *non_finite) {
  const int parts = cpu_parts(k, count * dim * (int64_t)kernel_dtype_bytes(dtype));
  exact_sum_carry(sum);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++) {
    const int64_t first = cpu_part(count, p, parts), n = cpu_part(count, p + 1, parts) - first;
    exact_sum_t part;
    int64_t bad = 0;
    exact_sum_clear(&part);
    BY_DTYPE(norm_squared, element(rows, dtype, first * dim), n, dim, &part, &bad);
    exact_sum_carry(&part);
    for (int d = 0; d < EXACT_SUM_DIGITS; d++) {
#pragma omp atomic
      sum->digit[d] += part.digit[d];
    }
#pragma omp atomic
    *non_finite += bad;
  }
  exact_sum_carry(sum);
}

static void cpu_scatter_rows(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                             const void *values, int64_t dim, const int64_t *rows, int64_t count,
                             void *weight) {
  (void)k, (void)stream;
  if (kernel_is_quantised(storage)) {
    cpu_quant_scatter_rows(k, storage, values, dim, rows, count, weight);
    return;
  }
  if (storage != SBAG_STORAGE_FULL) {
    cpu_narrow_scatter_rows(storage, values, dim, rows, count, weight);
    return;
  }
  const size_t bytes = (size_t)dim * kernel_dtype_bytes(dtype);
  const int parts = cpu_parts(k, count * (int64_t)bytes);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++)
    for (int64_t i = cpu_part(count, p, parts); i < cpu_part(count, p + 1, parts); i++)
      memcpy((char *)weight + (size_t)rows[i] * bytes, (const char *)values + (size_t)i * bytes, bytes);
}

static void cpu_gather_rows(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                            const void *weight, int64_t dim, const int64_t *rows, int64_t count,
                            void *values) {
  (void)k, (void)stream;
  if (kernel_is_quantised(storage)) {
    cpu_quant_gather_rows(k, storage, weight, dim, rows, count, values);
    return;
  }
  if (storage != SBAG_STORAGE_FULL) {
    cpu_narrow_gather_rows(storage, weight, dim, rows, count, values);
    return;
  }
  const size_t bytes = (size_t)dim * kernel_dtype_bytes(dtype);
  const int parts = cpu_parts(k, count * (int64_t)bytes);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++)
    for (int64_t i = cpu_part(count, p, parts); i < cpu_part(count, p + 1, parts); i++)
      memcpy((char *)values + (size_t)i * bytes, (const char *)weight + (size_t)rows[i] * bytes, bytes);
}

static void cpu_renorm(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                       void *weight, int64_t dim, const int64_t *rows, int64_t count, double max_norm,
                       double norm_type, void *to) {
  const renorm_rows_t by = {dim, rows, count, max_norm, norm_type};
  if (kernel_is_quantised(storage)) {
    cpu_quant_renorm(k, storage, &by, weight, to);
    return;
  }
  if (storage != SBAG_STORAGE_FULL) {
    cpu_narrow_renorm(k, stream, storage, &by, weight, to);
    return;
  }
  const int parts = cpu_parts(k, count * dim * (int64_t)kernel_dtype_bytes(dtype));
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++) {
    const int64_t first = cpu_part(count, p, parts), n = cpu_part(count, p + 1, parts) - first;
    BY_DTYPE(renorm, weight, dim, rows + first, n, max_norm, norm_type,
             to != NULL ? element(to, dtype, first * dim) : NULL);
  }
}

void cpu_real_ops(kernel_ops_t *ops) {
  ops->gather_real = cpu_gather_real;
  ops->scatter_real = cpu_scatter_real;
  ops->edge_weights = cpu_edge_weights;
  ops->grad_terms = cpu_grad_terms;
  ops->dot = cpu_dot;
  ops->frequency_scale = cpu_frequency_scale;
  ops->norm_squared = cpu_norm_squared;
  ops->scatter_rows = cpu_scatter_rows;
  ops->gather_rows = cpu_gather_rows;
  ops->renorm = cpu_renorm;
}
