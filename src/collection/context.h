/* The context's inside, for the layers above that need its allocator and communicator. */
#ifndef COLLECTION_CONTEXT_H
#define COLLECTION_CONTEXT_H

#include "base/mem.h"
#include "comm/comm.h"
#include "kernel/kernel.h"
#include <shardbag/context.h>

struct sbag_context {
  mem_t *mem;
  comm_t *comm;
  kernel_t *kernel;
  void *seats;                    /* of device_open */
  sbag_context_options_t options; /* device and threads: those that were chosen */
};

/* Borrowed from the context. */
mem_t *context_mem(sbag_context_h context);
comm_t *context_comm(sbag_context_h context);

/* A context on a comm, which it takes over (also on failure: then the comm is destroyed). `mem` likewise. */
sbag_code_t context_create_on(mem_t *mem, comm_t *comm, const sbag_context_options_t *options,
                              sbag_context_h *context, sbag_status_t *status);

/* Refuses options out of range; fills *checked with the defaults where `options` is NULL. */
sbag_code_t context_options_check(const sbag_context_options_t *options, sbag_context_options_t *checked,
                                  sbag_status_t *status);

void context_log(sbag_context_h context, sbag_log_level_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
