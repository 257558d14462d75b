/* Reading a tree by a table of keys, and refusing what does not fit. */
#include "config/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

enum { WORD_MAX = 48 };

/* Levenshtein's distance; words that are too long count as far. */
static int distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  if (n > WORD_MAX || m > WORD_MAX) return WORD_MAX;
  int row[WORD_MAX + 1];
  for (size_t j = 0; j <= m; j++) row[j] = (int)j;
  for (size_t i = 1; i <= n; i++) {
    int diagonal = row[0];
    row[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int above = row[j];
      int best = diagonal + (a[i - 1] != b[j - 1]);
      if (above + 1 < best) best = above + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      diagonal = above;
      row[j] = best;
    }
  }
  return row[m];
}

const char *config_nearest(const char *word, const char *const *words, int count) {
  const char *nearest = NULL;
  int least = (int)strlen(word) / 3 + 2; /* a third of the letters may be wrong, and one more */
  for (int i = 0; i < count; i++) {
    int d = distance(word, words[i]);
    if (d < least) {
      least = d;
      nearest = words[i];
    }
  }
  return nearest;
}

static const config_word_t *find_word(const config_word_t *words, const char *text) {
  for (; words != NULL && words->word != NULL; words++)
    if (strcmp(words->word, text) == 0) return words;
  return NULL;
}

/* "a, b or c" */
static void list_words(const config_word_t *words, const char *last, char *out, size_t room) {
  out[0] = '\0';
  for (; words != NULL && words->word != NULL; words++) {
    size_t used = strlen(out);
    const char *between = used == 0 ? "" : words[1].word == NULL ? last : ", ";
    snprintf(out + used, room - used, "%s%s", between, words->word);
  }
}

/* ---- scalars ---- */

static int is_plain(const config_node_t *node) {
  return node->kind == CONFIG_NODE_SCALAR && !node->quoted;
}

static int is_null(const config_node_t *node) {
  return is_plain(node) &&
         (node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcasecmp(node->text, "null") == 0);
}

static int parse_bool(const config_node_t *node, int *value) {
  if (!is_plain(node)) return 0;
  *value = strcmp(node->text, "true") == 0;
  return *value || strcmp(node->text, "false") == 0;
}

static int parse_int(const config_node_t *node, int64_t *value) {
  if (!is_plain(node) || strspn(node->text, "+-0123456789") != strlen(node->text)) return 0;
  char *end = NULL;
  errno = 0;
  long long parsed = strtoll(node->text, &end, 10);
  if (end == node->text || *end != '\0' || errno != 0) return 0;
  *value = parsed;
  return 1;
}

static int parse_real(const config_node_t *node, double *value) {
  if (!is_plain(node)) return 0;
  if (strcmp(node->text, ".inf") == 0 || strcmp(node->text, "inf") == 0) {
    *value = INFINITY;
    return 1;
  }
  if (strspn(node->text, "+-.0123456789eE") != strlen(node->text)) return 0;
  char *end = NULL;
  double parsed = strtod(node->text, &end);
  if (end == node->text || *end != '\0' || !isfinite(parsed)) return 0;
  *value = parsed;
  return 1;
}

/* Plain text that YAML would call a number, a truth value or nothing is no text. */
static int is_text(const config_node_t *node) {
  int truth;
  double real;
  if (node->kind != CONFIG_NODE_SCALAR) return 0;
  return node->quoted || (!is_null(node) && !parse_bool(node, &truth) && !parse_real(node, &real));
}

static int parse_char(const config_node_t *node, char *value) {
  static const struct {
    const char *word;
    char value;
  } names[] = {{"tab", '\t'}, {"\\t", '\t'}, {"space", ' '}, {"comma", ','}, {"pipe", '|'}};
  if (node->kind != CONFIG_NODE_SCALAR) return 0;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(names[i].word, node->text) == 0) {
      *value = names[i].value;
      return 1;
    }
  if (strlen(node->text) != 1) return 0;
  *value = node->text[0];
  return 1;
}

/* ---- what a key wants, in words ---- */

static void bound_text(double bound, char *out, size_t room) {
  if (fabs(bound) < 1e15 && bound == floor(bound))
    snprintf(out, room, "%.0f", bound);
  else
    snprintf(out, room, "%g", bound);
}

static void range_text(const config_key_t *key, char *out, size_t room) {
  char min[40], max[40];
  bound_text(key->min, min, sizeof min);
  bound_text(key->max, max, sizeof max);
  int has_min = isfinite(key->min) && key->min > -1e18, has_max = isfinite(key->max) && key->max < 9e18;
  if (has_min && has_max)
    snprintf(out, room, " from %s to %s", min, max);
  else if (has_min)
    snprintf(out, room, " from %s", min);
  else if (has_max)
    snprintf(out, room, " up to %s", max);
  else
    out[0] = '\0';
}

/* "an integer from 1 to 100, or auto" */
static void wanted_text(const config_key_t *key, char *out, size_t room) {
  char range[96], words[300];
  range_text(key, range, sizeof range);
  list_words(key->words, " or ", words, sizeof words);
  const char *or_words = words[0] != '\0' ? ", or " : "";
  switch (key->type) {
  case CONFIG_BOOL:
    snprintf(out, room, "true or false");
    break;
  case CONFIG_INT:
    snprintf(out, room, "an integer%s%s%s", range, or_words, words);
    break;
  case CONFIG_REAL:
    snprintf(out, room, "a number%s%s%s", range, or_words, words);
    break;
  case CONFIG_TEXT:
    snprintf(out, room, "a text");
    break;
  case CONFIG_CHAR:
    snprintf(out, room, "one character, or tab, space, comma or pipe");
    break;
  case CONFIG_CHOICE:
    snprintf(out, room, "%s", words);
    break;
  case CONFIG_INTS:
    snprintf(out, room, "a list of integers%s", range);
    break;
  case CONFIG_REALS:
    snprintf(out, room, "a list of numbers%s", range);
    break;
  case CONFIG_TEXTS:
    snprintf(out, room, "a text or a list of texts");
    break;
  case CONFIG_SECTION:
    snprintf(out, room, "a mapping of keys");
    break;
  case CONFIG_SECTIONS:
    snprintf(out, room, "a list of mappings");
    break;
  }
}

static sbag_code_t refuse_type(const config_key_t *key, const config_node_t *node, sbag_status_t *status) {
  char wanted[400];
  wanted_text(key, wanted, sizeof wanted);
  if (is_null(node)) return config_refuse(node, status, "is empty; it must be %s", wanted);
  if (node->kind == CONFIG_NODE_MAP)
    return config_refuse(node, status, "is a mapping; it must be %s", wanted);
  if (node->kind == CONFIG_NODE_LIST) return config_refuse(node, status, "is a list; it must be %s", wanted);
  int text = key->type == CONFIG_TEXT || key->type == CONFIG_TEXTS;
  const char *quote = text ? " (put it in quotes if it is meant as one)" : "";
  const char *mark = node->quoted ? "\"" : "";
  return config_refuse(node, status, "%s%.60s%s is wrong; it must be %s%s", mark, node->text, mark, wanted,
                       quote);
}

/* ---- reading ---- */

/* One number by the key's range and words; used for elements of lists too. */
static sbag_code_t read_number(const config_key_t *key, const config_node_t *node, int whole,
                               int64_t *integer, double *real, sbag_status_t *status) {
  const config_word_t *word = is_plain(node) ? find_word(key->words, node->text) : NULL;
  if (word != NULL) {
    *integer = whole ? (int64_t)word->value : 0;
    *real = word->value;
    return SBAG_OK;
  }
  if (whole ? !parse_int(node, integer) : !parse_real(node, real)) return refuse_type(key, node, status);
  double value = whole ? (double)*integer : *real;
  if (!(value >= key->min && value <= key->max)) return refuse_type(key, node, status);
  return SBAG_OK;
}

static sbag_code_t read_choice(const config_key_t *key, const config_node_t *node, int *value,
                               sbag_status_t *status) {
  const config_word_t *word = node->kind == CONFIG_NODE_SCALAR ? find_word(key->words, node->text) : NULL;
  if (word == NULL) return refuse_type(key, node, status);
  *value = (int)word->value;
  return SBAG_OK;
}

/* INTS and REALS; a single number stands for a list of one. */
static sbag_code_t read_numbers(config_tree_t *tree, const config_key_t *key, const config_node_t *node,
                                void *out, sbag_status_t *status) {
  int whole = key->type == CONFIG_INTS;
  if (node->kind == CONFIG_NODE_MAP || is_null(node)) return refuse_type(key, node, status);
  int count = node->kind == CONFIG_NODE_LIST ? node->count : 1;
  void *block = NULL;
  SBAG_TRY(config_tree_alloc(tree, mem_array_bytes(count, sizeof(int64_t)), &block, status));
  int64_t *integers = block;
  double *reals = block;
  for (int i = 0; i < count; i++) {
    const config_node_t *item = node->kind == CONFIG_NODE_LIST ? node->items[i] : node;
    int64_t integer = 0;
    double real = 0;
    SBAG_TRY(read_number(key, item, whole, &integer, &real, status));
    if (whole)
      integers[i] = integer;
    else
      reals[i] = real;
  }
  if (whole)
    *(config_ints_t *)out = (config_ints_t){.count = count, .values = integers};
  else
    *(config_reals_t *)out = (config_reals_t){.count = count, .values = reals};
  return SBAG_OK;
}

/* TEXTS; a single text stands for a list of one. */
static sbag_code_t read_texts(config_tree_t *tree, const config_key_t *key, const config_node_t *node,
                              config_texts_t *out, sbag_status_t *status) {
  int is_list = node->kind == CONFIG_NODE_LIST, count = is_list ? node->count : 1;
  void *block = NULL;
  if (count == 0) return config_refuse(node, status, "is an empty list; at least one text must be there");
  SBAG_TRY(config_tree_alloc(tree, mem_array_bytes(count, sizeof(const char *)), &block, status));
  const char **texts = block;
  for (int i = 0; i < count; i++) {
    const config_node_t *item = is_list ? node->items[i] : node;
    if (!is_text(item)) return refuse_type(key, item, status);
    texts[i] = item->text;
  }
  *out = (config_texts_t){.count = count, .values = texts};
  return SBAG_OK;
}

static sbag_code_t read_value(config_tree_t *tree, const config_key_t *key, const config_node_t *node,
                              void *out, sbag_status_t *status) {
  int64_t integer = 0;
  double real = 0;
  switch (key->type) {
  case CONFIG_BOOL:
    return parse_bool(node, out) ? SBAG_OK : refuse_type(key, node, status);
  case CONFIG_INT:
    SBAG_TRY(read_number(key, node, 1, &integer, &real, status));
    *(int64_t *)out = integer;
    return SBAG_OK;
  case CONFIG_REAL:
    SBAG_TRY(read_number(key, node, 0, &integer, &real, status));
    *(double *)out = real;
    return SBAG_OK;
  case CONFIG_TEXT:
    if (!is_text(node)) return refuse_type(key, node, status);
    *(const char **)out = node->text;
    return SBAG_OK;
  case CONFIG_CHAR:
    return parse_char(node, out) ? SBAG_OK : refuse_type(key, node, status);
  case CONFIG_CHOICE:
    return read_choice(key, node, out, status);
  case CONFIG_INTS:
  case CONFIG_REALS:
    return read_numbers(tree, key, node, out, status);
  case CONFIG_TEXTS:
    return read_texts(tree, key, node, out, status);
  case CONFIG_SECTION:
  case CONFIG_SECTIONS:
    break;
  }
  return SBAG_OK;
}

/* The default, which is YAML text of the same form ("[64, 32]" and "[]" are the only lists). */
static sbag_code_t read_initial(config_tree_t *tree, const config_key_t *key, void *out,
                                sbag_status_t *status) {
  config_node_t node = {.origin = "default", .path = key->name, .text = key->initial};
  node.quoted = key->type == CONFIG_TEXT || key->type == CONFIG_TEXTS || key->type == CONFIG_CHAR;
  if (key->initial[0] != '[') return read_value(tree, key, &node, out, status);
  config_node_t elements[8], *items[8];
  char text[64];
  snprintf(text, sizeof text, "%s", key->initial + 1);
  node.kind = CONFIG_NODE_LIST;
  node.items = items;
  char *rest = NULL;
  for (char *word = strtok_r(text, " ,]", &rest); word != NULL && node.count < 8;
       word = strtok_r(NULL, " ,]", &rest)) {
    void *copy = NULL;
    SBAG_TRY(config_tree_alloc(tree, strlen(word) + 1, &copy, status));
    memcpy(copy, word, strlen(word));
    elements[node.count] = (config_node_t){.origin = "default", .path = key->name, .text = copy};
    items[node.count] = &elements[node.count];
    node.count++;
  }
  return read_value(tree, key, &node, out, status);
}

static sbag_code_t fill_defaults(config_tree_t *tree, const config_section_t *section, void *out,
                                 sbag_status_t *status) {
  memset(out, 0, section->bytes);
  for (const config_key_t *key = section->keys; key->name != NULL; key++) {
    void *at = (char *)out + key->offset;
    if (key->type == CONFIG_SECTION)
      SBAG_TRY(fill_defaults(tree, key->section, at, status));
    else if (key->type != CONFIG_SECTIONS && key->initial != NULL)
      SBAG_TRY(read_initial(tree, key, at, status));
  }
  return SBAG_OK;
}

static sbag_code_t refuse_unknown(const config_section_t *section, const config_node_t *node,
                                  const char *name, sbag_status_t *status) {
  const char *names[64];
  char all[340] = "";
  int count = 0;
  for (const config_key_t *key = section->keys; key->name != NULL && count < 64; key++) {
    names[count++] = key->name;
    size_t used = strlen(all);
    snprintf(all + used, sizeof all - used, "%s%s", used > 0 ? ", " : "", key->name);
  }
  const char *nearest = config_nearest(name, names, count);
  if (nearest != NULL) return config_refuse(node, status, "unknown key, did you mean '%s'?", nearest);
  return config_refuse(node, status, "unknown key; the keys here are %s", all);
}

static sbag_code_t check_names(const config_section_t *section, const config_node_t *map,
                               sbag_status_t *status) {
  for (int i = 0; i < map->count; i++) {
    const config_key_t *key = section->keys;
    while (key->name != NULL && strcmp(key->name, map->keys[i]) != 0) key++;
    if (key->name == NULL) return refuse_unknown(section, map->items[i], map->keys[i], status);
  }
  return SBAG_OK;
}

static sbag_code_t read_keys(config_tree_t *tree, const config_node_t *map, const config_section_t *section,
                             void *out, int inherited, sbag_status_t *status);

static sbag_code_t read_sections(config_tree_t *tree, const config_node_t *node, const config_key_t *key,
                                 void *parent, sbag_status_t *status) {
  if (node->kind != CONFIG_NODE_LIST) return refuse_type(key, node, status);
  const config_section_t *section = key->section;
  void *items = NULL;
  SBAG_TRY(config_tree_alloc(tree, mem_array_bytes(node->count, section->bytes), &items, status));
  for (int i = 0; i < node->count; i++) {
    char *item = (char *)items + (size_t)i * section->bytes;
    if (key->template_offset > 0)
      memcpy(item, (char *)parent + key->template_offset - 1, section->bytes);
    else
      SBAG_TRY(fill_defaults(tree, section, item, status));
    SBAG_TRY(read_keys(tree, node->items[i], section, item, key->template_offset > 0, status));
  }
  config_sections_t *out = (config_sections_t *)(void *)((char *)parent + key->offset);
  *out = (config_sections_t){.count = node->count, .items = items};
  return SBAG_OK;
}

/* Over a struct that holds its defaults already. `inherited`: they come from a filled struct, so that only a
 * key without any default is required. */
static sbag_code_t read_keys(config_tree_t *tree, const config_node_t *map, const config_section_t *section,
                             void *out, int inherited, sbag_status_t *status) {
  if (map->kind != CONFIG_NODE_MAP)
    return config_refuse(map, status, "%s; it must be a mapping of keys",
                         is_null(map) ? "is empty" : "is not a mapping");
  SBAG_TRY(check_names(section, map, status));
  *(const config_node_t **)(void *)((char *)out + section->node_offset) = map;
  for (const config_key_t *key = section->keys; key->name != NULL; key++) {
    const config_node_t *node = config_node_get(map, key->name);
    void *at = (char *)out + key->offset;
    if (node == NULL) {
      if (key->initial == NULL && key->type != CONFIG_SECTION && key->type != CONFIG_SECTIONS)
        return config_refuse(map, status, "the required key '%s' is missing: %s", key->name, key->help);
    } else if (key->type == CONFIG_SECTION) {
      SBAG_TRY(read_keys(tree, node, key->section, at, inherited, status));
    } else if (key->type == CONFIG_SECTIONS) {
      SBAG_TRY(read_sections(tree, node, key, out, status));
    } else {
      SBAG_TRY(read_value(tree, key, node, at, status));
    }
  }
  return SBAG_OK;
}

sbag_code_t config_read(config_tree_t *tree, const config_node_t *map, const config_section_t *section,
                        void *out, sbag_status_t *status) {
  SBAG_TRY(fill_defaults(tree, section, out, status));
  return map == NULL ? SBAG_OK : read_keys(tree, map, section, out, 0, status);
}

static sbag_code_t load(config_tree_t *tree, const config_source_t *source, const config_section_t *section,
                        config_check_fn *check, void *values, sbag_status_t *status) {
  for (int i = 0; i < source->set_count; i++) SBAG_TRY(config_tree_set(tree, source->sets[i], status));
  SBAG_TRY(config_read(tree, config_tree_top(tree), section, values, status));
  return check != NULL ? check(values, tree, source, status) : SBAG_OK;
}

sbag_code_t config_load(const config_source_t *source, const config_section_t *section,
                        config_check_fn *check, void *values, config_tree_t **tree, sbag_status_t *status) {
  config_tree_t *made = NULL;
  memset(values, 0, section->bytes);
  if (source->text != NULL)
    SBAG_TRY(config_tree_parse(source->file, source->text, source->mem, &made, status));
  else if (source->file != NULL)
    SBAG_TRY(config_tree_load(source->file, source->mem, &made, status));
  else
    SBAG_TRY(config_tree_parse("--set", "{}", source->mem, &made, status));
  sbag_code_t code = load(made, source, section, check, values, status);
  if (code == SBAG_OK)
    *tree = made;
  else
    config_tree_destroy(&made);
  if (code != SBAG_OK) memset(values, 0, section->bytes); /* `check` may have kept the tree there */
  return code;
}

/* ---- help ---- */

typedef struct help {
  mem_t *mem;
  char *text;
  size_t used, room;
} help_t;

static sbag_code_t help_line(help_t *help, const char *path, const char *wanted, const char *initial,
                             const char *text, sbag_status_t *status) {
  size_t bytes = strlen(path) + strlen(wanted) + strlen(initial) + strlen(text) + 64;
  if (help->used + bytes > help->room) {
    size_t room = 2 * (help->room + bytes);
    void *block = help->text;
    SBAG_TRY(mem_realloc(help->mem, room, "config: help", &block, status));
    help->text = block;
    help->room = room;
  }
  int written =
      snprintf(help->text + help->used, help->room - help->used, "%s\n    %s%s%s%s\n    %s\n", path, wanted,
               initial[0] != '\0' ? " (default " : "", initial, initial[0] != '\0' ? ")" : "", text);
  help->used += (size_t)written;
  return SBAG_OK;
}

static sbag_code_t help_section(help_t *help, const config_section_t *section, const char *parent,
                                sbag_status_t *status) {
  for (const config_key_t *key = section->keys; key->name != NULL; key++) {
    char path[200], wanted[400];
    snprintf(path, sizeof path, "%s%s%s%s", parent, parent[0] != '\0' ? "." : "", key->name,
             key->type == CONFIG_SECTIONS ? ".N" : "");
    wanted_text(key, wanted, sizeof wanted);
    int nested = key->type == CONFIG_SECTION || key->type == CONFIG_SECTIONS;
    const char *initial = nested                    ? ""
                          : key->initial == NULL    ? "none: required"
                          : key->initial[0] == '\0' ? "empty"
                          : key->initial[0] == '\t' ? "tab"
                          : key->initial[0] == ' '  ? "space"
                                                    : key->initial;
    SBAG_TRY(help_line(help, path, wanted, initial, key->help, status));
    if (nested && key->template_offset == 0) SBAG_TRY(help_section(help, key->section, path, status));
  }
  return SBAG_OK;
}

sbag_code_t config_help(const config_section_t *section, mem_t *mem, char **text, sbag_status_t *status) {
  help_t help = {.mem = mem};
  sbag_code_t code = help_section(&help, section, "", status);
  if (code != SBAG_OK) {
    mem_free(mem, help.text);
    return code;
  }
  *text = help.text;
  return SBAG_OK;
}
