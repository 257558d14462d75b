/* Integers by the element: one thread an element, in grid-stride loops. */
#include "cuda/cuda_common.cuh"

namespace {

__global__ void __launch_bounds__(CUDA_BLOCK)
    fill(int64_t *__restrict__ to, int64_t count, int64_t first, int64_t step) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = first + i * step;
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    gather(const int64_t *__restrict__ from, const int64_t *__restrict__ index, int64_t count, int64_t add,
           int64_t *__restrict__ to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = __ldg(from + index[i]) + add;
}

/* from may be to. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    shift(const int64_t *from, int64_t count, int64_t add, int64_t *to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = from[i] + add;
}

void cuda_fill_i64(kernel_t *k, kernel_stream_t *stream, int64_t *to, int64_t count, int64_t first,
                   int64_t step) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  CUDA_LAUNCH(lane, fill, cuda_blocks(lane, count), CUDA_BLOCK, 0, to, count, first, step);
}

void cuda_gather_i64(kernel_t *k, kernel_stream_t *stream, const int64_t *from, const int64_t *index,
                     int64_t count, int64_t add, int64_t *to) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (index == nullptr)
    CUDA_LAUNCH(lane, shift, cuda_blocks(lane, count), CUDA_BLOCK, 0, from, count, add, to);
  else
    CUDA_LAUNCH(lane, gather, cuda_blocks(lane, count), CUDA_BLOCK, 0, from, index, count, add, to);
}

} // namespace

void cuda_integer_ops(kernel_ops_t *ops) {
  ops->fill_i64 = cuda_fill_i64;
  ops->gather_i64 = cuda_gather_i64;
}
