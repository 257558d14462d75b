/* The checksums of a checkpoint: XXH3 of the xxHash library, 64 bits for a piece of rows, 128 for everything
 * else. They find damage, not forgery. */
#ifndef CHECKPOINT_CHECKSUM_H
#define CHECKPOINT_CHECKSUM_H

#include "base/mem.h"
#include <stddef.h>
#include <stdint.h>

uint64_t checksum_piece(const void *data, size_t bytes);

/* 128 bits over data that comes in parts. The state is a block of mem. */
typedef struct checksum_stream checksum_stream_t;
typedef struct checksum_digest {
  uint64_t low, high;
} checksum_digest_t;
sbag_code_t checksum_stream_create(mem_t *mem, checksum_stream_t **stream, sbag_status_t *status);
void checksum_stream_add(checksum_stream_t *stream, const void *data, size_t bytes);
checksum_digest_t checksum_stream_end(const checksum_stream_t *stream);
/* Nulls *stream; NULL is allowed. */
void checksum_stream_destroy(checksum_stream_t **stream);

#endif
