/* The kernels under test and their memory. */
#include "kernel_case.h"
#ifdef SHARDBAG_TEST_CUDA
#include "cuda/cuda_kernel.h"
#endif

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 64, GUARD = 0xA5, UNSET = 0x5A };

#ifdef SHARDBAG_TEST_CUDA /* tests/cuda: the GPU's, executed on the CPU */
int kernel_case_count(void) {
  return 1;
}

static sbag_code_t create(int which, mem_t *mem, kernel_t **kernel, sbag_status_t *status) {
  (void)which;
  return kernel_cuda_create(mem, 0, kernel, status);
}
#else
/* gcc's ThreadSanitizer does not know what its OpenMP waits for. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
enum { THREADS_MOST = 1 };
#else
enum { THREADS_MOST = 3 };
#endif

/* The CPU's, of instruction sets that this machine has. */
static const kernel_cpu_options_t variants[] = {{1, ISA_SCALAR}, {3, ISA_SCALAR}, {1, ISA_AVX2},
                                                {3, ISA_AVX2},   {1, ISA_AVX512}, {3, ISA_AVX512}};

static int has_variant(const kernel_cpu_options_t *variant) {
  return variant->threads <= THREADS_MOST && kernel_isa_available(variant->isa);
}

int kernel_case_count(void) {
  int count = 0;
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) count += has_variant(&variants[i]);
  return count;
}

static sbag_code_t create(int which, mem_t *mem, kernel_t **kernel, sbag_status_t *status) {
  const kernel_cpu_options_t *variant = variants;
  while (!has_variant(variant) || which-- > 0) variant++;
  return kernel_cpu_create(mem, variant, kernel, status);
}
#endif

void kernel_case_open(kernel_case_t *c, int which) {
  sbag_status_t status = {0};
  *c = (kernel_case_t){0};
  ck_assert_int_eq(mem_create(&c->mem, &status), SBAG_OK);
  ck_assert_msg(create(which, c->mem, &c->kernel, &status) == SBAG_OK, "%s", status.message);
  c->ops = c->kernel->ops;
}

static void copy(kernel_case_t *c, void *to, const void *from, size_t bytes) {
  sbag_status_t status = {0};
  copy_part_t part = {to, from, (int64_t)bytes};
  c->ops->copy(c->kernel, NULL, &part, 1);
  ck_assert_msg(c->ops->stream_sync(c->kernel, NULL, &status) == SBAG_OK, "%s", status.message);
}

static void check_guard(kernel_case_t *c, const kernel_block_t *block) {
  unsigned char tail[GUARD_BYTES];
  copy(c, tail, block->device + block->bytes, sizeof tail);
  for (int i = 0; i < GUARD_BYTES; i++)
    ck_assert_msg(tail[i] == GUARD, "%s wrote beyond an array of %zu bytes", c->ops->name, block->bytes);
}

void kernel_case_close(kernel_case_t *c) {
  for (kernel_block_t *block = c->blocks; block != NULL; block = block->next) {
    check_guard(c, block);
    c->ops->release(c->kernel, MEMORY_DEVICE, block->device);
  }
  kernel_destroy(&c->kernel);
  ck_assert_int_eq(mem_stats(c->mem).live_bytes, 0);
  mem_destroy(&c->mem);
  arena_free(&c->arena);
}

void *kernel_new(kernel_case_t *c, int64_t count, size_t bytes) {
  sbag_status_t status = {0};
  kernel_block_t *block = arena_alloc(&c->arena, 1, sizeof *block);
  void *p = NULL;
  *block = (kernel_block_t){.bytes = (size_t)count * bytes, .next = c->blocks};
  unsigned char *pattern = arena_alloc(&c->arena, (int64_t)block->bytes + GUARD_BYTES, 1);
  memset(pattern, UNSET, block->bytes);
  memset(pattern + block->bytes, GUARD, GUARD_BYTES);
  sbag_code_t code = c->ops->alloc(c->kernel, MEMORY_DEVICE, block->bytes + GUARD_BYTES, "test", &p, &status);
  ck_assert_msg(code == SBAG_OK, "%s", status.message);
  copy(c, p, pattern, block->bytes + GUARD_BYTES);
  block->device = p;
  c->blocks = block;
  return p;
}

void *kernel_put(kernel_case_t *c, const void *host, int64_t count, size_t bytes) {
  void *device = kernel_new(c, count, bytes);
  copy(c, device, host, (size_t)count * bytes);
  return device;
}

void *kernel_get(kernel_case_t *c, const void *device, int64_t count, size_t bytes) {
  void *host = arena_alloc(&c->arena, count, bytes);
  copy(c, host, device, (size_t)count * bytes);
  return host;
}

void *kernel_put_real(kernel_case_t *c, sbag_dtype_t dtype, const double *host, int64_t count) {
  if (dtype == SBAG_F64) return kernel_put(c, host, count, sizeof(double));
  float *narrow = arena_alloc(&c->arena, count, sizeof *narrow);
  for (int64_t i = 0; i < count; i++) narrow[i] = (float)host[i];
  return kernel_put(c, narrow, count, sizeof *narrow);
}

double *kernel_get_real(kernel_case_t *c, sbag_dtype_t dtype, const void *device, int64_t count) {
  if (dtype == SBAG_F64) return kernel_get(c, device, count, sizeof(double));
  const float *narrow = kernel_get(c, device, count, sizeof *narrow);
  double *host = arena_doubles(&c->arena, count);
  for (int64_t i = 0; i < count; i++) host[i] = (double)narrow[i];
  return host;
}

double kernel_draw_value(draw_t *draw) {
  return (double)draw_between(draw, -64, 64) / 8;
}

double *kernel_draw_values(kernel_case_t *c, draw_t *draw, int64_t count) {
  double *values = arena_doubles(&c->arena, count);
  for (int64_t i = 0; i < count; i++) values[i] = kernel_draw_value(draw);
  return values;
}

int kernel_same(double a, double b) {
  if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
  return !(a < b) && !(a > b) && !signbit(a) == !signbit(b);
}

int64_t *kernel_draw_order(kernel_case_t *c, draw_t *draw, int64_t count) {
  int64_t *order = arena_ints(&c->arena, count);
  for (int64_t i = 0; i < count; i++) {
    int64_t j = draw_below(draw, i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  return order;
}

int64_t *kernel_draw_segments(kernel_case_t *c, draw_t *draw, int64_t segments, int64_t most) {
  int64_t *begin = arena_ints(&c->arena, segments + 1);
  for (int64_t s = 0; s < segments; s++) begin[s + 1] = begin[s] + draw_between(draw, 0, most);
  return begin;
}
