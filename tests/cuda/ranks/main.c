/* The suites of NCCL over MPI: see runner.h. */
#include "runner.h"

Suite *comm_nccl_suite(void);
Suite *nccl_suite(void);
Suite *waits_suite(void);

static const runner_suite_t suites[] = {
    {"comm_nccl", comm_nccl_suite},
    {"nccl", nccl_suite},
    {"waits", waits_suite},
};

int main(int argc, char **argv) {
  return runner_mpi_main(suites, sizeof suites / sizeof *suites, argc, argv);
}
