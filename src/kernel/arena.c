/* Scratch memory with stack discipline. */
#include "kernel/arena.h"

sbag_code_t kernel_arena_begin(kernel_t *kernel, kernel_arena_t *arena, sbag_status_t *status) {
  kernel_arena_release(kernel, arena, 0);
  return kernel_buffer_reserve(kernel, &arena->block, arena->peak, "exchange: scratch", status);
}

/* What does not fit the block gets one of its own, which goes when its mark is released; the next begin grows
 * the block instead. */
static sbag_code_t take_overflow(kernel_t *kernel, kernel_arena_t *arena, size_t bytes, void **data,
                                 sbag_status_t *status) {
  if (arena->overflows == ARENA_OVERFLOWS)
    return status_set(status, SBAG_ERR_MEMORY, "exchange: more than %d scratch blocks in one step",
                      ARENA_OVERFLOWS);
  kernel_buffer_t block = {.kind = arena->block.kind};
  SBAG_TRY(kernel->ops->alloc(kernel, block.kind, bytes, "exchange: scratch", &block.data, status));
  block.bytes = bytes;
  arena->overflow[arena->overflows].block = block;
  arena->overflow[arena->overflows++].begin = arena->used;
  *data = block.data;
  return SBAG_OK;
}

sbag_code_t kernel_arena_take(kernel_t *kernel, kernel_arena_t *arena, size_t bytes, void **data,
                              sbag_status_t *status) {
  if (bytes > SIZE_MAX / 4)
    return status_set(status, SBAG_ERR_MEMORY, "exchange: scratch of %zu bytes", bytes);
  size_t rounded = (bytes + 63) / 64 * 64;
  if (arena->used + rounded <= arena->block.bytes)
    *data = (char *)arena->block.data + arena->used;
  else
    SBAG_TRY(take_overflow(kernel, arena, rounded, data, status));
  arena->used += rounded;
  if (arena->used > arena->peak) arena->peak = arena->used;
  return SBAG_OK;
}

void kernel_arena_release(kernel_t *kernel, kernel_arena_t *arena, size_t mark) {
  while (arena->overflows > 0 && arena->overflow[arena->overflows - 1].begin >= mark)
    kernel_buffer_free(kernel, &arena->overflow[--arena->overflows].block);
  arena->used = mark;
}

void kernel_arena_free(kernel_t *kernel, kernel_arena_t *arena) {
  kernel_arena_release(kernel, arena, 0);
  kernel_buffer_free(kernel, &arena->block);
}
