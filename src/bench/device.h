/* What benchmarks need where the context's device is a GPU: arrays in its memory, as a model has them, and a
 * clock that is read when it has nothing left to do. On the CPU all of this is nothing. */
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include "config/schema.h"
#include <shardbag/context.h>

/* The words of a key `device`: sbag_device_t. */
extern const config_word_t bench_devices[];

/* The context's device by its word. */
const char *bench_device_name(sbag_context_h context);

/* An array of the host's (borrowed), and in the device's memory one of as many bytes: on the CPU the same. */
typedef struct bench_twin {
  void *host, *there;
  int64_t bytes;
} bench_twin_t;

/* With the host's values. Not collective. */
sbag_code_t bench_twin_create(sbag_context_h context, void *host, int64_t bytes, bench_twin_t *twin,
                              sbag_status_t *status);
void bench_twin_destroy(sbag_context_h context, bench_twin_t *twin);
/* Brings the device's values to the host. */
sbag_code_t bench_twin_fetch(sbag_context_h context, const bench_twin_t *twin, sbag_status_t *status);

/* Waits until the device has done what it was given. */
sbag_code_t bench_settle(sbag_context_h context, sbag_status_t *status);

#endif
