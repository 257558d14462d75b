/* Include this in place of check.h in MPI suites. Check's own failure leaves the test by longjmp, and the
 * other ranks would wait for this one for ever; here a failed assertion prints its message and ends the job
 * at once. */
#ifndef TESTS_MPI_MPI_TEST_H
#define TESTS_MPI_MPI_TEST_H

#include <check.h>

void mpi_test_failed(const char *file, int line, const char *expression, const char *message, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* What the assertions of check.h call when they fail. */
#define _ck_assert_failed mpi_test_failed

#endif
