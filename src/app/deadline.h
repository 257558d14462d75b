/* A deadline for a call of MPI that cannot be asked how far it is: its start and its end. A rank that is
 * stopped there would hold all others for ever. */
#ifndef APP_DEADLINE_H
#define APP_DEADLINE_H

#include <time.h>

/* Must stay where it is from begin to end: a timer knows its address. */
typedef struct deadline {
  timer_t timer;
  int set, exit_code, length;
  char line[160];
} deadline_t;

/* If deadline_end does not come within timeout_s seconds (0: never), the process says that `what` was not
 * done, in one line, and ends with exit code 1. Rank 0 is the first to say it, and its end ends the others.
 */
void deadline_begin(deadline_t *deadline, const char *command, const char *what, double timeout_s, int rank);
/* The same without a word. */
void deadline_begin_silent(deadline_t *deadline, double timeout_s, int exit_code);
void deadline_end(deadline_t *deadline);

#endif
