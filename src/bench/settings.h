/* What a benchmark can be told: keys as those of a config, each with a default, set by --set. */
#ifndef BENCH_SETTINGS_H
#define BENCH_SETTINGS_H

#include "config/tree.h"
#include <shardbag/table.h>

typedef enum bench_part { BENCH_BOTH, BENCH_SAVE, BENCH_LOAD } bench_part_t;

typedef struct bench_settings {
  const config_node_t *node;
  config_tree_t *tree; /* owns the texts */
  int64_t rows, dim, rounds;
  double rest_s;
  const char *optimizer, *folder;
  int layout, device, part; /* sbag_layout_t, sbag_device_t, bench_part_t */
  sbag_optimizer_t kind;
} bench_settings_t;

/* Not collective. */
sbag_code_t bench_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                bench_settings_t *settings, sbag_status_t *status);
void bench_settings_clear(bench_settings_t *settings);

/* All keys with their meaning; the caller frees *text by mem_free. */
sbag_code_t bench_settings_help(mem_t *mem, char **text, sbag_status_t *status);

/* "block", "both". */
const char *bench_layout_name(const bench_settings_t *settings);

#endif
