/* A visit to all members of runs, in parallel by member, where only the device knows how many there are: a
 * block takes a tile of members, finds the runs that meet it, and each thread looks for its own among those.
 * So long and short runs cost the same. */
#ifndef CUDA_RUNS_CUH
#define CUDA_RUNS_CUH

#include "cuda/cuda_bits.cuh"

enum { RUNS_TILE = 4 * CUDA_BLOCK };

/* visit(i, r) for each i in [begin[r], begin[r + 1]), r in [first, end). */
template <class Visit>
__global__ void __launch_bounds__(CUDA_BLOCK)
    runs_each(const int64_t *__restrict__ begin, int64_t first, int64_t end, Visit visit) {
  const int64_t stop = begin[end], step = static_cast<int64_t>(gridDim.x) * RUNS_TILE;
  for (int64_t tile = begin[first] + static_cast<int64_t>(blockIdx.x) * RUNS_TILE; tile < stop;
       tile += step) {
    const int64_t tile_end = tile + RUNS_TILE < stop ? tile + RUNS_TILE : stop;
    const int64_t low = first + last_not_above(begin + first, end - first, tile);
    const int64_t high = low + last_not_above(begin + low, end - low, tile_end - 1) + 1;
    for (int64_t i = tile + threadIdx.x; i < tile_end; i += CUDA_BLOCK)
      visit(i, low + last_not_above(begin + low, high - low, i));
  }
}

template <class Visit>
void runs_visit(cuda_lane_t *lane, const int64_t *begin, int64_t first, int64_t end, Visit visit) {
  enum { BLOCKS_EACH = 8 };
  if (first == end) return;
  const unsigned blocks = static_cast<unsigned>(cuda_multiprocessors(lane)) * BLOCKS_EACH;
  CUDA_LAUNCH(lane, runs_each<Visit>, blocks, CUDA_BLOCK, 0, begin, first, end, visit);
}

#endif
