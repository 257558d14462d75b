/* A group of an HDF5 file, read whole into memory: its attributes, its datasets, and the groups inside it.
 * Every rank reads for itself. */
#ifndef GOLDEN_FILE_H
#define GOLDEN_FILE_H

#include "oracle/arena.h"
#include <hdf5.h>

typedef struct golden_attribute {
  char *name;
  char *text;      /* NULL for numbers */
  double *numbers; /* NULL for text */
  int64_t count;
} golden_attribute_t;

typedef struct golden_array {
  char *name;
  int64_t rows, width; /* a vector is rows x 1 */
  int64_t count;
  int bytes;      /* of an element in the file */
  double *values; /* of floating point data, else NULL */
  int64_t *integers;
} golden_array_t;

typedef struct golden_group {
  char *name;
  int attribute_count, array_count, group_count;
  golden_attribute_t *attributes;
  golden_array_t *arrays;
  struct golden_group *groups; /* in the order of their names */
} golden_group_t;

/* Reads the group `name` under `parent`. NULL on success, else what could not be read. */
const char *golden_group_read(arena_t *arena, hid_t parent, const char *name, golden_group_t *group);
/* The names of the groups in `parent`, in order; NULL if they cannot be listed. */
char **golden_group_names(arena_t *arena, hid_t parent, int *count);

/* NULL if there is none of that name. */
const golden_array_t *golden_array(const golden_group_t *group, const char *name);
const golden_attribute_t *golden_attribute(const golden_group_t *group, const char *name);
/* An attribute's number, or `otherwise` if there is none; its text, or "". */
double golden_number(const golden_group_t *group, const char *name, double otherwise);
const char *golden_text(const golden_group_t *group, const char *name);

#endif
