/* What the files of this folder share: see dense/dense.h for what each op does. */
#ifndef CUDA_DENSE_CUH
#define CUDA_DENSE_CUH

#include "cuda/cuda_common.cuh"

extern "C" {
#include "cuda/dense/cuda_dense.h"
}

#include <cublas_v2.h>

typedef struct cuda_dense {
  dense_t base; /* first: a dense_t of this folder is a cuda_dense_t */
  dense_ops_t ops;
  cublasHandle_t blas; /* on the kernel's own stream */
  void *workspace;     /* of cuBLAS, which would allocate one otherwise */
  kernel_stream_t *copies;
  int reproducible; /* products by cuda_dense_product, not by cuBLAS */
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

/* The sum of an array, to the host with the next stream_sync; its order follows from their number alone. */
void cuda_dense_sum(cuda_lane_t *lane, const double *values, int64_t count, double *sum);

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
                         int64_t first_row, int64_t rows, float *out);
void cuda_beside_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                          int64_t first_row, int64_t rows, const float *out_grad);

#endif
