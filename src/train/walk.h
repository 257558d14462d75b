/* A training run's way through the batches, with the next batch's ids on their way while one is computed.
 *
 *   walk_start(&walk, epoch, step, &status);
 *   while (walk_batch(&walk, &batch, &status) == SBAG_OK && batch != NULL) {
 *     walk_compute(&walk, n, &status);            // vectors in, forward, backward
 *     walk_ahead(&walk, n + 1, &status);          // or not: before the model is saved, evaluated or left
 *     walk_finish(&walk, factor, &loss, &status); // gradients home, update
 *   }
 *
 * All calls are collective but walk_open and walk_close, and but for the errors of one rank's reader, which
 * end the comm. What is computed does not depend on walk_ahead. */
#ifndef TRAIN_WALK_H
#define TRAIN_WALK_H

#include "train/session.h"

enum { WALK_BATCHES = 2 }; /* that the reader keeps for its caller */

typedef struct walk {
  session_t *session;
  sbag_bags_t *bags[WALK_BATCHES]; /* [features], of the batch and of the next one in turn */
  int turn;
  const reader_batch_t *batch, *next;
  int begun, next_begun; /* their ids are out */
  sbag_status_t refused; /* why the next batch could not begin, kept for its own step */
} walk_t;

/* Not collective. */
sbag_code_t walk_open(session_t *session, walk_t *walk, sbag_status_t *status);
void walk_close(walk_t *walk);

/* From this batch of the training split on. No step may be under way. */
sbag_code_t walk_start(walk_t *walk, int64_t epoch, int64_t step, sbag_status_t *status);
/* The batch at hand, NULL at the epoch's end. It is valid until the walk_batch after the next. */
sbag_code_t walk_batch(walk_t *walk, const reader_batch_t **batch, sbag_status_t *status);

/* `step` as in model_train_begin. A message does not name it. */
sbag_code_t walk_compute(walk_t *walk, int64_t step, sbag_status_t *status);
/* Between compute and finish: begins step `step` on the next batch, if the epoch has one. What all ranks
 * refuse in it is told by its walk_compute; an error here is one that ends the job, and names the step. */
sbag_code_t walk_ahead(walk_t *walk, int64_t step, sbag_status_t *status);
sbag_code_t walk_finish(walk_t *walk, double lr_factor, double *loss, sbag_status_t *status);

#endif
