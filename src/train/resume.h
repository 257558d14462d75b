/* What a run goes on from: the newest of its checkpoints that opens, fits and is whole. */
#ifndef TRAIN_RESUME_H
#define TRAIN_RESUME_H

#include "train/journal.h"
#include "train/retention.h"
#include "train/session.h"

/* Collective. Goes through the checkpoints in checkpoint.dir from the largest step on. One that does not
 * open, is damaged, or belongs to another run than progress->run (0: any) is left out with a warning that
 * says why; one that does not fit the config is refused (SBAG_ERR_ARGUMENT). *found: 1, with the session open
 * and loaded, progress filled and, where the retention wants it, the run's older checkpoints on its list; 0:
 * there is none, and nothing is open. */
sbag_code_t resume_open(const settings_t *settings, sbag_context_h context, journal_t *journal,
                        retention_t *retention, session_t *session, progress_t *progress, int *found,
                        sbag_status_t *status);

#endif
