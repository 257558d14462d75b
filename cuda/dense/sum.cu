/* Sums in double over all of an array: losses and the square of a norm. Two launches: blocks over parts of
 * a fixed length, then one block over their sums, in an order that the number of elements alone decides. */
#include "cuda/dense/cuda_dense.cuh"

extern "C" {
#include "dense/loss.h"
}

namespace {

enum : int64_t { LEAST_PART = 4 * CUDA_BLOCK, PARTS_MOST = 1024 };

/* How an array is cut. */
struct parts_t {
  int64_t length, count;
};

parts_t parts_of(int64_t elements) {
  const int64_t least = (elements + PARTS_MOST - 1) / PARTS_MOST;
  const int64_t length = (least < LEAST_PART ? LEAST_PART : least) + CUDA_BLOCK - 1;
  const int64_t whole = length / CUDA_BLOCK * CUDA_BLOCK;
  return {whole, (elements + whole - 1) / whole};
}

/* The block's sum, in its first thread. */
__device__ double block_sum(double mine) {
  CUDA_SHARED(double, of_warp, CUDA_WARP);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, warps = blockDim.x / CUDA_WARP;
  for (int half = CUDA_WARP / 2; half > 0; half /= 2) mine += __shfl_down_sync(CUDA_FULL_MASK, mine, half);
  if (lane == 0) of_warp[warp] = mine;
  __syncthreads();
  double sum = warp == 0 && lane < warps ? of_warp[lane] : 0.0;
  for (int half = CUDA_WARP / 2; half > 0; half /= 2) sum += __shfl_down_sync(CUDA_FULL_MASK, sum, half);
  return sum;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    loss_parts(int64_t samples, int64_t length, const float *__restrict__ logits,
               const float *__restrict__ labels, const float *__restrict__ weights, double grad_scale,
               float *__restrict__ grad, double *__restrict__ part) {
  const int64_t first = blockIdx.x * length, end = first + length < samples ? first + length : samples;
  double sum = 0.0;
  for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x) {
    const double y = static_cast<double>(__ldg(labels + i));
    const double weight = weights == nullptr ? 1.0 : static_cast<double>(__ldg(weights + i));
    double p = 0.0;
    sum += weight * loss_bce(static_cast<double>(__ldg(logits + i)), y, &p);
    grad[i] = static_cast<float>((p - y) * weight * grad_scale);
  }
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = whole;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    square_parts(int64_t count, int64_t length, const float *__restrict__ values, double *__restrict__ part) {
  const int64_t first = blockIdx.x * length, end = first + length < count ? first + length : count;
  double sum = 0.0;
  for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x) {
    const double value = static_cast<double>(__ldg(values + i));
    sum += value * value;
  }
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = whole;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    plain_parts(int64_t count, int64_t length, const double *__restrict__ values, double *__restrict__ part) {
  const int64_t first = blockIdx.x * length, end = first + length < count ? first + length : count;
  double sum = 0.0;
  for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x) sum += values[i];
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = whole;
}

/* What the host gets. */
struct told_t {
  double sum;
  cuda_guard_t *guard; /* NULL: not of losses */
};

/* One block. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    sum_parts(const double *__restrict__ part, int64_t count, cuda_guard_t *guard, told_t *__restrict__ to) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += part[i];
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) *to = {whole, guard};
}

void take_sum(void *host, const void *pinned, size_t) {
  const told_t *told = static_cast<const told_t *>(pinned);
  *static_cast<double *>(host) = cuda_dense_guarded(told->guard, told->sum);
}

void deliver_sum(cuda_lane_t *lane, const double *part, int64_t count, cuda_guard_t *guard, double *sum) {
  told_t *told = cuda_scratch<told_t>(lane, 1);
  CUDA_LAUNCH(lane, sum_parts, 1, CUDA_BLOCK, 0, part, count, guard, told);
  cuda_deliver(lane, sum, told, sizeof *told, take_sum);
}

void loss(dense_t *dense, int64_t samples, const float *logits, const float *labels, const float *weights,
          double grad_scale, float *grad, double *sum) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const parts_t parts = parts_of(samples);
  double *part = cuda_scratch<double>(lane, parts.count);
  CUDA_LAUNCH(lane, loss_parts, static_cast<unsigned>(parts.count), CUDA_BLOCK, 0, samples, parts.length,
              logits, labels, weights, grad_scale, grad, part);
  deliver_sum(lane, part, parts.count, cuda_dense_of(dense)->guard, sum);
}

void norm_squared(dense_t *dense, const float *values, int64_t count, double *sum) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const parts_t parts = parts_of(count);
  double *part = cuda_scratch<double>(lane, parts.count);
  CUDA_LAUNCH(lane, square_parts, static_cast<unsigned>(parts.count), CUDA_BLOCK, 0, count, parts.length,
              values, part);
  deliver_sum(lane, part, parts.count, nullptr, sum);
}

} // namespace

void cuda_dense_sum(cuda_dense_t *self, cuda_lane_t *lane, const double *values, int64_t count, double *sum) {
  const parts_t parts = parts_of(count);
  double *part = cuda_scratch<double>(lane, parts.count);
  CUDA_LAUNCH(lane, plain_parts, static_cast<unsigned>(parts.count), CUDA_BLOCK, 0, count, parts.length,
              values, part);
  deliver_sum(lane, part, parts.count, self->guard, sum);
}

void cuda_sum_ops(dense_ops_t *ops) {
  ops->loss = loss;
  ops->norm_squared = norm_squared;
}
