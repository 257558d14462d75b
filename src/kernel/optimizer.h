/* The one pass that reads a row, its optimizer state and its merged gradient, and writes row and state.
 *
 * What comes in: an update_t (plain pointers). What goes out: rows and states in place. Sources of the
 * formulas are named in optimizer.c at each. A state is an array beside the rows: [rows][dim], or [rows]
 * where it is row-wise. */
#ifndef KERNEL_OPTIMIZER_H
#define KERNEL_OPTIMIZER_H

#include "base/status.h"
#include <shardbag/optimizer.h>
#include <shardbag/table.h>
#include <stdint.h>

enum { OPTIMIZER_STATES_MAX = 4, OPTIMIZER_LR_LOG = 4096 };

/* What state an optimizer keeps beside each row. */
typedef struct optimizer_state_info {
  const char *name; /* the peer's own: "momentum_buffer", "square_avg", "momentum1" */
  int row_wise;     /* 1: one value a row; 0: dim values */
  double initial;   /* value before the first update */
} optimizer_state_info_t;

typedef struct optimizer_info {
  int state_count;
  optimizer_state_info_t states[OPTIMIZER_STATES_MAX];
  int moves_untouched; /* 1: rows that a batch does not touch change too: see update_t.last_step */
} optimizer_info_t;

/* Which states these options need (momentum 0 keeps no buffer, amsgrad adds one, ...). */
optimizer_info_t optimizer_info(const sbag_optimizer_options_t *options);

/* Refuses values out of their range: "sgd: momentum -1 is below 0". `where` is put in front ("table 'user'").
 */
sbag_code_t optimizer_check(const sbag_optimizer_options_t *options, const char *where,
                            sbag_status_t *status);

/* How an update's results become the 16 bits of a table that is kept in them: see rounding.h. */
typedef struct rounding {
  sbag_rounding_t kind;
  uint64_t key;
  const struct plan_table *plan; /* with `shard`: a local row's number in the table */
  int shard;
} rounding_t;

/* Where the rows of one table's shard live, and what the update needs to know of the past. */
typedef struct optimizer_rows {
  const sbag_optimizer_options_t *options;
  sbag_dtype_t dtype; /* of weight, states and gradients */
  int64_t dim;
  sbag_storage_t storage;             /* of weight; 16 bits: of SBAG_F32 alone, and not with last_step */
  rounding_t rounding;                /* likewise */
  void *weight;                       /* [rows][dim] */
  void *states[OPTIMIZER_STATES_MAX]; /* as optimizer_info says */
  /* moves_untouched only, else NULL: [rows] the number of steps since `epoch_step` that the row has seen. */
  int32_t *last_step;
  int64_t epoch_step; /* updates made before the lr log's first entry: the log's entry k is step epoch_step +
                         k + 1 */
  const double *lr_log; /* [OPTIMIZER_LR_LOG] learning rates of the steps since epoch_step */
} optimizer_rows_t;

/* One update, the `step`-th (from 1), of `count` distinct rows. */
typedef struct optimizer_update {
  optimizer_rows_t at;
  int64_t step;
  double lr;         /* of this step */
  double grad_scale; /* gradients are multiplied by it, then clamped (options->clip_value) */
  int64_t count;
  const int64_t *rows;    /* [count] local rows; NULL: rows 0 to count - 1 */
  const int64_t *touched; /* NULL, or [count + 1]: row i is left out if touched[i] == touched[i + 1] */
  const void *grad;       /* [count][dim] */
} optimizer_update_t;

/* Scalar reference. A lagging row (last_step) is brought to step - 1 first, then updated, and marked as at
 * `step`. */
void optimizer_update_scalar(const optimizer_update_t *update);

/* Brings `count` rows (rows NULL: rows 0 to count - 1) to `step`, as that many updates with a zero gradient
 * would, bit for bit; a row at rest (nothing left that could change) is skipped over in one go. Only for
 * moves_untouched. */
void optimizer_catch_up_scalar(const optimizer_rows_t *at, int64_t step, int64_t count, const int64_t *rows);

#endif
