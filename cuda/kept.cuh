/* Rows as tables keep them, in full or in 16 bits, beside the float or double that is computed with. A type S
 * says how: float, double, kept_f16 or kept_bf16. */
#ifndef CUDA_KEPT_CUH
#define CUDA_KEPT_CUH

#include "kernel/rounding.h"
#include "real.cuh"

struct kept_f16 {
  uint16_t code;
};
struct kept_bf16 {
  uint16_t code;
};

template <class S> struct kept { using real = S; };
template <> struct kept<kept_f16> { using real = float; };
template <> struct kept<kept_bf16> { using real = float; };
template <class S> using kept_real = typename kept<S>::real;
template <class S> constexpr bool kept_is_narrow = sizeof(S) == 2;

/* As narrow_f16_value, without a branch: as a float the code is 2^112 times too small, and a GPU multiplies
 * subnormal floats as fast as others. */
__device__ __forceinline__ float kept_widen(kept_f16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.code & 0x8000u) << 16, bits = value.code & 0x7FFFu;
  const float size = narrow_float_of(bits << NARROW_DROPPED) * 5.192296858534827628530496e33f;
  return narrow_float_of(sign |
                         (bits < 0x7C00u ? narrow_bits_of(size) : 0x7F800000u | bits << NARROW_DROPPED));
}
__device__ __forceinline__ float kept_widen(kept_bf16 value) {
  return narrow_bf16_value(value.code);
}
__device__ __forceinline__ void kept_nearest(float value, kept_f16 *to) {
  to->code = narrow_f16_of(value);
}
__device__ __forceinline__ void kept_nearest(float value, kept_bf16 *to) {
  to->code = narrow_bf16_of(value);
}
__device__ __forceinline__ void kept_nearest(float value, float *to) {
  *to = value;
}
__device__ __forceinline__ void kept_nearest(double value, double *to) {
  *to = value;
}

/* V codes of 16 bits, as one word where the address allows. */
template <int V> struct kept_word;
template <> struct kept_word<4> { using type = uint2; };
template <> struct kept_word<2> { using type = unsigned; };
template <> struct kept_word<1> { using type = unsigned short; };

static __device__ __forceinline__ void kept_split(uint2 from, uint16_t *to) {
  to[0] = static_cast<uint16_t>(from.x), to[1] = static_cast<uint16_t>(from.x >> 16);
  to[2] = static_cast<uint16_t>(from.y), to[3] = static_cast<uint16_t>(from.y >> 16);
}
static __device__ __forceinline__ void kept_split(unsigned from, uint16_t *to) {
  to[0] = static_cast<uint16_t>(from), to[1] = static_cast<uint16_t>(from >> 16);
}
static __device__ __forceinline__ void kept_join(const uint16_t *from, uint2 *to) {
  to->x = from[0] | static_cast<unsigned>(from[1]) << 16;
  to->y = from[2] | static_cast<unsigned>(from[3]) << 16;
}
static __device__ __forceinline__ void kept_join(const uint16_t *from, unsigned *to) {
  *to = from[0] | static_cast<unsigned>(from[1]) << 16;
}

template <real_hint HINT, int V>
__device__ __forceinline__ void kept_codes(const uint16_t *at, uint16_t *code) {
  if constexpr (V > 1) {
    if (real_aligned<uint16_t, V>(at)) {
      kept_split(real_load_one<HINT>(reinterpret_cast<const typename kept_word<V>::type *>(at)), code);
      return;
    }
  }
  REAL_UNROLL
  for (int i = 0; i < V; i++) code[i] = real_load_one<HINT>(at + i);
}

template <real_hint HINT, int V>
__device__ __forceinline__ void kept_store_codes(uint16_t *at, const uint16_t *code) {
  if constexpr (V > 1) {
    if (real_aligned<uint16_t, V>(at)) {
      typename kept_word<V>::type all;
      kept_join(code, &all);
      real_store_one<HINT>(reinterpret_cast<typename kept_word<V>::type *>(at), all);
      return;
    }
  }
  REAL_UNROLL
  for (int i = 0; i < V; i++) real_store_one<HINT>(at + i, code[i]);
}

/* V elements, widened. */
template <real_hint HINT, int V, class S>
__device__ __forceinline__ real_vec<kept_real<S>, V> kept_load(const S *at) {
  if constexpr (kept_is_narrow<S>) {
    uint16_t code[V];
    real_vec<float, V> result;
    kept_codes<HINT, V>(reinterpret_cast<const uint16_t *>(at), code);
    REAL_UNROLL
    for (int i = 0; i < V; i++) result.v[i] = kept_widen(S{code[i]});
    return result;
  } else {
    return real_load<HINT, V>(at);
  }
}

/* V elements, rounded to the nearest. */
template <real_hint HINT, int V, class S>
__device__ __forceinline__ void kept_store(S *at, const real_vec<kept_real<S>, V> &value) {
  if constexpr (kept_is_narrow<S>) {
    uint16_t code[V];
    REAL_UNROLL
    for (int i = 0; i < V; i++) {
      S kept;
      kept_nearest(value.v[i], &kept);
      code[i] = kept.code;
    }
    kept_store_codes<HINT, V>(reinterpret_cast<uint16_t *>(at), code);
  } else {
    real_store<HINT, V>(at, value);
  }
}

/* A value as it will be read once it is kept. */
template <class S> __device__ __forceinline__ kept_real<S> kept_rounded(kept_real<S> value) {
  if constexpr (kept_is_narrow<S>) {
    S kept;
    kept_nearest(value, &kept);
    return kept_widen(kept);
  } else {
    return value;
  }
}

/* Calls the instance of a template <class S, int V>, or <class S>, for a dtype and a storage. */
#define KEPT_BY_VECTOR(dtype, storage, vector, fn, ...)                                                      \
  do {                                                                                                       \
    if ((storage) == SBAG_STORAGE_FULL)                                                                      \
      REAL_BY_VECTOR(dtype, vector, fn, __VA_ARGS__);                                                        \
    else if ((storage) == SBAG_STORAGE_F16)                                                                  \
      KEPT_VECTOR(kept_f16, vector, fn, __VA_ARGS__);                                                        \
    else                                                                                                     \
      KEPT_VECTOR(kept_bf16, vector, fn, __VA_ARGS__);                                                       \
  } while (0)

#define KEPT_VECTOR(S, vector, fn, ...)                                                                      \
  do {                                                                                                       \
    if ((vector) == 4)                                                                                       \
      fn<S, 4>(__VA_ARGS__);                                                                                 \
    else if ((vector) == 2)                                                                                  \
      fn<S, 2>(__VA_ARGS__);                                                                                 \
    else                                                                                                     \
      fn<S, 1>(__VA_ARGS__);                                                                                 \
  } while (0)

#define KEPT_BY_DTYPE(dtype, storage, fn, ...)                                                               \
  do {                                                                                                       \
    if ((storage) == SBAG_STORAGE_FULL)                                                                      \
      REAL_BY_DTYPE(dtype, fn, __VA_ARGS__);                                                                 \
    else if ((storage) == SBAG_STORAGE_F16)                                                                  \
      fn<kept_f16>(__VA_ARGS__);                                                                             \
    else                                                                                                     \
      fn<kept_bf16>(__VA_ARGS__);                                                                            \
  } while (0)

#endif
