/* A model's inputs to JSON and back. */
#include "train/inputs.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static const char *const roles[] = {[ROLE_INPUT] = "input",
                                    [ROLE_QUERY] = "query",
                                    [ROLE_POSITIVE] = "positive",
                                    [ROLE_NEGATIVE] = "negative"};
enum { ROLES = sizeof roles / sizeof roles[0] };

inputs_t inputs_of_reader(const reader_t *reader) {
  int count = reader_feature_count(reader);
  return (inputs_t){.dense_count = reader_dense_count(reader),
                    .class_count = reader_class_count(reader),
                    .feature_count = count,
                    .features = count > 0 ? reader_feature(reader, 0) : NULL};
}

/* ---- to JSON ---- */

static int add(json_object *to, const char *key, json_object *value) {
  if (value != NULL && json_object_object_add(to, key, value) == 0) return 0;
  json_object_put(value);
  return -1;
}

/* Takes the feature's object over, also where it is not whole. */
static int add_feature(json_object *list, json_object *object, const reader_feature_t *f) {
  int bad = object == NULL || add(object, "name", json_object_new_string(f->name)) != 0 ||
            add(object, "rows", json_object_new_int64(f->rows)) != 0 ||
            add(object, "multi_hot", json_object_new_boolean(f->multi_hot)) != 0 ||
            add(object, "role", json_object_new_string(roles[f->role])) != 0 ||
            (f->table != NULL && add(object, "table", json_object_new_string(f->table)) != 0);
  if (!bad && json_object_array_add(list, object) == 0) return 0;
  json_object_put(object);
  return -1;
}

static int fill(json_object *top, const inputs_t *inputs) {
  json_object *list = json_object_new_array();
  if (add(top, "features", list) != 0 || add(top, "dense", json_object_new_int(inputs->dense_count)) != 0 ||
      add(top, "classes", json_object_new_int64(inputs->class_count)) != 0)
    return -1;
  for (int i = 0; i < inputs->feature_count; i++)
    if (add_feature(list, json_object_new_object(), &inputs->features[i]) != 0) return -1;
  return 0;
}

sbag_code_t inputs_write(const inputs_t *inputs, mem_t *mem, char **text, sbag_status_t *status) {
  json_object *top = json_object_new_object();
  const char *made = NULL;
  void *block = NULL;
  if (top != NULL && fill(top, inputs) == 0)
    made = json_object_to_json_string_ext(top, JSON_C_TO_STRING_PLAIN);
  sbag_code_t code = made != NULL ? mem_alloc(mem, strlen(made) + 1, "checkpoint: inputs", &block, status)
                                  : status_set(status, SBAG_ERR_MEMORY, "checkpoint: inputs: no memory");
  if (code == SBAG_OK) *text = strcpy(block, made);
  json_object_put(top);
  return code;
}

/* ---- and back ---- */

static sbag_code_t allocate(mem_t *mem, int64_t count, inputs_kept_t *kept, sbag_status_t *status) {
  void *block = NULL;
  *kept = (inputs_kept_t){.mem = mem};
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(count, sizeof *kept->features), "inputs", &block, status));
  kept->features = block;
  sbag_code_t code = mem_calloc(mem, mem_array_bytes(count, sizeof *kept->tables), "inputs", &block, status);
  if (code != SBAG_OK) {
    inputs_clear(kept);
    return code;
  }
  kept->tables = block;
  kept->view.features = kept->features;
  return SBAG_OK;
}

/* -1 where the text is not there or too long. */
static int take_text(json_object *from, const char *key, char *to, size_t room) {
  json_object *value = NULL;
  if (!json_object_object_get_ex(from, key, &value) || !json_object_is_type(value, json_type_string))
    return -1;
  int length = snprintf(to, room, "%s", json_object_get_string(value));
  return length > 0 && (size_t)length < room ? 0 : -1;
}

static int take_int(json_object *from, const char *key, int64_t least, int64_t most, int64_t *to) {
  json_object *value = NULL;
  if (!json_object_object_get_ex(from, key, &value) || !json_object_is_type(value, json_type_int)) return -1;
  *to = json_object_get_int64(value);
  return *to >= least && *to <= most ? 0 : -1;
}

static int take_feature(json_object *from, reader_feature_t *f, char (*table)[64]) {
  char role[16];
  if (!json_object_is_type(from, json_type_object) || take_text(from, "name", f->name, sizeof f->name) != 0 ||
      take_int(from, "rows", 1, INT64_MAX, &f->rows) != 0 || take_text(from, "role", role, sizeof role) != 0)
    return -1;
  f->multi_hot = json_object_get_boolean(json_object_object_get(from, "multi_hot"));
  if (json_object_object_get_ex(from, "table", NULL)) {
    if (take_text(from, "table", *table, sizeof *table) != 0) return -1;
    f->table = *table;
  }
  for (int r = 0; r < ROLES; r++)
    if (strcmp(role, roles[r]) == 0) {
      f->role = (reader_role_t)r;
      return 0;
    }
  return -1;
}

static int take_all(json_object *top, json_object *list, inputs_kept_t *kept) {
  int64_t dense = 0;
  if (take_int(top, "dense", 0, INT32_MAX, &dense) != 0 ||
      take_int(top, "classes", 0, INT32_MAX, &kept->view.class_count) != 0)
    return -1;
  kept->view.dense_count = (int)dense;
  kept->view.feature_count = (int)json_object_array_length(list);
  for (int i = 0; i < kept->view.feature_count; i++)
    if (take_feature(json_object_array_get_idx(list, (size_t)i), &kept->features[i], &kept->tables[i]) != 0)
      return -1;
  return 0;
}

sbag_code_t inputs_read(const char *path, const char *text, mem_t *mem, inputs_kept_t *kept,
                        sbag_status_t *status) {
  json_object *top = json_tokener_parse(text), *list = NULL;
  int bad = !json_object_is_type(top, json_type_object) ||
            !json_object_object_get_ex(top, "features", &list) ||
            !json_object_is_type(list, json_type_array) || json_object_array_length(list) > INT32_MAX / 2;
  sbag_code_t code = SBAG_OK;
  if (!bad) {
    code = allocate(mem, (int64_t)json_object_array_length(list), kept, status);
    bad = code == SBAG_OK && take_all(top, list, kept) != 0;
    if (bad) inputs_clear(kept);
  }
  if (bad)
    code = status_set(status, SBAG_ERR_FORMAT, "%s: what it says of the model's inputs cannot be read", path);
  json_object_put(top);
  return code;
}

sbag_code_t inputs_copy(const inputs_t *inputs, mem_t *mem, inputs_kept_t *kept, sbag_status_t *status) {
  SBAG_TRY(allocate(mem, inputs->feature_count, kept, status));
  kept->view = *inputs;
  kept->view.features = kept->features;
  for (int i = 0; i < inputs->feature_count; i++) {
    kept->features[i] = inputs->features[i];
    if (inputs->features[i].table == NULL) continue;
    snprintf(kept->tables[i], sizeof kept->tables[i], "%s", inputs->features[i].table);
    kept->features[i].table = kept->tables[i];
  }
  return SBAG_OK;
}

void inputs_clear(inputs_kept_t *kept) {
  if (kept->mem == NULL) return;
  mem_free(kept->mem, kept->features);
  mem_free(kept->mem, kept->tables);
  memset(kept, 0, sizeof *kept);
}
