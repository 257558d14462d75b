/* reduce: the scalar reference, of both dtypes and all storages. */
#include "kernel/cpu.h"
#include "kernel/narrow.h"

#include <math.h>
#include <string.h>

enum { COLUMNS = 256 }; /* of a vector that are worked on at a time */

#define REAL     float
#define NAME(fn) fn##_f32
#include "kernel/cpu_reduce.inc"
#undef REAL
#undef NAME

#define REAL     double
#define NAME(fn) fn##_f64
#include "kernel/cpu_reduce.inc"

static void cpu_reduce(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const reduce_task_t *tasks,
                       int64_t count) {
  (void)k, (void)stream;
  for (int64_t i = 0; i < count; i++) {
    const reduce_task_t *t = &tasks[i];
    if (dtype == SBAG_F64)
      (t->op == REDUCE_MAX ? reduce_max_f64 : reduce_sum_f64)(t, t->segment_begin, t->segment_end);
    else
      (t->op == REDUCE_MAX ? reduce_max_f32 : reduce_sum_f32)(t, t->segment_begin, t->segment_end);
  }
}

void cpu_reduce_ops(kernel_ops_t *ops) {
  ops->reduce = cpu_reduce;
}
