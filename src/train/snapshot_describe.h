/* Words beside the numbers of a checkpoint, for who opens it without us: a description of every array and
 * group, a unit of every array and attribute. No reader of ours needs them. */
#ifndef TRAIN_SNAPSHOT_DESCRIBE_H
#define TRAIN_SNAPSHOT_DESCRIBE_H

#include "checkpoint/checkpoint.h"

/* Attributes of one object, and its attribute `units`: a line "key: unit" for each of them that is a
 * number. */
typedef struct snapshot_group {
  checkpoint_writer_t *writer;
  const char *object; /* borrowed */
  char units[1536];
  size_t used;
} snapshot_group_t;

/* Not collective. description: a sentence; */
sbag_code_t snapshot_group_begin(checkpoint_writer_t *writer, const char *object, const char *description,
                                 snapshot_group_t *group, sbag_status_t *status);
sbag_code_t snapshot_group_int(snapshot_group_t *group, const char *key, const char *unit, int64_t value,
                               sbag_status_t *status);
sbag_code_t snapshot_group_real(snapshot_group_t *group, const char *key, const char *unit, double value,
                                sbag_status_t *status);
sbag_code_t snapshot_group_text(snapshot_group_t *group, const char *key, const char *value,
                                sbag_status_t *status);
/* A unit alone: of an attribute that somebody else adds. */
void snapshot_group_unit(snapshot_group_t *group, const char *key, const char *unit);
/* Adds `units`, if there were numbers. */
sbag_code_t snapshot_group_end(snapshot_group_t *group, sbag_status_t *status);

/* An array's two attributes, `description` and `unit`. */
sbag_code_t snapshot_describe(checkpoint_writer_t *writer, const char *array, const char *description,
                              const char *unit, sbag_status_t *status);
/* The same for a fitted piece of the reader's, by its kind: "reader/vocabulary/user". */
sbag_code_t snapshot_describe_blob(checkpoint_writer_t *writer, const char *name, sbag_status_t *status);
/* The same for an optimizer's state. values: "one value a row". */
sbag_code_t snapshot_describe_state(checkpoint_writer_t *writer, const char *name, const char *state,
                                    const char *optimizer, const char *values, sbag_status_t *status);

#endif
