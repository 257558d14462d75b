/* The kernel of the CPU: its memory, its (eager) stream, and its table of ops. Those that have functions for
 * several instruction sets choose by the kernel's isa; the scalar ones are the reference. */
#include "kernel/cpu.h"
#include "kernel/cpu_isa.h"

#include <string.h>

typedef struct cpu_kernel {
  kernel_t base;
  kernel_ops_t ops;
} cpu_kernel_t;

static void cpu_phase(kernel_t *k, const char *name) {
  (void)k, (void)name; /* profilers of a CPU see functions */
}

static sbag_code_t cpu_alloc(kernel_t *k, kernel_memory_t kind, size_t bytes, const char *what, void **block,
                             sbag_status_t *status) {
  (void)kind; /* host, pinned and device memory are the same here */
  return mem_alloc(k->mem, bytes, what, block, status);
}

static void cpu_release(kernel_t *k, kernel_memory_t kind, void *block) {
  (void)kind;
  mem_free(k->mem, block);
}

static int cpu_reaches(kernel_t *k, const void *data) {
  (void)k, (void)data;
  return 1;
}

static sbag_code_t cpu_stream_sync(kernel_t *k, kernel_stream_t *stream, sbag_status_t *status) {
  (void)k, (void)stream, (void)status; /* eager: nothing is ever outstanding */
  return SBAG_OK;
}

static void cpu_copy(kernel_t *k, kernel_stream_t *stream, const copy_part_t *parts, int64_t count) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++)
    if (parts[i].bytes > 0) memcpy(parts[i].to, parts[i].from, (size_t)parts[i].bytes);
}

static void cpu_destroy(kernel_t *k) {
  mem_free(k->mem, k);
}

sbag_code_t kernel_cpu_create(mem_t *mem, const kernel_cpu_options_t *options, kernel_t **kernel,
                              sbag_status_t *status) {
  kernel_isa_t isa = ISA_SCALAR;
  SBAG_TRY(cpu_isa_resolve(options->isa, &isa, status));
  void *p = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(cpu_kernel_t), "kernel", &p, status));
  cpu_kernel_t *made = p;
  made->ops = (kernel_ops_t){.name = cpu_isa_name(isa),
                             .device = SBAG_DEVICE_CPU,
                             .eager = 1,
                             .destroy = cpu_destroy,
                             .phase = cpu_phase,
                             .alloc = cpu_alloc,
                             .release = cpu_release,
                             .reaches = cpu_reaches,
                             .stream_sync = cpu_stream_sync,
                             .stream_check = cpu_stream_sync,
                             .copy = cpu_copy,
                             .edges_build = cpu_edges_build,
                             .winner_rows = cpu_winner_rows};
  cpu_integer_ops(&made->ops);
  cpu_unique_ops(&made->ops);
  cpu_rows_ops(&made->ops);
  cpu_pack_ops(&made->ops);
  cpu_cover_ops(&made->ops);
  cpu_places_ops(&made->ops);
  cpu_narrow_ops(&made->ops);
  cpu_real_ops(&made->ops);
  cpu_reduce_ops(&made->ops);
  cpu_update_ops(&made->ops);
  cpu_init_ops(&made->ops);
  made->base = (kernel_t){.ops = &made->ops, .mem = mem, .threads = options->threads, .isa = isa};
  *kernel = &made->base;
  return SBAG_OK;
}
