/* What `shardbag bench pool` can be told: keys as those of a config, each with a default, set by --set. */
#ifndef BENCH_POOL_SETTINGS_H
#define BENCH_POOL_SETTINGS_H

#include "bench/draw.h"
#include "config/schema.h"
#include <shardbag/table.h>

enum { BENCH_POOL_WORDS = 5, BENCH_POOL_OPTIMIZERS = SBAG_OPT_COUNT + 1 };

/* Values of a list of names. */
typedef struct bench_pool_words {
  int count, values[BENCH_POOL_WORDS];
} bench_pool_words_t;

/* An optimizer, or none: forward alone, without state. */
typedef struct bench_pool_optimizer {
  int trains;
  sbag_optimizer_t kind;
} bench_pool_optimizer_t;

typedef struct bench_pool_settings {
  const config_node_t *node;
  config_tree_t *tree; /* owns the texts and lists */
  int64_t rows, tables, batch, batches, rounds, warmup, threads, seed;
  config_ints_t dims, lengths;
  config_reals_t zipf;
  const char *mode, *storage, *optimizer; /* names with commas between them */
  bench_pool_words_t modes, storages;     /* sbag_mode_t, sbag_storage_t */
  int optimizer_count;
  bench_pool_optimizer_t optimizers[BENCH_POOL_OPTIMIZERS];
  int distribution, layout, device; /* bench_lengths_t, sbag_layout_t, sbag_device_t */
  int scatter, limit, verify, spoil;
} bench_pool_settings_t;

/* Not collective. */
sbag_code_t bench_pool_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                     bench_pool_settings_t *settings, sbag_status_t *status);
void bench_pool_settings_clear(bench_pool_settings_t *settings);
sbag_code_t bench_pool_settings_help(mem_t *mem, char **text, sbag_status_t *status);

/* One case: a table of the report has a row for each. */
typedef struct bench_pool_case {
  sbag_mode_t mode;
  sbag_storage_t storage;
  bench_pool_optimizer_t optimizer;
  int64_t dim, length;
  double zipf;
} bench_pool_case_t;

const char *bench_pool_mode_name(sbag_mode_t mode);
const char *bench_pool_storage_name(sbag_storage_t storage);
const char *bench_pool_optimizer_name(const bench_pool_optimizer_t *optimizer); /* "-" for none */
const char *bench_pool_layout_name(const bench_pool_settings_t *settings);
const char *bench_pool_lengths_name(const bench_pool_settings_t *settings);

/* The bags of a case. */
bench_draw_t bench_pool_draw(const bench_pool_settings_t *settings, const bench_pool_case_t *of);

#endif
