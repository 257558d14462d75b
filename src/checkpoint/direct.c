/* O_DIRECT: see direct.h. */
#include "checkpoint/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t page_bytes_least = 4096;

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* What the kernel says (from Linux 6.1 on), else what every disk takes. */
static void find_alignment(direct_t *direct) {
  int64_t page = larger(sysconf(_SC_PAGESIZE), page_bytes_least);
  direct->align = direct->memory_align = page;
#ifdef STATX_DIOALIGN
  struct statx about;
  if (statx(direct->file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) != 0) return;
  if ((about.stx_mask & STATX_DIOALIGN) == 0 || about.stx_dio_offset_align == 0) return;
  direct->align = larger(page, about.stx_dio_offset_align);
  direct->memory_align = larger(1, about.stx_dio_mem_align);
#endif
}

sbag_code_t direct_open(const char *path, direct_t *direct, sbag_status_t *status) {
  direct_t made = {.align = 1, .memory_align = 1};
  made.file = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
  if (made.file < 0 && errno != EINVAL)
    return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be opened for direct writes: %s", path,
                      strerror(errno));
  if (made.file >= 0) find_alignment(&made);
  *direct = made;
  return SBAG_OK;
}

sbag_code_t direct_write(const direct_t *direct, const char *path, int64_t offset, int64_t bytes,
                         const void *data, int64_t *done, sbag_status_t *status) {
  for (*done = 0; *done < bytes;) {
    ssize_t put =
        pwrite(direct->file, (const char *)data + *done, (size_t)(bytes - *done), (off_t)(offset + *done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EINVAL) break; /* also where a short write has left an odd rest */
    if (put <= 0)
      return status_set(status, SBAG_ERR_IO, "checkpoint '%s': byte %lld cannot be written: %s", path,
                        (long long)(offset + *done), put < 0 ? strerror(errno) : "nothing was taken");
    *done += put;
  }
  return SBAG_OK;
}

void direct_reopen(int file, direct_t *direct) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  direct_t made = {.file = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC), .align = 1, .memory_align = 1};
  if (made.file >= 0) find_alignment(&made);
  *direct = made;
}

void *direct_map(int file, int64_t offset, int64_t bytes) {
  void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, file, (off_t)offset);
  return map != MAP_FAILED ? map : NULL;
}

void direct_unmap(void *map, int64_t bytes) {
  if (map != NULL) munmap(map, (size_t)bytes);
}

int direct_is_cached(const void *at, int64_t bytes) {
  enum { PAGES_MOST = 1024 };
  unsigned char pages[PAGES_MOST];
  const int64_t page = sysconf(_SC_PAGESIZE), count = (bytes + page - 1) / page;
  if (count > PAGES_MOST || mincore((void *)(uintptr_t)at, (size_t)bytes, pages) != 0) return 0;
  int cached = 1;
  for (int64_t i = 0; cached && i < count; i++) cached = pages[i] & 1;
  return cached;
}

int64_t direct_read(const direct_t *direct, int64_t offset, int64_t bytes, void *data) {
  int64_t done = 0;
  for (const int64_t whole = bytes - bytes % direct->align; done < whole;) {
    ssize_t got = pread(direct->file, (char *)data + done, (size_t)(whole - done), (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || got % direct->align != 0) break;
    done += got;
  }
  return done;
}
