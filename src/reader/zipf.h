/* Rows with a Zipf popularity. */
#ifndef READER_ZIPF_H
#define READER_ZIPF_H

#include <stdint.h>

typedef struct zipf {
  int64_t rows;
  double exponent;
  double integral_first, integral_last, shortcut;
} zipf_t;

/* P(row k) proportional to (k + 1)^-exponent over [0, rows); rows up to 2^40, exponent >= 0. */
zipf_t reader_zipf_make(int64_t rows, double exponent);
/* The draw of a stream (key) at the counter (hi, lo), lo below 2^52. */
int64_t reader_zipf_draw(const zipf_t *zipf, uint64_t key, uint64_t hi, uint64_t lo);

#endif
