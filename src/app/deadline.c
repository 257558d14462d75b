/* Deadlines by a timer and SIGALRM, whose handler ends the process. */
#include "app/deadline.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { BETWEEN_RANKS_S = 2 }; /* a launcher needs one to end a job */

/* Only what a signal handler may call. Another process's SIGALRM ends this one as ever, but without a line.
 */
static void ring(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)context;
  if (info->si_code != SI_TIMER) _exit(1);
  const deadline_t *d = info->si_value.sival_ptr;
  if (d->length > 0 && write(STDERR_FILENO, d->line, (size_t)d->length) < 0) _exit(d->exit_code);
  _exit(d->exit_code);
}

static void set(deadline_t *d, double after_s) {
  struct sigaction action = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM, .sigev_value.sival_ptr = d};
  struct itimerspec when = {.it_value.tv_sec = (time_t)after_s};
  when.it_value.tv_nsec = (long)((after_s - (double)when.it_value.tv_sec) * 1e9);
  sigaction(SIGALRM, &action, NULL);
  d->set = timer_create(CLOCK_MONOTONIC, &event, &d->timer) == 0;
  if (d->set) timer_settime(d->timer, 0, &when, NULL);
}

void deadline_begin(deadline_t *deadline, const char *command, const char *what, double timeout_s, int rank) {
  *deadline = (deadline_t){.exit_code = 1};
  if (timeout_s <= 0) return;
  deadline->length = snprintf(deadline->line, sizeof deadline->line,
                              "shardbag %s: %s: not all ranks came within %g s\n", command, what, timeout_s);
  set(deadline, timeout_s + BETWEEN_RANKS_S * (rank < 30 ? rank : 30));
}

void deadline_begin_silent(deadline_t *deadline, double timeout_s, int exit_code) {
  *deadline = (deadline_t){.exit_code = exit_code};
  if (timeout_s > 0) set(deadline, timeout_s);
}

void deadline_end(deadline_t *deadline) {
  if (!deadline->set) return;
  timer_delete(deadline->timer);
  signal(SIGALRM, SIG_DFL);
  deadline->set = 0;
}
