/* Zipf draws by rejection-inversion: W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates
 * from monotone discrete distributions", ACM TOMACS 6(3), 1996. Constant time and memory for any number of
 * rows, unlike a table of the distribution. */
#include "reader/zipf.h"
#include "base/random.h"

#include <math.h>

/* expm1(x) / x and log1p(x) / x with their limit 1 at 0: they make exponent 1 a case like all others. */
static double expm1_over(double x) {
  return fabs(x) > 1e-8 ? expm1(x) / x : 1.0 + x / 2.0;
}

static double log1p_over(double x) {
  return fabs(x) > 1e-8 ? log1p(x) / x : 1.0 - x / 2.0;
}

/* h(x) = x^-s, its integral from 1 to x, and that integral's inverse. */
static double density(const zipf_t *z, double x) {
  return exp(-z->exponent * log(x));
}

static double integral(const zipf_t *z, double x) {
  double log_x = log(x);
  return expm1_over((1.0 - z->exponent) * log_x) * log_x;
}

static double integral_inverse(const zipf_t *z, double y) {
  double t = y * (1.0 - z->exponent);
  if (t < -1.0) t = -1.0; /* rounding at the far end */
  return exp(log1p_over(t) * y);
}

zipf_t reader_zipf_make(int64_t rows, double exponent) {
  zipf_t z = {.rows = rows, .exponent = exponent};
  if (exponent == 0.0) return z;
  z.integral_first = integral(&z, 1.5) - 1.0;
  z.integral_last = integral(&z, (double)rows + 0.5);
  z.shortcut = 2.0 - integral_inverse(&z, integral(&z, 2.5) - density(&z, 2.0));
  return z;
}

/* Two tries a block, 12 bits of blocks: each try succeeds with probability above 0.7, so the last is never
 * reached in practice; if it were, its candidate would stand. */
int64_t reader_zipf_draw(const zipf_t *z, uint64_t key, uint64_t hi, uint64_t lo) {
  random_block_t block = random_block(key, hi, lo << 12);
  if (z->exponent == 0.0) {
    uint64_t word = (uint64_t)block.v[0] | (uint64_t)block.v[1] << 32;
    __extension__ typedef unsigned __int128 wide_t;
    return (int64_t)((wide_t)word * (wide_t)(uint64_t)z->rows >> 64);
  }
  double k = 1.0;
  for (uint64_t attempt = 0; attempt < 8192; attempt++) {
    if (attempt > 0 && attempt % 2 == 0) block = random_block(key, hi, lo << 12 | attempt / 2);
    const uint32_t *v = &block.v[2 * (attempt % 2)];
    double unit = (double)(((uint64_t)v[0] | (uint64_t)v[1] << 32) >> 11) * (1.0 / 9007199254740992.0);
    double u = z->integral_last + unit * (z->integral_first - z->integral_last);
    double x = integral_inverse(z, u);
    k = floor(x + 0.5);
    if (!(k >= 1.0)) k = 1.0;
    if (k > (double)z->rows) k = (double)z->rows;
    if (k - x <= z->shortcut || u >= integral(z, k + 0.5) - density(z, k)) break;
  }
  return (int64_t)k - 1;
}
