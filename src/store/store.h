/* The local shard: for each table the rows that this rank owns, with their optimizer state, and the mirror of
 * a replicated table.
 *
 * What comes in: descriptions and the plan. What goes out: pointers for the kernel's ops. Every write to a
 * shard announces itself through store_will_write first: that is where mirrors (and later dirty bits,
 * snapshots, caches) learn what changes. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "kernel/kernel.h"
#include "plan/plan.h"
#include <shardbag/table.h>

/* One table's shard on this rank. */
typedef struct store_table {
  char *name;
  int64_t rows, dim;  /* of the whole table */
  int64_t local_rows; /* of this shard; 0 where the rank owns none */
  int shard;          /* -1 where the rank owns none */
  sbag_storage_t storage;
  rounding_t rounding; /* storage in 16 bits */
  int trainable;
  int has_max_norm;
  double max_norm, norm_type;
  sbag_optimizer_options_t optimizer;
  optimizer_info_t info;
  void *weight; /* [local_rows][dim] */
  int lent;     /* 1: the weight is somebody else's, and is only read */
  void *states[OPTIMIZER_STATES_MAX];
  int32_t *last_step;       /* info.moves_untouched: [local_rows] */
  double *lr_log;           /* likewise: [OPTIMIZER_LR_LOG] */
  int64_t step, epoch_step; /* updates made; those before the log's first entry */
  void *mirror;             /* replicated and served from a mirror: [rows][dim] */
  kernel_buffer_t changed;  /* with a mirror: local rows written since it was refreshed */
  int64_t changed_count;
} store_table_t;

typedef struct store {
  kernel_t *kernel;
  sbag_dtype_t dtype;
  const plan_t *plan;
  int rank, table_count;
  store_table_t *tables;
} store_t;

/* Allocates and fills the shards. training: 0 keeps no optimizer state. zero_rows[t] (zero_counts[t]): global
 * rows that start as zero. Not collective. The plan must outlive the store. */
sbag_code_t store_create(kernel_t *kernel, const plan_t *plan, int rank, sbag_dtype_t dtype, int training,
                         const sbag_table_options_t *tables, const int64_t *const *zero_rows,
                         const int *zero_counts, store_t **store, sbag_status_t *status);
void store_destroy(store_t **store);

/* The table's rows are read at `weight` from now on, which is not the store's, and must not be written. Not
 * for tables that are trained or have a mirror. */
void store_lend(store_t *store, int table, const void *weight);

/* Bytes of one row of a table's weights. */
int64_t store_row_bytes(const store_t *store, int table);

/* Announces that `count` distinct local rows of a table are about to change. */
sbag_code_t store_will_write(store_t *store, int table, const int64_t *rows, int64_t count,
                             sbag_status_t *status);

/* The rows as the optimizer sees them. */
optimizer_rows_t store_optimizer_rows(const store_t *store, int table);

/* Brings rows that lag behind the table's step up to date (rows NULL: all). Nothing to do for most
 * optimizers. */
sbag_code_t store_catch_up(store_t *store, int table, const int64_t *rows, int64_t count,
                           sbag_status_t *status);

/* Every row is brought up to date, and the table counts its updates from `step_count` on: what a shard whose
 * rows and states were loaded needs, so that it goes on as the one that was saved. */
sbag_code_t store_set_step_count(store_t *store, int table, int64_t step_count, sbag_status_t *status);

/* One update of `count` distinct local rows: announces it, counts the step, and describes it in *update but
 * for its gradients, which the caller adds before it gives it to the kernel's update or update_sums. Every
 * rank calls it for every table, also with count 0, so that steps are counted alike. */
sbag_code_t store_begin_update(store_t *store, int table, double lr, double grad_scale, const int64_t *rows,
                               int64_t count, optimizer_update_t *update, sbag_status_t *status);
/* The same with merged gradients [count][dim], and the update itself. touched: see optimizer_update_t. */
sbag_code_t store_update(store_t *store, int table, double lr, double grad_scale, const int64_t *rows,
                         const int64_t *touched, const void *grad, int64_t count, sbag_status_t *status);

/* Renormalises distinct local rows in place (tables with max_norm, not quantised ones). */
sbag_code_t store_renorm(store_t *store, int table, const int64_t *rows, int64_t count,
                         sbag_status_t *status);

#endif
