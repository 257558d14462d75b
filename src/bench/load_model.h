/* What a server tells of a model, and requests that it can answer. Knows nothing of HTTP. */
#ifndef BENCH_LOAD_MODEL_H
#define BENCH_LOAD_MODEL_H

#include "bench/load.h"
#include "serve/buffer.h"

typedef enum load_input_kind {
  LOAD_DENSE, /* FP32 [samples][width] */
  LOAD_INDEX, /* INT64 [samples][width] */
  LOAD_BAGS   /* INT64 NAME.values and NAME.offsets */
} load_input_kind_t;

enum { LOAD_NAME_BYTES = 192 };

typedef struct load_input {
  char name[LOAD_NAME_BYTES];
  load_input_kind_t kind;
  int flat; /* [samples], without a width */
  int64_t width, rows;
} load_input_t;

typedef struct load_model {
  char name[256], version[24];
  int input_count;
  load_input_t *inputs;
  mem_t *mem;
} load_model_t;

/* The first name of a repository's index, which is a JSON list. */
sbag_code_t load_model_first(const char *index, char name[256], sbag_status_t *status);
/* metadata, config: what /v2/models/NAME and /v2/models/NAME/config say; config NULL: it says nothing. rows:
 * of a table whose rows the config does not tell; 0: none. Refuses inputs that no valid request can be made
 * for. */
sbag_code_t load_model_parse(const char *name, const char *metadata, const char *config, int64_t rows,
                             mem_t *mem, load_model_t *model, sbag_status_t *status);
void load_model_clear(load_model_t *model);

enum { LOAD_INVALID_BODIES = 16 };

/* Bodies of requests: `count` that are right, and behind them LOAD_INVALID_BODIES in which an index lies
 * outside of its table (none where a model has no indices). With binary tensors the JSON of all of them has
 * the same length. */
typedef struct load_bodies {
  buffer_t text;
  int64_t count, invalid, json_bytes; /* json_bytes 0: no binary data */
  size_t *begins;                     /* [count + invalid + 1] in the text */
} load_bodies_t;

sbag_code_t load_bodies_make(const load_model_t *model, const bench_load_settings_t *settings, mem_t *mem,
                             load_bodies_t *bodies, sbag_status_t *status);
void load_bodies_clear(load_bodies_t *bodies);

#endif
