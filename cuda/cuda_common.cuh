/* What every .cu file includes, and includes first. It builds twice: with nvcc for GPUs, and as plain C++
 * with the headers of tests/cuda/shim, which run the same kernels on the CPU.
 *
 * A file of kernels
 *
 *   - is one idea, cuda/<name>.cu; both builds find it by pattern. Its kernels are in an anonymous namespace,
 *     its ops are static functions with the signatures of kernel_ops_t, and its one exported function,
 *     `void cuda_<name>_ops(kernel_ops_t *ops)`, sets them; it is declared at the end of this header and
 * called in kernel.cu.
 *   - An op begins with `cuda_lane_t *lane = cuda_begin(k, stream);`, asks for what it needs (cuda_scratch,
 *     cuda_upload), launches (CUDA_LAUNCH), and hands results for the host to cuda_deliver. None of these
 * needs a check: after a failure they do nothing, and stream_sync returns the first one.
 *   - An op never waits for the device, and nothing in a warm step allocates.
 *
 * Rules for kernels, because the tests must be able to run them, and another checker their PTX
 *
 *   - Launch with CUDA_LAUNCH, never <<<>>>. Blocks are whole warps. A grid of 0 blocks launches nothing.
 *   - Shared memory through CUDA_SHARED and CUDA_SHARED_DYNAMIC (once in a kernel), not `__shared__`. It is
 * not cleared; at most 48 KiB static.
 *   - Warp primitives: the __sync forms, full masks (CUDA_FULL_MASK) wherever all lanes are there; never a
 * mask of lanes that have ended, so no early `return` before a warp primitive or a barrier. Allowed:
 * __shfl_sync and its kin, __ballot_sync, __any_sync, __all_sync, __match_any_sync,
 * __reduce_{add,min,max,or}_sync (32 bits), __syncwarp, __syncthreads and its _count, _or, _and.
 *   - __syncwarp between a write of shared or global memory and another lane's read of it: a shuffle orders
 *     nothing.
 *   - Atomics on integers: atomicAdd, Max, Min, Or, And, Exch, CAS. None on floats, whose order is left open:
 *     results are the same bits each time.
 *   - No grid-wide wait, no spinning, no launch from a kernel, no cooperative groups, no textures. Inline PTX
 *     only inside `#ifndef EMU_CUDA` with a portable twin.
 *   - Indices are int64_t. Loads of 16 bytes only where the address is a multiple of 16.
 *   - a * b + c contracts to one rounding under nvcc: the build turns that off (-fmad=false) so that results
 *     equal the CPU's; where speed wants it, say __fmaf_rn. */
#ifndef CUDA_COMMON_CUH
#define CUDA_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

/* In C, after every header of C++ that it could draw in. */
extern "C" {
#include "cuda/cuda_kernel.h"
}

#ifdef EMU_CUDA
#define CUDA_SHARED(type, name, count)                                                                       \
  type *name = static_cast<type *>([]() -> void * {                                                          \
    static char key;                                                                                         \
    return emu::shared_static(&key, sizeof(type) * (count));                                                 \
  }())
#define CUDA_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(emu::shared_dynamic())
#else
#define CUDA_SHARED(type, name, count) __shared__ type name[count]
#define CUDA_SHARED_DYNAMIC(type, name)                                                                      \
  extern __shared__ __align__(16) unsigned char cuda_shared_dynamic[];                                       \
  type *name = reinterpret_cast<type *>(cuda_shared_dynamic)
#endif

#define CUDA_FULL_MASK 0xffffffffu

enum { CUDA_WARP = 32, CUDA_BLOCK = 256 };

typedef struct cuda_kernel cuda_kernel_t;

/* A growing block: chunks are added while it is in use and joined into one when it is not. */
typedef struct cuda_arena {
  enum { CHUNKS = 40 };
  struct chunk {
    char *data;
    size_t bytes, used;
  } chunk[CHUNKS];
  int count;
  kernel_memory_t kind;
} cuda_arena_t;

/* A result on its way to the host. */
typedef struct cuda_result {
  void *host;
  const void *pinned;
  size_t bytes;
  void (*take)(void *host, const void *pinned, size_t bytes);
} cuda_result_t;

/* One stream, and what its ops use: each stream has its own, because streams run beside each other. */
typedef struct cuda_lane {
  cuda_kernel_t *kernel;
  cudaStream_t stream;
  cuda_arena_t scratch; /* device memory of the op under way: the stream's order makes it the next op's */
  cuda_arena_t pinned;  /* host memory that the device reads and writes, until the next stream_sync */
  cuda_result_t *result;
  int64_t results, results_room;
} cuda_lane_t;

/* ---- for ops ---- */

/* The lane of an op that begins now: its scratch is free again. Once in an op. */
cuda_lane_t *cuda_begin(kernel_t *k, kernel_stream_t *stream);
/* Keeps the first failure: "what: CUDA's reason (file:line)". */
void cuda_failed(cuda_lane_t *lane, cudaError_t error, const char *what, const char *file, int line);
int cuda_has_failed(const cuda_lane_t *lane);
/* Device memory until the op's end, aligned to 256 bytes; NULL after a failure. */
void *cuda_scratch_bytes(cuda_lane_t *lane, size_t bytes);
/* Host memory to be filled and then sent; NULL after a failure. */
void *cuda_stage_bytes(cuda_lane_t *lane, size_t bytes);
/* A device copy, until the op's end, of what was staged. */
void *cuda_send_bytes(cuda_lane_t *lane, const void *staged, size_t bytes);
/* A device copy, until the op's end, of host memory, which is read during the call. */
void *cuda_upload_bytes(cuda_lane_t *lane, const void *host, size_t bytes);
/* Where a pointer leads. */
kernel_memory_t cuda_memory_of(const void *data);
/* The caller's array, which may be on the host or on the device (a batch's indices): itself if it is on the
 * device, else uploaded. */
const void *cuda_input_bytes(cuda_lane_t *lane, const void *data, size_t bytes);
/* The next stream_sync hands `bytes` at `device`, as they are when the stream comes here, to take(host, ...);
 * take NULL: copies them to host. */
void cuda_deliver(cuda_lane_t *lane, void *host, const void *device, size_t bytes,
                  void (*take)(void *host, const void *pinned, size_t bytes));

template <class T> T *cuda_scratch(cuda_lane_t *lane, int64_t count) {
  return static_cast<T *>(cuda_scratch_bytes(lane, mem_array_bytes(count, sizeof(T))));
}
template <class T> T *cuda_stage(cuda_lane_t *lane, int64_t count) {
  return static_cast<T *>(cuda_stage_bytes(lane, mem_array_bytes(count, sizeof(T))));
}
template <class T> const T *cuda_send(cuda_lane_t *lane, const T *staged, int64_t count) {
  return static_cast<const T *>(cuda_send_bytes(lane, staged, mem_array_bytes(count, sizeof(T))));
}
template <class T> const T *cuda_upload(cuda_lane_t *lane, const T *host, int64_t count) {
  return static_cast<const T *>(cuda_upload_bytes(lane, host, mem_array_bytes(count, sizeof(T))));
}

/* CUDA_TRY(lane, cudaMemsetAsync(...)): nothing after a failure, and a failure is kept. */
#define CUDA_TRY(lane, call)                                                                                 \
  do {                                                                                                       \
    if (!cuda_has_failed(lane)) {                                                                            \
      const cudaError_t cuda_try_error_ = (call);                                                            \
      if (cuda_try_error_ != cudaSuccess) cuda_failed(lane, cuda_try_error_, #call, __FILE__, __LINE__);     \
    }                                                                                                        \
  } while (0)

int cuda_multiprocessors(const cuda_lane_t *lane);

/* Blocks for a grid-stride loop over `count` items: enough for `per_block` each, but no more than fill the
 * device several times. */
static inline unsigned cuda_blocks(const cuda_lane_t *lane, int64_t count, int64_t per_block = CUDA_BLOCK) {
  enum { WAVES = 16 };
  const int64_t wanted = (count + per_block - 1) / per_block;
  const int64_t most = static_cast<int64_t>(cuda_multiprocessors(lane)) * WAVES;
  return static_cast<unsigned>(wanted < most ? wanted : most);
}

/* for (int64_t i = cuda_first(); i < count; i += cuda_stride()) */
__device__ inline int64_t cuda_first() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t cuda_stride() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

template <class... P, class... A>
void cuda_launch(cuda_lane_t *lane, const char *name, const char *file, int line, void (*kernel)(P...),
                 dim3 grid, dim3 block, size_t shared_bytes, A &&...arguments) {
  enum : size_t { WITHOUT_ASKING = 48 << 10 };
  if (grid.x == 0 || cuda_has_failed(lane)) return;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = lane->stream;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > WITHOUT_ASKING)
    error = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...);
  if (error != cudaSuccess) cuda_failed(lane, error, name, file, line);
}

/* CUDA_LAUNCH(lane, kernel, grid, block, shared_bytes, arguments...); a kernel with commas in its template
 * arguments stands in parentheses. */
#define CUDA_LAUNCH(lane, kernel, ...) cuda_launch(lane, #kernel, __FILE__, __LINE__, kernel, __VA_ARGS__)

/* ---- each file adds its ops to the table; kernel.cu calls them all ---- */

void cuda_copy_ops(kernel_ops_t *ops);
void cuda_cover_ops(kernel_ops_t *ops);
void cuda_edges_ops(kernel_ops_t *ops);
void cuda_integer_ops(kernel_ops_t *ops);
void cuda_lists_ops(kernel_ops_t *ops);
void cuda_pack_ops(kernel_ops_t *ops);
void cuda_narrow_ops(kernel_ops_t *ops);
void cuda_optimizer_ops(kernel_ops_t *ops);
void cuda_places_ops(kernel_ops_t *ops);
void cuda_real_ops(kernel_ops_t *ops);
void cuda_reduce_ops(kernel_ops_t *ops);
void cuda_rows_ops(kernel_ops_t *ops);
void cuda_sort_ops(kernel_ops_t *ops);

#endif
