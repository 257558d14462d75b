/* The lines of --json: one object a case. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include "base/status.h"
#include "bench/report.h"
#include <json-c/json.h>

/* {"event": "bench", "bench": part}. */
json_object *bench_json(const char *part);
void bench_json_int(json_object *object, const char *name, int64_t value);
void bench_json_real(json_object *object, const char *name, double value);
void bench_json_text(json_object *object, const char *name, const char *value);
void bench_json_bool(json_object *object, const char *name, int value);
void bench_json_reals(json_object *object, const char *name, const double *values, int64_t count);
void bench_json_range(json_object *object, const char *name, bench_range_t range);

/* Writes the line and frees the object. `path` is for messages. */
sbag_code_t bench_json_write(FILE *json, const char *path, json_object *object, sbag_status_t *status);

#endif
