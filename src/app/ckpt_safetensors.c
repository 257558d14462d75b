/* The head of a .safetensors file: see ckpt_safetensors.h. */
#include "app/ckpt_safetensors.h"

#include "checkpoint/disk.h"
#include <json-c/json.h>
#include <string.h>

enum { HEAD_MAX = 100000000 }; /* the format's own limit */

static const char *const types[] = {"F32", "F64", "I64", "I32",
                                    "U8",  "F16", "BF16"}; /* as checkpoint_type_t */
enum { TYPES = sizeof types / sizeof types[0] };

static int64_t bytes_of(const checkpoint_array_t *a) {
  return a->shape[0] * a->shape[1] * checkpoint_type_bytes(a->type);
}

static json_object *describe(const checkpoint_array_t *a, int64_t begin) {
  json_object *object = json_object_new_object(), *shape = json_object_new_array();
  json_object *offsets = json_object_new_array();
  for (int i = 0; i < a->rank; i++) json_object_array_add(shape, json_object_new_int64(a->shape[i]));
  json_object_array_add(offsets, json_object_new_int64(begin));
  json_object_array_add(offsets, json_object_new_int64(begin + bytes_of(a)));
  json_object_object_add(object, "dtype", json_object_new_string(types[a->type]));
  json_object_object_add(object, "shape", shape);
  json_object_object_add(object, "data_offsets", offsets);
  return object;
}

/* Padded by spaces, so that the rows are aligned. */
sbag_code_t ckpt_safetensors_make(const ckpt_tensors_t *tensors, void **head, int64_t *head_bytes,
                                  sbag_status_t *status) {
  json_object *object = json_object_new_object();
  int64_t next = 0;
  for (int64_t i = 0; i < tensors->count; i++) {
    json_object_object_add(object, tensors->list[i].name, describe(&tensors->list[i].array, next));
    next += bytes_of(&tensors->list[i].array);
  }
  const char *text =
      json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
  uint64_t length = strlen(text), padded = (length + 63) / 64 * 64 + 56; /* and 8 in front */
  void *block = NULL;
  sbag_code_t code = mem_alloc(tensors->mem, (size_t)padded + 8, "ckpt: head", &block, status);
  if (code == SBAG_OK) {
    memset(block, ' ', (size_t)padded + 8);
    memcpy(block, &padded, 8);
    memcpy((char *)block + 8, text, (size_t)length);
    *head = block;
    *head_bytes = (int64_t)padded + 8;
  }
  json_object_put(object);
  return code;
}

static int read_type(json_object *object, checkpoint_array_t *array) {
  const char *text = json_object_get_string(object);
  for (int t = 0; t < TYPES; t++)
    if (text != NULL && strcmp(text, types[t]) == 0) {
      array->type = (checkpoint_type_t)t;
      return 1;
    }
  return 0;
}

static int read_shape(json_object *object, checkpoint_array_t *array) {
  if (!json_object_is_type(object, json_type_array)) return 0;
  size_t rank = json_object_array_length(object);
  if (rank < 1 || rank > 2) return 0;
  array->rank = (int)rank;
  array->shape[1] = 1;
  for (size_t i = 0; i < rank; i++) {
    array->shape[i] = json_object_get_int64(json_object_array_get_idx(object, i));
    if (array->shape[i] < (int64_t)i) return 0; /* no columns */
  }
  return 1;
}

/* Offsets from the end of the head, which must be what the shape says, within `bytes`. */
static int read_offset(json_object *object, const checkpoint_array_t *a, int64_t bytes, int64_t *begin) {
  if (!json_object_is_type(object, json_type_array) || json_object_array_length(object) != 2) return 0;
  *begin = json_object_get_int64(json_object_array_get_idx(object, 0));
  int64_t end = json_object_get_int64(json_object_array_get_idx(object, 1));
  if (*begin < 0 || end < *begin || end > bytes) return 0;
  int64_t numbers = (end - *begin) / checkpoint_type_bytes(a->type);
  return a->shape[0] <= numbers / a->shape[1] && bytes_of(a) == end - *begin;
}

static sbag_code_t read_one(const char *path, const char *name, json_object *object, int64_t head,
                            int64_t bytes, ckpt_tensors_t *tensors, sbag_status_t *status) {
  checkpoint_array_t array = {0};
  int64_t begin = 0;
  if (!read_type(json_object_object_get(object, "dtype"), &array) ||
      !read_shape(json_object_object_get(object, "shape"), &array))
    return status_set(status, SBAG_ERR_FORMAT,
                      "%s: '%s' is %s of shape %s; F32, F16, BF16, F64, I64, I32 and U8 of 1 or 2 dimensions "
                      "can be imported",
                      path, name, json_object_get_string(json_object_object_get(object, "dtype")),
                      json_object_get_string(json_object_object_get(object, "shape")));
  if (!read_offset(json_object_object_get(object, "data_offsets"), &array, bytes - head, &begin))
    return status_set(status, SBAG_ERR_FORMAT, "%s: '%s': its offsets do not fit its shape or the file", path,
                      name);
  SBAG_TRY(ckpt_tensors_add(tensors, name, &array, status));
  tensors->list[tensors->count - 1].offset = head + begin;
  return SBAG_OK;
}

static sbag_code_t read_all(const char *path, json_object *object, int64_t head, int64_t bytes,
                            ckpt_tensors_t *tensors, sbag_status_t *status) {
  if (!json_object_is_type(object, json_type_object))
    return status_set(status, SBAG_ERR_FORMAT, "%s: its head is no JSON object", path);
  json_object_object_foreach(object, name, value) {
    if (strcmp(name, "__metadata__") == 0) continue;
    if (!json_object_is_type(value, json_type_object))
      return status_set(status, SBAG_ERR_FORMAT, "%s: '%s' is no tensor", path, name);
    SBAG_TRY(read_one(path, name, value, head, bytes, tensors, status));
  }
  return SBAG_OK;
}

sbag_code_t ckpt_safetensors_read(int file, const char *path, int64_t bytes, ckpt_tensors_t *tensors,
                                  sbag_status_t *status) {
  uint64_t length = 0;
  void *text = NULL;
  if (bytes >= 8) SBAG_TRY(disk_read(file, path, 0, 8, &length, status));
  if (length < 2 || length > HEAD_MAX || length > (uint64_t)bytes - 8)
    return status_set(status, SBAG_ERR_FORMAT, "%s: is no .safetensors file: a head of %llu bytes in %lld",
                      path, (unsigned long long)length, (long long)bytes);
  SBAG_TRY(mem_calloc(tensors->mem, (size_t)length + 1, "ckpt: head", &text, status));
  sbag_code_t code = disk_read(file, path, 8, (int64_t)length, text, status);
  json_object *object = code == SBAG_OK ? json_tokener_parse(text) : NULL;
  if (code == SBAG_OK) code = read_all(path, object, 8 + (int64_t)length, bytes, tensors, status);
  json_object_put(object);
  mem_free(tensors->mem, text);
  return code;
}
