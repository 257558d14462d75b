/* The CPU's dense arithmetic: its table, and the ops that are short. */
#include "dense/cpu.h"

#include <stddef.h>

static const dense_team_t *team_of(dense_t *dense) {
  return &((dense_cpu_t *)dense)->team;
}

static void linear_forward(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                           const float *x, int64_t x_stride, float *y) {
  cpu_linear_forward(team_of(dense), layer, dropout, rows, x, x_stride, y);
}

static void linear_backward(dense_t *dense, const linear_t *layer, const dropout_t *dropout, int64_t rows,
                            const float *x, int64_t x_stride, const float *y, float *dy, float *dx,
                            int64_t dx_stride) {
  cpu_linear_backward(team_of(dense), layer, dropout, rows, x, x_stride, y, dy, dx, dx_stride);
}

/* In four chains of a fixed order, so that the bits are the same everywhere. */
static void norm_squared(dense_t *dense, const float *values, int64_t count, double *sum) {
  (void)dense;
  double chain[4] = {0};
  for (int64_t i = 0; i < count; i++) chain[i % 4] += (double)values[i] * (double)values[i];
  *sum = (chain[0] + chain[1]) + (chain[2] + chain[3]);
}

/* Values [first, first + rows * dim) as that many rows. */
static void update_part(dense_t *dense, const dense_optimizer_step_t *step, int64_t first, int64_t rows,
                        int64_t dim) {
  optimizer_update_t update = {
      .at = {.options = step->options, .dtype = SBAG_F32, .dim = dim, .weight = step->weight + first},
      .step = step->step,
      .lr = step->lr,
      .grad_scale = step->grad_scale,
      .count = rows,
      .grad = step->grad + first};
  for (int s = 0; s < OPTIMIZER_STATES_MAX; s++)
    update.at.states[s] = step->states[s] != NULL ? step->states[s] + first : NULL;
  if (rows > 0 && dim > 0) dense->kernel->ops->update(dense->kernel, NULL, &update);
}

/* Each value is updated by itself: the block is cut into rows so that the kernel can deal them to its
 * threads. */
static void update(dense_t *dense, const dense_optimizer_step_t *step) {
  const int64_t width = 1024, rows = step->count / width;
  update_part(dense, step, 0, rows, width);
  update_part(dense, step, rows * width, 1, step->count - rows * width);
}

static void input(dense_t *dense, const copy_part_t *parts, int64_t count) {
  dense->kernel->ops->copy(dense->kernel, NULL, parts, count);
}

static void input_ready(dense_t *dense) {
  (void)dense; /* eager */
}

static void destroy(dense_t *dense) {
  mem_free(dense->kernel->mem, dense);
}

static const dense_ops_t ops = {.name = "cpu",
                                .destroy = destroy,
                                .linear_forward = linear_forward,
                                .linear_backward = linear_backward,
                                .interaction_forward = cpu_interaction_forward,
                                .interaction_backward = cpu_interaction_backward,
                                .cross_forward = cpu_cross_forward,
                                .cross_backward = cpu_cross_backward,
                                .add = cpu_add,
                                .add_rows = cpu_add_rows,
                                .spread_rows = cpu_spread_rows,
                                .fm_forward = cpu_fm_forward,
                                .fm_backward = cpu_fm_backward,
                                .loss = cpu_loss,
                                .softmax_loss = cpu_softmax_loss,
                                .match_forward = cpu_match_forward,
                                .match_loss = cpu_match_loss,
                                .match_backward = cpu_match_backward,
                                .norm_squared = norm_squared,
                                .update = update,
                                .input = input,
                                .input_ready = input_ready};

static cpu_pairs_t choose_pairs(kernel_isa_t isa, int reproducible) {
#if defined(__x86_64__)
  if (!reproducible && isa == ISA_AVX512) return cpu_pairs_avx512();
  if (!reproducible && isa == ISA_AVX2) return cpu_pairs_avx2();
#endif
  (void)isa, (void)reproducible;
  return cpu_pairs_lanes();
}

sbag_code_t dense_cpu_create(kernel_t *kernel, int reproducible, dense_t **dense, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(kernel->mem, sizeof(dense_cpu_t), "dense arithmetic", &block, status));
  dense_cpu_t *made = block;
  *made = (dense_cpu_t){
      .base = {.ops = &ops, .kernel = kernel, .on_host = 1},
      .team = {.gemm = reproducible ? gemm_fixed() : gemm_openblas(), .threads = kernel->threads},
      .pairs = choose_pairs(kernel->isa, reproducible)};
  *dense = &made->base;
  return SBAG_OK;
}
