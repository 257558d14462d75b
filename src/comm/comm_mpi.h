/* The MPI implementation of comm. This header and shardbag/mpi.h are the only ones that name MPI types. */
#ifndef COMM_COMM_MPI_H
#define COMM_COMM_MPI_H

#include "comm/comm.h"
#include <mpi.h>

/* Collective over `parent`, which is duplicated. MPI must be initialised (MPI_THREAD_FUNNELED is enough).
 * Ends by the options' deadline where a rank does not come; close to it, ranks send empty messages with the
 * highest tag on `parent`. */
sbag_code_t comm_mpi_create(MPI_Comm parent, mem_t *mem, const comm_options_t *options, comm_t **comm,
                            sbag_status_t *status);

/* In place of comm_mpi_create on a rank that has an error already: the others return an error too.
 * Collective. */
void comm_mpi_decline(MPI_Comm parent);

/* The communicator behind a comm, for who needs MPI itself; MPI_COMM_NULL if it is
 * not an MPI one. Owned by the comm. */
MPI_Comm comm_mpi_handle(const comm_t *comm);

#endif
