/* The keys of `shardbag bench serve`: see load.h. */
#include "bench/load.h"

#include <stddef.h>
#include <string.h>

static const config_word_t tensors[] = {{"binary", TENSORS_BINARY}, {"json", TENSORS_JSON}, {NULL, 0}};
static const config_word_t distributions[] = {
    {"fixed", LENGTHS_FIXED}, {"uniform", LENGTHS_UNIFORM}, {"zipf", LENGTHS_ZIPF}, {NULL, 0}};

static const config_word_t rates[] = {{"auto", 0}, {NULL, 0}};

#define AT(field) offsetof(bench_load_settings_t, field)
static const config_key_t keys[] = {
    {"url", CONFIG_TEXT, AT(url), "http://127.0.0.1:8000", 0, 0, NULL, NULL,
     "of the server, up to its port: any that speaks KServe v2", 0},
    {"model", CONFIG_TEXT, AT(model), "", 0, 0, NULL, NULL,
     "its name; empty: the first that the server lists", 0},
    {"rate", CONFIG_REALS, AT(rates), "auto", 0.01, 1e6, rates, NULL,
     "requests a second; several, as [100, 200, 400], are a case each. auto: the highest that the server "
     "keeps "
     "up with is looked for",
     0},
    {"seconds", CONFIG_REAL, AT(seconds), "5", 0.01, 86400, NULL, NULL, "of each rate that count", 0},
    {"warmup", CONFIG_REAL, AT(warmup_s), "0.5", 0, 3600, NULL, NULL, "seconds at each rate before that", 0},
    {"batch", CONFIG_INT, AT(batch), "1", 1, 1 << 20, NULL, NULL, "samples of a request", 0},
    {"connections", CONFIG_INT, AT(connections), "128", 1, 16384, NULL, NULL,
     "at most; a request that finds none free waits, and that counts", 0},
    {"tensors", CONFIG_CHOICE, AT(tensors), "binary", 0, 0, tensors, NULL,
     "how tensors travel: binary (both ways) or json", 0},
    {"length", CONFIG_INT, AT(length), "3", 1, 1 << 16, NULL, NULL, "indices of a bag", 0},
    {"lengths", CONFIG_CHOICE, AT(lengths), "fixed", 0, 0, distributions, NULL,
     "all bags of that length; uniform, from 1 to 2 * length - 1; zipf, mostly short, with that mean", 0},
    {"zipf", CONFIG_REAL, AT(zipf), "0", 0, 10, NULL, NULL, "how uneven rows are looked up, 0 = evenly", 0},
    {"scatter", CONFIG_BOOL, AT(scatter), "true", 0, 0, NULL, NULL,
     "popular rows lie anywhere; false: row 0 is the most popular, row 1 the next", 0},
    {"bodies", CONFIG_INT, AT(bodies), "4096", 1, 1 << 20, NULL, NULL,
     "different requests, which come in turn; fewer where they would take more than 256 MiB", 0},
    {"rows", CONFIG_INT, AT(rows), "0", 0, 1e15, NULL, NULL,
     "of a table, where the model's config has no parameter rows.FEATURE; 0: that is an error", 0},
    {"invalid", CONFIG_REAL, AT(invalid), "0", 0, 1, NULL, NULL,
     "share of requests with an index outside of its table, which are to be refused with 400", 0},
    {"timeout", CONFIG_REAL, AT(timeout_s), "10", 0.01, 3600, NULL, NULL,
     "seconds that a request has to be sent, and again to be answered", 0},
    {"token_file", CONFIG_TEXT, AT(token_file), "", 0, 0, NULL, NULL, "the first line is the bearer token",
     0},
    {"ca", CONFIG_TEXT, AT(ca), "", 0, 0, NULL, NULL,
     "PEM file with what an https server's certificate is signed by; empty: the system's", 0},
    {"from", CONFIG_REAL, AT(from), "50", 1, 1e6, NULL, NULL, "auto: the first rate", 0},
    {"p99", CONFIG_REAL, AT(p99_ms), "50", 0.001, 1e6, NULL, NULL,
     "auto: a rate holds if 99 % of the answers take no more than so many milliseconds", 0},
    {"errors", CONFIG_REAL, AT(errors), "0.001", 0, 1, NULL, NULL,
     "auto: and at most this share of the requests fails", 0},
    {"picture", CONFIG_TEXT, AT(picture), "", 0, 0, NULL, NULL,
     "FILE.svg or FILE.png: latency against throughput, drawn by gnuplot; its script is FILE.svg.gp", 0},
    {"seed", CONFIG_INT, AT(seed), "1", 0, 1e15, NULL, NULL, "of arrivals and requests", 0},
    {NULL, CONFIG_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, 0}};
static const config_section_t section = {keys, sizeof(bench_load_settings_t), AT(node)};

enum { REQUESTS_MAX = 50000000 };

static sbag_code_t check_rates(const bench_load_settings_t *s, sbag_status_t *status) {
  const config_node_t *node = config_node_get(s->node, "rate");
  double seconds = s->seconds + s->warmup_s;
  if (s->rates.count == 0)
    return config_refuse(node, status, "needs a value: auto, or numbers, as [100, 200]");
  for (int i = 0; i < s->rates.count; i++) {
    if (s->rates.values[i] == 0 && s->rates.count > 1)
      return config_refuse(node, status, "auto stands alone, or numbers do, as [100, 200]");
    if (s->rates.values[i] * seconds > REQUESTS_MAX)
      return config_refuse(node, status, "%g requests a second for %g s are more than %d requests",
                           s->rates.values[i], seconds, REQUESTS_MAX);
  }
  return SBAG_OK;
}

static int ends_with(const char *text, const char *end) {
  size_t length = strlen(text), more = strlen(end);
  return length > more && strcmp(text + length - more, end) == 0;
}

static sbag_code_t check(void *values, config_tree_t *tree, const config_source_t *source,
                         sbag_status_t *status) {
  bench_load_settings_t *s = values;
  (void)tree;
  s->mem = source->mem;
  SBAG_TRY(check_rates(s, status));
  if (strncmp(s->url, "http://", 7) != 0 && strncmp(s->url, "https://", 8) != 0)
    return config_refuse(config_node_get(s->node, "url"), status,
                         "'%.80s' must begin with http:// or https://, as http://127.0.0.1:8000", s->url);
  if (s->picture[0] != '\0' && !ends_with(s->picture, ".svg") && !ends_with(s->picture, ".png"))
    return config_refuse(config_node_get(s->node, "picture"), status, "'%.80s' must end with .svg or .png",
                         s->picture);
  return SBAG_OK;
}

sbag_code_t bench_load_settings_load(const char *const *sets, int set_count, mem_t *mem,
                                     bench_load_settings_t *settings, sbag_status_t *status) {
  const config_source_t source = {.sets = sets, .set_count = set_count, .mem = mem};
  return config_load(&source, &section, check, settings, &settings->tree, status);
}

void bench_load_settings_clear(bench_load_settings_t *settings) {
  config_tree_destroy(&settings->tree);
  memset(settings, 0, sizeof *settings);
}

sbag_code_t bench_load_settings_help(mem_t *mem, char **text, sbag_status_t *status) {
  return config_help(&section, mem, text, status);
}
