/* `shardbag bench serve`: requests at a server's door, as many a second as it is told, whether or not the
 * ones before are answered (an open loop), and how long their answers take.
 *
 * Arrivals are a Poisson process. A request's time begins when it was to be sent, not when it could be: where
 * the server, a lack of connections or this program holds it up, that is part of what it takes. A loop that
 * waits for answers would leave out just those requests that a slow server has kept from being sent. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench/draw.h"
#include "bench/load_stats.h"
#include "config/schema.h"
#include <stdio.h>

typedef enum bench_tensors { TENSORS_BINARY, TENSORS_JSON } bench_tensors_t;

typedef struct bench_load_settings {
  const config_node_t *node;
  config_tree_t *tree; /* owns the texts */
  mem_t *mem;
  const char *url, *model, *token_file, *ca, *picture; /* "": none; model: the server's first */
  config_reals_t rates;                                /* one that is 0: it is looked for */
  double from, p99_ms, seconds, warmup_s, timeout_s, invalid, errors, zipf;
  int64_t batch, connections, length, bodies, rows, seed;
  int tensors, lengths, scatter; /* bench_tensors_t, bench_lengths_t */
} bench_load_settings_t;

/* Not collective. */
sbag_code_t bench_load_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                     bench_load_settings_t *settings, sbag_status_t *status);
void bench_load_settings_clear(bench_load_settings_t *settings);
sbag_code_t bench_load_settings_help(mem_t *mem, char **text, sbag_status_t *status);

/* What was measured, in its order. */
typedef struct bench_load_curve {
  mem_t *mem;
  load_point_t *points;
  int count, room;
  double sustained; /* the highest rate that was found to hold; 0: none, or none was looked for */
  char title[256];
} bench_load_curve_t;

/* One process. Writes a table to `out` and, where json is not NULL, lines to it (json_path is for messages).
 * The curve is cleared by the caller, also after an error. */
sbag_code_t bench_load(const bench_load_settings_t *settings, FILE *out, FILE *json, const char *json_path,
                       bench_load_curve_t *curve, sbag_status_t *status);
void bench_load_curve_clear(bench_load_curve_t *curve);

#endif
