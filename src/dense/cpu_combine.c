/* What is combined element by element or row by row on the CPU: cross layers, first-order sums, a
 * factorisation machine. Every element, and every row's sum, is made by one thread in one order. */
#include "dense/cpu.h"

#include "dense/threads.h"

enum { LEAST = 1 << 14 }; /* elements that are worth a second thread */

void cpu_cross_forward(dense_t *dense, int64_t count, const float *x0, const float *z, const float *x,
                       float *out) {
  int threads = dense->kernel->threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && count > LEAST)
  for (int64_t i = 0; i < count; i++) out[i] = x0[i] * z[i] + x[i];
}

void cpu_cross_backward(dense_t *dense, int64_t count, const float *x0, const float *z, const float *out_grad,
                        float *dz, float *x0_grad) {
  int threads = dense->kernel->threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && count > LEAST)
  for (int64_t i = 0; i < count; i++) {
    dz[i] = x0[i] * out_grad[i];
    x0_grad[i] += z[i] * out_grad[i];
  }
}

void cpu_add(dense_t *dense, int64_t count, const float *x, float *y) {
  int threads = dense->kernel->threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && count > LEAST)
  for (int64_t i = 0; i < count; i++) y[i] += x[i];
}

void cpu_add_rows(dense_t *dense, int64_t rows, int64_t width, const float *x, int64_t x_stride, float *y) {
  (void)dense;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < width; k++) y[r] += x[r * x_stride + k];
}

void cpu_spread_rows(dense_t *dense, int64_t rows, int64_t width, const float *y, float *x,
                     int64_t x_stride) {
  (void)dense;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < width; k++) x[r * x_stride + k] = y[r];
}

/* ---- the factorisation machine ---- */

enum { STRIP = 64 }; /* columns whose sums are held at a time */

static int64_t strip_end(int64_t first, int64_t dim) {
  return first + STRIP < dim ? first + STRIP : dim;
}

/* The vectors' sum in columns [first, end). */
static void sum_vectors(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                        int64_t first, int64_t end, float *restrict sum) {
  for (int64_t k = first; k < end; k++) sum[k - first] = 0.0f;
  for (int v = 0; v < shape->vectors; v++) {
    const float *restrict value = vectors[v].data + row * vectors[v].data_stride;
    for (int64_t k = first; k < end; k++) sum[k - first] += value[k];
  }
}

/* Twice the products of all pairs: in each column the square of the sum less the sum of the squares. */
static float pairs_of_row(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row) {
  float sum[STRIP], total = 0.0f;
  for (int64_t first = 0; first < shape->dim; first += STRIP) {
    int64_t end = strip_end(first, shape->dim);
    sum_vectors(shape, vectors, row, first, end, sum);
    for (int64_t k = 0; k < end - first; k++) sum[k] *= sum[k];
    for (int v = 0; v < shape->vectors; v++) {
      const float *restrict value = vectors[v].data + row * vectors[v].data_stride;
      for (int64_t k = first; k < end; k++) sum[k - first] -= value[k] * value[k];
    }
    for (int64_t k = 0; k < end - first; k++) total += sum[k];
  }
  return total;
}

void cpu_fm_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                    int64_t first_row, int64_t rows, float *out) {
  int threads = dense_threads(dense->kernel->threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) out[r] += 0.5f * pairs_of_row(shape, vectors, first_row + r);
}

/* A vector's gradient is the sum of the others. */
static void pairs_grad_of_row(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                              int64_t grad_row, float out_grad) {
  float sum[STRIP];
  for (int64_t first = 0; first < shape->dim; first += STRIP) {
    int64_t end = strip_end(first, shape->dim);
    sum_vectors(shape, vectors, row, first, end, sum);
    for (int v = 0; v < shape->vectors; v++) {
      const float *restrict value = vectors[v].data + row * vectors[v].data_stride;
      float *restrict grad = vectors[v].grad + grad_row * vectors[v].grad_stride;
      for (int64_t k = first; k < end; k++) grad[k] += out_grad * (sum[k - first] - value[k]);
    }
  }
}

void cpu_fm_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                     int64_t first_row, int64_t rows, const float *out_grad) {
  int threads = dense_threads(dense->kernel->threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) pairs_grad_of_row(shape, vectors, first_row + r, r, out_grad[r]);
}
