/* The scalar reference of the sparse optimizers: coefficients of a step, and the two entry points.
 *
 * The formulas stand in optimizer_math.inc, once for float and once for double; their sources:
 *  - torch.optim (sgd.py, adagrad.py, adam.py, sparse_adam.py, rmsprop.py, the single-tensor forms);
 *  - FBGEMM codegen/genscript/optimizers.py.
 * What depends on the step alone is computed here in double and rounded once to the table's type, as both do.
 *
 * Rows that a batch leaves untouched but torch would move are replayed when they are next read. Every step is
 * the same code on the same numbers as if it had been made at its time, so that the bits are the same too.
 * Once no remaining step can move a weight, only its states are decayed, each until that changes nothing. */
#include "kernel/optimizer.h"
#include "kernel/optimizer_step.h"
#include <float.h>
#include <math.h>
#include <stddef.h>

enum {
  CHUNK = 128,     /* elements of a row that are handled at a time: a multiple of LANES */
  LANES = 8,       /* of a sum over a row: element i goes to lane i mod 8 */
  REPLAY = 1024,   /* steps whose coefficients a call keeps; longer lags compute theirs anew */
  STILL_EVERY = 32 /* replayed steps after which a row is asked again whether it still moves */
};

/* The coefficients of the steps up to `last`, filled downwards as far as some row has lagged: pow is dearer
 * than a short row's whole step. */
typedef struct replay {
  const optimizer_rows_t *rows;
  optimizer_info_t info;
  double lr_peak; /* the largest rate up to `last`; below 0: not looked for yet */
  int64_t last;
  int64_t filled; /* of[0 .. filled - 1] belong to steps last, last - 1, ... */
  step_values_t of[REPLAY], beyond;
} replay_t;

static void replay_start(replay_t *replay, const optimizer_rows_t *rows, int64_t last) {
  replay->rows = rows;
  replay->info = optimizer_info(rows->options);
  replay->lr_peak = -1;
  replay->last = last;
  replay->filled = 0;
}

static step_values_t replay_compute(const replay_t *replay, int64_t step) {
  const optimizer_rows_t *rows = replay->rows;
  return step_values(rows->options, step, rows->lr_log[step - rows->epoch_step - 1]);
}

/* Valid until the next call. */
static const step_values_t *replay_at(replay_t *replay, int64_t step) {
  const int64_t back = replay->last - step;
  if (back >= REPLAY) {
    replay->beyond = replay_compute(replay, step);
    return &replay->beyond;
  }
  for (; replay->filled <= back; replay->filled++)
    replay->of[replay->filled] = replay_compute(replay, replay->last - replay->filled);
  return &replay->of[back];
}

/* Bounds on what any step from `step` on multiplies with. For a few steps the search through the log does not
 * pay: no bound is known then. */
static step_values_t replay_most(replay_t *replay, int64_t step) {
  const optimizer_rows_t *rows = replay->rows;
  const int known = replay->lr_peak >= 0 || replay->last - step >= STILL_EVERY;
  if (known && replay->lr_peak < 0) {
    replay->lr_peak = 0;
    for (int64_t i = 0; i < replay->last - rows->epoch_step; i++)
      replay->lr_peak = fmax(replay->lr_peak, fabs(rows->lr_log[i]));
  }
  step_values_t most = *replay_at(replay, step);
  most.lr = known ? replay->lr_peak : INFINITY;
  /* bias1 grows with the step (1 where there is none), but for pow's last digits. */
  most.rate = most.lr / most.bias1 * (1 + 1e-9);
  /* AdamW, as a lower bound: what all remaining steps together leave of a weight; 0.99 covers the rounding of
   * OPTIMIZER_LR_LOG products. */
  if (rows->options->kind == SBAG_OPT_ADAMW) {
    const double each = 1 - most.lr * rows->options->weight_decay;
    most.shrink = known && each > 0 ? 0.99 * pow(each, (double)(replay->last - step + 1)) : 0;
  }
  return most;
}

#define FUNCTION static inline
#define RESTRICT restrict

#define REAL      float
#define FN(name)  name##_f32
#define REAL_SQRT sqrtf
#define REAL_ABS  fabsf
#define REAL_BITS FLT_EPSILON
#define REAL_LOW  FLT_MIN
#define REAL_HIGH FLT_MAX
#include "kernel/optimizer_math.inc"
#include "kernel/optimizer_rows.inc"
#undef REAL
#undef FN
#undef REAL_SQRT
#undef REAL_ABS
#undef REAL_BITS
#undef REAL_LOW
#undef REAL_HIGH

#define REAL      double
#define FN(name)  name##_f64
#define REAL_SQRT sqrt
#define REAL_ABS  fabs
#define REAL_BITS DBL_EPSILON
#define REAL_LOW  DBL_MIN
#define REAL_HIGH DBL_MAX
#include "kernel/optimizer_math.inc"
#include "kernel/optimizer_rows.inc"
#undef REAL
#undef FN
#undef REAL_SQRT
#undef REAL_ABS
#undef REAL_BITS
#undef REAL_LOW
#undef REAL_HIGH

void optimizer_update_scalar(const optimizer_update_t *update) {
  if (update->at.dtype == SBAG_F32) {
    update_f32(update);
  } else {
    update_f64(update);
  }
}

/* Goes through the epoch in blocks of REPLAY steps, all rows in each, so that a block's coefficients are
 * computed once for all of them. */
void optimizer_catch_up_scalar(const optimizer_rows_t *at, int64_t step, int64_t count, const int64_t *rows) {
  int64_t reached = at->epoch_step;
  replay_t replay;
  while (reached < step) {
    reached = step - reached > REPLAY ? reached + REPLAY : step;
    replay_start(&replay, at, reached);
    for (int64_t i = 0; i < count; i++) {
      int64_t row = rows != NULL ? rows[i] : i;
      if (at->dtype == SBAG_F32) {
        row_catch_up_f32(&replay, row);
      } else {
        row_catch_up_f64(&replay, row);
      }
    }
  }
}
