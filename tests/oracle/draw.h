/* Random draws of the tests: splitmix64, so that a case is repeated by its number alone. */
#ifndef ORACLE_DRAW_H
#define ORACLE_DRAW_H

#include <stdint.h>

typedef struct draw {
  uint64_t state;
} draw_t;

static inline uint64_t draw_next(draw_t *draw) {
  uint64_t z = draw->state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* A generator of its own for case `number` of a run with `seed`. */
static inline draw_t draw_start(uint64_t seed, uint64_t number) {
  draw_t draw = {seed};
  draw.state = draw_next(&draw) ^ (number * 0xD1342543DE82EF95u);
  return draw;
}

/* In [0, n). */
static inline int64_t draw_below(draw_t *draw, int64_t n) {
  return (int64_t)(draw_next(draw) % (uint64_t)n);
}

/* In [low, high]. */
static inline int64_t draw_between(draw_t *draw, int64_t low, int64_t high) {
  return low + draw_below(draw, high - low + 1);
}

/* True once in n. */
static inline int draw_one_in(draw_t *draw, int64_t n) {
  return draw_below(draw, n) == 0;
}

/* In [0, 1). */
static inline double draw_unit(draw_t *draw) {
  return (double)(draw_next(draw) >> 11) * 0x1p-53;
}

#endif
