/* qsort of how many there are, in this project's counts; an empty list, which may have no memory, is sorted.
 */
#ifndef BASE_SORT_H
#define BASE_SORT_H

#include <stdint.h>
#include <stdlib.h>

static inline void sort_items(void *items, int64_t count, size_t size,
                              int (*compare)(const void *, const void *)) {
  if (count > 1) qsort(items, (size_t)count, size, compare);
}

static inline int sort_by_value(const void *a, const void *b) {
  const double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

/* Numbers, ascending; none may be NaN. */
static inline void sort_reals(double *values, int64_t count) {
  sort_items(values, count, sizeof *values, sort_by_value);
}

#endif
