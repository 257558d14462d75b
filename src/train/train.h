/* The training loop: epochs of steps, evaluations, checkpoints on the way and one at the end.
 *
 * A run can be asked for a checkpoint and a stop after the step under way. Whichever ranks are asked, all
 * stop at the same step; and that checkpoints are due by the clock is decided by rank 0's. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include "train/journal.h"
#include "train/progress.h"
#include "train/retention.h"
#include "train/session.h"

/* Collective. The session has its training reader and its model, in which progress->step steps are done. The
 * folders of the run and of its checkpoints exist. stop_asked is called once a step: whether this process was
 * asked to stop since its last call. A loss that is not finite ends the run with an error that names the
 * step; nothing is saved then. */
sbag_code_t train_run(session_t *session, journal_t *journal, retention_t *retention, progress_t *progress,
                      int (*stop_asked)(void), sbag_status_t *status);

#endif
