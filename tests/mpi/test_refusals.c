/* What is refused, and how: by the same code and message on every rank, also when one rank alone is wrong,
 * naming feature, position and value; and nothing has changed then. */
#include "mpi_test.h"

#include "oracle/oracle.h"
#include <math.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <shardbag/shardbag.h>
#include <stdio.h>
#include <string.h>

Suite *refusals_suite(void);

enum {
  TABLES = 2,
  FEATURES = 3,
  USERS = 11,
  ITEMS = 7,
  USER_DIM = 3,
  ITEM_DIM = 2,
  COLUMNS = 8,
  SAMPLES = 2
};
enum { WORDS_MAX = 3 };

/* Two tables, three features: sum and max on users, mean on items; every rank brings two samples. */
typedef struct fixture {
  int rank, size, warnings;
  sbag_context_h context;
  sbag_collection_h collection;
  sbag_collection_options_t options;
  sbag_table_options_t tables[TABLES];
  sbag_feature_options_t features[FEATURES];
  float users[USERS][USER_DIM], items[ITEMS][ITEM_DIM];

  /* The batch, which a test may spoil. */
  int64_t indices[FEATURES][6], offsets[FEATURES][4];
  int32_t narrow[6], narrow_offsets[4];
  float weights[6];
  sbag_bags_t bags[FEATURES];
} fixture_t;

static void count_warning(void *user, sbag_log_level_t level, const char *line) {
  fixture_t *fixture = user;
  ck_assert(strlen(line) > 0 && strchr(line, '\n') == NULL);
  fixture->warnings += level == SBAG_LOG_WARNING;
}

static void describe(fixture_t *it) {
  it->options = sbag_collection_options_default();
  it->tables[0] = sbag_table_options_default("users", USERS, USER_DIM);
  it->tables[1] = sbag_table_options_default("items", ITEMS, ITEM_DIM);
  it->tables[0].from_pretrained = it->users;
  it->tables[1].from_pretrained = it->items;
  it->features[0] = sbag_feature_options_default("friends", 0);
  it->features[1] = sbag_feature_options_default("clicks", 1);
  it->features[2] = sbag_feature_options_default("foes", 0);
  it->features[0].mode = SBAG_SUM;
  it->features[2].mode = SBAG_MAX;
  for (int i = 0; i < USERS * USER_DIM; i++)
    it->users[i / USER_DIM][i % USER_DIM] = (float)((i * 5) % 17 - 8);
  for (int i = 0; i < ITEMS * ITEM_DIM; i++)
    it->items[i / ITEM_DIM][i % ITEM_DIM] = (float)((i * 3) % 11 - 5);
}

/* Bags of two and three; rows differ from rank to rank. */
static void fill_batch(fixture_t *it) {
  for (int f = 0; f < FEATURES; f++) {
    int64_t rows = it->tables[it->features[f].table].num_embeddings;
    for (int i = 0; i < 5; i++) it->indices[f][i] = (3 * it->rank + 2 * i + f) % rows;
    it->offsets[f][0] = 0;
    it->offsets[f][1] = 2;
    it->bags[f] = sbag_bags_1d(it->indices[f], 5, it->offsets[f], SAMPLES);
  }
  for (int i = 0; i < 5; i++) it->weights[i] = (float)i - 2;
}

static void open_fixture(fixture_t *it, sbag_bounds_check_t bounds) {
  sbag_status_t status = {0};
  sbag_context_options_t options = sbag_context_options_default();
  *it = (fixture_t){0};
  options.log = count_warning;
  options.log_user = it;
  MPI_Comm_rank(MPI_COMM_WORLD, &it->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &it->size);
  ck_assert_msg(sbag_context_create_mpi(MPI_COMM_WORLD, &options, &it->context, &status) == SBAG_OK, "%s",
                status.message);
  describe(it);
  it->options.bounds_check = bounds;
  fill_batch(it);
  ck_assert_msg(sbag_collection_create(it->context, &it->options, it->tables, TABLES, it->features, FEATURES,
                                       &it->collection, &status) == SBAG_OK,
                "%s", status.message);
}

static void close_fixture(fixture_t *it) {
  sbag_collection_destroy(&it->collection);
  sbag_context_destroy(&it->context);
}

/* All ranks have the code, and one message, with these words. */
static void check_refused(const char *what, sbag_code_t expected, sbag_code_t code,
                          const sbag_status_t *status, const char *const *words) {
  char first[SBAG_MESSAGE_BYTES];
  int codes[2] = {(int)code, -(int)code};
  snprintf(first, sizeof first, "%s", status->message);
  MPI_Bcast(first, sizeof first, MPI_CHAR, 0, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, codes, 2, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  ck_assert_msg(codes[0] == -codes[1], "%s: codes differ, here %s", what, sbag_code_name(code));
  ck_assert_msg(code == expected && status->code == code, "%s: %s, not %s: %s", what, sbag_code_name(code),
                sbag_code_name(expected), status->message);
  ck_assert_msg(strcmp(first, status->message) == 0, "%s: '%s' here, '%s' on rank 0", what, status->message,
                first);
  ck_assert_msg(strchr(first, '\n') == NULL && first[0] != '\0', "%s: not one line", what);
  for (int i = 0; words != NULL && i < WORDS_MAX && words[i] != NULL; i++)
    ck_assert_msg(strstr(first, words[i]) != NULL, "%s: no '%s' in: %s", what, words[i], first);
}

static void check_pooled(const fixture_t *it, int f, const float *out) {
  int64_t dim = it->tables[it->features[f].table].embedding_dim;
  int64_t column = sbag_collection_output_offset(it->collection, f), ends[] = {0, 2, 5};
  const float *table = it->features[f].table == 0 ? &it->users[0][0] : &it->items[0][0];
  for (int s = 0; s < SAMPLES; s++)
    for (int64_t d = 0; d < dim; d++) {
      float pool = 0, most = -INFINITY;
      for (int64_t i = ends[s]; i < ends[s + 1]; i++) {
        pool += table[it->indices[f][i] * dim + d];
        most = fmaxf(most, table[it->indices[f][i] * dim + d]);
      }
      if (f == 1) pool /= (float)(ends[s + 1] - ends[s]);
      ck_assert_float_eq_tol(out[s * COLUMNS + column + d], f == 2 ? most : pool, 1e-5f);
    }
}

/* The tables hold what they began with, and a good batch is looked up as ever. */
static void check_unharmed(fixture_t *it, const char *what) {
  sbag_status_t status = {0};
  sbag_step_h step = NULL;
  float out[SAMPLES][COLUMNS], users[USERS][USER_DIM], items[ITEMS][ITEM_DIM];
  int64_t rows[USERS];
  for (int64_t r = 0; r < USERS; r++) rows[r] = r;
  fill_batch(it);
  ck_assert_msg(sbag_collection_forward_begin(it->collection, it->bags, 0, &step, &status) == SBAG_OK,
                "after %s: %s", what, status.message);
  ck_assert_msg(sbag_step_forward_end(step, out, &status) == SBAG_OK, "after %s: %s", what, status.message);
  sbag_step_release(&step);
  for (int f = 0; f < FEATURES; f++) check_pooled(it, f, &out[0][0]);
  ck_assert(sbag_collection_read_rows(it->collection, 0, rows, USERS, users, &status) == SBAG_OK);
  ck_assert(sbag_collection_read_rows(it->collection, 1, rows, ITEMS, items, &status) == SBAG_OK);
  ck_assert_msg(memcmp(users, it->users, sizeof users) == 0, "after %s: users changed", what);
  ck_assert_msg(memcmp(items, it->items, sizeof items) == 0, "after %s: items changed", what);
}

/* ---- Batches ---- */

static void weights_with_mean(fixture_t *it) {
  it->bags[1].per_sample_weights = it->weights;
  it->bags[1].per_sample_weight_count = 5;
}
static void weights_with_max(fixture_t *it) {
  it->bags[2].per_sample_weights = it->weights;
  it->bags[2].per_sample_weight_count = 5;
}
static void weights_too_few(fixture_t *it) {
  it->bags[0].per_sample_weights = it->weights;
  it->bags[0].per_sample_weight_count = 4;
}
static void first_offset_not_zero(fixture_t *it) {
  it->offsets[1][0] = 1;
}
static void offset_past_the_end(fixture_t *it) {
  it->offsets[0][1] = 6;
}
static void offset_negative(fixture_t *it) {
  it->offsets[0][1] = -4;
}
static void offsets_decrease(fixture_t *it) {
  it->offsets[2][1] = 4;
  it->offsets[2][2] = 3;
  it->offsets[2][3] = 5;
  for (int f = 0; f < FEATURES; f++) {
    it->bags[f].include_last_offset = 1;
    it->bags[f].offset_count = 4;
  }
  for (int f = 0; f < FEATURES - 1; f++) it->offsets[f][2] = it->offsets[f][3] = 5;
}
static void last_offset_short(fixture_t *it) {
  it->bags[0].include_last_offset = 1;
  it->bags[0].offset_count = 3;
  it->offsets[0][2] = 4;
}
static void last_offset_long(fixture_t *it) {
  last_offset_short(it);
  it->offsets[0][2] = 6;
}
static void last_offset_missing(fixture_t *it) {
  it->bags[1].include_last_offset = 1;
  it->bags[1].offset_count = 0;
}
static void index_too_large(fixture_t *it) {
  it->indices[1][3] = ITEMS;
}
static void index_huge(fixture_t *it) {
  it->indices[0][4] = INT64_MAX;
}
static void index_negative(fixture_t *it) {
  it->indices[2][0] = -1;
}
static void index_narrow(fixture_t *it) {
  for (int i = 0; i < 5; i++) it->narrow[i] = (int32_t)it->indices[0][i];
  it->narrow[2] = -13;
  it->narrow_offsets[1] = 2;
  it->bags[0].index_type = SBAG_I32;
  it->bags[0].indices = it->narrow;
  it->bags[0].offsets = it->narrow_offsets;
}
static void two_d_uneven(fixture_t *it) {
  it->bags[0] = sbag_bags_2d(it->indices[0], 2, 2);
  it->bags[0].index_count = 5;
}
static void two_d_with_offsets(fixture_t *it) {
  it->bags[0].bag_length = 2;
}
static void two_d_without_length(fixture_t *it) {
  it->bags[0].offsets = NULL;
  it->bags[0].offset_count = 0;
}
static void two_d_length_negative(fixture_t *it) {
  it->bags[0] = sbag_bags_2d(it->indices[0], 2, 2);
  it->bags[0].bag_length = -2;
}
static void fewer_bags(fixture_t *it) {
  it->bags[1].offset_count = 1;
}
static void indices_null(fixture_t *it) {
  it->bags[2].indices = NULL;
}
static void count_negative(fixture_t *it) {
  it->bags[1].index_count = -5;
}
static void index_type_unknown(fixture_t *it) {
  it->bags[0].index_type = (sbag_index_t)7;
}

typedef struct bad_batch {
  const char *what;
  void (*spoil)(fixture_t *it);
  const char *words[WORDS_MAX]; /* in the message */
} bad_batch_t;

static const bad_batch_t bad_batches[] = {
    {"weights with mean", weights_with_mean, {"clicks", "per_sample_weights"}},
    {"weights with max", weights_with_max, {"foes", "per_sample_weights"}},
    {"too few weights", weights_too_few, {"friends", "4", "5"}},
    {"offsets[0] = 1", first_offset_not_zero, {"clicks", "1"}},
    {"an offset past the end", offset_past_the_end, {"friends", "6", "5"}},
    {"a negative offset", offset_negative, {"friends", "-4"}},
    {"decreasing offsets", offsets_decrease, {"foes", "2", "3"}},
    {"a last offset below the count", last_offset_short, {"friends", "4", "5"}},
    {"a last offset above the count", last_offset_long, {"friends", "6", "5"}},
    {"no last offset", last_offset_missing, {"clicks"}},
    {"an index past the table", index_too_large, {"clicks", "3", "7"}},
    {"a huge index", index_huge, {"friends", "4", "9223372036854775807"}},
    {"a negative index", index_negative, {"foes", "0", "-1"}},
    {"a negative int32 index", index_narrow, {"friends", "2", "-13"}},
    {"an uneven 2-D input", two_d_uneven, {"friends", "5"}},
    {"2-D input with offsets", two_d_with_offsets, {"friends"}},
    {"2-D input without a length", two_d_without_length, {"friends"}},
    {"2-D input of negative length", two_d_length_negative, {"friends", "-2"}},
    {"features with different bag counts", fewer_bags, {"clicks", "1", "2"}},
    {"no indices", indices_null, {"foes"}},
    {"a negative count", count_negative, {"clicks", "-5"}},
    {"an unknown index type", index_type_unknown, {"friends", "7"}},
};

START_TEST(bad_batches_are_refused) {
  const bad_batch_t *bad = &bad_batches[_i];
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  /* The first rank alone, the last alone, and all of them. */
  for (int who = 0; who < 3; who++) {
    sbag_status_t status = {0};
    sbag_step_h step = NULL;
    fill_batch(&it);
    if (who == 2 || it.rank == (who == 0 ? 0 : it.size - 1)) bad->spoil(&it);
    sbag_code_t code = sbag_collection_forward_begin(it.collection, it.bags, 0, &step, &status);
    check_refused(bad->what, SBAG_ERR_ARGUMENT, code, &status, bad->words);
    ck_assert_ptr_null(step);
    ck_assert_msg(status.rank == (who == 1 ? it.size - 1 : 0), "%s: rank %d", bad->what, status.rank);
    check_unharmed(&it, bad->what);
  }
  close_fixture(&it);
}
END_TEST

/* ---- Indices out of range ---- */

/* One rank brings two of them; they are dropped there, and its pool is that of the others. */
START_TEST(out_of_range_is_dropped_and_counted) {
  fixture_t it;
  open_fixture(&it, _i == 0 ? SBAG_BOUNDS_WARNING : SBAG_BOUNDS_IGNORE);
  sbag_status_t status = {0};
  sbag_step_h step = NULL;
  float out[SAMPLES][COLUMNS], grad[SAMPLES][COLUMNS];
  int bad = it.rank == it.size - 1, warnings = 0;
  if (bad) {
    it.indices[1][0] = ITEMS + 1;
    it.indices[0][4] = -7;
  }
  ck_assert(sbag_collection_forward_begin(it.collection, it.bags, 0, &step, &status) == SBAG_OK);
  ck_assert(sbag_step_forward_end(step, out, &status) == SBAG_OK);
  ck_assert_int_eq(sbag_step_stats(step).dropped, bad ? 2 : 0);
  ck_assert_int_eq(sbag_step_stats(step).lookups, bad ? 13 : 15);
  /* The mean of the one that is left. */
  for (int64_t d = 0; bad && d < ITEM_DIM; d++)
    ck_assert_float_eq_tol(out[0][sbag_collection_output_offset(it.collection, 1) + d],
                           it.items[it.indices[1][1]][d], 1e-6f);
  for (int i = 0; i < SAMPLES * COLUMNS; i++) grad[i / COLUMNS][i % COLUMNS] = 1;
  ck_assert(sbag_step_backward(step, grad, NULL, &status) == SBAG_OK);
  ck_assert(sbag_step_update(step, 1, 1, &status) == SBAG_OK);
  sbag_step_release(&step);
  MPI_Allreduce(&it.warnings, &warnings, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (_i == 0)
    ck_assert_int_ge(warnings, 1);
  else
    ck_assert_int_eq(warnings, 0);
  ck_assert_int_le(it.warnings, 1);
  close_fixture(&it);
}
END_TEST

/* ---- Descriptions ---- */

static void unknown_dtype(fixture_t *it) {
  it->options.dtype = (sbag_dtype_t)7;
}
static void bad_bounds(fixture_t *it) {
  it->options.bounds_check = (sbag_bounds_check_t)7;
}
static void unnamed_table(fixture_t *it) {
  it->tables[1].name = NULL;
}
static void same_table_name(fixture_t *it) {
  it->tables[1].name = "users";
}
static void no_rows(fixture_t *it) {
  it->tables[1].num_embeddings = 0;
}
static void no_dim(fixture_t *it) {
  it->tables[0].embedding_dim = 0;
}
static void unknown_init(fixture_t *it) {
  it->tables[0].from_pretrained = NULL;
  it->tables[0].init = (sbag_init_t)9;
}
static void unknown_layout(fixture_t *it) {
  it->tables[0].layout = (sbag_layout_t)9;
}
static void negative_max_norm(fixture_t *it) {
  it->tables[1].has_max_norm = 1;
  it->tables[1].max_norm = -1;
}
static void negative_norm_type(fixture_t *it) {
  it->tables[1].has_max_norm = 1;
  it->tables[1].max_norm = 1;
  it->tables[1].norm_type = -1;
}
static void rank_outside(fixture_t *it) {
  static const int ranks[] = {4711};
  it->tables[0].ranks = ranks;
  it->tables[0].rank_count = 1;
}
static void rank_twice(fixture_t *it) {
  static const int ranks[] = {0, 0};
  it->tables[0].ranks = ranks;
  it->tables[0].rank_count = 2;
}
static void unknown_optimizer(fixture_t *it) {
  it->tables[0].optimizer.kind = (sbag_optimizer_t)99;
}
static void negative_lr(fixture_t *it) {
  it->tables[0].optimizer.lr = -0.5;
}
static void unread_option(fixture_t *it) {
  it->tables[1].optimizer.amsgrad = 1;
}
static void unnamed_feature(fixture_t *it) {
  it->features[1].name = NULL;
}
static void same_feature_name(fixture_t *it) {
  it->features[2].name = "clicks";
}
static void table_outside(fixture_t *it) {
  it->features[2].table = TABLES;
}
static void unknown_mode(fixture_t *it) {
  it->features[2].mode = (sbag_mode_t)9;
}
static void padding_too_large(fixture_t *it) {
  it->features[1].has_padding_idx = 1;
  it->features[1].padding_idx = ITEMS;
}
static void padding_too_small(fixture_t *it) {
  it->features[1].has_padding_idx = 1;
  it->features[1].padding_idx = -ITEMS - 1;
}
static void frequency_with_max(fixture_t *it) {
  it->features[2].scale_grad_by_freq = 1;
}

static const bad_batch_t bad_descriptions[] = {
    {"an unknown dtype", unknown_dtype, {"7"}},
    {"an unknown bounds check", bad_bounds, {"7"}},
    {"a table without name", unnamed_table, {"name"}},
    {"two tables of one name", same_table_name, {"users"}},
    {"a table without rows", no_rows, {"items", "0"}},
    {"a table without columns", no_dim, {"users", "0"}},
    {"an unknown init", unknown_init, {"users", "9"}},
    {"an unknown layout", unknown_layout, {"users", "9"}},
    {"a negative max_norm", negative_max_norm, {"items", "-1"}},
    {"a negative norm_type", negative_norm_type, {"items", "norm_type"}},
    {"a rank outside", rank_outside, {"users", "4711"}},
    {"a rank twice", rank_twice, {"users"}},
    {"an unknown optimizer", unknown_optimizer, {"users", "99"}},
    {"a negative learning rate", negative_lr, {"users", "lr", "-0.5"}},
    {"an option that nobody reads", unread_option, {"items", "amsgrad"}},
    {"a feature without name", unnamed_feature, {"name"}},
    {"two features of one name", same_feature_name, {"clicks"}},
    {"a feature of no table", table_outside, {"foes", "2"}},
    {"an unknown mode", unknown_mode, {"foes", "9"}},
    {"a padding row past the table", padding_too_large, {"clicks", "7"}},
    {"a padding row before the table", padding_too_small, {"clicks", "-8"}},
    {"frequencies with max", frequency_with_max, {"foes", "scale_grad_by_freq"}},
};

START_TEST(bad_descriptions_are_refused) {
  const bad_batch_t *bad = &bad_descriptions[_i];
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  for (int who = 0; who < 3; who++) {
    sbag_status_t status = {0};
    sbag_collection_h collection = NULL;
    describe(&it);
    if (who == 2 || it.rank == (who == 0 ? 0 : it.size - 1)) bad->spoil(&it);
    sbag_code_t code = sbag_collection_create(it.context, &it.options, it.tables, TABLES, it.features,
                                              FEATURES, &collection, &status);
    /* Wrong on one rank alone, it may also be refused for not being the same on all. */
    check_refused(bad->what, SBAG_ERR_ARGUMENT, code, &status, who == 2 || it.size == 1 ? bad->words : NULL);
    ck_assert_ptr_null(collection);
  }
  describe(&it);
  check_unharmed(&it, bad->what);
  close_fixture(&it);
}
END_TEST

static void other_seed(fixture_t *it) {
  it->tables[0].seed = 5;
}
static void other_rows(fixture_t *it) {
  it->tables[1].num_embeddings = ITEMS - 1;
}
static void other_name(fixture_t *it) {
  it->tables[0].name = "losers";
}
static void other_lr(fixture_t *it) {
  it->tables[0].optimizer.lr = 0.5;
}
static void other_layout(fixture_t *it) {
  it->tables[0].layout = SBAG_LAYOUT_CYCLIC;
}
static void other_padding(fixture_t *it) {
  it->features[1].has_padding_idx = 1;
}
static void other_mode(fixture_t *it) {
  it->features[1].mode = SBAG_SUM;
}
static void other_bounds(fixture_t *it) {
  it->options.bounds_check = SBAG_BOUNDS_IGNORE;
}

static const bad_batch_t differences[] = {
    {"another seed", other_seed, {NULL}},     {"other rows", other_rows, {NULL}},
    {"another name", other_name, {NULL}},     {"another lr", other_lr, {NULL}},
    {"another layout", other_layout, {NULL}}, {"another padding", other_padding, {NULL}},
    {"another mode", other_mode, {NULL}},     {"another bounds check", other_bounds, {NULL}},
};

START_TEST(descriptions_that_differ_are_refused) {
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  sbag_status_t status = {0};
  sbag_collection_h collection = NULL;
  if (it.rank == it.size - 1) differences[_i].spoil(&it);
  sbag_code_t code = sbag_collection_create(it.context, &it.options, it.tables, TABLES, it.features, FEATURES,
                                            &collection, &status);
  if (it.size == 1)
    ck_assert_msg(code == SBAG_OK, "%s", status.message);
  else
    check_refused(differences[_i].what, SBAG_ERR_ARGUMENT, code, &status, differences[_i].words);
  sbag_collection_destroy(&collection);
  describe(&it);
  check_unharmed(&it, differences[_i].what);
  close_fixture(&it);
}
END_TEST

/* ---- Calls that do not fit ---- */

START_TEST(calls_out_of_order_are_refused) {
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  sbag_status_t status = {0};
  sbag_step_h step = NULL, second = NULL, third = NULL;
  float out[SAMPLES][COLUMNS], grad[SAMPLES][COLUMNS] = {{0}}, weight_grad[6];
  void *weight_grads[FEATURES] = {weight_grad, NULL, NULL};
  int64_t winner[SAMPLES * USER_DIM], count;
  const int64_t *rows;
  const void *values;
  ck_assert(sbag_collection_forward_begin(it.collection, it.bags, 0, &step, &status) == SBAG_OK);
  sbag_code_t code = sbag_step_backward(step, grad, NULL, &status);
  check_refused("backward before forward's end", SBAG_ERR_STATE, code, &status, NULL);
  ck_assert(sbag_step_max_indices(step, 2, winner, &status) == SBAG_ERR_STATE);
  ck_assert(sbag_step_forward_end(step, out, &status) == SBAG_OK);
  code = sbag_step_update(step, 1, 1, &status);
  check_refused("update before backward", SBAG_ERR_STATE, code, &status, NULL);
  code = sbag_step_forward_end(step, out, &status);
  check_refused("forward's end twice", SBAG_ERR_STATE, code, &status, NULL);
  ck_assert(sbag_step_sparse_grad(step, 0, &rows, &values, &count, &status) == SBAG_ERR_STATE);
  ck_assert(sbag_step_max_indices(step, 0, winner, &status) == SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "friends"));
  ck_assert(sbag_step_max_indices(step, FEATURES, winner, &status) == SBAG_ERR_ARGUMENT);
  code = sbag_step_backward(step, grad, weight_grads, &status);
  ck_assert_msg(code != SBAG_OK, "weight gradients that forward was not told of");
  ck_assert(sbag_collection_forward_begin(it.collection, it.bags, SBAG_FORWARD_NO_BACKWARD, &second,
                                          &status) == SBAG_OK);
  code = sbag_collection_forward_begin(it.collection, it.bags, 0, &third, &status);
  check_refused("a third step", SBAG_ERR_STATE, code, &status, NULL);
  ck_assert_ptr_null(third);
  ck_assert(sbag_step_forward_end(second, out, &status) == SBAG_OK);
  code = sbag_step_backward(second, grad, NULL, &status);
  check_refused("backward of a step without", SBAG_ERR_STATE, code, &status, NULL);
  sbag_step_release(&second);
  ck_assert_ptr_null(second);
  ck_assert_msg(sbag_step_backward(step, grad, NULL, &status) == SBAG_OK, "%s", status.message);
  code = sbag_step_backward(step, grad, NULL, &status);
  check_refused("backward twice", SBAG_ERR_STATE, code, &status, NULL);
  ck_assert(sbag_step_sparse_grad(step, TABLES, &rows, &values, &count, &status) == SBAG_ERR_ARGUMENT);
  ck_assert(sbag_step_update(step, 1, 1, &status) == SBAG_OK);
  code = sbag_step_update(step, 1, 1, &status);
  check_refused("update twice", SBAG_ERR_STATE, code, &status, NULL);
  sbag_step_release(&step);
  sbag_step_release(&step);
  check_unharmed(&it, "calls out of order"); /* the gradient was zero */
  close_fixture(&it);
}
END_TEST

START_TEST(inference_has_no_backward) {
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  sbag_status_t status = {0};
  sbag_step_h step = NULL;
  float out[SAMPLES][COLUMNS], grad[SAMPLES][COLUMNS] = {{0}};
  sbag_collection_destroy(&it.collection);
  it.options.weight_grad = 0;
  it.tables[0].optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  ck_assert_msg(sbag_collection_create(it.context, &it.options, it.tables, TABLES, it.features, FEATURES,
                                       &it.collection, &status) == SBAG_OK,
                "%s", status.message);
  ck_assert(sbag_collection_forward_begin(it.collection, it.bags, 0, &step, &status) == SBAG_OK);
  ck_assert(sbag_step_forward_end(step, out, &status) == SBAG_OK);
  sbag_code_t code = sbag_step_backward(step, grad, NULL, &status);
  check_refused("backward of an inference", SBAG_ERR_STATE, code, &status, NULL);
  sbag_step_release(&step);
  check_unharmed(&it, "a backward of an inference");
  close_fixture(&it);
}
END_TEST

/* One rank asks for a row that is not there; nobody reads, and nobody writes. */
START_TEST(rows_out_of_range_are_refused) {
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  static const char *const words[WORDS_MAX] = {"items", "7"};
  for (int who = 0; who<it.size; who += it.size> 1 ? it.size - 1 : 1) {
    sbag_status_t status = {0};
    int64_t rows[2] = {0, it.rank == who ? ITEMS : 1};
    float values[2][ITEM_DIM] = {{99, 99}, {99, 99}};
    sbag_code_t code = sbag_collection_write_rows(it.collection, 1, rows, 2, values, &status);
    check_refused("writing a row that is not there", SBAG_ERR_ARGUMENT, code, &status, words);
    code = sbag_collection_read_rows(it.collection, 1, rows, 2, values, &status);
    check_refused("reading a row that is not there", SBAG_ERR_ARGUMENT, code, &status, words);
    check_unharmed(&it, "rows out of range");
  }
  int rank;
  int64_t place;
  ck_assert(sbag_collection_locate(it.collection, 1, ITEMS, &rank, &place, NULL) == SBAG_ERR_ARGUMENT);
  ck_assert(sbag_collection_locate(it.collection, 1, -1, &rank, &place, NULL) == SBAG_ERR_ARGUMENT);
  ck_assert(sbag_collection_locate(it.collection, TABLES, 0, &rank, &place, NULL) == SBAG_ERR_ARGUMENT);
  close_fixture(&it);
}
END_TEST

/* On one rank alone, while the others make the right call: they hear of it. */
START_TEST(tables_that_are_not_there_are_refused) {
  fixture_t it;
  open_fixture(&it, SBAG_BOUNDS_FATAL);
  static const char *const words[WORDS_MAX] = {"table 9"}, *const state_words[WORDS_MAX] = {"state"};
  for (int who = 0; who < it.size; who++) {
    sbag_status_t status = {0};
    int64_t row = 0;
    float value[ITEM_DIM] = {0};
    int table = it.rank == who ? 9 : 1, state = it.rank == who ? -1 : 0;
    sbag_code_t code = sbag_collection_read_rows(it.collection, table, &row, 1, value, &status);
    check_refused("reading a table that is not there", SBAG_ERR_ARGUMENT, code, &status, words);
    code = sbag_collection_write_rows(it.collection, table, &row, 1, value, &status);
    check_refused("writing a table that is not there", SBAG_ERR_ARGUMENT, code, &status, words);
    code = sbag_collection_read_range(it.collection, table, -1, 0, 1, value, &status);
    check_refused("a range of a table that is not there", SBAG_ERR_ARGUMENT, code, &status, words);
    code = sbag_collection_write_range(it.collection, table, -1, 0, 1, value, NULL);
    ck_assert_int_eq(code, SBAG_ERR_ARGUMENT);
    if (sbag_collection_state_count(it.collection, 1) > 0) {
      code = sbag_collection_read_state(it.collection, 1, state, &row, 1, value, &status);
      check_refused("reading a state that is not there", SBAG_ERR_ARGUMENT, code, &status, state_words);
    }
    check_unharmed(&it, "tables that are not there");
  }
  close_fixture(&it);
}
END_TEST

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

Suite *refusals_suite(void) {
  Suite *suite = suite_create("refusals");
  TCase *test_case = tcase_create("refusals");
  tcase_add_loop_test(test_case, bad_batches_are_refused, 0, COUNT_OF(bad_batches));
  tcase_add_loop_test(test_case, out_of_range_is_dropped_and_counted, 0, 2);
  tcase_add_loop_test(test_case, bad_descriptions_are_refused, 0, COUNT_OF(bad_descriptions));
  tcase_add_loop_test(test_case, descriptions_that_differ_are_refused, 0, COUNT_OF(differences));
  tcase_add_test(test_case, calls_out_of_order_are_refused);
  tcase_add_test(test_case, inference_has_no_backward);
  tcase_add_test(test_case, rows_out_of_range_are_refused);
  tcase_add_test(test_case, tables_that_are_not_there_are_refused);
  suite_add_tcase(suite, test_case);
  return suite;
}
