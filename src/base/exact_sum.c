/* A superaccumulator with delayed carries: see exact_sum.h. */
#include "base/exact_sum.h"

#include <math.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide_t;

static const int lowest_exponent = -1074;

void exact_sum_clear(exact_sum_t *sum) {
  memset(sum, 0, sizeof *sum);
}

void exact_sum_carry(exact_sum_t *sum) {
  int64_t carry = 0;
  for (int i = 0; i < EXACT_SUM_DIGITS; i++) {
    int64_t digit = sum->digit[i] + carry;
    sum->digit[i] = digit & 0xffffffff;
    carry = digit >> 32;
  }
  sum->pending = 0;
}

void exact_sum_add(exact_sum_t *sum, double value) {
  if (value == 0.0) return;
  int exponent = 0;
  double fraction = frexp(value, &exponent); /* [0.5, 1) */
  uint64_t mantissa = (uint64_t)ldexp(fraction, 53);
  int position = exponent - 53 - lowest_exponent;
  if (position < 0) { /* a subnormal: its low bits are zero */
    mantissa >>= -position;
    position = 0;
  }
  wide_t shifted = (wide_t)mantissa << (position % 32);
  int64_t *digit = sum->digit + position / 32;
  digit[0] += (int64_t)(shifted & 0xffffffff);
  digit[1] += (int64_t)((shifted >> 32) & 0xffffffff);
  digit[2] += (int64_t)(shifted >> 64);
  /* Each addition adds less than 2^32 to a digit: 2^30 of them stay below 2^63. */
  if (++sum->pending >= (int64_t)1 << 30) exact_sum_carry(sum);
}

double exact_sum_value(exact_sum_t *sum) {
  exact_sum_carry(sum);
  int top = EXACT_SUM_DIGITS - 1;
  while (top > 0 && sum->digit[top] == 0) top--;
  int low = top > 3 ? top - 3 : 0;
  wide_t bits = 0;
  for (int i = top; i >= low; i--) bits = bits << 32 | (uint64_t)sum->digit[i];
  /* What lies below can only break a tie; 97 bits or more stand above it. */
  for (int i = 0; i < low; i++)
    if (sum->digit[i] != 0) bits |= 1;
  return ldexp((double)bits, low * 32 + lowest_exponent);
}
