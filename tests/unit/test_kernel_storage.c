/* Tables in 16 bits: rounding by chance against its definition, and every op on such rows against the same op
 * on f32 rows of the same values, whose results are then rounded. */
#include "kernel_case.h"
#include "kernel/rounding.h"

#include <math.h>
#include <string.h>

Suite *kernel_storage_suite(void);

enum { DRAWS = 65536, STEP = 7 };

static const sbag_storage_t storages[] = {SBAG_STORAGE_F16, SBAG_STORAGE_BF16};

static uint16_t nearest(sbag_storage_t storage, float value) {
  return storage == SBAG_STORAGE_F16 ? narrow_f16_of(value) : narrow_bf16_of(value);
}

static float value_of(sbag_storage_t storage, uint16_t code) {
  return storage == SBAG_STORAGE_F16 ? narrow_f16_value(code) : narrow_bf16_value(code);
}

static uint16_t drawn_code(sbag_storage_t storage, float value, uint32_t drawn) {
  return storage == SBAG_STORAGE_F16 ? rounding_f16_of(value, drawn) : rounding_bf16_of(value, drawn);
}

/* ---- rounding by chance ---- */

/* The code below a magnitude, or its own. */
static uint16_t code_below(sbag_storage_t storage, float size) {
  uint16_t code = nearest(storage, size);
  return value_of(storage, code) > size ? (uint16_t)(code - 1) : code;
}

/* Of all numbers that can be drawn, as many go up as the value's place between its neighbours says. */
static void check_shares(sbag_storage_t storage, float value) {
  const float size = fabsf(value);
  const uint16_t sign = signbit(value) ? 0x8000 : 0, below = code_below(storage, size);
  const double low = (double)value_of(storage, below);
  const double unit = (double)value_of(storage, (uint16_t)(below + 1)) - low;
  const double share = ((double)size - low) / unit;
  int ups = 0;
  for (uint32_t drawn = 0; drawn < DRAWS; drawn++) {
    const uint16_t code = drawn_code(storage, value, drawn);
    ck_assert_msg(code == (below | sign) || code == ((below + 1) | sign), "%a became %#x", (double)value,
                  (unsigned)code);
    ups += code == ((below + 1) | sign);
  }
  ck_assert_msg(ups == (int)floor(share * DRAWS), "%a: %d of %d go up, its share is %.17g", (double)value,
                ups, DRAWS, share);
}

START_TEST(shares_are_exact) {
  static const float fixed[] = {0, -0.0f, 1, 1.0001f, 5e-8f, 6.1e-5f, 3e-6f, 1e-12f, 2.9e-8f, 60000, 65503};
  const sbag_storage_t storage = storages[_i];
  draw_t draw = draw_start(1, (uint64_t)_i);
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) check_shares(storage, fixed[i]);
  for (int i = 0; i < 50; i++) {
    const float value = (float)ldexp(draw_unit(&draw) - 0.5, (int)draw_between(&draw, -20, 15));
    check_shares(storage, value);
  }
}
END_TEST

/* What 16 bits hold stays; infinity, NaN and what only infinity is beyond are the nearest's. */
START_TEST(codes_and_extremes_stay) {
  static const float extremes[] = {INFINITY, -INFINITY, 65504, 65519, 65520, 1e30f, 3.39e38f, -3.4028235e38f};
  const sbag_storage_t storage = storages[_i];
  for (uint32_t drawn = 0; drawn < DRAWS; drawn += 13107) {
    for (uint32_t code = 0; code < 65536; code++) {
      const float value = value_of(storage, (uint16_t)code);
      if (isnan(value))
        ck_assert(isnan(value_of(storage, drawn_code(storage, value, drawn))));
      else
        ck_assert_int_eq(drawn_code(storage, value, drawn), code);
    }
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++)
      if (storage == SBAG_STORAGE_F16 || !isfinite(extremes[i]) || fabsf(extremes[i]) > 3.3896e38f)
        ck_assert_int_eq(drawn_code(storage, extremes[i], drawn), nearest(storage, extremes[i]));
  }
}
END_TEST

/* ---- rows ---- */

typedef struct rows_case {
  kernel_case_t c;
  draw_t draw;
  sbag_storage_t storage;
  int64_t rows, dim, size;
  uint16_t *code; /* [size] */
  float *wide;    /* [size] the same values */
  int64_t *order, count;
} rows_case_t;

static void open_rows(rows_case_t *r, int which, uint64_t number) {
  static const int64_t dims[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 32, 33, 64, 100, 128, 257, 1024};
  kernel_case_open(&r->c, which / 2);
  r->storage = storages[which % 2];
  r->draw = draw_start(2, number);
  r->rows = draw_between(&r->draw, 1, 40);
  r->dim = dims[number % (sizeof dims / sizeof *dims)];
  r->size = r->rows * r->dim;
  r->code = arena_alloc(&r->c.arena, r->size, sizeof *r->code);
  r->wide = arena_alloc(&r->c.arena, r->size, sizeof *r->wide);
  for (int64_t i = 0; i < r->size; i++) {
    r->code[i] = nearest(r->storage, (float)(4 * draw_unit(&r->draw) - 2));
    r->wide[i] = value_of(r->storage, r->code[i]);
  }
  r->order = kernel_draw_order(&r->c, &r->draw, r->rows);
  r->count = draw_between(&r->draw, 0, r->rows);
}

static uint16_t *put_codes(rows_case_t *r) {
  return kernel_put(&r->c, r->code, r->size, sizeof *r->code);
}

static float *put_wide(rows_case_t *r) {
  return kernel_put(&r->c, r->wide, r->size, sizeof *r->wide);
}

static void check_codes(const char *what, const uint16_t *got, const uint16_t *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(got[i] == wanted[i], "%s: element %lld is %#x and not %#x", what, (long long)i,
                  (unsigned)got[i], (unsigned)wanted[i]);
}

static const uint16_t *nearest_all(rows_case_t *r, const float *values, int64_t count) {
  uint16_t *codes = arena_alloc(&r->c.arena, count, sizeof *codes);
  for (int64_t i = 0; i < count; i++) codes[i] = nearest(r->storage, values[i]);
  return codes;
}

START_TEST(rows_are_widened_and_rounded) {
  for (uint64_t number = 0; number < 34; number++) {
    rows_case_t r;
    open_rows(&r, _i, number);
    const int64_t n = r.count * r.dim, *list = kernel_put_ints(&r.c, r.order, r.count);
    float *values = arena_alloc(&r.c.arena, n, sizeof *values),
          *gathered = kernel_new(&r.c, n, sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = (float)(4 * draw_unit(&r.draw) - 2);
    uint16_t *table = put_codes(&r);
    r.c.ops->scatter_rows(r.c.kernel, NULL, SBAG_F32, r.storage, kernel_put(&r.c, values, n, sizeof *values),
                          r.dim, list, r.count, table);
    for (int64_t i = 0; i < r.count; i++)
      for (int64_t col = 0; col < r.dim; col++)
        r.code[r.order[i] * r.dim + col] = nearest(r.storage, values[i * r.dim + col]);
    check_codes("scattered", kernel_get(&r.c, table, r.size, 2), r.code, r.size);
    r.c.ops->gather_rows(r.c.kernel, NULL, SBAG_F32, r.storage, table, r.dim, list, r.count, gathered);
    const float *got = kernel_get(&r.c, gathered, n, sizeof *got);
    for (int64_t i = 0; i < r.count; i++)
      for (int64_t col = 0; col < r.dim; col++)
        ck_assert(got[i * r.dim + col] == value_of(r.storage, r.code[r.order[i] * r.dim + col]));
    kernel_case_close(&r.c);
  }
}
END_TEST

/* -0 and what is not finite, too. */
START_TEST(gathered_values_keep_their_kind) {
  enum { DIM = 4 };
  static const float kinds[DIM] = {-0.0f, INFINITY, -INFINITY, NAN};
  static const int64_t row = 0;
  rows_case_t r;
  open_rows(&r, _i, 0);
  const uint16_t *codes = nearest_all(&r, kinds, DIM);
  float *values = kernel_new(&r.c, DIM, sizeof *values);
  r.c.ops->gather_rows(r.c.kernel, NULL, SBAG_F32, r.storage, kernel_put(&r.c, codes, DIM, 2), DIM,
                       kernel_put_ints(&r.c, &row, 1), 1, values);
  const float *got = kernel_get(&r.c, values, DIM, sizeof *got);
  for (int i = 0; i < DIM; i++) ck_assert(kernel_same((double)got[i], (double)kinds[i]));
  kernel_case_close(&r.c);
}
END_TEST

START_TEST(initial_values_are_rounded) {
  static const int64_t zero_rows[] = {3, 17};
  for (int number = 0; number < 12; number++) {
    rows_case_t r;
    open_rows(&r, _i, (uint64_t)number);
    sbag_table_options_t table = sbag_table_options_default("table", 31, r.dim);
    table.layout = (sbag_layout_t)(number % 3);
    plan_t *plan = NULL;
    ck_assert_int_eq(plan_create(r.c.mem, 2, &table, 1, &plan, NULL), SBAG_OK);
    const int64_t rows = plan_shard_rows(&plan->tables[0], 1), size = rows * r.dim;
    init_task_t task = {.plan = &plan->tables[0],
                        .shard = 1,
                        .rows = rows,
                        .dim = r.dim,
                        .kind = (sbag_init_t)(number / 3),
                        .a = -0.7,
                        .b = 0.3,
                        .key = random_key(1, "table"),
                        .zero_rows = zero_rows,
                        .zero_count = 2};
    float *full = task.weight = kernel_new(&r.c, size, sizeof *full);
    r.c.ops->init(r.c.kernel, NULL, SBAG_F32, &task);
    uint16_t *kept = task.weight = kernel_new(&r.c, size, sizeof *kept);
    task.storage = r.storage;
    r.c.ops->init(r.c.kernel, NULL, SBAG_F32, &task);
    const float *values = kernel_get(&r.c, full, size, sizeof *full);
    check_codes("init", kernel_get(&r.c, kept, size, 2), nearest_all(&r, values, size), size);
    plan_destroy(&plan);
    kernel_case_close(&r.c);
  }
}
END_TEST

START_TEST(scaled_rows_are_rounded) {
  static const double norm_types[] = {1, 2, INFINITY, 3};
  for (uint64_t number = 0; number < 34; number++) {
    rows_case_t r;
    open_rows(&r, _i, number);
    const int64_t *list = kernel_put_ints(&r.c, r.order, r.count), n = r.count * r.dim;
    const double p = norm_types[number % 4], limit = 0.3 + draw_unit(&r.draw);
    uint16_t *table = put_codes(&r);
    float *full = put_wide(&r), *copies = kernel_new(&r.c, n, sizeof *copies);
    r.c.ops->renorm(r.c.kernel, NULL, SBAG_F32, r.storage, table, r.dim, list, r.count, limit, p, copies);
    check_codes("read only", kernel_get(&r.c, table, r.size, 2), r.code, r.size);
    r.c.ops->renorm(r.c.kernel, NULL, SBAG_F32, r.storage, table, r.dim, list, r.count, limit, p, NULL);
    r.c.ops->renorm(r.c.kernel, NULL, SBAG_F32, SBAG_STORAGE_FULL, full, r.dim, list, r.count, limit, p,
                    NULL);
    const float *values = kernel_get(&r.c, full, r.size, sizeof *values);
    const uint16_t *wanted = nearest_all(&r, values, r.size);
    check_codes("in place", kernel_get(&r.c, table, r.size, 2), wanted, r.size);
    const float *got = kernel_get(&r.c, copies, n, sizeof *got);
    for (int64_t i = 0; i < r.count; i++)
      for (int64_t col = 0; col < r.dim; col++)
        ck_assert(got[i * r.dim + col] == value_of(r.storage, wanted[r.order[i] * r.dim + col]));
    kernel_case_close(&r.c);
  }
}
END_TEST

/* ---- updates ---- */

typedef struct twins {
  rows_case_t r;
  plan_t *plan;
  sbag_optimizer_options_t options;
  optimizer_info_t info;
  optimizer_update_t full, kept; /* f32 rows, and the same in 16 bits */
} twins_t;

static void open_twins(twins_t *t, int which, sbag_optimizer_t kind, uint64_t number) {
  open_rows(&t->r, which, number);
  rows_case_t *r = &t->r;
  sbag_table_options_t table = sbag_table_options_default("table", 3 * r->rows, r->dim);
  table.layout = (sbag_layout_t)(number % 3);
  ck_assert_int_eq(plan_create(r->c.mem, 3, &table, 1, &t->plan, NULL), SBAG_OK);
  t->options = sbag_optimizer_options_default(kind);
  t->info = optimizer_info(&t->options);
  float *grad = arena_alloc(&r->c.arena, r->count * r->dim, sizeof *grad);
  for (int64_t i = 0; i < r->count * r->dim; i++) grad[i] = (float)(draw_unit(&r->draw) - 0.5);
  int64_t *touched = arena_ints(&r->c.arena, r->count + 1);
  touched[0] = 0;
  for (int64_t i = 0; i < r->count; i++) touched[i + 1] = touched[i] + !draw_one_in(&r->draw, 4);
  t->full = (optimizer_update_t){.at = {.options = &t->options, .dtype = SBAG_F32, .dim = r->dim},
                                 .step = STEP,
                                 .lr = 0.05,
                                 .grad_scale = 1,
                                 .count = r->count,
                                 .rows = kernel_put_ints(&r->c, r->order, r->count),
                                 .touched = kernel_put_ints(&r->c, touched, r->count + 1),
                                 .grad = kernel_put(&r->c, grad, r->count * r->dim, sizeof *grad)};
  t->kept = t->full;
  t->full.at.weight = put_wide(r);
  t->kept.at.weight = put_codes(r);
  t->kept.at.storage = r->storage;
  t->kept.at.rounding =
      (rounding_t){.kind = number % 2 == 0 ? SBAG_ROUNDING_STOCHASTIC : SBAG_ROUNDING_NEAREST,
                   .key = random_key(number, "table"),
                   .plan = &t->plan->tables[0],
                   .shard = (int)(number % 3)};
}

static int64_t state_size(const twins_t *t, int s) {
  return t->info.states[s].row_wise ? t->r.rows : t->r.size;
}

static void put_states(twins_t *t) {
  for (int s = 0; s < t->info.state_count; s++) {
    float *state = arena_alloc(&t->r.c.arena, state_size(t, s), sizeof *state);
    for (int64_t i = 0; i < state_size(t, s); i++) state[i] = (float)draw_unit(&t->r.draw);
    t->full.at.states[s] = kernel_put(&t->r.c, state, state_size(t, s), sizeof *state);
    t->kept.at.states[s] = kernel_put(&t->r.c, state, state_size(t, s), sizeof *state);
  }
}

/* What the f32 rows after the update become. */
static const uint16_t *round_rows(twins_t *t) {
  rows_case_t *r = &t->r;
  const float *after = kernel_get(&r->c, t->full.at.weight, r->size, sizeof *after);
  const int64_t *touched = kernel_get_ints(&r->c, t->full.touched, r->count + 1);
  for (int64_t i = 0; i < r->count; i++) {
    const int64_t local = r->order[i], row = plan_row(&t->plan->tables[0], t->kept.at.rounding.shard, local);
    for (int64_t col = 0; touched[i] != touched[i + 1] && col < r->dim; col++) {
      const rounding_block_t block =
          rounding_block(t->kept.at.rounding.key, row, STEP, col / ROUNDING_COLUMNS);
      const float value = after[local * r->dim + col];
      const uint32_t drawn = rounding_bits(&block, (int)(col % ROUNDING_COLUMNS));
      r->code[local * r->dim + col] = t->kept.at.rounding.kind == SBAG_ROUNDING_NEAREST
                                          ? nearest(r->storage, value)
                                          : drawn_code(r->storage, value, drawn);
    }
  }
  return r->code;
}

static void update_twins(int which, sbag_optimizer_t kind, uint64_t number) {
  twins_t t;
  open_twins(&t, which, kind, number);
  kernel_case_t *c = &t.r.c;
  put_states(&t);
  if (!t.info.moves_untouched) {
    c->ops->update(c->kernel, NULL, &t.full);
    c->ops->update(c->kernel, NULL, &t.kept);
    check_codes(sbag_optimizer_name(kind), kernel_get(c, t.kept.at.weight, t.r.size, 2), round_rows(&t),
                t.r.size);
    for (int s = 0; s < t.info.state_count; s++)
      ck_assert_msg(memcmp(kernel_get(c, t.full.at.states[s], state_size(&t, s), sizeof(float)),
                           kernel_get(c, t.kept.at.states[s], state_size(&t, s), sizeof(float)),
                           (size_t)state_size(&t, s) * sizeof(float)) == 0,
                    "%s: state %d", sbag_optimizer_name(kind), s);
  }
  plan_destroy(&t.plan);
  kernel_case_close(c);
}

START_TEST(updates_are_those_of_f32_rounded) {
  for (int kind = 0; kind < SBAG_OPT_COUNT; kind++)
    for (uint64_t number = 0; number < 17; number++) update_twins(_i, (sbag_optimizer_t)kind, number);
}
END_TEST

/* Many more rows than fit a block of the CPU's. */
START_TEST(updates_of_many_rows) {
  enum { ROWS = 5000 };
  static const double lr = 0.001;
  for (int storage = 0; storage < 2; storage++) {
    kernel_case_t c;
    kernel_case_open(&c, _i);
    sbag_table_options_t table = sbag_table_options_default("table", ROWS, 1);
    plan_t *plan = NULL;
    ck_assert_int_eq(plan_create(c.mem, 1, &table, 1, &plan, NULL), SBAG_OK);
    sbag_optimizer_options_t options = sbag_optimizer_options_default(SBAG_OPT_EXACT_SGD);
    uint16_t *code = arena_alloc(&c.arena, ROWS, sizeof *code);
    float *grad = arena_alloc(&c.arena, ROWS, sizeof *grad);
    for (int i = 0; i < ROWS; i++) code[i] = nearest(storages[storage], 1.5f), grad[i] = -1;
    optimizer_update_t u = {.at = {.options = &options,
                                   .dtype = SBAG_F32,
                                   .dim = 1,
                                   .storage = storages[storage],
                                   .rounding = {.plan = &plan->tables[0], .key = 5},
                                   .weight = kernel_put(&c, code, ROWS, sizeof *code)},
                            .step = 1,
                            .lr = lr,
                            .grad_scale = 1,
                            .count = ROWS,
                            .grad = kernel_put(&c, grad, ROWS, sizeof *grad)};
    for (u.step = 1; u.step <= 20; u.step++) c.ops->update(c.kernel, NULL, &u);
    const uint16_t *got = kernel_get(&c, u.at.weight, ROWS, sizeof *got);
    double sum = 0, squares = 0;
    for (int i = 0; i < ROWS; i++) {
      const double moved = (double)value_of(storages[storage], got[i]) - 1.5;
      sum += moved;
      squares += moved * moved;
    }
    /* A step is far below a bf16's unit here: the nearest would never move. On average rows move as they
     * should, to 5 standard errors. */
    const double mean = sum / ROWS, error = sqrt(squares / ROWS - mean * mean) / sqrt(ROWS);
    ck_assert_msg(fabs(mean - 20 * lr) < 5 * error, "moved by %g and not %g (+-%g)", mean, 20 * lr, error);
    u.at.rounding.kind = SBAG_ROUNDING_NEAREST;
    u.at.weight = kernel_put(&c, code, ROWS, sizeof *code);
    u.lr = 0.0001;
    for (u.step = 1; u.step <= 20; u.step++) c.ops->update(c.kernel, NULL, &u);
    check_codes("nearest", kernel_get(&c, u.at.weight, ROWS, 2), code, ROWS);
    plan_destroy(&plan);
    kernel_case_close(&c);
  }
}
END_TEST

/* The same row draws the same, wherever it lies; another row, step, column or table draws anew. */
START_TEST(draws_depend_on_the_row_alone) {
  const rounding_block_t one = rounding_block(1, 5, 3, 0);
  const rounding_block_t others[] = {rounding_block(2, 5, 3, 0), rounding_block(1, 6, 3, 0),
                                     rounding_block(1, 5, 4, 0), rounding_block(1, 5, 3, 1),
                                     rounding_block(1, 5 + ((int64_t)1 << 32), 3, 0)};
  const rounding_block_t again = rounding_block(1, 5, 3, 0);
  ck_assert_mem_eq(&one, &again, sizeof one);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) ck_assert_mem_ne(&one, &others[i], sizeof one);
  for (int i = 0; i < ROUNDING_COLUMNS; i++)
    for (int j = 0; j < i; j++) ck_assert_uint_ne(rounding_bits(&one, i), rounding_bits(&one, j));
}
END_TEST

Suite *kernel_storage_suite(void) {
  Suite *suite = suite_create("kernel_storage");
  TCase *rounding = tcase_create("rounding"), *rows = tcase_create("rows");
  const int cases = 2 * kernel_case_count();
  tcase_add_loop_test(rounding, shares_are_exact, 0, 2);
  tcase_add_loop_test(rounding, codes_and_extremes_stay, 0, 2);
  tcase_add_test(rounding, draws_depend_on_the_row_alone);
  tcase_add_loop_test(rows, rows_are_widened_and_rounded, 0, cases);
  tcase_add_loop_test(rows, gathered_values_keep_their_kind, 0, cases);
  tcase_add_loop_test(rows, initial_values_are_rounded, 0, cases);
  tcase_add_loop_test(rows, scaled_rows_are_rounded, 0, cases);
  tcase_add_loop_test(rows, updates_are_those_of_f32_rounded, 0, cases);
  tcase_add_loop_test(rows, updates_of_many_rows, 0, kernel_case_count());
  tcase_set_timeout(rows, 60);
  tcase_set_timeout(rounding, 60);
  suite_add_tcase(suite, rounding);
  suite_add_tcase(suite, rows);
  return suite;
}
