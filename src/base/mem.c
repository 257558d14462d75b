/* Counted host memory: a header of one cache line in front of each block holds its size. Large blocks come
 * straight from the kernel and go straight back: kept by malloc they would stay in the process where they no
 * longer fit. They begin with a page, so that a disk can take from them without a copy in between. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER_BYTES = 64, PAGE_BYTES = 4096, LARGE_BYTES = 1 << 20 };

/* Blocks from a huge page on lie on huge pages where the machine has some left: rows read at random would
 * need a page's address each. The last one is a huge page too, where less than a WASTE_SHARE-th is lost by
 * that: the states of 10^6 rows, one value each, are 1.9 huge pages. PAGES_BYTES is a multiple of every
 * machine's page. */
enum { HUGE_PAGE_BYTES = 2 << 20, WASTE_SHARE = 8, PAGES_BYTES = 1 << 16 };

/* Under a sanitizer all blocks are malloc's, which it watches. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { WATCHED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { WATCHED = 1 };
#else
enum { WATCHED = 0 };
#endif
#else
enum { WATCHED = 0 };
#endif

struct mem {
  _Atomic int64_t alloc_count, live_bytes, peak_bytes, fail_at;
};

typedef struct header {
  size_t bytes;
} header_t;

sbag_code_t mem_create(mem_t **mem, sbag_status_t *status) {
  mem_t *made = calloc(1, sizeof *made);
  if (made == NULL) return status_set(status, SBAG_ERR_MEMORY, "out of memory: the allocator's own record");
  *mem = made;
  return SBAG_OK;
}

void mem_destroy(mem_t **mem) {
  if (mem == NULL) return;
  free(*mem);
  *mem = NULL;
}

static void count_block(mem_t *mem, size_t bytes) {
  int64_t live = atomic_fetch_add(&mem->live_bytes, (int64_t)bytes) + (int64_t)bytes;
  int64_t peak = atomic_load(&mem->peak_bytes);
  while (live > peak && !atomic_compare_exchange_weak(&mem->peak_bytes, &peak, live)) {
  }
}

static int planned_failure(mem_t *mem) {
  int64_t left = atomic_load(&mem->fail_at);
  return left > 0 && atomic_fetch_sub(&mem->fail_at, 1) == 1;
}

static size_t whole_bytes(size_t bytes) {
  return (bytes + HEADER_BYTES + 63) / 64 * 64;
}

static int is_large(size_t bytes) {
  return !WATCHED && bytes >= LARGE_BYTES;
}

static size_t mapped_bytes(size_t bytes) {
  size_t mapped = (PAGE_BYTES + bytes + PAGES_BYTES - 1) / PAGES_BYTES * PAGES_BYTES;
  size_t huge = (mapped + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
  return huge - mapped <= mapped / WASTE_SHARE ? huge : mapped;
}

static void *map(size_t bytes) {
  void *raw = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return raw != MAP_FAILED ? raw : NULL;
}

/* A mapping that begins with a huge page: what is left over on both sides goes back. */
static void *map_huge(size_t bytes) {
  char *raw = map(bytes + HUGE_PAGE_BYTES);
  if (raw == NULL) return NULL;
  const size_t before = (HUGE_PAGE_BYTES - (uintptr_t)raw % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
  if (before > 0) munmap(raw, before);
  if (before < HUGE_PAGE_BYTES) munmap(raw + before + bytes, HUGE_PAGE_BYTES - before);
  madvise(raw + before, bytes, MADV_HUGEPAGE); /* a wish */
  return raw + before;
}

/* Returns the header's place: the end of a large block's first page. */
static void *take(size_t bytes) {
  if (!is_large(bytes)) return aligned_alloc(64, whole_bytes(bytes));
  const size_t mapped = mapped_bytes(bytes);
  char *raw = mapped < HUGE_PAGE_BYTES ? map(mapped) : map_huge(mapped);
  return raw != NULL ? raw + PAGE_BYTES - HEADER_BYTES : NULL;
}

sbag_code_t mem_alloc(mem_t *mem, size_t bytes, const char *what, void **block, sbag_status_t *status) {
  atomic_fetch_add(&mem->alloc_count, 1);
  char *raw = NULL;
  if (!planned_failure(mem) && bytes <= SIZE_MAX / 2) raw = take(bytes);
  if (raw == NULL) return status_set(status, SBAG_ERR_MEMORY, "%s: cannot allocate %zu bytes", what, bytes);
  ((header_t *)(void *)raw)->bytes = bytes;
  count_block(mem, bytes);
  *block = raw + HEADER_BYTES;
  return SBAG_OK;
}

int mem_comes_zeroed(size_t bytes) {
  return is_large(bytes);
}

sbag_code_t mem_calloc(mem_t *mem, size_t bytes, const char *what, void **block, sbag_status_t *status) {
  SBAG_TRY(mem_alloc(mem, bytes, what, block, status));
  if (!mem_comes_zeroed(bytes))
    memset(*block, 0, bytes); /* the kernel's pages are zero, and untouched pages cost nothing */
  return SBAG_OK;
}

static header_t *header_of(void *block) {
  return (header_t *)(void *)((char *)block - HEADER_BYTES);
}

sbag_code_t mem_realloc(mem_t *mem, size_t bytes, const char *what, void **block, sbag_status_t *status) {
  void *grown = NULL;
  SBAG_TRY(mem_alloc(mem, bytes, what, &grown, status));
  if (*block != NULL) {
    size_t old = header_of(*block)->bytes;
    memcpy(grown, *block, old < bytes ? old : bytes);
    mem_free(mem, *block);
  }
  *block = grown;
  return SBAG_OK;
}

void mem_free(mem_t *mem, void *block) {
  if (block == NULL) return;
  header_t *header = header_of(block);
  size_t bytes = header->bytes;
  atomic_fetch_sub(&mem->live_bytes, (int64_t)bytes);
  if (is_large(bytes))
    munmap((char *)block - PAGE_BYTES, mapped_bytes(bytes));
  else
    free(header);
}

mem_stats_t mem_stats(const mem_t *mem) {
  mem_t *m = (mem_t *)(uintptr_t)mem; /* atomic_load wants a non-const object in C11 */
  return (mem_stats_t){.alloc_count = atomic_load(&m->alloc_count),
                       .live_bytes = atomic_load(&m->live_bytes),
                       .peak_bytes = atomic_load(&m->peak_bytes)};
}

void mem_fail_at(mem_t *mem, int64_t n) {
  atomic_store(&mem->fail_at, n);
}

size_t mem_array_bytes(int64_t count, size_t size) {
  size_t bytes;
  if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes)) return SIZE_MAX;
  return bytes;
}
