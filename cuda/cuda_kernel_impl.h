/* What the ops of the CUDA kernel share: its stream, workspace, ways between host and device, and its error.
 *
 * Ops return nothing and do not wait. An op begins with cuda_begin, takes device memory with cuda_take,
 * brings host arrays over with cuda_upload (they are read during the call), launches on c->now, and hands
 * results to the host with cuda_fetch. The first error is kept; ops do nothing after it, and stream_sync
 * tells it. Workspace and staging grow to what the largest step needs and stay, so a warm step allocates
 * nothing. Workspace is the next op's as soon as an op returns: the stream orders them. */
#ifndef CUDA_KERNEL_IMPL_H
#define CUDA_KERNEL_IMPL_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernel/arena.h"
#include "kernel/kernel.h"

enum { CUDA_SEGMENTS = 4, CUDA_RESULTS_MOST = 256 };

/* A piece of the pinned staging; `done` is recorded behind the last copy out of it. */
typedef struct cuda_segment {
  kernel_buffer_t block;
  size_t used;
  cudaEvent_t done;
  int recorded;
} cuda_segment_t;

/* A result on its way: to be copied from the pinned block to the host's variable. */
typedef struct cuda_result {
  void *host;
  size_t at, bytes;
} cuda_result_t;

typedef struct cuda_kernel {
  kernel_t base;
  kernel_ops_t ops;
  int device, processors;
  cudaStream_t stream; /* the kernel's own */
  cudaStream_t now;    /* the stream of the op at work, or of the last one */
  cudaEvent_t moved;   /* orders ops of one stream behind those of another */
  kernel_arena_t work; /* device memory of the op at work */
  kernel_buffer_t sort_work;
  cuda_segment_t segment[CUDA_SEGMENTS];
  int at_segment;
  kernel_buffer_t results_block;
  cuda_result_t results[CUDA_RESULTS_MOST];
  int result_count;
  size_t results_used;
  sbag_status_t failure;
} cuda_kernel_t;

/* The kernel, ready for an op on the stream (NULL: its own); NULL where it has failed: the op does nothing.
 */
cuda_kernel_t *cuda_begin(kernel_t *k, kernel_stream_t *stream);
/* Keeps the first error; `what` names the call or the op. Returns 1 where the kernel is well. */
int cuda_check(cuda_kernel_t *c, cudaError_t error, const char *what);
static inline int cuda_failed(const cuda_kernel_t *c) {
  return c->failure.code != SBAG_OK;
}

/* Device memory until the op returns, 256-byte aligned where it is large; NULL after a failure. */
void *cuda_take(cuda_kernel_t *c, size_t bytes);
/* Pinned memory to be filled by the host and sent during this op. NULL after a failure. */
void *cuda_stage(cuda_kernel_t *c, size_t bytes);
/* What was staged, as device memory until the op returns. */
void *cuda_send(cuda_kernel_t *c, const void *staged, size_t bytes);
/* A host array, as device memory until the op returns. */
void *cuda_upload(cuda_kernel_t *c, const void *host, size_t bytes);
/* A host array into device memory. */
void cuda_upload_to(cuda_kernel_t *c, void *to, const void *host, size_t bytes);
/* The caller's array wherever it is (a batch's indices): itself on the device, else uploaded. */
const void *cuda_input(cuda_kernel_t *c, const void *data, size_t bytes);
/* Device memory to the host's variable, which is written at the latest in stream_sync. */
void cuda_fetch(cuda_kernel_t *c, void *host, const void *device, size_t bytes);
/* Waits for all ops and writes what they fetched. */
void cuda_flush(cuda_kernel_t *c);
/* Where a pointer leads. */
kernel_memory_t cuda_memory_of(const void *data);

/* Each adds its files' ops to the table. */
void cuda_memory_ops(kernel_ops_t *ops);
void cuda_integer_ops(kernel_ops_t *ops);
void cuda_list_ops(kernel_ops_t *ops);
void cuda_edges_ops(kernel_ops_t *ops);
void cuda_places_ops(kernel_ops_t *ops);
void cuda_pack_ops(kernel_ops_t *ops);
void cuda_cover_ops(kernel_ops_t *ops);
/* The ops on reals. */
void cuda_real_ops(kernel_ops_t *ops);

/* Many copies within the device as one launch. */
void cuda_copy_parts(cuda_kernel_t *c, const copy_part_t *parts, int64_t count);

#ifdef __cplusplus
}
#endif
#endif
