/* Linear layers. Forward: the product with bias and ReLU in its epilogue, by cuBLASLt; else (with dropout, in
 * reproducible mode, where a ReLU must keep NaN, and where cuBLASLt cannot) a product and a pass of our own
 * over its result: bias, ReLU and dropout at once. A ReLU in an epilogue is max(x, 0), which is 0 of NaN: it
 * is taken only in passes that end in a loss, and guard.cu sees to it that the loss is NaN then.
 *
 * Backward: a pass of our own over dy where there is a ReLU, then the weight's gradient with the bias's in
 * its epilogue (or that in our pass), then dx. The ReLU's gradient could be an epilogue too, but of the
 * product that makes dy, which is another layer's or none, with a mask that the forward would have to write
 * beside y; and it would know nothing of dropout. The pass reads y anyway for the guard.
 *
 * cuBLAS numbers columns first: what is [rows][columns] here is its transpose there, so a product's factors
 * change places. */
#include "cuda/dense/cuda_dense.cuh"

#include <Random123/philox.h>

namespace {

/* ---- products: see dense/gemm.h ---- */

cuda_matrix_t turned(cublasOperation_t op, const float *data, int64_t stride) {
  return op == CUBLAS_OP_N ? cuda_matrix_t{data, stride, 1} : cuda_matrix_t{data, 1, stride};
}

void multiply(cuda_dense_t *self, cuda_lane_t *lane, const cuda_product_t &p) {
  const float one = 1.0f, zero = 0.0f;
  auto size = [](int64_t count) { return static_cast<int>(count); };
  if (self->reproducible) {
    cuda_dense_product(lane, p.m, p.n, p.k, turned(p.a_op, p.a, p.a_stride), turned(p.b_op, p.b, p.b_stride),
                       p.c, p.c_stride);
    return;
  }
  CUBLAS_TRY(lane, cublasSgemm(self->blas, p.b_op, p.a_op, size(p.n), size(p.m), size(p.k), &one, p.b,
                               size(p.b_stride), p.a, size(p.a_stride), &zero, p.c, size(p.c_stride)));
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

/* What could make NaN of a fused ReLU's sums. Of two layers in a row, the first one's output is known. */
void look_at(cuda_dense_t *self, cuda_lane_t *lane, const linear_t *layer, bool is_new,
             const cuda_product_t &p) {
  if (p.a != self->seen) cuda_dense_look(self, lane, p.m, p.k, p.a_stride, p.a);
  self->seen = p.c;
  if (!is_new) return;
  cuda_dense_look(self, lane, 1, layer->out * layer->in, layer->out * layer->in, layer->weight);
  cuda_dense_look(self, lane, 1, layer->out, layer->out, layer->bias);
}

bool forward_fused(cuda_dense_t *self, cuda_lane_t *lane, const linear_t *layer, const dropout_t *dropout,
                   const cuda_product_t &p) {
  enum : int64_t { TERMS_MOST = 1 << 26 }; /* see guard.cu */
  bool is_new = false;
  if (layer->bias == nullptr || dropout->threshold != 0) return false;
  if (layer->relu && (p.k > TERMS_MOST || cuda_dense_guard(self, layer->to_loss) == nullptr)) return false;
  cuda_fused_plan_t *plan =
      cuda_dense_plan(self, lane, &p, layer->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS,
                      layer->bias, &is_new);
  if (plan == nullptr) return false;
  cuda_dense_fused(self, lane, plan, &p, layer->bias);
  if (layer->relu) look_at(self, lane, layer, is_new, p);
  return true;
}

void linear_forward(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                    const float *x, int64_t x_stride, float *y) {
  enum : uintptr_t { WIDE_BYTES = UNITS * sizeof(float) };
  cuda_dense_t *self = cuda_dense_of(dense);
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const cuda_product_t product = {CUBLAS_OP_N, CUBLAS_OP_T,   rows,      layer->out, layer->in, x,
                                  x_stride,    layer->weight, layer->in, y,          layer->out};
  if (rows == 0 || forward_fused(self, lane, layer, dropout, product)) return;
  multiply(self, lane, product);
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
              float *__restrict__ dy, float *__restrict__ part, cuda_guard_t *guard) {
  CUDA_SHARED(float, of_warp, CUDA_BLOCK);
  const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
  const int64_t tiles = (units + CUDA_WARP - 1) / CUDA_WARP, parts = (rows + PART_ROWS - 1) / PART_ROWS;
  for (int64_t at = blockIdx.x; at < tiles * parts; at += gridDim.x) {
    const int64_t number = at / tiles, column = (at - number * tiles) * CUDA_WARP + lane;
    const int64_t first = number * PART_ROWS, end = first + PART_ROWS < rows ? first + PART_ROWS : rows;
    float sum = 0.0f;
    unsigned most = 0;
    for (int64_t row = first + warp; row < end && column < units; row += WARPS) {
      float g = dy[row * units + column];
      if (relu) {
        const float value = __ldg(y + row * units + column);
        most = max(most, cuda_guard_size(value));
        g = value > 0.0f ? g * scale : 0.0f;
        dy[row * units + column] = g;
      }
      sum += g;
    }
    cuda_guard_see(guard, most);
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

/* dy becomes the gradient before the activation; if `sums`, the bias's gradient is its sum. */
void activation_backward(cuda_dense_t *self, cuda_lane_t *lane, const linear_t *layer, bool sums, float scale,
                         int64_t rows, const float *y, float *dy) {
  const int64_t tiles = (layer->out + CUDA_WARP - 1) / CUDA_WARP, parts = (rows + PART_ROWS - 1) / PART_ROWS;
  float *part = sums ? cuda_scratch<float>(lane, parts * layer->out) : nullptr;
  if (!sums && !layer->relu) return;
  CUDA_LAUNCH(lane, pass_back, cuda_blocks(lane, tiles * parts, 1), CUDA_BLOCK, 0, rows, layer->out,
              layer->relu, scale, y, dy, part, cuda_dense_guard(self, 1));
  if (sums)
    CUDA_LAUNCH(lane, sum_bias, cuda_blocks(lane, layer->out), CUDA_BLOCK, 0, parts, layer->out, part,
                layer->bias_grad);
}

void linear_backward(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                     const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                     int64_t dx_stride) {
  cuda_dense_t *self = cuda_dense_of(dense);
  cuda_lane_t *lane = cuda_begin(dense->kernel, nullptr);
  const cuda_product_t of_weight = {CUBLAS_OP_T, CUBLAS_OP_N, layer->out, layer->in,          rows,     dy,
                                    layer->out,  x,           x_stride,   layer->weight_grad, layer->in};
  const cuda_product_t of_x = {CUBLAS_OP_N, CUBLAS_OP_N,   rows,      layer->in, layer->out, dy,
                               layer->out,  layer->weight, layer->in, dx,        dx_stride};
  bool is_new = false;
  cuda_fused_plan_t *plan = nullptr;
  if (rows > 0 && layer->bias != nullptr)
    plan = cuda_dense_plan(self, lane, &of_weight, CUBLASLT_EPILOGUE_BGRADB, layer->bias_grad, &is_new);
  activation_backward(self, lane, layer, layer->bias != nullptr && plan == nullptr, dropout->scale, rows, y,
                      dy);
  if (rows == 0) {
    CUDA_TRY(lane, cudaMemsetAsync(layer->weight_grad, 0,
                                   mem_array_bytes(layer->in * layer->out, sizeof(float)), lane->stream));
    return;
  }
  if (plan != nullptr)
    cuda_dense_fused(self, lane, plan, &of_weight, layer->bias_grad);
  else
    multiply(self, lane, of_weight);
  if (dx != nullptr) multiply(self, lane, of_x);
}

} // namespace

void cuda_linear_ops(dense_ops_t *ops) {
  ops->linear_forward = linear_forward;
  ops->linear_backward = linear_backward;
}
