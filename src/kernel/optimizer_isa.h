/* Between the CPU's update ops and the optimizers: cpu_update.c deals rows to threads, and the functions
 * here, compiled once for each instruction set (optimizer_isa.inc), go through a thread's rows. All give the
 * same bits. */
#ifndef KERNEL_OPTIMIZER_ISA_H
#define KERNEL_OPTIMIZER_ISA_H

#include "kernel/kernel.h"

typedef struct optimizer_isa {
  /* Rows [first, end) of an update. sums NULL: by its gradients. Else the gradient of row i is the sum of
   * segment i of `sums`, which is added up here; segments without a term, or with more than `most`, are left
   * out. */
  void (*update)(const optimizer_update_t *update, const reduce_task_t *sums, int64_t first, int64_t end,
                 int64_t most);
  /* Rows first to end - 1 of the list, or of the shard where it is NULL. */
  void (*catch_up)(const optimizer_rows_t *at, int64_t step, int64_t first, int64_t end, const int64_t *rows);
  /* out[dim] = the sum of terms [first, last), at most REDUCE_BLOCK of them. */
  void (*sum_block)(const reduce_task_t *sums, sbag_dtype_t dtype, int64_t first, int64_t last, void *out);
} optimizer_isa_t;

extern const optimizer_isa_t optimizer_scalar, optimizer_avx2, optimizer_avx512;

#endif
