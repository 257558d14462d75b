/* Packed integers: the words against a writer of single bits, and the way back. */
#include "kernel_case.h"

#include <string.h>

Suite *kernel_pack_suite(void);

enum { ROUNDS = 150, TASKS_MAX = 4 };

/* One list, on the host's side and as tasks. */
typedef struct packed_case {
  pack_task_t pack;
  unpack_task_t unpack;
  pack_form_t form;
  int64_t *wanted; /* [count] the values with their base */
  uint64_t *words; /* [form.words] */
} packed_case_t;

static void put_bits(uint64_t *words, int64_t at, uint64_t value, int width) {
  for (int b = 0; b < width; b++)
    if (value >> b & 1) words[(at + b) / 64] |= (uint64_t)1 << (at + b) % 64;
}

/* What pack.h says, a bit at a time. */
static void write_plainly(packed_case_t *p, int64_t count, int64_t base) {
  int low = p->form.low;
  for (int64_t i = 0; i < count && p->form.words > 0; i++) {
    int64_t value = p->wanted[i] - base;
    put_bits(p->words, i * low, (uint64_t)value, low);
    if (p->form.elias) put_bits(p->words, 64 * p->form.low_words + (value >> low) + i, 1, 1);
  }
}

static int64_t draw_count(draw_t *draw) {
  static const int64_t counts[] = {0, 1, 2, 63, 64, 65, 128};
  return draw_one_in(draw, 2) ? counts[draw_below(draw, 7)] : draw_below(draw, 400);
}

/* Small ones, powers of two and their neighbours, up to all of 63 bits. */
static int64_t draw_range(draw_t *draw) {
  int64_t power = (int64_t)1 << draw_below(draw, 63);
  return power + (draw_one_in(draw, 3) ? 0 : draw_below(draw, power));
}

/* Ascending, in steps that are random and on average leave room for the rest. */
static void draw_ascending(draw_t *draw, int64_t count, int64_t range, int64_t *value) {
  int64_t next = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t room = range - next - (count - i), step = room / (count - i);
    value[i] = next + draw_below(draw, (step < room / 2 ? 2 * step + 1 : room) + 1);
    next = value[i] + 1;
  }
}

static packed_case_t draw_case(kernel_case_t *c, draw_t *draw) {
  packed_case_t p = {0};
  int64_t count = draw_count(draw), range = draw_range(draw),
          base = range >> 62 > 0 ? 0 : draw_between(draw, -9, 1000);
  int ascending = draw_one_in(draw, 2), indexed = draw_one_in(draw, 2);
  if (ascending && range < count) range = count + (draw_one_in(draw, 2) ? 0 : draw_below(draw, 500));
  p.form = pack_form(count, range, ascending);
  p.wanted = arena_ints(&c->arena, count);
  p.words = arena_alloc(&c->arena, p.form.words, sizeof *p.words);
  if (ascending)
    draw_ascending(draw, count, range, p.wanted);
  else
    for (int64_t i = 0; i < count; i++)
      p.wanted[i] = draw_one_in(draw, 9) ? range - 1 : draw_below(draw, range);
  for (int64_t i = 0; i < count; i++) p.wanted[i] += base;
  int64_t *order = kernel_draw_order(c, draw, count), *from = arena_ints(&c->arena, count);
  for (int64_t i = 0; i < count; i++) from[indexed ? order[i] : i] = p.wanted[i];
  uint64_t *words = kernel_new(c, p.form.words, sizeof *words);
  p.pack = (pack_task_t){count,
                         range,
                         ascending,
                         kernel_put_ints(c, from, count),
                         indexed ? kernel_put_ints(c, order, count) : NULL,
                         base,
                         words};
  p.unpack = (unpack_task_t){count, range, ascending, words, base, kernel_new_ints(c, count)};
  write_plainly(&p, count, base);
  return p;
}

static void check_case(kernel_case_t *c, const packed_case_t *p) {
  const pack_task_t *t = &p->pack;
  const uint64_t *words = kernel_get(c, t->words, p->form.words, sizeof *words);
  const int64_t *got = kernel_get_ints(c, p->unpack.to, t->count);
  for (int64_t w = 0; w < p->form.words; w++)
    ck_assert_msg(words[w] == p->words[w], "word %lld of %lld, %lld values below %lld: %llx, not %llx",
                  (long long)w, (long long)p->form.words, (long long)t->count, (long long)t->range,
                  (unsigned long long)words[w], (unsigned long long)p->words[w]);
  for (int64_t i = 0; i < t->count; i++)
    ck_assert_msg(got[i] == p->wanted[i], "value %lld of %lld below %lld is %lld, not %lld", (long long)i,
                  (long long)t->count, (long long)t->range, (long long)got[i], (long long)p->wanted[i]);
}

START_TEST(packed_lists_have_the_stated_bits_and_come_back) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    packed_case_t cases[TASKS_MAX];
    pack_task_t pack[TASKS_MAX];
    unpack_task_t unpack[TASKS_MAX];
    draw_t draw = draw_start(1, number);
    kernel_case_open(&c, _i);
    int64_t count = draw_between(&draw, 0, TASKS_MAX);
    for (int64_t i = 0; i < count; i++) {
      cases[i] = draw_case(&c, &draw);
      pack[i] = cases[i].pack;
      unpack[i] = cases[i].unpack;
    }
    c.ops->pack(c.kernel, NULL, pack, count);
    c.ops->unpack(c.kernel, NULL, unpack, count);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
    for (int64_t i = 0; i < count; i++) check_case(&c, &cases[i]);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(a_form_is_as_small_as_it_should_be) {
  ck_assert_int_eq(pack_width(1), 0);
  ck_assert_int_eq(pack_width(2), 1);
  ck_assert_int_eq(pack_width(3), 2);
  ck_assert_int_eq(pack_width(4), 2);
  ck_assert_int_eq(pack_width(5), 3);
  ck_assert_int_eq(pack_width(INT64_MAX), 63);
  ck_assert_int_eq(pack_bytes(0, 100, 1), 0);
  ck_assert_int_eq(pack_bytes(100, 1, 0), 0);
  ck_assert_int_eq(pack_bytes(100, 100, 1), 0);
  ck_assert_int_eq(pack_bytes(64, 1024, 0), 8 * 10);
  ck_assert_int_eq(pack_bytes(65, 1024, 0), 8 * 11);
  for (int64_t count = 1; count <= 100000; count = 3 * count + 1)
    for (int64_t range = count; range < (int64_t)1 << 40; range = 2 * range + 1) {
      pack_form_t form = pack_form(count, range, 1);
      int low = 0;
      while (range >> (low + 1) >= count) low++;
      ck_assert_int_le(form.words, pack_form(count, range, 0).words);
      ck_assert_int_le(64 * form.words, (3 + low) * count + 3 * 64); /* Elias's bound, in whole words */
    }
}
END_TEST

Suite *kernel_pack_suite(void) {
  Suite *suite = suite_create("kernel_pack");
  TCase *test_case = tcase_create("kernel_pack");
  tcase_add_loop_test(test_case, packed_lists_have_the_stated_bits_and_come_back, 0, kernel_case_count());
  tcase_add_test(test_case, a_form_is_as_small_as_it_should_be);
  suite_add_tcase(suite, test_case);
  return suite;
}
