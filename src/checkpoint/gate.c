/* The gate: see gate.h. */
#include "checkpoint/gate.h"

#include "checkpoint/disk.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 << 10 };

/* Adds bytes [from, to) of the file. */
static sbag_code_t add_range(checksum_stream_t *stream, int file, const char *path, int64_t from, int64_t to,
                             void *buffer, sbag_status_t *status) {
  while (from < to) {
    int64_t bytes = to - from < BUFFER_BYTES ? to - from : BUFFER_BYTES;
    SBAG_TRY(disk_read(file, path, from, bytes, buffer, status));
    checksum_stream_add(stream, buffer, (size_t)bytes);
    from += bytes;
  }
  return SBAG_OK;
}

static sbag_code_t add_rest(checksum_stream_t *stream, int file, const char *path, const trailer_t *trailer,
                            int64_t end, void *buffer, sbag_status_t *status) {
  int64_t at = 0;
  for (int64_t i = 0; i < trailer->count; i++) {
    const trailer_array_t *array = &trailer->arrays[i];
    if (array->rows == 0) continue;
    SBAG_TRY(add_range(stream, file, path, at, array->offset, buffer, status));
    at = array->offset + array->rows * array->row_bytes;
  }
  return add_range(stream, file, path, at, end, buffer, status);
}

sbag_code_t gate_digest(mem_t *mem, int file, const char *path, const trailer_t *trailer, int64_t end,
                        checksum_digest_t *digest, sbag_status_t *status) {
  void *buffer = NULL;
  checksum_stream_t *stream = NULL;
  sbag_code_t code = mem_alloc(mem, BUFFER_BYTES, "checkpoint: digest", &buffer, status);
  if (code == SBAG_OK) code = checksum_stream_create(mem, &stream, status);
  if (code == SBAG_OK) code = add_rest(stream, file, path, trailer, end, buffer, status);
  if (code == SBAG_OK) *digest = checksum_stream_end(stream);
  checksum_stream_destroy(&stream);
  mem_free(mem, buffer);
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
                                void *list, sbag_status_t *status) {
  trailer_t trailer = {0};
  checksum_digest_t digest = {0};
  SBAG_TRY(trailer_decode(mem, footer, list, path, &trailer, status));
  sbag_code_t code = gate_digest(mem, file, path, &trailer, footer->list_offset, &digest, status);
  if (code == SBAG_OK && (digest.low != trailer.digest.low || digest.high != trailer.digest.high))
    code = status_set(
        status, SBAG_ERR_FORMAT,
        "checkpoint '%s': names, shapes or attributes do not match their checksum: it is damaged", path);
  trailer_clear(mem, &trailer);
  return code;
}

sbag_code_t gate_pass(mem_t *mem, int file, const char *path, int64_t bytes, const void *footer, void **list,
                      sbag_status_t *status) {
  trailer_footer_t found;
  SBAG_TRY(trailer_decode_footer(footer, bytes, path, &found, status));
  void *block = NULL;
  SBAG_TRY(mem_alloc(mem, (size_t)found.list_bytes, "checkpoint: list of pieces", &block, status));
  sbag_code_t code = disk_read(file, path, found.list_offset, found.list_bytes, block, status);
  if (code == SBAG_OK) code = check_digest(mem, file, path, &found, block, status);
  if (code == SBAG_OK)
    *list = block;
  else
    mem_free(mem, block);
  return code;
}
