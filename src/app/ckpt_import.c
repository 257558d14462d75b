/* shardbag ckpt import SOURCE OUT: a checkpoint from .npy, .safetensors or foreign HDF5. */
#include "app/ckpt.h"
#include "app/ckpt_format.h"
#include "checkpoint/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <shardbag/version.h>
#include <string.h>

typedef struct import {
  const char *path;
  ckpt_tensors_t tensors;
  int file;                    /* of .npy and .safetensors; -1 else */
  checkpoint_reader_t *reader; /* of HDF5; NULL else */
} import_t;

/* One array on its way. */
typedef struct source {
  const import_t *import;
  const ckpt_tensor_t *tensor;
} source_t;

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  const source_t *s = user;
  const import_t *from = s->import;
  if (from->reader != NULL)
    return checkpoint_read_rows(from->reader, s->tensor->name, first, rows, out, status);
  int64_t row_bytes = ckpt_row_bytes(&s->tensor->array);
  return disk_read(from->file, from->path, s->tensor->offset + first * row_bytes, rows * row_bytes, out,
                   status);
}

static sbag_code_t open_flat(ckpt_t *c, import_t *from, sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  from->file = open(from->path, O_RDONLY | O_CLOEXEC);
  if (from->file < 0)
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open: %s", from->path, strerror(errno));
  else
    code = ckpt_head_read(ckpt_format_of(from->path), from->file, from->path, &from->tensors, status);
  return comm_agree(c->comm, code, status);
}

static sbag_code_t open_hdf5(ckpt_t *c, import_t *from, sbag_status_t *status) {
  SBAG_TRY(ckpt_open(c, from->path, 1, &from->reader, status));
  sbag_code_t code = SBAG_OK;
  for (int64_t i = 0; i < checkpoint_count(from->reader) && code == SBAG_OK; i++) {
    checkpoint_array_t array;
    const char *name = checkpoint_name(from->reader, i);
    code = checkpoint_array_info(from->reader, name, &array, status);
    if (code == SBAG_OK && array.type == CHECKPOINT_OTHER && c->options->table == NULL)
      code = status_set(status, SBAG_ERR_UNSUPPORTED,
                        "%s: '%s' is no array of 1 or 2 dimensions of f32, f16, bf16, f64, i64, i32 or u8; "
                        "choose others by "
                        "--table",
                        from->path, name);
    if (code == SBAG_OK && array.type != CHECKPOINT_OTHER)
      code = ckpt_tensors_add(&from->tensors, name, &array, status);
  }
  return comm_agree(c->comm, code, status);
}

/* A table's short name, and torch's "user.weight", become what a checkpoint calls them. */
static sbag_code_t name_in_file(const char *name, char out[512], sbag_status_t *status) {
  size_t length = strlen(name), tail = strlen(".weight");
  int length_out = 0;
  if (strchr(name, '/') != NULL)
    length_out = snprintf(out, 512, "%s", name);
  else if (length > tail && strcmp(name + length - tail, ".weight") == 0)
    length_out = snprintf(out, 512, "tables/%.*s/weight", (int)(length - tail), name);
  else
    length_out = snprintf(out, 512, "tables/%s/weight", name);
  if (length_out < 512) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "'%.64s...': the name is too long", name);
}

/* In .npy, --table names what it becomes; elsewhere it chooses. */
static int is_wanted(const ckpt_t *c, const ckpt_tensor_t *tensor, const char *name) {
  const char *table = c->options->table;
  char weight[512];
  if (table == NULL || tensor->name[0] == '\0') return 1;
  snprintf(weight, sizeof weight, "tables/%s/weight", table);
  return strcmp(tensor->name, table) == 0 || strcmp(name, weight) == 0;
}

static sbag_code_t declare(ckpt_t *c, const import_t *from, source_t *sources, checkpoint_writer_t *writer,
                           sbag_status_t *status) {
  int64_t count = 0;
  SBAG_TRY(checkpoint_add_text(writer, "", "version", SBAG_VERSION, status));
  SBAG_TRY(checkpoint_add_text(writer, "", "source", from->path, status));
  for (int64_t i = 0; i < from->tensors.count; i++) {
    const ckpt_tensor_t *tensor = &from->tensors.list[i];
    char name[512];
    SBAG_TRY(name_in_file(tensor->name[0] != '\0' ? tensor->name : c->options->table, name, status));
    if (!is_wanted(c, tensor, name)) continue;
    sources[i] = (source_t){from, tensor};
    SBAG_TRY(checkpoint_add_array(writer, name, tensor->array.type, tensor->array.rank, tensor->array.shape,
                                  fill, &sources[i], status));
    count++;
  }
  if (count > 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: has no array '%s'", from->path,
                    c->options->table != NULL ? c->options->table : "at all");
}

static sbag_code_t commit(ckpt_t *c, const import_t *from, sbag_status_t *status) {
  void *sources = NULL;
  checkpoint_writer_t *writer = NULL;
  sbag_code_t code = mem_alloc(c->mem, mem_array_bytes(from->tensors.count, sizeof(source_t)),
                               "ckpt: sources", &sources, status);
  if (code == SBAG_OK)
    code = checkpoint_writer_create(c->comm, c->mem, c->options->arguments[1], &writer, status);
  if (code == SBAG_OK) code = declare(c, from, sources, writer, status);
  code = comm_agree(c->comm, code, status);
  if (code == SBAG_OK)
    code = checkpoint_commit(&writer, status);
  else
    checkpoint_abort(&writer);
  mem_free(c->mem, sources);
  return code;
}

static sbag_code_t tell(ckpt_t *c, const import_t *from, sbag_status_t *status) {
  if (comm_rank(c->comm) != 0) return SBAG_OK;
  printf("%s is made from %s; see shardbag ckpt ls\n", c->options->arguments[1], from->path);
  if (c->json == NULL) return SBAG_OK;
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("import"));
  json_object_object_add(object, "source", json_object_new_string(from->path));
  json_object_object_add(object, "path", json_object_new_string(c->options->arguments[1]));
  return ckpt_json(c, object, status);
}

static sbag_code_t import(ckpt_t *c, sbag_status_t *status) {
  import_t from = {.path = c->options->arguments[0], .tensors = {.mem = c->mem}, .file = -1};
  ckpt_format_t format = ckpt_format_of(from.path);
  if (format == CKPT_NPY && c->options->table == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: a .npy has no name; say which table it is by --table",
                      from.path);
  sbag_code_t code = format == CKPT_HDF5 ? open_hdf5(c, &from, status) : open_flat(c, &from, status);
  if (code == SBAG_OK) code = commit(c, &from, status);
  if (code == SBAG_OK) code = tell(c, &from, status);
  (void)disk_close(&from.file, from.path, NULL); /* it was only read */
  checkpoint_close(&from.reader);
  ckpt_tensors_clear(&from.tensors);
  return code;
}

static int run(const options_t *options) {
  return ckpt_run("ckpt import", options, import);
}

const command_t command_ckpt_import = {
    .name = "ckpt import",
    .arguments = "SOURCE OUT",
    .summary = "make a checkpoint from .npy, .safetensors or foreign HDF5",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_TIMEOUT | OPTION_TABLE,
    .details =
        "A table starts from it by init_file. 'user' and 'user.weight' become 'tables/user/weight', names\n"
        "with a '/' stay. HDF5 is read unchecked by libhdf5: import only files that you trust. A checkpoint\n"
        "that another program has changed is taken once its attribute checkpoint_format is deleted.\n",
    .run = run};
