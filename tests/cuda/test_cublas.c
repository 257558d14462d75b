/* The few calls of cuBLAS, against sums that are written out: the same would hold on a GPU. */
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { M = 5, N = 4, K = 7, ROWS = 9, BATCHES = 3 }; /* ROWS: between columns, more than any matrix has */

static cublasHandle_t handle;
static cudaStream_t stream;
static float a[BATCHES][ROWS * ROWS], b[BATCHES][ROWS * ROWS], c[BATCHES][ROWS * ROWS],
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

Suite *cublas_suite(void);
Suite *cublas_suite(void) {
  Suite *suite = suite_create("cublas");
  TCase *tests = tcase_create("cublas");
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, products_of_one_and_of_many, 0, 4);
  tcase_add_test(tests, beta_zero_does_not_read);
  tcase_add_test(tests, sixteen_bits_in_and_f32_out);
  tcase_add_test(tests, arguments_are_checked);
  suite_add_tcase(suite, tests);
  return suite;
}
