/* The GPU's dense ops against the CPU's: random layers, interactions, losses and steps, within what the order
 * of a float sum makes of the result. What is exact stays exact: dropout's choice, the optimizer, NaN. */
#include "cuda_case.h"
#include "dense/dense.h"

#include <check.h>
#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct rig {
  cuda_case_t c;
  dense_t *cpu, *gpu;
  uint64_t seed;
} rig_t;

static rig_t rig;

static void set_up(void) {
  sbag_status_t status;
  rig = (rig_t){.seed = 1};
  cuda_case_open(&rig.c);
  ck_assert_int_eq(dense_create(rig.c.cpu, 0, &rig.cpu, &status), SBAG_OK);
  ck_assert_msg(dense_create(rig.c.gpu, 0, &rig.gpu, &status) == SBAG_OK, "%s", status.message);
  ck_assert_str_eq(rig.gpu->ops->name, "cuda");
}

static void tear_down(void) {
  dense_destroy(&rig.gpu);
  dense_destroy(&rig.cpu);
  cuda_case_close(&rig.c);
}

/* An array on both sides. */
typedef struct twin {
  float *host, *device;
  int64_t count;
} twin_t;

static twin_t twin(int64_t count) {
  twin_t t = {.host = calloc((size_t)count + 1, sizeof(float)), .count = count};
  ck_assert_ptr_nonnull(t.host);
  for (int64_t i = 0; i < count; i++)
    t.host[i] = (float)((double)(cuda_case_random(&rig.seed) % 2001) / 1000.0 - 1.0);
  t.device = cuda_case_put(&rig.c, t.host, (size_t)count * sizeof(float));
  return t;
}

static void drop(twin_t *t) {
  cuda_case_drop(&rig.c, t->device);
  free(t->host);
}

/* The GPU's values are the CPU's within `tolerance`; then both are dropped. */
static void check(twin_t *t, double tolerance, const char *what) {
  float *got = malloc((size_t)t->count * sizeof(float) + 1);
  ck_assert_ptr_nonnull(got);
  cuda_case_get(&rig.c, got, t->device, (size_t)t->count * sizeof(float));
  for (int64_t i = 0; i < t->count; i++) {
    double want = t->host[i], most = tolerance * (1.0 + fabs(want));
    int same = isfinite(want) ? fabs(want - got[i]) <= most : isnan(want) ? isnan(got[i]) : want == got[i];
    ck_assert_msg(same, "%s: %lld of %lld: %.9g, should be %.9g", what, (long long)i, (long long)t->count,
                  got[i], want);
  }
  free(got);
  drop(t);
}

/* ---- layers ---- */

typedef struct layer_case {
  int64_t rows, in, out, x_stride;
  int bias, relu;
  double dropout;
} layer_case_t;

static const layer_case_t layers[] = {
    {1, 1, 1, 1, 1, 0, 0},        {37, 13, 64, 13, 1, 1, 0},   {300, 64, 1, 64, 1, 0, 0},
    {129, 33, 35, 40, 1, 1, 0},   {64, 16, 24, 50, 0, 0, 0},   {5, 7, 10, 7, 1, 1, 0.4},
    {260, 20, 128, 20, 1, 1, .5}, {70, 12, 33, 12, 0, 1, 0.1}, {0, 6, 9, 6, 1, 1, 0},
};

enum { LAYERS = sizeof layers / sizeof *layers };

/* How the GPU computes a layer. */
typedef enum path { PATH_PLAIN, PATH_FUSED, PATH_NO_ALGORITHM, PATH_REPRODUCIBLE, PATHS } path_t;

/* Questions to cuBLASLt for an algorithm: the linker has this called in place of its own (--wrap). */
static int questions;

cublasStatus_t __real_cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int asked,
                                                     cublasLtMatmulHeuristicResult_t found[], int *count);
cublasStatus_t __wrap_cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int asked,
                                                     cublasLtMatmulHeuristicResult_t found[], int *count);
cublasStatus_t __wrap_cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int asked,
                                                     cublasLtMatmulHeuristicResult_t found[], int *count) {
  questions++;
  return __real_cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, c, d, preference, asked, found, count);
}

/* Of two forward and two backward passes of a layer with a bias: one each where there may be an algorithm. */
static int questions_of(const layer_case_t *c, path_t path) {
  if (!c->bias || c->rows == 0 || (path != PATH_FUSED && path != PATH_NO_ALGORITHM)) return 0;
  return c->dropout > 0 ? 1 : 2;
}

START_TEST(test_linear) {
  const layer_case_t *c = &layers[_i / PATHS];
  const path_t path = (path_t)(_i % PATHS);
  const int some = _i / PATHS % 2; /* whether nobody asks for dx */
  if (path == PATH_REPRODUCIBLE) {
    dense_destroy(&rig.gpu);
    ck_assert_int_eq(dense_create(rig.c.gpu, 1, &rig.gpu, NULL), SBAG_OK);
  }
  if (path == PATH_NO_ALGORITHM) ck_assert_int_eq(setenv("EMU_LT", "none", 1), 0);
  questions = 0;
  twin_t x = twin(c->rows * c->x_stride + 1), weight = twin(c->out * c->in), bias = twin(c->out + 1);
  twin_t y = twin(c->rows * c->out), dy = twin(c->rows * c->out), dx = twin(c->rows * c->x_stride + 1);
  twin_t weight_grad = twin(c->out * c->in), bias_grad = twin(c->out + 1);
  /* a bias that is not aligned to vector loads cannot be fused */
  const int shift = path == PATH_PLAIN || path == PATH_REPRODUCIBLE;
  linear_t host = {.in = c->in,
                   .out = c->out,
                   .weight = weight.host,
                   .bias = c->bias ? bias.host + shift : NULL,
                   .weight_grad = weight_grad.host,
                   .bias_grad = c->bias ? bias_grad.host + shift : NULL,
                   .relu = c->relu,
                   .to_loss = 1},
           device = host;
  device.weight = weight.device;
  device.bias = c->bias ? bias.device + shift : NULL;
  device.weight_grad = weight_grad.device;
  device.bias_grad = c->bias ? bias_grad.device + shift : NULL;
  const dropout_t dropout = dropout_make(c->dropout, 77, 3, 1000);
  for (int step = 0; step < 2; step++) {
    rig.cpu->ops->linear_forward(rig.cpu, &host, &dropout, c->rows, x.host, c->x_stride, y.host);
    rig.gpu->ops->linear_forward(rig.gpu, &device, &dropout, c->rows, x.device, c->x_stride, y.device);
  }
  for (int step = 0; step < 2; step++) {
    rig.cpu->ops->linear_backward(rig.cpu, &host, &dropout, c->rows, x.host, c->x_stride, y.host, dy.host,
                                  some ? NULL : dx.host, c->x_stride);
    rig.gpu->ops->linear_backward(rig.gpu, &device, &dropout, c->rows, x.device, c->x_stride, y.device,
                                  dy.device, some ? NULL : dx.device, c->x_stride);
  }
  ck_assert_int_eq(unsetenv("EMU_LT"), 0);
  ck_assert_int_eq(questions, questions_of(c, path));
  check(&y, 1e-5, "y");
  check(&dy, 1e-6, "dy");
  check(&dx, 1e-5, "dx"); /* and what is between its rows stays */
  check(&weight_grad, 1e-5, "weight's gradient");
  check(&bias_grad, 1e-5, "bias's gradient");
  drop(&x), drop(&weight), drop(&bias);
}
END_TEST

/* ---- what is not finite, in a ReLU that makes 0 of NaN ---- */

enum { G_ROWS = 6, G_IN = 12, G_OUT = 8, G_VECTORS = 3, G_DIM = 4 };

typedef enum spoiled {
  SPOILED_X,
  SPOILED_INFINITE_X,
  SPOILED_WEIGHT,
  SPOILED_BIAS,
  SPOILED_UPDATE,
  SPOILED_CONCAT,
  SPOILED_VECTOR,
  SPOILED_BESIDE,
  SPOILED_KINDS,
  LARGE_X = SPOILED_KINDS,
  LARGE_WEIGHT,
  LARGE_Y,
  GUARD_KINDS
} spoiled_t;

typedef struct guarded {
  twin_t x, parameters, grads, y, dy, logits, labels, grad;
  linear_t layer;
} guarded_t;

static guarded_t guarded_make(void) {
  guarded_t g = {.x = twin(G_ROWS * G_IN),
                 .parameters = twin(G_IN * G_OUT + G_OUT),
                 .grads = twin(G_IN * G_OUT + G_OUT),
                 .y = twin(G_ROWS * G_OUT),
                 .dy = twin(G_ROWS * G_OUT),
                 .logits = twin(G_ROWS),
                 .labels = twin(G_ROWS),
                 .grad = twin(G_ROWS)};
  g.layer = (linear_t){.in = G_IN,
                       .out = G_OUT,
                       .weight = g.parameters.device,
                       .bias = g.parameters.device + G_IN * G_OUT,
                       .weight_grad = g.grads.device,
                       .bias_grad = g.grads.device + G_IN * G_OUT,
                       .relu = 1,
                       .to_loss = 1};
  return g;
}

static void guarded_drop(guarded_t *g) {
  drop(&g->x), drop(&g->parameters), drop(&g->grads), drop(&g->y), drop(&g->dy);
  drop(&g->logits), drop(&g->labels), drop(&g->grad);
}

static void set_value(float *device, float value) {
  const copy_part_t part = {device, &value, sizeof value};
  rig.c.gpu->ops->copy(rig.c.gpu, NULL, &part, 1);
}

/* A pass whose logits know nothing of y: the loss is not NaN by itself. Returns how many of y are NaN. */
static int guarded_pass(guarded_t *g, int backward, double *loss) {
  const dropout_t none = dropout_make(0.0, 0, 0, 0);
  float y[G_ROWS * G_OUT];
  int nans = 0;
  rig.gpu->ops->linear_forward(rig.gpu, &g->layer, &none, G_ROWS, g->x.device, G_IN, g->y.device);
  rig.gpu->ops->loss(rig.gpu, G_ROWS, g->logits.device, g->labels.device, NULL, 1.0, g->grad.device, loss);
  if (backward)
    rig.gpu->ops->linear_backward(rig.gpu, &g->layer, &none, G_ROWS, g->x.device, G_IN, g->y.device,
                                  g->dy.device, NULL, 0);
  cuda_case_get(&rig.c, y, g->y.device, sizeof y);
  for (int i = 0; i < G_ROWS * G_OUT; i++) nans += isnan(y[i]);
  return nans;
}

static void guarded_update(guarded_t *g) {
  const sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_SGD);
  float *states[OPTIMIZER_STATES_MAX] = {0};
  const dense_optimizer_step_t step = {
      &options, 1, 0.0, 1.0, g->parameters.count, g->grads.device, g->parameters.device, states};
  rig.gpu->ops->update(rig.gpu, &step);
}

/* The layer's input by an interaction; concat is the first vector and the products of all. */
static void guarded_interaction(guarded_t *g, const twin_t *vectors, int concat_only) {
  const interaction_t shape = {.vectors = concat_only ? G_VECTORS : G_VECTORS + 1,
                               .concat = concat_only ? G_VECTORS : 1,
                               .dim = G_DIM,
                               .concat_only = concat_only,
                               .to_loss = 1};
  interaction_vector_t of[G_VECTORS + 1];
  for (int i = 0; i <= G_VECTORS; i++)
    of[i] = (interaction_vector_t){vectors->device + i * G_DIM, NULL, (G_VECTORS + 1) * G_DIM, 0};
  ck_assert_int_le(interaction_width(&shape), G_IN);
  g->layer.in = interaction_width(&shape);
  rig.gpu->ops->interaction_forward(rig.gpu, &shape, of, 0, G_ROWS, g->x.device);
}

static void spoil(guarded_t *g, spoiled_t kind, twin_t *vectors) {
  double loss = 0.0;
  if (kind == SPOILED_X) set_value(g->x.device + 3 * G_IN + 5, NAN);
  if (kind == SPOILED_INFINITE_X) set_value(g->x.device + 3 * G_IN + 5, INFINITY);
  if (kind == SPOILED_WEIGHT) set_value(g->parameters.device + 7, NAN);
  if (kind == SPOILED_BIAS) set_value(g->parameters.device + G_IN * G_OUT + 2, NAN);
  if (kind == SPOILED_UPDATE) {
    ck_assert_int_eq(guarded_pass(g, 1, &loss), 0);
    set_value(g->grads.device + 11, INFINITY); /* 0 times it is NaN */
    guarded_update(g);
  }
  if (kind == SPOILED_CONCAT || kind == SPOILED_BESIDE) set_value(vectors->device + 1, NAN);
  if (kind == SPOILED_VECTOR) set_value(vectors->device + 2 * G_DIM + 1, NAN);
}

/* Values that could overflow in the next sum. */
static void make_large(guarded_t *g, spoiled_t kind) {
  if (kind == LARGE_X) set_value(g->x.device, 2e15f);
  if (kind == LARGE_WEIGHT) set_value(g->parameters.device, -2e15f);
  if (kind != LARGE_Y) return;
  set_value(g->x.device, 1e9f);
  for (int j = 0; j < G_OUT; j++) set_value(g->parameters.device + j * G_IN, 1e9f);
}

/* The ReLU hides it, the loss tells; and from then on nothing is hidden. */
START_TEST(test_guard) {
  guarded_t g = guarded_make();
  twin_t vectors = twin(G_ROWS * (G_VECTORS + 1) * G_DIM);
  double loss = 0.0;
  spoil(&g, (spoiled_t)_i, &vectors);
  if (_i >= SPOILED_CONCAT) guarded_interaction(&g, &vectors, _i == SPOILED_BESIDE);
  ck_assert_int_eq(guarded_pass(&g, 0, &loss), 0);
  ck_assert(isnan(loss));
  set_value(g.x.device, NAN);
  ck_assert_int_eq(guarded_pass(&g, 0, &loss) > 0, 1);
  ck_assert(isfinite(loss));
  drop(&vectors);
  guarded_drop(&g);
}
END_TEST

/* What is large is no error, but nothing is hidden from then on; what is not is fused as before. */
START_TEST(test_guard_of_large_values) {
  const int is_large = _i < GUARD_KINDS;
  guarded_t g = guarded_make();
  double loss = 0.0;
  make_large(&g, (spoiled_t)_i);
  ck_assert_int_eq(guarded_pass(&g, 1, &loss), 0);
  ck_assert(isfinite(loss));
  set_value(g.x.device, NAN);
  ck_assert_int_eq(guarded_pass(&g, 0, &loss) > 0, is_large);
  ck_assert_int_eq(isnan(loss), !is_large);
  guarded_drop(&g);
}
END_TEST

/* Without a loss to come, NaN stays where it is. */
START_TEST(test_nothing_is_hidden_without_a_loss) {
  guarded_t g = guarded_make();
  double loss = 0.0;
  g.layer.to_loss = 0;
  set_value(g.x.device + 2 * G_IN, NAN);
  ck_assert_int_eq(guarded_pass(&g, 0, &loss), G_OUT);
  ck_assert(isfinite(loss));
  guarded_drop(&g);
}
END_TEST

START_TEST(test_nan_goes_through) {
  enum { ROWS = 5, IN = 3, OUT = 8 };
  twin_t x = twin(ROWS * IN), weight = twin(OUT * IN), bias = twin(OUT), y = twin(ROWS * OUT);
  const float nan = NAN;
  const copy_part_t part = {x.device + IN, &nan, sizeof nan};
  const dropout_t none = dropout_make(0.0, 0, 0, 0);
  linear_t host = {.in = IN, .out = OUT, .weight = weight.host, .bias = bias.host, .relu = 1}, device = host;
  device.weight = weight.device;
  device.bias = bias.device;
  x.host[IN] = NAN;
  rig.c.gpu->ops->copy(rig.c.gpu, NULL, &part, 1);
  rig.cpu->ops->linear_forward(rig.cpu, &host, &none, ROWS, x.host, IN, y.host);
  rig.gpu->ops->linear_forward(rig.gpu, &device, &none, ROWS, x.device, IN, y.device);
  ck_assert(isnan(y.host[OUT]));
  check(&y, 1e-5, "y");
  drop(&x), drop(&weight), drop(&bias);
}
END_TEST

/* ---- interaction ---- */

typedef struct shape_case {
  int vectors, concat;
  int64_t dim, rows;
} shape_case_t;

/* 400 vectors are more than fit in shared memory, forward and backward; 150 fit in the forward alone. */
static const shape_case_t shapes[] = {{1, 1, 5, 3},   {2, 0, 1, 9},    {4, 1, 8, 40},
                                      {5, 5, 33, 7},  {27, 1, 64, 5},  {9, 3, 17, 4},
                                      {33, 1, 36, 3}, {150, 0, 35, 1}, {400, 1, 9, 1}};

enum { SHAPES = sizeof shapes / sizeof *shapes, FIRST = 2 };

START_TEST(test_interaction) {
  const shape_case_t *c = &shapes[_i];
  const interaction_t shape = {.vectors = c->vectors, .concat = c->concat, .dim = c->dim};
  const int64_t stride = c->dim * c->vectors + 3, width = interaction_width(&shape);
  twin_t v = twin((FIRST + c->rows) * stride), grad = twin(c->rows * stride);
  twin_t out = twin(c->rows * width + 1), out_grad = twin(c->rows * width + 1);
  interaction_vector_t *host = calloc((size_t)c->vectors, sizeof *host);
  interaction_vector_t *device = calloc((size_t)c->vectors, sizeof *device);
  ck_assert(host != NULL && device != NULL);
  for (int i = 0; i < c->vectors; i++) {
    host[i] = (interaction_vector_t){v.host + i * c->dim, grad.host + i * c->dim, stride, stride};
    device[i] = (interaction_vector_t){v.device + i * c->dim, grad.device + i * c->dim, stride, stride};
  }
  rig.cpu->ops->interaction_forward(rig.cpu, &shape, host, FIRST, c->rows, out.host);
  rig.gpu->ops->interaction_forward(rig.gpu, &shape, device, FIRST, c->rows, out.device);
  rig.cpu->ops->interaction_backward(rig.cpu, &shape, host, FIRST, c->rows, out_grad.host);
  rig.gpu->ops->interaction_backward(rig.gpu, &shape, device, FIRST, c->rows, out_grad.device);
  check(&out, 1e-5, "products");
  check(&grad, 1e-5, "gradients");
  drop(&v), drop(&out_grad);
  free(host), free(device);
}
END_TEST

/* Vectors side by side, and a factorisation machine of them, which adds. */
START_TEST(test_beside) {
  const shape_case_t *c = &shapes[_i];
  const interaction_t shape = {.vectors = c->vectors, .concat = c->vectors, .dim = c->dim, .concat_only = 1};
  const int64_t stride = c->dim * c->vectors + 3, width = interaction_width(&shape);
  twin_t v = twin((FIRST + c->rows) * stride), grad = twin(c->rows * stride), sum = twin(c->rows);
  twin_t out = twin(c->rows * width + 1), out_grad = twin(c->rows * width + 1), sum_grad = twin(c->rows);
  interaction_vector_t *host = calloc((size_t)c->vectors, sizeof *host);
  interaction_vector_t *device = calloc((size_t)c->vectors, sizeof *device);
  ck_assert(host != NULL && device != NULL);
  for (int i = 0; i < c->vectors; i++) {
    host[i] = (interaction_vector_t){v.host + i * c->dim, grad.host + i * c->dim, stride, stride};
    device[i] = (interaction_vector_t){v.device + i * c->dim, grad.device + i * c->dim, stride, stride};
  }
  rig.cpu->ops->interaction_forward(rig.cpu, &shape, host, FIRST, c->rows, out.host);
  rig.gpu->ops->interaction_forward(rig.gpu, &shape, device, FIRST, c->rows, out.device);
  rig.cpu->ops->fm_forward(rig.cpu, &shape, host, FIRST, c->rows, sum.host);
  rig.gpu->ops->fm_forward(rig.gpu, &shape, device, FIRST, c->rows, sum.device);
  rig.cpu->ops->interaction_backward(rig.cpu, &shape, host, FIRST, c->rows, out_grad.host);
  rig.gpu->ops->interaction_backward(rig.gpu, &shape, device, FIRST, c->rows, out_grad.device);
  rig.cpu->ops->fm_backward(rig.cpu, &shape, host, FIRST, c->rows, sum_grad.host);
  rig.gpu->ops->fm_backward(rig.gpu, &shape, device, FIRST, c->rows, sum_grad.device);
  check(&out, 0, "vectors");
  check(&sum, 1e-4, "the products' sum");
  check(&grad, 1e-4, "gradients");
  drop(&v), drop(&out_grad), drop(&sum_grad);
  free(host), free(device);
}
END_TEST

START_TEST(test_combine) {
  static const int64_t counts[] = {0, 1, 33, 5000};
  const int64_t n = counts[_i], width = 7, stride = 11;
  twin_t x0 = twin(n), z = twin(n), x = twin(n), out = twin(n), dz = twin(n), x0_grad = twin(n);
  twin_t matrix = twin(n * stride), sum = twin(n), spread = twin(n * stride), sums = twin(n);
  rig.cpu->ops->cross_forward(rig.cpu, n, x0.host, z.host, x.host, out.host);
  rig.gpu->ops->cross_forward(rig.gpu, n, x0.device, z.device, x.device, out.device);
  rig.cpu->ops->cross_backward(rig.cpu, n, x0.host, z.host, x.host, dz.host, x0_grad.host);
  rig.gpu->ops->cross_backward(rig.gpu, n, x0.device, z.device, x.device, dz.device, x0_grad.device);
  rig.cpu->ops->add(rig.cpu, n, x.host, sum.host);
  rig.gpu->ops->add(rig.gpu, n, x.device, sum.device);
  rig.cpu->ops->add_rows(rig.cpu, n, width, matrix.host, stride, sums.host);
  rig.gpu->ops->add_rows(rig.gpu, n, width, matrix.device, stride, sums.device);
  rig.cpu->ops->spread_rows(rig.cpu, n, width, z.host, spread.host, stride);
  rig.gpu->ops->spread_rows(rig.gpu, n, width, z.device, spread.device, stride);
  check(&out, 1e-6, "a cross layer");
  check(&dz, 1e-6, "dz");
  check(&x0_grad, 1e-6, "the gradient of x0");
  check(&sum, 1e-6, "a sum");
  check(&sums, 1e-5, "sums of rows");
  check(&spread, 0, "rows"); /* and what is between them stays */
  drop(&x0), drop(&z), drop(&x), drop(&matrix);
}
END_TEST

/* A vector that is not finite spoils its pairs and no others; its own gradient is of the others alone. */
START_TEST(test_interaction_not_finite) {
  enum { N = 6, DIM = 4 };
  const interaction_t shape = {.vectors = N, .concat = 0, .dim = DIM};
  const float bad = INFINITY;
  twin_t v = twin(N * DIM), grad = twin(N * DIM), out = twin(interaction_width(&shape));
  twin_t out_grad = twin(interaction_width(&shape));
  interaction_vector_t host[N], device[N];
  const copy_part_t part = {v.device + 2 * DIM, &bad, sizeof bad};
  v.host[2 * DIM] = bad;
  rig.c.gpu->ops->copy(rig.c.gpu, NULL, &part, 1);
  for (int i = 0; i < N; i++) {
    host[i] = (interaction_vector_t){v.host + i * DIM, grad.host + i * DIM, N * DIM, N * DIM};
    device[i] = (interaction_vector_t){v.device + i * DIM, grad.device + i * DIM, N * DIM, N * DIM};
  }
  rig.cpu->ops->interaction_forward(rig.cpu, &shape, host, 0, 1, out.host);
  rig.gpu->ops->interaction_forward(rig.gpu, &shape, device, 0, 1, out.device);
  rig.cpu->ops->interaction_backward(rig.cpu, &shape, host, 0, 1, out_grad.host);
  rig.gpu->ops->interaction_backward(rig.gpu, &shape, device, 0, 1, out_grad.device);
  ck_assert(isfinite(grad.host[2 * DIM]) && !isfinite(grad.host[0]));
  check(&out, 1e-5, "products");
  check(&grad, 1e-5, "gradients");
  drop(&v), drop(&out_grad);
}
END_TEST

/* ---- sums ---- */

START_TEST(test_loss) {
  static const int64_t counts[] = {0, 1, 31, 1500, 5000};
  const int64_t count = counts[_i];
  twin_t logits = twin(count), labels = twin(count), grad = twin(count);
  double want = NAN, got = NAN;
  rig.cpu->ops->loss(rig.cpu, count, logits.host, labels.host, NULL, 0.5, grad.host, &want);
  rig.gpu->ops->loss(rig.gpu, count, logits.device, labels.device, NULL, 0.5, grad.device, &got);
  cuda_case_sync(&rig.c);
  ck_assert_double_eq_tol(got, want, 1e-12 * (double)(count + 1));
  check(&grad, 0.0, "gradient");
  drop(&logits), drop(&labels);
}
END_TEST

START_TEST(test_weighted_loss) {
  enum { COUNT = 3000 };
  twin_t logits = twin(COUNT), labels = twin(COUNT), weights = twin(COUNT), grad = twin(COUNT);
  double want = NAN, got = NAN;
  rig.cpu->ops->loss(rig.cpu, COUNT, logits.host, labels.host, weights.host, 0.5, grad.host, &want);
  rig.gpu->ops->loss(rig.gpu, COUNT, logits.device, labels.device, weights.device, 0.5, grad.device, &got);
  cuda_case_sync(&rig.c);
  ck_assert_double_eq_tol(got, want, 1e-9 * (1.0 + fabs(want)));
  check(&grad, 1e-6, "gradient");
  drop(&logits), drop(&labels), drop(&weights);
}
END_TEST

START_TEST(test_loss_not_finite) {
  twin_t logits = twin(40), labels = twin(40), grad = twin(40);
  const float bad[3] = {NAN, INFINITY, -INFINITY};
  const copy_part_t part = {logits.device + 17, &bad[_i], sizeof bad[_i]};
  double got = 0.0;
  rig.c.gpu->ops->copy(rig.c.gpu, NULL, &part, 1);
  rig.gpu->ops->loss(rig.gpu, 40, logits.device, labels.device, NULL, 1.0, grad.device, &got);
  cuda_case_sync(&rig.c);
  ck_assert(!isfinite(got));
  drop(&logits), drop(&labels), drop(&grad);
}
END_TEST

/* ---- losses of classifiers and matches ---- */

/* Doubles that ops write, on the device. */
static double *make_losses(int64_t count) {
  void *made = cuda_case_put(&rig.c, NULL, (size_t)count * sizeof(double));
  return made;
}

static void set_on_both(twin_t *t, int64_t at, float value) {
  const copy_part_t part = {t->device + at, &value, sizeof value};
  t->host[at] = value;
  rig.c.gpu->ops->copy(rig.c.gpu, NULL, &part, 1);
}

typedef struct class_case {
  int64_t rows, classes;
  int weighted;
} class_case_t;

/* From 2,048 classes on a sample has a block. */
static const class_case_t classes[] = {{0, 5, 0},    {1, 2, 0},    {40, 7, 1},  {300, 33, 0},
                                       {3, 2047, 1}, {4, 2048, 1}, {2, 5001, 0}};

enum { CLASS_CASES = sizeof classes / sizeof *classes };

START_TEST(test_softmax) {
  const class_case_t *c = &classes[_i];
  twin_t logits = twin(c->rows * c->classes), labels = twin(c->rows), weights = twin(c->rows);
  twin_t grads = twin(c->rows * c->classes);
  double want = NAN, got = NAN, again = NAN, *host = calloc((size_t)c->rows + 1, sizeof *host);
  double *device = make_losses(c->rows);
  ck_assert_ptr_nonnull(host);
  for (int64_t r = 0; r < c->rows; r++) set_on_both(&labels, r, (float)((7 * r + 1) % c->classes));
  if (c->rows > 0) set_on_both(&logits, c->classes - 1, 300); /* far from the others */
  const float *host_weights = c->weighted ? weights.host : NULL;
  const float *device_weights = c->weighted ? weights.device : NULL;
  rig.cpu->ops->softmax_loss(rig.cpu, c->rows, c->classes, logits.host, labels.host, host_weights, 0.25, host,
                             grads.host, &want);
  rig.gpu->ops->softmax_loss(rig.gpu, c->rows, c->classes, logits.device, labels.device, device_weights, 0.25,
                             device, grads.device, &got);
  rig.gpu->ops->softmax_loss(rig.gpu, c->rows, c->classes, logits.device, labels.device, device_weights, 0.25,
                             device, grads.device, &again);
  cuda_case_sync(&rig.c);
  ck_assert_double_eq_tol(got, want, 1e-12 * (1.0 + fabs(want)));
  ck_assert(got == again);
  check(&grads, 1e-7, "gradients");
  drop(&logits), drop(&labels), drop(&weights);
  cuda_case_drop(&rig.c, device);
  free(host);
}
END_TEST

/* A logit that is not finite, and a label that is no class. */
START_TEST(test_softmax_not_finite) {
  enum { ROWS = 3, COUNT = 40 };
  const float bad[] = {NAN, INFINITY, -INFINITY, -1, COUNT};
  twin_t logits = twin(ROWS * COUNT), labels = twin(ROWS), grads = twin(ROWS * COUNT);
  double got = 0.0, *device = make_losses(ROWS);
  for (int r = 0; r < ROWS; r++) set_on_both(&labels, r, 5);
  if (_i < 3)
    set_on_both(&logits, COUNT + 5, bad[_i]);
  else
    set_on_both(&labels, 1, bad[_i]);
  rig.gpu->ops->softmax_loss(rig.gpu, ROWS, COUNT, logits.device, labels.device, NULL, 1.0, device,
                             grads.device, &got);
  cuda_case_sync(&rig.c);
  ck_assert(!isfinite(got));
  drop(&logits), drop(&labels), drop(&grads);
  cuda_case_drop(&rig.c, device);
}
END_TEST

typedef struct match_case {
  int64_t rows, dim;
  int queries, items, weighted;
  double l2;
} match_case_t;

static const match_case_t matches[] = {
    {0, 4, 1, 2, 0, 0},    {1, 1, 1, 2, 0, 0},       {50, 8, 2, 5, 1, 0.5},  {9, 33, 3, 40, 0, 0.1},
    {6, 64, 1, 300, 1, 0}, {2, 5, 7, 1025, 1, 0.25}, {7, 150, 2, 9, 1, 0.1}, {3, 128, 1, 4, 0, 0}};

enum { MATCH_CASES = sizeof matches / sizeof *matches, COLUMNS_MOST = 1032 };

/* Features stand in another order than their roles, with the items first. */
static match_shape_t make_shape(const match_case_t *c, int64_t columns[COLUMNS_MOST]) {
  for (int i = 0; i < c->queries + c->items; i++)
    columns[i] = (i < c->queries ? c->items + i : i - c->queries) * c->dim;
  return (match_shape_t){.dim = c->dim,
                         .pooled_dim = (c->queries + c->items) * c->dim,
                         .query_count = c->queries,
                         .item_count = c->items,
                         .queries = columns,
                         .items = columns + c->queries};
}

START_TEST(test_match) {
  const match_case_t *c = &matches[_i / MATCH_LOSSES];
  int64_t columns[COLUMNS_MOST], n = c->rows;
  const match_shape_t shape = make_shape(c, columns);
  twin_t pooled = twin(n * shape.pooled_dim), weights = twin(n), out = twin(n * (c->dim + c->items));
  twin_t score_grads = twin(n * c->items), grads = twin(n * shape.pooled_dim);
  double want = NAN, got = NAN, *losses = calloc((size_t)n + 1, sizeof *losses), *device = make_losses(n);
  ck_assert_ptr_nonnull(losses);
  match_targets_t targets = {.kind = (match_loss_t)(_i % MATCH_LOSSES),
                             .temperature = 0.7,
                             .l2 = c->l2,
                             .grad_scale = 0.5,
                             .weights = c->weighted ? weights.host : NULL};
  rig.cpu->ops->match_forward(rig.cpu, &shape, n, pooled.host, out.host);
  rig.cpu->ops->match_loss(rig.cpu, &shape, &targets, n, pooled.host, out.host, losses, score_grads.host,
                           &want);
  rig.cpu->ops->match_backward(rig.cpu, &shape, &targets, n, pooled.host, out.host, score_grads.host,
                               grads.host);
  if (c->weighted) targets.weights = weights.device;
  rig.gpu->ops->match_forward(rig.gpu, &shape, n, pooled.device, out.device);
  rig.gpu->ops->match_loss(rig.gpu, &shape, &targets, n, pooled.device, out.device, device,
                           score_grads.device, &got);
  rig.gpu->ops->match_backward(rig.gpu, &shape, &targets, n, pooled.device, out.device, score_grads.device,
                               grads.device);
  cuda_case_sync(&rig.c);
  ck_assert_double_eq_tol(got, want, 1e-5 * (1.0 + fabs(want)));
  check(&out, 1e-5, "query and scores");
  check(&score_grads, 1e-5, "the scores' gradients");
  check(&grads, 1e-4, "the vectors' gradients");
  drop(&pooled), drop(&weights);
  cuda_case_drop(&rig.c, device);
  free(losses);
}
END_TEST

/* A vector that is not finite spoils the loss, and nobody else's row. */
START_TEST(test_match_not_finite) {
  const match_case_t *c = &matches[3];
  int64_t columns[COLUMNS_MOST];
  const match_shape_t shape = make_shape(c, columns);
  twin_t pooled = twin(c->rows * shape.pooled_dim), out = twin(c->rows * (c->dim + c->items));
  twin_t score_grads = twin(c->rows * c->items);
  double got = 0.0, *device = make_losses(c->rows), each[16];
  const match_targets_t targets = {.kind = (match_loss_t)_i, .temperature = 1.0, .grad_scale = 1.0};
  set_on_both(&pooled, 2 * shape.pooled_dim + shape.items[7] + 3, NAN);
  rig.gpu->ops->match_forward(rig.gpu, &shape, c->rows, pooled.device, out.device);
  rig.gpu->ops->match_loss(rig.gpu, &shape, &targets, c->rows, pooled.device, out.device, device,
                           score_grads.device, &got);
  cuda_case_sync(&rig.c);
  cuda_case_get(&rig.c, each, device, (size_t)c->rows * sizeof *each);
  ck_assert(!isfinite(got));
  for (int64_t r = 0; r < c->rows; r++) ck_assert_int_eq(isfinite(each[r]), r != 2);
  drop(&pooled), drop(&out), drop(&score_grads);
  cuda_case_drop(&rig.c, device);
}
END_TEST

START_TEST(test_norm) {
  static const int64_t counts[] = {0, 1, 1500, 2000001};
  twin_t values = twin(counts[_i]);
  double want = NAN, got = NAN, again = NAN;
  rig.cpu->ops->norm_squared(rig.cpu, values.host, values.count, &want);
  rig.gpu->ops->norm_squared(rig.gpu, values.device, values.count, &got);
  rig.gpu->ops->norm_squared(rig.gpu, values.device, values.count, &again);
  cuda_case_sync(&rig.c);
  ck_assert_double_eq_tol(got, want, 1e-12 * (1.0 + want));
  ck_assert(got == again);
  drop(&values);
}
END_TEST

/* ---- the optimizer ---- */

/* The tables' formulas on both sides: the same bits. */
START_TEST(test_update) {
  static const sbag_optimizer_t kinds[] = {SBAG_OPT_SGD, SBAG_OPT_SGD, SBAG_OPT_ADAGRAD, SBAG_OPT_ADAM,
                                           SBAG_OPT_ADAM};
  static const int64_t counts[] = {1, 127, 128, 1000};
  sbag_optimizer_options_t options = sbag_optimizer_options_default(kinds[_i]);
  options.lr = 0.1;
  options.weight_decay = 0.01;
  if (_i == 1) options.momentum = 0.9;
  if (_i == 4) options.amsgrad = 1, options.clip_value = 0.3;
  const optimizer_info_t info = optimizer_info(&options);
  for (int n = 0; n < 4; n++) {
    twin_t weight = twin(counts[n]), grad = twin(counts[n]), state[OPTIMIZER_STATES_MAX];
    float *host[OPTIMIZER_STATES_MAX] = {0}, *device[OPTIMIZER_STATES_MAX] = {0};
    for (int s = 0; s < info.state_count; s++) {
      state[s] = twin(counts[n]);
      for (int64_t i = 0; i < counts[n]; i++) state[s].host[i] = (float)info.states[s].initial;
      const copy_part_t part = {state[s].device, state[s].host, counts[n] * (int64_t)sizeof(float)};
      rig.c.gpu->ops->copy(rig.c.gpu, NULL, &part, 1);
      host[s] = state[s].host, device[s] = state[s].device;
    }
    for (int64_t step = 1; step <= 3; step++) {
      dense_optimizer_step_t update = {
          &options, step, options.lr / (double)step, 0.5, counts[n], grad.host, weight.host, host};
      rig.cpu->ops->update(rig.cpu, &update);
      update.grad = grad.device, update.weight = weight.device, update.states = device;
      rig.gpu->ops->update(rig.gpu, &update);
    }
    check(&weight, 0.0, "weights");
    for (int s = 0; s < info.state_count; s++) check(&state[s], 0.0, "state");
    drop(&grad);
  }
}
END_TEST

/* ---- batches ---- */

/* What has been handed over may change at once, and arrives before what reads it. */
START_TEST(test_input) {
  enum { COUNT = 5000 };
  float *values = malloc(COUNT * sizeof *values), got[COUNT];
  ck_assert_ptr_nonnull(values);
  twin_t to = twin(COUNT), other = twin(COUNT);
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < COUNT; i++) values[i] = (float)(i + round);
    const copy_part_t parts[2] = {{to.device, values, COUNT * (int64_t)sizeof(float)}, {NULL, NULL, 0}};
    rig.gpu->ops->input(rig.gpu, parts, 2);
    memset(values, 0xff, COUNT * sizeof *values);
    rig.gpu->ops->input_ready(rig.gpu);
    const copy_part_t within = {other.device, to.device, COUNT * (int64_t)sizeof(float)};
    rig.c.gpu->ops->copy(rig.c.gpu, NULL, &within, 1);
    cuda_case_get(&rig.c, got, other.device, sizeof got);
    for (int i = 0; i < COUNT; i++) ck_assert(got[i] == (float)(i + round));
  }
  drop(&to), drop(&other);
  free(values);
}
END_TEST

/* What reproducible mode rests on: a row's bits do not know how many rows there are. */
START_TEST(test_rows_by_themselves) {
  enum { ROWS = 75, IN = 70, OUT = 45 };
  dense_t *fixed = NULL;
  sbag_status_t status;
  ck_assert_msg(dense_create(rig.c.gpu, 1, &fixed, &status) == SBAG_OK, "%s", status.message);
  twin_t x = twin(ROWS * IN), weight = twin(OUT * IN), bias = twin(OUT), y = twin(ROWS * OUT),
         one = twin(OUT);
  const linear_t layer = {.in = IN, .out = OUT, .weight = weight.device, .bias = bias.device};
  const dropout_t none = dropout_make(0.0, 0, 0, 0);
  static float whole[ROWS * OUT], alone[OUT];
  fixed->ops->linear_forward(fixed, &layer, &none, ROWS, x.device, IN, y.device);
  cuda_case_get(&rig.c, whole, y.device, sizeof whole);
  for (int row = 0; row < ROWS; row += 9) {
    fixed->ops->linear_forward(fixed, &layer, &none, 1, x.device + row * IN, IN, one.device);
    cuda_case_get(&rig.c, alone, one.device, sizeof alone);
    ck_assert_mem_eq(alone, whole + row * OUT, sizeof alone);
  }
  drop(&x), drop(&weight), drop(&bias), drop(&y), drop(&one);
  dense_destroy(&fixed);
}
END_TEST

Suite *cuda_dense_suite(void) {
  Suite *suite = suite_create("dense");
  TCase *tc = tcase_create("dense");
  tcase_add_checked_fixture(tc, set_up, tear_down);
  tcase_add_loop_test(tc, test_linear, 0, PATHS * LAYERS);
  tcase_add_loop_test(tc, test_guard, 0, SPOILED_KINDS);
  tcase_add_loop_test(tc, test_guard_of_large_values, LARGE_X, GUARD_KINDS + 1);
  tcase_add_test(tc, test_nothing_is_hidden_without_a_loss);
  tcase_add_test(tc, test_nan_goes_through);
  tcase_add_loop_test(tc, test_interaction, 0, SHAPES);
  tcase_add_test(tc, test_interaction_not_finite);
  tcase_add_loop_test(tc, test_loss, 0, 5);
  tcase_add_test(tc, test_weighted_loss);
  tcase_add_loop_test(tc, test_beside, 0, SHAPES);
  tcase_add_loop_test(tc, test_combine, 0, 4);
  tcase_add_loop_test(tc, test_loss_not_finite, 0, 3);
  tcase_add_loop_test(tc, test_softmax, 0, CLASS_CASES);
  tcase_add_loop_test(tc, test_softmax_not_finite, 0, 5);
  tcase_add_loop_test(tc, test_match, 0, MATCH_CASES * MATCH_LOSSES);
  tcase_add_loop_test(tc, test_match_not_finite, 0, MATCH_LOSSES);
  tcase_add_loop_test(tc, test_norm, 0, 4);
  tcase_add_loop_test(tc, test_update, 0, 5);
  tcase_add_test(tc, test_input);
  tcase_add_test(tc, test_rows_by_themselves);
  suite_add_tcase(suite, tc);
  return suite;
}
