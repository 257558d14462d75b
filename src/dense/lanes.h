/* Sums in an order that is written down: element k of a dot product goes to lane k mod 8, and the lanes are
 * folded by halves. What vectors the processor has does not matter then, as long as the compiler does not
 * contract a * b + c (the build says -ffp-contract=off).
 *
 * The lanes are two vectors of four: gcc makes slow code of eight plain variables. */
#ifndef DENSE_LANES_H
#define DENSE_LANES_H

#include <stdint.h>
#include <string.h>

enum { LANES = 8 };

typedef float lanes_half_t __attribute__((vector_size(16)));

typedef struct lanes {
  lanes_half_t low, high; /* lanes 0 to 3 and 4 to 7 */
} lanes_t;

static inline lanes_half_t lanes_load(const float *values) {
  lanes_half_t half;
  memcpy(&half, values, sizeof half);
  return half;
}

static inline void lanes_add_product(lanes_t *sum, lanes_half_t a_low, lanes_half_t a_high, const float *b) {
  sum->low += a_low * lanes_load(b);
  sum->high += a_high * lanes_load(b + 4);
}

static inline float lanes_fold(const lanes_t *sum) {
  lanes_half_t half = sum->low + sum->high;
  return (half[0] + half[2]) + (half[1] + half[3]);
}

/* The last values of a vector, fewer than LANES, with zeros behind. */
static inline void lanes_tail(const float *values, int64_t count, float tail[LANES]) {
  memset(tail, 0, LANES * sizeof *tail);
  memcpy(tail, values, (size_t)count * sizeof *values);
}

static inline float lanes_dot(const float *a, const float *b, int64_t n) {
  lanes_t sum = {{0}, {0}};
  int64_t k = 0;
  for (; k + LANES <= n; k += LANES) lanes_add_product(&sum, lanes_load(a + k), lanes_load(a + k + 4), b + k);
  if (k < n) {
    float x[LANES], y[LANES];
    lanes_tail(a + k, n - k, x);
    lanes_tail(b + k, n - k, y);
    lanes_add_product(&sum, lanes_load(x), lanes_load(x + 4), y);
  }
  return lanes_fold(&sum);
}

/* out[i] = lanes_dot(a, b[i], n) for four at once: a is read once, and the four sums hide each other's
 * latency. Four variables and no array, which gcc would keep in memory. */
static inline void lanes_dot4(const float *a, const float *const b[4], int64_t n, float out[4]) {
  const float *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
  lanes_t sum0 = {{0}, {0}}, sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t k = 0;
  for (; k + LANES <= n; k += LANES) {
    lanes_half_t low = lanes_load(a + k), high = lanes_load(a + k + 4);
    lanes_add_product(&sum0, low, high, b0 + k);
    lanes_add_product(&sum1, low, high, b1 + k);
    lanes_add_product(&sum2, low, high, b2 + k);
    lanes_add_product(&sum3, low, high, b3 + k);
  }
  if (k < n) {
    float x[LANES], y[4][LANES];
    lanes_tail(a + k, n - k, x);
    for (int i = 0; i < 4; i++) lanes_tail(b[i] + k, n - k, y[i]);
    lanes_half_t low = lanes_load(x), high = lanes_load(x + 4);
    lanes_add_product(&sum0, low, high, y[0]);
    lanes_add_product(&sum1, low, high, y[1]);
    lanes_add_product(&sum2, low, high, y[2]);
    lanes_add_product(&sum3, low, high, y[3]);
  }
  out[0] = lanes_fold(&sum0);
  out[1] = lanes_fold(&sum1);
  out[2] = lanes_fold(&sum2);
  out[3] = lanes_fold(&sum3);
}

/* y += alpha x: every element has a sum of its own, so the order is that of the calls. */
static inline void lanes_axpy(float alpha, const float *restrict x, int64_t n, float *restrict y) {
  for (int64_t k = 0; k < n; k++) y[k] += alpha * x[k];
}

/* The same as four calls, for x, x + stride, x + 2 stride and x + 3 stride in turn. */
static inline void lanes_axpy4(const float alpha[4], const float *restrict x, int64_t stride, int64_t n,
                               float *restrict y) {
  const float a = alpha[0], b = alpha[1], c = alpha[2], d = alpha[3];
  const float *restrict x1 = x + stride, *restrict x2 = x1 + stride, *restrict x3 = x2 + stride;
  for (int64_t k = 0; k < n; k++) y[k] = (((y[k] + a * x[k]) + b * x1[k]) + c * x2[k]) + d * x3[k];
}

#endif
