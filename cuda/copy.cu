/* Copies and clears. Many small copies within the device are one launch: the parts are cut into tiles, a
 * block copies whole tiles. */
#include "cuda/cuda_common.cuh"

namespace {

enum : int64_t { TILE_BYTES = 32 << 10, FEW_PARTS = 2, STAGED_MOST = 4 << 20 };

template <class Word> __device__ void copy_words(char *to, const char *from, int64_t bytes) {
  const int64_t words = bytes / static_cast<int64_t>(sizeof(Word));
  for (int64_t i = threadIdx.x; i < words; i += blockDim.x)
    reinterpret_cast<Word *>(to)[i] = __ldcs(reinterpret_cast<const Word *>(from) + i);
  for (int64_t i = words * static_cast<int64_t>(sizeof(Word)) + threadIdx.x; i < bytes; i += blockDim.x)
    to[i] = from[i];
}

/* In the widest words to which both addresses are aligned. */
__device__ void tile_copy(char *to, const char *from, int64_t bytes) {
  const uintptr_t both = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  if (both % 16 == 0)
    copy_words<uint4>(to, from, bytes);
  else if (both % 8 == 0)
    copy_words<uint2>(to, from, bytes);
  else if (both % 4 == 0)
    copy_words<unsigned>(to, from, bytes);
  else
    copy_words<unsigned char>(to, from, bytes);
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

/* Parts within the device. */
void copy_within(cuda_lane_t *lane, const copy_part_t *parts, int64_t count) {
  if (count <= FEW_PARTS) {
    for (int64_t i = 0; i < count; i++)
      CUDA_TRY(lane, cudaMemcpyAsync(parts[i].to, parts[i].from, static_cast<size_t>(parts[i].bytes),
                                     cudaMemcpyDeviceToDevice, lane->stream));
    return;
  }
  int64_t *begin = cuda_stage<int64_t>(lane, count + 1); /* first tile of each part */
  if (begin == nullptr) return;
  begin[0] = 0;
  for (int64_t i = 0; i < count; i++)
    begin[i + 1] = begin[i] + (parts[i].bytes + TILE_BYTES - 1) / TILE_BYTES;
  const int64_t *tile_begin = cuda_send(lane, begin, count + 1);
  const copy_part_t *device_parts = cuda_send(lane, parts, count);
  CUDA_LAUNCH(lane, copy_parts, cuda_blocks(lane, begin[count], 1), CUDA_BLOCK, 0, device_parts, tile_begin,
              count);
}

/* CUDA reads ordinary host memory during the call; pinned memory it reads later, when the caller may have
 * changed it: so that is copied first, or waited for where that would take much memory. */
void copy_in(cuda_lane_t *lane, const copy_part_t *part, kernel_memory_t from) {
  const size_t bytes = static_cast<size_t>(part->bytes);
  const void *source = part->from;
  if (from == MEMORY_PINNED && part->bytes <= STAGED_MOST) {
    void *staged = cuda_stage_bytes(lane, bytes);
    if (staged == nullptr) return;
    source = memcpy(staged, part->from, bytes);
  }
  CUDA_TRY(lane, cudaMemcpyAsync(part->to, source, bytes, cudaMemcpyHostToDevice, lane->stream));
  if (from == MEMORY_PINNED && part->bytes > STAGED_MOST) CUDA_TRY(lane, cudaStreamSynchronize(lane->stream));
}

/* CUDA writes ordinary host memory during the call, and waits for that: so little goes by way of pinned
 * memory, at the next stream_sync. */
void copy_out(cuda_lane_t *lane, const copy_part_t *part, kernel_memory_t to) {
  const size_t bytes = static_cast<size_t>(part->bytes);
  if (to == MEMORY_HOST && part->bytes <= STAGED_MOST)
    cuda_deliver(lane, part->to, part->from, bytes, nullptr);
  else
    CUDA_TRY(lane, cudaMemcpyAsync(part->to, part->from, bytes, cudaMemcpyDeviceToHost, lane->stream));
}

/* Within the host: what earlier ops write must be there, and stay behind what is written now. */
void copy_beside(cuda_lane_t *lane, const copy_part_t *part) {
  CUDA_TRY(lane, cudaStreamSynchronize(lane->stream));
  if (!cuda_has_failed(lane)) memcpy(part->to, part->from, static_cast<size_t>(part->bytes));
}

void cuda_copy(kernel_t *k, kernel_stream_t *stream, const copy_part_t *parts, int64_t count) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  copy_part_t *within = cuda_stage<copy_part_t>(lane, count);
  int64_t within_count = 0;
  if (within == nullptr) return;
  for (int64_t i = 0; i < count; i++) {
    if (parts[i].bytes <= 0) continue;
    const kernel_memory_t to = cuda_memory_of(parts[i].to), from = cuda_memory_of(parts[i].from);
    if (to == MEMORY_DEVICE && from == MEMORY_DEVICE)
      within[within_count++] = parts[i];
    else if (to == MEMORY_DEVICE)
      copy_in(lane, &parts[i], from);
    else if (from == MEMORY_DEVICE)
      copy_out(lane, &parts[i], to);
    else
      copy_beside(lane, &parts[i]);
  }
  copy_within(lane, within, within_count);
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
