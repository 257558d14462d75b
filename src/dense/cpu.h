/* The CPU's dense ops, by file. The linear layers take their matrix products from a table, see gemm.h. */
#ifndef DENSE_CPU_H
#define DENSE_CPU_H

#include "dense/dense.h"
#include "dense/gemm.h"

sbag_code_t dense_cpu_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status);

/* What dense_ops_t says of each. */
void cpu_linear_forward(const gemm_ops_t *gemm, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                        const float *x, int64_t x_stride, float *y);
void cpu_linear_backward(const gemm_ops_t *gemm, const linear_t *layer, const dropout_t *dropout,
                         int64_t rows, const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                         int64_t dx_stride);
void cpu_interaction_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                             int64_t first_row, int64_t rows, float *out);
void cpu_interaction_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                              int64_t first_row, int64_t rows, const float *out_grad);
void cpu_loss(dense_t *dense, int64_t samples, const float *logits, const float *labels, double grad_scale,
              float *grad, double *sum);

#endif
