/* Loading the settings, and the checks that need more than one key. The keys are in settings_keys.c. */
#include "train/settings.h"

#include "reader/criteo.h"
#include "train/settings_keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- checks ---- */

static sbag_code_t check_split(const config_node_t *node, const config_reals_t *split,
                               sbag_status_t *status) {
  if (split->count != READER_SPLITS)
    return config_refuse(config_node_get(node, "split"), status,
                         "has %d shares; it must be three: train, valid and test", split->count);
  double sum = split->values[0] + split->values[1] + split->values[2];
  if (fabs(sum - 1.0) > 1e-9)
    return config_refuse(config_node_get(node, "split"), status, "sums to %g; the shares must sum to 1", sum);
  return SBAG_OK;
}

/* One number, or one for each of Criteo's categories. */
static sbag_code_t check_categories(const settings_criteo_t *c, const char *key, const config_ints_t *list,
                                    sbag_status_t *status) {
  if (list->count == 1 || list->count == CRITEO_CATEGORIES) return SBAG_OK;
  return config_refuse(config_node_get(c->node, key), status,
                       "has %d numbers; it must be one, or one for each of the %d categories", list->count,
                       CRITEO_CATEGORIES);
}

static sbag_code_t check_criteo(const settings_criteo_t *c, sbag_status_t *status) {
  SBAG_TRY(check_categories(c, "rows", &c->rows, status));
  SBAG_TRY(check_categories(c, "multi_hot", &c->multi_hot, status));
  for (int i = 0; i < c->rows.count && c->mapping == MAPPING_HASH; i++)
    if (c->rows.values[i] == 0)
      return config_refuse(c->node, status,
                           "mapping hash needs 'rows', the tables' numbers of rows, above 0");
  return check_split(c->node, &c->split, status);
}

static sbag_code_t check_delimited(const settings_delimited_t *d, sbag_status_t *status) {
  int labels = 0, weights = 0;
  const settings_column_t *columns = d->columns.items;
  for (int i = 0; i < d->columns.count; i++) {
    labels += columns[i].kind == COLUMN_LABEL;
    weights += columns[i].kind == COLUMN_WEIGHT;
    int tokens = columns[i].kind == COLUMN_ONE_HOT || columns[i].kind == COLUMN_MULTI_HOT;
    if (tokens && columns[i].mapping != MAPPING_VOCABULARY && columns[i].rows == 0)
      return config_refuse(columns[i].node, status, "mapping %s needs 'rows', the table's number of rows",
                           columns[i].mapping == MAPPING_HASH ? "hash" : "identity");
    for (int j = 0; j < i; j++)
      if (strcmp(columns[i].name, columns[j].name) == 0)
        return config_refuse(columns[i].node, status, "the name '%s' is taken by line %d", columns[i].name,
                             columns[j].node->line);
  }
  if (labels != 1)
    return config_refuse(d->node, status, "%d columns are of kind label; exactly one must be", labels);
  if (weights > 1)
    return config_refuse(d->node, status, "%d columns are of kind weight; at most one may be", weights);
  return check_split(d->node, &d->split, status);
}

static sbag_code_t check_synthetic(const settings_synthetic_t *s, sbag_status_t *status) {
  if (s->samples.count != READER_SPLITS)
    return config_refuse(config_node_get(s->node, "samples"), status,
                         "has %d numbers; it must be three: train, valid and test", s->samples.count);
  if (s->bag_length.count != 1 && s->bag_length.count != s->rows.count)
    return config_refuse(config_node_get(s->node, "bag_length"), status,
                         "has %d numbers; it must be one, or one for each of the %d features of 'rows'",
                         s->bag_length.count, s->rows.count);
  return SBAG_OK;
}

static sbag_code_t check_ranking(const settings_ranking_t *r, sbag_status_t *status) {
  const config_reals_t *share = &r->holdout;
  if (share->count != 2 || share->values[0] + share->values[1] >= 1.0)
    return config_refuse(config_node_get(r->node, "holdout"), status,
                         "must be two shares, of valid and test, with a sum below 1");
  if (r->held_out && (r->valid.values[0][0] != '\0' || r->test.values[0][0] != '\0'))
    return config_refuse(r->node, status,
                         "format inter takes valid and test from train by 'holdout'; leave them out");
  return SBAG_OK;
}

static sbag_code_t check_data(const settings_data_t *data, sbag_status_t *status) {
  const struct {
    int kind;
    const config_node_t *node;
    const char *name;
  } needed[] = {{SETTINGS_DELIMITED, data->delimited.node, "delimited"},
                {SETTINGS_CRITEO, data->criteo.node, "criteo"},
                {SETTINGS_BINARY, data->binary.node, "binary"},
                {SETTINGS_TEXT, data->text.node, "text"},
                {SETTINGS_RANKING, data->ranking.node, "ranking"},
                {SETTINGS_CORPUS, data->corpus.node, "corpus"}};
  for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
    if (data->kind == needed[i].kind && needed[i].node == NULL)
      return config_refuse(data->node, status, "kind %s needs the section '%s' with its path", needed[i].name,
                           needed[i].name);
  if (data->kind == SETTINGS_DELIMITED) return check_delimited(&data->delimited, status);
  if (data->kind == SETTINGS_CRITEO) return check_criteo(&data->criteo, status);
  if (data->kind == SETTINGS_CORPUS) return check_split(data->corpus.node, &data->corpus.split, status);
  if (data->kind == SETTINGS_RANKING) return check_ranking(&data->ranking, status);
  if (data->kind == SETTINGS_SYNTHETIC && data->synthetic.node != NULL)
    return check_synthetic(&data->synthetic, status);
  return SBAG_OK;
}

static sbag_code_t check_table(const settings_table_t *table, sbag_status_t *status) {
  if (isnan(table->max_norm) || (table->max_norm > 0 && table->norm_type > 0)) return SBAG_OK;
  return config_refuse(table->node, status, "max_norm and norm_type must be above 0");
}

static sbag_code_t check_names(const config_sections_t *list, size_t bytes, size_t name_offset,
                               size_t node_offset, sbag_status_t *status) {
  for (int i = 0; i < list->count; i++)
    for (int j = 0; j < i; j++) {
      const char *a = (const char *)list->items + (size_t)i * bytes;
      const char *b = (const char *)list->items + (size_t)j * bytes;
      const char *name = *(const char *const *)(const void *)(a + name_offset);
      if (strcmp(name, *(const char *const *)(const void *)(b + name_offset)) == 0)
        return config_refuse(*(const config_node_t *const *)(const void *)(a + node_offset), status,
                             "'%s' is described twice; keep one", name);
    }
  return SBAG_OK;
}

static sbag_code_t check_eval(const settings_t *s, sbag_status_t *status) {
  const settings_eval_t *sets = s->eval.items;
  int kind = s->data.kind, fits = kind != SETTINGS_MOVIELENS && kind != SETTINGS_SYNTHETIC &&
                                  !(kind == SETTINGS_RANKING && s->data.ranking.held_out);
  for (int i = 0; i < s->eval.count; i++) {
    const char *name = sets[i].name;
    if (!fits)
      return config_refuse(sets[i].node, status,
                           "more sets to evaluate on need data.kind delimited, criteo, text, ranking "
                           "(format lists), corpus or binary");
    if (kind == SETTINGS_BINARY && sets[i].path.count > 1)
      return config_refuse(sets[i].node, status, "has %d paths; data.kind binary reads one file",
                           sets[i].path.count);
    if (name[0] == '\0' || strpbrk(name, " \t\n") != NULL || strcmp(name, "train") == 0 ||
        strcmp(name, "valid") == 0 || strcmp(name, "test") == 0)
      return config_refuse(
          sets[i].node, status,
          "the name '%s' cannot be used; a word other than train, valid and test would be right", name);
  }
  return check_names(&s->eval, sizeof(settings_eval_t), offsetof(settings_eval_t, name),
                     offsetof(settings_eval_t, node), status);
}

static sbag_code_t check_settings(const settings_t *s, sbag_status_t *status) {
  if (s->data.node == NULL)
    return config_refuse(s->node, status, "the required section 'data' is missing: where samples come from");
  SBAG_TRY(check_data(&s->data, status));
  if (s->table.node != NULL) SBAG_TRY(check_table(&s->table, status));
  const settings_table_t *tables = s->tables.items;
  for (int i = 0; i < s->tables.count; i++) SBAG_TRY(check_table(&tables[i], status));
  SBAG_TRY(check_eval(s, status));
  SBAG_TRY(check_names(&s->tables, sizeof(settings_table_t), offsetof(settings_table_t, name),
                       offsetof(settings_table_t, node), status));
  return check_names(&s->features, sizeof(settings_feature_t), offsetof(settings_feature_t, name),
                     offsetof(settings_feature_t, node), status);
}

/* ---- loading ---- */

/* "configs/a.yaml" names the run "a", the run its folder, and that the checkpoints'. */
static sbag_code_t fill_names(settings_t *s, const char *file, sbag_status_t *status) {
  void *block = NULL;
  if (s->name[0] == '\0') {
    const char *slash = strrchr(file, '/');
    const char *base = slash != NULL ? slash + 1 : file;
    const char *dot = strrchr(base, '.');
    size_t bytes = dot != NULL && dot != base ? (size_t)(dot - base) : strlen(base);
    SBAG_TRY(config_tree_alloc(s->tree, bytes + 1, &block, status));
    memcpy(block, base, bytes);
    s->name = block;
  }
  if (s->run.dir[0] == '\0') {
    size_t bytes = strlen(s->name) + sizeof "runs/";
    SBAG_TRY(config_tree_alloc(s->tree, bytes, &block, status));
    snprintf(block, bytes, "runs/%s", s->name);
    s->run.dir = block;
  }
  if (s->checkpoint.dir[0] == '\0') s->checkpoint.dir = s->run.dir;
  return SBAG_OK;
}

static sbag_code_t finish(void *values, config_tree_t *tree, const config_source_t *source,
                          sbag_status_t *status) {
  settings_t *s = values;
  s->tree = tree;
  SBAG_TRY(check_settings(s, status));
  return fill_names(s, source->file, status);
}

sbag_code_t settings_load(const char *file, const char *const *sets, int set_count, mem_t *mem,
                          settings_t *settings, sbag_status_t *status) {
  const config_source_t source = {.file = file, .sets = sets, .set_count = set_count, .mem = mem};
  return config_load(&source, &settings_section, finish, settings, &settings->tree, status);
}

/* Where the overrides begin at the text's end, and how many there are. */
static char *find_sets(char *text, int *count) {
  char *begin = text + strlen(text);
  *count = 0;
  while (begin > text && begin[-1] == '\n') {
    char *line = begin - 1;
    while (line > text && line[-1] != '\n') line--;
    if (strncmp(line, CONFIG_SET_MARK, strlen(CONFIG_SET_MARK)) != 0) break;
    begin = line;
    (*count)++;
  }
  return begin;
}

/* Each line becomes a text of its own. */
static void list_sets(char *at, int count, const char **sets) {
  for (int i = 0; i < count; i++) {
    sets[i] = at + strlen(CONFIG_SET_MARK);
    at = strchr(at, '\n');
    *at++ = '\0';
  }
}

sbag_code_t settings_load_kept(const char *origin, const char *text, const char *const *sets, int set_count,
                               mem_t *mem, settings_t *settings, sbag_status_t *status) {
  void *copy = NULL, *list = NULL;
  int kept = 0;
  SBAG_TRY(mem_alloc(mem, strlen(text) + 1, "config: text", &copy, status));
  strcpy(copy, text);
  char *begin = find_sets(copy, &kept);
  sbag_code_t code =
      mem_alloc(mem, mem_array_bytes(kept + set_count, sizeof(char *)), "config: overrides", &list, status);
  if (code == SBAG_OK) {
    const char **all = list;
    list_sets(begin, kept, all);
    for (int i = 0; i < set_count; i++) all[kept + i] = sets[i];
    *begin = '\0';
    const config_source_t source = {
        .file = origin, .text = copy, .sets = all, .set_count = kept + set_count, .mem = mem};
    code = config_load(&source, &settings_section, finish, settings, &settings->tree, status);
  }
  mem_free(mem, list);
  mem_free(mem, copy);
  return code;
}

void settings_clear(settings_t *settings) {
  config_tree_destroy(&settings->tree);
  memset(settings, 0, sizeof *settings);
}

sbag_code_t settings_help(mem_t *mem, char **text, sbag_status_t *status) {
  return config_help(&settings_section, mem, text, status);
}

/* ---- conversions ---- */

static void take(double given, double *field) {
  if (!isnan(given)) *field = given;
}

sbag_optimizer_options_t settings_optimizer_options(const settings_optimizer_t *given) {
  sbag_optimizer_options_t o = sbag_optimizer_options_default((sbag_optimizer_t)given->kind);
  take(given->lr, &o.lr);
  take(given->momentum, &o.momentum);
  take(given->dampening, &o.dampening);
  take(given->weight_decay, &o.weight_decay);
  take(given->eps, &o.eps);
  take(given->lr_decay, &o.lr_decay);
  take(given->initial_accumulator_value, &o.initial_accumulator_value);
  take(given->beta1, &o.beta1);
  take(given->beta2, &o.beta2);
  take(given->alpha, &o.alpha);
  take(given->eta, &o.eta);
  take(given->ema_beta, &o.ema_beta);
  take(given->ar_alpha, &o.ar_alpha);
  take(given->min_shrinkage, &o.min_shrinkage);
  take(given->clip_value, &o.clip_value);
  o.nesterov = given->nesterov;
  o.maximize = given->maximize;
  o.amsgrad = given->amsgrad;
  o.centered = given->centered;
  o.weight_decay_mode = (sbag_weight_decay_t)given->weight_decay_mode;
  return o;
}

int64_t settings_data_seed(const settings_t *settings) {
  return settings->data.seed >= 0 ? settings->data.seed : settings->seed;
}

schedule_t settings_schedule(const settings_schedule_t *given, int64_t total_steps) {
  int64_t rest = total_steps - given->warmup_steps;
  return (schedule_t){.kind = (schedule_kind_t)given->kind,
                      .warmup_steps = given->warmup_steps,
                      .warmup_start = given->warmup_start,
                      .every = given->every,
                      .gamma = given->gamma,
                      .decay_steps = given->decay_steps > 0 ? given->decay_steps : (rest > 0 ? rest : 1),
                      .power = given->power,
                      .end = given->end};
}
