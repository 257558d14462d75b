/* A list of steps, its smallest removed first. */
#include "train/retention.h"

#include "train/folder.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void retention_init(const char *folder, int64_t keep, int rank, mem_t *mem, retention_t *retention) {
  *retention = (retention_t){.folder = folder, .keep = keep, .speaks = rank == 0, .mem = mem};
}

void retention_clear(retention_t *retention) {
  if (retention->mem != NULL) mem_free(retention->mem, retention->steps);
  memset(retention, 0, sizeof *retention);
}

sbag_code_t retention_add(retention_t *retention, int64_t step, sbag_status_t *status) {
  retention_t *r = retention;
  if (!r->speaks || r->keep == 0) return SBAG_OK;
  for (int64_t i = 0; i < r->count; i++)
    if (r->steps[i] == step) return SBAG_OK;
  if (r->count == r->room) {
    void *block = r->steps;
    int64_t room = r->room > 0 ? 2 * r->room : 8;
    SBAG_TRY(
        mem_realloc(r->mem, mem_array_bytes(room, sizeof *r->steps), "list of checkpoints", &block, status));
    r->steps = block;
    r->room = room;
  }
  r->steps[r->count++] = step;
  return SBAG_OK;
}

sbag_code_t retention_apply(retention_t *retention, int *failed, sbag_status_t *status) {
  retention_t *r = retention;
  *failed = 0;
  while (r->keep > 0 && r->count > r->keep) {
    char path[FOLDER_PATH_BYTES];
    int64_t oldest = 0;
    for (int64_t i = 1; i < r->count; i++)
      if (r->steps[i] < r->steps[oldest]) oldest = i;
    SBAG_TRY(folder_checkpoint(r->folder, r->steps[oldest], path, status));
    if (unlink(path) != 0 && errno != ENOENT) *failed = errno;
    r->steps[oldest] = r->steps[--r->count];
  }
  return SBAG_OK;
}
