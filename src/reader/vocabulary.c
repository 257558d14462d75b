/* Tokens and their rows: an open-addressing table of indices over one arena of token bytes. */
#include "reader/vocabulary.h"
#include "base/sort.h"
#include "reader/grow.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 40 };
static const char MAGIC[] = "SBVOCAB1";

typedef struct entry {
  int64_t begin, length, seen, index;
  uint64_t hash;
} entry_t;

struct vocabulary {
  mem_t *mem;
  char *text;
  int64_t text_bytes, text_capacity;
  entry_t *entries;
  int64_t count, capacity;
  int64_t *slots; /* index + 1, 0 = free; slot_count is a power of two, at most half full */
  int64_t slot_count;
};

sbag_code_t reader_vocabulary_create(mem_t *mem, vocabulary_t **vocabulary, sbag_status_t *status) {
  vocabulary_t *made = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof *made, "reader: vocabulary", (void **)&made, status));
  made->mem = mem;
  made->slot_count = 64;
  sbag_code_t code = mem_calloc(mem, mem_array_bytes(made->slot_count, sizeof *made->slots),
                                "reader: vocabulary", (void **)&made->slots, status);
  if (code != SBAG_OK)
    reader_vocabulary_destroy(&made);
  else
    *vocabulary = made;
  return code;
}

void reader_vocabulary_destroy(vocabulary_t **vocabulary) {
  vocabulary_t *v = *vocabulary;
  if (v == NULL) return;
  mem_free(v->mem, v->text);
  mem_free(v->mem, v->entries);
  mem_free(v->mem, v->slots);
  mem_free(v->mem, v);
  *vocabulary = NULL;
}

/* The slot that holds the token, or the free one where it would go. */
static int64_t slot_of(const vocabulary_t *v, text_t token, uint64_t hash) {
  int64_t mask = v->slot_count - 1;
  for (int64_t slot = (int64_t)(hash & (uint64_t)mask);; slot = (slot + 1) & mask) {
    if (v->slots[slot] == 0) return slot;
    const entry_t *entry = &v->entries[v->slots[slot] - 1];
    if (entry->hash == hash && entry->length == token.length &&
        (token.length == 0 || memcmp(v->text + entry->begin, token.bytes, (size_t)token.length) == 0))
      return slot;
  }
}

static sbag_code_t grow_slots(vocabulary_t *v, sbag_status_t *status) {
  int64_t *slots = NULL, count = 2 * v->slot_count;
  SBAG_TRY(mem_calloc(v->mem, mem_array_bytes(count, sizeof *slots), "reader: vocabulary", (void **)&slots,
                      status));
  mem_free(v->mem, v->slots);
  v->slots = slots;
  v->slot_count = count;
  for (int64_t i = 0; i < v->count; i++) {
    int64_t slot = (int64_t)(v->entries[i].hash & (uint64_t)(count - 1));
    while (slots[slot] != 0) slot = (slot + 1) & (count - 1);
    slots[slot] = i + 1;
  }
  return SBAG_OK;
}

sbag_code_t reader_vocabulary_add(vocabulary_t *v, text_t token, int64_t *index, sbag_status_t *status) {
  uint64_t hash = reader_text_hash(0, token);
  int64_t slot = slot_of(v, token, hash);
  if (v->slots[slot] == 0) {
    if (2 * (v->count + 1) > v->slot_count) {
      SBAG_TRY(grow_slots(v, status));
      slot = slot_of(v, token, hash);
    }
    SBAG_TRY(reader_grow_to(v->mem, (void **)&v->entries, &v->capacity, v->count + 1, sizeof *v->entries,
                            "reader: vocabulary", status));
    SBAG_TRY(reader_grow_to(v->mem, (void **)&v->text, &v->text_capacity, v->text_bytes + token.length, 1,
                            "reader: vocabulary", status));
    if (token.length > 0) memcpy(v->text + v->text_bytes, token.bytes, (size_t)token.length);
    v->entries[v->count] = (entry_t){v->text_bytes, token.length, 0, v->count, hash};
    v->text_bytes += token.length;
    v->slots[slot] = ++v->count;
  }
  *index = v->slots[slot] - 1;
  v->entries[*index].seen++;
  return SBAG_OK;
}

int64_t reader_vocabulary_find(const vocabulary_t *v, text_t token) {
  return v->slots[slot_of(v, token, reader_text_hash(0, token))] - 1;
}

int64_t reader_vocabulary_count(const vocabulary_t *v) {
  return v->count;
}

text_t reader_vocabulary_token(const vocabulary_t *v, int64_t index) {
  return (text_t){v->text + v->entries[index].begin, v->entries[index].length};
}

static int by_frequency(const void *a, const void *b) {
  const entry_t *x = a, *y = b;
  if (x->seen != y->seen) return x->seen > y->seen ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

sbag_code_t reader_vocabulary_select(const vocabulary_t *all, int64_t min_count, int64_t limit, mem_t *mem,
                                     vocabulary_t **selected, sbag_status_t *status) {
  entry_t *order = NULL;
  vocabulary_t *made = NULL;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(all->count, sizeof *order), "reader: vocabulary", (void **)&order,
                     status));
  if (all->count > 0) memcpy(order, all->entries, (size_t)all->count * sizeof *order);
  sort_items(order, all->count, sizeof *order, by_frequency);
  sbag_code_t code = reader_vocabulary_create(mem, &made, status);
  for (int64_t i = 0; code == SBAG_OK && i < all->count && order[i].seen >= min_count; i++) {
    if (limit >= 0 && i >= limit) break;
    int64_t index;
    code = reader_vocabulary_add(made, reader_vocabulary_token(all, order[i].index), &index, status);
  }
  mem_free(mem, order);
  if (code != SBAG_OK)
    reader_vocabulary_destroy(&made);
  else
    *selected = made;
  return code;
}

sbag_code_t reader_vocabulary_save(const vocabulary_t *v, const char *name, int64_t min_count,
                                   int64_t rows_max, blobs_t *blobs, mem_t *mem, sbag_status_t *status) {
  unsigned char *data = NULL;
  int64_t ends_bytes = 8 * v->count;
  SBAG_TRY(reader_blobs_add(blobs, mem, "vocabulary", name, HEADER_BYTES + ends_bytes + v->text_bytes, &data,
                            status));
  memcpy(data, MAGIC, 8);
  reader_blob_put_u64(data + 8, (uint64_t)min_count);
  reader_blob_put_u64(data + 16, (uint64_t)rows_max);
  reader_blob_put_u64(data + 24, (uint64_t)v->count);
  reader_blob_put_u64(data + 32, (uint64_t)v->text_bytes);
  for (int64_t i = 0; i < v->count; i++)
    reader_blob_put_u64(data + HEADER_BYTES + 8 * i, (uint64_t)(v->entries[i].begin + v->entries[i].length));
  if (v->text_bytes > 0) memcpy(data + HEADER_BYTES + ends_bytes, v->text, (size_t)v->text_bytes);
  return SBAG_OK;
}

static sbag_code_t damaged(const char *name, const char *what, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_FORMAT, "the saved vocabulary '%s' is damaged: %s", name, what);
}

/* No length of the blob is believed before it has been held against the blob's own size. */
static sbag_code_t check_header(const reader_blob_t *blob, const char *name, int64_t min_count,
                                int64_t rows_max, int64_t *count, int64_t *text_bytes,
                                sbag_status_t *status) {
  const unsigned char *data = blob->data;
  if (blob->bytes < HEADER_BYTES || memcmp(data, MAGIC, 8) != 0)
    return damaged(name, "it does not begin with SBVOCAB1", status);
  int64_t saved_min = (int64_t)reader_blob_get_u64(data + 8),
          saved_rows = (int64_t)reader_blob_get_u64(data + 16);
  if (saved_min != min_count || saved_rows != rows_max)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the saved vocabulary '%s' was fitted with min_count %lld and rows %lld, the "
                      "configuration says %lld and %lld",
                      name, (long long)saved_min, (long long)saved_rows, (long long)min_count,
                      (long long)rows_max);
  uint64_t body = (uint64_t)(blob->bytes - HEADER_BYTES);
  uint64_t tokens = reader_blob_get_u64(data + 24), text = reader_blob_get_u64(data + 32);
  if (tokens > body / 8 || text != body - 8 * tokens)
    return damaged(name, "its lengths do not add up to its size", status);
  *count = (int64_t)tokens;
  *text_bytes = (int64_t)text;
  return SBAG_OK;
}

static sbag_code_t load_tokens(vocabulary_t *v, const unsigned char *ends, int64_t count, int64_t text_bytes,
                               const char *name, sbag_status_t *status) {
  const char *text = (const char *)ends + 8 * count;
  int64_t begin = 0;
  for (int64_t i = 0; i < count; i++) {
    uint64_t end = reader_blob_get_u64(ends + 8 * i);
    if (end < (uint64_t)begin || end > (uint64_t)text_bytes)
      return damaged(name, "a token's end lies outside of the text", status);
    int64_t index;
    SBAG_TRY(reader_vocabulary_add(v, (text_t){text + begin, (int64_t)end - begin}, &index, status));
    if (index != i) return damaged(name, "a token appears twice", status);
    begin = (int64_t)end;
  }
  if (begin != text_bytes) return damaged(name, "bytes are left over after its last token", status);
  return SBAG_OK;
}

sbag_code_t reader_vocabulary_load(const blobs_t *blobs, const char *name, int64_t min_count,
                                   int64_t rows_max, mem_t *mem, vocabulary_t **vocabulary,
                                   sbag_status_t *status) {
  const reader_blob_t *blob = NULL;
  vocabulary_t *made = NULL;
  int64_t count = 0, text_bytes = 0;
  SBAG_TRY(reader_blobs_find(blobs, "vocabulary", name, &blob, status));
  SBAG_TRY(check_header(blob, name, min_count, rows_max, &count, &text_bytes, status));
  if (rows_max > 0 && count > rows_max - 1) return damaged(name, "it has more tokens than its rows", status);
  SBAG_TRY(reader_vocabulary_create(mem, &made, status));
  sbag_code_t code =
      load_tokens(made, (const unsigned char *)blob->data + HEADER_BYTES, count, text_bytes, name, status);
  if (code != SBAG_OK)
    reader_vocabulary_destroy(&made);
  else
    *vocabulary = made;
  return code;
}
