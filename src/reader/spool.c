/* Files without a name: made by mkostemp and unlinked at once, which every file system can do. */
#include "reader/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static sbag_code_t failed(const spool_t *spool, const char *what, const char *why, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_IO, "%s: a temporary file beside it cannot be %s: %s", spool->beside,
                    what, why);
}

sbag_code_t reader_spool_open(const char *beside, spool_t *spool, sbag_status_t *status) {
  char path[PATH_BYTES];
  *spool = (spool_t){.file = -1, .beside = beside};
  if (snprintf(path, sizeof path, "%s.XXXXXX", beside) >= (int)sizeof path)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.64s...: the path is longer than %d characters", beside,
                      PATH_BYTES - 8);
  spool->file = mkostemp(path, O_CLOEXEC);
  if (spool->file < 0) return failed(spool, "made", strerror(errno), status);
  if (unlink(path) == 0) return SBAG_OK;
  sbag_code_t code = failed(spool, "unlinked", strerror(errno), status);
  reader_spool_close(spool);
  return code;
}

void reader_spool_close(spool_t *spool) {
  if (spool->file >= 0) close(spool->file); /* nobody reads it any more: an error says nothing */
  spool->file = -1;
}

sbag_code_t reader_spool_append(spool_t *spool, const void *data, int64_t bytes, sbag_status_t *status) {
  for (int64_t done = 0; done < bytes;) {
    ssize_t put = pwrite(spool->file, (const char *)data + done, (size_t)(bytes - done), (off_t)spool->bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return failed(spool, "written", put < 0 ? strerror(errno) : "nothing was taken", status);
    done += put;
    spool->bytes += put;
  }
  return SBAG_OK;
}

sbag_code_t reader_spool_read(const spool_t *spool, int64_t offset, int64_t bytes, void *out,
                              sbag_status_t *status) {
  for (int64_t done = 0; done < bytes;) {
    ssize_t got = pread(spool->file, (char *)out + done, (size_t)(bytes - done), (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed(spool, "read", got < 0 ? strerror(errno) : "it is too short", status);
    done += got;
  }
  return SBAG_OK;
}
