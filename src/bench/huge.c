/* Asking for huge pages: see huge.h. */
#include "bench/huge.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

enum { HUGE_BYTES = 2 << 20 };

sbag_code_t bench_huge_create(mem_t *mem, int64_t words, int threads, const char *what, bench_huge_t *huge,
                              sbag_status_t *status) {
  void *block = NULL;
  size_t bytes = mem_array_bytes(words, sizeof(uint32_t));
  size_t room = bytes <= SIZE_MAX - 2 * HUGE_BYTES ? bytes + 2 * HUGE_BYTES : SIZE_MAX;
  SBAG_TRY(mem_alloc(mem, room, what, &block, status));
  uintptr_t begin = ((uintptr_t)block + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
  *huge = (bench_huge_t){.block = block, .words = (void *)begin, .count = words};
  /* Where it is refused, pages are small: that is this machine then. */
  (void)madvise(huge->words, (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
  bench_huge_fill(huge, threads);
  return SBAG_OK;
}

void bench_huge_destroy(mem_t *mem, bench_huge_t *huge) {
  mem_free(mem, huge->block);
  *huge = (bench_huge_t){.block = NULL};
}

void bench_huge_fill(bench_huge_t *huge, int threads) {
  uint32_t *words = huge->words;
  int64_t count = huge->count;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < count; i++) words[i] = bench_huge_word(i);
}

int64_t bench_huge_kib(void) {
  FILE *file = fopen("/proc/self/smaps_rollup", "re");
  int64_t kib = -1;
  char line[128];
  if (file == NULL) return -1;
  while (fgets(line, sizeof line, file) != NULL)
    if (sscanf(line, "AnonHugePages: %" SCNd64, &kib) == 1) break;
  fclose(file);
  return kib;
}
