/* What the kernels on values share: vectors of a few elements, groups of lanes, and how many of each a launch
 * takes.
 *
 * A *group* is 1 to 32 neighbouring lanes of one warp that work on one row or segment, each lane on `V`
 * neighbouring columns at a time. Groups lie within a warp, so that a group's lanes need no barrier. */
#ifndef CUDA_REAL_CUH
#define CUDA_REAL_CUH

#include "cuda_common.cuh"

#ifdef __CUDACC__
#define REAL_UNROLL _Pragma("unroll")
#else
#define REAL_UNROLL
#endif

template <class T> __device__ __forceinline__ bool real_is_nan(T value) {
  return value != value;
}
template <class T> __device__ __forceinline__ bool real_is_finite(T value) {
  return !real_is_nan(value - value);
}

/* ---- how a launch is cut: all heuristics of the kernels on values are here ---- */

enum {
  REAL_THREADS = 128,      /* a block: small, so that the last blocks of a launch end together */
  REAL_BLOCKS_PER_SM = 16, /* of kernels whose threads keep something: 2,048 threads, all that an SM holds */
  REAL_BLOCKS_MOST = 1 << 20, /* of a launch; kernels loop over what is more */
  LONG_BLOCKS_PER_SM = 4,     /* of the launch for long segments, which mostly finds few or none */
  REAL_LOAD_BYTES = 16        /* the widest load */
};

/* Elements of a lane's loads: as wide as the dim allows. Addresses need not be aligned: see real_load. */
static inline int real_vector(int64_t dim, size_t element_bytes) {
  const int most = static_cast<int>(REAL_LOAD_BYTES / element_bytes);
  return dim % most == 0 ? most : dim % 2 == 0 && most > 2 ? 2 : 1;
}

/* Lanes of a group: as few as cover the row, so that short rows share a warp. */
static inline int real_lanes(int64_t dim, int vector) {
  int lanes = 1;
  while (lanes < 32 && static_cast<int64_t>(lanes) * vector < dim) lanes *= 2;
  return lanes;
}

/* Blocks for `units` groups of so many lanes; kernels loop over what is more than the device holds at once.
 */
static inline unsigned real_blocks(int64_t units, int lanes, int64_t most) {
  const int64_t groups = REAL_THREADS / lanes, blocks = (units + groups - 1) / groups;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

/* ---- vectors ---- */

template <class T, int V> struct real_vec { T v[V]; };

/* The machine's vector of V elements. */
template <class T, int V> struct real_wide;
template <> struct real_wide<float, 4> { using type = float4; };
template <> struct real_wide<float, 2> { using type = float2; };
template <> struct real_wide<double, 2> { using type = double2; };

static __device__ __forceinline__ void real_split(float4 from, float *to) {
  to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
}
static __device__ __forceinline__ void real_split(float2 from, float *to) {
  to[0] = from.x, to[1] = from.y;
}
static __device__ __forceinline__ void real_split(double2 from, double *to) {
  to[0] = from.x, to[1] = from.y;
}
static __device__ __forceinline__ void real_join(const float *from, float4 *to) {
  *to = make_float4(from[0], from[1], from[2], from[3]);
}
static __device__ __forceinline__ void real_join(const float *from, float2 *to) {
  *to = make_float2(from[0], from[1]);
}
static __device__ __forceinline__ void real_join(const double *from, double2 *to) {
  *to = make_double2(from[0], from[1]);
}

template <class T, int V> __device__ __forceinline__ bool real_aligned(const T *at) {
  return (reinterpret_cast<uintptr_t>(at) & (sizeof(T) * V - 1)) == 0;
}

enum real_hint {
  REAL_KEPT,     /* will be wanted again soon */
  REAL_READONLY, /* nothing writes it while the kernel runs */
  REAL_PASSING   /* will not be wanted for long: must not push others out of the cache */
};

template <real_hint HINT, class T> __device__ __forceinline__ T real_load_one(const T *at) {
  if constexpr (HINT == REAL_READONLY)
    return __ldg(at);
  else if constexpr (HINT == REAL_PASSING)
    return __ldcs(at);
  else
    return *at;
}

/* One load where the address allows, which vectors at any offset may not. */
template <real_hint HINT, int V, class T> __device__ __forceinline__ real_vec<T, V> real_load(const T *at) {
  real_vec<T, V> result;
  if constexpr (V > 1) {
    if (real_aligned<T, V>(at)) {
      using wide_t = typename real_wide<T, V>::type;
      real_split(real_load_one<HINT>(reinterpret_cast<const wide_t *>(at)), result.v);
      return result;
    }
  }
  REAL_UNROLL
  for (int i = 0; i < V; i++) result.v[i] = real_load_one<HINT>(at + i);
  return result;
}

template <real_hint HINT, class T> __device__ __forceinline__ void real_store_one(T *at, T value) {
  if constexpr (HINT == REAL_PASSING)
    __stcs(at, value);
  else
    *at = value;
}

template <real_hint HINT, int V, class T>
__device__ __forceinline__ void real_store(T *at, const real_vec<T, V> &value) {
  if constexpr (V > 1) {
    if (real_aligned<T, V>(at)) {
      using wide_t = typename real_wide<T, V>::type;
      wide_t all;
      real_join(value.v, &all);
      real_store_one<HINT>(reinterpret_cast<wide_t *>(at), all);
      return;
    }
  }
  REAL_UNROLL
  for (int i = 0; i < V; i++) real_store_one<HINT>(at + i, value.v[i]);
}

/* Calls the instance of a template <class T, int V> for a dtype and a vector length. */
#define REAL_BY_VECTOR(dtype, vector, fn, ...)                                                               \
  do {                                                                                                       \
    if ((dtype) == SBAG_F64) {                                                                               \
      if ((vector) == 2)                                                                                     \
        fn<double, 2>(__VA_ARGS__);                                                                          \
      else                                                                                                   \
        fn<double, 1>(__VA_ARGS__);                                                                          \
    } else if ((vector) == 4)                                                                                \
      fn<float, 4>(__VA_ARGS__);                                                                             \
    else if ((vector) == 2)                                                                                  \
      fn<float, 2>(__VA_ARGS__);                                                                             \
    else                                                                                                     \
      fn<float, 1>(__VA_ARGS__);                                                                             \
  } while (0)

#define REAL_BY_DTYPE(dtype, fn, ...)                                                                        \
  do {                                                                                                       \
    if ((dtype) == SBAG_F64)                                                                                 \
      fn<double>(__VA_ARGS__);                                                                               \
    else                                                                                                     \
      fn<float>(__VA_ARGS__);                                                                                \
  } while (0)

#endif
