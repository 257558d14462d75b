/* reduce on the CPU: the scalar reference of both dtypes and all storages, and how a call's segments are
 * dealt to threads.
 *
 * Each thread gets neighbouring segments, over all tasks, with about as much to read as the others' (whatever
 * the number of segments or tasks), and works on them by cpu_reduce_stream.c or by the reference. A segment
 * that is long by itself (a row that is hot in a backward) and lies between two threads is shared: its blocks
 * are summed by whoever comes, and added in their order. So nothing depends on the number of threads. */
#include "kernel/cpu.h"
#include "kernel/cpu_reduce.h"
#include "kernel/narrow.h"
#include "kernel/quant.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
  COLUMNS = 256,                  /* of a vector that are worked on at a time */
  SHARED_TERMS = 4 * REDUCE_BLOCK /* of a segment that threads share, at least */
};

/* Less to read or write than this is done by one thread: to wake others takes longer. */
static const int64_t threads_bytes = 1 << 17;

#define REAL     float
#define NAME(fn) fn##_f32
#include "kernel/cpu_reduce.inc"
#undef REAL
#undef NAME

#define REAL     double
#define NAME(fn) fn##_f64
#include "kernel/cpu_reduce.inc"

/* What a call is about, and with which instructions. */
typedef struct job {
  const reduce_isa_t *isa; /* NULL: the reference */
  sbag_dtype_t dtype;
  const reduce_task_t *tasks;
  int64_t count;
} job_t;

void cpu_reduce_scalar(sbag_dtype_t dtype, const reduce_task_t *t, int64_t first, int64_t end) {
  if (dtype == SBAG_F64)
    (t->op == REDUCE_MAX ? reduce_max_f64 : reduce_sum_f64)(t, first, end);
  else
    (t->op == REDUCE_MAX ? reduce_max_f32 : reduce_sum_f32)(t, first, end);
}

/* ---- how much there is to do ---- */

static int64_t terms_before(const reduce_task_t *t, int64_t segment) {
  return t->begin != NULL ? t->begin[segment] - t->begin[t->segment_begin] : segment - t->segment_begin;
}

/* Bytes read and written for the task's segments before this one, about. */
static int64_t bytes_before(const job_t *job, const reduce_task_t *t, int64_t segment) {
  const int64_t out = t->dim * (int64_t)kernel_dtype_bytes(job->dtype);
  const int64_t in = (int64_t)kernel_row_bytes(job->dtype, t->storage, t->dim);
  const int64_t places = t->op == REDUCE_MAX ? t->dim * (int64_t)sizeof(int64_t) : 0;
  return terms_before(t, segment) * (in + LINE_BYTES) +
         (segment - t->segment_begin) * (out + places + LINE_BYTES);
}

static int64_t job_bytes(const job_t *job) {
  int64_t sum = 0;
  for (int64_t i = 0; i < job->count; i++)
    sum += bytes_before(job, &job->tasks[i], job->tasks[i].segment_end);
  return sum;
}

static int is_shared(const reduce_task_t *t, int64_t segment) {
  return t->op == REDUCE_SUM && t->dim <= REDUCE_PART_COLUMNS && t->begin != NULL &&
         t->begin[segment + 1] - t->begin[segment] > SHARED_TERMS;
}

/* Where one thread's segments end and the next one's start: at the same, unless there is a shared one between
 * them. */
typedef struct border {
  int64_t task, end, start;
} border_t;

/* The segment that has the byte `at` of the task. */
static int64_t segment_at(const job_t *job, const reduce_task_t *t, int64_t at) {
  int64_t low = t->segment_begin, high = t->segment_end;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (bytes_before(job, t, middle) <= at)
      low = middle;
    else
      high = middle;
  }
  return low;
}

static border_t border_of(const job_t *job, int64_t total, int number, int threads) {
  int64_t at = (int64_t)((double)total * number / threads);
  for (int64_t i = 0; number < threads && i < job->count; i++) {
    const reduce_task_t *t = &job->tasks[i];
    const int64_t bytes = bytes_before(job, t, t->segment_end);
    if (at < bytes) {
      const int64_t segment = segment_at(job, t, at);
      if (bytes_before(job, t, segment) == at) return (border_t){i, segment, segment};
      return (border_t){i, is_shared(t, segment) ? segment : segment + 1, segment + 1};
    }
    at -= bytes;
  }
  const int64_t last = job->count - 1;
  return (border_t){last, job->tasks[last].segment_end, job->tasks[last].segment_end};
}

/* ---- one thread's segments ---- */

static void do_span(const job_t *job, const reduce_span_t *span) {
  if (job->isa != NULL && job->dtype == SBAG_F32) {
    cpu_reduce_stream(job->isa, span);
    return;
  }
  for (int64_t i = 0; i < span->count; i++)
    cpu_reduce_scalar(job->dtype, &span->tasks[i], reduce_span_first(span, i), reduce_span_end(span, i));
}

static void do_share(const job_t *job, border_t from, border_t to, int stream) {
  if (from.task > to.task || (from.task == to.task && from.start >= to.end)) return;
  const reduce_span_t span = {.tasks = job->tasks + from.task,
                              .count = to.task - from.task + 1,
                              .first = from.start,
                              .end = to.end,
                              .stream = stream};
  do_span(job, &span);
}

/* ---- a segment that threads share ---- */

/* The terms [first, last) of a task as a task of one segment, whose sum goes to `out`. */
static void sum_block(const job_t *job, const reduce_task_t *t, int64_t first, int64_t last, void *out) {
  const int64_t ends[2] = {first, last};
  reduce_task_t block = *t;
  block.begin = ends;
  block.segment_begin = 0;
  block.segment_end = 1;
  block.count_begin = NULL;
  block.out_at = NULL;
  block.out = out;
  do_span(job, &(reduce_span_t){.tasks = &block, .count = 1, .end = 1});
}

/* sum += part, or (first) sum = part; divided by `count` where it is above 0. */
static void add_part(sbag_dtype_t dtype, int64_t dim, int first, int64_t count, const void *part, void *sum) {
  for (int64_t c = 0; c < dim && dtype == SBAG_F32; c++) {
    float *to = (float *)sum + c;
    *to = first ? ((const float *)part)[c] : *to + ((const float *)part)[c];
    if (count > 0) *to /= (float)count;
  }
  for (int64_t c = 0; c < dim && dtype == SBAG_F64; c++) {
    double *to = (double *)sum + c;
    *to = first ? ((const double *)part)[c] : *to + ((const double *)part)[c];
    if (count > 0) *to /= (double)count;
  }
}

/* Called by all threads of a team. */
static void do_shared(const job_t *job, const reduce_task_t *t, int64_t segment) {
  const int64_t first = t->begin[segment], last = t->begin[segment + 1];
  const int64_t at = (t->out_at != NULL ? t->out_at[segment] : segment - t->segment_begin) * t->out_stride;
  char *out = (char *)t->out + (size_t)at * kernel_dtype_bytes(job->dtype);
  double part[REDUCE_PART_COLUMNS];
#pragma omp for ordered schedule(dynamic, 1) nowait
  for (int64_t place = first; place < last; place += REDUCE_BLOCK) {
    const int64_t end = last - place > REDUCE_BLOCK ? place + REDUCE_BLOCK : last;
    const int64_t parts = t->count_begin != NULL ? t->count_begin[segment + 1] - t->count_begin[segment] : 0;
    sum_block(job, t, place, end, part);
#pragma omp ordered
    add_part(job->dtype, t->dim, place == first, end == last ? parts : 0, part, out);
  }
}

static void do_all_shared(const job_t *job, int64_t total, int threads) {
  border_t before = {.task = -1};
  for (int i = 1; i < threads; i++) {
    const border_t border = border_of(job, total, i, threads);
    if (border.end < border.start && (border.task != before.task || border.end != before.end))
      do_shared(job, &job->tasks[border.task], border.end);
    before = border;
  }
}

/* ---- a call ---- */

static void run_job(const job_t *job, int threads) {
  const int64_t total = job->count > 0 ? job_bytes(job) : 0;
  const int stream = total > 0 && cpu_reduce_streams(job->tasks, job->count);
  if (total == 0) return;
  if (threads == 1 || total < threads_bytes) {
    do_share(job, border_of(job, total, 0, 1), border_of(job, total, 1, 1), stream);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads(), me = omp_get_thread_num();
    do_share(job, border_of(job, total, me, team), border_of(job, total, me + 1, team), stream);
    do_all_shared(job, total, team);
  }
}

static const reduce_isa_t *isa_of(const kernel_t *k) {
#if defined(__x86_64__)
  if (k->isa == ISA_AVX512) return &reduce_isa_avx512;
  if (k->isa == ISA_AVX2) return &reduce_isa_avx2;
#endif
  (void)k;
  return NULL;
}

static void cpu_reduce(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const reduce_task_t *tasks,
                       int64_t count) {
  (void)stream;
  run_job(&(job_t){isa_of(k), dtype, tasks, count}, k->threads);
}

void cpu_reduce_segments(const kernel_t *k, sbag_dtype_t dtype, const reduce_task_t *task) {
  run_job(&(job_t){isa_of(k), dtype, task, 1}, 1);
}

void cpu_reduce_ops(kernel_ops_t *ops) {
  ops->reduce = cpu_reduce;
  ops->quantised = 1;
}
