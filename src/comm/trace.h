/* Where a rank's time goes: what it computes, what it waits for, and how much of what is under way between
 * the ranks is hidden behind the computing.
 *
 * What comes in: the names of phases as the rank enters them, and the begin and end of every request and wait
 * (which the comm tells itself). What goes out: rows that only grow, to be read and subtracted at any time.
 * Two readings of the clock a mark, no memory but its own: it is always on.
 *
 * Rows are of two kinds. A phase has the seconds spent in it, waits left out, and of these the ones with
 * something under way (hidden). A transfer has the seconds spent in waits for it, and those that it was under
 * way while the rank did something else (hidden). Phases' and transfers' seconds together are all of the
 * time from the first mark on. The time of comm_progress itself hides nothing. That a request has ended is
 * noticed by the next call that makes progress, so `hidden` is at most that much too long. */
#ifndef COMM_TRACE_H
#define COMM_TRACE_H

#include <stdint.h>

enum { COMM_TRACE_ROWS = 64 };

typedef struct comm_trace_row {
  const char *name; /* of a program's constant */
  int is_transfer;
  double seconds, hidden_s;
  int64_t bytes; /* transfers: sent by this rank */
} comm_trace_row_t;

typedef struct comm_trace {
  comm_trace_row_t rows[COMM_TRACE_ROWS]; /* names beyond that many share the last one */
  int row_count;
  const char *phase;      /* NULL: outside of any, nothing is charged */
  int64_t under_way;      /* requests */
  double mark_s;          /* when the current phase or wait began, or was last charged */
  double busy_since_s;    /* since when something is under way */
  double busy_s;          /* with something under way, before that */
  double busy_mark_s;     /* all of it at mark_s */
  double waited_s;        /* all waits that have ended */
  double polled_s;        /* in comm_progress */
  double waiting_since_s; /* 0: not waiting */
  /* NULL, or told of each phase that begins (NULL: of none), for profilers. */
  void (*listener)(void *listening, const char *phase);
  void *listening;
} comm_trace_t;

/* A request's part, kept with it. */
typedef struct comm_trace_span {
  int open;
  int64_t bytes;
  double begun_s, idle_s; /* idle_s: waits and looks before it began */
  double hidden_s;        /* set when it is done */
} comm_trace_span_t;

/* The phase of comm_progress: polling, and what copying it does. */
extern const char comm_trace_progress[];

/* From now on time belongs to `phase` (NULL: to none). Returns the phase before, for phases within others. */
const char *comm_trace_phase(comm_trace_t *trace, const char *phase);
/* Seconds of all waits so far. */
double comm_trace_waited(const comm_trace_t *trace);

/* For implementations of a comm: a request begins; it is done (again and again if they like); a wait begins
 * and ends. */
void comm_trace_begin(comm_trace_t *trace, comm_trace_span_t *span, int64_t bytes);
void comm_trace_done(comm_trace_t *trace, comm_trace_span_t *span);
void comm_trace_wait(comm_trace_t *trace);
void comm_trace_waited_for(comm_trace_t *trace, const char *what, const comm_trace_span_t *span);

#endif
