/* The dense layers' optimizer: the tables' own torch.optim formulas (kernel/optimizer.h), with the whole
 * block of parameters as one row that every step touches. No row ever lags, so nothing is ever caught up. */
#ifndef MODEL_DENSE_OPTIMIZER_H
#define MODEL_DENSE_OPTIMIZER_H

#include "base/status.h"
#include "kernel/optimizer.h"

/* SBAG_ERR_UNSUPPORTED for kinds other than sgd, adagrad and adam, SBAG_ERR_ARGUMENT for values out of range.
 */
sbag_code_t dense_optimizer_check(const sbag_optimizer_options_t *options, sbag_status_t *status);

typedef struct dense_optimizer_step {
  const sbag_optimizer_options_t *options;
  int64_t step;      /* from 1 */
  double lr;         /* of this step */
  double grad_scale; /* gradients are multiplied by it, then clamped as the options say */
  int64_t count;
  const float *grad;
  float *weight;
  float *const *states; /* [OPTIMIZER_STATES_MAX], as optimizer_info says */
} dense_optimizer_step_t;

void dense_optimizer_update(const dense_optimizer_step_t *step);

#endif
