/* A stand-in for cuBLAS, for tests: the few calls that the product makes, by OpenBLAS in the stream's turn.
 * Both number columns first, so a call is handed on as it is. Scalars are host memory, read during the call.
 */
#include <cuda_runtime.h>

#include <cublas_v2.h>

#include <cblas.h>
#include <vector>

struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace {

/* One product: C = alpha op(A) op(B) + beta C. */
struct product {
  cublasOperation_t a_op, b_op;
  int m, n, k;
  float alpha, beta;
  int a_stride, b_stride, c_stride;
};

CBLAS_TRANSPOSE transpose(cublasOperation_t op) {
  return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

/* Rows of a matrix in memory: of op(X) with `rows` rows and `columns` columns. */
int stored_rows(cublasOperation_t op, int rows, int columns) {
  return op == CUBLAS_OP_N ? rows : columns;
}
int stored_columns(cublasOperation_t op, int rows, int columns) {
  return op == CUBLAS_OP_N ? columns : rows;
}

bool is_valid(const product &p) {
  return p.m >= 0 && p.n >= 0 && p.k >= 0 && p.a_stride >= std::max(1, stored_rows(p.a_op, p.m, p.k)) &&
         p.b_stride >= std::max(1, stored_rows(p.b_op, p.k, p.n)) && p.c_stride >= std::max(1, p.m);
}

void multiply(const product &p, const float *a, const float *b, float *c) {
  if (p.m == 0 || p.n == 0) return;
  cblas_sgemm(CblasColMajor, transpose(p.a_op), transpose(p.b_op), p.m, p.n, p.k, p.alpha, a, p.a_stride, b,
              p.b_stride, p.beta, c, p.c_stride);
}

/* ---- 16 bits in and out, f32 between ---- */

float read(const void *from, cudaDataType type, int64_t i) {
  if (type == CUDA_R_16F) return __half2float(static_cast<const __half *>(from)[i]);
  if (type == CUDA_R_16BF) return __bfloat162float(static_cast<const __nv_bfloat16 *>(from)[i]);
  return static_cast<const float *>(from)[i];
}

void write(void *to, cudaDataType type, int64_t i, float value) {
  if (type == CUDA_R_16F)
    static_cast<__half *>(to)[i] = __float2half(value);
  else if (type == CUDA_R_16BF)
    static_cast<__nv_bfloat16 *>(to)[i] = __float2bfloat16(value);
  else
    static_cast<float *>(to)[i] = value;
}

bool is_real(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

/* Only what belongs to the matrix is touched: between two columns there may be something else. */
std::vector<float> widened(const void *from, cudaDataType type, int rows, int columns, int stride) {
  std::vector<float> wide(static_cast<size_t>(stride) * static_cast<size_t>(std::max(columns, 1)));
  for (int64_t j = 0; j < columns; j++)
    for (int64_t i = 0; i < rows; i++)
      wide[static_cast<size_t>(j * stride + i)] = read(from, type, j * stride + i);
  return wide;
}

void multiply_mixed(const product &p, const void *a, cudaDataType a_type, const void *b, cudaDataType b_type,
                    void *c, cudaDataType c_type) {
  const std::vector<float> wide_a =
      widened(a, a_type, stored_rows(p.a_op, p.m, p.k), stored_columns(p.a_op, p.m, p.k), p.a_stride);
  const std::vector<float> wide_b =
      widened(b, b_type, stored_rows(p.b_op, p.k, p.n), stored_columns(p.b_op, p.k, p.n), p.b_stride);
  std::vector<float> wide_c = widened(c, c_type, p.beta == 0 ? 0 : p.m, p.n, p.c_stride);
  multiply(p, wide_a.data(), wide_b.data(), wide_c.data());
  for (int64_t j = 0; j < p.n; j++)
    for (int64_t i = 0; i < p.m; i++)
      write(c, c_type, j * p.c_stride + i, wide_c[static_cast<size_t>(j * p.c_stride + i)]);
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

/* The workspace is used by nobody here; cuBLAS wants 256 bytes of alignment. */
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t) {
  const bool fits = handle != nullptr && reinterpret_cast<uintptr_t>(workspace) % 256 == 0;
  return fits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t) {
  return handle == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return "success";
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "not initialized";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "an unsupported value or parameter was passed";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "the functionality is not supported";
  default:
    return "an error of cuBLAS that the tests do not know";
  }
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t a_op,
                                         cublasOperation_t b_op, int m, int n, int k, const float *alpha,
                                         const float *a, int a_stride, long long a_step, const float *b,
                                         int b_stride, long long b_step, const float *beta, float *c,
                                         int c_stride, long long c_step, int batches) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const product p = {a_op, b_op, m, n, k, *alpha, *beta, a_stride, b_stride, c_stride};
  if (!is_valid(p) || batches < 0) return CUBLAS_STATUS_INVALID_VALUE;
  emu::enqueue_kernel(handle->stream, [=] {
    for (int i = 0; i < batches; i++) multiply(p, a + i * a_step, b + i * b_step, c + i * c_step);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m,
                              int n, int k, const float *alpha, const float *a, int a_stride, const float *b,
                              int b_stride, const float *beta, float *c, int c_stride) {
  return cublasSgemmStridedBatched(handle, a_op, b_op, m, n, k, alpha, a, a_stride, 0, b, b_stride, 0, beta,
                                   c, c_stride, 0, 1);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m,
                            int n, int k, const void *alpha, const void *a, cudaDataType a_type, int a_stride,
                            const void *b, cudaDataType b_type, int b_stride, const void *beta, void *c,
                            cudaDataType c_type, int c_stride, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool is_f32 = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                      compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!is_f32 || a_type != b_type || !is_real(a_type) || (c_type != CUDA_R_32F && c_type != a_type))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  const product p = {a_op,
                     b_op,
                     m,
                     n,
                     k,
                     *static_cast<const float *>(alpha),
                     *static_cast<const float *>(beta),
                     a_stride,
                     b_stride,
                     c_stride};
  if (!is_valid(p)) return CUBLAS_STATUS_INVALID_VALUE;
  emu::enqueue_kernel(handle->stream, [=] { multiply_mixed(p, a, a_type, b, b_type, c, c_type); });
  return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
