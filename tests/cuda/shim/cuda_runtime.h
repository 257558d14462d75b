/* CUDA on the CPU, for tests only: found before NVIDIA's header of this name, it wraps that one and adds what
 * g++ and clang++ lack to compile a .cu file as plain C++: device intrinsics, shared memory and the typed
 * launch. A block runs as one fiber a thread on the calling thread; see scheduler.cpp for the rules that it
 * checks. Environment:
 *
 *   EMU_SEED=N        another order of lanes, warps and blocks
 *   EMU_XBLOCK=1      ThreadSanitizer takes the blocks of a launch as unordered (finds races between blocks)
 *   EMU_STREAMS=lazy  nothing queued runs until something waits for it (finds missing waits)
 *   EMU_DEVICES=N     how many devices there are (default 1); -35 or -100: that error instead
 *   EMU_MEMORY=BYTES  what cudaMalloc gives in all (default 8 GiB)
 *   EMU_APART=1       the host cannot touch device memory, nor a kernel the host's (see apart.h) */
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H
#ifdef __CUDACC__
#error "nvcc must not find the tests' cuda_runtime.h"
#endif

#include_next <cuda_runtime.h>

#ifdef __cplusplus /* C, which nccl.h brings here, calls the runtime's library and no more */

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define EMU_CUDA 1

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __constant__
#define __constant__ static

extern uint3 threadIdx, blockIdx; /* set at each switch of fibers */
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace emu {

/* Where a primitive stands in the kernel's source. A default argument of the caller's place. */
struct place {
  const char *file;
  int line;
  place(const char *file = __builtin_FILE(), int line = __builtin_LINE()) : file(file), line(line) {}
};

enum warp_op { WARP_SYNC, WARP_SHUFFLE, WARP_BALLOT, WARP_MATCH, WARP_ADD, WARP_MIN, WARP_MAX, WARP_OR };

void block_barrier(place at);
int block_count(int predicate, place at);
/* Waits until all lanes of the mask are here; in and out are bits of up to 8 bytes. */
uint64_t warp(warp_op op, unsigned mask, uint64_t in, int source, place at);
int lane();
void fence();
void *shared_static(const void *key, size_t bytes);
void *shared_dynamic();
cudaError_t launch(const cudaLaunchConfig_t *config, const void *kernel, std::function<void()> thread);
/* Puts work on a stream, NULL being the legacy default stream. */
void enqueue(cudaStream_t stream, std::function<void()> work);
/* Work that touches device memory alone. */
void enqueue_kernel(cudaStream_t stream, std::function<void()> work);

template <class T> uint64_t bits(T value) {
  static_assert(sizeof(T) <= 8, "warp primitives take up to 8 bytes");
  uint64_t all = 0;
  memcpy(&all, &value, sizeof value);
  return all;
}

template <class T> T value(uint64_t bits) {
  T result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

/* An atomic read-modify-write by compare and swap, which ThreadSanitizer sees as atomic. */
template <class T, class F> T update(T *at, F change) {
  using bits_t =
      std::conditional_t<sizeof(T) == 8, uint64_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
  bits_t before = __atomic_load_n(reinterpret_cast<bits_t *>(at), __ATOMIC_RELAXED), after;
  T old;
  do {
    memcpy(&old, &before, sizeof old);
    T next = change(old);
    memcpy(&after, &next, sizeof after);
  } while (!__atomic_compare_exchange_n(reinterpret_cast<bits_t *>(at), &before, after, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

template <class T> T shuffle(unsigned mask, T v, int source, place at) {
  return value<T>(warp(WARP_SHUFFLE, mask, bits(v), source, at));
}

} // namespace emu

/* ---- launch ---- */

/* NVIDIA's function of this name hands on addresses of arguments without their types: not enough to call. */
#define cudaLaunchKernelEx emu_launch_kernel
template <class... P, class... A>
cudaError_t emu_launch_kernel(const cudaLaunchConfig_t *config, void (*kernel)(P...), A &&...arguments) {
  std::tuple<std::decay_t<P>...> held(std::forward<A>(arguments)...);
  return emu::launch(config, reinterpret_cast<const void *>(kernel),
                     [kernel, held] { std::apply(kernel, held); });
}

/* ---- barriers and fences ---- */

inline void __syncthreads(emu::place at = emu::place()) {
  emu::block_barrier(at);
}
inline int __syncthreads_count(int predicate, emu::place at = emu::place()) {
  return emu::block_count(predicate != 0, at);
}
inline int __syncthreads_or(int predicate, emu::place at = emu::place()) {
  return emu::block_count(predicate != 0, at) != 0;
}
inline int __syncthreads_and(int predicate, emu::place at = emu::place()) {
  return emu::block_count(predicate == 0, at) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, emu::place at = emu::place()) {
  emu::warp(emu::WARP_SYNC, mask, 0, 0, at);
}
inline void __threadfence() {
  emu::fence();
}
inline void __threadfence_block() {
  emu::fence();
}
inline void __threadfence_system() {
  emu::fence();
}

/* ---- warp primitives ---- */

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32, emu::place at = emu::place()) {
  return emu::shuffle(mask, v, (emu::lane() & ~(width - 1)) | (source & (width - 1)), at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, emu::place at = emu::place()) {
  const int lane = emu::lane(), source = lane + static_cast<int>(delta);
  return emu::shuffle(mask, v, source <= (lane | (width - 1)) ? source : lane, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, emu::place at = emu::place()) {
  const int lane = emu::lane(), source = lane - static_cast<int>(delta);
  return emu::shuffle(mask, v, source >= (lane & ~(width - 1)) ? source : lane, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, emu::place at = emu::place()) {
  const int lane = emu::lane(), source = lane ^ bits;
  return emu::shuffle(mask, v, source <= (lane | (width - 1)) ? source : lane, at);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emu::place at = emu::place()) {
  return static_cast<unsigned>(emu::warp(emu::WARP_BALLOT, mask, predicate != 0, 0, at));
}
inline int __any_sync(unsigned mask, int predicate, emu::place at = emu::place()) {
  return __ballot_sync(mask, predicate, at) != 0;
}
inline int __all_sync(unsigned mask, int predicate, emu::place at = emu::place()) {
  return __ballot_sync(mask, predicate, at) == mask;
}
template <class T> unsigned __match_any_sync(unsigned mask, T v, emu::place at = emu::place()) {
  return static_cast<unsigned>(emu::warp(emu::WARP_MATCH, mask, emu::bits(v), 0, at));
}
/* Of 32 bits, as on the device; the sign matters to min and max. */
template <class T> T __reduce_add_sync(unsigned mask, T v, emu::place at = emu::place()) {
  static_assert(std::is_integral<T>::value && sizeof(T) == 4, "32-bit integers");
  return static_cast<T>(
      emu::warp(emu::WARP_ADD, mask, static_cast<uint64_t>(static_cast<int64_t>(v)), 0, at));
}
template <class T> T __reduce_min_sync(unsigned mask, T v, emu::place at = emu::place()) {
  static_assert(std::is_integral<T>::value && sizeof(T) == 4, "32-bit integers");
  return static_cast<T>(
      emu::warp(emu::WARP_MIN, mask, static_cast<uint64_t>(static_cast<int64_t>(v)), 0, at));
}
template <class T> T __reduce_max_sync(unsigned mask, T v, emu::place at = emu::place()) {
  static_assert(std::is_integral<T>::value && sizeof(T) == 4, "32-bit integers");
  return static_cast<T>(
      emu::warp(emu::WARP_MAX, mask, static_cast<uint64_t>(static_cast<int64_t>(v)), 0, at));
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned v, emu::place at = emu::place()) {
  return static_cast<unsigned>(emu::warp(emu::WARP_OR, mask, v, 0, at));
}
/* A legal answer: nothing promises that lanes run together. */
inline unsigned __activemask() {
  return 1u << emu::lane();
}

/* ---- integers, loads and stores ---- */

inline int __popc(unsigned v) {
  return __builtin_popcount(v);
}
inline int __popcll(unsigned long long v) {
  return __builtin_popcountll(v);
}
inline int __ffs(int v) {
  return __builtin_ffs(v);
}
inline int __ffsll(long long v) {
  return __builtin_ffsll(v);
}
inline int __clz(int v) {
  return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v));
}
inline int __clzll(long long v) {
  return v == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(v));
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
inline int __float_as_int(float v) {
  return emu::value<int>(emu::bits(v));
}
inline unsigned __float_as_uint(float v) {
  return emu::value<unsigned>(emu::bits(v));
}
inline float __int_as_float(int v) {
  return emu::value<float>(emu::bits(v));
}
inline float __uint_as_float(unsigned v) {
  return emu::value<float>(emu::bits(v));
}
inline long long __double_as_longlong(double v) {
  return emu::value<long long>(emu::bits(v));
}
inline double __longlong_as_double(long long v) {
  return emu::value<double>(emu::bits(v));
}
/* Roundings by name: each is one IEEE operation, which the compiler may not join with another. */
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fsqrt_rn(float a) {
  return sqrtf(a);
}
inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
inline double __dadd_rn(double a, double b) {
  return a + b;
}
inline double __dsub_rn(double a, double b) {
  return a - b;
}
inline double __dmul_rn(double a, double b) {
  return a * b;
}
inline double __ddiv_rn(double a, double b) {
  return a / b;
}
inline double __dsqrt_rn(double a) {
  return sqrt(a);
}
inline double __fma_rn(double a, double b, double c) {
  return fma(a, b, c);
}
inline float rsqrtf(float v) {
  return 1.0f / sqrtf(v);
}
inline float __expf(float v) {
  return expf(v);
}
inline float __logf(float v) {
  return logf(v);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
template <class T> T __ldg(const T *at) {
  return *at;
}
template <class T> T __ldcs(const T *at) {
  return *at;
}
template <class T> T __ldcg(const T *at) {
  return *at;
}
template <class T> T __ldlu(const T *at) {
  return *at;
}
template <class T> void __stcs(T *at, T v) {
  *at = v;
}
template <class T> void __stcg(T *at, T v) {
  *at = v;
}
template <class T> void __stwt(T *at, T v) {
  *at = v;
}
using std::max;
using std::min;

/* ---- atomics ---- */

namespace emu {
template <class T> struct same { using type = T; };
/* The value's type follows the pointer's. */
template <class T> using as_t = typename same<T>::type;
} // namespace emu

template <class T> T atomicAdd(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T old) { return static_cast<T>(old + v); });
}
template <class T> T atomicSub(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T old) { return static_cast<T>(old - v); });
}
template <class T> T atomicMax(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T old) { return old < v ? v : old; });
}
template <class T> T atomicMin(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T old) { return v < old ? v : old; });
}
template <class T> T atomicOr(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T old) { return static_cast<T>(old | v); });
}
template <class T> T atomicAnd(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T old) { return static_cast<T>(old & v); });
}
template <class T> T atomicExch(T *at, emu::as_t<T> v) {
  return emu::update(at, [v](T) { return v; });
}
template <class T> T atomicCAS(T *at, emu::as_t<T> expected, emu::as_t<T> v) {
  return emu::update(at, [expected, v](T old) { return old == expected ? v : old; });
}

#endif
#endif
