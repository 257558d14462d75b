/* The GPU's ops on values, executed on the CPU, against the scalar kernel: rows of all kinds of lengths,
 * segments from none to 10,000 terms, and every optimizer, bit for bit where the order of sums is the
 * scalar's or cannot matter. */
#include "kernel_case.h"

#include <math.h>
#include <string.h>

Suite *cuda_values_suite(void);

static const int64_t dims[] = {1, 2, 3, 4, 6, 7, 31, 32, 64, 100, 127, 128, 130, 257, 1000, 1024};
enum { DIMS = sizeof dims / sizeof *dims };

/* The GPU's kernel with the scalar one beside it. */
typedef struct both {
  kernel_case_t gpu;
  kernel_t *cpu;
  draw_t draw;
  sbag_dtype_t dtype;
} both_t;

static void both_open(both_t *b, sbag_dtype_t dtype, uint64_t stream, uint64_t number) {
  kernel_case_open(&b->gpu, 0);
  ck_assert_int_eq(kernel_cpu_create(b->gpu.mem, &(kernel_cpu_options_t){.threads = 1}, &b->cpu, NULL),
                   SBAG_OK);
  b->draw = draw_start(stream, number);
  b->dtype = dtype;
}

static void both_close(both_t *b) {
  kernel_destroy(&b->cpu);
  kernel_case_close(&b->gpu);
}

/* The host's copy of what is on the device: what the scalar kernel gets. */
static void *to_host(both_t *b, const void *device, int64_t count) {
  return kernel_get(&b->gpu, device, count, kernel_dtype_bytes(b->dtype));
}

static void check_bits(both_t *b, const char *what, const void *device, const void *host, int64_t count,
                       size_t bytes) {
  const char *got = kernel_get(&b->gpu, device, count, bytes), *wanted = host;
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(memcmp(got + (size_t)i * bytes, wanted + (size_t)i * bytes, bytes) == 0,
                  "%s: element %lld of %lld is not the scalar kernel's", what, (long long)i,
                  (long long)count);
}

/* ---- reduce ---- */

enum { REDUCE_KINDS = 3, SEGMENTS = 14 }; /* sum, selected, max */

/* A task for the GPU, and the same for the scalar kernel on copies. */
typedef struct twin {
  reduce_task_t gpu, cpu;
  int64_t outs;
} twin_t;

static int64_t draw_length(draw_t *draw) {
  static const int64_t lengths[] = {0, 1, 3, 127, 128, 129, 256, 1023, 1024, 1025, 1153, 4097, 10000};
  return draw_one_in(draw, 2) ? draw_below(draw, 40) : lengths[draw_below(draw, 13)];
}

static void twin_ints(both_t *b, const int64_t *host, int64_t count, const int64_t **gpu,
                      const int64_t **cpu) {
  *gpu = kernel_put_ints(&b->gpu, host, count);
  *cpu = host;
}

static void draw_columns(both_t *b, twin_t *t, int64_t terms, int64_t dim) {
  arena_t *arena = &b->gpu.arena;
  int64_t *select = arena_ints(arena, terms), *at = arena_ints(arena, terms);
  int64_t *winner = arena_ints(arena, 3 * dim);
  for (int64_t i = 0; i < terms; i++) select[i] = draw_between(&b->draw, -1, 2);
  for (int64_t i = 0; i < terms; i++) at[i] = draw_below(&b->draw, 2 * dim + 1);
  for (int64_t i = 0; i < 3 * dim; i++) winner[i] = draw_between(&b->draw, -1, 2);
  twin_ints(b, select, terms, &t->gpu.select, &t->cpu.select);
  twin_ints(b, at, terms, &t->gpu.select_at, &t->cpu.select_at);
  twin_ints(b, winner, 3 * dim, &t->gpu.winner, &t->cpu.winner);
}

/* Values of which sums of 10,000 are exact in any order; for maxima, many ties and some NaN. */
static double *draw_source(both_t *b, int64_t count, int kind) {
  double *values = kernel_draw_values(&b->gpu, &b->draw, count);
  for (int64_t i = 0; kind == 2 && i < count; i++)
    values[i] = draw_one_in(&b->draw, 9) ? (double)NAN : floor(values[i]);
  return values;
}

static void draw_terms(both_t *b, twin_t *t, int64_t terms, int64_t vectors, int kind) {
  arena_t *arena = &b->gpu.arena;
  int64_t dim = t->gpu.dim, *term = arena_ints(arena, terms),
          *order = kernel_draw_order(&b->gpu, &b->draw, terms);
  int by_offset = draw_one_in(&b->draw, 2);
  double *scale = arena_doubles(arena, terms);
  for (int64_t i = 0; i < terms; i++)
    term[i] = draw_below(&b->draw, by_offset ? (vectors - 1) * dim + 1 : vectors);
  for (int64_t i = 0; i < terms; i++) scale[i] = draw_one_in(&b->draw, 2) ? 0.5 : -1;
  t->gpu.stride = t->cpu.stride = by_offset ? 1 : dim;
  t->gpu.src = kernel_put_real(&b->gpu, b->dtype, draw_source(b, vectors * dim, kind), vectors * dim);
  t->cpu.src = to_host(b, t->gpu.src, vectors * dim);
  twin_ints(b, term, terms, &t->gpu.term, &t->cpu.term);
  if (draw_one_in(&b->draw, 2)) twin_ints(b, order, terms, &t->gpu.order, &t->cpu.order);
  if (kind < 2 && draw_one_in(&b->draw, 2)) {
    t->gpu.scale = kernel_put_real(&b->gpu, b->dtype, scale, terms);
    t->cpu.scale = to_host(b, t->gpu.scale, terms);
  }
  if (kind == 1) draw_columns(b, t, terms, dim);
}

static twin_t draw_twin(both_t *b, int64_t dim, int kind) {
  twin_t t = {.gpu = {.op = kind == 2 ? REDUCE_MAX : REDUCE_SUM, .dim = dim, .segment_end = SEGMENTS}};
  int64_t *begin = arena_ints(&b->gpu.arena, SEGMENTS + 1);
  for (int s = 0; s < SEGMENTS; s++) begin[s + 1] = begin[s] + draw_length(&b->draw);
  t.gpu.out_stride = dim + draw_below(&b->draw, 3);
  t.cpu = t.gpu;
  twin_ints(b, begin, SEGMENTS + 1, &t.gpu.begin, &t.cpu.begin);
  if (kind == 0 && draw_one_in(&b->draw, 2)) {
    t.gpu.count_begin = t.gpu.begin;
    t.cpu.count_begin = t.cpu.begin;
  }
  draw_terms(b, &t, begin[SEGMENTS], 11, kind);
  t.outs = SEGMENTS * t.gpu.out_stride;
  t.gpu.out = kernel_new(&b->gpu, t.outs, kernel_dtype_bytes(b->dtype));
  t.cpu.out = to_host(b, t.gpu.out, t.outs);
  if (kind == 2) {
    t.gpu.out_position = kernel_new_ints(&b->gpu, t.outs);
    t.cpu.out_position = kernel_get_ints(&b->gpu, t.gpu.out_position, t.outs);
  }
  return t;
}

/* Several tasks of each kind in one call. */
START_TEST(segments_of_any_length) {
  both_t b;
  both_open(&b, _i % 2 == 0 ? SBAG_F32 : SBAG_F64, 1, (uint64_t)_i);
  int64_t dim = dims[_i / 2];
  twin_t twins[REDUCE_KINDS];
  reduce_task_t gpu[REDUCE_KINDS], cpu[REDUCE_KINDS];
  for (int kind = 0; kind < REDUCE_KINDS; kind++) {
    twins[kind] = draw_twin(&b, dim, kind);
    gpu[kind] = twins[kind].gpu;
    cpu[kind] = twins[kind].cpu;
  }
  b.gpu.ops->reduce(b.gpu.kernel, NULL, b.dtype, gpu, REDUCE_KINDS);
  b.cpu->ops->reduce(b.cpu, NULL, b.dtype, cpu, REDUCE_KINDS);
  for (int kind = 0; kind < REDUCE_KINDS; kind++) {
    const twin_t *t = &twins[kind];
    check_bits(&b, "out", t->gpu.out, t->cpu.out, t->outs, kernel_dtype_bytes(b.dtype));
    if (kind == 2)
      check_bits(&b, "position", t->gpu.out_position, t->cpu.out_position, t->outs, sizeof(int64_t));
  }
  both_close(&b);
}
END_TEST

/* Values whose sums round: a short segment has the scalar kernel's bits, a long one is near, and the same
 * again. */
START_TEST(sums_that_round_are_the_same_each_time) {
  enum { DIM = 36, LONG = 3000, SHORT = 128, VECTORS = 50 };
  both_t b;
  both_open(&b, _i % 2 == 0 ? SBAG_F32 : SBAG_F64, 2, (uint64_t)_i);
  int64_t begin[] = {0, SHORT, SHORT + LONG}, term[SHORT + LONG];
  double *src = arena_doubles(&b.gpu.arena, (int64_t)VECTORS * DIM);
  for (int i = 0; i < VECTORS * DIM; i++) src[i] = draw_unit(&b.draw) - 0.4;
  for (int i = 0; i < SHORT + LONG; i++) term[i] = draw_below(&b.draw, VECTORS);
  reduce_task_t gpu = {.op = REDUCE_SUM, .dim = DIM, .segment_end = 2, .stride = DIM, .out_stride = DIM};
  reduce_task_t cpu = gpu;
  twin_ints(&b, begin, 3, &gpu.begin, &cpu.begin);
  twin_ints(&b, term, SHORT + LONG, &gpu.term, &cpu.term);
  gpu.src = kernel_put_real(&b.gpu, b.dtype, src, (int64_t)VECTORS * DIM);
  cpu.src = to_host(&b, gpu.src, (int64_t)VECTORS * DIM);
  gpu.out = kernel_new(&b.gpu, 2 * DIM, kernel_dtype_bytes(b.dtype));
  cpu.out = arena_alloc(&b.gpu.arena, 2 * DIM, kernel_dtype_bytes(b.dtype));
  b.cpu->ops->reduce(b.cpu, NULL, b.dtype, &cpu, 1);
  b.gpu.ops->reduce(b.gpu.kernel, NULL, b.dtype, &gpu, 1);
  const void *once = to_host(&b, gpu.out, 2 * DIM);
  b.gpu.ops->reduce(b.gpu.kernel, NULL, b.dtype, &gpu, 1);
  check_bits(&b, "again", gpu.out, once, 2 * DIM, kernel_dtype_bytes(b.dtype));
  check_bits(&b, "short", gpu.out, cpu.out, DIM, kernel_dtype_bytes(b.dtype));
  const double *sums = kernel_get_real(&b.gpu, b.dtype, gpu.out, 2 * DIM);
  for (int i = DIM; i < 2 * DIM; i++) {
    double wanted = b.dtype == SBAG_F64 ? ((double *)cpu.out)[i] : (double)((float *)cpu.out)[i];
    ck_assert_double_eq_tol(sums[i], wanted, (b.dtype == SBAG_F64 ? 1e-12 : 1e-3) * (1 + fabs(wanted)));
  }
  both_close(&b);
}
END_TEST

/* More long segments than are listed. */
START_TEST(long_segments_beyond_the_list) {
  enum { COUNT = (1 << 16) + 300, TERMS = 129 };
  both_t b;
  both_open(&b, SBAG_F32, 3, 0);
  int64_t *begin = arena_ints(&b.gpu.arena, COUNT + 1);
  int64_t *term = arena_ints(&b.gpu.arena, (int64_t)COUNT * TERMS);
  double *src = kernel_draw_values(&b.gpu, &b.draw, 100);
  for (int64_t s = 0; s <= COUNT; s++) begin[s] = s * TERMS;
  for (int64_t i = 0; i < (int64_t)COUNT * TERMS; i++) term[i] = (i * 7 + i / TERMS) % 100;
  reduce_task_t gpu = {.op = REDUCE_SUM, .dim = 1, .segment_end = COUNT, .stride = 1, .out_stride = 1};
  reduce_task_t cpu = gpu;
  twin_ints(&b, begin, COUNT + 1, &gpu.begin, &cpu.begin);
  twin_ints(&b, term, (int64_t)COUNT * TERMS, &gpu.term, &cpu.term);
  gpu.src = kernel_put_real(&b.gpu, b.dtype, src, 100);
  cpu.src = to_host(&b, gpu.src, 100);
  gpu.out = kernel_new(&b.gpu, COUNT, sizeof(float));
  cpu.out = arena_alloc(&b.gpu.arena, COUNT, sizeof(float));
  b.gpu.ops->reduce(b.gpu.kernel, NULL, b.dtype, &gpu, 1);
  b.cpu->ops->reduce(b.cpu, NULL, b.dtype, &cpu, 1);
  check_bits(&b, "out", gpu.out, cpu.out, COUNT, sizeof(float));
  both_close(&b);
}
END_TEST

/* ---- frequencies ---- */

/* Runs that begin and end anywhere among the 32 items that a warp looks at, and go on over many of those. */
START_TEST(frequencies_of_long_segments) {
  enum { FEATURES = 5, SEGMENT_COUNT = 6 };
  static const int by_freq[FEATURES] = {1, 0, 1, 1, 0};
  both_t b;
  both_open(&b, _i % 2 == 0 ? SBAG_F32 : SBAG_F64, 4, (uint64_t)_i);
  int64_t *begin = kernel_draw_segments(&b.gpu, &b.draw, SEGMENT_COUNT, 300), count = begin[SEGMENT_COUNT];
  int64_t *feature = arena_ints(&b.gpu.arena, count), *order = kernel_draw_order(&b.gpu, &b.draw, count);
  for (int64_t s = 0; s < SEGMENT_COUNT; s++)
    for (int64_t i = begin[s], now = draw_below(&b.draw, 2); i < begin[s + 1]; i++) {
      if (draw_one_in(&b.draw, 40) && now + 1 < FEATURES) now++;
      feature[order[i]] = now;
    }
  void *gpu = kernel_put_real(&b.gpu, b.dtype, kernel_draw_values(&b.gpu, &b.draw, count), count);
  void *cpu = to_host(&b, gpu, count);
  b.gpu.ops->frequency_scale(b.gpu.kernel, NULL, b.dtype, kernel_put_ints(&b.gpu, begin, SEGMENT_COUNT + 1),
                             SEGMENT_COUNT, kernel_put_ints(&b.gpu, order, count),
                             kernel_put_ints(&b.gpu, feature, count), FEATURES, by_freq, gpu);
  b.cpu->ops->frequency_scale(b.cpu, NULL, b.dtype, begin, SEGMENT_COUNT, order, feature, FEATURES, by_freq,
                              cpu);
  check_bits(&b, "scale", gpu, cpu, count, kernel_dtype_bytes(b.dtype));
  both_close(&b);
}
END_TEST

/* ---- initial values ---- */

START_TEST(initial_values_are_the_scalar_kernels) {
  static const int64_t zero_rows[] = {3, 40};
  both_t b;
  both_open(&b, _i % 2 == 0 ? SBAG_F32 : SBAG_F64, 5, (uint64_t)_i);
  for (int kind = 0; kind < 4; kind++)
    for (int layout = 0; layout < 3; layout++) {
      sbag_table_options_t table = sbag_table_options_default("table", 61, 1 + kind * 5);
      table.layout = (sbag_layout_t)layout;
      plan_t *plan = NULL;
      ck_assert_int_eq(plan_create(b.gpu.mem, 2, &table, 1, &plan, NULL), SBAG_OK);
      int64_t rows = plan_shard_rows(&plan->tables[0], 1), size = rows * table.embedding_dim;
      init_task_t task = {.plan = &plan->tables[0],
                          .shard = 1,
                          .rows = rows,
                          .dim = table.embedding_dim,
                          .kind = (sbag_init_t)kind,
                          .a = -0.7,
                          .b = 0.3,
                          .key = random_key(1, "name"),
                          .zero_rows = zero_rows,
                          .zero_count = 2};
      void *gpu = task.weight = kernel_new(&b.gpu, size, kernel_dtype_bytes(b.dtype));
      b.gpu.ops->init(b.gpu.kernel, NULL, b.dtype, &task);
      void *cpu = task.weight = arena_alloc(&b.gpu.arena, size, kernel_dtype_bytes(b.dtype));
      b.cpu->ops->init(b.cpu, NULL, b.dtype, &task);
      check_bits(&b, "init", gpu, cpu, size, kernel_dtype_bytes(b.dtype));
      plan_destroy(&plan);
    }
  both_close(&b);
}
END_TEST

/* ---- updates ---- */

enum { ROWS = 5, STEPS = 40 };

static void draw_options(draw_t *draw, sbag_optimizer_options_t *options) {
  const sbag_optimizer_t kind = options->kind;
  const int torch = kind < SBAG_OPT_EXACT_SGD, sparse = kind == SBAG_OPT_SPARSE_ADAM;
  const int plain = kind == SBAG_OPT_EXACT_SGD || kind == SBAG_OPT_EXACT_ADAGRAD;
  if (kind == SBAG_OPT_EXACT_ROWWISE_ADAGRAD)
    options->weight_decay_mode = (sbag_weight_decay_t)draw_below(draw, 3);
  if (!sparse && !plain && kind != SBAG_OPT_ROWWISE_RMSPROP && draw_one_in(draw, 2) &&
      (kind != SBAG_OPT_EXACT_ROWWISE_ADAGRAD || options->weight_decay_mode != SBAG_DECAY_NONE))
    options->weight_decay = 0.03;
  if (torch) options->maximize = draw_one_in(draw, 2);
  if (kind == SBAG_OPT_SGD || kind == SBAG_OPT_RMSPROP) options->momentum = draw_one_in(draw, 2) ? 0.8 : 0;
  if (kind == SBAG_OPT_SGD) options->nesterov = options->momentum > 0 && draw_one_in(draw, 2);
  if (kind == SBAG_OPT_RMSPROP) options->centered = draw_one_in(draw, 2);
  if (kind == SBAG_OPT_ADAM || kind == SBAG_OPT_ADAMW) options->amsgrad = draw_one_in(draw, 2);
  if (kind == SBAG_OPT_ROWWISE_RMSPROP) options->ar_alpha = draw_one_in(draw, 2) ? 0.5 : 0;
  if (draw_one_in(draw, 2)) options->clip_value = 2;
}

/* The same table in both memories. */
typedef struct table_pair {
  optimizer_rows_t gpu, cpu;
  optimizer_info_t info;
  double lr_log[STEPS];
} table_pair_t;

static void table_put(both_t *b, const sbag_optimizer_options_t *options, int64_t dim, table_pair_t *t) {
  size_t bytes = kernel_dtype_bytes(b->dtype);
  *t = (table_pair_t){.info = optimizer_info(options)};
  t->gpu = (optimizer_rows_t){.options = options, .dtype = b->dtype, .dim = dim};
  t->gpu.weight =
      kernel_put_real(&b->gpu, b->dtype, kernel_draw_values(&b->gpu, &b->draw, ROWS * dim), ROWS * dim);
  t->cpu = t->gpu;
  t->cpu.weight = to_host(b, t->gpu.weight, ROWS * dim);
  for (int s = 0; s < t->info.state_count; s++) {
    int64_t count = t->info.states[s].row_wise ? ROWS : ROWS * dim;
    t->gpu.states[s] = kernel_new(&b->gpu, count, bytes);
    b->gpu.ops->fill_real(b->gpu.kernel, NULL, b->dtype, t->gpu.states[s], count, t->info.states[s].initial);
    t->cpu.states[s] = to_host(b, t->gpu.states[s], count);
  }
  if (!t->info.moves_untouched) return;
  for (int i = 0; i < STEPS; i++) t->lr_log[i] = 0.01 * (1 + i % 3);
  t->cpu.last_step = arena_alloc(&b->gpu.arena, ROWS, sizeof *t->cpu.last_step);
  t->gpu.last_step = kernel_put(&b->gpu, t->cpu.last_step, ROWS, sizeof *t->cpu.last_step);
  t->cpu.lr_log = t->lr_log;
  t->gpu.lr_log = kernel_put(&b->gpu, t->lr_log, STEPS, sizeof(double));
}

static void table_step(both_t *b, table_pair_t *t, int64_t step) {
  int64_t *rows = kernel_draw_order(&b->gpu, &b->draw, ROWS), count = draw_below(&b->draw, ROWS + 1);
  int64_t *touched = kernel_draw_segments(&b->gpu, &b->draw, count, 2), size = count * t->gpu.dim;
  optimizer_update_t gpu = {.at = t->gpu, .step = step, .lr = 0.01 * (double)(1 + (step - 1) % 3)};
  gpu.grad_scale = 0.7;
  gpu.count = count;
  optimizer_update_t cpu = gpu;
  cpu.at = t->cpu;
  twin_ints(b, rows, count, &gpu.rows, &cpu.rows);
  if (draw_one_in(&b->draw, 2)) twin_ints(b, touched, count + 1, &gpu.touched, &cpu.touched);
  gpu.grad = kernel_put_real(&b->gpu, b->dtype, kernel_draw_values(&b->gpu, &b->draw, size), size);
  cpu.grad = to_host(b, gpu.grad, size);
  b->gpu.ops->update(b->gpu.kernel, NULL, &gpu);
  b->cpu->ops->update(b->cpu, NULL, &cpu);
}

static void table_check(both_t *b, const table_pair_t *t) {
  size_t bytes = kernel_dtype_bytes(b->dtype);
  const char *name = sbag_optimizer_name(t->gpu.options->kind);
  check_bits(b, name, t->gpu.weight, t->cpu.weight, ROWS * t->gpu.dim, bytes);
  for (int s = 0; s < t->info.state_count; s++)
    check_bits(b, t->info.states[s].name, t->gpu.states[s], t->cpu.states[s],
               t->info.states[s].row_wise ? ROWS : ROWS * t->gpu.dim, bytes);
  if (t->gpu.last_step != NULL)
    check_bits(b, "last step", t->gpu.last_step, t->cpu.last_step, ROWS, sizeof(int32_t));
}

/* Updates some steps apart, so that rows lag; then all rows, and again some. */
START_TEST(every_optimizer_on_rows_of_any_length) {
  for (int d = 0; d < DIMS; d++) {
    both_t b;
    both_open(&b, _i % 2 == 0 ? SBAG_F32 : SBAG_F64, 6, (uint64_t)(_i * DIMS + d));
    sbag_optimizer_options_t options = sbag_optimizer_options_default((sbag_optimizer_t)(_i / 2));
    table_pair_t t;
    draw_options(&b.draw, &options);
    ck_assert_int_eq(optimizer_check(&options, "test", NULL), SBAG_OK);
    table_put(&b, &options, dims[d], &t);
    for (int64_t step = 1; step < STEPS; step += draw_between(&b.draw, 1, 16)) table_step(&b, &t, step);
    if (t.info.moves_untouched) {
      const int64_t few[] = {3, 1};
      b.gpu.ops->catch_up(b.gpu.kernel, NULL, &t.gpu, STEPS - 1, 2, kernel_put_ints(&b.gpu, few, 2));
      b.cpu->ops->catch_up(b.cpu, NULL, &t.cpu, STEPS - 1, 2, few);
      table_check(&b, &t);
      b.gpu.ops->catch_up(b.gpu.kernel, NULL, &t.gpu, STEPS, ROWS, NULL);
      b.cpu->ops->catch_up(b.cpu, NULL, &t.cpu, STEPS, ROWS, NULL);
    }
    table_check(&b, &t);
    both_close(&b);
  }
}
END_TEST

Suite *cuda_values_suite(void) {
  Suite *suite = suite_create("values");
  TCase *test_case = tcase_create("values");
  tcase_set_timeout(test_case, 120); /* sanitizers on a busy machine */
  tcase_add_loop_test(test_case, segments_of_any_length, 0, 2 * DIMS);
  tcase_add_loop_test(test_case, sums_that_round_are_the_same_each_time, 0, 2);
  tcase_add_test(test_case, long_segments_beyond_the_list);
  tcase_add_loop_test(test_case, frequencies_of_long_segments, 0, 10);
  tcase_add_loop_test(test_case, initial_values_are_the_scalar_kernels, 0, 2);
  tcase_add_loop_test(test_case, every_optimizer_on_rows_of_any_length, 0, 2 * SBAG_OPT_COUNT);
  suite_add_tcase(suite, test_case);
  return suite;
}
