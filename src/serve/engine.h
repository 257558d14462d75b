/* The thread that answers: on every rank the one that calls MPI. Rank 0 takes batches from the queue and
 * tells the others what comes; then all go through the same forward as training does, the others without
 * samples of their own, as owners of rows.
 *
 *   request -> parsed (threads of HTTP) -> queue -> batch -> one look-up on all ranks -> answers
 *
 * Where others than rank 0 have rows, batches overlap when several wait: the next one begins before the one
 * ahead of it ends, so that its ids travel and its rows are pooled while rank 0 computes the layers of the
 * other:
 *
 *   rank 0       ids k+1 | vectors k in | pools k+1 | layers k, answers | ids k+2 | vectors k+1 in | ...
 *   the others             pool k ...     pool k+1 ...                              pool k+2 ...
 *
 * At most two are under way, and none between two calls of rank 0's: a load, a drop and the end see none.
 *
 * A rank that waits for rank 0 looks every now and then and sleeps in between, the longer the longer nothing
 * has come, at most a millisecond; between two batches rank 0 sleeps at the queue. When nothing comes it
 * calls the others every few seconds, so that a rank that has stopped is noticed.
 *
 * Two models have seats, so that one can be loaded beside the other. A load pauses every now and then, on all
 * ranks at the same place: what waits is answered then, by the model that is there. */
#ifndef SERVE_ENGINE_H
#define SERVE_ENGINE_H

#include "comm/comm.h"
#include "serve/batch.h"
#include "serve/counters.h"
#include "serve/edition.h"
#include "serve/pieces.h"

#include <stdatomic.h>

enum { ENGINE_PATH_BYTES = 4096, ENGINE_FLIGHTS = 2 };

typedef struct engine_seat {
  model_t *model; /* NULL: free */
  const model_config_t *config;
  batch_t batches[ENGINE_FLIGHTS]; /* one for each batch under way */
  pieces_t pieces;                 /* to be checked before they are looked up */
} engine_seat_t;

/* A batch under way. */
typedef struct engine_flight {
  int number, seat; /* number: its place in the engine and in its seat's batches */
  int64_t word;     /* what is asked for */
  model_batch_t batch;
  sbag_step_h step;
  ticket_t *tickets; /* rank 0's; the others' NULL */
  int64_t *lookups;  /* [tables][ranks] */
  int open;          /* its ids are with their owners */
  sbag_status_t end; /* how it ended, as far as is known: what all ranks refuse in it goes no further */
} engine_flight_t;

typedef struct engine {
  comm_t *comm;
  mem_t *mem;
  queue_t *queue; /* of rank 0, as the next two */
  counters_t *metrics;
  double window_s;
  int64_t max_batch;
  double silence_s; /* without a word from rank 0 the others give up; 0: never */
  /* On all ranks: a checkpoint into a seat, by engine_take_seat; and out of it. */
  sbag_code_t (*load)(void *user, int seat, const char *path, sbag_status_t *status);
  void (*drop)(void *user, int seat);
  /* A piece of a table, of which this rank has rows: SBAG_OK if it is as it should be. */
  sbag_code_t (*check)(void *user, int seat, int table, int64_t piece, sbag_status_t *status);
  void *user;
  atomic_llong busy_us; /* since when a batch is under way; 0: none. For other threads */
  engine_seat_t seats[EDITIONS];
  engine_flight_t flights[ENGINE_FLIGHTS];
  engine_flight_t *ahead;       /* the batch that ends when the next one has begun; NULL: none */
  double called_s;              /* when the others last heard of rank 0 */
  int64_t word[4];              /* what rank 0 tells: an operation, a number, a seat, whether more follows */
  char path[ENGINE_PATH_BYTES]; /* of a checkpoint to load */
} engine_t;

/* Not collective. The fields above `busy_us` are the caller's. table_count: of every model that is served. */
sbag_code_t engine_open(engine_t *engine, int table_count, sbag_status_t *status);
/* Seats that are taken are left. */
void engine_close(engine_t *engine);
/* Not collective. piece_rows: as pieces_create has it. */
sbag_code_t engine_take_seat(engine_t *engine, int seat, model_t *model, const model_config_t *config,
                             const int64_t *piece_rows, sbag_status_t *status);
void engine_leave_seat(engine_t *engine, int seat);

/* Rank 0: waits for the queue for at most wait_s, and answers a batch, or, where they overlap, a few. An
 * error that ends only a batch is told to its tickets; what is returned ends the job. */
sbag_code_t engine_turn(engine_t *engine, double wait_s, sbag_status_t *status);
/* Rank 0, any thread: answers a request of few samples at once, in place of the thread of engine_turn, where
 * that one waits for work and no other rank is needed: what it takes to wake that thread, and to be woken, is
 * more than such a request takes otherwise. 0: it is to be queued. */
int engine_answer_now(engine_t *engine, ticket_t *ticket);
/* Tells a list of tickets how they ended. */
void engine_answer(ticket_t *tickets, sbag_code_t code, const sbag_status_t *status);
/* Rank 0: all ranks load `path` into a free seat. An error that leaves the comm whole is a refusal. */
sbag_code_t engine_load(engine_t *engine, int seat, const char *path, sbag_status_t *status);
/* Rank 0: all ranks drop what has the seat. */
sbag_code_t engine_drop(engine_t *engine, int seat, sbag_status_t *status);
/* A load's pause ends, on rank 0: the others' engine_follow returns too. abandon: an error on all ranks. */
sbag_code_t engine_resume(engine_t *engine, int abandon, sbag_status_t *status);
/* Rank 0: the others' engine_follow returns. */
sbag_code_t engine_end(engine_t *engine, sbag_status_t *status);
/* The others: until engine_end or, in a load's pause, engine_resume. */
sbag_code_t engine_follow(engine_t *engine, sbag_status_t *status);

#endif
