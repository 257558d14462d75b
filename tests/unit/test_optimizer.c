/* Sparse optimizers: each against the float64 oracle, lagging rows against updating every row every step bit
 * for bit, the order of sums over a row, clipping and scaling, and what is refused. */
#include "kernel/optimizer.h"
#include "kernel_case.h"
#include "oracle/arena.h"
#include "oracle/draw.h"
#include "oracle/oracle.h"

#include <check.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

enum { ROWS_MAX = 8 };

/* A table under an optimizer, as the store would hold it. */
typedef struct model {
  optimizer_rows_t at;
  sbag_optimizer_options_t options;
  optimizer_info_t info;
  int64_t rows;
  double lr_log[OPTIMIZER_LR_LOG];
  int32_t last_step[ROWS_MAX];
} model_t;

static size_t value_bytes(sbag_dtype_t dtype) {
  return dtype == SBAG_F32 ? sizeof(float) : sizeof(double);
}

static double value_get(const void *values, sbag_dtype_t dtype, int64_t i) {
  return dtype == SBAG_F32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
}

static void value_set(void *values, sbag_dtype_t dtype, int64_t i, double value) {
  if (dtype == SBAG_F32) {
    ((float *)values)[i] = (float)value;
  } else {
    ((double *)values)[i] = value;
  }
}

static int64_t state_count(const model_t *model, int s) {
  return model->info.states[s].row_wise ? model->rows : model->rows * model->at.dim;
}

static model_t *model_create(arena_t *arena, const sbag_optimizer_options_t *options, sbag_dtype_t dtype,
                             int64_t rows, int64_t dim, int lags) {
  model_t *model = arena_alloc(arena, 1, sizeof *model);
  sbag_status_t status;
  ck_assert_msg(optimizer_check(options, "test", &status) == SBAG_OK, "%s", status.message);
  model->options = *options;
  model->info = optimizer_info(options);
  model->rows = rows;
  model->at =
      (optimizer_rows_t){.options = &model->options, .dtype = dtype, .dim = dim, .lr_log = model->lr_log};
  model->at.weight = arena_alloc(arena, rows * dim, value_bytes(dtype));
  for (int s = 0; s < model->info.state_count; s++) {
    model->at.states[s] = arena_alloc(arena, state_count(model, s), value_bytes(dtype));
    for (int64_t i = 0; i < state_count(model, s); i++)
      value_set(model->at.states[s], dtype, i, model->info.states[s].initial);
  }
  if (lags && model->info.moves_untouched) model->at.last_step = model->last_step;
  return model;
}

/* The update of the rows with touched[row] != 0, either by a list of them or by skipping the others. grad:
 * [rows][dim] of the model's type. */
static void model_update(arena_t *arena, model_t *model, int64_t step, double lr, double grad_scale,
                         const int64_t *touched, const void *grad, int by_list) {
  size_t row_bytes = (size_t)model->at.dim * value_bytes(model->at.dtype);
  int64_t rows[ROWS_MAX], skips[ROWS_MAX + 1] = {0}, count = 0;
  char *merged = arena_alloc(arena, model->rows, row_bytes);
  for (int64_t r = 0; r < model->rows; r++) {
    if (by_list && touched[r] == 0) continue;
    rows[count] = r;
    memcpy(merged + (size_t)count * row_bytes, (const char *)grad + (size_t)r * row_bytes, row_bytes);
    skips[count + 1] = skips[count] + touched[r];
    count++;
  }
  if (model->at.last_step != NULL) model->lr_log[step - model->at.epoch_step - 1] = lr;
  optimizer_update_t update = {.at = model->at,
                               .step = step,
                               .lr = lr,
                               .grad_scale = grad_scale,
                               .count = count,
                               .rows = rows,
                               .touched = by_list ? NULL : skips,
                               .grad = merged};
  optimizer_update_scalar(&update);
}

static void model_catch_up(model_t *model, int64_t step) {
  if (model->at.last_step == NULL) return;
  optimizer_catch_up_scalar(&model->at, step, model->rows, NULL);
  for (int64_t r = 0; r < model->rows; r++)
    ck_assert_int_eq(model->last_step[r], step - model->at.epoch_step);
}

/* A new epoch of the lr log, as its owner starts one when it is full. */
static void model_epoch(model_t *model, int64_t step) {
  model_catch_up(model, step);
  model->at.epoch_step = step;
  memset(model->last_step, 0, sizeof model->last_step);
  for (int i = 0; i < OPTIMIZER_LR_LOG; i++) model->lr_log[i] = NAN; /* an old entry must not be read */
}

static double draw_real(draw_t *draw, double low, double high) {
  return low + (high - low) * draw_unit(draw);
}

static double draw_or_zero(draw_t *draw, double low, double high) {
  return draw_one_in(draw, 2) ? 0 : draw_real(draw, low, high);
}

static void draw_torch(draw_t *draw, sbag_optimizer_options_t *options) {
  options->maximize = draw_one_in(draw, 3);
  if (options->kind != SBAG_OPT_SPARSE_ADAM) options->weight_decay = draw_or_zero(draw, 0.01, 0.3);
  switch (options->kind) {
  case SBAG_OPT_SGD:
    options->momentum = draw_or_zero(draw, 0.3, 0.95);
    options->nesterov = options->momentum > 0 && draw_one_in(draw, 2);
    if (!options->nesterov) options->dampening = draw_or_zero(draw, 0.1, 1.2);
    break;
  case SBAG_OPT_ADAGRAD:
    options->lr_decay = draw_or_zero(draw, 0.01, 0.3);
    options->initial_accumulator_value = draw_or_zero(draw, 0.1, 1);
    break;
  case SBAG_OPT_ADAM:
  case SBAG_OPT_ADAMW:
    options->amsgrad = draw_one_in(draw, 2);
    break;
  case SBAG_OPT_RMSPROP:
    options->alpha = draw_real(draw, 0.5, 0.99);
    options->centered = draw_one_in(draw, 2);
    options->momentum = draw_or_zero(draw, 0.3, 0.95);
    break;
  default:
    break;
  }
}

static sbag_optimizer_options_t draw_options(draw_t *draw, sbag_optimizer_t kind) {
  sbag_optimizer_options_t options = sbag_optimizer_options_default(kind);
  if (draw_one_in(draw, 2)) options.eps = draw_real(draw, 1e-3, 0.1);
  if (draw_one_in(draw, 2)) {
    options.beta1 = draw_real(draw, 0.3, 0.95);
    options.beta2 = draw_real(draw, 0.7, 0.999);
  }
  if (draw_one_in(draw, 3)) options.clip_value = draw_real(draw, 0.2, 1);
  if (kind < SBAG_OPT_EXACT_SGD) draw_torch(draw, &options);
  if (kind >= SBAG_OPT_FBGEMM_ADAM && kind <= SBAG_OPT_LARS_SGD)
    options.weight_decay = draw_or_zero(draw, 0.01, 0.3);
  if (kind == SBAG_OPT_EXACT_ADAGRAD || kind == SBAG_OPT_EXACT_ROWWISE_ADAGRAD)
    options.initial_accumulator_value = draw_or_zero(draw, 0.1, 1);
  if (kind == SBAG_OPT_EXACT_ROWWISE_ADAGRAD) {
    options.weight_decay_mode = (sbag_weight_decay_t)draw_below(draw, 3);
    if (options.weight_decay_mode != SBAG_DECAY_NONE) options.weight_decay = draw_real(draw, 0.01, 0.3);
  }
  if (kind == SBAG_OPT_LARS_SGD) options.eta = draw_real(draw, 0.001, 0.1);
  if (kind == SBAG_OPT_ROWWISE_RMSPROP) {
    options.ema_beta = draw_real(draw, 0.5, 0.99);
    options.ar_alpha = draw_or_zero(draw, 0.1, 4);
    options.min_shrinkage = draw_unit(draw);
  }
  return options;
}

static void draw_touched(draw_t *draw, int64_t rows, int64_t one_in, int64_t *touched) {
  for (int64_t r = 0; r < rows; r++) touched[r] = draw_one_in(draw, one_in) ? draw_between(draw, 1, 3) : 0;
}

/* Values that both types hold. */
static void draw_values(draw_t *draw, sbag_dtype_t dtype, int64_t count, double size, void *values,
                        double *copy) {
  for (int64_t i = 0; i < count; i++) {
    double value = (double)(float)draw_real(draw, -size, size);
    value_set(values, dtype, i, value);
    if (copy != NULL) copy[i] = value;
  }
}

static void compare(const void *values, sbag_dtype_t dtype, int64_t count, const double *expected,
                    const char *what, int64_t number) {
  const double tolerance = dtype == SBAG_F32 ? 1e-4 : 1e-10;
  for (int64_t i = 0; i < count; i++) {
    double got = value_get(values, dtype, i);
    ck_assert_msg(fabs(got - expected[i]) <= tolerance * (fabs(expected[i]) + 1),
                  "case %lld, %s %lld: %.17g is not %.17g", (long long)number, what, (long long)i, got,
                  expected[i]);
  }
}

/* One random run of an optimizer beside the oracle. */
static void oracle_case(sbag_optimizer_t kind, int64_t number) {
  arena_t arena = {0};
  draw_t draw = draw_start(71, (uint64_t)(number * SBAG_OPT_COUNT + kind));
  sbag_optimizer_options_t options = draw_options(&draw, kind);
  sbag_dtype_t dtype = draw_one_in(&draw, 2) ? SBAG_F32 : SBAG_F64;
  int64_t rows = draw_between(&draw, 1, ROWS_MAX), dim = draw_between(&draw, 1, 70), steps = 12;
  model_t *model = model_create(&arena, &options, dtype, rows, dim, 1);
  oracle_table_t table = {.rows = rows, .dim = dim, .weight = arena_doubles(&arena, rows * dim)};
  oracle_optimizer_t oracle = oracle_optimizer_create(&arena, &options, rows, dim);
  draw_values(&draw, dtype, rows * dim, 1, model->at.weight, table.weight);
  double *grad = arena_doubles(&arena, rows * dim);
  void *typed = arena_alloc(&arena, rows * dim, value_bytes(dtype));
  for (int64_t step = 1; step <= steps; step++) {
    int64_t touched[ROWS_MAX];
    double lr = draw_real(&draw, 0.01, 0.1), scale = draw_one_in(&draw, 2) ? 1 : draw_real(&draw, 0.1, 2);
    draw_touched(&draw, rows, 2, touched);
    draw_values(&draw, dtype, rows * dim, 1, typed, grad);
    model_update(&arena, model, step, lr, scale, touched, typed, draw_one_in(&draw, 2));
    oracle_optimizer_update(&oracle, &table, grad, touched, lr, scale);
    if (draw_one_in(&draw, 4)) model_epoch(model, step);
  }
  model_catch_up(model, steps);
  compare(model->at.weight, dtype, rows * dim, table.weight, "weight", number);
  ck_assert_int_eq(model->info.state_count, oracle.state_count);
  for (int s = 0; s < model->info.state_count; s++) {
    const char *name = model->info.states[s].name;
    const double *expected = oracle_optimizer_state(&oracle, name);
    ck_assert_msg(expected != NULL, "the oracle has no state %s", name);
    compare(model->at.states[s], dtype, state_count(model, s), expected, name, number);
  }
  arena_free(&arena);
}

START_TEST(test_oracle) {
  for (int64_t number = 0; number < 60; number++) oracle_case((sbag_optimizer_t)_i, number);
}
END_TEST

static const sbag_optimizer_t LAGGING[] = {SBAG_OPT_SGD, SBAG_OPT_ADAGRAD, SBAG_OPT_ADAM, SBAG_OPT_ADAMW,
                                           SBAG_OPT_RMSPROP};
enum { LAGGING_COUNT = sizeof LAGGING / sizeof LAGGING[0] };

static void same_bits(const model_t *a, const model_t *b, int64_t number, int64_t step) {
  size_t bytes = value_bytes(a->at.dtype);
  ck_assert_msg(memcmp(a->at.weight, b->at.weight, (size_t)(a->rows * a->at.dim) * bytes) == 0,
                "case %lld: weights differ at step %lld", (long long)number, (long long)step);
  for (int s = 0; s < a->info.state_count; s++)
    ck_assert_msg(memcmp(a->at.states[s], b->at.states[s], (size_t)state_count(a, s) * bytes) == 0,
                  "case %lld: %s differs at step %lld", (long long)number, a->info.states[s].name,
                  (long long)step);
}

/* Weights with whole rows and single elements of either zero, and of sizes at which an update may be
 * absorbed. */
static void draw_weights(draw_t *draw, model_t *model) {
  static const double SIZES[] = {0, -0.0, 1e-30, 1e-3, 1, 1e6};
  for (int64_t r = 0; r < model->rows; r++) {
    double row_size = SIZES[draw_below(draw, 6)];
    for (int64_t d = 0; d < model->at.dim; d++) {
      double size = draw_one_in(draw, 4) ? SIZES[draw_below(draw, 6)] : row_size;
      value_set(model->at.weight, model->at.dtype, r * model->at.dim + d, size * draw_real(draw, 0.5, 1));
    }
  }
}

/* lags: rows are caught up when read. The other model updates every row every step. touch_one_in 0: rows are
 * touched at the first and the last step alone, and nothing reads them between. */
static void lag_case(sbag_optimizer_t kind, int64_t number, int64_t steps, int64_t touch_one_in) {
  arena_t arena = {0};
  draw_t draw = draw_start(72, (uint64_t)(number * SBAG_OPT_COUNT + kind));
  sbag_optimizer_options_t options = draw_options(&draw, kind);
  /* Without decay, adagrad is torch's sparse form: a row of 0 / 0 is left out, not made NaN. */
  if (optimizer_info(&options).moves_untouched && draw_one_in(&draw, 4)) options.eps = 0;
  sbag_dtype_t dtype = draw_one_in(&draw, 2) ? SBAG_F32 : SBAG_F64;
  int64_t rows = draw_between(&draw, 1, ROWS_MAX),
          dim = draw_one_in(&draw, 5) ? 131 : draw_between(&draw, 1, 70);
  model_t *lags = model_create(&arena, &options, dtype, rows, dim, 1);
  model_t *dense = model_create(&arena, &options, dtype, rows, dim, 0);
  draw_weights(&draw, lags);
  memcpy(dense->at.weight, lags->at.weight, (size_t)(rows * dim) * value_bytes(dtype));
  int64_t all[ROWS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1}, touched[ROWS_MAX];
  double *zero = arena_doubles(&arena, rows * dim);
  void *grad = arena_alloc(&arena, rows * dim, value_bytes(dtype));
  size_t row_bytes = (size_t)dim * value_bytes(dtype);
  for (int64_t step = 1; step <= steps; step++) {
    arena_t scratch = {0};
    const int ends = step == 1 || step == steps, quiet = touch_one_in == 0;
    double lr = draw_real(&draw, 0, kind == SBAG_OPT_ADAMW ? 1 : 0.2);
    draw_touched(&draw, rows, quiet ? (ends ? 1 : INT64_MAX) : touch_one_in, touched);
    draw_values(&draw, dtype, rows * dim, draw_one_in(&draw, 3) ? 1e-12 : 1, grad, NULL);
    model_update(&scratch, lags, step, lr, 1, touched, grad, draw_one_in(&draw, 2));
    for (int64_t r = 0; r < rows; r++)
      if (touched[r] == 0) memcpy((char *)grad + (size_t)r * row_bytes, zero, row_bytes);
    model_update(&scratch, dense, step, lr, 1, all, grad, 1);
    if (!quiet && draw_one_in(&draw, 8)) {
      int64_t some = draw_below(&draw, rows);
      if (lags->at.last_step != NULL) optimizer_catch_up_scalar(&lags->at, step, 1, &some);
    }
    if (!quiet && draw_one_in(&draw, steps / 2 + 1)) {
      model_epoch(lags, step);
      same_bits(lags, dense, number, step);
    }
    arena_free(&scratch);
  }
  model_catch_up(lags, steps);
  same_bits(lags, dense, number, steps);
  arena_free(&arena);
}

START_TEST(test_lag_is_every_step) {
  for (int64_t number = 0; number < 60; number++) lag_case(LAGGING[_i], number, 40, 5);
}
END_TEST

/* Long enough for moments to be absorbed, to fall below the smallest normal number and to stay there. */
START_TEST(test_long_lag_is_every_step) {
  for (int64_t number = 1000; number < 1020; number++) lag_case(LAGGING[_i], number, 1500, 700);
  for (int64_t number = 2000; number < 2024; number++) lag_case(LAGGING[_i], number, 1200, 0);
}
END_TEST

/* AdamW shrinks this weight faster than its momentum fades: an update that is absorbed at first counts later.
 */
START_TEST(test_shrinking_outruns_momentum) {
  arena_t arena = {0};
  sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_ADAMW);
  options.weight_decay = 0.3;
  options.beta1 = 0.95;
  options.eps = 1e-3;
  model_t *lags = model_create(&arena, &options, SBAG_F32, 1, 1, 1);
  model_t *dense = model_create(&arena, &options, SBAG_F32, 1, 1, 0);
  *(float *)lags->at.weight = *(float *)dense->at.weight = 1e6f;
  for (int64_t step = 1; step <= 300; step++) {
    float grad = step == 1 ? 1e-9f : 0;
    model_update(&arena, lags, step, 0.5, 1, (int64_t[]){step == 1}, &grad, 1);
    model_update(&arena, dense, step, 0.5, 1, (int64_t[]){1}, &grad, 1);
  }
  model_catch_up(lags, 300);
  same_bits(lags, dense, 0, 300);
  arena_free(&arena);
}
END_TEST

/* Element i into lane i mod 8, lanes in a tree: what every backend has to reproduce. */
START_TEST(test_lane_tree) {
  for (int64_t dim = 1; dim <= 300; dim += dim < 40 ? 1 : 13) {
    arena_t arena = {0};
    draw_t draw = draw_start(73, (uint64_t)dim);
    sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_EXACT_ROWWISE_ADAGRAD);
    model_t *model = model_create(&arena, &options, SBAG_F32, 1, dim, 1);
    float *grad = arena_alloc(&arena, dim, sizeof(float)), lane[8] = {0};
    draw_values(&draw, SBAG_F32, dim, 3, grad, NULL);
    for (int64_t i = 0; i < dim; i++) lane[i & 7] += grad[i] * grad[i];
    float left = (lane[0] + lane[4]) + (lane[2] + lane[6]), right = (lane[1] + lane[5]) + (lane[3] + lane[7]);
    model_update(&arena, model, 1, 0.1, 1, (int64_t[]){1}, grad, 1);
    float expected = (left + right) / (float)dim, got = *(float *)model->at.states[0];
    ck_assert_msg(memcmp(&expected, &got, sizeof got) == 0, "dim %lld: %.9g is not %.9g", (long long)dim,
                  (double)got, (double)expected);
    arena_free(&arena);
  }
}
END_TEST

START_TEST(test_scale_then_clip) {
  arena_t arena = {0};
  sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_EXACT_SGD);
  options.clip_value = 0.5;
  model_t *model = model_create(&arena, &options, SBAG_F64, 1, 4, 1);
  double *weight = model->at.weight;
  model_update(&arena, model, 1, 1, 0.25, (int64_t[]){1}, (double[]){1, 4, -4, NAN}, 1);
  ck_assert_double_eq(weight[0], -0.25);
  ck_assert_double_eq(weight[1], -0.5);
  ck_assert_double_eq(weight[2], 0.5);
  ck_assert_double_nan(weight[3]); /* as torch.clamp */
  arena_free(&arena);
}
END_TEST

START_TEST(test_skipped_rows_stay) {
  arena_t arena = {0};
  sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_EXACT_ADAGRAD);
  model_t *model = model_create(&arena, &options, SBAG_F64, 3, 1, 1);
  model_update(&arena, model, 1, 1, 1, (int64_t[]){2, 0, 1}, (double[]){1, 1, 1}, 0);
  double *weight = model->at.weight, *state = model->at.states[0];
  ck_assert(weight[0] < 0 && weight[2] < 0 && weight[1] == 0);
  ck_assert(state[0] == 1 && state[2] == 1 && state[1] == 0);
  arena_free(&arena);
}
END_TEST

/* FBGEMM's length ratios are 0 / 0 where nothing points anywhere; the row must stay. */
START_TEST(test_zero_direction) {
  static const sbag_optimizer_t KINDS[] = {SBAG_OPT_LAMB, SBAG_OPT_PARTIAL_ROWWISE_LAMB, SBAG_OPT_LARS_SGD};
  for (int k = 0; k < 3; k++) {
    arena_t arena = {0};
    sbag_optimizer_options_t options = sbag_optimizer_options_default(KINDS[k]);
    model_t *model = model_create(&arena, &options, SBAG_F32, 1, 2, 1);
    float *weight = model->at.weight;
    weight[0] = 3;
    weight[1] = 4;
    model_update(&arena, model, 1, 1, 1, (int64_t[]){1}, (float[]){0, 0}, 1);
    ck_assert_msg(weight[0] == 3 && weight[1] == 4, "%s moved a row without a gradient",
                  sbag_optimizer_name(KINDS[k]));
    arena_free(&arena);
  }
}
END_TEST

/* ---- every instruction set and number of threads ---- */

enum { MANY_ROWS = 600, MANY = 400, HOT_TERMS = 2 * REDUCE_BLOCK + 900 };

/* A table with enough to do for several threads. */
typedef struct many {
  optimizer_rows_t at;
  optimizer_info_t info;
  int64_t rows[MANY];
  int32_t last_step[MANY_ROWS];
  double lr_log[OPTIMIZER_LR_LOG];
} many_t;

static many_t *many_create(arena_t *arena, draw_t draw, const sbag_optimizer_options_t *options,
                           sbag_dtype_t dtype, int64_t dim) {
  many_t *many = arena_alloc(arena, 1, sizeof *many);
  many->info = optimizer_info(options);
  many->at = (optimizer_rows_t){.options = options, .dtype = dtype, .dim = dim, .lr_log = many->lr_log};
  many->at.weight = arena_alloc(arena, MANY_ROWS * dim, value_bytes(dtype));
  draw_values(&draw, dtype, MANY_ROWS * dim, 1, many->at.weight, NULL);
  for (int s = 0; s < many->info.state_count; s++) {
    const int64_t count = many->info.states[s].row_wise ? MANY_ROWS : MANY_ROWS * dim;
    many->at.states[s] = arena_alloc(arena, count, value_bytes(dtype));
    for (int64_t i = 0; i < count; i++) value_set(many->at.states[s], dtype, i, many->info.states[s].initial);
  }
  if (many->info.moves_untouched) many->at.last_step = many->last_step;
  for (int64_t i = 0; i < MANY; i++) many->rows[i] = i + i / 2;
  return many;
}

/* Segments of no terms, of a few, and one (in the middle) that threads share. */
static reduce_task_t many_sums(arena_t *arena, draw_t *draw, sbag_dtype_t dtype, int64_t dim) {
  enum { VECTORS = 23 };
  int64_t *begin = arena_ints(arena, MANY + 1);
  for (int64_t i = 0; i < MANY; i++)
    begin[i + 1] = begin[i] + (i == MANY / 2 ? HOT_TERMS : draw_below(draw, 7));
  const int64_t terms = begin[MANY];
  int64_t *term = arena_ints(arena, terms), *order = arena_ints(arena, terms);
  void *scale = arena_alloc(arena, terms, value_bytes(dtype));
  void *src = arena_alloc(arena, VECTORS * dim, value_bytes(dtype));
  draw_values(draw, dtype, VECTORS * dim, 0.1, src, NULL);
  draw_values(draw, dtype, terms, 1, scale, NULL);
  for (int64_t i = 0; i < terms; i++) {
    term[i] = draw_below(draw, VECTORS);
    order[i] = terms - 1 - i;
  }
  reduce_task_t task = {.op = REDUCE_SUM,
                        .dim = dim,
                        .segment_end = MANY,
                        .begin = begin,
                        .order = draw_one_in(draw, 2) ? order : NULL,
                        .term = term,
                        .stride = dim,
                        .src = src,
                        .scale = draw_one_in(draw, 2) ? scale : NULL,
                        .out_stride = dim};
  if (!draw_one_in(draw, 3)) return task;
  int64_t *select = arena_ints(arena, terms), *at = arena_ints(arena, terms);
  int64_t *winner = arena_ints(arena, VECTORS * dim);
  for (int64_t i = 0; i < terms; i++) select[i] = draw_between(draw, -1, 2), at[i] = term[i] * dim;
  for (int64_t i = 0; i < VECTORS * dim; i++) winner[i] = draw_between(draw, -1, 2);
  task.select = select;
  task.select_at = at;
  task.winner = winner;
  return task;
}

static void many_step(const kernel_t *k, many_t *many, int64_t step, const reduce_task_t *sums, int fused) {
  optimizer_update_t update = {.at = many->at,
                               .step = step,
                               .lr = 0.05,
                               .grad_scale = step == 2 ? 0.5 : 1,
                               .count = MANY,
                               .rows = many->rows};
  many->lr_log[step - 1] = 0.05;
  if (fused) {
    reduce_task_t task = *sums;
    task.out = NULL;
    ck_assert(k->ops->sums_in_registers);
    k->ops->update_sums((kernel_t *)k, NULL, &update, &task, 1);
  } else {
    k->ops->reduce((kernel_t *)k, NULL, many->at.dtype, sums, 1);
    update.touched = sums->begin;
    update.grad = sums->out;
    k->ops->update((kernel_t *)k, NULL, &update);
  }
}

static void many_same(const many_t *a, const many_t *b, int kind) {
  const size_t size = value_bytes(a->at.dtype), row = (size_t)a->at.dim * size;
  ck_assert_msg(memcmp(a->at.weight, b->at.weight, MANY_ROWS * row) == 0, "%s, %lld columns: weights differ",
                sbag_optimizer_name((sbag_optimizer_t)kind), (long long)a->at.dim);
  for (int s = 0; s < a->info.state_count; s++)
    ck_assert_msg(
        memcmp(a->at.states[s], b->at.states[s], MANY_ROWS * (a->info.states[s].row_wise ? size : row)) == 0,
        "%s, %lld columns: states differ", sbag_optimizer_name((sbag_optimizer_t)kind), (long long)a->at.dim);
  ck_assert_mem_eq(a->last_step, b->last_step, sizeof a->last_step);
}

/* Sums in the same pass, and by themselves, against the scalar kernel's with one thread, bit for bit. */
START_TEST(test_kernels_agree) {
  static const int64_t dims[] = {1, 3, 8, 13, 16, 37, 64, 130, 300, 530};
  kernel_case_t plain, c;
  kernel_case_open(&plain, 0);
  kernel_case_open(&c, _i);
  for (int kind = 0; kind < SBAG_OPT_COUNT; kind++)
    for (uint64_t number = 0; number < 4; number++) {
      arena_t arena = {0};
      draw_t draw = draw_start(75, (uint64_t)kind * 4 + number);
      const sbag_optimizer_options_t options = draw_options(&draw, (sbag_optimizer_t)kind);
      const sbag_dtype_t dtype = number == 3 ? SBAG_F64 : SBAG_F32;
      const int64_t dim = dims[draw_below(&draw, 10)];
      many_t *expected = many_create(&arena, draw, &options, dtype, dim);
      many_t *fused = many_create(&arena, draw, &options, dtype, dim);
      many_t *given = many_create(&arena, draw, &options, dtype, dim);
      for (int64_t step = 1; step <= 3; step++) {
        reduce_task_t sums = many_sums(&arena, &draw, dtype, dim);
        sums.out = arena_alloc(&arena, MANY * dim, value_bytes(dtype));
        many_step(plain.kernel, expected, step, &sums, 0);
        many_step(c.kernel, fused, step, &sums, 1);
        many_step(c.kernel, given, step, &sums, 0);
      }
      if (expected->at.last_step != NULL) {
        plain.ops->catch_up(plain.kernel, NULL, &expected->at, 3, MANY_ROWS, NULL);
        c.ops->catch_up(c.kernel, NULL, &fused->at, 3, MANY_ROWS, NULL);
        c.ops->catch_up(c.kernel, NULL, &given->at, 3, MANY_ROWS, NULL);
      }
      many_same(expected, fused, kind);
      many_same(expected, given, kind);
      arena_free(&arena);
    }
  kernel_case_close(&c);
  kernel_case_close(&plain);
}
END_TEST

/* Blocks of one row, of several, and a row's last that is not full; more than one thread's share. */
START_TEST(test_initial_values_agree) {
  static const int64_t dims[] = {1, 2, 3, 5, 16, 31, 32, 64, 70};
  kernel_case_t plain, c;
  kernel_case_open(&plain, 0);
  kernel_case_open(&c, _i);
  for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
    for (int kind = SBAG_INIT_NORMAL; kind <= SBAG_INIT_CONSTANT; kind++) {
      arena_t arena = {0};
      const sbag_dtype_t dtype = d % 2 == 0 ? SBAG_F32 : SBAG_F64;
      const int64_t dim = dims[d], rows = (dim == 64 ? 140000 : 1000) / dim;
      const plan_table_t plan = {
          .rows = 2 * rows, .layout = SBAG_LAYOUT_BLOCK, .shard_count = 2, .block_rows = rows};
      const int64_t zero = rows + rows / 2;
      init_task_t task = {.plan = &plan,
                          .shard = 1,
                          .rows = rows,
                          .dim = dim,
                          .kind = (sbag_init_t)kind,
                          .a = -0.25,
                          .b = 1.5,
                          .key = random_key(3, "agree"),
                          .zero_rows = &zero,
                          .zero_count = 1};
      const size_t bytes = (size_t)(rows * dim) * value_bytes(dtype);
      void *expected = task.weight = arena_alloc(&arena, rows * dim, value_bytes(dtype));
      plain.ops->init(plain.kernel, NULL, dtype, &task);
      void *got = task.weight = arena_alloc(&arena, rows * dim, value_bytes(dtype));
      c.ops->init(c.kernel, NULL, dtype, &task);
      ck_assert_msg(memcmp(expected, got, bytes) == 0, "kind %d, %lld columns", kind, (long long)dim);
      ck_assert(value_get(got, dtype, rows / 2 * dim) == 0 && value_get(got, dtype, rows / 2 * dim - 1) != 0);
      arena_free(&arena);
    }
  kernel_case_close(&c);
  kernel_case_close(&plain);
}
END_TEST

START_TEST(test_names) {
  sbag_optimizer_t kind;
  sbag_status_t status;
  for (int k = 0; k < SBAG_OPT_COUNT; k++) {
    char upper[64] = {0};
    const char *name = sbag_optimizer_name((sbag_optimizer_t)k);
    for (size_t i = 0; name[i] != '\0'; i++) upper[i] = (char)toupper((unsigned char)name[i]);
    ck_assert_int_eq(sbag_optimizer_from_name(name, &kind, &status), SBAG_OK);
    ck_assert_int_eq((int)kind, k);
    if (k == SBAG_OPT_ADAM) continue;
    ck_assert_int_eq(sbag_optimizer_from_name(upper, &kind, &status), SBAG_OK);
    ck_assert_int_eq((int)kind, k);
  }
  static const struct {
    const char *name;
    sbag_optimizer_t kind;
  } ALIASES[] = {{"ADAM", SBAG_OPT_FBGEMM_ADAM},
                 {"Adam", SBAG_OPT_ADAM},
                 {"SparseAdam", SBAG_OPT_SPARSE_ADAM},
                 {"ROWWISE_ADAGRAD", SBAG_OPT_EXACT_ROWWISE_ADAGRAD},
                 {"AdamW", SBAG_OPT_ADAMW},
                 {"ROWWISE_RMSPROP_AR", SBAG_OPT_ROWWISE_RMSPROP},
                 {"RMSprop", SBAG_OPT_RMSPROP}};
  for (size_t i = 0; i < sizeof ALIASES / sizeof ALIASES[0]; i++) {
    ck_assert_int_eq(sbag_optimizer_from_name(ALIASES[i].name, &kind, &status), SBAG_OK);
    ck_assert_int_eq((int)kind, (int)ALIASES[i].kind);
  }
  ck_assert_ptr_null(sbag_optimizer_name(SBAG_OPT_COUNT));
  ck_assert_int_eq(sbag_optimizer_from_name("sgdd", &kind, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "'sgdd'"));
  for (int k = 0; k < SBAG_OPT_COUNT; k++)
    ck_assert_ptr_nonnull(strstr(status.message, sbag_optimizer_name((sbag_optimizer_t)k)));
  ck_assert_int_eq(sbag_optimizer_from_name(NULL, &kind, &status), SBAG_ERR_ARGUMENT);
}
END_TEST

START_TEST(test_states_and_lagging) {
  sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_SGD);
  ck_assert_int_eq(optimizer_info(&options).state_count, 0);
  ck_assert_int_eq(optimizer_info(&options).moves_untouched, 0);
  options.weight_decay = 0.1;
  ck_assert_int_eq(optimizer_info(&options).moves_untouched, 1);
  options.momentum = 0.9;
  ck_assert_str_eq(optimizer_info(&options).states[0].name, "momentum_buffer");
  options = sbag_optimizer_options_default(SBAG_OPT_ADAGRAD);
  options.initial_accumulator_value = 0.25;
  ck_assert_double_eq(optimizer_info(&options).states[0].initial, 0.25);
  ck_assert_int_eq(optimizer_info(&options).moves_untouched, 0);
  options.weight_decay = 0.1;
  ck_assert_int_eq(optimizer_info(&options).moves_untouched, 1);
  for (int k = 0; k < SBAG_OPT_COUNT; k++) {
    options = sbag_optimizer_options_default((sbag_optimizer_t)k);
    int dense = k == SBAG_OPT_ADAM || k == SBAG_OPT_ADAMW || k == SBAG_OPT_RMSPROP;
    ck_assert_int_eq(optimizer_info(&options).moves_untouched, dense);
  }
  options = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  options.amsgrad = 1;
  ck_assert_str_eq(optimizer_info(&options).states[2].name, "max_exp_avg_sq");
  options = sbag_optimizer_options_default(SBAG_OPT_PARTIAL_ROWWISE_ADAM);
  ck_assert_int_eq(optimizer_info(&options).states[0].row_wise, 0);
  ck_assert_int_eq(optimizer_info(&options).states[1].row_wise, 1);
}
END_TEST

/* Fails unless the options are refused with a message that starts so. */
static void refuses(sbag_optimizer_options_t options, const char *message) {
  sbag_status_t status;
  ck_assert_msg(optimizer_check(&options, "table 'a'", &status) == SBAG_ERR_ARGUMENT, "accepted: %s",
                message);
  ck_assert_msg(strncmp(status.message, message, strlen(message)) == 0, "'%s' is not '%s'", status.message,
                message);
}

#define REFUSES(kind_, message, ...)                                                                         \
  do {                                                                                                       \
    sbag_optimizer_options_t o = sbag_optimizer_options_default(kind_);                                      \
    __VA_ARGS__;                                                                                             \
    refuses(o, "table 'a': " message);                                                                       \
  } while (0)

START_TEST(test_refused_numbers) {
  for (int k = 0; k < SBAG_OPT_COUNT; k++) {
    sbag_optimizer_options_t options = sbag_optimizer_options_default((sbag_optimizer_t)k);
    sbag_status_t status;
    ck_assert_int_eq((int)options.kind, k);
    ck_assert_msg(optimizer_check(&options, "x", &status) == SBAG_OK, "%s", status.message);
  }
  REFUSES(SBAG_OPT_SGD, "sgd: momentum -1 is below 0", o.momentum = -1);
  REFUSES(SBAG_OPT_SGD, "sgd: lr -0.1 is below 0", o.lr = -0.1);
  REFUSES(SBAG_OPT_LAMB, "lamb: lr is nan, not a finite number", o.lr = NAN);
  REFUSES(SBAG_OPT_SGD, "sgd: eta is inf, not a finite number", o.eta = INFINITY);
  REFUSES(SBAG_OPT_ADAM, "adam: beta1 1 is not below 1", o.beta1 = 1);
  REFUSES(SBAG_OPT_LAMB, "lamb: beta2 -0.5 is below 0", o.beta2 = -0.5);
  REFUSES(SBAG_OPT_ADAGRAD, "adagrad: eps -1 is below 0", o.eps = -1);
  REFUSES(SBAG_OPT_RMSPROP, "rmsprop: alpha 1.5 is not at most 1", o.alpha = 1.5);
  REFUSES(SBAG_OPT_EXACT_SGD, "exact_sgd: clip_value -2 is below 0", o.clip_value = -2);
  REFUSES(SBAG_OPT_ADAGRAD, "adagrad: lr_decay -1 is below 0", o.lr_decay = -1);
  REFUSES(SBAG_OPT_ADAGRAD, "adagrad: initial_accumulator_value -1 is below 0",
          o.initial_accumulator_value = -1);
  REFUSES(SBAG_OPT_ROWWISE_RMSPROP, "rowwise_rmsprop: min_shrinkage 2 is not at most 1", o.min_shrinkage = 2);
  REFUSES((sbag_optimizer_t)SBAG_OPT_COUNT, "optimizer kind 15 is unknown", (void)o);
}
END_TEST

START_TEST(test_refused_combinations) {
  REFUSES(SBAG_OPT_SPARSE_ADAM,
          "sparse_adam has no weight_decay (given: 0.1): only sgd, adagrad, adam, adamw, ",
          o.weight_decay = 0.1);
  REFUSES(SBAG_OPT_ADAM, "adam has no momentum (given: 0.9): only sgd, rmsprop, lars_sgd", o.momentum = 0.9);
  REFUSES(SBAG_OPT_SPARSE_ADAM, "sparse_adam has no amsgrad: only adam, adamw", o.amsgrad = 1);
  REFUSES(SBAG_OPT_LAMB, "lamb has no maximize: only sgd, adagrad, ", o.maximize = 1);
  REFUSES(SBAG_OPT_SGD, "sgd has no centered: only rmsprop", o.centered = 1);
  REFUSES(SBAG_OPT_SGD, "sgd: nesterov is 2, neither 0 nor 1", o.nesterov = 2);
  REFUSES(SBAG_OPT_SGD, "sgd: nesterov needs momentum above 0", o.nesterov = 1);
  REFUSES(SBAG_OPT_SGD, "sgd: nesterov needs momentum above 0 and dampening 0 (given: 0.9 and 0.1)",
          o.nesterov = 1, o.momentum = 0.9, o.dampening = 0.1);
  REFUSES(SBAG_OPT_SGD, "sgd has no weight_decay_mode (given: 1)", o.weight_decay_mode = SBAG_DECAY_L2);
  REFUSES(SBAG_OPT_EXACT_ROWWISE_ADAGRAD, "exact_rowwise_adagrad: weight_decay_mode 3 is unknown",
          o.weight_decay_mode = (sbag_weight_decay_t)3);
  REFUSES(SBAG_OPT_EXACT_ROWWISE_ADAGRAD, "exact_rowwise_adagrad: weight_decay 0.1 needs weight_decay_mode",
          o.weight_decay = 0.1);
}
END_TEST

Suite *optimizer_suite(void);

Suite *optimizer_suite(void) {
  Suite *suite = suite_create("optimizer");
  TCase *update = tcase_create("update"), *lag = tcase_create("lag"), *options = tcase_create("options");
  tcase_set_timeout(lag, 60);
  tcase_add_loop_test(update, test_oracle, 0, SBAG_OPT_COUNT);
  tcase_add_test(update, test_lane_tree);
  tcase_add_test(update, test_scale_then_clip);
  tcase_add_test(update, test_skipped_rows_stay);
  tcase_add_test(update, test_zero_direction);
  tcase_set_timeout(update, 60);
  tcase_add_loop_test(update, test_kernels_agree, 0, kernel_case_count());
  tcase_add_loop_test(update, test_initial_values_agree, 0, kernel_case_count());
  tcase_add_loop_test(lag, test_lag_is_every_step, 0, LAGGING_COUNT);
  tcase_add_loop_test(lag, test_long_lag_is_every_step, 0, LAGGING_COUNT);
  tcase_add_test(lag, test_shrinking_outruns_momentum);
  tcase_add_test(options, test_names);
  tcase_add_test(options, test_states_and_lagging);
  tcase_add_test(options, test_refused_numbers);
  tcase_add_test(options, test_refused_combinations);
  suite_add_tcase(suite, update);
  suite_add_tcase(suite, lag);
  suite_add_tcase(suite, options);
  return suite;
}
