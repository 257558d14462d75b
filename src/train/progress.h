/* Where a run stands: with the model, all that a checkpoint must hold for the run to go on as if it had never
 * stopped. Learning rates follow from the step alone. The same on all ranks. */
#ifndef TRAIN_PROGRESS_H
#define TRAIN_PROGRESS_H

#include "train/metrics.h"
#include <stdint.h>

typedef struct progress {
  int64_t run;               /* names the run: the microsecond in which it began */
  int64_t step;              /* steps taken */
  int64_t epoch, epoch_step; /* the next batch: epochs, and batches of that epoch, that are done */
  int64_t evaluated_step;    /* of the last evaluation on the way; 0 before the first */
  metrics_result_t valid;    /* its numbers */
  double best;               /* of the evaluations on the way, by train.patience_metric; NaN: none yet */
  int64_t stale_evaluations; /* since the best */
  double loss_sum;           /* of the steps since the last line of metrics */
  int64_t loss_count;
} progress_t;

#endif
