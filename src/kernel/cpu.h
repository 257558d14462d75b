/* The scalar kernel's ops, by file: cpu_edges.c, cpu_integer.c, cpu_pack.c, cpu_cover.c,
 * cpu_places.c, cpu_narrow.c, cpu_real.c (both dtypes of cpu_real.inc), cpu_reduce.c (of cpu_reduce.inc),
 * cpu_rows.c, cpu_storage.c, cpu_quant.c. */
#ifndef KERNEL_CPU_H
#define KERNEL_CPU_H

#include "kernel/kernel.h"

static inline int64_t cpu_index_at(sbag_index_t type, const void *indices, int64_t i) {
  return type == SBAG_I32 ? ((const int32_t *)indices)[i] : ((const int64_t *)indices)[i];
}

/* Parts into which an op on `bytes` of items deals them: one a thread, or only one where it costs more to
 * wake the others. Part p of n items begins with item cpu_part(n, p, parts). */
static inline int cpu_parts(const kernel_t *k, int64_t bytes) {
  return bytes < ((int64_t)1 << 17) ? 1 : k->threads;
}

static inline int64_t cpu_part(int64_t items, int part, int parts) {
  return items / parts * part + items % parts * part / parts;
}

/* How many of the ascending values are below the bound. */
static inline int64_t cpu_lower_bound(const int64_t *sorted, int64_t count, int64_t bound) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (sorted[middle] < bound)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void cpu_edges_build(kernel_t *k, kernel_stream_t *stream, const edges_request_t *request,
                     edges_info_t *info);
void cpu_winner_rows(kernel_t *k, kernel_stream_t *stream, const sbag_bags_t *bags, int64_t first_entry,
                     const int64_t *slot_begin, int64_t bag_count, int64_t dim, const int64_t *entry,
                     const int64_t *position, int64_t stride, int64_t *to);

/* cpu_storage.c: the same of tables in 16 bits. */
typedef struct renorm_rows {
  int64_t dim;
  const int64_t *rows;
  int64_t count;
  double max_norm, norm_type;
} renorm_rows_t;
void cpu_narrow_init(kernel_t *k, kernel_stream_t *stream, const init_task_t *task);
void cpu_narrow_scatter_rows(sbag_storage_t storage, const float *values, int64_t dim, const int64_t *rows,
                             int64_t count, uint16_t *weight);
void cpu_narrow_gather_rows(sbag_storage_t storage, const uint16_t *weight, int64_t dim, const int64_t *rows,
                            int64_t count, float *values);
void cpu_narrow_renorm(kernel_t *k, kernel_stream_t *stream, sbag_storage_t storage, const renorm_rows_t *by,
                       uint16_t *weight, float *to);

/* cpu_quant.c: the same of quantised tables (quant.h). */
void cpu_quant_init(kernel_t *k, const init_task_t *task);
void cpu_quant_scatter_rows(kernel_t *k, sbag_storage_t storage, const float *values, int64_t dim,
                            const int64_t *rows, int64_t count, uint8_t *weight);
void cpu_quant_gather_rows(kernel_t *k, sbag_storage_t storage, const uint8_t *weight, int64_t dim,
                           const int64_t *rows, int64_t count, float *values);
void cpu_quant_renorm(kernel_t *k, sbag_storage_t storage, const renorm_rows_t *by, const uint8_t *weight,
                      float *to);

/* key[i] = plan_key of row i: in place, or of rows [first, first + count) of an index array. */
void cpu_keys_in_place(const plan_table_t *plan, int64_t count, int64_t *key);
void cpu_keys(const plan_table_t *plan, sbag_index_t type, const void *rows, int64_t first, int64_t count,
              int64_t *key);

/* Each adds its file's ops to the table. */
void cpu_integer_ops(kernel_ops_t *ops);
void cpu_unique_ops(kernel_ops_t *ops);
void cpu_rows_ops(kernel_ops_t *ops);
void cpu_pack_ops(kernel_ops_t *ops);
void cpu_cover_ops(kernel_ops_t *ops);
void cpu_places_ops(kernel_ops_t *ops);
void cpu_narrow_ops(kernel_ops_t *ops);
void cpu_real_ops(kernel_ops_t *ops);
void cpu_reduce_ops(kernel_ops_t *ops);
void cpu_update_ops(kernel_ops_t *ops);
void cpu_init_ops(kernel_ops_t *ops);

#endif
