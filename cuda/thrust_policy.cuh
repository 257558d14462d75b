/* Thrust on a lane's stream, with the op's scratch as its temporary memory: it would allocate and wait by
 * itself. In the tests the same calls run on the host, in the stream's turn.
 *
 *   cuda_thrust(lane, "sort", [=](auto policy) { thrust::stable_sort_by_key(policy, key, key + count, value);
 * });
 *
 * The function holds what it uses by value, for it may run later, and calls only what gives nothing back to
 * the host: sorts, scans, transforms; not reduce, count, or what tells an end by its result, all of which
 * would wait. Functors are structs with a `__host__ __device__` operator. Thrust takes long to compile: few
 * files. */
#ifndef CUDA_THRUST_POLICY_CUH
#define CUDA_THRUST_POLICY_CUH

#include "cuda/cuda_common.cuh"

#include <exception>
#include <new>

#ifdef EMU_CUDA
#include <thrust/system/cpp/execution_policy.h>

template <class F> void cuda_thrust(cuda_lane_t *lane, const char *name, F function) {
  (void)name; /* what can fail has an error of its own on the host */
  if (!cuda_has_failed(lane)) emu::enqueue_kernel(lane->stream, [function] { function(thrust::cpp::par); });
}
#else
#include <thrust/system/cuda/execution_policy.h>

/* Thrust's temporary memory: the stream's order frees it. */
struct cuda_thrust_memory {
  typedef char value_type;
  cuda_lane_t *lane;
  char *allocate(std::ptrdiff_t bytes) {
    void *block = cuda_scratch_bytes(lane, static_cast<size_t>(bytes));
    if (block == nullptr) throw std::bad_alloc();
    return static_cast<char *>(block);
  }
  void deallocate(char *, size_t) {}
};

template <class F> void cuda_thrust(cuda_lane_t *lane, const char *name, F function) {
  if (cuda_has_failed(lane)) return;
  cuda_thrust_memory memory = {lane};
  try {
    function(thrust::cuda::par_nosync(memory).on(lane->stream));
  } catch (const std::exception &) { /* bad_alloc, or what Thrust makes of an error of CUDA */
    const cudaError_t error = cudaGetLastError();
    cuda_failed(lane, error == cudaSuccess ? cudaErrorMemoryAllocation : error, name, __FILE__, __LINE__);
  }
}
#endif

#endif
