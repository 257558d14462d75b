/* .npy and .safetensors: see ckpt_format.h. What both share, and .npy; ckpt_safetensors.c has the other. */
#include "app/ckpt_format.h"
#include "app/ckpt_safetensors.h"

#include "checkpoint/disk.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NPY_HEAD_MAX = 4096, NPY_ALIGN = 64, NPY_FIXED = 10 };

static const char npy_magic[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};

static int ends_in(const char *path, const char *end) {
  size_t bytes = strlen(path), tail = strlen(end);
  return bytes >= tail && strcmp(path + bytes - tail, end) == 0;
}

ckpt_format_t ckpt_format_of(const char *path) {
  if (ends_in(path, ".npy")) return CKPT_NPY;
  return ends_in(path, ".safetensors") ? CKPT_SAFETENSORS : CKPT_HDF5;
}

sbag_code_t ckpt_tensors_add(ckpt_tensors_t *tensors, const char *name, const checkpoint_array_t *array,
                             sbag_status_t *status) {
  void *block = tensors->list, *copy = NULL;
  size_t bytes = strlen(name) + 1;
  SBAG_TRY(mem_realloc(tensors->mem, mem_array_bytes(tensors->count + 1, sizeof *tensors->list), "ckpt: list",
                       &block, status));
  tensors->list = block;
  SBAG_TRY(mem_alloc(tensors->mem, bytes, "ckpt: name", &copy, status));
  memcpy(copy, name, bytes);
  tensors->list[tensors->count++] = (ckpt_tensor_t){.name = copy, .array = *array};
  return SBAG_OK;
}

void ckpt_tensors_clear(ckpt_tensors_t *tensors) {
  if (tensors->mem == NULL) return;
  for (int64_t i = 0; i < tensors->count; i++) mem_free(tensors->mem, tensors->list[i].name);
  mem_free(tensors->mem, tensors->list);
  *tensors = (ckpt_tensors_t){0};
}

/* As checkpoint_type_t; .npy has no bf16. */
static const char *const npy_types[] = {"<f4", "<f8", "<i8", "<i4", "|u1", "<f2"};
enum { TYPES = sizeof npy_types / sizeof npy_types[0] };

static sbag_code_t make_npy(ckpt_tensors_t *tensors, void **head, int64_t *head_bytes,
                            sbag_status_t *status) {
  const checkpoint_array_t *a = &tensors->list[0].array;
  char text[256], shape[64];
  if (a->rank == 2)
    snprintf(shape, sizeof shape, "(%" PRId64 ", %" PRId64 ")", a->shape[0], a->shape[1]);
  else
    snprintf(shape, sizeof shape, "(%" PRId64 ",)", a->shape[0]);
  int length = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                        npy_types[a->type], shape);
  int all = (NPY_FIXED + length + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN, rest = all - NPY_FIXED;
  void *block = NULL;
  SBAG_TRY(mem_alloc(tensors->mem, (size_t)all, "ckpt: head", &block, status));
  char *at = block;
  memset(at, ' ', (size_t)all);
  memcpy(at, npy_magic, sizeof npy_magic);
  at[8] = (char)(rest & 255);
  at[9] = (char)(rest >> 8);
  memcpy(at + NPY_FIXED, text, (size_t)length);
  at[all - 1] = '\n';
  *head = block;
  *head_bytes = all;
  return SBAG_OK;
}

sbag_code_t ckpt_head_make(ckpt_format_t format, ckpt_tensors_t *tensors, void **head, int64_t *head_bytes,
                           int64_t *file_bytes, sbag_status_t *status) {
  if (format == CKPT_NPY)
    SBAG_TRY(make_npy(tensors, head, head_bytes, status));
  else
    SBAG_TRY(ckpt_safetensors_make(tensors, head, head_bytes, status));
  int64_t next = *head_bytes;
  for (int64_t i = 0; i < tensors->count; i++) {
    const checkpoint_array_t *a = &tensors->list[i].array;
    tensors->list[i].offset = next;
    next += a->shape[0] * a->shape[1] * checkpoint_type_bytes(a->type);
  }
  *file_bytes = next;
  return SBAG_OK;
}

/* ---- reading .npy ---- */

static sbag_code_t bad_npy(const char *path, sbag_status_t *status, const char *why) {
  return status_set(
      status, SBAG_ERR_FORMAT,
      "%s: %s; a .npy of format 1.0 with 1 or 2 dimensions in C order of float16, float32, float64, "
      "int64, int32 or uint8 can be imported",
      path, why);
}

/* What stands behind 'key': in the head's dictionary. */
static const char *value_of(const char *text, const char *key) {
  const char *at = strstr(text, key);
  if (at == NULL) return NULL;
  at += strlen(key);
  while (*at == ' ' || *at == ':') at++;
  return at;
}

static int parse_shape(const char *at, checkpoint_array_t *array) {
  if (at == NULL || *at++ != '(') return 0;
  array->rank = 0;
  array->shape[1] = 1;
  for (;;) {
    while (*at == ' ' || *at == ',') at++;
    if (*at == ')') return array->rank > 0;
    char *end = NULL;
    errno = 0;
    long long size = isdigit((unsigned char)*at) ? strtoll(at, &end, 10) : -1;
    if (size < 0 || errno != 0 || array->rank == 2) return 0;
    array->shape[array->rank++] = size;
    at = end;
  }
}

static int parse_type(const char *at, checkpoint_array_t *array) {
  if (at == NULL) return 0;
  for (int t = 0; t < TYPES; t++)
    if (strncmp(at + 1, npy_types[t], 3) == 0 && at[4] == at[0]) {
      array->type = (checkpoint_type_t)t;
      return 1;
    }
  return 0;
}

static sbag_code_t read_npy(int file, const char *path, int64_t bytes, ckpt_tensors_t *tensors,
                            sbag_status_t *status) {
  unsigned char fixed[NPY_FIXED];
  char text[NPY_HEAD_MAX + 1] = "";
  checkpoint_array_t array = {0};
  if (bytes < NPY_FIXED) return bad_npy(path, status, "is too short");
  SBAG_TRY(disk_read(file, path, 0, NPY_FIXED, fixed, status));
  int64_t length = fixed[8] | fixed[9] << 8;
  if (memcmp(fixed, npy_magic, sizeof npy_magic) != 0) return bad_npy(path, status, "is another format");
  if (length > NPY_HEAD_MAX || length > bytes - NPY_FIXED)
    return bad_npy(path, status, "its head is too long");
  SBAG_TRY(disk_read(file, path, NPY_FIXED, length, text, status));
  const char *order = value_of(text, "'fortran_order'");
  if (order == NULL || strncmp(order, "False", 5) != 0) return bad_npy(path, status, "is in Fortran order");
  if (!parse_type(value_of(text, "'descr'"), &array)) return bad_npy(path, status, "is of another type");
  if (!parse_shape(value_of(text, "'shape'"), &array)) return bad_npy(path, status, "has another shape");
  int64_t each = checkpoint_type_bytes(array.type), left = (bytes - NPY_FIXED - length) / each;
  if (array.shape[1] < 1 || array.shape[0] > left / array.shape[1])
    return bad_npy(path, status, "its shape does not fit its bytes");
  SBAG_TRY(ckpt_tensors_add(tensors, "", &array, status));
  tensors->list[0].offset = NPY_FIXED + length;
  return SBAG_OK;
}

sbag_code_t ckpt_head_read(ckpt_format_t format, int file, const char *path, ckpt_tensors_t *tensors,
                           sbag_status_t *status) {
  struct stat about;
  if (fstat(file, &about) != 0)
    return status_set(status, SBAG_ERR_IO, "%s: its size: %s", path, strerror(errno));
  if (format == CKPT_NPY) return read_npy(file, path, (int64_t)about.st_size, tensors, status);
  return ckpt_safetensors_read(file, path, (int64_t)about.st_size, tensors, status);
}
