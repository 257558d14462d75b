/* Between reduce's parts: cpu_reduce.c deals segments to threads, cpu_reduce_stream.c lists the vectors of a
 * thread's terms, and an instruction set's file (cpu_reduce_avx2.c, cpu_reduce_avx512.c, both of
 * cpu_reduce_simd.inc) adds them up. */
#ifndef KERNEL_CPU_REDUCE_H
#define KERNEL_CPU_REDUCE_H

#include "kernel/kernel.h"

/* What is done to a term's vector. RUN_DIRECT: as RUN_SUM, with vectors found by their numbers instead of in
 * a list. */
enum { RUN_SUM, RUN_SCALED, RUN_SELECTED, RUN_MAX, RUN_DIRECT, RUN_KINDS };

enum { RUN_STORAGES = 5, RUN_VECTORS = 16, LINE_BYTES = 64 };

/* Some neighbouring segments of one task, or (`carry`) a further piece of one; of each vector, some
 * neighbouring columns. Arrays are the run's own part of the task's. */
typedef struct reduce_run {
  const char *const *row; /* [terms + ahead] vectors of the run's terms, and of those that follow */
  const int64_t *term;    /* RUN_DIRECT: [terms + ahead] instead: the vector of term i is at */
  const char *src;        /* src + term[i] * term_bytes */
  int64_t term_bytes;
  int64_t ahead;                /* terms from one that is added to one whose vector is fetched */
  int64_t lines;                /* cache lines to fetch of a vector, from its first column on */
  int64_t last_byte;            /* to fetch beside them; 0: none */
  int64_t code_bytes;           /* of a quantised row, before its scale and bias */
  const float *scale;           /* [terms] RUN_SCALED; RUN_SELECTED: or NULL */
  const int64_t *select;        /* [terms] RUN_SELECTED */
  const int64_t *const *winner; /* [terms] RUN_SELECTED: the vector's; unset where select is negative */
  const int64_t *begin; /* [segments + 1], its first element stands for term 0; NULL: a term a segment */
  int64_t segments;
  int64_t column, columns; /* first, number */
  const int64_t *out_at;   /* NULL, or [segments] */
  float *out;              /* of the run's first segment where out_at is NULL */
  int64_t out_stride;
  int64_t out_ahead;     /* elements from what is put out to what is fetched to be put out; 0: nothing is */
  int64_t *out_position; /* RUN_MAX, or NULL */
  const int64_t *count_begin; /* NULL, or [segments + 1]: a mean */
  int64_t carry;              /* terms of the (only) segment that are in `out` already */
  int stream;                 /* 1: `out` is not read soon, and lines of it are whole */
} reduce_run_t;

typedef void (*reduce_run_fn)(const reduce_run_t *run);

/* An instruction set's functions, by kind, storage and vectors (of `lanes` floats) that the run's columns
 * fill, less one. */
typedef struct reduce_isa {
  int lanes;
  int vectors[RUN_KINDS]; /* most of a run */
  reduce_run_fn run[RUN_KINDS][RUN_STORAGES][RUN_VECTORS];
} reduce_isa_t;

extern const reduce_isa_t reduce_isa_avx2, reduce_isa_avx512;

enum { REDUCE_PART_COLUMNS = 4096 }; /* of vectors whose sums can be put together from parts */

/* Neighbouring segments over tasks: from `first` in the first task up to before `end` in the last. */
typedef struct reduce_span {
  const reduce_task_t *tasks;
  int64_t count, first, end;
  int stream; /* 1: outputs are not read soon */
} reduce_span_t;

static inline int64_t reduce_span_first(const reduce_span_t *span, int64_t task) {
  return task == 0 ? span->first : span->tasks[task].segment_begin;
}

static inline int64_t reduce_span_end(const reduce_span_t *span, int64_t task) {
  return task == span->count - 1 ? span->end : span->tasks[task].segment_end;
}

/* f32, on the calling thread. */
void cpu_reduce_stream(const reduce_isa_t *isa, const reduce_span_t *span);
/* Whether the outputs of these tasks are more than what a cache would keep for who reads them. */
int cpu_reduce_streams(const reduce_task_t *tasks, int64_t count);

/* The reference, for segments [first, end). */
void cpu_reduce_scalar(sbag_dtype_t dtype, const reduce_task_t *task, int64_t first, int64_t end);

/* One task on the calling thread alone, with the kernel's instructions: for ops that have threads of their
 * own. */
void cpu_reduce_segments(const kernel_t *k, sbag_dtype_t dtype, const reduce_task_t *task);

#endif
