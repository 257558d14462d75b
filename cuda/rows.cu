/* Ops on whole rows, a group of lanes each: products, norms, copies, max_norm, and initial values. A row's
 * sum is that of its lanes' sums, in the order of a butterfly: the same for any launch. */
#include "kept.cuh"

extern "C" {
#include "base/exact_sum.h"
#include "base/random.h"
}
#include <Random123/philox.h>
#include <algorithm>

namespace {

/* How a kernel deals rows to groups. */
struct groups_t {
  int64_t count, dim; /* rows, columns */
  int lanes_log;
};

/* What a group does next. Loops are by warps, so that all lanes of one meet in the shuffles. */
struct group_t {
  int64_t row, step;
  int64_t column, width; /* the lane's first column, and from one of its columns to the next */
  __device__ group_t(const groups_t &q, int vector) {
    const int lanes = 1 << q.lanes_log, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    row = cuda_first() >> q.lanes_log;
    step = cuda_stride() >> q.lanes_log;
    column = lane * vector;
    width = static_cast<int64_t>(lanes) * vector;
  }
  /* Whether any group of the warp has a row; this one has if row < count. */
  __device__ bool any(const groups_t &q) const {
    const int64_t of_warp = row - (static_cast<int>(threadIdx.x) % CUDA_WARP >> q.lanes_log);
    return of_warp < q.count;
  }
};

/* All lanes of a group have the result. */
template <class T> __device__ T group_sum(T mine, int lanes_log) {
  for (int half = 1 << lanes_log >> 1; half > 0; half >>= 1)
    mine += __shfl_xor_sync(CUDA_FULL_MASK, mine, half);
  return mine;
}

/* The largest, or NaN where there is one. */
__device__ double group_most(double mine, int lanes_log) {
  for (int half = 1 << lanes_log >> 1; half > 0; half >>= 1) {
    const double other = __shfl_xor_sync(CUDA_FULL_MASK, mine, half);
    mine = other > mine || real_is_nan(other) ? other : mine;
  }
  return mine;
}

/* ---- products ---- */

struct product_t {
  const void *left, *right;
  const int64_t *left_at, *right_at;
  int64_t right_stride;
  void *dot;
};

template <class T, int V> __global__ void __launch_bounds__(REAL_THREADS) dot(groups_t q, product_t product) {
  for (group_t g(q, V); g.any(q); g.row += g.step) {
    T sum = 0;
    if (g.row < q.count) {
      const T *a = static_cast<const T *>(product.left) + __ldg(product.left_at + g.row);
      const T *b =
          static_cast<const T *>(product.right) + __ldg(product.right_at + g.row) * product.right_stride;
      for (int64_t c = g.column; c < q.dim; c += g.width) {
        const real_vec<T, V> x = real_load<REAL_READONLY, V>(a + c), y = real_load<REAL_READONLY, V>(b + c);
        REAL_UNROLL
        for (int i = 0; i < V; i++) sum += x.v[i] * y.v[i];
      }
    }
    sum = group_sum(sum, q.lanes_log);
    if (g.row < q.count && g.column == 0) static_cast<T *>(product.dot)[g.row] = sum;
  }
}

/* ---- sums of squares, added exactly ---- */

struct exact_digits_t {
  unsigned long long digit[EXACT_SUM_DIGITS], non_finite;
};

/* As exact_sum_add: the 53 bits of a double that is finite and not negative, where they belong among the
 * digits. Integers: the order of the additions does not matter. */
__device__ void exact_add(double value, exact_digits_t *sum) {
  const unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(value));
  const int exponent = static_cast<int>(bits >> 52);
  unsigned long long mantissa = bits & ((1ull << 52) - 1);
  if (exponent > 0) mantissa |= 1ull << 52;
  const int position = exponent > 0 ? exponent - 1 : 0, shift = position % 32;
  const unsigned long long low = mantissa << shift, high = shift > 0 ? mantissa >> (64 - shift) : 0;
  unsigned long long *digit = sum->digit + position / 32;
  if (mantissa == 0) return;
  atomicAdd(digit, low & 0xffffffffu);
  atomicAdd(digit + 1, low >> 32);
  if (high > 0) atomicAdd(digit + 2, high);
}

template <class T, int V>
__global__ void __launch_bounds__(REAL_THREADS)
    norm_squared(groups_t q, const T *rows, exact_digits_t *result) {
  CUDA_SHARED(exact_digits_t, sum, 1);
  unsigned long long *all = sum->digit, *to = result->digit; /* the count of non-finite rows is behind them */
  for (int i = static_cast<int>(threadIdx.x); i <= EXACT_SUM_DIGITS; i += REAL_THREADS) {
    if (i < EXACT_SUM_DIGITS)
      all[i] = 0;
    else
      sum->non_finite = 0;
  }
  __syncthreads();
  for (group_t g(q, V); g.any(q); g.row += g.step) {
    double mine = 0;
    for (int64_t c = g.column; g.row < q.count && c < q.dim; c += g.width) {
      const real_vec<T, V> x = real_load<REAL_READONLY, V>(rows + g.row * q.dim + c);
      REAL_UNROLL
      for (int i = 0; i < V; i++) mine += static_cast<double>(x.v[i]) * static_cast<double>(x.v[i]);
    }
    const double total = group_sum(mine, q.lanes_log);
    if (g.row >= q.count || g.column > 0) continue;
    if (real_is_finite(total))
      exact_add(total, sum);
    else
      atomicAdd(&sum->non_finite, 1ull);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < EXACT_SUM_DIGITS; i += REAL_THREADS)
    if (all[i] != 0) atomicAdd(to + i, all[i]);
  if (threadIdx.x == 0 && sum->non_finite != 0) atomicAdd(&result->non_finite, sum->non_finite);
}

/* ---- copies ---- */

/* to[to_rows[i]] = from[from_rows[i]]; without a list: row i. */
/* Rows of one array into rows of another, either of which may keep them in 16 bits; a list NULL: all rows in
 * their order. */
template <class F, class G, int V>
__global__ void __launch_bounds__(REAL_THREADS)
    copy_rows(groups_t q, const F *from, const int64_t *from_rows, G *to, const int64_t *to_rows) {
  for (group_t g(q, V); g.row < q.count; g.row += g.step) {
    const F *source = from + (from_rows != nullptr ? __ldg(from_rows + g.row) : g.row) * q.dim;
    G *target = to + (to_rows != nullptr ? __ldg(to_rows + g.row) : g.row) * q.dim;
    for (int64_t c = g.column; c < q.dim; c += g.width)
      kept_store<REAL_KEPT, V>(target + c, kept_load<REAL_READONLY, V>(source + c));
  }
}

/* ---- max_norm ---- */

enum norm_kind { NORM_COUNT, NORM_1, NORM_2, NORM_P, NORM_MOST };

struct renorm_t {
  const int64_t *rows;
  norm_kind kind;
  double max_norm, p;
};

/* What an element adds to the row's sum, as torch's norm(p). */
__device__ double norm_term(norm_kind kind, double p, double size) {
  switch (kind) {
  case NORM_COUNT:
    return size != 0;
  case NORM_2:
    return size * size;
  case NORM_P:
    return pow(size, p);
  default:
    return size;
  }
}

template <class S, int V>
__device__ kept_real<S> row_norm(const groups_t &q, const renorm_t &r, const group_t &g, const S *row) {
  using T = kept_real<S>;
  double mine = 0;
  for (int64_t c = g.column; g.row < q.count && c < q.dim; c += g.width) {
    const real_vec<T, V> x = kept_load<REAL_KEPT, V>(row + c);
    REAL_UNROLL
    for (int i = 0; i < V; i++) {
      const double term = norm_term(r.kind, r.p, fabs(static_cast<double>(x.v[i])));
      if (r.kind == NORM_MOST)
        mine = term > mine || real_is_nan(term) ? term : mine;
      else
        mine += term;
    }
  }
  const double sum = r.kind == NORM_MOST ? group_most(mine, q.lanes_log) : group_sum(mine, q.lanes_log);
  return static_cast<T>(r.kind == NORM_2 ? sqrt(sum) : r.kind == NORM_P ? pow(sum, 1 / r.p) : sum);
}

/* to NULL: in place; each lane writes what it alone has read. */
template <class S, int V>
__global__ void __launch_bounds__(REAL_THREADS) renorm(groups_t q, renorm_t r, S *weight, kept_real<S> *to) {
  using T = kept_real<S>;
  for (group_t g(q, V); g.any(q); g.row += g.step) {
    S *row = weight + (g.row < q.count ? __ldg(r.rows + g.row) : 0) * q.dim;
    const T norm = row_norm<S, V>(q, r, g, row);
    const bool longer = static_cast<double>(norm) > r.max_norm; /* not if it is NaN */
    if (g.row >= q.count || (!longer && to == nullptr)) continue;
    const T scale =
        longer ? static_cast<T>(r.max_norm / (static_cast<double>(norm) + 1e-7)) : static_cast<T>(1);
    for (int64_t c = g.column; c < q.dim; c += g.width) {
      real_vec<T, V> x = kept_load<REAL_KEPT, V>(row + c);
      REAL_UNROLL
      for (int i = 0; i < V; i++) x.v[i] = longer ? kept_rounded<S>(x.v[i] * scale) : x.v[i];
      if (to != nullptr)
        real_store<REAL_KEPT, V>(to + g.row * q.dim + c, x);
      else
        kept_store<REAL_KEPT, V>(row + c, x);
    }
  }
}

/* ---- initial values ---- */

struct init_t {
  plan_table_t plan;
  int shard;
  int64_t first, rows, dim;
  sbag_init_t kind;
  double low, size; /* the mean and the deviation of normal values */
  uint64_t key;
};

__device__ void init_columns(const init_t &t, const random_block_t &drawn, double v[4]) {
  if (t.kind == SBAG_INIT_NORMAL) {
    random_normal4(drawn, v);
    for (int j = 0; j < 4; j++) v[j] = t.low + t.size * v[j];
    return;
  }
  for (int j = 0; j < 4; j++)
    v[j] = t.low + t.size * (static_cast<double>(drawn.v[j]) * (1.0 / 4294967296.0));
}

/* In single precision, as the CPU's. */
__device__ void init_columns(const init_t &t, const random_block_t &drawn, float v[4]) {
  const float low = static_cast<float>(t.low), size = static_cast<float>(t.size);
  if (t.kind == SBAG_INIT_NORMAL) {
    random_normal4_single(drawn, size, v);
  } else {
    for (int j = 0; j < 4; j++) v[j] = random_single_integer(drawn.v[j]) * (size * (1.0f / 16777216.0f));
  }
  for (int j = 0; j < 4; j++) v[j] = low + v[j];
}

/* Columns 4 block .. 4 block + 3 of a row, from the counter (row, block). */
template <class T> __device__ void init_values(const init_t &t, int64_t row, int64_t block, T v[4]) {
  for (int j = 0; j < 4; j++) v[j] = static_cast<T>(t.low);
  if (t.kind == SBAG_INIT_CONSTANT) return;
  const uint64_t high = static_cast<uint64_t>(row), low = static_cast<uint64_t>(block);
  const philox4x32_ctr_t counter = {{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                                     static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}};
  const philox4x32_key_t key = {{static_cast<uint32_t>(t.key), static_cast<uint32_t>(t.key >> 32)}};
  const philox4x32_ctr_t drawn = philox4x32(counter, key);
  init_columns(t, random_block_t{{drawn.v[0], drawn.v[1], drawn.v[2], drawn.v[3]}}, v);
}

template <class S> __global__ void __launch_bounds__(CUDA_BLOCK) init(init_t t, S *weight) {
  const int64_t blocks = (t.dim + 3) / 4;
  for (int64_t i = cuda_first(); i < t.rows * blocks; i += cuda_stride()) {
    const int64_t local = i / blocks, block = i - local * blocks;
    kept_real<S> v[4];
    init_values(t, plan_row(&t.plan, t.shard, t.first + local), block, v);
    for (int j = 0; j < 4 && 4 * block + j < t.dim; j++)
      kept_nearest(v[j], weight + local * t.dim + 4 * block + j);
  }
}

/* Those of the global rows that are among these of the shard, from 0 to `rows` of them. */
template <class S>
__global__ void __launch_bounds__(CUDA_BLOCK)
    zero_rows(init_t t, const int64_t *row, int64_t count, S *weight) {
  for (int64_t i = cuda_first(); i < count * t.dim; i += cuda_stride()) {
    const int64_t which = i / t.dim;
    int shard;
    int64_t local;
    plan_locate(&t.plan, row[which], &shard, &local);
    local -= t.first;
    if (shard == t.shard && local >= 0 && local < t.rows) weight[local * t.dim + (i - which * t.dim)] = S{};
  }
}

/* ---- the host's side ---- */

groups_t groups_for(sbag_dtype_t dtype, int64_t count, int64_t dim, int *vector) {
  *vector = real_vector(dim, kernel_dtype_bytes(dtype));
  groups_t q = {count, dim, 0};
  while (1 << q.lanes_log < real_lanes(dim, *vector)) q.lanes_log++;
  return q;
}

unsigned blocks_for(const groups_t &q) {
  return real_blocks(q.count, 1 << q.lanes_log, REAL_BLOCKS_MOST);
}

template <class T, int V> void launch_dot(cuda_lane_t *lane, const groups_t &q, const product_t &product) {
  CUDA_LAUNCH(lane, (dot<T, V>), blocks_for(q), REAL_THREADS, 0, q, product);
}

void cuda_dot(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, int64_t dim, int64_t count,
              const void *left, const int64_t *left_at, const void *right, const int64_t *right_at,
              int64_t right_stride, void *result) {
  int vector;
  const groups_t q = groups_for(dtype, count, dim, &vector);
  const product_t product = {left, right, left_at, right_at, right_stride, result};
  REAL_BY_VECTOR(dtype, vector, launch_dot, cuda_begin(k, stream), q, product);
}

void take_digits(void *host, const void *pinned, size_t) {
  exact_sum_t *sum = static_cast<exact_sum_t *>(host);
  const exact_digits_t *digits = static_cast<const exact_digits_t *>(pinned);
  exact_sum_carry(sum);
  for (int i = 0; i < EXACT_SUM_DIGITS; i++) sum->digit[i] += static_cast<int64_t>(digits->digit[i]);
  exact_sum_carry(sum);
}

void take_count(void *host, const void *pinned, size_t) {
  *static_cast<int64_t *>(host) += *static_cast<const int64_t *>(pinned);
}

template <class T, int V>
void launch_norm_squared(cuda_lane_t *lane, const groups_t &q, const void *rows, exact_digits_t *result) {
  const int64_t most = static_cast<int64_t>(cuda_multiprocessors(lane)) * REAL_BLOCKS_PER_SM;
  CUDA_LAUNCH(lane, (norm_squared<T, V>), real_blocks(q.count, 1 << q.lanes_log, most), REAL_THREADS, 0, q,
              static_cast<const T *>(rows), result);
}

/* A digit grows by less than 2^32 a row: 2^30 rows at a time stay below 2^63. */
void cuda_norm_squared(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *rows,
                       int64_t count, int64_t dim, exact_sum_t *sum, int64_t *non_finite) {
  const int64_t piece = static_cast<int64_t>(1) << 30;
  cuda_lane_t *lane = cuda_begin(k, stream);
  for (int64_t first = 0; first < count; first += piece) {
    int vector;
    const groups_t q = groups_for(dtype, std::min(piece, count - first), dim, &vector);
    const char *from =
        static_cast<const char *>(rows) + static_cast<size_t>(first * dim) * kernel_dtype_bytes(dtype);
    exact_digits_t *result = cuda_scratch<exact_digits_t>(lane, 1);
    CUDA_TRY(lane, cudaMemsetAsync(result, 0, sizeof *result, lane->stream));
    REAL_BY_VECTOR(dtype, vector, launch_norm_squared, lane, q, from, result);
    cuda_deliver(lane, sum, result, sizeof *result, take_digits);
    if (result != nullptr) cuda_deliver(lane, non_finite, &result->non_finite, sizeof(int64_t), take_count);
  }
}

template <class S, int V>
void launch_scatter_rows(cuda_lane_t *lane, const groups_t &q, const void *values, const int64_t *rows,
                         void *weight) {
  using T = kept_real<S>;
  CUDA_LAUNCH(lane, (copy_rows<T, S, V>), blocks_for(q), REAL_THREADS, 0, q, static_cast<const T *>(values),
              nullptr, static_cast<S *>(weight), rows);
}

void cuda_scatter_rows(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                       const void *values, int64_t dim, const int64_t *rows, int64_t count, void *weight) {
  int vector;
  const groups_t q = groups_for(dtype, count, dim, &vector);
  KEPT_BY_VECTOR(dtype, storage, vector, launch_scatter_rows, cuda_begin(k, stream), q, values, rows, weight);
}

template <class S, int V>
void launch_gather_rows(cuda_lane_t *lane, const groups_t &q, const void *weight, const int64_t *rows,
                        void *values) {
  using T = kept_real<S>;
  CUDA_LAUNCH(lane, (copy_rows<S, T, V>), blocks_for(q), REAL_THREADS, 0, q, static_cast<const S *>(weight),
              rows, static_cast<T *>(values), nullptr);
}

void cuda_gather_rows(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                      const void *weight, int64_t dim, const int64_t *rows, int64_t count, void *values) {
  int vector;
  const groups_t q = groups_for(dtype, count, dim, &vector);
  KEPT_BY_VECTOR(dtype, storage, vector, launch_gather_rows, cuda_begin(k, stream), q, weight, rows, values);
}

template <class S, int V>
void launch_renorm(cuda_lane_t *lane, const groups_t &q, const renorm_t &r, void *weight, void *to) {
  CUDA_LAUNCH(lane, (renorm<S, V>), blocks_for(q), REAL_THREADS, 0, q, r, static_cast<S *>(weight),
              static_cast<kept_real<S> *>(to));
}

void cuda_renorm(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                 void *weight, int64_t dim, const int64_t *rows, int64_t count, double max_norm,
                 double norm_type, void *to) {
  int vector;
  const groups_t q = groups_for(dtype, count, dim, &vector);
  const norm_kind kind = std::isinf(norm_type) ? NORM_MOST
                         : norm_type == 0      ? NORM_COUNT
                         : norm_type == 1      ? NORM_1
                         : norm_type == 2      ? NORM_2
                                               : NORM_P;
  const renorm_t r = {rows, kind, max_norm, norm_type};
  KEPT_BY_VECTOR(dtype, storage, vector, launch_renorm, cuda_begin(k, stream), q, r, weight, to);
}

template <class S>
void launch_init(cuda_lane_t *lane, const init_t &t, const int64_t *zero, int64_t zeros, void *weight) {
  CUDA_LAUNCH(lane, init<S>, cuda_blocks(lane, t.rows * ((t.dim + 3) / 4)), CUDA_BLOCK, 0, t,
              static_cast<S *>(weight));
  CUDA_LAUNCH(lane, zero_rows<S>, cuda_blocks(lane, zeros * t.dim), CUDA_BLOCK, 0, t, zero, zeros,
              static_cast<S *>(weight));
}

void cuda_init(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const init_task_t *task) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  double low, size;
  init_range(task, &low, &size);
  const init_t t = {*task->plan, task->shard, task->first, task->rows, task->dim,
                    task->kind,  low,         size,        task->key};
  const int64_t *zero = task->zero_count > 0 ? cuda_upload(lane, task->zero_rows, task->zero_count) : nullptr;
  KEPT_BY_DTYPE(dtype, task->storage, launch_init, lane, t, zero, task->zero_count, task->weight);
}

} // namespace

void cuda_rows_ops(kernel_ops_t *ops) {
  ops->dot = cuda_dot;
  ops->norm_squared = cuda_norm_squared;
  ops->scatter_rows = cuda_scatter_rows;
  ops->gather_rows = cuda_gather_rows;
  ops->renorm = cuda_renorm;
  ops->init = cuda_init;
}
