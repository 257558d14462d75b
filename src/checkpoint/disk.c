/* Reads and writes at an offset: see disk.h. */
#include "checkpoint/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Linux moves at most 2^31 - 4096 bytes a call. */
static const int64_t call_bytes_max = (int64_t)1 << 30;

sbag_code_t disk_read(int file, const char *path, int64_t offset, int64_t bytes, void *data,
                      sbag_status_t *status) {
  for (int64_t done = 0; done < bytes;) {
    int64_t left = bytes - done, wanted = left < call_bytes_max ? left : call_bytes_max;
    ssize_t got = pread(file, (char *)data + done, (size_t)wanted, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return status_set(status, SBAG_ERR_IO, "checkpoint '%s': byte %lld cannot be read: %s", path,
                        (long long)(offset + done), strerror(errno));
    if (got == 0)
      return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': ends at byte %lld, where %lld more belong",
                        path, (long long)(offset + done), (long long)left);
    done += got;
  }
  return SBAG_OK;
}

sbag_code_t disk_write(int file, const char *path, int64_t offset, int64_t bytes, const void *data,
                       sbag_status_t *status) {
  for (int64_t done = 0; done < bytes;) {
    int64_t left = bytes - done, wanted = left < call_bytes_max ? left : call_bytes_max;
    ssize_t put = pwrite(file, (const char *)data + done, (size_t)wanted, (off_t)(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0)
      return status_set(status, SBAG_ERR_IO, "checkpoint '%s': byte %lld cannot be written: %s", path,
                        (long long)(offset + done), put < 0 ? strerror(errno) : "nothing was taken");
    done += put;
  }
  return SBAG_OK;
}

sbag_code_t disk_sync(int file, const char *path, sbag_status_t *status) {
  while (fsync(file) != 0)
    if (errno != EINTR)
      return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be brought to disk: %s", path,
                        strerror(errno));
  return SBAG_OK;
}

sbag_code_t disk_close(int *file, const char *path, sbag_status_t *status) {
  int closing = *file;
  *file = -1;
  if (closing < 0 || close(closing) == 0 || errno == EINTR) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be closed: %s", path, strerror(errno));
}
