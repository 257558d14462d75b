/* Ops on values (scalar): the template of cpu_real.inc for both dtypes, and the choice between them. */
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

static void cpu_gather_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                            const int64_t *index, int64_t count, void *to) {
  BY_DTYPE(gather, from, index, count, to);
}

static void cpu_scatter_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                             const int64_t *index, int64_t count, void *to) {
  BY_DTYPE(scatter, from, index, count, to);
}

static void cpu_fill_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, void *to, int64_t count,
                          double value) {
  BY_DTYPE(fill, to, count, value);
}

static void cpu_edge_weights(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype,
                             const edges_feature_t *features, int feature_count, const int64_t *first_entry,
                             const int64_t *entry, int64_t edge_count, void *weight) {
  BY_DTYPE(edge_weights, features, feature_count, first_entry, entry, edge_count, weight);
}

static void cpu_grad_terms(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const slot_map_t *map,
                           const grad_terms_t *terms) {
  BY_DTYPE(grad_terms, map, terms);
}

static void cpu_dot(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, int64_t dim, int64_t count,
                    const void *left, const int64_t *left_at, const void *right, const int64_t *right_at,
                    int64_t right_stride, void *dot) {
  BY_DTYPE(dot, dim, count, left, left_at, right, right_at, right_stride, dot);
}

static void cpu_frequency_scale(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype,
                                const int64_t *begin, int64_t segments, const int64_t *order,
                                const int64_t *feature, int feature_count, const int *by_freq, void *scale) {
  (void)feature_count;
  BY_DTYPE(frequency_scale, begin, segments, order, feature, by_freq, scale);
}

static void cpu_norm_squared(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *rows,
                             int64_t count, int64_t dim, exact_sum_t *sum, int64_t *non_finite) {
  BY_DTYPE(norm_squared, rows, count, dim, sum, non_finite);
}

static void cpu_init(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const init_task_t *task) {
  if (task->storage != SBAG_STORAGE_FULL) {
    cpu_narrow_init(k, stream, task);
    return;
  }
  BY_DTYPE(init, task);
}

static void cpu_scatter_rows(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                             const void *values, int64_t dim, const int64_t *rows, int64_t count,
                             void *weight) {
  (void)k, (void)stream;
  if (storage != SBAG_STORAGE_FULL) {
    cpu_narrow_scatter_rows(storage, values, dim, rows, count, weight);
    return;
  }
  size_t bytes = (size_t)dim * kernel_dtype_bytes(dtype);
  for (int64_t i = 0; i < count; i++)
    memcpy((char *)weight + (size_t)rows[i] * bytes, (const char *)values + (size_t)i * bytes, bytes);
}

static void cpu_gather_rows(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                            const void *weight, int64_t dim, const int64_t *rows, int64_t count,
                            void *values) {
  (void)k, (void)stream;
  if (storage != SBAG_STORAGE_FULL) {
    cpu_narrow_gather_rows(storage, weight, dim, rows, count, values);
    return;
  }
  size_t bytes = (size_t)dim * kernel_dtype_bytes(dtype);
  for (int64_t i = 0; i < count; i++)
    memcpy((char *)values + (size_t)i * bytes, (const char *)weight + (size_t)rows[i] * bytes, bytes);
}

static void cpu_renorm(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                       void *weight, int64_t dim, const int64_t *rows, int64_t count, double max_norm,
                       double norm_type, void *to) {
  if (storage != SBAG_STORAGE_FULL) {
    const renorm_rows_t by = {dim, rows, count, max_norm, norm_type};
    cpu_narrow_renorm(k, stream, storage, &by, weight, to);
    return;
  }
  BY_DTYPE(renorm, weight, dim, rows, count, max_norm, norm_type, to);
}

void cpu_real_ops(kernel_ops_t *ops) {
  ops->gather_real = cpu_gather_real;
  ops->scatter_real = cpu_scatter_real;
  ops->fill_real = cpu_fill_real;
  ops->edge_weights = cpu_edge_weights;
  ops->grad_terms = cpu_grad_terms;
  ops->dot = cpu_dot;
  ops->frequency_scale = cpu_frequency_scale;
  ops->norm_squared = cpu_norm_squared;
  ops->init = cpu_init;
  ops->scatter_rows = cpu_scatter_rows;
  ops->gather_rows = cpu_gather_rows;
  ops->renorm = cpu_renorm;
}
