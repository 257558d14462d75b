/* Memory as it is at first: initial values of rows, constants, zeros. Large blocks are touched first by
 * several threads, each a part of neighbouring bytes, so that the system's share of the work, which is most
 * of it, is spread too. */
#include "kernel/cpu.h"
#include "kernel/cpu_init.h"

#include <math.h>
#include <string.h>

/* Less than this is done by one thread: to wake others takes longer. */
enum { THREAD_BYTES = 1 << 18 };

static int threads_for(const kernel_t *k, int64_t bytes) {
  const int64_t most = bytes / THREAD_BYTES;
  return most < 2 ? 1 : most < k->threads ? (int)most : k->threads;
}

/* The first of `count` things that part `part` of `parts` has. */
static int64_t part_first(int64_t count, int part, int parts) {
  return count / parts * part + count % parts * part / parts;
}

/* ---- constants ---- */

static void fill_f32(float *to, int64_t count, float value) {
  for (int64_t i = 0; i < count; i++) to[i] = value;
}

static void fill_f64(double *to, int64_t count, double value) {
  for (int64_t i = 0; i < count; i++) to[i] = value;
}

static void fill_part(sbag_dtype_t dtype, void *to, int64_t first, int64_t end, double value) {
  if (dtype == SBAG_F64)
    fill_f64((double *)to + first, end - first, value);
  else
    fill_f32((float *)to + first, end - first, (float)value);
}

static void cpu_fill_real(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, void *to, int64_t count,
                          double value) {
  (void)stream;
  const int parts = threads_for(k, count * (int64_t)kernel_dtype_bytes(dtype));
  if (parts == 1) {
    fill_part(dtype, to, 0, count, value);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; part++)
    fill_part(dtype, to, part_first(count, part, parts), part_first(count, part + 1, parts), value);
}

static void cpu_clear(kernel_t *k, kernel_stream_t *stream, void *to, int64_t bytes) {
  (void)stream;
  const int parts = threads_for(k, bytes);
  if (parts == 1) {
    if (bytes > 0) memset(to, 0, (size_t)bytes);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; part++) {
    const int64_t first = part_first(bytes, part, parts), end = part_first(bytes, part + 1, parts);
    memset((char *)to + first, 0, (size_t)(end - first));
  }
}

/* ---- rows ---- */

static init_rows_fn rows_fn(const kernel_t *k) {
#if defined(__x86_64__)
  if (k->isa == ISA_AVX512) return init_rows_avx512;
  if (k->isa == ISA_AVX2) return init_rows_avx2;
#endif
  (void)k;
  return init_rows_scalar;
}

static void draw_rows(kernel_t *k, sbag_dtype_t dtype, const init_task_t *task) {
  const init_rows_fn rows = rows_fn(k);
  const int parts = threads_for(k, task->rows * task->dim * (int64_t)kernel_dtype_bytes(dtype));
  if (parts == 1) {
    rows(task, dtype, 0, task->rows);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(parts)
  for (int part = 0; part < parts; part++)
    rows(task, dtype, part_first(task->rows, part, parts), part_first(task->rows, part + 1, parts));
}

/* Zeros in memory that comes as zeros: its pages are left until somebody needs them, as a load of all rows
 * does. */
static int is_zero_already(sbag_dtype_t dtype, const init_task_t *task) {
  const size_t row_bytes = kernel_row_bytes(dtype, task->storage, task->dim);
  return task->fresh && task->kind == SBAG_INIT_CONSTANT && task->a == 0 && !signbit(task->a) &&
         !kernel_is_quantised(task->storage) && mem_comes_zeroed(mem_array_bytes(task->rows, row_bytes));
}

static void cpu_init(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const init_task_t *task) {
  if (is_zero_already(dtype, task)) return;
  if (kernel_is_quantised(task->storage)) {
    cpu_quant_init(k, task);
    return;
  }
  if (task->storage != SBAG_STORAGE_FULL) {
    cpu_narrow_init(k, stream, task);
    return;
  }
  if (task->kind == SBAG_INIT_CONSTANT)
    cpu_fill_real(k, stream, dtype, task->weight, task->rows * task->dim, task->a);
  else
    draw_rows(k, dtype, task);
  const size_t row_bytes = (size_t)task->dim * kernel_dtype_bytes(dtype);
  for (int z = 0; z < task->zero_count; z++) {
    int shard;
    int64_t local;
    plan_locate(task->plan, task->zero_rows[z], &shard, &local);
    local -= task->first;
    if (shard == task->shard && local >= 0 && local < task->rows)
      memset((char *)task->weight + (size_t)local * row_bytes, 0, row_bytes);
  }
}

void cpu_init_ops(kernel_ops_t *ops) {
  ops->init = cpu_init;
  ops->fill_real = cpu_fill_real;
  ops->clear = cpu_clear;
}
