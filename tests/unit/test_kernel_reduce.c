/* The kernels' reductions: sums, means, selected columns, maxima and their partial maxima, and the terms of a
 * backward. Values are multiples of 1/8, so that what is computed plainly here must be met bit for bit. */
#include "kernel_case.h"

#include <math.h>
#include <string.h>

Suite *kernel_reduce_suite(void);

enum { ROUNDS = 120, TASKS_MAX = 3 };

static const sbag_dtype_t dtypes[] = {SBAG_F32, SBAG_F64};

static void check_reals(const char *what, const double *got, const double *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(kernel_same(got[i], wanted[i]), "%s[%lld] is %.17g, not %.17g", what, (long long)i, got[i],
                  wanted[i]);
}

static void check_ints(const char *what, const int64_t *got, const int64_t *wanted, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(got[i] == wanted[i], "%s[%lld] is %lld, not %lld", what, (long long)i, (long long)got[i],
                  (long long)wanted[i]);
}

static void sync(const kernel_case_t *c) {
  ck_assert_int_eq(c->ops->stream_sync(c->kernel, NULL, NULL), SBAG_OK);
}

/* The index of a loop test: a kernel and a dtype. */
static sbag_dtype_t open_case(kernel_case_t *c, int i) {
  kernel_case_open(c, i / 2);
  return dtypes[i % 2];
}

/* Places of the outputs of segments from `first` on: one behind the other (out_at NULL), or in any order. */
static int64_t *draw_places(kernel_case_t *c, draw_t *draw, int64_t first, int64_t segments,
                            const int64_t **out_at) {
  int64_t *place = kernel_draw_order(c, draw, segments), *all = arena_ints(&c->arena, first + segments);
  if (draw_one_in(draw, 2)) {
    for (int64_t s = 0; s < segments; s++) place[s] = s;
    *out_at = NULL;
    return place;
  }
  for (int64_t s = 0; s < segments; s++) all[first + s] = place[s];
  *out_at = kernel_put_ints(c, all, first + segments);
  return place;
}

/* ---- sums ---- */

/* A sum's task on the host's side, and what it must give. */
typedef struct sum_case {
  reduce_task_t task; /* with device pointers */
  int64_t first, segments, dim, gap;
  double *wanted; /* [segments][dim] */
  int64_t *at;    /* [segments] where each segment's output is */
} sum_case_t;

static void draw_select(kernel_case_t *c, draw_t *draw, sum_case_t *s, int64_t terms, int64_t **select,
                        int64_t **at, int64_t **winner) {
  int64_t places = 3 * s->dim;
  *select = arena_ints(&c->arena, terms);
  *at = arena_ints(&c->arena, terms);
  *winner = arena_ints(&c->arena, places);
  for (int64_t i = 0; i < terms; i++) (*select)[i] = draw_between(draw, -1, 2);
  for (int64_t i = 0; i < terms; i++) (*at)[i] = draw_between(draw, 0, places - s->dim);
  for (int64_t i = 0; i < places; i++) (*winner)[i] = draw_between(draw, -1, 2);
  s->task.select = kernel_put_ints(c, *select, terms);
  s->task.select_at = kernel_put_ints(c, *at, terms);
  s->task.winner = kernel_put_ints(c, *winner, places);
}

static sum_case_t draw_sum(kernel_case_t *c, draw_t *draw, sbag_dtype_t dtype) {
  static const int64_t dims[] = {1, 2, 3, 8, 17, 1000};
  sum_case_t s = {.dim = dims[draw_below(draw, 6)], .gap = draw_between(draw, 0, 3)};
  int64_t all = draw_between(draw, 1, 12), vectors = draw_between(draw, 1, 9), size = vectors * s.dim;
  int plain = draw_one_in(draw, 4), by_offset = draw_one_in(draw, 2), mean = draw_one_in(draw, 3);
  int64_t *begin = kernel_draw_segments(c, draw, all, 5), terms = plain ? all : begin[all];
  int64_t *term = arena_ints(&c->arena, terms), *select = NULL, *at = NULL, *winner = NULL;
  int64_t *count_begin = kernel_draw_segments(c, draw, all, 4);
  double *src = kernel_draw_values(c, draw, size), *scale = NULL;
  s.first = draw_below(draw, all);
  s.segments = draw_between(draw, 0, all - s.first);
  s.task = (reduce_task_t){.op = REDUCE_SUM, .dim = s.dim, .stride = by_offset ? 1 : s.dim};
  for (int64_t i = 0; i < terms; i++) term[i] = draw_below(draw, by_offset ? size - s.dim + 1 : vectors);
  if (draw_one_in(draw, 2)) {
    scale = kernel_draw_values(c, draw, terms);
    s.task.scale = kernel_put_real(c, dtype, scale, terms);
  }
  if (draw_one_in(draw, 2)) draw_select(c, draw, &s, terms, &select, &at, &winner);
  s.task.begin = plain ? NULL : kernel_put_ints(c, begin, all + 1);
  s.task.term = kernel_put_ints(c, term, terms);
  s.task.src = kernel_put_real(c, dtype, src, size);
  s.task.count_begin = mean ? kernel_put_ints(c, count_begin, all + 1) : NULL;
  s.task.segment_begin = s.first;
  s.task.segment_end = s.first + s.segments;
  s.task.out_stride = s.dim + s.gap;
  s.task.out = kernel_new(c, s.segments * s.task.out_stride, kernel_dtype_bytes(dtype));
  s.at = draw_places(c, draw, s.first, s.segments, &s.task.out_at);
  s.wanted = arena_doubles(&c->arena, s.segments * s.dim);
  for (int64_t g = s.first; g < s.first + s.segments; g++)
    for (int64_t col = 0; col < s.dim; col++) {
      double sum = 0, parts = (double)(count_begin[g + 1] - count_begin[g]);
      for (int64_t i = plain ? g : begin[g]; i < (plain ? g + 1 : begin[g + 1]); i++)
        if (select == NULL || select[i] < 0 || winner[at[i] + col] == select[i])
          sum += (scale != NULL ? scale[i] : 1) * src[term[i] * s.task.stride + col];
      s.wanted[(g - s.first) * s.dim + col] = kernel_round(dtype, mean && parts > 0 ? sum / parts : sum);
    }
  return s;
}

static void check_sum(kernel_case_t *c, sbag_dtype_t dtype, const sum_case_t *s, double untouched) {
  int64_t stride = s->task.out_stride;
  const double *got = kernel_get_real(c, dtype, s->task.out, s->segments * stride);
  for (int64_t g = 0; g < s->segments; g++) {
    check_reals("sum", got + s->at[g] * stride, s->wanted + g * s->dim, s->dim);
    for (int64_t i = s->dim; i < stride; i++) ck_assert(kernel_same(got[g * stride + i], untouched));
  }
}

/* Several tables and dims in one call; other columns of the output stay as they are. */
START_TEST(sums_of_scaled_and_selected_terms) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    sum_case_t sums[TASKS_MAX];
    reduce_task_t tasks[TASKS_MAX];
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(1, number);
    int64_t count = draw_between(&draw, 0, TASKS_MAX);
    void *mark = kernel_new(&c, 1, kernel_dtype_bytes(dtype));
    double untouched = *kernel_get_real(&c, dtype, mark, 1);
    for (int64_t i = 0; i < count; i++) {
      sums[i] = draw_sum(&c, &draw, dtype);
      tasks[i] = sums[i].task;
    }
    c.ops->reduce(c.kernel, NULL, dtype, tasks, count);
    sync(&c);
    for (int64_t i = 0; i < count; i++) check_sum(&c, dtype, &sums[i], untouched);
    kernel_case_close(&c);
  }
}
END_TEST

/* ---- maxima ---- */

/* A bag's vectors: small integers, so that there are ties; NaN, infinities and -0.0. */
static double *draw_bag(kernel_case_t *c, draw_t *draw, int64_t count, int64_t dim) {
  static const double special[] = {NAN, -0.0, 0.0, INFINITY, -INFINITY, NAN, -1};
  double *values = arena_doubles(&c->arena, count * dim);
  for (int64_t i = 0; i < count * dim; i++)
    values[i] = draw_one_in(draw, 3) ? special[draw_below(draw, 7)] : (double)draw_between(draw, -2, 2);
  return values;
}

/* torch's embedding_bag: the first starts, and each later one must be larger. */
static void plain_max(const double *bag, int64_t count, int64_t dim, double *value, int64_t *position) {
  for (int64_t col = 0; col < dim; col++) {
    value[col] = 0;
    position[col] = -1;
    for (int64_t i = 0; i < count; i++) {
      if (i > 0 && !(bag[i * dim + col] > value[col])) continue;
      value[col] = bag[i * dim + col];
      position[col] = i;
    }
  }
}

/* Bags one behind the other, with and without the positions spelt out. */
START_TEST(maxima_are_torchs) {
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(2, number);
    int64_t bags = draw_between(&draw, 1, 8), dim = draw_between(&draw, 1, 6), gap = draw_below(&draw, 3);
    int64_t *begin = kernel_draw_segments(&c, &draw, bags, 6), terms = begin[bags];
    int64_t first = draw_below(&draw, bags), stride = dim + gap, places = (bags - first) * stride;
    int64_t *term = arena_ints(&c.arena, terms), *position = arena_ints(&c.arena, terms);
    int64_t *won = arena_ints(&c.arena, dim), *out_position = kernel_new_ints(&c, places);
    double *src = draw_bag(&c, &draw, terms, dim), *value = arena_doubles(&c.arena, dim);
    for (int64_t b = 0; b < bags; b++)
      for (int64_t i = begin[b]; i < begin[b + 1]; i++) position[term[i] = i] = i - begin[b];
    int with_positions = draw_one_in(&draw, 2);
    reduce_task_t task = {.op = REDUCE_MAX,
                          .dim = dim,
                          .segment_begin = first,
                          .segment_end = bags,
                          .begin = kernel_put_ints(&c, begin, bags + 1),
                          .term = kernel_put_ints(&c, term, terms),
                          .stride = dim,
                          .src = kernel_put_real(&c, dtype, src, terms * dim),
                          .position = with_positions ? kernel_put_ints(&c, position, terms) : NULL,
                          .out = kernel_new(&c, places, kernel_dtype_bytes(dtype)),
                          .out_stride = stride,
                          .out_position = draw_one_in(&draw, 4) ? NULL : out_position};
    const int64_t *at = draw_places(&c, &draw, first, bags - first, &task.out_at);
    c.ops->reduce(c.kernel, NULL, dtype, &task, 1);
    const double *out = kernel_get_real(&c, dtype, task.out, places);
    const int64_t *got = kernel_get_ints(&c, out_position, places);
    for (int64_t b = first; b < bags; b++) {
      plain_max(src + begin[b] * dim, begin[b + 1] - begin[b], dim, value, won);
      check_reals("max", out + at[b - first] * stride, value, dim);
      if (task.out_position != NULL) check_ints("position", got + at[b - first] * stride, won, dim);
    }
    kernel_case_close(&c);
  }
}
END_TEST

enum { OWNERS = 4 };

/* One bag's rows dealt to owners. `group` is stably sorted by owner, each owner's part in bag order. */
typedef struct dealt_bag {
  int64_t count, dim;
  double *values;
  int64_t group[OWNERS + 1], *member;
  void *vectors;      /* device: the rows, then one partial pool an owner */
  int64_t *positions; /* device: of the partial pools */
} dealt_bag_t;

static dealt_bag_t deal_bag(kernel_case_t *c, draw_t *draw, sbag_dtype_t dtype) {
  dealt_bag_t bag = {.count = draw_between(draw, 0, 12), .dim = draw_between(draw, 1, 5)};
  int64_t whole = (bag.count + OWNERS) * bag.dim, n = 0, *owner = arena_ints(&c->arena, bag.count);
  bag.values = draw_bag(c, draw, bag.count, bag.dim);
  bag.member = arena_ints(&c->arena, bag.count);
  for (int64_t i = 0; i < bag.count; i++) owner[i] = draw_below(draw, OWNERS);
  for (int64_t o = 0; o < OWNERS; o++) {
    bag.group[o] = n;
    for (int64_t i = 0; i < bag.count; i++)
      if (owner[i] == o) bag.member[n++] = i;
  }
  bag.group[OWNERS] = n;
  double *vectors = arena_doubles(&c->arena, whole);
  memcpy(vectors, bag.values, (size_t)(bag.count * bag.dim) * sizeof *vectors);
  bag.vectors = kernel_put_real(c, dtype, vectors, whole);
  bag.positions = kernel_new_ints(c, OWNERS * bag.dim);
  return bag;
}

/* Each owner's maximum over its part, by positions in the whole bag. */
static void pool_parts(kernel_case_t *c, sbag_dtype_t dtype, const dealt_bag_t *bag) {
  int64_t *member = kernel_put_ints(c, bag->member, bag->count);
  reduce_task_t task = {.op = REDUCE_MAX,
                        .dim = bag->dim,
                        .segment_end = OWNERS,
                        .begin = kernel_put_ints(c, bag->group, OWNERS + 1),
                        .term = member,
                        .stride = bag->dim,
                        .src = bag->vectors,
                        .position = member,
                        .out = (char *)bag->vectors +
                               (size_t)(bag->count * bag->dim) * kernel_dtype_bytes(dtype),
                        .out_stride = bag->dim,
                        .out_position = bag->positions};
  c->ops->reduce(c->kernel, NULL, dtype, &task, 1);
}

/* Some owners' parts as partial pools, the others' as rows, in any order. */
static void check_combined(kernel_case_t *c, draw_t *draw, sbag_dtype_t dtype, const dealt_bag_t *bag) {
  int64_t most = bag->count + OWNERS, n = 0, ends[2] = {0, 0}, dim = bag->dim;
  int64_t *term = arena_ints(&c->arena, most), *position = arena_ints(&c->arena, most);
  int64_t *terms = arena_ints(&c->arena, most), *positions = arena_ints(&c->arena, most);
  for (int64_t o = 0; o < OWNERS; o++) {
    if (draw_one_in(draw, 2)) {
      term[n] = (bag->count + o) * dim;
      position[n++] = -1 - o * dim;
      continue;
    }
    for (int64_t m = bag->group[o]; m < bag->group[o + 1]; m++) {
      term[n] = bag->member[m] * dim;
      position[n++] = bag->member[m];
    }
  }
  int64_t *order = kernel_draw_order(c, draw, n), *won = arena_ints(&c->arena, dim);
  double *value = arena_doubles(&c->arena, dim);
  for (int64_t i = 0; i < n; i++) terms[i] = term[order[i]];
  for (int64_t i = 0; i < n; i++) positions[i] = position[order[i]];
  ends[1] = n;
  reduce_task_t task = {.op = REDUCE_MAX,
                        .dim = dim,
                        .segment_end = 1,
                        .begin = kernel_put_ints(c, ends, 2),
                        .term = kernel_put_ints(c, terms, n),
                        .stride = 1,
                        .src = bag->vectors,
                        .position = kernel_put_ints(c, positions, n),
                        .partial = bag->positions,
                        .out = kernel_new(c, dim, kernel_dtype_bytes(dtype)),
                        .out_stride = dim,
                        .out_position = kernel_new_ints(c, dim)};
  c->ops->reduce(c->kernel, NULL, dtype, &task, 1);
  plain_max(bag->values, bag->count, dim, value, won);
  check_reals("combined", kernel_get_real(c, dtype, task.out, dim), value, dim);
  check_ints("position", kernel_get_ints(c, task.out_position, dim), won, dim);
}

START_TEST(partial_maxima_combine_in_any_order) {
  for (uint64_t number = 0; number < 4 * ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(3, number);
    dealt_bag_t bag = deal_bag(&c, &draw, dtype);
    pool_parts(&c, dtype, &bag);
    for (int again = 0; again < 3; again++) check_combined(&c, &draw, dtype, &bag);
    kernel_case_close(&c);
  }
}
END_TEST

/* ---- the backward's terms ---- */

START_TEST(grad_terms_say_where_and_how_much) {
  enum { FEATURES = 3, COLUMNS = 40 };
  static const int64_t column[FEATURES] = {0, 5, 30};
  static const sbag_mode_t mode[FEATURES] = {SBAG_MEAN, SBAG_MAX, SBAG_SUM};
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(4, number);
    int64_t bags = draw_between(&draw, 1, 6), slots = FEATURES * bags;
    int64_t *begin = kernel_draw_segments(&c, &draw, slots, 4), count = begin[slots];
    int64_t *slot = arena_ints(&c.arena, count), *order = kernel_draw_order(&c, &draw, count);
    int64_t *at = arena_ints(&c.arena, count), *select = arena_ints(&c.arena, count);
    double *weight = kernel_draw_values(&c, &draw, count), *scale = arena_doubles(&c.arena, count);
    int ordered = draw_one_in(&draw, 2), weighted = draw_one_in(&draw, 2), selects = draw_one_in(&draw, 2);
    for (int64_t s = 0; s < slots; s++)
      for (int64_t e = begin[s]; e < begin[s + 1]; e++) slot[e] = s;
    for (int64_t i = 0; i < count; i++) {
      int64_t item = ordered ? order[i] : i, s = slot[item], f = s / bags;
      at[i] = (s - f * bags) * COLUMNS + column[f];
      scale[i] = weighted ? weight[item] : 1;
      if (mode[f] == SBAG_MEAN) scale[i] = kernel_round(dtype, scale[i] / (double)(begin[s + 1] - begin[s]));
      select[i] = mode[f] == SBAG_MAX ? item - begin[s] : -1;
    }
    slot_map_t map = {bags, COLUMNS, FEATURES, column, mode};
    grad_terms_t terms = {.count = count,
                          .slot = kernel_put_ints(&c, slot, count),
                          .order = ordered ? kernel_put_ints(&c, order, count) : NULL,
                          .slot_begin = kernel_put_ints(&c, begin, slots + 1),
                          .weight = weighted ? kernel_put_real(&c, dtype, weight, count) : NULL,
                          .at = kernel_new_ints(&c, count),
                          .scale = kernel_new(&c, count, kernel_dtype_bytes(dtype)),
                          .select = selects ? kernel_new_ints(&c, count) : NULL};
    c.ops->grad_terms(c.kernel, NULL, dtype, &map, &terms);
    check_ints("at", kernel_get_ints(&c, terms.at, count), at, count);
    check_reals("scale", kernel_get_real(&c, dtype, terms.scale, count), scale, count);
    if (selects) check_ints("select", kernel_get_ints(&c, terms.select, count), select, count);
    kernel_case_close(&c);
  }
}
END_TEST

/* A random order of `count` items. */
static int64_t *draw_order(kernel_case_t *c, draw_t *draw, int64_t count) {
  int64_t *order = arena_ints(&c->arena, count);
  for (int64_t i = 0; i < count; i++) {
    int64_t j = draw_between(draw, 0, i);
    order[i] = order[j];
    order[j] = i;
  }
  return order;
}

/* What stood at i stands at order[i]. */
static int64_t *spread_ints(kernel_case_t *c, const int64_t *order, const int64_t *from, int64_t count) {
  int64_t *to = arena_ints(&c->arena, count);
  for (int64_t i = 0; i < count; i++) to[order[i]] = from[i];
  return to;
}

static double *spread_reals(kernel_case_t *c, const int64_t *order, const double *from, int64_t count) {
  double *to = arena_doubles(&c->arena, count);
  for (int64_t i = 0; i < count; i++) to[order[i]] = from[i];
  return to;
}

START_TEST(frequencies_are_by_row_and_feature) {
  enum { FEATURES = 4 };
  static const int by_freq[FEATURES] = {1, 0, 1, 0};
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(5, number);
    int64_t rows = draw_between(&draw, 0, 10), *begin = kernel_draw_segments(&c, &draw, rows, 8);
    int64_t count = begin[rows], *feature = arena_ints(&c.arena, count);
    double *scale = kernel_draw_values(&c, &draw, count), *wanted = arena_doubles(&c.arena, count);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = begin[r]; i < begin[r + 1]; i++) /* ascending, so neighbours */
        feature[i] =
            i == begin[r] ? draw_below(&draw, FEATURES) : draw_between(&draw, feature[i - 1], FEATURES - 1);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = begin[r]; i < begin[r + 1]; i++) {
        double same = 0;
        for (int64_t j = begin[r]; j < begin[r + 1]; j++) same += feature[j] == feature[i];
        wanted[i] = kernel_round(dtype, by_freq[feature[i]] ? scale[i] / same : scale[i]);
      }
    int64_t *order = draw_order(&c, &draw, count);
    void *device = kernel_put_real(&c, dtype, spread_reals(&c, order, scale, count), count);
    c.ops->frequency_scale(
        c.kernel, NULL, dtype, kernel_put_ints(&c, begin, rows + 1), rows, kernel_put_ints(&c, order, count),
        kernel_put_ints(&c, spread_ints(&c, order, feature, count), count), FEATURES, by_freq, device);
    check_reals("scale", kernel_get_real(&c, dtype, device, count), spread_reals(&c, order, wanted, count),
                count);
    kernel_case_close(&c);
  }
}
END_TEST

/* The same terms in other places, found by their order, give the same bits. */
START_TEST(terms_may_stand_in_any_order) {
  enum { DIM = 3, VECTORS = 20 };
  for (uint64_t number = 0; number < ROUNDS; number++) {
    kernel_case_t c;
    sbag_dtype_t dtype = open_case(&c, _i);
    draw_t draw = draw_start(7, number);
    int64_t segments = draw_between(&draw, 0, 10), *begin = kernel_draw_segments(&c, &draw, segments, 8);
    int64_t count = begin[segments], *term = arena_ints(&c.arena, count),
            *order = draw_order(&c, &draw, count);
    double *scale = kernel_draw_values(&c, &draw, count), *src = kernel_draw_values(&c, &draw, VECTORS * DIM);
    for (int64_t i = 0; i < count; i++) term[i] = draw_below(&draw, VECTORS);
    reduce_task_t task = {.op = number % 2 == 0 ? REDUCE_SUM : REDUCE_MAX,
                          .dim = DIM,
                          .segment_end = segments,
                          .begin = kernel_put_ints(&c, begin, segments + 1),
                          .term = kernel_put_ints(&c, term, count),
                          .stride = DIM,
                          .src = kernel_put_real(&c, dtype, src, VECTORS * DIM),
                          .scale = number % 2 == 0 ? kernel_put_real(&c, dtype, scale, count) : NULL,
                          .out_stride = DIM};
    reduce_task_t spread = task;
    double *zeros = arena_doubles(&c.arena, segments * DIM);
    task.out = kernel_put_real(&c, dtype, zeros, segments * DIM);
    spread.out = kernel_put_real(&c, dtype, zeros, segments * DIM);
    spread.order = kernel_put_ints(&c, order, count);
    spread.term = kernel_put_ints(&c, spread_ints(&c, order, term, count), count);
    if (task.scale != NULL)
      spread.scale = kernel_put_real(&c, dtype, spread_reals(&c, order, scale, count), count);
    c.ops->reduce(c.kernel, NULL, dtype, &task, 1);
    c.ops->reduce(c.kernel, NULL, dtype, &spread, 1);
    check_reals("out", kernel_get_real(&c, dtype, spread.out, segments * DIM),
                kernel_get_real(&c, dtype, task.out, segments * DIM), segments * DIM);
    kernel_case_close(&c);
  }
}
END_TEST

START_TEST(dot_products_of_vectors_and_rows) {
  enum { COUNT = 15, LEFT = 1200, ROWS = 4 };
  static const int64_t dims[] = {1, 3, 8, 1000};
  for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
    for (int rows = 0; rows < 2; rows++) { /* the right side: rows of a table, or vector offsets */
      kernel_case_t c;
      sbag_dtype_t dtype = open_case(&c, _i);
      draw_t draw = draw_start(6, d);
      int64_t dim = dims[d], size = ROWS * dim, stride = rows ? dim : 1, left_at[COUNT], right_at[COUNT];
      double *left = kernel_draw_values(&c, &draw, LEFT), *right = kernel_draw_values(&c, &draw, size);
      double wanted[COUNT] = {0};
      void *dot = kernel_new(&c, COUNT, kernel_dtype_bytes(dtype));
      for (int i = 0; i < COUNT; i++) {
        left_at[i] = draw_between(&draw, 0, LEFT - dim);
        right_at[i] = rows ? draw_below(&draw, ROWS) : draw_between(&draw, 0, size - dim);
        for (int64_t col = 0; col < dim; col++)
          wanted[i] += left[left_at[i] + col] * right[right_at[i] * stride + col];
      }
      c.ops->dot(c.kernel, NULL, dtype, dim, COUNT, kernel_put_real(&c, dtype, left, LEFT),
                 kernel_put_ints(&c, left_at, COUNT), kernel_put_real(&c, dtype, right, size),
                 kernel_put_ints(&c, right_at, COUNT), stride, dot);
      check_reals("dot", kernel_get_real(&c, dtype, dot, COUNT), wanted, COUNT);
      kernel_case_close(&c);
    }
}
END_TEST

Suite *kernel_reduce_suite(void) {
  Suite *suite = suite_create("kernel_reduce");
  TCase *test_case = tcase_create("kernel_reduce");
  tcase_set_timeout(test_case, 60); /* sanitizers, and kernels executed on a busy CPU */
  int cases = 2 * kernel_case_count();
  tcase_add_loop_test(test_case, sums_of_scaled_and_selected_terms, 0, cases);
  tcase_add_loop_test(test_case, maxima_are_torchs, 0, cases);
  tcase_add_loop_test(test_case, partial_maxima_combine_in_any_order, 0, cases);
  tcase_add_loop_test(test_case, grad_terms_say_where_and_how_much, 0, cases);
  tcase_add_loop_test(test_case, frequencies_are_by_row_and_feature, 0, cases);
  tcase_add_loop_test(test_case, terms_may_stand_in_any_order, 0, cases);
  tcase_add_loop_test(test_case, dot_products_of_vectors_and_rows, 0, cases);
  suite_add_tcase(suite, test_case);
  return suite;
}
