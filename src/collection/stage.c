/* See stage.h. */
#include "collection/stage.h"

sbag_code_t stage_out(kernel_t *kernel, kernel_buffer_t *buffer, void *data, size_t bytes, void **there,
                      sbag_status_t *status) {
  *there = data;
  if (bytes == 0 || kernel->ops->reaches(kernel, data)) return SBAG_OK;
  SBAG_TRY(kernel_buffer_reserve(kernel, buffer, bytes, "the caller's values on the device", status));
  *there = buffer->data;
  return SBAG_OK;
}

sbag_code_t stage_in(kernel_t *kernel, kernel_buffer_t *buffer, const void *data, size_t bytes,
                     const void **there, sbag_status_t *status) {
  void *room = NULL;
  SBAG_TRY(stage_out(kernel, buffer, (void *)(uintptr_t)data, bytes, &room, status));
  *there = room;
  if (room == data) return SBAG_OK;
  const copy_part_t part = {room, data, (int64_t)bytes};
  kernel->ops->copy(kernel, NULL, &part, 1);
  return SBAG_OK;
}

void stage_give(kernel_t *kernel, void *data, const void *there, size_t bytes) {
  const copy_part_t part = {data, there, (int64_t)bytes};
  if (data != there) kernel->ops->copy(kernel, NULL, &part, 1);
}
