/* What a batch may be, before any index is looked at: torch's rules for shapes and weights. Not collective.
 */
#include "collection/collection.h"

static int64_t bag_count_of(const sbag_bags_t *b) {
  if (b->offsets != NULL) return b->offset_count - (b->include_last_offset ? 1 : 0);
  return b->bag_length > 0 ? b->index_count / b->bag_length : b->offset_count;
}

static sbag_code_t check_2d(const char *name, const sbag_bags_t *b, sbag_status_t *status) {
  if (b->bag_length < 0 || (b->bag_length > 0 && b->index_count % b->bag_length != 0) ||
      (b->bag_length == 0 && b->index_count > 0))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': %lld indices without offsets do not make whole bags of %lld", name,
                      (long long)b->index_count, (long long)b->bag_length);
  if (b->bag_length > 0 && b->offset_count != 0 && b->offset_count != b->index_count / b->bag_length)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "feature '%s': %lld indices in bags of %lld are not the %lld bags given as offset_count", name,
        (long long)b->index_count, (long long)b->bag_length, (long long)b->offset_count);
  if (b->include_last_offset)
    return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s': include_last_offset needs offsets", name);
  return SBAG_OK;
}

static sbag_code_t check_1d(const char *name, const sbag_bags_t *b, sbag_status_t *status) {
  if (b->bag_length != 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': offsets are given for 2-D indices (bag_length %lld); 2-D takes none",
                      name, (long long)b->bag_length);
  if (b->include_last_offset && b->offset_count < 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': include_last_offset needs at least one offset, the number of indices",
                      name);
  if (b->offset_count == 0 && b->index_count > 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': %lld indices but no offsets: they are in no bag", name,
                      (long long)b->index_count);
  return SBAG_OK;
}

static sbag_code_t check_weights(const char *name, sbag_mode_t mode, const sbag_bags_t *b,
                                 sbag_status_t *status) {
  if (b->per_sample_weights == NULL) return SBAG_OK;
  if (mode != SBAG_SUM)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': per_sample_weights are for mode sum, and this is %s", name,
                      mode == SBAG_MEAN ? "mean" : "max");
  if (b->per_sample_weight_count != b->index_count)
    return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s': %lld per_sample_weights for %lld indices",
                      name, (long long)b->per_sample_weight_count, (long long)b->index_count);
  return SBAG_OK;
}

sbag_code_t batch_check_feature(const char *name, sbag_mode_t mode, const sbag_bags_t *b, int64_t *bag_count,
                                sbag_status_t *status) {
  if (b->index_type != SBAG_I64 && b->index_type != SBAG_I32)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "feature '%s': index_type %d is neither int64 (0) nor int32 (1)", name,
                      (int)b->index_type);
  if (b->index_count < 0 || b->offset_count < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s': %lld indices and %lld offsets: below 0", name,
                      (long long)b->index_count, (long long)b->offset_count);
  if (b->index_count > 0 && b->indices == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "feature '%s': indices is NULL but index_count is %lld",
                      name, (long long)b->index_count);
  SBAG_TRY(b->offsets == NULL ? check_2d(name, b, status) : check_1d(name, b, status));
  SBAG_TRY(check_weights(name, mode, b, status));
  *bag_count = bag_count_of(b);
  return SBAG_OK;
}

sbag_code_t batch_check(const exchange_feature_t *features, int feature_count, const sbag_bags_t *batch,
                        int64_t *bag_count, sbag_status_t *status) {
  if (batch == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "batch is NULL; one sbag_bags_t a feature is needed");
  for (int f = 0; f < feature_count; f++) {
    int64_t count = 0;
    SBAG_TRY(batch_check_feature(features[f].name, features[f].mode, &batch[f], &count, status));
    if (f > 0 && count != *bag_count)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "feature '%s' has %lld bags and feature '%s' has %lld; all need one a sample",
                        features[f].name, (long long)count, features[0].name, (long long)*bag_count);
    *bag_count = count;
  }
  if (*bag_count > INT64_MAX / 16 / feature_count) /* a bag takes at least a 64-bit number of ours */
    return status_set(status, SBAG_ERR_ARGUMENT, "batch: %lld bags of %d features do not fit a 64-bit size",
                      (long long)*bag_count, feature_count);
  return SBAG_OK;
}
