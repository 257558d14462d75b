/* Dot products of all pairs of a sample's vectors, sample by sample: what is the same for all ways to take
 * them, and the way whose bits are the same on any processor, in the order of lanes.h. */
#include "dense/cpu.h"

#include "dense/lanes.h"
#include "dense/threads.h"
#include <string.h>

static const float *value_at(const interaction_vector_t *vector, int64_t row) {
  return vector->data + row * vector->data_stride;
}

static float *grad_at(const interaction_vector_t *vector, int64_t row) {
  return vector->grad + row * vector->grad_stride;
}

static void pairs_lanes(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                        float *out) {
  for (int i = 1; i < shape->vectors; i++) {
    const float *vi = value_at(&vectors[i], row);
    int j = 0;
    for (; j + 4 <= i; j += 4, out += 4) {
      const float *four[4] = {value_at(&vectors[j], row), value_at(&vectors[j + 1], row),
                              value_at(&vectors[j + 2], row), value_at(&vectors[j + 3], row)};
      lanes_dot4(vi, four, shape->dim, out);
    }
    for (; j < i; j++) *out++ = lanes_dot(vi, value_at(&vectors[j], row), shape->dim);
  }
}

static void pairs_grad_lanes(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                             int64_t grad_row, const float *pair_grad) {
  for (int i = 1; i < shape->vectors; i++)
    for (int j = 0; j < i; j++, pair_grad++) {
      lanes_axpy(*pair_grad, value_at(&vectors[j], row), shape->dim, grad_at(&vectors[i], grad_row));
      lanes_axpy(*pair_grad, value_at(&vectors[i], row), shape->dim, grad_at(&vectors[j], grad_row));
    }
}

cpu_pairs_t cpu_pairs_lanes(void) {
  return (cpu_pairs_t){pairs_lanes, pairs_grad_lanes};
}

static cpu_pairs_t pairs_of(const dense_t *dense, const interaction_t *shape) {
  int fits = shape->vectors <= CPU_WIDE_VECTORS && shape->dim <= CPU_WIDE_DIM;
  return fits ? ((const dense_cpu_t *)dense)->pairs : cpu_pairs_lanes();
}

void cpu_interaction_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                             int64_t first_row, int64_t rows, float *out) {
  int64_t dim = shape->dim, width = interaction_width(shape);
  cpu_pairs_t pairs = pairs_of(dense, shape);
  int threads = dense_threads(dense->kernel->threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    float *to = out + r * width;
    for (int c = 0; c < shape->concat; c++)
      memcpy(to + c * dim, value_at(&vectors[c], first_row + r), (size_t)dim * sizeof *to);
    if (!shape->concat_only) pairs.forward(shape, vectors, first_row + r, to + shape->concat * dim);
  }
}

void cpu_interaction_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                              int64_t first_row, int64_t rows, const float *out_grad) {
  int64_t dim = shape->dim, width = interaction_width(shape);
  cpu_pairs_t pairs = pairs_of(dense, shape);
  int threads = dense_threads(dense->kernel->threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    const float *from = out_grad + r * width;
    for (int v = 0; v < shape->vectors; v++) {
      float *grad = grad_at(&vectors[v], r);
      if (v < shape->concat)
        memcpy(grad, from + v * dim, (size_t)dim * sizeof *grad);
      else
        memset(grad, 0, (size_t)dim * sizeof *grad);
    }
    if (!shape->concat_only) pairs.backward(shape, vectors, first_row + r, r, from + shape->concat * dim);
  }
}
