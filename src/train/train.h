/* The training loop: epochs of steps, evaluations, one checkpoint at the end.
 *
 * SIGUSR1 asks for a checkpoint and a stop after the step under way. The program must have blocked the signal
 * before it started any thread: the loop takes it from the pending ones, so no handler and no global is
 * needed. Whichever ranks receive it, all stop at the same step. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include "train/journal.h"
#include "train/session.h"

/* Collective. The session has its training reader and its model. The run's folder exists. A loss that is not
 * finite ends the run with an error that names the step; nothing is saved then. */
sbag_code_t train_run(session_t *session, journal_t *journal, sbag_status_t *status);

#endif
