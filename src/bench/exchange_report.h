/* The tables and JSON lines of `shardbag bench exchange`, as nccl-tests print theirs. */
#ifndef BENCH_EXCHANGE_REPORT_H
#define BENCH_EXCHANGE_REPORT_H

#include "bench/exchange_count.h"
#include "bench/report.h"
#include <stdio.h>

enum { LEG_IDS, LEG_FORWARD, LEG_BACKWARD, LEGS };

/* What was measured of a case; times in milliseconds, of the slowest rank of each step. */
typedef struct bench_exchange_times {
  bench_range_t leg[LEGS], whole;
  bench_range_t waits; /* of the whole: in waits for other ranks, their lateness with it */
  int has_update;
  bench_range_t update; /* beside the whole */
  int has_choice;
  bench_range_t choice; /* in the ids: between rows, pools and mixtures; on a core */
  double choice_part;   /* of the whole step's time on a core */
  /* Beside it in the same steps, where there are other ranks: the same messages sent again with a pass over
   * them, and plain all-to-alls of their bytes with that pass. */
  int has_raw;
  bench_range_t again, raw;
  bench_range_t again_ratio, whole_ratio; /* to raw, step by step */
  int has_hidden;
  double hidden; /* of the waits, with work between begin and end */
} bench_exchange_times_t;

/* One case. */
typedef struct bench_exchange_row {
  bench_shape_t of;
  int ranks, cover;
  bench_count_t count;
  double bytes_most; /* of a rank, to the mean */
  int timed;
  double sent[LEGS]; /* bytes a rank and step */
  bench_exchange_times_t times;
  int64_t wrong; /* negative: not looked for */
} bench_exchange_row_t;

/* Whether chosen ways took no more bytes than any pure one, and, where the cover is known, at most 1.10 times
 * its vectors (not for max, whose pools carry places beside their vectors and are not of one size with rows).
 */
int bench_exchange_within(const bench_exchange_settings_t *settings, const bench_exchange_row_t *row);

void bench_exchange_report_setup(FILE *out, const bench_exchange_settings_t *settings);
void bench_exchange_report_counts_head(FILE *out);
void bench_exchange_report_counts(FILE *out, const bench_exchange_row_t *row);
void bench_exchange_report_times_head(FILE *out);
void bench_exchange_report_times(FILE *out, const bench_exchange_row_t *row);
/* json may be NULL. */
sbag_code_t bench_exchange_report_json(FILE *json, const char *path,
                                       const bench_exchange_settings_t *settings,
                                       const bench_exchange_row_t *row, sbag_status_t *status);

#endif
