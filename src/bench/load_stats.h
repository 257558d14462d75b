/* When requests are due, and what is made of how they went. Plain arithmetic: nothing is sent here. */
#ifndef BENCH_LOAD_STATS_H
#define BENCH_LOAD_STATS_H

#include "base/mem.h"

/* In place of an HTTP status. */
enum {
  LOAD_NOT_SENT = -1,  /* no connection was free before its time was over */
  LOAD_NO_ANSWER = -2, /* within the time that it has */
  LOAD_DISCONNECTED = -3
};

enum { LOAD_STATUSES = 12 };

/* One request. Times are seconds from the start. */
typedef struct load_request {
  double due_s, sent_s, done_s;
  int status;
  int invalid; /* it was made to be refused */
} load_request_t;

typedef struct load_status {
  int status;
  int64_t count;
} load_status_t;

/* Milliseconds. */
typedef struct load_percentiles {
  double p50, p90, p99, p999, max, mean;
} load_percentiles_t;

/* What a rate gave, of the requests that were due in the time that counts. */
typedef struct load_point {
  double rate, seconds;  /* as asked; the time that counts */
  double answered_per_s; /* of 200, from the first that was due to the last answer */
  int64_t batch;
  int64_t requests, answered, refused; /* refused: invalid ones, with 400, which is right */
  int64_t failed, wrong;               /* wrong: an invalid one that was answered, a valid one with 400 */
  load_percentiles_t latency;          /* of 200, from when they were due */
  load_percentiles_t service;          /* the same, from when they were sent */
  load_percentiles_t late;             /* from due to sent, of all that were sent */
  double cpu;                          /* of a core, that sending took */
  int status_count;
  load_status_t statuses[LOAD_STATUSES]; /* the last one is for all that did not fit, with status 0 */
} load_point_t;

/* How many requests are due within `seconds` at a rate (requests a second), by a Poisson process that follows
 * from the seed alone; due_s [that many] may be NULL. In order. */
int64_t load_arrivals(double rate, double seconds, int64_t seed, double *due_s);

/* By nearest rank: the least value that a share p of them does not exceed. Sorts; zeros where there are none.
 */
load_percentiles_t load_percentiles(double *values, int64_t count);

/* Of the requests due at warmup_s or later; scratch: [count]. `rate`, `seconds`, `batch` and `cpu` of the
 * point are the caller's. */
void load_summarize(const load_request_t *requests, int64_t count, double warmup_s, double *scratch,
                    load_point_t *point);

/* Whether a server keeps up: at most a share `errors` of the requests failed, the 99th percentile is within
 * p99_ms, and the last answer came soon after the last request: within a 20th of the time. */
int load_holds(const load_point_t *point, double errors, double p99_ms);

/* Looks for the highest rate that holds: doubles from `from` on until one does not, twice in a row (or
 * halves, where the first does not), then narrows down to a tenth. *found: 0 where none above 1 holds. */
typedef sbag_code_t load_try_fn(void *user, double rate, int *holds, sbag_status_t *status);
sbag_code_t load_search(double from, load_try_fn *try_rate, void *user, double *found, sbag_status_t *status);

#endif
