/* Which checkpoints of the run stay: `keep: K` removes the oldest once K newer ones are complete. Only files
 * of this run are on the list, so that another run's in the same folder are left alone. Rank 0 has the list;
 * on the others every call does nothing. */
#ifndef TRAIN_RETENTION_H
#define TRAIN_RETENTION_H

#include "base/mem.h"
#include "base/status.h"
#include <stdint.h>

typedef struct retention {
  const char *folder; /* borrowed */
  int64_t keep;       /* 0: all */
  int speaks;         /* 1 on rank 0 */
  mem_t *mem;
  int64_t *steps; /* of the run's complete checkpoints, in any order */
  int64_t count, room;
} retention_t;

void retention_init(const char *folder, int64_t keep, int rank, mem_t *mem, retention_t *retention);
void retention_clear(retention_t *retention);

/* Notes that the run's checkpoint at `step` is complete on disk. */
sbag_code_t retention_add(retention_t *retention, int64_t step, sbag_status_t *status);
/* Removes what is too much. A file that cannot be removed stays on disk and is forgotten: *failed receives
 * the reason, else 0. */
sbag_code_t retention_apply(retention_t *retention, int *failed, sbag_status_t *status);

#endif
