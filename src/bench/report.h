/* The table that a benchmark ends with, as nccl-tests print theirs, and its JSON lines. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "base/status.h"
#include <stdint.h>
#include <stdio.h>

/* Least, median (the mean of the middle two) and greatest. */
typedef struct bench_range {
  double min, median, max;
} bench_range_t;
/* Sorts `values`; count is at least 1. */
bench_range_t bench_range(double *values, int64_t count);

/* One case: seconds[count] of ours and raw_seconds[count] of the plain program, taken in turn. */
typedef struct bench_case {
  const char *name;
  int64_t bytes, count;
  const double *seconds, *raw_seconds;
  int64_t wrong; /* negative: not looked for */
} bench_case_t;

void bench_report_head(FILE *out);
/* `scratch` is [count]. */
void bench_report_row(FILE *out, const bench_case_t *row, double *scratch);
/* One line with every measurement. `path` is for messages. */
sbag_code_t bench_report_json(FILE *json, const char *path, int ranks, const bench_case_t *row,
                              double *scratch, sbag_status_t *status);

#endif
