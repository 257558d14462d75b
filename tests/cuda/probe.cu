/* Small kernels for the tests of what executes kernels: one for each primitive, and for each rule one that
 * breaks it. */
#include "cuda/cuda_common.cuh"

#include "probe.h"

namespace {

__global__ void sum_blocks(const int64_t *values, int64_t *sum) {
  CUDA_SHARED(int64_t, part, CUDA_BLOCK / CUDA_WARP);
  int64_t v = values[cuda_first()];
  for (int d = CUDA_WARP / 2; d > 0; d /= 2) v += __shfl_down_sync(CUDA_FULL_MASK, v, d);
  if (threadIdx.x % CUDA_WARP == 0) part[threadIdx.x / CUDA_WARP] = v;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < CUDA_BLOCK / CUDA_WARP; i++) v += part[i];
  sum[blockIdx.x] = v;
}

__global__ void count_values(const int64_t *values, int64_t count, unsigned long long *histogram) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) atomicAdd(&histogram[values[i] % 8], 1ull);
}

__global__ void use_warp(int64_t *out) {
  const int lane = static_cast<int>(threadIdx.x);
  int64_t *mine = out + lane * PROBE_WORDS;
  mine[0] = __ballot_sync(CUDA_FULL_MASK, lane & 1);
  mine[1] = __match_any_sync(CUDA_FULL_MASK, lane / 4);
  mine[2] = __shfl_down_sync(CUDA_FULL_MASK, static_cast<int64_t>(lane) << 33, 1);
  mine[3] = __shfl_up_sync(CUDA_FULL_MASK, lane, 2, 8);
  mine[4] = __reduce_add_sync(CUDA_FULL_MASK, lane - 16);
  mine[5] = __reduce_min_sync(CUDA_FULL_MASK, lane - 16);
  mine[6] = __reduce_max_sync(CUDA_FULL_MASK, lane - 16);
  mine[7] = __syncthreads_count(lane < 10);
}

__global__ void double_vectors(const float *from, int64_t count, float *to) {
  for (int64_t i = cuda_first(); i < count / 4; i += cuda_stride()) {
    const float4 v = __ldg(reinterpret_cast<const float4 *>(from) + i);
    __stcs(reinterpret_cast<float4 *>(to) + i, make_float4(v.x * 2, v.y * 2, v.z * 2, v.w * 2));
  }
}

__global__ void sum_dynamic(int bytes, int64_t *out) {
  CUDA_SHARED_DYNAMIC(unsigned char, shared);
  for (int i = threadIdx.x; i < bytes; i += blockDim.x) shared[i] = static_cast<unsigned char>(i % 3);
  __syncthreads();
  int64_t sum = 0;
  for (int i = 0; i < bytes && threadIdx.x == 0; i++) sum += shared[i];
  if (threadIdx.x == 0) *out = sum;
}

__global__ void note_order(int *next, int *out) {
  if (threadIdx.x % CUDA_WARP == 0)
    out[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / CUDA_WARP;
}

/* Never inlined away: the branches must stay apart. */
__global__ void break_rule(probe_fault_t fault, int64_t *values) {
  CUDA_SHARED(int64_t, shared, 64);
  const int t = static_cast<int>(threadIdx.x);
  shared[t] = t;
  switch (fault) {
  case FAULT_DIVERGENT_BARRIER:
    if (t < 40)
      __syncthreads();
    else
      __syncwarp();
    break;
  case FAULT_TWO_BARRIERS:
    if (t < 32)
      __syncthreads();
    else
      __syncthreads();
    break;
  case FAULT_LANE_ENDED:
    if (t % 32 == 3) return;
    __syncwarp(CUDA_FULL_MASK & ~8u);
    values[t] = __shfl_sync(CUDA_FULL_MASK, t, 0);
    break;
  case FAULT_LANE_ENDS:
    if (t % 32 < 31) __syncwarp();
    break;
  case FAULT_MASK_WITHOUT_CALLER:
    __syncwarp(t == 5 ? 1u : CUDA_FULL_MASK);
    break;
  case FAULT_MASK_TOO_WIDE:
    __syncwarp();
    break;
  case FAULT_TWO_PRIMITIVES:
    if (t % 2 == 0)
      __syncwarp();
    else
      values[t] = __ballot_sync(CUDA_FULL_MASK, 1);
    break;
  case FAULT_SHARED_OVERRUN:
    shared[t + 1] = t;
    break;
  case FAULT_GLOBAL_OVERRUN:
    values[t + 1] = t;
    break;
  case FAULT_NO_BARRIER:
    values[t] = shared[63 - t];
    break;
  case FAULT_BETWEEN_BLOCKS:
    values[t] += t;
    break;
  case FAULT_NONE:
    __syncthreads();
    values[t] = shared[63 - t];
    break;
  }
}

cudaLaunchConfig_t shape(int blocks, int threads, size_t shared_bytes, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return config;
}

} // namespace

cudaError_t probe_sum(const int64_t *values, int blocks, int64_t *sum, cudaStream_t stream) {
  const cudaLaunchConfig_t config = shape(blocks, CUDA_BLOCK, 0, stream);
  return cudaLaunchKernelEx(&config, sum_blocks, values, sum);
}

cudaError_t probe_histogram(const int64_t *values, int64_t count, int64_t *histogram, cudaStream_t stream) {
  const cudaLaunchConfig_t config = shape(3, 64, 0, stream);
  return cudaLaunchKernelEx(&config, count_values, values, count,
                            reinterpret_cast<unsigned long long *>(histogram));
}

cudaError_t probe_warp(int64_t *out, cudaStream_t stream) {
  const cudaLaunchConfig_t config = shape(1, CUDA_WARP, 0, stream);
  return cudaLaunchKernelEx(&config, use_warp, out);
}

cudaError_t probe_vectors(const float *from, int64_t count, float *to, cudaStream_t stream) {
  const cudaLaunchConfig_t config = shape(2, 64, 0, stream);
  return cudaLaunchKernelEx(&config, double_vectors, from, count, to);
}

cudaError_t probe_dynamic(int shared_bytes, int allowed_bytes, int64_t *out, cudaStream_t stream) {
  const cudaLaunchConfig_t config = shape(1, 64, static_cast<size_t>(shared_bytes), stream);
  if (allowed_bytes > 0) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void *>(sum_dynamic),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, allowed_bytes);
    if (error != cudaSuccess) return error;
  }
  return cudaLaunchKernelEx(&config, sum_dynamic, shared_bytes, out);
}

cudaError_t probe_order(int blocks, int *next, int *out, cudaStream_t stream) {
  const cudaLaunchConfig_t config = shape(blocks, 4 * CUDA_WARP, 0, stream);
  return cudaLaunchKernelEx(&config, note_order, next, out);
}

cudaError_t probe_fault(probe_fault_t fault, int64_t *values, cudaStream_t stream) {
  const cudaLaunchConfig_t config =
      shape(fault == FAULT_BETWEEN_BLOCKS ? 2 : 1, fault == FAULT_MASK_TOO_WIDE ? 16 : 64, 0, stream);
  return cudaLaunchKernelEx(&config, break_rule, fault, values);
}
