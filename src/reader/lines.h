/* Lines of a plain or gzip file, one at a time, in a buffer as long as the longest line.
 *
 * A line ends in LF or CR LF (both are taken off); the last one may lack it. */
#ifndef READER_LINES_H
#define READER_LINES_H

#include "base/mem.h"
#include "reader/text.h"

typedef struct lines lines_t;

/* A line longer than this is refused: the file is not one of lines, and memory stays bounded. */
enum { LINES_MAX_BYTES = 1 << 26 };

/* What some editors put before a UTF-8 text; it is no part of the first line. */
#define LINES_MARK "\xef\xbb\xbf"
enum { LINES_MARK_BYTES = 3 };

/* The message without the name "<fd:N>: " that zlib gives files which it has not opened itself. */
const char *reader_lines_zlib_error(const char *text);

sbag_code_t reader_lines_open(const char *path, mem_t *mem, lines_t **lines, sbag_status_t *status);
/* NULL is allowed. */
void reader_lines_close(lines_t **lines);
/* Back to the first line. */
sbag_code_t reader_lines_rewind(lines_t *lines, sbag_status_t *status);
/* The next line, valid until the next call; line->bytes = NULL at the end of the file. */
sbag_code_t reader_lines_next(lines_t *lines, text_t *line, sbag_status_t *status);
/* 1-based number of the line that reader_lines_next gave last. */
int64_t reader_lines_number(const lines_t *lines);
const char *reader_lines_path(const lines_t *lines);

#endif
