/* Programs that are linked with this (--wrap) and ask for no device get a GPU: the suites of tests/mpi and
 * tests/golden run on it as they are. */
#include <shardbag/context.h>
#include <shardbag/mpi.h>

sbag_code_t __real_sbag_context_create(const sbag_context_options_t *options, sbag_context_h *context,
                                       sbag_status_t *status);
sbag_code_t __wrap_sbag_context_create(const sbag_context_options_t *options, sbag_context_h *context,
                                       sbag_status_t *status);
sbag_code_t __real_sbag_context_create_mpi(MPI_Comm comm, const sbag_context_options_t *options,
                                           sbag_context_h *context, sbag_status_t *status);
sbag_code_t __wrap_sbag_context_create_mpi(MPI_Comm comm, const sbag_context_options_t *options,
                                           sbag_context_h *context, sbag_status_t *status);

static sbag_context_options_t on_gpu(const sbag_context_options_t *options) {
  sbag_context_options_t o = options != NULL ? *options : sbag_context_options_default();
  if (o.device == SBAG_DEVICE_CPU) o.device = SBAG_DEVICE_CUDA;
  return o;
}

sbag_code_t __wrap_sbag_context_create(const sbag_context_options_t *options, sbag_context_h *context,
                                       sbag_status_t *status) {
  const sbag_context_options_t o = on_gpu(options);
  return __real_sbag_context_create(&o, context, status);
}

sbag_code_t __wrap_sbag_context_create_mpi(MPI_Comm comm, const sbag_context_options_t *options,
                                           sbag_context_h *context, sbag_status_t *status) {
  const sbag_context_options_t o = on_gpu(options);
  return __real_sbag_context_create_mpi(comm, &o, context, status);
}
