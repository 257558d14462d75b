/* What each optimizer is called, starts from, keeps beside a row, and refuses.
 *
 * One table of names, one of option fields: which optimizers read a field, and the range it may have. */
#include "kernel/optimizer.h"
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* The first name is the canonical one; FBGEMM's and torch's own spellings follow. */
typedef struct optimizer_names {
  const char *canonical;
  const char *others[3];
} optimizer_names_t;

static const optimizer_names_t NAMES[SBAG_OPT_COUNT] = {
    [SBAG_OPT_SGD] = {"sgd", {NULL}},
    [SBAG_OPT_ADAGRAD] = {"adagrad", {NULL}},
    [SBAG_OPT_ADAM] = {"adam", {NULL}},
    [SBAG_OPT_ADAMW] = {"adamw", {NULL}},
    [SBAG_OPT_SPARSE_ADAM] = {"sparse_adam", {"SparseAdam"}},
    [SBAG_OPT_RMSPROP] = {"rmsprop", {NULL}},
    [SBAG_OPT_EXACT_SGD] = {"exact_sgd", {NULL}},
    [SBAG_OPT_EXACT_ADAGRAD] = {"exact_adagrad", {NULL}},
    [SBAG_OPT_EXACT_ROWWISE_ADAGRAD] = {"exact_rowwise_adagrad", {"rowwise_adagrad"}},
    [SBAG_OPT_FBGEMM_ADAM] = {"fbgemm_adam", {NULL}},
    [SBAG_OPT_PARTIAL_ROWWISE_ADAM] = {"partial_rowwise_adam", {NULL}},
    [SBAG_OPT_LAMB] = {"lamb", {NULL}},
    [SBAG_OPT_PARTIAL_ROWWISE_LAMB] = {"partial_rowwise_lamb", {NULL}},
    [SBAG_OPT_LARS_SGD] = {"lars_sgd", {NULL}},
    [SBAG_OPT_ROWWISE_RMSPROP] = {"rowwise_rmsprop", {"rowwise_rmsprop_ar"}},
};

#define BIT(kind) (1u << (unsigned)(kind))
#define ALL       (BIT(SBAG_OPT_COUNT) - 1u)
#define TORCH                                                                                                \
  (BIT(SBAG_OPT_SGD) | BIT(SBAG_OPT_ADAGRAD) | DENSE_ADAMS | BIT(SBAG_OPT_SPARSE_ADAM) |                     \
   BIT(SBAG_OPT_RMSPROP))
#define DENSE_ADAMS (BIT(SBAG_OPT_ADAM) | BIT(SBAG_OPT_ADAMW))
#define FUSED_ADAMS                                                                                          \
  (BIT(SBAG_OPT_FBGEMM_ADAM) | BIT(SBAG_OPT_PARTIAL_ROWWISE_ADAM) | BIT(SBAG_OPT_LAMB) |                     \
   BIT(SBAG_OPT_PARTIAL_ROWWISE_LAMB))
#define ADAGRADS (BIT(SBAG_OPT_ADAGRAD) | BIT(SBAG_OPT_EXACT_ADAGRAD) | BIT(SBAG_OPT_EXACT_ROWWISE_ADAGRAD))

/* A number among the options. An optimizer that does not read it takes it only where it is not set. */
typedef struct option_number {
  const char *name;
  size_t offset;
  unsigned readers;  /* a BIT for each optimizer */
  int refuse_unread; /* 1: 0 means off, and another value that nobody would read is refused */
  double low, high;  /* low <= value, and value <= high, or < high */
  int below_high;
} option_number_t;

#define AT(field) #field, offsetof(sbag_optimizer_options_t, field)

static const option_number_t NUMBERS[] = {
    {AT(lr), ALL, 0, 0, INFINITY, 1},
    {AT(momentum), BIT(SBAG_OPT_SGD) | BIT(SBAG_OPT_RMSPROP) | BIT(SBAG_OPT_LARS_SGD), 1, 0, INFINITY, 1},
    {AT(dampening), BIT(SBAG_OPT_SGD), 1, 0, INFINITY, 1},
    {AT(weight_decay),
     BIT(SBAG_OPT_SGD) | BIT(SBAG_OPT_ADAGRAD) | DENSE_ADAMS | BIT(SBAG_OPT_RMSPROP) |
         BIT(SBAG_OPT_EXACT_ROWWISE_ADAGRAD) | FUSED_ADAMS | BIT(SBAG_OPT_LARS_SGD),
     1, 0, INFINITY, 1},
    {AT(eps), ALL & ~(BIT(SBAG_OPT_SGD) | BIT(SBAG_OPT_EXACT_SGD) | BIT(SBAG_OPT_LARS_SGD)), 0, 0, INFINITY,
     1},
    {AT(lr_decay), BIT(SBAG_OPT_ADAGRAD), 1, 0, INFINITY, 1},
    {AT(initial_accumulator_value), ADAGRADS, 1, 0, INFINITY, 1},
    {AT(beta1), DENSE_ADAMS | BIT(SBAG_OPT_SPARSE_ADAM) | FUSED_ADAMS, 0, 0, 1, 1},
    {AT(beta2), DENSE_ADAMS | BIT(SBAG_OPT_SPARSE_ADAM) | FUSED_ADAMS, 0, 0, 1, 1},
    {AT(alpha), BIT(SBAG_OPT_RMSPROP), 0, 0, 1, 0},
    {AT(eta), BIT(SBAG_OPT_LARS_SGD), 0, 0, INFINITY, 1},
    {AT(ema_beta), BIT(SBAG_OPT_ROWWISE_RMSPROP), 0, 0, 1, 1},
    {AT(ar_alpha), BIT(SBAG_OPT_ROWWISE_RMSPROP), 1, 0, INFINITY, 1},
    {AT(min_shrinkage), BIT(SBAG_OPT_ROWWISE_RMSPROP), 0, 0, 1, 0},
    {AT(clip_value), ALL, 0, 0, INFINITY, 1},
};

/* A switch among the options. */
typedef struct option_switch {
  const char *name;
  size_t offset;
  unsigned readers;
} option_switch_t;

static const option_switch_t SWITCHES[] = {
    {AT(nesterov), BIT(SBAG_OPT_SGD)},
    {AT(maximize), TORCH},
    {AT(amsgrad), DENSE_ADAMS},
    {AT(centered), BIT(SBAG_OPT_RMSPROP)},
};

const char *sbag_optimizer_name(sbag_optimizer_t kind) {
  return (unsigned)kind < SBAG_OPT_COUNT ? NAMES[kind].canonical : NULL;
}

/* Sources: the constructors of torch.optim, and of FBGEMM's SplitTableBatchedEmbeddingBagsCodegen. torch's
 * SGD had no default rate until 2.2: 0.01, as FBGEMM's. */
sbag_optimizer_options_t sbag_optimizer_options_default(sbag_optimizer_t kind) {
  sbag_optimizer_options_t options = {.kind = kind,
                                      .lr = 0.01,
                                      .eps = 1e-8,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .alpha = 0.99,
                                      .eta = 0.001,
                                      .ema_beta = 0.99,
                                      .min_shrinkage = 0.1};
  switch (kind) {
  case SBAG_OPT_ADAGRAD:
    options.eps = 1e-10;
    break;
  case SBAG_OPT_ADAM:
  case SBAG_OPT_SPARSE_ADAM:
    options.lr = 1e-3;
    break;
  case SBAG_OPT_ADAMW:
    options.lr = 1e-3;
    options.weight_decay = 1e-2;
    break;
  case SBAG_OPT_LARS_SGD:
    options.momentum = 0.9;
    break;
  default:
    break;
  }
  return options;
}

/* Appends the names of the kinds in `set` to `text`, which has room for all of them. */
static const char *names_join(unsigned set, char *text, size_t size) {
  size_t used = 0;
  text[0] = '\0';
  for (int kind = 0; kind < SBAG_OPT_COUNT; kind++) {
    if ((set & BIT(kind)) == 0) continue;
    const char *name = NAMES[kind].canonical;
    size_t need = strlen(name) + (used > 0 ? 2 : 0);
    if (used + need >= size) break;
    if (used > 0) memcpy(text + used, ", ", 2);
    memcpy(text + used + need - strlen(name), name, strlen(name) + 1);
    used += need;
  }
  return text;
}

sbag_code_t sbag_optimizer_from_name(const char *name, sbag_optimizer_t *kind, sbag_status_t *status) {
  if (name == NULL || kind == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "optimizer: %s is NULL", name == NULL ? "the name" : "kind");
  /* The one spelling that depends on case: FBGEMM writes its own Adam "ADAM". */
  if (strcmp(name, "ADAM") == 0) {
    *kind = SBAG_OPT_FBGEMM_ADAM;
    return SBAG_OK;
  }
  for (int k = 0; k < SBAG_OPT_COUNT; k++) {
    int same = strcasecmp(name, NAMES[k].canonical) == 0;
    for (int i = 0; !same && i < 3 && NAMES[k].others[i] != NULL; i++)
      same = strcasecmp(name, NAMES[k].others[i]) == 0;
    if (!same) continue;
    *kind = (sbag_optimizer_t)k;
    return SBAG_OK;
  }
  char known[SBAG_MESSAGE_BYTES];
  return status_set(status, SBAG_ERR_ARGUMENT, "optimizer '%.60s' is unknown: use one of %s", name,
                    names_join(ALL, known, sizeof known));
}

static void state_add(optimizer_info_t *info, const char *name, int row_wise, double initial) {
  info->states[info->state_count++] =
      (optimizer_state_info_t){.name = name, .row_wise = row_wise, .initial = initial};
}

static void states_of_torch(const sbag_optimizer_options_t *options, optimizer_info_t *info) {
  switch (options->kind) {
  case SBAG_OPT_SGD:
    if (options->momentum != 0) state_add(info, "momentum_buffer", 0, 0);
    info->moves_untouched = options->momentum != 0 || options->weight_decay != 0;
    break;
  case SBAG_OPT_ADAGRAD:
    state_add(info, "sum", 0, options->initial_accumulator_value);
    info->moves_untouched = options->weight_decay != 0;
    break;
  case SBAG_OPT_RMSPROP:
    state_add(info, "square_avg", 0, 0);
    if (options->centered) state_add(info, "grad_avg", 0, 0);
    if (options->momentum != 0) state_add(info, "momentum_buffer", 0, 0);
    info->moves_untouched = 1;
    break;
  default: /* the three Adams */
    state_add(info, "exp_avg", 0, 0);
    state_add(info, "exp_avg_sq", 0, 0);
    if (options->kind != SBAG_OPT_SPARSE_ADAM && options->amsgrad) state_add(info, "max_exp_avg_sq", 0, 0);
    info->moves_untouched = options->kind != SBAG_OPT_SPARSE_ADAM;
    break;
  }
}

optimizer_info_t optimizer_info(const sbag_optimizer_options_t *options) {
  optimizer_info_t info = {0};
  switch (options->kind) {
  case SBAG_OPT_EXACT_SGD:
    break;
  case SBAG_OPT_EXACT_ADAGRAD:
    state_add(&info, "momentum1", 0, options->initial_accumulator_value);
    break;
  case SBAG_OPT_EXACT_ROWWISE_ADAGRAD:
    state_add(&info, "momentum1", 1, options->initial_accumulator_value);
    break;
  case SBAG_OPT_LARS_SGD:
    state_add(&info, "momentum1", 0, 0);
    break;
  case SBAG_OPT_FBGEMM_ADAM:
  case SBAG_OPT_LAMB:
    state_add(&info, "momentum1", 0, 0);
    state_add(&info, "momentum2", 0, 0);
    break;
  case SBAG_OPT_PARTIAL_ROWWISE_ADAM:
  case SBAG_OPT_PARTIAL_ROWWISE_LAMB:
    state_add(&info, "momentum1", 0, 0);
    state_add(&info, "momentum2", 1, 0);
    break;
  case SBAG_OPT_ROWWISE_RMSPROP:
    state_add(&info, "momentum1", 1, 0);
    state_add(&info, "prev_iter", 1, 0);
    break;
  default:
    states_of_torch(options, &info);
    break;
  }
  return info;
}

static sbag_code_t number_check(const option_number_t *field, const sbag_optimizer_options_t *options,
                                const char *where, sbag_status_t *status) {
  double value;
  memcpy(&value, (const char *)options + field->offset, sizeof value);
  const char *name = NAMES[options->kind].canonical;
  if (!isfinite(value))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s: %s is %g, not a finite number", where, name,
                      field->name, value);
  if ((field->readers & BIT(options->kind)) == 0) {
    if (!field->refuse_unread || value == 0) return SBAG_OK;
    char known[256];
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s has no %s (given: %g): only %s", where, name,
                      field->name, value, names_join(field->readers, known, sizeof known));
  }
  if (value < field->low)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s: %s %g is below %g", where, name, field->name, value,
                      field->low);
  if (value > field->high || (field->below_high && value >= field->high))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s: %s %g is not %s %g", where, name, field->name,
                      value, field->below_high ? "below" : "at most", field->high);
  return SBAG_OK;
}

static sbag_code_t switch_check(const option_switch_t *field, const sbag_optimizer_options_t *options,
                                const char *where, sbag_status_t *status) {
  int value;
  memcpy(&value, (const char *)options + field->offset, sizeof value);
  const char *name = NAMES[options->kind].canonical;
  if (value != 0 && value != 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s: %s is %d, neither 0 nor 1", where, name,
                      field->name, value);
  if (value == 0 || (field->readers & BIT(options->kind)) != 0) return SBAG_OK;
  char known[256];
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s has no %s: only %s", where, name, field->name,
                    names_join(field->readers, known, sizeof known));
}

/* The rules between two fields. */
static sbag_code_t pairs_check(const sbag_optimizer_options_t *options, const char *where,
                               sbag_status_t *status) {
  const char *name = NAMES[options->kind].canonical;
  if (options->nesterov && (options->momentum == 0 || options->dampening != 0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: %s: nesterov needs momentum above 0 and dampening 0 (given: %g and %g)", where,
                      name, options->momentum, options->dampening);
  int mode = (int)options->weight_decay_mode;
  if (mode < SBAG_DECAY_NONE || mode > SBAG_DECAY_DECOUPLED)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: %s: weight_decay_mode %d is unknown: 0 none, 1 L2, 2 decoupled", where, name,
                      mode);
  if (options->kind != SBAG_OPT_EXACT_ROWWISE_ADAGRAD) {
    if (mode == SBAG_DECAY_NONE) return SBAG_OK;
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: %s has no weight_decay_mode (given: %d): only exact_rowwise_adagrad", where, name,
                      mode);
  }
  if (mode == SBAG_DECAY_NONE && options->weight_decay != 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: %s: weight_decay %g needs weight_decay_mode 1 (L2) or 2 (decoupled)", where, name,
                      options->weight_decay);
  return SBAG_OK;
}

sbag_code_t optimizer_check(const sbag_optimizer_options_t *options, const char *where,
                            sbag_status_t *status) {
  if ((unsigned)options->kind >= SBAG_OPT_COUNT)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: optimizer kind %d is unknown: below %d", where,
                      (int)options->kind, (int)SBAG_OPT_COUNT);
  for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++)
    SBAG_TRY(number_check(&NUMBERS[i], options, where, status));
  for (size_t i = 0; i < sizeof SWITCHES / sizeof SWITCHES[0]; i++)
    SBAG_TRY(switch_check(&SWITCHES[i], options, where, status));
  return pairs_check(options, where, status);
}
