/* embedding_bag in one process: renorm, forward, backward. See oracle.h. */
#include "oracle.h"

#include <math.h>
#include <stddef.h>

/* Norms are made one row at a time, once a distinct row: a row seen before in `indices` is left alone. */
static int seen_before(const int64_t *indices, int64_t position) {
  for (int64_t i = 0; i < position; i++)
    if (indices[i] == indices[position]) return 1;
  return 0;
}

static double row_norm(const double *row, int64_t dim, double norm_type) {
  double sum = 0;
  for (int64_t d = 0; d < dim; d++) {
    if (isnan(row[d])) return NAN;
    if (isinf(norm_type))
      sum = fmax(sum, fabs(row[d]));
    else
      sum += pow(fabs(row[d]), norm_type);
  }
  return isinf(norm_type) ? sum : pow(sum, 1 / norm_type);
}

void oracle_renorm(const oracle_table_t *table, const int64_t *indices, int64_t count, double max_norm,
                   double norm_type) {
  for (int64_t i = 0; i < count; i++) {
    if (indices[i] < 0 || indices[i] >= table->rows || seen_before(indices, i)) continue;
    double *row = table->weight + indices[i] * table->dim;
    double norm = row_norm(row, table->dim, norm_type);
    if (!(norm > max_norm)) continue;
    for (int64_t d = 0; d < table->dim; d++) row[d] *= max_norm / (norm + 1e-7);
  }
}

static int counts(const oracle_table_t *table, const oracle_feature_t *feature, int64_t index) {
  int64_t padding = feature->padding < 0 ? feature->padding + table->rows : feature->padding;
  if (index < 0 || index >= table->rows) return 0;
  return !(feature->has_padding && index == padding);
}

static int64_t bag_size(const oracle_table_t *table, const oracle_feature_t *feature,
                        const oracle_bags_t *bags, int64_t bag) {
  int64_t size = 0;
  for (int64_t i = bags->offsets[bag]; i < bags->offsets[bag + 1]; i++)
    size += counts(table, feature, bags->indices[i]);
  return size;
}

/* The position in the bag that wins column d: the first maximum; NaN only if it comes first. -1: none. */
static int64_t max_position(const oracle_table_t *table, const oracle_feature_t *feature,
                            const oracle_bags_t *bags, int64_t bag, int64_t d) {
  int64_t best = -1;
  for (int64_t i = bags->offsets[bag]; i < bags->offsets[bag + 1]; i++) {
    if (!counts(table, feature, bags->indices[i])) continue;
    double value = table->weight[bags->indices[i] * table->dim + d];
    if (best < 0 || value > table->weight[bags->indices[best] * table->dim + d]) best = i;
  }
  return best;
}

static void forward_max(const oracle_table_t *table, const oracle_feature_t *feature,
                        const oracle_bags_t *bags, int64_t bag, double *out, double *scale, int64_t *winner) {
  for (int64_t d = 0; d < table->dim; d++) {
    int64_t at = max_position(table, feature, bags, bag, d);
    out[d] = at < 0 ? 0 : table->weight[bags->indices[at] * table->dim + d];
    scale[d] = fabs(out[d]);
    if (winner != NULL) winner[d] = at < 0 ? 0 : bags->indices[at];
  }
}

void oracle_forward(const oracle_table_t *table, const oracle_feature_t *feature, const oracle_bags_t *bags,
                    double *out, double *scale, int64_t *winner) {
  int64_t dim = table->dim;
  for (int64_t bag = 0; bag < bags->bag_count; bag++, out += dim, scale += dim) {
    int64_t size = bag_size(table, feature, bags, bag);
    if (feature->mode == SBAG_MAX) {
      forward_max(table, feature, bags, bag, out, scale, winner == NULL ? NULL : winner + bag * dim);
      continue;
    }
    for (int64_t d = 0; d < dim; d++) {
      out[d] = scale[d] = 0;
      for (int64_t i = bags->offsets[bag]; i < bags->offsets[bag + 1]; i++) {
        if (!counts(table, feature, bags->indices[i])) continue;
        double term = table->weight[bags->indices[i] * dim + d];
        if (bags->weights != NULL) term *= bags->weights[i];
        out[d] += term;
        scale[d] += fabs(term);
      }
      if (feature->mode == SBAG_MEAN && size > 0) out[d] /= (double)size;
      if (feature->mode == SBAG_MEAN && size > 0) scale[d] /= (double)size;
    }
  }
}

/* How often the feature looks a row up in the whole batch. */
static double frequency(const oracle_bags_t *bags, int64_t row) {
  int64_t frequency = 0;
  for (int64_t i = 0; i < bags->offsets[bags->bag_count]; i++) frequency += bags->indices[i] == row;
  return (double)frequency;
}

static void backward_entry(const oracle_table_t *table, const oracle_feature_t *feature,
                           const oracle_bags_t *bags, int64_t i, double factor, const double *grad_out,
                           double *grad, double *grad_scale) {
  int64_t row = bags->indices[i];
  if (bags->weights != NULL) factor *= bags->weights[i];
  if (feature->scale_by_freq) factor /= frequency(bags, row);
  for (int64_t d = 0; d < table->dim; d++) {
    grad[row * table->dim + d] += factor * grad_out[d];
    grad_scale[row * table->dim + d] += fabs(factor * grad_out[d]);
  }
}

static void backward_max(const oracle_table_t *table, const oracle_feature_t *feature,
                         const oracle_bags_t *bags, int64_t bag, const double *grad_out, double *grad,
                         double *grad_scale) {
  for (int64_t d = 0; d < table->dim; d++) {
    int64_t at = max_position(table, feature, bags, bag, d);
    if (at < 0) continue;
    grad[bags->indices[at] * table->dim + d] += grad_out[d];
    grad_scale[bags->indices[at] * table->dim + d] += fabs(grad_out[d]);
  }
}

void oracle_backward(const oracle_table_t *table, const oracle_feature_t *feature, const oracle_bags_t *bags,
                     const double *grad_out, double *grad, double *grad_scale, int64_t *touched,
                     double *weight_grad, double *weight_scale) {
  int64_t dim = table->dim;
  for (int64_t bag = 0; bag < bags->bag_count; bag++, grad_out += dim) {
    int64_t size = bag_size(table, feature, bags, bag);
    double factor = feature->mode == SBAG_MEAN && size > 0 ? 1 / (double)size : 1;
    if (feature->mode == SBAG_MAX) backward_max(table, feature, bags, bag, grad_out, grad, grad_scale);
    for (int64_t i = bags->offsets[bag]; i < bags->offsets[bag + 1]; i++) {
      int64_t row = bags->indices[i];
      if (weight_grad != NULL) weight_grad[i] = weight_scale[i] = 0;
      if (!counts(table, feature, row)) continue;
      touched[row]++;
      if (feature->mode == SBAG_MAX) continue;
      backward_entry(table, feature, bags, i, factor, grad_out, grad, grad_scale);
      for (int64_t d = 0; weight_grad != NULL && d < dim; d++) {
        weight_grad[i] += grad_out[d] * table->weight[row * dim + d];
        weight_scale[i] += fabs(grad_out[d] * table->weight[row * dim + d]);
      }
    }
  }
}
