/* Large blocks on 2 MiB pages, where the kernel gives them: random rows of small pages wait for the page
 * table as well. */
#ifndef BENCH_HUGE_H
#define BENCH_HUGE_H

#include "base/mem.h"

typedef struct bench_huge {
  void *block;
  uint32_t *words; /* [count], aligned to 2 MiB */
  int64_t count;
} bench_huge_t;

/* Word i becomes bench_huge_word(i), written first by the threads that bench_loop_run has. */
sbag_code_t bench_huge_create(mem_t *mem, int64_t words, int threads, const char *what, bench_huge_t *huge,
                              sbag_status_t *status);
void bench_huge_destroy(mem_t *mem, bench_huge_t *huge);

void bench_huge_fill(bench_huge_t *huge, int threads);
static inline uint32_t bench_huge_word(int64_t i) {
  return (uint32_t)i * UINT32_C(2654435761) ^ (uint32_t)(i >> 20);
}

/* KiB of this process on huge pages, of all its anonymous ones; -1 where the kernel does not tell. */
int64_t bench_huge_kib(void);

#endif
