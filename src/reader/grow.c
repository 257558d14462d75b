/* Arrays that grow and stay. */
#include "reader/grow.h"

#include <string.h>

sbag_code_t reader_grow_to(mem_t *mem, void **block, int64_t *capacity, int64_t need, size_t size,
                           const char *what, sbag_status_t *status) {
  if (need <= *capacity) return SBAG_OK;
  int64_t wanted = need + need / 2 + 16;
  SBAG_TRY(mem_realloc(mem, mem_array_bytes(wanted, size), what, block, status));
  *capacity = wanted;
  return SBAG_OK;
}

sbag_code_t reader_grow_copy(mem_t *mem, const void *from, size_t bytes, const char *what, void **copy,
                             sbag_status_t *status) {
  void *made = NULL;
  SBAG_TRY(mem_alloc(mem, bytes, what, &made, status));
  if (bytes > 0) memcpy(made, from, bytes);
  *copy = made;
  return SBAG_OK;
}
