/* Folders, names and locks. */
#include "train/folder.h"
#include "base/sort.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 256, HOST_BYTES = 128 };

/* ---- making and holding ---- */

static sbag_code_t make(const char *path, sbag_status_t *status) {
  char part[FOLDER_PATH_BYTES];
  if (strlen(path) + sizeof "/lock" > sizeof part)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.40s...: the folder's path is longer than %d characters",
                      path, FOLDER_PATH_BYTES - (int)sizeof "/lock");
  snprintf(part, sizeof part, "%s", path);
  for (char *at = part + 1;; at++) {
    if (*at != '/' && *at != '\0') continue;
    char kept = *at;
    *at = '\0';
    if (mkdir(part, 0777) != 0 && errno != EEXIST)
      return status_set(status, SBAG_ERR_IO, "%s: cannot make the run's folder: %s", part, strerror(errno));
    if (kept == '\0') return SBAG_OK;
    *at = kept;
  }
}

/* What the lock file says. Whatever does not read as such a line leaves 0 and "?". */
static void read_line(int file, long long *pid, char host[HOST_BYTES], int64_t *run) {
  char line[LINE_BYTES];
  long long read_pid, read_run;
  char read_host[HOST_BYTES];
  ssize_t bytes = pread(file, line, sizeof line - 1, 0);
  *pid = 0;
  *run = 0;
  snprintf(host, HOST_BYTES, "?");
  if (bytes <= 0) return;
  line[bytes] = '\0';
  if (sscanf(line, "pid %lld host %127s run %lld", &read_pid, read_host, &read_run) != 3) return;
  *pid = read_pid;
  *run = read_run > 0 ? read_run : 0;
  snprintf(host, HOST_BYTES, "%s", read_host);
}

static sbag_code_t take_lock(folder_t *folder, const char *name, sbag_status_t *status) {
  char host[HOST_BYTES];
  long long pid;
  folder->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (folder->lock < 0)
    return status_set(status, SBAG_ERR_IO, "%s: cannot open the lock file: %s", name, strerror(errno));
  int taken = flock(folder->lock, LOCK_EX | LOCK_NB) == 0, reason = errno;
  read_line(folder->lock, &pid, host, &folder->run);
  if (taken) return SBAG_OK;
  if (reason != EWOULDBLOCK)
    return status_set(status, SBAG_ERR_IO, "%s: cannot be locked: %s", name, strerror(reason));
  return status_set(status, SBAG_ERR_IO,
                    "%s: the folder is in use by process %lld on %s; let that end, or take another folder",
                    folder->path, pid, host);
}

sbag_code_t folder_hold(const char *path, folder_t *folder, sbag_status_t *status) {
  char name[FOLDER_PATH_BYTES];
  *folder = (folder_t){.path = path, .lock = -1};
  SBAG_TRY(make(path, status));
  snprintf(name, sizeof name, "%s/lock", path);
  sbag_code_t code = take_lock(folder, name, status);
  if (code == SBAG_OK) code = folder_begin_run(folder, folder->run, status);
  if (code != SBAG_OK) folder_release(folder);
  return code;
}

sbag_code_t folder_begin_run(folder_t *folder, int64_t run, sbag_status_t *status) {
  char line[LINE_BYTES], host[HOST_BYTES] = "";
  if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') snprintf(host, sizeof host, "?");
  int bytes =
      snprintf(line, sizeof line, "pid %lld host %s run %" PRId64 "\n", (long long)getpid(), host, run);
  if (pwrite(folder->lock, line, (size_t)bytes, 0) != bytes || ftruncate(folder->lock, bytes) != 0)
    return status_set(status, SBAG_ERR_IO, "%s/lock: cannot write: %s", folder->path, strerror(errno));
  folder->run = run;
  return SBAG_OK;
}

void folder_release(folder_t *folder) {
  if (folder->lock >= 0) close(folder->lock);
  folder->lock = -1;
}

int folder_same(const char *a, const char *b) {
  struct stat at_a, at_b;
  if (stat(a, &at_a) != 0 || stat(b, &at_b) != 0) return 0;
  return at_a.st_dev == at_b.st_dev && at_a.st_ino == at_b.st_ino;
}

/* ---- what lies in it ---- */

sbag_code_t folder_checkpoint(const char *path, int64_t step, char out[FOLDER_PATH_BYTES],
                              sbag_status_t *status) {
  int length = snprintf(out, FOLDER_PATH_BYTES, "%s/ckpt-%" PRId64 ".h5", path, step);
  if (length < FOLDER_PATH_BYTES) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%.40s...: a checkpoint's path has more than %d characters",
                    path, FOLDER_PATH_BYTES - 1);
}

/* The step of "ckpt-<step>.h5" followed by `tail`, or -1. Only the spelling that we write counts. */
static int64_t step_of(const char *name, const char *tail) {
  static const char head[] = "ckpt-";
  char made[NAME_MAX + 64], *end = NULL;
  if (strncmp(name, head, strlen(head)) != 0) return -1;
  errno = 0;
  long long step = strtoll(name + strlen(head), &end, 10);
  if (errno != 0 || step < 0) return -1;
  snprintf(made, sizeof made, "%s%lld.h5%s", head, step, tail);
  return strcmp(made, name) == 0 ? step : -1;
}

int64_t folder_step(const char *name) {
  return step_of(name, "");
}

static int larger_first(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return left > right ? -1 : left < right;
}

static sbag_code_t open_folder(const char *path, DIR **folder, sbag_status_t *status) {
  *folder = opendir(path);
  if (*folder != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot open the folder: %s", path, strerror(errno));
}

static sbag_code_t list_steps(DIR *folder, mem_t *mem, int64_t **steps, int64_t *count,
                              sbag_status_t *status) {
  int64_t room = 0;
  for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    int64_t step = step_of(entry->d_name, "");
    if (step < 0) continue;
    if (*count == room) {
      void *block = *steps;
      room = room > 0 ? 2 * room : 16;
      SBAG_TRY(
          mem_realloc(mem, mem_array_bytes(room, sizeof **steps), "list of checkpoints", &block, status));
      *steps = block;
    }
    (*steps)[(*count)++] = step;
  }
  return SBAG_OK;
}

sbag_code_t folder_list(const char *path, mem_t *mem, int64_t **steps, int64_t *count,
                        sbag_status_t *status) {
  DIR *folder = NULL;
  int64_t *found = NULL, found_count = 0;
  SBAG_TRY(open_folder(path, &folder, status));
  sbag_code_t code = list_steps(folder, mem, &found, &found_count, status);
  closedir(folder);
  if (code != SBAG_OK) {
    mem_free(mem, found);
    return code;
  }
  sort_items(found, found_count, sizeof *found, larger_first);
  *steps = found;
  *count = found_count;
  return SBAG_OK;
}

sbag_code_t folder_clear(const char *path, int *removed, char last[FOLDER_PATH_BYTES],
                         sbag_status_t *status) {
  DIR *folder = NULL;
  sbag_code_t code = SBAG_OK;
  *removed = 0;
  SBAG_TRY(open_folder(path, &folder, status));
  for (const struct dirent *entry; code == SBAG_OK && (entry = readdir(folder)) != NULL;) {
    if (step_of(entry->d_name, ".tmp") < 0) continue;
    int length = snprintf(last, FOLDER_PATH_BYTES, "%s/%s", path, entry->d_name);
    if (length >= FOLDER_PATH_BYTES) continue; /* no file that we could have made */
    if (unlink(last) != 0)
      code = status_set(status, SBAG_ERR_IO, "%s: a crash left it, and it cannot be removed: %s", last,
                        strerror(errno));
    else
      ++*removed;
  }
  closedir(folder);
  return code;
}
