/* Matrix products whose bits do not depend on how many rows there are, as reproducible mode wants them: every
 * element is one sum over its terms, first to last. A block takes squares of EDGE x EDGE elements and EDGE
 * terms at a time, which it brings to shared memory in the order in which they lie; a thread has OF_THREAD
 * elements of a column. */
#include "cuda/dense/cuda_dense.cuh"

namespace {

enum { EDGE = CUDA_WARP, PITCH = EDGE + 1, STEP = CUDA_BLOCK / EDGE, OF_THREAD = EDGE / STEP };

/* Elements [i0, i0 + EDGE) x [j0, j0 + EDGE) of a [rows][columns] matrix; zeros beyond. */
__device__ void bring(const cuda_matrix_t &from, int64_t i0, int64_t rows, int64_t j0, int64_t columns,
                      float *__restrict__ to) {
  const int x = threadIdx.x % EDGE, y = threadIdx.x / EDGE;
  for (int part = 0; part < OF_THREAD; part++) {
    const int other = y + part * STEP;
    const int i = from.along == 1 ? other : x, j = from.along == 1 ? x : other;
    const bool inside = i0 + i < rows && j0 + j < columns;
    to[i * PITCH + j] = inside ? __ldg(from.data + (i0 + i) * from.down + (j0 + j) * from.along) : 0.0f;
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    product(int64_t m, int64_t n, int64_t k, const cuda_matrix_t a, const cuda_matrix_t b,
            float *__restrict__ c, int64_t c_stride) {
  CUDA_SHARED(float, left, EDGE *PITCH);
  CUDA_SHARED(float, right, EDGE *PITCH);
  const int x = threadIdx.x % EDGE, y = threadIdx.x / EDGE;
  const int64_t across = (n + EDGE - 1) / EDGE, squares = (m + EDGE - 1) / EDGE * across;
  for (int64_t square = blockIdx.x; square < squares; square += gridDim.x) {
    const int64_t i0 = square / across * EDGE, j0 = square % across * EDGE;
    float sum[OF_THREAD] = {};
    for (int64_t k0 = 0; k0 < k; k0 += EDGE) {
      bring(a, i0, m, k0, k, left);
      bring(b, k0, k, j0, n, right);
      __syncthreads();
      for (int t = 0; t < EDGE; t++)
        for (int part = 0; part < OF_THREAD; part++)
          sum[part] = __fmaf_rn(left[(y + part * STEP) * PITCH + t], right[t * PITCH + x], sum[part]);
      __syncthreads();
    }
    for (int part = 0; part < OF_THREAD; part++) {
      const int64_t i = i0 + y + part * STEP;
      if (i < m && j0 + x < n) c[i * c_stride + j0 + x] = sum[part];
    }
  }
}

} // namespace

void cuda_dense_product(cuda_lane_t *lane, int64_t m, int64_t n, int64_t k, cuda_matrix_t a, cuda_matrix_t b,
                        float *c, int64_t c_stride) {
  const int64_t squares = ((m + EDGE - 1) / EDGE) * ((n + EDGE - 1) / EDGE);
  CUDA_LAUNCH(lane, product, cuda_blocks(lane, squares, 1), CUDA_BLOCK, 0, m, n, k, a, b, c, c_stride);
}
