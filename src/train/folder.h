/* A folder of a run, as the one process sees it that looks after it: made, held against a second start, and
 * what lies in it. Rank 0 alone calls this; nothing is collective.
 *
 * The file `lock` in it is locked by flock as long as the run lasts. The kernel lets go of it when the
 * process ends, however it ends, so there is nothing to clean up. Its line tells who holds the folder, and
 * which run was begun in it last: "pid 4711 host a run 1700000000000000". */
#ifndef TRAIN_FOLDER_H
#define TRAIN_FOLDER_H

#include "base/mem.h"
#include "base/status.h"
#include <stdint.h>

enum { FOLDER_PATH_BYTES = 4096 };

typedef struct folder {
  const char *path; /* borrowed */
  int lock;         /* the lock file, -1: not held */
  int64_t run;      /* begun in it last; 0: not known */
} folder_t;

/* Makes the folder and those above it, and takes the lock. Refused while another process has it, naming that.
 */
sbag_code_t folder_hold(const char *path, folder_t *folder, sbag_status_t *status);
/* Writes down that `run` is now the folder's. */
sbag_code_t folder_begin_run(folder_t *folder, int64_t run, sbag_status_t *status);
/* Lets go. The file stays. Folders that are not held are allowed. */
void folder_release(folder_t *folder);
/* Whether two paths, both of which exist, are one folder. */
int folder_same(const char *a, const char *b);

/* "<folder>/ckpt-<step>.h5". Refuses a path that is too long. */
sbag_code_t folder_checkpoint(const char *path, int64_t step, char out[FOLDER_PATH_BYTES],
                              sbag_status_t *status);
/* The step of a file called "ckpt-<step>.h5", or -1. */
int64_t folder_step(const char *name);
/* The steps of its checkpoints by their names, the largest first; freed by mem_free. */
sbag_code_t folder_list(const char *path, mem_t *mem, int64_t **steps, int64_t *count, sbag_status_t *status);
/* Removes checkpoints that were being written when a process ended. *removed: how many; `last` receives the
 * path of one. */
sbag_code_t folder_clear(const char *path, int *removed, char last[FOLDER_PATH_BYTES], sbag_status_t *status);

#endif
