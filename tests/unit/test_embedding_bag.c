/* The stateless embedding_bag: random cases against the oracle, the special values that torch has rules for,
 * and what is refused. */
#include "oracle/batch.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <shardbag/shardbag.h>
#include <stdint.h>
#include <string.h>

Suite *embedding_bag_suite(void);

enum { CASES = 200, GROUP = 20 };

/* One call and what it should give. */
typedef struct bag_case {
  arena_t arena;
  draw_t draw;
  int number;
  sbag_context_h context;
  sbag_embedding_bag_options_t options;
  oracle_table_t table;
  oracle_feature_t feature;
  oracle_bags_t all;
  sbag_bags_t bags;
  double *grad_out;
  void *weight; /* of the dtype; the library may renormalise it */
} bag_case_t;

static int same(double expected, double got, double allowed) {
  if (isnan(expected) || isnan(got)) return isnan(expected) && isnan(got);
  if (isinf(expected) || isinf(got)) return expected == got;
  return fabs(expected - got) <= allowed;
}

static void check_value(const bag_case_t *it, const char *what, int64_t at, double expected, double got,
                        double scale) {
  double unit = it->options.dtype == SBAG_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
  if (!same(expected, got, 16 * unit * scale))
    ck_abort_msg("case %d: %s at %lld: expected %.17g, got %.17g", it->number, what, (long long)at, expected,
                 got);
}

static void draw_options(bag_case_t *it) {
  static const double norms[] = {1, 2, 3, INFINITY};
  draw_t *draw = &it->draw;
  int64_t rows = draw_between(draw, 1, 40), dim = draw_between(draw, 1, 20);
  sbag_embedding_bag_options_t *o = &it->options;
  *o = sbag_embedding_bag_options_default(rows, dim);
  ck_assert_int_eq(o->mode, SBAG_MEAN);
  o->dtype = (sbag_dtype_t)draw_below(draw, 2);
  o->mode = (sbag_mode_t)draw_below(draw, 3);
  o->has_padding_idx = draw_one_in(draw, 2);
  o->padding_idx = o->has_padding_idx ? draw_between(draw, -rows, rows - 1) : 0;
  o->scale_grad_by_freq = o->mode != SBAG_MAX && draw_one_in(draw, 3);
  o->has_max_norm = draw_one_in(draw, 3);
  o->max_norm = 0.4 + 3 * draw_unit(draw);
  o->norm_type = norms[draw_below(draw, 4)];
  it->feature = (oracle_feature_t){o->mode, o->has_padding_idx, o->padding_idx, o->scale_grad_by_freq};
  it->table = (oracle_table_t){rows, dim, arena_doubles(&it->arena, rows * dim)};
  for (int64_t i = 0; i < rows * dim; i++) it->table.weight[i] = (double)draw_between(draw, -12, 12) / 8;
  it->weight = batch_typed(&it->arena, it->table.weight, rows * dim, o->dtype);
}

static void draw_bags(bag_case_t *it) {
  draw_t *draw = &it->draw;
  int64_t bags = draw_one_in(draw, 15) ? 0 : draw_between(draw, 1, 20),
          uniform = draw_one_in(draw, 3) ? 4 : 0;
  int64_t *offsets = arena_ints(&it->arena, bags + 1), dim = it->table.dim;
  for (int64_t b = 0; b < bags; b++)
    offsets[b + 1] = offsets[b] + (uniform > 0            ? uniform
                                   : draw_one_in(draw, 3) ? 0
                                                          : draw_between(draw, 1, 9));
  int64_t *indices = arena_ints(&it->arena, offsets[bags]);
  double *weights = arena_doubles(&it->arena, offsets[bags]);
  for (int64_t i = 0; i < offsets[bags]; i++) {
    indices[i] = draw_below(draw, it->table.rows);
    weights[i] = (double)draw_between(draw, -8, 8) / 8;
  }
  int weighted = it->options.mode == SBAG_SUM && draw_one_in(draw, 2);
  batch_form_t form = {.index_type = (sbag_index_t)draw_below(draw, 2), .dtype = it->options.dtype};
  form.two_d = uniform > 0 && draw_one_in(draw, 2);
  form.bag_length = uniform;
  form.include_last_offset = draw_one_in(draw, 2);
  it->all = (oracle_bags_t){bags, offsets, indices, weighted ? weights : NULL};
  it->bags = batch_slice(&it->arena, &it->all, 0, bags, &form);
  it->grad_out = arena_doubles(&it->arena, bags * dim);
  for (int64_t i = 0; i < bags * dim; i++) it->grad_out[i] = (double)draw_between(draw, -10, 10) / 8;
}

/* The caller's weights are renormalised in place; the oracle goes on with them, or rounding could turn a max.
 */
static void check_weight(bag_case_t *it) {
  int64_t cells = it->table.rows * it->table.dim;
  double *got = arena_doubles(&it->arena, cells);
  batch_untyped(it->weight, cells, it->options.dtype, got);
  if (it->options.has_max_norm)
    oracle_renorm(&it->table, it->all.indices, it->all.offsets[it->all.bag_count], it->options.max_norm,
                  it->options.norm_type);
  for (int64_t i = 0; i < cells; i++) {
    check_value(it, "weight", i, it->table.weight[i], got[i],
                it->options.has_max_norm ? fabs(it->table.weight[i]) : 0);
    it->table.weight[i] = got[i];
  }
}

static void check_forward(bag_case_t *it) {
  int64_t count = it->all.bag_count * it->table.dim;
  sbag_status_t status = {0};
  void *typed = arena_doubles(&it->arena, count);
  double *out = arena_doubles(&it->arena, count), *scale = arena_doubles(&it->arena, count);
  double *expected = arena_doubles(&it->arena, count);
  int64_t *winner = arena_ints(&it->arena, count), *won = arena_ints(&it->arena, count);
  memset(typed, 0x5a, (size_t)count * sizeof(double));
  sbag_code_t code = sbag_embedding_bag_forward(it->context, &it->options, it->weight, &it->bags, typed,
                                                it->options.mode == SBAG_MAX ? won : NULL, &status);
  ck_assert_msg(code == SBAG_OK, "case %d: %s", it->number, status.message);
  check_weight(it);
  batch_untyped(typed, count, it->options.dtype, out);
  oracle_forward(&it->table, &it->feature, &it->all, expected, scale, winner);
  for (int64_t i = 0; i < count; i++) {
    check_value(it, "output", i, expected[i], out[i], scale[i]);
    if (it->options.mode == SBAG_MAX) check_value(it, "winner", i, (double)winner[i], (double)won[i], 0);
  }
}

/* Rows in ascending order, all that were looked up but those that lost every max; values as the oracle's. */
static void check_sparse(const bag_case_t *it, const int64_t *rows, const double *values, int64_t count,
                         const double *grad, const double *scale, const int64_t *looked) {
  int64_t dim = it->table.dim, at = 0;
  for (int64_t i = 1; i < count; i++) ck_assert_int_lt(rows[i - 1], rows[i]);
  for (int64_t r = 0; r < it->table.rows; r++) {
    int here = at < count && rows[at] == r;
    ck_assert_msg(!here || looked[r] > 0, "case %d: row %lld was not looked up", it->number, (long long)r);
    ck_assert_msg(here || looked[r] == 0 || it->options.mode == SBAG_MAX, "case %d: row %lld is missing",
                  it->number, (long long)r);
    for (int64_t d = 0; d < dim; d++)
      check_value(it, "gradient", r * dim + d, grad[r * dim + d], here ? values[at * dim + d] : 0,
                  scale[r * dim + d]);
    at += here;
  }
  ck_assert_int_eq(at, count);
}

static void check_backward(bag_case_t *it) {
  int64_t entries = it->bags.index_count, dim = it->table.dim, cells = it->table.rows * dim, count = -1;
  int64_t room = entries < it->table.rows ? entries : it->table.rows;
  sbag_status_t status = {0};
  int weighted = it->all.weights != NULL && draw_one_in(&it->draw, 2);
  void *typed = arena_doubles(&it->arena, room * dim), *typed_weights = arena_doubles(&it->arena, entries);
  int64_t *rows = arena_ints(&it->arena, room), *looked = arena_ints(&it->arena, it->table.rows);
  double *grad = arena_doubles(&it->arena, cells), *scale = arena_doubles(&it->arena, cells);
  double *weight_grad = arena_doubles(&it->arena, entries),
         *weight_scale = arena_doubles(&it->arena, entries);
  double *got = arena_doubles(&it->arena, entries);
  sbag_code_t code = sbag_embedding_bag_backward(
      it->context, &it->options, it->weight, &it->bags,
      batch_typed(&it->arena, it->grad_out, it->all.bag_count * dim, it->options.dtype), rows, typed, &count,
      weighted ? typed_weights : NULL, &status);
  ck_assert_msg(code == SBAG_OK, "case %d: %s", it->number, status.message);
  ck_assert(count >= 0 && count <= room);
  double *values = arena_doubles(&it->arena, count * dim);
  batch_untyped(typed, count * dim, it->options.dtype, values);
  oracle_backward(&it->table, &it->feature, &it->all, it->grad_out, grad, scale, looked, weight_grad,
                  weight_scale);
  check_sparse(it, rows, values, count, grad, scale, looked);
  batch_untyped(typed_weights, entries, it->options.dtype, got);
  for (int64_t i = 0; weighted && i < entries; i++)
    check_value(it, "weight gradient", i, weight_grad[i], got[i], weight_scale[i]);
}

static sbag_context_h open_context(void) {
  sbag_context_h context = NULL;
  sbag_status_t status = {0};
  ck_assert_msg(sbag_context_create(NULL, &context, &status) == SBAG_OK, "%s", status.message);
  return context;
}

START_TEST(random_cases_match_the_oracle) {
  sbag_context_h context = open_context();
  for (int number = _i * GROUP; number < (_i + 1) * GROUP; number++) {
    bag_case_t it = {.number = number, .context = context, .draw = draw_start(3, (uint64_t)number)};
    draw_options(&it);
    draw_bags(&it);
    check_forward(&it);
    check_backward(&it);
    arena_free(&it.arena);
  }
  sbag_context_destroy(&context);
}
END_TEST

/* ---- Special values, on a table of one column ---- */

typedef struct special {
  const char *what;
  sbag_mode_t mode;
  float weight[3];
  int64_t indices[3], count;
  int64_t padding; /* -9: none */
  float expected;
  int64_t winner;
} special_t;

static const special_t specials[] = {
    {"NaN first wins", SBAG_MAX, {NAN, 2, 1}, {0, 1, 2}, 3, -9, NAN, 0},
    {"NaN later is passed over", SBAG_MAX, {NAN, 2, 1}, {2, 0, 1}, 3, -9, 2, 1},
    {"NaN after padding is first", SBAG_MAX, {NAN, 2, 1}, {2, 0, 1}, 3, 2, NAN, 0},
    {"the first of equals wins", SBAG_MAX, {5, 5, 5}, {2, 0, 1}, 3, -9, 5, 2},
    {"-0 before +0", SBAG_MAX, {0.0f, -0.0f, -1}, {2, 1, 0}, 3, -9, 0, 1},
    {"+0 before -0", SBAG_MAX, {0.0f, -0.0f, -1}, {0, 1, 2}, 3, -9, 0, 0},
    {"all -inf", SBAG_MAX, {-INFINITY, -INFINITY, 0}, {1, 0}, 2, -9, -INFINITY, 1},
    {"all below zero", SBAG_MAX, {-3, -2, -4}, {0, 1, 2}, 3, -9, -2, 1},
    {"an empty max", SBAG_MAX, {1, 2, 3}, {0}, 0, -9, 0, 0},
    {"all padding, max", SBAG_MAX, {1, 2, 3}, {2, 2}, 2, 2, 0, 0},
    {"all padding, mean", SBAG_MEAN, {1, 2, NAN}, {2, 2}, 2, -1, 0, 0},
    {"an empty mean", SBAG_MEAN, {1, 2, 3}, {0}, 0, -9, 0, 0},
    {"infinities of both signs", SBAG_SUM, {INFINITY, -INFINITY, 1}, {0, 1}, 2, -9, NAN, 0},
    {"overflow", SBAG_SUM, {3e38f, 1, 1}, {0, 0}, 2, -9, INFINITY, 0},
    {"subnormal", SBAG_SUM, {1e-40f, 1e-41f, 1}, {0, 1}, 2, -9, 1e-40f + 1e-41f, 0},
    {"NaN padding", SBAG_MEAN, {NAN, 2, 4}, {0, 1, 2}, 3, 0, 3, 0},
};

START_TEST(special_values_follow_torch) {
  const special_t *special = &specials[_i];
  sbag_context_h context = open_context();
  sbag_embedding_bag_options_t options = sbag_embedding_bag_options_default(3, 1);
  sbag_status_t status = {0};
  float weight[3], out = -77, grad = 1, values[3];
  int64_t winner = -1, offset = 0, rows[3], count = -1;
  memcpy(weight, special->weight, sizeof weight);
  options.mode = special->mode;
  options.has_padding_idx = special->padding != -9;
  options.padding_idx = options.has_padding_idx ? special->padding : 0;
  sbag_bags_t bags = sbag_bags_1d(special->indices, special->count, &offset, 1);
  ck_assert_msg(sbag_embedding_bag_forward(context, &options, weight, &bags, &out,
                                           options.mode == SBAG_MAX ? &winner : NULL, &status) == SBAG_OK,
                "%s: %s", special->what, status.message);
  ck_assert_msg(same((double)special->expected, (double)out, 0), "%s: %g", special->what, (double)out);
  ck_assert_msg(memcmp(weight, special->weight, sizeof weight) == 0, "%s: weight changed", special->what);
  if (options.mode == SBAG_MAX) {
    ck_assert_msg(winner == special->winner, "%s: row %lld won", special->what, (long long)winner);
    ck_assert(sbag_embedding_bag_backward(context, &options, weight, &bags, &grad, rows, values, &count, NULL,
                                          &status) == SBAG_OK);
    /* The winner has the whole gradient, or nobody has any. */
    float sum = 0, won = 0;
    for (int64_t i = 0; i < count; i++) sum += values[i];
    for (int64_t i = 0; i < count; i++) won += rows[i] == special->winner ? values[i] : 0;
    float whole = strstr(special->what, "empty") != NULL || strstr(special->what, "padding,") != NULL ? 0 : 1;
    ck_assert_msg(sum == whole && won == whole, "%s: gradient %g, of it %g", special->what, (double)sum,
                  (double)won);
  }
  sbag_context_destroy(&context);
}
END_TEST

/* Rows with NaN stay, rows above the norm are scaled once however often they occur, others stay. */
START_TEST(max_norm_renormalises_in_place) {
  sbag_context_h context = open_context();
  sbag_embedding_bag_options_t options = sbag_embedding_bag_options_default(4, 2);
  sbag_status_t status = {0};
  double weight[4][2] = {{3, 4}, {NAN, 9}, {0.3, 0.4}, {6, 8}}, out[2];
  int64_t indices[] = {0, 1, 2, 0}, offset = 0;
  options.dtype = SBAG_F64;
  options.has_max_norm = 1;
  options.max_norm = 2;
  sbag_bags_t bags = sbag_bags_1d(indices, 4, &offset, 1);
  ck_assert(sbag_embedding_bag_forward(context, &options, weight, &bags, out, NULL, &status) == SBAG_OK);
  ck_assert_double_eq_tol(weight[0][0], 3 * 2 / (5 + 1e-7), 1e-14);
  ck_assert_double_eq_tol(weight[0][1], 4 * 2 / (5 + 1e-7), 1e-14);
  ck_assert(isnan(weight[1][0]) && weight[1][1] == 9);
  ck_assert(weight[2][0] == 0.3 && weight[2][1] == 0.4 && weight[3][0] == 6 && weight[3][1] == 8);
  sbag_context_destroy(&context);
}
END_TEST

/* ---- Refusals ---- */

typedef struct call {
  sbag_embedding_bag_options_t options;
  int64_t indices[4], offsets[3];
  float weights[4];
  sbag_bags_t bags;
} call_t;

static void index_outside(call_t *it) {
  it->indices[2] = 5;
}
static void index_negative(call_t *it) {
  it->indices[3] = -2;
}
static void offset_not_zero(call_t *it) {
  it->offsets[0] = 1;
}
static void offset_outside(call_t *it) {
  it->offsets[1] = 9;
}
static void weights_with_mean(call_t *it) {
  it->bags.per_sample_weights = it->weights;
  it->bags.per_sample_weight_count = 4;
}
static void frequency_with_max(call_t *it) {
  it->options.mode = SBAG_MAX;
  it->options.scale_grad_by_freq = 1;
}
static void padding_outside(call_t *it) {
  it->options.has_padding_idx = 1;
  it->options.padding_idx = 5;
}
static void no_rows(call_t *it) {
  it->options.num_embeddings = 0;
}
static void short_last_offset(call_t *it) {
  it->bags.include_last_offset = 1;
  it->bags.offset_count = 3;
  it->offsets[2] = 3;
}

static const struct {
  const char *what;
  void (*spoil)(call_t *it);
  const char *words[2];
} bad_calls[] = {
    {"an index past the table", index_outside, {"5", "2"}},
    {"a negative index", index_negative, {"-2", "3"}},
    {"offsets[0] = 1", offset_not_zero, {"1", "offset"}},
    {"an offset past the end", offset_outside, {"9", "4"}},
    {"weights with mean", weights_with_mean, {"per_sample_weights", "mean"}},
    {"frequencies with max", frequency_with_max, {"scale_grad_by_freq", "max"}},
    {"a padding row outside", padding_outside, {"padding_idx", "5"}},
    {"no rows", no_rows, {"num_embeddings", "0"}},
    {"a last offset below the count", short_last_offset, {"3", "4"}},
};

START_TEST(bad_calls_are_refused) {
  sbag_context_h context = open_context();
  sbag_status_t status = {0};
  float weight[5][2] = {{9, 9}, {9, 9}, {9, 9}, {9, 9}, {9, 9}}, out[3][2] = {{-7, -7}, {-7, -7}, {-7, -7}};
  call_t it = {
      .options = sbag_embedding_bag_options_default(5, 2), .indices = {0, 1, 2, 3}, .offsets = {0, 2, 4}};
  it.options.has_max_norm = 1;
  it.options.max_norm = 1;
  it.bags = sbag_bags_1d(it.indices, 4, it.offsets, 2);
  bad_calls[_i].spoil(&it);
  sbag_code_t code = sbag_embedding_bag_forward(context, &it.options, weight, &it.bags, out, NULL, &status);
  ck_assert_msg(code == SBAG_ERR_ARGUMENT && status.code == code, "%s: %s: %s", bad_calls[_i].what,
                sbag_code_name(code), status.message);
  for (int i = 0; i < 2; i++)
    ck_assert_msg(strstr(status.message, bad_calls[_i].words[i]) != NULL, "%s: no '%s' in: %s",
                  bad_calls[_i].what, bad_calls[_i].words[i], status.message);
  for (int i = 0; i < 10; i++)
    ck_assert_msg(weight[i / 2][i % 2] == 9, "%s: weight changed", bad_calls[_i].what);
  sbag_context_destroy(&context);
}
END_TEST

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

Suite *embedding_bag_suite(void) {
  Suite *suite = suite_create("embedding_bag");
  TCase *test_case = tcase_create("embedding_bag");
  tcase_add_loop_test(test_case, random_cases_match_the_oracle, 0, CASES / GROUP);
  tcase_add_loop_test(test_case, special_values_follow_torch, 0, COUNT_OF(specials));
  tcase_add_test(test_case, max_norm_renormalises_in_place);
  tcase_add_loop_test(test_case, bad_calls_are_refused, 0, COUNT_OF(bad_calls));
  suite_add_tcase(suite, test_case);
  return suite;
}
