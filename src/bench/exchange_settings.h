/* What `shardbag bench exchange` can be told: keys as those of a config, each with a default, set by --set.
 */
#ifndef BENCH_EXCHANGE_SETTINGS_H
#define BENCH_EXCHANGE_SETTINGS_H

#include "config/schema.h"
#include <shardbag/context.h>
#include <shardbag/table.h>

typedef struct bench_exchange_settings {
  const config_node_t *node;
  config_tree_t *tree; /* owns the lists */
  int64_t rows, dim, tables, batch;
  config_ints_t lengths; /* of bags; a case each, with each exponent */
  config_reals_t zipf;
  int64_t seed, steps, warmup, chunk, requesters;
  double work_ms;
  int scatter; /* the popular rows lie anywhere, not first */
  int plain, verify;
  const char *update; /* an optimizer's name, or "none" */
  sbag_optimizer_t optimizer;
  int layout, device, mode, dtype, kind, wire; /* sbag_*_t */
} bench_exchange_settings_t;

/* Not collective. */
sbag_code_t bench_exchange_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                         bench_exchange_settings_t *settings, sbag_status_t *status);
void bench_exchange_settings_clear(bench_exchange_settings_t *settings);

/* All keys with their meaning; the caller frees *text by mem_free. */
sbag_code_t bench_exchange_settings_help(mem_t *mem, char **text, sbag_status_t *status);

int bench_exchange_updates(const bench_exchange_settings_t *settings);
/* The words of choices, as they are set. */
const char *bench_exchange_layout(const bench_exchange_settings_t *settings);
const char *bench_exchange_mode(const bench_exchange_settings_t *settings);
const char *bench_exchange_kind(const bench_exchange_settings_t *settings);
const char *bench_exchange_wire(const bench_exchange_settings_t *settings);

/* The tables and features of the settings: arrays of [tables], which the caller frees by mem_free. ranks: the
 * first that own rows, or NULL for all. */
typedef struct bench_exchange_tables {
  sbag_table_options_t *tables;
  sbag_feature_options_t *features;
  int count;
  void *block;
} bench_exchange_tables_t;
sbag_code_t bench_exchange_describe(const bench_exchange_settings_t *settings, const int *ranks,
                                    int rank_count, mem_t *mem, bench_exchange_tables_t *made,
                                    sbag_status_t *status);

#endif
