/* What a run tells while it goes: lines or a progress bar on stdout, and one JSON object a line in files.
 * Rank 0 speaks; on the others every call does nothing.
 *
 * Objects: {"event":"start"|"train"|"eval"|"tables"|"change"|"checkpoint"|"predict"|"end", ...}; see the
 * functions for the fields. */
#ifndef TRAIN_JOURNAL_H
#define TRAIN_JOURNAL_H

#include "base/status.h"
#include "reader/reader.h"
#include "train/imbalance.h"
#include "train/metrics.h"
#include "train/phases.h"
#include "train/progress.h"
#include <stdint.h>
#include <stdio.h>

typedef enum journal_progress { JOURNAL_NONE, JOURNAL_PLAIN, JOURNAL_BAR } journal_progress_t;

enum { JOURNAL_FILES_MAX = 2 };

typedef struct journal {
  int speaks; /* 1 on rank 0 */
  journal_progress_t progress;
  FILE *files[JOURNAL_FILES_MAX];
  const char *paths[JOURNAL_FILES_MAX]; /* borrowed */
  int file_count;
  int64_t log_every, total_steps;
  int ranks;
  int64_t first_step; /* taken before this start */
  double since_s;     /* the last line's time, */
  int64_t samples;    /* and the samples since it, of this start */
  double drawn_s;     /* when the bar was drawn last */
  double rate, loss;  /* shown by the bar between lines */
  double start_s, paused_s, pause_began_s;
} journal_t;

/* Not collective. `rank` 0 speaks. */
void journal_init(int rank, journal_progress_t progress, journal_t *journal);
/* Adds a file for JSON lines, kept if it is there: new lines are appended. path is borrowed. */
sbag_code_t journal_add_file(journal_t *journal, const char *path, sbag_status_t *status);
/* Closes the files; refuses what could not be written. */
sbag_code_t journal_close(journal_t *journal, sbag_status_t *status);

/* What one line says outside of the run's events, on stdout. */
void journal_say(journal_t *journal, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "start": name, run, from (the step that it goes on from), ranks, steps, samples (of the training split),
 * bad_rows (that were left out). Starts the clock. */
sbag_code_t journal_start(journal_t *journal, const char *name, int ranks, int64_t total_steps,
                          const reader_t *reader, int64_t log_every, const progress_t *progress,
                          sbag_status_t *status);
/* Whether a line follows this step: every log_every steps, and after the last. The same on all ranks. */
int journal_due(const journal_t *journal, int64_t step);
/* A step was taken; on every rank, as progress holds the losses since the last line. Where a line is due
 * "train": step, epoch, loss (mean since the last line), lr, samples_per_s, seconds (of this start), and how
 * evenly the ranks work, imbalance's fields, which may be NULL where no line is due. */
sbag_code_t journal_step(journal_t *journal, progress_t *progress, double loss, double lr, int64_t samples,
                         const imbalance_line_t *imbalance, sbag_status_t *status);
/* Time between pause and resume (of an evaluation, a checkpoint) counts neither for samples/s nor as
 * training. */
void journal_pause(journal_t *journal);
void journal_resume(journal_t *journal);
/* "eval": space, step, samples, and the metrics by their names (metrics_names); on stdout a line
 * "space metric number" each. */
sbag_code_t journal_eval(journal_t *journal, const char *space, int64_t step, const metrics_result_t *result,
                         sbag_status_t *status);
/* "tables": dtype, bytes (of the tables' rows on all ranks), saved_bytes (of what they take in the
 * checkpoint's own dtypes); on stdout "tables dtype bytes N saved_bytes N". */
sbag_code_t journal_tables(journal_t *journal, const char *dtype, int64_t bytes, int64_t own_bytes,
                           sbag_status_t *status);
/* "change": space, step, dtype, and by how much the metrics are above those of the checkpoint's own dtypes;
 * on stdout a line "space metric_change number" each. */
sbag_code_t journal_change(journal_t *journal, const char *space, int64_t step, const char *dtype,
                           const metrics_result_t *own, const metrics_result_t *result,
                           sbag_status_t *status);
/* "checkpoint": step, path. */
sbag_code_t journal_checkpoint(journal_t *journal, int64_t step, const char *path, sbag_status_t *status);
/* "predict": step (of the checkpoint), rows. */
sbag_code_t journal_predict(journal_t *journal, int64_t step, int64_t rows, sbag_status_t *status);
/* "end": step, seconds (of training alone), reason, phases_ms (of rank 0, of a step of this start; a wait for
 * a transfer is "wait: " and its name). */
sbag_code_t journal_end(journal_t *journal, int64_t step, const char *reason, const phases_t *phases,
                        sbag_status_t *status);

#endif
