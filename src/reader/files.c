/* Several text files of rows as one. One of them is open at a time. */
#include "reader/files.h"
#include "reader/lines.h"

#include <string.h>

struct files {
  mem_t *mem;
  const char *const *paths;
  int count, header_lines;
  int file;       /* that is open */
  lines_t *lines; /* of it */
  int64_t row;    /* rows of it that were given */
  int64_t *rows;  /* [count] of a whole file, as the first pass found it; -1: not known yet */
};

/* Makes `file` the open one, at its first row. */
static sbag_code_t turn_to(files_t *files, int file, sbag_status_t *status) {
  if (files->lines != NULL && files->file == file) {
    SBAG_TRY(reader_lines_rewind(files->lines, status));
  } else {
    reader_lines_close(&files->lines);
    SBAG_TRY(reader_lines_open(files->paths[file], files->mem, &files->lines, status));
  }
  files->file = file;
  files->row = 0;
  text_t header;
  for (int i = 0; i < files->header_lines; i++) SBAG_TRY(reader_lines_next(files->lines, &header, status));
  return SBAG_OK;
}

static sbag_code_t open_parts(files_t *files, sbag_status_t *status) {
  SBAG_TRY(mem_alloc(files->mem, mem_array_bytes(files->count, sizeof *files->rows), "reader: list of files",
                     (void **)&files->rows, status));
  for (int i = 0; i < files->count; i++) files->rows[i] = -1;
  for (int i = files->count; i-- > 0;) SBAG_TRY(turn_to(files, i, status));
  return SBAG_OK;
}

sbag_code_t reader_files_open(const char *const *paths, int count, int header_lines, mem_t *mem,
                              files_t **files, sbag_status_t *status) {
  files_t *made = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof *made, "reader: files", (void **)&made, status));
  made->mem = mem;
  made->paths = paths;
  made->count = count;
  made->header_lines = header_lines;
  sbag_code_t code = open_parts(made, status);
  if (code != SBAG_OK)
    reader_files_close(&made);
  else
    *files = made;
  return code;
}

void reader_files_close(files_t **files) {
  files_t *f = *files;
  if (f == NULL) return;
  reader_lines_close(&f->lines);
  mem_free(f->mem, f->rows);
  mem_free(f->mem, f);
  *files = NULL;
}

sbag_code_t reader_files_rewind(files_t *files, sbag_status_t *status) {
  return turn_to(files, 0, status);
}

/* A file that has shrunk or grown would move all rows behind it. */
static sbag_code_t check_end(files_t *files, sbag_status_t *status) {
  int64_t *known = &files->rows[files->file];
  if (*known < 0) *known = files->row;
  if (*known == files->row) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO,
                    "%s: ends after %lld rows, but it had %lld when it was opened; has it been changed?",
                    files->paths[files->file], (long long)files->row, (long long)*known);
}

sbag_code_t reader_files_next(files_t *files, text_t *row, files_place_t *place, sbag_status_t *status) {
  for (;;) {
    SBAG_TRY(reader_lines_next(files->lines, row, status));
    if (row->bytes != NULL) break;
    SBAG_TRY(check_end(files, status));
    if (files->file == files->count - 1) return SBAG_OK;
    SBAG_TRY(turn_to(files, files->file + 1, status));
  }
  files->row++;
  *place = (files_place_t){files->file, reader_lines_number(files->lines)};
  return SBAG_OK;
}

const char *reader_files_path(const files_t *files, int file) {
  return files->paths[file];
}
