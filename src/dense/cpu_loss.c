/* The loss on the CPU, sample by sample in their order. */
#include "dense/cpu.h"
#include "dense/loss.h"

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
