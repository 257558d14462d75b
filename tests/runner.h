/* What the tests' mains share: suites of Check by name, in one process (runner.c) or on ranks (mpi/runner.c).
 * Both run all suites, or those named on the command line, end with `N passed, N failed`, and return the
 * program's exit code. */
#ifndef TESTS_RUNNER_H
#define TESTS_RUNNER_H

#include <check.h>

typedef struct runner_suite {
  const char *name;
  Suite *(*make)(void);
} runner_suite_t;

int runner_main(const runner_suite_t *suites, int suite_count, int argc, char **argv);

/* On however many ranks there are. A failure on any rank is printed by that rank and ends the job, so that
 * nobody waits for it. Each suite has a deadline (--deadline SECONDS). */
int runner_mpi_main(const runner_suite_t *suites, int suite_count, int argc, char **argv);

#endif
