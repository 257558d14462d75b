/* DLRM's dot interaction: of the vectors v_0 ... v_{n-1} of a sample, each of `dim` values, the dot products
 * of all pairs, behind the first `concat` vectors themselves.
 *
 * The vectors are read where they lie (columns of the pooled output, the bottom MLP's output, a projection's
 * output) and their gradients are written where they are needed: nothing is gathered or transposed. */
#ifndef MODEL_INTERACTION_H
#define MODEL_INTERACTION_H

#include <stdint.h>

/* One vector of every sample: sample i's begins at data + i * stride. */
typedef struct interaction_vector {
  const float *data;
  float *grad;
  int64_t data_stride, grad_stride;
} interaction_vector_t;

typedef struct interaction {
  int vectors, concat; /* concat <= vectors */
  int64_t dim;
} interaction_t;

/* Values a sample: concat * dim + vectors * (vectors - 1) / 2. */
int64_t interaction_width(const interaction_t *shape);

/* out: [rows][width]: the first `concat` vectors, then v_i . v_j at place i (i - 1) / 2 + j for j < i (the
 * strict lower triangle of V V^T by rows). `first_row`: the row of the vectors that out's row 0 belongs to.
 */
void interaction_forward(const interaction_t *shape, const interaction_vector_t *vectors, int64_t first_row,
                         int64_t rows, float *out);

/* out_grad: [rows][width]. Writes (not adds) every vector's gradient: that of out_grad's row i at grad + i *
 * grad_stride. */
void interaction_backward(const interaction_t *shape, const interaction_vector_t *vectors, int64_t first_row,
                          int64_t rows, const float *out_grad);

#endif
