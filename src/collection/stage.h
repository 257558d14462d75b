/* What the caller brings to a step may be the host's memory, which ops cannot touch where the device is a
 * GPU: it goes by way of a buffer there. Where ops reach the caller's memory itself nothing is copied. */
#ifndef COLLECTION_STAGE_H
#define COLLECTION_STAGE_H

#include "kernel/kernel.h"

/* *there: the caller's bytes where ops can read them, now. The buffer holds them until it is used again. */
sbag_code_t stage_in(kernel_t *kernel, kernel_buffer_t *buffer, const void *data, size_t bytes,
                     const void **there, sbag_status_t *status);
/* *there: where ops are to write what the caller shall have in `data`. */
sbag_code_t stage_out(kernel_t *kernel, kernel_buffer_t *buffer, void *data, size_t bytes, void **there,
                      sbag_status_t *status);
/* Afterwards: the caller has it after the next stream_sync. */
void stage_give(kernel_t *kernel, void *data, const void *there, size_t bytes);

#endif
