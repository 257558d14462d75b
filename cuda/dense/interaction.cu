/* The dot interaction, a warp a sample.
 *
 * Forward: a lane has EDGE x EDGE pairs at a time and keeps their sums in registers, so that it reads 2 EDGE
 * values for EDGE x EDGE products; with 27 vectors, DLRM's, the 28 squares on and below the diagonal are one
 * round of the warp. Backward: a lane has one column of EDGE vectors' gradients.
 *
 * What the lanes of a warp share, DEPTH columns of all vectors and in the backward the pairs' gradients as a
 * symmetric matrix, is in shared memory where it fits, else they read it where it lies. */
#include "cuda/dense/cuda_dense.cuh"

namespace {

enum { EDGE = 4, DEPTH = CUDA_WARP, WARPS_MOST = 8 };
enum : int64_t { SHARED_BYTES = 48 << 10 };

struct samples_t {
  const interaction_vector_t *vectors;
  int count, concat;
  int64_t dim, width;
  int64_t first_row, rows;
  int64_t shared; /* floats of a warp; 0: not staged */
  cuda_guard_t *guard;
};

__device__ __forceinline__ const float *vector_at(const samples_t &s, int i, int64_t row) {
  const interaction_vector_t *v = s.vectors + i;
  return v->data + (s.first_row + row) * v->data_stride;
}

/* Where the square of pairs p stands: p = I (I + 1) / 2 + J with J <= I. The root is a guess. */
__device__ __forceinline__ void square_at(int p, int *row, int *column) {
  int i = static_cast<int>((sqrtf(8.0f * static_cast<float>(p) + 1.0f) - 1.0f) * 0.5f);
  while (i * (i + 1) / 2 > p) i--;
  while ((i + 1) * (i + 2) / 2 <= p) i++;
  *row = i;
  *column = p - i * (i + 1) / 2;
}

/* DEPTH columns of all vectors, [count][DEPTH + 1]: the odd pitch spreads the banks. Zeros beyond dim. */
__device__ void stage_vectors(const samples_t &s, int64_t row, int64_t column, int lane, float *to) {
  __syncwarp(); /* nobody reads what was there */
  for (int i = 0; i < s.count; i++)
    to[i * (DEPTH + 1) + lane] = column + lane < s.dim ? __ldg(vector_at(s, i, row) + column + lane) : 0.0f;
  __syncwarp();
}

/* The first vectors go in front of the products. */
__device__ void copy_concat(const samples_t &s, int64_t row, int lane, float *out) {
  for (int c = 0; c < s.concat; c++) {
    const float *from = vector_at(s, c, row);
    unsigned most = 0;
    for (int64_t k = lane; k < s.dim; k += CUDA_WARP) {
      const float value = __ldg(from + k);
      most = max(most, cuda_guard_size(value));
      out[c * s.dim + k] = value;
    }
    cuda_guard_see(s.guard, most);
  }
}

/* Of DEPTH columns from `column`; at_row and at_column: the square's first vectors. Beyond the last vector a
 * sum is of anything, and is not written. */
template <bool STAGED>
__device__ void add_square(const samples_t &s, int64_t row, int64_t column, int at_row, int at_column,
                           const float *staged, float sum[EDGE][EDGE]) {
  const int last = s.count - 1;
  const float *left[EDGE], *right[EDGE];
  for (int e = 0; e < EDGE; e++) {
    const int i = at_row + e < last ? at_row + e : last, j = at_column + e < last ? at_column + e : last;
    left[e] = STAGED ? staged + i * (DEPTH + 1) : vector_at(s, i, row) + column;
    right[e] = STAGED ? staged + j * (DEPTH + 1) : vector_at(s, j, row) + column;
  }
  const int depth = s.dim - column < DEPTH ? static_cast<int>(s.dim - column) : static_cast<int>(DEPTH);
  for (int k = 0; k < depth; k++) {
    float a[EDGE], b[EDGE];
    for (int e = 0; e < EDGE; e++) a[e] = left[e][k], b[e] = right[e][k];
    for (int i = 0; i < EDGE; i++)
      for (int j = 0; j < EDGE; j++) sum[i][j] = __fmaf_rn(a[i], b[j], sum[i][j]);
  }
}

__device__ void write_square(const samples_t &s, int at_row, int at_column, const float sum[EDGE][EDGE],
                             float *out) {
  unsigned most = 0;
  for (int i = 0; i < EDGE; i++)
    for (int j = 0; j < EDGE; j++) {
      const int64_t r = at_row + i, c = at_column + j;
      if (r >= s.count || c >= r) continue;
      most = max(most, cuda_guard_size(sum[i][j]));
      out[r * (r - 1) / 2 + c] = sum[i][j];
    }
  cuda_guard_see(s.guard, most);
}

template <bool STAGED>
__global__ void __launch_bounds__(CUDA_WARP *WARPS_MOST) forward(const samples_t s, float *__restrict__ out) {
  CUDA_SHARED_DYNAMIC(float, shared);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, warps = blockDim.x / CUDA_WARP;
  float *staged = shared + warp * s.shared;
  const int edges = (s.count + EDGE - 1) / EDGE, squares = edges * (edges + 1) / 2;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * warps + warp; row < s.rows;
       row += static_cast<int64_t>(gridDim.x) * warps) {
    float *to = out + row * s.width;
    copy_concat(s, row, lane, to);
    for (int round = 0; round < squares; round += CUDA_WARP) {
      const bool taken = round + lane < squares;
      float sum[EDGE][EDGE] = {};
      int at_row = 0, at_column = 0;
      square_at(taken ? round + lane : 0, &at_row, &at_column);
      for (int64_t column = 0; column < s.dim; column += DEPTH) {
        if (STAGED) stage_vectors(s, row, column, lane, staged);
        if (taken) add_square<STAGED>(s, row, column, at_row * EDGE, at_column * EDGE, staged, sum);
      }
      if (taken) write_square(s, at_row * EDGE, at_column * EDGE, sum, to + s.concat * s.dim);
    }
  }
}

/* ---- backward ---- */

__device__ __forceinline__ int64_t pair_place(int64_t i, int64_t j) {
  return i > j ? i * (i - 1) / 2 + j : j * (j - 1) / 2 + i;
}

/* pitch: the count rounded up to EDGE, so that EDGE gradients of a vector's pairs are one load. */
__device__ __forceinline__ int pitch_of(int count) {
  return (count + EDGE - 1) / EDGE * EDGE;
}

/* matrix[j][i] = gradient of pair (i, j), 0 on the diagonal and beyond the last vector. */
__device__ void stage_pairs(const samples_t &s, const float *pairs, int lane, float *matrix) {
  const int pitch = pitch_of(s.count);
  __syncwarp(); /* nobody reads what was there */
  for (int at = lane; at < s.count * pitch; at += CUDA_WARP) {
    const int j = at / pitch, i = at - j * pitch;
    matrix[at] = i == j || i >= s.count ? 0.0f : __ldg(pairs + pair_place(i, j));
  }
  __syncwarp();
}

/* The gradients of EDGE vectors from `first` at one column: the sums over the other vectors of what the
 * pair's gradient takes of them. */
template <bool STAGED>
__device__ void add_vectors(const samples_t &s, int64_t row, int64_t column, int lane, int first,
                            const float *staged, const float *matrix, const float *pairs, float sum[EDGE]) {
  const int pitch = pitch_of(s.count);
  for (int j = 0; j < s.count; j++) {
    float g[EDGE];
    if (STAGED) {
      const float4 four = *reinterpret_cast<const float4 *>(matrix + j * pitch + first);
      g[0] = four.x, g[1] = four.y, g[2] = four.z, g[3] = four.w;
    } else {
      for (int e = 0; e < EDGE; e++)
        g[e] = first + e == j || first + e >= s.count ? 0.0f : __ldg(pairs + pair_place(first + e, j));
    }
    const float value = STAGED                  ? staged[j * (DEPTH + 1) + lane]
                        : column + lane < s.dim ? __ldg(vector_at(s, j, row) + column + lane)
                                                : 0.0f;
    for (int e = 0; e < EDGE; e++)
      sum[e] = first + e == j ? sum[e] : __fmaf_rn(g[e], value, sum[e]); /* 0 times inf is NaN */
  }
}

template <bool STAGED>
__global__ void __launch_bounds__(CUDA_WARP *WARPS_MOST)
    backward(const samples_t s, const float *__restrict__ out_grad) {
  CUDA_SHARED_DYNAMIC(float, shared);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, warps = blockDim.x / CUDA_WARP;
  float *matrix = shared + warp * s.shared, *staged = matrix + s.count * pitch_of(s.count);
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * warps + warp; row < s.rows;
       row += static_cast<int64_t>(gridDim.x) * warps) {
    const float *from = out_grad + row * s.width, *pairs = from + s.concat * s.dim;
    if (STAGED) stage_pairs(s, pairs, lane, matrix);
    for (int64_t column = 0; column < s.dim; column += DEPTH) {
      if (STAGED) stage_vectors(s, row, column, lane, staged);
      for (int first = 0; first < s.count; first += EDGE) {
        float sum[EDGE] = {};
        for (int e = 0; e < EDGE; e++)
          if (first + e < s.concat && column + lane < s.dim)
            sum[e] = __ldg(from + (first + e) * s.dim + column + lane);
        add_vectors<STAGED>(s, row, column, lane, first, staged, matrix, pairs, sum);
        for (int e = 0; e < EDGE; e++)
          if (first + e < s.count && column + lane < s.dim) {
            const interaction_vector_t *v = s.vectors + first + e;
            v->grad[row * v->grad_stride + column + lane] = sum[e];
          }
      }
    }
  }
}

/* ---- launches ---- */

samples_t samples_of(cuda_lane_t *lane, const interaction_t *shape, const interaction_vector_t *vectors,
                     int64_t first_row, int64_t rows, int64_t shared) {
  samples_t s = {};
  s.vectors = cuda_upload(lane, vectors, shape->vectors);
  s.count = shape->vectors;
  s.concat = shape->concat;
  s.dim = shape->dim;
  s.width = interaction_width(shape);
  s.first_row = first_row;
  s.rows = rows;
  s.shared = shared * static_cast<int64_t>(sizeof(float)) <= SHARED_BYTES ? shared : 0;
  return s;
}

/* Warps of a block: as many as have room. */
unsigned warps_of(const samples_t &s) {
  const int64_t bytes = s.shared * static_cast<int64_t>(sizeof(float));
  const int64_t fit = bytes == 0 ? int64_t{WARPS_MOST} : SHARED_BYTES / bytes;
  return static_cast<unsigned>(fit < WARPS_MOST ? fit : int64_t{WARPS_MOST});
}

size_t shared_bytes(const samples_t &s) {
  return warps_of(s) * static_cast<size_t>(s.shared) * sizeof(float);
}

void interaction_forward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                         int64_t first_row, int64_t rows, float *out) {
  cuda_dense_t *self = cuda_dense_of(dense);
  cuda_guard_t *guard = cuda_dense_guard(self, shape->to_loss);
  self->seen = guard != nullptr ? out : nullptr;
  if (shape->concat_only) {
    cuda_beside_forward(dense, shape, vectors, first_row, rows, out, guard);
    return;
  }
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const int64_t n = shape->vectors;
  samples_t s = samples_of(lane, shape, vectors, first_row, rows, n * (DEPTH + 1));
  s.guard = guard;
  const unsigned warps = warps_of(s), blocks = cuda_blocks(lane, rows, warps);
  if (s.shared > 0)
    CUDA_LAUNCH(lane, forward<true>, blocks, warps * CUDA_WARP, shared_bytes(s), s, out);
  else
    CUDA_LAUNCH(lane, forward<false>, blocks, warps * CUDA_WARP, 0, s, out);
}

void interaction_backward(dense_t *dense, const interaction_t *shape, const interaction_vector_t *vectors,
                          int64_t first_row, int64_t rows, const float *out_grad) {
  if (shape->concat_only) {
    cuda_beside_backward(dense, shape, vectors, first_row, rows, out_grad);
    return;
  }
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const int64_t n = shape->vectors, pitch = (n + EDGE - 1) / EDGE * EDGE;
  /* a warp's part begins at a multiple of EDGE floats, for its loads of as many */
  const int64_t shared = (n * pitch + n * (DEPTH + 1) + EDGE - 1) / EDGE * EDGE;
  const samples_t s = samples_of(lane, shape, vectors, first_row, rows, shared);
  const unsigned warps = warps_of(s), blocks = cuda_blocks(lane, rows, warps);
  if (s.shared > 0)
    CUDA_LAUNCH(lane, backward<true>, blocks, warps * CUDA_WARP, shared_bytes(s), s, out_grad);
  else
    CUDA_LAUNCH(lane, backward<false>, blocks, warps * CUDA_WARP, 0, s, out_grad);
}

} // namespace

void cuda_interaction_ops(dense_ops_t *ops) {
  ops->interaction_forward = interaction_forward;
  ops->interaction_backward = interaction_backward;
}
