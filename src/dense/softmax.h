/* Softmax over classes and its cross entropy, on the CPU, in double. */
#ifndef DENSE_SOFTMAX_H
#define DENSE_SOFTMAX_H

#include <stdint.h>

/* For logits x and class y, log(sum of all e^x) - x_y, computed from the largest logit on so that nothing
 * overflows. labels: [rows], classes as floats; a label that is no class gives NaN. weights: [rows], or NULL.
 * losses: [rows], weighted. grads: [rows][classes], the losses' gradients times grad_scale; it may be NULL. A
 * row's results are a function of that row alone. */
void softmax_loss(int threads, int64_t rows, int64_t classes, const float *logits, const float *labels,
                  const float *weights, double grad_scale, double *losses, float *grads);

#endif
