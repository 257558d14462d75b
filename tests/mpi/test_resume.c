/* A collection that goes on from rows, states and a step count which another one had: to the bit on the same
 * number of ranks, closely on another, for every optimizer. */
#include "collection/load.h"
#include "kernel/optimizer.h"
#include "oracle/batch.h"
#include "rig.h"

#include <math.h>
#include <string.h>

Suite *resume_suite(void);

enum { STEPS = 11, HALF = 6, SAMPLES = 6, STATES_MAX = 4 };

/* What a checkpoint holds of a collection, whole on every rank. */
typedef struct saved {
  double *of[RIG_TABLES][1 + STATES_MAX]; /* the weights, then the states */
  int64_t step_count[RIG_TABLES];
} saved_t;

/* Every kind with what makes it hardest to resume: decay and momentum move rows that no batch touches. */
static sbag_optimizer_options_t optimizer_of(int kind) {
  sbag_optimizer_options_t o = sbag_optimizer_options_default((sbag_optimizer_t)kind);
  o.lr = 0.05;
  switch (o.kind) {
  case SBAG_OPT_SGD:
    o.momentum = 0.4;
    o.dampening = 0.1;
    o.weight_decay = 0.01;
    break;
  case SBAG_OPT_ADAGRAD:
    o.weight_decay = 2e-4;
    o.lr_decay = 0.1;
    break;
  case SBAG_OPT_ADAM:
    o.amsgrad = 1;
    o.weight_decay = 0.01;
    break;
  case SBAG_OPT_RMSPROP:
    o.centered = 1;
    o.momentum = 0.5;
    break;
  case SBAG_OPT_EXACT_ROWWISE_ADAGRAD:
    o.weight_decay_mode = SBAG_DECAY_L2;
    o.weight_decay = 0.01;
    break;
  case SBAG_OPT_ROWWISE_RMSPROP:
    o.ar_alpha = 0.2;
    break;
  default:
    break;
  }
  return o;
}

static rig_options_t options_of(int i) {
  rig_options_t options = rig_options_default();
  options.optimizer = optimizer_of(i % SBAG_OPT_COUNT);
  options.dtype = i % 2 == 0 ? SBAG_F32 : SBAG_F64;
  options.context.exchange = (sbag_exchange_t)(i % 3);
  options.layout = (sbag_layout_t)(i / 2 % 3);
  options.replicated = i % 5 == 0;
  options.subset = i % 4 == 1;
  /* Tables in 16 bits where the optimizer allows it. */
  for (int t = 0; t < RIG_TABLES && i >= 2 * SBAG_OPT_COUNT; t++) {
    options.dtype = SBAG_F32;
    if (!optimizer_info(&options.optimizer).moves_untouched)
      options.storage[t] = (i + t) % 2 == 0 ? SBAG_STORAGE_F16 : SBAG_STORAGE_BF16;
  }
  return options;
}

/* With a learning rate of its own for every step, as a schedule gives. */
static void train_step(rig_t *rig, rig_batch_t *batch, int64_t number) {
  sbag_step_h step = rig_begin(rig, batch, 0);
  rig_must(sbag_step_forward_end(step, batch->out, &rig_failure));
  rig_backward(rig, step, batch, 0);
  rig_must(sbag_step_update(step, 1 / (1 + (double)number), 0.5, &rig_failure));
  sbag_step_release(&step);
}

static void train(rig_t *rig, int64_t first, int64_t end) {
  for (int64_t n = first; n < end; n++) {
    rig_batch_t batch;
    rig_draw(rig, &batch, (uint64_t)n, SAMPLES, 0);
    train_step(rig, &batch, n);
  }
}

static saved_t save(rig_t *rig) {
  saved_t saved;
  memset(&saved, 0, sizeof saved);
  for (int t = 0; t < RIG_TABLES; t++) {
    for (int s = 0; s <= sbag_collection_state_count(rig->collection, t); s++)
      saved.of[t][s] = rig_read(rig, t, s - 1);
    saved.step_count[t] = sbag_collection_step_count(rig->collection, t);
  }
  return saved;
}

/* Every rank brings other rows, whoever owns them. */
static void load_array(rig_t *rig, int table, int state, const double *values) {
  int64_t rows = rig->options.rows[table], width = rig_width(rig, table, state), count = 0;
  int64_t *row = arena_ints(&rig->arena, rows);
  double *mine = arena_doubles(&rig->arena, rows * width);
  for (int64_t r = rig->rank; r < rows; r += rig->size) {
    memcpy(mine + count * width, values + r * width, (size_t)width * sizeof *mine);
    row[count++] = r;
  }
  const void *typed = batch_typed(&rig->arena, mine, count * width, rig->options.dtype);
  rig_must(state < 0
               ? sbag_collection_write_rows(rig->collection, table, row, count, typed, &rig_failure)
               : sbag_collection_write_state(rig->collection, table, state, row, count, typed, &rig_failure));
}

static void load(rig_t *rig, const saved_t *saved) {
  for (int t = 0; t < RIG_TABLES; t++) {
    for (int s = 0; s <= sbag_collection_state_count(rig->collection, t); s++)
      load_array(rig, t, s - 1, saved->of[t][s]);
    rig_must(sbag_collection_set_step_count(rig->collection, t, saved->step_count[t], &rig_failure));
  }
}

static void check_same(rig_t *rig, const saved_t *got, const saved_t *wanted, double tolerance) {
  for (int t = 0; t < RIG_TABLES; t++) {
    ck_assert_int_eq(got->step_count[t], STEPS);
    ck_assert_int_eq(wanted->step_count[t], STEPS);
    for (int s = 0; s <= sbag_collection_state_count(rig->collection, t); s++) {
      int64_t count = rig->options.rows[t] * rig_width(rig, t, s - 1);
      for (int64_t i = 0; i < count; i++) {
        double a = got->of[t][s][i], b = wanted->of[t][s][i];
        int same = tolerance > 0 ? fabs(a - b) <= tolerance * (1 + fabs(b)) : memcmp(&a, &b, sizeof a) == 0;
        ck_assert_msg(same, "table %d, array %d, value %lld: %.17g, not %.17g", t, s, (long long)i, a, b);
      }
    }
  }
}

/* Neither the interruption nor the reading for it shows in a single bit. */
START_TEST(goes_on_to_the_bit) {
  rig_options_t options = options_of(_i);
  rig_t whole, first, second;
  rig_open(&whole, &options);
  train(&whole, 0, STEPS);
  rig_open(&first, &options);
  train(&first, 0, HALF);
  saved_t half = save(&first);
  rig_open(&second, &options);
  load(&second, &half);
  train(&second, HALF, STEPS);
  train(&first, HALF, STEPS);
  saved_t wanted = save(&whole), read = save(&first), loaded = save(&second);
  check_same(&whole, &read, &wanted, 0);
  check_same(&whole, &loaded, &wanted, 0);
  rig_close(&whole);
  rig_close(&first);
  rig_close(&second);
}
END_TEST

/* ---- rows as a checkpoint writes them from memory ---- */

static void check_own(rig_t *rig, int table, int state, const double *wanted) {
  checkpoint_rows_t own = {NULL, -1, -1};
  rig_must(collection_own_rows(rig->collection, table, state, &own, &rig_failure));
  int64_t width = rig_width(rig, table, state), sum = own.rows;
  for (int64_t i = 0; i < own.rows * width; i++) {
    double got =
        rig->options.dtype == SBAG_F32 ? (double)((const float *)own.data)[i] : ((const double *)own.data)[i];
    ck_assert_msg(memcmp(&got, &wanted[own.first_row * width + i], sizeof got) == 0,
                  "table %d, state %d, value %lld from row %lld", table, state, (long long)i,
                  (long long)own.first_row);
  }
  MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  int together =
      rig->options.layout == SBAG_LAYOUT_BLOCK && sbag_context_device(rig->context) == SBAG_DEVICE_CPU;
  ck_assert_int_eq(sum, together ? rig->options.rows[table] : 0);
}

/* They are what others read, though nobody has read a row before. */
START_TEST(own_rows_are_up_to_date) {
  rig_options_t options = options_of(_i);
  rig_t told, read;
  rig_open(&told, &options);
  rig_open(&read, &options);
  train(&told, 0, HALF);
  train(&read, 0, HALF);
  saved_t wanted = save(&read);
  for (int t = 0; t < RIG_TABLES; t++)
    for (int s = 0; s <= sbag_collection_state_count(told.collection, t); s++)
      check_own(&told, t, s - 1, wanted.of[t][s]);
  rig_close(&told);
  rig_close(&read);
}
END_TEST

/* ---- another number of ranks ---- */

static void train_alone(rig_t *alone, int size, int64_t first, int64_t end) {
  for (int64_t n = first; n < end; n++) {
    rig_batch_t batch;
    rig_draw_parts(alone, 0, size, &batch, (uint64_t)n, SAMPLES, 0);
    train_step(alone, &batch, n);
  }
}

/* Written by all ranks and read by one, and the other way round. */
START_TEST(goes_on_on_other_ranks) {
  rig_options_t options = options_of(_i);
  options.dtype = SBAG_F64;
  options.subset = 0; /* its one rank would be another on one rank */
  rig_t together, alone, resumed_alone, resumed_together;
  rig_open(&together, &options);
  rig_open_on(&alone, &options, MPI_COMM_SELF);
  train(&together, 0, HALF);
  train_alone(&alone, together.size, 0, HALF);
  saved_t by_all = save(&together), by_one = save(&alone);
  rig_open(&resumed_together, &options);
  rig_open_on(&resumed_alone, &options, MPI_COMM_SELF);
  load(&resumed_together, &by_one);
  load(&resumed_alone, &by_all);
  train(&resumed_together, HALF, STEPS);
  train_alone(&resumed_alone, together.size, HALF, STEPS);
  train(&together, HALF, STEPS);
  saved_t wanted = save(&together), now_alone = save(&resumed_alone), now_together = save(&resumed_together);
  check_same(&together, &now_alone, &wanted, 1e-5);
  check_same(&together, &now_together, &wanted, 1e-5);
  rig_close(&together);
  rig_close(&alone);
  rig_close(&resumed_alone);
  rig_close(&resumed_together);
}
END_TEST

/* ---- refusals ---- */

static void check_refused(const rig_t *rig, int table, int64_t step_count, const char *part) {
  rig_failure.message[0] = '\0';
  ck_assert_int_eq(sbag_collection_set_step_count(rig->collection, table, step_count, &rig_failure),
                   SBAG_ERR_ARGUMENT);
  ck_assert_msg(strstr(rig_failure.message, part) != NULL, "'%s' says nothing of '%s'", rig_failure.message,
                part);
  for (int t = 0; t < RIG_TABLES; t++)
    ck_assert_int_eq(sbag_collection_step_count(rig->collection, t), t == 1 ? 7 : 2);
}

START_TEST(refuses_what_cannot_be) {
  rig_options_t options = rig_options_default();
  rig_t rig;
  rig_open(&rig, &options);
  int last = rig.rank == rig.size - 1;
  ck_assert_int_eq(sbag_collection_step_count(rig.collection, 0), 0);
  train(&rig, 0, 2);
  ck_assert_int_eq(sbag_collection_step_count(rig.collection, 1), 2);
  rig_must(sbag_collection_set_step_count(rig.collection, 1, 7, &rig_failure));
  check_refused(&rig, last ? -1 : 0, 3, "table -1 is not in 0 to 1");
  check_refused(&rig, last ? RIG_TABLES : 0, 3, "table 2 is not in 0 to 1");
  check_refused(&rig, 1, last ? -1 : 3, "table 'second': -1 updates");
  if (rig.size > 1) {
    check_refused(&rig, 1, last ? 4 : 3, "must be equal");
    check_refused(&rig, last, 3, "must be equal");
  }
  ck_assert_int_eq(sbag_collection_step_count(rig.collection, -1), -1);
  ck_assert_int_eq(sbag_collection_step_count(rig.collection, RIG_TABLES), -1);
  rig_close(&rig);
}
END_TEST

Suite *resume_suite(void) {
  Suite *suite = suite_create("resume");
  TCase *cases = tcase_create("resume");
  tcase_add_loop_test(cases, goes_on_to_the_bit, 0, 3 * SBAG_OPT_COUNT);
  tcase_add_loop_test(cases, own_rows_are_up_to_date, 0, 2 * SBAG_OPT_COUNT);
  tcase_add_loop_test(cases, goes_on_on_other_ranks, 0, SBAG_OPT_COUNT);
  tcase_add_test(cases, refuses_what_cannot_be);
  suite_add_tcase(suite, cases);
  return suite;
}
