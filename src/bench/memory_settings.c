/* The keys of `shardbag bench memory`: see memory.h. */
#include "bench/memory.h"

#include "bench/device.h"
#include <stddef.h>
#include <string.h>

#define AT(field) offsetof(bench_memory_settings_t, field)
static const config_key_t keys[] = {
    {"device", CONFIG_CHOICE, AT(device), "cpu", 0, 0, bench_devices, NULL, "whose memory is measured", 0},
    {"mib", CONFIG_INT, AT(mib), "2048", 1, 1e9, NULL, NULL, "of the table, on every rank", 0},
    {"dim", CONFIG_INTS, AT(dims), "[16, 64, 128]", 1, 65536, NULL, NULL,
     "values of 32 bits a row; several are a case each", 0},
    {"zipf", CONFIG_REALS, AT(zipf), "[0, 1.05]", 0, 10, NULL, NULL,
     "how uneven rows are looked up, 0 = evenly; several are a case each with each dim", 0},
    {"scatter", CONFIG_BOOL, AT(scatter), "true", 0, 0, NULL, NULL,
     "popular rows lie anywhere; false: row 0 is the most popular, row 1 the next", 0},
    {"lookups", CONFIG_INT, AT(lookups), "1048576", 1, 1 << 30, NULL, NULL, "rows a measurement", 0},
    {"threads", CONFIG_INTS, AT(threads), "[1, 0]", 0, 4096, NULL, NULL,
     "of a rank, on the CPU; 0 = as many as the library takes (OMP_NUM_THREADS, or the rank's part of the "
     "cores)",
     0},
    {"rounds", CONFIG_INT, AT(rounds), "3", 1, 1000, NULL, NULL, "measurements of each case", 0},
    {"seed", CONFIG_INT, AT(seed), "1", 0, 1e15, NULL, NULL, "of the rows that are looked up", 0},
    {"spoil", CONFIG_BOOL, AT(spoil), "false", 0, 0, NULL, NULL,
     "change a word before results are verified, to see that it is counted as wrong", 0},
    {NULL, CONFIG_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, 0}};
static const config_section_t section = {keys, sizeof(bench_memory_settings_t), AT(node)};

static sbag_code_t check(void *values, config_tree_t *tree, const config_source_t *source,
                         sbag_status_t *status) {
  (void)tree, (void)source;
  bench_memory_settings_t *s = values;
  if (s->dims.count == 0 || s->zipf.count == 0 || s->threads.count == 0)
    return config_refuse(s->node, status, "'dim', 'zipf' and 'threads' need a value each, as dim=[64]");
  for (int i = 0; i < s->dims.count; i++)
    if (s->mib * (1 << 18) < s->dims.values[i])
      return config_refuse(s->node, status, "a row of dim %lld is larger than the table's %lld MiB",
                           (long long)s->dims.values[i], (long long)s->mib);
  return SBAG_OK;
}

sbag_code_t bench_memory_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                       bench_memory_settings_t *settings, sbag_status_t *status) {
  const config_source_t source = {.sets = sets, .set_count = set_count, .mem = mem};
  return config_load(&source, &section, check, settings, &settings->tree, status);
}

void bench_memory_settings_clear(bench_memory_settings_t *settings) {
  config_tree_destroy(&settings->tree);
  memset(settings, 0, sizeof *settings);
}

sbag_code_t bench_memory_settings_help(mem_t *mem, char **text, sbag_status_t *status) {
  return config_help(&section, mem, text, status);
}
