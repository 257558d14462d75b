/* The gate: see gate.h. */
#include "checkpoint/gate.h"

#include "checkpoint/disk.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 << 10 };

enum { BLOCK_BYTES = 4096 };

typedef struct digesting {
  checksum_stream_t *stream;
  void *buffer;
  int file, copy;
  const char *path;
} digesting_t;

/* What is zero stays a hole: in front of large arrays there may be much of it. */
static sbag_code_t copy_bytes(const digesting_t *d, int64_t at, int64_t bytes, sbag_status_t *status) {
  static const char zeros[BLOCK_BYTES];
  for (int64_t done = 0; d->copy >= 0 && done < bytes; done += BLOCK_BYTES) {
    int64_t count = bytes - done < BLOCK_BYTES ? bytes - done : BLOCK_BYTES;
    const char *from = (const char *)d->buffer + done;
    if (memcmp(from, zeros, (size_t)count) != 0)
      SBAG_TRY(disk_write(d->copy, d->path, at + done, count, from, status));
  }
  return SBAG_OK;
}

/* Adds bytes [from, to) of the file. */
static sbag_code_t add_range(const digesting_t *d, int64_t from, int64_t to, sbag_status_t *status) {
  while (from < to) {
    int64_t bytes = to - from < BUFFER_BYTES ? to - from : BUFFER_BYTES;
    SBAG_TRY(disk_read(d->file, d->path, from, bytes, d->buffer, status));
    checksum_stream_add(d->stream, d->buffer, (size_t)bytes);
    SBAG_TRY(copy_bytes(d, from, bytes, status));
    from += bytes;
  }
  return SBAG_OK;
}

static sbag_code_t add_rest(const digesting_t *d, const trailer_t *trailer, int64_t end,
                            sbag_status_t *status) {
  int64_t at = 0;
  for (int64_t i = 0; i < trailer->count; i++) {
    const trailer_array_t *array = &trailer->arrays[i];
    if (array->rows == 0) continue;
    SBAG_TRY(add_range(d, at, array->offset, status));
    at = array->offset + array->rows * array->row_bytes;
  }
  return add_range(d, at, end, status);
}

sbag_code_t gate_digest(mem_t *mem, int file, const char *path, const trailer_t *trailer, int64_t end,
                        int copy, checksum_digest_t *digest, sbag_status_t *status) {
  digesting_t d = {.file = file, .copy = copy, .path = path};
  sbag_code_t code = mem_alloc(mem, BUFFER_BYTES, "checkpoint: digest", &d.buffer, status);
  if (code == SBAG_OK) code = checksum_stream_create(mem, &d.stream, status);
  if (code == SBAG_OK) code = add_rest(&d, trailer, end, status);
  if (code == SBAG_OK) *digest = checksum_stream_end(d.stream);
  checksum_stream_destroy(&d.stream);
  mem_free(mem, d.buffer);
  return code;
}

/* A pipe must not make the open wait. */
sbag_code_t gate_open(const char *path, int *file, int64_t *bytes, sbag_status_t *status) {
  int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (opened < 0)
    return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be read: %s", path, strerror(errno));
  struct stat about;
  sbag_code_t code = SBAG_OK;
  if (fstat(opened, &about) != 0)
    code = status_set(status, SBAG_ERR_IO, "checkpoint '%s': its size: %s", path, strerror(errno));
  else if (!S_ISREG(about.st_mode))
    code = status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': is no file", path);
  if (code != SBAG_OK) {
    close(opened);
    return code;
  }
  *file = opened;
  *bytes = (int64_t)about.st_size;
  return SBAG_OK;
}

sbag_code_t gate_footer(int file, const char *path, int64_t bytes, void *footer, int *ours,
                        sbag_status_t *status) {
  *ours = 0;
  memset(footer, 0, TRAILER_FOOTER_BYTES);
  if (bytes < TRAILER_FOOTER_BYTES) return SBAG_OK;
  SBAG_TRY(disk_read(file, path, bytes - TRAILER_FOOTER_BYTES, TRAILER_FOOTER_BYTES, footer, status));
  *ours = trailer_is_footer(footer);
  return SBAG_OK;
}

sbag_code_t gate_no_footer(int file, const char *path, int64_t bytes, sbag_status_t *status) {
  static const char hdf5[8] = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  char first[8] = {0};
  if (bytes >= (int64_t)sizeof first) SBAG_TRY(disk_read(file, path, 0, sizeof first, first, status));
  if (memcmp(first, hdf5, sizeof first) == 0)
    return status_set(status, SBAG_ERR_FORMAT,
                      "checkpoint '%s': is HDF5 without shardbag's trailer: cut short, or written or changed "
                      "by another program",
                      path);
  return status_set(status, SBAG_ERR_FORMAT,
                    "checkpoint '%s': is no checkpoint: %lld bytes without its marks", path,
                    (long long)bytes);
}

static sbag_code_t check_digest(mem_t *mem, int file, const char *path, const trailer_footer_t *footer,
                                void *list, int copy, sbag_status_t *status) {
  trailer_t trailer = {0};
  checksum_digest_t digest = {0};
  SBAG_TRY(trailer_decode(mem, footer, list, path, &trailer, status));
  sbag_code_t code = gate_digest(mem, file, path, &trailer, footer->list_offset, copy, &digest, status);
  if (code == SBAG_OK && (digest.low != trailer.digest.low || digest.high != trailer.digest.high))
    code = status_set(
        status, SBAG_ERR_FORMAT,
        "checkpoint '%s': names, shapes or attributes do not match their checksum: it is damaged", path);
  trailer_clear(mem, &trailer);
  return code;
}

/* A file in memory, as long as HDF5 believes its file to be. */
static sbag_code_t make_copy(const char *path, int64_t bytes, int *copy, sbag_status_t *status) {
  *copy = memfd_create("shardbag-checkpoint", MFD_CLOEXEC);
  if (*copy >= 0 && ftruncate(*copy, (off_t)bytes) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "checkpoint '%s': no file in memory: %s", path, strerror(errno));
}

sbag_code_t gate_pass(mem_t *mem, int file, const char *path, int64_t bytes, const void *footer, void **list,
                      int *copy, sbag_status_t *status) {
  trailer_footer_t found;
  SBAG_TRY(trailer_decode_footer(footer, bytes, path, &found, status));
  void *block = NULL;
  int made = -1;
  SBAG_TRY(mem_alloc(mem, (size_t)found.list_bytes, "checkpoint: list of pieces", &block, status));
  sbag_code_t code = disk_read(file, path, found.list_offset, found.list_bytes, block, status);
  if (code == SBAG_OK) code = make_copy(path, found.list_offset, &made, status);
  if (code == SBAG_OK) code = check_digest(mem, file, path, &found, block, made, status);
  if (code == SBAG_OK) {
    *list = block;
    *copy = made;
    return SBAG_OK;
  }
  (void)disk_close(&made, path, NULL);
  mem_free(mem, block);
  return code;
}
