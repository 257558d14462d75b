/* Runs the suites of NCCL over MPI on however many ranks there are: all, or those named on the command line.
 * A failure on any rank is printed by that rank and ends the job, so that nobody waits for it. Rank 0 ends
 * with `N passed, N failed`. */
#include "mpi/mpi_test.h"

#include <mpi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *comm_nccl_suite(void);
Suite *nccl_suite(void);

typedef struct entry {
  const char *name;
  Suite *(*make)(void);
} entry_t;

static const entry_t entries[] = {
    {"comm_nccl", comm_nccl_suite},
    {"nccl", nccl_suite},
};

enum { ENTRY_COUNT = sizeof entries / sizeof entries[0] };

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
  fprintf(stderr, "rank %d: %s:%d: %s %s\n", world_rank(), file, line, expression, text);
  end_job();
  abort();
}

/* Returns the number of tests that passed; does not return if one failed. */
static int run(const entry_t *entry) {
  SRunner *runner = srunner_create(entry->make());
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_SILENT);
  const int bad = srunner_ntests_failed(runner), passed = srunner_ntests_run(runner) - bad;
  srunner_free(runner);
  if (bad > 0) end_job();
  return passed;
}

int main(int argc, char **argv) {
  int passed = 0;
  MPI_Init(&argc, &argv);
  for (int i = 0; i < ENTRY_COUNT; i++) {
    int named = argc == 1;
    for (int k = 1; k < argc; k++) named |= strcmp(argv[k], entries[i].name) == 0;
    if (named) passed += run(&entries[i]);
  }
  MPI_Barrier(MPI_COMM_WORLD); /* nobody has failed if all come here */
  if (world_rank() == 0) printf("%d passed, 0 failed\n", passed);
  fflush(stdout);
  MPI_Finalize();
  return passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
