/* A training run's way through the batches, with the next batch's ids on their way while one is computed.
 *
 *   walk_start(&walk, epoch, step, &status);
 *   while (walk_batch(&walk, &batch, &status) == SBAG_OK && batch != NULL) {
 *     walk_ahead(&walk, n, &status);              // or not: before the model is saved, evaluated or left
 *     walk_compute(&walk, n, &status);            // vectors in, forward, backward
 *     walk_finish(&walk, factor, &loss, &status); // gradients merged, update
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
  const reader_batch_t *kept; /* [kept_count] walk_replay's, or NULL */
  int64_t kept_count, kept_next;
  int begun, next_begun; /* their ids are out */
} walk_t;

/* Not collective. */
sbag_code_t walk_open(session_t *session, walk_t *walk, sbag_status_t *status);
void walk_close(walk_t *walk);

/* From this batch of the training split on. No step may be under way. */
sbag_code_t walk_start(walk_t *walk, int64_t epoch, int64_t step, sbag_status_t *status);
/* From now on these batches come, in turn and without end, in place of the reader's. They outlive the walk.
 */
void walk_replay(walk_t *walk, const reader_batch_t *batches, int64_t count);
/* The batch at hand, NULL at the epoch's end. It is valid until the walk_batch after the next. */
sbag_code_t walk_batch(walk_t *walk, const reader_batch_t **batch, sbag_status_t *status);

/* Begins the batch at hand as step `step` of the model, unless it is begun, and the next one, if the epoch
 * has one, as the step behind it. */
sbag_code_t walk_ahead(walk_t *walk, int64_t step, sbag_status_t *status);
/* Takes the next one's begin back, before walk_finish: it is still the next. */
void walk_turn_back(walk_t *walk);
sbag_code_t walk_compute(walk_t *walk, int64_t step, sbag_status_t *status);
sbag_code_t walk_finish(walk_t *walk, double lr_factor, double *loss, sbag_status_t *status);

#endif
