/* Kernels of the CPU on fixed inputs, for callgrind to count: each case is a function of its own, whose name
 * and inclusive count run.sh looks for. `instructions` runs all of them, once in scalar code and once in
 * AVX2; `instructions compiler` says what it was compiled by. */
#include "kernel/kernel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 64, ROWS = 1000, BAGS = 64, LENGTH = 10, TERMS = BAGS * LENGTH, UPDATED = 200 };

typedef struct inputs {
  kernel_t *kernel;
  float *weight; /* [ROWS][DIM] */
  float *states[OPTIMIZER_STATES_MAX];
  float *grad, *out; /* [TERMS][DIM] */
  int64_t *position; /* [BAGS][DIM] */
  int64_t begin[BAGS + 1], term[TERMS], count_begin[BAGS + 1];
  int64_t sums_begin[UPDATED + 1], rows[UPDATED];
} inputs_t;

/* ---- what is counted ---- */

static void reduce(inputs_t *in, int op, const int64_t *count_begin) {
  const reduce_task_t task = {.op = op,
                              .dim = DIM,
                              .segment_end = BAGS,
                              .begin = in->begin,
                              .term = in->term,
                              .stride = DIM,
                              .src = in->weight,
                              .count_begin = count_begin,
                              .out = in->out,
                              .out_stride = DIM,
                              .out_position = op == REDUCE_MAX ? in->position : NULL};
  in->kernel->ops->reduce(in->kernel, NULL, SBAG_F32, &task, 1);
}

static void update(inputs_t *in, sbag_optimizer_t kind) {
  const sbag_optimizer_options_t options = sbag_optimizer_options_default(kind);
  optimizer_update_t update = {
      .at = {.options = &options, .dtype = SBAG_F32, .dim = DIM, .weight = in->weight},
      .step = 1,
      .lr = options.lr,
      .grad_scale = 1.0,
      .count = UPDATED,
      .rows = in->rows};
  for (int i = 0; i < OPTIMIZER_STATES_MAX; i++) update.at.states[i] = in->states[i];
  const reduce_task_t sums = {.op = REDUCE_SUM,
                              .dim = DIM,
                              .segment_end = UPDATED,
                              .begin = in->sums_begin,
                              .term = in->term,
                              .stride = DIM,
                              .src = in->grad,
                              .out = in->out,
                              .out_stride = DIM};
  in->kernel->ops->update_sums(in->kernel, NULL, &update, &sums, 1);
}

#define CASE(name, call)                                                                                     \
  __attribute__((noinline)) static void case_##name(inputs_t *in) {                                          \
    call;                                                                                                    \
  }
#define BOTH(name, call) CASE(name##_scalar, call) CASE(name##_avx2, call)
BOTH(pool_sum, reduce(in, REDUCE_SUM, NULL))
BOTH(pool_mean, reduce(in, REDUCE_SUM, in->count_begin))
BOTH(pool_max, reduce(in, REDUCE_MAX, NULL))
BOTH(update_exact_sgd, update(in, SBAG_OPT_EXACT_SGD))
BOTH(update_exact_adagrad, update(in, SBAG_OPT_EXACT_ADAGRAD))
BOTH(update_exact_rowwise_adagrad, update(in, SBAG_OPT_EXACT_ROWWISE_ADAGRAD))
BOTH(update_sparse_adam, update(in, SBAG_OPT_SPARSE_ADAM))

typedef void case_fn(inputs_t *in);
#define ALL(isa)                                                                                             \
  {                                                                                                          \
    case_pool_sum_##isa, case_pool_mean_##isa, case_pool_max_##isa, case_update_exact_sgd_##isa,             \
        case_update_exact_adagrad_##isa, case_update_exact_rowwise_adagrad_##isa,                            \
        case_update_sparse_adam_##isa                                                                        \
  }
static case_fn *const scalar[] = ALL(scalar);
static case_fn *const avx2[] = ALL(avx2);

/* ---- inputs ---- */

static uint32_t next(uint32_t *state) {
  *state = *state * UINT32_C(1664525) + UINT32_C(1013904223);
  return *state >> 8;
}

static void *allocate(size_t count, size_t bytes) {
  void *block = aligned_alloc(64, (count * bytes + 63) / 64 * 64);
  if (block == NULL) exit(1);
  memset(block, 0, count * bytes);
  return block;
}

static void fill(inputs_t *in) {
  uint32_t state = 1;
  in->weight = allocate(ROWS * DIM, sizeof *in->weight);
  in->grad = allocate(TERMS * DIM, sizeof *in->grad);
  in->out = allocate(TERMS * DIM, sizeof *in->out);
  in->position = allocate(BAGS * DIM, sizeof *in->position);
  for (int i = 0; i < OPTIMIZER_STATES_MAX; i++) in->states[i] = allocate(ROWS * DIM, sizeof(float));
  for (int i = 0; i < ROWS * DIM; i++) in->weight[i] = (float)(next(&state) % 2001) / 1000.0F - 1.0F;
  for (int i = 0; i < TERMS * DIM; i++) in->grad[i] = (float)(next(&state) % 2001) / 1000.0F - 1.0F;
  for (int i = 0; i < TERMS; i++) in->term[i] = next(&state) % TERMS;
  for (int i = 0; i <= BAGS; i++) in->begin[i] = in->count_begin[i] = (int64_t)i * LENGTH;
  for (int i = 0; i <= UPDATED; i++) in->sums_begin[i] = (int64_t)i * TERMS / UPDATED;
  for (int i = 0; i < UPDATED; i++) in->rows[i] = (int64_t)i * 5 + i % 3;
}

static void run(inputs_t *in, mem_t *mem, kernel_isa_t isa, case_fn *const *cases, int count) {
  const kernel_cpu_options_t options = {.threads = 1, .isa = isa};
  sbag_status_t status;
  if (kernel_cpu_create(mem, &options, &in->kernel, &status) != SBAG_OK) {
    fprintf(stderr, "instructions: %s\n", status.message);
    exit(1);
  }
  for (int i = 0; i < count; i++) cases[i](in);
  kernel_destroy(&in->kernel);
}

static int say_compiler(void) {
#if defined(__clang__)
  printf("clang %s", __clang_version__);
#else
  printf("gcc %s", __VERSION__);
#endif
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  printf(", unoptimized");
#endif
  printf("\n");
  return 0;
}

int main(int argc, char **argv) {
  static inputs_t in;
  mem_t *mem = NULL;
  sbag_status_t status;
  if (argc > 1 && strcmp(argv[1], "compiler") == 0) return say_compiler();
  if (mem_create(&mem, &status) != SBAG_OK) return 1;
  fill(&in);
  run(&in, mem, ISA_SCALAR, scalar, sizeof scalar / sizeof *scalar);
  if (kernel_isa_available(ISA_AVX2)) run(&in, mem, ISA_AVX2, avx2, sizeof avx2 / sizeof *avx2);
  mem_destroy(&mem);
  return 0;
}
