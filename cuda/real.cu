/* Ops on single values: moved, filled, and the weights and scales of edges. */
#include "cuda_bits.cuh"
#include "real.cuh"

namespace {

template <class T>
__global__ void __launch_bounds__(CUDA_BLOCK)
    gather(const T *from, const int64_t *index, int64_t count, T *to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = __ldg(from + __ldg(index + i));
}

template <class T>
__global__ void __launch_bounds__(CUDA_BLOCK)
    scatter(const T *from, const int64_t *index, int64_t count, T *to) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[__ldg(index + i)] = __ldg(from + i);
}

template <class T> __global__ void __launch_bounds__(CUDA_BLOCK) fill(T *to, int64_t count, T value) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) to[i] = value;
}

/* ---- edges ---- */

/* first_entry: [features + 1]; given: [features], NULL where all weights are 1. */
template <class T>
__global__ void __launch_bounds__(CUDA_BLOCK)
    edge_weights(const int64_t *first_entry, const void *const *given, int features, const int64_t *entry,
                 int64_t count, T *weight) {
  for (int64_t e = cuda_first(); e < count; e += cuda_stride()) {
    const int64_t at = __ldg(entry + e), f = last_not_above(first_entry, features, at);
    const T *weights = static_cast<const T *>(given[f]);
    weight[e] = weights != nullptr ? __ldg(weights + (at - __ldg(first_entry + f))) : static_cast<T>(1);
  }
}

/* A slot_map_t whose arrays are the device's. */
struct device_map_t {
  int64_t bag_count, columns;
  const int64_t *column;
  const sbag_mode_t *mode;
};

template <class T>
__global__ void __launch_bounds__(CUDA_BLOCK) grad_terms(device_map_t map, grad_terms_t t) {
  const T *weight = static_cast<const T *>(t.weight);
  for (int64_t i = cuda_first(); i < t.count; i += cuda_stride()) {
    const int64_t item = t.order != nullptr ? __ldg(t.order + i) : i, slot = __ldg(t.slot + item);
    const int64_t feature = slot / map.bag_count, bag = slot - feature * map.bag_count;
    const int64_t first = __ldg(t.slot_begin + slot);
    const sbag_mode_t mode = map.mode[feature];
    T scale = weight != nullptr ? __ldg(weight + item) : static_cast<T>(1);
    if (mode == SBAG_MEAN) scale /= static_cast<T>(__ldg(t.slot_begin + slot + 1) - first);
    t.at[i] = bag * map.columns + __ldg(map.column + feature);
    static_cast<T *>(t.scale)[i] = scale;
    if (t.select != nullptr) t.select[i] = mode == SBAG_MAX ? item - first : -1;
  }
}

/* ---- frequencies ---- */

struct frequency_t {
  const int64_t *begin, *order, *feature;
  const int *by_freq;
};

/* Items [first, end) are all of one feature in their segment. */
template <class T>
__device__ void divide_run(const frequency_t &q, int64_t first, int64_t end, int64_t feature, int lane,
                           T *scale) {
  if (first >= end || !q.by_freq[feature]) return;
  for (int64_t i = first + lane; i < end; i += CUDA_WARP)
    scale[__ldg(q.order + i)] /= static_cast<T>(end - first);
}

/* A warp a segment, 32 items at a time. A run that ends among them is divided now, one that goes on later. */
template <class T>
__global__ void __launch_bounds__(CUDA_BLOCK) frequency_scale(frequency_t q, int64_t segments, T *scale) {
  const int lane = static_cast<int>(threadIdx.x) % CUDA_WARP;
  for (int64_t s = cuda_first() / CUDA_WARP; s < segments; s += cuda_stride() / CUDA_WARP) {
    const int64_t last = __ldg(q.begin + s + 1);
    int64_t open = __ldg(q.begin + s), open_feature = -1; /* the run that goes on */
    for (int64_t tile = open; tile < last; tile += CUDA_WARP) {
      const int64_t i = tile + lane, item = i < last ? __ldg(q.order + i) : -1;
      const int64_t here = i < last ? __ldg(q.feature + item) : -1;
      const int64_t above = __shfl_up_sync(CUDA_FULL_MASK, here, 1);
      const bool starts = i < last && here != (lane == 0 ? open_feature : above);
      const unsigned starting = __ballot_sync(CUDA_FULL_MASK, starts);
      if (starting == 0) continue;
      const int first = __ffs(static_cast<int>(starting)) - 1;
      const int newest = 31 - __clz(static_cast<int>(starting));
      divide_run(q, open, tile + first, open_feature, lane, scale);
      if (lane >= first && lane < newest && q.by_freq[here]) {
        const unsigned until = starting & (0xffffffffu >> (31 - lane)), after = starting & ~until;
        scale[item] /=
            static_cast<T>((__ffs(static_cast<int>(after)) - 1) - (31 - __clz(static_cast<int>(until))));
      }
      open = tile + newest;
      open_feature = __shfl_sync(CUDA_FULL_MASK, here, newest);
    }
    divide_run(q, open, last, open_feature, lane, scale);
  }
}

/* ---- the host's side ---- */

template <class T>
void launch_gather(cuda_lane_t *lane, const void *from, const int64_t *index, int64_t count, void *to) {
  CUDA_LAUNCH(lane, gather<T>, cuda_blocks(lane, count), CUDA_BLOCK, 0, static_cast<const T *>(from), index,
              count, static_cast<T *>(to));
}

void cuda_gather_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                      const int64_t *index, int64_t count, void *to) {
  REAL_BY_DTYPE(dtype, launch_gather, cuda_begin(k, stream), from, index, count, to);
}

template <class T>
void launch_scatter(cuda_lane_t *lane, const void *from, const int64_t *index, int64_t count, void *to) {
  CUDA_LAUNCH(lane, scatter<T>, cuda_blocks(lane, count), CUDA_BLOCK, 0, static_cast<const T *>(from), index,
              count, static_cast<T *>(to));
}

void cuda_scatter_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                       const int64_t *index, int64_t count, void *to) {
  REAL_BY_DTYPE(dtype, launch_scatter, cuda_begin(k, stream), from, index, count, to);
}

template <class T> void launch_fill(cuda_lane_t *lane, void *to, int64_t count, double value) {
  CUDA_LAUNCH(lane, fill<T>, cuda_blocks(lane, count), CUDA_BLOCK, 0, static_cast<T *>(to), count,
              static_cast<T>(value));
}

void cuda_fill_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, void *to, int64_t count,
                    double value) {
  REAL_BY_DTYPE(dtype, launch_fill, cuda_begin(k, stream), to, count, value);
}

template <class T>
void launch_edge_weights(cuda_lane_t *lane, const int64_t *first_entry, const void *const *given,
                         int features, const int64_t *entry, int64_t count, void *weight) {
  CUDA_LAUNCH(lane, edge_weights<T>, cuda_blocks(lane, count), CUDA_BLOCK, 0, first_entry, given, features,
              entry, count, static_cast<T *>(weight));
}

void cuda_edge_weights(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype,
                       const edges_feature_t *features, int feature_count, const int64_t *first_entry,
                       const int64_t *entry, int64_t edge_count, void *weight) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (edge_count == 0) return;
  const void **staged = cuda_stage<const void *>(lane, feature_count);
  for (int f = 0; staged != nullptr && f < feature_count; f++) {
    const sbag_bags_t *bags = &features[f].bags;
    staged[f] = bags->per_sample_weights == nullptr
                    ? nullptr
                    : cuda_input_bytes(lane, bags->per_sample_weights,
                                       mem_array_bytes(bags->index_count, kernel_dtype_bytes(dtype)));
  }
  const void *const *given = cuda_send<const void *>(lane, staged, feature_count);
  const int64_t *first = cuda_upload(lane, first_entry, static_cast<int64_t>(feature_count) + 1);
  REAL_BY_DTYPE(dtype, launch_edge_weights, lane, first, given, feature_count, entry, edge_count, weight);
}

template <class T> void launch_grad_terms(cuda_lane_t *lane, device_map_t map, const grad_terms_t *terms) {
  CUDA_LAUNCH(lane, grad_terms<T>, cuda_blocks(lane, terms->count), CUDA_BLOCK, 0, map, *terms);
}

void cuda_grad_terms(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const slot_map_t *map,
                     const grad_terms_t *terms) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (terms->count == 0) return;
  const int64_t *column = cuda_upload(lane, map->column, map->feature_count);
  const sbag_mode_t *mode = cuda_upload(lane, map->mode, map->feature_count);
  REAL_BY_DTYPE(dtype, launch_grad_terms, lane, device_map_t{map->bag_count, map->columns, column, mode},
                terms);
}

template <class T>
void launch_frequency_scale(cuda_lane_t *lane, const frequency_t &q, int64_t segments, void *scale) {
  CUDA_LAUNCH(lane, frequency_scale<T>, cuda_blocks(lane, segments, CUDA_BLOCK / CUDA_WARP), CUDA_BLOCK, 0, q,
              segments, static_cast<T *>(scale));
}

void cuda_frequency_scale(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const int64_t *begin,
                          int64_t segments, const int64_t *order, const int64_t *feature, int feature_count,
                          const int *by_freq, void *scale) {
  cuda_lane_t *lane = cuda_begin(k, stream);
  if (segments == 0) return;
  const frequency_t q = {begin, order, feature, cuda_upload(lane, by_freq, feature_count)};
  REAL_BY_DTYPE(dtype, launch_frequency_scale, lane, q, segments, scale);
}

} // namespace

void cuda_real_ops(kernel_ops_t *ops) {
  ops->gather_real = cuda_gather_real;
  ops->scatter_real = cuda_scatter_real;
  ops->fill_real = cuda_fill_real;
  ops->edge_weights = cuda_edge_weights;
  ops->grad_terms = cuda_grad_terms;
  ops->frequency_scale = cuda_frequency_scale;
}
