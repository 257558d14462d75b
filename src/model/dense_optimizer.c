/* The formulas of torch 2: torch/optim/{sgd,adagrad,adam}.py, single-tensor versions, in float. */
#include "model/dense_optimizer.h"

#include <math.h>
#include <stddef.h>

sbag_code_t dense_optimizer_check(const sbag_optimizer_options_t *o, sbag_status_t *status) {
  const char *name = sbag_optimizer_name(o->kind);
  if (o->kind != SBAG_OPT_SGD && o->kind != SBAG_OPT_ADAGRAD && o->kind != SBAG_OPT_ADAM)
    return status_set(status, SBAG_ERR_UNSUPPORTED,
                      "dense optimizer: %s is for tables only; dense layers take sgd, adagrad or adam",
                      name == NULL ? "an unknown kind" : name);
  if (!(o->lr >= 0.0 && isfinite(o->lr)))
    return status_set(status, SBAG_ERR_ARGUMENT, "dense optimizer: lr is %g; it must be 0 or more", o->lr);
  if (!(o->weight_decay >= 0.0) || !(o->eps >= 0.0) || !(o->clip_value >= 0.0) || !(o->lr_decay >= 0.0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "dense optimizer: weight_decay %g, eps %g, lr_decay %g and clip_value %g must be 0 or "
                      "more",
                      o->weight_decay, o->eps, o->lr_decay, o->clip_value);
  if (o->kind == SBAG_OPT_SGD) {
    if (!(o->momentum >= 0.0))
      return status_set(status, SBAG_ERR_ARGUMENT, "dense optimizer: sgd: momentum %g is below 0",
                        o->momentum);
    if (o->nesterov && !(o->momentum > 0.0 && o->dampening == 0.0))
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "dense optimizer: sgd: nesterov needs a momentum above 0 and dampening 0");
  }
  if (o->kind == SBAG_OPT_ADAGRAD && !(o->initial_accumulator_value >= 0.0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "dense optimizer: adagrad: initial_accumulator_value %g is below 0",
                      o->initial_accumulator_value);
  if (o->kind == SBAG_OPT_ADAM && !(o->beta1 >= 0.0 && o->beta1 < 1.0 && o->beta2 >= 0.0 && o->beta2 < 1.0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "dense optimizer: adam: beta1 %g and beta2 %g must be in [0, 1)", o->beta1, o->beta2);
  return SBAG_OK;
}

dense_optimizer_info_t dense_optimizer_info(const sbag_optimizer_options_t *options) {
  switch (options->kind) {
  case SBAG_OPT_SGD:
    return (dense_optimizer_info_t){.state_count = options->momentum != 0.0, .name = {"momentum_buffer"}};
  case SBAG_OPT_ADAGRAD:
    return (dense_optimizer_info_t){
        .state_count = 1, .name = {"sum"}, .initial = {options->initial_accumulator_value}};
  case SBAG_OPT_ADAM:
    return (dense_optimizer_info_t){.state_count = options->amsgrad ? 3 : 2,
                                    .name = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}};
  default:
    return (dense_optimizer_info_t){.state_count = 0};
  }
}

/* What happens to a gradient before the optimizer proper sees it, the same for all three. */
typedef struct intake {
  float scale, clip, decay;
} intake_t;

static inline float take(const intake_t *intake, float grad, float weight) {
  float g = grad * intake->scale;
  g = g > intake->clip ? intake->clip : g;
  g = g < -intake->clip ? -intake->clip : g;
  return g + intake->decay * weight;
}

/* torch turns the gradient for maximize before it adds the decay; clamping is symmetric, so the sign can ride
 * on the scale. */
static intake_t intake_of(const dense_optimizer_update_t *u) {
  return (intake_t){.scale = (float)(u->options->maximize ? -u->grad_scale : u->grad_scale),
                    .clip = u->clip_value > 0.0 ? (float)u->clip_value : INFINITY,
                    .decay = (float)u->options->weight_decay};
}

static void sgd_plain(const dense_optimizer_update_t *u) {
  const intake_t intake = intake_of(u);
  const float lr = (float)u->lr;
  const float *restrict grad = u->grad;
  float *restrict weight = u->weight;
  for (int64_t i = 0; i < u->count; i++) weight[i] -= lr * take(&intake, grad[i], weight[i]);
}

/* torch starts the buffer as the first gradient itself, without dampening. */
static void sgd_momentum(const dense_optimizer_update_t *u) {
  const intake_t intake = intake_of(u);
  const float lr = (float)u->lr, momentum = (float)u->options->momentum;
  const float keep = u->step == 1 ? 0.0f : momentum;
  const float add = u->step == 1 ? 1.0f : (float)(1.0 - u->options->dampening);
  const float *restrict grad = u->grad;
  float *restrict weight = u->weight, *restrict buffer = u->states[0];
  const int nesterov = u->options->nesterov;
  for (int64_t i = 0; i < u->count; i++) {
    float g = take(&intake, grad[i], weight[i]);
    buffer[i] = keep * buffer[i] + add * g;
    weight[i] -= lr * (nesterov ? g + momentum * buffer[i] : buffer[i]);
  }
}

static void adagrad(const dense_optimizer_update_t *u) {
  const intake_t intake = intake_of(u);
  const float lr = (float)(u->lr / (1.0 + (double)(u->step - 1) * u->options->lr_decay));
  const float eps = (float)u->options->eps;
  const float *restrict grad = u->grad;
  float *restrict weight = u->weight, *restrict sum = u->states[0];
  for (int64_t i = 0; i < u->count; i++) {
    float g = take(&intake, grad[i], weight[i]);
    sum[i] += g * g;
    weight[i] -= lr * (g / (sqrtf(sum[i]) + eps));
  }
}

/* base^n by squaring: pow() picks other code by processor, and its last bit with it. */
static double power(double base, int64_t n) {
  double result = 1.0;
  for (; n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

static void adam(const dense_optimizer_update_t *u) {
  const sbag_optimizer_options_t *o = u->options;
  const intake_t intake = intake_of(u);
  const float step_size = (float)(u->lr / (1.0 - power(o->beta1, u->step)));
  const float root = (float)sqrt(1.0 - power(o->beta2, u->step));
  const float add1 = (float)(1.0 - o->beta1), keep2 = (float)o->beta2, add2 = (float)(1.0 - o->beta2);
  const float eps = (float)o->eps;
  const float *restrict grad = u->grad;
  float *restrict weight = u->weight, *restrict m = u->states[0], *restrict v = u->states[1];
  float *restrict v_max = u->states[2];
  for (int64_t i = 0; i < u->count; i++) {
    float g = take(&intake, grad[i], weight[i]);
    m[i] += (g - m[i]) * add1;
    v[i] = v[i] * keep2 + add2 * (g * g);
    float second = v[i];
    if (o->amsgrad) second = v_max[i] = v_max[i] > v[i] ? v_max[i] : v[i];
    weight[i] -= step_size * (m[i] / (sqrtf(second) / root + eps));
  }
}

void dense_optimizer_update(const dense_optimizer_update_t *update) {
  if (update->options->kind == SBAG_OPT_ADAGRAD)
    adagrad(update);
  else if (update->options->kind == SBAG_OPT_ADAM)
    adam(update);
  else if (update->options->momentum != 0.0)
    sgd_momentum(update);
  else
    sgd_plain(update);
}
