/* A small collection on all ranks, and random batches for it: what the suites of exchange and collection
 * share. All ranks can draw the batches of all others. */
#ifndef TESTS_MPI_RIG_H
#define TESTS_MPI_RIG_H

#include "mpi_test.h"
#include "oracle/arena.h"
#include "oracle/draw.h"

#include <mpi.h>
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>

enum { RIG_TABLES = 2, RIG_FEATURES = 4, RIG_LENGTH_MAX = 6 };

typedef struct rig_options {
  sbag_context_options_t context;
  sbag_dtype_t dtype;
  sbag_layout_t layout;
  int replicated;
  sbag_storage_t storage[RIG_TABLES];
  sbag_rounding_t rounding;
  int subset;      /* table 1 on the last rank only */
  int without_max; /* feature 2 is a sum */
  int inference;   /* weight_grad 0 */
  int64_t rows[RIG_TABLES], dims[RIG_TABLES];
  sbag_optimizer_options_t optimizer; /* of both tables */
} rig_options_t;

/* 40 and 17 rows of 4 and 3 columns in float64, SGD at 0.25. */
rig_options_t rig_options_default(void);

/* Features: 0 sums table 0 (with weights where a batch has them), 1 is a mean of table 1, 2 a max of table 0,
 * 3 a sum of table 1. */
typedef struct rig {
  rig_options_t options;
  arena_t arena;
  sbag_context_h context;
  sbag_collection_h collection;
  int rank, size;
  int owners[1];
  int64_t columns;
} rig_t;

/* Values of tables are multiples of 1/8. */
void rig_open(rig_t *rig, const rig_options_t *options);
/* On a communicator of the caller, which lives as long. */
void rig_open_on(rig_t *rig, const rig_options_t *options, MPI_Comm comm);
void rig_close(rig_t *rig);

typedef struct rig_batch {
  int64_t samples;
  sbag_bags_t bags[RIG_FEATURES];
  int64_t *offset[RIG_FEATURES], *index[RIG_FEATURES];
  double *weight; /* of feature 0; NULL without */
  void *out, *grad, *weight_grads[RIG_FEATURES];
} rig_batch_t;

/* This rank's part of batch `number`: up to `samples` samples, in some batches none; indices are skewed so
 * that some rows come often. */
void rig_draw(rig_t *rig, rig_batch_t *batch, uint64_t number, int64_t samples, int weighted);

/* What the ranks [first, end) of a job would bring, one behind the other. */
void rig_draw_parts(rig_t *rig, int first, int end, rig_batch_t *batch, uint64_t number, int64_t samples,
                    int weighted);

/* Every call here must succeed; the step is not released. */
sbag_step_h rig_begin(rig_t *rig, const rig_batch_t *batch, int flags);
void rig_backward(rig_t *rig, sbag_step_h step, const rig_batch_t *batch, int weight_grads);
/* Forward, backward, update, release; returns the step's numbers. */
sbag_step_stats_t rig_train(rig_t *rig, const rig_batch_t *batch, int weight_grads);

/* All rows of a table, or of a state of it (-1: the weights). */
double *rig_read(rig_t *rig, int table, int state);
int64_t rig_width(const rig_t *rig, int table, int state);

/* batch->out against what the bags are in tables with these values. */
void rig_check_forward(rig_t *rig, const rig_batch_t *batch, double *const tables[RIG_TABLES]);

/* Fails with the library's message unless the code is SBAG_OK. */
void rig_must(sbag_code_t code);
extern sbag_status_t rig_failure;

static inline size_t rig_bytes(const rig_t *rig) {
  return rig->options.dtype == SBAG_F64 ? sizeof(double) : sizeof(float);
}

#endif
