/* Binary cross entropy in double, with an exponential and a logarithm of our own: the C library's pick other
 * code by processor (with and without FMA), and a GPU has its own again, and then the last bit differs. One
 * call a sample costs nothing beside the layers, so there is no second, faster version. */
#ifndef DENSE_LOSS_H
#define DENSE_LOSS_H

#include "base/device.h"
#include <math.h>

/* e^x for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, and a Taylor series of e^r to 1e-17. */
HOST_DEVICE static inline double loss_exp_negative(double x) {
  const double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  if (!(x > -700.0)) return x != x ? x : 0.0; /* below, the result is nothing beside 1 */
  int n = (int)(x * 1.44269504088896338700 - 0.5);
  double r = (x - n * ln2_high) - n * ln2_low, sum = 1.0;
  for (int k = 14; k > 0; k--) sum = 1.0 + r / k * sum;
  return ldexp(sum, n);
}

/* log(1 + y) for y in [0, 1], as 2 atanh(z) with z = y / (2 + y) <= 1/3. */
HOST_DEVICE static inline double loss_log_one_plus(double y) {
  double z = y / (2.0 + y), square = z * z, sum = 0.0;
  for (int k = 35; k > 0; k -= 2) sum = sum * square + 1.0 / k;
  return 2.0 * z * sum;
}

/* log(x) for x >= 1, finite. */
HOST_DEVICE static inline double loss_log(double x) {
  int power = 0;
  if (!(x < INFINITY)) return x;
  double part = frexp(x, &power); /* [0.5, 1) */
  return (power - 1) * 6.93147180559945309417e-01 + loss_log_one_plus(2.0 * part - 1.0);
}

/* log(1 + e^x) - x y; *p = 1 / (1 + e^-x). */
HOST_DEVICE static inline double loss_bce(double x, double y, double *p) {
  double e = loss_exp_negative(-fabs(x));
  *p = x < 0.0 ? e / (1.0 + e) : 1.0 / (1.0 + e);
  return (x > 0.0 ? x : 0.0) - x * y + loss_log_one_plus(e);
}

#endif
