/* Linear layers on the CPU: one matrix product and one pass over its result each way. */
#include "dense/cpu.h"

#include "base/random.h"
#include <stddef.h>
#include <string.h>

static void bias_relu(const linear_t *layer, float *restrict y) {
  const float *restrict bias = layer->bias;
  if (bias != NULL)
    for (int64_t j = 0; j < layer->out; j++) y[j] += bias[j];
  if (layer->relu)
    for (int64_t j = 0; j < layer->out; j++) y[j] = y[j] < 0.0f ? 0.0f : y[j]; /* keeps NaN, as torch */
}

static void drop(const dropout_t *dropout, int64_t row, int64_t units, float *y) {
  uint64_t blocks = (uint64_t)(units + 3) / 4;
  uint64_t first = (uint64_t)(dropout->first_sample + row) * blocks;
  for (uint64_t b = 0; b < blocks; b++) {
    random_block_t word = random_block(dropout->key, (uint64_t)dropout->step, first + b);
    for (int64_t j = (int64_t)b * 4; j < units && j < (int64_t)b * 4 + 4; j++)
      y[j] = word.v[j % 4] < dropout->threshold ? 0.0f : y[j] * dropout->scale;
  }
}

void cpu_linear_forward(const gemm_ops_t *gemm, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                        const float *x, int64_t x_stride, float *y) {
  gemm->nt(rows, layer->out, layer->in, x, x_stride, layer->weight, layer->in, y, layer->out);
  if (layer->bias == NULL && !layer->relu) return;
  for (int64_t i = 0; i < rows; i++) {
    bias_relu(layer, y + i * layer->out);
    if (dropout->threshold > 0) drop(dropout, i, layer->out, y + i * layer->out);
  }
}

/* A zero after ReLU and dropout was either negative, or dropped: no gradient passes in both cases. */
static void relu_grad(const linear_t *layer, float scale, const float *restrict y, float *restrict dy) {
  for (int64_t j = 0; j < layer->out; j++) dy[j] = y[j] > 0.0f ? dy[j] * scale : 0.0f;
}

void cpu_linear_backward(const gemm_ops_t *gemm, const linear_t *layer, const dropout_t *dropout,
                         int64_t rows, const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                         int64_t dx_stride) {
  if (layer->bias != NULL) memset(layer->bias_grad, 0, (size_t)layer->out * sizeof(float));
  for (int64_t i = 0; i < rows && (layer->relu || layer->bias != NULL); i++) {
    float *restrict row = dy + i * layer->out;
    if (layer->relu) relu_grad(layer, dropout->scale, y + i * layer->out, row);
    float *restrict sum = layer->bias_grad;
    if (layer->bias != NULL)
      for (int64_t j = 0; j < layer->out; j++) sum[j] += row[j];
  }
  gemm->tn(layer->out, layer->in, rows, dy, layer->out, x, x_stride, layer->weight_grad, layer->in);
  if (dx != NULL)
    gemm->nn(rows, layer->in, layer->out, dy, layer->out, layer->weight, layer->in, dx, dx_stride);
}
