/* reduce: sums, means and maxima of segments of vectors, for all tasks of a call in one launch, and the long
 * segments in a second.
 *
 * A group of lanes takes a segment's columns and adds its terms in their order. A segment of more than CHUNK
 * terms is a tree whose shape follows from its length alone, so that it does not matter who computes which
 * part: its chunks of CHUNK terms are summed in order, neighbouring chunks form at most PARTS parts, a part
 * is the sum of its chunks in order, the segment that of its parts. The first launch leaves long segments in
 * a list (whose order is left to chance, and does not matter); the second deals their parts to blocks, and
 * the block that finishes a segment's last part adds the parts up. Maxima go the same way, with their
 * positions.
 *
 * Tasks are parameters of the launch: nothing has to be copied to the device, nor kept until it was. */
#include "segments.cuh"

#include <algorithm>

namespace {

enum pool_kind { POOL_SUM, POOL_SELECTED, POOL_MAX, POOL_KINDS };

const int64_t PARTS = 32;       /* of a segment, at most */
const int64_t PART_CHUNKS = 8;  /* of a part, at least: one for each of a block's groups */
const int BATCH = 20;           /* tasks of a launch: what the 4 KiB of its parameters hold */
const int TASK_BITS = 5;        /* of a listed segment's entry */
const unsigned LIST = 1u << 16; /* long segments that are listed; were there more, blocks look for them */
const int64_t SPLIT = 1 << 10;  /* listed segments whose parts may go to several blocks; else a block each */
static_assert(BATCH <= 1 << TASK_BITS, "a task's number fits its bits");

const int64_t PARTS_BYTES = static_cast<int64_t>(8) << 20; /* for the parts of segments, about */

struct batch_t {
  reduce_task_t task[BATCH];
  int first_block[BATCH + 1];
  int count, lanes_log[BATCH];
  int long_only; /* 1: the first launch does no more than list */
  /* Long segments: how many; the finished parts of each; the parts; segment << TASK_BITS | task. */
  unsigned *listed, *finished; /* [1], [split] */
  char *parts;                 /* [split][PARTS][part_bytes] */
  int64_t *list;               /* [LIST], or as many as there are segments */
  int64_t split, part_bytes;
};
static_assert(sizeof(batch_t) <= 4096, "parameters of a launch");

/* A maximum in the making, with where in the bag it stands: -1 before the first candidate. */
template <class S, int V> struct max_pool {
  using T = kept_real<S>;
  T best[V];
  int64_t position[V];
  __device__ __forceinline__ void start() {
    REAL_UNROLL
    for (int c = 0; c < V; c++) best[c] = 0, position[c] = -1;
  }
  /* See kernel.h at reduce_task: position 0 starts, and a NaN there stays; elsewhere a NaN is passed over, a
   * larger value wins, and of equals the first position. */
  __device__ __forceinline__ void offer(int c, T value, int64_t at) {
    if (at < 0 || (position[c] == 0 && real_is_nan(best[c]))) return;
    if (real_is_nan(value) && at != 0) return;
    if (position[c] < 0 || real_is_nan(value) || value > best[c] ||
        (!(value < best[c]) && at < position[c])) {
      best[c] = value;
      position[c] = at;
    }
  }
  __device__ __forceinline__ void merge(const max_pool &part) {
    REAL_UNROLL
    for (int c = 0; c < V; c++) offer(c, part.best[c], part.position[c]);
  }
  __device__ void take(const reduce_task_t &t, const span_t &span);
  __device__ __forceinline__ void finish(const reduce_task_t &t, int64_t, int64_t at) {
    real_vec<T, V> value;
    REAL_UNROLL
    for (int c = 0; c < V; c++) value.v[c] = best[c];
    real_store<REAL_KEPT, V>(static_cast<T *>(t.out) + at, value);
    if (t.out_position == NULL) return;
    REAL_UNROLL
    for (int c = 0; c < V; c++) t.out_position[at + c] = position[c];
  }
};

template <class S, int V>
__device__ __forceinline__ void max_pool<S, V>::take(const reduce_task_t &t, const span_t &span) {
  const S *src = static_cast<const S *>(t.src) + span.column;
  for (int64_t place = span.first; place < span.last; place += AHEAD) {
    int64_t at[AHEAD];
    real_vec<T, V> value[AHEAD];
    REAL_UNROLL
    for (int a = 0; a < AHEAD; a++) {
      if (place + a >= span.last) continue;
      const int64_t i = term_index(t, place + a);
      at[a] = t.position != NULL ? __ldg(t.position + i) : place + a - span.start;
      value[a] = kept_load<REAL_READONLY, V>(src + __ldg(t.term + i) * t.stride);
    }
    REAL_UNROLL
    for (int a = 0; a < AHEAD; a++) {
      if (place + a >= span.last) continue;
      const int64_t *partial = at[a] < 0 ? t.partial + (-1 - at[a]) + span.column : NULL;
      REAL_UNROLL
      for (int c = 0; c < V; c++) offer(c, value[a].v[c], partial != NULL ? __ldg(partial + c) : at[a]);
    }
  }
}

template <class S, int V, pool_kind KIND> struct pool_of {
  using type = sum_pool<S, V, KIND == POOL_SELECTED>;
};
template <class S, int V> struct pool_of<S, V, POOL_MAX> { using type = max_pool<S, V>; };

/* Elements from `out` to a segment's own. */
__device__ __forceinline__ int64_t out_offset(const reduce_task_t &t, int64_t segment) {
  return (t.out_at != NULL ? __ldg(t.out_at + segment) : segment - t.segment_begin) * t.out_stride;
}

/* ---- the tree of a long segment ---- */

struct tree_t {
  int64_t first, last;
  int64_t part_terms;
  int parts;
};

__device__ __forceinline__ tree_t tree_of(int64_t first, int64_t last) {
  const int64_t chunks = (last - first + CHUNK - 1) / CHUNK, even = (chunks + PARTS - 1) / PARTS;
  const int64_t part_chunks = even > PART_CHUNKS ? even : PART_CHUNKS;
  return tree_t{first, last, part_chunks * CHUNK, static_cast<int>((chunks + part_chunks - 1) / part_chunks)};
}

__device__ __forceinline__ int64_t part_first(const tree_t &tree, int part) {
  const int64_t at = tree.first + part * tree.part_terms;
  return at < tree.last ? at : tree.last;
}

/* ---- the first launch: a group a segment ---- */

__device__ __forceinline__ int task_of_block(const batch_t &batch) {
  int task = 0;
  while (static_cast<int>(blockIdx.x) >= batch.first_block[task + 1]) task++;
  return task;
}

__device__ __forceinline__ void list_segment(const batch_t &batch, int task, int64_t segment) {
  const unsigned at = atomicAdd(batch.listed, 1u);
  if (at < LIST) batch.list[at] = segment << TASK_BITS | task;
}

/* Blocks that an SM is to hold of the first launch: as many as need no spills. */
template <class S, int V, pool_kind KIND> constexpr int short_blocks() {
  return KIND == POOL_SELECTED || sizeof(S) == 8 ? 6 : 7;
}

template <class S, int V, pool_kind KIND>
__global__ void __launch_bounds__(REAL_THREADS, short_blocks<S, V, KIND>())
    reduce_short(const __grid_constant__ batch_t batch) {
  const int task = task_of_block(batch), lanes_log = batch.lanes_log[task];
  const reduce_task_t &t = batch.task[task];
  const int64_t first_block = batch.first_block[task], blocks = batch.first_block[task + 1] - first_block;
  const int lane = static_cast<int>(threadIdx.x) & ((1 << lanes_log) - 1);
  const int64_t groups = REAL_THREADS >> lanes_log, width = static_cast<int64_t>(V) << lanes_log;
  const int64_t tiles = (t.dim + width - 1) / width, units = (t.segment_end - t.segment_begin) * tiles;
  for (int64_t unit = (blockIdx.x - first_block) * groups + (threadIdx.x >> lanes_log); unit < units;
       unit += blocks * groups) {
    const int64_t place = tiles == 1 ? unit : unit / tiles, segment = t.segment_begin + place;
    const int64_t column = (unit - place * tiles) * width + lane * V;
    const int64_t first = segment_first(t, segment), last = segment_last(t, segment);
    if (column >= t.dim) continue;
    if (last - first > CHUNK) {
      if (column == 0) list_segment(batch, task, segment);
      continue;
    }
    typename pool_of<S, V, KIND>::type pool;
    pool.start();
    pool.take(t, span_t{first, last, first, column});
    pool.finish(t, segment, out_offset(t, segment) + column);
  }
}

/* The first launch where somebody else takes the short segments. */
__global__ void __launch_bounds__(REAL_THREADS) list_long(const __grid_constant__ batch_t batch) {
  const int task = task_of_block(batch);
  const reduce_task_t &t = batch.task[task];
  const int64_t first_block = batch.first_block[task], blocks = batch.first_block[task + 1] - first_block;
  for (int64_t segment = t.segment_begin + (blockIdx.x - first_block) * REAL_THREADS + threadIdx.x;
       segment < t.segment_end; segment += blocks * REAL_THREADS)
    if (segment_last(t, segment) - segment_first(t, segment) > CHUNK) list_segment(batch, task, segment);
}

/* ---- the second launch: blocks, each with parts of long segments ---- */

/* What a block knows of its task. */
template <class POOL> struct block_t {
  const reduce_task_t *task;
  POOL *shared;          /* [REAL_THREADS] */
  int lanes_log, vector; /* columns of a lane */
  int group, lane;
  int64_t tiles;
  __device__ block_t(const batch_t &batch, int t, int vector, POOL *shared)
      : task(&batch.task[t]), shared(shared), lanes_log(batch.lanes_log[t]), vector(vector) {
    const int64_t width = static_cast<int64_t>(vector) << lanes_log;
    group = static_cast<int>(threadIdx.x) >> lanes_log;
    lane = static_cast<int>(threadIdx.x) & ((1 << lanes_log) - 1);
    tiles = (task->dim + width - 1) / width;
  }
  __device__ __forceinline__ int64_t column(int64_t tile) const {
    return ((tile << lanes_log) + lane) * vector;
  }
};

/* One part of a tree: a chunk a group, added in order by the first group, which then has the sum. */
template <class POOL>
__device__ void take_part(const block_t<POOL> &b, const tree_t &tree, int part, int64_t column, POOL *sum) {
  const int groups = REAL_THREADS >> b.lanes_log;
  const int64_t end = part_first(tree, part + 1);
  sum->start();
  for (int64_t round = part_first(tree, part); round < end; round += groups * CHUNK) {
    const int64_t at = round + b.group * CHUNK;
    POOL chunk;
    chunk.start();
    if (at < end && column < b.task->dim)
      chunk.take(*b.task, span_t{at, at + CHUNK < end ? at + CHUNK : end, tree.first, column});
    __syncthreads(); /* the chunks before have been read */
    b.shared[threadIdx.x] = chunk;
    __syncthreads();
    for (int g = 0; b.group == 0 && g < groups && round + g * CHUNK < end; g++)
      sum->merge(b.shared[(g << b.lanes_log) + b.lane]);
  }
}

/* Some parts of a long segment: all of them, or one of several blocks' shares. */
struct work_t {
  int task;
  int64_t segment, entry; /* in the list */
  int first, end;         /* parts */
  bool shared;
  tree_t tree;
};

__device__ __forceinline__ void find_segment(const batch_t &batch, int task, int64_t segment, work_t *work) {
  const reduce_task_t &t = batch.task[task];
  work->task = task;
  work->segment = segment;
  work->tree = tree_of(segment_first(t, segment), segment_last(t, segment));
}

/* The number-th of all segments: where the list could not hold the long ones, blocks look through all. */
__device__ bool find_unlisted(const batch_t &batch, int64_t number, work_t *work) {
  for (int task = 0; task < batch.count; task++) {
    const int64_t segments = batch.task[task].segment_end - batch.task[task].segment_begin;
    if (number < segments) {
      find_segment(batch, task, batch.task[task].segment_begin + number, work);
      work->shared = false;
      work->first = 0;
      work->end = work->tree.last - work->tree.first > CHUNK ? work->tree.parts : 0;
      return true;
    }
    number -= segments;
  }
  return false;
}

/* The number-th piece of work; false behind the last. */
__device__ bool find_work(const batch_t &batch, int64_t listed, int64_t number, work_t *work) {
  if (listed > LIST) return find_unlisted(batch, number, work);
  const int64_t split = listed < batch.split ? listed : batch.split;
  const bool by_part = number < split * PARTS;
  work->entry = by_part ? number / PARTS : number - split * PARTS + split;
  if (work->entry >= listed) return false;
  const int64_t entry = batch.list[work->entry];
  find_segment(batch, static_cast<int>(entry & ((1 << TASK_BITS) - 1)), entry >> TASK_BITS, work);
  const int part = static_cast<int>(number % PARTS), parts = work->tree.parts;
  work->shared = by_part && parts > 1;
  work->first = by_part ? part : 0;
  work->end = !by_part ? parts : part < parts ? part + 1 : part;
  return true;
}

/* The segment's value from all its parts. */
template <class POOL>
__device__ void join_parts(const batch_t &batch, const block_t<POOL> &b, const work_t &work) {
  const char *parts = batch.parts + work.entry * PARTS * batch.part_bytes;
  for (int64_t i = threadIdx.x; i < b.tiles << b.lanes_log; i += REAL_THREADS) {
    const int64_t column = i * b.vector;
    if (column >= b.task->dim) break;
    POOL total;
    total.start();
    for (int p = 0; p < work.tree.parts; p++)
      total.merge(reinterpret_cast<const POOL *>(parts + p * batch.part_bytes)[i]);
    total.finish(*b.task, work.segment, out_offset(*b.task, work.segment) + column);
  }
}

/* True in the block that is the last to come here with a part of the segment. */
__device__ bool is_last_part(const batch_t &batch, const work_t &work, int *last) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0)
    *last = atomicAdd(batch.finished + work.entry, 1u) == static_cast<unsigned>(work.tree.parts - 1);
  __syncthreads();
  const bool result = *last != 0;
  __syncthreads(); /* before the next one is written */
  if (result) __threadfence();
  return result;
}

template <class S, int V, pool_kind KIND>
__global__ void __launch_bounds__(REAL_THREADS, LONG_BLOCKS_PER_SM)
    reduce_long(const __grid_constant__ batch_t batch) {
  using pool_t = typename pool_of<S, V, KIND>::type;
  CUDA_SHARED(pool_t, shared, REAL_THREADS);
  CUDA_SHARED(int, last, 1);
  const int64_t listed = *batch.listed;
  work_t work;
  for (int64_t number = blockIdx.x; find_work(batch, listed, number, &work); number += gridDim.x) {
    if (work.first == work.end) continue;
    const block_t<pool_t> b(batch, work.task, V, shared);
    for (int64_t tile = 0; tile < b.tiles; tile++) {
      const int64_t column = b.column(tile);
      pool_t total;
      total.start();
      for (int p = work.first; p < work.end; p++) {
        pool_t part;
        take_part(b, work.tree, p, column, &part);
        total.merge(part);
      }
      if (b.group > 0 || column >= b.task->dim) continue;
      if (work.shared)
        reinterpret_cast<pool_t *>(batch.parts + (work.entry * PARTS + work.first) *
                                                     batch.part_bytes)[(tile << b.lanes_log) + b.lane] =
            total;
      else
        total.finish(*b.task, work.segment, out_offset(*b.task, work.segment) + column);
    }
    if (work.shared && is_last_part(batch, work, last)) join_parts(batch, b, work);
  }
}

/* ---- the host's side ---- */

template <class S, int V, pool_kind KIND> int64_t pool_bytes() {
  return static_cast<int64_t>(sizeof(typename pool_of<S, V, KIND>::type));
}

/* Room for the list of long segments. */
template <class S, int V, pool_kind KIND> void place_list(cuda_lane_t *lane, batch_t *batch) {
  int64_t lanes = 1, segments = 0; /* of which all may be long */
  for (int i = 0; i < batch->count; i++) {
    segments += batch->task[i].segment_end - batch->task[i].segment_begin;
    const int64_t width = static_cast<int64_t>(V) << batch->lanes_log[i];
    const int64_t tiles = (batch->task[i].dim + width - 1) / width;
    lanes = std::max(lanes, tiles << batch->lanes_log[i]);
  }
  batch->part_bytes = lanes * pool_bytes<S, V, KIND>();
  batch->split = std::max<int64_t>(1, PARTS_BYTES / (PARTS * batch->part_bytes));
  batch->split = std::min({SPLIT, segments, batch->split});
  batch->parts = cuda_scratch<char>(lane, batch->split * PARTS * batch->part_bytes);
  batch->list = cuda_scratch<int64_t>(lane, std::min<int64_t>(LIST, segments));
  batch->listed = cuda_scratch<unsigned>(lane, 1 + batch->split);
  batch->finished = batch->listed + 1;
  CUDA_TRY(lane,
           cudaMemsetAsync(batch->listed, 0, static_cast<size_t>(1 + batch->split) * sizeof *batch->listed,
                           lane->stream));
}

template <class S, int V, pool_kind KIND> void launch_batch(cuda_lane_t *lane, batch_t *batch) {
  const unsigned blocks = static_cast<unsigned>(batch->first_block[batch->count]);
  const unsigned long_blocks = static_cast<unsigned>(cuda_multiprocessors(lane) * LONG_BLOCKS_PER_SM);
  bool any_long = false; /* where each term is a segment, none is */
  for (int i = 0; i < batch->count; i++) any_long |= batch->task[i].begin != NULL;
  if (any_long) place_list<S, V, KIND>(lane, batch);
  if (!batch->long_only)
    CUDA_LAUNCH(lane, (reduce_short<S, V, KIND>), blocks, REAL_THREADS, 0, *batch);
  else if (any_long)
    CUDA_LAUNCH(lane, list_long, blocks, REAL_THREADS, 0, *batch);
  if (any_long) CUDA_LAUNCH(lane, (reduce_long<S, V, KIND>), long_blocks, REAL_THREADS, 0, *batch);
}

/* Which instance a task takes. */
struct variant_t {
  int vector;
  pool_kind kind;
  sbag_storage_t storage;
};

variant_t variant_of(sbag_dtype_t dtype, const reduce_task_t *task) {
  const pool_kind kind = task->op == REDUCE_MAX ? POOL_MAX : task->select != NULL ? POOL_SELECTED : POOL_SUM;
  return variant_t{real_vector(task->dim, kernel_dtype_bytes(dtype)), kind, task->storage};
}

void add_task(batch_t *batch, const reduce_task_t *task, int vector) {
  const int i = batch->count++, lanes = real_lanes(task->dim, vector);
  const int64_t width = static_cast<int64_t>(lanes) * vector;
  const int64_t units = (task->segment_end - task->segment_begin) * ((task->dim + width - 1) / width);
  batch->task[i] = *task;
  batch->lanes_log[i] = 0;
  while (1 << batch->lanes_log[i] < lanes) batch->lanes_log[i]++;
  const unsigned blocks = batch->long_only
                              ? real_blocks(task->segment_end - task->segment_begin, 1, REAL_BLOCKS_MOST)
                              : real_blocks(units, lanes, REAL_BLOCKS_MOST);
  batch->first_block[i + 1] = batch->first_block[i] + static_cast<int>(blocks);
}

template <class S, int V> void launch_kind(cuda_lane_t *lane, batch_t *batch, pool_kind kind) {
  if (batch->count == 0) return;
  if (kind == POOL_MAX)
    launch_batch<S, V, POOL_MAX>(lane, batch);
  else if (kind == POOL_SUM)
    launch_batch<S, V, POOL_SUM>(lane, batch);
  else if constexpr (!kept_is_narrow<S>) /* gradients alone are selected from */
    launch_batch<S, V, POOL_SELECTED>(lane, batch);
}

/* All tasks of one instance, a batch at a time. */
void launch_variant(cuda_lane_t *lane, sbag_dtype_t dtype, const reduce_task_t *tasks, int64_t count,
                    variant_t variant, bool long_only) {
  for (int64_t next = 0; next < count;) {
    batch_t batch;
    memset(&batch, 0, sizeof batch);
    batch.long_only = long_only;
    for (; next < count && batch.count < BATCH; next++) {
      const variant_t one = variant_of(dtype, &tasks[next]);
      if (one.vector != variant.vector || one.kind != variant.kind || one.storage != variant.storage)
        continue;
      if (tasks[next].segment_begin < tasks[next].segment_end) add_task(&batch, &tasks[next], variant.vector);
    }
    KEPT_BY_VECTOR(dtype, variant.storage, variant.vector, launch_kind, lane, &batch, variant.kind);
  }
}

void cuda_reduce(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const reduce_task_t *tasks,
                 int64_t count) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  for (int storage = SBAG_STORAGE_FULL; storage <= SBAG_STORAGE_BF16; storage++)
    for (int kind = 0; kind < POOL_KINDS; kind++)
      for (int vector = 1; vector <= 4; vector *= 2)
        launch_variant(lane, dtype, tasks, count,
                       variant_t{vector, static_cast<pool_kind>(kind), static_cast<sbag_storage_t>(storage)},
                       false);
}

} // namespace

void cuda_reduce_long(cuda_lane_t *lane, sbag_dtype_t dtype, const reduce_task_t *sums, int64_t count) {
  for (int vector = 1; vector <= 4; vector *= 2)
    launch_variant(lane, dtype, sums, count, variant_t{vector, POOL_SUM, SBAG_STORAGE_FULL}, true);
}

void cuda_reduce_ops(kernel_ops_t *ops) {
  ops->reduce = cuda_reduce;
}
