/* The plain computation: see pool_verify.h. Gradients are positive, so that no sum is near 0, where an
 * optimizer that divides by it would make much of its rounding. */
#include "bench/pool_verify.h"

#include "bench/values.h"
#include "kernel/cpu_quant.h"
#include "kernel/quant.h"
#include <math.h>
#include <string.h>

enum { BAGS = 32, STATES = OPTIMIZER_STATES_MAX };

/* A table's part of the sample: of every stride-th bag all rows have their values, and its first one is
 * followed through the update. */
typedef struct sample {
  int64_t stride, count;
  int64_t row[BAGS];            /* distinct, ascending */
  double *sum;                  /* [count][dim] merged gradients */
  float *grad, *before, *after; /* [count][dim] */
  float *states[STATES];        /* [count][dim] or [count], before */
  void *block;
} sample_t;

static int64_t columns_of(const bench_pool_verify_t *v) {
  return v->settings->tables * v->of->dim;
}

static float grad_of(int64_t rank, int64_t bag, int64_t column) {
  return (float)bench_grad_of(rank, bag, column) + 3.0F;
}

void bench_pool_grad(const bench_pool_settings_t *s, int64_t dim, int rank, float *grad) {
  int64_t columns = s->tables * dim;
  for (int64_t b = 0; b < s->batch; b++)
    for (int64_t c = 0; c < columns; c++) grad[b * columns + c] = grad_of(rank, b, c);
}

/* ---- values of their place ---- */

static void values_of(int table, int64_t row, int64_t dim, float *values) {
  for (int64_t c = 0; c < dim; c++) values[c] = (float)bench_value_of(table, row, c);
}

/* What is read of a row that these values were written to; small whole numbers are exact in 16 bits. */
static void keep(sbag_storage_t storage, int64_t dim, float *values) {
  uint8_t row[KERNEL_NARROW_COLUMNS + 2 * sizeof(float)];
  float scale, bias;
  if (!kernel_is_quantised(storage)) return;
  quant_row_scalar(storage, values, dim, row);
  quant_get_scale(storage, dim, row, &scale, &bias);
  for (int64_t c = 0; c < dim; c++) values[c] = scale * (float)quant_get_code(storage, row, c) + bias;
}

static sbag_code_t write_bag(const bench_pool_verify_t *v, int table, const int64_t *bag, int64_t length,
                             float *values, sbag_status_t *status) {
  for (int64_t j = 0; j < length; j++) values_of(table, bag[j], v->of->dim, values + j * v->of->dim);
  return sbag_collection_write_rows(v->collection, table, bag, length, values, status);
}

/* As many calls on every rank: bags of all ranks are as many. */
static sbag_code_t write_rows(const bench_pool_verify_t *v, int64_t stride, float *values,
                              sbag_status_t *status) {
  const bench_pool_settings_t *s = v->settings;
  for (int t = 0; t < s->tables; t++) {
    const int64_t *offsets = v->batch->offsets + t * (s->batch + 1);
    for (int64_t b = 0; b < s->batch; b += stride)
      SBAG_TRY(write_bag(v, t, v->batch->indices + v->batch->first[t] + offsets[b],
                         offsets[b + 1] - offsets[b], values, status));
  }
  if (!s->spoil) return SBAG_OK;
  for (int64_t c = 0; c < v->of->dim; c++) values[c] = 1000;
  return sbag_collection_write_rows(v->collection, 0, v->batch->indices, 1, values, status);
}

/* ---- pools ---- */

static int differs(double found, double want, double magnitude) {
  return !(fabs(found - want) <= 4e-6 * magnitude);
}

/* values: room for the bag's rows. */
static int bag_differs(const bench_pool_verify_t *v, int table, const int64_t *bag, int64_t length,
                       float *values, const float *out) {
  for (int64_t j = 0; j < length; j++) {
    values_of(table, bag[j], v->of->dim, values + j * v->of->dim);
    keep(v->of->storage, v->of->dim, values + j * v->of->dim);
  }
  for (int64_t c = 0; c < v->of->dim; c++) {
    double sum = 0, most = -INFINITY, magnitude = 0;
    for (int64_t j = 0; j < length; j++) {
      double value = values[j * v->of->dim + c];
      sum += value;
      magnitude += fabs(value);
      most = fmax(most, value);
    }
    double want = v->of->mode == SBAG_MAX ? most : v->of->mode == SBAG_MEAN ? sum / (double)length : sum;
    if (differs(out[c], want, magnitude)) return 1;
  }
  return 0;
}

static void check_pools(const bench_pool_verify_t *v, int64_t stride, float *values, int64_t *wrong) {
  const bench_pool_settings_t *s = v->settings;
  for (int t = 0; t < s->tables; t++) {
    const int64_t *offsets = v->batch->offsets + t * (s->batch + 1);
    for (int64_t b = 0; b < s->batch; b += stride)
      *wrong +=
          bag_differs(v, t, v->batch->indices + v->batch->first[t] + offsets[b], offsets[b + 1] - offsets[b],
                      values, (const float *)v->out->host + b * columns_of(v) + t * v->of->dim);
  }
}

/* ---- updates ---- */

static int64_t place_of(const sample_t *sample, int64_t row) {
  int64_t low = 0, high = sample->count;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (sample->row[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static int has_row(const sample_t *sample, int64_t place, int64_t row) {
  return place < sample->count && sample->row[place] == row;
}

static void choose_rows(const bench_pool_verify_t *v, int table, sample_t *sample) {
  const bench_pool_settings_t *s = v->settings;
  const int64_t *offsets = v->batch->offsets + table * (s->batch + 1);
  sample->count = 0;
  for (int64_t b = 0; b < s->batch; b += sample->stride) {
    int64_t row = v->batch->indices[v->batch->first[table] + offsets[b]];
    int64_t place = place_of(sample, row);
    if (has_row(sample, place, row)) continue;
    memmove(&sample->row[place + 1], &sample->row[place], (size_t)(sample->count - place) * sizeof row);
    sample->row[place] = row;
    sample->count++;
  }
}

static void merge_rank(const bench_pool_verify_t *v, const bench_pool_batch_t *batch, int64_t rank, int table,
                       sample_t *sample) {
  const bench_pool_settings_t *s = v->settings;
  const int64_t *offsets = batch->offsets + table * (s->batch + 1), dim = v->of->dim;
  for (int64_t b = 0; b < s->batch; b++) {
    double scale = v->of->mode == SBAG_MEAN ? 1.0 / (double)(offsets[b + 1] - offsets[b]) : 1.0;
    for (int64_t i = offsets[b]; i < offsets[b + 1]; i++) {
      int64_t row = batch->indices[batch->first[table] + i], place = place_of(sample, row);
      if (!has_row(sample, place, row)) continue;
      for (int64_t c = 0; c < dim; c++)
        sample->sum[place * dim + c] += scale * (double)grad_of(rank, b, table * dim + c);
    }
  }
}

/* The update again, as the table's next one. */
static sbag_code_t update_plainly(const bench_pool_verify_t *v, int64_t step, sample_t *sample,
                                  sbag_status_t *status) {
  const sbag_optimizer_options_t options = sbag_optimizer_options_default(v->of->optimizer.kind);
  const kernel_cpu_options_t scalar = {.threads = 1, .isa = ISA_SCALAR};
  int32_t last_step[BAGS] = {0};
  double lr_log[OPTIMIZER_LR_LOG];
  for (int i = 0; i < OPTIMIZER_LR_LOG; i++) lr_log[i] = options.lr;
  optimizer_update_t update = {.at = {.options = &options,
                                      .dtype = SBAG_F32,
                                      .dim = v->of->dim,
                                      .weight = sample->before,
                                      .last_step = last_step,
                                      .epoch_step = step,
                                      .lr_log = lr_log},
                               .step = step + 1,
                               .lr = options.lr,
                               .grad_scale = 1.0,
                               .count = sample->count,
                               .grad = sample->grad};
  if (!optimizer_info(&options).moves_untouched) update.at.last_step = NULL;
  for (int i = 0; i < STATES; i++) update.at.states[i] = sample->states[i];
  for (int64_t i = 0; i < sample->count * v->of->dim; i++) sample->grad[i] = (float)sample->sum[i];
  kernel_t *kernel = NULL;
  SBAG_TRY(kernel_cpu_create(context_mem(v->context), &scalar, &kernel, status));
  kernel->ops->update(kernel, NULL, &update);
  kernel_destroy(&kernel);
  return SBAG_OK;
}

/* Of a row: 16 bits round an update by at most a unit in their last place. */
static double tolerance_of(sbag_storage_t storage) {
  if (storage == SBAG_STORAGE_F16) return 0x1p-9;
  return storage == SBAG_STORAGE_BF16 ? 0x1p-6 : 4e-6;
}

static void check_rows(const bench_pool_verify_t *v, const sample_t *sample, int64_t *wrong) {
  int64_t dim = v->of->dim;
  for (int64_t i = 0; i < sample->count; i++) {
    int found = 0;
    for (int64_t c = 0; c < dim; c++) {
      double want = sample->before[i * dim + c];
      double most = tolerance_of(v->of->storage) * (1.0 + fabs(want));
      found |= !(fabs(sample->after[i * dim + c] - want) <= most);
    }
    *wrong += found;
  }
}

static sbag_code_t create_sample(const bench_pool_verify_t *v, sample_t *sample, sbag_status_t *status) {
  int64_t each = BAGS * v->of->dim;
  SBAG_TRY(mem_alloc(context_mem(v->context),
                     mem_array_bytes(each, sizeof(double) + (3 + STATES) * sizeof(float)), "bench: sample",
                     &sample->block, status));
  sample->sum = sample->block;
  float *next = (float *)(void *)(sample->sum + each);
  float **parts[] = {&sample->grad, &sample->before, &sample->after};
  for (int i = 0; i < 3; i++, next += each) *parts[i] = next;
  for (int i = 0; i < STATES; i++, next += each) sample->states[i] = next;
  return SBAG_OK;
}

/* What the rows and their states are before the update. */
static sbag_code_t read_before(const bench_pool_verify_t *v, int table, sample_t *sample,
                               sbag_status_t *status) {
  int states = sbag_collection_state_count(v->collection, table);
  choose_rows(v, table, sample);
  SBAG_TRY(
      sbag_collection_read_rows(v->collection, table, sample->row, sample->count, sample->before, status));
  for (int i = 0; i < states; i++)
    SBAG_TRY(sbag_collection_read_state(v->collection, table, i, sample->row, sample->count,
                                        sample->states[i], status));
  return SBAG_OK;
}

static sbag_code_t merge(const bench_pool_verify_t *v, int table, sample_t *sample, sbag_status_t *status) {
  memset(sample->sum, 0, (size_t)(sample->count * v->of->dim) * sizeof(double));
  for (int rank = 0; rank < sbag_context_size(v->context); rank++) {
    bench_pool_batch_t other;
    if (rank == sbag_context_rank(v->context)) {
      merge_rank(v, v->batch, rank, table, sample);
      continue;
    }
    SBAG_TRY(bench_pool_batch_create(v->settings, v->of, rank, 0, v->context, &other, status));
    merge_rank(v, &other, rank, table, sample);
    bench_pool_batch_destroy(v->context, &other);
  }
  return SBAG_OK;
}

static sbag_code_t check_table(const bench_pool_verify_t *v, int table, int64_t step, sample_t *sample,
                               int64_t *wrong, sbag_status_t *status) {
  sbag_code_t code = merge(v, table, sample, status);
  if (code == SBAG_OK) code = update_plainly(v, step, sample, status);
  SBAG_TRY(sbag_context_agree(v->context, code, status));
  SBAG_TRY(
      sbag_collection_read_rows(v->collection, table, sample->row, sample->count, sample->after, status));
  check_rows(v, sample, wrong);
  return SBAG_OK;
}

/* ---- a step ---- */

static sbag_code_t train(const bench_pool_verify_t *v, sbag_step_h step, sample_t *samples, int64_t *wrong,
                         sbag_status_t *status) {
  int tables = (int)v->settings->tables, checks = v->of->mode != SBAG_MAX;
  int64_t count = sbag_collection_step_count(v->collection, 0);
  for (int t = 0; t < tables && checks; t++) SBAG_TRY(read_before(v, t, &samples[t], status));
  SBAG_TRY(sbag_step_backward(step, v->grad->there, NULL, status));
  SBAG_TRY(sbag_step_update(step, 1.0, 1.0, status));
  for (int t = 0; t < tables && checks; t++) SBAG_TRY(check_table(v, t, count, &samples[t], wrong, status));
  return SBAG_OK;
}

static sbag_code_t run(const bench_pool_verify_t *v, sample_t *samples, float *values, int64_t *wrong,
                       sbag_status_t *status) {
  sbag_step_h step = NULL;
  SBAG_TRY(write_rows(v, samples[0].stride, values, status));
  int flags = v->of->optimizer.trains ? 0 : BENCH_POOL_FORWARD;
  sbag_code_t code = sbag_collection_forward_begin(v->collection, v->batch->bags, flags, &step, status);
  if (code == SBAG_OK) code = sbag_step_forward_end(step, v->out->there, status);
  if (code == SBAG_OK) code = bench_twin_fetch(v->context, v->out, status);
  if (code == SBAG_OK) check_pools(v, samples[0].stride, values, wrong);
  if (code == SBAG_OK && v->of->optimizer.trains) code = train(v, step, samples, wrong, status);
  sbag_step_release(&step);
  return code;
}

/* The longest bag of the sample. */
static int64_t longest(const bench_pool_verify_t *v, int64_t stride) {
  const bench_pool_settings_t *s = v->settings;
  int64_t most = 1;
  for (int64_t t = 0; t < s->tables; t++)
    for (int64_t b = 0; b < s->batch; b += stride) {
      const int64_t *at = v->batch->offsets + t * (s->batch + 1) + b;
      if (at[1] - at[0] > most) most = at[1] - at[0];
    }
  return most;
}

sbag_code_t bench_pool_verify(const bench_pool_verify_t *v, int64_t *wrong, sbag_status_t *status) {
  mem_t *mem = context_mem(v->context);
  int64_t tables = v->settings->tables, stride = (v->settings->batch + BAGS - 1) / BAGS;
  void *block = NULL, *values = NULL;
  sbag_code_t code =
      mem_calloc(mem, mem_array_bytes(tables, sizeof(sample_t)), "bench: samples", &block, status);
  sample_t *samples = block;
  if (code == SBAG_OK)
    code = mem_alloc(mem, mem_array_bytes(longest(v, stride) * v->of->dim, sizeof(float)),
                     "bench: a bag's rows", &values, status);
  for (int64_t t = 0; t < tables && code == SBAG_OK; t++) {
    samples[t].stride = stride;
    code = create_sample(v, &samples[t], status);
  }
  code = sbag_context_agree(v->context, code, status);
  if (code == SBAG_OK) code = run(v, samples, values, wrong, status);
  for (int64_t t = 0; t < tables && samples != NULL; t++) mem_free(mem, samples[t].block);
  mem_free(mem, values);
  mem_free(mem, block);
  return code;
}
