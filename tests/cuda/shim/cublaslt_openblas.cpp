/* A stand-in for cuBLASLt, for tests: products of f32 with the epilogues that the product uses, by OpenBLAS
 * in the stream's turn. Its ReLU is max(x, 0) to the letter: 0 of NaN. An algorithm is good for the very
 * product that it was chosen for, with buffers aligned as was said then; any other is refused. EMU_LT=none:
 * there are no algorithms. */
#include <cuda_runtime.h>

#include <cublasLt.h>

#include <algorithm>
#include <cblas.h>
#include <cstring>

struct cublasLtContext {
  int opened = 1;
};

namespace {

/* What is in the opaque structs. */
struct product {
  int32_t a_op, b_op;
  uint32_t epilogue;
  float *vector;
};
struct layout {
  int64_t type, rows, columns, stride;
};
struct preference {
  uint64_t workspace;
  uint32_t a_align, b_align, c_align, d_align;
};
/* Bytes, compared as such. */
struct algorithm {
  uint64_t magic, product, workspace;
  uint32_t a_align, b_align, c_align, d_align;
};

enum : uint64_t { MAGIC = 0x6c74, WORKSPACE = 1 << 16 };
enum : uintptr_t { VECTOR_ALIGN = 16, WORKSPACE_ALIGN = 16 };

template <class T, class Opaque> T *inside(Opaque *opaque) {
  static_assert(sizeof(T) <= sizeof(Opaque), "too large");
  return reinterpret_cast<T *>(opaque);
}

bool is_aligned(const void *data, uintptr_t align) {
  return reinterpret_cast<uintptr_t>(data) % align == 0;
}

CBLAS_TRANSPOSE transpose(int32_t op) {
  return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

/* The sizes of one call: d [m][n] = op(a) [m][k] op(b) [k][n], columns first. */
struct call {
  product p;
  layout a, b, d;
  int64_t m, n, k;
};

call call_of(const product &p, const layout &a, const layout &b, const layout &d) {
  return {p, a, b, d, d.rows, d.columns, p.a_op == CUBLAS_OP_N ? a.columns : a.rows};
}

bool fits(const layout &of, int32_t op, int64_t rows, int64_t columns) {
  return of.type == CUDA_R_32F && of.stride >= std::max<int64_t>(1, of.rows) &&
         (op == CUBLAS_OP_N ? of.rows == rows && of.columns == columns
                            : of.rows == columns && of.columns == rows);
}

bool is_valid(const call &c) {
  return fits(c.a, c.p.a_op, c.m, c.k) && fits(c.b, c.p.b_op, c.k, c.n) && fits(c.d, CUBLAS_OP_N, c.m, c.n);
}

bool is_known(uint32_t epilogue) {
  return epilogue == CUBLASLT_EPILOGUE_DEFAULT || epilogue == CUBLASLT_EPILOGUE_BIAS ||
         epilogue == CUBLASLT_EPILOGUE_RELU_BIAS || epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

uint64_t mixed(uint64_t hash, uint64_t value) {
  return (hash ^ value) * 0x9e3779b97f4a7c15u + (hash >> 29);
}

/* One number of all that an algorithm is chosen for. */
uint64_t product_number(const call &c) {
  uint64_t hash =
      mixed(mixed(mixed(1, static_cast<uint64_t>(c.p.a_op)), static_cast<uint64_t>(c.p.b_op)), c.p.epilogue);
  for (const layout *of : {&c.a, &c.b, &c.d})
    for (const int64_t value : {of->type, of->rows, of->columns, of->stride})
      hash = mixed(hash, static_cast<uint64_t>(value));
  return hash;
}

void run(const call &c, float alpha, const float *a, const float *b, float beta, float *d) {
  if (c.m > 0 && c.n > 0)
    cblas_sgemm(CblasColMajor, transpose(c.p.a_op), transpose(c.p.b_op), static_cast<int>(c.m),
                static_cast<int>(c.n), static_cast<int>(c.k), alpha, a, static_cast<int>(c.a.stride), b,
                static_cast<int>(c.b.stride), beta, d, static_cast<int>(c.d.stride));
  if (c.p.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return;
  for (int64_t j = 0; j < c.n; j++) {
    float sum = 0.0f;
    for (int64_t k = 0; k < c.k && c.p.epilogue == CUBLASLT_EPILOGUE_BGRADB; k++)
      sum += c.p.b_op == CUBLAS_OP_N ? b[j * c.b.stride + k] : b[k * c.b.stride + j];
    if (c.p.epilogue == CUBLASLT_EPILOGUE_BGRADB) {
      c.p.vector[j] = sum;
      continue;
    }
    for (int64_t i = 0; i < c.m; i++) {
      float *at = d + j * c.d.stride + i;
      *at += c.p.vector[i];
      if (c.p.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS) *at = *at > 0.0f ? *at : 0.0f;
    }
  }
}

template <class T> cublasStatus_t set(T *to, const void *from, size_t bytes) {
  if (from == nullptr || bytes != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
  memcpy(to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptors ---- */

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t desc, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  if (size != sizeof *desc) return CUBLAS_STATUS_ALLOC_FAILED;
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *inside<product>(desc) = {CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes) {
  product *p = inside<product>(desc);
  switch (attribute) {
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return set(&p->a_op, value, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return set(&p->b_op, value, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE:
    return set(&p->epilogue, value, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    return set(&p->vector, value, bytes);
  default:
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t of, size_t size, cudaDataType type,
                                                 uint64_t rows, uint64_t columns, int64_t stride) {
  if (size != sizeof *of) return CUBLAS_STATUS_ALLOC_FAILED;
  *inside<layout>(of) = {type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t of, size_t size) {
  if (size != sizeof *of) return CUBLAS_STATUS_ALLOC_FAILED;
  *inside<preference>(of) = {0, 256, 256, 256, 256};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t of,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
  preference *p = inside<preference>(of);
  switch (attribute) {
  case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
    return set(&p->workspace, value, bytes);
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    return set(&p->a_align, value, bytes);
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    return set(&p->b_align, value, bytes);
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    return set(&p->c_align, value, bytes);
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
    return set(&p->d_align, value, bytes);
  default:
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

/* ---- products ---- */

/* One algorithm, or none where there would be one for bare products only. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preferred, int asked,
                                              cublasLtMatmulHeuristicResult_t found[], int *count) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const call c = call_of(*inside<product>(desc), *inside<layout>(a), *inside<layout>(b), *inside<layout>(d));
  const preference *p = inside<preference>(preferred);
  *count = 0;
  if (asked < 1 || !is_valid(c)) return CUBLAS_STATUS_INVALID_VALUE;
  const char *mode = getenv("EMU_LT");
  if ((mode != nullptr && strcmp(mode, "none") == 0) || !is_known(c.p.epilogue) ||
      !is_aligned(c.p.vector, VECTOR_ALIGN) || p->workspace < WORKSPACE)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  *found = cublasLtMatmulHeuristicResult_t{};
  *inside<algorithm>(&found->algo) = {MAGIC,      product_number(c), WORKSPACE, p->a_align,
                                      p->b_align, p->c_align,        p->d_align};
  found->workspaceSize = WORKSPACE;
  found->state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const call made = call_of(*inside<product>(desc), *inside<layout>(a_layout), *inside<layout>(b_layout),
                            *inside<layout>(d_layout));
  const algorithm *chosen = inside<const algorithm>(algo);
  const float scale = *static_cast<const float *>(alpha), kept = *static_cast<const float *>(beta);
  if (!is_valid(made) || c != d || chosen->magic != MAGIC || chosen->product != product_number(made))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_aligned(a, chosen->a_align) || !is_aligned(b, chosen->b_align) || !is_aligned(c, chosen->c_align) ||
      !is_aligned(d, chosen->d_align) || !is_aligned(made.p.vector, VECTOR_ALIGN) ||
      (made.p.vector == nullptr && made.p.epilogue != CUBLASLT_EPILOGUE_DEFAULT) ||
      workspace_bytes < chosen->workspace || !is_aligned(workspace, WORKSPACE_ALIGN))
    return CUBLAS_STATUS_INVALID_VALUE;
  emu::enqueue_kernel(stream, [=] {
    run(made, scale, static_cast<const float *>(a), static_cast<const float *>(b), kept,
        static_cast<float *>(d));
  });
  return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
