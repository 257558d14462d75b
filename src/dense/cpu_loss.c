/* The loss on the CPU, sample by sample in their order. */
#include "dense/cpu.h"
#include "dense/loss.h"

void cpu_loss(dense_t *dense, int64_t samples, const float *logits, const float *labels, double grad_scale,
              float *grad, double *sum) {
  (void)dense;
  double total = 0.0;
  for (int64_t i = 0; i < samples; i++) {
    double p, y = labels[i];
    total += loss_bce(logits[i], y, &p);
    grad[i] = (float)((p - y) * grad_scale);
  }
  *sum = total;
}
