/* How many threads a call of so many rows is worth. A team meets in some microseconds, and its threads, which
 * spin for the next call before they sleep, take cores from others: a server that computes one sample at a
 * time has other threads that need them. Values do not depend on it. */
#ifndef DENSE_THREADS_H
#define DENSE_THREADS_H

#include <stdint.h>

enum { DENSE_ROWS_LEAST = 32 };

static inline int dense_threads(int threads, int64_t rows) {
  return rows < DENSE_ROWS_LEAST ? 1 : threads;
}

#endif
