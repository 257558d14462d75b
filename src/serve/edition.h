/* The checkpoints that are served, on rank 0: one at a time, and for a moment, when a newer one has taken its
 * place, also the one before it, until the last request that was read by it is answered. A request belongs to
 * the edition that its bytes were checked against, from then on to its reply: it cannot see two. Any thread
 * may call. */
#ifndef SERVE_EDITION_H
#define SERVE_EDITION_H

#include "serve/signature.h"

#include <pthread.h>

enum { EDITIONS = 2 };

typedef struct edition {
  serve_signature_t signatures[SERVE_KINDS];
  int seat; /* its place here, and its model's in the engine of every rank */
  int64_t users;
} edition_t;

typedef struct editions {
  pthread_mutex_t mutex;
  edition_t items[EDITIONS];
  int current;
} editions_t;

sbag_code_t editions_open(editions_t *editions, sbag_status_t *status);
/* Clears their signatures too. */
void editions_destroy(editions_t *editions);

/* The current one, which stays until it is given back. */
edition_t *editions_take(editions_t *editions);
/* Nulls *edition. NULL is allowed. */
void editions_give(editions_t *editions, edition_t **edition);
/* From now on that seat's is taken, which nobody had. */
void editions_switch(editions_t *editions, int seat);
/* Whether nobody has that seat's. */
int editions_unused(editions_t *editions, int seat);

/* Whether clients of `old` can go on with `fresh` as they are: the same models, inputs and outputs. Tables
 * may have more or fewer rows. Refuses with what differs. */
sbag_code_t edition_check(const edition_t *old, const edition_t *fresh, sbag_status_t *status);

#endif
