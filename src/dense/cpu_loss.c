/* Losses on the CPU, sample by sample; their sums in the samples' order. */
#include "dense/cpu.h"
#include "dense/loss.h"
#include "dense/softmax.h"

void cpu_loss(dense_t *dense, int64_t samples, const float *logits, const float *labels, const float *weights,
              double grad_scale, float *grad, double *sum) {
  (void)dense;
  double total = 0.0;
  for (int64_t i = 0; i < samples; i++) {
    double p, y = labels[i], weight = weights != NULL ? weights[i] : 1.0;
    total += weight * loss_bce(logits[i], y, &p);
    grad[i] = (float)((p - y) * weight * grad_scale);
  }
  *sum = total;
}

static double sum_of(const double *losses, int64_t rows) {
  double total = 0.0;
  for (int64_t i = 0; i < rows; i++) total += losses[i];
  return total;
}

void cpu_softmax_loss(dense_t *dense, int64_t rows, int64_t classes, const float *logits, const float *labels,
                      const float *weights, double grad_scale, double *losses, float *grads, double *sum) {
  softmax_loss(dense->kernel->threads, rows, classes, logits, labels, weights, grad_scale, losses, grads);
  *sum = sum_of(losses, rows);
}

void cpu_match_forward(dense_t *dense, const match_shape_t *shape, int64_t rows, const float *pooled,
                       float *out) {
  match_forward(dense->kernel->threads, shape, rows, pooled, out);
}

void cpu_match_loss(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                    const float *pooled, const float *out, double *losses, float *score_grads, double *sum) {
  match_loss(dense->kernel->threads, shape, targets, rows, pooled, out, losses, score_grads);
  *sum = sum_of(losses, rows);
}

void cpu_match_backward(dense_t *dense, const match_shape_t *shape, const match_targets_t *targets,
                        int64_t rows, const float *pooled, const float *out, const float *score_grads,
                        float *pooled_grad) {
  match_backward(dense->kernel->threads, shape, targets, rows, pooled, out, score_grads, pooled_grad);
}
