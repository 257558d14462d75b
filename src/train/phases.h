/* What the phases of a run's training steps take on this rank, without evaluations and checkpoints. */
#ifndef TRAIN_PHASES_H
#define TRAIN_PHASES_H

#include "comm/trace.h"

typedef struct phases {
  const comm_trace_t *trace;        /* borrowed */
  double left_out[COMM_TRACE_ROWS]; /* seconds of each row that are not training's */
  double paused_at[COMM_TRACE_ROWS];
} phases_t;

void phases_begin(const comm_trace_t *trace, phases_t *phases);
/* Time between pause and resume does not count. */
void phases_pause(phases_t *phases);
void phases_resume(phases_t *phases);

int phases_count(const phases_t *phases);
/* Seconds of a row of the trace. */
double phases_seconds(const phases_t *phases, int row);

#endif
