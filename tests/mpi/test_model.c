/* The model on any number of ranks against the same model in one process, step by step; what ends a step on
 * all ranks alike; and what a warm step may not do. */
#include "mpi_test.h"

#include "collection/context.h"
#include "model/model.h"
#include "oracle/draw.h"
#include <math.h>
#include <mpi.h>
#include <shardbag/mpi.h>
#include <stdlib.h>
#include <string.h>

enum { TABLES = 3, FEATURES = 4, DENSE = 3, BAG_MAX = 4, SAMPLES_MAX = 600 };
static const int64_t table_rows[TABLES] = {50, 30, 7};
static const int64_t table_dim[TABLES] = {8, 4, 8};
static const int feature_table[FEATURES] = {0, 1, 2, 0}; /* the last one shares the first one's table */

static int world(int (*ask)(MPI_Comm, int *)) {
  int answer = 0;
  ask(MPI_COMM_WORLD, &answer);
  return answer;
}

/* ---- data: every sample is a function of its number ---- */

typedef struct data {
  int64_t samples, first, global;
  int weighted; /* batches have weights */
  float labels[SAMPLES_MAX], weights[SAMPLES_MAX], dense[SAMPLES_MAX * DENSE];
  int64_t indices[FEATURES][SAMPLES_MAX * BAG_MAX], offsets[FEATURES][SAMPLES_MAX];
  sbag_bags_t bags[FEATURES];
} data_t;

/* Some rows are liked and some are not, so that there is something to learn. */
static double liking(int table, int64_t row) {
  draw_t draw = draw_start(77, (uint64_t)(table * 1000 + row));
  return 4.0 * draw_unit(&draw) - 2.0;
}

static double sample_features(data_t *d, draw_t *draw, int64_t at, int64_t *used) {
  double score = 0.0;
  for (int f = 0; f < FEATURES; f++) {
    d->offsets[f][at] = used[f];
    int64_t length = f == 0 ? 1 : draw_between(draw, 0, BAG_MAX);
    for (int64_t i = 0; i < length; i++) {
      int64_t row = draw_below(draw, table_rows[feature_table[f]]);
      d->indices[f][used[f]++] = row;
      score += liking(feature_table[f], row);
    }
  }
  return score;
}

/* Samples [first, first + samples) of batch number `number` of `global` samples. */
static void data_fill(data_t *d, uint64_t number, int64_t first, int64_t samples, int64_t global) {
  int64_t used[FEATURES] = {0};
  ck_assert_int_le(samples, SAMPLES_MAX);
  *d = (data_t){.samples = samples, .first = first, .global = global, .weighted = d->weighted};
  for (int64_t i = 0; i < samples; i++) {
    draw_t draw = draw_start(number + 1, (uint64_t)(first + i));
    double score = sample_features(d, &draw, i, used);
    for (int k = 0; k < DENSE; k++) d->dense[i * DENSE + k] = (float)(2.0 * draw_unit(&draw) - 1.0);
    d->labels[i] = score + d->dense[i * DENSE] > 0.0;
    d->weights[i] = (float)draw_below(&draw, 5) * 0.75f;
  }
  for (int f = 0; f < FEATURES; f++)
    d->bags[f] = sbag_bags_1d(d->indices[f], used[f], d->offsets[f], samples);
}

static model_batch_t data_batch(const data_t *d) {
  return (model_batch_t){.samples = d->samples,
                         .first_sample = d->first,
                         .global_samples = d->global,
                         .labels = d->labels,
                         .weights = d->weighted ? d->weights : NULL,
                         .dense = d->dense,
                         .features = d->bags};
}

/* How a global batch is dealt. */
typedef enum deal { DEAL_EVEN, DEAL_UNEVEN, DEAL_LAST, DEAL_BACKWARDS, DEAL_COUNT } deal_t;

static int64_t cut(deal_t deal, int part, int size, int64_t global) {
  if (deal == DEAL_LAST) return part < size ? 0 : global;
  if (deal == DEAL_UNEVEN) return global * part * part / (size * size);
  return global * part / size;
}

/* Cuts are multiples of `unit` but for the last. */
static void data_share(data_t *d, uint64_t number, deal_t deal, int64_t unit, int64_t global) {
  int size = world(MPI_Comm_size), rank = world(MPI_Comm_rank);
  int part = deal == DEAL_BACKWARDS ? size - 1 - rank : rank;
  int64_t first = cut(deal, part, size, global) / unit * unit;
  int64_t end = part + 1 == size ? global : cut(deal, part + 1, size, global) / unit * unit;
  data_fill(d, number, first, end - first, global);
}

/* ---- models ---- */

typedef struct setup {
  model_config_t config;
  sbag_table_options_t tables[TABLES + 1]; /* the last one is of first-order weights */
  sbag_feature_options_t features[FEATURES];
} setup_t;

/* D = 8: the second table's vectors need a projection. */
static void setup_fill(setup_t *s, sbag_optimizer_t optimizer, double lr) {
  static const char *const tables[TABLES] = {"movie", "tag", "age"};
  static const char *const features[FEATURES] = {"movie", "tags", "ages", "history"};
  for (int t = 0; t < TABLES; t++) {
    s->tables[t] = sbag_table_options_default(tables[t], table_rows[t], table_dim[t]);
    s->tables[t].init_b = 0.3;
    s->tables[t].seed = 5;
    s->tables[t].optimizer = sbag_optimizer_options_default(optimizer);
    s->tables[t].optimizer.lr = lr;
  }
  for (int f = 0; f < FEATURES; f++) {
    s->features[f] = sbag_feature_options_default(features[f], feature_table[f]);
    s->features[f].mode = f % 2 == 0 ? SBAG_SUM : SBAG_MEAN;
  }
  s->config = (model_config_t){.seed = 3,
                               .dense_count = DENSE,
                               .interaction_dim = 8,
                               .bottom_count = 1,
                               .bottom = {12},
                               .top_count = 2,
                               .top = {16, 8},
                               .dense_optimizer = s->tables[0].optimizer,
                               .tables = s->tables,
                               .table_count = TABLES,
                               .features = s->features,
                               .feature_count = FEATURES};
}

typedef struct run {
  sbag_context_h context;
  model_t *model;
  data_t data;
  double loss;
} run_t;

/* `at` is the address of the status that the call is to fill. */
#define RUN_OK(call)                                                                                         \
  do {                                                                                                       \
    sbag_status_t run_status = {SBAG_OK, -1, ""};                                                            \
    sbag_status_t *at = &run_status;                                                                         \
    ck_assert_msg((call) == SBAG_OK, "%s", run_status.message);                                              \
  } while (0)

#ifdef SHARDBAG_TEST_CUDA /* where the suites' contexts are made on a GPU: the function that makes others */
sbag_code_t __real_sbag_context_create(const sbag_context_options_t *options, sbag_context_h *context,
                                       sbag_status_t *status);
#define reference_context_create __real_sbag_context_create
#else
#define reference_context_create sbag_context_create
#endif

/* ALONE: a model of one process, which every rank has for itself. REFERENCE: the same on the CPU. */
typedef enum company { TOGETHER, ALONE, REFERENCE } company_t;

static run_t *run_open(const setup_t *setup, company_t company) {
  run_t *run = calloc(1, sizeof *run);
  ck_assert_ptr_nonnull(run);
  sbag_context_options_t options = sbag_context_options_default();
  options.reproducible = setup->config.reproducible;
  if (company == ALONE)
    RUN_OK(sbag_context_create(&options, &run->context, at));
  else if (company == REFERENCE)
    RUN_OK(reference_context_create(&options, &run->context, at));
  else
    RUN_OK(sbag_context_create_mpi(MPI_COMM_WORLD, &options, &run->context, at));
  RUN_OK(model_create(run->context, &setup->config, context_mem(run->context), &run->model, at));
  if (company == TOGETHER)
    MPI_Barrier(MPI_COMM_WORLD); /* a rank that gives up at once would end the others' creation */
  return run;
}

static void run_close(run_t *run) {
  model_destroy(&run->model);
  ck_assert_ptr_null(run->model);
  sbag_context_destroy(&run->context);
  free(run);
}

static void run_step(run_t *run, int64_t step) {
  model_batch_t batch = data_batch(&run->data);
  RUN_OK(model_train_step(run->model, &batch, step, 1.0, &run->loss, at));
}

/* One step of the same global batch on the ranks together and on each alone. */
static void both_step(run_t *ranks, run_t *one, int64_t step, deal_t deal, int64_t unit, int64_t global) {
  data_share(&ranks->data, (uint64_t)step, deal, unit, global);
  data_fill(&one->data, (uint64_t)step, 0, global, global);
  run_step(ranks, step);
  run_step(one, step);
}

/* All values of a table, and of the dense arrays: [run_values()] floats. */
enum { TABLE_VALUES = 50 * 8 + 30 * 4 + 7 * 8, VALUES_MAX = 20000 };

static int64_t run_values(const run_t *run, float *values) {
  int64_t rows[50], count = 0;
  for (int64_t i = 0; i < 50; i++) rows[i] = i;
  for (int t = 0; t < TABLES; t++) {
    RUN_OK(
        sbag_collection_read_rows(model_collection(run->model), t, rows, table_rows[t], values + count, at));
    count += table_rows[t] * table_dim[t];
  }
  RUN_OK(model_arrays_fetch(run->model, at));
  for (int a = 0; a < model_array_count(run->model); a++) {
    const model_array_t *array = model_array(run->model, a);
    int64_t size = array->shape[0] * array->shape[1];
    ck_assert_int_le(count + size, VALUES_MAX);
    memcpy(values + count, array->data, (size_t)size * sizeof(float));
    count += size;
  }
  return count;
}

static void check_near(const run_t *ranks, const run_t *one, double tolerance) {
  static float a[VALUES_MAX], b[VALUES_MAX];
  int64_t count = run_values(ranks, a);
  ck_assert_int_eq(run_values(one, b), count);
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(fabs((double)a[i] - b[i]) <= tolerance * (1.0 + fabs((double)b[i])),
                  "value %lld is %.9g on the ranks, %.9g alone", (long long)i, (double)a[i], (double)b[i]);
}

/* ---- the same as one rank ---- */

static void check_same_as_alone(const setup_t *setup, deal_t deal, int steps, int64_t global) {
  run_t *ranks = run_open(setup, TOGETHER), *one = run_open(setup, REFERENCE);
  for (int step = 1; step <= steps; step++) {
    both_step(ranks, one, step, deal, 1, global - step);
    ck_assert_double_eq_tol(ranks->loss, one->loss, 1e-5 * one->loss);
  }
  check_near(ranks, one, 1e-5);
  run_close(ranks);
  run_close(one);
}

START_TEST(test_same_as_one_rank) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  check_same_as_alone(&setup, (deal_t)_i, 5, 61);
}
END_TEST

static void setup_interaction(setup_t *s, int number) {
  static const model_interaction_t kinds[] = {MODEL_CROSS, MODEL_CROSS, MODEL_FM, MODEL_CONCAT, MODEL_DOT};
  s->config.interaction = kinds[number];
  s->config.cross_count = 2;
  s->config.cross_rank = number == 1 ? 5 : 0;
  s->config.cross_parallel = number == 1;
  if (number < 2) return;
  s->tables[TABLES] = s->tables[0];
  s->tables[TABLES].name = "history.first_order";
  s->tables[TABLES].embedding_dim = 1;
  s->features[FEATURES - 1].table = TABLES;
  s->config.table_count = TABLES + 1;
  s->config.first_order = 1;
}

/* The other networks: cross layers, a factorisation machine, vectors side by side, first-order weights. */
START_TEST(test_interactions) {
  float a[50], b[50];
  int64_t rows[50];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup_interaction(&setup, _i);
  check_same_as_alone(&setup, DEAL_UNEVEN, 5, 61);
  run_t *run = run_open(&setup, TOGETHER);
  for (int64_t i = 0; i < 50; i++) rows[i] = i;
  int last = setup.config.table_count - 1;
  int64_t count = last == TABLES ? 50 : 0;
  RUN_OK(sbag_collection_read_rows(model_collection(run->model), last, rows, count, a, at));
  data_share(&run->data, 1, DEAL_EVEN, 1, 100);
  run_step(run, 1);
  RUN_OK(sbag_collection_read_rows(model_collection(run->model), last, rows, count, b, at));
  if (count > 0) ck_assert_mem_ne(a, b, sizeof a);
  run_close(run);
}
END_TEST

START_TEST(test_interactions_reproducible) {
  static float a[VALUES_MAX], b[VALUES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_ADAGRAD, 0.05);
  setup_interaction(&setup, _i);
  setup.config.reproducible = 1;
  run_t *ranks = run_open(&setup, TOGETHER), *one = run_open(&setup, ALONE);
  ranks->data.weighted = one->data.weighted = 1;
  for (int step = 1; step <= 5; step++) {
    both_step(ranks, one, step, (deal_t)(step % DEAL_BACKWARDS), MODEL_SLICE, 300 + step);
    ck_assert_msg(ranks->loss == one->loss, "step %d: loss %.17g on the ranks, %.17g alone", step,
                  ranks->loss, one->loss);
  }
  int64_t count = run_values(ranks, a);
  ck_assert_int_eq(run_values(one, b), count);
  ck_assert_mem_eq(a, b, (size_t)count * sizeof *a);
  run_close(ranks);
  run_close(one);
}
END_TEST

/* ---- weights ---- */

START_TEST(test_weights_on_ranks) {
  static const double of_class[2] = {0.5, 3.0};
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  if (_i > 0) setup.config.class_count = 2;
  setup.config.class_weights = of_class;
  if (_i == 2) setup.config.clip_norm = 0.05;
  run_t *ranks = run_open(&setup, TOGETHER), *one = run_open(&setup, REFERENCE);
  ranks->data.weighted = one->data.weighted = 1;
  for (int step = 1; step <= 4; step++) {
    both_step(ranks, one, step, (deal_t)(step % DEAL_BACKWARDS), 1, 60 - step);
    ck_assert_double_eq_tol(ranks->loss, one->loss, 1e-5 * one->loss);
  }
  check_near(ranks, one, 1e-5);
  run_close(ranks);
  run_close(one);
}
END_TEST

/* A weight of 2 is the sample twice, one of 0 is the sample left out: by steps of two models. */
START_TEST(test_weights_are_repetitions) {
  static const double of_class[2] = {2.0, 2.0}; /* to all alike they do nothing */
  enum { N = 60 };
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.3);
  if (_i == 1) setup.config.clip_norm = 0.05;
  setup.config.class_count = 2;
  setup.config.class_weights = of_class;
  run_t *heavy = run_open(&setup, ALONE), *twice = run_open(&setup, ALONE);
  data_fill(&heavy->data, 3, 0, N, N);
  data_fill(&twice->data, 3, 0, N, N);
  int64_t used[FEATURES] = {0}, samples = 0;
  data_t *t = &twice->data;
  for (int i = 0; i < N; i++) { /* sample i weighs i % 3 */
    heavy->data.weights[i] = (float)(i % 3);
    for (int copy = 0; copy < i % 3; copy++, samples++) {
      t->labels[samples] = heavy->data.labels[i];
      memcpy(t->dense + samples * DENSE, heavy->data.dense + i * DENSE, DENSE * sizeof(float));
      for (int f = 0; f < FEATURES; f++) {
        const data_t *h = &heavy->data;
        int64_t end = i + 1 < N ? h->offsets[f][i + 1] : h->bags[f].index_count;
        t->offsets[f][samples] = used[f];
        for (int64_t k = h->offsets[f][i]; k < end; k++) t->indices[f][used[f]++] = h->indices[f][k];
      }
    }
  }
  t->samples = t->global = samples;
  for (int f = 0; f < FEATURES; f++)
    t->bags[f] = sbag_bags_1d(t->indices[f], used[f], t->offsets[f], samples);
  heavy->data.weighted = 1;
  run_step(heavy, 1);
  run_step(twice, 1);
  ck_assert_double_eq_tol(heavy->loss, twice->loss, 1e-6);
  check_near(heavy, twice, 1e-5);
  run_close(heavy);
  run_close(twice);
}
END_TEST

/* Nothing weighs anything: no loss, no gradient, no step. */
START_TEST(test_no_weight) {
  static float before[VALUES_MAX], after[VALUES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  int64_t count = run_values(run, before);
  data_share(&run->data, 9, DEAL_EVEN, 1, 100);
  memset(run->data.weights, 0, sizeof run->data.weights);
  run->data.weighted = 1;
  run_step(run, 1);
  ck_assert(run->loss == 0.0);
  run_values(run, after);
  for (int64_t i = 0; i < count; i++) ck_assert(before[i] == after[i]);
  run_close(run);
}
END_TEST

/* What is promised of a whole run: only the order of float32 sums differs. */
START_TEST(test_losses_of_a_run) {
  static const struct {
    sbag_optimizer_t optimizer;
    double lr;
    int steps;
  } runs[] = {{SBAG_OPT_SGD, 0.1, 100}, {SBAG_OPT_ADAGRAD, 0.05, 10}};
  setup_t setup;
  setup_fill(&setup, runs[_i].optimizer, runs[_i].lr);
  run_t *ranks = run_open(&setup, TOGETHER), *one = run_open(&setup, REFERENCE);
  for (int step = 1; step <= runs[_i].steps; step++) {
    both_step(ranks, one, step, DEAL_EVEN, 1, 100);
    ck_assert_double_eq_tol(ranks->loss, one->loss, 1e-5 * one->loss);
  }
  run_close(ranks);
  run_close(one);
}
END_TEST

START_TEST(test_without_dense_values) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.dense_count = 0;
  check_same_as_alone(&setup, DEAL_UNEVEN, 4, 61);
}
END_TEST

START_TEST(test_small_buckets) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.bucket_bytes = _i == 0 ? 1 : 100; /* a value each; no multiple of a layer */
  check_same_as_alone(&setup, DEAL_EVEN, 2, 40);
}
END_TEST

START_TEST(test_fewer_samples_than_ranks) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  check_same_as_alone(&setup, DEAL_EVEN, 2, 3);
}
END_TEST

START_TEST(test_clipping) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.5);
  setup.config.clip_norm = 0.05;
  setup.config.clip_value = 0.004;
  check_same_as_alone(&setup, DEAL_UNEVEN, 4, 61);
}
END_TEST

/* Masks belong to samples, not to ranks; and they do something. */
START_TEST(test_dropout) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *plain = run_open(&setup, ALONE);
  data_fill(&plain->data, 1, 0, 60, 60);
  run_step(plain, 1);
  setup.config.dropout = 0.5;
  check_same_as_alone(&setup, (deal_t)_i, 4, 61);
  run_t *dropped = run_open(&setup, ALONE);
  data_fill(&dropped->data, 1, 0, 60, 60);
  run_step(dropped, 1);
  ck_assert_double_gt(fabs(plain->loss - dropped->loss), 1e-4);
  run_close(plain);
  run_close(dropped);
}
END_TEST

START_TEST(test_reproducible) {
  static float a[VALUES_MAX], b[VALUES_MAX];
  static const sbag_optimizer_t optimizers[] = {SBAG_OPT_ADAGRAD, SBAG_OPT_SGD, SBAG_OPT_ADAM,
                                                SBAG_OPT_ADAGRAD};
  setup_t setup;
  setup_fill(&setup, optimizers[_i], 0.05);
  setup.config.reproducible = 1;
  setup.config.dropout = _i == 1 ? 0.2 : 0.0;
  setup.config.clip_norm = _i == 3 ? 0.5 : 0.0;
  run_t *ranks = run_open(&setup, TOGETHER), *one = run_open(&setup, ALONE);
  for (int step = 1; step <= 20; step++) {
    both_step(ranks, one, step, (deal_t)(step % DEAL_BACKWARDS), MODEL_SLICE, 500 + step);
    ck_assert_msg(ranks->loss == one->loss, "step %d: loss %.17g on the ranks, %.17g alone", step,
                  ranks->loss, one->loss);
  }
  int64_t count = run_values(ranks, a);
  ck_assert_int_eq(run_values(one, b), count);
  ck_assert_mem_eq(a, b, (size_t)count * sizeof *a);
  run_close(ranks);
  run_close(one);
}
END_TEST

/* The slices' sums are those of the plain way but for rounding. */
START_TEST(test_reproducible_is_right) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *plain = run_open(&setup, REFERENCE);
  setup.config.reproducible = 1;
  run_t *slices = run_open(&setup, TOGETHER);
  for (int step = 1; step <= 3; step++) both_step(slices, plain, step, DEAL_EVEN, MODEL_SLICE, 333);
  ck_assert_double_eq_tol(slices->loss, plain->loss, 1e-5 * plain->loss);
  check_near(slices, plain, 1e-5);
  run_close(plain);
  run_close(slices);
}
END_TEST

/* ---- what a step does ---- */

START_TEST(test_loss_falls) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_ADAGRAD, 0.1);
  setup.config.dense_count = _i == 0 ? DENSE : 0;
  run_t *run = run_open(&setup, TOGETHER);
  double early = 0.0, late = 0.0;
  for (int step = 1; step <= 150; step++) {
    data_share(&run->data, (uint64_t)step, DEAL_EVEN, 1, 256);
    run_step(run, step);
    if (step <= 5) early += run->loss / 5.0;
    if (step > 140) late += run->loss / 10.0;
  }
  ck_assert_msg(late < 0.6 * early && late < 0.45, "loss %g at first, %g at last", early, late);
  run_close(run);
}
END_TEST

/* With SGD, what moved is lr times the clipped gradient: dense and sparse together have norm clip_norm, and
 * neither part is so small that it could be forgotten unnoticed. */
START_TEST(test_clip_norm) {
  static float before[VALUES_MAX], after[VALUES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 1.0);
  setup.config.clip_norm = 0.1;
  for (int t = 0; t < TABLES; t++) setup.tables[t].init_b = 1.0;
  run_t *run = run_open(&setup, TOGETHER);
  int64_t count = run_values(run, before);
  data_share(&run->data, 9, DEAL_EVEN, 1, 12);
  run_step(run, 1);
  run_values(run, after);
  double sparse = 0.0, dense = 0.0;
  for (int64_t i = 0; i < count; i++)
    *(i < TABLE_VALUES ? &sparse : &dense) += pow((double)before[i] - after[i], 2.0);
  ck_assert_double_eq_tol(sqrt(sparse + dense), 0.1, 1e-5);
  ck_assert_double_gt(sparse, 0.01 * dense);
  ck_assert_double_gt(dense, 0.01 * sparse);
  run_close(run);
}
END_TEST

START_TEST(test_learning_rate_factor) {
  static float before[VALUES_MAX], after[VALUES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  int64_t count = run_values(run, before);
  data_share(&run->data, 9, DEAL_EVEN, 1, 100);
  model_batch_t batch = data_batch(&run->data);
  RUN_OK(model_train_step(run->model, &batch, 1, 0.0, &run->loss, at));
  run_values(run, after);
  ck_assert_mem_eq(before, after, (size_t)count * sizeof *before);
  run_close(run);
}
END_TEST

/* Predictions are the same on any number of ranks, know nothing of dropout, and change nothing. */
START_TEST(test_predict) {
  static float before[VALUES_MAX], after[VALUES_MAX], logits[SAMPLES_MAX], alone[SAMPLES_MAX];
  static float again[SAMPLES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.dropout = 0.5;
  run_t *ranks = run_open(&setup, TOGETHER), *one = run_open(&setup, REFERENCE);
  both_step(ranks, one, 1, DEAL_UNEVEN, 1, 200);
  int64_t count = run_values(ranks, before);
  data_share(&ranks->data, 2, (deal_t)_i, 1, 150);
  data_fill(&one->data, 2, 0, 150, 150);
  model_batch_t batch = data_batch(&ranks->data), whole = data_batch(&one->data);
  batch.labels = NULL;
  RUN_OK(model_predict(ranks->model, &batch, logits, at));
  RUN_OK(model_predict(one->model, &whole, alone, at));
  for (int64_t i = 0; i < batch.samples; i++)
    ck_assert_double_eq_tol(logits[i], alone[batch.first_sample + i], 1e-5);
  whole.first_sample = 1000; /* other samples would have other masks */
  RUN_OK(model_predict(one->model, &whole, again, at));
  ck_assert_mem_eq(alone, again, 150 * sizeof *alone);
  run_values(ranks, after);
  ck_assert_mem_eq(before, after, (size_t)count * sizeof *before);
  run_close(ranks);
  run_close(one);
}
END_TEST

START_TEST(test_loss_is_that_of_predictions) {
  static float logits[SAMPLES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *one = run_open(&setup, ALONE);
  data_fill(&one->data, 4, 0, 90, 90);
  model_batch_t batch = data_batch(&one->data);
  RUN_OK(model_predict(one->model, &batch, logits, at));
  double mean = 0.0;
  for (int i = 0; i < 90; i++)
    mean += (log1p(exp((double)logits[i])) - (double)logits[i] * (double)one->data.labels[i]) / 90.0;
  run_step(one, 1);
  ck_assert_double_eq_tol(one->loss, mean, 1e-7);
  run_close(one);
}
END_TEST

START_TEST(test_no_allocation_when_warm) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_ADAM, 0.01);
  setup.config.reproducible = _i;
  run_t *run = run_open(&setup, TOGETHER);
  int64_t warm = 0;
  for (int step = 1; step <= 30; step++) {
    data_share(&run->data, (uint64_t)(step % 10), DEAL_EVEN, MODEL_SLICE, 600);
    run_step(run, step);
    if (step == 20) warm = sbag_context_memory(run->context).alloc_count;
  }
  ck_assert_int_eq(sbag_context_memory(run->context).alloc_count, warm);
  ck_assert_int_eq(model_traffic(run->model).steps, 30);
  run_close(run);
}
END_TEST

/* What a checkpoint does: arrays of one model into another of the same config but another seed. */
START_TEST(test_arrays_carry_the_model) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_ADAM, 0.01);
  run_t *from = run_open(&setup, ALONE);
  for (int step = 1; step <= 3; step++) {
    data_fill(&from->data, (uint64_t)step, 0, 80, 80);
    run_step(from, step);
  }
  setup.config.seed = 4;
  run_t *to = run_open(&setup, ALONE);
  ck_assert_int_eq(model_array_count(to->model), model_array_count(from->model));
  RUN_OK(model_arrays_fetch(from->model, at));
  for (int a = 0; a < model_array_count(to->model); a++) {
    const model_array_t *source = model_array(from->model, a), *target = model_array(to->model, a);
    ck_assert_str_eq(source->name, target->name);
    memcpy(target->data, source->data, (size_t)(source->shape[0] * source->shape[1]) * sizeof(float));
  }
  RUN_OK(model_arrays_send(to->model, at));
  int64_t rows[50];
  float values[50 * 8];
  for (int64_t i = 0; i < 50; i++) rows[i] = i;
  for (int t = 0; t < TABLES; t++) {
    RUN_OK(sbag_collection_read_rows(model_collection(from->model), t, rows, table_rows[t], values, at));
    RUN_OK(sbag_collection_write_rows(model_collection(to->model), t, rows, table_rows[t], values, at));
  }
  data_fill(&from->data, 4, 0, 80, 80);
  to->data = from->data;
  for (int f = 0; f < FEATURES; f++)
    to->data.bags[f] =
        sbag_bags_1d(to->data.indices[f], from->data.bags[f].index_count, to->data.offsets[f], 80);
  run_step(from, 4);
  run_step(to, 4);
  ck_assert(from->loss == to->loss);
  RUN_OK(model_arrays_fetch(from->model, at));
  RUN_OK(model_arrays_fetch(to->model, at));
  for (int a = 0; a < model_array_count(to->model); a++) {
    const model_array_t *x = model_array(from->model, a), *y = model_array(to->model, a);
    ck_assert_mem_eq(x->data, y->data, (size_t)(x->shape[0] * x->shape[1]) * sizeof(float));
  }
  run_close(from);
  run_close(to);
}
END_TEST

/* ---- two steps under way ---- */

enum { PIPE_STEPS = 9 };

/* What makes order matter: rows that are renormalised as they are read, rows that lag, clipping, dropout. */
static void setup_pipe(setup_t *setup, int kind) {
  static const sbag_optimizer_t optimizers[] = {SBAG_OPT_ADAGRAD, SBAG_OPT_SGD, SBAG_OPT_ADAM};
  setup_fill(setup, optimizers[kind % 3], 0.1);
  setup->tables[0].max_norm = 0.4;
  setup->tables[1].optimizer.weight_decay = 0.01;
  if (kind % 3 == 1) setup->tables[1].optimizer.momentum = 0.9;
  setup->tables[2].replicated = kind % 2;
  setup->config.clip_norm = kind == 0 ? 0.3 : 0.0;
  setup->config.dropout = 0.2;
  setup->config.reproducible = kind == 3;
}

static void pipe_data(data_t *data, int64_t step) {
  static const deal_t deals[] = {DEAL_EVEN, DEAL_UNEVEN, DEAL_LAST, DEAL_EVEN};
  data_share(data, (uint64_t)step, deals[step % 4], MODEL_SLICE, 300 + step);
}

/* When a step begins the next one. */
typedef enum ahead { AHEAD_NOT, AHEAD_OF_COMPUTE, AHEAD_OF_FINISH, AHEAD_IN_TURN, AHEAD_CANCELLED } ahead_t;

static int is_ahead(ahead_t how, int64_t step, ahead_t place) {
  if (how == AHEAD_IN_TURN) how = (ahead_t)(step % 4 == 3 ? AHEAD_CANCELLED : step % 4);
  return how == place || (how == AHEAD_CANCELLED && place == AHEAD_OF_COMPUTE);
}

static void pipe_begin(run_t *run, data_t *data, int64_t step) {
  pipe_data(&data[step % 2], step);
  model_batch_t batch = data_batch(&data[step % 2]);
  RUN_OK(model_train_begin(run->model, &batch, step, at));
}

/* Steps [1, PIPE_STEPS]; predictions after some, also while a step is begun. */
static void run_pipeline(run_t *run, ahead_t how, double *losses, float *logits) {
  data_t *data = calloc(2, sizeof *data);
  ck_assert_ptr_nonnull(data);
  int64_t begun = 0;
  for (int64_t step = 1; step <= PIPE_STEPS; step++) {
    if (begun < step) pipe_begin(run, data, begun = step);
    if (step < PIPE_STEPS && is_ahead(how, step, AHEAD_OF_COMPUTE)) pipe_begin(run, data, ++begun);
    RUN_OK(model_train_compute(run->model, at));
    if (step < PIPE_STEPS && is_ahead(how, step, AHEAD_OF_FINISH)) pipe_begin(run, data, ++begun);
    if (begun > step && (how == AHEAD_CANCELLED || (how == AHEAD_IN_TURN && step % 4 == 3))) {
      model_train_cancel(run->model);
      begun = step;
    }
    RUN_OK(model_train_finish(run->model, 1.0 / (double)step, &losses[step - 1], at));
    if (step % 3 != 0) continue;
    data_share(&run->data, 100, DEAL_EVEN, 1, 60);
    model_batch_t batch = data_batch(&run->data);
    RUN_OK(model_predict(run->model, &batch, logits, at));
  }
  free(data);
}

/* To the bit, for every deal of the samples. */
START_TEST(test_pipelined) {
  static float a[VALUES_MAX], b[VALUES_MAX], logits[2][SAMPLES_MAX];
  double losses[2][PIPE_STEPS];
  setup_t setup;
  setup_pipe(&setup, _i);
  run_t *plain = run_open(&setup, TOGETHER);
  run_pipeline(plain, AHEAD_NOT, losses[0], logits[0]);
  int64_t count = run_values(plain, a);
  for (int how = AHEAD_OF_COMPUTE; how <= AHEAD_CANCELLED; how++) {
    run_t *piped = run_open(&setup, TOGETHER);
    run_pipeline(piped, (ahead_t)how, losses[1], logits[1]);
    ck_assert_mem_eq(losses[0], losses[1], sizeof losses[0]);
    ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
    ck_assert_int_eq(run_values(piped, b), count);
    ck_assert_mem_eq(a, b, (size_t)count * sizeof *a);
    ck_assert_int_eq(model_traffic(piped->model).owned_rows, model_traffic(plain->model).owned_rows);
    ck_assert_int_eq(model_traffic(piped->model).bytes_sent, model_traffic(plain->model).bytes_sent);
    run_close(piped);
  }
  run_close(plain);
}
END_TEST

/* A mistake in the next batch is that batch's: the step under way ends as if there were no next. */
START_TEST(test_mistake_in_the_next_batch) {
  static float a[VALUES_MAX], b[VALUES_MAX];
  static data_t next;
  setup_t setup;
  setup_pipe(&setup, _i);
  run_t *plain = run_open(&setup, TOGETHER), *piped = run_open(&setup, TOGETHER);
  data_share(&plain->data, 1, DEAL_EVEN, MODEL_SLICE, 300);
  data_share(&piped->data, 1, DEAL_EVEN, MODEL_SLICE, 300);
  run_step(plain, 1);
  model_batch_t batch = data_batch(&piped->data);
  RUN_OK(model_train_begin(piped->model, &batch, 1, at));
  data_share(&next, 2, DEAL_EVEN, MODEL_SLICE, 300);
  if (world(MPI_Comm_rank) == world(MPI_Comm_size) - 1) next.indices[0][0] = -5;
  model_batch_t bad = data_batch(&next);
  sbag_status_t status = {SBAG_OK, -1, ""};
  RUN_OK(model_train_begin(piped->model, &bad, 2, at));
  RUN_OK(model_train_compute(piped->model, at));
  RUN_OK(model_train_finish(piped->model, 1.0, &piped->loss, at));
  ck_assert_int_eq(model_train_compute(piped->model, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "-5"));
  ck_assert(piped->loss == plain->loss);
  int64_t count = run_values(plain, a);
  run_values(piped, b);
  ck_assert_mem_eq(a, b, (size_t)count * sizeof *a);
  run_close(plain);
  run_close(piped);
}
END_TEST

/* A step that is refused leaves the one begun behind it as it was. */
START_TEST(test_refused_before_the_next) {
  static float a[VALUES_MAX], b[VALUES_MAX];
  static data_t next;
  setup_t setup;
  setup_pipe(&setup, _i);
  run_t *plain = run_open(&setup, TOGETHER), *piped = run_open(&setup, TOGETHER);
  data_share(&plain->data, 2, DEAL_EVEN, MODEL_SLICE, 300);
  run_step(plain, 2);
  data_share(&piped->data, 1, DEAL_EVEN, MODEL_SLICE, 300);
  piped->data.dense[1] = NAN; /* of many ranks some have no samples */
  model_batch_t batch = data_batch(&piped->data);
  RUN_OK(model_train_begin(piped->model, &batch, 1, at));
  RUN_OK(model_train_compute(piped->model, at));
  data_share(&next, 2, DEAL_EVEN, MODEL_SLICE, 300);
  model_batch_t second = data_batch(&next);
  RUN_OK(model_train_begin(piped->model, &second, 2, at));
  sbag_status_t status = {SBAG_OK, -1, ""};
  ck_assert_int_eq(model_train_finish(piped->model, 1.0, &piped->loss, &status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(status.message, "the loss is"));
  RUN_OK(model_train_compute(piped->model, at));
  RUN_OK(model_train_finish(piped->model, 1.0, &piped->loss, at));
  ck_assert(piped->loss == plain->loss);
  int64_t count = run_values(plain, a);
  run_values(piped, b);
  enum { RENORMED = 50 * 8 }; /* rows of the first table: max_norm was applied in the refused step too */
  ck_assert_mem_eq(a + RENORMED, b + RENORMED, (size_t)(count - RENORMED) * sizeof *a);
  run_close(plain);
  run_close(piped);
}
END_TEST

START_TEST(test_order_of_steps) {
  static float logits[SAMPLES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  double loss = -1.0;
  ck_assert_int_eq(model_train_compute(run->model, NULL), SBAG_ERR_STATE);
  ck_assert_int_eq(model_train_finish(run->model, 1.0, &loss, NULL), SBAG_ERR_STATE);
  data_share(&run->data, 1, DEAL_EVEN, 1, 60);
  model_batch_t batch = data_batch(&run->data);
  RUN_OK(model_train_begin(run->model, &batch, 1, at));
  ck_assert_int_eq(model_train_finish(run->model, 1.0, &loss, NULL), SBAG_ERR_STATE);
  ck_assert_int_eq(model_train_step(run->model, &batch, 2, 1.0, &loss, NULL), SBAG_ERR_STATE);
  RUN_OK(model_train_compute(run->model, at));
  ck_assert_int_eq(model_train_compute(run->model, NULL), SBAG_ERR_STATE);
  ck_assert_int_eq(model_predict(run->model, &batch, logits, NULL), SBAG_ERR_STATE);
  RUN_OK(model_train_begin(run->model, &batch, 2, at));
  ck_assert_int_eq(model_train_begin(run->model, &batch, 3, NULL), SBAG_ERR_STATE);
  RUN_OK(model_train_finish(run->model, 1.0, &loss, at));
  ck_assert_double_gt(loss, 0.0);
  if (_i == 1) RUN_OK(model_train_compute(run->model, at));
  run_close(run); /* with a step under way, computed or not */
}
END_TEST

/* ---- what is refused ---- */

static void refused(run_t *run, const model_batch_t *batch, sbag_code_t code, const char *part) {
  sbag_status_t status = {SBAG_OK, -1, ""};
  double loss = -1.0;
  ck_assert_int_eq(model_train_step(run->model, batch, 2, 1.0, &loss, &status), code);
  ck_assert_msg(strstr(status.message, part) != NULL, "'%s' is not in '%s'", part, status.message);
  ck_assert(loss == -1.0);
}

/* One rank has a value that is not finite: all refuse the step, nothing has changed, and training can go on.
 */
START_TEST(test_not_finite) {
  static float before[VALUES_MAX], after[VALUES_MAX];
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_ADAM, 0.01);
  setup.config.reproducible = _i;
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, MODEL_SLICE, 600);
  run_step(run, 1);
  int64_t count = run_values(run, before);
  data_share(&run->data, 2, DEAL_EVEN, MODEL_SLICE, 600);
  if (world(MPI_Comm_rank) == world(MPI_Comm_size) - 1) run->data.dense[4] = NAN;
  model_batch_t batch = data_batch(&run->data);
  refused(run, &batch, SBAG_ERR_ARGUMENT, "the loss is");
  run_values(run, after);
  ck_assert_mem_eq(before, after, (size_t)count * sizeof *before);
  data_share(&run->data, 3, DEAL_EVEN, MODEL_SLICE, 600);
  run_step(run, 2);
  ck_assert(isfinite(run->loss));
  run_close(run);
}
END_TEST

/* As a checkpoint may bring it: in a row that the batch reads, or in a hidden layer's weight. */
static void spoil_parameter(run_t *run, int of_table) {
  float row[8];
  const int64_t first = 0;
  if (of_table) {
    RUN_OK(sbag_collection_read_rows(model_collection(run->model), 2, &first, 1, row, at));
    row[3] = NAN;
    RUN_OK(sbag_collection_write_rows(model_collection(run->model), 2, &first, 1, row, at));
    return;
  }
  RUN_OK(model_arrays_fetch(run->model, at));
  for (int a = 0; a < model_array_count(run->model); a++)
    if (strcmp(model_array(run->model, a)->name, "top/1/weight") == 0)
      model_array(run->model, a)->data[5] = NAN;
  RUN_OK(model_arrays_send(run->model, at));
}

START_TEST(test_parameter_not_finite) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.reproducible = _i / 2;
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, MODEL_SLICE, 600);
  if (_i % 2 == 0) run_step(run, 1);
  spoil_parameter(run, _i % 2 == 0);
  model_batch_t batch = data_batch(&run->data);
  refused(run, &batch, SBAG_ERR_ARGUMENT, "the loss is");
  refused(run, &batch, SBAG_ERR_ARGUMENT, "the loss is"); /* and again */
  run_close(run);
}
END_TEST

START_TEST(test_empty_global_batch) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  data_fill(&run->data, 1, 0, 0, 0);
  model_batch_t batch = data_batch(&run->data);
  refused(run, &batch, SBAG_ERR_ARGUMENT, "needs one at least");
  run_close(run);
}
END_TEST

/* An index out of range on one rank: the collection's own error on all, and the buckets' comm stays usable.
 */
START_TEST(test_bad_index) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, 1, 100);
  if (world(MPI_Comm_rank) == world(MPI_Comm_size) - 1) run->data.indices[0][0] = 50;
  model_batch_t batch = data_batch(&run->data);
  refused(run, &batch, SBAG_ERR_ARGUMENT, "50");
  data_share(&run->data, 1, DEAL_EVEN, 1, 100);
  run_step(run, 1);
  run_close(run);
}
END_TEST

/* A mistake in one rank's batch ends the step on all, with that rank's words. */
START_TEST(test_local_mistakes) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, 1, 100);
  model_batch_t batch = data_batch(&run->data);
  const char *part = "without labels";
  int last = world(MPI_Comm_rank) == world(MPI_Comm_size) - 1;
  if (_i == 0 && last) batch.labels = NULL;
  if (_i == 1) part = "without dense values";
  if (_i == 1 && last) batch.dense = NULL;
  if (_i == 2) part = "feature 2 has";
  if (_i == 2 && last) run->data.bags[2].offset_count--;
  if (_i == 3) part = "a batch of -1 samples";
  if (_i == 3 && last) batch.samples = -1;
  refused(run, &batch, SBAG_ERR_ARGUMENT, part);
  run_close(run);
}
END_TEST

START_TEST(test_out_of_memory) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, 1, 100);
  model_batch_t batch = data_batch(&run->data);
  sbag_status_t status = {SBAG_OK, -1, ""};
  static float logits[SAMPLES_MAX];
  RUN_OK(
      model_predict(run->model, &batch, logits, at)); /* so that all buffers but the backward's are there */
  RUN_OK(model_train_begin(run->model, &batch, 1, at));
  MPI_Barrier(MPI_COMM_WORLD); /* a rank that gives up at once would end the others' beginning */
  if (world(MPI_Comm_rank) == 0) mem_fail_at(context_mem(run->context), 1);
  ck_assert_int_eq(model_train_compute(run->model, &status), SBAG_ERR_MEMORY);
  ck_assert_ptr_nonnull(strstr(status.message, "model: buffers of the batch"));
  run_close(run);
}
END_TEST

START_TEST(test_samples_do_not_add_up) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.reproducible = _i;
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, MODEL_SLICE, 600);
  run->data.global = 601;
  model_batch_t batch = data_batch(&run->data);
  refused(run, &batch, SBAG_ERR_ARGUMENT, "600 samples together, but global_samples is 601");
  run_close(run);
}
END_TEST

/* Slices that do not begin at multiples of 64 would be other slices on other ranks. */
START_TEST(test_crooked_slices) {
  if (world(MPI_Comm_size) == 1) return; /* one rank's samples begin at 0 */
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.reproducible = 1;
  run_t *run = run_open(&setup, TOGETHER);
  data_share(&run->data, 1, DEAL_EVEN, 1, 550);
  model_batch_t batch = data_batch(&run->data);
  refused(run, &batch, SBAG_ERR_ARGUMENT, "at a multiple of 64");
  run_close(run);
}
END_TEST

static void create_refused(const setup_t *setup, sbag_code_t code, const char *part) {
  sbag_context_h context = NULL;
  model_t *model = NULL;
  sbag_status_t status = {SBAG_OK, -1, ""};
  RUN_OK(sbag_context_create_mpi(MPI_COMM_WORLD, NULL, &context, at));
  ck_assert_int_eq(model_create(context, &setup->config, context_mem(context), &model, &status), code);
  ck_assert_msg(strstr(status.message, part) != NULL, "'%s' is not in '%s'", part, status.message);
  ck_assert_ptr_null(model);
  sbag_context_destroy(&context);
}

START_TEST(test_bad_configs) {
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.interaction_dim = 0;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "interaction_dim is 0");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.top[1] = -3;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "the top MLP's hidden layer 1 has -3 units");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.dropout = 1.0;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "dropout is 1");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.clip_norm = NAN;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "clip_norm");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.dense_optimizer.kind = SBAG_OPT_LARS_SGD;
  create_refused(&setup, SBAG_ERR_UNSUPPORTED, "lars_sgd");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.feature_count = 0;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "0 features");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.bottom_count = MODEL_LAYERS_MAX + 1;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "the bottom MLP has 17 hidden layers");
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  setup.config.reproducible = 1;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "a context that is reproducible too");
}
END_TEST

START_TEST(test_configs_that_differ) {
  if (world(MPI_Comm_size) == 1) return; /* nobody to differ from */
  int rank = world(MPI_Comm_rank);
  setup_t setup;
  setup_fill(&setup, SBAG_OPT_SGD, 0.1);
  if (_i == 0) setup.config.seed += (uint64_t)(rank == 0);
  if (_i == 1) setup.config.top[0] += rank == 0;
  if (_i == 2) setup.config.dense_optimizer.momentum = rank == 0 ? 0.5 : 0.0;
  if (_i == 3) setup.config.bucket_bytes = rank == 0 ? 100 : 0;
  create_refused(&setup, SBAG_ERR_ARGUMENT, "configs differ");
}
END_TEST

static TCase *case_of(Suite *suite, const char *name) {
  TCase *made = tcase_create(name);
  suite_add_tcase(suite, made);
  return made;
}

/* tests/cuda runs the suite on a GPU, of whose memory no allocation can be made to fail. */
#ifdef SHARDBAG_TEST_CUDA
enum { ON_CPU = 0 };
#else
enum { ON_CPU = 1 };
#endif

Suite *model_suite(void) {
  Suite *suite = suite_create("model");
  TCase *tc = case_of(suite, "as one rank");
  tcase_add_loop_test(tc, test_same_as_one_rank, 0, DEAL_COUNT);
  tcase_add_loop_test(tc, test_interactions, 0, 5);
  tcase_add_loop_test(tc, test_interactions_reproducible, 0, 5);
  tcase_add_loop_test(tc, test_weights_on_ranks, 0, 3);
  tcase_add_loop_test(tc, test_weights_are_repetitions, 0, 2);
  tcase_add_test(tc, test_no_weight);
  tcase_add_loop_test(tc, test_losses_of_a_run, 0, 2);
  tcase_add_test(tc, test_without_dense_values);
  tcase_add_loop_test(tc, test_small_buckets, 0, 2);
  tcase_add_test(tc, test_fewer_samples_than_ranks);
  tcase_add_test(tc, test_clipping);
  tcase_add_loop_test(tc, test_dropout, 0, DEAL_COUNT);
  tcase_add_loop_test(tc, test_reproducible, 0, 4);
  tcase_add_test(tc, test_reproducible_is_right);
  tc = case_of(suite, "a step");
  tcase_add_loop_test(tc, test_loss_falls, 0, 2);
  tcase_add_test(tc, test_clip_norm);
  tcase_add_test(tc, test_learning_rate_factor);
  tcase_add_loop_test(tc, test_predict, 0, DEAL_COUNT);
  tcase_add_test(tc, test_loss_is_that_of_predictions);
  tcase_add_loop_test(tc, test_no_allocation_when_warm, 0, 2);
  tcase_add_test(tc, test_arrays_carry_the_model);
  tc = case_of(suite, "two steps under way");
  tcase_add_loop_test(tc, test_pipelined, 0, 4);
  tcase_add_loop_test(tc, test_mistake_in_the_next_batch, 0, 2);
  tcase_add_loop_test(tc, test_refused_before_the_next, 0, 2);
  tcase_add_loop_test(tc, test_order_of_steps, 0, 2);
  tc = case_of(suite, "refused");
  tcase_add_loop_test(tc, test_not_finite, 0, 2);
  tcase_add_loop_test(tc, test_parameter_not_finite, 0, 4);
  tcase_add_test(tc, test_empty_global_batch);
  tcase_add_test(tc, test_bad_index);
  tcase_add_loop_test(tc, test_local_mistakes, 0, 4);
  tcase_add_loop_test(tc, test_out_of_memory, 0, ON_CPU);
  tcase_add_loop_test(tc, test_samples_do_not_add_up, 0, 2);
  tcase_add_test(tc, test_crooked_slices);
  tcase_add_test(tc, test_bad_configs);
  tcase_add_loop_test(tc, test_configs_that_differ, 0, 4);
  return suite;
}
