/* Learning-rate schedules: the factor by which every learning rate (each table's, the dense layers') is
 * multiplied at a step. A pure function of the step, so that a resumed run goes on where it was. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

typedef enum schedule_kind {
  SCHEDULE_CONSTANT,
  SCHEDULE_STEP,       /* times `gamma` after every `every` steps */
  SCHEDULE_POLYNOMIAL, /* from 1 to `end` within `decay_steps`, as (1 - t)^power; power 1 is linear */
  SCHEDULE_EXPONENTIAL /* gamma^(t / every), continuously */
} schedule_kind_t;

/* Linear warm-up comes first, whatever the kind: over `warmup_steps` steps the factor grows from
 * `warmup_start` in equal parts, and is 1 at step warmup_steps + 1, where the kind's own count begins. */
typedef struct schedule {
  schedule_kind_t kind;
  int64_t warmup_steps;
  double warmup_start;
  int64_t every;
  double gamma;
  int64_t decay_steps;
  double power, end;
} schedule_t;

/* step: from 1. */
double schedule_factor(const schedule_t *schedule, int64_t step);

#endif
