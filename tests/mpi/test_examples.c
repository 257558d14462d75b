/* The documented examples of embedding_bag, their bags dealt to the ranks in every way, over all layouts. */
#include "mpi_test.h"

#include "oracle/batch.h"
#include <math.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>

Suite *examples_suite(void);

enum { DEALS = 6 };

static const float rows_of_six[6][3] = {{.1f, .2f, .3f}, {0, .1f, 0},     {.4f, 0, .5f},
                                        {.2f, .3f, .1f}, {.7f, .9f, .8f}, {0, 0, 0}};
static const float mean_of_bags[2][3] = {{.2f, .05f, .25f}, {.3333f, .4667f, .4f}};

/* A table, whole bags and what they give. */
typedef struct example {
  sbag_table_options_t table;
  sbag_feature_options_t feature;
  oracle_bags_t bags;
  batch_form_t form;
  const float *expected; /* [bags][dim] */
} example_t;

static sbag_context_h make_context(void) {
  sbag_context_h context = NULL;
  sbag_status_t status = {0};
  ck_assert_msg(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, &status) == SBAG_OK, "%s",
                status.message);
  return context;
}

/* Looks this rank's bags up and compares its rows. */
static void check_deal(sbag_context_h context, const example_t *example, const int64_t *first) {
  arena_t arena = {0};
  sbag_status_t status = {0};
  sbag_collection_h collection = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  sbag_step_h step = NULL;
  int64_t dim = example->table.embedding_dim, begin = first[sbag_context_rank(context)];
  int64_t end = first[sbag_context_rank(context) + 1];
  sbag_bags_t bags = batch_slice(&arena, &example->bags, begin, end, &example->form);
  float *out = arena_alloc(&arena, (end - begin) * dim, sizeof *out);
  ck_assert_msg(sbag_collection_create(context, &options, &example->table, 1, &example->feature, 1,
                                       &collection, &status) == SBAG_OK,
                "%s", status.message);
  ck_assert_int_eq(sbag_collection_output_dim(collection), dim);
  ck_assert_msg(sbag_collection_forward_begin(collection, &bags, 0, &step, &status) == SBAG_OK, "%s",
                status.message);
  ck_assert_msg(sbag_step_forward_end(step, out, &status) == SBAG_OK, "%s", status.message);
  for (int64_t i = 0; i < (end - begin) * dim; i++)
    ck_assert_msg(fabsf(out[i] - example->expected[begin * dim + i]) < 5e-5f,
                  "bag %lld, column %lld: %g, not %g", (long long)(begin + i / dim), (long long)(i % dim),
                  (double)out[i], (double)example->expected[begin * dim + i]);
  sbag_step_release(&step);
  sbag_collection_destroy(&collection);
  arena_free(&arena);
}

static void check_example(const example_t *example) {
  arena_t arena = {0};
  sbag_context_h context = make_context();
  int64_t *first = arena_ints(&arena, sbag_context_size(context) + 1);
  for (int deal = 0; deal < DEALS; deal++) {
    example_t placed = *example;
    draw_t draw = draw_start(7, (uint64_t)deal);
    batch_split(&draw, example->bags.bag_count, sbag_context_size(context), first);
    placed.table.layout = (sbag_layout_t)(deal % 3);
    placed.table.replicated = deal / 3;
    check_deal(context, &placed, first);
  }
  sbag_context_destroy(&context);
  arena_free(&arena);
}

static example_t table_of_six(void) {
  example_t example = {.table = sbag_table_options_default("table", 6, 3),
                       .feature = sbag_feature_options_default("feature", 0),
                       .expected = mean_of_bags[0]};
  example.table.from_pretrained = rows_of_six;
  return example;
}

START_TEST(mean_with_offsets) {
  static const int64_t indices[] = {1, 2, 0, 3, 4}, offsets[] = {0, 2, 5};
  example_t example = table_of_six();
  example.bags = (oracle_bags_t){2, offsets, indices, NULL};
  check_example(&example);
}
END_TEST

START_TEST(mean_of_two_d_with_padding) {
  static const int64_t indices[] = {1, 2, 5, 0, 3, 4}, offsets[] = {0, 3, 6};
  example_t example = table_of_six();
  example.bags = (oracle_bags_t){2, offsets, indices, NULL};
  example.form = (batch_form_t){.two_d = 1, .bag_length = 3};
  example.feature.has_padding_idx = 1;
  example.feature.padding_idx = 5;
  check_example(&example);
  example.feature.padding_idx = -1;
  check_example(&example);
}
END_TEST

START_TEST(from_pretrained) {
  static const float weights[2][3] = {{1, 2.3f, 3}, {4, 5.1f, 6.3f}}, expected[] = {2.5f, 3.7f, 4.65f};
  static const int64_t indices[] = {1, 0}, offsets[] = {0, 2};
  example_t example = {.table = sbag_table_options_from_pretrained("table", 2, 3, weights),
                       .feature = sbag_feature_options_default("feature", 0),
                       .bags = {1, offsets, indices, NULL},
                       .form = {.two_d = 1, .bag_length = 2},
                       .expected = expected};
  ck_assert_int_eq(example.table.freeze, 1);
  check_example(&example);
}
END_TEST

/* Offsets [0, 3, 7] over 7 indices: the same memory is two bags or three. */
START_TEST(last_offset) {
  static const int64_t indices[] = {0, 1, 2, 3, 4, 5, 0}, offsets[] = {0, 3, 7};
  static const float expected[3][3] = {{.5f, .3f, .8f}, {1, 1.4f, 1.2f}, {0, 0, 0}};
  sbag_status_t status = {0};
  sbag_context_h context = make_context();
  sbag_collection_h collection = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  example_t example = table_of_six();
  example.feature.mode = SBAG_SUM;
  ck_assert_msg(sbag_collection_create(context, &options, &example.table, 1, &example.feature, 1, &collection,
                                       &status) == SBAG_OK,
                "%s", status.message);
  for (int last = 0; last < 2; last++) {
    /* Every rank brings the bags, the odd ranks in the other form. */
    sbag_bags_t bags = sbag_bags_1d(indices, 7, offsets, 3);
    bags.include_last_offset = (last + sbag_context_rank(context)) % 2;
    float out[4][3] = {{0}, {0}, {-7, -7, -7}, {-7, -7, -7}};
    sbag_step_h step = NULL;
    ck_assert_msg(sbag_collection_forward_begin(collection, &bags, 0, &step, &status) == SBAG_OK, "%s",
                  status.message);
    ck_assert_msg(sbag_step_forward_end(step, out, &status) == SBAG_OK, "%s", status.message);
    int bag_count = bags.include_last_offset ? 2 : 3;
    for (int i = 0; i < 4 * 3; i++)
      ck_assert_float_eq_tol(out[i / 3][i % 3], i / 3 < bag_count ? expected[i / 3][i % 3] : -7.0f, 5e-5f);
    sbag_step_release(&step);
  }
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
}
END_TEST

/* As torch's module: mode mean, values from N(0, 1), the padding row zero. */
START_TEST(defaults_of_the_module) {
  sbag_status_t status = {0};
  sbag_context_h context = make_context();
  sbag_collection_h collection = NULL;
  sbag_collection_options_t options = sbag_collection_options_default();
  enum { ROWS = 4000, DIM = 4 };
  sbag_table_options_t table = sbag_table_options_default("table", ROWS, DIM);
  sbag_feature_options_t feature = sbag_feature_options_default("feature", 0);
  feature.has_padding_idx = 1;
  feature.padding_idx = -1;
  ck_assert_int_eq(feature.mode, SBAG_MEAN);
  ck_assert_int_eq(table.freeze, 0);
  ck_assert_msg(sbag_collection_create(context, &options, &table, 1, &feature, 1, &collection, &status) ==
                    SBAG_OK,
                "%s", status.message);
  arena_t arena = {0};
  int64_t *row = arena_ints(&arena, ROWS);
  float *values = arena_alloc(&arena, (int64_t)ROWS * DIM, sizeof *values);
  double sum = 0, squares = 0;
  for (int64_t r = 0; r < ROWS; r++) row[r] = r;
  ck_assert_msg(sbag_collection_read_rows(collection, 0, row, ROWS, values, &status) == SBAG_OK, "%s",
                status.message);
  for (int64_t i = 0; i < (int64_t)(ROWS - 1) * DIM; i++) {
    sum += (double)values[i];
    squares += (double)values[i] * (double)values[i];
  }
  ck_assert_double_eq_tol(sum / (ROWS * DIM), 0, 0.04); /* five standard deviations */
  ck_assert_double_eq_tol(squares / (ROWS * DIM), 1, 0.06);
  for (int64_t d = 0; d < DIM; d++) ck_assert(values[(int64_t)(ROWS - 1) * DIM + d] == 0);
  arena_free(&arena);
  sbag_collection_destroy(&collection);
  sbag_context_destroy(&context);
}
END_TEST

Suite *examples_suite(void) {
  Suite *suite = suite_create("examples");
  TCase *test_case = tcase_create("documented examples");
  tcase_add_test(test_case, mean_with_offsets);
  tcase_add_test(test_case, mean_of_two_d_with_padding);
  tcase_add_test(test_case, from_pretrained);
  tcase_add_test(test_case, last_offset);
  tcase_add_test(test_case, defaults_of_the_module);
  suite_add_tcase(suite, test_case);
  return suite;
}
