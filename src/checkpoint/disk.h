/* Whole reads and writes at an offset, beside libhdf5: short counts and interruptions are continued, and what
 * fails is named by path and offset. No function here is collective. */
#ifndef CHECKPOINT_DISK_H
#define CHECKPOINT_DISK_H

#include "base/status.h"
#include <stdint.h>

/* path is for messages only. A file that ends too early is SBAG_ERR_FORMAT. */
sbag_code_t disk_read(int file, const char *path, int64_t offset, int64_t bytes, void *data,
                      sbag_status_t *status);
sbag_code_t disk_write(int file, const char *path, int64_t offset, int64_t bytes, const void *data,
                       sbag_status_t *status);
/* fsync. */
sbag_code_t disk_sync(int file, const char *path, sbag_status_t *status);
/* Closes *file if it is open (>= 0) and makes it -1. */
sbag_code_t disk_close(int *file, const char *path, sbag_status_t *status);

#endif
