/* The kernels' ops on values and rows: gathers, initial values, max_norm, updates; and their memory. */
#include "kernel_case.h"

#include <math.h>
#include <string.h>

Suite *kernel_rows_suite(void);

enum { ROUNDS = 60 };

static const sbag_dtype_t dtypes[] = {SBAG_F32, SBAG_F64};

static void check_reals(const char *what, const double *got, const double *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(kernel_same(got[i], wanted[i]), "%s[%lld] is %.17g, not %.17g", what, (long long)i, got[i],
                  wanted[i]);
}

/* The index of a loop test: a kernel and a dtype. */
static sbag_dtype_t open_case(kernel_case_t *c, int i) {
  kernel_case_open(c, i / 2);
  return dtypes[i % 2];
}

/* ---- memory ---- */

START_TEST(memory_of_every_kind) {
  kernel_case_t c;
  kernel_case_open(&c, _i);
  for (int kind = 0; kind < MEMORY_KINDS; kind++) {
    sbag_status_t status = {0};
    const char text[] = "from host to host by way of the kernel's memory";
    char back[sizeof text] = "";
    void *block = NULL;
    ck_assert_int_eq(c.ops->alloc(c.kernel, (kernel_memory_t)kind, sizeof text, "test", &block, &status),
                     SBAG_OK);
    copy_part_t in[] = {{block, text, 5}, {(char *)block + 5, text + 5, sizeof text - 5}, {NULL, NULL, 0}};
    copy_part_t out = {back, block, sizeof text};
    c.ops->copy(c.kernel, NULL, in, 3);
    c.ops->copy(c.kernel, NULL, &out, 1);
    ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, &status), SBAG_OK);
    ck_assert_str_eq(back, text);
    c.ops->release(c.kernel, (kernel_memory_t)kind, block);
    block = NULL;
    if (c.ops->device != SBAG_DEVICE_CPU)
      continue; /* its memory is not counted, and cannot be made to fail */
    mem_fail_at(c.mem, 1);
    ck_assert_int_eq(c.ops->alloc(c.kernel, (kernel_memory_t)kind, 10, "the thing", &block, &status),
                     SBAG_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(status.message, "the thing"));
    ck_assert_ptr_null(block);
  }
  kernel_case_close(&c);
}
END_TEST

START_TEST(buffers_grow_and_stay) {
  kernel_case_t c;
  kernel_case_open(&c, _i);
  kernel_buffer_t buffer = {.kind = MEMORY_DEVICE};
  sbag_status_t status = {0};
  ck_assert_int_eq(kernel_buffer_reserve(c.kernel, &buffer, 0, "test", &status), SBAG_OK);
  ck_assert_ptr_nonnull(buffer.data);
  ck_assert_int_eq(kernel_buffer_reserve(c.kernel, &buffer, 10000, "test", &status), SBAG_OK);
  ck_assert_uint_ge(buffer.bytes, 10000);
  void *data = buffer.data;
  int64_t allocations = mem_stats(c.mem).alloc_count;
  for (size_t bytes = 0; bytes <= 11000; bytes += 1000)
    ck_assert_int_eq(kernel_buffer_reserve(c.kernel, &buffer, bytes, "test", &status), SBAG_OK);
  ck_assert_ptr_eq(buffer.data, data); /* the headroom is a half */
  ck_assert_int_eq(mem_stats(c.mem).alloc_count, allocations);
  if (c.ops->device == SBAG_DEVICE_CPU) {
    mem_fail_at(c.mem, 1);
    ck_assert_int_eq(kernel_buffer_reserve(c.kernel, &buffer, 1000000, "test", &status), SBAG_ERR_MEMORY);
    ck_assert(buffer.data == NULL && buffer.bytes == 0);
  }
  ck_assert_int_eq(kernel_buffer_reserve(c.kernel, &buffer, SIZE_MAX, "test", &status), SBAG_ERR_MEMORY);
  ck_assert_int_eq(kernel_buffer_reserve(c.kernel, &buffer, 10, "test", &status), SBAG_OK);
  kernel_buffer_free(c.kernel, &buffer);
  ck_assert(buffer.data == NULL && buffer.bytes == 0);
  kernel_case_close(&c);
}
END_TEST

START_TEST(a_kernel_without_memory_for_itself) {
  mem_t *mem = NULL;
  kernel_t *kernel = NULL;
  ck_assert_int_eq(mem_create(&mem, NULL), SBAG_OK);
  mem_fail_at(mem, 1);
  ck_assert_int_eq(kernel_cpu_create(mem, &(kernel_cpu_options_t){.threads = 1}, &kernel, NULL),
                   SBAG_ERR_MEMORY);
  ck_assert_ptr_null(kernel);
  kernel_destroy(&kernel);
  mem_destroy(&mem);
}
END_TEST

/* ---- moving values ---- */

START_TEST(gather_scatter_and_fill) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(1, number);
    int64_t size = draw_between(&draw, 1, 50), count = draw_between(&draw, 0, 80);
    int64_t places = draw_between(&draw, 0, size), *order = kernel_draw_order(&c, &draw, size);
    int64_t *index = arena_ints(&c.arena, count);
    double *from = kernel_draw_values(&c, &draw, size), *wanted = arena_doubles(&c.arena, count);
    double *onto = kernel_draw_values(&c, &draw, size);
    for (int64_t i = 0; i < count; i++) wanted[i] = from[index[i] = draw_below(&draw, size)];
    void *source = kernel_put_real(&c, dtype, from, size), *to = kernel_put_real(&c, dtype, onto, size);
    void *gathered = kernel_new(&c, count, kernel_dtype_bytes(dtype));
    c.ops->gather_real(c.kernel, NULL, dtype, source, kernel_put_ints(&c, index, count), count, gathered);
    check_reals("gathered", kernel_get_real(&c, dtype, gathered, count), wanted, count);
    c.ops->scatter_real(c.kernel, NULL, dtype, source, kernel_put_ints(&c, order, places), places, to);
    for (int64_t i = 0; i < places; i++) onto[order[i]] = from[i];
    check_reals("scattered", kernel_get_real(&c, dtype, to, size), onto, size);
    c.ops->fill_real(c.kernel, NULL, dtype, to, places, 0.1);
    for (int64_t i = 0; i < places; i++) onto[i] = kernel_round(dtype, 0.1);
    check_reals("filled", kernel_get_real(&c, dtype, to, size), onto, size);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(scattered_rows_leave_the_others) {
  static const int64_t dims[] = {1, 5, 1000};
  for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
    enum { ROWS = 9, COUNT = 4 };
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(2, d);
    int64_t dim = dims[d], size = ROWS * dim, *rows = kernel_draw_order(&c, &draw, ROWS);
    double *values = kernel_draw_values(&c, &draw, COUNT * dim);
    double *weight = kernel_draw_values(&c, &draw, size);
    void *to = kernel_put_real(&c, dtype, weight, size);
    c.ops->scatter_rows(c.kernel, NULL, dtype, SBAG_STORAGE_FULL,
                        kernel_put_real(&c, dtype, values, COUNT * dim), dim,
                        kernel_put_ints(&c, rows, COUNT), COUNT, to);
    for (int i = 0; i < COUNT; i++)
      memcpy(weight + rows[i] * dim, values + i * dim, (size_t)dim * sizeof *weight);
    check_reals("weight", kernel_get_real(&c, dtype, to, size), weight, size);
    kernel_case_close(&c);
  }
}
END_TEST

/* What adding to zero would lose too: the sign of a zero, and which NaN it is. */
START_TEST(gathered_rows_keep_their_bits) {
  static const int64_t dims[] = {1, 5, 8, 1000};
  for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
    enum { ROWS = 9, COUNT = 14 };
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(3, d);
    size_t bytes = (size_t)dims[d] * kernel_dtype_bytes(dtype);
    unsigned char *weight = arena_alloc(&c.arena, ROWS, bytes);
    int64_t rows[COUNT];
    for (size_t i = 0; i < ROWS * bytes; i++) weight[i] = (unsigned char)draw_below(&draw, 256);
    memset(weight, 0xff, kernel_dtype_bytes(dtype));
    for (int i = 0; i < COUNT; i++) rows[i] = draw_below(&draw, ROWS);
    rows[0] = 0;
    void *to = kernel_new(&c, COUNT, bytes);
    c.ops->gather_rows(c.kernel, NULL, dtype, SBAG_STORAGE_FULL, kernel_put(&c, weight, ROWS, bytes), dims[d],
                       kernel_put_ints(&c, rows, COUNT), COUNT, to);
    const unsigned char *got = kernel_get(&c, to, COUNT, bytes);
    for (int i = 0; i < COUNT; i++)
      ck_assert_msg(memcmp(got + (size_t)i * bytes, weight + (size_t)rows[i] * bytes, bytes) == 0,
                    "row %d of dim %lld", i, (long long)dims[d]);
    kernel_case_close(&c);
  }
}
END_TEST

/* Features with weights, without any, and without entries. */
START_TEST(edges_take_their_entries_weights) {
  enum { FEATURES = 4 };
  static const int64_t first[FEATURES + 1] = {0, 3, 3, 7, 9};
  static const int64_t entry[] = {0, 2, 3, 5, 6, 7, 8};
  static const double first_weights[] = {0.5, 99, -2}, last_weights[] = {3, 0.125};
  static const double wanted[] = {0.5, -2, 1, 1, 1, 3, 0.125};
  kernel_case_t c;
  sbag_dtype_t dtype = open_case(&c, _i);
  edges_feature_t features[FEATURES] = {{.num_embeddings = 1}};
  void *weight = kernel_new(&c, 7, kernel_dtype_bytes(dtype));
  features[0].bags.per_sample_weights = kernel_put_real(&c, dtype, first_weights, 3);
  features[3].bags.per_sample_weights = kernel_put_real(&c, dtype, last_weights, 2);
  c.ops->edge_weights(c.kernel, NULL, dtype, features, FEATURES, first, kernel_put_ints(&c, entry, 7), 7,
                      weight);
  check_reals("weight", kernel_get_real(&c, dtype, weight, 7), wanted, 7);
  kernel_case_close(&c);
}
END_TEST

/* Exactly: many small rows are not lost beside a large one, in whatever order and in whatever pieces they
 * come. */
START_TEST(squares_of_rows_are_summed_exactly) {
  enum { ROWS = 1001, WIDE = 3 };
  kernel_case_t c;
  sbag_dtype_t dtype = open_case(&c, _i);
  double *values = arena_doubles(&c.arena, ROWS * WIDE);
  exact_sum_t whole, pieces;
  int64_t non_finite = 0;
  for (int i = 0; i < ROWS * WIDE; i++) values[i] = i < WIDE ? 1 << 30 : 0.125;
  const char *rows = kernel_put_real(&c, dtype, values, ROWS * WIDE);
  size_t row_bytes = WIDE * kernel_dtype_bytes(dtype);
  exact_sum_clear(&whole);
  exact_sum_clear(&pieces);
  c.ops->norm_squared(c.kernel, NULL, dtype, rows, ROWS, WIDE, &whole, &non_finite);
  for (int64_t first = ROWS - 7; first >= 0; first -= 7)
    c.ops->norm_squared(c.kernel, NULL, dtype, rows + (size_t)first * row_bytes, 7, WIDE, &pieces,
                        &non_finite);
  ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
  ck_assert_int_eq(non_finite, 0);
  ck_assert(exact_sum_value(&whole) == exact_sum_value(&pieces));
  ck_assert(exact_sum_value(&whole) == 3 * 1152921504606846976.0 + 1000 * 3 * 0.015625);
  values[5] = INFINITY;
  c.ops->norm_squared(c.kernel, NULL, dtype, kernel_put_real(&c, dtype, values, ROWS * WIDE), ROWS, WIDE,
                      &whole, &non_finite);
  ck_assert_int_eq(c.ops->stream_sync(c.kernel, NULL, NULL), SBAG_OK);
  ck_assert_int_eq(non_finite, 1);
  kernel_case_close(&c);
}
END_TEST

/* ---- initial values ---- */

/* The whole table, from shards of a plan. */
static double *init_table(kernel_case_t *c, sbag_dtype_t dtype, const sbag_table_options_t *table, int shards,
                          const int64_t *zero_rows, int zero_count) {
  int64_t dim = table->embedding_dim;
  double *whole = arena_doubles(&c->arena, table->num_embeddings * dim);
  plan_t *plan = NULL;
  ck_assert_int_eq(plan_create(c->mem, shards, table, 1, &plan, NULL), SBAG_OK);
  for (int s = 0; s < shards; s++) {
    int64_t rows = plan_shard_rows(&plan->tables[0], s);
    init_task_t task = {.plan = &plan->tables[0],
                        .shard = s,
                        .rows = rows,
                        .dim = dim,
                        .kind = table->init,
                        .a = table->init_a,
                        .b = table->init_b,
                        .key = random_key(table->seed, table->name),
                        .zero_rows = zero_rows,
                        .zero_count = zero_count,
                        .weight = kernel_new(c, rows * dim, kernel_dtype_bytes(dtype))};
    c->ops->init(c->kernel, NULL, dtype, &task);
    const double *part = kernel_get_real(c, dtype, task.weight, rows * dim);
    for (int64_t i = 0; i < rows; i++)
      memcpy(whole + plan_row(task.plan, s, i) * dim, part + i * dim, (size_t)dim * sizeof *part);
  }
  plan_destroy(&plan);
  return whole;
}

static sbag_table_options_t init_options(sbag_init_t kind, int64_t rows, int64_t dim) {
  sbag_table_options_t table = sbag_table_options_default("table", rows, dim);
  table.init = kind;
  table.init_a = kind == SBAG_INIT_UNIFORM ? -3 : 0.5;
  table.init_b = 2;
  table.seed = 12;
  return table;
}

START_TEST(initial_values_do_not_know_shards) {
  static const int64_t zero_rows[] = {5, 0, 36};
  static const int64_t dims[] = {1, 4, 7, 1000};
  for (int kind = 0; kind < 4; kind++)
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
      kernel_case_t c;
      sbag_dtype_t dtype = open_case(&c, _i);
      sbag_table_options_t table = init_options((sbag_init_t)kind, 37, dims[d]);
      const double *one = init_table(&c, dtype, &table, 1, zero_rows, 3);
      for (int layout = 0; layout < 3; layout++) {
        table.layout = (sbag_layout_t)layout;
        check_reals("value", init_table(&c, dtype, &table, 4, zero_rows, 3), one, 37 * dims[d]);
      }
      for (int64_t row = 0; row < 37; row++)
        for (int64_t col = 0; col < dims[d]; col++) {
          double value = one[row * dims[d] + col];
          ck_assert((value < 0 || value > 0) == (row != 0 && row != 5 && row != 36));
        }
      kernel_case_close(&c);
    }
}
END_TEST

START_TEST(initial_values_follow_seed_and_name) {
  kernel_case_t c;
  sbag_dtype_t dtype = open_case(&c, _i);
  sbag_table_options_t table = init_options(SBAG_INIT_UNIFORM, 10, 10), other = table, named = table;
  other.seed++;
  named.name = "another";
  const double *values = init_table(&c, dtype, &table, 1, NULL, 0);
  const double *seeded = init_table(&c, dtype, &other, 1, NULL, 0);
  const double *renamed = init_table(&c, dtype, &named, 1, NULL, 0);
  for (int i = 0; i < 100; i++)
    ck_assert(!kernel_same(values[i], seeded[i]) && !kernel_same(values[i], renamed[i]));
  for (int i = 0; i < 100; i++) /* and with row and column */
    for (int j = 0; j < i; j++) ck_assert(!kernel_same(values[i], values[j]));
  kernel_case_close(&c);
}
END_TEST

/* Mean, variance and the share within one deviation, within 5 standard errors of a sample of this size. */
static void check_moments(const double *values, int64_t count, double mean, double variance, double share,
                          double kurtosis) {
  double sum = 0, squares = 0, within = 0, n = (double)count, deviation = sqrt(variance);
  for (int64_t i = 0; i < count; i++) sum += values[i];
  for (int64_t i = 0; i < count; i++) squares += (values[i] - mean) * (values[i] - mean);
  for (int64_t i = 0; i < count; i++) within += fabs(values[i] - mean) < deviation;
  ck_assert_double_eq_tol(sum / n, mean, 5 * deviation / sqrt(n));
  ck_assert_double_eq_tol(squares / n, variance, 5 * variance * sqrt((kurtosis - 1) / n));
  ck_assert_double_eq_tol(within / n, share, 5 * sqrt(share * (1 - share) / n));
}

START_TEST(initial_values_are_distributed_as_named) {
  enum { ROWS = 5000, DIM = 6, COUNT = ROWS * DIM };
  static const double share_normal = 0.6826894921, share_uniform = 0.5773502692;
  kernel_case_t c;
  sbag_dtype_t dtype = open_case(&c, _i);
  sbag_table_options_t table = init_options(SBAG_INIT_NORMAL, ROWS, DIM);
  const double *values = init_table(&c, dtype, &table, 1, NULL, 0);
  check_moments(values, COUNT, 0.5, 4, share_normal, 3);
  table = init_options(SBAG_INIT_UNIFORM, ROWS, DIM);
  values = init_table(&c, dtype, &table, 1, NULL, 0);
  check_moments(values, COUNT, -0.5, 25.0 / 12, share_uniform, 1.8);
  for (int i = 0; i < COUNT; i++) ck_assert(values[i] >= -3 && values[i] <= 2);
  table = init_options(SBAG_INIT_UNIFORM_DLRM, ROWS, DIM);
  values = init_table(&c, dtype, &table, 1, NULL, 0);
  check_moments(values, COUNT, 0, 1.0 / (3 * ROWS), share_uniform, 1.8);
  for (int i = 0; i < COUNT; i++) ck_assert(fabs(values[i]) <= kernel_round(dtype, 1 / sqrt(ROWS)));
  table = init_options(SBAG_INIT_CONSTANT, ROWS, DIM);
  values = init_table(&c, dtype, &table, 1, NULL, 0);
  for (int i = 0; i < COUNT; i++) ck_assert(kernel_same(values[i], 0.5));
  kernel_case_close(&c);
}
END_TEST

/* ---- max_norm ---- */

static double plain_norm(const double *row, int64_t dim, double p) {
  double sum = 0;
  for (int64_t col = 0; col < dim; col++) {
    double size = fabs(row[col]);
    if (isinf(p))
      sum = fmax(sum, size);
    else if (p > 0)
      sum += pow(size, p);
    else
      sum += size > 0;
  }
  return isinf(p) || !(p > 0) ? sum : pow(sum, 1 / p);
}

static const double norm_types[] = {0, 0.5, 1, 2, 3, INFINITY};

/* Distinct rows in any order; in place, and as copies, which have the same bits. */
START_TEST(renorm_scales_long_rows_only) {
  for (uint64_t number = 0; number < 4 * ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(7, number);
    int64_t rows = draw_between(&draw, 1, 10), dim = draw_one_in(&draw, 9) ? 1000 : draw_between(&draw, 1, 9);
    int64_t size = rows * dim, count = draw_between(&draw, 0, rows);
    int64_t *order = kernel_draw_order(&c, &draw, rows);
    double p = norm_types[draw_below(&draw, 6)], *weight = kernel_draw_values(&c, &draw, size);
    double max_norm = plain_norm(weight, dim, p) * (draw_one_in(&draw, 3) ? 1.001 : 0.7) + 0.01;
    double tolerance = dtype == SBAG_F64 ? 1e-12 : 1e-5;
    void *table = kernel_put_real(&c, dtype, weight, size), *list = kernel_put_ints(&c, order, count);
    void *copies = kernel_new(&c, count * dim, kernel_dtype_bytes(dtype));
    c.ops->renorm(c.kernel, NULL, dtype, SBAG_STORAGE_FULL, table, dim, list, count, max_norm, p, copies);
    check_reals("the table", kernel_get_real(&c, dtype, table, size), weight, size);
    const double *copied = kernel_get_real(&c, dtype, copies, count * dim);
    c.ops->renorm(c.kernel, NULL, dtype, SBAG_STORAGE_FULL, table, dim, list, count, max_norm, p, NULL);
    const double *got = kernel_get_real(&c, dtype, table, size);
    for (int64_t i = 0; i < rows; i++) {
      const double *row = weight + order[i] * dim, *out = got + order[i] * dim;
      double norm = plain_norm(row, dim, p);
      if (i < count) check_reals("copy", copied + i * dim, out, dim);
      if (i >= count || norm <= max_norm) {
        check_reals("a row left alone", out, row, dim);
        continue;
      }
      double scale = max_norm / (norm + 1e-7);
      for (int64_t col = 0; col < dim; col++)
        ck_assert_double_eq_tol(out[col], row[col] * scale, tolerance * (1 + fabs(row[col])));
    }
    kernel_case_close(&c);
  }
}
END_TEST

/* A norm that is exactly the limit stays; a row with NaN stays; the limit 0 leaves zeros. */
START_TEST(renorm_at_its_edges) {
  enum { DIM = 2, ROWS = 3 };
  static const double weight[ROWS * DIM] = {3, -4, NAN, 100, 6, 8};
  static const int64_t all[] = {0, 1, 2};
  for (size_t n = 0; n < sizeof norm_types / sizeof *norm_types; n++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    void *table = kernel_put_real(&c, dtype, weight, (int64_t)ROWS * DIM);
    void *list = kernel_put_ints(&c, all, ROWS);
    static const double exact[] = {2, 13.928203230275509, 7, 5, 4.497941445275415, 4};
    double limit = kernel_round(dtype, exact[n]) * (n == 1 || n == 4 ? 1 + 1e-6 : 1);
    c.ops->renorm(c.kernel, NULL, dtype, SBAG_STORAGE_FULL, table, DIM, list, ROWS, limit, norm_types[n],
                  NULL);
    const double *got = kernel_get_real(&c, dtype, table, (int64_t)ROWS * DIM);
    check_reals("at the limit", got, weight, DIM);
    if (norm_types[n] > 0) check_reals("NaN", got + 2, weight + 2, DIM);
    ck_assert((got[4] < 6) == (norm_types[n] > 0));
    c.ops->renorm(c.kernel, NULL, dtype, SBAG_STORAGE_FULL, table, DIM, list, 1, 0, norm_types[n], NULL);
    got = kernel_get_real(&c, dtype, table, DIM);
    ck_assert(fabs(got[0]) <= 0 && fabs(got[1]) <= 0);
    kernel_case_close(&c);
  }
}
END_TEST

/* ---- updates ---- */

/* One table under an optimizer, in the kernel's memory and on the host for the scalar reference. */
typedef struct update_pair {
  optimizer_rows_t device, host;
  optimizer_info_t info;
  int64_t rows, dim;
} update_pair_t;

static void put_pair(kernel_case_t *c, draw_t *draw, const sbag_optimizer_options_t *options,
                     sbag_dtype_t dtype, update_pair_t *pair) {
  size_t bytes = kernel_dtype_bytes(dtype);
  int64_t size = pair->rows * pair->dim;
  pair->info = optimizer_info(options);
  pair->device = (optimizer_rows_t){.options = options, .dtype = dtype, .dim = pair->dim};
  pair->device.weight = kernel_put_real(c, dtype, kernel_draw_values(c, draw, size), size);
  pair->host = pair->device;
  pair->host.weight = kernel_get(c, pair->device.weight, size, bytes);
  for (int s = 0; s < pair->info.state_count; s++) {
    int64_t count = pair->info.states[s].row_wise ? pair->rows : size;
    void *state = kernel_new(c, count, bytes);
    c->ops->fill_real(c->kernel, NULL, dtype, state, count, pair->info.states[s].initial);
    pair->device.states[s] = state;
    pair->host.states[s] = kernel_get(c, state, count, bytes);
  }
  if (!pair->info.moves_untouched) return;
  pair->host.last_step = arena_alloc(&c->arena, pair->rows, sizeof *pair->host.last_step);
  pair->host.lr_log = arena_doubles(&c->arena, OPTIMIZER_LR_LOG);
  pair->device.last_step = kernel_put(c, pair->host.last_step, pair->rows, sizeof *pair->host.last_step);
  pair->device.lr_log = kernel_put(c, pair->host.lr_log, OPTIMIZER_LR_LOG, sizeof(double));
}

/* Both sides' update of the step, but for its gradients. */
static void begin_step(kernel_case_t *c, draw_t *draw, update_pair_t *pair, int64_t step,
                       optimizer_update_t *host, optimizer_update_t *device) {
  int64_t count = draw_between(draw, 0, pair->rows), *rows = kernel_draw_order(c, draw, pair->rows);
  *host = (optimizer_update_t){.at = pair->host,
                               .step = step,
                               .lr = 0.05 / (double)step,
                               .grad_scale = 0.5,
                               .count = count,
                               .rows = rows};
  *device = *host;
  device->at = pair->device;
  device->rows = kernel_put_ints(c, rows, count);
  if (pair->host.lr_log == NULL) return;
  double *log = arena_doubles(&c->arena, step);
  memcpy(log, pair->host.lr_log, (size_t)(step - 1) * sizeof *log);
  log[step - 1] = host->lr;
  copy_part_t parts[] = {
      {(void *)(uintptr_t)pair->device.lr_log, log, step * (int64_t)sizeof *log},
      {(void *)(uintptr_t)pair->host.lr_log, log, step * (int64_t)sizeof *log},
  };
  c->ops->copy(c->kernel, NULL, parts, 2);
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
}

static void step_pair(kernel_case_t *c, draw_t *draw, update_pair_t *pair, int64_t step) {
  optimizer_update_t update, on_device;
  begin_step(c, draw, pair, step, &update, &on_device);
  int64_t *touched = kernel_draw_segments(c, draw, update.count, 2), size = update.count * pair->dim;
  if (draw_one_in(draw, 2)) {
    update.touched = touched;
    on_device.touched = kernel_put_ints(c, touched, update.count + 1);
  }
  on_device.grad = kernel_put_real(c, pair->host.dtype, kernel_draw_values(c, draw, size), size);
  update.grad = kernel_get(c, on_device.grad, size, kernel_dtype_bytes(pair->host.dtype));
  c->ops->update(c->kernel, NULL, &on_device);
  optimizer_update_scalar(&update);
}

static void check_same_memory(kernel_case_t *c, const char *what, const void *device, const void *host,
                              int64_t count, size_t bytes) {
  ck_assert_msg(memcmp(kernel_get(c, device, count, bytes), host, (size_t)count * bytes) == 0,
                "%s: not the scalar reference's", what);
}

static void check_pair(kernel_case_t *c, const update_pair_t *pair) {
  int64_t size = pair->rows * pair->dim;
  size_t bytes = kernel_dtype_bytes(pair->host.dtype);
  check_same_memory(c, "weight", pair->device.weight, pair->host.weight, size, bytes);
  for (int s = 0; s < pair->info.state_count; s++)
    check_same_memory(c, pair->info.states[s].name, pair->device.states[s], pair->host.states[s],
                      pair->info.states[s].row_wise ? pair->rows : size, bytes);
}

/* Whatever a kernel does, it does to the bits of the scalar reference (which test_optimizer.c holds against
 * the formulas). */
START_TEST(updates_and_catching_up_are_the_references) {
  for (int kind = 0; kind < SBAG_OPT_COUNT; kind++)
    for (uint64_t number = 0; number < 4; number++) {
      kernel_case_t c;
      sbag_dtype_t dtype = open_case(&c, _i);
      draw_t draw = draw_start(8 + (uint64_t)kind, number);
      update_pair_t pair = {.rows = 6, .dim = number == 3 ? 1000 : draw_between(&draw, 1, 20)};
      sbag_optimizer_options_t options = sbag_optimizer_options_default((sbag_optimizer_t)kind);
      if (number > 1) options.momentum = kind == SBAG_OPT_SGD ? 0.9 : options.momentum;
      put_pair(&c, &draw, &options, dtype, &pair);
      for (int64_t step = 1; step <= 5; step++) step_pair(&c, &draw, &pair, step);
      if (pair.info.moves_untouched) {
        c.ops->catch_up(c.kernel, NULL, &pair.device, 5, pair.rows, NULL);
        optimizer_catch_up_scalar(&pair.host, 5, pair.rows, NULL);
        check_same_memory(&c, "last steps", pair.device.last_step, pair.host.last_step, pair.rows,
                          sizeof *pair.host.last_step);
      }
      check_pair(&c, &pair);
      kernel_case_close(&c);
    }
}
END_TEST

/* The gradients of a step as sums of terms, on the device, and plainly added up for the host. */
static reduce_task_t draw_sums(kernel_case_t *c, draw_t *draw, sbag_dtype_t dtype, int64_t dim, int64_t count,
                               int64_t **touched, double **grad) {
  enum { VECTORS = 11, LONG = 3000 };
  int64_t *begin = kernel_draw_segments(c, draw, count, draw_one_in(draw, 2) ? 3 : 12);
  int64_t longer = draw_one_in(draw, 3) && count > 0 ? draw_between(draw, 1, count) : count + 1;
  int64_t more = draw_between(draw, 100, 200) + (dim < 9 ? LONG : 0); /* terms of one segment */
  for (int64_t s = longer; s <= count; s++) begin[s] += more;
  int64_t terms = begin[count], size = VECTORS * dim, *term = arena_ints(&c->arena, terms), *select = NULL;
  int64_t *order = draw_one_in(draw, 2) ? kernel_draw_order(c, draw, terms) : NULL, *at = NULL,
          *winner = NULL;
  double *src = kernel_draw_values(c, draw, size), *scale = NULL;
  reduce_task_t task = {.op = REDUCE_SUM, .dim = dim, .segment_end = count, .stride = dim, .out_stride = dim};
  for (int64_t i = 0; i < terms; i++) term[i] = draw_below(draw, VECTORS);
  if (draw_one_in(draw, 2))
    task.scale = kernel_put_real(c, dtype, scale = kernel_draw_values(c, draw, terms), terms);
  if (draw_one_in(draw, 3)) {
    select = arena_ints(&c->arena, terms), at = arena_ints(&c->arena, terms),
    winner = arena_ints(&c->arena, size);
    for (int64_t i = 0; i < terms; i++) select[i] = draw_between(draw, -1, 2), at[i] = term[i] * dim;
    for (int64_t i = 0; i < size; i++) winner[i] = draw_between(draw, -1, 2);
    task.select = kernel_put_ints(c, select, terms);
    task.select_at = kernel_put_ints(c, at, terms);
    task.winner = kernel_put_ints(c, winner, size);
  }
  *touched = begin;
  *grad = arena_doubles(&c->arena, count * dim);
  for (int64_t s = 0; s < count; s++)
    for (int64_t t = begin[s]; t < begin[s + 1]; t++)
      for (int64_t col = 0, i = order != NULL ? order[t] : t; col < dim; col++)
        if (select == NULL || select[i] < 0 || winner[at[i] + col] == select[i])
          (*grad)[s * dim + col] += (scale != NULL ? scale[i] : 1) * src[term[i] * dim + col];
  task.begin = kernel_put_ints(c, begin, count + 1);
  task.order = order != NULL ? kernel_put_ints(c, order, terms) : NULL;
  task.term = kernel_put_ints(c, term, terms);
  task.src = kernel_put_real(c, dtype, src, size);
  task.out = kernel_new(c, count * dim, kernel_dtype_bytes(dtype));
  return task;
}

/* Two tables in one call: short and long sums, some of selected columns, and rows without a term. */
START_TEST(updates_by_sums_are_updates_by_gradients) {
  for (int kind = 0; kind < SBAG_OPT_COUNT; kind++)
    for (uint64_t number = 0; number < 6; number++) {
      enum { TABLES = 2 };
      static const int64_t dims[] = {1, 4, 8, 9, 32, 70, 256, 300};
      kernel_case_t c;
      sbag_dtype_t dtype = open_case(&c, _i);
      draw_t draw = draw_start(40 + (uint64_t)kind, number);
      sbag_optimizer_options_t options = sbag_optimizer_options_default((sbag_optimizer_t)kind);
      if (number > 2) options.momentum = kind == SBAG_OPT_SGD ? 0.9 : options.momentum;
      update_pair_t pairs[TABLES];
      for (int t = 0; t < TABLES; t++) {
        pairs[t] = (update_pair_t){.rows = 9, .dim = dims[draw_below(&draw, 8)]};
        put_pair(&c, &draw, &options, dtype, &pairs[t]);
      }
      for (int64_t step = 1; step <= 3; step++) {
        optimizer_update_t updates[TABLES], hosts[TABLES];
        reduce_task_t sums[TABLES];
        for (int t = 0; t < TABLES; t++) {
          int64_t *touched;
          double *grad;
          begin_step(&c, &draw, &pairs[t], step, &hosts[t], &updates[t]);
          sums[t] = draw_sums(&c, &draw, dtype, pairs[t].dim, hosts[t].count, &touched, &grad);
          int64_t size = hosts[t].count * pairs[t].dim;
          hosts[t].touched = touched;
          hosts[t].grad =
              kernel_get(&c, kernel_put_real(&c, dtype, grad, size), size, kernel_dtype_bytes(dtype));
        }
        c.ops->update_sums(c.kernel, NULL, updates, sums, TABLES);
        for (int t = 0; t < TABLES; t++) optimizer_update_scalar(&hosts[t]);
      }
      for (int t = 0; t < TABLES; t++) check_pair(&c, &pairs[t]);
      kernel_case_close(&c);
    }
}
END_TEST

Suite *kernel_rows_suite(void) {
  Suite *suite = suite_create("kernel_rows");
  TCase *test_case = tcase_create("kernel_rows");
  tcase_set_timeout(test_case, 60); /* sanitizers, and kernels executed on a busy CPU */
  int kernels = kernel_case_count();
  tcase_add_loop_test(test_case, memory_of_every_kind, 0, kernels);
  tcase_add_loop_test(test_case, buffers_grow_and_stay, 0, kernels);
  tcase_add_test(test_case, a_kernel_without_memory_for_itself);
  tcase_add_loop_test(test_case, gather_scatter_and_fill, 0, 2 * kernels);
  tcase_add_loop_test(test_case, scattered_rows_leave_the_others, 0, 2 * kernels);
  tcase_add_loop_test(test_case, gathered_rows_keep_their_bits, 0, 2 * kernels);
  tcase_add_loop_test(test_case, edges_take_their_entries_weights, 0, 2 * kernels);
  tcase_add_loop_test(test_case, squares_of_rows_are_summed_exactly, 0, 2 * kernels);
  tcase_add_loop_test(test_case, initial_values_do_not_know_shards, 0, 2 * kernels);
  tcase_add_loop_test(test_case, initial_values_follow_seed_and_name, 0, 2 * kernels);
  tcase_add_loop_test(test_case, initial_values_are_distributed_as_named, 0, 2 * kernels);
  tcase_add_loop_test(test_case, renorm_scales_long_rows_only, 0, 2 * kernels);
  tcase_add_loop_test(test_case, renorm_at_its_edges, 0, 2 * kernels);
  tcase_add_loop_test(test_case, updates_and_catching_up_are_the_references, 0, 2 * kernels);
  tcase_add_loop_test(test_case, updates_by_sums_are_updates_by_gradients, 0, 2 * kernels);
  suite_add_tcase(suite, test_case);
  return suite;
}
