/* Memory of one request: pieces that are freed together. */
#ifndef SERVE_SCRATCH_H
#define SERVE_SCRATCH_H

#include "base/mem.h"

typedef struct scratch {
  mem_t *mem;
  struct scratch_block *blocks;
  size_t used, room; /* of the newest block */
} scratch_t;

/* `bytes` at a multiple of 16; they live until scratch_clear. */
sbag_code_t scratch_take(scratch_t *arena, size_t bytes, void **piece, sbag_status_t *status);
void scratch_clear(scratch_t *arena);

#endif
