/* Softmax over classes and its cross entropy, in double as on the CPU. LANES threads a sample: a warp where
 * classes are few, a block where they are many. They pass over the logits three times, for the largest, the
 * sum and the gradients, because a row of exponentials would need room. A row's results are a function of
 * that row alone. */
#include "cuda/dense/cuda_dense.cuh"

extern "C" {
#include "dense/loss.h"
}

namespace {

enum { MANY_CLASSES = 2048 };

struct samples_t {
  int64_t rows, classes;
  const float *logits, *labels, *weights; /* weights: or NULL */
  double grad_scale;
};

struct sum_t {
  __device__ static double nothing() { return 0.0; }
  __device__ static double join(double a, double b) { return a + b; }
};

/* Of what is not NaN: where there is one, the sum of exponentials is NaN by itself. */
struct most_t {
  __device__ static double nothing() { return -INFINITY; }
  __device__ static double join(double a, double b) { return fmax(a, b); }
};

/* Of all LANES threads of a sample, told to all of them. */
template <int LANES, class J> __device__ double join_all(double mine) {
  for (int half = CUDA_WARP / 2; half > 0; half /= 2)
    mine = J::join(mine, __shfl_xor_sync(CUDA_FULL_MASK, mine, half));
  if constexpr (LANES > CUDA_WARP) {
    CUDA_SHARED(double, of_warp, LANES / CUDA_WARP);
    __syncthreads(); /* the last one's have been read */
    if (threadIdx.x % CUDA_WARP == 0) of_warp[threadIdx.x / CUDA_WARP] = mine;
    __syncthreads();
    mine = J::nothing();
    for (int w = 0; w < LANES / CUDA_WARP; w++) mine = J::join(mine, of_warp[w]);
  }
  return mine;
}

template <int LANES>
__device__ void softmax_row(const samples_t &s, int64_t row, int lane, double *__restrict__ losses,
                            float *__restrict__ grads) {
  const float *x = s.logits + row * s.classes;
  const double weight = s.weights == nullptr ? 1.0 : static_cast<double>(__ldg(s.weights + row));
  const float label = __ldg(s.labels + row);
  const bool known = label >= 0.0f && label < static_cast<float>(s.classes);
  const int64_t y = known ? static_cast<int64_t>(label) : 0;
  double most = most_t::nothing(), sum = 0.0;
  for (int64_t k = lane; k < s.classes; k += LANES)
    most = most_t::join(most, static_cast<double>(__ldg(x + k)));
  most = join_all<LANES, most_t>(most);
  for (int64_t k = lane; k < s.classes; k += LANES)
    sum += loss_exp_negative(static_cast<double>(__ldg(x + k)) - most);
  sum = join_all<LANES, sum_t>(sum);
  const double scale = weight * s.grad_scale;
  for (int64_t k = lane; k < s.classes; k += LANES) {
    const double p = loss_exp_negative(static_cast<double>(__ldg(x + k)) - most) / sum;
    grads[row * s.classes + k] = static_cast<float>((p - (k == y ? 1.0 : 0.0)) * scale);
  }
  if (lane == 0)
    losses[row] = known ? weight * (loss_log(sum) + (most - static_cast<double>(__ldg(x + y)))) : NAN;
}

template <int LANES>
__global__ void __launch_bounds__(CUDA_BLOCK)
    softmax(const samples_t s, double *__restrict__ losses, float *__restrict__ grads) {
  enum { ROWS = CUDA_BLOCK / LANES };
  const int lane = threadIdx.x % LANES, place = threadIdx.x / LANES;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * ROWS + place; row < s.rows;
       row += static_cast<int64_t>(gridDim.x) * ROWS)
    softmax_row<LANES>(s, row, lane, losses, grads);
}

void softmax_loss(dense_t *dense, int64_t rows, int64_t classes, const float *logits, const float *labels,
                  const float *weights, double grad_scale, double *losses, float *grads, double *sum) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const samples_t s = {rows, classes, logits, labels, weights, grad_scale};
  if (classes < MANY_CLASSES)
    CUDA_LAUNCH(lane, softmax<CUDA_WARP>, cuda_blocks(lane, rows, CUDA_BLOCK / CUDA_WARP), CUDA_BLOCK, 0, s,
                losses, grads);
  else
    CUDA_LAUNCH(lane, softmax<CUDA_BLOCK>, cuda_blocks(lane, rows, 1), CUDA_BLOCK, 0, s, losses, grads);
  cuda_dense_sum(cuda_dense_of(dense), lane, losses, rows, sum);
}

} // namespace

void cuda_softmax_ops(dense_ops_t *ops) {
  ops->softmax_loss = softmax_loss;
}
