/* Requests on their way from the threads that parse them to the one that answers them. Bounded: what does not
 * fit is refused at once, so that what is accepted is answered soon. */
#ifndef SERVE_QUEUE_H
#define SERVE_QUEUE_H

#include "serve/request.h"

#include <pthread.h>

/* A request that waits for its answer. */
typedef struct ticket {
  request_t request;
  int seat; /* of the model that the request was read by (engine.h) */
  struct ticket *next;
  double queued_s, taken_s, done_s; /* clock_now */
  sbag_code_t code;                 /* of the answer, with its status */
  sbag_status_t status;
  void (*answered)(struct ticket *ticket); /* called by the thread that answers, which then forgets it */
  void *user;
} ticket_t;

typedef struct queue {
  pthread_mutex_t mutex;
  pthread_cond_t filled;
  ticket_t *first, *last;
  int64_t tickets, samples; /* that wait */
  int64_t tickets_max;
  int closed;
  int idle;               /* queue_take waits for the first */
  int borrowed;           /* by queue_borrow */
  int working;            /* queue_take has given something, and was not called since */
  double work_s, since_s; /* how long the last work took; since when there is none, or it is being done */
} queue_t;

sbag_code_t queue_open(int64_t tickets_max, queue_t *queue, sbag_status_t *status);
void queue_destroy(queue_t *queue);

/* 0 where the queue is full or closed: the ticket is still the caller's. */
int queue_put(queue_t *queue, ticket_t *ticket);
/* The next tickets of one signature, at most samples_max together (or one that has more): those that are
 * there, and where they are fewer those that come within window_s. Waits at most wait_s for the first. NULL:
 * none. */
ticket_t *queue_take(queue_t *queue, double wait_s, double window_s, int64_t samples_max);
/* Whether queue_take has something and would not wait. It stays so until somebody takes. */
int queue_ready(queue_t *queue, double window_s, int64_t samples_max);
/* The place of the thread that waits in queue_take, for one that has a request and would put it there: 0
 * where that thread has work, or had much of it lately, so that requests are better joined. Until the place
 * is given back queue_take does not return. */
int queue_borrow(queue_t *queue);
void queue_give_back(queue_t *queue);
/* From now on nothing is taken in. */
void queue_close(queue_t *queue);
int64_t queue_length(queue_t *queue);

#endif
