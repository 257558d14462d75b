/* Linear layers: matrix products by cuBLAS (in reproducible mode by product.cu), and one pass of our own over
 * the result each way.
 *
 * The pass of the forward is bias, ReLU and dropout at once. cuBLASLt could do bias and ReLU in the product's
 * epilogue, but its ReLU turns NaN into 0, and a model whose values have left the finite would go on
 * unnoticed.
 *
 * cuBLAS numbers columns first: what is [rows][columns] here is its transpose there, so a product's factors
 * change places. */
#include "cuda/dense/cuda_dense.cuh"

#include <Random123/philox.h>

namespace {

/* ---- products: see dense/gemm.h ---- */

struct matrix_t {
  const float *data;
  int64_t stride;
};

cuda_matrix_t turned(cublasOperation_t op, matrix_t of) {
  return op == CUBLAS_OP_N ? cuda_matrix_t{of.data, of.stride, 1} : cuda_matrix_t{of.data, 1, of.stride};
}

/* c [m][n] = op(a) op(b), k terms each. */
void multiply(cuda_dense_t *self, cuda_lane_t *lane, cublasOperation_t a_op, cublasOperation_t b_op,
              int64_t m, int64_t n, int64_t k, matrix_t a, matrix_t b, float *c, int64_t c_stride) {
  const float one = 1.0f, zero = 0.0f;
  if (self->reproducible) {
    cuda_dense_product(lane, m, n, k, turned(a_op, a), turned(b_op, b), c, c_stride);
    return;
  }
  CUBLAS_TRY(lane, cublasSgemm(self->blas, b_op, a_op, static_cast<int>(n), static_cast<int>(m),
                               static_cast<int>(k), &one, b.data, static_cast<int>(b.stride), a.data,
                               static_cast<int>(a.stride), &zero, c, static_cast<int>(c_stride)));
}

/* ---- forward ---- */

enum { UNITS = 4 }; /* of a thread: what one random block is for */

struct activation_t {
  int64_t rows, units, blocks; /* blocks: of UNITS units, in a row */
  const float *bias;           /* or NULL */
  dropout_t dropout;
  bool relu, wide; /* wide: four units are one aligned load */
};

__device__ philox4x32_ctr_t dropout_words(const dropout_t &d, uint64_t low) {
  const uint64_t high = static_cast<uint64_t>(d.step);
  const philox4x32_ctr_t counter = {{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                                     static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}};
  const philox4x32_key_t key = {{static_cast<uint32_t>(d.key), static_cast<uint32_t>(d.key >> 32)}};
  return philox4x32(counter, key);
}

__device__ void activate(const activation_t &a, int64_t row, int64_t block, int count, float v[UNITS]) {
  for (int j = 0; j < UNITS; j++) {
    if (a.bias != nullptr && j < count) v[j] += __ldg(a.bias + block * UNITS + j);
    if (a.relu) v[j] = v[j] < 0.0f ? 0.0f : v[j]; /* keeps NaN */
  }
  if (a.dropout.threshold == 0) return;
  const uint64_t sample = static_cast<uint64_t>(a.dropout.first_sample + row);
  const philox4x32_ctr_t word =
      dropout_words(a.dropout, sample * static_cast<uint64_t>(a.blocks) + static_cast<uint64_t>(block));
  for (int j = 0; j < UNITS; j++) v[j] = word.v[j] < a.dropout.threshold ? 0.0f : v[j] * a.dropout.scale;
}

__global__ void __launch_bounds__(CUDA_BLOCK) activation(activation_t a, float *__restrict__ y) {
  for (int64_t i = cuda_first(); i < a.rows * a.blocks; i += cuda_stride()) {
    const int64_t row = i / a.blocks, block = i - row * a.blocks, left = a.units - block * UNITS;
    float *at = y + row * a.units + block * UNITS;
    if (a.wide) {
      const float4 old = *reinterpret_cast<const float4 *>(at);
      float v[UNITS] = {old.x, old.y, old.z, old.w};
      activate(a, row, block, UNITS, v);
      *reinterpret_cast<float4 *>(at) = make_float4(v[0], v[1], v[2], v[3]);
      continue;
    }
    const int count = left < UNITS ? static_cast<int>(left) : static_cast<int>(UNITS);
    float v[UNITS] = {};
    for (int j = 0; j < UNITS; j++)
      if (j < count) v[j] = at[j];
    activate(a, row, block, count, v);
    for (int j = 0; j < UNITS; j++)
      if (j < count) at[j] = v[j];
  }
}

void linear_forward(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                    const float *x, int64_t x_stride, float *y) {
  enum : uintptr_t { WIDE_BYTES = UNITS * sizeof(float) };
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  if (rows == 0) return;
  multiply(cuda_dense_of(dense), lane, CUBLAS_OP_N, CUBLAS_OP_T, rows, layer->out, layer->in, {x, x_stride},
           {layer->weight, layer->in}, y, layer->out);
  if (layer->bias == nullptr && !layer->relu) return;
  activation_t a = {};
  a.rows = rows;
  a.units = layer->out;
  a.blocks = (layer->out + UNITS - 1) / UNITS;
  a.bias = layer->bias;
  a.dropout = *dropout;
  a.relu = layer->relu != 0;
  a.wide = layer->out % UNITS == 0 && reinterpret_cast<uintptr_t>(y) % WIDE_BYTES == 0;
  CUDA_LAUNCH(lane, activation, cuda_blocks(lane, rows * a.blocks), CUDA_BLOCK, 0, a, y);
}

/* ---- backward ---- */

/* A block takes CUDA_WARP columns of PART_ROWS rows, a warp a row at a time: the columns' sums are those of
 * its warps, in their order, and the bias's gradient those of the parts, in theirs. */
enum { PART_ROWS = 128, WARPS = CUDA_BLOCK / CUDA_WARP };

/* A zero after ReLU and dropout was either negative, or dropped: no gradient passes in both cases. */
__global__ void __launch_bounds__(CUDA_BLOCK)
    pass_back(int64_t rows, int64_t units, int relu, float scale, const float *__restrict__ y,
              float *__restrict__ dy, float *__restrict__ part) {
  CUDA_SHARED(float, of_warp, CUDA_BLOCK);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
  const int64_t tiles = (units + CUDA_WARP - 1) / CUDA_WARP, parts = (rows + PART_ROWS - 1) / PART_ROWS;
  for (int64_t at = blockIdx.x; at < tiles * parts; at += gridDim.x) {
    const int64_t number = at / tiles, column = (at - number * tiles) * CUDA_WARP + lane;
    const int64_t first = number * PART_ROWS, end = first + PART_ROWS < rows ? first + PART_ROWS : rows;
    float sum = 0.0f;
    for (int64_t row = first + warp; row < end && column < units; row += WARPS) {
      float g = dy[row * units + column];
      if (relu) {
        g = __ldg(y + row * units + column) > 0.0f ? g * scale : 0.0f;
        dy[row * units + column] = g;
      }
      sum += g;
    }
    if (part == nullptr) continue;
    of_warp[threadIdx.x] = sum;
    __syncthreads();
    for (int w = 1; w < WARPS && warp == 0; w++) sum += of_warp[w * CUDA_WARP + lane];
    if (warp == 0 && column < units) part[number * units + column] = sum;
    __syncthreads();
  }
}

__global__ void __launch_bounds__(CUDA_BLOCK)
    sum_bias(int64_t parts, int64_t units, const float *__restrict__ part, float *__restrict__ to) {
  for (int64_t j = cuda_first(); j < units; j += cuda_stride()) {
    float sum = 0.0f;
    for (int64_t p = 0; p < parts; p++) sum += part[p * units + j];
    to[j] = sum;
  }
}

/* dy becomes the gradient before the activation, and the bias's gradient is its sum. */
void activation_backward(cuda_lane_t *lane, const linear_t *layer, float scale, int64_t rows, const float *y,
                         float *dy) {
  const int64_t tiles = (layer->out + CUDA_WARP - 1) / CUDA_WARP, parts = (rows + PART_ROWS - 1) / PART_ROWS;
  float *part = layer->bias == nullptr ? nullptr : cuda_scratch<float>(lane, parts * layer->out);
  if (layer->bias == nullptr && !layer->relu) return;
  CUDA_LAUNCH(lane, pass_back, cuda_blocks(lane, tiles * parts, 1), CUDA_BLOCK, 0, rows, layer->out,
              layer->relu, scale, y, dy, part);
  if (layer->bias != nullptr)
    CUDA_LAUNCH(lane, sum_bias, cuda_blocks(lane, layer->out), CUDA_BLOCK, 0, parts, layer->out, part,
                layer->bias_grad);
}

void linear_backward(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                     const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                     int64_t dx_stride) {
  cuda_dense_t *self = cuda_dense_of(dense);
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  activation_backward(lane, layer, dropout->scale, rows, y, dy);
  if (rows == 0) {
    CUDA_TRY(lane, cudaMemsetAsync(layer->weight_grad, 0,
                                   mem_array_bytes(layer->in * layer->out, sizeof(float)), lane->stream));
    return;
  }
  multiply(self, lane, CUBLAS_OP_T, CUBLAS_OP_N, layer->out, layer->in, rows, {dy, layer->out}, {x, x_stride},
           layer->weight_grad, layer->in);
  if (dx != nullptr)
    multiply(self, lane, CUBLAS_OP_N, CUBLAS_OP_N, rows, layer->in, layer->out, {dy, layer->out},
             {layer->weight, layer->in}, dx, dx_stride);
}

} // namespace

void cuda_linear_ops(dense_ops_t *ops) {
  ops->linear_forward = linear_forward;
  ops->linear_backward = linear_backward;
}
