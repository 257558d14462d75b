/* See cuda_case.h. */
#include "cuda_case.h"

#include "cuda/cuda_kernel.h"

#include <check.h>
#include <string.h>

void cuda_case_open(cuda_case_t *c) {
  sbag_status_t status;
  ck_assert_int_eq(mem_create(&c->mem, &status), SBAG_OK);
  ck_assert_int_eq(kernel_cpu_create(c->mem, &(kernel_cpu_options_t){.threads = 1}, &c->cpu, &status),
                   SBAG_OK);
  ck_assert_msg(kernel_cuda_create(c->mem, 0, &c->gpu, &status) == SBAG_OK, "%s", status.message);
}

void cuda_case_close(cuda_case_t *c) {
  kernel_destroy(&c->gpu);
  kernel_destroy(&c->cpu);
  ck_assert_int_eq(mem_stats(c->mem).live_bytes, 0);
  mem_destroy(&c->mem);
}

static void copy_now(cuda_case_t *c, void *to, const void *from, size_t bytes) {
  const copy_part_t part = {to, from, (int64_t)bytes};
  c->gpu->ops->copy(c->gpu, NULL, &part, 1);
  cuda_case_sync(c);
}

void *cuda_case_put(cuda_case_t *c, const void *host, size_t bytes) {
  sbag_status_t status;
  void *device = NULL;
  ck_assert_msg(c->gpu->ops->alloc(c->gpu, MEMORY_DEVICE, bytes, "a test", &device, &status) == SBAG_OK, "%s",
                status.message);
  if (host != NULL) copy_now(c, device, host, bytes);
  return device;
}

void cuda_case_get(cuda_case_t *c, void *host, const void *device, size_t bytes) {
  copy_now(c, host, device, bytes);
}

void cuda_case_drop(cuda_case_t *c, void *device) {
  c->gpu->ops->release(c->gpu, MEMORY_DEVICE, device);
}

void cuda_case_sync(cuda_case_t *c) {
  sbag_status_t status;
  ck_assert_msg(c->gpu->ops->stream_sync(c->gpu, NULL, &status) == SBAG_OK, "%s", status.message);
}

uint64_t cuda_case_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}
