/* Quantised rows: FBGEMM's bytes, and every op on such rows against the same op on f32 rows of the values
 * that they are read as. */
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"
#include "kernel_case.h"

#include <math.h>
#include <string.h>

Suite *kernel_quant_suite(void);

static const sbag_storage_t storages[] = {SBAG_STORAGE_INT8, SBAG_STORAGE_INT4};

/* ---- the format ---- */

enum { FIXED = 6, FIXED_DIM = 8 };

static const float fixed_values[FIXED][FIXED_DIM] = {
    {0.1f, -0.2f, 0.3f, 1.0f, -1.0f, 0.5f, 0.25f, 0.75f},
    {3.7f, 3.7f, 3.7f, 3.7f, 3.7f, 3.7f, 3.7f, 3.7f},
    {0, 1e-9f, 2e-9f, 3e-9f, 4e-9f, 5e-9f, 6e-9f, 7e-9f},
    {1000.5f, -3, 7, 88, 1e-3f, 42, 500.25f, 999},
    {60000, 57000, 54000, 51000, 48000, 45000, 42000, 39000},
    {-0.7f, -0.6688f, -0.5752f, -0.4192f, -0.2008f, 0.08f, 0.4232f, 0.8288f}};

/* What torch.ops.fbgemm.FloatToFused8BitRowwiseQuantized and FloatToFusedNBitRowwiseQuantizedSBHalf(4) of
 * fbgemm-gpu-cpu 1.9.0 make of them. */
static const uint8_t fixed_int8[FIXED][FIXED_DIM + 8] = {
    {0x8c, 0x66, 0xa6, 0xff, 0x00, 0xbf, 0x9f, 0xdf, 0x81, 0x80, 0x00, 0x3c, 0x00, 0x00, 0x80, 0xbf},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xcd, 0xcc, 0x6c, 0x40},
    {0x00, 0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x1d, 0x76, 0xf1, 0x2d, 0x00, 0x00, 0x00, 0x00},
    {0xff, 0x00, 0x03, 0x17, 0x01, 0x0b, 0x80, 0xff, 0xdc, 0xdb, 0x7b, 0x40, 0x00, 0x00, 0x40, 0xc0},
    {0xff, 0xdb, 0xb6, 0x92, 0x6d, 0x49, 0x24, 0x00, 0xb5, 0xb4, 0xa4, 0x42, 0x00, 0x58, 0x18, 0x47},
    {0x00, 0x05, 0x15, 0x2f, 0x53, 0x82, 0xbb, 0xff, 0x2c, 0x74, 0xc4, 0x3b, 0x33, 0x33, 0x33, 0xbf}};
static const uint8_t fixed_int4[FIXED][FIXED_DIM / 2 + 4] = {
    {0x68, 0xfa, 0xb0, 0xd9, 0x44, 0x30, 0x00, 0xbc}, {0xff, 0xff, 0xff, 0xff, 0x6a, 0x03, 0x66, 0x43},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x3c, 0x00, 0x00}, {0x0f, 0x10, 0x10, 0xf8, 0x2e, 0x54, 0x00, 0xc2},
    {0xdf, 0x9b, 0x46, 0x02, 0x77, 0x65, 0xc3, 0x78}, {0x00, 0x31, 0x85, 0xfb, 0x86, 0x2e, 0x9a, 0xb9}};

START_TEST(bytes_are_fbgemms) {
  for (int i = 0; i < FIXED; i++) {
    uint8_t row[FIXED_DIM + 8];
    quant_row_scalar(SBAG_STORAGE_INT8, fixed_values[i], FIXED_DIM, row);
    ck_assert_msg(memcmp(row, fixed_int8[i], sizeof fixed_int8[i]) == 0, "int8 row %d", i);
    quant_row_scalar(SBAG_STORAGE_INT4, fixed_values[i], FIXED_DIM, row);
    ck_assert_msg(memcmp(row, fixed_int4[i], sizeof fixed_int4[i]) == 0, "int4 row %d", i);
  }
  ck_assert_uint_eq(kernel_row_bytes(SBAG_F32, SBAG_STORAGE_INT8, 7), 15);
  ck_assert_uint_eq(kernel_row_bytes(SBAG_F32, SBAG_STORAGE_INT4, 7), 8);
}
END_TEST

/* ---- ops ---- */

typedef struct rows_case {
  kernel_case_t c;
  draw_t draw;
  sbag_storage_t storage;
  int64_t rows, dim, row_bytes;
  uint8_t *table; /* of the host */
  float *wide;    /* [rows][dim] as the rows are read */
  int64_t *order, count;
} rows_case_t;

static void widen(rows_case_t *r, int64_t row) {
  const uint8_t *from = r->table + row * r->row_bytes;
  float scale, bias;
  quant_get_scale(r->storage, r->dim, from, &scale, &bias);
  for (int64_t c = 0; c < r->dim; c++)
    r->wide[row * r->dim + c] = scale * (float)quant_get_code(r->storage, from, c) + bias;
}

static void keep(rows_case_t *r, int64_t row, const float *values) {
  quant_row_scalar(r->storage, values, r->dim, r->table + row * r->row_bytes);
  widen(r, row);
}

static float *draw_values(rows_case_t *r, int64_t count) {
  float *values = arena_alloc(&r->c.arena, count, sizeof *values);
  for (int64_t i = 0; i < count; i++) values[i] = (float)(4 * draw_unit(&r->draw) - 2);
  return values;
}

/* 0: the kernel has no such rows. */
static int open_rows(rows_case_t *r, int which, uint64_t number) {
  static const int64_t dims[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 32, 33, 64, 100, 128, 257, 1024};
  kernel_case_open(&r->c, which / 2);
  if (!r->c.ops->quantised) {
    kernel_case_close(&r->c);
    return 0;
  }
  r->storage = storages[which % 2];
  r->draw = draw_start(2, number);
  r->rows = draw_between(&r->draw, 1, 40);
  r->dim = dims[number % (sizeof dims / sizeof *dims)];
  r->row_bytes = (int64_t)kernel_row_bytes(SBAG_F32, r->storage, r->dim);
  r->table = arena_alloc(&r->c.arena, r->rows * r->row_bytes, 1);
  r->wide = arena_alloc(&r->c.arena, r->rows * r->dim, sizeof *r->wide);
  for (int64_t row = 0; row < r->rows; row++) keep(r, row, draw_values(r, r->dim));
  r->order = kernel_draw_order(&r->c, &r->draw, r->rows);
  r->count = draw_between(&r->draw, 0, r->rows);
  return 1;
}

static uint8_t *put_table(rows_case_t *r) {
  return kernel_put(&r->c, r->table, r->rows * r->row_bytes, 1);
}

static void check_table(rows_case_t *r, const uint8_t *table) {
  ck_assert(memcmp(kernel_get(&r->c, table, r->rows * r->row_bytes, 1), r->table,
                   (size_t)(r->rows * r->row_bytes)) == 0);
}

START_TEST(rows_are_written_and_read) {
  for (uint64_t number = 0; number < 34; number++) {
    rows_case_t r;
    if (!open_rows(&r, _i, number)) return;
    const int64_t n = r.count * r.dim, *list = kernel_put_ints(&r.c, r.order, r.count);
    const float *values = draw_values(&r, n);
    float *gathered = kernel_new(&r.c, n, sizeof *values);
    uint8_t *table = put_table(&r);
    r.c.ops->scatter_rows(r.c.kernel, NULL, SBAG_F32, r.storage, kernel_put(&r.c, values, n, sizeof *values),
                          r.dim, list, r.count, table);
    for (int64_t i = 0; i < r.count; i++) keep(&r, r.order[i], values + i * r.dim);
    check_table(&r, table);
    r.c.ops->gather_rows(r.c.kernel, NULL, SBAG_F32, r.storage, table, r.dim, list, r.count, gathered);
    const float *got = kernel_get(&r.c, gathered, n, sizeof *got);
    for (int64_t i = 0; i < r.count; i++)
      ck_assert(memcmp(got + i * r.dim, r.wide + r.order[i] * r.dim, (size_t)r.dim * sizeof *got) == 0);
    kernel_case_close(&r.c);
  }
}
END_TEST

START_TEST(initial_values_are_quantised) {
  static const int64_t zero_rows[] = {3, 17};
  for (int number = 0; number < 12; number++) {
    rows_case_t r;
    if (!open_rows(&r, _i, (uint64_t)number)) return;
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
    uint8_t *kept = task.weight = kernel_new(&r.c, rows * r.row_bytes, 1),
            *row = arena_alloc(&r.c.arena, r.row_bytes, 1);
    task.storage = r.storage;
    r.c.ops->init(r.c.kernel, NULL, SBAG_F32, &task);
    const float *values = kernel_get(&r.c, full, size, sizeof *full);
    const uint8_t *got = kernel_get(&r.c, kept, rows * r.row_bytes, 1);
    for (int64_t i = 0; i < rows; i++) {
      quant_row_scalar(r.storage, values + i * r.dim, r.dim, row);
      ck_assert(memcmp(got + i * r.row_bytes, row, (size_t)r.row_bytes) == 0);
    }
    plan_destroy(&plan);
    kernel_case_close(&r.c);
  }
}
END_TEST

/* The table stays; what is read is what the op makes of f32 rows. */
START_TEST(values_read_are_scaled) {
  static const double norm_types[] = {1, 2, INFINITY, 3};
  for (uint64_t number = 0; number < 34; number++) {
    rows_case_t r;
    if (!open_rows(&r, _i, number)) return;
    const int64_t *list = kernel_put_ints(&r.c, r.order, r.count), n = r.count * r.dim;
    const double p = norm_types[number % 4], limit = 0.3 + draw_unit(&r.draw);
    uint8_t *table = put_table(&r);
    float *full = kernel_put(&r.c, r.wide, r.rows * r.dim, sizeof *full),
          *copies = kernel_new(&r.c, n, sizeof *copies), *wanted = kernel_new(&r.c, n, sizeof *wanted);
    r.c.ops->renorm(r.c.kernel, NULL, SBAG_F32, r.storage, table, r.dim, list, r.count, limit, p, copies);
    r.c.ops->renorm(r.c.kernel, NULL, SBAG_F32, SBAG_STORAGE_FULL, full, r.dim, list, r.count, limit, p,
                    wanted);
    check_table(&r, table);
    ck_assert(memcmp(kernel_get(&r.c, copies, n, sizeof(float)), kernel_get(&r.c, wanted, n, sizeof(float)),
                     (size_t)n * sizeof(float)) == 0);
    kernel_case_close(&r.c);
  }
}
END_TEST

/* Bags of quantised rows are bags of the values that they are read as: all bits, in every op. */
START_TEST(pools_are_those_of_f32_rows) {
  for (uint64_t number = 0; number < 68; number++) {
    rows_case_t r;
    if (!open_rows(&r, _i, number)) return;
    const int64_t segments = draw_between(&r.draw, 1, 30);
    const int64_t *begin = kernel_draw_segments(&r.c, &r.draw, segments, 25), terms = begin[segments];
    int64_t *term = arena_ints(&r.c.arena, terms);
    for (int64_t i = 0; i < terms; i++) term[i] = draw_below(&r.draw, r.rows);
    reduce_task_t task = {.op = number % 4 == 3 ? REDUCE_MAX : REDUCE_SUM,
                          .dim = r.dim,
                          .segment_end = segments,
                          .begin = kernel_put_ints(&r.c, begin, segments + 1),
                          .term = kernel_put_ints(&r.c, term, terms),
                          .stride = r.dim,
                          .src = kernel_put(&r.c, r.wide, r.rows * r.dim, sizeof(float)),
                          .out = kernel_new(&r.c, segments * r.dim, sizeof(float)),
                          .out_stride = r.dim};
    if (number % 4 == 1) task.count_begin = task.begin;
    if (number % 4 == 2) task.scale = kernel_put(&r.c, draw_values(&r, terms), terms, sizeof(float));
    if (task.op == REDUCE_MAX) task.out_position = kernel_new_ints(&r.c, segments * r.dim);
    reduce_task_t other = task;
    other.src = put_table(&r);
    other.storage = r.storage;
    other.out = kernel_new(&r.c, segments * r.dim, sizeof(float));
    if (task.op == REDUCE_MAX) other.out_position = kernel_new_ints(&r.c, segments * r.dim);
    r.c.ops->reduce(r.c.kernel, NULL, SBAG_F32, &task, 1);
    r.c.ops->reduce(r.c.kernel, NULL, SBAG_F32, &other, 1);
    const float *wanted = kernel_get(&r.c, task.out, segments * r.dim, sizeof *wanted);
    ck_assert(memcmp(kernel_get(&r.c, other.out, segments * r.dim, sizeof(float)), wanted,
                     (size_t)(segments * r.dim) * sizeof *wanted) == 0);
    if (task.op == REDUCE_MAX)
      ck_assert(memcmp(kernel_get_ints(&r.c, other.out_position, segments * r.dim),
                       kernel_get_ints(&r.c, task.out_position, segments * r.dim),
                       (size_t)(segments * r.dim) * sizeof(int64_t)) == 0);
    kernel_case_close(&r.c);
  }
}
END_TEST

Suite *kernel_quant_suite(void) {
  Suite *suite = suite_create("kernel_quant");
  TCase *cases = tcase_create("kernel_quant");
  const int all = 2 * kernel_case_count();
  tcase_add_test(cases, bytes_are_fbgemms);
  tcase_add_loop_test(cases, rows_are_written_and_read, 0, all);
  tcase_add_loop_test(cases, initial_values_are_quantised, 0, all);
  tcase_add_loop_test(cases, values_read_are_scaled, 0, all);
  tcase_add_loop_test(cases, pools_are_those_of_f32_rows, 0, all);
  suite_add_tcase(suite, cases);
  return suite;
}
