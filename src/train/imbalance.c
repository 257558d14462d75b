/* What ranks tell each other for a line of the log.
 *
 * The hottest row is estimated: each rank counts the rows in an even sample of its part of the last batch
 * (all of it where it has SAMPLE_MAX lookups at most), and tells its KEYS most frequent ones; of those the
 * row with most lookups over all ranks is told. A row that no rank has among its first KEYS is missed. */
#include "train/imbalance.h"
#include "base/clock.h"
#include "base/sort.h"

#include <stdlib.h>

enum { SAMPLE_MAX = 16384, KEYS = 4 };

typedef struct hot_key {
  int64_t table, row, lookups;
} hot_key_t;

/* What a rank tells. */
typedef struct report {
  int64_t bytes_sent, owned_rows, steps;
  double work_s, wire_error;
  hot_key_t keys[KEYS];
} report_t;

struct imbalance {
  const session_t *session;
  model_traffic_t since; /* at the last line */
  double began_s, waited_s, work_s;
  hot_key_t *sample; /* [SAMPLE_MAX]; then [KEYS * ranks] fit too */
  double *values;    /* [ranks] */
  report_t *mine, *all;
};

sbag_code_t imbalance_create(const session_t *session, imbalance_t **imbalance, sbag_status_t *status) {
  int64_t ranks = comm_size(session->comm);
  size_t sample = SAMPLE_MAX > KEYS * ranks ? SAMPLE_MAX : (size_t)(KEYS * ranks);
  void *block = NULL;
  SBAG_TRY(mem_calloc(session->mem, sizeof(imbalance_t), "training: log", &block, status));
  imbalance_t *made = block;
  *made = (imbalance_t){.session = session, .since = model_traffic(session->model)};
  sbag_code_t code = mem_alloc(session->mem, sample * sizeof(hot_key_t), "training: log", &block, status);
  if (code == SBAG_OK) made->sample = block;
  if (code == SBAG_OK)
    code = mem_alloc(session->mem, (size_t)ranks * sizeof(double), "training: log", &block, status);
  if (code == SBAG_OK) made->values = block;
  if (code == SBAG_OK)
    code = mem_calloc(session->mem, (size_t)(ranks + 1) * sizeof(report_t), "training: log", &block, status);
  if (code == SBAG_OK) made->mine = block;
  if (code == SBAG_OK)
    made->all = made->mine + 1;
  else
    imbalance_destroy(&made);
  *imbalance = made;
  return code;
}

void imbalance_destroy(imbalance_t **imbalance) {
  if (*imbalance == NULL) return;
  imbalance_t *i = *imbalance;
  mem_t *mem = i->session->mem;
  mem_free(mem, i->sample);
  mem_free(mem, i->values);
  if (comm_check(i->session->comm, NULL) == SBAG_OK) mem_free(mem, i->mine);
  mem_free(mem, i);
  *imbalance = NULL;
}

void imbalance_step_begin(imbalance_t *imbalance) {
  imbalance->began_s = clock_now();
  imbalance->waited_s = comm_trace_waited(&imbalance->session->comm->trace);
}

void imbalance_step_end(imbalance_t *imbalance) {
  double waited_s = comm_trace_waited(&imbalance->session->comm->trace) - imbalance->waited_s;
  imbalance->work_s += clock_now() - imbalance->began_s - waited_s;
}

/* ---- the hottest row ---- */

static int by_row(const void *a, const void *b) {
  const hot_key_t *x = a, *y = b;
  if (x->table != y->table) return x->table < y->table ? -1 : 1;
  return (x->row > y->row) - (x->row < y->row);
}

/* Most lookups first; ties by row, so that every run tells the same. */
static int by_lookups(const void *a, const void *b) {
  const hot_key_t *x = a, *y = b;
  if (x->lookups != y->lookups) return x->lookups > y->lookups ? -1 : 1;
  return by_row(a, b);
}

/* Keys of one row become one; returns how many are left, by lookups. */
static int64_t merge_keys(hot_key_t *keys, int64_t count) {
  int64_t merged = 0;
  sort_items(keys, count, sizeof *keys, by_row);
  for (int64_t i = 0; i < count; i++) {
    if (merged > 0 && by_row(&keys[merged - 1], &keys[i]) == 0)
      keys[merged - 1].lookups += keys[i].lookups;
    else
      keys[merged++] = keys[i];
  }
  sort_items(keys, merged, sizeof *keys, by_lookups);
  return merged;
}

/* Every stride-th lookup of the batch, of which each stands for `stride`. */
static int64_t take_sample(imbalance_t *i, const reader_batch_t *batch) {
  const model_config_t *config = &i->session->assembly.model;
  int features = i->session->assembly.read_count;
  int64_t total = 0, next = 0, before = 0, count = 0;
  for (int f = 0; f < features; f++) total += batch->features[f].nnz;
  int64_t stride = (total + SAMPLE_MAX - 1) / SAMPLE_MAX;
  for (int f = 0; f < features; f++) {
    const reader_bags_t *bags = &batch->features[f];
    for (; next < before + bags->nnz; next += stride)
      i->sample[count++] = (hot_key_t){
          .table = config->features[f].table, .row = bags->indices[next - before], .lookups = stride};
    before += bags->nnz;
  }
  return count;
}

static void find_hot(imbalance_t *i, const reader_batch_t *batch, hot_key_t keys[KEYS]) {
  int64_t found = merge_keys(i->sample, take_sample(i, batch));
  for (int k = 0; k < KEYS; k++) keys[k] = k < found ? i->sample[k] : (hot_key_t){.lookups = 0};
}

static void tell_hot(imbalance_t *i, imbalance_line_t *line) {
  int64_t count = 0;
  for (int r = 0; r < comm_size(i->session->comm); r++)
    for (int k = 0; k < KEYS; k++)
      if (i->all[r].keys[k].lookups > 0) i->sample[count++] = i->all[r].keys[k];
  if (merge_keys(i->sample, count) == 0) return;
  line->hot_table = i->session->assembly.model.tables[i->sample[0].table].name;
  line->hot_row = i->sample[0].row;
  line->hot_lookups = i->sample[0].lookups;
}

/* ---- the line ---- */

/* Sorts the ranks' values. */
static double median(double *values, int count) {
  sort_reals(values, count);
  return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static void summarise(imbalance_t *i, imbalance_line_t *line) {
  int ranks = comm_size(i->session->comm);
  double steps = i->mine->steps > 0 ? (double)i->mine->steps : 1.0;
  for (int r = 0; r < ranks; r++) {
    double bytes = (double)i->all[r].bytes_sent / steps;
    line->sent_bytes_mean += bytes / ranks;
    if (bytes > line->sent_bytes_max) line->sent_bytes_max = bytes;
    if (i->all[r].work_s > i->all[line->slowest_rank].work_s) line->slowest_rank = r;
    if (i->all[r].wire_error > line->wire_error) line->wire_error = i->all[r].wire_error;
    i->values[r] = (double)i->all[r].owned_rows / steps;
  }
  line->owned_rows_median = median(i->values, ranks);
  line->owned_rows_max = i->values[ranks - 1];
  line->slowest_ms = 1e3 * i->all[line->slowest_rank].work_s / steps;
  for (int r = 0; r < ranks; r++) i->values[r] = 1e3 * i->all[r].work_s / steps;
  line->median_ms = median(i->values, ranks);
}

sbag_code_t imbalance_collect(imbalance_t *imbalance, const reader_batch_t *batch, imbalance_line_t *line,
                              sbag_status_t *status) {
  imbalance_t *i = imbalance;
  model_traffic_t now = model_traffic(i->session->model);
  *i->mine = (report_t){.bytes_sent = now.bytes_sent - i->since.bytes_sent,
                        .owned_rows = now.owned_rows - i->since.owned_rows,
                        .steps = now.steps - i->since.steps,
                        .work_s = i->work_s};
  if (i->mine->steps > 0)
    i->mine->wire_error = (now.wire_error - i->since.wire_error) / (double)i->mine->steps;
  find_hot(i, batch, i->mine->keys);
  SBAG_TRY(comm_allgather(i->session->comm, i->mine, (int64_t)sizeof *i->mine, i->all, "log: ranks", status));
  *line = (imbalance_line_t){.slowest_rank = 0};
  summarise(i, line);
  tell_hot(i, line);
  i->since = now;
  i->work_s = 0.0;
  return SBAG_OK;
}
