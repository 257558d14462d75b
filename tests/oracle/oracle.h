/* What embedding_bag and the optimizers mean, written plainly in float64 for one process.
 *
 * The definitions are those of the golden cases' description (tests/golden/README.md). Nothing here shares
 * code with the library, nothing is fast, and every result comes with the sum of the magnitudes that went
 * into it ("scale"): an error of a float32 computation in any order of summation is a small multiple of
 * 2^-24 times that. */
#ifndef ORACLE_H
#define ORACLE_H

#include "arena.h"
#include <shardbag/table.h>
#include <stdint.h>

/* Bags of one feature, always as CSR with the last offset. */
typedef struct oracle_bags {
  int64_t bag_count;
  const int64_t *offsets; /* [bag_count + 1] */
  const int64_t *indices; /* [offsets[bag_count]]; those outside the table are left out */
  const double *weights;  /* NULL, or one an index */
} oracle_bags_t;

typedef struct oracle_feature {
  sbag_mode_t mode;
  int has_padding;
  int64_t padding; /* as the user gives it: may be negative */
  int scale_by_freq;
} oracle_feature_t;

typedef struct oracle_table {
  int64_t rows, dim;
  double *weight; /* [rows][dim] */
} oracle_table_t;

/* Scales each distinct row among the `count` indices whose norm is above max_norm, in place. */
void oracle_renorm(const oracle_table_t *table, const int64_t *indices, int64_t count, double max_norm,
                   double norm_type);

/* out, scale, winner: [bag_count][dim]; winner is the row that won a column (mode max), NULL if not wanted.
 */
void oracle_forward(const oracle_table_t *table, const oracle_feature_t *feature, const oracle_bags_t *bags,
                    double *out, double *scale, int64_t *winner);

/* grad_out: [bag_count][dim]. Adds the feature's part to grad and grad_scale [rows][dim], counts touched
 * [rows] up for rows looked up, and writes weight_grad and weight_scale [indices] (NULL if not wanted). */
void oracle_backward(const oracle_table_t *table, const oracle_feature_t *feature, const oracle_bags_t *bags,
                     const double *grad_out, double *grad, double *grad_scale, int64_t *touched,
                     double *weight_grad, double *weight_scale);

enum { ORACLE_STATES_MAX = 4 };

typedef struct oracle_state {
  const char *name;
  int64_t width; /* values a row */
  double *values;
} oracle_state_t;

typedef struct oracle_optimizer {
  sbag_optimizer_options_t options;
  int64_t step; /* updates made */
  int state_count;
  oracle_state_t states[ORACLE_STATES_MAX];
} oracle_optimizer_t;

/* The states that the optimizer keeps for a table, at their initial values. */
oracle_optimizer_t oracle_optimizer_create(arena_t *arena, const sbag_optimizer_options_t *options,
                                           int64_t rows, int64_t dim);
/* NULL if the optimizer has no state of that name. */
double *oracle_optimizer_state(oracle_optimizer_t *optimizer, const char *name);
/* One update with the dense gradient grad [rows][dim], of which rows with touched[row] == 0 were not looked
 * up. The gradient is multiplied by grad_scale and then clamped as the options say. */
void oracle_optimizer_update(oracle_optimizer_t *optimizer, const oracle_table_t *table, const double *grad,
                             const int64_t *touched, double lr, double grad_scale);

#endif
