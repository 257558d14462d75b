/* Binary cross entropy with logits: for logit x and label y, log(1 + e^x) - x y. */
#ifndef MODEL_LOSS_H
#define MODEL_LOSS_H

#include <stdint.h>

/* Returns the sum over the samples (not the mean: that is over the global batch). grad: [samples], the loss's
 * gradient times `grad_scale` (1 / global samples). NaN and infinite logits give a sum that is not finite. */
double loss_bce_logits(int64_t samples, const float *logits, const float *labels, double grad_scale,
                       float *grad);

/* 1 / (1 + e^-x). */
double loss_sigmoid(double x);

#endif
