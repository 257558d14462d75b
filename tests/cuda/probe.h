/* Kernels that try what executes kernels: see probe.cu. */
#ifndef TESTS_CUDA_PROBE_H
#define TESTS_CUDA_PROBE_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each block sums its 256 values by shuffles and shared memory: sum[block]. */
cudaError_t probe_sum(const int64_t *values, int blocks, int64_t *sum, cudaStream_t stream);
/* histogram[values[i] % 8]++ by atomics. */
cudaError_t probe_histogram(const int64_t *values, int64_t count, int64_t *histogram, cudaStream_t stream);
/* One warp; out [32] words each: ballot of odd lanes, equals of lane / 4, shuffle from lane + 1 (the last:
 * its own), from lane - 2 within 8, sum, least and greatest of lane - 16, count of lanes below 10 of the
 * block. */
enum { PROBE_WORDS = 8 };
cudaError_t probe_warp(int64_t *out, cudaStream_t stream);
/* to[i] = from[i] * 2 in vectors of 4, count a multiple of 4. */
cudaError_t probe_vectors(const float *from, int64_t count, float *to, cudaStream_t stream);
/* Uses shared_bytes of dynamic shared memory, and *out becomes their sum. allowed_bytes: asked for first,
 * unless 0. */
cudaError_t probe_dynamic(int shared_bytes, int allowed_bytes, int64_t *out, cudaStream_t stream);
/* The order in which one lane of each warp of each block of a launch came: out [blocks * 4]. */
cudaError_t probe_order(int blocks, int *next, int *out, cudaStream_t stream);

/* Each breaks one rule. */
typedef enum probe_fault {
  FAULT_NONE,
  FAULT_DIVERGENT_BARRIER,   /* some of its lanes wait for others elsewhere */
  FAULT_TWO_BARRIERS,        /* the halves wait at different ones */
  FAULT_LANE_ENDED,          /* a mask names a lane that has ended */
  FAULT_LANE_ENDS,           /* a lane ends while others wait for it */
  FAULT_MASK_WITHOUT_CALLER, /* the caller is not in its mask */
  FAULT_MASK_TOO_WIDE,       /* a full mask in a block of 16 threads */
  FAULT_TWO_PRIMITIVES,      /* the lanes of a mask are at different primitives */
  FAULT_SHARED_OVERRUN,      /* AddressSanitizer sees it */
  FAULT_GLOBAL_OVERRUN,      /* AddressSanitizer sees it */
  FAULT_NO_BARRIER,          /* ThreadSanitizer sees it */
  FAULT_BETWEEN_BLOCKS       /* ThreadSanitizer sees it with EMU_XBLOCK=1 */
} probe_fault_t;
/* values [64] */
cudaError_t probe_fault(probe_fault_t fault, int64_t *values, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
