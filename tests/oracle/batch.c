/* Slices of a batch for one rank. See batch.h. */
#include "batch.h"

#include <stdlib.h>

static int compare_cuts(const void *left, const void *right) {
  int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return (a > b) - (a < b);
}

void batch_split(draw_t *draw, int64_t count, int size, int64_t *first) {
  first[0] = 0;
  first[size] = count;
  for (int r = 1; r < size; r++) first[r] = draw_between(draw, 0, count);
  if (size > 2) qsort(first + 1, (size_t)size - 1, sizeof *first, compare_cuts);
}

static void *typed_integers(arena_t *arena, const int64_t *values, int64_t count, sbag_index_t type) {
  int64_t *wide = arena_ints(arena, count);
  int32_t *narrow = arena_alloc(arena, count, sizeof *narrow);
  for (int64_t i = 0; i < count; i++) {
    wide[i] = values[i];
    narrow[i] = (int32_t)values[i];
  }
  return type == SBAG_I64 ? (void *)wide : (void *)narrow;
}

sbag_bags_t batch_slice(arena_t *arena, const oracle_bags_t *all, int64_t begin, int64_t end,
                        const batch_form_t *form) {
  int64_t first = all->offsets[begin], count = all->offsets[end] - first;
  int64_t *offsets = arena_ints(arena, end - begin + 1);
  sbag_bags_t bags = {.index_type = form->index_type, .index_count = count};
  for (int64_t bag = begin; bag <= end; bag++) offsets[bag - begin] = all->offsets[bag] - first;
  bags.indices = typed_integers(arena, all->indices + first, count, form->index_type);
  if (form->two_d) {
    bags.bag_length = form->bag_length;
  } else {
    bags.include_last_offset = form->include_last_offset;
    bags.offset_count = end - begin + (form->include_last_offset ? 1 : 0);
    bags.offsets = typed_integers(arena, offsets, end - begin + 1, form->index_type);
  }
  if (all->weights != NULL) {
    bags.per_sample_weights = batch_typed(arena, all->weights + first, count, form->dtype);
    bags.per_sample_weight_count = count;
  }
  return bags;
}

void *batch_typed(arena_t *arena, const double *values, int64_t count, sbag_dtype_t dtype) {
  double *wide = arena_doubles(arena, count);
  float *narrow = arena_alloc(arena, count, sizeof *narrow);
  for (int64_t i = 0; i < count; i++) {
    wide[i] = values[i];
    narrow[i] = (float)values[i];
  }
  return dtype == SBAG_F64 ? (void *)wide : (void *)narrow;
}

void batch_untyped(const void *typed, int64_t count, sbag_dtype_t dtype, double *values) {
  for (int64_t i = 0; i < count; i++)
    values[i] = dtype == SBAG_F64 ? ((const double *)typed)[i] : (double)((const float *)typed)[i];
}
