/* Reading tensors. */
#include "serve/tensor.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

sbag_code_t tensor_refuse_json(const cursor_t *json, const char *where, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: byte %lld: %s", where,
                    (long long)(json->at - json->begin), json->fault != NULL ? json->fault : "not JSON");
}

sbag_code_t tensor_text(cursor_span_t string, scratch_t *arena, const char **text, sbag_status_t *status) {
  void *piece = NULL;
  SBAG_TRY(scratch_take(arena, string.length + 1, &piece, status));
  cursor_unescape(string, piece);
  *text = piece;
  return SBAG_OK;
}

static int64_t type_bytes(tensor_type_t type) {
  return type == TENSOR_INT64 || type == TENSOR_FP64 ? 8 : 4;
}

/* ---- one element of "inputs" ---- */

static sbag_code_t read_datatype(cursor_t *json, tensor_t *t, sbag_status_t *status) {
  static const char *const names[] = {
      [TENSOR_INT32] = "INT32", [TENSOR_INT64] = "INT64", [TENSOR_FP32] = "FP32", [TENSOR_FP64] = "FP64"};
  cursor_span_t word;
  if (cursor_string(json, &word) != 0) return tensor_refuse_json(json, "inputs: datatype", status);
  size_t length = word.length < sizeof t->datatype - 1 ? word.length : sizeof t->datatype - 1;
  memcpy(t->datatype, word.bytes, length);
  t->datatype[length] = '\0';
  t->type = TENSOR_NONE;
  for (int i = TENSOR_INT32; i <= TENSOR_FP64; i++)
    if (cursor_is(word, names[i])) t->type = (tensor_type_t)i;
  return SBAG_OK;
}

static sbag_code_t read_shape(cursor_t *json, tensor_t *t, sbag_status_t *status) {
  int first = 1, more = cursor_open(json, '[');
  t->rank = 0;
  t->count = 1;
  while (more == 0 && (more = cursor_next(json, &first, NULL)) == 1) {
    int64_t length = 0;
    if (cursor_integer(json, &length) != 0) return tensor_refuse_json(json, "inputs: shape", status);
    if (t->rank == 2 || length < 0 || __builtin_mul_overflow(t->count, length, &t->count))
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "inputs: a shape must have 1 or 2 lengths of 0 or more (byte %lld)",
                        (long long)(json->at - json->begin));
    t->shape[t->rank++] = length;
    more = 0;
  }
  if (more < 0) return tensor_refuse_json(json, "inputs: shape", status);
  if (t->rank > 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "inputs: a shape must have 1 or 2 lengths of 0 or more");
}

static sbag_code_t read_parameters(cursor_t *json, tensor_t *t, sbag_status_t *status) {
  static const char where[] = "inputs: parameters";
  cursor_span_t key;
  int first = 1, more = cursor_open(json, '{');
  if (more < 0) return tensor_refuse_json(json, where, status);
  while ((more = cursor_next(json, &first, &key)) == 1) {
    if (cursor_is(key, "binary_data_size")) {
      if (cursor_integer(json, &t->binary_bytes) != 0) return tensor_refuse_json(json, where, status);
      if (t->binary_bytes < 0)
        return status_set(status, SBAG_ERR_ARGUMENT,
                          "%s: binary_data_size is %" PRId64 "; it must be 0 or more", where,
                          t->binary_bytes);
    } else if (key.length > 13 && memcmp(key.bytes, "shared_memory", 13) == 0) {
      return status_set(status, SBAG_ERR_ARGUMENT, "%s: shared memory is not served", where);
    } else if (cursor_skip(json, NULL) != 0) {
      return tensor_refuse_json(json, where, status);
    }
  }
  return more < 0 ? tensor_refuse_json(json, where, status) : SBAG_OK;
}

static sbag_code_t read_key(cursor_t *json, cursor_span_t key, scratch_t *arena, tensor_t *t,
                            sbag_status_t *status) {
  cursor_span_t word;
  if (cursor_is(key, "name")) {
    if (cursor_string(json, &word) != 0) return tensor_refuse_json(json, "inputs: name", status);
    return tensor_text(word, arena, &t->name, status);
  }
  if (cursor_is(key, "datatype")) return read_datatype(json, t, status);
  if (cursor_is(key, "shape")) return read_shape(json, t, status);
  if (cursor_is(key, "parameters")) return read_parameters(json, t, status);
  if (cursor_skip(json, cursor_is(key, "data") ? &t->data : NULL) != 0)
    return tensor_refuse_json(json, "the request", status);
  return SBAG_OK;
}

sbag_code_t tensor_read(cursor_t *json, scratch_t *arena, tensor_t *tensor, sbag_status_t *status) {
  cursor_span_t key;
  int first = 1, more = cursor_open(json, '{');
  *tensor = (tensor_t){.binary_bytes = -1};
  if (more < 0) return tensor_refuse_json(json, "inputs", status);
  while ((more = cursor_next(json, &first, &key)) == 1) SBAG_TRY(read_key(json, key, arena, tensor, status));
  if (more < 0) return tensor_refuse_json(json, "inputs", status);
  if (tensor->name == NULL || tensor->name[0] == '\0')
    return status_set(status, SBAG_ERR_ARGUMENT, "an input has no name");
  if (tensor->datatype[0] == '\0')
    return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s' has no datatype", tensor->name);
  if (tensor->rank == 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s' has no shape", tensor->name);
  if (tensor->data.bytes != NULL && tensor->binary_bytes >= 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s' has both data and binary_data_size",
                      tensor->name);
  if (tensor->data.bytes == NULL && tensor->binary_bytes < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s' has no data", tensor->name);
  return SBAG_OK;
}

/* A type that is not taken is refused where its input is known. */
static sbag_code_t check_size(const tensor_t *t, sbag_status_t *status) {
  int64_t size = type_bytes(t->type);
  if (t->type == TENSOR_NONE || (t->binary_bytes % size == 0 && t->binary_bytes / size == t->count))
    return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': binary_data_size is %" PRId64 ", but its shape has %" PRId64
                    " values of %s",
                    t->name, t->binary_bytes, t->count, t->datatype);
}

sbag_code_t tensor_deal(tensor_list_t *tensors, const char *binary, int64_t bytes, sbag_status_t *status) {
  int64_t left = bytes;
  for (int64_t i = 0; i < tensors->count; i++) {
    tensor_t *t = &tensors->items[i];
    if (t->binary_bytes < 0) continue;
    SBAG_TRY(check_size(t, status));
    if (t->binary_bytes > left)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "input '%.64s': binary_data_size is %" PRId64 ", but only %" PRId64
                        " bytes of binary data are left",
                        t->name, t->binary_bytes, left);
    t->binary = binary + (bytes - left);
    left -= t->binary_bytes;
  }
  if (left == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "%" PRId64 " bytes of binary data follow that no input's binary_data_size claims", left);
}

/* ---- values ---- */

/* n values in JSON take 2 n - 1 bytes at least, so that a shape alone cannot ask for memory; of binary data
 * the size has been checked. */
static sbag_code_t check_count(const tensor_t *t, sbag_status_t *status) {
  if (t->binary_bytes >= 0 || t->count <= (int64_t)t->data.length) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': its shape has %" PRId64 " values, more than its data", t->name, t->count);
}

/* Where a tensor's values go: one of the two. */
typedef struct values {
  const tensor_t *tensor;
  int64_t *integers;
  float *floats;
  int64_t used;
} values_t;

static sbag_code_t refuse_value(const values_t *v, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': the value at position %" PRId64 " is not finite", v->tensor->name,
                    v->used);
}

static sbag_code_t take_number(values_t *v, cursor_t *json, sbag_status_t *status) {
  double real = 0;
  if (v->used == v->tensor->count)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "input '%.64s': its data have more values than the %" PRId64 " of its shape",
                      v->tensor->name, v->tensor->count);
  int bad = v->integers != NULL ? cursor_integer(json, &v->integers[v->used]) : cursor_real(json, &real);
  if (bad)
    return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s': data: the value at position %" PRId64 ": %s",
                      v->tensor->name, v->used, json->fault);
  if (v->floats != NULL) v->floats[v->used] = (float)real;
  v->used++;
  return SBAG_OK;
}

/* Data may be flat or nested as the shape is. */
static sbag_code_t take_array(values_t *v, cursor_t *json, sbag_status_t *status) {
  int first = 1, more = cursor_open(json, '[');
  while (more >= 0 && (more = cursor_next(json, &first, NULL)) == 1) {
    if (cursor_peek(json) == '[')
      SBAG_TRY(take_array(v, json, status));
    else
      SBAG_TRY(take_number(v, json, status));
  }
  if (more == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s': data: %s", v->tensor->name, json->fault);
}

static sbag_code_t take_json(values_t *v, sbag_status_t *status) {
  cursor_t json = cursor_over(v->tensor->data.bytes, v->tensor->data.length);
  SBAG_TRY(take_array(v, &json, status));
  if (v->used == v->tensor->count) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': its data have %" PRId64 " values, its shape %" PRId64, v->tensor->name,
                    v->used, v->tensor->count);
}

/* Little-endian, at any address. */
static sbag_code_t take_binary(values_t *v, sbag_status_t *status) {
  const tensor_t *t = v->tensor;
  for (; v->used < t->count; v->used++) {
    const char *at = t->binary + v->used * type_bytes(t->type);
    int32_t narrow = 0;
    double wide = 0;
    if (t->type == TENSOR_INT64) {
      memcpy(&v->integers[v->used], at, sizeof(int64_t));
    } else if (t->type == TENSOR_INT32) {
      memcpy(&narrow, at, sizeof narrow);
      v->integers[v->used] = narrow;
    } else if (t->type == TENSOR_FP32) {
      memcpy(&v->floats[v->used], at, sizeof(float));
      if (!isfinite(v->floats[v->used])) return refuse_value(v, status);
    } else {
      memcpy(&wide, at, sizeof wide);
      if (!(fabs(wide) <= (double)FLT_MAX)) return refuse_value(v, status);
      v->floats[v->used] = (float)wide;
    }
  }
  return SBAG_OK;
}

static sbag_code_t take_values(values_t *v, sbag_status_t *status) {
  return v->tensor->binary_bytes >= 0 ? take_binary(v, status) : take_json(v, status);
}

sbag_code_t tensor_integers(const tensor_t *t, scratch_t *arena, const int64_t **values,
                            sbag_status_t *status) {
  values_t v = {.tensor = t};
  void *piece = NULL;
  if (t->type != TENSOR_INT64 && t->type != TENSOR_INT32)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "input '%.64s': its datatype is %s; it must be INT64 or INT32", t->name, t->datatype);
  SBAG_TRY(check_count(t, status));
  SBAG_TRY(scratch_take(arena, (size_t)t->count * sizeof(int64_t), &piece, status));
  v.integers = piece;
  SBAG_TRY(take_values(&v, status));
  *values = v.integers;
  return SBAG_OK;
}

sbag_code_t tensor_floats(const tensor_t *t, scratch_t *arena, const float **values, sbag_status_t *status) {
  values_t v = {.tensor = t};
  void *piece = NULL;
  if (t->type != TENSOR_FP32 && t->type != TENSOR_FP64)
    return status_set(status, SBAG_ERR_ARGUMENT, "input '%.64s': its datatype is %s; it must be FP32 or FP64",
                      t->name, t->datatype);
  SBAG_TRY(check_count(t, status));
  SBAG_TRY(scratch_take(arena, (size_t)t->count * sizeof(float), &piece, status));
  v.floats = piece;
  SBAG_TRY(take_values(&v, status));
  *values = v.floats;
  return SBAG_OK;
}
