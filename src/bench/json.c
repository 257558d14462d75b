/* Objects of --json: see json.h. */
#include "bench/json.h"

#include <errno.h>
#include <string.h>

json_object *bench_json(const char *part) {
  json_object *object = json_object_new_object();
  bench_json_text(object, "event", "bench");
  bench_json_text(object, "bench", part);
  return object;
}

void bench_json_int(json_object *object, const char *name, int64_t value) {
  json_object_object_add(object, name, json_object_new_int64(value));
}

void bench_json_real(json_object *object, const char *name, double value) {
  json_object_object_add(object, name, json_object_new_double(value));
}

void bench_json_text(json_object *object, const char *name, const char *value) {
  json_object_object_add(object, name, json_object_new_string(value));
}

void bench_json_bool(json_object *object, const char *name, int value) {
  json_object_object_add(object, name, json_object_new_boolean(value));
}

void bench_json_reals(json_object *object, const char *name, const double *values, int64_t count) {
  json_object *array = json_object_new_array();
  for (int64_t i = 0; i < count; i++) json_object_array_add(array, json_object_new_double(values[i]));
  json_object_object_add(object, name, array);
}

void bench_json_range(json_object *object, const char *name, bench_range_t range) {
  json_object *made = json_object_new_object();
  bench_json_real(made, "min", range.min);
  bench_json_real(made, "median", range.median);
  bench_json_real(made, "max", range.max);
  json_object_object_add(object, name, made);
}

sbag_code_t bench_json_write(FILE *json, const char *path, json_object *object, sbag_status_t *status) {
  int written = fprintf(json, "%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
  json_object_put(object);
  if (written >= 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}
