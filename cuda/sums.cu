/* Running sums of the counts of groups: few enough that one block does them at about the cost of a launch,
 * where a sum over many blocks would take three of those, or blocks that wait for one another. */
#include "cuda/cuda_bits.cuh"

#include <algorithm>

namespace {

enum { THREADS = 1024, ITEMS = 8 };

/* Sum over the lanes up to this one. */
__device__ int64_t warp_sums(int64_t value) {
  const int lane = threadIdx.x % CUDA_WARP;
  for (int d = 1; d < CUDA_WARP; d *= 2) {
    const int64_t below = __shfl_up_sync(CUDA_FULL_MASK, value, d);
    if (lane >= d) value += below;
  }
  return value;
}

__global__ void __launch_bounds__(THREADS) running_sums(int64_t *value, int64_t count) {
  CUDA_SHARED(int64_t, warp_sum, CUDA_WARP);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, warps = blockDim.x / CUDA_WARP;
  int64_t carry = 0;
  for (int64_t tile = 0; tile < count; tile += static_cast<int64_t>(blockDim.x) * ITEMS) {
    const int64_t first = tile + static_cast<int64_t>(threadIdx.x) * ITEMS;
    int64_t item[ITEMS], sum = 0;
    for (int i = 0; i < ITEMS; i++) {
      item[i] = first + i < count ? value[first + i] : 0;
      sum += item[i];
    }
    const int64_t up_to = warp_sums(sum);
    if (lane == CUDA_WARP - 1) warp_sum[warp] = up_to;
    __syncthreads();
    if (warp == 0) {
      const int64_t sums = warp_sums(lane < warps ? warp_sum[lane] : 0);
      __syncwarp();
      warp_sum[lane] = sums;
    }
    __syncthreads();
    int64_t before = carry + (warp > 0 ? warp_sum[warp - 1] : 0) + up_to - sum;
    for (int i = 0; i < ITEMS; i++) {
      if (first + i < count) value[first + i] = before;
      before += item[i];
    }
    carry += warp_sum[warps - 1];
    __syncthreads(); /* before the next tile's sums */
  }
  if (threadIdx.x == 0) value[count] = carry;
}

} // namespace

void cuda_running_sums(cuda_lane_t *lane, int64_t *value, int64_t count) {
  const int64_t warps = (count + ITEMS * CUDA_WARP - 1) / (ITEMS * CUDA_WARP);
  const int64_t threads = std::min<int64_t>(std::max<int64_t>(warps, 1) * CUDA_WARP, THREADS);
  CUDA_LAUNCH(lane, running_sums, 1, static_cast<unsigned>(threads), 0, value, count);
}
