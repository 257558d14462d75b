/* The CPU's updates: how rows are dealt to threads. What is done to a row is in optimizer_isa.inc.
 *
 * A call's rows, of all its tables, are cut into pieces of neighbouring rows with about as much to do each,
 * which threads take as they come. A row that is hot, so that its sum alone would keep one thread busy, is
 * taken out: its blocks of terms are summed by whoever comes, and added in their order. So nothing depends on
 * the number of threads. */
#include "kernel/cpu.h"
#include "kernel/optimizer_isa.h"

#include <string.h>

enum {
  ROW_COST = 4,        /* of reading and writing a row, in terms of a sum */
  PIECE_COST = 2048,   /* of a piece, at least: to hand one out costs about as much as a few rows */
  PIECES = 8,          /* for each thread */
  HOT_PARTS = 4,       /* a row is hot with more than 1 / (HOT_PARTS threads) of all terms */
  SHARED_COLUMNS = 512 /* of a row that threads share, at most */
};

/* What a call is about. */
typedef struct job {
  const optimizer_isa_t *isa;
  const optimizer_update_t *updates;
  const reduce_task_t *sums; /* NULL: gradients are given */
  int64_t count;
  int threads;
  int64_t hot; /* terms of a row that is not hot, at most */
} job_t;

static const optimizer_isa_t *isa_of(const kernel_t *k) {
#if defined(__x86_64__)
  if (k->isa == ISA_AVX512) return &optimizer_avx512;
  if (k->isa == ISA_AVX2) return &optimizer_avx2;
#endif
  (void)k;
  return &optimizer_scalar;
}

/* ---- how much there is to do ---- */

static int64_t terms_before(const reduce_task_t *sums, int64_t row) {
  return sums->begin != NULL ? sums->begin[row] - sums->begin[0] : row;
}

static int64_t cost_before(const job_t *job, int64_t update, int64_t row) {
  return ROW_COST * row + (job->sums != NULL ? terms_before(&job->sums[update], row) : 0);
}

static int64_t cost_of_all(const job_t *job) {
  int64_t cost = 0;
  for (int64_t u = 0; u < job->count; u++) cost += cost_before(job, u, job->updates[u].count);
  return cost;
}

/* The first row of an update that has at least so much before it. */
static int64_t row_at_cost(const job_t *job, int64_t update, int64_t cost) {
  int64_t low = 0, high = job->updates[update].count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (cost_before(job, update, middle) >= cost)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* ---- hot rows ---- */

/* Threads share no row of many columns: there is room for a few. */
static int64_t most_terms(const job_t *job, int64_t update) {
  return job->updates[update].at.dim <= SHARED_COLUMNS ? job->hot : INT64_MAX;
}

static void add_part(sbag_dtype_t dtype, int64_t dim, const void *part, void *sum) {
  for (int64_t c = 0; c < dim && dtype == SBAG_F32; c++) ((float *)sum)[c] += ((const float *)part)[c];
  for (int64_t c = 0; c < dim && dtype == SBAG_F64; c++) ((double *)sum)[c] += ((const double *)part)[c];
}

static void update_hot_row(const job_t *job, int64_t u, int64_t i) {
  const reduce_task_t *sums = &job->sums[u];
  optimizer_update_t update = job->updates[u];
  const sbag_dtype_t dtype = update.at.dtype;
  const int64_t first = sums->begin[i], last = sums->begin[i + 1];
  double sum[SHARED_COLUMNS];
  memset(sum, 0, sizeof sum);
#pragma omp parallel for ordered schedule(dynamic, 1) num_threads(job->threads)
  for (int64_t place = first; place < last; place += REDUCE_BLOCK) {
    double part[SHARED_COLUMNS];
    const int64_t end = last - place > REDUCE_BLOCK ? place + REDUCE_BLOCK : last;
    job->isa->sum_block(sums, dtype, place, end, part);
#pragma omp ordered
    add_part(dtype, sums->dim, part, sum);
  }
  const int64_t row = update.rows != NULL ? update.rows[i] : i;
  update.rows = &row;
  update.count = 1;
  update.touched = NULL;
  update.grad = sum;
  job->isa->update(&update, NULL, 0, 1, INT64_MAX);
}

/* A row with more than `hot` terms has one of every hot-th. */
static void update_hot_rows(const job_t *job) {
  for (int64_t u = 0; u < job->count; u++) {
    const int64_t *begin = job->sums[u].begin, rows = job->updates[u].count;
    if (begin == NULL || rows == 0 || most_terms(job, u) == INT64_MAX) continue;
    int64_t done = -1;
    for (int64_t at = begin[0]; at < begin[rows]; at += job->hot) {
      int64_t low = 0, high = rows;
      while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (begin[middle] <= at)
          low = middle;
        else
          high = middle;
      }
      if (begin[low + 1] - begin[low] > job->hot && low != done) update_hot_row(job, u, done = low);
    }
  }
}

/* ---- all other rows ---- */

/* The rows whose cost lies from `low` on and below `high`, counted over all updates. */
static void update_piece(const job_t *job, int64_t low, int64_t high) {
  for (int64_t u = 0; u < job->count && high > 0; u++) {
    const int64_t first = row_at_cost(job, u, low), end = row_at_cost(job, u, high);
    if (first < end)
      job->isa->update(&job->updates[u], job->sums != NULL ? &job->sums[u] : NULL, first, end,
                       most_terms(job, u));
    const int64_t cost = cost_before(job, u, job->updates[u].count);
    low -= cost;
    high -= cost;
  }
}

static int64_t find_hot(const job_t *job) {
  int64_t terms = 0;
  for (int64_t u = 0; u < job->count; u++) terms += terms_before(&job->sums[u], job->updates[u].count);
  const int64_t part = terms / (HOT_PARTS * job->threads);
  return part > REDUCE_BLOCK ? part : REDUCE_BLOCK;
}

static void run_job(job_t job) {
  const int64_t cost = cost_of_all(&job);
  int64_t pieces = cost / PIECE_COST;
  if (job.threads == 1 || pieces < 2) {
    job.hot = INT64_MAX;
    for (int64_t u = 0; u < job.count; u++)
      job.isa->update(&job.updates[u], job.sums != NULL ? &job.sums[u] : NULL, 0, job.updates[u].count,
                      job.hot);
    return;
  }
  if (pieces > (int64_t)PIECES * job.threads) pieces = (int64_t)PIECES * job.threads;
  job.hot = job.sums != NULL ? find_hot(&job) : INT64_MAX;
  if (job.sums != NULL) update_hot_rows(&job);
#pragma omp parallel for schedule(dynamic, 1) num_threads(job.threads)
  for (int64_t piece = 0; piece < pieces; piece++)
    update_piece(&job, (int64_t)((double)cost * (double)piece / (double)pieces),
                 (int64_t)((double)cost * (double)(piece + 1) / (double)pieces));
}

/* ---- the ops ---- */

static void cpu_update(kernel_t *k, kernel_stream_t *stream, const optimizer_update_t *update) {
  (void)stream;
  run_job((job_t){.isa = isa_of(k), .updates = update, .count = 1, .threads = k->threads});
}

static void cpu_update_sums(kernel_t *k, kernel_stream_t *stream, const optimizer_update_t *updates,
                            const reduce_task_t *sums, int64_t count) {
  (void)stream;
  run_job((job_t){.isa = isa_of(k), .updates = updates, .sums = sums, .count = count, .threads = k->threads});
}

static void cpu_catch_up(kernel_t *k, kernel_stream_t *stream, const optimizer_rows_t *at, int64_t step,
                         int64_t count, const int64_t *rows) {
  (void)stream;
  const optimizer_isa_t *isa = isa_of(k);
  int64_t pieces = k->threads == 1 ? 1 : count * ROW_COST / PIECE_COST;
  if (pieces > (int64_t)PIECES * k->threads) pieces = (int64_t)PIECES * k->threads;
  if (pieces < 2) {
    isa->catch_up(at, step, 0, count, rows);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(k->threads)
  for (int64_t piece = 0; piece < pieces; piece++)
    isa->catch_up(at, step, count / pieces * piece + count % pieces * piece / pieces,
                  count / pieces * (piece + 1) + count % pieces * (piece + 1) / pieces, rows);
}

void cpu_update_ops(kernel_ops_t *ops) {
  ops->update = cpu_update;
  ops->update_sums = cpu_update_sums;
  ops->catch_up = cpu_catch_up;
  ops->sums_in_registers = 1;
}
