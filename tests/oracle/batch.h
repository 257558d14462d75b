/* From a whole batch in the oracle's form to the part that one rank brings, in the public interface's forms.
 */
#ifndef ORACLE_BATCH_H
#define ORACLE_BATCH_H

#include "draw.h"
#include "oracle.h"
#include <shardbag/batch.h>

typedef struct batch_form {
  sbag_index_t index_type;
  int two_d; /* all bags of one length */
  int64_t bag_length;
  int include_last_offset;
  sbag_dtype_t dtype; /* of the weights */
} batch_form_t;

/* Cuts `count` samples into contiguous parts of uneven sizes, some of them empty: rank r brings
 * [first[r], first[r + 1]). first: [size + 1]. */
void batch_split(draw_t *draw, int64_t count, int size, int64_t *first);

/* The bags [begin, end) of `all`. */
sbag_bags_t batch_slice(arena_t *arena, const oracle_bags_t *all, int64_t begin, int64_t end,
                        const batch_form_t *form);

/* Values as an array of that dtype, and back. */
void *batch_typed(arena_t *arena, const double *values, int64_t count, sbag_dtype_t dtype);
void batch_untyped(const void *typed, int64_t count, sbag_dtype_t dtype, double *values);

#endif
