/* What `shardbag report` has read of runs, and draws. A curve is of one run, in one chart; so is a row of
 * bars.
 *
 * What comes in: files of JSON lines, as training and `bench step` write them. What goes out: for each chart
 * a gnuplot script with its data in it, an SVG and a PNG, and one HTML page. */
#ifndef APP_REPORT_H
#define APP_REPORT_H

#include "base/mem.h"
#include "base/status.h"
#include <stdint.h>
#include <stdio.h>

enum { REPORT_TEXT_BYTES = 96 };

typedef struct report_point {
  double x, y; /* x of bars: the category's number */
} report_point_t;

typedef struct report_series {
  int run;
  char chart[REPORT_TEXT_BYTES], label[REPORT_TEXT_BYTES]; /* label: behind the run's name */
  report_point_t *points;
  int64_t count, capacity;
} report_series_t;

/* The last number of a metric. */
typedef struct report_run {
  char name[REPORT_TEXT_BYTES];
  const char *path;     /* borrowed */
  int64_t ranks, steps; /* 0: not told */
  double seconds;       /* of training; NaN: it has not ended */
  char reason[REPORT_TEXT_BYTES];
} report_run_t;

typedef struct report {
  mem_t *mem;
  report_run_t *runs;
  int run_count, run_capacity;
  report_series_t *series; /* by their first appearance */
  int series_count, series_capacity;
  char (*categories)[REPORT_TEXT_BYTES]; /* of bars */
  int category_count, category_capacity;
} report_t;

/* Adds a file: a run, of which the last beginning counts. Errors name file, line and column. */
sbag_code_t report_read(report_t *report, const char *path, sbag_status_t *status);
void report_clear(report_t *report);

/* The series of a chart with a last point: *value is its y; 0 if there is none. */
const report_series_t *report_find(const report_t *report, int run, const char *chart, const char *label);

/* Charts by their first appearance; a name is also that of its files. */
int report_chart_count(const report_t *report);
const char *report_chart(const report_t *report, int chart);
/* Whether a chart is of bars. */
int report_is_bars(const char *chart);

/* Into the working directory: NAME.gp, NAME.svg and NAME.png of every chart. */
sbag_code_t report_draw(const report_t *report, sbag_status_t *status);
/* index.html there. */
sbag_code_t report_page(const report_t *report, sbag_status_t *status);

#endif
