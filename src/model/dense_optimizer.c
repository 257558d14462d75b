/* The dense layers' optimizer as an update of one long row. */
#include "model/dense_optimizer.h"

#include <stddef.h>

sbag_code_t dense_optimizer_check(const sbag_optimizer_options_t *options, sbag_status_t *status) {
  SBAG_TRY(optimizer_check(options, "dense optimizer", status));
  if (options->kind == SBAG_OPT_SGD || options->kind == SBAG_OPT_ADAGRAD || options->kind == SBAG_OPT_ADAM)
    return SBAG_OK;
  return status_set(status, SBAG_ERR_UNSUPPORTED,
                    "dense optimizer: %s is for tables only; dense layers take sgd, adagrad or adam",
                    sbag_optimizer_name(options->kind));
}

void dense_optimizer_update(const dense_optimizer_step_t *step) {
  static const int64_t only_row = 0;
  optimizer_update_t update = {
      .at = {.options = step->options, .dtype = SBAG_F32, .dim = step->count, .weight = step->weight},
      .step = step->step,
      .lr = step->lr,
      .grad_scale = step->grad_scale,
      .count = 1,
      .rows = &only_row,
      .grad = step->grad};
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++) update.at.states[s] = step->states[s];
  optimizer_update_scalar(&update);
}
