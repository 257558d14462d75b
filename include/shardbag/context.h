/* A context: the communicator, the device and the options that everything else hangs from. No global state.
 */
#ifndef SHARDBAG_CONTEXT_H
#define SHARDBAG_CONTEXT_H

#include <shardbag/status.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sbag_context *sbag_context_h;

typedef enum sbag_device {
  SBAG_DEVICE_CPU = 0,
  SBAG_DEVICE_CUDA = 1, /* every rank on a GPU that no other rank uses */
  SBAG_DEVICE_AUTO = 2  /* cuda where every rank has such a GPU, else cpu */
} sbag_device_t;

/* What the owner of a row sends to the rank that asked, and gets back, for each table. */
typedef enum sbag_exchange {
  SBAG_EXCHANGE_AUTO = 0, /* per pair of ranks, table and batch what takes the fewest bytes: pools, rows, or
                             some bags as pools and the other rows (where ranks agree: dense pools) */
  SBAG_EXCHANGE_POOLS, /* forward: one partial pool a bag that touches the owner; backward: the bag's gradient
                        */
  SBAG_EXCHANGE_ROWS,  /* forward: each distinct row once; backward: each distinct row's merged gradient */
  SBAG_EXCHANGE_DENSE  /* forward: one partial pool a bag, added up on the way (reduce-scatter; pools where a
                          feature pools by max); backward: the gradients of bags that touch the owner */
} sbag_exchange_t;

/* How vectors travel between ranks (rows, pools, gradients). What they lose in 16 bits is reported by
 * sbag_step_stats. Of f32 collections only. */
typedef enum sbag_wire { SBAG_WIRE_FULL = 0, SBAG_WIRE_F16, SBAG_WIRE_BF16 } sbag_wire_t;

typedef enum sbag_log_level { SBAG_LOG_DEBUG, SBAG_LOG_INFO, SBAG_LOG_WARNING } sbag_log_level_t;

/* Receives one line without a line end. Called on the thread that called the library. */
typedef void (*sbag_log_fn)(void *user, sbag_log_level_t level, const char *line);

typedef struct sbag_context_options {
  sbag_device_t device; /* SBAG_DEVICE_CPU */
  int threads; /* of this rank on the CPU; 0: OMP_NUM_THREADS, or its part of the machine's cores. Results do
                  not depend on it */
  sbag_exchange_t exchange; /* SBAG_EXCHANGE_AUTO */
  sbag_wire_t wire;         /* SBAG_WIRE_FULL */
  int reproducible; /* 1: the same bits for any number of ranks; forward by rows, backward by bag gradients */
  int64_t chunk_bytes; /* largest single message; 0 = 64 MiB */
  double timeout_s; /* seconds after which a wait ends in which nothing came from any peer, with the names of
                       those that are silent (stopped, gone, or at work on something else); 0 = never; 60 */
  sbag_log_fn log;  /* NULL: warnings are dropped */
  void *log_user;
} sbag_context_options_t;

/* The defaults named above. */
SBAG_API sbag_context_options_t sbag_context_options_default(void);

/* A context of one rank, without MPI. `options` may be NULL. Not collective. */
SBAG_API sbag_code_t sbag_context_create(const sbag_context_options_t *options, sbag_context_h *context,
                                         sbag_status_t *status);

/* Destroys the context and nulls *context; NULL is allowed. Everything made from it must be destroyed before.
 * Collective for an MPI context, unless a call on it failed with SBAG_ERR_COMM or SBAG_ERR_TIMEOUT. */
SBAG_API void sbag_context_destroy(sbag_context_h *context);

SBAG_API int sbag_context_rank(sbag_context_h context);
SBAG_API int sbag_context_size(sbag_context_h context);
/* SBAG_DEVICE_CPU or SBAG_DEVICE_CUDA, the same on all ranks. */
SBAG_API sbag_device_t sbag_context_device(sbag_context_h context);

/* On a GPU: all arrays of values and indices that calls take may be the host's memory or the GPU's
 * (cudaMalloc), as the caller has them; the host's are copied to and fro. What calls lend
 * (sbag_step_sparse_grad) is the device's.
 *
 * Copies `bytes` bytes from anywhere to anywhere, the host's memory or the device's, and returns when they
 * are there. Not collective. */
SBAG_API sbag_code_t sbag_context_copy(sbag_context_h context, void *to, const void *from, int64_t bytes,
                                       sbag_status_t *status);

/* The threads that this rank uses on the CPU. */
SBAG_API int sbag_context_threads(sbag_context_h context);

/* Makes all ranks agree on an outcome: every rank passes its own code, with the message in *status where it
 * is not SBAG_OK; all return the code and message of the lowest rank that failed. Collective. */
SBAG_API sbag_code_t sbag_context_agree(sbag_context_h context, sbag_code_t mine, sbag_status_t *status);

/* Allocations made by this context and its objects since its creation (flat in a warm step), bytes alive,
 * peak. */
typedef struct sbag_memory_stats {
  int64_t alloc_count, live_bytes, peak_bytes;
} sbag_memory_stats_t;
SBAG_API sbag_memory_stats_t sbag_context_memory(sbag_context_h context);

/* The library's version, "0.1.0". */
SBAG_API const char *sbag_version(void);

#ifdef __cplusplus
}
#endif
#endif
