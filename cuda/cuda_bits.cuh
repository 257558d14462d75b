/* Which of many items count, and how many before each of them do: a bit an item, and a sum every 256 items.
 * What other libraries do with a running sum over all items takes an eighth of a byte an item here. */
#ifndef CUDA_BITS_CUH
#define CUDA_BITS_CUH

#include "cuda/cuda_common.cuh"

enum { BITS_GROUP = 256, BITS_WORDS = BITS_GROUP / 32 };

typedef struct bits {
  unsigned *word;  /* [groups * BITS_WORDS] */
  int64_t *before; /* [groups + 1] items that count before each group; the last: all */
  int64_t groups;
} bits_t;

/* The last j with bound[j] <= value, of ascending bounds; 0 where there is none. */
__device__ inline int64_t last_not_above(const int64_t *__restrict__ bound, int64_t count, int64_t value) {
  int64_t at = 0;
  for (int64_t left = count; left > 1;) {
    const int64_t half = left / 2;
    at += __ldg(bound + at + half) <= value ? half : 0;
    left -= half;
  }
  return at;
}

/* How many of the ascending values are below the bound. */
template <class T> __device__ inline int64_t lower_bound(const T *sorted, int64_t count, T bound) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (sorted[middle] < bound)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__device__ inline bool bits_at(const bits_t &bits, int64_t i) {
  return bits.word[i / 32] >> (i % 32) & 1;
}

/* How many items before i count; i may be the number of items. */
__device__ inline int64_t bits_rank(const bits_t &bits, int64_t i) {
  const int64_t group = i / BITS_GROUP, last = i / 32;
  int64_t rank = bits.before[group];
  for (int64_t w = group * BITS_WORDS; w < last; w++) rank += __popc(bits.word[w]);
  if (i % 32 != 0) rank += __popc(bits.word[last] & ((1u << (i % 32)) - 1));
  return rank;
}

/* A warp a group; before[group]: the items of the group alone. */
template <class Flag>
__global__ void __launch_bounds__(CUDA_BLOCK) bits_mark(Flag flag, int64_t count, bits_t bits) {
  const int lane = threadIdx.x % CUDA_WARP;
  for (int64_t group = cuda_first() / CUDA_WARP; group < bits.groups; group += cuda_stride() / CUDA_WARP) {
    unsigned mine = 0;
    for (int w = 0; w < BITS_WORDS; w++) {
      const int64_t i = group * BITS_GROUP + w * 32 + lane;
      const unsigned word = __ballot_sync(CUDA_FULL_MASK, i < count && flag(i));
      if (lane == w) mine = word;
    }
    if (lane < BITS_WORDS) bits.word[group * BITS_WORDS + lane] = mine;
    const unsigned ones = __reduce_add_sync(CUDA_FULL_MASK, static_cast<unsigned>(__popc(mine)));
    if (lane == 0) bits.before[group] = ones;
  }
}

/* value[count + 1]: running sums of value[count] in place, from 0 on. */
void cuda_running_sums(cuda_lane_t *lane, int64_t *value, int64_t count);

/* flag(i): whether item i counts; it is asked once for each. */
template <class Flag> bits_t bits_build(cuda_lane_t *lane, int64_t count, Flag flag) {
  bits_t bits = {nullptr, nullptr, (count + BITS_GROUP - 1) / BITS_GROUP};
  bits.word = cuda_scratch<unsigned>(lane, bits.groups * BITS_WORDS);
  bits.before = cuda_scratch<int64_t>(lane, bits.groups + 1);
  CUDA_LAUNCH(lane, bits_mark<Flag>, cuda_blocks(lane, count), CUDA_BLOCK, 0, flag, count, bits);
  cuda_running_sums(lane, bits.before, bits.groups);
  return bits;
}

#endif
