/* Ops on tables kept in 16 bits, but for updates (optimizer_isa.inc). Rows are widened into a buffer, a block
 * of them at a time, where the op on f32 does its work, and rounded back: so whatever computes there, the
 * formulas are the same ones. */
#include "kernel/cpu.h"
#include "kernel/narrow.h"

#include <string.h>

/* A block's values: one row of the widest table, or many of a narrow one; they stay in a core's own cache. */
enum { BLOCK_VALUES = KERNEL_NARROW_COLUMNS, BLOCK_ROWS = 1024 };

static int64_t block_rows(int64_t dim, int64_t left) {
  int64_t rows = BLOCK_VALUES / dim;
  if (rows > BLOCK_ROWS) rows = BLOCK_ROWS;
  return rows < left ? rows : left;
}

static void widen(sbag_storage_t storage, const uint16_t *from, int64_t count, float *to) {
  if (storage == SBAG_STORAGE_F16)
    for (int64_t i = 0; i < count; i++) to[i] = narrow_f16_value(from[i]);
  else
    for (int64_t i = 0; i < count; i++) to[i] = narrow_bf16_value(from[i]);
}

static void narrow(sbag_storage_t storage, const float *from, int64_t count, uint16_t *to) {
  if (storage == SBAG_STORAGE_F16)
    for (int64_t i = 0; i < count; i++) to[i] = narrow_f16_of(from[i]);
  else
    for (int64_t i = 0; i < count; i++) to[i] = narrow_bf16_of(from[i]);
}

void cpu_narrow_init(kernel_t *k, kernel_stream_t *stream, const init_task_t *task) {
  float values[BLOCK_VALUES];
  for (int64_t done = 0, n; done < task->rows; done += n) {
    n = block_rows(task->dim, task->rows - done);
    init_task_t block = *task;
    block.first = task->first + done;
    block.rows = n;
    block.storage = SBAG_STORAGE_FULL;
    block.weight = values;
    k->ops->init(k, stream, SBAG_F32, &block);
    narrow(task->storage, values, n * task->dim, (uint16_t *)task->weight + done * task->dim);
  }
}

void cpu_narrow_scatter_rows(sbag_storage_t storage, const float *values, int64_t dim, const int64_t *rows,
                             int64_t count, uint16_t *weight) {
  for (int64_t i = 0; i < count; i++) narrow(storage, values + i * dim, dim, weight + rows[i] * dim);
}

void cpu_narrow_gather_rows(sbag_storage_t storage, const uint16_t *weight, int64_t dim, const int64_t *rows,
                            int64_t count, float *values) {
  for (int64_t i = 0; i < count; i++) widen(storage, weight + rows[i] * dim, dim, values + i * dim);
}

/* In place: rows that were not scaled come back as they were. Else what is told is what would be kept. */
void cpu_narrow_renorm(kernel_t *k, kernel_stream_t *stream, sbag_storage_t storage, const renorm_rows_t *by,
                       uint16_t *weight, float *to) {
  const int64_t dim = by->dim;
  float values[BLOCK_VALUES];
  uint16_t kept[BLOCK_VALUES];
  int64_t place[BLOCK_ROWS];
  for (int64_t done = 0, n; done < by->count; done += n) {
    n = block_rows(dim, by->count - done);
    for (int64_t i = 0; i < n; i++) {
      place[i] = i;
      widen(storage, weight + by->rows[done + i] * dim, dim, values + i * dim);
    }
    k->ops->renorm(k, stream, SBAG_F32, SBAG_STORAGE_FULL, values, dim, place, n, by->max_norm, by->norm_type,
                   NULL);
    narrow(storage, values, n * dim, kept);
    if (to != NULL)
      widen(storage, kept, n * dim, to + done * dim);
    else
      for (int64_t i = 0; i < n; i++)
        memcpy(weight + by->rows[done + i] * dim, kept + i * dim, (size_t)dim * sizeof *kept);
  }
}
