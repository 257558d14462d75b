/* The local shard: what it allocates for each optimizer and what it starts with, rows that lag behind across
 * the end of the learning rates' log, the list of rows that mirrors must hear of, and running out of memory.
 */
#include "oracle/arena.h"
#include "oracle/draw.h"
#include "store/store.h"

#include <check.h>
#include <math.h>
#include <string.h>

Suite *store_suite(void);

enum { TABLES_MAX = 6, RANKS = 2 };

static mem_t *mem;
static kernel_t *kernel;
static sbag_status_t failure;
static arena_t arena;

/* Every call here must succeed. */
static void must(sbag_code_t code) {
  if (code != SBAG_OK) ck_abort_msg("%s error: %s", sbag_code_name(code), failure.message);
}

static void open_kernel(void) {
  must(mem_create(&mem, &failure));
  must(kernel_cpu_create(mem, &(kernel_cpu_options_t){.threads = 1}, &kernel, &failure));
}

static void close_kernel(void) {
  kernel_destroy(&kernel);
  ck_assert_int_eq(mem_stats(mem).live_bytes, 0);
  mem_destroy(&mem);
  arena_free(&arena);
}

/* A store with its plan. */
typedef struct shelf {
  plan_t *plan;
  store_t *store;
} shelf_t;

static const int64_t first_row[] = {0, 3};

static sbag_code_t try_store(const sbag_table_options_t *tables, int count, int rank, sbag_dtype_t dtype,
                             int training, shelf_t *shelf) {
  const int64_t *zero_rows[TABLES_MAX];
  int zero_counts[TABLES_MAX];
  for (int t = 0; t < count; t++) {
    zero_rows[t] = first_row;
    zero_counts[t] = t % 3;
  }
  return store_create(kernel, shelf->plan, rank, dtype, training, tables, zero_rows, zero_counts,
                      &shelf->store, &failure);
}

static shelf_t open_plan(const sbag_table_options_t *tables, int count) {
  shelf_t shelf = {0};
  must(plan_create(mem, RANKS, tables, count, &shelf.plan, &failure));
  return shelf;
}

static shelf_t open_shelf(const sbag_table_options_t *tables, int count, int rank, sbag_dtype_t dtype,
                          int training) {
  shelf_t shelf = open_plan(tables, count);
  must(try_store(tables, count, rank, dtype, training, &shelf));
  return shelf;
}

static void close_shelf(shelf_t *shelf) {
  store_destroy(&shelf->store);
  ck_assert_ptr_null(shelf->store);
  plan_destroy(&shelf->plan);
}

static double value_at(const void *values, sbag_dtype_t dtype, int64_t i) {
  return dtype == SBAG_F64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
}

static int is(double value, double wanted) {
  return !(value < wanted) && !(value > wanted);
}

/* ---- what is allocated ---- */

static void check_states(const store_table_t *table, const sbag_optimizer_options_t *options,
                         sbag_dtype_t dtype) {
  optimizer_info_t info = optimizer_info(options);
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++) {
    ck_assert_int_eq(table->states[s] != NULL, s < info.state_count);
    if (s >= info.state_count) continue;
    int64_t count = table->local_rows * (info.states[s].row_wise ? 1 : table->dim);
    for (int64_t i = 0; i < count; i++)
      ck_assert(is(value_at(table->states[s], dtype, i),
                   dtype == SBAG_F64 ? info.states[s].initial : (double)(float)info.states[s].initial));
  }
  ck_assert_int_eq(table->last_step != NULL, info.moves_untouched);
  ck_assert_int_eq(table->lr_log != NULL, info.moves_untouched);
}

/* Beyond the last byte of each state nothing is ours: ASan and the count of live bytes both look. */
static int64_t state_bytes(const sbag_optimizer_options_t *options, int64_t rows, int64_t dim,
                           sbag_dtype_t dtype) {
  optimizer_info_t info = optimizer_info(options);
  int64_t values = 0;
  for (int s = 0; s < info.state_count; s++) values += rows * (info.states[s].row_wise ? 1 : dim);
  int64_t bytes = values * (dtype == SBAG_F64 ? 8 : 4);
  if (info.moves_untouched) bytes += rows * 4 + OPTIMIZER_LR_LOG * 8;
  return bytes;
}

START_TEST(states_have_their_shapes) {
  for (int kind = 0; kind < SBAG_OPT_COUNT; kind++)
    for (int variant = 0; variant < 4; variant++) {
      sbag_table_options_t table = sbag_table_options_default("table", 11, variant % 2 ? 1 : 1000);
      sbag_dtype_t dtype = variant / 2 ? SBAG_F64 : SBAG_F32;
      table.optimizer = sbag_optimizer_options_default((sbag_optimizer_t)kind);
      if (kind == SBAG_OPT_SGD) table.optimizer.momentum = variant % 2 ? 0.9 : 0;
      if (kind == SBAG_OPT_ADAM) table.optimizer.amsgrad = variant % 2;
      int64_t before = mem_stats(mem).live_bytes;
      shelf_t shelf = open_shelf(&table, 1, variant % 2, dtype, 1);
      int64_t with_states = mem_stats(mem).live_bytes - before;
      const store_table_t *made = &shelf.store->tables[0];
      ck_assert_int_eq(made->local_rows, variant % 2 ? 5 : 6);
      check_states(made, &table.optimizer, dtype);
      close_shelf(&shelf);
      shelf = open_shelf(&table, 1, variant % 2, dtype, 0);
      int64_t rows = shelf.store->tables[0].local_rows;
      ck_assert_int_eq(with_states - (mem_stats(mem).live_bytes - before),
                       state_bytes(&table.optimizer, rows, table.embedding_dim, dtype));
      close_shelf(&shelf);
    }
}
END_TEST

/* Frozen, or in a collection without gradients: neither states nor a log. */
START_TEST(what_is_not_trained_keeps_no_state) {
  sbag_table_options_t table = sbag_table_options_default("table", 8, 3);
  table.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  for (int training = 0; training < 2; training++) {
    table.freeze = training;
    shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F32, training);
    const store_table_t *made = &shelf.store->tables[0];
    int64_t all[] = {0, 1, 2, 3};
    for (int s = 0; s < OPTIMIZER_STATES_MAX; s++) ck_assert_ptr_null(made->states[s]);
    ck_assert(!made->trainable && made->last_step == NULL && made->lr_log == NULL);
    must(store_catch_up(shelf.store, 0, all, 4, &failure));
    close_shelf(&shelf);
  }
}
END_TEST

START_TEST(mirrors_serve_what_only_updates_change) {
  sbag_table_options_t table = sbag_table_options_default("table", 7, 2);
  table.replicated = 1;
  for (int variant = 0; variant < 6; variant++) {
    sbag_table_options_t one = table;
    if (variant == 1) one.replicated = 0;
    if (variant == 2) one.has_max_norm = 1;
    if (variant > 2) one.optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
    if (variant == 4) one.freeze = 1;
    shelf_t shelf = open_shelf(&one, 1, 1, SBAG_F64, variant != 5);
    const store_table_t *made = &shelf.store->tables[0];
    ck_assert_int_eq(made->mirror != NULL, variant == 0 || variant >= 4);
    for (int64_t i = 0; made->mirror != NULL && i < made->local_rows; i++)
      ck_assert_mem_eq((const double *)made->weight + 2 * i,
                       (const double *)made->mirror + 2 * plan_row(&shelf.plan->tables[0], 1, i),
                       2 * sizeof(double));
    close_shelf(&shelf);
  }
}
END_TEST

/* Both ranks together hold the caller's rows; a rank beside the listed ones holds none. */
START_TEST(pretrained_rows_go_to_their_owners) {
  static const int owner[] = {1};
  enum { ROWS = 9, DIM = 3 };
  float given[ROWS * DIM];
  for (int i = 0; i < ROWS * DIM; i++) given[i] = (float)i + 0.5f;
  for (int layout = 0; layout < 4; layout++) {
    sbag_table_options_t table = sbag_table_options_from_pretrained("table", ROWS, DIM, given);
    if (layout < 3) table.layout = (sbag_layout_t)layout;
    table.ranks = layout == 3 ? owner : NULL;
    table.rank_count = 1;
    table.replicated = layout == 1;
    int64_t rows = 0;
    for (int rank = 0; rank < RANKS; rank++) {
      shelf_t shelf = open_shelf(&table, 1, rank, SBAG_F32, 1);
      const store_table_t *made = &shelf.store->tables[0];
      for (int64_t i = 0; i < made->local_rows; i++)
        ck_assert_mem_eq((const float *)made->weight + i * DIM,
                         given + plan_row(&shelf.plan->tables[0], made->shard, i) * DIM, DIM * sizeof(float));
      if (made->mirror != NULL) ck_assert_mem_eq(made->mirror, given, sizeof given);
      ck_assert(layout != 3 || rank == 1 || (made->local_rows == 0 && made->shard == -1));
      rows += made->local_rows;
      close_shelf(&shelf);
    }
    ck_assert_int_eq(rows, ROWS);
  }
}
END_TEST

START_TEST(padding_rows_start_as_zero) {
  sbag_table_options_t tables[3];
  for (int t = 0; t < 3; t++) {
    tables[t] = sbag_table_options_default("table", 5, 2);
    tables[t].init = SBAG_INIT_CONSTANT;
    tables[t].init_a = 4;
    tables[t].replicated = 1;
  }
  shelf_t shelf = open_shelf(tables, 3, 1, SBAG_F64, 1); /* table t has the first t of rows 0 and 3 zero */
  for (int t = 0; t < 3; t++) {
    const double *mirror = shelf.store->tables[t].mirror, *weight = shelf.store->tables[t].weight;
    for (int i = 0; i < 5; i++)
      ck_assert(is(mirror[2 * i + 1], (i == 0 && t > 0) || (i == 3 && t > 1) ? 0 : 4));
    ck_assert(is(weight[0], t > 1 ? 0 : 4) && is(weight[2], 4)); /* rank 1 has rows 3 and 4 */
  }
  close_shelf(&shelf);
}
END_TEST

/* ---- rows that lag ---- */

enum { LAG_ROWS = 6, LAG_DIM = 3, LAG_STEPS = 2 * OPTIMIZER_LR_LOG + 700 };

/* The dense optimizers, every row every step, as torch.optim writes them. */
typedef struct dense_model {
  double weight[LAG_ROWS * LAG_DIM], first[LAG_ROWS * LAG_DIM], second[LAG_ROWS * LAG_DIM];
} dense_model_t;

static void dense_step(dense_model_t *model, const sbag_optimizer_options_t *o, int64_t step, double lr,
                       const double *grad) {
  for (int i = 0; i < LAG_ROWS * LAG_DIM; i++) {
    double g = grad[i] + o->weight_decay * model->weight[i];
    if (o->kind == SBAG_OPT_SGD) {
      model->first[i] = o->momentum * model->first[i] + g;
      model->weight[i] -= lr * model->first[i];
      continue;
    }
    model->first[i] = o->beta1 * model->first[i] + (1 - o->beta1) * g;
    model->second[i] = o->beta2 * model->second[i] + (1 - o->beta2) * g * g;
    double mean = model->first[i] / (1 - pow(o->beta1, (double)step));
    double square = model->second[i] / (1 - pow(o->beta2, (double)step));
    model->weight[i] -= lr * mean / (sqrt(square) + o->eps);
  }
}

static void check_rows(const store_table_t *table, const dense_model_t *model, int64_t step) {
  for (int64_t i = 0; i < table->local_rows * LAG_DIM; i++) {
    double got = ((const double *)table->weight)[i];
    ck_assert_msg(fabs(got - model->weight[i]) <= 1e-9 * (1 + fabs(model->weight[i])),
                  "step %lld: weight %lld is %.17g, not %.17g", (long long)step, (long long)i, got,
                  model->weight[i]);
  }
}

/* Two ends of the log, rows that go untouched across them, and readers in between. */
static void check_lagging(const sbag_optimizer_options_t *options) {
  static const int owner[] = {0};
  sbag_table_options_t table = sbag_table_options_default("table", LAG_ROWS, LAG_DIM);
  table.optimizer = *options;
  table.ranks = owner;
  table.rank_count = 1;
  shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F64, 1);
  const store_table_t *made = &shelf.store->tables[0];
  dense_model_t model = {{0}, {0}, {0}};
  draw_t draw = draw_start(3, (uint64_t)options->kind);
  memcpy(model.weight, made->weight, sizeof model.weight);
  for (int64_t step = 1; step <= LAG_STEPS; step++) {
    double grad[LAG_ROWS * LAG_DIM] = {0}, part[LAG_ROWS * LAG_DIM], lr = 0.01 / (1 + 0.001 * (double)step);
    int64_t rows[LAG_ROWS], count = 0;
    for (int64_t r = LAG_ROWS - 1; r >= 0; r--) {
      /* Row 0 is touched once, row 1 now and then, the others often. */
      if (r == 0 ? step != 5 : !draw_one_in(&draw, r == 1 ? 500 : 4)) continue;
      for (int d = 0; d < LAG_DIM; d++)
        part[count * LAG_DIM + d] = grad[r * LAG_DIM + d] = draw_unit(&draw) - 0.5;
      rows[count++] = r;
    }
    must(store_update(shelf.store, 0, lr, 1, rows, NULL, part, count, &failure));
    dense_step(&model, &table.optimizer, step, lr, grad);
    if (!draw_one_in(&draw, 1500)) continue;
    must(store_catch_up(shelf.store, 0, NULL, 0, &failure));
    check_rows(made, &model, step);
  }
  ck_assert(made->step == LAG_STEPS && made->step - made->epoch_step < OPTIMIZER_LR_LOG);
  must(store_catch_up(shelf.store, 0, NULL, 0, &failure));
  check_rows(made, &model, LAG_STEPS);
  close_shelf(&shelf);
}

START_TEST(lagging_rows_are_those_of_every_step) {
  sbag_optimizer_options_t options = sbag_optimizer_options_default(_i < 2 ? SBAG_OPT_SGD : SBAG_OPT_ADAM);
  if (_i < 2) options.momentum = 0.99;
  if (_i == 1) options.weight_decay = 0.02;
  ck_assert(optimizer_info(&options).moves_untouched);
  check_lagging(&options);
}
END_TEST

/* The log has room for exactly its length; the step after it starts it anew. */
START_TEST(the_log_rolls_over_when_full) {
  sbag_table_options_t table = sbag_table_options_default("table", 4, 1);
  table.optimizer.momentum = 0.5;
  shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F32, 1);
  const store_table_t *made = &shelf.store->tables[0];
  for (int64_t step = 1; step <= 2 * OPTIMIZER_LR_LOG + 1; step++) {
    must(store_update(shelf.store, 0, (double)step, 1, NULL, NULL, NULL, 0, &failure));
    ck_assert_int_eq(made->step, step);
    ck_assert_int_eq(made->epoch_step, (step - 1) / OPTIMIZER_LR_LOG * OPTIMIZER_LR_LOG);
    ck_assert(is(made->lr_log[step - 1 - made->epoch_step], (double)step));
  }
  close_shelf(&shelf);
}
END_TEST

/* Only the rows asked for are brought up to date. */
START_TEST(catching_up_is_by_row) {
  sbag_table_options_t table = sbag_table_options_default("table", 8, 1);
  int64_t rows[] = {0, 1, 2, 3}, one[] = {2};
  double grad[] = {1, 1, 1, 1}, before[4];
  table.optimizer.momentum = 0.5;
  shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F64, 1);
  const double *weight = shelf.store->tables[0].weight;
  must(store_update(shelf.store, 0, 1, 1, rows, NULL, grad, 4, &failure));
  must(store_update(shelf.store, 0, 1, 1, NULL, NULL, NULL, 0, &failure));
  memcpy(before, weight, sizeof before);
  must(store_catch_up(shelf.store, 0, one, 1, &failure));
  for (int i = 0; i < 4; i++) ck_assert(is(weight[i], i == 2 ? before[i] - 0.5 : before[i]));
  must(store_catch_up(shelf.store, 0, one, 1, &failure)); /* once is enough */
  ck_assert(is(weight[2], before[2] - 0.5));
  close_shelf(&shelf);
}
END_TEST

/* Rows that lag are brought to the present first, by the log that then ends. */
START_TEST(a_step_count_is_set) {
  sbag_table_options_t table = sbag_table_options_default("table", 8, 1);
  int64_t rows[] = {0, 1, 2, 3};
  double grad[] = {1, 1, 1, 1}, before[4];
  table.optimizer.momentum = 0.5;
  shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F64, 1);
  const store_table_t *made = &shelf.store->tables[0];
  const double *weight = made->weight;
  must(store_update(shelf.store, 0, 1, 1, rows, NULL, grad, 4, &failure));
  must(store_update(shelf.store, 0, 1, 1, NULL, NULL, NULL, 0, &failure));
  memcpy(before, weight, sizeof before);
  must(store_set_step_count(shelf.store, 0, 100, &failure));
  ck_assert(made->step == 100 && made->epoch_step == 100);
  for (int i = 0; i < 4; i++) ck_assert(is(weight[i], before[i] - 0.5));
  must(store_update(shelf.store, 0, 2, 1, NULL, NULL, NULL, 0, &failure));
  ck_assert(made->step == 101 && made->epoch_step == 100 && is(made->lr_log[0], 2));
  must(store_catch_up(shelf.store, 0, NULL, 0, &failure));
  for (int i = 0; i < 4; i++) ck_assert(is(weight[i], before[i] - 1));
  close_shelf(&shelf);
}
END_TEST

/* ---- what is announced ---- */

static void check_changed(const store_table_t *table, const int64_t *rows, int64_t count) {
  ck_assert_int_eq(table->changed_count, count);
  if (count > 0) ck_assert_mem_eq(table->changed.data, rows, (size_t)count * sizeof *rows);
}

/* One list per mirror, in the order of writing, also when it must grow. */
START_TEST(mirrors_hear_of_every_write) {
  enum { ROWS = 2000 };
  sbag_table_options_t tables[2] = {sbag_table_options_default("mirrored", 2 * ROWS, 1),
                                    sbag_table_options_default("not", 2 * ROWS, 1)};
  int64_t *rows = arena_ints(&arena, ROWS), *wanted = arena_ints(&arena, 2 * ROWS);
  double *grad = arena_doubles(&arena, ROWS);
  tables[0].replicated = 1;
  shelf_t shelf = open_shelf(tables, 2, 0, SBAG_F64, 1);
  const store_table_t *mirrored = &shelf.store->tables[0];
  for (int64_t i = 0; i < ROWS; i++) rows[i] = (i * 7) % ROWS;
  memcpy(wanted, rows, 3 * sizeof *rows);
  memcpy(wanted + 3, rows, ROWS * sizeof *rows);
  check_changed(mirrored, NULL, 0);
  must(store_update(shelf.store, 0, 1, 1, rows, NULL, grad, 3, &failure));
  check_changed(mirrored, wanted, 3);
  must(store_update(shelf.store, 0, 1, 1, rows, NULL, grad, 0, &failure));
  check_changed(mirrored, wanted, 3);
  must(store_will_write(shelf.store, 0, rows, ROWS, &failure));
  check_changed(mirrored, wanted, ROWS + 3);
  must(store_update(shelf.store, 1, 1, 1, rows, NULL, grad, ROWS, &failure));
  check_changed(&shelf.store->tables[1], NULL, 0);
  ck_assert_ptr_null(shelf.store->tables[1].changed.data);
  close_shelf(&shelf);
}
END_TEST

/* Nothing has changed then, and the list still says what it said. */
START_TEST(an_update_that_cannot_be_announced_is_not_made) {
  enum { ROWS = 2000 };
  sbag_table_options_t table = sbag_table_options_default("table", ROWS, 1);
  int64_t *rows = arena_ints(&arena, ROWS / 2);
  double *grad = arena_doubles(&arena, ROWS / 2);
  for (int64_t i = 0; i < ROWS / 2; i++) rows[i] = i;
  for (int64_t i = 0; i < ROWS / 2; i++) grad[i] = 1;
  table.replicated = 1;
  shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F64, 1);
  const store_table_t *made = &shelf.store->tables[0];
  must(store_update(shelf.store, 0, 1, 1, rows, NULL, grad, 2, &failure));
  double before = ((const double *)made->weight)[0];
  mem_fail_at(mem, 1);
  ck_assert_int_eq(store_update(shelf.store, 0, 1, 1, rows, NULL, grad, ROWS / 2, &failure), SBAG_ERR_MEMORY);
  ck_assert(is(((const double *)made->weight)[0], before) && made->step == 1);
  check_changed(made, rows, 2);
  must(store_update(shelf.store, 0, 1, 1, rows + 2, NULL, grad, ROWS / 2 - 2, &failure));
  check_changed(made, rows, ROWS / 2);
  close_shelf(&shelf);
}
END_TEST

START_TEST(renorm_is_by_the_tables_own_norm) {
  sbag_table_options_t table = sbag_table_options_default("table", 4, 2);
  int64_t rows[] = {1};
  table.init = SBAG_INIT_CONSTANT;
  table.init_a = 3;
  table.has_max_norm = 1;
  table.max_norm = 1.5;
  table.norm_type = INFINITY;
  shelf_t shelf = open_shelf(&table, 1, 0, SBAG_F64, 1);
  const double *weight = shelf.store->tables[0].weight;
  must(store_renorm(shelf.store, 0, rows, 1, &failure));
  ck_assert(is(weight[0], 3) && is(weight[1], 3));
  for (int i = 2; i < 4; i++) ck_assert_double_eq_tol(weight[i], 1.5, 1e-6);
  close_shelf(&shelf);
}
END_TEST

/* ---- out of memory ---- */

START_TEST(out_of_memory_at_every_allocation) {
  float given[5 * 3] = {0};
  sbag_table_options_t tables[TABLES_MAX];
  shelf_t shelf;
  int64_t n = 1, before = mem_stats(mem).live_bytes;
  for (int t = 0; t < TABLES_MAX; t++) tables[t] = sbag_table_options_default("table", 9, 3);
  tables[1].optimizer = sbag_optimizer_options_default(SBAG_OPT_ADAM);
  tables[2].replicated = 1;
  tables[3].freeze = 1;
  tables[4].optimizer = sbag_optimizer_options_default(SBAG_OPT_PARTIAL_ROWWISE_ADAM);
  tables[5] = sbag_table_options_from_pretrained("given", 5, 3, given);
  for (;; n++) {
    shelf = open_plan(tables, TABLES_MAX);
    mem_fail_at(mem, n);
    sbag_code_t code = try_store(tables, TABLES_MAX, 0, SBAG_F32, 1, &shelf);
    mem_fail_at(mem, 0);
    if (code == SBAG_OK) break;
    ck_assert_int_eq(code, SBAG_ERR_MEMORY);
    ck_assert_msg(strstr(failure.message, "cannot allocate") != NULL, "%s", failure.message);
    ck_assert_ptr_null(shelf.store);
    plan_destroy(&shelf.plan);
    ck_assert_int_eq(mem_stats(mem).live_bytes, before);
  }
  /* The store, its tables, and a name, a weight for each of 6, and what the optimizers and the mirror add. */
  ck_assert_int_ge(n, 2 + 6 * 2 + 4 + 1 + 2);
  close_shelf(&shelf);
}
END_TEST

/* A name of any length fits the message. */
START_TEST(what_has_no_memory_is_named) {
  char name[300];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  sbag_table_options_t table = sbag_table_options_default(name, (int64_t)1 << 55, 1 << 12);
  shelf_t shelf = open_plan(&table, 1);
  ck_assert_int_eq(try_store(&table, 1, 0, SBAG_F32, 1, &shelf), SBAG_ERR_MEMORY);
  ck_assert_msg(strstr(failure.message, "nnn") != NULL && strstr(failure.message, "weight") != NULL, "%s",
                failure.message);
  plan_destroy(&shelf.plan);
}
END_TEST

Suite *store_suite(void) {
  Suite *suite = suite_create("store");
  TCase *test_case = tcase_create("store");
  tcase_set_timeout(test_case, 60);
  tcase_add_checked_fixture(test_case, open_kernel, close_kernel);
  tcase_add_test(test_case, states_have_their_shapes);
  tcase_add_test(test_case, what_is_not_trained_keeps_no_state);
  tcase_add_test(test_case, mirrors_serve_what_only_updates_change);
  tcase_add_test(test_case, pretrained_rows_go_to_their_owners);
  tcase_add_test(test_case, padding_rows_start_as_zero);
  tcase_add_loop_test(test_case, lagging_rows_are_those_of_every_step, 0, 3);
  tcase_add_test(test_case, the_log_rolls_over_when_full);
  tcase_add_test(test_case, catching_up_is_by_row);
  tcase_add_test(test_case, a_step_count_is_set);
  tcase_add_test(test_case, mirrors_hear_of_every_write);
  tcase_add_test(test_case, an_update_that_cannot_be_announced_is_not_made);
  tcase_add_test(test_case, renorm_is_by_the_tables_own_norm);
  tcase_add_test(test_case, out_of_memory_at_every_allocation);
  tcase_add_test(test_case, what_has_no_memory_is_named);
  suite_add_tcase(suite, test_case);
  return suite;
}
