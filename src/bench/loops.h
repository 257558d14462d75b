/* The fastest loops over memory that we can write, one set for each instruction set: what this machine gives
 * a program that looks rows up at random. They compute on words of 32 bits as whole numbers, so that any
 * order of adding gives the same sum and no bit pattern is slow. */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include <stdint.h>

typedef enum bench_loop {
  LOOP_GATHER,       /* rows, summed */
  LOOP_ROWS_OUT,     /* rows, copied to an output in order */
  LOOP_ROWS_STREAM,  /* the same by stores that pass the caches */
  LOOP_UPDATE,       /* rows, each word one more than it was: distinct ones */
  LOOP_READ,         /* in order, summed */
  LOOP_COPY,         /* in order */
  LOOP_COPY_STREAM,  /* by stores that pass the caches */
  LOOP_TRIAD,        /* in order: out = a + 3 * b */
  LOOP_TRIAD_STREAM, /* by stores that pass the caches */
  LOOPS
} bench_loop_t;

/* What a loop walks over. Blocks are 64-byte aligned where stores pass the caches. */
typedef struct bench_walk {
  uint32_t *table;      /* [rows][words] */
  int64_t words;        /* of a row, or 1 */
  const int64_t *rows;  /* [count]; NULL for the loops in order */
  int64_t count;        /* rows, or words in order */
  int64_t ahead;        /* so many rows ahead are asked for; 0: none */
  uint32_t *out;        /* [count][words] */
  const uint32_t *also; /* the triad's b */
} bench_walk_t;

/* Returns the sum of the words read (GATHER, READ), else 0. */
typedef uint32_t bench_loop_fn(const bench_walk_t *walk);

/* "avx512": the best set that this machine has. */
const char *bench_loops_name(void);

/* On so many threads, each a neighbouring part. Streams write only where rows are of whole cache lines; else
 * they are as the plain ones. */
uint32_t bench_loop_run(bench_loop_t loop, const bench_walk_t *walk, int threads);
/* The loop of two (which may be the same), and the distance ahead, that take the least time for this walk. */
bench_loop_t bench_loop_tune(bench_loop_t one, bench_loop_t other, bench_walk_t *walk, int threads);

/* The sets. Those of a machine's own instructions run on no other. */
extern bench_loop_fn *const bench_loops_scalar[LOOPS];
#if defined(__x86_64__)
extern bench_loop_fn *const bench_loops_avx2[LOOPS];
extern bench_loop_fn *const bench_loops_avx512[LOOPS];
#endif

#endif
