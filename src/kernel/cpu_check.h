/* Whether a batch is as it must be, at the speed of memory, by instruction set: see cpu_check.inc. */
#ifndef KERNEL_CPU_CHECK_H
#define KERNEL_CPU_CHECK_H

#include "kernel/kernel.h"

typedef struct check_isa {
  /* Whether a feature's offsets, at least one, obey torch's rules; *longest: the longest bag but the last, if
   * they do. */
  int (*offsets)(const sbag_bags_t *bags, int64_t *longest);
  /* Entries [first, end) that are out of range, and padding entries. */
  void (*entries)(const edges_feature_t *feature, int64_t first, int64_t end, int64_t *bad, int64_t *padding);
} check_isa_t;

extern const check_isa_t check_isa_scalar, check_isa_avx2, check_isa_avx512;

const check_isa_t *check_for(kernel_isa_t isa);

#endif
