/* Defaults of descriptions, and their checks. */
#include "collection/collection.h"

#include <math.h>
#include <string.h>

sbag_table_options_t sbag_table_options_default(const char *name, int64_t num_embeddings,
                                                int64_t embedding_dim) {
  return (sbag_table_options_t){.name = name,
                                .num_embeddings = num_embeddings,
                                .embedding_dim = embedding_dim,
                                .init = SBAG_INIT_NORMAL,
                                .init_a = 0,
                                .init_b = 1,
                                .norm_type = 2,
                                .optimizer = sbag_optimizer_options_default(SBAG_OPT_SGD),
                                .layout = SBAG_LAYOUT_BLOCK};
}

sbag_table_options_t sbag_table_options_from_pretrained(const char *name, int64_t num_embeddings,
                                                        int64_t embedding_dim, const void *weights) {
  sbag_table_options_t options = sbag_table_options_default(name, num_embeddings, embedding_dim);
  options.from_pretrained = weights;
  options.freeze = 1;
  return options;
}

sbag_feature_options_t sbag_feature_options_default(const char *name, int table) {
  return (sbag_feature_options_t){.name = name, .table = table, .mode = SBAG_MEAN};
}

sbag_collection_options_t sbag_collection_options_default(void) {
  return (sbag_collection_options_t){.dtype = SBAG_F32, .bounds_check = SBAG_BOUNDS_FATAL, .weight_grad = 1};
}

sbag_bags_t sbag_bags_1d(const int64_t *indices, int64_t index_count, const int64_t *offsets,
                         int64_t offset_count) {
  return (sbag_bags_t){
      .indices = indices, .index_count = index_count, .offsets = offsets, .offset_count = offset_count};
}

sbag_bags_t sbag_bags_2d(const int64_t *indices, int64_t bag_count, int64_t bag_length) {
  return (sbag_bags_t){.indices = indices,
                       .index_count = bag_count * bag_length,
                       .offset_count = bag_count,
                       .bag_length = bag_length};
}

static sbag_code_t check_init(const sbag_table_options_t *t, sbag_status_t *status) {
  if (t->init < SBAG_INIT_NORMAL || t->init > SBAG_INIT_CONSTANT)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "table '%s': init %d is none of normal (0), uniform (1), uniform_dlrm (2), constant (3)", t->name,
        (int)t->init);
  if (!isfinite(t->init_a) || !isfinite(t->init_b))
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': init's parameters %g and %g must be finite",
                      t->name, t->init_a, t->init_b);
  if (t->init == SBAG_INIT_NORMAL && t->init_b < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': init's standard deviation %g is below 0",
                      t->name, t->init_b);
  if (t->init == SBAG_INIT_UNIFORM && t->init_a > t->init_b)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': init's range %g to %g is empty", t->name,
                      t->init_a, t->init_b);
  return SBAG_OK;
}

static sbag_code_t check_source(const sbag_table_options_t *t, sbag_status_t *status) {
  if (t->init_file != NULL && t->from_pretrained != NULL)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': from_pretrained and init_file exclude each other", t->name);
  if (t->init_dataset != NULL && t->init_file == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': init_dataset '%s' needs an init_file", t->name,
                      t->init_dataset);
  return SBAG_OK;
}

/* Steps are smaller than what two codes are apart, so training is refused, of a frozen table as well: a
 * checkpoint of it would have lost what its first one had. */
static sbag_code_t check_quantised(const sbag_collection_options_t *options, const sbag_table_options_t *t,
                                   const char *name, sbag_status_t *status) {
  if (!options->weight_grad) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "table '%s': a table kept in %s is for inference (weight_grad 0); one that is trained is "
                    "kept in f32, f16 or bf16",
                    t->name, name);
}

/* A lagging row's steps are replayed when it is next read; in 16 bits each of them would have to be rounded
 * as it would have been at its time, which no closed form gives. */
static sbag_code_t check_storage(const sbag_collection_options_t *options, const sbag_table_options_t *t,
                                 sbag_status_t *status) {
  static const char *const names[] = {"f32", "f16", "bf16", "int8", "int4"};
  if (t->storage < SBAG_STORAGE_FULL || t->storage > SBAG_STORAGE_INT4)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': storage %d is none of full (0), f16 (1), bf16 (2), int8 (3), int4 (4)",
                      t->name, (int)t->storage);
  if (t->rounding < SBAG_ROUNDING_STOCHASTIC || t->rounding > SBAG_ROUNDING_NEAREST)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': rounding %d is neither stochastic (0) nor nearest (1)", t->name,
                      (int)t->rounding);
  if (t->storage == SBAG_STORAGE_FULL) return SBAG_OK;
  if (options->dtype != SBAG_F32)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': a collection in f64 keeps its tables in f64, not in %s", t->name,
                      names[t->storage]);
  if (t->embedding_dim > KERNEL_NARROW_COLUMNS)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': embedding_dim %lld; a table kept in %s has %d columns at most", t->name,
                      (long long)t->embedding_dim, names[t->storage], KERNEL_NARROW_COLUMNS);
  if (kernel_is_quantised(t->storage)) return check_quantised(options, t, names[t->storage], status);
  if (options->weight_grad && !t->freeze && optimizer_info(&t->optimizer).moves_untouched)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "table '%s': %s with these options moves rows that a batch does not touch, which a table kept "
        "in %s does not allow; sparse_adam, the exact_ and row-wise ones, and sgd or adagrad without "
        "momentum and weight_decay do not",
        t->name, sbag_optimizer_name(t->optimizer.kind), names[t->storage]);
  return SBAG_OK;
}

static sbag_code_t check_table(const sbag_table_options_t *t, int index, sbag_status_t *status) {
  if (t->name == NULL || t->name[0] == '\0')
    return status_set(status, SBAG_ERR_ARGUMENT, "table %d has no name", index);
  if (t->num_embeddings < 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': num_embeddings %lld is below 1", t->name,
                      (long long)t->num_embeddings);
  if (t->embedding_dim < 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': embedding_dim %lld is below 1", t->name,
                      (long long)t->embedding_dim);
  if (t->num_embeddings > INT64_MAX / 16 / t->embedding_dim)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': %lld rows of %lld values do not fit a 64-bit size", t->name,
                      (long long)t->num_embeddings, (long long)t->embedding_dim);
  if (t->has_max_norm && !(t->max_norm >= 0))
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': max_norm %g is not a number from 0", t->name,
                      t->max_norm);
  if (t->has_max_norm && !(t->norm_type >= 0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': norm_type %g is not a number from 0 (or infinity)", t->name, t->norm_type);
  SBAG_TRY(check_init(t, status));
  SBAG_TRY(check_source(t, status));
  char where[200] = "table '";
  strncat(where, t->name, 150);
  strcat(where, "'");
  return optimizer_check(&t->optimizer, where, status);
}

static sbag_code_t check_feature(const sbag_feature_options_t *f, int index,
                                 const sbag_table_options_t *tables, int table_count, sbag_status_t *status) {
  if (f->name == NULL || f->name[0] == '\0')
    return status_set(status, SBAG_ERR_ARGUMENT, "feature %d has no name", index);
  if (f->table < 0 || f->table >= table_count)
    return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s': table %d is not in 0 to %d", f->name,
                      f->table, table_count - 1);
  if (f->mode < SBAG_SUM || f->mode > SBAG_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': mode %d is none of sum (0), mean (1), max (2)", f->name, (int)f->mode);
  int64_t rows = tables[f->table].num_embeddings;
  if (f->has_padding_idx && (f->padding_idx >= rows || f->padding_idx < -rows))
    return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s': padding_idx %lld is not in %lld to %lld",
                      f->name, (long long)f->padding_idx, -(long long)rows, (long long)rows - 1);
  if (f->scale_grad_by_freq && f->mode == SBAG_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': scale_grad_by_freq is for sum and mean, not max", f->name);
  return SBAG_OK;
}

sbag_code_t collection_check(const sbag_collection_options_t *options, const sbag_table_options_t *tables,
                             int table_count, const sbag_feature_options_t *features, int feature_count,
                             sbag_status_t *status) {
  if (options->dtype != SBAG_F32 && options->dtype != SBAG_F64)
    return status_set(status, SBAG_ERR_ARGUMENT, "collection: dtype %d is neither f32 (0) nor f64 (1)",
                      (int)options->dtype);
  if (options->bounds_check < SBAG_BOUNDS_FATAL || options->bounds_check > SBAG_BOUNDS_IGNORE)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "collection: bounds_check %d is none of fatal (0), warning (1), ignore (2)",
                      (int)options->bounds_check);
  if (table_count < 1 || feature_count < 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "collection: %d tables and %d features; at least one of each is needed", table_count,
                      feature_count);
  for (int t = 0; t < table_count; t++) {
    SBAG_TRY(check_table(&tables[t], t, status));
    SBAG_TRY(check_storage(options, &tables[t], status));
    for (int other = 0; other < t; other++)
      if (strcmp(tables[t].name, tables[other].name) == 0)
        return status_set(status, SBAG_ERR_ARGUMENT, "table '%s' is given twice (tables %d and %d)",
                          tables[t].name, other, t);
  }
  for (int f = 0; f < feature_count; f++) {
    SBAG_TRY(check_feature(&features[f], f, tables, table_count, status));
    for (int other = 0; other < f; other++)
      if (strcmp(features[f].name, features[other].name) == 0)
        return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s' is given twice (features %d and %d)",
                          features[f].name, other, f);
  }
  return SBAG_OK;
}
