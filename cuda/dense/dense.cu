/* The GPU's dense arithmetic: its object, the optimizer's step and the way in for batches. */
#include "cuda/dense/cuda_dense.cuh"

#include <cstdio>

void cuda_dense_blas(cuda_lane_t *lane, cublasStatus_t status, const char *call, const char *file, int line) {
  char what[256];
  if (status == CUBLAS_STATUS_SUCCESS) return;
  snprintf(what, sizeof what, "cuBLAS: %s: %.150s", cublasGetStatusString(status), call);
  cuda_failed(lane, status == CUBLAS_STATUS_ALLOC_FAILED ? cudaErrorMemoryAllocation : cudaErrorUnknown, what,
              file, line);
}

namespace {

/* ---- the optimizer's step ---- */

/* The tables' kernel, on the parameters as rows of this many; element by element it makes no difference. */
enum : int64_t { ROW = 128 };

void update_part(dense_t *dense, const dense_optimizer_step_t *step, int64_t first, int64_t rows,
                 int64_t row) {
  optimizer_update_t update = {};
  if (rows == 0 || row == 0) return;
  update.at.options = step->options;
  update.at.dtype = SBAG_F32;
  update.at.dim = row;
  update.at.weight = step->weight + first;
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++)
    if (step->states[s] != nullptr) update.at.states[s] = step->states[s] + first;
  update.step = step->step;
  update.lr = step->lr;
  update.grad_scale = step->grad_scale;
  update.count = rows;
  update.grad = step->grad + first;
  dense->kernel->ops->update(dense->kernel, nullptr, &update);
}

void update(dense_t *dense, const dense_optimizer_step_t *step) {
  const int64_t rows = step->count / ROW;
  update_part(dense, step, 0, rows, ROW);
  update_part(dense, step, rows * ROW, 1, step->count % ROW);
  cuda_dense_t *self = cuda_dense_of(dense);
  if (self->plans > 0 && cuda_dense_guard(self, 1) != nullptr)
    cuda_dense_look(self, cuda_begin(dense->kernel, nullptr), 1, step->count, step->count, step->weight);
}

/* ---- batches ---- */

/* By pinned memory and a stream of its own, so that the copy goes beside the step under way. What was staged
 * for the batch before has long arrived: the wait gives its room back. */
void input(dense_t *dense, const copy_part_t *parts, int64_t count) {
  cuda_dense_t *self = cuda_dense_of(dense);
  cuda_lane_t *lane = cuda_begin(dense->kernel, self->copies);
  sbag_status_t failure = {};
  if (cuda_has_failed(lane)) return;
  if (dense->kernel->ops->stream_sync(dense->kernel, self->copies, &failure) != SBAG_OK) {
    cuda_failed(lane, cudaErrorUnknown, failure.message, __FILE__, __LINE__); /* for the next stream_sync */
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    const size_t bytes = static_cast<size_t>(parts[i].bytes);
    if (bytes == 0) continue;
    void *staged = cuda_stage_bytes(lane, bytes);
    if (staged == nullptr) return;
    memcpy(staged, parts[i].from, bytes);
    CUDA_TRY(lane, cudaMemcpyAsync(parts[i].to, staged, bytes, cudaMemcpyHostToDevice, lane->stream));
  }
}

void input_ready(dense_t *dense) {
  kernel_cuda_stream_wait(dense->kernel, nullptr, cuda_dense_of(dense)->copies);
}

/* ---- the object ---- */

void destroy(dense_t *dense) {
  cuda_dense_t *self = cuda_dense_of(dense);
  kernel_t *kernel = dense->kernel;
  (void)kernel->ops->stream_sync(kernel, nullptr, nullptr); /* nothing uses it any more */
  if (self->blas != nullptr) (void)cublasDestroy(self->blas);
  if (self->lt != nullptr) (void)cublasLtDestroy(self->lt);
  mem_free(kernel->mem, self->plan);
  if (self->guard != nullptr) kernel->ops->release(kernel, MEMORY_PINNED, self->guard);
  kernel_cuda_stream_destroy(kernel, &self->copies);
  if (self->workspace != nullptr) kernel->ops->release(kernel, MEMORY_DEVICE, self->workspace);
  mem_free(kernel->mem, self);
}

void table_fill(dense_ops_t *ops) {
  ops->name = "cuda";
  ops->destroy = destroy;
  ops->update = update;
  ops->input = input;
  ops->input_ready = input_ready;
  cuda_interaction_ops(ops);
  cuda_linear_ops(ops);
  cuda_match_ops(ops);
  cuda_softmax_ops(ops);
  cuda_sum_ops(ops);
  cuda_combine_ops(ops);
}

/* Default: f32 is f32. In TF32 products would differ from the CPU's in the fourth digit. */
sbag_code_t open_blas(cuda_dense_t *self, sbag_status_t *status) {
  kernel_t *kernel = self->base.kernel;
  cuda_lane_t *lane = cuda_begin(kernel, nullptr);
  void *guard = nullptr;
  SBAG_TRY(kernel_cuda_stream_create(kernel, &self->copies, status));
  SBAG_TRY(
      kernel->ops->alloc(kernel, MEMORY_PINNED, sizeof *self->guard, "dense arithmetic", &guard, status));
  self->guard = static_cast<cuda_guard_t *>(guard);
  *self->guard = cuda_guard_t{};
  SBAG_TRY(kernel->ops->alloc(kernel, MEMORY_DEVICE, CUDA_DENSE_WORKSPACE_BYTES, "cuBLAS's workspace",
                              &self->workspace, status));
  CUBLAS_TRY(lane, cublasCreate(&self->blas));
  CUBLAS_TRY(lane, cublasLtCreate(&self->lt));
  CUBLAS_TRY(lane, cublasSetStream(self->blas, lane->stream));
  CUBLAS_TRY(lane, cublasSetWorkspace(self->blas, self->workspace, CUDA_DENSE_WORKSPACE_BYTES));
  CUBLAS_TRY(lane, cublasSetMathMode(self->blas, CUBLAS_DEFAULT_MATH));
  return dense_sync(&self->base, status);
}

} // namespace

sbag_code_t dense_cuda_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status) {
  void *block = nullptr;
  SBAG_TRY(mem_calloc(kernel->mem, sizeof(cuda_dense_t), "dense arithmetic", &block, status));
  cuda_dense_t *made = static_cast<cuda_dense_t *>(block);
  made->base.ops = &made->ops;
  made->base.kernel = kernel;
  made->reproducible = reproducible;
  table_fill(&made->ops);
  const sbag_code_t code = open_blas(made, status);
  if (code != SBAG_OK) {
    destroy(&made->base);
    return code;
  }
  *dense = &made->base;
  return SBAG_OK;
}
