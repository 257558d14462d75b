/* Reads the words of text files, plain or gzip: runs of bytes other than space, tab, CR, LF, form feed and
 * vertical tab. Lines may have any length (text8 is one line of 100 MB), so the file is read in blocks. */
#include "reader/corpus.h"
#include "reader/grow.h"
#include "reader/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { BLOCK_BYTES = 1 << 18, WORD_BYTES = 1000 };

typedef struct scan {
  source_t *source;
  vocabulary_t *all;
  const char *path;
  gzFile file;
  int64_t bytes;         /* of the file when it was opened; -1 where it is no plain one */
  int64_t line, column;  /* of the byte at hand, from 1 */
  char word[WORD_BYTES]; /* that is under way, */
  int64_t length;        /* its bytes so far, */
  int begins, spoilt;    /* the next word begins a line; this one cannot be taken */
  char *block;
} scan_t;

/* A word that cannot be one ends the run, or is left out and counted as a bad row. */
static sbag_code_t bad_word(scan_t *s, const char *what, sbag_status_t *status) {
  sbag_status_t why;
  status_clear(&why);
  sbag_code_t code = status_set(&why, SBAG_ERR_FORMAT,
                                "%s:%lld: column %lld: %s; words of 1 to %d bytes of text would be right",
                                s->path, (long long)s->line, (long long)s->column, what, (int)WORD_BYTES);
  if (!s->source->config->source.corpus.skip_bad_rows) return status_set(status, code, "%s", why.message);
  if (s->source->bad_rows++ == 0) memcpy(s->source->first_bad, why.message, sizeof s->source->first_bad);
  s->spoilt = 1;
  return SBAG_OK;
}

static sbag_code_t end_word(scan_t *s, sbag_status_t *status) {
  corpus_t *c = s->source->state;
  int64_t index = 0;
  if (s->length > 0 && !s->spoilt) {
    SBAG_TRY(reader_vocabulary_add(s->all, (text_t){s->word, s->length}, &index, status));
    if (index > (int64_t)CORPUS_ROW)
      return status_set(status, SBAG_ERR_FORMAT, "%s: more than 2^31 different words", s->path);
    SBAG_TRY(reader_grow_to(s->source->mem, (void **)&c->stream, &c->capacity, c->length + 1,
                            sizeof *c->stream, "reader: text", status));
    c->stream[c->length++] = (uint32_t)index | (s->begins ? CORPUS_BEGINS : 0);
    s->begins = 0;
  }
  s->length = s->spoilt = 0;
  return SBAG_OK;
}

static int is_space(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static sbag_code_t take_byte(scan_t *s, char byte, sbag_status_t *status) {
  if (is_space(byte)) {
    SBAG_TRY(end_word(s, status));
  } else if (!s->spoilt) {
    if (byte == '\0') return bad_word(s, "a NUL byte", status);
    if (s->length == WORD_BYTES) return bad_word(s, "a word goes on and on", status);
    int lower = s->source->config->source.corpus.lowercase && byte >= 'A' && byte <= 'Z';
    s->word[s->length++] = lower ? (char)(byte - 'A' + 'a') : byte;
  }
  s->column++;
  if (byte != '\n') return SBAG_OK;
  s->line++;
  s->column = 1;
  s->begins = 1;
  return SBAG_OK;
}

static sbag_code_t read_error(const scan_t *s, sbag_status_t *status) {
  int number = Z_OK;
  const char *text = reader_lines_zlib_error(gzerror(s->file, &number));
  return status_set(status, SBAG_ERR_IO, "%s:%lld: column %lld: reading failed: %s", s->path,
                    (long long)s->line, (long long)s->column,
                    number == Z_ERRNO       ? strerror(errno)
                    : number == Z_BUF_ERROR ? "the compressed file is cut short"
                                            : text);
}

static sbag_code_t check_end(const scan_t *s, sbag_status_t *status) {
  int number = Z_OK;
  int64_t end = (int64_t)gzoffset(s->file);
  gzerror(s->file, &number);
  if (number == Z_BUF_ERROR) return read_error(s, status);
  if (end < 0 || end >= s->bytes) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_IO,
      "%s:%lld: column %lld: the file ends after %lld bytes, but it had %lld when it was opened; has it "
      "been changed?",
      s->path, (long long)s->line, (long long)s->column, (long long)end, (long long)s->bytes);
}

static sbag_code_t read_all(scan_t *s, sbag_status_t *status) {
  for (;;) {
    int got = gzread(s->file, s->block, BLOCK_BYTES);
    if (got < 0) return read_error(s, status);
    if (got == 0) break;
    int marked = s->line == 1 && s->column == 1 && got >= LINES_MARK_BYTES &&
                 memcmp(s->block, LINES_MARK, LINES_MARK_BYTES) == 0;
    for (int i = marked ? LINES_MARK_BYTES : 0; i < got; i++) SBAG_TRY(take_byte(s, s->block[i], status));
  }
  SBAG_TRY(check_end(s, status));
  return end_word(s, status);
}

static sbag_code_t read_file(scan_t *s, sbag_status_t *status) {
  struct stat found;
  int file = open(s->path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return status_set(status, SBAG_ERR_IO, "%s: cannot open: %s", s->path, strerror(errno));
  s->bytes = fstat(file, &found) == 0 && S_ISREG(found.st_mode) ? (int64_t)found.st_size : -1;
  s->file = gzdopen(file, "rb");
  if (s->file == NULL) {
    close(file);
    return status_set(status, SBAG_ERR_MEMORY, "%s: cannot open: out of memory", s->path);
  }
  gzbuffer(s->file, BLOCK_BYTES);
  s->line = s->column = s->begins = 1;
  sbag_code_t code = read_all(s, status);
  gzclose_r(s->file);
  return code;
}

sbag_code_t reader_corpus_read(source_t *source, vocabulary_t *all, sbag_status_t *status) {
  const reader_corpus_config_t *config = &source->config->source.corpus;
  scan_t s = {.source = source, .all = all};
  SBAG_TRY(mem_alloc(source->mem, BLOCK_BYTES, "reader: text", (void **)&s.block, status));
  sbag_code_t code = SBAG_OK;
  for (int i = 0; i < config->path_count && code == SBAG_OK; i++) {
    s.path = config->paths[i];
    code = read_file(&s, status);
  }
  mem_free(source->mem, s.block);
  return code;
}
