/* What a GPU's memory gives, by the library's own kernels: rows gathered to an output, rows that each come
 * once written from one, and a block copied. */
#ifndef BENCH_MEMORY_DEVICE_H
#define BENCH_MEMORY_DEVICE_H

#include "bench/memory.h"

/* As bench_memory, which calls it where the context's device is a GPU. */
sbag_code_t bench_memory_device(sbag_context_h context, const bench_memory_settings_t *settings, FILE *out,
                                FILE *json, const char *json_path, sbag_status_t *status);

#endif
