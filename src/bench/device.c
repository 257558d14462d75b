/* See device.h. */
#include "bench/device.h"

#include "collection/context.h"

const config_word_t bench_devices[] = {
    {"cpu", SBAG_DEVICE_CPU}, {"cuda", SBAG_DEVICE_CUDA}, {"auto", SBAG_DEVICE_AUTO}, {NULL, 0}};

const char *bench_device_name(sbag_context_h context) {
  return sbag_context_device(context) == SBAG_DEVICE_CUDA ? "cuda" : "cpu";
}

sbag_code_t bench_twin_create(sbag_context_h context, void *host, int64_t bytes, bench_twin_t *twin,
                              sbag_status_t *status) {
  kernel_t *k = context->kernel;
  *twin = (bench_twin_t){.host = host, .there = host, .bytes = bytes};
  if (sbag_context_device(context) == SBAG_DEVICE_CPU || bytes == 0) return SBAG_OK;
  void *made = NULL;
  SBAG_TRY(k->ops->alloc(k, MEMORY_DEVICE, (size_t)bytes, "bench: arrays", &made, status));
  twin->there = made;
  return sbag_context_copy(context, made, host, bytes, status);
}

void bench_twin_destroy(sbag_context_h context, bench_twin_t *twin) {
  kernel_t *k = context->kernel;
  if (twin->there != twin->host) k->ops->release(k, MEMORY_DEVICE, twin->there);
  *twin = (bench_twin_t){.host = NULL};
}

sbag_code_t bench_twin_fetch(sbag_context_h context, const bench_twin_t *twin, sbag_status_t *status) {
  if (twin->there == twin->host) return SBAG_OK;
  return sbag_context_copy(context, twin->host, twin->there, twin->bytes, status);
}

sbag_code_t bench_settle(sbag_context_h context, sbag_status_t *status) {
  kernel_t *k = context->kernel;
  return k->ops->stream_sync(k, NULL, status);
}
