/* An optimizer case: weights and states after every update, once in float32 and once in float64. See
 * golden_case.h. */
#include "golden_case.h"

#include <math.h>
#include <string.h>

static const char *read_kind(arena_t *arena, const golden_group_t *group, sbag_optimizer_t *kind) {
  sbag_status_t status = {0};
  const char *name = golden_text(group, "optimizer"), *source = golden_text(group, "source");
  if (sbag_optimizer_from_name(name, kind, &status) != SBAG_OK)
    return arena_text(arena, "%s", status.message);
  /* torch and FBGEMM both call theirs Adam. */
  if (*kind == SBAG_OPT_ADAM && strncmp(source, "torch", 5) != 0) *kind = SBAG_OPT_FBGEMM_ADAM;
  return NULL;
}

/* Where a hyper-parameter goes; NULL if it is an int (see int_of) or unknown. */
static double *double_of(sbag_optimizer_options_t *options, const char *name) {
  const struct {
    const char *name;
    double *at;
  } fields[] = {{"lr", &options->lr},
                {"momentum", &options->momentum},
                {"dampening", &options->dampening},
                {"weight_decay", &options->weight_decay},
                {"eps", &options->eps},
                {"lr_decay", &options->lr_decay},
                {"initial_accumulator_value", &options->initial_accumulator_value},
                {"beta1", &options->beta1},
                {"beta2", &options->beta2},
                {"alpha", &options->alpha},
                {"eta", &options->eta},
                {"ema_beta", &options->ema_beta},
                {"ar_alpha", &options->ar_alpha},
                {"min_shrinkage", &options->min_shrinkage}};
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
    if (strcmp(name, fields[i].name) == 0) return fields[i].at;
  return NULL;
}

static int *int_of(sbag_optimizer_options_t *options, const char *name) {
  if (strcmp(name, "nesterov") == 0) return &options->nesterov;
  if (strcmp(name, "maximize") == 0) return &options->maximize;
  if (strcmp(name, "amsgrad") == 0) return &options->amsgrad;
  if (strcmp(name, "centered") == 0) return &options->centered;
  return NULL;
}

static const char *read_options(arena_t *arena, const golden_group_t *group,
                                sbag_optimizer_options_t *options) {
  sbag_optimizer_t kind;
  const char *wrong = read_kind(arena, group, &kind);
  if (wrong != NULL) return wrong;
  *options = sbag_optimizer_options_default(kind);
  for (int i = 0; i < group->attribute_count; i++) {
    const golden_attribute_t *attribute = &group->attributes[i];
    if (strncmp(attribute->name, "hp_", 3) != 0 || strcmp(attribute->name, "hp_lr_schedule") == 0) continue;
    if (attribute->numbers == NULL || attribute->count != 1)
      return arena_text(arena, "%s: is not one number", attribute->name);
    double *real = double_of(options, attribute->name + 3);
    int *whole = int_of(options, attribute->name + 3);
    if (real != NULL)
      *real = attribute->numbers[0];
    else if (whole != NULL)
      *whole = (int)attribute->numbers[0];
    else if (strcmp(attribute->name, "hp_weight_decay_mode") == 0)
      options->weight_decay_mode = (sbag_weight_decay_t)attribute->numbers[0];
    else
      return arena_text(arena, "%s: no optimizer knows it", attribute->name);
  }
  /* With a schedule the whole rate is given to each update. */
  if (golden_attribute(group, "hp_lr_schedule") != NULL) options->lr = 1;
  return NULL;
}

static const char *lr_factor_of(const golden_group_t *group, int step, double *factor) {
  const golden_attribute_t *schedule = golden_attribute(group, "hp_lr_schedule");
  *factor = 1;
  if (schedule == NULL) return NULL;
  if (schedule->numbers == NULL || step >= schedule->count) return "hp_lr_schedule: is shorter than the run";
  *factor = schedule->numbers[step];
  return NULL;
}

/* The weight and each state as the library holds them. */
static const char *read_library(const golden_run_t *run, arena_t *arena, const oracle_table_t *table,
                                sbag_collection_h collection, sbag_dtype_t dtype, golden_results_t *results) {
  double *weight = arena_doubles(arena, table->rows * table->dim);
  const char *wrong = golden_read_rows(run, arena, collection, dtype, table->rows, table->dim, -1, weight);
  golden_result_add(results, "weight", table->rows * table->dim, weight, NULL);
  int states = sbag_collection_state_count(collection, 0);
  for (int s = 0; wrong == NULL && s < states; s++) {
    int64_t width = sbag_collection_state_width(collection, 0, s);
    double *values = arena_doubles(arena, table->rows * width);
    wrong = golden_read_rows(run, arena, collection, dtype, table->rows, width, s, values);
    golden_result_add(results, arena_text(arena, "state_%s", sbag_collection_state_name(collection, 0, s)),
                      table->rows * width, values, NULL);
  }
  return wrong;
}

static void step_oracle(arena_t *arena, const golden_lookup_t *lookup, oracle_optimizer_t *optimizer,
                        oracle_table_t *table, double lr, golden_results_t *results) {
  int64_t cells = table->rows * table->dim, pooled = lookup->bags.bag_count * table->dim;
  double *grad = arena_doubles(arena, cells), *scale = arena_doubles(arena, cells);
  int64_t *touched = arena_ints(arena, table->rows);
  oracle_forward(table, &lookup->feature, &lookup->bags, arena_doubles(arena, pooled),
                 arena_doubles(arena, pooled), NULL);
  oracle_backward(table, &lookup->feature, &lookup->bags, lookup->grad_output, grad, scale, touched, NULL,
                  NULL);
  oracle_optimizer_update(optimizer, table, grad, touched, lr, 1);
  golden_result_add(results, "weight", cells, table->weight, NULL);
  for (int s = 0; s < optimizer->state_count; s++)
    golden_result_add(results, arena_text(arena, "state_%s", optimizer->states[s].name),
                      table->rows * optimizer->states[s].width, optimizer->states[s].values, NULL);
}

static const char *compare_step(arena_t *arena, const golden_group_t *group, const golden_group_t *step,
                                const golden_results_t *results, sbag_dtype_t dtype) {
  const char *wrong = NULL, *where = arena_text(arena, "%s/", step->name);
  double error = golden_number(group, "f32_abs_err_weight", 0);
  for (int i = 0; wrong == NULL && i < step->array_count; i++) {
    sbag_dtype_t kept;
    const char *name = golden_base_name(arena, &step->arrays[i], &kept);
    int is_weight = strcmp(name, "weight") == 0;
    if ((!is_weight && strncmp(name, "state_", 6) != 0) || kept != dtype) continue;
    wrong = golden_compare(arena, where, &step->arrays[i], results, dtype, is_weight ? error : 0);
  }
  return wrong;
}

/* The whole trajectory in one dtype. */
static const char *run_dtype(const golden_run_t *run, arena_t *arena, const golden_group_t *group,
                             const sbag_optimizer_options_t *options, sbag_dtype_t dtype) {
  sbag_collection_h collection = NULL;
  oracle_optimizer_t oracle = {0};
  oracle_table_t table = {0};
  const char *wrong = NULL;
  for (int k = 0; wrong == NULL && k < group->group_count; k++) {
    golden_lookup_t lookup;
    golden_results_t ignored = {0}, results = {0};
    double factor;
    wrong = golden_lookup_read(arena, group, &group->groups[k], golden_array(group, "weight0"), &lookup);
    if (wrong == NULL) wrong = lr_factor_of(group, k, &factor);
    if (wrong != NULL) break;
    if (k == 0) {
      table = lookup.table;
      oracle = oracle_optimizer_create(arena, options, table.rows, table.dim);
      if (!run->oracle) wrong = golden_collection(run, arena, &lookup, options, dtype, &collection);
    }
    if (run->oracle) {
      step_oracle(arena, &lookup, &oracle, &table, options->lr * factor, &results);
    } else {
      if (wrong == NULL) wrong = golden_step(run, arena, &lookup, collection, dtype, factor, &ignored);
      if (wrong == NULL) wrong = read_library(run, arena, &table, collection, dtype, &results);
    }
    if (wrong == NULL) wrong = compare_step(arena, group, &group->groups[k], &results, dtype);
  }
  sbag_collection_destroy(&collection);
  return wrong;
}

const char *golden_optimizer_case(const golden_run_t *run, arena_t *arena, const golden_group_t *group) {
  sbag_optimizer_options_t options;
  const golden_array_t *weight = golden_array(group, "weight0");
  if (weight->values == NULL) return "weight0: is not floating point";
  if (golden_number(group, "num_steps", group->group_count) != group->group_count)
    return arena_text(arena, "has %d steps, not as many as num_steps", group->group_count);
  const char *wrong = read_options(arena, group, &options);
  if (wrong == NULL && weight->bytes == 4 && !run->oracle)
    wrong = run_dtype(run, arena, group, &options, SBAG_F32);
  if (wrong == NULL) wrong = run_dtype(run, arena, group, &options, SBAG_F64);
  return wrong;
}
