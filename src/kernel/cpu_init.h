/* Between the CPU's init op and its instruction sets: blocks of four columns are drawn several at a time. */
#ifndef KERNEL_CPU_INIT_H
#define KERNEL_CPU_INIT_H

#include "kernel/kernel.h"

enum { INIT_COLUMNS = 4 }; /* of one block of random words: counter (row, column / 4) */

/* Rows first to end - 1 of a task that are drawn, counted from task->first. */
typedef void (*init_rows_fn)(const init_task_t *task, sbag_dtype_t dtype, int64_t first, int64_t end);

void init_rows_scalar(const init_task_t *task, sbag_dtype_t dtype, int64_t first, int64_t end);
void init_rows_avx2(const init_task_t *task, sbag_dtype_t dtype, int64_t first, int64_t end);
void init_rows_avx512(const init_task_t *task, sbag_dtype_t dtype, int64_t first, int64_t end);

#endif
