/* shardbag ckpt export FILE OUT: rows of a checkpoint as .npy or .safetensors. Every rank writes a part. */
#include "app/ckpt.h"
#include "app/ckpt_format.h"
#include "checkpoint/disk.h"
#include "kernel/narrow.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

typedef struct export {
  checkpoint_reader_t *reader;
  ckpt_tensors_t tensors; /* named as in the checkpoint; their shapes are what is exported */
  int64_t first;          /* row of each that comes first */
  int widens;             /* the one tensor is bf16 in the checkpoint and f32 here */
  ckpt_format_t format;
  char temporary[4096];
  int file;
  const ckpt_tensor_t *now; /* being written */
}
export_t;

/* What .npy has no type for is told in f32. */
static checkpoint_type_t exported_type(const export_t *e, checkpoint_type_t type) {
  return e->format == CKPT_NPY && type == CHECKPOINT_BF16 ? CHECKPOINT_F32 : type;
}

/* Everything but blobs, which are no numbers. */
static sbag_code_t choose_all(export_t *e, sbag_status_t *status) {
  for (int64_t i = 0; i < checkpoint_count(e->reader); i++) {
    checkpoint_array_t array;
    const char *name = checkpoint_name(e->reader, i);
    SBAG_TRY(checkpoint_array_info(e->reader, name, &array, status));
    if (array.type == CHECKPOINT_U8) continue;
    SBAG_TRY(ckpt_tensors_add(&e->tensors, name, &array, status));
  }
  return SBAG_OK;
}

static sbag_code_t choose(ckpt_t *c, export_t *e, sbag_status_t *status) {
  const options_t *o = c->options;
  if (o->table == NULL) {
    if (ckpt_format_of(o->arguments[1]) == CKPT_NPY)
      return status_set(status, SBAG_ERR_ARGUMENT, "%s: a .npy holds one array; say which by --table",
                        o->arguments[1]);
    if (o->rows[0] >= 0)
      return status_set(status, SBAG_ERR_ARGUMENT, "--rows: say of which table by --table");
    return choose_all(e, status);
  }
  const char *name = NULL;
  checkpoint_array_t array;
  SBAG_TRY(ckpt_find(c, e->reader, &name, status));
  SBAG_TRY(checkpoint_array_info(e->reader, name, &array, status));
  if (o->rows[1] > array.shape[0])
    return status_set(status, SBAG_ERR_ARGUMENT, "--rows %" PRId64 ":%" PRId64 ": '%s' has %" PRId64 " rows",
                      o->rows[0], o->rows[1], name, array.shape[0]);
  if (o->rows[0] >= 0) {
    e->first = o->rows[0];
    array.shape[0] = o->rows[1] - o->rows[0];
  }
  e->widens = exported_type(e, array.type) != array.type;
  array.type = exported_type(e, array.type);
  return ckpt_tensors_add(&e->tensors, name, &array, status);
}

/* Rank 0 makes the file under a temporary name, with its head and its length. */
static sbag_code_t make_file(ckpt_t *c, export_t *e, sbag_status_t *status) {
  const char *path = c->options->arguments[1];
  void *head = NULL;
  int64_t head_bytes = 0, bytes = 0;
  SBAG_TRY(ckpt_head_make(ckpt_format_of(path), &e->tensors, &head, &head_bytes, &bytes, status));
  sbag_code_t code = SBAG_OK;
  if (comm_rank(c->comm) == 0) {
    e->file = open(e->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int reason = e->file < 0 ? errno : posix_fallocate(e->file, 0, (off_t)bytes);
    if (reason != 0)
      code = status_set(status, SBAG_ERR_IO, "%s: cannot be made with %" PRId64 " bytes: %s", e->temporary,
                        bytes, strerror(reason));
    if (code == SBAG_OK) code = disk_write(e->file, e->temporary, 0, head_bytes, head, status);
  }
  mem_free(c->mem, head);
  return code;
}

static sbag_code_t write_widened(const export_t *e, int64_t at, int64_t count, const uint16_t *from,
                                 sbag_status_t *status) {
  enum { PART = 16384 };
  float values[PART];
  for (int64_t done = 0, n; done < count; done += n) {
    n = count - done < PART ? count - done : PART;
    for (int64_t i = 0; i < n; i++) values[i] = narrow_bf16_value(from[done + i]);
    SBAG_TRY(disk_write(e->file, e->temporary, at + done * (int64_t)sizeof *values,
                        n * (int64_t)sizeof *values, values, status));
  }
  return SBAG_OK;
}

static sbag_code_t write_rows(void *user, int64_t first, int64_t rows, const void *data,
                              sbag_status_t *status) {
  export_t *e = user;
  int64_t row_bytes = ckpt_row_bytes(&e->now->array), at = e->now->offset + (first - e->first) * row_bytes;
  if (e->widens) return write_widened(e, at, rows * e->now->array.shape[1], data, status);
  return disk_write(e->file, e->temporary, at, rows * row_bytes, data, status);
}

static sbag_code_t write_all(ckpt_t *c, export_t *e, sbag_status_t *status) {
  sbag_code_t code = make_file(c, e, status);
  SBAG_TRY(comm_agree(c->comm, code, status));
  if (comm_rank(c->comm) > 0) e->file = open(e->temporary, O_RDWR | O_CLOEXEC);
  if (e->file < 0)
    code = status_set(status, SBAG_ERR_IO, "%s: rank 0 made it, but here: %s", e->temporary, strerror(errno));
  SBAG_TRY(comm_agree(c->comm, code, status));
  for (int64_t i = 0; i < e->tensors.count; i++) {
    e->now = &e->tensors.list[i];
    SBAG_TRY(ckpt_walk(c, e->reader, e->now->name, e->first, e->first + e->now->array.shape[0], write_rows, e,
                       status));
  }
  code = disk_sync(e->file, e->temporary, status);
  if (code == SBAG_OK) code = disk_close(&e->file, e->temporary, status);
  return comm_agree(c->comm, code, status);
}

static sbag_code_t publish(ckpt_t *c, export_t *e, sbag_status_t *status) {
  const char *path = c->options->arguments[1];
  if (comm_rank(c->comm) != 0) return SBAG_OK;
  if (rename(e->temporary, path) != 0)
    return status_set(status, SBAG_ERR_IO, "%s: cannot get its name: %s", path, strerror(errno));
  char shape[48];
  for (int64_t i = 0; i < e->tensors.count; i++) {
    const ckpt_tensor_t *t = &e->tensors.list[i];
    printf("%s %s %s\n", t->name, checkpoint_type_name(t->array.type), ckpt_shape(shape, &t->array));
    if (c->json == NULL) continue;
    json_object *object = json_object_new_object();
    json_object_object_add(object, "event", json_object_new_string("export"));
    json_object_object_add(object, "name", json_object_new_string(t->name));
    json_object_object_add(object, "rows", json_object_new_int64(t->array.shape[0]));
    json_object_object_add(object, "path", json_object_new_string(path));
    SBAG_TRY(ckpt_json(c, object, status));
  }
  return SBAG_OK;
}

static sbag_code_t write_out(ckpt_t *c, sbag_status_t *status) {
  const char *const *arguments = c->options->arguments;
  export_t e = {.tensors = {.mem = c->mem}, .format = ckpt_format_of(arguments[1]), .file = -1};
  if (e.format == CKPT_HDF5)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: the name must end in .npy or .safetensors",
                      arguments[1]);
  if ((size_t)snprintf(e.temporary, sizeof e.temporary, "%s.tmp", arguments[1]) >= sizeof e.temporary)
    return status_set(status, SBAG_ERR_ARGUMENT, "the name is longer than %zu characters",
                      sizeof e.temporary - 5);
  SBAG_TRY(ckpt_open(c, arguments[0], 0, &e.reader, status));
  sbag_code_t code = comm_agree(c->comm, choose(c, &e, status), status);
  if (code == SBAG_OK) {
    code = write_all(c, &e, status);
    (void)disk_close(&e.file, e.temporary, NULL); /* open only after an error */
    if (code == SBAG_OK) code = publish(c, &e, status);
    if (code != SBAG_OK && comm_rank(c->comm) == 0) unlink(e.temporary);
  }
  ckpt_tensors_clear(&e.tensors);
  checkpoint_close(&e.reader);
  return code;
}

static int run(const options_t *options) {
  return ckpt_run("ckpt export", options, write_out);
}

const command_t command_ckpt_export = {
    .name = "ckpt export",
    .arguments = "FILE OUT",
    .summary = "write a table, some of its rows, or all arrays as .npy or .safetensors",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_TIMEOUT | OPTION_TABLE | OPTION_ROWS,
    .details =
        "The end of OUT says which. A .safetensors file holds every array (but not vocabularies and the\n"
        "config) under its name, as in\n"
        "  EmbeddingBag.from_pretrained(load_file(OUT)['tables/user/weight'])\n"
        "Types stay; but bf16, which .npy does not have, becomes f32 there.\n",
    .run = run};
