/* Matrix products: OpenBLAS for speed, plain loops for equal bits everywhere. */
#include "dense/gemm.h"

#include "dense/lanes.h"
#include <cblas.h>
#include <string.h>

static void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k, const float *a,
                 int64_t a_stride, const float *b, int64_t b_stride, float *c, int64_t c_stride) {
  cblas_sgemm(CblasRowMajor, ta, tb, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)a_stride, b,
              (blasint)b_stride, 0.0f, c, (blasint)c_stride);
}

/* y [rows] = A x, or of the transpose: what a product of one column, or one row, is, and a BLAS does better
 * so. */
static void vector(CBLAS_TRANSPOSE ta, int64_t rows, int64_t columns, const float *a, int64_t a_stride,
                   const float *x, int64_t x_step, float *y, int64_t y_step) {
  cblas_sgemv(CblasRowMajor, ta, (blasint)rows, (blasint)columns, 1.0f, a, (blasint)a_stride, x,
              (blasint)x_step, 0.0f, y, (blasint)y_step);
}

static void blas_nt(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                    int64_t b_stride, float *c, int64_t c_stride) {
  if (m > 0 && n == 1)
    vector(CblasNoTrans, m, k, a, a_stride, b, 1, c, c_stride);
  else if (m > 0)
    blas(CblasNoTrans, CblasTrans, m, n, k, a, a_stride, b, b_stride, c, c_stride);
}

static void blas_nn(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                    int64_t b_stride, float *c, int64_t c_stride) {
  for (int64_t i = 0; k == 1 && i < m; i++)
    for (int64_t j = 0; j < n; j++) c[i * c_stride + j] = a[i * a_stride] * b[j];
  if (m > 0 && k != 1) blas(CblasNoTrans, CblasNoTrans, m, n, k, a, a_stride, b, b_stride, c, c_stride);
}

static void clear(int64_t m, int64_t n, float *c, int64_t c_stride) {
  for (int64_t i = 0; i < m; i++) memset(c + i * c_stride, 0, (size_t)n * sizeof *c);
}

static void blas_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                    int64_t b_stride, float *c, int64_t c_stride) {
  if (k > 0 && m == 1)
    vector(CblasTrans, k, n, b, b_stride, a, a_stride, c, 1);
  else if (k > 0)
    blas(CblasTrans, CblasNoTrans, m, n, k, a, a_stride, b, b_stride, c, c_stride);
  else
    clear(m, n, c, c_stride); /* a rank without samples: BLAS may leave c alone */
}

static void fixed_nt(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                     int64_t b_stride, float *c, int64_t c_stride) {
  for (int64_t i = 0; i < m; i++) {
    const float *row = a + i * a_stride;
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
      const float *four = b + j * b_stride;
      const float *rows[4] = {four, four + b_stride, four + 2 * b_stride, four + 3 * b_stride};
      lanes_dot4(row, rows, k, c + i * c_stride + j);
    }
    for (; j < n; j++) c[i * c_stride + j] = lanes_dot(row, b + j * b_stride, k);
  }
}

/* c [n] = sum over l < k, ascending, of a[l * a_step] times row l of b. */
static void fixed_combine(int64_t n, int64_t k, const float *a, int64_t a_step, const float *b,
                          int64_t b_stride, float *c) {
  memset(c, 0, (size_t)n * sizeof *c);
  int64_t l = 0;
  for (; l + 4 <= k; l += 4) {
    const float *first = a + l * a_step;
    const float four[4] = {first[0], first[a_step], first[2 * a_step], first[3 * a_step]};
    lanes_axpy4(four, b + l * b_stride, b_stride, n, c);
  }
  for (; l < k; l++) lanes_axpy(a[l * a_step], b + l * b_stride, n, c);
}

static void fixed_nn(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                     int64_t b_stride, float *c, int64_t c_stride) {
  for (int64_t i = 0; i < m; i++) fixed_combine(n, k, a + i * a_stride, 1, b, b_stride, c + i * c_stride);
}

static void fixed_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                     int64_t b_stride, float *c, int64_t c_stride) {
  for (int64_t i = 0; i < m; i++) fixed_combine(n, k, a + i, a_stride, b, b_stride, c + i * c_stride);
}

static const gemm_ops_t openblas_ops = {.name = "openblas", .nt = blas_nt, .nn = blas_nn, .tn = blas_tn};
static const gemm_ops_t fixed_ops = {.name = "fixed", .nt = fixed_nt, .nn = fixed_nn, .tn = fixed_tn};

const gemm_ops_t *gemm_openblas(void) {
  openblas_set_num_threads(1); /* the callers are threads already: two teams would fight for the cores */
  return &openblas_ops;
}

/* Of a thread, hence no field of anything. The product is too large for those loops that take no memory. */
int gemm_openblas_ready(mem_t *mem) {
  enum { OWN_BYTES = 160 << 20, SIZE = 128 };
  static _Thread_local int ready;
  void *room = NULL;
  if (ready) return 1;
  if (mem_alloc(mem, OWN_BYTES, "products", &room, NULL) != SBAG_OK) return 0;
  mem_free(mem, room);
  if (mem_calloc(mem, 2 * SIZE * SIZE * sizeof(float), "products", &room, NULL) != SBAG_OK) return 0;
  float *a = room, *c = a + SIZE * SIZE;
  blas(CblasNoTrans, CblasTrans, SIZE, SIZE, SIZE, a, SIZE, a, SIZE, c, SIZE);
  mem_free(mem, room);
  ready = 1;
  return 1;
}

const gemm_ops_t *gemm_fixed(void) {
  return &fixed_ops;
}
