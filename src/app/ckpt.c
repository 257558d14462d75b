/* What the parts of `shardbag ckpt` share: see ckpt.h. */
#include "app/ckpt.h"

#include "collection/context.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 16 << 20 };

static sbag_code_t open_json(ckpt_t *c, sbag_status_t *status) {
  const char *path = c->options->json;
  if (path == NULL || comm_rank(c->comm) != 0) return SBAG_OK;
  c->json = fopen(path, "ae");
  if (c->json != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot open for JSON lines: %s", path, strerror(errno));
}

static sbag_code_t close_json(ckpt_t *c, sbag_status_t *status) {
  if (c->json == NULL || fclose(c->json) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", c->options->json, strerror(errno));
}

/* The part's function travels through job_run beside the options. */
typedef struct part_options {
  options_t options; /* first: the address of one is that of the other */
  ckpt_body_t body;
} part_options_t;

static int run(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  (void)settings;
  const part_options_t *part = (const part_options_t *)options;
  ckpt_t c = {.options = options, .comm = context_comm(job->control), .mem = context_mem(job->control)};
  sbag_code_t code = comm_agree(c.comm, open_json(&c, status), status);
  if (code == SBAG_OK) code = comm_agree(c.comm, part->body(&c, status), status);
  sbag_code_t closed = close_json(&c, code == SBAG_OK ? status : NULL);
  if (code == SBAG_OK) code = comm_agree(c.comm, closed, status);
  return code == SBAG_OK ? EXIT_DONE : code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
}

int ckpt_run(const char *name, const options_t *options, ckpt_body_t body) {
  part_options_t part = {*options, body};
  return job_run(name, &part.options, NULL, run);
}

sbag_code_t ckpt_open(ckpt_t *ckpt, const char *path, int trusted, checkpoint_reader_t **reader,
                      sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  if (access(path, R_OK) != 0)
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open: %s", path, strerror(errno));
  SBAG_TRY(comm_agree(ckpt->comm, code, status));
  return trusted ? checkpoint_open_trusted(ckpt->comm, ckpt->mem, path, reader, status)
                 : checkpoint_open(ckpt->comm, ckpt->mem, path, reader, status);
}

sbag_code_t ckpt_find(const ckpt_t *ckpt, const checkpoint_reader_t *reader, const char **name,
                      sbag_status_t *status) {
  const char *wanted = ckpt->options->table;
  char weight[512];
  snprintf(weight, sizeof weight, "tables/%s/weight", wanted);
  for (int pass = 0; pass < 2; pass++)
    for (int64_t i = 0; i < checkpoint_count(reader); i++)
      if (strcmp(checkpoint_name(reader, i), pass == 0 ? wanted : weight) == 0) {
        *name = checkpoint_name(reader, i);
        return SBAG_OK;
      }
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: has neither an array '%s' nor '%s'; see shardbag ckpt ls",
                    ckpt->options->arguments[0], wanted, weight);
}

sbag_code_t ckpt_json(ckpt_t *ckpt, json_object *object, sbag_status_t *status) {
  int written = fprintf(
      ckpt->json, "%s\n",
      json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
  json_object_put(object);
  if (written >= 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", ckpt->options->json, strerror(errno));
}

const char *ckpt_shape(char text[48], const checkpoint_array_t *array) {
  if (array->rank == 2)
    snprintf(text, 48, "%" PRId64 "x%" PRId64, array->shape[0], array->shape[1]);
  else
    snprintf(text, 48, "%" PRId64, array->shape[0]);
  return text;
}

int64_t ckpt_row_bytes(const checkpoint_array_t *array) {
  return array->shape[1] * checkpoint_type_bytes(array->type);
}

static sbag_code_t walk(checkpoint_reader_t *reader, const char *name, int64_t first, int64_t end,
                        int64_t block_rows, void *block, checkpoint_take_t visit, void *user,
                        sbag_status_t *status) {
  for (int64_t row = first; row < end; row += block_rows) {
    int64_t rows = end - row < block_rows ? end - row : block_rows;
    SBAG_TRY(checkpoint_read_rows(reader, name, row, rows, block, status));
    SBAG_TRY(visit(user, row, rows, block, status));
  }
  return SBAG_OK;
}

sbag_code_t ckpt_walk(ckpt_t *ckpt, checkpoint_reader_t *reader, const char *name, int64_t first, int64_t end,
                      checkpoint_take_t visit, void *user, sbag_status_t *status) {
  checkpoint_array_t array;
  void *block = NULL;
  int64_t size = comm_size(ckpt->comm), rank = comm_rank(ckpt->comm), all = end - first;
  int64_t mine = first + all / size * rank + (rank < all % size ? rank : all % size);
  int64_t next = mine + all / size + (rank < all % size ? 1 : 0), block_rows = 1;
  sbag_code_t code = checkpoint_array_info(reader, name, &array, status);
  if (code == SBAG_OK) {
    int64_t row_bytes = ckpt_row_bytes(&array);
    if (row_bytes > 0 && row_bytes < BLOCK_BYTES) block_rows = BLOCK_BYTES / row_bytes;
    if (block_rows > next - mine && next > mine) block_rows = next - mine;
    code = mem_alloc(ckpt->mem, mem_array_bytes(block_rows, (size_t)row_bytes), "ckpt: rows", &block, status);
  }
  if (code == SBAG_OK) code = walk(reader, name, mine, next, block_rows, block, visit, user, status);
  mem_free(ckpt->mem, block);
  return comm_agree(ckpt->comm, code, status);
}
