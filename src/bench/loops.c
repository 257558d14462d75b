/* Which loops run, on which threads, and how far ahead they ask: see loops.h. */
#include "bench/loops.h"

#include "base/clock.h"
#include <omp.h>
#include <stddef.h>

static bench_loop_fn *const *best(const char **name) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    *name = "avx512";
    return bench_loops_avx512;
  }
  if (__builtin_cpu_supports("avx2")) {
    *name = "avx2";
    return bench_loops_avx2;
  }
#endif
  *name = "scalar";
  return bench_loops_scalar;
}

const char *bench_loops_name(void) {
  const char *name = NULL;
  best(&name);
  return name;
}

/* Streaming stores need aligned places. */
static bench_loop_t allowed(bench_loop_t loop, const bench_walk_t *w) {
  if (loop == LOOP_ROWS_STREAM && w->words % 16 != 0) return LOOP_ROWS_OUT;
  return loop;
}

/* Parts begin at whole cache lines of what is in order. */
static bench_walk_t part_of(const bench_walk_t *w, int part, int parts) {
  int64_t step = w->rows != NULL ? 1 : 16, pieces = (w->count + step - 1) / step;
  int64_t first = pieces * part / parts * step, end = pieces * (part + 1) / parts * step;
  if (end > w->count) end = w->count;
  bench_walk_t p = *w;
  p.count = end - first;
  if (w->rows != NULL)
    p.rows += first;
  else
    p.table += first;
  if (w->out != NULL) p.out += first * w->words;
  if (w->also != NULL) p.also += first;
  return p;
}

uint32_t bench_loop_run(bench_loop_t loop, const bench_walk_t *walk, int threads) {
  const char *name = NULL;
  bench_loop_fn *run = best(&name)[allowed(loop, walk)];
  if (threads == 1) return run(walk);
  uint32_t sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
  {
    bench_walk_t part = part_of(walk, omp_get_thread_num(), omp_get_num_threads());
    sum += run(&part);
  }
  return sum;
}

/* The better of two runs: the first one brings pages and threads. */
static double time_of(bench_loop_t loop, const bench_walk_t *walk, int threads) {
  double least_s = 0;
  for (int again = 0; again < 2; again++) {
    double start_s = clock_now();
    bench_loop_run(loop, walk, threads);
    double took_s = clock_now() - start_s;
    if (again == 0 || took_s < least_s) least_s = took_s;
  }
  return least_s;
}

bench_loop_t bench_loop_tune(bench_loop_t one, bench_loop_t other, bench_walk_t *walk, int threads) {
  static const int64_t distances[] = {0, 8, 16, 32, 64};
  int count = walk->rows != NULL ? (int)(sizeof distances / sizeof distances[0]) : 1;
  bench_loop_t found = one;
  bench_walk_t at = *walk;
  double least_s = 0;
  for (int i = 0; i < count; i++)
    for (int second = 0; second <= (other != one); second++) {
      at.ahead = distances[i];
      double took_s = time_of(second ? other : one, &at, threads);
      if (least_s > 0 && took_s >= least_s) continue;
      least_s = took_s;
      found = second ? other : one;
      walk->ahead = distances[i];
    }
  return found;
}
