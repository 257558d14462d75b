/* The keys of `shardbag bench pool`: see pool_settings.h. */
#include "bench/pool_settings.h"

#include "bench/device.h"
#include "kernel/kernel.h"
#include <stddef.h>
#include <string.h>

static const config_word_t modes[] = {{"sum", SBAG_SUM}, {"mean", SBAG_MEAN}, {"max", SBAG_MAX}, {NULL, 0}};
static const config_word_t storages[] = {{"full", SBAG_STORAGE_FULL}, {"f16", SBAG_STORAGE_F16},
                                         {"bf16", SBAG_STORAGE_BF16}, {"int8", SBAG_STORAGE_INT8},
                                         {"int4", SBAG_STORAGE_INT4}, {NULL, 0}};
static const config_word_t layouts[] = {{"block", SBAG_LAYOUT_BLOCK},
                                        {"cyclic", SBAG_LAYOUT_CYCLIC},
                                        {"scramble", SBAG_LAYOUT_SCRAMBLE},
                                        {NULL, 0}};
static const config_word_t distributions[] = {
    {"fixed", LENGTHS_FIXED}, {"uniform", LENGTHS_UNIFORM}, {"zipf", LENGTHS_ZIPF}, {NULL, 0}};

#define AT(field) offsetof(bench_pool_settings_t, field)
static const config_key_t keys[] = {
    {"rows", CONFIG_INT, AT(rows), "1000000", 1, 1e12, NULL, NULL, "of each table", 0},
    {"dim", CONFIG_INTS, AT(dims), "[64]", 1, 65536, NULL, NULL, "values a row; several are a case each", 0},
    {"tables", CONFIG_INT, AT(tables), "26", 1, 4096, NULL, NULL, "each looked up by one feature", 0},
    {"batch", CONFIG_INT, AT(batch), "2048", 1, 1 << 24, NULL, NULL, "bags of a feature on each rank", 0},
    {"length", CONFIG_INTS, AT(lengths), "[1, 10, 40]", 1, 1 << 20, NULL, NULL,
     "indices a bag; several are a case each", 0},
    {"lengths", CONFIG_CHOICE, AT(distribution), "fixed", 0, 0, distributions, NULL,
     "all bags of that length; uniform, from 1 to 2 * length - 1; zipf, mostly short, with that mean", 0},
    {"zipf", CONFIG_REALS, AT(zipf), "[0, 1.05]", 0, 10, NULL, NULL,
     "how uneven rows are looked up, 0 = evenly; several are a case each", 0},
    {"scatter", CONFIG_BOOL, AT(scatter), "true", 0, 0, NULL, NULL,
     "popular rows lie anywhere; false: row 0 is the most popular, row 1 the next", 0},
    {"mode", CONFIG_TEXT, AT(mode), "sum", 0, 0, NULL, NULL,
     "sum, mean, max; several, as sum,max, are a case each", 0},
    {"storage", CONFIG_TEXT, AT(storage), "full", 0, 0, NULL, NULL,
     "how weights are kept: full (float32), f16, bf16, int8 or int4 (forward alone); several, as full,f16, "
     "are a case each",
     0},
    {"optimizer", CONFIG_TEXT, AT(optimizer), "none", 0, 0, NULL, NULL,
     "none: forward alone; else a step with backward and update; several, as none,exact_sgd, are a case each",
     0},
    {"layout", CONFIG_CHOICE, AT(layout), "block", 0, 0, layouts, NULL, "how rows are dealt to the ranks", 0},
    {"device", CONFIG_CHOICE, AT(device), "cpu", 0, 0, bench_devices, NULL, "whose memory has the tables", 0},
    {"threads", CONFIG_INT, AT(threads), "0", 0, 4096, NULL, NULL,
     "of a rank; 0 = OMP_NUM_THREADS, or the rank's part of the cores", 0},
    {"rounds", CONFIG_INT, AT(rounds), "7", 1, 1000, NULL, NULL, "of all batches, in turn with the limit", 0},
    {"warmup", CONFIG_INT, AT(warmup), "1", 0, 1000, NULL, NULL, "rounds before that", 0},
    {"batches", CONFIG_INT, AT(batches), "4", 1, 1000, NULL, NULL, "different ones, which come in turn", 0},
    {"limit", CONFIG_BOOL, AT(limit), "true", 0, 0, NULL, NULL,
     "measure what memory gives for the same rows; takes as much memory again as the weights", 0},
    {"verify", CONFIG_BOOL, AT(verify), "true", 0, 0, NULL, NULL,
     "compute some bags again, and the rows that they update (not for max)", 0},
    {"seed", CONFIG_INT, AT(seed), "1", 0, 1e15, NULL, NULL, "of the batches", 0},
    {"spoil", CONFIG_BOOL, AT(spoil), "false", 0, 0, NULL, NULL,
     "change a row before results are verified, to see that it is counted as wrong", 0},
    {NULL, CONFIG_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, 0}};
static const config_section_t section = {keys, sizeof(bench_pool_settings_t), AT(node)};

/* ---- names with commas ---- */

enum { NAME_BYTES = 64 };

/* The next name of a list, with *list moved behind it; 0 at the end, and for a name that is too long to be
 * one. */
static int next_name(const char **list, char name[NAME_BYTES]) {
  *list += strspn(*list, ", ");
  size_t bytes = strcspn(*list, ", ");
  if (bytes == 0 || bytes >= NAME_BYTES) return 0;
  memcpy(name, *list, bytes);
  name[bytes] = '\0';
  *list += bytes;
  return 1;
}

/* A list of some of `words`, at most BENCH_POOL_WORDS. */
static sbag_code_t read_words(const bench_pool_settings_t *s, const char *key, const char *text,
                              const config_word_t *words, bench_pool_words_t *found, sbag_status_t *status) {
  const char *list = text;
  char name[NAME_BYTES];
  int known = 1;
  while (known && found->count < BENCH_POOL_WORDS && next_name(&list, name)) {
    const config_word_t *word = words;
    while (word->word != NULL && strcmp(word->word, name) != 0) word++;
    known = word->word != NULL;
    if (known) found->values[found->count++] = (int)word->value;
  }
  if (known && found->count > 0 && list[strspn(list, ", ")] == '\0') return SBAG_OK;
  char names[NAME_BYTES] = "";
  for (const config_word_t *word = words; word->word != NULL; word++) {
    if (word > words) strcat(names, word[1].word != NULL ? ", " : " or ");
    strncat(names, word->word, NAME_BYTES / BENCH_POOL_WORDS - 5);
  }
  return config_refuse(config_node_get(s->node, key), status,
                       "'%.80s' is not %s, or some of them with commas between", text, names);
}

static sbag_code_t read_optimizers(bench_pool_settings_t *s, sbag_status_t *status) {
  const char *list = s->optimizer;
  char name[NAME_BYTES];
  while (s->optimizer_count < BENCH_POOL_OPTIMIZERS && next_name(&list, name)) {
    bench_pool_optimizer_t *found = &s->optimizers[s->optimizer_count++];
    found->trains = strcmp(name, "none") != 0;
    if (found->trains) SBAG_TRY(sbag_optimizer_from_name(name, &found->kind, status));
  }
  if (s->optimizer_count > 0 && list[strspn(list, ", ")] == '\0') return SBAG_OK;
  return config_refuse(config_node_get(s->node, "optimizer"), status,
                       "'%.80s' is no list of up to %d names with commas between", s->optimizer,
                       BENCH_POOL_OPTIMIZERS);
}

/* What is quantised is not trained. */
static sbag_code_t check_trains(const bench_pool_settings_t *s, sbag_status_t *status) {
  for (int i = 0; i < s->storages.count; i++)
    for (int o = 0; o < s->optimizer_count; o++)
      if (kernel_is_quantised((sbag_storage_t)s->storages.values[i]) && s->optimizers[o].trains)
        return config_refuse(config_node_get(s->node, "optimizer"), status,
                             "'%.80s': tables in int8 and int4 are not trained; optimizer=none, or another "
                             "storage",
                             s->optimizer);
  return SBAG_OK;
}

static sbag_code_t check(void *values, config_tree_t *tree, const config_source_t *source,
                         sbag_status_t *status) {
  (void)tree, (void)source;
  bench_pool_settings_t *s = values;
  if (s->dims.count == 0 || s->lengths.count == 0 || s->zipf.count == 0)
    return config_refuse(s->node, status, "'dim', 'length' and 'zipf' need a value each, as dim=[64]");
  for (int i = 0; i < s->lengths.count && s->distribution == LENGTHS_ZIPF; i++)
    if (s->lengths.values[i] > 1000)
      return config_refuse(s->node, status, "lengths zipf are for a mean length of 1000 at most");
  SBAG_TRY(read_words(s, "mode", s->mode, modes, &s->modes, status));
  SBAG_TRY(read_words(s, "storage", s->storage, storages, &s->storages, status));
  SBAG_TRY(read_optimizers(s, status));
  return check_trains(s, status);
}

sbag_code_t bench_pool_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                     bench_pool_settings_t *settings, sbag_status_t *status) {
  const config_source_t source = {.sets = sets, .set_count = set_count, .mem = mem};
  return config_load(&source, &section, check, settings, &settings->tree, status);
}

void bench_pool_settings_clear(bench_pool_settings_t *settings) {
  config_tree_destroy(&settings->tree);
  memset(settings, 0, sizeof *settings);
}

sbag_code_t bench_pool_settings_help(mem_t *mem, char **text, sbag_status_t *status) {
  return config_help(&section, mem, text, status);
}

static const char *word_of(const config_word_t *words, int value) {
  while (words->word != NULL && (int)words->value != value) words++;
  return words->word != NULL ? words->word : "?";
}

const char *bench_pool_mode_name(sbag_mode_t mode) {
  return word_of(modes, (int)mode);
}
const char *bench_pool_storage_name(sbag_storage_t storage) {
  return word_of(storages, (int)storage);
}
const char *bench_pool_optimizer_name(const bench_pool_optimizer_t *optimizer) {
  return optimizer->trains ? sbag_optimizer_name(optimizer->kind) : "-";
}
const char *bench_pool_layout_name(const bench_pool_settings_t *settings) {
  return word_of(layouts, settings->layout);
}
const char *bench_pool_lengths_name(const bench_pool_settings_t *settings) {
  return word_of(distributions, settings->distribution);
}

bench_draw_t bench_pool_draw(const bench_pool_settings_t *s, const bench_pool_case_t *of) {
  return (bench_draw_t){.rows = s->rows,
                        .batch = s->batch,
                        .length = of->length,
                        .lengths = (bench_lengths_t)s->distribution,
                        .zipf = of->zipf,
                        .scatter = s->scatter,
                        .seed = s->seed};
}
