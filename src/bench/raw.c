/* Plain pwrite, pread and fsync: see raw.h. */
#include "bench/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const int64_t align_bytes = (int64_t)1 << 20, page_bytes = 4096;

static sbag_code_t io_failed(const char *path, const char *what, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

sbag_code_t bench_raw_create(comm_t *comm, mem_t *mem, const char *path, int64_t bytes, bench_raw_t *raw,
                             sbag_status_t *status) {
  bytes = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  int64_t units = (bytes + align_bytes - 1) / align_bytes, size = comm_size(comm), rank = comm_rank(comm);
  bench_raw_t made = {.comm = comm, .mem = mem, .path = path, .bytes = bytes, .direct = 1};
  made.first = units / size * rank + (rank < units % size ? rank : units % size);
  made.end = made.first + units / size + (rank < units % size);
  made.first *= align_bytes;
  made.end = made.end * align_bytes < bytes ? made.end * align_bytes : bytes;
  sbag_code_t code = mem_alloc(mem, BENCH_RAW_BLOCK_BYTES, "bench: block", &made.block, status);
  uint32_t *words = made.block;
  for (uint32_t i = 0; code == SBAG_OK && i < BENCH_RAW_BLOCK_BYTES / sizeof *words; i++)
    words[i] = i * UINT32_C(2654435761);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK)
    *raw = made;
  else
    mem_free(mem, made.block);
  return code;
}

void bench_raw_destroy(bench_raw_t *raw) {
  if (raw->block != NULL) mem_free(raw->mem, raw->block);
  raw->block = NULL;
}

static sbag_code_t move_block(const bench_raw_t *raw, int file, int writing, int64_t offset, int64_t bytes,
                              sbag_status_t *status) {
  for (int64_t done = 0; done < bytes;) {
    char *at = (char *)raw->block + done;
    size_t left = (size_t)(bytes - done);
    ssize_t moved = writing ? pwrite(file, at, left, (off_t)(offset + done))
                            : pread(file, at, left, (off_t)(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved == 0) return status_set(status, SBAG_ERR_IO, "%s: is shorter than it was written", raw->path);
    if (moved < 0) return io_failed(raw->path, writing ? "write" : "read", status);
    done += moved;
  }
  return SBAG_OK;
}

static sbag_code_t move_region(const bench_raw_t *raw, int file, int writing, sbag_status_t *status) {
  for (int64_t at = raw->first; at < raw->end; at += BENCH_RAW_BLOCK_BYTES) {
    int64_t left = raw->end - at, bytes = left < BENCH_RAW_BLOCK_BYTES ? left : BENCH_RAW_BLOCK_BYTES;
    SBAG_TRY(move_block(raw, file, writing, at, bytes, status));
  }
  if (writing && fsync(file) != 0) return io_failed(raw->path, "sync", status);
  return SBAG_OK;
}

static sbag_code_t move(const bench_raw_t *raw, int writing, int flags, sbag_status_t *status) {
  int file = open(raw->path, flags | O_CLOEXEC, 0666);
  if (file < 0) return io_failed(raw->path, "open", status);
  sbag_code_t code = move_region(raw, file, writing, status);
  if (close(file) != 0 && code == SBAG_OK) code = io_failed(raw->path, "close", status);
  return code;
}

/* Rank 0 makes the file before the others open it. */
static sbag_code_t make_file(const bench_raw_t *raw, sbag_status_t *status) {
  if (comm_rank(raw->comm) != 0) return SBAG_OK;
  int file = open(raw->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return io_failed(raw->path, "create", status);
  sbag_code_t code = SBAG_OK;
  errno = posix_fallocate(file, 0, (off_t)raw->bytes);
  if (errno != 0) code = io_failed(raw->path, "reserve the space of it", status);
  if (close(file) != 0 && code == SBAG_OK) code = io_failed(raw->path, "close", status);
  return code;
}

static sbag_code_t write_region(bench_raw_t *raw, sbag_status_t *status) {
  /* Whatever else was wrong is met again, and told, on the way through the cache. */
  if (raw->direct && move(raw, 1, O_WRONLY | O_DIRECT, status) == SBAG_OK) return SBAG_OK;
  raw->direct = 0;
  return move(raw, 1, O_WRONLY, status);
}

sbag_code_t bench_raw_write(bench_raw_t *raw, sbag_status_t *status) {
  SBAG_TRY(comm_agree(raw->comm, make_file(raw, status), status));
  return comm_agree(raw->comm, write_region(raw, status), status);
}

sbag_code_t bench_raw_read(bench_raw_t *raw, sbag_status_t *status) {
  return comm_agree(raw->comm, move(raw, 0, O_RDONLY, status), status);
}

/* ---- the cache ---- */

/* Pages of the file's first bytes that are in memory. */
static sbag_code_t count_resident(int file, const char *path, int64_t bytes, int64_t *pages,
                                  sbag_status_t *status) {
  enum { WINDOW_PAGES = 1 << 14 };
  unsigned char states[WINDOW_PAGES];
  int64_t page = sysconf(_SC_PAGESIZE);
  for (int64_t at = 0; at < bytes; at += WINDOW_PAGES * page) {
    int64_t left = bytes - at, window = left < WINDOW_PAGES * page ? left : WINDOW_PAGES * page;
    void *map = mmap(NULL, (size_t)window, PROT_READ, MAP_SHARED, file, (off_t)at);
    if (map == MAP_FAILED) return io_failed(path, "map", status);
    int failed = mincore(map, (size_t)window, states) != 0;
    munmap(map, (size_t)window);
    if (failed) return io_failed(path, "look at the pages of it", status);
    for (int64_t i = 0; i < (window + page - 1) / page; i++) *pages += states[i] & 1;
  }
  return SBAG_OK;
}

static sbag_code_t drop_pages(int file, const char *path, sbag_status_t *status) {
  errno = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  return errno == 0 ? SBAG_OK : io_failed(path, "give up the pages of it", status);
}

static sbag_code_t resident_part(int file, const char *path, double *resident, sbag_status_t *status) {
  struct stat about;
  int64_t pages = 0;
  if (fstat(file, &about) != 0) return io_failed(path, "look at it", status);
  SBAG_TRY(count_resident(file, path, about.st_size, &pages, status));
  if (about.st_size > 0) *resident = (double)pages * (double)sysconf(_SC_PAGESIZE) / (double)about.st_size;
  return SBAG_OK;
}

/* Looks only when all have dropped theirs: of two that are at it, one passes over what the other holds. */
sbag_code_t bench_raw_cool(comm_t *comm, const char *path, double *resident, sbag_status_t *status) {
  double left = 0;
  sbag_code_t code = SBAG_OK;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) code = io_failed(path, "open", status);
  if (code == SBAG_OK) code = drop_pages(file, path, status);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) code = comm_agree(comm, resident_part(file, path, &left, status), status);
  if (file >= 0) close(file);
  if (code == SBAG_OK) code = comm_allreduce(comm, &left, 1, COMM_F64, COMM_MAX, "bench: cold cache", status);
  if (code == SBAG_OK) *resident = left;
  return code;
}

static sbag_code_t sync_disk(const char *folder, sbag_status_t *status) {
  int opened = open(folder, O_RDONLY | O_CLOEXEC);
  if (opened < 0) return io_failed(folder, "open", status);
  sbag_code_t code = syncfs(opened) == 0 ? SBAG_OK : io_failed(folder, "sync the disk of it", status);
  close(opened);
  return code;
}

sbag_code_t bench_raw_settle(comm_t *comm, const char *folder, sbag_status_t *status) {
  return comm_agree(comm, sync_disk(folder, status), status);
}

/* ---- space ---- */

static sbag_code_t check_space(const char *folder, int64_t bytes, sbag_status_t *status) {
  struct statvfs about;
  if (statvfs(folder, &about) != 0) return io_failed(folder, "look for space", status);
  double free_bytes = (double)about.f_bavail * (double)about.f_frsize;
  if (free_bytes >= (double)bytes) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_IO,
      "folder '%s' has %.0f MB free, and %.0f MB are needed; choose another folder or fewer rows", folder,
      free_bytes / 1e6, (double)bytes / 1e6);
}

sbag_code_t bench_raw_space(comm_t *comm, const char *folder, int64_t bytes, sbag_status_t *status) {
  return comm_agree(comm, comm_rank(comm) == 0 ? check_space(folder, bytes, status) : SBAG_OK, status);
}
