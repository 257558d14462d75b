/* Scores, losses and gradients, sample by sample. */
#include "dense/match.h"

#include "dense/lanes.h"
#include "dense/loss.h"
#include "dense/threads.h"

static void query_of(const match_shape_t *s, const float *pooled, float *query) {
  memcpy(query, pooled + s->queries[0], (size_t)s->dim * sizeof *query);
  for (int i = 1; i < s->query_count; i++) lanes_axpy(1.0f, pooled + s->queries[i], s->dim, query);
}

void match_forward(int threads, const match_shape_t *shape, int64_t rows, const float *pooled, float *out) {
  threads = dense_threads(threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    const float *from = pooled + r * shape->pooled_dim;
    float *query = out + r * (shape->dim + shape->item_count), *scores = query + shape->dim;
    query_of(shape, from, query);
    for (int i = 0; i < shape->item_count; i++)
      scores[i] = lanes_dot(query, from + shape->items[i], shape->dim);
  }
}

/* log(1 + e^x); *slope = 1 / (1 + e^-x). */
static double softplus(double x, double *slope) {
  return loss_bce(x, 0.0, slope);
}

static double bpr(int count, const float *scores, double scale, double *grads) {
  double loss = 0.0, slope, sum = 0.0, each = 1.0 / (count - 1);
  for (int k = 1; k < count; k++) {
    loss += each * softplus(((double)scores[k] - (double)scores[0]) * scale, &slope);
    grads[k] = each * slope * scale;
    sum += grads[k];
  }
  grads[0] = -sum;
  return loss;
}

static double softmax(int count, const float *scores, double scale, double *grads) {
  double most = scores[0], sum = 0.0;
  for (int k = 1; k < count; k++)
    if (!(scores[k] <= most)) most = scores[k]; /* NaN stays */
  for (int k = 0; k < count; k++) sum += grads[k] = loss_exp_negative((scores[k] - most) * scale);
  for (int k = 0; k < count; k++) grads[k] = grads[k] / sum * scale;
  grads[0] -= scale;
  return loss_log(sum) + (most - scores[0]) * scale;
}

static double logistic(int count, const float *scores, double scale, double *grads) {
  double slope, loss = softplus(-(double)scores[0] * scale, &slope);
  grads[0] = -slope * scale;
  for (int k = 1; k < count; k++) {
    loss += softplus((double)scores[k] * scale, &slope);
    grads[k] = slope * scale;
  }
  return loss;
}

static double loss_of(match_loss_t kind, int count, const float *scores, double scale, double *grads) {
  if (kind == MATCH_BPR) return bpr(count, scores, scale, grads);
  return kind == MATCH_SOFTMAX ? softmax(count, scores, scale, grads) : logistic(count, scores, scale, grads);
}

double match_loss_of(const match_targets_t *targets, int count, const float *scores) {
  double grads[MATCH_ITEMS_MAX];
  return loss_of(targets->kind, count, scores, 1.0 / targets->temperature, grads);
}

static double squares(const match_shape_t *s, const float *pooled) {
  double sum = 0.0;
  for (int i = 0; i < s->query_count; i++)
    sum += lanes_dot(pooled + s->queries[i], pooled + s->queries[i], s->dim);
  for (int i = 0; i < s->item_count; i++)
    sum += lanes_dot(pooled + s->items[i], pooled + s->items[i], s->dim);
  return sum;
}

void match_loss(int threads, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                const float *pooled, const float *out, double *losses, float *score_grads) {
  int count = shape->item_count;
  threads = dense_threads(threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    double grads[MATCH_ITEMS_MAX], weight = targets->weights != NULL ? targets->weights[r] : 1.0;
    const float *scores = out + r * (shape->dim + count) + shape->dim;
    double loss = loss_of(targets->kind, count, scores, 1.0 / targets->temperature, grads);
    if (targets->l2 > 0.0) loss += 0.5 * targets->l2 * squares(shape, pooled + r * shape->pooled_dim);
    losses[r] = weight * loss;
    for (int k = 0; k < count; k++)
      score_grads[r * count + k] = (float)(grads[k] * weight * targets->grad_scale);
  }
}

static void backward_of_row(const match_shape_t *s, const float *pooled, const float *query,
                            const float *grads, float l2, float *pooled_grad) {
  float *query_grad = pooled_grad + s->queries[0];
  memset(query_grad, 0, (size_t)s->dim * sizeof *query_grad);
  for (int i = 0; i < s->item_count; i++) {
    float *item_grad = pooled_grad + s->items[i];
    const float *item = pooled + s->items[i];
    lanes_axpy(grads[i], item, s->dim, query_grad);
    for (int64_t k = 0; k < s->dim; k++) item_grad[k] = grads[i] * query[k] + l2 * item[k];
  }
  for (int i = 1; i < s->query_count; i++) {
    memcpy(pooled_grad + s->queries[i], query_grad, (size_t)s->dim * sizeof *query_grad);
    lanes_axpy(l2, pooled + s->queries[i], s->dim, pooled_grad + s->queries[i]);
  }
  lanes_axpy(l2, pooled + s->queries[0], s->dim, query_grad);
}

void match_backward(int threads, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                    const float *pooled, const float *out, const float *score_grads, float *pooled_grad) {
  threads = dense_threads(threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    double weight = targets->weights != NULL ? targets->weights[r] : 1.0;
    backward_of_row(shape, pooled + r * shape->pooled_dim, out + r * (shape->dim + shape->item_count),
                    score_grads + r * shape->item_count, (float)(targets->l2 * weight * targets->grad_scale),
                    pooled_grad + r * shape->pooled_dim);
  }
}
