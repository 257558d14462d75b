/* Rows where the file is mapped into memory: nothing is read before it is touched, and nothing checked before
 * somebody asks. The file must stay as it is: checkpoints are replaced by renaming, which leaves an open one
 * alone. */
#include "checkpoint/reader.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static sbag_code_t map_file(checkpoint_reader_t *r, sbag_status_t *status) {
  if (r->map != NULL) return SBAG_OK;
  void *map = mmap(NULL, (size_t)r->bytes, PROT_READ, MAP_SHARED, r->data, 0);
  if (map == MAP_FAILED)
    return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be mapped: %s", r->path, strerror(errno));
  r->map = map;
  return SBAG_OK;
}

void reader_unmap(checkpoint_reader_t *r) {
  if (r->map != NULL) munmap(r->map, (size_t)r->bytes);
  r->map = NULL;
}

static sbag_code_t find(const checkpoint_reader_t *r, const char *name, const trailer_array_t **array,
                        sbag_status_t *status) {
  const reader_array_t *found = reader_find(r, name);
  if (found == NULL || found->pieces == NULL)
    return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': '%s' has no checksums to be mapped by",
                      r->path, name);
  *array = found->pieces;
  return SBAG_OK;
}

sbag_code_t checkpoint_map_array(checkpoint_reader_t *reader, const char *name, const void **rows,
                                 int64_t *piece_rows, sbag_status_t *status) {
  const trailer_array_t *array = NULL;
  SBAG_TRY(find(reader, name, &array, status));
  SBAG_TRY(map_file(reader, status));
  *rows = (const char *)reader->map + array->offset;
  *piece_rows = array->piece_rows;
  return SBAG_OK;
}

sbag_code_t checkpoint_check_piece(const checkpoint_reader_t *reader, const char *name, int64_t piece,
                                   sbag_status_t *status) {
  const trailer_array_t *array = NULL;
  SBAG_TRY(find(reader, name, &array, status));
  const int64_t at = array->offset + piece * array->piece_rows * array->row_bytes;
  return reader_check_piece(reader, array, piece, (const char *)reader->map + at, status);
}
