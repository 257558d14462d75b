/* Dot products of all pairs of a sample's vectors, in the order of lanes.h: the same bits for any batch. */
#include "dense/cpu.h"

#include "dense/lanes.h"
#include <string.h>

static const float *value_at(const interaction_vector_t *vector, int64_t row) {
  return vector->data + row * vector->data_stride;
}

static float *grad_at(const interaction_vector_t *vector, int64_t row) {
  return vector->grad + row * vector->grad_stride;
}

static void pairs_of_sample(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
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

void cpu_interaction_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                             int64_t first_row, int64_t rows, float *out) {
  (void)dense;
  int64_t dim = shape->dim, width = interaction_width(shape);
  for (int64_t r = 0; r < rows; r++, out += width) {
    for (int c = 0; c < shape->concat; c++)
      memcpy(out + c * dim, value_at(&vectors[c], first_row + r), (size_t)dim * sizeof *out);
    pairs_of_sample(shape, vectors, first_row + r, out + shape->concat * dim);
  }
}

static void pairs_grad_of_sample(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                                 int64_t grad_row, const float *pair_grad) {
  for (int i = 1; i < shape->vectors; i++)
    for (int j = 0; j < i; j++, pair_grad++) {
      lanes_axpy(*pair_grad, value_at(&vectors[j], row), shape->dim, grad_at(&vectors[i], grad_row));
      lanes_axpy(*pair_grad, value_at(&vectors[i], row), shape->dim, grad_at(&vectors[j], grad_row));
    }
}

void cpu_interaction_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                              int64_t first_row, int64_t rows, const float *out_grad) {
  (void)dense;
  int64_t dim = shape->dim, width = interaction_width(shape);
  for (int64_t r = 0; r < rows; r++, out_grad += width) {
    for (int v = 0; v < shape->vectors; v++) {
      float *grad = grad_at(&vectors[v], r);
      if (v < shape->concat)
        memcpy(grad, out_grad + v * dim, (size_t)dim * sizeof *grad);
      else
        memset(grad, 0, (size_t)dim * sizeof *grad);
    }
    pairs_grad_of_sample(shape, vectors, first_row + r, r, out_grad + shape->concat * dim);
  }
}
