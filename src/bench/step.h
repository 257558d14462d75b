/* A training step by phase: what each rank computes, what it waits for, and how much of what travels between
 * the ranks is hidden behind the computing; with the pipeline and without it, in turn. */
#ifndef BENCH_STEP_H
#define BENCH_STEP_H

#include "comm/comm.h"
#include <stdio.h>

/* Takes one training step, collectively; `ahead`: with the next one begun within it. Charges its phases to
 * the comm's trace. */
typedef sbag_code_t bench_step_fn(void *user, int ahead, sbag_status_t *status);

/* What stands beside the steps, not collective: the dense part by itself, and its matrix products. */
typedef enum bench_alone { BENCH_DENSE, BENCH_PRODUCTS } bench_alone_t;
typedef sbag_code_t bench_alone_fn(void *user, bench_alone_t what, sbag_status_t *status);

typedef struct bench_step_config {
  comm_t *comm;
  mem_t *mem;
  int64_t warmup, steps, rounds; /* steps before all; steps of a round, each way; rounds */
  int64_t samples;               /* of a step, all ranks' */
  bench_step_fn *take;
  bench_alone_fn *alone; /* or NULL */
  void *user;
} bench_step_config_t;

/* Collective. Rank 0 writes tables to `out` and, where json is not NULL, lines to it (json_path is for
 * messages). */
sbag_code_t bench_step(const bench_step_config_t *config, FILE *out, FILE *json, const char *json_path,
                       sbag_status_t *status);

#endif
