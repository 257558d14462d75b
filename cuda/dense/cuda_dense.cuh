/* What the files of this folder share: see dense/dense.h for what each op does. */
#ifndef CUDA_DENSE_CUH
#define CUDA_DENSE_CUH

#include "cuda/cuda_common.cuh"

extern "C" {
#include "cuda/dense/cuda_dense.h"
}

#include <cublasLt.h>
#include <cublas_v2.h>

/* What NVIDIA recommends for the largest of its GPUs. */
enum : size_t { CUDA_DENSE_WORKSPACE_BYTES = 32 << 20 };

/* See guard.cu. */
typedef struct cuda_guard {
  unsigned large, lost; /* set to 1 by kernels */
  int careful;          /* the host's: layers are fused no more */
} cuda_guard_t;

typedef struct cuda_fused_plan cuda_fused_plan_t;

typedef struct cuda_dense {
  dense_t base; /* first: a dense_t of this folder is a cuda_dense_t */
  dense_ops_t ops;
  cublasHandle_t blas; /* on the kernel's own stream */
  cublasLtHandle_t lt;
  void *workspace; /* of both, which would allocate one otherwise: they take turns on the stream */
  kernel_stream_t *copies;
  int reproducible; /* products by cuda_dense_product, not by cuBLAS */

  cuda_fused_plan_t *plan; /* [plan_room] */
  int64_t plans, plan_room, plan_next, plan_made;

  cuda_guard_t *guard; /* pinned */
  const float *seen;   /* a matrix of which the guard knows */
} cuda_dense_t;

static inline cuda_dense_t *cuda_dense_of(dense_t *dense) {
  return reinterpret_cast<cuda_dense_t *>(dense);
}

/* Keeps the first failure, as CUDA_TRY. */
void cuda_dense_blas(cuda_lane_t *lane, cublasStatus_t status, const char *call, const char *file, int line);

#define CUBLAS_TRY(lane, call)                                                                               \
  do {                                                                                                       \
    if (!cuda_has_failed(lane)) cuda_dense_blas(lane, (call), #call, __FILE__, __LINE__);                    \
  } while (0)

/* Each file adds its ops to the table. */
void cuda_interaction_ops(dense_ops_t *ops);
void cuda_linear_ops(dense_ops_t *ops);
void cuda_match_ops(dense_ops_t *ops);
void cuda_softmax_ops(dense_ops_t *ops);
void cuda_sum_ops(dense_ops_t *ops);
void cuda_combine_ops(dense_ops_t *ops);

/* The sum of an array of losses, to the host with the next stream_sync; its order follows from their number
 * alone. */
void cuda_dense_sum(cuda_dense_t *self, cuda_lane_t *lane, const double *values, int64_t count, double *sum);

/* ---- the guard ---- */

/* Sizes compare as their bits. 2^50; and from infinity on a value is not finite. */
enum : unsigned { CUDA_GUARD_LARGE = (127u + 50u) << 23, CUDA_GUARD_INFINITY = 255u << 23 };

__device__ __forceinline__ unsigned cuda_guard_size(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}

/* `most`: the largest of sizes. NULL: nobody asks. Threads that raise it at the same time write the same. */
__device__ __forceinline__ void cuda_guard_see(cuda_guard_t *guard, unsigned most) {
  if (guard == nullptr || most <= CUDA_GUARD_LARGE) return;
  atomicExch(&guard->large, 1u);
  if (most >= CUDA_GUARD_INFINITY) atomicExch(&guard->lost, 1u);
}

/* For kernels of a pass, or NULL where nothing is fused. */
cuda_guard_t *cuda_dense_guard(const cuda_dense_t *self, int to_loss);
/* A pass over a matrix. */
void cuda_dense_look(cuda_dense_t *self, cuda_lane_t *lane, int64_t rows, int64_t columns, int64_t stride,
                     const float *values);
/* On the host, when what was launched before has ended: the loss, or NaN; and the guard begins anew. */
double cuda_dense_guarded(cuda_guard_t *guard, double loss);

/* ---- products ---- */

/* c [m][n] = op(a) op(b), k terms each, rows first; strides in floats from row to row. */
typedef struct cuda_product {
  cublasOperation_t a_op, b_op;
  int64_t m, n, k;
  const float *a;
  int64_t a_stride;
  const float *b;
  int64_t b_stride;
  float *c;
  int64_t c_stride;
} cuda_product_t;

/* The plan for a product with an epilogue, whose vector is the bias [n], or with BGRADB the sums of a's
 * columns [m]; NULL where there is none. *is_new: it was made just now. See fused.cu. */
cuda_fused_plan_t *cuda_dense_plan(cuda_dense_t *self, cuda_lane_t *lane, const cuda_product_t *product,
                                   cublasLtEpilogue_t epilogue, const float *vector, bool *is_new);
/* That product. */
void cuda_dense_fused(cuda_dense_t *self, cuda_lane_t *lane, cuda_fused_plan_t *plan,
                      const cuda_product_t *product, const float *vector);

/* A factor or a result of a matrix product: element (i, j) is data[i * down + j * along]. */
typedef struct cuda_matrix {
  const float *data;
  int64_t down, along;
} cuda_matrix_t;

/* c [m][n] (c_stride floats from row to row) = a b, k terms each, in their order: an element's bits depend on
 * its terms alone. */
void cuda_dense_product(cuda_lane_t *lane, int64_t m, int64_t n, int64_t k, cuda_matrix_t a, cuda_matrix_t b,
                        float *c, int64_t c_stride);

/* The interaction without products. */
void cuda_beside_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                         int64_t first_row, int64_t rows, float *out, cuda_guard_t *guard);
void cuda_beside_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                          int64_t first_row, int64_t rows, const float *out_grad);

#endif
