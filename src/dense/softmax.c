/* Softmax and its cross entropy, sample by sample. */
#include "dense/softmax.h"

#include "dense/loss.h"
#include "dense/threads.h"
#include <stddef.h>

/* The exponentials are computed twice where gradients are asked for: classes are many, and rows of doubles
 * would need room. */
static double loss_of(int64_t classes, const float *x, float label, double scale, float *grad) {
  double most = x[0], sum = 0.0;
  if (!(label >= 0.0f && label < (float)classes)) return NAN;
  int64_t y = (int64_t)label;
  for (int64_t k = 1; k < classes; k++)
    if (!(x[k] <= most)) most = x[k]; /* NaN stays */
  for (int64_t k = 0; k < classes; k++) sum += loss_exp_negative(x[k] - most);
  if (grad != NULL)
    for (int64_t k = 0; k < classes; k++)
      grad[k] = (float)((loss_exp_negative(x[k] - most) / sum - (k == y)) * scale);
  return loss_log(sum) + (most - x[y]);
}

void softmax_loss(int threads, int64_t rows, int64_t classes, const float *logits, const float *labels,
                  const float *weights, double grad_scale, double *losses, float *grads) {
  threads = dense_threads(threads, rows);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    double weight = weights != NULL ? weights[r] : 1.0;
    losses[r] = weight * loss_of(classes, logits + r * classes, labels[r], weight * grad_scale,
                                 grads != NULL ? grads + r * classes : NULL);
  }
}
