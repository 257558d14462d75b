/* Reads attributes. Beside what this layer writes (one number, or text of a fixed length) it takes text of
 * variable length, which is what h5py writes. */
#include "checkpoint/hdf5_common.h"
#include "checkpoint/reader.h"
#include <string.h>

/* An open attribute with one value, and its type on disk. */
typedef struct opened {
  hid_t attribute, type, space;
} opened_t;

static void close_attribute(opened_t *o) {
  if (o->space >= 0) H5Sclose(o->space);
  if (o->type >= 0) H5Tclose(o->type);
  if (o->attribute >= 0) H5Aclose(o->attribute);
}

static sbag_code_t open_attribute(const checkpoint_reader_t *r, const char *object, const char *key,
                                  H5T_class_t wanted, const char *kind, opened_t *o, sbag_status_t *status) {
  const char *path = object[0] == '\0' ? "/" : object;
  *o = (opened_t){H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID};
  o->attribute = H5Aopen_by_name(r->file, path, key, H5P_DEFAULT, H5P_DEFAULT);
  if (o->attribute < 0)
    return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': '%s' has no attribute '%s'", r->path, path,
                      key);
  o->type = H5Aget_type(o->attribute);
  o->space = H5Aget_space(o->attribute);
  if (o->type >= 0 && o->space >= 0 && H5Tget_class(o->type) == wanted &&
      H5Sget_simple_extent_npoints(o->space) == 1)
    return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': attribute '%s' of '%s' is not one %s", r->path,
                    key, path, kind);
}

static sbag_code_t read_number(const checkpoint_reader_t *r, const char *object, const char *key,
                               H5T_class_t wanted, const char *kind, hid_t memory, void *value,
                               sbag_status_t *status) {
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  opened_t o;
  sbag_code_t code = open_attribute(r, object, key, wanted, kind, &o, status);
  if (code == SBAG_OK && H5Aread(o.attribute, memory, value) < 0)
    code = hdf5_failed(status, "checkpoint '%s': attribute '%s' of '%s'", r->path, key, object);
  close_attribute(&o);
  hdf5_quiet_end(&quiet);
  return code;
}

sbag_code_t checkpoint_read_int(checkpoint_reader_t *reader, const char *object, const char *key,
                                int64_t *value, sbag_status_t *status) {
  int64_t got = 0;
  SBAG_TRY(read_number(reader, object, key, H5T_INTEGER, "integer", H5T_NATIVE_INT64, &got, status));
  *value = got;
  return SBAG_OK;
}

sbag_code_t checkpoint_read_real(checkpoint_reader_t *reader, const char *object, const char *key,
                                 double *value, sbag_status_t *status) {
  double got = 0.0;
  SBAG_TRY(read_number(reader, object, key, H5T_FLOAT, "real number", H5T_NATIVE_DOUBLE, &got, status));
  *value = got;
  return SBAG_OK;
}

/* A zero-terminated block of our own with `length` bytes, from `from` if that is given. */
static sbag_code_t take_text(mem_t *mem, const char *from, size_t length, char **text,
                             sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, length + 1, "checkpoint: text", &block, status));
  if (from != NULL) memcpy(block, from, length);
  *text = block;
  return SBAG_OK;
}

static sbag_code_t read_fixed(const checkpoint_reader_t *r, const opened_t *o, char **text,
                              sbag_status_t *status) {
  mem_t *mem = r->mem;
  SBAG_TRY(take_text(mem, NULL, H5Tget_size(o->type), text, status));
  if (H5Aread(o->attribute, o->type, *text) >= 0) return SBAG_OK;
  sbag_code_t code = hdf5_failed(status, "checkpoint '%s': a text attribute", r->path);
  mem_free(mem, *text);
  return code;
}

static sbag_code_t read_variable(const checkpoint_reader_t *r, const opened_t *o, char **text,
                                 sbag_status_t *status) {
  char *theirs = NULL;
  if (H5Aread(o->attribute, o->type, &theirs) < 0)
    return hdf5_failed(status, "checkpoint '%s': a text attribute", r->path);
  sbag_code_t code = take_text(r->mem, theirs, theirs == NULL ? 0 : strlen(theirs), text, status);
  H5Dvlen_reclaim(o->type, o->space, H5P_DEFAULT, &theirs);
  return code;
}

sbag_code_t checkpoint_read_text(checkpoint_reader_t *reader, const char *object, const char *key,
                                 char **value, sbag_status_t *status) {
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  opened_t o;
  char *text = NULL;
  sbag_code_t code = open_attribute(reader, object, key, H5T_STRING, "text", &o, status);
  if (code == SBAG_OK)
    code = H5Tis_variable_str(o.type) > 0 ? read_variable(reader, &o, &text, status)
                                          : read_fixed(reader, &o, &text, status);
  close_attribute(&o);
  hdf5_quiet_end(&quiet);
  if (code == SBAG_OK) *value = text;
  return code;
}
