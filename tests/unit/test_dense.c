/* The model's dense arithmetic against plain double code: products, layers, interaction, loss, optimizers,
 * and the gradients of a whole DLRM against central differences of a DLRM written again here in double. */
#include "dense/cpu.h"
#include "dense/lanes.h"
#include "dense/loss.h"
#include "model/ctr.h"
#include "oracle/draw.h"
#include "oracle/oracle.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mem_t *mem_open(void) {
  mem_t *mem = NULL;
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  return mem;
}

/* The CPU's ops: the plain ones, or those of reproducible mode. */
typedef struct rig {
  mem_t *mem;
  kernel_t *kernel;
  dense_t *dense;
  const dense_ops_t *ops;
} rig_t;

static rig_t rig_open_on(int reproducible, kernel_isa_t isa, int threads) {
  rig_t rig = {.mem = mem_open()};
  if (!kernel_isa_available(isa)) isa = ISA_SCALAR;
  const kernel_cpu_options_t options = {.threads = threads, .isa = isa};
  ck_assert_int_eq(kernel_cpu_create(rig.mem, &options, &rig.kernel, NULL), SBAG_OK);
  ck_assert_int_eq(dense_create(rig.kernel, reproducible, &rig.dense, NULL), SBAG_OK);
  rig.ops = rig.dense->ops;
  return rig;
}

static rig_t rig_open(int reproducible) {
  return rig_open_on(reproducible, ISA_BEST, 1);
}

static void rig_close(rig_t *rig) {
  dense_destroy(&rig->dense);
  ck_assert_ptr_null(rig->dense);
  kernel_destroy(&rig->kernel);
  ck_assert_int_eq(mem_stats(rig->mem).live_bytes, 0);
  mem_destroy(&rig->mem);
}

static void mem_close(mem_t *mem) {
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}

static float *draws(mem_t *mem, draw_t *draw, int64_t count) {
  void *block = NULL;
  ck_assert_int_eq(mem_alloc(mem, (size_t)count * sizeof(float), "test", &block, NULL), SBAG_OK);
  float *values = block;
  for (int64_t i = 0; i < count; i++) values[i] = (float)(2.0 * draw_unit(draw) - 1.0);
  return values;
}

/* ---- products ---- */

typedef struct product {
  char kind; /* 't': nt, 'n': nn, 'c': tn */
  int64_t m, n, k, a_stride, b_stride, c_stride;
} product_t;

static double product_at(const product_t *p, const float *a, const float *b, int64_t i, int64_t j) {
  double sum = 0.0;
  for (int64_t l = 0; l < p->k; l++) {
    double x = p->kind == 'c' ? a[l * p->a_stride + i] : a[i * p->a_stride + l];
    double y = p->kind == 't' ? b[j * p->b_stride + l] : b[l * p->b_stride + j];
    sum += x * y;
  }
  return sum;
}

static void product_run(const gemm_ops_t *gemm, const product_t *p, const float *a, const float *b,
                        float *c) {
  gemm_fn *fn = p->kind == 't' ? gemm->nt : p->kind == 'n' ? gemm->nn : gemm->tn;
  fn(p->m, p->n, p->k, a, p->a_stride, b, p->b_stride, c, p->c_stride);
}

START_TEST(test_products) {
  const gemm_ops_t *gemm = _i % 2 == 0 ? gemm_openblas() : gemm_fixed();
  draw_t draw = draw_start(1, (uint64_t)_i);
  product_t p = {.kind = "tnc"[draw_below(&draw, 3)],
                 .m = draw_between(&draw, 0, 20),
                 .n = draw_between(&draw, 1, 20),
                 .k = draw_between(&draw, 0, 40)};
  if (p.kind != 'c') p.k++; /* a layer has inputs and outputs; only samples may be none */
  p.a_stride = (p.kind == 'c' ? p.m : p.k) + draw_below(&draw, 3);
  p.b_stride = (p.kind == 't' ? p.k : p.n) + draw_below(&draw, 3);
  p.c_stride = p.n + draw_below(&draw, 3);
  mem_t *mem = mem_open();
  if (p.m == 0 && p.kind == 'c') p.m = 1;
  if (p.a_stride < 1) p.a_stride = 1;
  float *a = draws(mem, &draw, 64 * 64), *b = draws(mem, &draw, 64 * 64), *c = draws(mem, &draw, 64 * 64);
  float *before = draws(mem, &draw, 64 * 64);
  p.a_stride = p.a_stride < p.m && p.kind == 'c' ? p.m : p.a_stride;
  memcpy(before, c, 64 * 64 * sizeof *c);
  product_run(gemm, &p, a, b, c);
  for (int64_t at = 0; at < 64 * 64; at++) {
    int64_t i = at / p.c_stride, j = at % p.c_stride;
    if (i < p.m && j < p.n)
      ck_assert_double_eq_tol(c[at], product_at(&p, a, b, i, j), 1e-5);
    else
      ck_assert(c[at] == before[at]); /* padding between rows stays */
  }
  mem_free(mem, a);
  mem_free(mem, b);
  mem_free(mem, c);
  mem_free(mem, before);
  mem_close(mem);
}
END_TEST

/* What reproducible mode rests on: a row's bits do not know how many rows there are. */
START_TEST(test_fixed_rows_are_alone) {
  mem_t *mem = mem_open();
  draw_t draw = draw_start(2, 0);
  enum { M = 33, N = 37, K = 141 };
  float *a = draws(mem, &draw, M * K), *b = draws(mem, &draw, N * K), *all = draws(mem, &draw, M * N);
  float *one = draws(mem, &draw, N);
  for (int way = 0; way < 2; way++) {
    gemm_fn *fn = way == 0 ? gemm_fixed()->nt : gemm_fixed()->nn;
    int64_t b_stride = way == 0 ? K : N;
    fn(M, N, K, a, K, b, b_stride, all, N);
    for (int64_t i = 0; i < M; i++) {
      fn(1, N, K, a + i * K, K, b, b_stride, one, N);
      ck_assert_mem_eq(one, all + i * N, N * sizeof(float));
    }
  }
  /* and four columns at once give the bits of one at a time */
  gemm_fixed()->nt(M, N, K, a, K, b, K, all, N);
  for (int64_t j = 0; j < N; j++) {
    float dot = lanes_dot(a, b + j * K, K);
    ck_assert_mem_eq(&dot, all + j, sizeof dot);
  }
  mem_free(mem, a);
  mem_free(mem, b);
  mem_free(mem, all);
  mem_free(mem, one);
  mem_close(mem);
}
END_TEST

/* ---- layers ---- */

enum { IN = 7, OUT = 10, ROWS = 9, STRIDE = 8 };

typedef struct layer_case {
  float x[ROWS * STRIDE], weight[OUT * IN], bias[OUT], y[ROWS * OUT], dy[ROWS * OUT], dx[ROWS * STRIDE];
  float weight_grad[OUT * IN], bias_grad[OUT];
  linear_t layer;
} layer_case_t;

static void layer_fill(layer_case_t *c, uint64_t number, int relu, int bias) {
  draw_t draw = draw_start(3, number);
  for (int i = 0; i < ROWS * STRIDE; i++) c->x[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  for (int i = 0; i < OUT * IN; i++) c->weight[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  for (int i = 0; i < OUT; i++) c->bias[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  for (int i = 0; i < ROWS * OUT; i++) c->dy[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  c->layer = (linear_t){.in = IN,
                        .out = OUT,
                        .weight = c->weight,
                        .bias = bias ? c->bias : NULL,
                        .weight_grad = c->weight_grad,
                        .bias_grad = bias ? c->bias_grad : NULL,
                        .relu = relu};
}

START_TEST(test_linear) {
  rig_t rig = rig_open(_i & 1);
  layer_case_t c = {0};
  dropout_t none = dropout_make(0.0, 0, 0, 0);
  layer_fill(&c, (uint64_t)_i, (_i & 2) != 0, (_i & 4) != 0);
  double dw[OUT * IN] = {0}, db[OUT] = {0}, dx[ROWS * IN] = {0};
  rig.ops->linear_forward(rig.dense, &c.layer, &none, ROWS, c.x, STRIDE, c.y);
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < OUT; j++) {
      double y = c.layer.bias != NULL ? c.bias[j] : 0.0;
      for (int k = 0; k < IN; k++) y += (double)c.x[i * STRIDE + k] * c.weight[j * IN + k];
      int dead = c.layer.relu && y < 0.0;
      ck_assert_double_eq_tol(c.y[i * OUT + j], dead ? 0.0 : y, 1e-5);
      double g = dead ? 0.0 : c.dy[i * OUT + j];
      db[j] += g;
      for (int k = 0; k < IN; k++) {
        dw[j * IN + k] += g * c.x[i * STRIDE + k];
        dx[i * IN + k] += g * c.weight[j * IN + k];
      }
    }
  rig.ops->linear_backward(rig.dense, &c.layer, &none, ROWS, c.x, STRIDE, c.y, c.dy, c.dx, STRIDE);
  for (int i = 0; i < OUT * IN; i++) ck_assert_double_eq_tol(c.weight_grad[i], dw[i], 1e-5);
  for (int j = 0; j < OUT && c.layer.bias != NULL; j++) ck_assert_double_eq_tol(c.bias_grad[j], db[j], 1e-5);
  for (int i = 0; i < ROWS * IN; i++) ck_assert_double_eq_tol(c.dx[i / IN * STRIDE + i % IN], dx[i], 1e-5);
  rig_close(&rig);
}
END_TEST

/* Several blocks of rows and of units: as the double sums, and the same bits for any number of threads. */
START_TEST(test_linear_blocks) {
  enum { MANY = 600, WIDE_IN = 40, WIDE_OUT = 290 };
  float *kept[2][4] = {{NULL}};
  rig_t rigs[2] = {rig_open_on(_i & 1, ISA_BEST, 1), rig_open_on(_i & 1, ISA_BEST, 3)};
  dropout_t none = dropout_make(0.0, 0, 0, 0);
  int out = _i & 2 ? 1 : WIDE_OUT; /* a layer of one unit is a product with a vector */
  draw_t start = draw_start(9, (uint64_t)_i), draw = start;
  for (int way = 0; way < 2; way++) {
    rig_t *rig = &rigs[way];
    draw = start;
    float *x = draws(rig->mem, &draw, MANY * WIDE_IN), *weight = draws(rig->mem, &draw, out * WIDE_IN);
    float *bias = draws(rig->mem, &draw, out), *dy = draws(rig->mem, &draw, (int64_t)MANY * out);
    float **to = kept[way];
    for (int i = 0; i < 4; i++) to[i] = draws(rig->mem, &draw, (int64_t)MANY * (out + WIDE_IN));
    linear_t layer = {
        .in = WIDE_IN, .out = out, .weight = weight, .bias = bias, .weight_grad = to[1], .bias_grad = to[2]};
    rig->ops->linear_forward(rig->dense, &layer, &none, MANY, x, WIDE_IN, to[0]);
    rig->ops->linear_backward(rig->dense, &layer, &none, MANY, x, WIDE_IN, to[0], dy, to[3], WIDE_IN);
    for (int i = 0; way == 0 && i < MANY; i += 7)
      for (int j = 0; j < out; j += 11) {
        double y = bias[j], dx = 0, dw = 0;
        int k = (i + j) % WIDE_IN;
        for (int c = 0; c < WIDE_IN; c++) y += (double)x[i * WIDE_IN + c] * weight[j * WIDE_IN + c];
        for (int c = 0; c < out; c++) dx += (double)dy[i * out + c] * weight[c * WIDE_IN + k];
        for (int r = 0; r < MANY; r++) dw += (double)dy[r * out + j] * x[r * WIDE_IN + k];
        ck_assert_double_eq_tol(to[0][i * out + j], y, 1e-4);
        ck_assert_double_eq_tol(to[3][i * WIDE_IN + k], dx, 1e-4);
        ck_assert_double_eq_tol(to[1][j * WIDE_IN + k], dw, 1e-4);
      }
    mem_free(rig->mem, x);
    mem_free(rig->mem, weight);
    mem_free(rig->mem, bias);
    mem_free(rig->mem, dy);
  }
  size_t bytes[4] = {(size_t)(MANY * out), (size_t)(out * WIDE_IN), (size_t)out, (size_t)(MANY * WIDE_IN)};
  for (int i = 0; i < 4; i++) ck_assert_mem_eq(kept[0][i], kept[1][i], bytes[i] * sizeof(float));
  for (int way = 0; way < 2; way++) {
    for (int i = 0; i < 4; i++) mem_free(rigs[way].mem, kept[way][i]);
    rig_close(&rigs[way]);
  }
}
END_TEST

/* A rank without samples still takes part in the reduction: with zeros, not with the last step's gradient. */
START_TEST(test_linear_without_rows) {
  rig_t rig = rig_open(_i & 1);
  layer_case_t c = {0};
  dropout_t none = dropout_make(0.0, 0, 0, 0);
  layer_fill(&c, 99, 1, 1);
  for (int i = 0; i < OUT * IN; i++) c.weight_grad[i] = 5.0f;
  for (int i = 0; i < OUT; i++) c.bias_grad[i] = 5.0f;
  rig.ops->linear_forward(rig.dense, &c.layer, &none, 0, c.x, STRIDE, c.y);
  rig.ops->linear_backward(rig.dense, &c.layer, &none, 0, c.x, STRIDE, c.y, c.dy, c.dx, STRIDE);
  for (int i = 0; i < OUT * IN; i++) ck_assert(c.weight_grad[i] == 0.0f);
  for (int i = 0; i < OUT; i++) ck_assert(c.bias_grad[i] == 0.0f);
  rig_close(&rig);
}
END_TEST

START_TEST(test_relu_keeps_nan) {
  layer_case_t c = {0};
  dropout_t none = dropout_make(0.0, 0, 0, 0);
  layer_fill(&c, 5, 1, 1);
  c.x[2] = NAN;
  cpu_linear_forward(&(dense_team_t){gemm_fixed(), 1}, &c.layer, &none, ROWS, c.x, STRIDE, c.y);
  for (int j = 0; j < OUT; j++) ck_assert(isnan(c.y[j]));
  for (int j = OUT; j < ROWS * OUT; j++) ck_assert(!isnan(c.y[j]));
}
END_TEST

/* Of positive activations 1, dropout leaves 0 or 1 / (1 - p); which depends on the global sample alone. */
START_TEST(test_dropout) {
  enum { SAMPLES = 2000, UNITS = 6 };
  static float x[SAMPLES], whole[SAMPLES * UNITS], part[SAMPLES * UNITS], other[SAMPLES * UNITS];
  float weight[UNITS] = {0}, bias[UNITS], weight_grad[UNITS], bias_grad[UNITS];
  for (int i = 0; i < UNITS; i++) bias[i] = 1.0f;
  linear_t layer = {.in = 1,
                    .out = UNITS,
                    .weight = weight,
                    .bias = bias,
                    .weight_grad = weight_grad,
                    .bias_grad = bias_grad,
                    .relu = 1};
  dropout_t dropout = dropout_make(0.3, 11, 5, 1000), later = dropout, next = dropout;
  later.first_sample += 700;
  next.step++;
  cpu_linear_forward(&(dense_team_t){gemm_fixed(), 1}, &layer, &dropout, SAMPLES, x, 1, whole);
  cpu_linear_forward(&(dense_team_t){gemm_fixed(), 1}, &layer, &later, SAMPLES - 700, x, 1, part);
  ck_assert_mem_eq(part, whole + 700 * UNITS, (SAMPLES - 700) * UNITS * sizeof *part);
  cpu_linear_forward(&(dense_team_t){gemm_fixed(), 1}, &layer, &next, SAMPLES, x, 1, other);
  ck_assert_mem_ne(other, whole, sizeof whole);
  int kept[UNITS] = {0};
  for (int i = 0; i < SAMPLES * UNITS; i++) {
    ck_assert(whole[i] == 0.0f || fabsf(whole[i] - 1.0f / 0.7f) < 1e-6f);
    kept[i % UNITS] += whole[i] > 0.0f;
  }
  for (int j = 0; j < UNITS; j++) ck_assert_int_le(abs(kept[j] - 1400), 100); /* 5 standard deviations */
  static float dy[SAMPLES * UNITS];
  for (int i = 0; i < SAMPLES * UNITS; i++) dy[i] = 1.0f;
  cpu_linear_backward(&(dense_team_t){gemm_fixed(), 1}, &layer, &dropout, SAMPLES, x, 1, whole, dy, NULL, 0);
  ck_assert_mem_eq(dy, whole, sizeof dy); /* the gradient passes where the unit did, times the same scale */
}
END_TEST

/* ---- interaction ---- */

START_TEST(test_interaction) {
  enum { SAMPLES = 34 /* enough for several threads */, FIRST = 2, MOST = 37, DIM = 70 };
  draw_t draw = draw_start(4, (uint64_t)_i);
  rig_t rig = rig_open_on(_i % 8 == 7, (kernel_isa_t)(_i % ISA_COUNT), 1 + _i % 3);
  mem_t *mem = rig.mem;
  interaction_t shape = {.vectors = (int)draw_between(&draw, 1, MOST), .dim = draw_between(&draw, 1, DIM)};
  shape.concat = (int)draw_between(&draw, 0, shape.vectors);
  int64_t width = interaction_width(&shape), stride = shape.dim * shape.vectors + 3;
  float *v = draws(mem, &draw, (SAMPLES + FIRST) * stride), *grad = draws(mem, &draw, SAMPLES * stride);
  float *out = draws(mem, &draw, SAMPLES * width + 1), *out_grad = draws(mem, &draw, SAMPLES * width + 1);
  interaction_vector_t vectors[MOST];
  for (int i = 0; i < shape.vectors; i++)
    vectors[i] = (interaction_vector_t){.data = v + i * shape.dim,
                                        .grad = grad + i * shape.dim,
                                        .data_stride = stride,
                                        .grad_stride = stride};
  rig.ops->interaction_forward(rig.dense, &shape, vectors, FIRST, SAMPLES, out);
  rig.ops->interaction_backward(rig.dense, &shape, vectors, FIRST, SAMPLES, out_grad);
  for (int64_t r = 0; r < SAMPLES; r++) {
    double want[MOST * DIM] = {0};
    const float *row = v + (FIRST + r) * stride, *o = out + r * width, *g = out_grad + r * width;
    for (int64_t k = 0; k < shape.concat * shape.dim; k++) {
      ck_assert(o[k] == row[k]);
      want[k] = g[k];
    }
    int64_t p = shape.concat * shape.dim;
    for (int i = 1; i < shape.vectors; i++)
      for (int j = 0; j < i; j++, p++) {
        double dot = 0.0;
        for (int64_t k = 0; k < shape.dim; k++) {
          double a = row[i * shape.dim + k], b = row[j * shape.dim + k];
          dot += a * b;
          want[i * shape.dim + k] += g[p] * b;
          want[j * shape.dim + k] += g[p] * a;
        }
        ck_assert_double_eq_tol(o[p], dot, 2e-5);
      }
    ck_assert_int_eq(p, width);
    for (int64_t k = 0; k < shape.vectors * shape.dim; k++)
      ck_assert_double_eq_tol(grad[r * stride + k], want[k], 2e-5);
  }
  mem_free(mem, v);
  mem_free(mem, grad);
  mem_free(mem, out);
  mem_free(mem, out_grad);
  rig_close(&rig);
}
END_TEST

/* A value that is not finite spoils its column of all other vectors' gradients, and of its own none. */
START_TEST(test_interaction_not_finite) {
  enum { VECTORS = 11, DIM = 19, BAD = 6, COLUMN = 3, WIDTH = VECTORS * (VECTORS - 1) / 2 };
  rig_t rig = rig_open_on(_i == ISA_COUNT, (kernel_isa_t)(_i % ISA_COUNT), 1);
  const interaction_t shape = {.vectors = VECTORS, .dim = DIM};
  float v[VECTORS * DIM], grad[VECTORS * DIM], out_grad[WIDTH];
  interaction_vector_t vectors[VECTORS];
  for (int i = 0; i < VECTORS * DIM; i++) v[i] = 0.5f;
  for (int i = 0; i < WIDTH; i++) out_grad[i] = 1.0f;
  v[BAD * DIM + COLUMN] = INFINITY;
  for (int i = 0; i < VECTORS; i++)
    vectors[i] = (interaction_vector_t){v + i * DIM, grad + i * DIM, VECTORS * DIM, VECTORS * DIM};
  rig.ops->interaction_backward(rig.dense, &shape, vectors, 0, 1, out_grad);
  for (int i = 0; i < VECTORS; i++)
    for (int c = 0; c < DIM; c++) {
      float wanted = i != BAD && c == COLUMN ? INFINITY : 0.5f * (VECTORS - 1);
      ck_assert_msg(grad[i * DIM + c] == wanted, "vector %d, column %d: %g, not %g", i, c,
                    (double)grad[i * DIM + c], (double)wanted);
    }
  rig_close(&rig);
}
END_TEST

/* ---- loss ---- */

static double loss_of(int64_t samples, const float *logits, const float *labels, double scale, float *grad) {
  double sum = NAN;
  cpu_loss(NULL, samples, logits, labels, NULL, scale, grad, &sum);
  return sum;
}

START_TEST(test_loss) {
  for (int i = -4000; i <= 4000; i++) {
    float x = (float)i * 0.01f, y = (float)(i & 1), grad = 0.0f;
    double made, loss = loss_of(1, &x, &y, 0.25, &grad);
    double want = log1p(exp(-fabs((double)x))) + (x > 0.0f ? x : 0.0) - (double)x * y;
    ck_assert_double_eq_tol(loss, want, 1e-14 * (1.0 + want));
    double p = 1.0 / (1.0 + exp(-(double)x));
    ck_assert(loss_bce(x, y, &made) == loss);
    ck_assert_double_eq_tol(made, p, 1e-15);
    ck_assert_double_eq_tol(grad, 0.25 * (p - y), 1e-7 * fabs(0.25 * (p - y)) + 1e-17);
  }
}
END_TEST

START_TEST(test_loss_extremes) {
  float x[4] = {1e30f, -1e30f, 1e30f, -800.0f}, y[4] = {1.0f, 0.0f, 0.0f, 1.0f}, grad[4];
  ck_assert(loss_of(2, x, y, 1.0, grad) == 0.0);
  ck_assert(grad[0] == 0.0f && grad[1] == 0.0f);
  ck_assert_double_eq_tol(loss_of(1, x + 2, y + 2, 1.0, grad), 1e30, 1e24);
  ck_assert(grad[0] == 1.0f);
  ck_assert_double_eq_tol(loss_of(1, x + 3, y + 3, 1.0, grad), 800.0, 1e-9);
  ck_assert(grad[0] == -1.0f);
  float bad[3] = {NAN, INFINITY, -INFINITY};
  for (int i = 0; i < 3; i++)
    for (int label = 0; label < 2; label++) {
      float one = (float)label;
      double loss = loss_of(1, &bad[i], &one, 1.0, grad);
      ck_assert(!isfinite(loss));
    }
  ck_assert(loss_of(0, NULL, NULL, 1.0, NULL) == 0.0);
}
END_TEST

/* ---- optimizers ---- */

typedef struct optimizer_case {
  const char *name;
  sbag_optimizer_options_t options;
  double grad_scale;
} optimizer_case_t;

static optimizer_case_t optimizer_case(int number) {
  static const sbag_optimizer_t kinds[] = {SBAG_OPT_SGD,  SBAG_OPT_SGD,  SBAG_OPT_SGD, SBAG_OPT_ADAGRAD,
                                           SBAG_OPT_ADAM, SBAG_OPT_ADAM, SBAG_OPT_SGD};
  optimizer_case_t c = {.options = sbag_optimizer_options_default(kinds[number]), .grad_scale = 1.0};
  c.options.lr = 0.1;
  if (number == 1) c.options.momentum = 0.9, c.options.dampening = 0.1, c.options.weight_decay = 0.01;
  if (number == 2) c.options.momentum = 0.9, c.options.nesterov = 1, c.options.maximize = 1;
  if (number == 3)
    c.options.lr_decay = 0.05, c.options.initial_accumulator_value = 0.1, c.options.weight_decay = 0.01;
  if (number == 5) c.options.amsgrad = 1, c.options.weight_decay = 0.01;
  if (number == 6) c.options.clip_value = 0.2, c.grad_scale = 0.5;
  return c;
}

enum { OPTIMIZER_CASES = 7 };

START_TEST(test_optimizers) {
  optimizer_case_t c = optimizer_case(_i);
  rig_t rig = rig_open(0);
  enum { N = 300, STEPS = 12 }; /* longer than the kernel's parts of a row */
  float weight[N], grad[N], state[OPTIMIZER_STATES_MAX][N];
  double want[N], grad64[N];
  int64_t touched = 1;
  draw_t draw = draw_start(6, (uint64_t)_i);
  optimizer_info_t info = optimizer_info(&c.options);
  float *states[OPTIMIZER_STATES_MAX] = {0};
  for (int s = 0; s < info.state_count; s++) {
    states[s] = state[s];
    for (int i = 0; i < N; i++) state[s][i] = (float)info.states[s].initial;
  }
  for (int i = 0; i < N; i++) want[i] = weight[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  arena_t arena = {NULL};
  oracle_optimizer_t oracle = oracle_optimizer_create(&arena, &c.options, 1, N);
  oracle_table_t table = {.rows = 1, .dim = N, .weight = want};
  for (int64_t step = 1; step <= STEPS; step++) {
    double lr = 0.1 / (double)step;
    for (int i = 0; i < N; i++) grad64[i] = grad[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
    dense_optimizer_step_t update = {.options = &c.options,
                                     .step = step,
                                     .lr = lr,
                                     .grad_scale = c.grad_scale,
                                     .count = N,
                                     .grad = grad,
                                     .weight = weight,
                                     .states = states};
    rig.ops->update(rig.dense, &update);
    oracle_optimizer_update(&oracle, &table, grad64, &touched, lr, c.grad_scale);
    for (int i = 0; i < N; i++) ck_assert_double_eq_tol(weight[i], want[i], 2e-6);
  }
  arena_free(&arena);
  rig_close(&rig);
}
END_TEST

START_TEST(test_optimizer_check) {
  sbag_status_t status;
  sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_LAMB);
  ck_assert_int_eq(dense_optimizer_check(&options, &status), SBAG_ERR_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(status.message, "lamb"));
  options = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  ck_assert_int_eq(dense_optimizer_check(&options, &status), SBAG_OK);
  options.beta1 = 1.0;
  ck_assert_int_eq(dense_optimizer_check(&options, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "beta1"));
}
END_TEST

/* ---- whole networks ---- */

enum { FEATURES_MAX = 5, CASES = 13, BATCH = 5, PARAMETERS_MAX = 900 };

typedef struct net {
  rig_t rig;
  model_config_t config;
  network_features_t features;
  int64_t dim[FEATURES_MAX], column[FEATURES_MAX];
  const char *name[FEATURES_MAX];
  network_t *network;
  ctr_t *ctr; /* the same */
} net_t;

static const char *const feature_names[FEATURES_MAX] = {"user", "movie", "age", "genres", "history"};

static void net_shape(net_t *n, int number) {
  /* Six of DLRM; cross layers, stacked and parallel, of full and of low rank; a factorisation machine,
   * vectors side by side and the dot interaction, each with first-order weights: the last features. */
  static const struct {
    int64_t dims[FEATURES_MAX], dim;
    int features, dense, bottom, top;
    model_interaction_t interaction;
    int cross, rank, parallel, first_order;
  } cases[CASES] = {{{4, 4, 4}, 4, 3, 3, 0, 2, MODEL_DOT, 0, 0, 0, 0},
                    {{4, 4, 4}, 4, 3, 0, 1, 2, MODEL_DOT, 0, 0, 0, 0},
                    {{3, 4, 6, 4, 2}, 4, 5, 2, 2, 2, MODEL_DOT, 0, 0, 0, 0},
                    {{2, 2, 5, 4}, 4, 4, 0, 1, 2, MODEL_DOT, 0, 0, 0, 0},
                    {{4}, 4, 1, 0, 0, 0, MODEL_DOT, 0, 0, 0, 0},
                    {{9, 9}, 9, 2, 1, 1, 2, MODEL_DOT, 0, 0, 0, 0},
                    {{3, 3, 3}, 3, 3, 3, 1, 2, MODEL_CROSS, 2, 0, 0, 0},
                    {{3, 2, 3}, 3, 3, 0, 1, 1, MODEL_CROSS, 3, 2, 0, 0},
                    {{4, 2}, 4, 2, 0, 1, 2, MODEL_CROSS, 2, 0, 1, 0},
                    {{3, 3, 1}, 3, 3, 2, 0, 0, MODEL_CROSS, 2, 3, 1, 1},
                    {{4, 3, 1, 1}, 4, 4, 2, 1, 2, MODEL_FM, 0, 0, 0, 2},
                    {{4, 4, 1}, 4, 3, 0, 0, 1, MODEL_CONCAT, 0, 0, 0, 1},
                    {{4, 4, 1, 1}, 4, 4, 3, 0, 1, MODEL_DOT, 0, 0, 0, 2}};
  n->config = (model_config_t){.seed = 7 + (uint64_t)number,
                               .interaction = cases[number].interaction,
                               .cross_count = cases[number].cross,
                               .cross_rank = cases[number].rank,
                               .cross_parallel = cases[number].parallel,
                               .first_order = cases[number].first_order,
                               .dense_count = cases[number].dense,
                               .interaction_dim = cases[number].dim,
                               .bottom_count = cases[number].bottom,
                               .bottom = {5, 6},
                               .top_count = cases[number].top,
                               .top = {6, 3},
                               .dense_optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD),
                               .feature_count = cases[number].features};
  n->features = (network_features_t){
      .count = cases[number].features, .name = n->name, .dim = n->dim, .column = n->column};
  for (int f = 0; f < cases[number].features; f++) {
    n->name[f] = feature_names[f];
    n->dim[f] = cases[number].dims[f];
    n->column[f] = n->features.pooled_dim;
    n->features.pooled_dim += n->dim[f];
  }
}

static net_t *net_open(int number, int reproducible) {
  net_t *n = calloc(1, sizeof *n);
  ck_assert_ptr_nonnull(n);
  n->rig = rig_open(reproducible);
  net_shape(n, number);
  sbag_status_t status;
  ck_assert_int_eq(network_create(n->rig.dense, &n->config, &n->features, &n->network, &status), SBAG_OK);
  n->ctr = (ctr_t *)n->network;
  return n;
}

static void net_close(net_t *n) {
  network_destroy(&n->network);
  ck_assert_ptr_null(n->network);
  rig_close(&n->rig);
  free(n);
}

/* The parameter called `name` as an offset into the block. */
static int64_t parameter(const net_t *n, const char *name) {
  const params_t *p = &n->network->params;
  for (int i = 0; i < p->array_count; i++)
    if (strcmp(p->arrays[i].name, name) == 0) return p->arrays[i].data - p->weight;
  ck_abort_msg("no array is called %s", name);
  return 0;
}

static int64_t oracle_linear(const net_t *n, const double *w, const char *layer, const double *x, int64_t in,
                             int64_t out, int bias, int relu, double *y) {
  char name[64];
  snprintf(name, sizeof name, "%s/weight", layer);
  const double *weight = w + parameter(n, name), *b = NULL;
  snprintf(name, sizeof name, "%s/bias", layer);
  if (bias) b = w + parameter(n, name);
  for (int64_t j = 0; j < out; j++) {
    y[j] = bias ? b[j] : 0.0;
    for (int64_t k = 0; k < in; k++) y[j] += weight[j * in + k] * x[k];
    if (relu && y[j] < 0.0) y[j] = 0.0;
  }
  return out;
}

enum { WIDTH_MAX = 64 };

static void oracle_mlp(const net_t *n, const double *w, const char *mlp, double *x, int64_t in,
                       const int64_t *hidden, int count, int64_t out, int last_relu) {
  double y[WIDTH_MAX];
  for (int i = 0; i <= count; i++) {
    char name[32];
    snprintf(name, sizeof name, "%s/%d", mlp, i);
    in = oracle_linear(n, w, name, x, in, i < count ? hidden[i] : out, 1, i < count || last_relu, y);
    memcpy(x, y, (size_t)in * sizeof *x);
  }
}

/* The vectors of a sample; returns how many. */
static int oracle_vectors(const net_t *n, const double *w, const float *dense, const double *pooled,
                          double v[FEATURES_MAX + 1][WIDTH_MAX]) {
  const model_config_t *c = &n->config;
  int64_t dim = c->interaction_dim;
  int vectors = 0;
  if (c->dense_count > 0) {
    for (int k = 0; k < c->dense_count; k++) v[0][k] = dense[k];
    oracle_mlp(n, w, "bottom", v[0], c->dense_count, c->bottom, c->bottom_count, dim, 1);
    vectors = 1;
  }
  for (int f = 0; f < c->feature_count - c->first_order; f++, vectors++) {
    char name[32];
    snprintf(name, sizeof name, "project/%s", n->name[f]);
    if (n->dim[f] == dim)
      memcpy(v[vectors], pooled + n->column[f], (size_t)dim * sizeof(double));
    else
      oracle_linear(n, w, name, pooled + n->column[f], n->dim[f], dim, 0, 0, v[vectors]);
  }
  return vectors;
}

/* Vectors side by side, and the products of all pairs; the latter's sum too. */
static int64_t oracle_mix(const model_config_t *c, double v[FEATURES_MAX + 1][WIDTH_MAX], int vectors,
                          double *out, double *products) {
  int64_t width = 0, dim = c->interaction_dim;
  int all = c->dense_count == 0 || c->interaction != MODEL_DOT;
  for (int i = 0; i < (all ? vectors : 1); i++)
    for (int64_t k = 0; k < dim; k++) out[width++] = v[i][k];
  *products = 0.0;
  for (int i = 1; i < vectors; i++)
    for (int j = 0; j < i; j++) {
      double product = 0.0;
      for (int64_t k = 0; k < dim; k++) product += v[i][k] * v[j][k];
      *products += product;
      if (c->interaction == MODEL_DOT) out[width++] = product;
    }
  return width;
}

/* x becomes x_L. */
static void oracle_cross(const net_t *n, const double *w, double *x, int64_t width) {
  double x0[WIDTH_MAX], z[WIDTH_MAX], low[WIDTH_MAX];
  memcpy(x0, x, (size_t)width * sizeof *x);
  for (int l = 0; l < n->config.cross_count; l++) {
    char name[32];
    int64_t rank = n->config.cross_rank;
    if (rank > 0) {
      snprintf(name, sizeof name, "cross/%d/down", l);
      oracle_linear(n, w, name, x, width, rank, 0, 0, low);
    }
    snprintf(name, sizeof name, rank > 0 ? "cross/%d/up" : "cross/%d", l);
    oracle_linear(n, w, name, rank > 0 ? low : x, rank > 0 ? rank : width, width, 1, 0, z);
    for (int64_t k = 0; k < width; k++) x[k] += x0[k] * z[k];
  }
}

/* The logit of one sample. w: the parameters in the block's order. */
static double oracle_logit(const net_t *n, const double *w, const float *dense, const double *pooled) {
  const model_config_t *c = &n->config;
  double v[FEATURES_MAX + 1][WIDTH_MAX], top[WIDTH_MAX], crossed[WIDTH_MAX], products, logit = 0.0, part;
  int vectors = oracle_vectors(n, w, dense, pooled, v);
  int64_t width = oracle_mix(c, v, vectors, top, &products);
  if (c->interaction == MODEL_CROSS) {
    memcpy(crossed, top, sizeof top);
    oracle_cross(n, w, crossed, width);
    if (!c->cross_parallel) memcpy(top, crossed, sizeof top);
    if (c->cross_parallel) oracle_linear(n, w, "cross/out", crossed, width, 1, 0, 0, &logit);
  }
  if (c->interaction == MODEL_FM) logit += products;
  for (int f = c->feature_count - c->first_order; f < c->feature_count; f++) logit += pooled[n->column[f]];
  if (c->first_order > 0 && c->dense_count > 0) {
    double values[3];
    for (int k = 0; k < c->dense_count; k++) values[k] = dense[k];
    oracle_linear(n, w, "first_order", values, c->dense_count, 1, 0, 0, &part);
    logit += part;
  }
  oracle_mlp(n, w, "top", top, width, c->top, c->top_count, 1, 0);
  return logit + top[0];
}

static double oracle_loss(const net_t *n, const double *w, const float *dense, const double *pooled,
                          const float *labels) {
  double sum = 0.0;
  for (int64_t i = 0; i < BATCH; i++) {
    double x = oracle_logit(n, w, dense + i * n->config.dense_count, pooled + i * n->features.pooled_dim);
    sum += log(1.0 + exp(x)) - x * labels[i];
  }
  return sum / BATCH;
}

typedef struct batch {
  float dense[BATCH * 3], labels[BATCH], pooled[BATCH * WIDTH_MAX];
} batch_t;

static batch_t batch_draw(const net_t *n, uint64_t number) {
  batch_t b;
  draw_t draw = draw_start(8, number);
  for (int i = 0; i < BATCH * 3; i++) b.dense[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  for (int i = 0; i < BATCH; i++) b.labels[i] = (float)draw_below(&draw, 2);
  for (int64_t i = 0; i < BATCH * n->features.pooled_dim; i++)
    b.pooled[i] = (float)(2.0 * draw_unit(&draw) - 1.0);
  return b;
}

static const network_pass_t plain_pass = {.rows = BATCH, .step = 1, .training = 1};

static double loss_and_forward(net_t *n, const batch_t *b, const float *weights) {
  network_pass_t pass = plain_pass;
  const network_targets_t targets = {
      .rows = BATCH, .labels = b->labels, .weights = weights, .grad_scale = 1.0 / BATCH};
  double sum = NAN;
  pass.values = b->dense;
  ck_assert_int_eq(n->network->ops->reserve(n->network, BATCH, 1, NULL), SBAG_OK);
  memcpy(n->network->pooled, b->pooled, (size_t)(BATCH * n->features.pooled_dim) * sizeof(float));
  n->network->ops->begin(n->network, &pass);
  n->network->ops->forward(n->network, &pass);
  n->network->ops->loss(n->network, &pass, &targets, &sum);
  return sum / BATCH;
}

static double forward(net_t *n, const batch_t *b) {
  return loss_and_forward(n, b, NULL);
}

static void backward(net_t *n, const batch_t *b, int64_t first, int64_t rows, network_ready_fn *ready,
                     void *user) {
  network_pass_t pass = plain_pass;
  const network_backward_t part = {
      .pass = &pass, .first_row = first, .rows = rows, .ready = ready, .user = user};
  pass.values = b->dense;
  ck_assert_int_eq(n->network->ops->backward_pooled(n->network, &part, NULL), SBAG_OK);
  ck_assert_int_eq(n->network->ops->backward_rest(n->network, &part, NULL), SBAG_OK);
}

/* One value's central difference. */
static double slope(const net_t *n, double *w, const batch_t *b, double *pooled, double *value) {
  double middle = *value, h = 1e-6;
  *value = middle + h;
  double up = oracle_loss(n, w, b->dense, pooled, b->labels);
  *value = middle - h;
  double down = oracle_loss(n, w, b->dense, pooled, b->labels);
  *value = middle;
  return (up - down) / (2.0 * h);
}

START_TEST(test_gradients) {
  net_t *n = net_open(_i / 2, _i % 2);
  batch_t b = batch_draw(n, (uint64_t)_i / 2);
  const params_t *p = &n->network->params;
  double w[PARAMETERS_MAX], pooled[BATCH * WIDTH_MAX];
  ck_assert_int_le(p->count, PARAMETERS_MAX);
  for (int64_t i = 0; i < p->count; i++) w[i] = p->weight[i];
  for (int64_t i = 0; i < BATCH * n->features.pooled_dim; i++) pooled[i] = b.pooled[i];
  ck_assert_double_eq_tol(forward(n, &b), oracle_loss(n, w, b.dense, pooled, b.labels), 1e-6);
  backward(n, &b, 0, BATCH, NULL, NULL);
  double largest = 0.0;
  for (int64_t i = 0; i < p->count; i++) {
    ck_assert_double_eq_tol(p->grad[i], slope(n, w, &b, pooled, &w[i]), 1e-6);
    largest = fmax(largest, fabs(p->grad[i]));
  }
  for (int64_t i = 0; i < BATCH * n->features.pooled_dim; i++)
    ck_assert_double_eq_tol(n->network->pooled_grad[i], slope(n, w, &b, pooled, &pooled[i]), 1e-6);
  ck_assert_double_gt(largest, 1e-2);
  net_close(n);
}
END_TEST

/* Weights multiply losses and gradients; a sample of weight 2 counts as two. */
START_TEST(test_weights) {
  net_t *n = net_open(0, 0);
  batch_t b = batch_draw(n, 9);
  const float weights[BATCH] = {0.0f, 2.0f, 1.0f, 0.5f, 3.0f};
  double sum = 0.0, pooled_sum = 0.0;
  float alone[PARAMETERS_MAX] = {0};
  int64_t count = n->network->params.count;
  for (int i = 0; i < BATCH; i++) {
    float one[BATCH] = {0};
    one[i] = 1.0f;
    sum += weights[i] * loss_and_forward(n, &b, one);
    backward(n, &b, 0, BATCH, NULL, NULL);
    for (int64_t k = 0; k < count; k++) alone[k] += weights[i] * n->network->params.grad[k];
  }
  ck_assert_double_eq_tol(loss_and_forward(n, &b, weights), sum, 1e-6);
  backward(n, &b, 0, BATCH, NULL, NULL);
  for (int64_t k = 0; k < count; k++) ck_assert_double_eq_tol(n->network->params.grad[k], alone[k], 1e-6);
  for (int64_t k = 0; k < n->features.pooled_dim; k++) pooled_sum += fabs(n->network->pooled_grad[k]);
  ck_assert(pooled_sum == 0.0); /* the first sample weighs nothing */
  net_close(n);
}
END_TEST

/* Slices of the batch: parameters' gradients add up, pooled gradients are the same bits. */
START_TEST(test_slices) {
  net_t *n = net_open(_i, 1);
  batch_t b = batch_draw(n, 50);
  float sum[PARAMETERS_MAX] = {0}, logits_grad[BATCH], whole[BATCH * WIDTH_MAX], whole_params[PARAMETERS_MAX];
  size_t pooled_bytes = (size_t)(BATCH * n->features.pooled_dim) * sizeof(float);
  forward(n, &b);
  memcpy(logits_grad, n->ctr->logit_grad, sizeof logits_grad);
  backward(n, &b, 0, BATCH, NULL, NULL);
  memcpy(whole, n->network->pooled_grad, pooled_bytes);
  memcpy(whole_params, n->network->params.grad, (size_t)n->network->params.count * sizeof(float));
  memset(n->network->pooled_grad, 0, pooled_bytes);
  for (int64_t first = 0; first < BATCH; first += 2) {
    int64_t rows = first + 2 <= BATCH ? 2 : BATCH - first;
    memcpy(n->ctr->logit_grad, logits_grad + first, (size_t)rows * sizeof(float));
    backward(n, &b, first, rows, NULL, NULL);
    for (int64_t i = 0; i < n->network->params.count; i++) sum[i] += n->network->params.grad[i];
  }
  ck_assert_mem_eq(whole, n->network->pooled_grad, pooled_bytes);
  for (int64_t i = 0; i < n->network->params.count; i++)
    ck_assert_double_eq_tol(sum[i], whole_params[i], 1e-6);
  net_close(n);
}
END_TEST

typedef struct watch {
  const params_t *params;
  int64_t end;
  float seen[PARAMETERS_MAX];
  int calls;
} watch_t;

static sbag_code_t watch_ready(void *user, int64_t end, sbag_status_t *status) {
  (void)status;
  watch_t *watch = user;
  ck_assert_int_gt(end, watch->end);
  memcpy(watch->seen + watch->end, watch->params->grad + watch->end,
         (size_t)(end - watch->end) * sizeof(float));
  watch->end = end;
  watch->calls++;
  return SBAG_OK;
}

/* A gradient that was said to be ready is not touched any more: a bucket may be under way with it. */
START_TEST(test_ready) {
  net_t *n = net_open(_i, 0);
  batch_t b = batch_draw(n, 60);
  watch_t watch = {.params = &n->network->params};
  forward(n, &b);
  backward(n, &b, 0, BATCH, watch_ready, &watch);
  ck_assert_int_eq(watch.calls, n->network->params.layer_count);
  ck_assert_int_eq(watch.end, n->network->params.count);
  ck_assert_mem_eq(watch.seen, n->network->params.grad, (size_t)watch.end * sizeof(float));
  net_close(n);
}
END_TEST

START_TEST(test_reserve) {
  net_t *n = net_open(2, 0);
  batch_t b = batch_draw(n, 70);
  double loss = forward(n, &b);
  int64_t before = mem_stats(n->rig.mem).alloc_count;
  ck_assert(forward(n, &b) == loss);
  ck_assert_int_eq(n->network->ops->reserve(n->network, 1, 1, NULL), SBAG_OK);
  ck_assert_int_eq(mem_stats(n->rig.mem).alloc_count, before);
  sbag_status_t status;
  mem_fail_at(n->rig.mem, 2); /* the backward buffers */
  ck_assert_int_eq(n->network->ops->reserve(n->network, 100, 1, &status), SBAG_ERR_MEMORY);
  ck_assert_ptr_nonnull(strstr(status.message, "model: buffers of the batch"));
  ck_assert(forward(n, &b) == loss);
  net_close(n);
}
END_TEST

START_TEST(test_create_out_of_memory) {
  net_t n = {.rig = rig_open(0)};
  net_shape(&n, 2);
  n.config.dense_optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  int64_t failures = 0, live = mem_stats(n.rig.mem).live_bytes;
  for (sbag_code_t code = SBAG_ERR_MEMORY; code != SBAG_OK; failures++) {
    mem_fail_at(n.rig.mem, failures + 1);
    code = network_create(n.rig.dense, &n.config, &n.features, &n.network, NULL);
    if (code != SBAG_OK) {
      ck_assert_int_eq(code, SBAG_ERR_MEMORY);
      ck_assert_int_eq(mem_stats(n.rig.mem).live_bytes, live);
    }
  }
  mem_fail_at(n.rig.mem, 0);
  ck_assert_int_gt(failures, 8);
  network_destroy(&n.network);
  rig_close(&n.rig);
}
END_TEST

/* ---- parameters ---- */

START_TEST(test_names) {
  net_t n = {.rig = rig_open(0)};
  net_shape(&n, 2);
  n.config.dense_optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAGRAD);
  n.config.dense_optimizer.initial_accumulator_value = 0.25;
  ck_assert_int_eq(network_create(n.rig.dense, &n.config, &n.features, &n.network, NULL), SBAG_OK);
  static const char *const names[] = {"bottom/0/weight",
                                      "bottom/0/bias",
                                      "bottom/1/weight",
                                      "bottom/1/bias",
                                      "bottom/2/weight",
                                      "bottom/2/bias",
                                      "project/user/weight",
                                      "project/age/weight",
                                      "project/history/weight",
                                      "top/0/weight",
                                      "top/0/bias",
                                      "top/1/weight",
                                      "top/1/bias",
                                      "top/2/weight",
                                      "top/2/bias",
                                      "state/bottom/0/weight/sum"};
  const params_t *p = &n.network->params;
  int64_t values = 0;
  ck_assert_int_eq(p->array_count, 30);
  for (int i = 0; i < 16; i++) ck_assert_str_eq(p->arrays[i].name, names[i]);
  ck_assert_str_eq(p->arrays[29].name, "state/top/2/bias/sum");
  int64_t others = 0;
  for (int i = 0; i < 15; i++) {
    const model_array_t *array = &p->arrays[i];
    values += array->shape[0] * array->shape[1];
    for (int64_t k = 0; k < array->shape[0] * array->shape[1]; k++) others += array->data[k] != 0.0f;
    if (array->rank == 2) ck_assert_int_eq((array->data - p->host_weight) % 16, 0); /* a whole cache line */
  }
  ck_assert_int_le(values, p->count);
  ck_assert_int_lt(p->count, values + 8 * 16); /* eight gaps at most, */
  for (int64_t k = 0; k < p->count; k++) others -= p->host_weight[k] != 0.0f;
  ck_assert_int_eq(others, 0); /* of zeros */
  ck_assert_int_eq(p->arrays[7].shape[0], 4);
  ck_assert_int_eq(p->arrays[7].shape[1], 6);
  ck_assert_int_eq(p->arrays[9].shape[1], 4 + 15); /* the dense vector and the pairs of six */
  ck_assert_int_eq(p->arrays[1].rank, 1);
  ck_assert(p->arrays[29].data[0] == 0.25f);
  network_destroy(&n.network);
  rig_close(&n.rig);
}
END_TEST

START_TEST(test_long_feature_name) {
  net_t n = {.rig = rig_open(0)};
  sbag_status_t status;
  net_shape(&n, 2);
  n.name[4] = "a_feature_whose_name_is_longer_than_any_sensible_column_would_ever_be_called";
  ck_assert_int_eq(network_create(n.rig.dense, &n.config, &n.features, &n.network, &status),
                   SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "shorter than"));
  rig_close(&n.rig);
}
END_TEST

static double deviation(const float *values, int64_t count, double *mean) {
  double sum = 0.0, squares = 0.0;
  for (int64_t i = 0; i < count; i++) sum += values[i], squares += (double)values[i] * values[i];
  *mean = sum / (double)count;
  return sqrt(squares / (double)count - *mean * *mean);
}

START_TEST(test_initial_values) {
  rig_t rig = rig_open(0);
  params_layer_t layers[2] = {{.name = "top/0", .in = 300, .out = 200, .has_bias = 1},
                              {.name = "top/1", .in = 200, .out = 1000, .has_bias = 1}};
  sbag_optimizer_options_t sgd = sbag_optimizer_options_default(SBAG_OPT_SGD);
  params_t both, alone, other;
  ck_assert_int_eq(params_create(rig.dense, layers, 2, 1, &sgd, &both, NULL), SBAG_OK);
  ck_assert_int_eq(params_create(rig.dense, layers, 1, 1, &sgd, &alone, NULL), SBAG_OK);
  ck_assert_int_eq(params_create(rig.dense, layers, 1, 2, &sgd, &other, NULL), SBAG_OK);
  double mean;
  ck_assert_double_eq_tol(deviation(both.arrays[0].data, 60000, &mean), sqrt(2.0 / 500), 1e-3);
  ck_assert_double_eq_tol(mean, 0.0, 2e-3);
  ck_assert_double_eq_tol(deviation(both.arrays[3].data, 1000, &mean), sqrt(1.0 / 1000), 3e-3);
  /* a layer's values know its name and the seed, not its neighbours */
  ck_assert_mem_eq(both.arrays[0].data, alone.arrays[0].data, 60000 * sizeof(float));
  ck_assert_mem_ne(other.arrays[0].data, alone.arrays[0].data, 60000 * sizeof(float));
  ck_assert_int_eq(both.layers[1].offset, 0); /* the last layer's gradient is ready first */
  params_clear(&both);
  params_clear(&alone);
  params_clear(&other);
  rig_close(&rig);
}
END_TEST

static TCase *case_of(Suite *suite, const char *name) {
  TCase *made = tcase_create(name);
  suite_add_tcase(suite, made);
  return made;
}

Suite *dense_suite(void) {
  Suite *suite = suite_create("dense");
  TCase *tc = case_of(suite, "products");
  tcase_add_loop_test(tc, test_products, 0, 300);
  tcase_add_test(tc, test_fixed_rows_are_alone);
  tc = case_of(suite, "layers");
  tcase_add_loop_test(tc, test_linear, 0, 8);
  tcase_add_loop_test(tc, test_linear_blocks, 0, 4);
  tcase_add_loop_test(tc, test_linear_without_rows, 0, 2);
  tcase_add_test(tc, test_relu_keeps_nan);
  tcase_add_test(tc, test_dropout);
  tc = case_of(suite, "interaction");
  tcase_add_loop_test(tc, test_interaction, 0, 120);
  tcase_add_loop_test(tc, test_interaction_not_finite, 0, ISA_COUNT + 1);
  tc = case_of(suite, "loss");
  tcase_add_test(tc, test_loss);
  tcase_add_test(tc, test_loss_extremes);
  tc = case_of(suite, "optimizers");
  tcase_add_loop_test(tc, test_optimizers, 0, OPTIMIZER_CASES);
  tcase_add_test(tc, test_optimizer_check);
  tc = case_of(suite, "network");
  tcase_add_loop_test(tc, test_gradients, 0, 2 * CASES);
  tcase_add_test(tc, test_weights);
  tcase_add_loop_test(tc, test_slices, 0, CASES);
  tcase_add_loop_test(tc, test_ready, 0, CASES);
  tcase_add_test(tc, test_reserve);
  tcase_add_test(tc, test_create_out_of_memory);
  tc = case_of(suite, "parameters");
  tcase_add_test(tc, test_names);
  tcase_add_test(tc, test_long_feature_name);
  tcase_add_test(tc, test_initial_values);
  return suite;
}
