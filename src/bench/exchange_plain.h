/* What an exchange's messages cost by themselves: sent again as they were, and as plain MPI_Alltoallv's of
 * the same bytes; each with one pass over what came. */
#ifndef BENCH_EXCHANGE_PLAIN_H
#define BENCH_EXCHANGE_PLAIN_H

#include "bench/exchange_tap.h"
#include <mpi.h>

typedef struct bench_plain {
  comm_t *comm;
  MPI_Comm handle; /* MPI_COMM_NULL: there is nothing to compare with */
  mem_t *mem;
  int ranks, legs;
  char *send, *recv, *copy; /* what is sent is of no interest */
  int64_t send_bytes, recv_bytes;
  comm_part_t *parts; /* [2 * ranks] */
  int *counts;        /* [legs][4 * ranks]: counts and displacements of both sides */
} bench_plain_t;

/* Before any tap: the comm must still be known as an MPI one. Not collective. */
sbag_code_t bench_plain_create(comm_t *comm, mem_t *mem, int legs, bench_plain_t *plain,
                               sbag_status_t *status);
void bench_plain_destroy(bench_plain_t *plain);

/* Takes the messages of a tap; not collective. */
sbag_code_t bench_plain_take(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status);
/* Collective. */
sbag_code_t bench_plain_again(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status);
sbag_code_t bench_plain_alltoallv(bench_plain_t *plain, sbag_status_t *status);

#endif
