/* The optimizers' definitions in float64, one row at a time: torch.optim's single-tensor algorithms, and
 * FBGEMM's update formulas for the fused ones. See oracle.h. */
#include "oracle.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* One row on its way through an update. */
typedef struct row {
  const sbag_optimizer_options_t *options;
  int64_t dim;
  double step, lr;
  double *weight, *grad; /* [dim]; grad is a copy that may be written */
  double *state[ORACLE_STATES_MAX];
} row_t;

static void add_state(arena_t *arena, oracle_optimizer_t *optimizer, const char *name, int64_t rows,
                      int64_t width, double initial) {
  oracle_state_t *state = &optimizer->states[optimizer->state_count++];
  *state = (oracle_state_t){name, width, arena_doubles(arena, rows * width)};
  for (int64_t i = 0; i < rows * width; i++) state->values[i] = initial;
}

static void add_torch_states(arena_t *arena, oracle_optimizer_t *at, int64_t rows, int64_t dim) {
  const sbag_optimizer_options_t *options = &at->options;
  switch (options->kind) {
  case SBAG_OPT_SGD:
    if (options->momentum != 0) add_state(arena, at, "momentum_buffer", rows, dim, 0);
    break;
  case SBAG_OPT_ADAGRAD:
    add_state(arena, at, "sum", rows, dim, options->initial_accumulator_value);
    break;
  case SBAG_OPT_ADAM:
  case SBAG_OPT_ADAMW:
  case SBAG_OPT_SPARSE_ADAM:
    add_state(arena, at, "exp_avg", rows, dim, 0);
    add_state(arena, at, "exp_avg_sq", rows, dim, 0);
    if (options->amsgrad && options->kind != SBAG_OPT_SPARSE_ADAM)
      add_state(arena, at, "max_exp_avg_sq", rows, dim, 0);
    break;
  case SBAG_OPT_RMSPROP:
    add_state(arena, at, "square_avg", rows, dim, 0);
    if (options->centered) add_state(arena, at, "grad_avg", rows, dim, 0);
    if (options->momentum != 0) add_state(arena, at, "momentum_buffer", rows, dim, 0);
    break;
  default:
    break;
  }
}

oracle_optimizer_t oracle_optimizer_create(arena_t *arena, const sbag_optimizer_options_t *options,
                                           int64_t rows, int64_t dim) {
  oracle_optimizer_t at = {.options = *options};
  double initial = options->initial_accumulator_value;
  add_torch_states(arena, &at, rows, dim);
  switch (options->kind) {
  case SBAG_OPT_EXACT_ADAGRAD:
    add_state(arena, &at, "momentum1", rows, dim, initial);
    break;
  case SBAG_OPT_EXACT_ROWWISE_ADAGRAD:
    add_state(arena, &at, "momentum1", rows, 1, initial);
    break;
  case SBAG_OPT_FBGEMM_ADAM:
  case SBAG_OPT_LAMB:
    add_state(arena, &at, "momentum1", rows, dim, 0);
    add_state(arena, &at, "momentum2", rows, dim, 0);
    break;
  case SBAG_OPT_PARTIAL_ROWWISE_ADAM:
  case SBAG_OPT_PARTIAL_ROWWISE_LAMB:
    add_state(arena, &at, "momentum1", rows, dim, 0);
    add_state(arena, &at, "momentum2", rows, 1, 0);
    break;
  case SBAG_OPT_LARS_SGD:
    add_state(arena, &at, "momentum1", rows, dim, 0);
    break;
  case SBAG_OPT_ROWWISE_RMSPROP:
    add_state(arena, &at, "momentum1", rows, 1, 0);
    add_state(arena, &at, "prev_iter", rows, 1, 0);
    break;
  default:
    break;
  }
  return at;
}

double *oracle_optimizer_state(oracle_optimizer_t *optimizer, const char *name) {
  for (int i = 0; i < optimizer->state_count; i++)
    if (strcmp(optimizer->states[i].name, name) == 0) return optimizer->states[i].values;
  return NULL;
}

/* torch.optim ------------------------------------------------------------------------------------------ */

/* maximize turns the gradient round, then coupled decay is added: in this order. */
static void torch_gradient(const row_t *row, int coupled) {
  for (int64_t d = 0; d < row->dim; d++) {
    if (row->options->maximize) row->grad[d] = -row->grad[d];
    if (coupled) row->grad[d] += row->options->weight_decay * row->weight[d];
  }
}

static void sgd(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  torch_gradient(row, 1);
  for (int64_t d = 0; d < row->dim; d++) {
    double direction = row->grad[d];
    if (options->momentum != 0) {
      double *buffer = &row->state[0][d];
      /* torch's buffer begins as the first gradient, undampened. */
      double part = row->step == 1 ? 1 : 1 - options->dampening;
      *buffer = options->momentum * *buffer + part * row->grad[d];
      direction = options->nesterov ? row->grad[d] + options->momentum * *buffer : *buffer;
    }
    row->weight[d] -= row->lr * direction;
  }
}

static void adagrad(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  double lr = row->lr / (1 + (row->step - 1) * options->lr_decay);
  torch_gradient(row, 1);
  for (int64_t d = 0; d < row->dim; d++) {
    row->state[0][d] += row->grad[d] * row->grad[d];
    row->weight[d] -= lr * row->grad[d] / (sqrt(row->state[0][d]) + options->eps);
  }
}

static void adam(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  int decoupled = options->kind == SBAG_OPT_ADAMW;
  double correction1 = 1 - pow(options->beta1, row->step), correction2 = 1 - pow(options->beta2, row->step);
  torch_gradient(row, !decoupled);
  for (int64_t d = 0; d < row->dim; d++) {
    double g = row->grad[d], *mean = &row->state[0][d], *square = &row->state[1][d], second;
    if (decoupled) row->weight[d] *= 1 - row->lr * options->weight_decay;
    *mean = options->beta1 * *mean + (1 - options->beta1) * g;
    *square = options->beta2 * *square + (1 - options->beta2) * g * g;
    second = *square;
    if (options->amsgrad) second = row->state[2][d] = fmax(row->state[2][d], *square);
    row->weight[d] -= row->lr / correction1 * *mean / (sqrt(second) / sqrt(correction2) + options->eps);
  }
}

static void sparse_adam(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  double correction1 = 1 - pow(options->beta1, row->step), correction2 = 1 - pow(options->beta2, row->step);
  torch_gradient(row, 0);
  for (int64_t d = 0; d < row->dim; d++) {
    double g = row->grad[d], *mean = &row->state[0][d], *square = &row->state[1][d];
    *mean += (1 - options->beta1) * (g - *mean);
    *square += (1 - options->beta2) * (g * g - *square);
    row->weight[d] -= row->lr * sqrt(correction2) / correction1 * *mean / (sqrt(*square) + options->eps);
  }
}

static void rmsprop(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  double *centre = options->centered ? row->state[1] : NULL;
  double *buffer = options->momentum == 0 ? NULL : row->state[options->centered ? 2 : 1];
  torch_gradient(row, 1);
  for (int64_t d = 0; d < row->dim; d++) {
    double g = row->grad[d], *square = &row->state[0][d], variance;
    *square = options->alpha * *square + (1 - options->alpha) * g * g;
    variance = *square;
    if (centre != NULL) {
      centre[d] = options->alpha * centre[d] + (1 - options->alpha) * g;
      variance -= centre[d] * centre[d];
    }
    double direction = g / (sqrt(variance) + options->eps);
    if (buffer != NULL) direction = buffer[d] = options->momentum * buffer[d] + direction;
    row->weight[d] -= row->lr * direction;
  }
}

/* FBGEMM. Where its LAMB or LARS would divide zero by zero, the step is zero here. */

static double sum_of_squares(const double *values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += values[i] * values[i];
  return sum;
}

static void exact_sgd(const row_t *row) {
  for (int64_t d = 0; d < row->dim; d++) row->weight[d] -= row->lr * row->grad[d];
}

static void exact_adagrad(const row_t *row) {
  for (int64_t d = 0; d < row->dim; d++) {
    row->state[0][d] += row->grad[d] * row->grad[d];
    row->weight[d] -= row->lr * row->grad[d] / (sqrt(row->state[0][d]) + row->options->eps);
  }
}

static void exact_rowwise_adagrad(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  double squares = 0, decay = options->weight_decay, correction = 1;
  for (int64_t d = 0; d < row->dim; d++) {
    double g = row->grad[d];
    if (options->weight_decay_mode == SBAG_DECAY_L2) g += decay * row->weight[d];
    squares += g * g;
  }
  *row->state[0] += squares / (double)row->dim;
  double multiplier = row->lr / (sqrt(*row->state[0]) + options->eps);
  if (options->weight_decay_mode == SBAG_DECAY_L2) correction = 1 - multiplier * decay;
  if (options->weight_decay_mode == SBAG_DECAY_DECOUPLED) correction = 1 - row->lr * decay;
  for (int64_t d = 0; d < row->dim; d++)
    row->weight[d] = correction * row->weight[d] - multiplier * row->grad[d];
}

/* The direction of FBGEMM's Adams and LAMBs at one column; moves the moments. */
static double fbgemm_direction(const row_t *row, int64_t d, int row_wise) {
  const sbag_optimizer_options_t *options = row->options;
  double g = row->grad[d], *first = &row->state[0][d], *second = row->state[1] + (row_wise ? 0 : d);
  *first = options->beta1 * *first + (1 - options->beta1) * g;
  if (!row_wise) *second = options->beta2 * *second + (1 - options->beta2) * g * g;
  double first_hat = *first / (1 - pow(options->beta1, row->step));
  double second_hat = *second / (1 - pow(options->beta2, row->step));
  return first_hat / (sqrt(second_hat) + options->eps) + options->weight_decay * row->weight[d];
}

static void fbgemm_adam_or_lamb(const row_t *row, int row_wise, int lamb) {
  const sbag_optimizer_options_t *options = row->options;
  double ratio = 1;
  if (row_wise)
    *row->state[1] = options->beta2 * *row->state[1] +
                     (1 - options->beta2) * sum_of_squares(row->grad, row->dim) / (double)row->dim;
  /* The gradient's place takes the direction. */
  for (int64_t d = 0; d < row->dim; d++) row->grad[d] = fbgemm_direction(row, d, row_wise);
  double length = sqrt(sum_of_squares(row->grad, row->dim));
  if (lamb) ratio = length == 0 ? 0 : sqrt(sum_of_squares(row->weight, row->dim)) / length;
  for (int64_t d = 0; d < row->dim; d++) row->weight[d] -= row->lr * ratio * row->grad[d];
}

static void lars_sgd(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  double weight_norm = sqrt(sum_of_squares(row->weight, row->dim));
  double grad_norm = sqrt(sum_of_squares(row->grad, row->dim));
  double length = grad_norm + options->weight_decay * weight_norm;
  double lr = length == 0 ? 0 : row->lr * options->eta * weight_norm / length;
  for (int64_t d = 0; d < row->dim; d++) {
    double g = row->grad[d] + options->weight_decay * row->weight[d];
    row->state[0][d] = options->momentum * row->state[0][d] + lr * g;
    row->weight[d] -= row->state[0][d];
  }
}

static void rowwise_rmsprop(const row_t *row) {
  const sbag_optimizer_options_t *options = row->options;
  double squares = sum_of_squares(row->grad, row->dim) / (double)row->dim;
  double idle = *row->state[1] == 0 ? 1 : row->step - *row->state[1];
  double shrinkage = fmax(1 - idle * row->lr * options->ar_alpha, options->min_shrinkage);
  *row->state[0] = options->ema_beta * *row->state[0] + (1 - options->ema_beta) * squares;
  *row->state[1] = row->step;
  for (int64_t d = 0; d < row->dim; d++)
    row->weight[d] =
        shrinkage * row->weight[d] - row->lr * row->grad[d] / (sqrt(*row->state[0]) + options->eps);
}

static void update_row(const row_t *row) {
  switch (row->options->kind) {
  case SBAG_OPT_SGD:
    sgd(row);
    break;
  case SBAG_OPT_ADAGRAD:
    adagrad(row);
    break;
  case SBAG_OPT_ADAM:
  case SBAG_OPT_ADAMW:
    adam(row);
    break;
  case SBAG_OPT_SPARSE_ADAM:
    sparse_adam(row);
    break;
  case SBAG_OPT_RMSPROP:
    rmsprop(row);
    break;
  case SBAG_OPT_EXACT_SGD:
    exact_sgd(row);
    break;
  case SBAG_OPT_EXACT_ADAGRAD:
    exact_adagrad(row);
    break;
  case SBAG_OPT_EXACT_ROWWISE_ADAGRAD:
    exact_rowwise_adagrad(row);
    break;
  case SBAG_OPT_FBGEMM_ADAM:
    fbgemm_adam_or_lamb(row, 0, 0);
    break;
  case SBAG_OPT_PARTIAL_ROWWISE_ADAM:
    fbgemm_adam_or_lamb(row, 1, 0);
    break;
  case SBAG_OPT_LAMB:
    fbgemm_adam_or_lamb(row, 0, 1);
    break;
  case SBAG_OPT_PARTIAL_ROWWISE_LAMB:
    fbgemm_adam_or_lamb(row, 1, 1);
    break;
  case SBAG_OPT_LARS_SGD:
    lars_sgd(row);
    break;
  case SBAG_OPT_ROWWISE_RMSPROP:
    rowwise_rmsprop(row);
    break;
  case SBAG_OPT_COUNT:
    break;
  }
}

/* torch's dense optimizers see a zero gradient in rows that were not looked up; the others do not see them.
 */
static int moves_untouched(sbag_optimizer_t kind) {
  return kind == SBAG_OPT_SGD || kind == SBAG_OPT_ADAGRAD || kind == SBAG_OPT_ADAM ||
         kind == SBAG_OPT_ADAMW || kind == SBAG_OPT_RMSPROP;
}

void oracle_optimizer_update(oracle_optimizer_t *optimizer, const oracle_table_t *table, const double *grad,
                             const int64_t *touched, double lr, double grad_scale) {
  arena_t arena = {0};
  int64_t dim = table->dim;
  double clip = optimizer->options.clip_value;
  row_t row = {.options = &optimizer->options, .dim = dim, .lr = lr, .grad = arena_doubles(&arena, dim)};
  row.step = (double)++optimizer->step;
  for (int64_t r = 0; r < table->rows; r++) {
    if (touched[r] == 0 && !moves_untouched(optimizer->options.kind)) continue;
    row.weight = table->weight + r * dim;
    for (int s = 0; s < optimizer->state_count; s++)
      row.state[s] = optimizer->states[s].values + r * optimizer->states[s].width;
    for (int64_t d = 0; d < dim; d++) {
      row.grad[d] = touched[r] == 0 ? 0 : grad[r * dim + d] * grad_scale;
      if (clip > 0) row.grad[d] = fmin(fmax(row.grad[d], -clip), clip);
    }
    update_row(&row);
  }
  arena_free(&arena);
}
