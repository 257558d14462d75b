/* The CPU's dense ops, by file. The linear layers take their matrix products from a table, see gemm.h. */
#ifndef DENSE_CPU_H
#define DENSE_CPU_H

#include "dense/dense.h"
#include "dense/gemm.h"

/* Who works: the threads are the kernel's own, and each calls the products for a part of its own. How the
 * work is cut does not depend on their number. */
typedef struct dense_team {
  const gemm_ops_t *gemm;
  int threads;
} dense_team_t;

/* The dot interaction of one sample. */
typedef void cpu_pairs_fn(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                          float *out);
/* Adds its gradient to every vector's. */
typedef void cpu_pairs_grad_fn(const interaction_t *shape, const interaction_vector_t *vectors, int64_t row,
                               int64_t grad_row, const float *pair_grad);
typedef struct cpu_pairs {
  cpu_pairs_fn *forward;
  cpu_pairs_grad_fn *backward;
} cpu_pairs_t;

typedef struct dense_cpu {
  dense_t base;
  dense_team_t team;
  cpu_pairs_t pairs;
} dense_cpu_t;

sbag_code_t dense_cpu_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status);

/* What dense_ops_t says of each. */
void cpu_linear_forward(const dense_team_t *team, const linear_t *layer, const dropout_t *dropout,
                        int64_t rows, const float *x, int64_t x_stride, float *y);
void cpu_linear_backward(const dense_team_t *team, const linear_t *layer, const dropout_t *dropout,
                         int64_t rows, const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                         int64_t dx_stride);
void cpu_interaction_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                             int64_t first_row, int64_t rows, float *out);
void cpu_interaction_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                              int64_t first_row, int64_t rows, const float *out_grad);
void cpu_cross_forward(dense_t *dense, int64_t count, const float *x0, const float *z, const float *x,
                       float *out);
void cpu_cross_backward(dense_t *dense, int64_t count, const float *x0, const float *z, const float *out_grad,
                        float *dz, float *x0_grad);
void cpu_add(dense_t *dense, int64_t count, const float *x, float *y);
void cpu_add_rows(dense_t *dense, int64_t rows, int64_t width, const float *x, int64_t x_stride, float *y);
void cpu_spread_rows(dense_t *dense, int64_t rows, int64_t width, const float *y, float *x, int64_t x_stride);
void cpu_fm_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                    int64_t first_row, int64_t rows, float *out);
void cpu_fm_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                     int64_t first_row, int64_t rows, const float *out_grad);
void cpu_loss(dense_t *dense, int64_t samples, const float *logits, const float *labels, const float *weights,
              double grad_scale, float *grad, double *sum);

void cpu_softmax_loss(dense_t *dense, int64_t rows, int64_t classes, const float *logits, const float *labels,
                      const float *weights, double grad_scale, double *losses, float *grads, double *sum);
void cpu_match_forward(dense_t *dense, const match_shape_t *shape, int64_t rows, const float *pooled,
                       float *out);
void cpu_match_loss(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                    const float *pooled, const float *out, double *losses, float *score_grads, double *sum);
void cpu_match_backward(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets,
                        int64_t rows, const float *pooled, const float *out, const float *score_grads,
                        float *pooled_grad);

/* The pairs in the order of lanes.h; and by whole registers in two instruction sets, for shapes of
 * at most CPU_WIDE_VECTORS vectors of CPU_WIDE_DIM values. */
enum { CPU_WIDE_VECTORS = 64, CPU_WIDE_DIM = 256 };
cpu_pairs_t cpu_pairs_lanes(void);
cpu_pairs_t cpu_pairs_avx2(void);
cpu_pairs_t cpu_pairs_avx512(void);

#endif
