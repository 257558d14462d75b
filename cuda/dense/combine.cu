/* What is combined element by element or row by row: vectors side by side, cross layers, first-order sums, a
 * factorisation machine. A thread an element but where a row has a sum. */
#include "cuda/dense/cuda_dense.cuh"

namespace {

struct rows_t {
  const interaction_vector_t *vectors;
  int count, concat;
  int64_t dim, first_row, rows;
};

rows_t rows_of(cuda_lane_t *lane, const interaction_t *shape, const interaction_vector_t *vectors,
               int64_t first_row, int64_t rows) {
  rows_t r = {};
  r.vectors = cuda_upload(lane, vectors, shape->vectors);
  r.count = shape->vectors;
  r.concat = shape->concat;
  r.dim = shape->dim;
  r.first_row = first_row;
  r.rows = rows;
  return r;
}

__device__ __forceinline__ float value_at(const rows_t &r, int vector, int64_t row, int64_t column) {
  const interaction_vector_t *v = r.vectors + vector;
  return __ldg(v->data + (r.first_row + row) * v->data_stride + column);
}

/* ---- vectors side by side ---- */

__global__ void __launch_bounds__(CUDA_BLOCK)
    put_beside(const rows_t r, float *__restrict__ out, cuda_guard_t *guard) {
  const int64_t width = r.concat * r.dim;
  for (int64_t at = cuda_first(); at < r.rows * width; at += cuda_stride()) {
    const int64_t row = at / width, column = at - row * width;
    const int vector = static_cast<int>(column / r.dim);
    const float value = value_at(r, vector, row, column - vector * r.dim);
    cuda_guard_see(guard, cuda_guard_size(value));
    out[at] = value;
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK) take_apart(const rows_t r, const float *__restrict__ out_grad) {
  const int64_t width = r.count * r.dim, given = r.concat * r.dim;
  for (int64_t at = cuda_first(); at < r.rows * width; at += cuda_stride()) {
    const int64_t row = at / width, column = at - row * width;
    const int vector = static_cast<int>(column / r.dim);
    const interaction_vector_t *v = r.vectors + vector;
    v->grad[row * v->grad_stride + column - vector * r.dim] =
        vector < r.concat ? __ldg(out_grad + row * given + column) : 0.0f;
  }
}

/* ---- cross layers and sums ---- */

__global__ void __launch_bounds__(CUDA_BLOCK)
    cross(int64_t count, const float *__restrict__ x0, const float *__restrict__ z,
          const float *__restrict__ x, float *__restrict__ out) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride())
    out[i] = __ldg(x0 + i) * __ldg(z + i) + __ldg(x + i);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    cross_back(int64_t count, const float *__restrict__ x0, const float *__restrict__ z,
               const float *__restrict__ out_grad, float *__restrict__ dz, float *__restrict__ x0_grad) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) {
    const float g = __ldg(out_grad + i);
    dz[i] = __ldg(x0 + i) * g;
    x0_grad[i] += __ldg(z + i) * g;
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    add_each(int64_t count, const float *__restrict__ x, float *__restrict__ y) {
  for (int64_t i = cuda_first(); i < count; i += cuda_stride()) y[i] += __ldg(x + i);
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    sum_rows(int64_t rows, int64_t width, const float *__restrict__ x, int64_t stride,
             float *__restrict__ y) {
  for (int64_t r = cuda_first(); r < rows; r += cuda_stride()) {
    float sum = y[r];
    for (int64_t k = 0; k < width; k++) sum += __ldg(x + r * stride + k);
    y[r] = sum;
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    spread(int64_t rows, int64_t width, const float *__restrict__ y, float *__restrict__ x, int64_t stride) {
  for (int64_t at = cuda_first(); at < rows * width; at += cuda_stride()) {
    const int64_t row = at / width;
    x[row * stride + at - row * width] = __ldg(y + row);
  }
}

void cross_forward(dense_t *dense, int64_t count, const float *x0, const float *z, const float *x,
                   float *out) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  CUDA_LAUNCH(lane, cross, cuda_blocks(lane, count), CUDA_BLOCK, 0, count, x0, z, x, out);
}

void cross_backward(dense_t *dense, int64_t count, const float *x0, const float *z, const float *out_grad,
                    float *dz, float *x0_grad) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  CUDA_LAUNCH(lane, cross_back, cuda_blocks(lane, count), CUDA_BLOCK, 0, count, x0, z, out_grad, dz, x0_grad);
}

void add(dense_t *dense, int64_t count, const float *x, float *y) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  CUDA_LAUNCH(lane, add_each, cuda_blocks(lane, count), CUDA_BLOCK, 0, count, x, y);
}

void add_rows(dense_t *dense, int64_t rows, int64_t width, const float *x, int64_t x_stride, float *y) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  CUDA_LAUNCH(lane, sum_rows, cuda_blocks(lane, rows), CUDA_BLOCK, 0, rows, width, x, x_stride, y);
}

void spread_rows(dense_t *dense, int64_t rows, int64_t width, const float *y, float *x, int64_t x_stride) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  CUDA_LAUNCH(lane, spread, cuda_blocks(lane, rows * width), CUDA_BLOCK, 0, rows, width, y, x, x_stride);
}

/* ---- the factorisation machine ---- */

/* A warp a row, a lane a column. */
__global__ void __launch_bounds__(CUDA_BLOCK) fm(const rows_t r, float *__restrict__ out) {
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, warps = blockDim.x / CUDA_WARP;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * warps + warp; row < r.rows;
       row += static_cast<int64_t>(gridDim.x) * warps) {
    float total = 0.0f;
    for (int64_t k = lane; k < r.dim; k += CUDA_WARP) {
      float sum = 0.0f, squares = 0.0f;
      for (int v = 0; v < r.count; v++) {
        const float value = value_at(r, v, row, k);
        sum += value;
        squares += value * value;
      }
      total += sum * sum - squares;
    }
    for (int half = CUDA_WARP / 2; half > 0; half /= 2)
      total += __shfl_down_sync(CUDA_FULL_MASK, total, half);
    if (lane == 0) out[row] += 0.5f * total;
  }
}

/* A thread a row and column: a vector's gradient is the sum of the others. */
__global__ void __launch_bounds__(CUDA_BLOCK) fm_back(const rows_t r, const float *__restrict__ out_grad) {
  for (int64_t at = cuda_first(); at < r.rows * r.dim; at += cuda_stride()) {
    const int64_t row = at / r.dim, k = at - row * r.dim;
    const float g = __ldg(out_grad + row);
    float sum = 0.0f;
    for (int v = 0; v < r.count; v++) sum += value_at(r, v, row, k);
    for (int v = 0; v < r.count; v++)
      r.vectors[v].grad[row * r.vectors[v].grad_stride + k] += g * (sum - value_at(r, v, row, k));
  }
}

void fm_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                int64_t first_row, int64_t rows, float *out) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const rows_t r = rows_of(lane, shape, vectors, first_row, rows);
  CUDA_LAUNCH(lane, fm, cuda_blocks(lane, rows, CUDA_BLOCK / CUDA_WARP), CUDA_BLOCK, 0, r, out);
}

void fm_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                 int64_t first_row, int64_t rows, const float *out_grad) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const rows_t r = rows_of(lane, shape, vectors, first_row, rows);
  CUDA_LAUNCH(lane, fm_back, cuda_blocks(lane, rows * shape->dim), CUDA_BLOCK, 0, r, out_grad);
}

} // namespace

void cuda_beside_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                         int64_t first_row, int64_t rows, float *out, cuda_guard_t *guard) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const rows_t r = rows_of(lane, shape, vectors, first_row, rows);
  CUDA_LAUNCH(lane, put_beside, cuda_blocks(lane, rows * shape->concat * shape->dim), CUDA_BLOCK, 0, r, out,
              guard);
}

void cuda_beside_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                          int64_t first_row, int64_t rows, const float *out_grad) {
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const rows_t r = rows_of(lane, shape, vectors, first_row, rows);
  CUDA_LAUNCH(lane, take_apart, cuda_blocks(lane, rows * shape->vectors * shape->dim), CUDA_BLOCK, 0, r,
              out_grad);
}

void cuda_combine_ops(dense_ops_t *ops) {
  ops->cross_forward = cross_forward;
  ops->cross_backward = cross_backward;
  ops->add = add;
  ops->add_rows = add_rows;
  ops->spread_rows = spread_rows;
  ops->fm_forward = fm_forward;
  ops->fm_backward = fm_backward;
}
