/* What a writer has been told, for the file that writes it (commit.c). */
#ifndef CHECKPOINT_WRITER_H
#define CHECKPOINT_WRITER_H

#include "checkpoint/layout.h"
#include "checkpoint/trailer.h"

struct checkpoint_writer {
  comm_t *comm;
  mem_t *mem;
  char *path, *temporary; /* the final name, and the name until all is written */
  layout_item_t *items;
  int64_t count, capacity, chunk_bytes, piece_bytes;
  int64_t range[2]; /* what commit's first agreement is about */
};

#endif
