/* Contexts over MPI. The only public header that needs mpi.h. */
#ifndef SHARDBAG_MPI_H
#define SHARDBAG_MPI_H

#include <mpi.h>
#include <shardbag/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A context over `comm`, which is duplicated; MPI must be initialised (MPI_THREAD_FUNNELED is enough: one
 * thread calls the library) and finalised after the context is destroyed. `options` may be NULL. Collective
 * over comm. */
SBAG_API sbag_code_t sbag_context_create_mpi(MPI_Comm comm, const sbag_context_options_t *options,
                                             sbag_context_h *context, sbag_status_t *status);

#ifdef __cplusplus
}
#endif
#endif
