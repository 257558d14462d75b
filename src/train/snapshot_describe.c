/* Descriptions and units: see snapshot_describe.h. */
#include "train/snapshot_describe.h"

#include "train/snapshot_parts.h"
#include <stdio.h>
#include <string.h>

sbag_code_t snapshot_group_begin(checkpoint_writer_t *writer, const char *object, const char *description,
                                 snapshot_group_t *group, sbag_status_t *status) {
  *group = (snapshot_group_t){.writer = writer, .object = object};
  return checkpoint_add_text(writer, object, "description", description, status);
}

/* There is room for all that this program writes. */
void snapshot_group_unit(snapshot_group_t *group, const char *key, const char *unit) {
  size_t room = sizeof group->units - group->used;
  int length = snprintf(group->units + group->used, room, "%s: %s\n", key, unit);
  if (length > 0 && (size_t)length < room)
    group->used += (size_t)length;
  else
    group->units[group->used] = '\0';
}

sbag_code_t snapshot_group_int(snapshot_group_t *group, const char *key, const char *unit, int64_t value,
                               sbag_status_t *status) {
  snapshot_group_unit(group, key, unit);
  return checkpoint_add_int(group->writer, group->object, key, value, status);
}

sbag_code_t snapshot_group_real(snapshot_group_t *group, const char *key, const char *unit, double value,
                                sbag_status_t *status) {
  snapshot_group_unit(group, key, unit);
  return checkpoint_add_real(group->writer, group->object, key, value, status);
}

sbag_code_t snapshot_group_text(snapshot_group_t *group, const char *key, const char *value,
                                sbag_status_t *status) {
  return checkpoint_add_text(group->writer, group->object, key, value, status);
}

sbag_code_t snapshot_group_end(snapshot_group_t *group, sbag_status_t *status) {
  if (group->used == 0) return SBAG_OK;
  return checkpoint_add_text(group->writer, group->object, "units", group->units, status);
}

sbag_code_t snapshot_describe(checkpoint_writer_t *writer, const char *array, const char *description,
                              const char *unit, sbag_status_t *status) {
  SBAG_TRY(checkpoint_add_text(writer, array, "description", description, status));
  return checkpoint_add_text(writer, array, "unit", unit, status);
}

sbag_code_t snapshot_describe_blob(checkpoint_writer_t *writer, const char *name, sbag_status_t *status) {
  static const struct {
    const char *kind, *description;
  } kinds[] = {
      {"vocabulary/", "the values that have rows of their own, in the order of the rows; bytes as in "
                      "src/reader/vocabulary.h"},
      {"zscore/", "mean and standard deviation of a dense column; bytes as in src/reader/delimited.c"},
      {"expand/", "how a column's rows are expanded to bags; bytes as in src/reader/delimited.c"},
      {"hash/", "how the column's values are hashed to rows; bytes as in src/reader/delimited.c"},
  };
  const char *kind = name + strlen(snapshot_reader_prefix), *description = "fitted state of the reader";
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strncmp(kind, kinds[i].kind, strlen(kinds[i].kind)) == 0) description = kinds[i].description;
  return snapshot_describe(writer, name, description, "bytes", status);
}

/* ROWWISE_RMSPROP counts the steps in which a row was seen; all else are numbers of the gradient's kind. */
sbag_code_t snapshot_describe_state(checkpoint_writer_t *writer, const char *name, const char *state,
                                    const char *optimizer, const char *values, sbag_status_t *status) {
  char description[256];
  snprintf(description, sizeof description,
           "optimizer state '%s' of %s, by torch's or FBGEMM's name for it, %s", state, optimizer, values);
  return snapshot_describe(writer, name, description, strcmp(state, "prev_iter") == 0 ? "steps" : "1",
                           status);
}
