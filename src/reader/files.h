/* Several text files of rows as one: their rows in order, and where each stands. Every file begins with the
 * same number of header lines. A later pass must find as many rows in a file as the first one did. */
#ifndef READER_FILES_H
#define READER_FILES_H

#include "base/mem.h"
#include "reader/text.h"

typedef struct files files_t;

/* Which file of the list, and which line of it, counted from 1 as an editor does. */
typedef struct files_place {
  int file;
  int64_t line;
} files_place_t;

/* Every file is opened once, so that a missing one is found before the first is read. The list of paths is
 * borrowed. */
sbag_code_t reader_files_open(const char *const *paths, int count, int header_lines, mem_t *mem,
                              files_t **files, sbag_status_t *status);
/* NULL is allowed. */
void reader_files_close(files_t **files);
/* Back to the first row of the first file. */
sbag_code_t reader_files_rewind(files_t *files, sbag_status_t *status);
/* The next row, valid until the next call; row->bytes = NULL at the end of the last file. */
sbag_code_t reader_files_next(files_t *files, text_t *row, files_place_t *place, sbag_status_t *status);
const char *reader_files_path(const files_t *files, int file);

#endif
