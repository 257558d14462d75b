/* Writing past the page cache. Buffered writes of several processes to one file wait for each other on its
 * lock and copy every byte; direct ones (O_DIRECT) to space that is reserved do neither. Where a file system
 * has none, which open or the first write tells by EINVAL, all is written by disk_write.
 *
 * Beside direct writes others may be buffered, by any process, as long as no page has bytes of both: a
 * direct write gives up the cached pages under it, and a dirty page that is written later covers it. */
#ifndef CHECKPOINT_DIRECT_H
#define CHECKPOINT_DIRECT_H

#include "base/status.h"
#include <stdint.h>

typedef struct direct {
  int file; /* -1: not here */
  /* Of offsets and bytes, and of addresses. At least a page, 1 where nothing is direct; they stay as they are
   * when the file system changes its mind. */
  int64_t align, memory_align;
} direct_t;

/* Opens an existing file for it. A file system without direct writes is no error: direct->file is -1. */
sbag_code_t direct_open(const char *path, direct_t *direct, sbag_status_t *status);

/* The same for reading a file that is open, whatever has its name by now. Where that cannot be, direct->file
 * is -1. */
void direct_reopen(int file, direct_t *direct);
/* A file's bytes from a page's bound on, of which nothing is read, to ask what the system has of them; NULL:
 * it does not tell. Once for many questions: to map and unmap waits for other threads' first touches of
 * memory. */
void *direct_map(int file, int64_t offset, int64_t bytes);
void direct_unmap(void *map, int64_t bytes);
/* Whether none of the bytes that are mapped there has to be brought from the disk, as far as the system
 * tells. */
int direct_is_cached(const void *at, int64_t bytes);
/* Reads from and to aligned places, `bytes` of any number: as many as could be read directly are told, which
 * is fewer where something fails; the rest must then be read otherwise, which tells why. Thread-safe. */
int64_t direct_read(const direct_t *direct, int64_t offset, int64_t bytes, void *data);

/* Writes from and to aligned places. *done receives the bytes that were written: fewer than asked for,
 * without an error, where the file system refuses; the rest must then be written otherwise. Thread-safe. */
sbag_code_t direct_write(const direct_t *direct, const char *path, int64_t offset, int64_t bytes,
                         const void *data, int64_t *done, sbag_status_t *status);

#endif
