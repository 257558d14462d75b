/* Reads groups of an HDF5 file by their content. See golden_file.h. */
#include "golden_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 1 << 28 };

typedef struct reading {
  arena_t *arena;
  hid_t at;
  golden_group_t *group;
  const char *wrong; /* the first thing that could not be read */
} reading_t;

static char *copy_text(arena_t *arena, const char *text) {
  return arena_text(arena, "%s", text);
}

/* A string attribute may be of fixed or of variable length. */
static int read_text(reading_t *reading, hid_t attribute, hid_t type, golden_attribute_t *out) {
  int bad;
  if (H5Tis_variable_str(type) > 0) {
    char *text = NULL;
    bad = H5Aread(attribute, type, &text) < 0 || text == NULL;
    if (!bad) out->text = copy_text(reading->arena, text);
    if (text != NULL) H5free_memory(text);
    return bad;
  }
  char *text = arena_alloc(reading->arena, (int64_t)H5Tget_size(type) + 1, 1);
  bad = H5Aread(attribute, type, text) < 0;
  out->text = text;
  return bad;
}

static herr_t on_attribute(hid_t at, const char *name, const H5A_info_t *info, void *user) {
  reading_t *reading = user;
  golden_attribute_t *out = &reading->group->attributes[reading->group->attribute_count++];
  hid_t attribute = H5Aopen(at, name, H5P_DEFAULT), type = H5Aget_type(attribute);
  hid_t space = H5Aget_space(attribute);
  hssize_t count = H5Sget_simple_extent_npoints(space);
  int bad = count < 0 || count > COUNT_MAX;
  (void)info;
  out->name = copy_text(reading->arena, name);
  if (!bad && H5Tget_class(type) == H5T_STRING) {
    bad = count != 1 || read_text(reading, attribute, type, out);
  } else if (!bad) {
    out->count = count;
    out->numbers = arena_doubles(reading->arena, count);
    bad = H5Aread(attribute, H5T_NATIVE_DOUBLE, out->numbers) < 0;
  }
  H5Sclose(space);
  H5Tclose(type);
  H5Aclose(attribute);
  if (bad) reading->wrong = arena_text(reading->arena, "attribute '%s' cannot be read", name);
  return bad ? -1 : 0;
}

static int read_shape(hid_t space, golden_array_t *out) {
  hsize_t dims[2] = {1, 1};
  int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0 || rank > 2 || H5Sget_simple_extent_dims(space, dims, NULL) < 0) return 1;
  if (dims[0] > COUNT_MAX || dims[1] > COUNT_MAX || dims[0] * dims[1] > COUNT_MAX) return 1;
  out->rows = (int64_t)dims[0];
  out->width = (int64_t)dims[1];
  out->count = out->rows * out->width;
  return 0;
}

static int read_array(reading_t *reading, const char *name) {
  golden_array_t *out = &reading->group->arrays[reading->group->array_count++];
  hid_t set = H5Dopen2(reading->at, name, H5P_DEFAULT), space = H5Dget_space(set), type = H5Dget_type(set);
  int bad = read_shape(space, out);
  out->name = copy_text(reading->arena, name);
  out->bytes = (int)H5Tget_size(type);
  if (!bad && H5Tget_class(type) == H5T_INTEGER) {
    out->integers = arena_ints(reading->arena, out->count);
    bad = H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, out->integers) < 0;
  } else if (!bad) {
    out->values = arena_doubles(reading->arena, out->count);
    bad = H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, out->values) < 0;
  }
  H5Tclose(type);
  H5Sclose(space);
  H5Dclose(set);
  return bad;
}

static herr_t on_link(hid_t at, const char *name, const H5L_info_t *info, void *user) {
  reading_t *reading = user;
  H5O_info_t object;
  int bad = H5Oget_info_by_name(at, name, &object, H5P_DEFAULT) < 0;
  (void)info;
  if (!bad && object.type == H5O_TYPE_DATASET) bad = read_array(reading, name);
  if (!bad && object.type == H5O_TYPE_GROUP) {
    golden_group_t *inner = &reading->group->groups[reading->group->group_count++];
    reading->wrong = golden_group_read(reading->arena, at, name, inner);
    return reading->wrong == NULL ? 0 : -1;
  }
  if (bad) reading->wrong = arena_text(reading->arena, "'%s' cannot be read", name);
  return bad ? -1 : 0;
}

const char *golden_group_read(arena_t *arena, hid_t parent, const char *name, golden_group_t *group) {
  reading_t reading = {.arena = arena, .group = group};
  H5O_info_t object;
  H5G_info_t links;
  reading.at = H5Gopen2(parent, name, H5P_DEFAULT);
  if (reading.at < 0) return arena_text(arena, "group '%s' cannot be opened", name);
  if (H5Oget_info(reading.at, &object) < 0 || H5Gget_info(reading.at, &links) < 0) {
    H5Gclose(reading.at);
    return arena_text(arena, "group '%s' cannot be read", name);
  }
  *group = (golden_group_t){.name = copy_text(arena, name)};
  group->attributes = arena_alloc(arena, (int64_t)object.num_attrs, sizeof *group->attributes);
  group->arrays = arena_alloc(arena, (int64_t)links.nlinks, sizeof *group->arrays);
  group->groups = arena_alloc(arena, (int64_t)links.nlinks, sizeof *group->groups);
  if (H5Aiterate2(reading.at, H5_INDEX_NAME, H5_ITER_INC, NULL, on_attribute, &reading) < 0 ||
      H5Literate(reading.at, H5_INDEX_NAME, H5_ITER_INC, NULL, on_link, &reading) < 0)
    if (reading.wrong == NULL) reading.wrong = arena_text(arena, "group '%s' cannot be read", name);
  H5Gclose(reading.at);
  return reading.wrong;
}

typedef struct naming {
  arena_t *arena;
  char **names;
  int count;
} naming_t;

static herr_t on_name(hid_t at, const char *name, const H5L_info_t *info, void *user) {
  naming_t *naming = user;
  H5O_info_t object;
  (void)info;
  if (H5Oget_info_by_name(at, name, &object, H5P_DEFAULT) < 0) return -1;
  if (object.type == H5O_TYPE_GROUP) naming->names[naming->count++] = copy_text(naming->arena, name);
  return 0;
}

char **golden_group_names(arena_t *arena, hid_t parent, int *count) {
  naming_t naming = {.arena = arena};
  H5G_info_t links;
  if (H5Gget_info(parent, &links) < 0) return NULL;
  naming.names = arena_alloc(arena, (int64_t)links.nlinks, sizeof *naming.names);
  if (H5Literate(parent, H5_INDEX_NAME, H5_ITER_INC, NULL, on_name, &naming) < 0) return NULL;
  *count = naming.count;
  return naming.names;
}

const golden_array_t *golden_array(const golden_group_t *group, const char *name) {
  for (int i = 0; i < group->array_count; i++)
    if (strcmp(group->arrays[i].name, name) == 0) return &group->arrays[i];
  return NULL;
}

const golden_attribute_t *golden_attribute(const golden_group_t *group, const char *name) {
  for (int i = 0; i < group->attribute_count; i++)
    if (strcmp(group->attributes[i].name, name) == 0) return &group->attributes[i];
  return NULL;
}

double golden_number(const golden_group_t *group, const char *name, double otherwise) {
  const golden_attribute_t *attribute = golden_attribute(group, name);
  return attribute == NULL || attribute->numbers == NULL || attribute->count < 1 ? otherwise
                                                                                 : attribute->numbers[0];
}

const char *golden_text(const golden_group_t *group, const char *name) {
  const golden_attribute_t *attribute = golden_attribute(group, name);
  return attribute == NULL || attribute->text == NULL ? "" : attribute->text;
}
