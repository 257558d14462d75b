/* A linear layer with an optional ReLU and dropout, forward and backward.
 *
 * What comes in: samples by rows. What goes out: activations, and the gradients of weight, bias and input. A
 * row's activation is a function of that row alone; only the parameters' gradients sum over rows. */
#ifndef MODEL_DENSE_H
#define MODEL_DENSE_H

#include "model/gemm.h"
#include <stdint.h>

/* Which units of which samples are dropped: a function of (key, step, global sample, unit) alone. */
typedef struct dropout {
  uint64_t key;
  uint32_t threshold; /* a unit is dropped if its random word is below; 0 = off */
  float scale;        /* of the units kept: 1 / (1 - p); 1 where off */
  int64_t step;
  int64_t first_sample; /* the global number of row 0 */
} dropout_t;

/* p in [0, 1); 0 gives an inactive one. */
dropout_t dropout_make(double p, uint64_t key, int64_t step, int64_t first_sample);

typedef struct linear {
  int64_t in, out;
  const float *weight; /* [out][in] */
  const float *bias;   /* [out], or NULL */
  float *weight_grad;  /* as weight; overwritten by backward */
  float *bias_grad;    /* as bias */
  int relu;            /* dropout needs it: backward knows a dropped unit by its zero */
} linear_t;

/* y [rows][out] = dropout(relu(x W^T + b)). x: [rows][in], x_stride floats from row to row. NaN goes through.
 */
void linear_forward(const gemm_ops_t *gemm, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                    const float *x, int64_t x_stride, float *y);

/* y as forward left it. dy [rows][out]: gradient of y, overwritten. dx: [rows][in] with its stride, or NULL
 * if nobody asks. rows may be 0: the parameters' gradients are zero then. */
void linear_backward(const gemm_ops_t *gemm, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                     const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                     int64_t dx_stride);

#endif
