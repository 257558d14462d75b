/* Seconds of a clock that goes on evenly, from some moment in the past: for what takes how long. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <time.h>

static inline double clock_read(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline double clock_now(void) {
  return clock_read(CLOCK_MONOTONIC);
}

#endif
