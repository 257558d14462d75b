/* Memory of a test case: a list of blocks. */
#include "arena.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct arena_block {
  struct arena_block *next;
  max_align_t data[];
} arena_block_t;

void *arena_alloc(arena_t *arena, int64_t count, size_t bytes) {
  arena_block_t *block = calloc(1, sizeof *block + (size_t)count * bytes + 1);
  if (block == NULL) {
    fprintf(stderr, "test: no memory for %lld elements of %zu bytes\n", (long long)count, bytes);
    abort();
  }
  block->next = arena->blocks;
  arena->blocks = block;
  return block->data;
}

char *arena_text(arena_t *arena, const char *format, ...) {
  enum { TEXT_BYTES = 768 };
  char *text = arena_alloc(arena, TEXT_BYTES, 1);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, TEXT_BYTES, format, arguments);
  va_end(arguments);
  return text;
}

void arena_free(arena_t *arena) {
  while (arena->blocks != NULL) {
    arena_block_t *next = arena->blocks->next;
    free(arena->blocks);
    arena->blocks = next;
  }
}
