/* Sparse optimizers. Each is exact: a row's gradients of the whole global batch are merged before its one
 * update.
 *
 * Two families, under their own names, because they differ on rows that a batch does not touch:
 *  - torch.optim's SGD, ADAGRAD, ADAM, ADAMW, RMSPROP, SPARSE_ADAM. Where torch moves untouched rows
 * (momentum, dense Adam, weight decay), so do we: such a row is brought up to date, step for step, when it is
 * next read.
 *  - FBGEMM's fused ones, which update touched rows only (source: FBGEMM codegen/genscript/optimizers.py).
 * `step` counts updates of the table from 1; lr is the learning rate of this update after the schedule. */
#ifndef SHARDBAG_OPTIMIZER_H
#define SHARDBAG_OPTIMIZER_H

#include <shardbag/status.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sbag_optimizer {
  SBAG_OPT_SGD = 0,               /* torch.optim.SGD: "sgd" */
  SBAG_OPT_ADAGRAD,               /* torch.optim.Adagrad: "adagrad" */
  SBAG_OPT_ADAM,                  /* torch.optim.Adam: "adam" */
  SBAG_OPT_ADAMW,                 /* torch.optim.AdamW: "adamw" */
  SBAG_OPT_SPARSE_ADAM,           /* torch.optim.SparseAdam: "sparse_adam" */
  SBAG_OPT_RMSPROP,               /* torch.optim.RMSprop: "rmsprop" */
  SBAG_OPT_EXACT_SGD,             /* FBGEMM EXACT_SGD: "exact_sgd" */
  SBAG_OPT_EXACT_ADAGRAD,         /* FBGEMM EXACT_ADAGRAD: "exact_adagrad" */
  SBAG_OPT_EXACT_ROWWISE_ADAGRAD, /* FBGEMM EXACT_ROWWISE_ADAGRAD: "exact_rowwise_adagrad" */
  SBAG_OPT_FBGEMM_ADAM,           /* FBGEMM ADAM: "fbgemm_adam" */
  SBAG_OPT_PARTIAL_ROWWISE_ADAM,  /* "partial_rowwise_adam" */
  SBAG_OPT_LAMB,                  /* "lamb" */
  SBAG_OPT_PARTIAL_ROWWISE_LAMB,  /* "partial_rowwise_lamb" */
  SBAG_OPT_LARS_SGD,              /* "lars_sgd" */
  SBAG_OPT_ROWWISE_RMSPROP,       /* FBGEMM ROWWISE_RMSPROP_AR: "rowwise_rmsprop" */
  SBAG_OPT_COUNT
} sbag_optimizer_t;

typedef enum sbag_weight_decay {
  SBAG_DECAY_NONE = 0,
  SBAG_DECAY_L2 = 1,
  SBAG_DECAY_DECOUPLED = 2
} sbag_weight_decay_t;

/* One description for all; each optimizer reads the fields that its definition names. */
typedef struct sbag_optimizer_options {
  sbag_optimizer_t kind;
  double lr;                  /* this table's learning rate, before the schedule's factor */
  double momentum, dampening; /* sgd, rmsprop, lars_sgd */
  int nesterov;               /* sgd */
  int maximize;               /* torch's */
  double weight_decay;
  sbag_weight_decay_t weight_decay_mode; /* exact_rowwise_adagrad */
  double eps;
  double lr_decay;                  /* adagrad: lr / (1 + (step - 1) lr_decay) */
  double initial_accumulator_value; /* adagrad, exact_adagrad, exact_rowwise_adagrad */
  double beta1, beta2;
  int amsgrad;                              /* adam, adamw */
  double alpha;                             /* rmsprop */
  int centered;                             /* rmsprop */
  double eta;                               /* lars_sgd: the trust coefficient */
  double ema_beta, ar_alpha, min_shrinkage; /* rowwise_rmsprop */
  double clip_value; /* merged gradients are clamped to [-clip_value, clip_value]; 0 = off */
} sbag_optimizer_options_t;

/* The defaults of the optimizer's own library, with lr = 0.01 where that has none. */
SBAG_API sbag_optimizer_options_t sbag_optimizer_options_default(sbag_optimizer_t kind);

/* "exact_rowwise_adagrad"; NULL for an unknown kind. */
SBAG_API const char *sbag_optimizer_name(sbag_optimizer_t kind);

/* The kind of a name as above, in any case, or of FBGEMM's and torch's own spelling ("EXACT_SGD",
 * "SparseAdam", "ROWWISE_ADAGRAD"). One name depends on its case: "ADAM" is FBGEMM's, "adam" and "Adam" are
 * torch's. SBAG_ERR_ARGUMENT, listing the names, for an unknown one. */
SBAG_API sbag_code_t sbag_optimizer_from_name(const char *name, sbag_optimizer_t *kind,
                                              sbag_status_t *status);

#ifdef __cplusplus
}
#endif
#endif
