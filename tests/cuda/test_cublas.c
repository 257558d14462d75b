/* The few calls of cuBLAS and cuBLASLt, against sums that are written out: the same would hold on a GPU, but
 * for what a fused ReLU makes of NaN, which is left open there. */
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { M = 5, N = 4, K = 7, ROWS = 9, BATCHES = 3 }; /* ROWS: between columns, more than any matrix has */

static cublasHandle_t handle;
static cudaStream_t stream;
static _Alignas(64) float a[BATCHES][ROWS * ROWS], b[BATCHES][ROWS * ROWS], c[BATCHES][ROWS * ROWS],
    expected[BATCHES][ROWS * ROWS];

static void set_up(void) {
  ck_assert_int_eq(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ck_assert_int_eq(cublasSetStream(handle, stream), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH), CUBLAS_STATUS_SUCCESS);
  for (int i = 0; i < BATCHES * ROWS * ROWS; i++) { /* small integers: exact in any order and in 16 bits */
    (&a[0][0])[i] = (float)(i % 5 - 2);
    (&b[0][0])[i] = (float)(i % 7 - 3);
    (&c[0][0])[i] = (float)(i % 3);
  }
}

static void tear_down(void) {
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
  ck_assert_int_eq(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

static float at(const float *matrix, cublasOperation_t op, int i, int j) {
  return op == CUBLAS_OP_N ? matrix[j * ROWS + i] : matrix[i * ROWS + j];
}

/* expected = 2 op(a) op(b) + beta c, where the matrix is, and c where it is not. */
static void multiply(cublasOperation_t a_op, cublasOperation_t b_op, float beta) {
  memcpy(expected, c, sizeof expected);
  for (int batch = 0; batch < BATCHES; batch++)
    for (int i = 0; i < M; i++)
      for (int j = 0; j < N; j++) {
        float sum = 0;
        for (int k = 0; k < K; k++) sum += at(a[batch], a_op, i, k) * at(b[batch], b_op, k, j);
        expected[batch][j * ROWS + i] = 2 * sum + beta * c[batch][j * ROWS + i];
      }
}

static const float two = 2, half = 0.5f, zero = 0;

/* The four pairs of operations. */
START_TEST(products_of_one_and_of_many) {
  const cublasOperation_t a_op = _i % 2 == 0 ? CUBLAS_OP_N : CUBLAS_OP_T;
  const cublasOperation_t b_op = _i / 2 == 0 ? CUBLAS_OP_N : CUBLAS_OP_T;
  static float first[BATCHES][ROWS * ROWS];
  memcpy(first, c, sizeof first);
  multiply(a_op, b_op, half);
  ck_assert_int_eq(cublasSgemm(handle, a_op, b_op, M, N, K, &two, a[0], ROWS, b[0], ROWS, &half, c[0], ROWS),
                   CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
  ck_assert_mem_eq(c[0], expected[0], sizeof c[0]);
  ck_assert_mem_eq(c[1], first[1], sizeof c[1]);
  memcpy(c, first, sizeof c);
  ck_assert_int_eq(cublasSgemmStridedBatched(handle, a_op, b_op, M, N, K, &two, a[0], ROWS, ROWS * ROWS, b[0],
                                             ROWS, ROWS * ROWS, &half, c[0], ROWS, ROWS * ROWS, BATCHES),
                   CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
  ck_assert_mem_eq(c, expected, sizeof c);
}
END_TEST

/* With beta 0 what was in c does not matter, were it NaN. */
START_TEST(beta_zero_does_not_read) {
  multiply(CUBLAS_OP_N, CUBLAS_OP_N, 0);
  for (int j = 0; j < N; j++)
    for (int i = 0; i < M; i++) c[0][j * ROWS + i] = NAN;
  ck_assert_int_eq(
      cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &two, a[0], ROWS, b[0], ROWS, &zero, c[0], ROWS),
      CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
  ck_assert_mem_eq(c[0], expected[0], sizeof c[0]);
}
END_TEST

static uint16_t bfloat_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)(bits >> 16); /* of small integers: exact */
}

START_TEST(sixteen_bits_in_and_f32_out) {
  static uint16_t a16[ROWS * ROWS], b16[ROWS * ROWS];
  multiply(CUBLAS_OP_T, CUBLAS_OP_N, half);
  for (int i = 0; i < ROWS * ROWS; i++) {
    a16[i] = bfloat_of(a[0][i]);
    b16[i] = bfloat_of(b[0][i]);
  }
  ck_assert_int_eq(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, M, N, K, &two, a16, CUDA_R_16BF, ROWS, b16,
                                CUDA_R_16BF, ROWS, &half, c[0], CUDA_R_32F, ROWS, CUBLAS_COMPUTE_32F,
                                CUBLAS_GEMM_DEFAULT),
                   CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
  ck_assert_mem_eq(c[0], expected[0], sizeof c[0]);
}
END_TEST

START_TEST(arguments_are_checked) {
  ck_assert_int_eq(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &two, a[0], M - 1, b[0], ROWS,
                               &zero, c[0], ROWS),
                   CUBLAS_STATUS_INVALID_VALUE);
  ck_assert_int_eq(
      cublasSgemm(NULL, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &two, a[0], ROWS, b[0], ROWS, &zero, c[0], ROWS),
      CUBLAS_STATUS_NOT_INITIALIZED);
  ck_assert_int_eq(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &two, a[0], CUDA_R_32F, ROWS, b[0],
                                CUDA_R_16F, ROWS, &zero, c[0], CUDA_R_32F, ROWS, CUBLAS_COMPUTE_32F,
                                CUBLAS_GEMM_DEFAULT),
                   CUBLAS_STATUS_NOT_SUPPORTED);
}
END_TEST

/* ---- cuBLASLt ---- */

typedef struct fused {
  cublasLtHandle_t handle;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t found;
  int count;
} fused_t;

static _Alignas(16) float vector[ROWS];
static _Alignas(256) char workspace[1 << 16];

static void fused_open(fused_t *f, cublasOperation_t a_op, cublasOperation_t b_op,
                       cublasLtEpilogue_t epilogue) {
  const int32_t ops[2] = {(int32_t)a_op, (int32_t)b_op};
  const uint32_t what = epilogue, align = sizeof(float);
  const uint64_t bytes = sizeof workspace;
  const void *at = vector;
  const int flip[2] = {a_op == CUBLAS_OP_T, b_op == CUBLAS_OP_T};
  *f = (fused_t){0};
  ck_assert_int_eq(cublasLtCreate(&f->handle), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cublasLtMatmulDescInit(&f->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                   CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulDescSetAttribute(&f->product, CUBLASLT_MATMUL_DESC_TRANSA, &ops[0], sizeof ops[0]);
  cublasLtMatmulDescSetAttribute(&f->product, CUBLASLT_MATMUL_DESC_TRANSB, &ops[1], sizeof ops[1]);
  cublasLtMatmulDescSetAttribute(&f->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &what, sizeof what);
  cublasLtMatmulDescSetAttribute(&f->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at, sizeof at);
  cublasLtMatrixLayoutInit(&f->a, CUDA_R_32F, flip[0] ? K : M, flip[0] ? M : K, ROWS);
  cublasLtMatrixLayoutInit(&f->b, CUDA_R_32F, flip[1] ? N : K, flip[1] ? K : N, ROWS);
  cublasLtMatrixLayoutInit(&f->c, CUDA_R_32F, M, N, ROWS);
  cublasLtMatmulPreferenceInit(&f->preference);
  cublasLtMatmulPreferenceSetAttribute(&f->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                       sizeof bytes);
  for (int i = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; i <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES;
       i++)
    cublasLtMatmulPreferenceSetAttribute(&f->preference, (cublasLtMatmulPreferenceAttributes_t)i, &align,
                                         sizeof align);
}

static cublasStatus_t fused_choose(fused_t *f) {
  return cublasLtMatmulAlgoGetHeuristic(f->handle, &f->product, &f->a, &f->b, &f->c, &f->c, &f->preference, 1,
                                        &f->found, &f->count);
}

static cublasStatus_t fused_run(fused_t *f) {
  const cublasStatus_t status =
      cublasLtMatmul(f->handle, &f->product, &two, a[0], &f->a, b[0], &f->b, &half, c[0], &f->c, c[0], &f->c,
                     &f->found.algo, workspace, sizeof workspace, stream);
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
  return status;
}

/* What `expected` becomes by a bias, a ReLU. */
static void bias_relu(int relu) {
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      float *at = &expected[0][j * ROWS + i];
      *at += vector[i];
      if (relu && *at < 0) *at = 0;
    }
}

START_TEST(fused_bias_and_relu) {
  const cublasOperation_t a_op = _i % 2 == 0 ? CUBLAS_OP_N : CUBLAS_OP_T;
  const cublasOperation_t b_op = _i / 2 % 2 == 0 ? CUBLAS_OP_N : CUBLAS_OP_T;
  fused_t f;
  for (int i = 0; i < ROWS; i++) vector[i] = (float)(i - 2);
  fused_open(&f, a_op, b_op, _i < 4 ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_RELU_BIAS);
  multiply(a_op, b_op, half);
  bias_relu(_i >= 4);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(f.count, 1);
  ck_assert_int_eq(fused_run(&f), CUBLAS_STATUS_SUCCESS);
  ck_assert_mem_eq(c[0], expected[0], sizeof c[0]);
  ck_assert_int_eq(cublasLtDestroy(f.handle), CUBLAS_STATUS_SUCCESS);
}
END_TEST

/* The sums of op(b)'s columns. */
START_TEST(fused_bias_gradient) {
  const cublasOperation_t b_op = _i == 0 ? CUBLAS_OP_N : CUBLAS_OP_T;
  fused_t f;
  fused_open(&f, CUBLAS_OP_N, b_op, CUBLASLT_EPILOGUE_BGRADB);
  multiply(CUBLAS_OP_N, b_op, half);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(fused_run(&f), CUBLAS_STATUS_SUCCESS);
  ck_assert_mem_eq(c[0], expected[0], sizeof c[0]);
  for (int j = 0; j < N; j++) {
    float sum = 0;
    for (int k = 0; k < K; k++) sum += at(b[0], b_op, k, j);
    ck_assert(vector[j] == sum);
  }
  ck_assert_int_eq(cublasLtDestroy(f.handle), CUBLAS_STATUS_SUCCESS);
}
END_TEST

/* As max(x, 0) may: the product must not rely on anything else. */
START_TEST(fused_relu_hides_nan) {
  fused_t f;
  fused_open(&f, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_RELU_BIAS);
  a[0][0] = NAN;
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(fused_run(&f), CUBLAS_STATUS_SUCCESS);
  for (int j = 0; j < N; j++) ck_assert(c[0][j * ROWS] == 0);
  ck_assert_int_eq(cublasLtDestroy(f.handle), CUBLAS_STATUS_SUCCESS);
}
END_TEST

/* An algorithm is for what it was chosen for. */
START_TEST(fused_arguments_are_checked) {
  const uint32_t align = 64, other = CUBLASLT_EPILOGUE_RELU_BIAS, unknown = CUBLASLT_EPILOGUE_GELU;
  const void *odd = vector + 1;
  fused_t f;
  fused_open(&f, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_BIAS);
  ck_assert_int_eq(fused_run(&f), CUBLAS_STATUS_INVALID_VALUE);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulDescSetAttribute(&f.product, CUBLASLT_MATMUL_DESC_EPILOGUE, &other, sizeof other);
  ck_assert_int_eq(fused_run(&f), CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulPreferenceSetAttribute(&f.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align,
                                       sizeof align);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_SUCCESS);
  ck_assert_int_eq(cublasLtMatmul(f.handle, &f.product, &two, a[0] + 1, &f.a, b[0], &f.b, &half, c[0], &f.c,
                                  c[0], &f.c, &f.found.algo, workspace, sizeof workspace, stream),
                   CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulDescSetAttribute(&f.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &odd, sizeof odd);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_NOT_SUPPORTED);
  ck_assert_int_eq(f.count, 0);
  cublasLtMatmulDescSetAttribute(&f.product, CUBLASLT_MATMUL_DESC_EPILOGUE, &unknown, sizeof unknown);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_NOT_SUPPORTED);
  cublasLtMatrixLayoutInit(&f.a, CUDA_R_32F, M + 1, K, ROWS);
  ck_assert_int_eq(fused_choose(&f), CUBLAS_STATUS_INVALID_VALUE);
  ck_assert_int_eq(cublasLtDestroy(f.handle), CUBLAS_STATUS_SUCCESS);
}
END_TEST

Suite *cublas_suite(void);
Suite *cublas_suite(void) {
  Suite *suite = suite_create("cublas");
  TCase *tests = tcase_create("cublas");
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, products_of_one_and_of_many, 0, 4);
  tcase_add_test(tests, beta_zero_does_not_read);
  tcase_add_test(tests, sixteen_bits_in_and_f32_out);
  tcase_add_test(tests, arguments_are_checked);
  tcase_add_loop_test(tests, fused_bias_and_relu, 0, 8);
  tcase_add_loop_test(tests, fused_bias_gradient, 0, 2);
  tcase_add_test(tests, fused_relu_hides_nan);
  tcase_add_test(tests, fused_arguments_are_checked);
  suite_add_tcase(suite, tests);
  return suite;
}
