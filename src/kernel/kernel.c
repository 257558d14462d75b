/* What all kernels share: buffers that grow and stay. */
#include "kernel/kernel.h"

#include <string.h>

void kernel_destroy(kernel_t **kernel) {
  if (kernel == NULL || *kernel == NULL) return;
  (*kernel)->ops->destroy(*kernel);
  *kernel = NULL;
}

sbag_code_t kernel_buffer_reserve(kernel_t *kernel, kernel_buffer_t *buffer, size_t bytes, const char *what,
                                  sbag_status_t *status) {
  if (bytes <= buffer->bytes && buffer->data != NULL) return SBAG_OK;
  /* The old content is not needed: freeing first keeps the peak at one copy. Headroom for batches that vary.
   */
  kernel_buffer_free(kernel, buffer);
  size_t wanted = bytes;
  /* The larger a batch, the less its parts vary. */
  size_t headroom = bytes < ((size_t)1 << 20)   ? bytes / 2 + 4096
                    : bytes < ((size_t)1 << 26) ? bytes / 8
                                                : bytes / 32;
  if (__builtin_add_overflow(bytes, headroom, &wanted)) wanted = bytes;
  SBAG_TRY(kernel->ops->alloc(kernel, buffer->kind, wanted, what, &buffer->data, status));
  buffer->bytes = wanted;
  return SBAG_OK;
}

void kernel_buffer_free(kernel_t *kernel, kernel_buffer_t *buffer) {
  if (buffer->data != NULL) kernel->ops->release(kernel, buffer->kind, buffer->data);
  buffer->data = NULL;
  buffer->bytes = 0;
}
