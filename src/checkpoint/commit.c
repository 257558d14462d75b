/* Writes what was declared. Rank 0 makes the HDF5 part in memory and copies it, then every rank writes its
 * rows at their offsets and takes their checksums (commit_rows.c, commit_write.c), then rank 0 adds the
 * trailer and gives the file its name. The space is reserved before the first row, and every step is agreed
 * on, so that an error on one rank ends the commit on all. The bytes of the file do not depend on the number
 * of ranks. */
#include "checkpoint/commit.h"

#include "base/sort.h"
#include "checkpoint/disk.h"
#include "checkpoint/gate.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* All ranks must have declared the same, or they would write nonsense into each other's rows. */
static sbag_code_t agree_on_items(checkpoint_writer_t *w, sbag_status_t *status) {
  const int64_t sizes[2] = {w->chunk_bytes, w->piece_bytes};
  uint64_t hash = digest(UINT64_C(0xcbf29ce484222325), sizes, sizeof sizes);
  for (int64_t i = 0; i < w->count; i++) hash = digest_item(hash, &w->items[i]);
  int64_t *range = w->range;
  range[0] = (int64_t)(hash >> 1);
  range[1] = -range[0];
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

/* ---- the empty file ---- */

/* Reserves bytes on disk, so that later writes cannot meet a full one. */
static sbag_code_t reserve(int file, const char *path, int64_t bytes, sbag_status_t *status) {
  int reason = posix_fallocate(file, 0, (off_t)bytes);
  if (reason == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "checkpoint '%s': %lld bytes cannot be reserved: %s", path,
                    (long long)bytes, strerror(reason));
}

static sbag_code_t open_temporary(commit_t *c, sbag_status_t *status) {
  int root = comm_rank(c->w->comm) == 0;
  c->file = open(c->w->temporary, O_RDWR | O_CLOEXEC | (root ? O_CREAT | O_TRUNC : 0), 0666);
  c->made = root && c->file >= 0;
  if (c->file >= 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "checkpoint '%s': %s: %s", c->w->temporary,
                    root ? "cannot be created" : "rank 0 made it, but here", strerror(errno));
}

/* Copies what HDF5 wrote; the holes that it left for the rows stay as they are. */
static sbag_code_t copy_hdf5(commit_t *c, int from, sbag_status_t *status) {
  enum { BUFFER_BYTES = 64 << 10 };
  const char *path = c->w->temporary;
  void *buffer = NULL;
  SBAG_TRY(mem_alloc(c->w->mem, BUFFER_BYTES, "checkpoint: head", &buffer, status));
  sbag_code_t code = SBAG_OK;
  off_t at = 0, end = 0;
  while (code == SBAG_OK && (at = lseek(from, end, SEEK_DATA)) >= 0) {
    end = lseek(from, at, SEEK_HOLE);
    while (code == SBAG_OK && at < end) {
      int64_t bytes = end - at < BUFFER_BYTES ? end - at : BUFFER_BYTES;
      code = disk_read(from, path, at, bytes, buffer, status);
      if (code == SBAG_OK) code = disk_write(c->file, path, at, bytes, buffer, status);
      at += bytes;
    }
  }
  if (code == SBAG_OK && errno != ENXIO) /* which says that only a hole is left */
    code = status_set(status, SBAG_ERR_IO, "checkpoint '%s': what HDF5 wrote cannot be found: %s", path,
                      strerror(errno));
  mem_free(c->w->mem, buffer);
  return code;
}

/* Rank 0. The whole length, trailer included, is reserved before the first byte is written. */
static sbag_code_t make_file(commit_t *c, sbag_status_t *status) {
  checkpoint_writer_t *w = c->w;
  int made = -1;
  SBAG_TRY(hdf5_make(w->temporary, w->items, w->count, &c->place, &made, status));
  sbag_code_t code = open_temporary(c, status);
  if (code == SBAG_OK)
    code = reserve(c->file, w->temporary, trailer_list_offset(c->place.bytes) + trailer_bytes(&c->trailer),
                   status);
  if (code == SBAG_OK) code = copy_hdf5(c, made, status);
  (void)disk_close(&made, w->temporary, NULL); /* memory */
  return code;
}

/* The trailer's arrays, still without checksums. */
static sbag_code_t list_arrays(commit_t *c, sbag_status_t *status) {
  checkpoint_writer_t *w = c->w;
  void *block = NULL;
  SBAG_TRY(mem_calloc(w->mem, mem_array_bytes(w->count, sizeof *c->trailer.arrays), "checkpoint: pieces",
                      &block, status));
  c->trailer.arrays = block;
  for (int64_t i = 0; i < w->count; i++) {
    const checkpoint_array_t *array = &w->items[i].array;
    if (w->items[i].key != NULL) continue;
    trailer_array_t *made = &c->trailer.arrays[c->trailer.count++];
    *made = (trailer_array_t){.name = w->items[i].name,
                              .rows = array->shape[0],
                              .row_bytes = layout_row_bytes(array),
                              .piece_rows = layout_piece_rows(array, w->piece_bytes)};
    c->sum_count += trailer_piece_count(made);
  }
  SBAG_TRY(mem_calloc(w->mem, mem_array_bytes(c->sum_count, sizeof *c->sums), "checkpoint: checksums", &block,
                      status));
  c->sums = block;
  int64_t next = 0;
  for (int64_t i = 0; i < c->trailer.count; i++) {
    c->trailer.arrays[i].sums = (uint64_t *)&c->sums[next];
    next += trailer_piece_count(&c->trailer.arrays[i]);
  }
  SBAG_TRY(
      mem_calloc(w->mem, mem_array_bytes(w->count, sizeof(int64_t)), "checkpoint: offsets", &block, status));
  c->place.offsets = block;
  return SBAG_OK;
}

/* All ranks know the offsets and have the file open. */
static sbag_code_t prepare(commit_t *c, sbag_status_t *status) {
  checkpoint_writer_t *w = c->w;
  int root = comm_rank(w->comm) == 0;
  SBAG_TRY(comm_agree(w->comm, list_arrays(c, status), status));
  SBAG_TRY(comm_agree(w->comm, root ? make_file(c, status) : SBAG_OK, status));
  SBAG_TRY(comm_broadcast(w->comm, c->place.offsets, w->count * (int64_t)sizeof(int64_t), 0,
                          "checkpoint: offsets", status));
  for (int64_t i = 0, next = 0; i < w->count; i++)
    if (w->items[i].key == NULL) c->trailer.arrays[next++].offset = c->place.offsets[i];
  sbag_code_t code = root ? SBAG_OK : open_temporary(c, status);
  if (code == SBAG_OK) code = commit_open_direct(c, status);
  return comm_agree(w->comm, code, status);
}

/* ---- the end ---- */

static int by_offset(const void *a, const void *b) {
  int64_t left = ((const trailer_array_t *)a)->offset, right = ((const trailer_array_t *)b)->offset;
  return left < right ? -1 : left > right;
}

/* Rank 0: the digest of what HDF5 wrote, and the trailer. Only it reads what it has written itself. */
static sbag_code_t write_trailer(commit_t *c, sbag_status_t *status) {
  checkpoint_writer_t *w = c->w;
  trailer_t *trailer = &c->trailer;
  int64_t at = trailer_list_offset(c->place.bytes), bytes = trailer_bytes(trailer);
  void *block = NULL;
  sort_items(trailer->arrays, trailer->count, sizeof *trailer->arrays, by_offset);
  SBAG_TRY(gate_digest(w->mem, c->file, w->temporary, trailer, at, -1, &trailer->digest, status));
  SBAG_TRY(mem_alloc(w->mem, (size_t)bytes, "checkpoint: trailer", &block, status));
  trailer_encode(trailer, at, block);
  sbag_code_t code = disk_write(c->file, w->temporary, at, bytes, block, status);
  mem_free(w->mem, block);
  return code == SBAG_OK ? disk_sync(c->file, w->temporary, status) : code;
}

/* Every rank brings its own rows to disk, because every host has its own dirty pages. */
static sbag_code_t finish(commit_t *c, sbag_status_t *status) {
  checkpoint_writer_t *w = c->w;
  SBAG_TRY(comm_agree(w->comm, disk_sync(c->file, w->temporary, status), status));
  SBAG_TRY(
      comm_allreduce(w->comm, c->sums, c->sum_count, COMM_I64, COMM_SUM, "checkpoint: checksums", status));
  sbag_code_t code = disk_close(&c->direct.file, w->temporary, status);
  if (code == SBAG_OK && comm_rank(w->comm) == 0) code = write_trailer(c, status);
  if (code == SBAG_OK) code = disk_close(&c->file, w->temporary, status);
  return comm_agree(w->comm, code, status);
}

/* The rename itself must be on disk too, or a crash could undo it. */
static sbag_code_t sync_folder(checkpoint_writer_t *w, sbag_status_t *status) {
  const char *slash = strrchr(w->path, '/');
  void *block = NULL;
  size_t bytes = slash == NULL ? 0 : slash == w->path ? 1 : (size_t)(slash - w->path);
  SBAG_TRY(mem_calloc(w->mem, bytes + 2, "checkpoint: folder", &block, status));
  memcpy(block, bytes > 0 ? w->path : ".", bytes > 0 ? bytes : 1);
  int folder = open(block, O_RDONLY | O_CLOEXEC);
  sbag_code_t code = SBAG_OK;
  if (folder < 0)
    code = status_set(status, SBAG_ERR_IO, "checkpoint '%s': its folder cannot be opened: %s", w->path,
                      strerror(errno));
  if (code == SBAG_OK) {
    code = disk_sync(folder, block, status);
    if (code != SBAG_OK) (void)status_prefix(status, "checkpoint '%s': its folder", w->path);
  }
  (void)disk_close(&folder, block, NULL); /* nothing was written by it */
  mem_free(w->mem, block);
  return code;
}

static sbag_code_t publish(checkpoint_writer_t *w, sbag_status_t *status) {
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

static sbag_code_t run(commit_t *c, sbag_status_t *status) {
  SBAG_TRY(agree_on_items(c->w, status));
  SBAG_TRY(prepare(c, status));
  SBAG_TRY(commit_rows(c, status));
  SBAG_TRY(finish(c, status));
  return publish(c->w, status);
}

sbag_code_t checkpoint_commit(checkpoint_writer_t **writer, sbag_status_t *status) {
  checkpoint_writer_t *w = *writer;
  commit_t c = {.w = w, .file = -1, .direct = {.file = -1}};
  sbag_code_t code = run(&c, status);
  (void)disk_close(&c.direct.file, w->temporary, NULL);
  (void)disk_close(&c.file, w->temporary, NULL);
  if (code != SBAG_OK && c.made) unlink(w->temporary); /* the caller's message counts, not this one's */
  if (comm_check(w->comm, NULL) == SBAG_OK) {
    mem_free(w->mem, c.trailer.arrays);
    mem_free(w->mem, c.sums);
    mem_free(w->mem, c.place.offsets);
    mem_free(w->mem, c.sources);
    mem_free(w->mem, c.chunk);
    mem_free(w->mem, c.bounce);
    checkpoint_abort(writer);
  }
  *writer = NULL; /* a broken comm may still write into what it was given: that is left */
  return code;
}
