/* What a disk gives to processes that do nothing else, and what a measurement on it needs: space and a cold
 * cache. */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include "comm/comm.h"

enum { BENCH_RAW_BLOCK_BYTES = 16 << 20 };

/* One file of `bytes`, up to the next page, of which each rank has a region of its own, moved in blocks
 * through one buffer. */
typedef struct bench_raw {
  comm_t *comm;
  mem_t *mem;
  const char *path; /* borrowed */
  int64_t first, end, bytes;
  int direct;  /* 0: the file system has shown that it has no direct writes */
  void *block; /* [BENCH_RAW_BLOCK_BYTES] */
} bench_raw_t;

/* Collective. */
sbag_code_t bench_raw_create(comm_t *comm, mem_t *mem, const char *path, int64_t bytes, bench_raw_t *raw,
                             sbag_status_t *status);
void bench_raw_destroy(bench_raw_t *raw);

/* Collective. Writing makes the file anew, reserves its space, goes past the page cache (O_DIRECT) where the
 * file system allows it, as checkpoints do, and ends with an fsync on every rank. */
sbag_code_t bench_raw_write(bench_raw_t *raw, sbag_status_t *status);
sbag_code_t bench_raw_read(bench_raw_t *raw, sbag_status_t *status);

/* Collective. Returns when the disk of `folder` has nothing left to write, whoever wrote it. */
sbag_code_t bench_raw_settle(comm_t *comm, const char *folder, sbag_status_t *status);

/* Collective. Has this host forget the file's pages, which must be on disk; *resident receives the largest
 * part of them, over the ranks, that it still has in memory (0 to 1). */
sbag_code_t bench_raw_cool(comm_t *comm, const char *path, double *resident, sbag_status_t *status);

/* Collective. SBAG_ERR_IO if `folder` cannot take so many bytes more. */
sbag_code_t bench_raw_space(comm_t *comm, const char *folder, int64_t bytes, sbag_status_t *status);

#endif
