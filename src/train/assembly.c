/* Matching the config's tables and features with what the reader gives. */
#include "train/assembly.h"
#include "reader/criteo.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the reader's config ---- */

static void movielens_source(const settings_movielens_t *from, reader_movielens_config_t *to) {
  *to = (reader_movielens_config_t){.folder = from->folder,
                                    .name = from->name,
                                    .like_threshold = from->like_threshold,
                                    .history_length = from->history_length,
                                    .shuffle_labels = from->shuffle_labels};
}

static sbag_code_t delimited_source(const settings_delimited_t *from, assembly_source_t *source,
                                    sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(from->columns.count, sizeof(reader_column_t)), "columns",
                      &block, status));
  source->columns = block;
  const settings_column_t *columns = from->columns.items;
  for (int i = 0; i < from->columns.count; i++) {
    const settings_column_t *c = &columns[i];
    reader_column_t *to = &source->columns[i];
    if (strlen(c->name) >= sizeof to->name)
      return config_refuse(c->node, status, "the name is longer than %zu characters", sizeof to->name - 1);
    snprintf(to->name, sizeof to->name, "%s", c->name);
    to->index = c->index >= 0 ? (int)c->index : i;
    to->kind = (reader_column_kind_t)c->kind;
    to->transform = (reader_transform_t)c->transform;
    to->missing = c->missing;
    to->mapping = (reader_mapping_t)c->mapping;
    to->rows = c->rows;
    to->min_count = c->min_count;
    to->max_length = c->max_length;
    to->separator = c->separator;
  }
  reader_delimited_config_t *to = &source->config.source.delimited;
  *to = (reader_delimited_config_t){.paths = from->path.values,
                                    .path_count = from->path.count,
                                    .delimiter = from->delimiter,
                                    .header_lines = (int)from->header_lines,
                                    .columns = source->columns,
                                    .column_count = from->columns.count,
                                    .split_by_order = from->split_by_order,
                                    .skip_bad_rows = from->skip_bad_rows,
                                    .shuffle_window = from->shuffle_window};
  memcpy(to->split, from->split.values, sizeof to->split);
  return SBAG_OK;
}

static sbag_code_t criteo_source(const settings_criteo_t *from, assembly_source_t *source,
                                 sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(CRITEO_COLUMNS, sizeof(reader_column_t)), "columns",
                      &block, status));
  source->columns = block;
  const criteo_options_t options = {.transform = (reader_transform_t)from->transform,
                                    .mapping = (reader_mapping_t)from->mapping,
                                    .min_count = from->min_count,
                                    .rows = from->rows.values,
                                    .row_count = from->rows.count,
                                    .expand = from->multi_hot.values,
                                    .expand_count = from->multi_hot.count};
  reader_criteo_columns(&options, source->columns);
  reader_delimited_config_t *to = &source->config.source.delimited;
  *to = (reader_delimited_config_t){.paths = from->path.values,
                                    .path_count = from->path.count,
                                    .delimiter = '\t',
                                    .field_count = CRITEO_COLUMNS,
                                    .columns = source->columns,
                                    .column_count = CRITEO_COLUMNS,
                                    .split_by_order = from->split_by_order,
                                    .skip_bad_rows = from->skip_bad_rows,
                                    .shuffle_window = from->shuffle_window};
  memcpy(to->split, from->split.values, sizeof to->split);
  source->config.kind = READER_DELIMITED;
  return SBAG_OK;
}

static sbag_code_t synthetic_source(const settings_synthetic_t *from, assembly_source_t *source,
                                    sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(
      mem_calloc(source->mem, mem_array_bytes(from->rows.count, sizeof(int64_t)), "bags", &block, status));
  source->bag_length = block;
  for (int i = 0; i < from->rows.count; i++)
    source->bag_length[i] = from->bag_length.values[from->bag_length.count > 1 ? i : 0];
  reader_synthetic_config_t *to = &source->config.source.synthetic;
  *to = (reader_synthetic_config_t){.dense_count = (int)from->dense_count,
                                    .feature_count = from->rows.count,
                                    .rows = from->rows.values,
                                    .bag_length = source->bag_length,
                                    .zipf = from->zipf};
  memcpy(to->samples, from->samples.values, sizeof to->samples);
  return SBAG_OK;
}

/* The paths of all splits in one list. A split of one path "" has none. */
static sbag_code_t join_paths(const config_texts_t *lists[READER_SPLITS], assembly_source_t *source,
                              int *path_count, int split_paths[READER_SPLITS], sbag_status_t *status) {
  void *block = NULL;
  int count = 0;
  for (int s = 0; s < READER_SPLITS; s++) count += lists[s]->count;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(count, sizeof(char *)), "paths", &block, status));
  source->paths = block;
  *path_count = 0;
  for (int s = 0; s < READER_SPLITS; s++) {
    split_paths[s] = lists[s]->count == 1 && lists[s]->values[0][0] == '\0' ? 0 : lists[s]->count;
    for (int i = 0; i < split_paths[s]; i++) source->paths[(*path_count)++] = lists[s]->values[i];
  }
  return SBAG_OK;
}

/* A label, a tab, a text. */
static sbag_code_t text_source(const settings_text_t *from, assembly_source_t *source,
                               sbag_status_t *status) {
  const config_texts_t *lists[READER_SPLITS] = {&from->train, &from->valid, &from->test};
  reader_delimited_config_t *to = &source->config.source.delimited;
  void *block = NULL;
  SBAG_TRY(mem_calloc(source->mem, 2 * sizeof(reader_column_t), "columns", &block, status));
  source->columns = block;
  source->columns[0] = (reader_column_t){.name = "label", .kind = COLUMN_CLASS};
  source->columns[1] = (reader_column_t){.name = "text",
                                         .index = 1,
                                         .kind = COLUMN_MULTI_HOT,
                                         .mapping = MAPPING_HASH,
                                         .rows = from->buckets,
                                         .max_length = from->max_length,
                                         .separator = ' ',
                                         .ngrams = (int)from->ngrams,
                                         .lowercase = from->lowercase};
  *to = (reader_delimited_config_t){.delimiter = '\t',
                                    .field_count = 2,
                                    .columns = source->columns,
                                    .column_count = 2,
                                    .split = {1, 0, 0},
                                    .skip_bad_rows = from->skip_bad_rows,
                                    .shuffle_window = from->shuffle_window};
  SBAG_TRY(join_paths(lists, source, &to->path_count, to->split_paths, status));
  to->paths = source->paths;
  source->config.kind = READER_DELIMITED;
  return SBAG_OK;
}

static sbag_code_t ranking_source(const settings_ranking_t *from, assembly_source_t *source,
                                  sbag_status_t *status) {
  const config_texts_t *lists[READER_SPLITS] = {&from->train, &from->valid, &from->test};
  reader_ranking_config_t *to = &source->config.source.ranking;
  *to = (reader_ranking_config_t){.held_out = from->held_out,
                                  .holdout = {from->holdout.values[0], from->holdout.values[1]},
                                  .min_rating = from->min_rating,
                                  .negatives = from->negatives,
                                  .history_length = from->history_length,
                                  .skip_bad_rows = from->skip_bad_rows};
  SBAG_TRY(join_paths(lists, source, &to->path_count, to->split_paths, status));
  to->paths = source->paths;
  return SBAG_OK;
}

static void corpus_source(const settings_corpus_t *from, reader_corpus_config_t *to) {
  *to = (reader_corpus_config_t){.paths = from->path.values,
                                 .path_count = from->path.count,
                                 .lowercase = from->lowercase,
                                 .min_count = from->min_count,
                                 .window = from->window,
                                 .negatives = from->negatives,
                                 .subsample = from->subsample,
                                 .skip_bad_rows = from->skip_bad_rows};
  memcpy(to->split, from->split.values, sizeof to->split);
}

static sbag_code_t fill_source(const settings_data_t *data, assembly_source_t *source,
                               sbag_status_t *status) {
  switch ((settings_source_t)data->kind) {
  case SETTINGS_MOVIELENS:
    movielens_source(&data->movielens, &source->config.source.movielens);
    return SBAG_OK;
  case SETTINGS_DELIMITED:
    return delimited_source(&data->delimited, source, status);
  case SETTINGS_CRITEO:
    return criteo_source(&data->criteo, source, status);
  case SETTINGS_BINARY:
    source->config.source.binary =
        (reader_binary_config_t){.path = data->binary.path, .shuffle_window = data->binary.shuffle_window};
    return SBAG_OK;
  case SETTINGS_TEXT:
    return text_source(&data->text, source, status);
  case SETTINGS_RANKING:
    return ranking_source(&data->ranking, source, status);
  case SETTINGS_CORPUS:
    corpus_source(&data->corpus, &source->config.source.corpus);
    return SBAG_OK;
  case SETTINGS_SYNTHETIC:
    break;
  }
  return synthetic_source(&data->synthetic, source, status);
}

sbag_code_t assembly_source(const settings_t *settings, int64_t global_batch, int rank, int rank_count,
                            mem_t *mem, assembly_source_t *source, sbag_status_t *status) {
  const settings_data_t *data = &settings->data;
  *source = (assembly_source_t){.mem = mem};
  source->config = (reader_config_t){.kind = (reader_kind_t)data->kind,
                                     .seed = (uint64_t)settings_data_seed(settings),
                                     .split_seed = (uint64_t)data->split_seed,
                                     .global_batch = global_batch,
                                     .slice = settings->train.reproducible ? MODEL_SLICE : 1,
                                     .shuffle = data->shuffle,
                                     .prefetch = (int)data->prefetch,
                                     .rank = rank,
                                     .rank_count = rank_count};
  sbag_code_t code = fill_source(data, source, status);
  if (code == SBAG_OK && data->files.count > 0)
    code = assembly_source_files(source, &data->files, data->unlabelled, status);
  if (code != SBAG_OK) assembly_source_clear(source);
  return code;
}

/* The label's column is not there: those behind it move forward. */
static void drop_label(assembly_source_t *source) {
  reader_delimited_config_t *d = &source->config.source.delimited;
  int place = INT32_MAX;
  for (int i = 0; i < d->column_count; i++)
    if (source->columns[i].kind == COLUMN_LABEL || source->columns[i].kind == COLUMN_CLASS)
      place = source->columns[i].index;
  for (int i = 0; i < d->column_count; i++)
    if (source->columns[i].index > place) source->columns[i].index--;
  if (d->field_count > 0) d->field_count--;
}

/* Behind the files that users' training items come from. */
static sbag_code_t ranking_files(assembly_source_t *source, const config_texts_t *paths,
                                 sbag_status_t *status) {
  reader_ranking_config_t *r = &source->config.source.ranking;
  int kept = r->split_paths[READER_TRAIN];
  void *block = NULL;
  SBAG_TRY(
      mem_calloc(source->mem, mem_array_bytes(kept + paths->count, sizeof(char *)), "paths", &block, status));
  const char **joined = block;
  for (int i = 0; i < kept; i++) joined[i] = source->paths[i];
  for (int i = 0; i < paths->count; i++) joined[kept + i] = paths->values[i];
  mem_free(source->mem, source->paths);
  source->paths = joined;
  r->paths = joined;
  r->path_count = kept + paths->count;
  r->split_paths[READER_VALID] = 0;
  r->split_paths[READER_TEST] = paths->count;
  return SBAG_OK;
}

static void corpus_files(reader_corpus_config_t *c, const config_texts_t *paths) {
  c->paths = paths->values;
  c->path_count = paths->count;
  c->split[READER_TRAIN] = c->split[READER_VALID] = 0;
  c->split[READER_TEST] = 1;
}

sbag_code_t assembly_source_files(assembly_source_t *source, const config_texts_t *paths, int unlabelled,
                                  sbag_status_t *status) {
  reader_config_t *config = &source->config;
  reader_delimited_config_t *d = &config->source.delimited;
  config->shuffle = 0;
  if (config->kind == READER_BINARY && paths->count == 1 && !unlabelled) {
    config->source.binary.path = paths->values[0];
    return SBAG_OK;
  }
  if (config->kind == READER_RANKING && unlabelled && paths->count == 1) {
    config->source.ranking.users_path = paths->values[0];
    return SBAG_OK;
  }
  if (config->kind == READER_RANKING && !config->source.ranking.held_out && !unlabelled)
    return ranking_files(source, paths, status);
  if (config->kind == READER_CORPUS && !unlabelled) {
    corpus_files(&config->source.corpus, paths);
    return SBAG_OK;
  }
  if (config->kind != READER_DELIMITED)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: other files than the config's must be of data.kind %s",
                      paths->values[0],
                      unlabelled ? "delimited, criteo, text or ranking"
                                 : "delimited, criteo, text, ranking (lists), corpus or binary");
  d->paths = paths->values;
  d->path_count = paths->count;
  d->split_by_order = 1;
  memset(d->split_paths, 0, sizeof d->split_paths);
  d->skip_bad_rows = d->skip_bad_rows && !unlabelled; /* a prediction has a line for every row */
  d->split[READER_TRAIN] = d->split[READER_VALID] = 0;
  d->split[READER_TEST] = 1;
  d->unlabelled = unlabelled > 0;
  if (unlabelled == 2) drop_label(source);
  return SBAG_OK;
}

void assembly_source_clear(assembly_source_t *source) {
  if (source->mem == NULL) return;
  mem_free(source->mem, source->columns);
  mem_free(source->mem, source->bag_length);
  mem_free(source->mem, source->paths);
  memset(source, 0, sizeof *source);
}

/* ---- the model's config ---- */

/* What is being put together. */
typedef struct builder {
  const settings_t *settings;
  const inputs_t *inputs;
  assembly_t *out;
  int table_count, rank_used;
  sbag_status_t *status;
} builder_t;

static const settings_feature_t *find_feature(const settings_t *s, const char *name) {
  const settings_feature_t *features = s->features.items;
  for (int i = 0; i < s->features.count; i++)
    if (strcmp(features[i].name, name) == 0) return &features[i];
  return NULL;
}

/* The model's features: the reader's, then their first-order weights. */
static int feature_count(const builder_t *b) {
  return b->out->names != NULL ? 2 * b->out->read_count : b->out->read_count;
}

int assembly_read_feature(const assembly_t *assembly, int feature) {
  return feature < assembly->read_count ? feature : feature - assembly->read_count;
}

static const char *feature_name(const builder_t *b, int i) {
  int read = b->out->read_count;
  return i < read ? b->inputs->features[i].name : b->out->names[i - read].text;
}

/* The one that the config gives, or the reader's, or one of the feature's own name. */
static const char *table_of(const builder_t *b, int i) {
  const settings_feature_t *given = find_feature(b->settings, feature_name(b, i));
  if (given != NULL && given->table[0] != '\0') return given->table;
  const char *table = i < b->out->read_count ? b->inputs->features[i].table : NULL;
  return table != NULL ? table : feature_name(b, i);
}

static int is_first_order(const builder_t *b, const char *table) {
  for (int i = 0; b->out->names != NULL && i < b->out->read_count; i++)
    if (strcmp(b->out->names[i].text, table) == 0) return 1;
  return 0;
}

/* Every feature that the config names must exist. */
static sbag_code_t check_features(const builder_t *b) {
  const char *names[64];
  char all[300] = "";
  int count = feature_count(b);
  for (int i = 0; i < count && i < 64; i++) {
    names[i] = feature_name(b, i);
    size_t used = strlen(all);
    snprintf(all + used, sizeof all - used, "%s%s", used > 0 ? ", " : "", names[i]);
  }
  const settings_feature_t *given = b->settings->features.items;
  for (int i = 0; i < b->settings->features.count; i++) {
    int found = 0;
    for (int j = 0; j < count; j++) found |= strcmp(feature_name(b, j), given[i].name) == 0;
    if (found) continue;
    const char *nearest = config_nearest(given[i].name, names, count < 64 ? count : 64);
    if (nearest != NULL)
      return config_refuse(given[i].node, b->status, "the data has no feature '%s', did you mean '%s'?",
                           given[i].name, nearest);
    return config_refuse(given[i].node, b->status, "the data has no feature '%s'; it has %s", given[i].name,
                         all);
  }
  return SBAG_OK;
}

/* Rows that the features of a table need; 0 where no feature looks it up. */
static int64_t rows_needed(const builder_t *b, const char *table) {
  int64_t rows = 0;
  for (int i = 0; i < feature_count(b); i++) {
    const reader_feature_t *f = &b->inputs->features[assembly_read_feature(b->out, i)];
    if (strcmp(table_of(b, i), table) == 0 && f->rows > rows) rows = f->rows;
  }
  return rows;
}

static void take_ranks(builder_t *b, const settings_table_t *given, sbag_table_options_t *table) {
  if (given->ranks.count == 0) return;
  table->ranks = b->out->ranks + b->rank_used;
  table->rank_count = given->ranks.count;
  for (int i = 0; i < given->ranks.count; i++) b->out->ranks[b->rank_used++] = (int)given->ranks.values[i];
}

/* A first-order weight is one number; its tables may have an optimizer of their own. */
static sbag_code_t take_dim(const builder_t *b, const settings_table_t *given, sbag_table_options_t *t) {
  const settings_model_t *model = &b->settings->model;
  if (!is_first_order(b, t->name)) return SBAG_OK;
  int listed = given != &b->settings->table;
  if (listed && given->dim != 1 && config_node_get(given->node, "dim") != NULL)
    return config_refuse(given->node, b->status, "table '%s' is of first-order weights; its dim must be 1",
                         t->name);
  t->embedding_dim = 1;
  if (!listed && model->first_order_optimizer.node != NULL)
    t->optimizer = settings_optimizer_options(&model->first_order_optimizer);
  return SBAG_OK;
}

/* Appends a table; `given` holds its keys (the defaults where the config does not list it). */
static sbag_code_t add_table(builder_t *b, const char *name, const settings_table_t *given) {
  int64_t needed = rows_needed(b, name);
  if (needed == 0)
    return config_refuse(given->node, b->status, "no feature looks up table '%s'; remove it", name);
  if (given->rows > 0 && given->rows < needed)
    return config_refuse(given->node, b->status,
                         "table '%s' has %lld rows; its features' indices need %lld, or rows: auto", name,
                         (long long)given->rows, (long long)needed);
  sbag_table_options_t *t = &b->out->tables[b->table_count++];
  *t = sbag_table_options_default(name, given->rows > 0 ? given->rows : needed, given->dim);
  t->init = (sbag_init_t)given->init;
  t->init_a = given->init_a;
  t->init_b = given->init_b;
  if (given->init_file[0] != '\0') t->init_file = given->init_file;
  if (given->init_dataset[0] != '\0') t->init_dataset = given->init_dataset;
  t->seed = (uint64_t)b->settings->seed;
  t->freeze = given->freeze;
  t->has_max_norm = !isnan(given->max_norm);
  t->max_norm = t->has_max_norm ? given->max_norm : 0;
  t->norm_type = given->norm_type;
  t->optimizer = settings_optimizer_options(&given->optimizer);
  t->layout = (sbag_layout_t)given->layout;
  t->replicated = given->replicated;
  t->storage = (sbag_storage_t)given->dtype;
  t->rounding = (sbag_rounding_t)given->rounding;
  take_ranks(b, given, t);
  return take_dim(b, given, t);
}

static int table_index(const builder_t *b, const char *name) {
  for (int i = 0; i < b->table_count; i++)
    if (strcmp(b->out->tables[i].name, name) == 0) return i;
  return -1;
}

/* Listed tables first, in the config's order, then those of features that name none. */
static sbag_code_t add_tables(builder_t *b) {
  const settings_table_t *tables = b->settings->tables.items;
  for (int i = 0; i < b->settings->tables.count; i++) SBAG_TRY(add_table(b, tables[i].name, &tables[i]));
  for (int i = 0; i < feature_count(b); i++) {
    const char *name = table_of(b, i);
    if (table_index(b, name) < 0) SBAG_TRY(add_table(b, name, &b->settings->table));
  }
  return SBAG_OK;
}

static void add_features(builder_t *b) {
  for (int i = 0; i < feature_count(b); i++) {
    const char *name = feature_name(b, i);
    const settings_feature_t *given = find_feature(b->settings, name);
    sbag_feature_options_t *f = &b->out->features[i];
    *f = sbag_feature_options_default(name, table_index(b, table_of(b, i)));
    if (given == NULL) given = find_feature(b->settings, feature_name(b, assembly_read_feature(b->out, i)));
    if (given == NULL) continue;
    f->mode = (sbag_mode_t)given->mode;
    f->has_padding_idx = given->padding_idx != SETTINGS_NO_PADDING;
    f->padding_idx = f->has_padding_idx ? given->padding_idx : 0;
    f->scale_grad_by_freq = given->scale_grad_by_freq;
  }
}

/* Padding must lie in its table; the library would refuse it too, but knows no line. */
static sbag_code_t check_padding(const builder_t *b) {
  const settings_feature_t *given = b->settings->features.items;
  for (int i = 0; i < b->settings->features.count; i++) {
    int feature = 0;
    while (strcmp(feature_name(b, feature), given[i].name) != 0) feature++; /* check_features has seen it */
    int64_t rows = b->out->tables[table_index(b, table_of(b, feature))].num_embeddings;
    int64_t padding = given[i].padding_idx;
    if (padding == SETTINGS_NO_PADDING || (padding >= -rows && padding < rows)) continue;
    return config_refuse(given[i].node, b->status,
                         "padding_idx %lld is outside the table's %lld rows; it must be from %lld to %lld",
                         (long long)padding, (long long)rows, -(long long)rows, (long long)rows - 1);
  }
  return SBAG_OK;
}

static sbag_code_t take_layers(const builder_t *b, const char *key, const config_ints_t *from, int *count,
                               int64_t *layers) {
  if (from->count > MODEL_LAYERS_MAX)
    return config_refuse(config_node_get(b->settings->model.node, key), b->status,
                         "has %d layers; at most %d are possible", from->count, MODEL_LAYERS_MAX);
  *count = from->count;
  for (int i = 0; i < from->count; i++) layers[i] = from->values[i];
  return SBAG_OK;
}

/* What the data are must be what the model takes. */
static sbag_code_t check_kind(const builder_t *b, const model_config_t *m) {
  static const char *const names[MODEL_KINDS] = {"ctr", "classify", "match"};
  model_kind_t wanted = m->classes > 0 ? MODEL_CLASSIFY : m->roles != NULL ? MODEL_MATCH : MODEL_CTR;
  if (m->kind == wanted) return SBAG_OK;
  return config_refuse(b->settings->model.node != NULL ? b->settings->model.node : b->settings->data.node,
                       b->status, "model.kind is %s, but the data are for a model of kind %s", names[m->kind],
                       names[wanted]);
}

static sbag_code_t fill_model(builder_t *b) {
  const settings_model_t *given = &b->settings->model;
  model_config_t *m = &b->out->model;
  *m = (model_config_t){.seed = (uint64_t)b->settings->seed,
                        .dense_count = b->inputs->dense_count,
                        .interaction_dim =
                            given->interaction_dim > 0 ? given->interaction_dim : b->settings->table.dim,
                        .dense_optimizer = settings_optimizer_options(&given->optimizer),
                        .kind = (model_kind_t)given->kind,
                        .interaction = (model_interaction_t)given->interaction,
                        .cross_count = (int)given->cross_layers,
                        .cross_rank = given->cross_rank,
                        .cross_parallel = given->cross_structure,
                        .first_order = b->out->names != NULL ? b->out->read_count : 0,
                        .classes = b->inputs->class_count,
                        .roles = b->out->roles,
                        .match_loss = (match_loss_t)given->loss,
                        .temperature = given->temperature,
                        .l2 = given->l2,
                        .class_count = b->settings->train.class_weights.count,
                        .class_weights = b->settings->train.class_weights.values,
                        .clip_norm = given->clip_norm,
                        .clip_value = given->clip_value,
                        .dropout = given->dropout,
                        .bucket_bytes = given->bucket_bytes,
                        .reproducible = b->settings->train.reproducible};
  SBAG_TRY(take_layers(b, "bottom", &given->bottom, &m->bottom_count, m->bottom));
  SBAG_TRY(take_layers(b, "top", &given->top, &m->top_count, m->top));
  m->tables = b->out->tables;
  m->table_count = b->table_count;
  m->features = b->out->features;
  m->feature_count = feature_count(b);
  return check_kind(b, m);
}

static int rank_list_length(const settings_t *s, int tables) {
  const settings_table_t *listed = s->tables.items;
  int length = tables * s->table.ranks.count;
  for (int i = 0; i < s->tables.count; i++) length += listed[i].ranks.count;
  return length;
}

static sbag_code_t name_first_orders(builder_t *b) {
  void *block = NULL;
  b->out->read_count = b->inputs->feature_count;
  if (!b->settings->model.first_order) return SBAG_OK;
  SBAG_TRY(mem_calloc(b->out->mem, mem_array_bytes(b->out->read_count, sizeof *b->out->names),
                      "names of first-order weights", &block, b->status));
  b->out->names = block;
  for (int i = 0; i < b->out->read_count; i++)
    snprintf(b->out->names[i].text, sizeof b->out->names[i].text, "%s.first_order",
             b->inputs->features[i].name);
  return SBAG_OK;
}

/* Where any of the reader's features is more than an input. */
static sbag_code_t take_roles(builder_t *b) {
  static const model_role_t roles[] = {[ROLE_INPUT] = MODEL_INPUT,
                                       [ROLE_QUERY] = MODEL_QUERY,
                                       [ROLE_POSITIVE] = MODEL_POSITIVE,
                                       [ROLE_NEGATIVE] = MODEL_NEGATIVE};
  int any = 0, features = feature_count(b);
  void *block = NULL;
  for (int i = 0; i < b->out->read_count; i++) any |= b->inputs->features[i].role != ROLE_INPUT;
  if (!any) return SBAG_OK;
  SBAG_TRY(mem_calloc(b->out->mem, mem_array_bytes(features, sizeof *b->out->roles), "roles of features",
                      &block, b->status));
  b->out->roles = block;
  for (int i = 0; i < b->out->read_count; i++) b->out->roles[i] = roles[b->inputs->features[i].role];
  return SBAG_OK;
}

static sbag_code_t allocate(builder_t *b) {
  mem_t *mem = b->out->mem;
  SBAG_TRY(name_first_orders(b));
  SBAG_TRY(take_roles(b));
  int features = feature_count(b);
  int tables = features + b->settings->tables.count;
  int ranks = rank_list_length(b->settings, tables);
  void *block = NULL;
  SBAG_TRY(
      mem_calloc(mem, mem_array_bytes(tables, sizeof *b->out->tables), "table options", &block, b->status));
  b->out->tables = block;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(features, sizeof *b->out->features), "feature options", &block,
                      b->status));
  b->out->features = block;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(ranks, sizeof *b->out->ranks), "rank lists", &block, b->status));
  b->out->ranks = block;
  return SBAG_OK;
}

static sbag_code_t build(builder_t *b) {
  SBAG_TRY(allocate(b));
  SBAG_TRY(check_features(b));
  SBAG_TRY(add_tables(b));
  add_features(b);
  SBAG_TRY(check_padding(b));
  return fill_model(b);
}

sbag_code_t assembly_create(const settings_t *settings, const inputs_t *inputs, mem_t *mem,
                            assembly_t *assembly, sbag_status_t *status) {
  *assembly = (assembly_t){.mem = mem};
  builder_t b = {.settings = settings, .inputs = inputs, .out = assembly, .status = status};
  sbag_code_t code = build(&b);
  if (code != SBAG_OK) assembly_clear(assembly);
  return code;
}

void assembly_clear(assembly_t *assembly) {
  if (assembly->mem == NULL) return;
  mem_free(assembly->mem, assembly->tables);
  mem_free(assembly->mem, assembly->features);
  mem_free(assembly->mem, assembly->ranks);
  mem_free(assembly->mem, assembly->names);
  mem_free(assembly->mem, assembly->roles);
  memset(assembly, 0, sizeof *assembly);
}
