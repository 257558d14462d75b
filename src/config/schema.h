/* Tables of keys: name, type, range, default, help and place in a struct. One table drives the reading of a
 * config into structs, every refusal, and --help-config.
 *
 * What comes in: a tree and a section's table. What goes out: a filled struct, or the first thing wrong as
 * "FILE:LINE: key 'a.b': what, what would be right". */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include "config/tree.h"

typedef enum config_type {
  CONFIG_BOOL,    /* int */
  CONFIG_INT,     /* int64_t */
  CONFIG_REAL,    /* double */
  CONFIG_TEXT,    /* const char *, owned by the tree or the table */
  CONFIG_CHAR,    /* char: one character, or tab, space, comma */
  CONFIG_CHOICE,  /* int: one of the words of `choices` */
  CONFIG_INTS,    /* config_ints_t */
  CONFIG_REALS,   /* config_reals_t */
  CONFIG_TEXTS,   /* config_texts_t, its texts owned by the tree: one text, or a list that is not empty */
  CONFIG_SECTION, /* the struct of `section`, in place */
  CONFIG_SECTIONS /* config_sections_t: a list of structs of `section` */
} config_type_t;

typedef struct config_ints {
  int count;
  const int64_t *values;
} config_ints_t;

typedef struct config_reals {
  int count;
  const double *values;
} config_reals_t;

typedef struct config_texts {
  int count;
  const char *const *values;
} config_texts_t;

typedef struct config_sections {
  int count;
  void *items; /* [count] structs of the key's section */
} config_sections_t;

/* A word and what it stands for: the choices of CONFIG_CHOICE, or, for CONFIG_INT and CONFIG_REAL, a word
 * allowed beside numbers ("auto"). Ends with a NULL word. */
typedef struct config_word {
  const char *word;
  double value;
} config_word_t;

typedef struct config_section config_section_t;

typedef struct config_key {
  const char *name; /* NULL ends a table */
  config_type_t type;
  size_t offset;                   /* in the section's struct */
  const char *initial;             /* the default as YAML; NULL: the key is required */
  double min, max;                 /* numbers, and the elements of INTS and REALS */
  const config_word_t *words;      /* NULL: none */
  const config_section_t *section; /* SECTION, SECTIONS */
  const char *help;
  /* SECTIONS: elements start as a copy of the struct at this offset - 1 of the parent, which an earlier key
   * has filled; 0 = from the defaults. */
  size_t template_offset;
} config_key_t;

struct config_section {
  const config_key_t *keys;
  size_t bytes; /* of the struct */
  size_t
      node_offset; /* where the struct keeps its const config_node_t *, for later refusals: NULL if absent */
};

/* Fills `out` (of section->bytes) from a map; `map` may be NULL: all defaults, nothing required. */
sbag_code_t config_read(config_tree_t *tree, const config_node_t *map, const config_section_t *section,
                        void *out, sbag_status_t *status);

/* Where a section's values come from: a file, or where that is NULL nothing, with
 * "key.path=value" overrides, applied in order. */
typedef struct config_source {
  const char *file;
  const char *text; /* not NULL: what stands in `file`, which is not read */
  const char *const *sets;
  int set_count;
  mem_t *mem;
} config_source_t;

/* What needs more than one key, and what follows from the keys; texts may be made by config_tree_alloc. */
typedef sbag_code_t config_check_fn(void *values, config_tree_t *tree, const config_source_t *source,
                                    sbag_status_t *status);

/* Fills `values` (of section->bytes), whose texts and lists the tree owns: it must be destroyed after them.
 * `check` may be NULL. On failure there is no tree and nothing in `values` is to be read. Not collective. */
sbag_code_t config_load(const config_source_t *source, const config_section_t *section,
                        config_check_fn *check, void *values, config_tree_t **tree, sbag_status_t *status);

/* Every key on lines of its own: path, type and range, default, help. */
sbag_code_t config_help(const config_section_t *section, mem_t *mem, char **text, sbag_status_t *status);

/* The word of `words` nearest to `word` if it is near enough to be meant, else NULL. */
const char *config_nearest(const char *word, const char *const *words, int count);

#endif
