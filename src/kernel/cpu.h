/* The scalar kernel's ops, by file: cpu_edges.c, cpu_integer.c, cpu_pack.c, cpu_cover.c,
 * cpu_places.c, cpu_narrow.c, cpu_real.c (both dtypes of cpu_real.inc), cpu_reduce.c (of cpu_reduce.inc). */
#ifndef KERNEL_CPU_H
#define KERNEL_CPU_H

#include "kernel/kernel.h"

static inline int64_t cpu_index_at(sbag_index_t type, const void *indices, int64_t i) {
  return type == SBAG_I32 ? ((const int32_t *)indices)[i] : ((const int64_t *)indices)[i];
}

void cpu_edges_build(kernel_t *k, kernel_stream_t *stream, const edges_request_t *request,
                     edges_info_t *info);
void cpu_winner_rows(kernel_t *k, kernel_stream_t *stream, const sbag_bags_t *bags, int64_t first_entry,
                     const int64_t *slot_begin, int64_t bag_count, int64_t dim, const int64_t *entry,
                     const int64_t *position, int64_t stride, int64_t *to);

/* Each adds its file's ops to the table. */
void cpu_integer_ops(kernel_ops_t *ops);
void cpu_pack_ops(kernel_ops_t *ops);
void cpu_cover_ops(kernel_ops_t *ops);
void cpu_places_ops(kernel_ops_t *ops);
void cpu_narrow_ops(kernel_ops_t *ops);
void cpu_real_ops(kernel_ops_t *ops);
void cpu_reduce_ops(kernel_ops_t *ops);

#endif
