/* The keys of `shardbag bench exchange`: see exchange_settings.h. */
#include "bench/exchange_settings.h"

#include "bench/device.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const config_word_t layouts[] = {{"block", SBAG_LAYOUT_BLOCK},
                                        {"cyclic", SBAG_LAYOUT_CYCLIC},
                                        {"scramble", SBAG_LAYOUT_SCRAMBLE},
                                        {NULL, 0}};
static const config_word_t modes[] = {{"sum", SBAG_SUM}, {"mean", SBAG_MEAN}, {"max", SBAG_MAX}, {NULL, 0}};
static const config_word_t dtypes[] = {{"f32", SBAG_F32}, {"f64", SBAG_F64}, {NULL, 0}};
static const config_word_t kinds[] = {{"auto", SBAG_EXCHANGE_AUTO},
                                      {"pools", SBAG_EXCHANGE_POOLS},
                                      {"rows", SBAG_EXCHANGE_ROWS},
                                      {"dense", SBAG_EXCHANGE_DENSE},
                                      {NULL, 0}};
static const config_word_t wires[] = {
    {"full", SBAG_WIRE_FULL}, {"f16", SBAG_WIRE_F16}, {"bf16", SBAG_WIRE_BF16}, {NULL, 0}};

#define AT(field) offsetof(bench_exchange_settings_t, field)
static const config_key_t keys[] = {
    {"rows", CONFIG_INT, AT(rows), "1000000", 1, 1e12, NULL, NULL, "of each table", 0},
    {"dim", CONFIG_INT, AT(dim), "64", 1, 65536, NULL, NULL, "values a row", 0},
    {"tables", CONFIG_INT, AT(tables), "1", 1, 4096, NULL, NULL, "each looked up by one feature", 0},
    {"batch", CONFIG_INT, AT(batch), "2048", 1, 1 << 24, NULL, NULL, "bags of a feature on each rank", 0},
    {"length", CONFIG_INTS, AT(lengths), "[1, 10, 40]", 1, 1 << 20, NULL, NULL,
     "indices a bag; several are a case each", 0},
    {"zipf", CONFIG_REALS, AT(zipf), "[0, 1.05]", 0, 10, NULL, NULL,
     "how uneven rows are looked up, 0 = evenly; several are a case each with each length", 0},
    {"scatter", CONFIG_BOOL, AT(scatter), "true", 0, 0, NULL, NULL,
     "popular rows lie anywhere; false: row 0 is the most popular, row 1 the next", 0},
    {"layout", CONFIG_CHOICE, AT(layout), "block", 0, 0, layouts, NULL, "how rows are dealt to the ranks", 0},
    {"device", CONFIG_CHOICE, AT(device), "cpu", 0, 0, bench_devices, NULL, "whose memory has the tables", 0},
    {"mode", CONFIG_CHOICE, AT(mode), "sum", 0, 0, modes, NULL, "how bags are pooled", 0},
    {"dtype", CONFIG_CHOICE, AT(dtype), "f32", 0, 0, dtypes, NULL, "of values", 0},
    {"kind", CONFIG_CHOICE, AT(kind), "auto", 0, 0, kinds, NULL, "how vectors travel", 0},
    {"wire", CONFIG_CHOICE, AT(wire), "full", 0, 0, wires, NULL, "what values travel as", 0},
    {"chunk", CONFIG_INT, AT(chunk), "0", 0, 1 << 30, NULL, NULL,
     "bytes of the largest message; 0 = the library's default", 0},
    {"steps", CONFIG_INT, AT(steps), "20", 1, 1e6, NULL, NULL, "measured of each case", 0},
    {"warmup", CONFIG_INT, AT(warmup), "3", 0, 1e6, NULL, NULL, "steps of each case before that", 0},
    {"work", CONFIG_REAL, AT(work_ms), "0", 0, 1e4, NULL, NULL,
     "milliseconds of work between begin and end of each direction, in steps of their own that tell what is "
     "hidden behind it; 0 = none",
     0},
    {"plain", CONFIG_BOOL, AT(plain), "true", 0, 0, NULL, NULL,
     "also send each step's messages by themselves, and as plain all-to-alls", 0},
    {"update", CONFIG_TEXT, AT(update), "none", 0, 0, NULL, NULL,
     "an optimizer by name: each step ends with its update, timed by itself", 0},
    {"verify", CONFIG_BOOL, AT(verify), "true", 0, 0, NULL, NULL,
     "compute pools and gradients of a step again, plainly", 0},
    {"seed", CONFIG_INT, AT(seed), "1", 0, 1e15, NULL, NULL, "of the batches", 0},
    {"requesters", CONFIG_INT, AT(requesters), "8", 0, 1 << 20, NULL, NULL,
     "--count-only: how many of the ranks are counted, 0 = all", 0},
    {NULL, CONFIG_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, 0}};
static const config_section_t section = {keys, sizeof(bench_exchange_settings_t), AT(node)};

int bench_exchange_updates(const bench_exchange_settings_t *settings) {
  return strcmp(settings->update, "none") != 0;
}

static sbag_code_t check(void *values, config_tree_t *tree, const config_source_t *source,
                         sbag_status_t *status) {
  (void)tree, (void)source;
  bench_exchange_settings_t *s = values;
  if (s->lengths.count == 0 || s->zipf.count == 0)
    return config_refuse(s->node, status, "'length' and 'zipf' need a value each, as length=[1, 10]");
  if (s->wire != SBAG_WIRE_FULL && s->dtype != SBAG_F32)
    return config_refuse(s->node, status, "'wire' is for dtype f32; leave it full for f64");
  if (!bench_exchange_updates(s)) return SBAG_OK;
  return sbag_optimizer_from_name(s->update, &s->optimizer, status);
}

sbag_code_t bench_exchange_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                         bench_exchange_settings_t *settings, sbag_status_t *status) {
  const config_source_t source = {.sets = sets, .set_count = set_count, .mem = mem};
  return config_load(&source, &section, check, settings, &settings->tree, status);
}

void bench_exchange_settings_clear(bench_exchange_settings_t *settings) {
  config_tree_destroy(&settings->tree);
  memset(settings, 0, sizeof *settings);
}

sbag_code_t bench_exchange_settings_help(mem_t *mem, char **text, sbag_status_t *status) {
  return config_help(&section, mem, text, status);
}

static const char *word_of(const config_word_t *words, int value) {
  while (words->word != NULL && (int)words->value != value) words++;
  return words->word != NULL ? words->word : "?";
}

const char *bench_exchange_layout(const bench_exchange_settings_t *settings) {
  return word_of(layouts, settings->layout);
}
const char *bench_exchange_mode(const bench_exchange_settings_t *settings) {
  return word_of(modes, settings->mode);
}
const char *bench_exchange_kind(const bench_exchange_settings_t *settings) {
  return word_of(kinds, settings->kind);
}
const char *bench_exchange_wire(const bench_exchange_settings_t *settings) {
  return word_of(wires, settings->wire);
}

sbag_code_t bench_exchange_describe(const bench_exchange_settings_t *s, const int *ranks, int rank_count,
                                    mem_t *mem, bench_exchange_tables_t *made, sbag_status_t *status) {
  enum { NAME_BYTES = 16 };
  size_t each = sizeof *made->tables + sizeof *made->features + NAME_BYTES;
  *made = (bench_exchange_tables_t){.count = (int)s->tables};
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(s->tables, each), "bench: tables", &made->block, status));
  made->tables = made->block;
  made->features = (sbag_feature_options_t *)(made->tables + s->tables);
  char *name = (char *)(made->features + s->tables);
  for (int t = 0; t < made->count; t++, name += NAME_BYTES) {
    snprintf(name, NAME_BYTES, "t%d", t);
    made->tables[t] = sbag_table_options_default(name, s->rows, s->dim);
    made->tables[t].init = SBAG_INIT_CONSTANT;
    made->tables[t].layout = (sbag_layout_t)s->layout;
    made->tables[t].ranks = ranks;
    made->tables[t].rank_count = rank_count;
    if (bench_exchange_updates(s)) made->tables[t].optimizer = sbag_optimizer_options_default(s->optimizer);
    made->features[t] = sbag_feature_options_default(name, t);
    made->features[t].mode = (sbag_mode_t)s->mode;
  }
  return SBAG_OK;
}
