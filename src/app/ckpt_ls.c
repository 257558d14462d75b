/* shardbag ckpt ls FILE: what a checkpoint holds. */
#include "app/ckpt.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

static json_object *shape_of(const checkpoint_array_t *array) {
  json_object *shape = json_object_new_array();
  for (int i = 0; i < array->rank && i < 2; i++)
    json_object_array_add(shape, json_object_new_int64(array->shape[i]));
  return shape;
}

static sbag_code_t print_array(ckpt_t *c, checkpoint_reader_t *reader, int64_t i, sbag_status_t *status) {
  const char *name = checkpoint_name(reader, i);
  checkpoint_array_t array;
  char shape[48];
  SBAG_TRY(checkpoint_array_info(reader, name, &array, status));
  int64_t bytes = array.shape[0] * ckpt_row_bytes(&array);
  printf("%s %s %s %" PRId64 "\n", name, checkpoint_type_name(array.type), ckpt_shape(shape, &array), bytes);
  if (c->json == NULL) return SBAG_OK;
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("array"));
  json_object_object_add(object, "name", json_object_new_string(name));
  json_object_object_add(object, "type", json_object_new_string(checkpoint_type_name(array.type)));
  json_object_object_add(object, "shape", shape_of(&array));
  json_object_object_add(object, "bytes", json_object_new_int64(bytes));
  return ckpt_json(c, object, status);
}

/* Who wrote it and when in the run; what an imported file does not say is left out. */
static sbag_code_t print_head(ckpt_t *c, checkpoint_reader_t *reader, sbag_status_t *status) {
  static const char *const numbers[] = {"checkpoint_format", "step", "epoch"};
  static const char *const texts[] = {"name", "version"};
  const char *path = c->options->arguments[0];
  struct stat about;
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("checkpoint"));
  json_object_object_add(object, "path", json_object_new_string(path));
  printf("# %s:", path);
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    char *text = NULL;
    if (checkpoint_read_text(reader, "", texts[i], &text, NULL) != SBAG_OK) continue;
    printf(" %s %s,", texts[i], text);
    json_object_object_add(object, texts[i], json_object_new_string(text));
    mem_free(c->mem, text);
  }
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    int64_t number = 0;
    if (checkpoint_read_int(reader, "", numbers[i], &number, NULL) != SBAG_OK) continue;
    printf(" %s %" PRId64 ",", numbers[i], number);
    json_object_object_add(object, numbers[i], json_object_new_int64(number));
  }
  int64_t bytes = stat(path, &about) == 0 ? (int64_t)about.st_size : -1;
  printf(" %" PRId64 " bytes\n# array type shape bytes\n", bytes);
  json_object_object_add(object, "bytes", json_object_new_int64(bytes));
  if (c->json != NULL) return ckpt_json(c, object, status);
  json_object_put(object);
  return SBAG_OK;
}

static sbag_code_t ls(ckpt_t *c, sbag_status_t *status) {
  checkpoint_reader_t *reader = NULL;
  SBAG_TRY(ckpt_open(c, c->options->arguments[0], 0, &reader, status));
  sbag_code_t code = SBAG_OK;
  if (comm_rank(c->comm) == 0) {
    code = print_head(c, reader, status);
    for (int64_t i = 0; i < checkpoint_count(reader) && code == SBAG_OK; i++)
      code = print_array(c, reader, i, status);
  }
  checkpoint_close(&reader);
  return code;
}

static int run(const options_t *options) {
  return ckpt_run("ckpt ls", options, ls);
}

const command_t command_ckpt_ls = {.name = "ckpt ls",
                                   .arguments = "FILE",
                                   .summary =
                                       "print arrays, types, shapes and bytes, the step, and who wrote it",
                                   .argument_count = 1,
                                   .options = OPTION_JSON | OPTION_TIMEOUT,
                                   .details = "The rows are not read; see shardbag ckpt verify.\n",
                                   .run = run};
