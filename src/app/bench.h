/* What the parts of `shardbag bench` share. */
#ifndef APP_BENCH_H
#define APP_BENCH_H

#include "app/job.h"
#include <stdio.h>

/* Rank 0's file of JSON lines, kept if it is there; path NULL: none. */
sbag_code_t bench_open_json(const job_t *job, const char *path, FILE **json, sbag_status_t *status);
sbag_code_t bench_close_json(FILE *json, const char *path, sbag_status_t *status);

extern const command_t command_bench_step, command_bench_exchange;

#endif
