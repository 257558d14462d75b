/* Collects what a checkpoint is to hold, and commits it: reserve, create, write, close, sync, rename. After
 * each step all ranks agree, so that an error on one ends the commit on all of them at the same place. */
#include "checkpoint/hdf5_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct checkpoint_writer {
  comm_t *comm;
  mem_t *mem;
  char *path, *temporary; /* the final name, and the name until all is written */
  layout_item_t *items;
  int64_t count, capacity, chunk_bytes;
};

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
  sbag_code_t code = copy_text(mem, path, "", &made->path, status);
  if (code == SBAG_OK) code = copy_text(mem, path, ".tmp", &made->temporary, status);
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
  int64_t each = checkpoint_type_bytes(type);
  if (each == 0 || (rank != 1 && rank != 2))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint: '%s' has type %s and %d dimensions; it must have f32, f64, i64, i32 or u8 "
                      "and 1 or 2",
                      name, checkpoint_type_name(type), rank);
  layout_item_t item = {.kind = LAYOUT_ARRAY, .fill = fill, .user = user};
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

/* FNV-1a. */
static uint64_t digest(uint64_t hash, const void *data, size_t bytes) {
  const unsigned char *at = data;
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
  return hash;
}

static uint64_t digest_item(uint64_t hash, const layout_item_t *item) {
  int64_t numbers[] = {item->kind,           item->array.type,     item->array.rank,
                       item->array.shape[0], item->array.shape[1], item->integer};
  if (item->kind == LAYOUT_BLOB) numbers[3] = 0; /* known to rank 0 alone */
  hash = digest(hash, numbers, sizeof numbers);
  hash = digest(hash, &item->real, sizeof item->real);
  hash = digest(hash, item->name, strlen(item->name) + 1);
  if (item->key != NULL) hash = digest(hash, item->key, strlen(item->key) + 1);
  if (item->text != NULL) hash = digest(hash, item->text, strlen(item->text) + 1);
  return hash;
}

/* All ranks must have declared the same: HDF5's collective calls would hang or write nonsense otherwise. */
static sbag_code_t agree_on_items(checkpoint_writer_t *w, sbag_status_t *status) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (int64_t i = 0; i < w->count; i++) hash = digest_item(hash, &w->items[i]);
  int64_t half = (int64_t)(hash >> 1), range[2] = {half, -half};
  SBAG_TRY(comm_allreduce(w->comm, range, 2, COMM_I64, COMM_MAX, "checkpoint: declarations", status));
  if (range[0] != -range[1])
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "checkpoint '%s': the ranks declared different arrays or attributes; they must be equal", w->path);
  for (int64_t i = 0; i < w->count; i++)
    if (w->items[i].kind == LAYOUT_BLOB)
      SBAG_TRY(comm_broadcast(w->comm, &w->items[i].array.shape[0], (int64_t)sizeof(int64_t), 0,
                              "checkpoint: blob sizes", status));
  return SBAG_OK;
}

/* Before HDF5 sees the file: is there room, and do all ranks see the same folder? */
static sbag_code_t prepare_file(checkpoint_writer_t *w, sbag_status_t *status) {
  int64_t bytes = hdf5_file_bound(w->items, w->count);
  sbag_code_t code = SBAG_OK;
  if (comm_rank(w->comm) == 0) code = hdf5_file_reserve(w->temporary, 1, bytes, status);
  SBAG_TRY(comm_agree(w->comm, code, status));
  if (access(w->temporary, R_OK | W_OK) != 0)
    code = status_set(status, SBAG_ERR_IO, "checkpoint '%s': rank 0 made it, but here: %s", w->temporary,
                      strerror(errno));
  return comm_agree(w->comm, code, status);
}

/* One array, chunk by chunk. Writing is independent of the other ranks, so one agreement a chunk covers both
 * the callback and the write. */
static sbag_code_t write_rows(checkpoint_writer_t *w, hdf5_file_t *file, int64_t index, void *chunk,
                              sbag_status_t *status) {
  const layout_item_t *item = &w->items[index];
  layout_walk_t walk = layout_walk(&item->array, w->chunk_bytes, comm_rank(w->comm), comm_size(w->comm));
  for (int64_t c = 0; c < walk.chunk_count; c++) {
    int64_t first = layout_chunk_first(&walk, c), rows = layout_chunk_rows(&walk, c);
    sbag_code_t code = item->fill(item->user, first, rows, chunk, status);
    if (code == SBAG_OK) code = hdf5_file_write(file, index, first, rows, chunk, status);
    SBAG_TRY(comm_agree(w->comm, code, status));
  }
  return SBAG_OK;
}

static sbag_code_t write_array(checkpoint_writer_t *w, hdf5_file_t *file, int64_t index,
                               sbag_status_t *status) {
  const checkpoint_array_t *array = &w->items[index].array;
  layout_walk_t walk = layout_walk(array, w->chunk_bytes, comm_rank(w->comm), comm_size(w->comm));
  void *chunk = NULL;
  size_t bytes = mem_array_bytes(walk.rows_per_chunk, (size_t)layout_row_bytes(array));
  sbag_code_t code = mem_alloc(w->mem, bytes, "checkpoint: chunk", &chunk, status);
  code = comm_agree(w->comm, code, status);
  if (code == SBAG_OK) code = write_rows(w, file, index, chunk, status);
  mem_free(w->mem, chunk);
  return code;
}

static sbag_code_t write_blob(checkpoint_writer_t *w, hdf5_file_t *file, int64_t index,
                              sbag_status_t *status) {
  const layout_item_t *item = &w->items[index];
  layout_walk_t walk = layout_walk(&item->array, w->chunk_bytes, 0, 1); /* slabs: rank 0 has all rows */
  sbag_code_t code = SBAG_OK;
  for (int64_t c = 0; c < walk.chunk_count && code == SBAG_OK && comm_rank(w->comm) == 0; c++) {
    int64_t first = layout_chunk_first(&walk, c), rows = layout_chunk_rows(&walk, c);
    code = hdf5_file_write(file, index, first, rows, (const char *)item->data + first, status);
  }
  return comm_agree(w->comm, code, status);
}

static sbag_code_t write_file(checkpoint_writer_t *w, sbag_status_t *status) {
  hdf5_file_t *file = NULL;
  SBAG_TRY(hdf5_file_create(w->comm, w->mem, w->temporary, w->items, w->count, &file, status));
  sbag_code_t code = SBAG_OK;
  for (int64_t i = 0; i < w->count && code == SBAG_OK; i++) {
    if (w->items[i].kind == LAYOUT_ARRAY) code = write_array(w, file, i, status);
    if (w->items[i].kind == LAYOUT_BLOB) code = write_blob(w, file, i, status);
  }
  if (code != SBAG_OK) { /* agreed: every rank is here */
    hdf5_file_close(&file, NULL);
    return code;
  }
  code = hdf5_file_close(&file, status);
  return comm_agree(w->comm, code, status);
}

/* A file or a folder. */
static sbag_code_t sync_path(const char *path, sbag_status_t *status) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  int failed = file < 0 || fsync(file) != 0, reason = errno;
  if (file >= 0) close(file);
  if (!failed) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be brought to disk: %s", path,
                    strerror(reason));
}

/* The rename itself must be on disk too, or a crash could undo it. */
static sbag_code_t sync_folder(checkpoint_writer_t *w, sbag_status_t *status) {
  char *folder = NULL;
  SBAG_TRY(copy_text(w->mem, w->path, "", &folder, status));
  char *slash = strrchr(folder, '/');
  if (slash == folder) slash++; /* the root */
  if (slash != NULL) *slash = '\0';
  sbag_code_t code = sync_path(slash != NULL ? folder : ".", status);
  mem_free(w->mem, folder);
  return code;
}

/* Every rank syncs, because every host has its own dirty pages; then the file gets its name. */
static sbag_code_t publish(checkpoint_writer_t *w, sbag_status_t *status) {
  SBAG_TRY(comm_agree(w->comm, sync_path(w->temporary, status), status));
  sbag_code_t code = SBAG_OK;
  if (comm_rank(w->comm) == 0) {
    if (rename(w->temporary, w->path) != 0)
      code = status_set(status, SBAG_ERR_IO, "checkpoint '%s': '%s' cannot be renamed to it: %s", w->path,
                        w->temporary, strerror(errno));
    else
      code = sync_folder(w, status);
  }
  return comm_agree(w->comm, code, status);
}

sbag_code_t checkpoint_commit(checkpoint_writer_t **writer, sbag_status_t *status) {
  checkpoint_writer_t *w = *writer;
  sbag_code_t code = agree_on_items(w, status);
  if (code == SBAG_OK) {
    code = prepare_file(w, status);
    if (code == SBAG_OK) code = write_file(w, status);
    if (code == SBAG_OK) code = publish(w, status);
    /* Nothing is left under that name unless something went wrong; then the caller's message counts. */
    if (code != SBAG_OK && comm_rank(w->comm) == 0) unlink(w->temporary);
  }
  checkpoint_abort(writer);
  return code;
}
