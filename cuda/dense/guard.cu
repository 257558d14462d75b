/* What became of NaN where a product's fused ReLU, max(x, 0), may have made 0 of it: a guard in pinned
 * memory. Kernels that read values anyway raise it; what brings the loss to the host reads it there, after
 * the wait that there is for the loss, and makes the loss NaN: no copy, no wait.
 *
 * A sum of products is NaN only if one of its values is not finite, or if finite ones overflow on the way,
 * and that takes values beyond LARGE: (2^50 2^50) times 2^26 terms are below the largest float. So these are
 * looked at, against both limits:
 *
 *   - what comes into fused layers: by the interaction, which writes it, or by a pass over it (`look`), as
 *     with the dense features; not another fused layer's output, which is at least 0 and never NaN,
 *   - but that may be large or infinite: the backward reads it anyway, to know where no gradient passes,
 *   - the parameters: when a layer is first fused, and after each update.
 *
 * What is large is not wrong, but layers are not fused any more, from the next one on; what this pass has
 * lost, if anything, went into no gradient, and shows in the next one. Neither are they fused after NaN or an
 * infinity: whoever goes on in spite of the error has what is exact. */
#include "cuda/dense/cuda_dense.cuh"

namespace {

/* A pass over a matrix. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    look(int64_t rows, int64_t columns, int64_t stride, const float *__restrict__ values,
         cuda_guard_t *__restrict__ guard) {
  unsigned most = 0;
  for (int64_t at = cuda_first(); at < rows * columns; at += cuda_stride()) {
    const int64_t row = at / columns;
    most = max(most, cuda_guard_size(__ldg(values + row * stride + at - row * columns)));
  }
  cuda_guard_see(guard, most);
}

} // namespace

cuda_guard_t *cuda_dense_guard(const cuda_dense_t *self, int to_loss) {
  return to_loss && !self->reproducible && !self->guard->careful ? self->guard : nullptr;
}

void cuda_dense_look(cuda_dense_t *self, cuda_lane_t *lane, int64_t rows, int64_t columns, int64_t stride,
                     const float *values) {
  if (stride == columns) columns *= rows, stride = columns, rows = rows > 0;
  CUDA_LAUNCH(lane, look, cuda_blocks(lane, rows * columns), CUDA_BLOCK, 0, rows, columns, stride, values,
              self->guard);
}

double cuda_dense_guarded(cuda_guard_t *guard, double loss) {
  if (guard == nullptr || !guard->large) return loss;
  const bool lost = guard->lost;
  guard->careful = 1;
  guard->large = guard->lost = 0;
  return lost ? static_cast<double>(NAN) : loss;
}
