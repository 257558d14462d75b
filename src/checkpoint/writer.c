/* Declarations: what a checkpoint will hold. Everything is remembered, nothing is touched on disk; commit.c
 * writes it. */
#include "checkpoint/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The concatenation of two strings. */
static sbag_code_t copy_text(mem_t *mem, const char *text, const char *tail, char **copy,
                             sbag_status_t *status) {
  void *block = NULL;
  size_t bytes = strlen(text) + strlen(tail) + 1;
  SBAG_TRY(mem_alloc(mem, bytes, "checkpoint: name", &block, status));
  snprintf(block, bytes, "%s%s", text, tail);
  *copy = block;
  return SBAG_OK;
}

sbag_code_t checkpoint_writer_create(comm_t *comm, mem_t *mem, const char *path, checkpoint_writer_t **writer,
                                     sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(checkpoint_writer_t), "checkpoint: writer", &block, status));
  checkpoint_writer_t *made = block;
  made->comm = comm;
  made->mem = mem;
  made->chunk_bytes = LAYOUT_CHUNK_BYTES;
  made->piece_bytes = LAYOUT_PIECE_BYTES;
  sbag_code_t code = copy_text(mem, path, "", &made->path, status);
  if (code == SBAG_OK) code = copy_text(mem, path, ".tmp", &made->temporary, status);
  if (code == SBAG_OK) code = checkpoint_add_int(made, "", LAYOUT_MARK, TRAILER_VERSION, status);
  if (code == SBAG_OK)
    *writer = made;
  else
    checkpoint_abort(&made);
  return code;
}

void checkpoint_abort(checkpoint_writer_t **writer) {
  if (writer == NULL || *writer == NULL) return;
  checkpoint_writer_t *w = *writer;
  *writer = NULL;
  mem_t *mem = w->mem;
  for (int64_t i = 0; i < w->count; i++) {
    mem_free(mem, w->items[i].name);
    mem_free(mem, w->items[i].key);
    mem_free(mem, w->items[i].text);
  }
  mem_free(mem, w->items);
  mem_free(mem, w->path);
  mem_free(mem, w->temporary);
  mem_free(mem, w);
}

void checkpoint_writer_set_chunk(checkpoint_writer_t *writer, int64_t bytes) {
  writer->chunk_bytes = bytes > 0 ? bytes : LAYOUT_CHUNK_BYTES;
}

void checkpoint_writer_set_piece(checkpoint_writer_t *writer, int64_t bytes) {
  writer->piece_bytes = bytes > 0 ? bytes : LAYOUT_PIECE_BYTES;
}

/* Appends an item with copies of the texts; key and text may be NULL. */
static sbag_code_t add_item(checkpoint_writer_t *w, layout_item_t item, const char *name, const char *key,
                            const char *text, sbag_status_t *status) {
  if (w->count == w->capacity) {
    void *block = w->items;
    int64_t capacity = w->capacity > 0 ? 2 * w->capacity : 32;
    SBAG_TRY(
        mem_realloc(w->mem, mem_array_bytes(capacity, sizeof item), "checkpoint: items", &block, status));
    w->items = block;
    w->capacity = capacity;
  }
  item.name = item.key = item.text = NULL;
  sbag_code_t code = copy_text(w->mem, name, "", &item.name, status);
  if (code == SBAG_OK && key != NULL) code = copy_text(w->mem, key, "", &item.key, status);
  if (code == SBAG_OK && text != NULL) code = copy_text(w->mem, text, "", &item.text, status);
  if (code == SBAG_OK) {
    w->items[w->count++] = item;
    return SBAG_OK;
  }
  mem_free(w->mem, item.name);
  mem_free(w->mem, item.key);
  return code;
}

/* Whether `name` is `path` or a group above it. */
static int leads_to(const char *name, const char *path) {
  size_t length = strlen(name);
  return strncmp(name, path, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static sbag_code_t add_dataset(checkpoint_writer_t *w, const layout_item_t *item, const char *name,
                               sbag_status_t *status) {
  SBAG_TRY(layout_check_name(name, status));
  for (int64_t i = 0; i < w->count; i++) {
    const char *other = w->items[i].name;
    if (w->items[i].key == NULL && (leads_to(name, other) || leads_to(other, name)))
      return status_set(
          status, SBAG_ERR_ARGUMENT,
          "checkpoint: '%s' and '%s' are both arrays; a name may not repeat or lead into another", name,
          other);
  }
  return add_item(w, *item, name, NULL, NULL, status);
}

sbag_code_t checkpoint_add_array(checkpoint_writer_t *writer, const char *name, checkpoint_type_t type,
                                 int rank, const int64_t *shape, checkpoint_fill_t fill, void *user,
                                 sbag_status_t *status) {
  return checkpoint_add_own_array(writer, name, type, rank, shape, fill, NULL, user, status);
}

sbag_code_t checkpoint_add_own_array(checkpoint_writer_t *writer, const char *name, checkpoint_type_t type,
                                     int rank, const int64_t *shape, checkpoint_fill_t fill,
                                     checkpoint_own_t own, void *user, sbag_status_t *status) {
  int64_t each = checkpoint_type_bytes(type);
  if (each == 0 || (rank != 1 && rank != 2))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint: '%s' has type %s and %d dimensions; it must have f32, f64, i64, i32 or u8 "
                      "and 1 or 2",
                      name, checkpoint_type_name(type), rank);
  layout_item_t item = {.kind = LAYOUT_ARRAY, .fill = fill, .own = own, .user = user};
  item.array = (checkpoint_array_t){type, rank, {shape[0], rank == 2 ? shape[1] : 1}};
  const int64_t *s = item.array.shape;
  if (s[0] < 0 || s[1] < 1 || s[1] > INT64_MAX / 4 / each || s[0] > INT64_MAX / 4 / (s[1] * each))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint: '%s' has shape [%" PRId64 "][%" PRId64
                      "]; rows must be 0 or more, columns 1 or more, and the bytes below 2^61",
                      name, s[0], s[1]);
  return add_dataset(writer, &item, name, status);
}

sbag_code_t checkpoint_add_blob(checkpoint_writer_t *writer, const char *name, const void *data,
                                int64_t bytes, sbag_status_t *status) {
  if (bytes < 0 || bytes > INT64_MAX / 4 || (bytes > 0 && data == NULL))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint: blob '%s' has %lld bytes at %s; it must be 0 or more at an address", name,
                      (long long)bytes, data == NULL ? "NULL" : "an address");
  layout_item_t item = {.kind = LAYOUT_BLOB, .data = data};
  item.array = (checkpoint_array_t){CHECKPOINT_U8, 1, {bytes, 1}};
  return add_dataset(writer, &item, name, status);
}

static sbag_code_t add_attribute(checkpoint_writer_t *w, const layout_item_t *item, const char *object,
                                 const char *key, const char *text, sbag_status_t *status) {
  if (object[0] != '\0') SBAG_TRY(layout_check_name(object, status));
  if (key[0] == '\0')
    return status_set(status, SBAG_ERR_ARGUMENT, "checkpoint: an attribute of '%s' has no name", object);
  for (int64_t i = 0; i < w->count; i++)
    if (w->items[i].key != NULL && strcmp(w->items[i].name, object) == 0 && strcmp(w->items[i].key, key) == 0)
      return status_set(status, SBAG_ERR_ARGUMENT, "checkpoint: attribute '%s' of '%s' was added already",
                        key, object);
  return add_item(w, *item, object, key, text, status);
}

sbag_code_t checkpoint_add_text(checkpoint_writer_t *writer, const char *object, const char *key,
                                const char *value, sbag_status_t *status) {
  if (strlen(value) > CHECKPOINT_TEXT_BYTES)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint: attribute '%s' of '%s' has %zu bytes; at most %d fit, use a blob", key,
                      object, strlen(value), CHECKPOINT_TEXT_BYTES);
  layout_item_t item = {.kind = LAYOUT_TEXT};
  return add_attribute(writer, &item, object, key, value, status);
}

sbag_code_t checkpoint_add_int(checkpoint_writer_t *writer, const char *object, const char *key,
                               int64_t value, sbag_status_t *status) {
  layout_item_t item = {.kind = LAYOUT_INT, .integer = value};
  return add_attribute(writer, &item, object, key, NULL, status);
}

sbag_code_t checkpoint_add_real(checkpoint_writer_t *writer, const char *object, const char *key,
                                double value, sbag_status_t *status) {
  layout_item_t item = {.kind = LAYOUT_REAL, .real = value};
  return add_attribute(writer, &item, object, key, NULL, status);
}
