/* The preloaded file calls: see shim.h. Several threads may write at once. glibc's names with 64 are the same
 * functions. */
#include "fault/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { FILES_MAX = 4096 };

static const char *folder;
static long at;
static atomic_long count;
static fault_kind_t kind;
static atomic_uchar watched[FILES_MAX], unsynced[FILES_MAX]; /* by file descriptor */
static long lost, unsynced_names;

void fault_begin(const char *in_folder, long n, fault_kind_t of_kind) {
  folder = in_folder;
  at = n;
  kind = of_kind;
  count = 0;
  lost = unsynced_names = 0;
}

long fault_lost(void) {
  return lost + unsynced_names;
}

long fault_end(void) {
  folder = NULL;
  return count;
}

/* 1: fail with errno set; 2: move half; 0: go on. */
static int hit(int moves) {
  if (folder == NULL) return 0;
  long this = atomic_fetch_add(&count, 1) + 1;
  if (kind == FAULT_GONE ? this < at : this != at) return 0;
  if (kind == FAULT_SHORT) return moves ? 2 : 0;
  errno = kind == FAULT_ENOSPC ? ENOSPC : EIO;
  return 1;
}

static int is_watched(int file) {
  return file >= 0 && file < FILES_MAX && watched[file];
}

static int is_folder(int file) {
  struct stat about;
  return fstat(file, &about) == 0 && S_ISDIR(about.st_mode);
}

static int in_folder(const char *path) {
  return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

/* The function behind ours. ISO C has no conversion from void * to a function, POSIX has. */
#define REAL(name, result, arguments)                                                                        \
  result(*name##_real) arguments;                                                                            \
  *(void **)(&name##_real) = dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                                                           \
  int name(const char *path, int flags, ...) {                                                               \
    va_list args;                                                                                            \
    va_start(args, flags);                                                                                   \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;                           \
    va_end(args);                                                                                            \
    REAL(name, int, (const char *, int, ...));                                                               \
    if (in_folder(path) && hit(0)) return -1;                                                                \
    int file = name##_real(path, flags, mode);                                                               \
    if (file >= 0 && file < FILES_MAX) watched[file] = (unsigned char)in_folder(path);                       \
    return file;                                                                                             \
  }
OPEN(open)
OPEN(open64)

/* Half of one byte is still one. */
#define MOVE(name, constness, offset_type)                                                                   \
  ssize_t name(int file, constness void *data, size_t bytes, offset_type offset) {                           \
    REAL(name, ssize_t, (int, constness void *, size_t, offset_type));                                       \
    int how = is_watched(file) ? hit(1) : 0;                                                                 \
    if (how == 1) return -1;                                                                                 \
    if (is_watched(file) && #name[1] == 'w') unsynced[file] = 1;                                             \
    return name##_real(file, data, how == 2 ? (bytes + 1) / 2 : bytes, offset);                              \
  }
MOVE(pread, , off_t)
MOVE(pread64, , off64_t)
MOVE(pwrite, const, off_t)
MOVE(pwrite64, const, off64_t)

ssize_t write(int file, const void *data, size_t bytes) {
  REAL(write, ssize_t, (int, const void *, size_t));
  int how = is_watched(file) ? hit(1) : 0;
  if (how == 1) return -1;
  if (is_watched(file)) unsynced[file] = 1;
  return write_real(file, data, how == 2 ? (bytes + 1) / 2 : bytes);
}

/* One fsync is for all descriptors of its file. */
static void mark_synced(int file) {
  struct stat about, other;
  if (fstat(file, &about) != 0) return;
  for (int i = 0; i < FILES_MAX; i++)
    if (unsynced[i] && fstat(i, &other) == 0 && other.st_dev == about.st_dev && other.st_ino == about.st_ino)
      unsynced[i] = 0;
}

int fsync(int file) {
  REAL(fsync, int, (int));
  if (is_watched(file) && hit(0)) return -1;
  int result = fsync_real(file);
  if (is_watched(file)) mark_synced(file);
  if (is_watched(file) && is_folder(file)) unsynced_names = 0;
  return result;
}

/* The file is closed in any case, as by Linux. */
int close(int file) {
  REAL(close, int, (int));
  int bad = is_watched(file) && hit(0), reason = errno;
  if (is_watched(file)) lost += unsynced[file];
  if (file >= 0 && file < FILES_MAX) watched[file] = unsynced[file] = 0;
  int result = close_real(file);
  if (bad) errno = reason;
  return bad ? -1 : result;
}

int rename(const char *from, const char *to) {
  REAL(rename, int, (const char *, const char *));
  if (in_folder(to) && hit(0)) return -1;
  unsynced_names += in_folder(to);
  return rename_real(from, to);
}

#define TRUNCATE(name, offset_type)                                                                          \
  int name(int file, offset_type bytes) {                                                                    \
    REAL(name, int, (int, offset_type));                                                                     \
    if (is_watched(file) && hit(0)) return -1;                                                               \
    return name##_real(file, bytes);                                                                         \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* With FAULT_NO_RESERVE set nothing is reserved, as on file systems that cannot. */
#define ALLOCATE(name, offset_type)                                                                          \
  int name(int file, offset_type offset, offset_type bytes) {                                                \
    REAL(name, int, (int, offset_type, offset_type));                                                        \
    if (getenv("FAULT_NO_RESERVE") != NULL) return 0;                                                        \
    if (is_watched(file) && hit(0)) return errno;                                                            \
    return name##_real(file, offset, bytes);                                                                 \
  }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)
