/* Arrays that grow and stay. */
#ifndef READER_GROW_H
#define READER_GROW_H

#include "base/mem.h"

/* Makes room for at least `need` elements, with half as many again to spare so that the next batch, a little
 * longer than this one, does not allocate. */
sbag_code_t reader_grow_to(mem_t *mem, void **block, int64_t *capacity, int64_t need, size_t size,
                           const char *what, sbag_status_t *status);
/* A copy of `bytes` bytes. */
sbag_code_t reader_grow_copy(mem_t *mem, const void *from, size_t bytes, const char *what, void **copy,
                             sbag_status_t *status);

#endif
