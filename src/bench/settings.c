/* The keys of `shardbag bench checkpoint`: see settings.h. */
#include "bench/settings.h"

#include "bench/device.h"
#include <stddef.h>
#include <string.h>

static const config_word_t layouts[] = {{"block", SBAG_LAYOUT_BLOCK},
                                        {"cyclic", SBAG_LAYOUT_CYCLIC},
                                        {"scramble", SBAG_LAYOUT_SCRAMBLE},
                                        {NULL, 0}};
static const config_word_t parts[] = {
    {"both", BENCH_BOTH}, {"save", BENCH_SAVE}, {"load", BENCH_LOAD}, {NULL, 0}};

#define AT(field) offsetof(bench_settings_t, field)
static const config_key_t keys[] = {
    {"rows", CONFIG_INT, AT(rows), "524288", 1, 1e12, NULL, NULL, "of the table", 0},
    {"dim", CONFIG_INT, AT(dim), "64", 1, 65536, NULL, NULL, "values a row", 0},
    {"optimizer", CONFIG_TEXT, AT(optimizer), "adagrad", 0, 0, NULL, NULL,
     "whose state is saved beside the weights", 0},
    {"layout", CONFIG_CHOICE, AT(layout), "block", 0, 0, layouts, NULL, "how rows are dealt to the ranks", 0},
    {"device", CONFIG_CHOICE, AT(device), "cpu", 0, 0, bench_devices, NULL, "whose memory has the table", 0},
    {"folder", CONFIG_TEXT, AT(folder), ".", 0, 0, NULL, NULL,
     "where the files lie for as long as it takes: on the disk that is measured", 0},
    {"rounds", CONFIG_INT, AT(rounds), "5", 1, 1000, NULL, NULL, "of each case, in turn", 0},
    {"rest", CONFIG_REAL, AT(rest_s), "5", 0, 3600, NULL, NULL,
     "seconds before each measurement, in which a disk that lends speed for a while gets it back", 0},
    {"part", CONFIG_CHOICE, AT(part), "both", 0, 0, parts, NULL,
     "both; save, which leaves the checkpoint; load, which reads the one left, on any number of ranks", 0},
    {NULL, CONFIG_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, 0}};
static const config_section_t section = {keys, sizeof(bench_settings_t), AT(node)};

static sbag_code_t check(void *values, config_tree_t *tree, const config_source_t *source,
                         sbag_status_t *status) {
  (void)tree, (void)source;
  bench_settings_t *s = values;
  return sbag_optimizer_from_name(s->optimizer, &s->kind, status);
}

sbag_code_t bench_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                bench_settings_t *settings, sbag_status_t *status) {
  const config_source_t source = {.sets = sets, .set_count = set_count, .mem = mem};
  return config_load(&source, &section, check, settings, &settings->tree, status);
}

void bench_settings_clear(bench_settings_t *settings) {
  config_tree_destroy(&settings->tree);
  memset(settings, 0, sizeof *settings);
}

sbag_code_t bench_settings_help(mem_t *mem, char **text, sbag_status_t *status) {
  return config_help(&section, mem, text, status);
}

const char *bench_layout_name(const bench_settings_t *settings) {
  for (const config_word_t *word = layouts; word->word != NULL; word++)
    if ((int)word->value == settings->layout) return word->word;
  return "?";
}
