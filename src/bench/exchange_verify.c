/* The plain computation: see exchange_verify.h. */
#include "bench/exchange_verify.h"

#include "bench/values.h"
#include "kernel/kernel.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BAGS_SAMPLED = 64, ROWS_SAMPLED = 256 };
static const int64_t block_bytes = (int64_t)4 << 20;

static double get(sbag_dtype_t dtype, const void *from, int64_t i) {
  return dtype == SBAG_F64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}
static void set(sbag_dtype_t dtype, void *to, int64_t i, double value) {
  if (dtype == SBAG_F64)
    ((double *)to)[i] = value;
  else
    ((float *)to)[i] = (float)value;
}

/* Of the terms' magnitudes: each part of a sum may have been rounded to the wire's type. */
static double tolerance(const bench_exchange_settings_t *s) {
  if (s->wire == SBAG_WIRE_F16) return 0x1p-9;
  if (s->wire == SBAG_WIRE_BF16) return 0x1p-6;
  return s->dtype == SBAG_F64 ? 1e-12 : 4e-6;
}

/* ---- rows and gradients ---- */

static sbag_code_t fill_table(sbag_context_h context, sbag_collection_h collection,
                              const bench_exchange_settings_t *s, int table, void *values, int64_t block_rows,
                              sbag_status_t *status) {
  int64_t ranks = sbag_context_size(context), rank = sbag_context_rank(context);
  int64_t share = (s->rows + ranks - 1) / ranks;
  int64_t first = share * rank < s->rows ? share * rank : s->rows;
  int64_t end = first + share < s->rows ? first + share : s->rows;
  for (int64_t done = 0; done < share; done += block_rows) {
    int64_t row = first + done < end ? first + done : end;
    int64_t rows = end - row < block_rows ? end - row : block_rows;
    for (int64_t i = 0; i < rows; i++)
      for (int64_t c = 0; c < s->dim; c++)
        set((sbag_dtype_t)s->dtype, values, i * s->dim + c, bench_value_of(table, row + i, c));
    SBAG_TRY(sbag_collection_write_range(collection, table, -1, row, rows, values, status));
  }
  return SBAG_OK;
}

sbag_code_t bench_verify_fill(sbag_context_h context, sbag_collection_h collection,
                              const bench_exchange_settings_t *s, sbag_status_t *status) {
  int64_t row_bytes = s->dim * (int64_t)kernel_dtype_bytes((sbag_dtype_t)s->dtype);
  int64_t block_rows = block_bytes > row_bytes ? block_bytes / row_bytes : 1;
  void *values = NULL;
  sbag_code_t code = mem_alloc(context_mem(context), mem_array_bytes(block_rows, (size_t)row_bytes),
                               "bench: rows", &values, status);
  code = comm_agree(context_comm(context), code, status);
  for (int t = 0; t < s->tables && code == SBAG_OK; t++)
    code = fill_table(context, collection, s, t, values, block_rows, status);
  mem_free(context_mem(context), values);
  return code;
}

void bench_verify_grad(const bench_exchange_settings_t *s, int rank, void *grad) {
  int64_t columns = s->tables * s->dim;
  for (int64_t b = 0; b < s->batch; b++)
    for (int64_t c = 0; c < columns; c++)
      set((sbag_dtype_t)s->dtype, grad, b * columns + c, bench_grad_of(rank, b, c));
}

/* ---- pools ---- */

/* The position of the bag's winner: the first of equals. */
static int64_t winner_of(int64_t table, const int64_t *bag, int64_t length, int64_t column) {
  int64_t best = 0;
  for (int64_t j = 1; j < length; j++)
    if (bench_value_of(table, bag[j], column) > bench_value_of(table, bag[best], column)) best = j;
  return best;
}

/* One column of a bag's pool, and the magnitudes that it is made of. */
static double pool(const bench_exchange_settings_t *s, int64_t table, const int64_t *bag, int64_t length,
                   int64_t column, double *magnitude) {
  double sum = 0;
  *magnitude = 0;
  if (s->mode == SBAG_MAX) {
    sum = bench_value_of(table, bag[winner_of(table, bag, length, column)], column);
    *magnitude = fabs(sum);
    return sum;
  }
  double scale = s->mode == SBAG_MEAN ? 1.0 / (double)length : 1.0;
  for (int64_t j = 0; j < length; j++) {
    double value = bench_value_of(table, bag[j], column);
    sum += scale * value;
    *magnitude += fabs(scale * value);
  }
  return sum;
}

void bench_verify_forward(const bench_verify_t *v, const int64_t *indices, const void *out, int64_t *wrong) {
  const bench_exchange_settings_t *s = v->settings;
  int64_t stride = s->batch / BAGS_SAMPLED + 1, columns = s->tables * s->dim;
  for (int64_t t = 0; t < s->tables; t++)
    for (int64_t b = 0; b < s->batch; b += stride) {
      const int64_t *bag = indices + (t * s->batch + b) * v->of.length;
      int differs = 0;
      for (int64_t c = 0; c < s->dim; c++) {
        double magnitude, want = pool(s, t, bag, v->of.length, c, &magnitude);
        double found = get((sbag_dtype_t)s->dtype, out, b * columns + t * s->dim + c);
        differs |= !(fabs(found - want) <= tolerance(s) * magnitude);
      }
      *wrong += differs;
    }
}

/* ---- gradients ---- */

/* Sampled rows of one table, ascending, and what their gradients should be. */
typedef struct sample {
  int64_t count;
  int64_t row[ROWS_SAMPLED + 1];
  int64_t at[ROWS_SAMPLED + 1]; /* in the table's gradient */
  double *sum, *magnitude;      /* [count][dim] */
  uint64_t *seen;               /* a bit a row of the table: looked up by any rank */
  int64_t *indices;             /* of one rank's batch, of the table */
} sample_t;

static int64_t find(const sample_t *sample, int64_t row) {
  int64_t low = 0, high = sample->count;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (sample->row[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low < sample->count && sample->row[low] == row ? low : -1;
}

/* Rows come in storage order, which is not theirs in every layout. */
static void take_sample(const int64_t *rows, int64_t count, sample_t *sample) {
  int64_t stride = count / ROWS_SAMPLED + 1;
  sample->count = 0;
  for (int64_t i = 0; i < count; i += stride) {
    int64_t at = sample->count++;
    for (; at > 0 && sample->row[at - 1] > rows[i]; at--) {
      sample->row[at] = sample->row[at - 1];
      sample->at[at] = sample->at[at - 1];
    }
    sample->row[at] = rows[i];
    sample->at[at] = i;
  }
}

static void add_edge(const bench_verify_t *v, int64_t table, int64_t rank, int64_t b, const int64_t *bag,
                     int64_t position, int64_t which, sample_t *sample) {
  const bench_exchange_settings_t *s = v->settings;
  double scale = s->mode == SBAG_MEAN ? 1.0 / (double)v->of.length : 1.0;
  for (int64_t c = 0; c < s->dim; c++) {
    if (s->mode == SBAG_MAX && winner_of(table, bag, v->of.length, c) != position) continue;
    double grad = scale * bench_grad_of(rank, b, table * s->dim + c);
    sample->sum[which * s->dim + c] += grad;
    sample->magnitude[which * s->dim + c] += fabs(grad);
  }
}

static void add_rank(const bench_verify_t *v, int64_t table, int64_t rank, sample_t *sample) {
  const bench_exchange_settings_t *s = v->settings;
  bench_batch_table(s, &v->of, rank, v->number, table, sample->indices);
  for (int64_t b = 0; b < s->batch; b++) {
    const int64_t *bag = sample->indices + b * v->of.length;
    for (int64_t j = 0; j < v->of.length; j++) {
      int64_t which = find(sample, bag[j]);
      sample->seen[bag[j] / 64] |= UINT64_C(1) << (bag[j] % 64);
      if (which >= 0) add_edge(v, table, rank, b, bag, j, which, sample);
    }
  }
}

/* Rows that this rank owns and some rank looked up. */
static sbag_code_t count_owned(const bench_verify_t *v, int table, const sample_t *sample, int64_t *owned,
                               sbag_status_t *status) {
  *owned = 0;
  for (int64_t row = 0; row < v->settings->rows; row++) {
    if ((sample->seen[row / 64] >> (row % 64) & 1) == 0) continue;
    int rank = 0;
    int64_t local = 0;
    SBAG_TRY(sbag_collection_locate(v->collection, table, row, &rank, &local, status));
    *owned += rank == sbag_context_rank(v->context);
  }
  return SBAG_OK;
}

/* A table's merged gradient in the host's memory. */
typedef struct lent {
  const int64_t *rows;
  const void *values;
  void *block; /* of both, where the step's are a GPU's */
} lent_t;

static sbag_code_t fetch_grad(const bench_verify_t *v, sbag_step_h step, int table, lent_t *lent,
                              int64_t *count, sbag_status_t *status) {
  *lent = (lent_t){.block = NULL};
  SBAG_TRY(sbag_step_sparse_grad(step, table, &lent->rows, &lent->values, count, status));
  if (sbag_context_device(v->context) == SBAG_DEVICE_CPU || *count == 0) return SBAG_OK;
  int64_t row_bytes = *count * (int64_t)sizeof(int64_t);
  int64_t value_bytes =
      *count * v->settings->dim * (int64_t)kernel_dtype_bytes((sbag_dtype_t)v->settings->dtype);
  SBAG_TRY(mem_alloc(context_mem(v->context), (size_t)(row_bytes + value_bytes), "bench: gradients",
                     &lent->block, status));
  char *values = (char *)lent->block + row_bytes;
  sbag_code_t code = sbag_context_copy(v->context, lent->block, lent->rows, row_bytes, status);
  if (code == SBAG_OK) code = sbag_context_copy(v->context, values, lent->values, value_bytes, status);
  if (code != SBAG_OK) mem_free(context_mem(v->context), lent->block);
  lent->rows = lent->block;
  lent->values = values;
  return code;
}

static sbag_code_t check_table(const bench_verify_t *v, sbag_step_h step, int table, sample_t *sample,
                               int64_t *wrong, sbag_status_t *status) {
  const bench_exchange_settings_t *s = v->settings;
  int64_t count = 0, owned = 0;
  lent_t lent;
  SBAG_TRY(fetch_grad(v, step, table, &lent, &count, status));
  const void *values = lent.values;
  take_sample(lent.rows, count, sample);
  memset(sample->sum, 0, (size_t)(2 * (ROWS_SAMPLED + 1) * s->dim) * sizeof(double));
  memset(sample->seen, 0, (size_t)(s->rows / 64 + 1) * sizeof(uint64_t));
  for (int rank = 0; rank < sbag_context_size(v->context); rank++) add_rank(v, table, rank, sample);
  sbag_code_t code = count_owned(v, table, sample, &owned, status);
  *wrong += llabs((long long)(owned - count));
  for (int64_t i = 0; i < sample->count; i++) {
    int differs = 0;
    for (int64_t c = 0; c < s->dim; c++) {
      double found = get((sbag_dtype_t)s->dtype, values, sample->at[i] * s->dim + c);
      double want = sample->sum[i * s->dim + c], magnitude = sample->magnitude[i * s->dim + c];
      differs |= !(fabs(found - want) <= tolerance(s) * magnitude);
    }
    *wrong += differs;
  }
  mem_free(context_mem(v->context), lent.block);
  return code;
}

sbag_code_t bench_verify_backward(const bench_verify_t *v, sbag_step_h step, int64_t *wrong,
                                  sbag_status_t *status) {
  const bench_exchange_settings_t *s = v->settings;
  mem_t *mem = context_mem(v->context);
  int64_t sums = 2 * (ROWS_SAMPLED + 1) * s->dim, bits = s->rows / 64 + 1;
  int64_t indices = s->batch * v->of.length;
  void *block = NULL;
  sample_t sample = {.count = 0};
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(sums + bits + indices, 8), "bench: what gradients should be",
                     &block, status));
  sample.sum = block;
  sample.magnitude = sample.sum + sums / 2;
  sample.seen = (uint64_t *)(void *)(sample.sum + sums);
  sample.indices = (int64_t *)(void *)(sample.seen + bits);
  sbag_code_t code = SBAG_OK;
  for (int t = 0; t < s->tables && code == SBAG_OK; t++)
    code = check_table(v, step, t, &sample, wrong, status);
  mem_free(mem, block);
  return code;
}
