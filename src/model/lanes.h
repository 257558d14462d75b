/* Sums in an order that is written down: element k of a dot product goes to lane k mod LANES, and the lanes
 * are folded by halves. A compiler may put the lanes into vectors of any width and the bits stay, as long as
 * it does not contract a * b + c (the build says -ffp-contract=off). */
#ifndef MODEL_LANES_H
#define MODEL_LANES_H

#include <stdint.h>

enum { LANES = 8 };

static inline float lanes_fold(const float lane[LANES]) {
  float a = lane[0] + lane[4], b = lane[1] + lane[5], c = lane[2] + lane[6], d = lane[3] + lane[7];
  return (a + c) + (b + d);
}

static inline float lanes_dot(const float *restrict a, const float *restrict b, int64_t n) {
  float lane[LANES] = {0};
  int64_t k = 0;
  for (; k + LANES <= n; k += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += a[k + l] * b[k + l];
  for (int l = 0; k < n; k++, l++) lane[l] += a[k] * b[k];
  return lanes_fold(lane);
}

/* out[i] = lanes_dot(a, b[i], n) for four at once: a is read once, and the four sums hide each other's
 * latency.
 */
static inline void lanes_dot4(const float *restrict a, const float *const b[4], int64_t n, float out[4]) {
  float lane0[LANES] = {0}, lane1[LANES] = {0}, lane2[LANES] = {0}, lane3[LANES] = {0};
  const float *restrict b0 = b[0], *restrict b1 = b[1], *restrict b2 = b[2], *restrict b3 = b[3];
  int64_t k = 0;
  for (; k + LANES <= n; k += LANES) {
    for (int l = 0; l < LANES; l++) lane0[l] += a[k + l] * b0[k + l];
    for (int l = 0; l < LANES; l++) lane1[l] += a[k + l] * b1[k + l];
    for (int l = 0; l < LANES; l++) lane2[l] += a[k + l] * b2[k + l];
    for (int l = 0; l < LANES; l++) lane3[l] += a[k + l] * b3[k + l];
  }
  for (int l = 0; k < n; k++, l++) {
    lane0[l] += a[k] * b0[k];
    lane1[l] += a[k] * b1[k];
    lane2[l] += a[k] * b2[k];
    lane3[l] += a[k] * b3[k];
  }
  out[0] = lanes_fold(lane0);
  out[1] = lanes_fold(lane1);
  out[2] = lanes_fold(lane2);
  out[3] = lanes_fold(lane3);
}

/* y += alpha x: every element has one sum of its own, so the order is that of the calls. */
static inline void lanes_axpy(float alpha, const float *restrict x, int64_t n, float *restrict y) {
  for (int64_t k = 0; k < n; k++) y[k] += alpha * x[k];
}

#endif
