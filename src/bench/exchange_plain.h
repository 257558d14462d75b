/* What an exchange's messages cost by themselves: sent again as they were, and as plain all-to-alls of the
 * same bytes, one a leg; each with one pass over what came. Plain is MPI_Alltoallv in the host's memory; in a
 * GPU's it is what nccl-tests call alltoall, ncclSend and ncclRecv with every peer in a group. */
#ifndef BENCH_EXCHANGE_PLAIN_H
#define BENCH_EXCHANGE_PLAIN_H

#include "bench/exchange_tap.h"
#include <mpi.h>

/* Memory for messages; what is sent is of no interest. */
typedef struct bench_plain_side {
  kernel_buffer_t send, recv, copy;
} bench_plain_side_t;

typedef struct bench_plain {
  comm_t *comm;
  kernel_t *kernel;
  MPI_Comm handle; /* MPI_COMM_NULL: there is nothing to compare with */
  int ranks, legs, on_device;
  bench_plain_side_t host, device; /* device: of a GPU */
  comm_part_t *parts;              /* [2 * ranks] */
  int *counts;                     /* [legs][4 * ranks]: counts and displacements of both sides */
} bench_plain_t;

/* Before any tap: the comm must still be known as an MPI one. Not collective. */
sbag_code_t bench_plain_create(comm_t *comm, kernel_t *kernel, int legs, bench_plain_t *plain,
                               sbag_status_t *status);
void bench_plain_destroy(bench_plain_t *plain);

/* Takes the messages of a tap; not collective. */
sbag_code_t bench_plain_take(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status);
/* Collective. */
sbag_code_t bench_plain_again(bench_plain_t *plain, const bench_comm_tap_t *tap, sbag_status_t *status);
sbag_code_t bench_plain_alltoall(bench_plain_t *plain, sbag_status_t *status);

#endif
