/* Bytes that are written once, one after the other, and read later: a file without a name, which ends with
 * the process however that ends. */
#ifndef READER_SPOOL_H
#define READER_SPOOL_H

#include "base/status.h"
#include <stdint.h>

typedef struct spool {
  int file;           /* -1: not open */
  const char *beside; /* borrowed: the path in whose folder it lies, named in messages */
  int64_t bytes;
} spool_t;

/* Makes it in the folder of `beside`. */
sbag_code_t reader_spool_open(const char *beside, spool_t *spool, sbag_status_t *status);
/* One that is not open is allowed. */
void reader_spool_close(spool_t *spool);
sbag_code_t reader_spool_append(spool_t *spool, const void *data, int64_t bytes, sbag_status_t *status);
sbag_code_t reader_spool_read(const spool_t *spool, int64_t offset, int64_t bytes, void *out,
                              sbag_status_t *status);

#endif
