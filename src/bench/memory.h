/* What this machine's memory gives: rows looked up at random, gathered, copied out and changed in place, and
 * blocks read, copied and added in order, by the fastest loops that we have; or what a GPU's gives. */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include "config/schema.h"
#include <shardbag/context.h>
#include <stdio.h>

typedef struct bench_memory_settings {
  const config_node_t *node;
  config_tree_t *tree; /* owns the lists */
  int64_t mib, lookups, rounds, seed;
  config_ints_t dims, threads;
  config_reals_t zipf;
  int device, scatter, spoil; /* device: sbag_device_t */
} bench_memory_settings_t;

/* Not collective. */
sbag_code_t bench_memory_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                       bench_memory_settings_t *settings, sbag_status_t *status);
void bench_memory_settings_clear(bench_memory_settings_t *settings);
sbag_code_t bench_memory_settings_help(mem_t *mem, char **text, sbag_status_t *status);

/* Collective: all ranks at once, each in memory of its own. Rank 0 writes a table to `out` and, where json is
 * not NULL, lines to it (json_path is for messages). */
sbag_code_t bench_memory(sbag_context_h context, const bench_memory_settings_t *settings, FILE *out,
                         FILE *json, const char *json_path, sbag_status_t *status);

#endif
