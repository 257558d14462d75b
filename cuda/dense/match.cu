/* Queries beside items. Scores and losses: a warp a sample, a lane its columns or items; losses are in double
 * as on the CPU. Gradients of vectors: a thread a column of a sample, its items in their order. A row's
 * results are a function of that row alone. */
#include "cuda/dense/cuda_dense.cuh"

extern "C" {
#include "dense/loss.h"
}

namespace {

enum { WARPS = CUDA_BLOCK / CUDA_WARP, HELD_MOST = 4 };

/* The shape with its lists on the device. */
struct shape_t {
  int64_t dim, pooled_dim, width; /* width: of a row of out */
  int queries, items;
  const int64_t *query_at, *item_at;
};

shape_t shape_of(cuda_lane_t *lane, const match_shape_t *shape) {
  shape_t s = {};
  s.dim = shape->dim;
  s.pooled_dim = shape->pooled_dim;
  s.width = shape->dim + shape->item_count;
  s.queries = shape->query_count;
  s.items = shape->item_count;
  s.query_at = cuda_upload(lane, shape->queries, shape->query_count);
  s.item_at = cuda_upload(lane, shape->items, shape->item_count);
  return s;
}

template <class T> __device__ __forceinline__ T warp_sum(T mine) {
  for (int half = CUDA_WARP / 2; half > 0; half /= 2) mine += __shfl_xor_sync(CUDA_FULL_MASK, mine, half);
  return mine;
}

/* ---- scores ---- */

__device__ __forceinline__ float query_value(const shape_t &s, const float *__restrict__ from, int64_t k) {
  float sum = __ldg(from + __ldg(s.query_at) + k);
  for (int i = 1; i < s.queries; i++) sum += __ldg(from + __ldg(s.query_at + i) + k);
  return sum;
}

/* A lane keeps HELD values of the query, which are all that it has of it; where HELD is 0 it reads again what
 * it wrote. */
template <int HELD>
__global__ void __launch_bounds__(CUDA_BLOCK)
    scores(const shape_t s, int64_t rows, const float *__restrict__ pooled, float *out) {
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * WARPS + warp; row < rows;
       row += static_cast<int64_t>(gridDim.x) * WARPS) {
    const float *from = pooled + row * s.pooled_dim;
    float *query = out + row * s.width, held[HELD > 0 ? HELD : 1] = {};
    if constexpr (HELD > 0) {
      for (int j = 0; j < HELD; j++)
        if (lane + j * CUDA_WARP < s.dim) {
          held[j] = query_value(s, from, lane + j * CUDA_WARP);
          query[lane + j * CUDA_WARP] = held[j];
        }
    } else {
      for (int64_t k = lane; k < s.dim; k += CUDA_WARP) query[k] = query_value(s, from, k);
    }
    for (int i = 0; i < s.items; i++) {
      const float *item = from + __ldg(s.item_at + i);
      float dot = 0.0f;
      if constexpr (HELD > 0) {
        for (int j = 0; j < HELD; j++)
          if (lane + j * CUDA_WARP < s.dim) dot += held[j] * __ldg(item + lane + j * CUDA_WARP);
      } else {
        for (int64_t k = lane; k < s.dim; k += CUDA_WARP) dot += query[k] * __ldg(item + k);
      }
      dot = warp_sum(dot);
      if (lane == 0) query[s.dim + i] = dot;
    }
  }
}

/* ---- losses ---- */

struct targets_t {
  double scale, l2, grad_scale; /* scale: of scores */
  const float *weights;         /* or NULL */
};

/* Where a row's scores are, and its gradients go. */
struct row_t {
  const float *score;
  float *grad;
  int items, lane;
  double scale, grad_scale;
};

__device__ __forceinline__ double score_at(const row_t &r, int item) {
  return static_cast<double>(__ldg(r.score + item));
}
__device__ __forceinline__ void put_grad(const row_t &r, int item, double grad) {
  r.grad[item] = static_cast<float>(grad * r.grad_scale);
}

__device__ double softplus(double x, double *slope) {
  return loss_bce(x, 0.0, slope);
}

__device__ double bpr(const row_t &r) {
  const double each = 1.0 / (r.items - 1), first = score_at(r, 0);
  double loss = 0.0, sum = 0.0;
  for (int k = 1 + r.lane; k < r.items; k += CUDA_WARP) {
    double slope = 0.0;
    loss += each * softplus((score_at(r, k) - first) * r.scale, &slope);
    const double grad = each * slope * r.scale;
    put_grad(r, k, grad);
    sum += grad;
  }
  sum = warp_sum(sum);
  if (r.lane == 0) put_grad(r, 0, -sum);
  return warp_sum(loss);
}

/* The largest of what is not NaN: where there is one, the sum is NaN by itself. */
__device__ double sampled_softmax(const row_t &r) {
  double most = -INFINITY, sum = 0.0;
  for (int k = r.lane; k < r.items; k += CUDA_WARP) most = fmax(most, score_at(r, k));
  for (int half = CUDA_WARP / 2; half > 0; half /= 2)
    most = fmax(most, __shfl_xor_sync(CUDA_FULL_MASK, most, half));
  for (int k = r.lane; k < r.items; k += CUDA_WARP)
    sum += loss_exp_negative((score_at(r, k) - most) * r.scale);
  sum = warp_sum(sum);
  for (int k = r.lane; k < r.items; k += CUDA_WARP) {
    const double p = loss_exp_negative((score_at(r, k) - most) * r.scale) / sum * r.scale;
    put_grad(r, k, k == 0 ? p - r.scale : p);
  }
  return loss_log(sum) + (most - score_at(r, 0)) * r.scale;
}

__device__ double logistic(const row_t &r) {
  double loss = 0.0;
  for (int k = r.lane; k < r.items; k += CUDA_WARP) {
    double slope = 0.0;
    const double side = k == 0 ? -r.scale : r.scale;
    loss += softplus(score_at(r, k) * side, &slope);
    put_grad(r, k, slope * side);
  }
  return warp_sum(loss);
}

/* Of all vectors of a row. */
__device__ double squares(const shape_t &s, const float *__restrict__ from, int lane) {
  double sum = 0.0;
  for (int i = 0; i < s.queries + s.items; i++) {
    const float *at = from + (i < s.queries ? __ldg(s.query_at + i) : __ldg(s.item_at + i - s.queries));
    for (int64_t k = lane; k < s.dim; k += CUDA_WARP) {
      const double value = static_cast<double>(__ldg(at + k));
      sum += value * value;
    }
  }
  return warp_sum(sum);
}

/* Four blocks an SM: without that bound the compiler makes do with 48 registers, and spills. */
template <int KIND>
__global__ void __launch_bounds__(CUDA_BLOCK, 4)
    score_losses(const shape_t s, const targets_t t, int64_t rows, const float *__restrict__ pooled,
                 const float *__restrict__ out, double *__restrict__ losses, float *__restrict__ grads) {
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * WARPS + warp; row < rows;
       row += static_cast<int64_t>(gridDim.x) * WARPS) {
    const double weight = t.weights == nullptr ? 1.0 : static_cast<double>(__ldg(t.weights + row));
    const row_t r = {out + row * s.width + s.dim, grads + row * s.items, s.items, lane, t.scale,
                     weight * t.grad_scale};
    double loss = KIND == MATCH_BPR ? bpr(r) : KIND == MATCH_SOFTMAX ? sampled_softmax(r) : logistic(r);
    if (t.l2 > 0.0) loss += 0.5 * t.l2 * squares(s, pooled + row * s.pooled_dim, lane);
    if (lane == 0) losses[row] = weight * loss;
  }
}

/* ---- gradients of vectors ---- */

__global__ void __launch_bounds__(CUDA_BLOCK)
    vector_grads(const shape_t s, const targets_t t, int64_t rows, const float *__restrict__ pooled,
                 const float *__restrict__ out, const float *__restrict__ grads,
                 float *__restrict__ pooled_grad) {
  for (int64_t at = cuda_first(); at < rows * s.dim; at += cuda_stride()) {
    const int64_t row = at / s.dim, k = at - row * s.dim;
    const double weight = t.weights == nullptr ? 1.0 : static_cast<double>(__ldg(t.weights + row));
    const float l2 = static_cast<float>(t.l2 * weight * t.grad_scale);
    const float *from = pooled + row * s.pooled_dim + k;
    float *to = pooled_grad + row * s.pooled_dim + k;
    const float query = __ldg(out + row * s.width + k);
    float sum = 0.0f;
    for (int i = 0; i < s.items; i++) {
      const int64_t column = __ldg(s.item_at + i);
      const float grad = __ldg(grads + row * s.items + i), item = __ldg(from + column);
      sum += grad * item;
      to[column] = grad * query + l2 * item;
    }
    for (int i = 0; i < s.queries; i++) {
      const int64_t column = __ldg(s.query_at + i);
      to[column] = sum + l2 * __ldg(from + column);
    }
  }
}

/* ---- ops ---- */

targets_t targets_of(const match_targets_t *targets) {
  return {1.0 / targets->temperature, targets->l2, targets->grad_scale, targets->weights};
}

void match_forward(dense_t *dense, const match_shape_t *shape, int64_t rows, const float *pooled,
                   float *out) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const shape_t s = shape_of(lane, shape);
  if (s.dim <= HELD_MOST * CUDA_WARP)
    CUDA_LAUNCH(lane, scores<HELD_MOST>, cuda_blocks(lane, rows, WARPS), CUDA_BLOCK, 0, s, rows, pooled, out);
  else
    CUDA_LAUNCH(lane, scores<0>, cuda_blocks(lane, rows, WARPS), CUDA_BLOCK, 0, s, rows, pooled, out);
}

template <int KIND>
void launch_losses(cuda_lane_t *lane, const shape_t &s, const targets_t &t, int64_t rows, const float *pooled,
                   const float *out, double *losses, float *grads) {
  CUDA_LAUNCH(lane, score_losses<KIND>, cuda_blocks(lane, rows, WARPS), CUDA_BLOCK, 0, s, t, rows, pooled,
              out, losses, grads);
}

void match_loss(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                const float *pooled, const float *out, double *losses, float *score_grads, double *sum) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const shape_t s = shape_of(lane, shape);
  const targets_t t = targets_of(targets);
  if (targets->kind == MATCH_BPR)
    launch_losses<MATCH_BPR>(lane, s, t, rows, pooled, out, losses, score_grads);
  else if (targets->kind == MATCH_SOFTMAX)
    launch_losses<MATCH_SOFTMAX>(lane, s, t, rows, pooled, out, losses, score_grads);
  else
    launch_losses<MATCH_LOGISTIC>(lane, s, t, rows, pooled, out, losses, score_grads);
  cuda_dense_sum(cuda_dense_of(dense), lane, losses, rows, sum);
}

void match_backward(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                    const float *pooled, const float *out, const float *score_grads, float *pooled_grad) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const shape_t s = shape_of(lane, shape);
  CUDA_LAUNCH(lane, vector_grads, cuda_blocks(lane, rows * s.dim), CUDA_BLOCK, 0, s, targets_of(targets),
              rows, pooled, out, score_grads, pooled_grad);
}

} // namespace

void cuda_match_ops(dense_ops_t *ops) {
  ops->match_forward = match_forward;
  ops->match_loss = match_loss;
  ops->match_backward = match_backward;
}
