/* Rows and gradients that follow from their place: small whole numbers, so that sums are exact in any order.
 */
#ifndef BENCH_VALUES_H
#define BENCH_VALUES_H

#include <stdint.h>

static inline uint32_t bench_mix(uint32_t a, uint32_t b) {
  uint32_t h = a * UINT32_C(2654435761) ^ (b + UINT32_C(0x9e3779b9)) * UINT32_C(2246822519);
  return (h ^ h >> 15) * UINT32_C(3266489917) >> 12;
}

static inline double bench_value_of(int64_t table, int64_t row, int64_t column) {
  return (double)(bench_mix((uint32_t)(row * 31 + table), (uint32_t)column) % 17) - 8.0;
}

static inline double bench_grad_of(int64_t rank, int64_t bag, int64_t column) {
  return (double)(bench_mix((uint32_t)(bag + rank * 65537), (uint32_t)column + 7u) % 5) - 2.0;
}

#endif
