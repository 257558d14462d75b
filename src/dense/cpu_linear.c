/* Linear layers on the CPU, by blocks of rows that stay in the cache: the product, and bias, ReLU and dropout
 * on its result while that is near. Backward likewise; the parameters' gradients by blocks of the layer's
 * units. */
#include "dense/cpu.h"

#include "base/random.h"
#include "dense/threads.h"
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

/* Rows, and units, of a block: large enough for the product to be fast. Bits depend on them, not on the
 * threads. */
enum { BLOCK_ROWS = 512, BLOCK_UNITS = 128 };

static int64_t block_end(int64_t begin, int64_t size, int64_t count) {
  return begin + size < count ? begin + size : count;
}

void cpu_linear_forward(const dense_team_t *team, const linear_t *layer, const dropout_t *dropout,
                        int64_t rows, const float *x, int64_t x_stride, float *y) {
  int threads = team->threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && rows > BLOCK_ROWS)
  for (int64_t begin = 0; begin < rows; begin += BLOCK_ROWS) {
    int64_t end = block_end(begin, BLOCK_ROWS, rows);
    float *out = y + begin * layer->out;
    team->gemm->nt(end - begin, layer->out, layer->in, x + begin * x_stride, x_stride, layer->weight,
                   layer->in, out, layer->out);
    if (layer->bias == NULL && !layer->relu) continue;
    for (int64_t i = begin; i < end; i++, out += layer->out) {
      bias_relu(layer, out);
      if (dropout->threshold > 0) drop(dropout, i, layer->out, out);
    }
  }
}

/* A zero after ReLU and dropout was either negative, or dropped: no gradient passes in both cases. By a
 * mask: a branch would be guessed wrong half the time. */
static void relu_grad(const linear_t *layer, float scale, const float *restrict y, float *restrict dy) {
  for (int64_t j = 0; j < layer->out; j++) {
    float scaled = dy[j] * scale;
    uint32_t bits;
    memcpy(&bits, &scaled, sizeof bits);
    bits &= 0 - (uint32_t)(y[j] > 0.0f);
    memcpy(&dy[j], &bits, sizeof bits);
  }
}

static void bias_grad(const linear_t *layer, int64_t first, int64_t end, int64_t rows, const float *dy) {
  float *restrict sum = layer->bias_grad;
  memset(sum + first, 0, (size_t)(end - first) * sizeof *sum);
  for (int64_t i = 0; i < rows; i++) {
    const float *restrict row = dy + i * layer->out;
    for (int64_t j = first; j < end; j++) sum[j] += row[j];
  }
}

void cpu_linear_backward(const dense_team_t *team, const linear_t *layer, const dropout_t *dropout,
                         int64_t rows, const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                         int64_t dx_stride) {
  int threads = dense_threads(team->threads, rows);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for schedule(static)
    for (int64_t begin = 0; begin < rows; begin += BLOCK_ROWS) {
      int64_t end = block_end(begin, BLOCK_ROWS, rows);
      for (int64_t i = begin; layer->relu && i < end; i++)
        relu_grad(layer, dropout->scale, y + i * layer->out, dy + i * layer->out);
      if (dx != NULL)
        team->gemm->nn(end - begin, layer->in, layer->out, dy + begin * layer->out, layer->out, layer->weight,
                       layer->in, dx + begin * dx_stride, dx_stride);
    }
#pragma omp for schedule(static)
    for (int64_t first = 0; first < layer->out; first += BLOCK_UNITS) {
      int64_t end = block_end(first, BLOCK_UNITS, layer->out);
      if (layer->bias != NULL) bias_grad(layer, first, end, rows, dy);
      team->gemm->tn(end - first, layer->in, rows, dy + first, layer->out, x, x_stride,
                     layer->weight_grad + first * layer->in, layer->in);
    }
  }
}
