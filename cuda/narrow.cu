/* f32 as f16 or bf16 on the wire, back, and what that cost. */
#include "real.cuh"

extern "C" {
#include "kernel/narrow.h"
}

namespace {

const unsigned ERROR_BLOCKS = CUDA_BLOCK; /* so that one block adds their sums */

/* What one value, or many, lost; merged in an order that the launch's shape fixes. */
struct loss_t {
  double squares, lost, most;
  __device__ void merge(const loss_t &other) {
    squares += other.squares;
    lost += other.lost;
    most = other.most > most ? other.most : most;
  }
  __device__ void add(float value, float sent) {
    if (!real_is_finite(value)) return;
    const double miss = fabs(static_cast<double>(value) - static_cast<double>(sent));
    merge(loss_t{static_cast<double>(value) * static_cast<double>(value), miss * miss, miss});
  }
};

/* The first thread's result is the block's. */
__device__ loss_t loss_of_block(loss_t mine, loss_t *warps) {
  for (int half = CUDA_WARP / 2; half > 0; half /= 2) {
    const loss_t other = {__shfl_down_sync(CUDA_FULL_MASK, mine.squares, half),
                          __shfl_down_sync(CUDA_FULL_MASK, mine.lost, half),
                          __shfl_down_sync(CUDA_FULL_MASK, mine.most, half)};
    mine.merge(other);
  }
  if (threadIdx.x % CUDA_WARP == 0) warps[threadIdx.x / CUDA_WARP] = mine;
  __syncthreads();
  for (int w = 1; threadIdx.x == 0 && w < CUDA_BLOCK / CUDA_WARP; w++) mine.merge(warps[w]);
  return mine;
}

template <wire_t WIRE>
__global__ void __launch_bounds__(CUDA_BLOCK)
    narrow(const float *from, int64_t count, uint16_t *to, loss_t *of_block) {
  CUDA_SHARED(loss_t, warps, CUDA_BLOCK / CUDA_WARP);
  loss_t mine = {0, 0, 0};
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const float value = __ldg(from + i);
    const uint16_t code = WIRE == WIRE_F16 ? narrow_f16_of(value) : narrow_bf16_of(value);
    mine.add(value, WIRE == WIRE_F16 ? narrow_f16_value(code) : narrow_bf16_value(code));
    to[i] = code;
  }
  mine = loss_of_block(mine, warps);
  if (threadIdx.x == 0) of_block[blockIdx.x] = mine;
}

__global__ void __launch_bounds__(CUDA_BLOCK) add_losses(loss_t *of_block, int blocks) {
  CUDA_SHARED(loss_t, warps, CUDA_BLOCK / CUDA_WARP);
  loss_t mine = {0, 0, 0};
  if (static_cast<int>(threadIdx.x) < blocks) mine = of_block[threadIdx.x];
  mine = loss_of_block(mine, warps);
  if (threadIdx.x == 0) of_block[0] = mine;
}

template <wire_t WIRE>
__global__ void __launch_bounds__(CUDA_BLOCK) widen(const uint16_t *from, int64_t count, float *to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride())
    to[i] = WIRE == WIRE_F16 ? narrow_f16_value(__ldg(from + i)) : narrow_bf16_value(__ldg(from + i));
}

void take_loss(void *host, const void *pinned, size_t) {
  wire_error_t *error = static_cast<wire_error_t *>(host);
  const loss_t *loss = static_cast<const loss_t *>(pinned);
  error->squares += loss->squares;
  error->lost += loss->lost;
  if (loss->most > error->most) error->most = loss->most;
}

void cuda_narrow_real(kernel_t *k, kernel_stream_t *stream, wire_t wire, const float *from, int64_t count,
                      uint16_t *to, wire_error_t *error) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (count == 0) return;
  const unsigned wanted = cuda_blocks(lane, count), blocks = wanted < ERROR_BLOCKS ? wanted : ERROR_BLOCKS;
  loss_t *of_block = cuda_scratch<loss_t>(lane, blocks);
  if (wire == WIRE_F16)
    CUDA_LAUNCH(lane, narrow<WIRE_F16>, blocks, CUDA_BLOCK, 0, from, count, to, of_block);
  else
    CUDA_LAUNCH(lane, narrow<WIRE_BF16>, blocks, CUDA_BLOCK, 0, from, count, to, of_block);
  CUDA_LAUNCH(lane, add_losses, 1, CUDA_BLOCK, 0, of_block, static_cast<int>(blocks));
  cuda_deliver(lane, error, of_block, sizeof *of_block, take_loss);
}

void cuda_widen_real(kernel_t *k, kernel_stream_t *stream, wire_t wire, const uint16_t *from, int64_t count,
                     float *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const unsigned blocks = cuda_blocks(lane, count);
  if (wire == WIRE_F16)
    CUDA_LAUNCH(lane, widen<WIRE_F16>, blocks, CUDA_BLOCK, 0, from, count, to);
  else
    CUDA_LAUNCH(lane, widen<WIRE_BF16>, blocks, CUDA_BLOCK, 0, from, count, to);
}

} // namespace

void cuda_narrow_ops(kernel_ops_t *ops) {
  ops->narrow_real = cuda_narrow_real;
  ops->widen_real = cuda_widen_real;
}
