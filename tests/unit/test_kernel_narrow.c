/* Fewer bytes a number: integers, and f32 as f16 or bf16 against their definition. */
#include "kernel_case.h"

#include <math.h>
#include <string.h>

Suite *kernel_narrow_suite(void);

enum { CODES = 65536, FLOATS = 100000 };

/* A 16-bit type, by its definition. */
typedef struct half {
  wire_t wire;
  int mantissa, bias; /* bits, and the exponent's offset */
} half_t;

static const half_t halves[] = {{WIRE_F16, 10, 15}, {WIRE_BF16, 7, 127}};

static unsigned infinite_code(const half_t *h) {
  return 0x7FFFu >> h->mantissa << h->mantissa;
}

/* The magnitude that a code without sign stands for; for infinity's code the power of two that would be next.
 */
static double magnitude(const half_t *h, unsigned code) {
  unsigned fraction = code & ((1u << h->mantissa) - 1), exponent = code >> h->mantissa;
  if (exponent == 0) return ldexp(fraction, 1 - h->bias - h->mantissa);
  return ldexp(fraction + (1u << h->mantissa), (int)exponent - h->bias - h->mantissa);
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* ---- integers ---- */

START_TEST(integers_from_minus_one_on) {
  static const int widths[] = {1, 2, 4, 8};
  for (int w = 0; w < 4; w++)
    for (int64_t count = 0; count < 300; count = 2 * count + 1) {
      kernel_case_t c;
      draw_t draw = draw_start(1, (uint64_t)(w * 1000 + count));
      int64_t limit = widths[w] == 8 ? INT64_MAX : ((int64_t)1 << 8 * widths[w]) - 1;
      kernel_case_open(&c, _i);
      int64_t *value = arena_ints(&c.arena, count), *back = kernel_new_ints(&c, count);
      void *to = kernel_new(&c, count, (size_t)widths[w]);
      for (int64_t i = 0; i < count; i++) value[i] = draw_one_in(&draw, 4) ? -1 : draw_below(&draw, limit);
      if (count > 2) value[1] = limit - 1, value[2] = -1;
      c.ops->narrow_i64(c.kernel, NULL, kernel_put_ints(&c, value, count), count, widths[w], to);
      c.ops->widen_i64(c.kernel, NULL, to, count, widths[w], back);
      const int64_t *got = kernel_get_ints(&c, back, count);
      const unsigned char *bytes = kernel_get(&c, to, count, (size_t)widths[w]);
      for (int64_t i = 0; i < count; i++) ck_assert_int_eq(got[i], value[i]);
      for (int64_t i = 0; i < count; i++)
        for (int b = 0; b < widths[w]; b++)
          ck_assert_int_eq(bytes[i * widths[w] + b], (unsigned char)((uint64_t)value[i] >> 8 * b));
      kernel_case_close(&c);
    }
}
END_TEST

/* ---- reals ---- */

/* Every code is the value that its definition says, and comes back as itself; a NaN as some NaN of its sign.
 */
START_TEST(every_code_comes_back) {
  const half_t *h = &halves[_i % 2];
  kernel_case_t c;
  wire_error_t error = {0};
  kernel_case_open(&c, _i / 2);
  uint16_t *code = arena_alloc(&c.arena, CODES, sizeof *code);
  for (int i = 0; i < CODES; i++) code[i] = (uint16_t)i;
  float *wide = kernel_new(&c, CODES, sizeof *wide);
  uint16_t *back = kernel_new(&c, CODES, sizeof *back);
  c.ops->widen_real(c.kernel, NULL, h->wire, kernel_put(&c, code, CODES, sizeof *code), CODES, wide);
  c.ops->narrow_real(c.kernel, NULL, h->wire, wide, CODES, back, &error);
  const float *value = kernel_get(&c, wide, CODES, sizeof *value);
  const uint16_t *got = kernel_get(&c, back, CODES, sizeof *got);
  for (unsigned i = 0; i < CODES; i++) {
    unsigned plain = i & 0x7FFFu;
    ck_assert_int_eq(!signbit(value[i]), i < 0x8000u);
    if (plain > infinite_code(h)) {
      ck_assert_msg(isnan(value[i]), "code %x is no NaN", i);
      ck_assert_msg((got[i] & 0x7FFFu) > infinite_code(h) && got[i] >> 15 == i >> 15, "NaN %x became %x", i,
                    (unsigned)got[i]);
      continue;
    }
    double wanted = plain == infinite_code(h) ? INFINITY : magnitude(h, plain);
    ck_assert_msg(kernel_same(fabs((double)value[i]), wanted), "code %x is %g, not %g", i, (double)value[i],
                  wanted);
    ck_assert_msg(got[i] == i, "code %x became %x", i, (unsigned)got[i]);
  }
  ck_assert(kernel_same(error.lost, 0) && kernel_same(error.most, 0) && error.squares > 0);
  kernel_case_close(&c);
}
END_TEST

/* Any bits; numbers in the type's range; and numbers half way between two codes or next to that. */
static float draw_float(draw_t *draw, const half_t *h) {
  unsigned code = (unsigned)draw_below(draw, infinite_code(h) + 1);
  double half_way = (magnitude(h, code) + magnitude(h, code + 1)) / 2;
  uint32_t bits = (uint32_t)draw_next(draw);
  if (draw_one_in(draw, 3)) return float_of(bits);
  float value = half_way > 0x1.fffffep127 ? 0x1.fffffep127f : (float)half_way;
  if (draw_one_in(draw, 2)) value = nextafterf(value, bits % 2 == 0 ? 0 : INFINITY);
  return bits / 2 % 2 == 0 ? value : -value;
}

/* No other code is nearer, and of two that are as near the even one is taken. */
static void check_nearest(const half_t *h, float value, unsigned code) {
  double far = fabs((double)value);
  unsigned plain = code & 0x7FFFu;
  ck_assert_int_eq(code >> 15, signbit(value) != 0);
  if (isnan(value)) {
    ck_assert_int_gt(plain, infinite_code(h));
    return;
  }
  ck_assert_int_le(plain, infinite_code(h));
  if (isinf(value)) far = magnitude(h, infinite_code(h));
  double miss = fabs(far - magnitude(h, plain));
  if (far > magnitude(h, infinite_code(h))) { /* beyond all codes */
    ck_assert_int_eq(plain, infinite_code(h));
    return;
  }
  double below = plain > 0 ? fabs(far - magnitude(h, plain - 1)) : INFINITY;
  double above = plain < infinite_code(h) ? fabs(far - magnitude(h, plain + 1)) : INFINITY;
  double nearest = below < above ? below : above;
  ck_assert_msg(miss < nearest || (!(miss > nearest) && plain % 2 == 0), "%a became code %x", (double)value,
                code);
}

static void check_error(const wire_error_t *got, const wire_error_t *wanted) {
  ck_assert_double_eq_tol(got->squares, wanted->squares, 1e-9 * wanted->squares);
  if (isinf(wanted->lost))
    ck_assert(isinf(got->lost) && isinf(got->most));
  else
    ck_assert_double_eq_tol(got->lost, wanted->lost, 1e-9 * wanted->lost);
  ck_assert(kernel_same(got->most, wanted->most));
}

START_TEST(floats_become_the_nearest_code) {
  const half_t *h = &halves[_i % 2];
  kernel_case_t c;
  draw_t draw = draw_start(2, (uint64_t)_i);
  kernel_case_open(&c, _i / 2);
  float *value = arena_alloc(&c.arena, FLOATS, sizeof *value);
  for (int i = 0; i < FLOATS; i++) value[i] = draw_float(&draw, h);
  uint16_t *to = kernel_new(&c, FLOATS, sizeof *to);
  wire_error_t error = {1, 0, 0};
  c.ops->narrow_real(c.kernel, NULL, h->wire, kernel_put(&c, value, FLOATS, sizeof *value), FLOATS, to,
                     &error);
  const uint16_t *code = kernel_get(&c, to, FLOATS, sizeof *code);
  for (int i = 0; i < FLOATS; i++) check_nearest(h, value[i], code[i]);
  ck_assert(isinf(error.lost) && isinf(error.most)); /* some overflow */
  kernel_case_close(&c);
}
END_TEST

/* The loss is added to what was there, over finite values. */
START_TEST(what_rounding_costs_is_told) {
  for (int64_t count = 0; count < 2000; count = 3 * count + 1) {
    const half_t *h = &halves[_i % 2];
    kernel_case_t c;
    draw_t draw = draw_start(3, (uint64_t)count);
    wire_error_t error = {2, 0.5, 1e-9}, wanted = error;
    kernel_case_open(&c, _i / 2);
    float *value = arena_alloc(&c.arena, count, sizeof *value);
    for (int64_t i = 0; i < count; i++) value[i] = (float)(draw_unit(&draw) - 0.5);
    if (count > 4) value[2] = NAN, value[3] = -INFINITY;
    uint16_t *to = kernel_new(&c, count, sizeof *to);
    c.ops->narrow_real(c.kernel, NULL, h->wire, kernel_put(&c, value, count, sizeof *value), count, to,
                       &error);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
    const uint16_t *code = kernel_get(&c, to, count, sizeof *code);
    for (int64_t i = 0; i < count; i++) {
      double v = fabs((double)value[i]), lost = fabs(v - magnitude(h, code[i] & 0x7FFFu));
      if (!isfinite(value[i])) continue;
      wanted.squares += v * v;
      wanted.lost += lost * lost;
      wanted.most = lost > wanted.most ? lost : wanted.most;
    }
    check_error(&error, &wanted);
    kernel_case_close(&c);
  }
}
END_TEST

Suite *kernel_narrow_suite(void) {
  Suite *suite = suite_create("kernel_narrow");
  TCase *test_case = tcase_create("kernel_narrow");
  int cases = 2 * kernel_case_count();
  tcase_set_timeout(test_case, 60); /* sanitizers on a busy machine */
  tcase_add_loop_test(test_case, integers_from_minus_one_on, 0, kernel_case_count());
  tcase_add_loop_test(test_case, every_code_comes_back, 0, cases);
  tcase_add_loop_test(test_case, floats_become_the_nearest_code, 0, cases);
  tcase_add_loop_test(test_case, what_rounding_costs_is_told, 0, cases);
  suite_add_tcase(suite, test_case);
  return suite;
}
