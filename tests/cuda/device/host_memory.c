/* With EMU_APART=1, what the program's C code gets from malloc is memory that kernels cannot touch: see
 * shim/apart.h. Programs that are linked with this have malloc and its kin by way of here (--wrap). Blocks of
 * sizes that are powers of two; what was freed is given again. A kernel's own (Thrust's, on the CPU) are its
 * to touch. */
#include "apart.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER_BYTES = 16, CLASSES = 40, CLASS_LEAST = 5 };
#define HOST_BYTES   ((size_t)1 << 36)
#define GROWTH_BYTES ((size_t)1 << 20)

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t bytes);
void __real_free(void *block);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t bytes);
void __wrap_free(void *block);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *base;
static size_t used, grown;
static void *idle[CLASSES]; /* by log2 of the bytes, headers included */

static int is_ours(const void *block) {
  return base != NULL && (uintptr_t)block >= (uintptr_t)base && (uintptr_t)block < (uintptr_t)base + used;
}

static size_t *header_of(void *block) {
  return (size_t *)(void *)((char *)block - HEADER_BYTES);
}

/* So many bytes more than are in use; 0: they are there. */
static int grow(size_t bytes) {
  if (base == NULL) {
    void *made = mmap(NULL, HOST_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return -1;
    base = made;
  }
  if (used + bytes <= grown) return 0;
  size_t more = (used + bytes - grown + GROWTH_BYTES - 1) / GROWTH_BYTES * GROWTH_BYTES;
  if (more > HOST_BYTES - grown || mprotect(base + grown, more, PROT_READ | PROT_WRITE) != 0) return -1;
  grown += more;
  emu_apart_host(base, grown);
  return 0;
}

static void *take(int class) {
  size_t bytes = (size_t)1 << class;
  void *block = idle[class];
  if (block != NULL) {
    memcpy(&idle[class], block, sizeof block);
    return block;
  }
  if (grow(bytes) != 0) return NULL;
  block = base + used + HEADER_BYTES;
  used += bytes;
  *header_of(block) = (size_t) class;
  return block;
}

void *__wrap_malloc(size_t bytes) {
  int class = CLASS_LEAST;
  if (!emu_apart() || emu_kernel_runs() || bytes > HOST_BYTES / 2) return __real_malloc(bytes);
  while (((size_t)1 << class) < bytes + HEADER_BYTES) class ++;
  pthread_mutex_lock(&lock);
  void *block = take(class);
  pthread_mutex_unlock(&lock);
  return block;
}

void __wrap_free(void *block) {
  if (!is_ours(block)) {
    __real_free(block);
    return;
  }
  size_t class = *header_of(block);
  pthread_mutex_lock(&lock);
  memcpy(block, &idle[class], sizeof block);
  idle[class] = block;
  pthread_mutex_unlock(&lock);
}

void *__wrap_calloc(size_t count, size_t size) {
  if (!emu_apart() || (size > 0 && count > HOST_BYTES / size)) return __real_calloc(count, size);
  void *block = __wrap_malloc(count * size);
  return block == NULL ? NULL : memset(block, 0, count * size);
}

void *__wrap_realloc(void *block, size_t bytes) {
  if (block == NULL) return __wrap_malloc(bytes);
  if (!is_ours(block)) return __real_realloc(block, bytes);
  size_t room = ((size_t)1 << *header_of(block)) - HEADER_BYTES;
  if (bytes <= room) return block;
  void *moved = __wrap_malloc(bytes);
  if (moved == NULL) return NULL;
  memcpy(moved, block, room);
  __wrap_free(block);
  return moved;
}
