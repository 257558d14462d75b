/* Copies and clears of device memory. Many small copies are one launch: the parts are cut into tiles, a block
 * copies whole tiles. */
#include "cuda/cuda_common.cuh"

namespace {

enum : int64_t { TILE_BYTES = 32 << 10, FEW_PARTS = 2 };

/* 16 bytes at a time where both addresses allow it, else one. */
__device__ void tile_copy(char *to, const char *from, int64_t bytes) {
  const bool aligned = ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) & 15) == 0;
  const int64_t wide = aligned ? bytes / 16 : 0;
  for (int64_t i = threadIdx.x; i < wide; i += blockDim.x)
    reinterpret_cast<uint4 *>(to)[i] = __ldcs(reinterpret_cast<const uint4 *>(from) + i);
  for (int64_t i = wide * 16 + threadIdx.x; i < bytes; i += blockDim.x) to[i] = from[i];
}

/* tile_begin: [count + 1] first tile of each part. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    copy_parts(const copy_part_t *__restrict__ parts, const int64_t *__restrict__ tile_begin, int64_t count) {
  const int64_t tiles = tile_begin[count];
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    int64_t low = 0, high = count; /* tile_begin[low] <= tile < tile_begin[high] */
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      if (tile_begin[middle] <= tile)
        low = middle;
      else
        high = middle;
    }
    const int64_t at = (tile - tile_begin[low]) * TILE_BYTES, left = parts[low].bytes - at;
    tile_copy(static_cast<char *>(parts[low].to) + at, static_cast<const char *>(parts[low].from) + at,
              left < TILE_BYTES ? left : TILE_BYTES);
  }
}

/* The first tile of each part, after those before it. */
const int64_t *tiles_upload(cuda_lane_t *lane, const copy_part_t *parts, int64_t count, int64_t *tiles) {
  int64_t *begin = cuda_stage<int64_t>(lane, count + 1);
  if (begin == nullptr) return nullptr;
  begin[0] = 0;
  for (int64_t i = 0; i < count; i++)
    begin[i + 1] = begin[i] + (parts[i].bytes + TILE_BYTES - 1) / TILE_BYTES;
  *tiles = begin[count];
  return cuda_send(lane, begin, count + 1);
}

void cuda_copy(kernel_t *k, kernel_stream_t *stream, const copy_part_t *parts, int64_t count) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (count <= FEW_PARTS) {
    for (int64_t i = 0; i < count; i++)
      if (parts[i].bytes > 0)
        CUDA_TRY(lane, cudaMemcpyAsync(parts[i].to, parts[i].from, static_cast<size_t>(parts[i].bytes),
                                       cudaMemcpyDefault, lane->stream));
    return;
  }
  int64_t tiles = 0;
  const int64_t *tile_begin = tiles_upload(lane, parts, count, &tiles);
  const copy_part_t *device_parts = cuda_upload(lane, parts, count);
  CUDA_LAUNCH(lane, copy_parts, cuda_blocks(lane, tiles, 1), CUDA_BLOCK, 0, device_parts, tile_begin, count);
}

void cuda_clear(kernel_t *k, kernel_stream_t *stream, void *to, int64_t bytes) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (bytes > 0) CUDA_TRY(lane, cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), lane->stream));
}

} // namespace

void cuda_copy_ops(kernel_ops_t *ops) {
  ops->copy = cuda_copy;
  ops->clear = cuda_clear;
}
