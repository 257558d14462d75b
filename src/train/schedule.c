/* The formulas of the learning-rate schedules. */
#include "train/schedule.h"

#include <math.h>

double schedule_factor(const schedule_t *schedule, int64_t step) {
  int64_t done = step - 1; /* steps taken before this one */
  if (done < schedule->warmup_steps) {
    double part = (double)done / (double)schedule->warmup_steps;
    return schedule->warmup_start + (1.0 - schedule->warmup_start) * part;
  }
  int64_t t = done - schedule->warmup_steps;
  switch (schedule->kind) {
  case SCHEDULE_CONSTANT:
    break;
  case SCHEDULE_STEP:
    return pow(schedule->gamma, (double)(t / schedule->every));
  case SCHEDULE_POLYNOMIAL:
    if (t >= schedule->decay_steps) return schedule->end;
    return schedule->end +
           (1.0 - schedule->end) * pow(1.0 - (double)t / (double)schedule->decay_steps, schedule->power);
  case SCHEDULE_EXPONENTIAL:
    return pow(schedule->gamma, (double)t / (double)schedule->every);
  }
  return 1.0;
}
