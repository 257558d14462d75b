/* Suites of Check on ranks. */
#include "mpi_test.h"
#include "runner.h"

#include <mpi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_DEADLINE_S = 300, LAST_GRACE_S = 5 };

static const char *volatile current_suite = "";

static int world_rank(void) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

static void end_job(void) {
  fflush(stdout);
  fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
  _exit(EXIT_FAILURE);
}

void mpi_test_failed(const char *file, int line, const char *expression, const char *message, ...) {
  char text[1024] = "";
  if (message != NULL) {
    va_list args;
    va_start(args, message);
    vsnprintf(text, sizeof text, message, args);
    va_end(args);
  }
  fprintf(stderr, "rank %d: %s: %s: %s:%d: %s %s\n", world_rank(), current_suite, tcase_name(), file, line,
          expression, text);
  end_job();
  abort();
}

/* MPI_Abort is not made for signal handlers: should it block, the alarm kills this rank, and mpirun then
 * ends the others. */
static void on_deadline(int number) {
  (void)number;
  signal(SIGALRM, SIG_DFL);
  alarm(LAST_GRACE_S);
  char text[256];
  int length = snprintf(text, sizeof text, "rank %d: %s: %s: not done by its deadline\n", world_rank(),
                        current_suite, tcase_name());
  if (write(STDERR_FILENO, text, (size_t)length) < 0) _exit(EXIT_FAILURE);
  end_job();
}

/* By a timer and SIGUSR2, because Check takes SIGALRM for itself and kills the process group with it. */
static void set_deadline(timer_t timer, unsigned seconds) {
  struct itimerspec when = {.it_value.tv_sec = seconds};
  if (timer_settime(timer, 0, &when, NULL) != 0) perror("timer_settime");
}

static timer_t make_timer(void) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
  signal(SIGUSR2, on_deadline);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
    perror("timer_create");
    end_job();
  }
  return timer;
}

/* Returns the number of tests that passed; does not return if one failed. */
static int run(const runner_suite_t *suite, timer_t timer, unsigned deadline_s) {
  current_suite = suite->name;
  SRunner *runner = srunner_create(suite->make());
  srunner_set_fork_status(runner, CK_NOFORK);
  set_deadline(timer, deadline_s);
  srunner_run_all(runner, CK_SILENT);
  set_deadline(timer, 0);
  int bad = srunner_ntests_failed(runner), passed = srunner_ntests_run(runner) - bad;
  TestResult **failures = srunner_failures(runner);
  for (int i = 0; i < bad; i++)
    fprintf(stderr, "rank %d: %s: %s: %s:%d: %s\n", world_rank(), suite->name, tr_tcname(failures[i]),
            tr_lfile(failures[i]), tr_lno(failures[i]), tr_msg(failures[i]));
  free(failures);
  srunner_free(runner);
  if (bad > 0) end_job();
  return passed;
}

static const runner_suite_t *find(const runner_suite_t *suites, int suite_count, const char *name) {
  for (int i = 0; i < suite_count; i++)
    if (strcmp(suites[i].name, name) == 0) return &suites[i];
  fprintf(stderr, "no suite is called '%s'\n", name);
  end_job();
  return NULL;
}

int runner_mpi_main(const runner_suite_t *suites, int suite_count, int argc, char **argv) {
  int granted = 0, size = 0, passed = 0, first = 1;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &granted);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  timer_t timer = make_timer();
  unsigned deadline_s = DEFAULT_DEADLINE_S;
  if (argc > 2 && strcmp(argv[1], "--deadline") == 0) {
    deadline_s = (unsigned)strtoul(argv[2], NULL, 10);
    first = 3;
  }
  for (int i = 0; first == argc && i < suite_count; i++) passed += run(&suites[i], timer, deadline_s);
  for (int i = first; i < argc; i++) passed += run(find(suites, suite_count, argv[i]), timer, deadline_s);
  timer_delete(timer);
  MPI_Barrier(MPI_COMM_WORLD); /* nobody has failed if all come here */
  if (world_rank() == 0) printf("%d ranks: %d passed, 0 failed\n", size, passed);
  fflush(stdout);
  MPI_Finalize();
  return EXIT_SUCCESS;
}
