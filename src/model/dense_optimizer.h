/* torch.optim's SGD, Adagrad and Adam on flat arrays: the dense layers' optimizer. Every element is updated
 * at every step, so none of the sparse optimizers' bookkeeping is needed. */
#ifndef MODEL_DENSE_OPTIMIZER_H
#define MODEL_DENSE_OPTIMIZER_H

#include "base/status.h"
#include <shardbag/optimizer.h>
#include <stdint.h>

enum { DENSE_OPTIMIZER_STATES_MAX = 3 };

/* States by torch's names; each has one value a parameter. */
typedef struct dense_optimizer_info {
  int state_count;
  const char *name[DENSE_OPTIMIZER_STATES_MAX];
  double initial[DENSE_OPTIMIZER_STATES_MAX];
} dense_optimizer_info_t;

/* SBAG_ERR_UNSUPPORTED for kinds other than the three, SBAG_ERR_ARGUMENT for values out of their range. */
sbag_code_t dense_optimizer_check(const sbag_optimizer_options_t *options, sbag_status_t *status);

dense_optimizer_info_t dense_optimizer_info(const sbag_optimizer_options_t *options);

typedef struct dense_optimizer_update {
  const sbag_optimizer_options_t *options;
  int64_t step;      /* from 1 */
  double lr;         /* of this step */
  double grad_scale; /* gradients are multiplied by it, then clamped */
  double clip_value; /* 0 = off */
  int64_t count;
  const float *grad;
  float *weight;
  float *states[DENSE_OPTIMIZER_STATES_MAX];
} dense_optimizer_update_t;

void dense_optimizer_update(const dense_optimizer_update_t *update);

#endif
