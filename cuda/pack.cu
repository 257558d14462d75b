/* Packed integers: see kernel/pack.h for the forms. All tasks of a call are one launch: the blocks of all
 * tasks have one numbering, and a block looks its task up.
 *
 * Packing goes by the word that is written, so that no word is written twice and none is read. Unpacking goes
 * by the value, for which Elias-Fano's bitmap must be counted first where it does not fit one block. */
#include "cuda/cuda_bits.cuh"

namespace {

enum { TILE = CUDA_BLOCK }; /* words of a bitmap in a block; also words, or values, of any other form */

__device__ uint64_t low_bits(int width) {
  return (static_cast<uint64_t>(1) << width) - 1; /* width is at most 63 */
}

/* The task of a tile: the last whose first tile is not above it. */
__device__ int64_t task_of(const int64_t *tile_begin, int64_t tasks) {
  return last_not_above(tile_begin, tasks, blockIdx.x);
}

/* ---- packing ---- */

struct packing {
  pack_task_t task;
  pack_form_t form;
};

__device__ uint64_t value_at(const pack_task_t &t, int64_t i) {
  return static_cast<uint64_t>(t.from[t.index != nullptr ? t.index[i] : i] - t.base);
}

/* Word w of the plain part: the values that have bits in it. */
__device__ uint64_t plain_word(const packing &p, int64_t w) {
  const int width = p.form.low;
  const int64_t first_bit = 64 * w;
  uint64_t word = 0;
  for (int64_t i = first_bit / width; i < p.task.count && i * width < first_bit + 64; i++) {
    const uint64_t value = value_at(p.task, i) & low_bits(width);
    const int64_t at = i * width - first_bit;
    word |= at < 0 ? value >> -at : value << at;
  }
  return word;
}

/* Place of value i's one in the bitmap; ascends. */
__device__ int64_t one_of(const packing &p, int64_t i) {
  return static_cast<int64_t>(value_at(p.task, i) >> p.form.low) + i;
}

__device__ uint64_t bitmap_word(const packing &p, int64_t w) {
  const int64_t first_bit = 64 * w, count = p.task.count;
  int64_t low = 0, high = count < first_bit + 1 ? count : first_bit + 1; /* value i's one is not before i */
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (one_of(p, middle) < first_bit)
      low = middle + 1;
    else
      high = middle;
  }
  uint64_t word = 0;
  for (int64_t i = low; i < count; i++) {
    const int64_t at = one_of(p, i) - first_bit;
    if (at >= 64) break;
    word |= static_cast<uint64_t>(1) << at;
  }
  return word;
}

/* A thread a word. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    pack_words(const packing *__restrict__ tasks, const int64_t *__restrict__ tile_begin, int64_t count) {
  const int64_t at = task_of(tile_begin, count);
  const packing &p = tasks[at];
  const int64_t w = (blockIdx.x - tile_begin[at]) * TILE + threadIdx.x;
  if (w < p.form.words)
    p.task.words[w] = w < p.form.low_words ? plain_word(p, w) : bitmap_word(p, w - p.form.low_words);
}

int64_t tiles_of(int64_t items) {
  return (items + TILE - 1) / TILE;
}

/* A grid has at most 2^31 - 1 blocks, so 2^39 words: more than a device's memory. */
void cuda_pack(kernel_t *k, kernel_stream_t *stream, const pack_task_t *tasks, int64_t count) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  packing *staged = cuda_stage<packing>(lane, count);
  int64_t *begin = cuda_stage<int64_t>(lane, count + 1);
  if (cuda_has_failed(lane)) return;
  begin[0] = 0;
  for (int64_t i = 0; i < count; i++) {
    staged[i] = {tasks[i], pack_form(tasks[i].count, tasks[i].range, tasks[i].ascending)};
    begin[i + 1] = begin[i] + tiles_of(staged[i].form.words);
  }
  const packing *device_tasks = cuda_send(lane, staged, count);
  const int64_t *tile_begin = cuda_send(lane, begin, count + 1);
  CUDA_LAUNCH(lane, pack_words, static_cast<unsigned>(begin[count]), TILE, 0, device_tasks, tile_begin,
              count);
}

/* ---- unpacking ---- */

struct unpacking {
  unpack_task_t task;
  pack_form_t form;
};

/* Bits [at, at + width) of the words, width from 1 to 63. The word of the last bit is the next one only where
 * the value goes on there; else it is the same, and what it adds is beyond the mask. */
__device__ uint64_t bits_from(const uint64_t *words, int64_t at, int width) {
  const int skip = static_cast<int>(at % 64);
  const uint64_t head = words[at / 64] >> skip, tail = words[(at + width - 1) / 64];
  return (head | tail << 1 << (63 - skip)) & low_bits(width);
}

/* Where the one number `nth` (from 0) of the word is. */
__device__ int64_t nth_one(uint64_t word, int nth) {
  int at = 0;
  for (int half = 32; half > 0; half /= 2) {
    const int ones = __popcll(word & low_bits(half));
    if (nth < ones) continue;
    nth -= ones;
    word >>= half;
    at += half;
  }
  return at;
}

__device__ uint64_t bitmap_at(const unpacking &u, int64_t w) {
  return w < u.form.words - u.form.low_words ? u.task.words[u.form.low_words + w] : 0;
}

__device__ int ones_of_block(uint64_t word) {
  CUDA_SHARED(int, sum, TILE / CUDA_WARP);
  const int ones = __reduce_add_sync(CUDA_FULL_MASK, __popcll(word));
  if (threadIdx.x % CUDA_WARP == 0) sum[threadIdx.x / CUDA_WARP] = ones;
  __syncthreads();
  int all = 0;
  for (int i = 0; i < TILE / CUDA_WARP; i++) all += sum[i];
  return all;
}

/* Ones of each tile of a bitmap; 0 of other tiles. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    count_ones(const unpacking *__restrict__ tasks, const int64_t *__restrict__ tile_begin, int64_t count,
               int64_t *__restrict__ ones) {
  const int64_t at = task_of(tile_begin, count);
  const unpacking &u = tasks[at];
  const int64_t w = (blockIdx.x - tile_begin[at]) * TILE + threadIdx.x;
  const int all = ones_of_block(u.form.elias ? bitmap_at(u, w) : 0);
  if (threadIdx.x == 0) ones[blockIdx.x] = all;
}

/* The values whose ones are in words [first, first + TILE) of the bitmap, of which `before` are in words
 * before those: each thread looks for its value's word, then for its one. */
__device__ void unpack_bitmap(const unpacking &u, int64_t first, int64_t before) {
  CUDA_SHARED(uint64_t, word, TILE);
  CUDA_SHARED(int, up_to, TILE); /* ones in the tile's words up to this one */
  CUDA_SHARED(int, warp_sum, TILE / CUDA_WARP);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, width = u.form.low;
  const uint64_t mine = bitmap_at(u, first + threadIdx.x);
  int sum = __popcll(mine);
  for (int d = 1; d < CUDA_WARP; d *= 2) {
    const int below = __shfl_up_sync(CUDA_FULL_MASK, sum, d);
    if (lane >= d) sum += below;
  }
  if (lane == CUDA_WARP - 1) warp_sum[warp] = sum;
  __syncthreads();
  for (int i = 0; i < warp; i++) sum += warp_sum[i];
  word[threadIdx.x] = mine;
  up_to[threadIdx.x] = sum;
  __syncthreads();
  for (int v = threadIdx.x; v < up_to[TILE - 1] && before + v < u.task.count; v += TILE) {
    int w = 0;
    for (int half = TILE / 2; half > 0; half /= 2) w += up_to[w + half - 1] <= v ? half : 0;
    const int64_t i = before + v;
    const int64_t high = 64 * (first + w) + nth_one(word[w], v - (w > 0 ? up_to[w - 1] : 0)) - i;
    const uint64_t low = width > 0 ? bits_from(u.task.words, i * width, width) : 0;
    u.task.to[i] = static_cast<int64_t>(static_cast<uint64_t>(high) << width | low) + u.task.base;
  }
}

/* ones: running sums over all tiles, or NULL where no bitmap has a second tile. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    unpack_values(const unpacking *__restrict__ tasks, const int64_t *__restrict__ tile_begin, int64_t count,
                  const int64_t *__restrict__ ones) {
  const int64_t at = task_of(tile_begin, count), tile = blockIdx.x - tile_begin[at];
  const unpacking &u = tasks[at];
  const int64_t i = tile * TILE + threadIdx.x;
  if (u.form.elias)
    unpack_bitmap(u, tile * TILE, ones == nullptr ? 0 : ones[blockIdx.x] - ones[tile_begin[at]]);
  else if (i < u.task.count && u.form.words > 0)
    u.task.to[i] = static_cast<int64_t>(bits_from(u.task.words, i * u.form.low, u.form.low)) + u.task.base;
  else if (i < u.task.count) /* nothing was sent: one value is possible, or all values are there */
    u.task.to[i] = u.task.base + (u.task.ascending ? i : 0);
}

void cuda_unpack(kernel_t *k, kernel_stream_t *stream, const unpack_task_t *tasks, int64_t count) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  unpacking *staged = cuda_stage<unpacking>(lane, count);
  int64_t *begin = cuda_stage<int64_t>(lane, count + 1);
  bool large = false;
  if (cuda_has_failed(lane)) return;
  begin[0] = 0;
  for (int64_t i = 0; i < count; i++) {
    const pack_form_t form = pack_form(tasks[i].count, tasks[i].range, tasks[i].ascending);
    const int64_t items = form.elias ? form.words - form.low_words : tasks[i].count;
    staged[i] = {tasks[i], form};
    begin[i + 1] = begin[i] + tiles_of(items);
    large = large || (form.elias && items > TILE);
  }
  const unsigned tiles = static_cast<unsigned>(begin[count]);
  const unpacking *device_tasks = cuda_send(lane, staged, count);
  const int64_t *tile_begin = cuda_send(lane, begin, count + 1);
  int64_t *ones = nullptr;
  if (large) {
    ones = cuda_scratch<int64_t>(lane, begin[count] + 1);
    CUDA_LAUNCH(lane, count_ones, tiles, TILE, 0, device_tasks, tile_begin, count, ones);
    cuda_running_sums(lane, ones, begin[count]);
  }
  CUDA_LAUNCH(lane, unpack_values, tiles, TILE, 0, device_tasks, tile_begin, count, ones);
}

} // namespace

void cuda_pack_ops(kernel_ops_t *ops) {
  ops->pack = cuda_pack;
  ops->unpack = cuda_unpack;
}
