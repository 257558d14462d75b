/* Lines of a plain or gzip file: zlib's gzread tells the two apart by the first bytes. */
#include "reader/lines.h"
#include "reader/grow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { FIRST_BYTES = 1 << 18 };

struct lines {
  mem_t *mem;
  gzFile file;
  char *path, *buffer;
  int64_t capacity, begin, end; /* unread bytes are buffer[begin, end) */
  int64_t number;
  int64_t bytes; /* of the file when it was opened; -1 where it is no plain one */
  int at_eof;
};

static sbag_code_t open_parts(lines_t *lines, const char *path, sbag_status_t *status) {
  SBAG_TRY(
      reader_grow_copy(lines->mem, path, strlen(path) + 1, "reader: path", (void **)&lines->path, status));
  SBAG_TRY(mem_alloc(lines->mem, FIRST_BYTES, "reader: line buffer", (void **)&lines->buffer, status));
  lines->capacity = FIRST_BYTES;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return status_set(status, SBAG_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
  struct stat found;
  lines->bytes = fstat(file, &found) == 0 && S_ISREG(found.st_mode) ? (int64_t)found.st_size : -1;
  lines->file = gzdopen(file, "rb");
  if (lines->file == NULL) {
    close(file);
    return status_set(status, SBAG_ERR_MEMORY, "%s: cannot open: out of memory", path);
  }
  gzbuffer(lines->file, FIRST_BYTES);
  return SBAG_OK;
}

sbag_code_t reader_lines_open(const char *path, mem_t *mem, lines_t **lines, sbag_status_t *status) {
  lines_t *made = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof *made, "reader: line reader", (void **)&made, status));
  made->mem = mem;
  sbag_code_t code = open_parts(made, path, status);
  if (code != SBAG_OK)
    reader_lines_close(&made);
  else
    *lines = made;
  return code;
}

void reader_lines_close(lines_t **lines) {
  lines_t *l = *lines;
  if (l == NULL) return;
  if (l->file != NULL) gzclose_r(l->file);
  mem_free(l->mem, l->buffer);
  mem_free(l->mem, l->path);
  mem_free(l->mem, l);
  *lines = NULL;
}

const char *reader_lines_zlib_error(const char *text) {
  const char *end = strncmp(text, "<fd:", 4) == 0 ? strstr(text, ">: ") : NULL;
  return end == NULL ? text : end + 3;
}

static sbag_code_t read_error(const lines_t *lines, sbag_status_t *status) {
  int number = Z_OK;
  const char *text = reader_lines_zlib_error(gzerror(lines->file, &number));
  return status_set(status, SBAG_ERR_IO, "%s: reading failed after line %lld: %s", lines->path,
                    (long long)lines->number,
                    number == Z_ERRNO       ? strerror(errno)
                    : number == Z_BUF_ERROR ? "the compressed file is cut short"
                                            : text);
}

sbag_code_t reader_lines_rewind(lines_t *lines, sbag_status_t *status) {
  if (gzrewind(lines->file) != 0) return read_error(lines, status);
  lines->begin = lines->end = lines->number = 0;
  lines->at_eof = 0;
  return SBAG_OK;
}

/* What is read cannot be taken for all there is where the file was longer a while ago. */
static sbag_code_t check_end(const lines_t *lines, sbag_status_t *status) {
  int64_t end = (int64_t)gzoffset(lines->file);
  if (end < 0 || end >= lines->bytes) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_IO,
      "%s:%lld: the file ends after %lld bytes, but it had %lld when it was opened; has it been "
      "changed?",
      lines->path, (long long)lines->number + 1, (long long)end, (long long)lines->bytes);
}

/* Moves the unread bytes to the front and reads more behind them. */
static sbag_code_t refill(lines_t *lines, sbag_status_t *status) {
  int64_t left = lines->end - lines->begin;
  if (left >= LINES_MAX_BYTES)
    return status_set(status, SBAG_ERR_FORMAT,
                      "%s:%lld: the line is longer than %d bytes; is this a text file of rows?", lines->path,
                      (long long)lines->number + 1, LINES_MAX_BYTES);
  memmove(lines->buffer, lines->buffer + lines->begin, (size_t)left);
  lines->begin = 0;
  lines->end = left;
  if (left == lines->capacity)
    SBAG_TRY(reader_grow_to(lines->mem, (void **)&lines->buffer, &lines->capacity, 2 * left, 1,
                            "reader: line buffer", status));
  int got = gzread(lines->file, lines->buffer + left, (unsigned)(lines->capacity - left));
  int number = Z_OK;
  if (got <= 0) gzerror(lines->file, &number);
  if (got < 0 || number == Z_BUF_ERROR) return read_error(lines, status);
  lines->end += got;
  lines->at_eof = got == 0;
  return got == 0 ? check_end(lines, status) : SBAG_OK;
}

sbag_code_t reader_lines_next(lines_t *lines, text_t *line, sbag_status_t *status) {
  int64_t searched = 0; /* bytes after begin that hold no line end */
  const char *stop = NULL;
  while (!lines->at_eof || lines->begin < lines->end) {
    int64_t left = lines->end - lines->begin;
    const char *from = lines->buffer + lines->begin;
    stop = left > searched ? memchr(from + searched, '\n', (size_t)(left - searched)) : NULL;
    if (stop != NULL || lines->at_eof) break;
    searched = left;
    SBAG_TRY(refill(lines, status));
  }
  *line = (text_t){NULL, 0};
  if (lines->begin == lines->end) return SBAG_OK;
  const char *from = lines->buffer + lines->begin;
  int64_t length = stop != NULL ? stop - from : lines->end - lines->begin;
  lines->begin += length + (stop != NULL);
  if (lines->number++ == 0 && length >= LINES_MARK_BYTES && memcmp(from, LINES_MARK, LINES_MARK_BYTES) == 0) {
    from += LINES_MARK_BYTES;
    length -= LINES_MARK_BYTES;
  }
  if (length > 0 && from[length - 1] == '\r') length--;
  *line = (text_t){from, length};
  return SBAG_OK;
}

int64_t reader_lines_number(const lines_t *lines) {
  return lines->number;
}

const char *reader_lines_path(const lines_t *lines) {
  return lines->path;
}
