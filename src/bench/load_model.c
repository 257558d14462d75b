/* Reading a model's metadata: see load_model.h. */
#include "bench/load_model.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static sbag_code_t parse(const char *what, const char *text, json_type type, json_object **found,
                         sbag_status_t *status) {
  *found = json_tokener_parse(text);
  if (json_object_is_type(*found, type)) return SBAG_OK;
  json_object_put(*found);
  *found = NULL;
  return status_set(status, SBAG_ERR_FORMAT, "the server's %s is not as KServe v2 has it: %.120s", what,
                    text);
}

/* "" where there is none. */
static const char *text_of(json_object *object, const char *key) {
  json_object *value = NULL;
  if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_string))
    return "";
  return json_object_get_string(value);
}

sbag_code_t load_model_first(const char *index, char name[256], sbag_status_t *status) {
  json_object *list = NULL;
  SBAG_TRY(parse("list of models", index, json_type_array, &list, status));
  const char *first =
      json_object_array_length(list) > 0 ? text_of(json_object_array_get_idx(list, 0), "name") : "";
  int length = snprintf(name, 256, "%s", first);
  json_object_put(list);
  if (length > 0 && length < 256) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT, "the server lists no model; name one by --set model=NAME");
}

/* ---- inputs ---- */

static int ends_with(const char *text, const char *end) {
  size_t length = strlen(text), more = strlen(end);
  return length > more && strcmp(text + length - more, end) == 0;
}

/* Whether `name` is FEATURE with the one suffix, and the list has FEATURE with the other too. */
static int has_partner(json_object *inputs, const char *name, const char *suffix, const char *others) {
  char other[256];
  if (!ends_with(name, suffix)) return 0;
  int stem = (int)(strlen(name) - strlen(suffix));
  if (snprintf(other, sizeof other, "%.*s%s", stem, name, others) >= (int)sizeof other) return 0;
  for (size_t i = 0; i < json_object_array_length(inputs); i++)
    if (strcmp(text_of(json_object_array_get_idx(inputs, i), "name"), other) == 0) return 1;
  return 0;
}

/* From the config's parameters, where Triton keeps what is a model's own. */
static int64_t rows_of(json_object *config, const char *name, int64_t otherwise) {
  json_object *parameters = NULL, *parameter = NULL;
  char key[256];
  if (snprintf(key, sizeof key, "rows.%s", name) >= (int)sizeof key) return otherwise;
  if (config == NULL || !json_object_object_get_ex(config, "parameters", &parameters)) return otherwise;
  if (!json_object_object_get_ex(parameters, key, &parameter)) return otherwise;
  long long rows = strtoll(text_of(parameter, "string_value"), NULL, 10);
  return rows > 0 ? rows : otherwise;
}

/* [-1] or [-1, width]. */
static int take_shape(json_object *from, load_input_t *input) {
  json_object *shape = NULL;
  if (!json_object_object_get_ex(from, "shape", &shape) || !json_object_is_type(shape, json_type_array))
    return 0;
  size_t dims = json_object_array_length(shape);
  if (dims < 1 || dims > 2) return 0;
  input->flat = dims == 1;
  input->width = dims == 1 ? 1 : json_object_get_int64(json_object_array_get_idx(shape, 1));
  return input->width >= 1 && input->width <= 1 << 20;
}

static sbag_code_t take_input(json_object *inputs, json_object *from, json_object *config, int64_t rows,
                              load_model_t *model, sbag_status_t *status) {
  load_input_t *input = &model->inputs[model->input_count];
  const char *name = text_of(from, "name"), *type = text_of(from, "datatype");
  if (has_partner(inputs, name, ".offsets", ".values")) return SBAG_OK; /* made with its values */
  if (strlen(name) >= sizeof input->name || !take_shape(from, input))
    return status_set(status, SBAG_ERR_UNSUPPORTED, "input '%.80s': its shape is not [-1] or [-1, N]: %.80s",
                      name, json_object_to_json_string(from));
  memcpy(input->name, name, strlen(name) + 1);
  input->kind = LOAD_DENSE;
  if (strcmp(type, "INT64") == 0)
    input->kind = input->flat && has_partner(inputs, name, ".values", ".offsets") ? LOAD_BAGS : LOAD_INDEX;
  else if (strcmp(type, "FP32") != 0)
    return status_set(status, SBAG_ERR_UNSUPPORTED,
                      "input '%.80s': its datatype is %.20s; made are INT64 and FP32", name, type);
  if (input->kind == LOAD_BAGS) input->name[strlen(name) - strlen(".values")] = '\0';
  model->input_count++;
  if (input->kind == LOAD_DENSE) return SBAG_OK;
  input->rows = rows_of(config, input->name, rows);
  if (input->rows > 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "input '%.80s': the server does not tell the rows of its table (config, parameter "
                    "rows.%.80s); say them by --set rows=N",
                    name, input->name);
}

static sbag_code_t take_inputs(json_object *metadata, json_object *config, int64_t rows, load_model_t *model,
                               sbag_status_t *status) {
  json_object *inputs = NULL, *versions = NULL;
  void *block = NULL;
  if (!json_object_object_get_ex(metadata, "inputs", &inputs) ||
      !json_object_is_type(inputs, json_type_array) || json_object_array_length(inputs) == 0)
    return status_set(status, SBAG_ERR_FORMAT, "model '%.80s': the server lists no inputs", model->name);
  if (json_object_object_get_ex(metadata, "versions", &versions) &&
      json_object_is_type(versions, json_type_array) && json_object_array_length(versions) > 0)
    snprintf(model->version, sizeof model->version, "%s",
             json_object_get_string(json_object_array_get_idx(versions, 0)));
  size_t count = json_object_array_length(inputs);
  SBAG_TRY(mem_calloc(model->mem, mem_array_bytes((int64_t)count, sizeof *model->inputs), "bench: inputs",
                      &block, status));
  model->inputs = block;
  for (size_t i = 0; i < count; i++)
    SBAG_TRY(take_input(inputs, json_object_array_get_idx(inputs, i), config, rows, model, status));
  return SBAG_OK;
}

sbag_code_t load_model_parse(const char *name, const char *metadata, const char *config, int64_t rows,
                             mem_t *mem, load_model_t *model, sbag_status_t *status) {
  json_object *told = NULL, *more = NULL;
  *model = (load_model_t){.mem = mem};
  snprintf(model->name, sizeof model->name, "%s", name);
  SBAG_TRY(parse("metadata", metadata, json_type_object, &told, status));
  sbag_code_t code = config != NULL ? parse("config", config, json_type_object, &more, status) : SBAG_OK;
  if (code == SBAG_OK) code = take_inputs(told, more, rows, model, status);
  json_object_put(told);
  json_object_put(more);
  if (code != SBAG_OK) load_model_clear(model);
  return code;
}

void load_model_clear(load_model_t *model) {
  if (model->mem != NULL) mem_free(model->mem, model->inputs);
  memset(model, 0, sizeof *model);
}
