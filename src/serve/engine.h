/* The thread that answers: on every rank the one that calls MPI. Rank 0 takes batches from the queue and
 * tells the others what comes; then all go through the same forward as training does, the others without
 * samples of their own, as owners of rows.
 *
 *   request -> parsed (threads of HTTP) -> queue -> batch -> one look-up on all ranks -> answers
 *
 * A rank that waits for rank 0 looks every now and then and sleeps in between, the longer the longer nothing
 * has come, at most a millisecond; between two batches rank 0 sleeps at the queue. When nothing comes it
 * calls the others every few seconds, so that a rank that has stopped is noticed. */
#ifndef SERVE_ENGINE_H
#define SERVE_ENGINE_H

#include "comm/comm.h"
#include "serve/batch.h"
#include "serve/counters.h"

#include <stdatomic.h>

typedef struct engine {
  model_t *model;
  const model_config_t *config;
  comm_t *comm;
  queue_t *queue; /* of rank 0, as the next two */
  counters_t *metrics;
  double window_s;
  int64_t max_batch;
  double silence_s;     /* without a word from rank 0 the others give up; 0: never */
  atomic_llong busy_us; /* since when a batch is under way; 0: none. For other threads */
  batch_t batch;
  int64_t *lookups; /* [tables][ranks] */
  double called_s;  /* when the others last heard of rank 0 */
  int64_t word[2];  /* what rank 0 tells: an operation, and samples */
} engine_t;

/* Not collective. The fields above `busy_us` are the caller's. */
sbag_code_t engine_open(engine_t *engine, mem_t *mem, sbag_status_t *status);
void engine_close(engine_t *engine);

/* Rank 0: answers what the queue has for at most wait_s, or one batch. An error that ends only that batch is
 * told to its tickets; what is returned ends the job. */
sbag_code_t engine_turn(engine_t *engine, double wait_s, sbag_status_t *status);
/* Tells a list of tickets how they ended. */
void engine_answer(ticket_t *tickets, sbag_code_t code, const sbag_status_t *status);
/* Rank 0: the others' engine_follow returns. */
sbag_code_t engine_end(engine_t *engine, sbag_status_t *status);
/* The others: until engine_end. */
sbag_code_t engine_follow(engine_t *engine, sbag_status_t *status);

#endif
