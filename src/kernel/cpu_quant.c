/* Quantised rows (quant.h): to codes by the scalar reference or the kernel's instructions, and the ops on
 * tables of them that are not pooling. */
#include "kernel/cpu_quant.h"

#include "kernel/cpu.h"
#include "kernel/quant.h"

enum { BLOCK_VALUES = KERNEL_NARROW_COLUMNS, BLOCK_ROWS = 1024 };

void quant_row_scalar(sbag_storage_t storage, const float *values, int64_t dim, uint8_t *row) {
  const float levels = storage == SBAG_STORAGE_INT8 ? 255.0f : 15.0f;
  float least = INFINITY, most = -INFINITY;
  int bad = 0;
  for (int64_t c = 0; c < dim; c++) {
    if (values[c] < least) least = values[c];
    if (values[c] > most) most = values[c];
    bad |= isnan(values[c]);
  }
  const quant_scale_t s = quant_scale(storage, least, most, bad);
  for (int64_t c = 0; c < dim; c++) {
    const float at = s.bad ? 0 : (values[c] - s.bias) * s.inverse;
    const int code = (int)lrintf(at < 0 ? 0 : at > levels ? levels : at);
    if (storage == SBAG_STORAGE_INT8)
      row[c] = (uint8_t)code;
    else
      row[c / 2] = (uint8_t)(c % 2 == 0 ? code : row[c / 2] | code << 4);
  }
  quant_put_scale(storage, dim, &s, row);
}

static quant_row_fn row_fn(const kernel_t *k) {
#if defined(__x86_64__)
  if (k->isa == ISA_AVX512) return quant_row_avx512;
  if (k->isa == ISA_AVX2) return quant_row_avx2;
#endif
  (void)k;
  return quant_row_scalar;
}

void cpu_quant_scatter_rows(kernel_t *k, sbag_storage_t storage, const float *values, int64_t dim,
                            const int64_t *rows, int64_t count, uint8_t *weight) {
  const int64_t row_bytes = (int64_t)kernel_row_bytes(SBAG_F32, storage, dim);
  const int parts = cpu_parts(k, count * dim * (int64_t)sizeof *values);
  const quant_row_fn row = row_fn(k);
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int p = 0; p < parts; p++)
    for (int64_t i = cpu_part(count, p, parts); i < cpu_part(count, p + 1, parts); i++)
      row(storage, values + i * dim, dim, weight + rows[i] * row_bytes);
}

/* A row is a bag of one. */
void cpu_quant_gather_rows(kernel_t *k, sbag_storage_t storage, const uint8_t *weight, int64_t dim,
                           const int64_t *rows, int64_t count, float *values) {
  const reduce_task_t task = {.op = REDUCE_SUM,
                              .dim = dim,
                              .segment_end = count,
                              .term = rows,
                              .stride = dim,
                              .src = weight,
                              .storage = storage,
                              .out = values,
                              .out_stride = dim};
  k->ops->reduce(k, NULL, SBAG_F32, &task, 1);
}

static int64_t block_rows(int64_t dim, int64_t left) {
  int64_t rows = BLOCK_VALUES / dim;
  if (rows > BLOCK_ROWS) rows = BLOCK_ROWS;
  return rows < left ? rows : left;
}

void cpu_quant_init(kernel_t *k, const init_task_t *task) {
  float values[BLOCK_VALUES];
  int64_t place[BLOCK_ROWS];
  for (int64_t done = 0, n; done < task->rows; done += n) {
    n = block_rows(task->dim, task->rows - done);
    init_task_t block = *task;
    block.first = task->first + done;
    block.rows = n;
    block.storage = SBAG_STORAGE_FULL;
    block.weight = values;
    k->ops->init(k, NULL, SBAG_F32, &block);
    for (int64_t i = 0; i < n; i++) place[i] = done + i;
    cpu_quant_scatter_rows(k, task->storage, values, task->dim, place, n, task->weight);
  }
}

/* What is read is scaled and stays in f32. */
void cpu_quant_renorm(kernel_t *k, sbag_storage_t storage, const renorm_rows_t *by, const uint8_t *weight,
                      float *to) {
  int64_t place[BLOCK_ROWS];
  cpu_quant_gather_rows(k, storage, weight, by->dim, by->rows, by->count, to);
  for (int64_t done = 0, n; done < by->count; done += n) {
    n = by->count - done < BLOCK_ROWS ? by->count - done : BLOCK_ROWS;
    for (int64_t i = 0; i < n; i++) place[i] = done + i;
    k->ops->renorm(k, NULL, SBAG_F32, SBAG_STORAGE_FULL, to, by->dim, place, n, by->max_norm, by->norm_type,
                   NULL);
  }
}
