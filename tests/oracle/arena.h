/* Memory of a test case: everything is zeroed, lives until the case ends, and is freed in one go. Ends the
 * process where the machine has none left, as a test cannot go on. */
#ifndef ORACLE_ARENA_H
#define ORACLE_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct arena {
  struct arena_block *blocks;
} arena_t;

/* `count` zeroed elements of `bytes` each; never NULL, also for none. */
void *arena_alloc(arena_t *arena, int64_t count, size_t bytes);
char *arena_text(arena_t *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_free(arena_t *arena);

static inline double *arena_doubles(arena_t *arena, int64_t count) {
  return arena_alloc(arena, count, sizeof(double));
}

static inline int64_t *arena_ints(arena_t *arena, int64_t count) {
  return arena_alloc(arena, count, sizeof(int64_t));
}

#endif
