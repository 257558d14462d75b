/* Building the tree: libyaml's document API gives nodes with line marks; they are copied into our own nodes,
 * with paths, and --set edits those. */
#include "config/tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 32, NODES_MAX = 100000, FILE_BYTES_MAX = 16 << 20 };

/* Blocks of the tree's memory, chained so that all can be freed. */
typedef struct chunk {
  struct chunk *next;
} chunk_t;

struct config_tree {
  mem_t *mem;
  chunk_t *chunks;
  config_node_t *top;
  char *text;
  int node_count;
};

sbag_code_t config_tree_alloc(config_tree_t *tree, size_t bytes, void **block, sbag_status_t *status) {
  enum { HEAD = 64 }; /* keeps the blocks' alignment */
  void *raw = NULL;
  SBAG_TRY(mem_calloc(tree->mem, bytes > SIZE_MAX - HEAD ? SIZE_MAX : bytes + HEAD, "config", &raw, status));
  chunk_t *chunk = raw;
  chunk->next = tree->chunks;
  tree->chunks = chunk;
  *block = (char *)raw + HEAD;
  return SBAG_OK;
}

static sbag_code_t copy_text(config_tree_t *tree, const char *text, size_t bytes, const char **copy,
                             sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(config_tree_alloc(tree, bytes + 1, &block, status));
  memcpy(block, text, bytes);
  *copy = block;
  return SBAG_OK;
}

sbag_code_t config_refuse(const config_node_t *node, sbag_status_t *status, const char *format, ...) {
  char what[SBAG_MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  char place[256];
  if (node->line > 0)
    snprintf(place, sizeof place, "%s:%d", node->origin, node->line);
  else
    snprintf(place, sizeof place, "%s", node->origin);
  if (node->path[0] == '\0') return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s", place, what);
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: key '%s': %s", place, node->path, what);
}

/* The path of a child: "parent.name". */
static sbag_code_t child_path(config_tree_t *tree, const char *parent, const char *name, const char **path,
                              sbag_status_t *status) {
  size_t bytes = strlen(parent) + strlen(name) + 2;
  void *block = NULL;
  SBAG_TRY(config_tree_alloc(tree, bytes, &block, status));
  snprintf(block, bytes, "%s%s%s", parent, parent[0] != '\0' ? "." : "", name);
  *path = block;
  return SBAG_OK;
}

static sbag_code_t node_create(config_tree_t *tree, config_node_kind_t kind, const char *origin, int line,
                               const char *path, config_node_t **node, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(config_tree_alloc(tree, sizeof(config_node_t), &block, status));
  *node = block;
  **node = (config_node_t){.kind = kind, .origin = origin, .line = line, .path = path, .text = ""};
  return SBAG_OK;
}

/* Appends a child; `key` is NULL in lists. */
static sbag_code_t node_append(config_tree_t *tree, config_node_t *parent, const char *key,
                               config_node_t *child, sbag_status_t *status) {
  if (parent->count == parent->room) {
    int room = parent->room > 0 ? 2 * parent->room : 8;
    void *keys = NULL, *items = NULL;
    SBAG_TRY(config_tree_alloc(tree, mem_array_bytes(room, sizeof *parent->keys), &keys, status));
    SBAG_TRY(config_tree_alloc(tree, mem_array_bytes(room, sizeof *parent->items), &items, status));
    if (parent->count > 0) {
      memcpy(keys, parent->keys, (size_t)parent->count * sizeof *parent->keys);
      memcpy(items, parent->items, (size_t)parent->count * sizeof *parent->items);
    }
    parent->keys = keys;
    parent->items = items;
    parent->room = room;
  }
  parent->keys[parent->count] = key;
  parent->items[parent->count++] = child;
  return SBAG_OK;
}

/* One conversion of a libyaml document. */
typedef struct convert {
  config_tree_t *tree;
  yaml_document_t *document;
  const char *origin;
  int with_lines; /* 0: an override has no line */
} convert_t;

static sbag_code_t convert_node(const convert_t *c, int id, const char *path, int depth,
                                config_node_t **result, sbag_status_t *status);

static sbag_code_t convert_pair(const convert_t *c, const yaml_node_pair_t *pair, config_node_t *map,
                                int depth, sbag_status_t *status) {
  const yaml_node_t *key = yaml_document_get_node(c->document, pair->key);
  if (key->type != YAML_SCALAR_NODE)
    return config_refuse(map, status, "a key must be a word, not a list or a mapping");
  const char *name = NULL, *path = NULL;
  SBAG_TRY(copy_text(c->tree, (const char *)key->data.scalar.value, key->data.scalar.length, &name, status));
  SBAG_TRY(child_path(c->tree, map->path, name, &path, status));
  const config_node_t *twin = config_node_get(map, name);
  if (twin != NULL) {
    config_node_t at = {
        .origin = c->origin, .line = c->with_lines ? (int)key->start_mark.line + 1 : 0, .path = path};
    return config_refuse(&at, status, "given twice, first in line %d; keep one", twin->line);
  }
  config_node_t *child = NULL;
  SBAG_TRY(convert_node(c, pair->value, path, depth + 1, &child, status));
  if (c->with_lines) child->line = (int)key->start_mark.line + 1; /* where its name stands */
  return node_append(c->tree, map, name, child, status);
}

static sbag_code_t convert_children(const convert_t *c, const yaml_node_t *from, config_node_t *node,
                                    int depth, sbag_status_t *status) {
  if (from->type == YAML_MAPPING_NODE) {
    for (const yaml_node_pair_t *pair = from->data.mapping.pairs.start; pair < from->data.mapping.pairs.top;
         pair++)
      SBAG_TRY(convert_pair(c, pair, node, depth, status));
    return SBAG_OK;
  }
  for (const yaml_node_item_t *item = from->data.sequence.items.start; item < from->data.sequence.items.top;
       item++) {
    char index[16];
    snprintf(index, sizeof index, "%d", node->count);
    const char *path = NULL;
    SBAG_TRY(child_path(c->tree, node->path, index, &path, status));
    config_node_t *child = NULL;
    SBAG_TRY(convert_node(c, *item, path, depth + 1, &child, status));
    SBAG_TRY(node_append(c->tree, node, NULL, child, status));
  }
  return SBAG_OK;
}

static sbag_code_t convert_node(const convert_t *c, int id, const char *path, int depth,
                                config_node_t **result, sbag_status_t *status) {
  const yaml_node_t *from = yaml_document_get_node(c->document, id);
  config_node_kind_t kind = from->type == YAML_MAPPING_NODE    ? CONFIG_NODE_MAP
                            : from->type == YAML_SEQUENCE_NODE ? CONFIG_NODE_LIST
                                                               : CONFIG_NODE_SCALAR;
  config_node_t *node = NULL;
  int line = c->with_lines ? (int)from->start_mark.line + 1 : 0;
  SBAG_TRY(node_create(c->tree, kind, c->origin, line, path, &node, status));
  /* Anchors can make a short file endless, or itself a part of itself. */
  if (depth > DEPTH_MAX) return config_refuse(node, status, "nested deeper than %d levels", DEPTH_MAX);
  if (++c->tree->node_count > NODES_MAX) return config_refuse(node, status, "more than %d values", NODES_MAX);
  if (kind == CONFIG_NODE_SCALAR) {
    node->quoted = from->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    SBAG_TRY(copy_text(c->tree, (const char *)from->data.scalar.value, from->data.scalar.length, &node->text,
                       status));
    if (strlen(node->text) != from->data.scalar.length)
      return config_refuse(node, status, "contains a zero byte");
  } else {
    SBAG_TRY(convert_children(c, from, node, depth, status));
  }
  *result = node;
  return SBAG_OK;
}

static sbag_code_t refuse_syntax(const yaml_parser_t *parser, const char *origin, int with_lines,
                                 sbag_status_t *status) {
  const char *problem = parser->problem != NULL ? parser->problem : "cannot be read as YAML";
  if (!with_lines) return status_set(status, SBAG_ERR_ARGUMENT, "%s: %s", origin, problem);
  const char *context = parser->context != NULL ? parser->context : "";
  return status_set(status, SBAG_ERR_ARGUMENT, "%s:%d: not YAML: %s%s%s", origin,
                    (int)parser->problem_mark.line + 1, context, context[0] != '\0' ? ", " : "", problem);
}

/* Refuses a second document in the same text. */
static sbag_code_t check_single(yaml_parser_t *parser, const char *origin, int with_lines,
                                sbag_status_t *status) {
  yaml_document_t more;
  if (!yaml_parser_load(parser, &more)) return refuse_syntax(parser, origin, with_lines, status);
  const yaml_node_t *root = yaml_document_get_root_node(&more);
  sbag_code_t code = SBAG_OK;
  if (root != NULL)
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s:%d: a second YAML document; one is allowed", origin,
                      (int)root->start_mark.line + 1);
  yaml_document_delete(&more);
  return code;
}

/* Text to nodes; *node is NULL for an empty text. */
static sbag_code_t parse_text(config_tree_t *tree, const char *origin, int with_lines, const char *text,
                              const char *path, config_node_t **node, sbag_status_t *status) {
  yaml_parser_t parser;
  if (!yaml_parser_initialize(&parser))
    return status_set(status, SBAG_ERR_MEMORY, "%s: cannot start the YAML parser", origin);
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
  yaml_document_t document;
  sbag_code_t code = SBAG_OK;
  if (!yaml_parser_load(&parser, &document)) {
    code = refuse_syntax(&parser, origin, with_lines, status);
  } else {
    *node = NULL;
    convert_t c = {.tree = tree, .document = &document, .origin = origin, .with_lines = with_lines};
    if (yaml_document_get_root_node(&document) != NULL) {
      code = convert_node(&c, 1, path, 0, node, status);
      if (code == SBAG_OK) code = check_single(&parser, origin, with_lines, status);
    }
    yaml_document_delete(&document);
  }
  yaml_parser_delete(&parser);
  return code;
}

static sbag_code_t fill_tree(config_tree_t *tree, const char *origin, const char *text,
                             sbag_status_t *status) {
  const char *name = NULL, *kept = NULL;
  SBAG_TRY(copy_text(tree, origin, strlen(origin), &name, status));
  SBAG_TRY(copy_text(tree, text, strlen(text), &kept, status));
  tree->text = (char *)(uintptr_t)kept; /* our own copy */
  SBAG_TRY(parse_text(tree, name, 1, text, "", &tree->top, status));
  if (tree->top == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s:1: is empty; a mapping of keys is needed", origin);
  if (tree->top->kind != CONFIG_NODE_MAP)
    return config_refuse(tree->top, status, "the file must be a mapping of keys, as 'seed: 1'");
  return SBAG_OK;
}

sbag_code_t config_tree_parse(const char *origin, const char *text, mem_t *mem, config_tree_t **tree,
                              sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(config_tree_t), "config", &block, status));
  config_tree_t *made = block;
  made->mem = mem;
  sbag_code_t code = fill_tree(made, origin, text, status);
  if (code != SBAG_OK) {
    config_tree_destroy(&made);
    return code;
  }
  *tree = made;
  return SBAG_OK;
}

void config_tree_destroy(config_tree_t **tree) {
  if (tree == NULL || *tree == NULL) return;
  mem_t *mem = (*tree)->mem;
  chunk_t *chunk = (*tree)->chunks;
  while (chunk != NULL) {
    chunk_t *next = chunk->next;
    mem_free(mem, chunk);
    chunk = next;
  }
  mem_free(mem, *tree);
  *tree = NULL;
}

/* The whole file into a block with a zero byte behind it. */
static sbag_code_t read_file(const char *file, mem_t *mem, char **text, sbag_status_t *status) {
  FILE *stream = fopen(file, "re");
  if (stream == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open the config: %s", file, strerror(errno));
  size_t room = 1 << 16, used = 0;
  void *block = NULL;
  sbag_code_t code = mem_alloc(mem, room, "config", &block, status);
  while (code == SBAG_OK) {
    used += fread((char *)block + used, 1, room - used, stream);
    if (used < room) break;
    room *= 2;
    if (room > FILE_BYTES_MAX)
      code = status_set(status, SBAG_ERR_ARGUMENT, "%s: is larger than %d bytes; is it a config?", file,
                        FILE_BYTES_MAX);
    else
      code = mem_realloc(mem, room, "config", &block, status);
  }
  if (code == SBAG_OK && ferror(stream))
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot read the config: %s", file, strerror(errno));
  fclose(stream);
  if (code == SBAG_OK && memchr(block, '\0', used) != NULL)
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s: contains a zero byte; a YAML text is needed", file);
  if (code != SBAG_OK) {
    mem_free(mem, block);
    return code;
  }
  ((char *)block)[used] = '\0';
  *text = block;
  return SBAG_OK;
}

sbag_code_t config_tree_load(const char *file, mem_t *mem, config_tree_t **tree, sbag_status_t *status) {
  char *text = NULL;
  SBAG_TRY(read_file(file, mem, &text, status));
  sbag_code_t code = config_tree_parse(file, text, mem, tree, status);
  mem_free(mem, text);
  return code;
}

const config_node_t *config_tree_top(const config_tree_t *tree) {
  return tree->top;
}

const char *config_tree_text(const config_tree_t *tree) {
  return tree->text;
}

static int find_key(const config_node_t *map, const char *key) {
  for (int i = 0; i < map->count; i++)
    if (strcmp(map->keys[i], key) == 0) return i;
  return -1;
}

const config_node_t *config_node_get(const config_node_t *map, const char *key) {
  int at = find_key(map, key);
  return at < 0 ? NULL : map->items[at];
}

/* A word of digits as a list index, or -1. */
static int list_index(const char *word) {
  if (word[0] == '\0' || strspn(word, "0123456789") != strlen(word) || strlen(word) > 6) return -1;
  return (int)strtol(word, NULL, 10);
}

static config_node_t set_place(const char *path) {
  return (config_node_t){.origin = "--set", .path = path};
}

/* Where `word` stands in `parent`: *slot is -1 where it has to be appended. */
static sbag_code_t find_slot(const config_node_t *parent, const char *word, const char *path, int *slot,
                             sbag_status_t *status) {
  config_node_t at = set_place(path);
  if (parent->kind == CONFIG_NODE_SCALAR)
    return config_refuse(&at, status, "'%s' is a single value and has no '%s' in it", parent->path, word);
  if (parent->kind == CONFIG_NODE_MAP) {
    *slot = find_key(parent, word);
    return SBAG_OK;
  }
  int index = list_index(word);
  if (index < 0 || index > parent->count)
    return config_refuse(&at, status, "'%s' is a list of %d; name an element by its index, 0 to %d",
                         parent->path, parent->count, parent->count);
  *slot = index < parent->count ? index : -1;
  return SBAG_OK;
}

/* Puts `child` at the slot. */
static sbag_code_t put_slot(config_tree_t *tree, config_node_t *parent, const char *word, int slot,
                            config_node_t *child, sbag_status_t *status) {
  if (slot < 0)
    return node_append(tree, parent, parent->kind == CONFIG_NODE_MAP ? word : NULL, child, status);
  parent->items[slot] = child;
  return SBAG_OK;
}

/* Walks (and makes) the path; the last word gets the value. `words` is cut up in place. */
static sbag_code_t set_path(config_tree_t *tree, char *words, config_node_t *value, sbag_status_t *status) {
  config_node_t *at = tree->top;
  for (char *word = words; word != NULL;) {
    char *dot = strchr(word, '.');
    if (dot != NULL) *dot = '\0';
    const char *path = NULL, *name = NULL;
    SBAG_TRY(copy_text(tree, word, strlen(word), &name, status));
    SBAG_TRY(child_path(tree, at->path, name, &path, status));
    config_node_t here = set_place(path);
    if (word[0] == '\0') return config_refuse(&here, status, "an empty word in the key; as in a.b=1");
    int slot = -1;
    SBAG_TRY(find_slot(at, name, path, &slot, status));
    if (dot == NULL) return put_slot(tree, at, name, slot, value, status);
    if (slot < 0) {
      int first = dot[1] == '0' && (dot[2] == '.' || dot[2] == '\0'); /* an index: the list is new */
      config_node_kind_t kind = first ? CONFIG_NODE_LIST : CONFIG_NODE_MAP;
      config_node_t *made = NULL;
      SBAG_TRY(node_create(tree, kind, "--set", 0, path, &made, status));
      SBAG_TRY(put_slot(tree, at, name, slot, made, status));
      at = made;
    } else {
      at = at->items[slot];
    }
    word = dot + 1;
  }
  return SBAG_OK;
}

/* Keeps the override in the recorded text. */
static sbag_code_t record_set(config_tree_t *tree, const char *assignment, sbag_status_t *status) {
  size_t bytes = strlen(tree->text) + strlen(assignment) + 16;
  void *block = NULL;
  SBAG_TRY(config_tree_alloc(tree, bytes, &block, status));
  size_t used = strlen(tree->text);
  int ended = used == 0 || tree->text[used - 1] == '\n';
  snprintf(block, bytes, "%s%s" CONFIG_SET_MARK "%s\n", tree->text, ended ? "" : "\n", assignment);
  tree->text = block;
  return SBAG_OK;
}

sbag_code_t config_tree_set(config_tree_t *tree, const char *assignment, sbag_status_t *status) {
  const char *equals = strchr(assignment, '=');
  if (equals == NULL || equals == assignment)
    return status_set(status, SBAG_ERR_ARGUMENT, "--set %s: must be key.path=value, as train.epochs=2",
                      assignment);
  const char *path = NULL;
  SBAG_TRY(copy_text(tree, assignment, (size_t)(equals - assignment), &path, status));
  config_node_t *value = NULL;
  sbag_code_t code = parse_text(tree, "--set", 0, equals + 1, path, &value, status);
  if (code != SBAG_OK) {
    if (code != SBAG_ERR_ARGUMENT || status == NULL || strstr(status->message, "key '") != NULL) return code;
    config_node_t at = set_place(path);
    return config_refuse(&at, status, "'%s' is not YAML: %s", equals + 1, status->message);
  }
  if (value == NULL) SBAG_TRY(node_create(tree, CONFIG_NODE_SCALAR, "--set", 0, path, &value, status));
  const char *words = NULL;
  SBAG_TRY(copy_text(tree, path, strlen(path), &words, status));
  SBAG_TRY(set_path(tree, (char *)(uintptr_t)words, value, status)); /* our own copy */
  return record_set(tree, assignment, status);
}
