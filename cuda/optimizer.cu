/* update and catch_up: one pass that reads a row, its state and its gradient once, and writes row and state.
 *
 * The formulas are the CPU's, kernel/optimizer_math.inc, and so are the bits. Element-wise optimizers take a
 * row by vectors, a group of lanes a row; a row that lags goes through its missed steps in registers before
 * its update. Those that reduce over the row add its squares in the CPU's order: element i to lane i mod 8,
 * and these eight as a tree. Elements of a row up to KEPT a lane stay in registers between the sum and the
 * step. */
#include "segments.cuh"

extern "C" {
#include "kernel/optimizer_step.h"
}

namespace {

enum part_kind { PART_SGD, PART_ADAGRAD, PART_ADAM, PART_SPARSE_ADAM, PART_RMSPROP, PART_FBGEMM_ADAM };

/* Blocks that an SM is to hold at least: bounds the registers, to what needs no spills. */
template <class T, int V, part_kind KIND> constexpr int part_blocks() {
  return sizeof(T) == 8 ? 4 : (KIND == PART_ADAM || KIND == PART_RMSPROP) && V > 1 ? 5 : 6;
}
template <class T> constexpr int WHOLE_BLOCKS_PER_SM = sizeof(T) == 8 ? 2 : 4;

/* ---- the formulas, as static members so that both types' have their plain names ---- */

template <class T> struct math;

#define FUNCTION static __device__ __forceinline__
#define RESTRICT __restrict__
#define FN(name) name

template <> struct math<float> {
#define REAL      float
#define REAL_SQRT sqrtf
#define REAL_ABS  fabsf
#define REAL_BITS 1.1920928955078125e-7f
#define REAL_LOW  1.17549435082228750797e-38f
#define REAL_HIGH 3.40282346638528859812e+38f
#include "kernel/optimizer_math.inc"
#undef REAL
#undef REAL_SQRT
#undef REAL_ABS
#undef REAL_BITS
#undef REAL_LOW
#undef REAL_HIGH
};

template <> struct math<double> {
#define REAL      double
#define REAL_SQRT sqrt
#define REAL_ABS  fabs
#define REAL_BITS 2.2204460492503130808e-16
#define REAL_LOW  2.2250738585072013831e-308
#define REAL_HIGH 1.7976931348623157081e+308
#include "kernel/optimizer_math.inc"
#undef REAL
#undef REAL_SQRT
#undef REAL_ABS
#undef REAL_BITS
#undef REAL_LOW
#undef REAL_HIGH
};

/* ---- what a launch knows ---- */

struct update_t {
  sbag_optimizer_options_t options;
  step_values_t at;            /* of the update; step alone where rows are only caught up */
  const step_values_t *missed; /* [step - 1 - epoch_step] of the steps since the epoch began */
  int64_t epoch_step;
  int32_t *last_step;
  void *weight, *state[OPTIMIZER_STATES_MAX];
  sbag_storage_t storage; /* of weight, and how 16 bits are rounded to */
  bool by_chance;
  uint64_t key;
  plan_table_t plan;
  int shard;
  int state_count;
  int64_t dim, count;
  const int64_t *rows, *touched;
  const void *grad; /* NULL: catch up to the step before at.step, and no more */
  bool summed;      /* grad has the gradients of long segments alone; those of short ones are summed here */
  reduce_task_t sum;
  double grad_scale;
  int lanes_log;
};
static_assert(sizeof(update_t) <= 4096, "parameters of a launch");

__device__ __forceinline__ bool is_left_out(const update_t &u, int64_t i) {
  return u.touched != nullptr && __ldg(u.touched + i) == __ldg(u.touched + i + 1);
}

__device__ __forceinline__ int64_t row_of(const update_t &u, int64_t i) {
  return u.rows != nullptr ? __ldg(u.rows + i) : i;
}

template <class T> __device__ __forceinline__ typename math<T>::shape_t shape_of(const update_t &u) {
  typename math<T>::shape_t shape;
  shape.scale = static_cast<T>(u.grad_scale);
  shape.clip = static_cast<T>(u.options.clip_value);
  shape.maximize = u.options.maximize;
  return shape;
}

/* ---- weights, which may be kept in 16 bits ---- */

template <bool NARROW, int V, class T>
__device__ __forceinline__ real_vec<T, V> load_weights(const update_t &u, int64_t at) {
  if constexpr (!NARROW)
    return real_load<REAL_KEPT, V>(static_cast<const T *>(u.weight) + at);
  else if (u.storage == SBAG_STORAGE_F16)
    return kept_load<REAL_KEPT, V>(static_cast<const kept_f16 *>(u.weight) + at);
  else
    return kept_load<REAL_KEPT, V>(static_cast<const kept_bf16 *>(u.weight) + at);
}

__device__ __forceinline__ uint16_t rounded(const update_t &u, float value, uint32_t drawn) {
  if (u.storage == SBAG_STORAGE_F16)
    return u.by_chance ? rounding_f16_of(value, drawn) : narrow_f16_of(value);
  return u.by_chance ? rounding_bf16_of(value, drawn) : narrow_bf16_of(value);
}

/* V columns from `column` on, which is a multiple of V: they draw from one block. */
template <bool NARROW, int V, class T>
__device__ __forceinline__ void store_weights(const update_t &u, int64_t row, int64_t column,
                                              const real_vec<T, V> &w) {
  const int64_t at = row * u.dim + column;
  if constexpr (!NARROW) {
    real_store<REAL_KEPT, V>(static_cast<T *>(u.weight) + at, w);
  } else {
    rounding_block_t drawn = {};
    if (u.by_chance)
      drawn = rounding_block(u.key, plan_row(&u.plan, u.shard, row), u.at.step, column / ROUNDING_COLUMNS);
    uint16_t code[V];
    REAL_UNROLL
    for (int c = 0; c < V; c++)
      code[c] = rounded(u, w.v[c], rounding_bits(&drawn, static_cast<int>(column % ROUNDING_COLUMNS) + c));
    kept_store_codes<REAL_KEPT, V>(static_cast<uint16_t *>(u.weight) + at, code);
  }
}

/* Columns of the i-th row's gradient. */
template <class T, int V>
__device__ __forceinline__ real_vec<T, V> gradient(const update_t &u, int64_t i, int64_t column) {
  if (u.summed) {
    const int64_t first = segment_first(u.sum, i), last = segment_last(u.sum, i);
    if (last - first <= CHUNK) {
      sum_pool<T, V, false, AHEAD_UPDATE> pool;
      pool.start();
      pool.take(u.sum, span_t{first, last, first, column});
      return pool.value(u.sum, i);
    }
  }
  return real_load<REAL_PASSING, V>(static_cast<const T *>(u.grad) + i * u.dim + column);
}

/* ---- element-wise optimizers ---- */

/* States that a kind has at most. */
template <part_kind KIND>
constexpr int most_states = KIND == PART_SGD || KIND == PART_ADAGRAD    ? 1
                            : KIND == PART_ADAM || KIND == PART_RMSPROP ? 3
                                                                        : 2;

template <part_kind KIND, class T>
__device__ __forceinline__ void take_step(const sbag_optimizer_options_t *options, const step_values_t *at,
                                          int n, const T *g, T *w, T *const *states) {
  if constexpr (KIND == PART_SGD) math<T>::sgd(options, at, n, g, w, states);
  if constexpr (KIND == PART_ADAGRAD) math<T>::adagrad(options, at, n, g, w, states);
  if constexpr (KIND == PART_ADAM) math<T>::adam(options, at, n, g, w, states);
  if constexpr (KIND == PART_SPARSE_ADAM) math<T>::sparse_adam(options, at, n, g, w, states);
  if constexpr (KIND == PART_RMSPROP)
    math<T>::rmsprop_of(options, at, n, g, w, states[0], options->centered ? states[1] : nullptr,
                        options->momentum != 0 ? states[2] : nullptr);
  if constexpr (KIND == PART_FBGEMM_ADAM) math<T>::fbgemm_adam(options, at, n, g, w, states);
}

/* Which of the table's states stands at a kind's place j; -1: none. RMSprop's momentum always stands at 2. */
template <part_kind KIND> __device__ __forceinline__ int state_at(const update_t &u, int j) {
  if (KIND != PART_RMSPROP || j == 0) return j < u.state_count ? j : -1;
  if (j == 1) return u.options.centered ? 1 : -1;
  return u.options.momentum != 0 ? u.state_count - 1 : -1;
}

/* V columns of one row: all that the steps have missed, then the update. */
template <class T, int V, part_kind KIND, bool NARROW>
__device__ __forceinline__ void take_columns(const update_t &u, int64_t i, int64_t row, int64_t column,
                                             int64_t seen) {
  constexpr int MOST = most_states<KIND>;
  const int64_t at = row * u.dim + column;
  real_vec<T, V> g, s[MOST], w = load_weights<NARROW, V, T>(u, at);
  T *states[OPTIMIZER_STATES_MAX] = {s[0].v, s[MOST > 1 ? 1 : 0].v, s[MOST > 2 ? 2 : 0].v, nullptr};
  if (u.grad != nullptr) g = gradient<T, V>(u, i, column);
  REAL_UNROLL
  for (int j = 0; j < MOST; j++)
    if (state_at<KIND>(u, j) >= 0)
      s[j] = real_load<REAL_PASSING, V>(static_cast<const T *>(u.state[state_at<KIND>(u, j)]) + at);
  if constexpr (!NARROW &&
                (KIND == PART_SGD || KIND == PART_ADAGRAD || KIND == PART_ADAM || KIND == PART_RMSPROP)) {
    const T zero[V] = {};
    for (int64_t step = seen + 1; step < u.at.step; step++)
      take_step<KIND>(&u.options, &u.missed[step - 1 - u.epoch_step], V, zero, w.v, states);
  }
  if (u.grad != nullptr) {
    T shaped[V];
    const typename math<T>::shape_t shape = shape_of<T>(u);
    math<T>::shape_gradient(&shape, V, g.v, shaped);
    take_step<KIND>(&u.options, &u.at, V, shaped, w.v, states);
  }
  store_weights<NARROW, V>(u, row, column, w);
  REAL_UNROLL
  for (int j = 0; j < MOST; j++)
    if (state_at<KIND>(u, j) >= 0)
      real_store<REAL_PASSING, V>(static_cast<T *>(u.state[state_at<KIND>(u, j)]) + at, s[j]);
}

template <class T, int V, part_kind KIND, bool NARROW>
__global__ void __launch_bounds__(REAL_THREADS, NARROW ? 4 : part_blocks<T, V, KIND>())
    update_parts(const __grid_constant__ update_t u) {
  const int lane = static_cast<int>(threadIdx.x) & ((1 << u.lanes_log) - 1);
  const int64_t width = static_cast<int64_t>(V) << u.lanes_log, step = cuda_stride() >> u.lanes_log;
  const int64_t here = cuda_first() >> u.lanes_log;
  const int64_t of_warp = here - (static_cast<int>(threadIdx.x) % CUDA_WARP >> u.lanes_log);
  const int64_t last = u.grad != nullptr ? u.at.step : u.at.step - 1; /* that the rows will have seen */
  /* By warps: all lanes have read how far a row has come before one of them writes it. */
  for (int64_t passed = 0; of_warp + passed < u.count; passed += step) {
    const int64_t i = here + passed;
    const bool taken = i < u.count && !is_left_out(u, i);
    const int64_t row = taken ? row_of(u, i) : 0;
    int64_t seen = u.at.step - 1;
    if (taken && u.last_step != nullptr) seen = u.epoch_step + u.last_step[row];
    if (taken && (u.grad != nullptr || seen < last))
      for (int64_t column = lane * V; column < u.dim; column += width)
        take_columns<T, V, KIND, NARROW>(u, i, row, column, seen);
    if (u.last_step == nullptr) continue;
    __syncwarp();
    if (taken && lane == 0 && seen < last) u.last_step[row] = static_cast<int32_t>(last - u.epoch_step);
  }
}

/* What each of the steps since the epoch began multiplies with. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    fill_missed(sbag_optimizer_options_t options, const double *lr_log, int64_t epoch_step, int64_t count,
                step_values_t *missed) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride())
    missed[i] = step_values(&options, epoch_step + i + 1, lr_log[i]);
}

/* ---- optimizers that reduce over the row ---- */

enum whole_kind { WHOLE_ADAGRAD, WHOLE_RMSPROP, WHOLE_ADAM, WHOLE_LAMB, WHOLE_LARS };

enum { KEPT = 8, SUM_LANES = 8 };

/* A sum of squares in the making, in every group of a warp; the first SUM_LANES lanes of a group have the
 * lanes of the sum. */
template <class T> struct square_sum {
  T sum;
  /* x: the group's next elements, one a lane; not there: beyond the row's end. */
  __device__ __forceinline__ void add(T x, bool there, int lanes) {
    const T square = there ? x * x : 0;
    sum += square;
    for (int from = SUM_LANES; from < lanes; from += SUM_LANES)
      sum += __shfl_down_sync(CUDA_FULL_MASK, square, from, lanes);
  }
  __device__ __forceinline__ T total(int lanes) const {
    T tree = sum;
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
      tree += __shfl_down_sync(CUDA_FULL_MASK, tree, half, lanes);
    return __shfl_sync(CUDA_FULL_MASK, tree, 0, lanes);
  }
};

/* Where one group is: in which row, and where that has its values. */
template <class T, bool NARROW> struct whole_t {
  T *w, *m, *v;      /* the row; its first and second state, whichever are by element */
  uint16_t *codes;   /* the row in place of w, where it is kept in 16 bits; */
  int64_t row;       /* and its number in the whole table */
  T *first, *second; /* the states that are by row */
  int64_t i;         /* the row's gradient among the update's */
  int64_t dim;
  int lanes, lane;
  bool taken;
};

/* The lane's elements of one tile of KEPT * lanes. */
template <class T> struct tile_t { T g[KEPT], w[KEPT], m[KEPT], v[KEPT]; };

template <class T, bool NARROW>
__device__ __forceinline__ int64_t element(const whole_t<T, NARROW> &r, int64_t tile, int k) {
  return (tile * KEPT + k) * r.lanes + r.lane;
}

template <class T, bool NARROW>
__device__ __forceinline__ bool is_there(const whole_t<T, NARROW> &r, int64_t tile, int k) {
  return r.taken && element(r, tile, k) < r.dim;
}

/* As `gradient`: the terms of a short segment in their order, the lane's elements of each at a time. */
template <class T, bool NARROW>
__device__ __forceinline__ void load_gradient(const update_t &u, const whole_t<T, NARROW> &r, int64_t tile,
                                              T *g) {
  const int64_t first = u.summed && r.taken ? segment_first(u.sum, r.i) : 0;
  const int64_t last = u.summed && r.taken ? segment_last(u.sum, r.i) : 0, count = last - first;
  const T *src = static_cast<const T *>(u.grad) + r.i * r.dim, *scale = static_cast<const T *>(u.sum.scale);
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++)
    g[k] = (count == 0 || count > CHUNK) && is_there(r, tile, k) ? __ldg(src + element(r, tile, k)) : 0;
  if (count == 0 || count > CHUNK) return;
  for (int64_t place = first; place < last; place++) {
    const int64_t t = term_index(u.sum, place);
    const T by = scale != nullptr ? __ldg(scale + t) : static_cast<T>(1);
    src = static_cast<const T *>(u.sum.src) + __ldg(u.sum.term + t) * u.sum.stride;
    REAL_UNROLL
    for (int k = 0; k < KEPT; k++)
      if (is_there(r, tile, k)) g[k] += by * __ldg(src + element(r, tile, k));
  }
  const int64_t divisor = segment_divisor(u.sum, r.i);
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++) g[k] = divisor > 0 ? g[k] / static_cast<T>(divisor) : g[k];
}

template <class T, bool NARROW>
__device__ __forceinline__ T weight_at(const update_t &u, const whole_t<T, NARROW> &r, int64_t e) {
  if constexpr (NARROW)
    return u.storage == SBAG_STORAGE_F16 ? kept_widen(kept_f16{r.codes[e]})
                                         : kept_widen(kept_bf16{r.codes[e]});
  else
    return r.w[e];
}

/* A tile has as many blocks to draw from as a group has lanes: each lane draws one, and they are handed
 * round. All lanes of a warp call it. */
template <class T, bool NARROW>
__device__ __forceinline__ void keep_narrow(const update_t &u, const whole_t<T, NARROW> &r, int64_t tile,
                                            const T *w) {
  rounding_block_t drawn = {};
  if (u.by_chance) drawn = rounding_block(u.key, r.row, u.at.step, tile * r.lanes + r.lane);
  const int column = r.lane % ROUNDING_COLUMNS;
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++) {
    const int from = (k * r.lanes + r.lane) / ROUNDING_COLUMNS;
    rounding_block_t block;
    REAL_UNROLL
    for (int j = 0; j < ROUNDING_COLUMNS / 2; j++)
      block.v[j] = __shfl_sync(CUDA_FULL_MASK, drawn.v[j], from, r.lanes);
    const uint32_t low = column / 2 % 2 == 0 ? block.v[0] : block.v[1];
    const uint32_t high = column / 2 % 2 == 0 ? block.v[2] : block.v[3];
    const uint32_t bits = (column / 4 == 0 ? low : high) >> 16 * (column % 2) & 0xFFFFu;
    if (is_there(r, tile, k)) r.codes[element(r, tile, k)] = rounded(u, static_cast<float>(w[k]), bits);
  }
}

template <class T, bool NARROW>
__device__ __forceinline__ void keep_weights(const update_t &u, const whole_t<T, NARROW> &r, int64_t tile,
                                             const T *w) {
  if constexpr (NARROW) {
    keep_narrow(u, r, tile, w);
  } else {
    REAL_UNROLL
    for (int k = 0; k < KEPT; k++)
      if (is_there(r, tile, k)) r.w[element(r, tile, k)] = w[k];
  }
}

template <class T, whole_kind KIND, bool NARROW>
__device__ __forceinline__ void load_tile(const update_t &u, const whole_t<T, NARROW> &r, int64_t tile,
                                          tile_t<T> *t) {
  const typename math<T>::shape_t shape = shape_of<T>(u);
  T raw[KEPT];
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++) {
    const bool there = is_there(r, tile, k);
    const int64_t e = there ? element(r, tile, k) : 0;
    t->w[k] = there ? weight_at(u, r, e) : 0;
    t->m[k] = there && r.m != nullptr ? r.m[e] : 0;
    t->v[k] = there && r.v != nullptr ? r.v[e] : 0;
  }
  load_gradient(u, r, tile, raw);
  math<T>::shape_gradient(&shape, KEPT, raw, t->g);
}

template <class T, bool NARROW>
__device__ __forceinline__ void store_states(const whole_t<T, NARROW> &r, int64_t tile, const tile_t<T> &t) {
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++) {
    if (!is_there(r, tile, k)) continue;
    const int64_t e = element(r, tile, k);
    if (r.m != nullptr) __stcs(r.m + e, t.m[k]);
    if (r.v != nullptr) __stcs(r.v + e, t.v[k]);
  }
}

template <class T, bool NARROW>
__device__ __forceinline__ void store_tile(const update_t &u, const whole_t<T, NARROW> &r, int64_t tile,
                                           const tile_t<T> &t) {
  keep_weights(u, r, tile, t.w);
  store_states(r, tile, t);
}

template <class T, bool NARROW>
__device__ __forceinline__ void add_squares(const whole_t<T, NARROW> &r, int64_t tile, const T *x,
                                            square_sum<T> *sum) {
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++) sum->add(x[k], is_there(r, tile, k), r.lanes);
}

/* A loop over a row's tiles. A row of one tile is read once, and stays in registers. */
template <class T, whole_kind KIND, bool NARROW, class VISIT>
__device__ __forceinline__ void each_tile(const update_t &u, const whole_t<T, NARROW> &r, bool again,
                                          tile_t<T> *t, VISIT visit) {
  const int64_t tiles = (r.dim + KEPT * r.lanes - 1) / (KEPT * r.lanes);
  for (int64_t tile = 0; tile < tiles; tile++) {
    if (!again || tiles > 1) load_tile<T, KIND>(u, r, tile, t);
    visit(tile);
  }
}

/* The mean of the squares of the gradient, or of what the row-wise Adagrad sees in its place. */
template <class T, whole_kind KIND, bool NARROW>
__device__ __forceinline__ T mean_square(const update_t &u, const whole_t<T, NARROW> &r, tile_t<T> *t) {
  square_sum<T> sum = {0};
  each_tile<T, KIND>(u, r, false, t, [&](int64_t tile) {
    T seen[KEPT];
    REAL_UNROLL
    for (int k = 0; k < KEPT; k++) seen[k] = t->g[k];
    if constexpr (KIND == WHOLE_ADAGRAD) math<T>::rowwise_adagrad_seen(&u.options, KEPT, t->w, seen);
    add_squares(r, tile, seen, &sum);
  });
  return sum.total(r.lanes) / static_cast<T>(r.dim);
}

template <class T, whole_kind KIND, bool NARROW>
__device__ __forceinline__ void take_scaled(const update_t &u, const whole_t<T, NARROW> &r, tile_t<T> *t) {
  const T mean = mean_square<T, KIND>(u, r, t);
  T first = r.taken ? *r.first : 0, second = KIND == WHOLE_RMSPROP && r.taken ? *r.second : 0;
  typename math<T>::scaling_t by;
  if constexpr (KIND == WHOLE_ADAGRAD)
    by = math<T>::rowwise_adagrad_row(&u.options, &u.at, mean, &first);
  else
    by = math<T>::rowwise_rmsprop_row(&u.options, &u.at, mean, &first, &second);
  each_tile<T, KIND>(u, r, true, t, [&](int64_t tile) {
    math<T>::scaled_part(by, KEPT, t->g, t->w);
    store_tile(u, r, tile, *t);
  });
  __syncwarp(); /* all lanes have read the states */
  if (r.taken && r.lane == 0) {
    *r.first = first;
    if (KIND == WHOLE_RMSPROP) *r.second = second;
  }
}

template <class T, bool NARROW>
__device__ __forceinline__ void take_partial_adam(const update_t &u, const whole_t<T, NARROW> &r,
                                                  tile_t<T> *t) {
  const T mean = mean_square<T, WHOLE_ADAM>(u, r, t);
  T second = r.taken ? *r.second : 0;
  const T denominator = math<T>::partial_adam_row(&u.options, &u.at, mean, &second);
  each_tile<T, WHOLE_ADAM>(u, r, true, t, [&](int64_t tile) {
    math<T>::partial_adam_part(&u.options, &u.at, denominator, KEPT, t->g, t->w, t->m);
    store_tile(u, r, tile, *t);
  });
  __syncwarp();
  if (r.taken && r.lane == 0) *r.second = second;
}

template <class T> __device__ __forceinline__ void fill_all(T value, T *all) {
  REAL_UNROLL
  for (int k = 0; k < KEPT; k++) all[k] = value;
}

/* The moments are stored with the sums, the weights after them. In a row of several tiles, the moments are
 * read again then. */
template <class T, bool NARROW>
__device__ __forceinline__ void take_lamb(const update_t &u, const whole_t<T, NARROW> &r, tile_t<T> *t) {
  const bool by_row = u.options.kind == SBAG_OPT_PARTIAL_ROWWISE_LAMB;
  square_sum<T> weights = {0}, directions = {0};
  T second = by_row && r.taken ? *r.second : 0, direction[KEPT];
  if (by_row) math<T>::partial_lamb_row(&u.options, mean_square<T, WHOLE_LAMB>(u, r, t), &second);
  each_tile<T, WHOLE_LAMB>(u, r, by_row, t, [&](int64_t tile) {
    if (by_row) fill_all(second, t->v);
    math<T>::lamb_moments(&u.options, KEPT, t->g, t->m, t->v);
    math<T>::lamb_direction(&u.options, &u.at, KEPT, t->w, t->m, t->v, 1, direction);
    store_states(r, tile, *t);
    add_squares(r, tile, t->w, &weights);
    add_squares(r, tile, direction, &directions);
  });
  const T rate = math<T>::lamb_rate(&u.at, weights.total(r.lanes), directions.total(r.lanes));
  each_tile<T, WHOLE_LAMB>(u, r, true, t, [&](int64_t tile) {
    if (by_row) fill_all(second, t->v);
    math<T>::lamb_direction(&u.options, &u.at, KEPT, t->w, t->m, t->v, 1, direction);
    T after[KEPT];
    REAL_UNROLL
    for (int k = 0; k < KEPT; k++) after[k] = t->w[k] - rate * direction[k];
    keep_weights(u, r, tile, after);
  });
  __syncwarp();
  if (by_row && r.taken && r.lane == 0) *r.second = second;
}

template <class T, bool NARROW>
__device__ __forceinline__ void take_lars(const update_t &u, const whole_t<T, NARROW> &r, tile_t<T> *t) {
  square_sum<T> weights = {0}, gradients = {0};
  each_tile<T, WHOLE_LARS>(u, r, false, t, [&](int64_t tile) {
    add_squares(r, tile, t->w, &weights);
    add_squares(r, tile, t->g, &gradients);
  });
  const T rate = math<T>::lars_rate(&u.options, &u.at, weights.total(r.lanes), gradients.total(r.lanes));
  each_tile<T, WHOLE_LARS>(u, r, true, t, [&](int64_t tile) {
    math<T>::lars_part(&u.options, rate, KEPT, t->g, t->w, t->m);
    store_tile(u, r, tile, *t);
  });
}

template <class T, whole_kind KIND, bool NARROW>
__global__ void __launch_bounds__(REAL_THREADS, NARROW ? 3 : WHOLE_BLOCKS_PER_SM<T>)
    update_wholes(const __grid_constant__ update_t u) {
  const int lanes = 1 << u.lanes_log, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int64_t here = cuda_first() >> u.lanes_log, step = cuda_stride() >> u.lanes_log;
  const int64_t of_warp = here - (static_cast<int>(threadIdx.x) % CUDA_WARP >> u.lanes_log);
  const bool v_by_row = u.options.kind == SBAG_OPT_PARTIAL_ROWWISE_LAMB || KIND != WHOLE_LAMB;
  for (int64_t passed = 0; of_warp + passed < u.count; passed += step) {
    const int64_t i = here + passed;
    const bool taken = i < u.count && !is_left_out(u, i);
    const int64_t row = taken ? row_of(u, i) : 0;
    T *const s0 = static_cast<T *>(u.state[0]), *const s1 = static_cast<T *>(u.state[1]);
    whole_t<T, NARROW> r = {};
    r.dim = u.dim, r.lanes = lanes, r.lane = lane, r.taken = taken;
    r.w = static_cast<T *>(u.weight) + row * u.dim;
    r.codes = static_cast<uint16_t *>(u.weight) + row * u.dim;
    if (NARROW && u.by_chance) r.row = plan_row(&u.plan, u.shard, row);
    r.i = taken ? i : 0;
    if (KIND == WHOLE_ADAGRAD || KIND == WHOLE_RMSPROP)
      r.first = s0 + row;
    else
      r.m = s0 + row * u.dim;
    if (KIND != WHOLE_ADAGRAD && KIND != WHOLE_LARS && v_by_row) r.second = s1 + row;
    if (!v_by_row) r.v = s1 + row * u.dim;
    tile_t<T> t;
    if constexpr (KIND == WHOLE_ADAGRAD || KIND == WHOLE_RMSPROP) take_scaled<T, KIND>(u, r, &t);
    if constexpr (KIND == WHOLE_ADAM) take_partial_adam(u, r, &t);
    if constexpr (KIND == WHOLE_LAMB) take_lamb(u, r, &t);
    if constexpr (KIND == WHOLE_LARS) take_lars(u, r, &t);
  }
}

/* ---- the host's side ---- */

update_t update_of(const optimizer_rows_t *at, int64_t count, const int64_t *rows) {
  update_t u;
  memset(&u, 0, sizeof u);
  u.options = *at->options;
  u.epoch_step = at->epoch_step;
  u.last_step = at->last_step;
  u.weight = at->weight;
  u.storage = at->storage;
  if (at->storage != SBAG_STORAGE_FULL && at->rounding.kind == SBAG_ROUNDING_STOCHASTIC) {
    u.by_chance = true;
    u.key = at->rounding.key;
    u.plan = *at->rounding.plan;
    u.shard = at->rounding.shard;
  }
  u.state_count = optimizer_info(at->options).state_count;
  for (int s = 0; s < u.state_count; s++) u.state[s] = at->states[s];
  u.dim = at->dim;
  u.count = count;
  u.rows = rows;
  return u;
}

/* Blocks that stay and take row after row: what they derive from the options is derived once. */
unsigned blocks_for(const cuda_lane_t *lane, const update_t &u) {
  const int64_t most = static_cast<int64_t>(cuda_multiprocessors(lane)) * REAL_BLOCKS_PER_SM;
  return real_blocks(u.count, 1 << u.lanes_log, most);
}

/* Tables in 16 bits have no optimizer that moves untouched rows. */
template <class T, int V, part_kind KIND> void launch_part(cuda_lane_t *lane, const update_t &u) {
  if constexpr (sizeof(T) == 4 && KIND != PART_ADAM && KIND != PART_RMSPROP)
    if (u.storage != SBAG_STORAGE_FULL) {
      CUDA_LAUNCH(lane, (update_parts<T, V, KIND, true>), blocks_for(lane, u), REAL_THREADS, 0, u);
      return;
    }
  CUDA_LAUNCH(lane, (update_parts<T, V, KIND, false>), blocks_for(lane, u), REAL_THREADS, 0, u);
}

template <class T, int V> void launch_parts(cuda_lane_t *lane, const update_t &u) {
  switch (u.options.kind) {
  case SBAG_OPT_ADAGRAD:
  case SBAG_OPT_EXACT_ADAGRAD:
    return launch_part<T, V, PART_ADAGRAD>(lane, u);
  case SBAG_OPT_ADAM:
  case SBAG_OPT_ADAMW:
    return launch_part<T, V, PART_ADAM>(lane, u);
  case SBAG_OPT_SPARSE_ADAM:
    return launch_part<T, V, PART_SPARSE_ADAM>(lane, u);
  case SBAG_OPT_RMSPROP:
    return launch_part<T, V, PART_RMSPROP>(lane, u);
  case SBAG_OPT_FBGEMM_ADAM:
    return launch_part<T, V, PART_FBGEMM_ADAM>(lane, u);
  default: /* the two SGDs */
    return launch_part<T, V, PART_SGD>(lane, u);
  }
}

template <class T, whole_kind KIND> void launch_whole(cuda_lane_t *lane, const update_t &u) {
  if constexpr (sizeof(T) == 4)
    if (u.storage != SBAG_STORAGE_FULL) {
      CUDA_LAUNCH(lane, (update_wholes<T, KIND, true>), blocks_for(lane, u), REAL_THREADS, 0, u);
      return;
    }
  CUDA_LAUNCH(lane, (update_wholes<T, KIND, false>), blocks_for(lane, u), REAL_THREADS, 0, u);
}

template <class T> void launch_wholes(cuda_lane_t *lane, const update_t &u) {
  switch (u.options.kind) {
  case SBAG_OPT_EXACT_ROWWISE_ADAGRAD:
    return launch_whole<T, WHOLE_ADAGRAD>(lane, u);
  case SBAG_OPT_ROWWISE_RMSPROP:
    return launch_whole<T, WHOLE_RMSPROP>(lane, u);
  case SBAG_OPT_PARTIAL_ROWWISE_ADAM:
    return launch_whole<T, WHOLE_ADAM>(lane, u);
  case SBAG_OPT_LARS_SGD:
    return launch_whole<T, WHOLE_LARS>(lane, u);
  default: /* the two LAMBs */
    return launch_whole<T, WHOLE_LAMB>(lane, u);
  }
}

bool is_whole(sbag_optimizer_t kind) {
  return kind == SBAG_OPT_EXACT_ROWWISE_ADAGRAD || kind == SBAG_OPT_ROWWISE_RMSPROP ||
         kind == SBAG_OPT_PARTIAL_ROWWISE_ADAM || kind == SBAG_OPT_LARS_SGD || kind == SBAG_OPT_LAMB ||
         kind == SBAG_OPT_PARTIAL_ROWWISE_LAMB;
}

/* The values of the steps before `step` that rows may have missed. */
const step_values_t *send_missed(cuda_lane_t *lane, const optimizer_rows_t *at, int64_t step) {
  const int64_t count = step - 1 - at->epoch_step;
  if (at->last_step == nullptr || count <= 0) return nullptr;
  step_values_t *missed = cuda_scratch<step_values_t>(lane, count);
  CUDA_LAUNCH(lane, fill_missed, cuda_blocks(lane, count), CUDA_BLOCK, 0, *at->options, at->lr_log,
              at->epoch_step, count, missed);
  return missed;
}

void launch(cuda_lane_t *lane, const optimizer_rows_t *at, update_t *u) {
  if (u->count == 0) return;
  if (is_whole(at->options->kind)) {
    /* The sum's order is by eight lanes; more where that keeps a row in registers. */
    const int64_t kept = SUM_LANES * KEPT;
    u->lanes_log = u->dim <= kept ? 3 : u->dim <= 2 * kept ? 4 : 5;
    REAL_BY_DTYPE(at->dtype, launch_wholes, lane, *u);
    return;
  }
  const int vector = real_vector(u->dim, kernel_dtype_bytes(at->dtype));
  while (1 << u->lanes_log < real_lanes(u->dim, vector)) u->lanes_log++;
  u->missed = send_missed(lane, at, u->at.step);
  REAL_BY_VECTOR(at->dtype, vector, launch_parts, lane, *u);
}

update_t update_from(const optimizer_update_t *update) {
  update_t u = update_of(&update->at, update->count, update->rows);
  u.at = step_values(update->at.options, update->step, update->lr);
  u.touched = update->touched;
  u.grad = update->grad;
  u.grad_scale = update->grad_scale;
  return u;
}

void cuda_update(kernel_t *k, kernel_stream_t *stream, const optimizer_update_t *update) {
  update_t u = update_from(update);
  launch(cuda_begin(k, stream), &update->at, &u);
}

void cuda_catch_up(kernel_t *k, kernel_stream_t *stream, const optimizer_rows_t *at, int64_t step,
                   int64_t count, const int64_t *rows) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  update_t u = update_of(at, count, rows);
  u.at.step = step + 1;
  launch(lane, at, &u);
}

/* Whether the pass that updates can add up what it updates by: a row-wise optimizer's row has to fit its
 * group's registers, or the terms would be read once more for each pass over the row. */
bool can_sum(const optimizer_rows_t *at, const reduce_task_t *sum) {
  enum { ROW_MOST = 32 * KEPT };
  return sum->select == nullptr && sum->storage == SBAG_STORAGE_FULL &&
         (!is_whole(at->options->kind) || at->dim <= ROW_MOST);
}

optimizer_update_t by_sums(const optimizer_update_t *update, const reduce_task_t *sum) {
  optimizer_update_t result = *update;
  result.touched = sum->begin;
  result.grad = sum->out;
  return result;
}

/* Rows whose sums the update can make: the long ones of all tables first, then a pass a table that adds up
 * the short ones. All tables are of one dtype, the store's. */
void update_short(cuda_lane_t *lane, const optimizer_update_t *updates, const reduce_task_t *sums,
                  int64_t count) {
  cuda_reduce_long(lane, updates->at.dtype, sums, count);
  for (int64_t i = 0; i < count; i++) {
    if (!can_sum(&updates[i].at, &sums[i])) continue;
    const optimizer_update_t update = by_sums(&updates[i], &sums[i]);
    update_t u = update_from(&update);
    u.summed = true;
    u.sum = sums[i];
    launch(lane, &update.at, &u);
  }
}

void cuda_update_sums(kernel_t *k, kernel_stream_t *stream, const optimizer_update_t *updates,
                      const reduce_task_t *sums, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (can_sum(&updates[i].at, &sums[i])) continue;
    const optimizer_update_t update = by_sums(&updates[i], &sums[i]);
    k->ops->reduce(k, stream, update.at.dtype, &sums[i], 1);
    k->ops->update(k, stream, &update);
  }
  if (count > 0) update_short(cuda_begin(k, stream), updates, sums, count);
}

} // namespace

void cuda_optimizer_ops(kernel_ops_t *ops) {
  ops->update = cuda_update;
  ops->update_sums = cuda_update_sums;
  ops->catch_up = cuda_catch_up;
}
