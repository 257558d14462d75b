/* Counted host memory. Everything that shardbag allocates hangs from a mem_t, so that a test can see that a
 * warm step allocates nothing and what the peak is. Blocks are 64-byte aligned, those of a MiB and more
 * 4096-byte aligned where no sanitizer is at work. Thread-safe. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

typedef struct mem mem_t;

typedef struct mem_stats {
  int64_t alloc_count; /* allocations since creation: flat in a warm step */
  int64_t live_bytes;
  int64_t peak_bytes;
} mem_stats_t;

sbag_code_t mem_create(mem_t **mem, sbag_status_t *status);
/* Frees the counter; blocks still alive are the caller's leak. Nulls *mem. */
void mem_destroy(mem_t **mem);

/* A block of `bytes` (0 gives a valid, unusable pointer). `what` names it in the error: "reader: vocabulary".
 */
sbag_code_t mem_alloc(mem_t *mem, size_t bytes, const char *what, void **block, sbag_status_t *status);
/* As mem_alloc, filled with zero bytes. */
sbag_code_t mem_calloc(mem_t *mem, size_t bytes, const char *what, void **block, sbag_status_t *status);
/* Whether a block of so many bytes comes filled with zero bytes from mem_alloc too, its pages untouched. */
int mem_comes_zeroed(size_t bytes);
/* As realloc: *block may be NULL; on failure *block stays valid. */
sbag_code_t mem_realloc(mem_t *mem, size_t bytes, const char *what, void **block, sbag_status_t *status);
/* NULL is allowed. */
void mem_free(mem_t *mem, void *block);

mem_stats_t mem_stats(const mem_t *mem);

/* Makes the n-th allocation from now fail (test only; 0 turns it off). */
void mem_fail_at(mem_t *mem, int64_t n);

/* count * size, saturated at SIZE_MAX so that an overflow fails in the allocation. Negative counts saturate
 * too. */
size_t mem_array_bytes(int64_t count, size_t size);

#endif
