/* Segments of terms (reduce_task_t), and a sum of one in the making: what reduce.cu and the update that sums
 * its own gradients (optimizer.cu) share, so that both add in one order. */
#ifndef CUDA_SEGMENTS_CUH
#define CUDA_SEGMENTS_CUH

#include "kept.cuh"

/* Makes the sums of those segments that have more than CHUNK (128) terms, and leaves the others alone. */
void cuda_reduce_long(cuda_lane_t *lane, sbag_dtype_t dtype, const reduce_task_t *sums, int64_t count);

namespace {

const int64_t CHUNK = 128;    /* terms that are added one after the other; more are a tree: reduce.cu */
const int AHEAD = 4;          /* terms whose vectors are on their way at a time */
const int AHEAD_SELECTED = 2; /* likewise, where columns are selected: there is more to hold of a term */
const int AHEAD_UPDATE = 2;   /* likewise, where a row and its state are on their way too */

__device__ __forceinline__ int64_t segment_first(const reduce_task_t &t, int64_t segment) {
  return t.begin != NULL ? __ldg(t.begin + segment) : segment;
}

__device__ __forceinline__ int64_t segment_last(const reduce_task_t &t, int64_t segment) {
  return t.begin != NULL ? __ldg(t.begin + segment + 1) : segment + 1;
}

/* What a segment's sum is divided by, for a mean; 0: nothing. */
__device__ __forceinline__ int64_t segment_divisor(const reduce_task_t &t, int64_t segment) {
  return t.count_begin != NULL ? __ldg(t.count_begin + segment + 1) - __ldg(t.count_begin + segment) : 0;
}

/* The terms of a segment that one group of lanes takes. */
struct span_t {
  int64_t first, last; /* places */
  int64_t start;       /* the segment's first */
  int64_t column;      /* the lane's first */
};

__device__ __forceinline__ int64_t term_index(const reduce_task_t &t, int64_t place) {
  return t.order != NULL ? __ldg(t.order + place) : place;
}

/* A sum in the making, of rows of S: V columns of one lane, COUNT terms on their way. */
template <class S, int V, bool SELECTED, int COUNT = SELECTED ? AHEAD_SELECTED : AHEAD> struct sum_pool {
  using T = kept_real<S>;
  T sum[V];
  __device__ __forceinline__ void start() {
    REAL_UNROLL
    for (int c = 0; c < V; c++) sum[c] = 0;
  }
  /* A later part of the same segment. */
  __device__ __forceinline__ void merge(const sum_pool &part) {
    REAL_UNROLL
    for (int c = 0; c < V; c++) sum[c] += part.sum[c];
  }
  __device__ void take(const reduce_task_t &t, const span_t &span);
  __device__ __forceinline__ real_vec<T, V> value(const reduce_task_t &t, int64_t segment) const {
    const int64_t count = segment_divisor(t, segment);
    real_vec<T, V> value;
    REAL_UNROLL
    for (int c = 0; c < V; c++) value.v[c] = count > 0 ? sum[c] / static_cast<T>(count) : sum[c];
    return value;
  }
  __device__ __forceinline__ void finish(const reduce_task_t &t, int64_t segment, int64_t at) const {
    real_store<REAL_KEPT, V>(static_cast<T *>(t.out) + at, value(t, segment));
  }
};

/* Where the next few vectors are. They are asked for while the vectors before them are on their way. */
template <class S, bool SELECTED, int COUNT> struct term_group {
  using T = kept_real<S>;
  const S *from[COUNT];
  T scale[COUNT];
  int64_t select[SELECTED ? COUNT : 1], select_at[SELECTED ? COUNT : 1];

  __device__ __forceinline__ void find(const reduce_task_t &t, int64_t place, int64_t last, int64_t column) {
    const S *src = static_cast<const S *>(t.src);
    const T *given = static_cast<const T *>(t.scale);
    REAL_UNROLL
    for (int a = 0; a < COUNT; a++) {
      if (place + a >= last) continue;
      const int64_t i = term_index(t, place + a);
      from[a] = src + __ldg(t.term + i) * t.stride + column;
      scale[a] = given != NULL ? __ldg(given + i) : static_cast<T>(1);
      if constexpr (SELECTED) {
        select[a] = __ldg(t.select + i);
        select_at[a] = select[a] >= 0 ? __ldg(t.select_at + i) + column : 0;
      }
    }
  }
};

template <class S, int V, bool SELECTED, int COUNT>
__device__ __forceinline__ void sum_pool<S, V, SELECTED, COUNT>::take(const reduce_task_t &t,
                                                                      const span_t &span) {
  term_group<S, SELECTED, COUNT> next;
  next.find(t, span.first, span.last, span.column);
  for (int64_t place = span.first; place < span.last; place += COUNT) {
    const term_group<S, SELECTED, COUNT> now = next;
    real_vec<T, V> value[COUNT];
    REAL_UNROLL
    for (int a = 0; a < COUNT; a++)
      if (place + a < span.last) value[a] = kept_load<REAL_READONLY, V>(now.from[a]);
    next.find(t, place + COUNT, span.last, span.column);
    REAL_UNROLL
    for (int a = 0; a < COUNT; a++) {
      if (place + a >= span.last) continue;
      REAL_UNROLL
      for (int c = 0; c < V; c++) {
        if constexpr (SELECTED)
          if (now.select[a] >= 0 && __ldg(t.winner + now.select_at[a] + c) != now.select[a]) continue;
        sum[c] += now.scale[a] * value[a].v[c];
      }
    }
  }
}

} // namespace

#endif
