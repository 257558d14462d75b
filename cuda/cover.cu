/* Which rows travel as rows and which are pooled: see cover_request_t; the passes are those of cpu_cover.c,
 * for all tables at once. All sums are of integers, so their order does not matter.
 *
 * A pass goes over the keys of (owner, table) blocks or over the runs of (owner, feature) blocks, cut into
 * tiles of one block each: what belongs to a table or a feature is then the same for a thread block, which
 * counts in shared memory and adds to the sums once. Where blocks begin the device alone may know, so the
 * grid has as many thread blocks as there can be tiles, and those beyond the last tile end at once. Tiles
 * that are not wanted do not exist. */
#include "cuda/cuda_bits.cuh"

#include <algorithm>
#include <climits>

namespace {

enum {
  KEY_TILE = 4 * CUDA_BLOCK,
  LANES = 8, /* lanes of a run: as long as a run is where bags of some dozens have some owners */
  LONG_RUN = 64 * LANES,
  RUN_TILE = 4 * CUDA_BLOCK / LANES,
  DEGREES = COVER_DEGREES + 1
};

/* Tiles of blocks: block b has the items [begin[b], begin[b + 1]) and the tiles [tile[b], tile[b + 1]), none
 * where it is not wanted. */
struct tiling {
  const int64_t *begin, *tile;
  int64_t blocks;
};

/* Costs by degree of a table: of the keys with a degree as rows, and with all their edges pooled; of the runs
 * with a least degree as pools. */
struct histogram {
  unsigned long long rows[DEGREES], edges[DEGREES], pools[DEGREES];
};

/* A key's facts are at scratch[2 * key]: its degree, then what pools it alone keeps, then whether a run needs
 * it as a row; and the cost of its edges. */
struct cover {
  tiling keys, runs;
  int64_t tables, features;
  const int64_t *run_begin, *order, *which;
  const int64_t *row_cost, *pool_cost, *edge_cost; /* in device memory */
  const int *feature_table;
  int64_t *row;
  unsigned long long *fact; /* [keys][2] */
  histogram *histograms;    /* [tables] */
  int64_t *threshold;       /* [tables] */
  unsigned long long *row_count, *pool_runs, *pool_edges;
};

/* What a thread block works on. */
struct tile {
  int64_t block, first, end, kind; /* items of the block; its table or feature */
  bool exists;
};

__device__ tile tile_of(const tiling &t, int64_t kinds, int64_t items) {
  tile here = {};
  here.exists = blockIdx.x < t.tile[t.blocks];
  if (!here.exists) return here;
  here.block = last_not_above(t.tile, t.blocks, blockIdx.x);
  here.first = t.begin[here.block] + (blockIdx.x - t.tile[here.block]) * items;
  here.end = min(here.first + items, t.begin[here.block + 1]);
  here.kind = here.block % kinds;
  return here;
}

__device__ tile key_tile(const cover &c) {
  return tile_of(c.keys, c.tables, KEY_TILE);
}

__device__ tile run_tile(const cover &c) {
  return tile_of(c.runs, c.features, RUN_TILE);
}

__device__ int64_t key_of(const cover &c, int64_t place) {
  return __ldg(c.which + c.order[place]);
}

/* Adds up a thread block's counts; all of its threads come here once. */
__device__ void add_to(unsigned long long *sum, int count) {
  const int all = __reduce_add_sync(CUDA_FULL_MASK, count);
  if (threadIdx.x % CUDA_WARP == 0 && all > 0) atomicAdd(sum, static_cast<unsigned long long>(all));
}

/* What a run's edges come to, in each of its LANES lanes. `begin` == `end` where there is no run. A Fold
 * takes edges in and joins others, in any order. What a long run has beyond LONG_RUN edges, the whole warp
 * takes. */
template <class Fold> __device__ Fold fold_run(const cover &c, int64_t begin, int64_t end) {
  const int lane = threadIdx.x % CUDA_WARP;
  const int64_t near = min(end, begin + LONG_RUN);
  Fold fold;
  for (int64_t i = begin + lane % LANES; i < near; i += LANES) fold.add(c, i);
  __syncwarp();
  for (unsigned longs = __ballot_sync(CUDA_FULL_MASK, lane % LANES == 0 && near < end); longs != 0;
       longs &= longs - 1) {
    const int source = __ffs(static_cast<int>(longs)) - 1;
    const int64_t first = __shfl_sync(CUDA_FULL_MASK, near, source);
    const int64_t last = __shfl_sync(CUDA_FULL_MASK, end, source);
    Fold part;
    for (int64_t i = first + lane; i < last; i += CUDA_WARP) part.add(c, i);
    __syncwarp();
    for (int d = CUDA_WARP / 2; d >= LANES; d /= 2) part.join(part.of_lane(d));
    if (lane / LANES == source / LANES) fold.join(part);
  }
  for (int d = LANES / 2; d > 0; d /= 2) fold.join(fold.of_lane(d));
  return fold;
}

/* A tile's runs: visit(run, its fold, whether there is such a run), by each of the run's lanes. */
template <class Fold, class Visit> __device__ void over_runs(const cover &c, const tile &t, Visit visit) {
  for (int64_t base = t.first; base < t.end; base += CUDA_BLOCK / LANES) {
    const int64_t r = base + threadIdx.x / LANES;
    const bool exists = r < t.end;
    const int64_t begin = exists ? c.run_begin[r] : 0, end = exists ? c.run_begin[r + 1] : 0;
    visit(r, fold_run<Fold>(c, begin, end), exists);
  }
}

__device__ bool is_first_lane() {
  return threadIdx.x % LANES == 0;
}

/* ---- degrees ---- */

__global__ void __launch_bounds__(CUDA_BLOCK) count_degrees(cover c) {
  const tile t = run_tile(c);
  if (!t.exists) return; /* the whole block */
  const unsigned long long cost = static_cast<unsigned long long>(c.edge_cost[t.kind]);
  const int64_t end = c.run_begin[t.end];
  for (int64_t i = c.run_begin[t.first] + threadIdx.x; i < end; i += CUDA_BLOCK) {
    const int64_t key = key_of(c, i);
    atomicAdd(&c.fact[2 * key], 1ull);
    if (cost != 0) atomicAdd(&c.fact[2 * key + 1], cost);
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK) count_keys(cover c) {
  CUDA_SHARED(unsigned long long, edges, DEGREES);
  CUDA_SHARED(int, keys, DEGREES);
  const tile t = key_tile(c);
  if (!t.exists) return; /* the whole block */
  if (threadIdx.x < DEGREES) edges[threadIdx.x] = keys[threadIdx.x] = 0;
  __syncthreads();
  for (int64_t key = t.first + threadIdx.x; key < t.end; key += CUDA_BLOCK) {
    const unsigned long long degree = c.fact[2 * key], cost = c.fact[2 * key + 1];
    const int at = degree < COVER_DEGREES ? static_cast<int>(degree) : int{COVER_DEGREES};
    if (degree > 0) atomicAdd(&keys[at], 1);
    if (cost > 0) atomicAdd(&edges[at], cost);
  }
  __syncthreads();
  if (threadIdx.x >= DEGREES) return;
  histogram *h = &c.histograms[t.kind];
  const unsigned long long rows = static_cast<unsigned long long>(keys[threadIdx.x]) *
                                  static_cast<unsigned long long>(c.row_cost[t.kind]);
  if (rows > 0) atomicAdd(&h->rows[threadIdx.x], rows);
  if (edges[threadIdx.x] > 0) atomicAdd(&h->edges[threadIdx.x], edges[threadIdx.x]);
}

struct least_degree {
  int least = COVER_DEGREES;
  __device__ void add(const cover &c, int64_t i) {
    const unsigned long long degree = c.fact[2 * key_of(c, i)];
    if (degree < static_cast<unsigned long long>(least)) least = static_cast<int>(degree);
  }
  __device__ void join(const least_degree &other) { least = min(least, other.least); }
  __device__ least_degree of_lane(int bits) const {
    least_degree other;
    other.least = __shfl_xor_sync(CUDA_FULL_MASK, least, bits);
    return other;
  }
};

__global__ void __launch_bounds__(CUDA_BLOCK) count_runs(cover c) {
  CUDA_SHARED(int, runs, DEGREES);
  const tile t = run_tile(c);
  if (!t.exists) return; /* the whole block */
  if (threadIdx.x < DEGREES) runs[threadIdx.x] = 0;
  __syncthreads();
  over_runs<least_degree>(c, t, [&](int64_t, const least_degree &fold, bool exists) {
    if (exists && is_first_lane()) atomicAdd(&runs[fold.least], 1);
  });
  __syncthreads();
  if (threadIdx.x < DEGREES && runs[threadIdx.x] > 0)
    atomicAdd(&c.histograms[c.feature_table[t.kind]].pools[threadIdx.x],
              static_cast<unsigned long long>(runs[threadIdx.x]) *
                  static_cast<unsigned long long>(c.pool_cost[t.kind]));
}

/* The degree from which on keys are rows; beyond all degrees where none is. A thread a table. */
__global__ void __launch_bounds__(CUDA_BLOCK) find_thresholds(cover c) {
  const int64_t table = cuda_first();
  if (table >= c.tables) return;
  const histogram *h = &c.histograms[table];
  int64_t cost = 0, least, best = 1;
  for (int d = 1; d <= COVER_DEGREES; d++) cost += static_cast<int64_t>(h->rows[d]);
  least = cost;
  for (int d = 2; d <= COVER_DEGREES + 1; d++) {
    cost += static_cast<int64_t>(h->pools[d - 1] + h->edges[d - 1] - h->rows[d - 1]);
    if (cost >= least) continue;
    least = cost;
    best = d;
  }
  c.threshold[table] = best <= COVER_DEGREES ? best : INT64_MAX;
}

/* Leaves 0 where the degree was, for what comes next. Where all keys are rows, nothing comes. */
__global__ void __launch_bounds__(CUDA_BLOCK) choose_rows(cover c) {
  const tile t = key_tile(c);
  if (!t.exists) return; /* the whole block */
  const int64_t threshold = c.threshold[t.kind];
  int rows = 0;
  for (int64_t key = t.first + threadIdx.x; key < t.end; key += CUDA_BLOCK) {
    const int64_t is_row = static_cast<int64_t>(c.fact[2 * key]) >= threshold;
    c.row[key] = is_row;
    c.fact[2 * key] = 0;
    rows += is_row != 0;
  }
  add_to(&c.row_count[t.block], threshold == 1 ? rows : 0);
}

/* ---- rows that join, and rows that leave ---- */

/* The bits that any pooled key of a run has, and those that all have: the same where there is only one. */
struct pooled_keys {
  int64_t any = 0, common = -1;
  __device__ void add(const cover &c, int64_t i) {
    const int64_t key = key_of(c, i);
    if (c.row[key] != 0) return;
    any |= key;
    common &= key;
  }
  __device__ void join(const pooled_keys &other) {
    any |= other.any;
    common &= other.common;
  }
  __device__ pooled_keys of_lane(int bits) const {
    pooled_keys other;
    other.any = __shfl_xor_sync(CUDA_FULL_MASK, any, bits);
    other.common = __shfl_xor_sync(CUDA_FULL_MASK, common, bits);
    return other;
  }
};

/* Adds a run's pool cost to the key that is the only one pooled in it. */
__global__ void __launch_bounds__(CUDA_BLOCK) find_savings(cover c) {
  const tile t = run_tile(c);
  if (!t.exists || c.threshold[c.feature_table[t.kind]] == 1) return; /* the whole block */
  const unsigned long long cost = static_cast<unsigned long long>(c.pool_cost[t.kind]);
  over_runs<pooled_keys>(c, t, [&](int64_t, const pooled_keys &fold, bool exists) {
    if (exists && is_first_lane() && fold.any == fold.common) atomicAdd(&c.fact[2 * fold.any], cost);
  });
}

/* A pooled key that alone keeps pools worth at least what it costs as a row, less what its edges cost, joins
 * the rows. */
__global__ void __launch_bounds__(CUDA_BLOCK) promote(cover c) {
  const tile t = key_tile(c);
  if (!t.exists || c.threshold[t.kind] == 1) return;
  for (int64_t key = t.first + threadIdx.x; key < t.end; key += CUDA_BLOCK) {
    const int64_t saving = static_cast<int64_t>(c.fact[2 * key]);
    c.fact[2 * key] = 0;
    if (saving > 0 && saving + static_cast<int64_t>(c.fact[2 * key + 1]) >= c.row_cost[t.kind])
      c.row[key] = 1;
  }
}

struct any_pooled {
  int pooled = 0;
  __device__ void add(const cover &c, int64_t i) { pooled |= c.row[key_of(c, i)] == 0; }
  __device__ void join(const any_pooled &other) { pooled |= other.pooled; }
  __device__ any_pooled of_lane(int bits) const {
    any_pooled other;
    other.pooled = __shfl_xor_sync(CUDA_FULL_MASK, pooled, bits);
    return other;
  }
};

/* Counts the runs with a pooled edge, and marks the rows of the others. */
__global__ void __launch_bounds__(CUDA_BLOCK) find_needs(cover c) {
  const tile t = run_tile(c);
  if (!t.exists || c.threshold[c.feature_table[t.kind]] == 1) return;
  int pools = 0;
  over_runs<any_pooled>(c, t, [&](int64_t r, const any_pooled &fold, bool exists) {
    pools += exists && is_first_lane() && fold.pooled;
    if (exists && !fold.pooled)
      for (int64_t i = c.run_begin[r] + threadIdx.x % LANES, end = c.run_begin[r + 1]; i < end; i += LANES)
        atomicOr(&c.fact[2 * key_of(c, i)], 1ull);
    __syncwarp();
  });
  add_to(&c.pool_runs[t.block], pools);
}

/* A row that no run needs leaves the rows, unless its edges cost more than it does. */
__global__ void __launch_bounds__(CUDA_BLOCK) demote(cover c) {
  const tile t = key_tile(c);
  if (!t.exists || c.threshold[t.kind] == 1) return;
  int rows = 0;
  for (int64_t key = t.first + threadIdx.x; key < t.end; key += CUDA_BLOCK) {
    const bool dear = static_cast<int64_t>(c.fact[2 * key + 1]) > c.row_cost[t.kind];
    const bool stays = c.row[key] != 0 && (c.fact[2 * key] != 0 || dear);
    c.row[key] = stays;
    rows += stays;
  }
  add_to(&c.row_count[t.block], rows);
}

__global__ void __launch_bounds__(CUDA_BLOCK) count_pooled(cover c) {
  const tile t = run_tile(c);
  if (!t.exists || c.threshold[c.feature_table[t.kind]] == 1) return;
  int pooled = 0;
  const int64_t end = c.run_begin[t.end];
  for (int64_t i = c.run_begin[t.first] + threadIdx.x; i < end; i += CUDA_BLOCK)
    pooled += c.row[key_of(c, i)] == 0;
  add_to(&c.pool_edges[t.block], pooled);
}

/* ---- tiles ---- */

/* Leaves those (owner, table) out that are not worth it. A thread each. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    find_worth(cover c, int64_t blocks, const int *__restrict__ wanted, int *__restrict__ worth) {
  for (int64_t b = cuda_first(); b < blocks; b += cuda_stride()) {
    const int64_t owner = b / c.tables, table = b % c.tables;
    int found = 0;
    for (int64_t f = 0; wanted[b] != 0 && found == 0 && f < c.features; f++) {
      const int64_t *run = c.runs.begin + owner * c.features + f;
      if (c.feature_table[f] == table) found = c.run_begin[run[1]] - c.run_begin[run[0]] > run[1] - run[0];
    }
    worth[b] = found;
  }
}

/* How many tiles each block has: of keys, by (owner, table), and of runs, by (owner, feature). */
__global__ void __launch_bounds__(CUDA_BLOCK)
    count_tiles(cover c, const int *__restrict__ wanted, int64_t *__restrict__ keys,
                int64_t *__restrict__ runs) {
  for (int64_t b = cuda_first(); b < c.keys.blocks + c.runs.blocks; b += cuda_stride()) {
    const int64_t r = b - c.keys.blocks;
    if (r < 0) {
      keys[b] = wanted[b] != 0 ? (c.keys.begin[b + 1] - c.keys.begin[b] + KEY_TILE - 1) / KEY_TILE : 0;
    } else {
      const int is_wanted = wanted[r / c.features * c.tables + c.feature_table[r % c.features]];
      runs[r] = is_wanted != 0 ? (c.runs.begin[r + 1] - c.runs.begin[r] + RUN_TILE - 1) / RUN_TILE : 0;
    }
  }
}

/* Sets the tiles of both. */
void tile_blocks(cuda_lane_t *lane, const cover_request_t *q, cover *c) {
  const int64_t key_blocks = c->keys.blocks, run_blocks = c->runs.blocks;
  const int *wanted = cuda_upload(lane, q->wanted, key_blocks);
  int64_t *keys = cuda_scratch<int64_t>(lane, key_blocks + 1),
          *runs = cuda_scratch<int64_t>(lane, run_blocks + 1);
  if (q->only_worth) {
    int *worth = cuda_scratch<int>(lane, key_blocks);
    CUDA_LAUNCH(lane, find_worth, cuda_blocks(lane, key_blocks), CUDA_BLOCK, 0, *c, key_blocks, wanted,
                worth);
    wanted = worth;
  }
  CUDA_LAUNCH(lane, count_tiles, cuda_blocks(lane, key_blocks + run_blocks), CUDA_BLOCK, 0, *c, wanted, keys,
              runs);
  cuda_running_sums(lane, keys, key_blocks);
  cuda_running_sums(lane, runs, run_blocks);
  c->keys.tile = keys;
  c->runs.tile = runs;
}

/* ---- the op ---- */

/* Zeroed device memory. */
template <class T> T *zeros(cuda_lane_t *lane, int64_t count) {
  T *made = cuda_scratch<T>(lane, count);
  if (count > 0) CUDA_TRY(lane, cudaMemsetAsync(made, 0, mem_array_bytes(count, sizeof(T)), lane->stream));
  return made;
}

cover send_request(cuda_lane_t *lane, const cover_request_t *q) {
  const int64_t ranks = q->ranks, key_blocks = ranks * q->tables, run_blocks = ranks * q->features;
  cover c = {};
  c.keys = {q->key_block, nullptr, key_blocks};
  c.runs = {q->run_block, nullptr, run_blocks};
  c.tables = q->tables;
  c.features = q->features;
  c.run_begin = q->run_begin;
  c.order = q->order;
  c.which = q->which;
  c.row_cost = cuda_upload(lane, q->row_cost, q->tables);
  c.pool_cost = cuda_upload(lane, q->pool_cost, q->features);
  c.edge_cost = cuda_upload(lane, q->edge_cost, q->features);
  c.feature_table = cuda_upload(lane, q->feature_table, q->features);
  c.row = q->row;
  c.fact = reinterpret_cast<unsigned long long *>(q->scratch);
  c.histograms = zeros<histogram>(lane, q->tables);
  c.threshold = cuda_scratch<int64_t>(lane, q->tables);
  c.row_count = zeros<unsigned long long>(lane, key_blocks);
  c.pool_runs = zeros<unsigned long long>(lane, run_blocks);
  c.pool_edges = zeros<unsigned long long>(lane, run_blocks);
  tile_blocks(lane, q, &c);
  return c;
}

/* A block of items has at most one tile that is not full. */
unsigned most_tiles(int64_t items, int64_t tile_items, int64_t blocks) {
  return static_cast<unsigned>(items / tile_items + std::min(items, blocks));
}

void cuda_cover(kernel_t *k, kernel_stream_t *stream, const cover_request_t *q) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  const int64_t key_blocks = static_cast<int64_t>(q->ranks) * q->tables;
  const int64_t run_blocks = static_cast<int64_t>(q->ranks) * q->features;
  const cover c = send_request(lane, q);
  const unsigned keys = most_tiles(q->key_count, KEY_TILE, key_blocks);
  const unsigned runs = most_tiles(q->run_count, RUN_TILE, run_blocks);
  const size_t row_bytes = mem_array_bytes(q->key_count, sizeof *q->row);
  if (row_bytes > 0) {
    CUDA_TRY(lane, cudaMemsetAsync(q->row, 0, row_bytes, lane->stream));
    CUDA_TRY(lane, cudaMemsetAsync(q->scratch, 0, 2 * row_bytes, lane->stream));
  }
  CUDA_LAUNCH(lane, count_degrees, runs, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, count_keys, keys, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, count_runs, runs, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, find_thresholds, cuda_blocks(lane, q->tables), CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, choose_rows, keys, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, find_savings, runs, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, promote, keys, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, find_needs, runs, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, demote, keys, CUDA_BLOCK, 0, c);
  CUDA_LAUNCH(lane, count_pooled, runs, CUDA_BLOCK, 0, c);
  cuda_deliver(lane, q->row_count, c.row_count, mem_array_bytes(key_blocks, 8), nullptr);
  cuda_deliver(lane, q->pool_runs, c.pool_runs, mem_array_bytes(run_blocks, 8), nullptr);
  cuda_deliver(lane, q->pool_edges, c.pool_edges, mem_array_bytes(run_blocks, 8), nullptr);
}

/* ---- classes ---- */

/* Whether the keys of a block travel as rows, there and back: 0, 1, or 2 for as `row` says. */
struct ways {
  uint8_t there, back;
};

__global__ void __launch_bounds__(CUDA_BLOCK)
    key_classes(const int64_t *__restrict__ key_block, int64_t blocks, const ways *__restrict__ way,
                const int64_t *__restrict__ row, int64_t count, int64_t *__restrict__ bucket) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const int64_t key = key_block[0] + i, b = last_not_above(key_block, blocks, key);
    const ways way_of = way[b];
    const bool mixed = way_of.there == 2 || way_of.back == 2, is_row = mixed && row[key] != 0;
    const bool there = way_of.there == 2 ? is_row : way_of.there != 0;
    const bool back = way_of.back == 2 ? is_row : way_of.back != 0;
    const int both = back ? CLASS_ROW_ROW : CLASS_ROW_POOL, none = back ? CLASS_POOL_ROW : CLASS_POOL_POOL;
    bucket[key] = CLASSES * b + (there ? both : none);
  }
}

uint8_t way_of(share_t share, share_t other) {
  const share_t taken = share == SHARE_NONE ? other : share;
  return taken == SHARE_MIXED ? 2 : taken == SHARE_ROWS;
}

void cuda_key_classes(kernel_t *k, kernel_stream_t *stream, const int64_t *key_block, int64_t blocks,
                      const share_t *forward, const share_t *backward, const int64_t *row, int64_t *bucket) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  ways *staged = cuda_stage<ways>(lane, blocks);
  if (staged == nullptr) return;
  for (int64_t b = 0; b < blocks; b++)
    staged[b] = {way_of(forward[b], backward[b]), way_of(backward[b], forward[b])};
  const int64_t count = blocks > 0 ? key_block[blocks] - key_block[0] : 0;
  const ways *way = cuda_send(lane, staged, blocks);
  const int64_t *device_block = cuda_upload(lane, key_block, blocks + 1);
  CUDA_LAUNCH(lane, key_classes, cuda_blocks(lane, count), CUDA_BLOCK, 0, device_block, blocks, way, row,
              count, bucket);
}

} // namespace

void cuda_cover_ops(kernel_ops_t *ops) {
  ops->cover = cuda_cover;
  ops->key_classes = cuda_key_classes;
}
