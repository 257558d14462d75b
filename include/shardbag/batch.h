/* A batch of bags: one sbag_bags_t per feature, all with the same number of bags (the rank's samples). Plain
 * views of the caller's memory; nothing is copied or owned. */
#ifndef SHARDBAG_BATCH_H
#define SHARDBAG_BATCH_H

#include <shardbag/status.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sbag_index { SBAG_I64 = 0, SBAG_I32 = 1 } sbag_index_t;

/* The bags of one feature.
 *  1-D: indices [index_count], offsets [offset_count] with offsets[0] = 0, not decreasing, the last <=
 * index_count. Without include_last_offset there are offset_count bags, the last ends at index_count; with it
 * there are offset_count - 1 and the last offset must equal index_count. 2-D: offsets NULL, indices
 * [bag_count][bag_length]: bag_length consecutive indices a bag. */
typedef struct sbag_bags {
  sbag_index_t index_type; /* of indices and offsets */
  const void *indices;
  int64_t index_count;
  const void *offsets; /* NULL: 2-D */
  int64_t offset_count;
  int include_last_offset;
  int64_t bag_length;              /* 2-D only */
  const void *per_sample_weights;  /* NULL, or [index_count] of the collection's dtype; mode sum only */
  int64_t per_sample_weight_count; /* must equal index_count where per_sample_weights is given */
} sbag_bags_t;

/* 1-D with offsets, one a bag. */
SBAG_API sbag_bags_t sbag_bags_1d(const int64_t *indices, int64_t index_count, const int64_t *offsets,
                                  int64_t offset_count);
/* 2-D: [bag_count][bag_length]. */
SBAG_API sbag_bags_t sbag_bags_2d(const int64_t *indices, int64_t bag_count, int64_t bag_length);

#ifdef __cplusplus
}
#endif
#endif
