/* Matrix products with an epilogue, by cuBLASLt: bias, bias and ReLU, or a bias's gradient beside a weight's.
 *
 * What a call needs besides pointers, its descriptors and the algorithm, is a plan: made when a product of
 * this shape and alignment is first asked for, and kept. Where cuBLASLt has no algorithm that is kept too,
 * and the caller takes a plain product and kernels of its own.
 *
 * An algorithm has one order of sums, and which one is chosen follows from the shape, the alignment and the
 * GPU: results are the same bits each time. */
#include "cuda/dense/cuda_dense.cuh"

namespace {

enum : int64_t { PLANS_FIRST = 64, PLANS_MOST = 1024 };
/* Kernels of cuBLASLt load a bias by 16 bytes, whatever the matrices' alignment that it was told
 * (github.com/pytorch/pytorch/pull/194497). */
enum : uintptr_t { VECTOR_ALIGN = 16, ALIGN_MOST = 256 };

/* What a plan is for. Compared as bytes: it has no gaps. */
struct purpose_t {
  int64_t m, n, k, a_stride, b_stride, c_stride;
  uint32_t a_align, b_align, c_align, epilogue;
  int32_t a_op, b_op;
};
static_assert(sizeof(purpose_t) == 6 * sizeof(int64_t) + 6 * sizeof(int32_t), "a gap");

} // namespace

/* Columns first, as cuBLASLt numbers them: d = op(left) op(right), where left is the product's b. */
struct cuda_fused_plan {
  purpose_t key;
  bool exists;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t left, right, result;
  cublasLtMatmulAlgo_t algorithm;
};

namespace {

typedef cuda_fused_plan_t fused_t;

uint32_t align_of(const void *data) {
  uintptr_t align = ALIGN_MOST;
  while (reinterpret_cast<uintptr_t>(data) % align != 0) align /= 2;
  return static_cast<uint32_t>(align);
}

purpose_t key_of(const cuda_product_t *p, cublasLtEpilogue_t epilogue) {
  return {p->m,        p->n,           p->k,           p->a_stride,    p->b_stride,
          p->c_stride, align_of(p->a), align_of(p->b), align_of(p->c), static_cast<uint32_t>(epilogue),
          p->a_op,     p->b_op};
}

/* Steps ask for the same products in the same order: the next one is behind the last. */
fused_t *find(cuda_dense_t *self, const purpose_t &key) {
  for (int64_t i = 0; i < self->plans; i++) {
    const int64_t at = (self->plan_next + i) % self->plans;
    if (memcmp(&self->plan[at].key, &key, sizeof key) != 0) continue;
    self->plan_next = at + 1;
    return &self->plan[at];
  }
  return nullptr;
}

/* The place of a new plan; the oldest one's when there are very many. */
fused_t *place(cuda_dense_t *self, cuda_lane_t *lane) {
  if (self->plans == PLANS_MOST) return &self->plan[self->plan_made++ % PLANS_MOST];
  if (self->plans == self->plan_room) {
    const int64_t room = self->plan_room == 0 ? int64_t{PLANS_FIRST} : 2 * self->plan_room;
    void *grown = self->plan;
    sbag_status_t failure = {};
    if (mem_realloc(self->base.kernel->mem, mem_array_bytes(room, sizeof(fused_t)), "plans of cuBLASLt",
                    &grown, &failure) != SBAG_OK) {
      cuda_failed(lane, cudaErrorMemoryAllocation, failure.message, __FILE__, __LINE__);
      return nullptr;
    }
    self->plan = static_cast<fused_t *>(grown);
    self->plan_room = room;
  }
  self->plan_made++;
  return &self->plan[self->plans++];
}

/* f32 is f32, as with cublasSgemm: see dense.cu. */
void describe(cuda_lane_t *lane, const purpose_t &k, fused_t *plan) {
  const int32_t left_op = k.b_op, right_op = k.a_op;
  const int64_t left_rows = left_op == CUBLAS_OP_N ? k.n : k.k, left_columns = k.n + k.k - left_rows;
  const int64_t right_rows = right_op == CUBLAS_OP_N ? k.k : k.m, right_columns = k.k + k.m - right_rows;
  auto size = [](int64_t count) { return static_cast<uint64_t>(count); };
  CUBLAS_TRY(lane, cublasLtMatmulDescInit(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  CUBLAS_TRY(lane, cublasLtMatmulDescSetAttribute(&plan->product, CUBLASLT_MATMUL_DESC_TRANSA, &left_op,
                                                  sizeof left_op));
  CUBLAS_TRY(lane, cublasLtMatmulDescSetAttribute(&plan->product, CUBLASLT_MATMUL_DESC_TRANSB, &right_op,
                                                  sizeof right_op));
  CUBLAS_TRY(lane, cublasLtMatmulDescSetAttribute(&plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &k.epilogue,
                                                  sizeof k.epilogue));
  CUBLAS_TRY(lane, cublasLtMatrixLayoutInit(&plan->left, CUDA_R_32F, size(left_rows), size(left_columns),
                                            k.b_stride));
  CUBLAS_TRY(lane, cublasLtMatrixLayoutInit(&plan->right, CUDA_R_32F, size(right_rows), size(right_columns),
                                            k.a_stride));
  CUBLAS_TRY(lane, cublasLtMatrixLayoutInit(&plan->result, CUDA_R_32F, size(k.n), size(k.m), k.c_stride));
}

void prefer(cuda_lane_t *lane, const purpose_t &k, cublasLtMatmulPreferenceOpaque_t *preference) {
  const uint64_t workspace = CUDA_DENSE_WORKSPACE_BYTES;
  CUBLAS_TRY(lane, cublasLtMatmulPreferenceInit(preference));
  CUBLAS_TRY(lane, cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                        &workspace, sizeof workspace));
  CUBLAS_TRY(lane, cublasLtMatmulPreferenceSetAttribute(
                       preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &k.b_align, sizeof k.b_align));
  CUBLAS_TRY(lane, cublasLtMatmulPreferenceSetAttribute(
                       preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &k.a_align, sizeof k.a_align));
  CUBLAS_TRY(lane, cublasLtMatmulPreferenceSetAttribute(
                       preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &k.c_align, sizeof k.c_align));
  CUBLAS_TRY(lane, cublasLtMatmulPreferenceSetAttribute(
                       preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &k.c_align, sizeof k.c_align));
}

/* cuBLASLt says NOT_SUPPORTED, or gives none, where it has no algorithm, and some releases INVALID_VALUE for
 * an epilogue that they do not have. */
void choose(cuda_dense_t *self, cuda_lane_t *lane, fused_t *plan) {
  cublasLtMatmulPreferenceOpaque_t preference = {};
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  prefer(lane, plan->key, &preference);
  if (cuda_has_failed(lane)) return;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(self->lt, &plan->product, &plan->left, &plan->right, &plan->result,
                                     &plan->result, &preference, 1, &found, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return;
  CUBLAS_TRY(lane, status);
  plan->exists = !cuda_has_failed(lane) && count == 1 && found.state == CUBLAS_STATUS_SUCCESS;
  plan->algorithm = found.algo;
}

fused_t *plan_for(cuda_dense_t *self, cuda_lane_t *lane, const purpose_t &key, const void *vector) {
  fused_t *plan = place(self, lane);
  if (plan == nullptr) return nullptr;
  *plan = fused_t{};
  plan->key = key;
  describe(lane, key, plan);
  /* the heuristic looks at its alignment */
  CUBLAS_TRY(lane, cublasLtMatmulDescSetAttribute(&plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector,
                                                  sizeof vector));
  choose(self, lane, plan);
  return plan;
}

} // namespace

cuda_fused_plan_t *cuda_dense_plan(cuda_dense_t *self, cuda_lane_t *lane, const cuda_product_t *product,
                                   cublasLtEpilogue_t epilogue, const float *vector, bool *is_new) {
  if (self->reproducible || cuda_has_failed(lane) || reinterpret_cast<uintptr_t>(vector) % VECTOR_ALIGN != 0)
    return nullptr;
  const purpose_t key = key_of(product, epilogue);
  fused_t *plan = find(self, key);
  *is_new = plan == nullptr;
  if (*is_new) plan = plan_for(self, lane, key, vector);
  return plan != nullptr && plan->exists ? plan : nullptr;
}

void cuda_dense_fused(cuda_dense_t *self, cuda_lane_t *lane, cuda_fused_plan_t *plan, const cuda_product_t *p,
                      const float *vector) {
  const float one = 1.0f, zero = 0.0f;
  CUBLAS_TRY(lane, cublasLtMatmulDescSetAttribute(&plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector,
                                                  sizeof vector));
  CUBLAS_TRY(lane, cublasLtMatmul(self->lt, &plan->product, &one, p->b, &plan->left, p->a, &plan->right,
                                  &zero, p->c, &plan->result, p->c, &plan->result, &plan->algorithm,
                                  self->workspace, CUDA_DENSE_WORKSPACE_BYTES, lane->stream));
}
