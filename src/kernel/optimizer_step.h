/* What one step multiplies with: what depends on the step alone, in double, the same bits on CPU and GPU. */
#ifndef KERNEL_OPTIMIZER_STEP_H
#define KERNEL_OPTIMIZER_STEP_H

#include "base/device.h"
#include "kernel/optimizer.h"
#include <math.h>
#include <stdint.h>

typedef struct step_values {
  int64_t step;
  double lr;           /* as scheduled */
  double rate;         /* what the direction is multiplied with: lr after decay or bias correction */
  double shrink;       /* adamw: 1 - lr weight_decay */
  double bias1, bias2; /* 1 - beta^step */
} step_values_t;

/* A number as high + low, low being below half of high's last bit. */
typedef struct step_pair {
  double high, low;
} step_pair_t;

/* a b of two pairs to about 104 bits, of basic operations alone: Dekker's product by Veltkamp's halves, which
 * no fused operation may touch. */
HOST_DEVICE static inline step_pair_t step_product(step_pair_t a, step_pair_t b) {
  const double split = 134217729; /* 2^27 + 1 */
  const double high = a.high * b.high;
  const double a1 = a.high * split - (a.high * split - a.high), a2 = a.high - a1;
  const double b1 = b.high * split - (b.high * split - b.high), b2 = b.high - b1;
  const double error = a2 * b2 - (high - a1 * b1 - a2 * b1 - a1 * b2);
  const double rest = error + (a.high * b.low + a.low * b.high);
  step_pair_t result;
  result.high = high + rest;
  result.low = rest - (result.high - high);
  return result;
}

/* base^step, base in [0, 1), as near as double goes. Not pow: libraries differ in its last bit, and a row
 * that a GPU catches up must be the CPU's. */
HOST_DEVICE static inline double step_power(double base, int64_t step) {
  step_pair_t power, factor;
  power.high = 1, power.low = 0;
  factor.high = base, factor.low = 0;
  for (; step > 0; step /= 2) {
    if (step % 2 == 1) power = step_product(power, factor);
    factor = step_product(factor, factor);
  }
  return power.high;
}

HOST_DEVICE static inline step_values_t step_values(const sbag_optimizer_options_t *options, int64_t step,
                                                    double lr) {
  step_values_t at;
  at.step = step;
  at.lr = at.rate = lr;
  at.shrink = at.bias1 = at.bias2 = 1;
  switch (options->kind) {
  case SBAG_OPT_ADAGRAD:
    at.rate = lr / (1 + (double)(step - 1) * options->lr_decay);
    return at;
  case SBAG_OPT_ADAM:
  case SBAG_OPT_ADAMW:
  case SBAG_OPT_SPARSE_ADAM:
  case SBAG_OPT_FBGEMM_ADAM:
  case SBAG_OPT_PARTIAL_ROWWISE_ADAM:
  case SBAG_OPT_LAMB:
  case SBAG_OPT_PARTIAL_ROWWISE_LAMB:
    at.bias1 = 1 - step_power(options->beta1, step);
    at.bias2 = 1 - step_power(options->beta2, step);
    break;
  default:
    return at;
  }
  if (options->kind == SBAG_OPT_ADAM || options->kind == SBAG_OPT_ADAMW) at.rate = lr / at.bias1;
  if (options->kind == SBAG_OPT_ADAMW) at.shrink = 1 - lr * options->weight_decay;
  if (options->kind == SBAG_OPT_SPARSE_ADAM) at.rate = lr * sqrt(at.bias2) / at.bias1;
  return at;
}

#endif
