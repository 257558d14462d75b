/* The exact sum of non-negative doubles: a fixed-point number as wide as the whole double range, so that the
 * order of additions, and how they are dealt to ranks, cannot change a bit of the result. A compensated sum
 * would only make a difference rare; two runs that differ in the last printed digit are what this rules
 * out. */
#ifndef BASE_EXACT_SUM_H
#define BASE_EXACT_SUM_H

#include <stdint.h>

/* 2^-1074 to 2^1024, and 63 bits for the count, in digits of 32 bits. */
enum { EXACT_SUM_DIGITS = 68 };

typedef struct exact_sum {
  int64_t digit[EXACT_SUM_DIGITS]; /* least significant first; carries wait in the upper halves */
  int64_t pending;                 /* additions since the last carry */
} exact_sum_t;

void exact_sum_clear(exact_sum_t *sum);
/* value: finite and not negative. */
void exact_sum_add(exact_sum_t *sum, double value);
/* Afterwards every digit is below 2^32, so that up to 2^31 sums may be added digit by digit. */
void exact_sum_carry(exact_sum_t *sum);
/* The nearest double (ties to even above the smallest normal number); carries first. */
double exact_sum_value(exact_sum_t *sum);

#endif
