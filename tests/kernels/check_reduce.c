/* Random calls of reduce, by every variant and by the scalar reference: the same bits. */
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"
#include "kernels.h"
#include "oracle/arena.h"
#include "oracle/draw.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TASKS_MOST = 4, GUARD_VALUES = 32 };

/* gcc's ThreadSanitizer does not know what its OpenMP waits for. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
enum { THREADS_MOST = 1 };
#else
enum { THREADS_MOST = 3 };
#endif

/* A call's tasks, with outputs that the variants take turns with. */
typedef struct call {
  arena_t arena;
  sbag_dtype_t dtype;
  reduce_task_t task[TASKS_MOST];
  int64_t out_count[TASKS_MOST]; /* elements of an output, guard included */
  int count;
  size_t budget; /* bytes of vectors that are read, about */
} call_t;

/* ---- drawing ---- */

static float draw_value(draw_t *draw, int special) {
  static const float values[] = {NAN, INFINITY, -INFINITY, -0.0f, 0.0f, 1e-40f, 65504.0f, 3.0e38f};
  if (special && draw_one_in(draw, 30)) return values[draw_below(draw, 8)];
  if (draw_one_in(draw, 4)) return (float)draw_between(draw, -2, 2); /* ties */
  return (float)(draw_unit(draw) * 4 - 2);
}

static void *draw_reals(call_t *c, draw_t *draw, int64_t count, int special) {
  void *values = arena_alloc(&c->arena, count, kernel_dtype_bytes(c->dtype));
  for (int64_t i = 0; i < count; i++) {
    const float value = draw_value(draw, special);
    if (c->dtype == SBAG_F64)
      ((double *)values)[i] = (double)value * (1 + draw_unit(draw));
    else
      ((float *)values)[i] = value;
  }
  return values;
}

/* Any 16 bits are a number of either kind. */
static void *draw_codes(call_t *c, draw_t *draw, int64_t count) {
  uint16_t *codes = arena_alloc(&c->arena, count, sizeof *codes);
  for (int64_t i = 0; i < count; i++) codes[i] = (uint16_t)draw_next(draw);
  for (int64_t i = 0; i < count; i++)
    if (!draw_one_in(draw, 20)) codes[i] &= 0xBFFF; /* no infinities and NaN of f16, few large bf16 */
  return codes;
}

/* Rows as quantising leaves them, some of them NaN; or any bytes between scales that are numbers. */
static void *draw_rows(call_t *c, draw_t *draw, sbag_storage_t storage, int64_t rows, int64_t dim) {
  const int64_t bytes = (int64_t)kernel_row_bytes(SBAG_F32, storage, dim);
  const int special = draw_one_in(draw, 2);
  uint8_t *table = arena_alloc(&c->arena, rows * bytes, 1);
  for (int64_t i = 0; i < rows; i++) {
    const quant_scale_t s = {(float)draw_unit(draw), (float)draw_unit(draw) - 0.5f, 0, 0};
    if (draw_one_in(draw, 2)) {
      quant_row_scalar(storage, draw_reals(c, draw, dim, special), dim, table + i * bytes);
      continue;
    }
    for (int64_t b = 0; b < bytes; b++) table[i * bytes + b] = (uint8_t)draw_next(draw);
    quant_put_scale(storage, dim, &s, table + i * bytes);
  }
  return table;
}

static int64_t *draw_ints(call_t *c, draw_t *draw, int64_t count, int64_t low, int64_t high) {
  int64_t *values = arena_ints(&c->arena, count);
  for (int64_t i = 0; i < count; i++) values[i] = draw_between(draw, low, high);
  return values;
}

static int64_t *draw_permutation(call_t *c, draw_t *draw, int64_t count) {
  int64_t *order = arena_ints(&c->arena, count);
  for (int64_t i = 0; i < count; i++) {
    const int64_t j = draw_between(draw, 0, i);
    order[i] = order[j];
    order[j] = i;
  }
  return order;
}

/* Short bags, or some long ones between them. */
static int64_t *draw_begin(call_t *c, draw_t *draw, int64_t segments, int64_t terms_most) {
  int64_t *begin = arena_ints(&c->arena, segments + 1);
  const int64_t usual = draw_between(draw, 0, 40), longest = draw_between(draw, 0, 40000);
  for (int64_t s = 0; s < segments; s++) {
    int64_t length = draw_between(draw, 0, usual);
    if (draw_one_in(draw, 20)) length = draw_between(draw, 0, longest);
    if (begin[s] + length > terms_most) length = 0;
    begin[s + 1] = begin[s] + length;
  }
  return begin;
}

static void draw_max(call_t *c, draw_t *draw, reduce_task_t *t, int64_t terms) {
  if (!draw_one_in(draw, 3)) return;
  const int64_t partials = draw_between(draw, 1, 5);
  int64_t *position = draw_ints(c, draw, terms, 0, 1000);
  for (int64_t i = 0; i < terms; i++)
    if (draw_one_in(draw, 4)) position[i] = -1 - draw_below(draw, partials) * t->dim;
  t->position = position;
  t->partial = draw_ints(c, draw, partials * t->dim, -1, 1000);
}

static void draw_sum(call_t *c, draw_t *draw, reduce_task_t *t, int64_t terms, int64_t segments) {
  if (draw_one_in(draw, 2)) t->scale = draw_reals(c, draw, terms, draw_one_in(draw, 4));
  if (draw_one_in(draw, 2)) t->count_begin = draw_begin(c, draw, segments, INT64_MAX / 2);
  if (!draw_one_in(draw, 4) || kernel_is_quantised(t->storage)) return;
  const int64_t winners = 50 * t->dim;
  t->select = draw_ints(c, draw, terms, -1, 2);
  t->select_at = draw_ints(c, draw, terms, 0, winners - t->dim);
  t->winner = draw_ints(c, draw, winners, -1, 2);
}

static reduce_task_t draw_task(call_t *c, draw_t *draw, int64_t *out_count) {
  reduce_task_t t = {.op = draw_one_in(draw, 3) ? REDUCE_MAX : REDUCE_SUM};
  t.dim = draw_one_in(draw, 3) ? draw_between(draw, 1, 300) : 8 * draw_between(draw, 1, 36);
  if (c->dtype == SBAG_F32) t.storage = (sbag_storage_t)draw_between(draw, 0, 4);
  const int64_t most = (int64_t)c->budget / (t.dim * 4) + 1;
  const int64_t segments = draw_between(draw, 1, most < 400 ? most : 400),
                vectors = draw_between(draw, 1, 500);
  const int64_t *begin = draw_begin(c, draw, segments, most);
  const int plain = draw_one_in(draw, 5), offsets = draw_one_in(draw, 4) && !kernel_is_quantised(t.storage);
  const int64_t terms = plain ? segments : begin[segments];
  t.segment_begin = draw_one_in(draw, 2) ? 0 : draw_below(draw, segments);
  t.segment_end = draw_one_in(draw, 2) ? segments : draw_between(draw, t.segment_begin, segments);
  t.begin = plain ? NULL : begin;
  t.order = draw_one_in(draw, 3) ? draw_permutation(c, draw, terms) : NULL;
  t.stride = offsets ? 1 : t.dim;
  t.term = draw_ints(c, draw, terms, 0, offsets ? (vectors - 1) * t.dim : vectors - 1);
  t.src = t.storage == SBAG_STORAGE_FULL   ? draw_reals(c, draw, vectors * t.dim, draw_one_in(draw, 2))
          : kernel_is_quantised(t.storage) ? draw_rows(c, draw, t.storage, vectors, t.dim)
                                           : draw_codes(c, draw, vectors * t.dim);
  if (t.op == REDUCE_MAX)
    draw_max(c, draw, &t, terms);
  else
    draw_sum(c, draw, &t, terms, segments);
  t.out_at = draw_one_in(draw, 3) ? draw_permutation(c, draw, segments) : NULL;
  t.out_stride = t.dim + (draw_one_in(draw, 2) ? 0 : draw_between(draw, 0, 20));
  *out_count = segments * t.out_stride + GUARD_VALUES;
  return t;
}

static call_t draw_call(draw_t draw) {
  call_t c = {.dtype = draw_one_in(&draw, 4) ? SBAG_F64 : SBAG_F32, .count = (int)draw_between(&draw, 1, 4)};
  c.budget = draw_one_in(&draw, 4) ? (size_t)8 << 20 : (size_t)1 << draw_between(&draw, 10, 19);
  for (int i = 0; i < c.count; i++) c.task[i] = draw_task(&c, &draw, &c.out_count[i]);
  return c;
}

/* ---- comparing ---- */

static void run_call(call_t *c, kernel_t *kernel) {
  for (int i = 0; i < c->count; i++) {
    const size_t bytes = kernel_dtype_bytes(c->dtype);
    c->task[i].out = arena_alloc(&c->arena, c->out_count[i], bytes);
    memset(c->task[i].out, 0x5A, (size_t)c->out_count[i] * bytes);
    if (c->task[i].op != REDUCE_MAX) continue;
    c->task[i].out_position = arena_ints(&c->arena, c->out_count[i]);
  }
  kernel->ops->reduce(kernel, NULL, c->dtype, c->task, c->count);
}

static int same_value(sbag_dtype_t dtype, const void *a, const void *b, int64_t i) {
  if (dtype == SBAG_F64) {
    const double *x = (const double *)a + i, *y = (const double *)b + i;
    return (isnan(*x) && isnan(*y)) || memcmp(x, y, sizeof *x) == 0;
  }
  const float *x = (const float *)a + i, *y = (const float *)b + i;
  return (isnan(*x) && isnan(*y)) || memcmp(x, y, sizeof *x) == 0;
}

static int same_output(const call_t *c, int task, const reduce_task_t *a, const reduce_task_t *b) {
  for (int64_t i = 0; i < c->out_count[task]; i++) {
    if (!same_value(c->dtype, a->out, b->out, i)) {
      printf("task %d: op %d, dim %lld, storage %d: output %lld differs", task, a->op, (long long)a->dim,
             (int)a->storage, (long long)i);
      return 0;
    }
    if (a->op == REDUCE_MAX && a->out_position[i] != b->out_position[i]) {
      printf("task %d: dim %lld, storage %d: position %lld is %lld, not %lld", task, (long long)a->dim,
             (int)a->storage, (long long)i, (long long)b->out_position[i], (long long)a->out_position[i]);
      return 0;
    }
  }
  return 1;
}

static int check_call(uint64_t number, kernel_t *reference, kernel_t *const *kernels, int count) {
  call_t c = draw_call(draw_start(71, number));
  reduce_task_t wanted[TASKS_MOST];
  int good = 1;
  run_call(&c, reference);
  memcpy(wanted, c.task, sizeof wanted);
  for (int k = 0; k < count && good; k++) {
    run_call(&c, kernels[k]);
    for (int i = 0; i < c.count && good; i++) {
      good = same_output(&c, i, &wanted[i], &c.task[i]);
      if (!good)
        printf(": reduce case %llu, %s, %d threads\n", (unsigned long long)number, kernels[k]->ops->name,
               kernels[k]->threads);
    }
  }
  arena_free(&c.arena);
  return good;
}

kernels_count_t kernels_check_reduce(mem_t *mem, int cases) {
  kernel_t *kernels[3 * ISA_COUNT], *reference = kernels_create(mem, ISA_SCALAR, 1);
  kernels_count_t count = {0, 0};
  int variants = 0;
  for (kernel_isa_t isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
    for (int threads = 1; threads <= THREADS_MOST && kernel_isa_available(isa); threads++)
      kernels[variants++] = kernels_create(mem, isa, threads);
    if (!kernel_isa_available(isa)) printf("skipped: this machine lacks instruction set %d\n", (int)isa);
  }
  for (int i = 0; i < cases; i++) {
    if (check_call((uint64_t)i, reference, kernels, variants))
      count.passed++;
    else
      count.failed++;
  }
  for (int k = 0; k < variants; k++) kernel_destroy(&kernels[k]);
  kernel_destroy(&reference);
  return count;
}
