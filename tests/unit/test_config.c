/* The config: YAML to a tree with lines, every refusal of the schema with its line, --set, the settings'
 * tables, the schedules. */
#include "train/assembly.h"
#include "train/schedule.h"
#include "train/settings.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *config_suite(void);

/* ---- a file on disk, loaded as the program does ---- */

typedef struct fixture {
  mem_t *mem;
  char path[64];
  settings_t settings;
  sbag_status_t status;
} fixture_t;

static sbag_code_t load_with(fixture_t *f, const char *text, const char *const *sets, int set_count) {
  memset(f, 0, sizeof *f);
  ck_assert_int_eq(mem_create(&f->mem, &f->status), SBAG_OK);
  snprintf(f->path, sizeof f->path, "/tmp/shardbag-config-XXXXXX");
  int fd = mkstemp(f->path);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  close(fd);
  return settings_load(f->path, sets, set_count, f->mem, &f->settings, &f->status);
}

static void clear(fixture_t *f) {
  unlink(f->path);
  settings_clear(&f->settings);
  ck_assert_int_eq(mem_stats(f->mem).live_bytes, 0);
  mem_destroy(&f->mem);
}

/* Refused, with "PATH:LINE: " in front and every one of the words behind it. */
static void refuse(const char *text, int line, const char *first, const char *second) {
  fixture_t f;
  ck_assert_int_eq(load_with(&f, text, NULL, 0), SBAG_ERR_ARGUMENT);
  char place[96];
  snprintf(place, sizeof place, "%s:%d: ", f.path, line);
  ck_assert_msg(strncmp(f.status.message, place, strlen(place)) == 0, "%s", f.status.message);
  ck_assert_msg(strstr(f.status.message, first) != NULL, "%s", f.status.message);
  ck_assert_msg(strstr(f.status.message, second) != NULL, "%s", f.status.message);
  clear(&f);
}

static void refuse_set(const char *set, const char *first, const char *second) {
  fixture_t f;
  ck_assert_int_eq(load_with(&f, "data: {kind: movielens}\ntables: [{name: a}]\n", &set, 1),
                   SBAG_ERR_ARGUMENT);
  ck_assert_msg(strncmp(f.status.message, "--set", 5) == 0, "%s", f.status.message);
  ck_assert_msg(strstr(f.status.message, first) != NULL, "%s", f.status.message);
  ck_assert_msg(strstr(f.status.message, second) != NULL, "%s", f.status.message);
  clear(&f);
}

#define DATA "data:\n  kind: movielens\n"

START_TEST(a_short_config_is_enough) {
  fixture_t f;
  ck_assert_int_eq(load_with(&f, DATA, NULL, 0), SBAG_OK);
  ck_assert_int_eq(f.settings.data.kind, READER_MOVIELENS);
  ck_assert_str_eq(f.settings.data.movielens.folder, "data/ml-100k");
  ck_assert_int_eq(f.settings.table.dim, 16);
  ck_assert_int_eq(f.settings.train.max_steps, 0);
  ck_assert_int_eq(f.settings.model.top.count, 2);
  ck_assert_int_eq(f.settings.model.top.values[1], 32);
  ck_assert_int_eq(strncmp(f.settings.run.dir, "runs/shardbag-config-", 21), 0);
  clear(&f);
}
END_TEST

START_TEST(every_type_is_read) {
  fixture_t f;
  ck_assert_int_eq(
      load_with(
          &f,
          "name: x1\nseed: 7\n"
          "data:\n  kind: delimited\n  shuffle: false\n"
          "  delimited:\n    path: 'a b.tsv'\n    delimiter: tab\n    split: [0.5, 0.25, 0.25]\n"
          "    columns:\n      - {name: y, kind: label}\n"
          "      - {name: t, kind: multi_hot, separator: \"|\", index: 4, rows: 100}\n"
          "table:\n  dim: 8\n  max_norm: 2.5\n  norm_type: .inf\n  optimizer: {name: adam, beta1: 0.8}\n"
          "tables:\n  - name: t\n    rows: 200\n    optimizer: {lr: 1e-3}\n    ranks: [1, 0]\n"
          "features:\n  - {name: t, mode: max, padding_idx: -1}\n",
          NULL, 0),
      SBAG_OK);
  const settings_t *s = &f.settings;
  ck_assert_str_eq(s->run.dir, "runs/x1");
  ck_assert_int_eq(s->seed, 7);
  ck_assert_int_eq(s->data.shuffle, 0);
  ck_assert_int_eq(s->data.delimited.path.count, 1);
  ck_assert_str_eq(s->data.delimited.path.values[0], "a b.tsv");
  ck_assert_int_eq(s->data.delimited.delimiter, '\t');
  ck_assert_double_eq(s->data.delimited.split.values[1], 0.25);
  const settings_column_t *column = s->data.delimited.columns.items;
  ck_assert_int_eq(column[0].index, -1);
  ck_assert_int_eq(column[1].separator, '|');
  ck_assert_int_eq(column[1].rows, 100);
  /* A table starts from the defaults of `table`, and changes its own keys alone. */
  const settings_table_t *table = s->tables.items;
  ck_assert_int_eq(table->dim, 8);
  ck_assert_double_eq(table->max_norm, 2.5);
  ck_assert(isinf(table->norm_type));
  ck_assert_int_eq(table->ranks.count, 2);
  sbag_optimizer_options_t o = settings_optimizer_options(&table->optimizer);
  ck_assert_int_eq((int)o.kind, SBAG_OPT_ADAM);
  ck_assert_double_eq(o.lr, 1e-3);
  ck_assert_double_eq(o.beta1, 0.8);
  ck_assert_double_eq(o.beta2, 0.999);
  const settings_feature_t *feature = s->features.items;
  ck_assert_int_eq(feature->mode, SBAG_MAX);
  ck_assert_int_eq(feature->padding_idx, -1);
  clear(&f);
}
END_TEST

START_TEST(paths_are_one_or_a_list) {
  fixture_t f;
  const char *set = "data.criteo.path=[b, 'c d']";
  ck_assert_int_eq(
      load_with(&f, "data: {kind: criteo, criteo: {path: a, rows: 10, mapping: hash}}\n", NULL, 0), SBAG_OK);
  ck_assert_int_eq(f.settings.data.criteo.path.count, 1);
  ck_assert_str_eq(f.settings.data.criteo.path.values[0], "a");
  clear(&f);
  ck_assert_int_eq(load_with(&f, "data: {kind: criteo, criteo: {path: a}}\n", &set, 1), SBAG_OK);
  ck_assert_int_eq(f.settings.data.criteo.path.count, 2);
  ck_assert_str_eq(f.settings.data.criteo.path.values[1], "c d");
  clear(&f);
  refuse("data:\n  kind: criteo\n  criteo: {path: []}\n", 3, "is an empty list", "at least one");
  refuse("data:\n  kind: criteo\n  criteo: {path: [a, 1]}\n", 3, "key 'data.criteo.path.1': 1 is wrong",
         "a text or a list of texts (put it in quotes");
  refuse("data:\n  kind: criteo\n  criteo: {min_count: 2}\n", 3, "the required key 'path' is missing",
         "gzip");
  refuse("data:\n  kind: binary\n", 1, "kind binary needs the section 'binary'", "path");
  refuse("data:\n  kind: criteo\n  criteo: {path: a, multi_hot: [1, 2]}\n", 3, "has 2 numbers",
         "one for each of the 26 categories");
  refuse("data:\n  kind: criteo\n  criteo: {path: a, split: [0.5, 0.4, 0.2]}\n", 3, "sums to 1.1",
         "must sum to 1");
}
END_TEST

START_TEST(unknown_keys_are_refused) {
  refuse(DATA "train:\n  epoch: 2\n", 4, "key 'train.epoch'", "did you mean 'epochs'");
  refuse("sed: 1\n" DATA, 1, "key 'sed'", "did you mean 'seed'");
  refuse(DATA "run:\n  entirely_else: 1\n", 4, "unknown key", "the keys here are dir, checkpoint");
  refuse(DATA "tables:\n  - name: a\n    dims: 3\n", 5, "key 'tables.0.dims'", "did you mean 'dim'");
}
END_TEST

START_TEST(wrong_types_are_refused) {
  refuse(DATA "train:\n  epochs: 3.5\n", 4, "key 'train.epochs'", "an integer from 1");
  refuse(DATA "train:\n\n  epochs: '3'\n", 5, "\"3\" is wrong", "an integer");
  refuse(DATA "train:\n  epochs: true\n", 4, "true is wrong", "an integer");
  refuse(DATA "train:\n  epochs:\n", 4, "is empty", "an integer");
  refuse(DATA "train:\n  epochs: [1]\n", 4, "is a list", "an integer");
  refuse(DATA "train:\n  reproducible: yes\n", 4, "yes is wrong", "true or false");
  refuse(DATA "name: 12\n", 3, "12 is wrong", "put it in quotes");
  refuse(DATA "train: 3\n", 3, "key 'train'", "must be a mapping");
  refuse(DATA "tables: {name: a}\n", 3, "is a mapping", "a list of mappings");
  refuse(DATA "model:\n  top: [64, x]\n", 4, "key 'model.top.1'", "a list of integers");
  refuse(DATA "model:\n  dropout: much\n", 4, "much is wrong", "a number from 0 to 0.99");
  refuse(DATA "seed: 99999999999999999999\n", 3, "key 'seed'", "an integer");
}
END_TEST

START_TEST(values_out_of_range_are_refused) {
  refuse(DATA "train:\n  epochs: 0\n", 4, "0 is wrong", "from 1");
  refuse(DATA "model:\n  dropout: 1.5\n", 4, "1.5 is wrong", "from 0 to 0.99");
  refuse(DATA "model:\n  dropout: .nan\n", 4, ".nan is wrong", "a number");
  refuse("data:\n  kind: movies\n", 2, "movies is wrong",
         "movielens, delimited, criteo, binary, synthetic, text, ranking or corpus");
  refuse(DATA "table:\n  max_norm: 0\n", 3, "max_norm", "above 0");
}
END_TEST

START_TEST(missing_and_double_keys_are_refused) {
  refuse("seed: 1\n", 1, "section 'data' is missing", "where samples come from");
  refuse("seed: 1\ndata:\n  shuffle: true\n", 2, "required key 'kind' is missing", "where samples come from");
  refuse(DATA "tables:\n  - name: a\n  - dim: 3\n", 5, "required key 'name' is missing", "key 'tables.1'");
  refuse(DATA "seed: 1\nseed: 2\n", 4, "key 'seed': given twice", "first in line 3");
  refuse(DATA "tables:\n  - name: a\n  - name: a\n", 5, "'a' is described twice", "keep one");
  refuse("data:\n  kind: delimited\n", 1, "needs the section 'delimited'", "path");
  refuse("data:\n  kind: delimited\n  delimited: {path: x}\n", 3, "0 columns are of kind label",
         "exactly one");
}
END_TEST

START_TEST(sections_that_contradict_themselves_are_refused) {
  refuse("data:\n  kind: delimited\n  delimited:\n    path: x\n    columns: [{name: y, kind: label}]\n"
         "    split: [0.5, 0.2, 0.2]\n",
         6, "sums to 0.9", "must sum to 1");
  refuse("data:\n  kind: delimited\n  delimited:\n    path: x\n    columns:\n      - {name: y, kind: label}\n"
         "      - {name: a, kind: one_hot, mapping: hash}\n",
         7, "mapping hash needs 'rows'", "key 'data.delimited.columns.1'");
  refuse("data:\n  kind: synthetic\n  synthetic:\n    rows: [3, 4]\n    bag_length: [1, 2, 3]\n", 5,
         "has 3 numbers", "each of the 2 features");
}
END_TEST

START_TEST(what_is_not_yaml_is_refused) {
  refuse("data: [1\nseed: 1\n", 2, "not YAML", "");
  refuse("data: {kind: movielens}\n---\nseed: 1\n", 3, "a second YAML document", "one is allowed");
  refuse("- a\n", 1, "must be a mapping of keys", "");
  refuse("", 1, "is empty", "");
  refuse("data: &a [*a]\n", 1, "nested deeper", "");
  refuse("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
         "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
         "e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
         1, "more than 100000 values", "");
}
END_TEST

START_TEST(a_missing_file_is_refused) {
  mem_t *mem = NULL;
  settings_t settings;
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(settings_load("/nowhere/a.yaml", NULL, 0, mem, &settings, &status), SBAG_ERR_ARGUMENT);
  ck_assert_str_eq(status.message, "/nowhere/a.yaml: cannot open the config: No such file or directory");
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
}
END_TEST

START_TEST(set_overrides_and_makes_what_is_missing) {
  const char *const sets[] = {"train.epochs=3",
                              "data.movielens.folder=/a/b",
                              "tables.1={name: u, dim: 4}",
                              "tables.0.dim=32",
                              "model.top=[8]",
                              "train.epochs=5"};
  fixture_t f;
  ck_assert_int_eq(load_with(&f, DATA "tables:\n  - name: m\n", sets, 6), SBAG_OK);
  ck_assert_int_eq(f.settings.train.epochs, 5);
  ck_assert_str_eq(f.settings.data.movielens.folder, "/a/b");
  const settings_table_t *tables = f.settings.tables.items;
  ck_assert_int_eq(f.settings.tables.count, 2);
  ck_assert_int_eq(tables[0].dim, 32);
  ck_assert_int_eq(tables[1].dim, 4);
  ck_assert_int_eq(f.settings.model.top.count, 1);
  ck_assert_ptr_nonnull(strstr(config_tree_text(f.settings.tree), "\n# --set tables.0.dim=32\n"));
  clear(&f);
}
END_TEST

START_TEST(set_makes_a_list_that_is_not_there) {
  const char *const sets[] = {"tables.0.name=u"};
  fixture_t f;
  ck_assert_int_eq(load_with(&f, DATA, sets, 1), SBAG_OK);
  ck_assert_int_eq(f.settings.tables.count, 1);
  clear(&f);
}
END_TEST

START_TEST(set_is_refused_with_its_origin) {
  refuse_set("train.epochs", "must be key.path=value", "train.epochs=2");
  refuse_set("=3", "must be key.path=value", "");
  refuse_set("train.epoch=2", "key 'train.epoch'", "did you mean 'epochs'");
  refuse_set("train.epochs=many", "key 'train.epochs'", "an integer");
  refuse_set("train.epochs=", "is empty", "an integer");
  refuse_set("tables.2.dim=4", "is a list of 1", "0 to 1");
  refuse_set("tables.x=4", "is a list of 1", "by its index");
  refuse_set("data.kind.a=1", "is a single value", "key 'data.kind.a'");
  refuse_set("train..epochs=1", "an empty word", "");
  refuse_set("model.top=[1", "is not YAML", "key 'model.top'");
}
END_TEST

/* Every allocation that can fail does, once: no leak, and a message. */
START_TEST(out_of_memory_is_survived) {
  for (int64_t n = 1; n < 400; n += 7) {
    mem_t *mem = NULL;
    settings_t settings;
    sbag_status_t status;
    const char *set = "train.epochs=2";
    ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
    mem_fail_at(mem, n);
    sbag_code_t code =
        settings_load(SHARDBAG_SOURCE_DIR "/configs/mathsx.yaml", &set, 1, mem, &settings, &status);
    if (code == SBAG_OK)
      settings_clear(&settings);
    else
      ck_assert_int_eq(code, SBAG_ERR_MEMORY);
    ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
    mem_destroy(&mem);
  }
}
END_TEST

START_TEST(the_shipped_configs_load) {
  static const char *const names[] = {"movielens", "mathsx", "criteo",        "criteo_multihot", "synthetic",
                                      "dcn",       "deepfm", "wide_deep",     "dlrm_small",      "text",
                                      "ranking",   "cbow",   "ranking_lists", "ranking_bpr"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    mem_t *mem = NULL;
    settings_t settings;
    sbag_status_t status;
    char path[512];
    snprintf(path, sizeof path, SHARDBAG_SOURCE_DIR "/configs/%s.yaml", names[i]);
    ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
    ck_assert_msg(settings_load(path, NULL, 0, mem, &settings, &status) == SBAG_OK, "%s", status.message);
    ck_assert_str_eq(settings.name, names[i]);
    settings_clear(&settings);
    mem_destroy(&mem);
  }
}
END_TEST

/* Sections that are lists of maps, and what needs more than one key. */
START_TEST(further_sets_and_weights) {
  static const struct {
    const char *sets[3], *words;
  } cases[] = {{{"eval=[{name: a, path: x}, {name: b, path: [y, z]}]", "train.class_weights=[1, 2.5]"}, NULL},
               {{"eval=[{name: a, path: x}, {name: a, path: y}]"}, "'a' is described twice"},
               {{"eval=[{name: valid, path: x}]"}, "'valid' cannot be used"},
               {{"eval=[{name: two words, path: x}]"}, "'two words' cannot be used"},
               {{"eval=[{name: a}]"}, "path"},
               {{"data.kind=synthetic", "eval=[{name: a, path: x}]"}, "delimited, criteo, text, ranking"},
               {{"train.class_weights=[1, -2]"}, "class_weights"},
               {{"model.cross_rank=0"}, "cross_rank"},
               {{"model.cross_structure=both"}, "cross_structure"},
               {{"model.interaction=Dot"}, "dot, cross, fm or concat"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    mem_t *mem = NULL;
    settings_t settings;
    sbag_status_t status;
    int count = cases[i].sets[1] != NULL ? 2 : 1;
    ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
    sbag_code_t code = settings_load(SHARDBAG_SOURCE_DIR "/configs/criteo.yaml", cases[i].sets, count, mem,
                                     &settings, &status);
    if (cases[i].words == NULL) {
      ck_assert_msg(code == SBAG_OK, "%s", status.message);
      ck_assert_int_eq(settings.eval.count, 2);
      ck_assert_int_eq(((settings_eval_t *)settings.eval.items)[1].path.count, 2);
      ck_assert(settings.train.class_weights.values[1] == 2.5);
      settings_clear(&settings);
    } else {
      ck_assert_int_eq(code, SBAG_ERR_ARGUMENT);
      ck_assert_msg(strstr(status.message, cases[i].words) != NULL, "%zu: %s", i, status.message);
    }
    mem_destroy(&mem);
  }
}
END_TEST

START_TEST(help_names_every_key) {
  mem_t *mem = NULL;
  sbag_status_t status;
  char *text = NULL;
  ck_assert_int_eq(mem_create(&mem, &status), SBAG_OK);
  ck_assert_int_eq(settings_help(mem, &text, &status), SBAG_OK);
  static const char *const some[] = {
      "data.delimited.columns.N.min_count\n", "table.optimizer.lr\n",
      "train.global_batch\n    an integer from 1 to 1073741824 (default 1024)\n", "schedule.warmup_steps\n",
      "none: required"};
  for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
    ck_assert_msg(strstr(text, some[i]) != NULL, "%s is missing", some[i]);
  mem_free(mem, text);
  mem_destroy(&mem);
}
END_TEST

/* ---- settings and data together ---- */

#define SYNTHETIC                                                                                            \
  "data:\n  kind: synthetic\n  synthetic: {samples: [64, 0, 0], dense_count: 2, rows: [10, 20], "            \
  "bag_length: 1}\n"

static sbag_code_t assemble(fixture_t *f, const char *text, assembly_t *assembly, reader_t **reader) {
  ck_assert_msg(load_with(f, text, NULL, 0) == SBAG_OK, "%s", f->status.message);
  assembly_source_t source;
  ck_assert_int_eq(assembly_source(&f->settings, 16, 0, 1, f->mem, &source, &f->status), SBAG_OK);
  ck_assert_int_eq(reader_open(&source.config, NULL, 0, f->mem, reader, &f->status), SBAG_OK);
  assembly_source_clear(&source);
  const inputs_t inputs = inputs_of_reader(*reader);
  return assembly_create(&f->settings, &inputs, f->mem, assembly, &f->status);
}

START_TEST(tables_are_made_for_features) {
  fixture_t f;
  assembly_t a;
  reader_t *reader = NULL;
  ck_assert_int_eq(assemble(&f,
                            SYNTHETIC "table: {dim: 4}\ntables: [{name: shared, dim: 8}]\n"
                                      "features: [{name: feature_1, table: shared, mode: sum}]\n",
                            &a, &reader),
                   SBAG_OK);
  ck_assert_int_eq(a.model.table_count, 2);
  ck_assert_str_eq(a.tables[0].name, "shared");
  ck_assert_int_eq(a.tables[0].num_embeddings, 20);
  ck_assert_int_eq(a.tables[0].embedding_dim, 8);
  ck_assert_str_eq(a.tables[1].name, "feature_0");
  ck_assert_int_eq(a.tables[1].num_embeddings, 10);
  ck_assert_int_eq(a.tables[1].embedding_dim, 4);
  ck_assert_int_eq(a.features[0].table, 1);
  ck_assert_int_eq(a.features[1].table, 0);
  ck_assert_int_eq((int)a.features[1].mode, SBAG_SUM);
  ck_assert_int_eq(a.model.dense_count, 2);
  ck_assert_int_eq(a.model.interaction_dim, 4);
  assembly_clear(&a);
  reader_close(&reader);
  clear(&f);
}
END_TEST

static void refuse_assembly(const char *text, int line, const char *first, const char *second) {
  fixture_t f;
  assembly_t a;
  reader_t *reader = NULL;
  ck_assert_int_eq(assemble(&f, text, &a, &reader), SBAG_ERR_ARGUMENT);
  char place[96];
  snprintf(place, sizeof place, "%s:%d: ", f.path, line);
  ck_assert_msg(strncmp(f.status.message, place, strlen(place)) == 0, "%s", f.status.message);
  ck_assert_msg(strstr(f.status.message, first) != NULL, "%s", f.status.message);
  ck_assert_msg(strstr(f.status.message, second) != NULL, "%s", f.status.message);
  reader_close(&reader);
  clear(&f);
}

START_TEST(what_does_not_fit_the_data_is_refused) {
  refuse_assembly(SYNTHETIC "features:\n  - name: feature_9\n", 5, "no feature 'feature_9'",
                  "did you mean 'feature_0'");
  refuse_assembly(SYNTHETIC "features:\n  - name: zzzzzzzzzzzzzz\n", 5, "no feature 'zzzzzzzzzzzzzz'",
                  "it has feature_0, feature_1");
  refuse_assembly(SYNTHETIC "tables:\n  - name: spare\n", 5, "no feature looks up table 'spare'", "remove");
  refuse_assembly(SYNTHETIC "tables:\n  - name: feature_1\n    rows: 19\n", 5,
                  "table 'feature_1' has 19 rows", "need 20");
  refuse_assembly(SYNTHETIC "features:\n  - {name: feature_0, padding_idx: 10}\n", 5, "padding_idx 10",
                  "from -10 to 9");
}
END_TEST

/* ---- schedules ---- */

START_TEST(schedules_give_their_formulas) {
  schedule_t constant = {.kind = SCHEDULE_CONSTANT};
  ck_assert_double_eq(schedule_factor(&constant, 1), 1.0);
  ck_assert_double_eq(schedule_factor(&constant, 1000000), 1.0);
  schedule_t step = {.kind = SCHEDULE_STEP, .every = 10, .gamma = 0.5};
  ck_assert_double_eq(schedule_factor(&step, 10), 1.0);
  ck_assert_double_eq(schedule_factor(&step, 11), 0.5);
  ck_assert_double_eq(schedule_factor(&step, 31), 0.125);
  schedule_t linear = {.kind = SCHEDULE_POLYNOMIAL, .decay_steps = 4, .power = 1, .end = 0.2};
  ck_assert_double_eq(schedule_factor(&linear, 1), 1.0);
  ck_assert_double_eq_tol(schedule_factor(&linear, 3), 0.6, 1e-15);
  ck_assert_double_eq(schedule_factor(&linear, 5), 0.2);
  ck_assert_double_eq(schedule_factor(&linear, 50), 0.2);
  schedule_t square = {.kind = SCHEDULE_POLYNOMIAL, .decay_steps = 4, .power = 2, .end = 0};
  ck_assert_double_eq_tol(schedule_factor(&square, 3), 0.25, 1e-15);
  schedule_t exponential = {.kind = SCHEDULE_EXPONENTIAL, .every = 100, .gamma = 0.25};
  ck_assert_double_eq(schedule_factor(&exponential, 1), 1.0);
  ck_assert_double_eq_tol(schedule_factor(&exponential, 51), 0.5, 1e-15);
  ck_assert_double_eq_tol(schedule_factor(&exponential, 101), 0.25, 1e-15);
}
END_TEST

START_TEST(warmup_comes_before_any_kind) {
  schedule_t s = {.kind = SCHEDULE_STEP, .warmup_steps = 4, .warmup_start = 0.2, .every = 2, .gamma = 0.5};
  static const double expected[] = {0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.5, 0.5, 0.25};
  for (int i = 0; i < 9; i++) ck_assert_double_eq_tol(schedule_factor(&s, i + 1), expected[i], 1e-15);
}
END_TEST

START_TEST(a_decay_without_end_spans_the_run) {
  fixture_t f;
  ck_assert_int_eq(load_with(&f, DATA "schedule: {kind: polynomial, warmup_steps: 10}\n", NULL, 0), SBAG_OK);
  schedule_t s = settings_schedule(&f.settings.schedule, 110);
  ck_assert_int_eq(s.decay_steps, 100);
  ck_assert_double_eq_tol(schedule_factor(&s, 61), 0.5, 1e-15);
  clear(&f);
}
END_TEST

Suite *config_suite(void) {
  Suite *suite = suite_create("config");
  TCase *tree = tcase_create("keys");
  tcase_add_test(tree, a_short_config_is_enough);
  tcase_add_test(tree, every_type_is_read);
  tcase_add_test(tree, paths_are_one_or_a_list);
  tcase_add_test(tree, unknown_keys_are_refused);
  tcase_add_test(tree, wrong_types_are_refused);
  tcase_add_test(tree, values_out_of_range_are_refused);
  tcase_add_test(tree, missing_and_double_keys_are_refused);
  tcase_add_test(tree, sections_that_contradict_themselves_are_refused);
  tcase_add_test(tree, what_is_not_yaml_is_refused);
  tcase_add_test(tree, a_missing_file_is_refused);
  tcase_add_test(tree, out_of_memory_is_survived);
  tcase_add_test(tree, the_shipped_configs_load);
  tcase_add_test(tree, further_sets_and_weights);
  tcase_add_test(tree, help_names_every_key);
  suite_add_tcase(suite, tree);
  TCase *set = tcase_create("set");
  tcase_add_test(set, set_overrides_and_makes_what_is_missing);
  tcase_add_test(set, set_makes_a_list_that_is_not_there);
  tcase_add_test(set, set_is_refused_with_its_origin);
  suite_add_tcase(suite, set);
  TCase *assembly = tcase_create("assembly");
  tcase_add_test(assembly, tables_are_made_for_features);
  tcase_add_test(assembly, what_does_not_fit_the_data_is_refused);
  suite_add_tcase(suite, assembly);
  TCase *schedule = tcase_create("schedule");
  tcase_add_test(schedule, schedules_give_their_formulas);
  tcase_add_test(schedule, warmup_comes_before_any_kind);
  tcase_add_test(schedule, a_decay_without_end_spans_the_run);
  suite_add_tcase(suite, schedule);
  return suite;
}
