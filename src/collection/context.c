/* Contexts: what everything else hangs from. */
#include "collection/context.h"
#include "collection/device.h"
#include "collection/machine.h"
#include <shardbag/version.h>

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONTEXT_THREADS_MOST = 4096 };

const char *sbag_version(void) {
  return SBAG_VERSION;
}

sbag_context_options_t sbag_context_options_default(void) {
  return (sbag_context_options_t){.device = SBAG_DEVICE_CPU, .exchange = SBAG_EXCHANGE_AUTO, .timeout_s = 60};
}

sbag_code_t context_options_check(const sbag_context_options_t *options, sbag_context_options_t *checked,
                                  sbag_status_t *status) {
  sbag_context_options_t o = options != NULL ? *options : sbag_context_options_default();
  if (o.device < SBAG_DEVICE_CPU || o.device > SBAG_DEVICE_AUTO)
    return status_set(status, SBAG_ERR_ARGUMENT, "context: device %d is none of cpu (0), cuda (1), auto (2)",
                      (int)o.device);
  if (o.exchange < SBAG_EXCHANGE_AUTO || o.exchange > SBAG_EXCHANGE_DENSE)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "context: exchange %d is none of auto (0), pools (1), rows (2), dense (3)",
                      (int)o.exchange);
  if (o.wire < SBAG_WIRE_FULL || o.wire > SBAG_WIRE_BF16)
    return status_set(status, SBAG_ERR_ARGUMENT, "context: wire %d is none of full (0), f16 (1), bf16 (2)",
                      (int)o.wire);
  if (o.threads < 0 || o.threads > CONTEXT_THREADS_MOST)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "context: threads %d is not in 0 (the rank's part of the cores) to %d", o.threads,
                      CONTEXT_THREADS_MOST);
  if (o.chunk_bytes < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "context: chunk_bytes %lld is below 0",
                      (long long)o.chunk_bytes);
  if (!(o.timeout_s >= 0) || isinf(o.timeout_s))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "context: timeout_s %g is not a number of seconds from 0 (no deadline)", o.timeout_s);
  *checked = o;
  return SBAG_OK;
}

/* The trace's phases are what a device's profiler shows as well. */
static void show_phase(void *listening, const char *phase) {
  kernel_t *kernel = listening;
  kernel->ops->phase(kernel, phase);
}

sbag_code_t context_create_on(mem_t *mem, comm_t *comm, const sbag_context_options_t *options,
                              sbag_context_h *context, sbag_status_t *status) {
  void *made = NULL, *seats = NULL;
  kernel_t *kernel = NULL;
  sbag_device_t device = SBAG_DEVICE_CPU;
  sbag_code_t code = mem_calloc(mem, sizeof(struct sbag_context), "context", &made, status);
  kernel_cpu_options_t cpu = {.threads = options->threads};
  int share = 1;
  if (code == SBAG_OK) code = machine_threads(mem, comm, &share, status);
  if (cpu.threads == 0) cpu.threads = share;
  if (code == SBAG_OK) code = device_open(mem, comm, options->device, &cpu, &kernel, &device, &seats, status);
  if (code != SBAG_OK) {
    mem_free(mem, made);
    comm_fail(comm, status); /* the other ranks have theirs */
    comm_destroy(&comm);
    kernel_destroy(&kernel);
    mem_free(mem, seats);
    mem_destroy(&mem);
    return code;
  }
  sbag_context_h c = made;
  *c = (struct sbag_context){.mem = mem, .comm = comm, .kernel = kernel, .seats = seats, .options = *options};
  c->options.device = device;
  c->options.threads = cpu.threads;
  comm->trace.listener = show_phase;
  comm->trace.listening = kernel;
  *context = c;
  return SBAG_OK;
}

sbag_code_t sbag_context_create(const sbag_context_options_t *options, sbag_context_h *context,
                                sbag_status_t *status) {
  sbag_context_options_t checked;
  SBAG_TRY(context_options_check(options, &checked, status));
  mem_t *mem = NULL;
  comm_t *comm = NULL;
  SBAG_TRY(mem_create(&mem, status));
  comm_options_t comm_options = {.chunk_bytes = checked.chunk_bytes, .timeout_s = checked.timeout_s};
  sbag_code_t code = comm_self_create(mem, &comm_options, &comm, status);
  if (code != SBAG_OK) {
    mem_destroy(&mem);
    return code;
  }
  return context_create_on(mem, comm, &checked, context, status);
}

void sbag_context_destroy(sbag_context_h *context) {
  if (context == NULL || *context == NULL) return;
  sbag_context_h c = *context;
  mem_t *mem = c->mem;
  comm_destroy(&c->comm);
  kernel_destroy(&c->kernel);
  mem_free(mem, c->seats);
  mem_free(mem, c);
  mem_destroy(&mem);
  *context = NULL;
}

int sbag_context_rank(sbag_context_h context) {
  return comm_rank(context->comm);
}

int sbag_context_size(sbag_context_h context) {
  return comm_size(context->comm);
}

sbag_device_t sbag_context_device(sbag_context_h context) {
  return context->options.device;
}

int sbag_context_threads(sbag_context_h context) {
  return context->options.threads;
}

sbag_code_t sbag_context_copy(sbag_context_h context, void *to, const void *from, int64_t bytes,
                              sbag_status_t *status) {
  kernel_t *k = context->kernel;
  const copy_part_t part = {to, from, bytes};
  if (bytes < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "copy: %lld bytes are below 0", (long long)bytes);
  k->ops->copy(k, NULL, &part, 1);
  return k->ops->stream_sync(k, NULL, status);
}

sbag_code_t sbag_context_agree(sbag_context_h context, sbag_code_t mine, sbag_status_t *status) {
  return comm_agree(context->comm, mine, status);
}

sbag_memory_stats_t sbag_context_memory(sbag_context_h context) {
  mem_stats_t stats = mem_stats(context->mem);
  return (sbag_memory_stats_t){stats.alloc_count, stats.live_bytes, stats.peak_bytes};
}

mem_t *context_mem(sbag_context_h context) {
  return context->mem;
}

comm_t *context_comm(sbag_context_h context) {
  return context->comm;
}

void context_log(sbag_context_h context, sbag_log_level_t level, const char *format, ...) {
  if (context->options.log == NULL) return;
  char line[SBAG_MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  context->options.log(context->options.log_user, level, line);
}
