/* The past in metrics.jsonl: a run that goes on from a checkpoint takes back what was written after it, so
 * that no step stands there twice. */
#ifndef TRAIN_HISTORY_H
#define TRAIN_HISTORY_H

#include "train/progress.h"
#include "base/mem.h"
#include "base/status.h"

/* Cuts the file behind the line of the checkpoint at progress->step of progress->run; where that line was not
 * written any more, before the first line of a later step; at step 0, before that run's first line. Lines of
 * other runs stay, and so does a file that knows nothing of the run. progress NULL: cuts only a last line
 * that was not written to its end. A file that is not there is fine. Not collective: rank 0 calls it, before
 * it writes. */
sbag_code_t history_cut(const char *path, const progress_t *progress, sbag_status_t *status);

#endif
