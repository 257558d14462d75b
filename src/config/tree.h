/* A YAML file as a tree of nodes that know where they came from, so that every complaint names file and line.
 *
 * What comes in: a file and any number of "key.path=value" overrides. What goes out: mappings, lists and
 * scalars as text; what type a scalar should have is the schema's business. Keys are unique, anchors are
 * expanded, one document a file. */
#ifndef CONFIG_TREE_H
#define CONFIG_TREE_H

#include "base/mem.h"
#include "base/status.h"

typedef struct config_tree config_tree_t;
typedef struct config_node config_node_t;

typedef enum config_node_kind { CONFIG_NODE_SCALAR, CONFIG_NODE_LIST, CONFIG_NODE_MAP } config_node_kind_t;

struct config_node {
  config_node_kind_t kind;
  const char *origin; /* the file's name, or "--set" */
  int line;           /* 1-based; 0 where there is none */
  const char *path;   /* "data.movielens.folder"; list elements by index: "tables.0.dim"; "" at the top */
  const char *text;   /* scalar */
  int quoted;         /* scalar: written in quotes, so it is text whatever it looks like */
  int count, room;
  const char **keys; /* map: [count] */
  config_node_t **items;
};

/* Not collective. The tree owns all nodes and texts. */
sbag_code_t config_tree_load(const char *file, mem_t *mem, config_tree_t **tree, sbag_status_t *status);
/* As load, from a text; `origin` takes the file's place in messages. */
sbag_code_t config_tree_parse(const char *origin, const char *text, mem_t *mem, config_tree_t **tree,
                              sbag_status_t *status);
/* NULL is allowed. */
void config_tree_destroy(config_tree_t **tree);

/* How the record of an override begins: a comment. */
#define CONFIG_SET_MARK "# --set "

/* Applies "key.path=value": the value is YAML; what stood there is replaced, missing mappings are made, and
 * an index one past a list's end appends. */
sbag_code_t config_tree_set(config_tree_t *tree, const char *assignment, sbag_status_t *status);

const config_node_t *config_tree_top(const config_tree_t *tree);
/* The file's text with the overrides behind it as comments, for the record. */
const char *config_tree_text(const config_tree_t *tree);
/* The value of a map's key, or NULL. */
const config_node_t *config_node_get(const config_node_t *map, const char *key);

/* Memory that lives as long as the tree. */
sbag_code_t config_tree_alloc(config_tree_t *tree, size_t bytes, void **block, sbag_status_t *status);

/* "FILE:LINE: key 'a.b': " and the message. Returns SBAG_ERR_ARGUMENT. */
sbag_code_t config_refuse(const config_node_t *node, sbag_status_t *status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
