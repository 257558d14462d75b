/* Scratch memory with stack discipline: what is taken after a mark is given back by releasing the mark. The
 * block grows to the most that was ever live at once and stays, so that a warm step allocates nothing and
 * phases that follow one another share the same memory. */
#ifndef KERNEL_ARENA_H
#define KERNEL_ARENA_H

#include "kernel/kernel.h"

enum { ARENA_OVERFLOWS = 64 };

typedef struct kernel_arena {
  kernel_buffer_t block;
  size_t used, peak; /* bytes live now, and the most since the block last grew; overflows counted */
  struct {
    kernel_buffer_t block;
    size_t begin; /* `used` before it was taken */
  } overflow[ARENA_OVERFLOWS];
  int overflows;
} kernel_arena_t;

/* Empties the arena and makes its block as large as was needed so far. Nothing taken before may be used
 * after. */
sbag_code_t kernel_arena_begin(kernel_t *kernel, kernel_arena_t *arena, sbag_status_t *status);
/* 64-byte aligned; valid until a mark taken before is released. */
sbag_code_t kernel_arena_take(kernel_t *kernel, kernel_arena_t *arena, size_t bytes, void **data,
                              sbag_status_t *status);
static inline size_t kernel_arena_mark(const kernel_arena_t *arena) {
  return arena->used;
}
void kernel_arena_release(kernel_t *kernel, kernel_arena_t *arena, size_t mark);
void kernel_arena_free(kernel_t *kernel, kernel_arena_t *arena);

#endif
