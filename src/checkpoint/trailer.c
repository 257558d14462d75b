/* The trailer as bytes: see trailer.h. */
#include "checkpoint/trailer.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are written as they lie in memory: little-endian"
#endif

enum { WORD = 8, HEAD_WORDS = 4, ARRAY_WORDS = 6, NAME_BYTES_MAX = 1 << 16 };

static const char magic[WORD] = {'S', 'B', 'A', 'G', 'C', 'K', 'P', 'T'};

int64_t trailer_piece_count(const trailer_array_t *array) {
  return array->rows / array->piece_rows + (array->rows % array->piece_rows > 0 ? 1 : 0);
}

void trailer_piece(const trailer_array_t *array, int64_t piece, int64_t *first, int64_t *rows) {
  *first = piece * array->piece_rows;
  int64_t left = array->rows - *first;
  *rows = left < array->piece_rows ? left : array->piece_rows;
}

int64_t trailer_list_offset(int64_t hdf5_bytes) {
  return (hdf5_bytes + WORD - 1) / WORD * WORD;
}

/* A name's bytes with its zero, padded. */
static int64_t name_bytes(const char *name) {
  return (int64_t)(strlen(name) + WORD) / WORD * WORD;
}

static int64_t list_bytes(const trailer_t *trailer) {
  int64_t bytes = HEAD_WORDS * WORD;
  for (int64_t i = 0; i < trailer->count; i++)
    bytes += ARRAY_WORDS * WORD + name_bytes(trailer->arrays[i].name) +
             trailer_piece_count(&trailer->arrays[i]) * WORD;
  return bytes;
}

int64_t trailer_bytes(const trailer_t *trailer) {
  return list_bytes(trailer) + TRAILER_FOOTER_BYTES;
}

static char *put_words(char *at, const uint64_t *words, int64_t count) {
  if (count > 0) memcpy(at, words, (size_t)count * WORD);
  return at + count * WORD;
}

static char *put_array(char *at, const trailer_array_t *array) {
  int64_t name = name_bytes(array->name), pieces = trailer_piece_count(array);
  uint64_t words[ARRAY_WORDS] = {(uint64_t)name,
                                 (uint64_t)array->offset,
                                 (uint64_t)array->rows,
                                 (uint64_t)array->row_bytes,
                                 (uint64_t)array->piece_rows,
                                 (uint64_t)pieces};
  at = put_words(at, words, ARRAY_WORDS);
  memset(at, 0, (size_t)name);
  memcpy(at, array->name, strlen(array->name));
  return put_words(at + name, array->sums, pieces);
}

void trailer_encode(const trailer_t *trailer, int64_t list_offset, void *out) {
  uint64_t head[HEAD_WORDS] = {(uint64_t)trailer->count, trailer->digest.low, trailer->digest.high, 0};
  char *at = put_words(out, head, HEAD_WORDS);
  for (int64_t i = 0; i < trailer->count; i++) at = put_array(at, &trailer->arrays[i]);
  int64_t bytes = list_bytes(trailer);
  uint64_t footer[TRAILER_FOOTER_BYTES / WORD] = {0,
                                                  TRAILER_VERSION,
                                                  (uint64_t)(list_offset + bytes + TRAILER_FOOTER_BYTES),
                                                  (uint64_t)list_offset,
                                                  (uint64_t)bytes,
                                                  checksum_piece(out, (size_t)bytes),
                                                  0,
                                                  0};
  memcpy(footer, magic, WORD);
  footer[7] = checksum_piece(footer, sizeof footer - WORD);
  put_words(at, footer, TRAILER_FOOTER_BYTES / WORD);
}

int trailer_is_footer(const void *bytes) {
  return memcmp(bytes, magic, WORD) == 0;
}

sbag_code_t trailer_decode_footer(const void *bytes, int64_t file_bytes, const char *path,
                                  trailer_footer_t *footer, sbag_status_t *status) {
  uint64_t words[TRAILER_FOOTER_BYTES / WORD];
  memcpy(words, bytes, sizeof words);
  if (!trailer_is_footer(bytes) || words[7] != checksum_piece(words, sizeof words - WORD))
    return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': is damaged in its last %d bytes", path,
                      TRAILER_FOOTER_BYTES);
  if (words[1] != TRAILER_VERSION)
    return status_set(status, SBAG_ERR_FORMAT,
                      "checkpoint '%s': is of format %llu, this program reads format %d; a newer shardbag "
                      "wrote it",
                      path, (unsigned long long)words[1], TRAILER_VERSION);
  uint64_t body = (uint64_t)file_bytes - TRAILER_FOOTER_BYTES; /* the caller has read a footer */
  if (words[2] != (uint64_t)file_bytes || words[3] > body || words[4] != body - words[3] ||
      words[3] % WORD != 0 || words[4] % WORD != 0 || words[4] < HEAD_WORDS * WORD || words[6] != 0)
    return status_set(status, SBAG_ERR_FORMAT,
                      "checkpoint '%s': has %lld bytes; its footer tells of %llu with a list of %llu at %llu",
                      path, (long long)file_bytes, (unsigned long long)words[2], (unsigned long long)words[4],
                      (unsigned long long)words[3]);
  *footer = (trailer_footer_t){(int64_t)words[3], (int64_t)words[4], words[5]};
  return SBAG_OK;
}

/* What is left of the list while it is walked. */
typedef struct cursor {
  char *at;
  uint64_t left;     /* bytes */
  uint64_t data_end; /* arrays lie in front of it */
} cursor_t;

/* The next `bytes` of the list, or NULL if there are fewer. */
static char *take(cursor_t *cursor, uint64_t bytes) {
  if (bytes > cursor->left) return NULL;
  char *at = cursor->at;
  cursor->at += bytes;
  cursor->left -= bytes;
  return at;
}

/* Whether rows x row_bytes fit at `offset`, behind the array before and in front of the list. No product here
 * can wrap: each is compared by division first. */
static int is_in_place(const uint64_t *w, uint64_t behind, uint64_t end) {
  uint64_t offset = w[1], rows = w[2], row_bytes = w[3];
  if (rows == 0) return offset == 0;
  return offset >= behind && offset <= end && rows <= (end - offset) / row_bytes;
}

static int decode_array(cursor_t *c, uint64_t *behind, trailer_array_t *array) {
  uint64_t w[ARRAY_WORDS];
  char *words = take(c, sizeof w);
  if (words == NULL) return 0;
  memcpy(w, words, sizeof w);
  if (w[0] < WORD || w[0] > NAME_BYTES_MAX || w[0] % WORD != 0) return 0;
  if (w[2] > INT64_MAX || w[3] < 1 || w[3] > INT64_MAX || w[4] < 1 || w[4] > INT64_MAX) return 0;
  if (!is_in_place(w, *behind, c->data_end)) return 0;
  char *name = take(c, w[0]);
  if (name == NULL || name[0] == '\0' || memchr(name, '\0', (size_t)w[0]) == NULL) return 0;
  *array = (trailer_array_t){.name = name,
                             .offset = (int64_t)w[1],
                             .rows = (int64_t)w[2],
                             .row_bytes = (int64_t)w[3],
                             .piece_rows = (int64_t)w[4]};
  if (w[5] != (uint64_t)trailer_piece_count(array) || w[5] > c->left / WORD) return 0;
  array->sums = (uint64_t *)(void *)take(c, w[5] * WORD);
  if (w[2] > 0) *behind = w[1] + w[2] * w[3];
  return 1;
}

static sbag_code_t broken_list(const char *path, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': its list of pieces is damaged", path);
}

sbag_code_t trailer_decode(mem_t *mem, const trailer_footer_t *footer, void *list, const char *path,
                           trailer_t *trailer, sbag_status_t *status) {
  if (checksum_piece(list, (size_t)footer->list_bytes) != footer->list_sum) return broken_list(path, status);
  cursor_t cursor = {list, (uint64_t)footer->list_bytes, (uint64_t)footer->list_offset};
  uint64_t head[HEAD_WORDS], behind = 0;
  char *words = take(&cursor, sizeof head);
  if (words == NULL) return broken_list(path, status);
  memcpy(head, words, sizeof head);
  if (head[0] > cursor.left / (ARRAY_WORDS * WORD) || head[3] != 0) return broken_list(path, status);
  void *block = NULL;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes((int64_t)head[0], sizeof *trailer->arrays), "checkpoint: pieces",
                     &block, status));
  trailer_t made = {.arrays = block, .count = (int64_t)head[0], .digest = {head[1], head[2]}};
  int good = 1;
  for (int64_t i = 0; i < made.count && good; i++) good = decode_array(&cursor, &behind, &made.arrays[i]);
  if (!good || cursor.left != 0) {
    trailer_clear(mem, &made);
    return broken_list(path, status);
  }
  *trailer = made;
  return SBAG_OK;
}

void trailer_clear(mem_t *mem, trailer_t *trailer) {
  mem_free(mem, trailer->arrays);
  *trailer = (trailer_t){0};
}
