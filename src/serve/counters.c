/* Counting, and the text of /metrics (Prometheus' exposition format 0.0.4). */
#include "serve/counters.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static const double times[COUNTERS_TIMES] = {25e-6,  50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2,
                                             2.5e-2, 5e-2,  0.1,  0.25,   0.5,  1,    2.5,    5,    10};
static const double sizes[COUNTERS_SIZES] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384};
static const char *const stage_names[STAGES] = {"receive", "parse", "queue", "compute", "reply", "server"};
static const char *const error_names[ERRORS] = {"bad_request", "unauthorized", "not_found", "too_large",
                                                "overload",    "closing",      "internal"};

/* The list of names, and behind it their letters. */
static sbag_code_t copy_tables(const model_config_t *config, counters_t *m, sbag_status_t *status) {
  size_t bytes = mem_array_bytes(config->table_count, sizeof *m->tables);
  void *block = NULL;
  for (int t = 0; t < config->table_count; t++) bytes += strlen(config->tables[t].name) + 1;
  SBAG_TRY(mem_alloc(m->mem, bytes, "serving: metrics", &block, status));
  m->tables = block;
  char *at = (char *)(m->tables + config->table_count);
  for (int t = 0; t < config->table_count; t++) {
    size_t length = strlen(config->tables[t].name) + 1;
    m->tables[t] = memcpy(at, config->tables[t].name, length);
    at += length;
  }
  return SBAG_OK;
}

sbag_code_t counters_open(const serve_signature_t *signatures, const model_config_t *config, int rank_count,
                          mem_t *mem, counters_t *metrics, sbag_status_t *status) {
  void *block = NULL;
  *metrics = (counters_t){.mem = mem, .table_count = config->table_count, .rank_count = rank_count};
  for (int k = 0; k < SERVE_KINDS; k++)
    if (signatures[k].output_count > 0)
      memcpy(metrics->models[k], signatures[k].name, sizeof metrics->models[k]);
  SBAG_TRY(copy_tables(config, metrics, status));
  sbag_code_t code =
      mem_calloc(mem, mem_array_bytes((int64_t)config->table_count * rank_count, sizeof *metrics->lookups),
                 "serving: metrics", &block, status);
  metrics->lookups = block;
  if (code == SBAG_OK && pthread_mutex_init(&metrics->mutex, NULL) != 0)
    code = status_set(status, SBAG_ERR_MEMORY, "serving: no lock for metrics");
  if (code == SBAG_OK) return SBAG_OK;
  mem_free(mem, metrics->tables);
  mem_free(mem, block);
  return code;
}

void counters_destroy(counters_t *metrics) {
  pthread_mutex_destroy(&metrics->mutex);
  mem_free(metrics->mem, metrics->tables);
  mem_free(metrics->mem, metrics->lookups);
}

static void count(counters_histogram_t *h, const double *bounds, int bound_count, double value) {
  int at = 0;
  while (at < bound_count && value > bounds[at]) at++;
  h->counts[at]++;
  h->sum += value;
}

void counters_error(counters_t *m, counters_error_t error) {
  pthread_mutex_lock(&m->mutex);
  m->errors[error]++;
  pthread_mutex_unlock(&m->mutex);
}

void counters_request(counters_t *m, serve_kind_t kind, int64_t samples, const double stages_s[STAGES]) {
  pthread_mutex_lock(&m->mutex);
  m->requests[kind]++;
  m->samples[kind] += samples;
  for (int s = 0; s < STAGES; s++) count(&m->stages[s], times, COUNTERS_TIMES, stages_s[s]);
  pthread_mutex_unlock(&m->mutex);
}

void counters_batch(counters_t *m, int64_t requests, int64_t samples, const int64_t *lookups) {
  pthread_mutex_lock(&m->mutex);
  count(&m->batch_requests, sizes, COUNTERS_SIZES, (double)requests);
  count(&m->batch_samples, sizes, COUNTERS_SIZES, (double)samples);
  for (int64_t i = 0; i < (int64_t)m->table_count * m->rank_count; i++) m->lookups[i] += lookups[i];
  pthread_mutex_unlock(&m->mutex);
}

void counters_overlap(counters_t *m) {
  pthread_mutex_lock(&m->mutex);
  m->overlapped++;
  pthread_mutex_unlock(&m->mutex);
}

void counters_exchange(counters_t *m, int64_t sent_bytes, int64_t received_bytes) {
  pthread_mutex_lock(&m->mutex);
  m->sent_bytes += sent_bytes;
  m->received_bytes += received_bytes;
  pthread_mutex_unlock(&m->mutex);
}

void counters_served(counters_t *m, int64_t step, double written_s) {
  pthread_mutex_lock(&m->mutex);
  m->step = step;
  m->written_s = written_s;
  pthread_mutex_unlock(&m->mutex);
}

void counters_refresh(counters_t *m, counters_refresh_t outcome, double seconds) {
  pthread_mutex_lock(&m->mutex);
  m->refreshes[outcome]++;
  m->refresh_s = seconds;
  pthread_mutex_unlock(&m->mutex);
}

/* ---- the text ---- */

static void put_head(buffer_t *b, const char *name, const char *type, const char *help) {
  buffer_print(b, "# HELP shardbag_%s %s\n# TYPE shardbag_%s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line end are escaped. */
static void put_label(buffer_t *b, const char *value) {
  buffer_text(b, "\"");
  for (; *value != '\0'; value++) {
    if (*value == '\n')
      buffer_text(b, "\\n");
    else if (*value == '"' || *value == '\\')
      buffer_print(b, "\\%c", *value);
    else
      buffer_put(b, value, 1);
  }
  buffer_text(b, "\"");
}

/* label: "stage=\"parse\"", or "". */
static void put_histogram(buffer_t *b, const char *name, const char *label, const double *bounds,
                          int bound_count, const counters_histogram_t *h) {
  const char *comma = label[0] != '\0' ? "," : "";
  int64_t below = 0;
  for (int i = 0; i < bound_count; i++) {
    below += h->counts[i];
    buffer_print(b, "shardbag_%s_bucket{%s%sle=\"%g\"} %" PRId64 "\n", name, label, comma, bounds[i], below);
  }
  below += h->counts[bound_count];
  buffer_print(b, "shardbag_%s_bucket{%s%sle=\"+Inf\"} %" PRId64 "\n", name, label, comma, below);
  buffer_print(b, label[0] != '\0' ? "shardbag_%s_sum{%s} %.9g\n" : "shardbag_%s_sum%s %.9g\n", name, label,
               h->sum);
  buffer_print(b,
               label[0] != '\0' ? "shardbag_%s_count{%s} %" PRId64 "\n" : "shardbag_%s_count%s %" PRId64 "\n",
               name, label, below);
}

static void put_by_model(const counters_t *m, buffer_t *b, const char *name, const int64_t *values) {
  for (int k = 0; k < SERVE_KINDS; k++) {
    if (m->models[k][0] == '\0') continue;
    buffer_print(b, "shardbag_%s{model=", name);
    put_label(b, m->models[k]);
    buffer_print(b, "} %" PRId64 "\n", values[k]);
  }
}

static void put_requests(const counters_t *m, buffer_t *b) {
  char label[64];
  put_head(b, "requests_total", "counter", "Inference requests that were answered.");
  put_by_model(m, b, "requests_total", m->requests);
  put_head(b, "samples_total", "counter", "Samples of these requests.");
  put_by_model(m, b, "samples_total", m->samples);
  put_head(b, "errors_total", "counter", "Requests that were refused or failed, by kind.");
  for (int e = 0; e < ERRORS; e++)
    buffer_print(b, "shardbag_errors_total{kind=\"%s\"} %" PRId64 "\n", error_names[e], m->errors[e]);
  put_head(b, "stage_seconds", "histogram",
           "Time of an answered inference request by stage; server is all but receive.");
  for (int s = 0; s < STAGES; s++) {
    size_t length = strlen(stage_names[s]);
    memcpy(label, "stage=\"", 7);
    memcpy(label + 7, stage_names[s], length);
    memcpy(label + 7 + length, "\"", 2);
    put_histogram(b, "stage_seconds", label, times, COUNTERS_TIMES, &m->stages[s]);
  }
}

static void put_batches(const counters_t *m, buffer_t *b) {
  put_head(b, "batch_samples", "histogram", "Samples of a distributed look-up.");
  put_histogram(b, "batch_samples", "", sizes, COUNTERS_SIZES, &m->batch_samples);
  put_head(b, "batch_requests", "histogram", "Requests that shared a distributed look-up.");
  put_histogram(b, "batch_requests", "", sizes, COUNTERS_SIZES, &m->batch_requests);
  put_head(b, "batches_overlapped_total", "counter",
           "Distributed look-ups that began before the one ahead of them had ended.");
  buffer_print(b, "shardbag_batches_overlapped_total %" PRId64 "\n", m->overlapped);
  put_head(b, "lookups_total", "counter", "Indices looked up, by table and the rank that owns the row.");
  for (int t = 0; t < m->table_count; t++)
    for (int r = 0; r < m->rank_count; r++) {
      buffer_text(b, "shardbag_lookups_total{table=");
      put_label(b, m->tables[t]);
      buffer_print(b, ",rank=\"%d\"} %" PRId64 "\n", r, m->lookups[(int64_t)t * m->rank_count + r]);
    }
}

static void put_exchange(const counters_t *m, buffer_t *b) {
  put_head(b, "exchange_bytes_total", "counter",
           "Bytes of look-ups that rank 0 sent to the others (ids) and received from them (vectors).");
  buffer_print(b, "shardbag_exchange_bytes_total{direction=\"sent\"} %" PRId64 "\n", m->sent_bytes);
  buffer_print(b, "shardbag_exchange_bytes_total{direction=\"received\"} %" PRId64 "\n", m->received_bytes);
}

static void put_checkpoint(const counters_t *m, buffer_t *b) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  put_head(b, "checkpoint_step", "gauge", "Training steps of the checkpoint that is served.");
  buffer_print(b, "shardbag_checkpoint_step %" PRId64 "\n", m->step);
  put_head(b, "checkpoint_age_seconds", "gauge", "Time since the checkpoint's file was written.");
  buffer_print(b, "shardbag_checkpoint_age_seconds %.0f\n",
               (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - m->written_s);
  put_head(b, "refreshes_total", "counter", "Newer checkpoints that are or were served, or were refused.");
  buffer_print(b, "shardbag_refreshes_total{outcome=\"served\"} %" PRId64 "\n", m->refreshes[REFRESH_SERVED]);
  buffer_print(b, "shardbag_refreshes_total{outcome=\"refused\"} %" PRId64 "\n",
               m->refreshes[REFRESH_REFUSED]);
  put_head(b, "refresh_seconds", "gauge",
           "Time that the last newer checkpoint took until it was served or refused.");
  buffer_print(b, "shardbag_refresh_seconds %.6f\n", m->refresh_s);
}

void counters_write(counters_t *m, int64_t queued, int ready, buffer_t *b) {
  pthread_mutex_lock(&m->mutex);
  put_requests(m, b);
  put_batches(m, b);
  put_exchange(m, b);
  put_checkpoint(m, b);
  pthread_mutex_unlock(&m->mutex);
  put_head(b, "queue_requests", "gauge", "Requests that wait for a batch.");
  buffer_print(b, "shardbag_queue_requests %" PRId64 "\n", queued);
  put_head(b, "ready", "gauge", "1: inference requests are taken.");
  buffer_print(b, "shardbag_ready %d\n", ready);
}
