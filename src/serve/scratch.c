/* Blocks that double; a piece is cut from the newest. */
#include "serve/scratch.h"

enum { FIRST_BYTES = 4096, MOST_BYTES = 1 << 20, ALIGN = 16 };

typedef struct scratch_block {
  struct scratch_block *older;
  char padding[ALIGN - sizeof(struct scratch_block *)];
  char data[];
} scratch_block_t;

static sbag_code_t add_block(scratch_t *arena, size_t bytes, sbag_status_t *status) {
  size_t room = arena->room == 0 ? FIRST_BYTES : arena->room < MOST_BYTES ? 2 * arena->room : MOST_BYTES;
  void *block = NULL;
  if (room < bytes) room = bytes;
  SBAG_TRY(mem_alloc(arena->mem, sizeof(scratch_block_t) + room, "a request", &block, status));
  ((scratch_block_t *)block)->older = arena->blocks;
  arena->blocks = block;
  arena->used = 0;
  arena->room = room;
  return SBAG_OK;
}

sbag_code_t scratch_take(scratch_t *arena, size_t bytes, void **piece, sbag_status_t *status) {
  if (bytes > SIZE_MAX / 2) return status_set(status, SBAG_ERR_MEMORY, "a request: too large");
  size_t whole = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  if (arena->blocks == NULL || whole > arena->room - arena->used) SBAG_TRY(add_block(arena, whole, status));
  *piece = arena->blocks->data + arena->used;
  arena->used += whole;
  return SBAG_OK;
}

void scratch_clear(scratch_t *arena) {
  while (arena->blocks != NULL) {
    scratch_block_t *block = arena->blocks;
    arena->blocks = block->older;
    mem_free(arena->mem, block);
  }
  arena->used = arena->room = 0;
}
