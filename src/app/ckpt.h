/* What the parts of `shardbag ckpt` share: opening files, names, JSON lines, and a walk over rows by all
 * ranks. */
#ifndef APP_CKPT_H
#define APP_CKPT_H

#include "app/commands.h"
#include "app/job.h"
#include "checkpoint/checkpoint.h"
#include <json-c/json.h>
#include <stdio.h>

extern const command_t command_ckpt_ls, command_ckpt_verify, command_ckpt_export, command_ckpt_import,
    command_ckpt_diff;

typedef struct ckpt {
  const options_t *options;
  comm_t *comm;
  mem_t *mem;
  FILE *json; /* rank 0's, or NULL */
} ckpt_t;

typedef sbag_code_t (*ckpt_body_t)(ckpt_t *ckpt, sbag_status_t *status);
/* A whole part: all ranks start, `body` runs, all end. A wrong argument is exit code 2, any other error 1. */
int ckpt_run(const char *name, const options_t *options, ckpt_body_t body);

/* Collective. The checkpoint at `path`; trusted: also foreign HDF5. A missing file is a wrong argument. */
sbag_code_t ckpt_open(ckpt_t *ckpt, const char *path, int trusted, checkpoint_reader_t **reader,
                      sbag_status_t *status);
/* The array that --table names: by its whole name, or a table's weight. *name is the reader's. */
sbag_code_t ckpt_find(const ckpt_t *ckpt, const checkpoint_reader_t *reader, const char **name,
                      sbag_status_t *status);
/* Writes one line and frees the object, which may be NULL. Only where ckpt->json is open. */
sbag_code_t ckpt_json(ckpt_t *ckpt, json_object *object, sbag_status_t *status);
/* "1003x16", "12". */
const char *ckpt_shape(char text[48], const checkpoint_array_t *array);
int64_t ckpt_row_bytes(const checkpoint_array_t *array);

/* Collective: hands rows [first, end) of an array to `visit`, on each rank a part of them, in order. Ranks
 * call it for themselves and as often as it takes; an error of the lowest rank, which has the first rows, is
 * everybody's. */
sbag_code_t ckpt_walk(ckpt_t *ckpt, checkpoint_reader_t *reader, const char *name, int64_t first, int64_t end,
                      checkpoint_take_t visit, void *user, sbag_status_t *status);

#endif
