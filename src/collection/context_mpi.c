/* Contexts over MPI. */
#include "collection/context.h"
#include "comm/comm_mpi.h"
#include <shardbag/mpi.h>

sbag_code_t sbag_context_create_mpi(MPI_Comm mpi_comm, const sbag_context_options_t *options,
                                    sbag_context_h *context, sbag_status_t *status) {
  sbag_context_options_t checked;
  mem_t *mem = NULL;
  comm_t *comm = NULL;
  sbag_code_t code = context_options_check(options, &checked, status);
  if (code == SBAG_OK) code = mem_create(&mem, status);
  if (code != SBAG_OK) {
    comm_mpi_decline(mpi_comm);
    return code;
  }
  comm_options_t comm_options = {.chunk_bytes = checked.chunk_bytes, .timeout_s = checked.timeout_s};
  code = comm_mpi_create(mpi_comm, mem, &comm_options, &comm, status);
  if (code != SBAG_OK) {
    mem_destroy(&mem);
    return code;
  }
  return context_create_on(mem, comm, &checked, context, status);
}
