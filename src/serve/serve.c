/* Start, turns of the engine, and a tidy end. */
#include "serve/serve.h"

#include "collection/context.h"
#include "serve/engine.h"
#include "serve/http.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { TURN_MS = 50, WATCH_S = 1, STALLED_S = 5, DRAIN_S = 10, TOKEN_BYTES = 512 };

/* Rank 0's part. */
typedef struct server {
  const serve_subject_t *subject;
  const serve_options_t *options;
  serve_signature_t signatures[SERVE_KINDS];
  const char **tables;
  queue_t queue;
  counters_t metrics;
  engine_t engine;
  http_t *http;
  char token[TOKEN_BYTES];
  FILE *out;
} server_t;

serve_options_t serve_options_default(void) {
  return (serve_options_t){.bind = "127.0.0.1",
                           .port = 8000,
                           .threads = 2,
                           .connections = 256,
                           .max_batch = 4096,
                           .queue = 256,
                           .body_bytes = (int64_t)64 << 20,
                           .tensors = 1024,
                           .bag_length = 65536,
                           .request_s = 10,
                           .idle_s = 60};
}

/* A batch that does not end is a rank that does not answer: it is called so at a quarter of the time after
 * which the job ends. */
static int is_ready(void *user) {
  const server_t *s = user;
  long long since_us = atomic_load(&s->engine.busy_us);
  double limit_s = s->subject->timeout_s > 0 ? s->subject->timeout_s / 4 : STALLED_S;
  return since_us == 0 || queue_now() - 1e-6 * (double)since_us < limit_s;
}

/* ---- start ---- */

static sbag_code_t read_token(server_t *s, sbag_status_t *status) {
  const char *path = s->options->token_file;
  if (path == NULL) return SBAG_OK;
  FILE *file = fopen(path, "re");
  if (file == NULL) return status_set(status, SBAG_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
  size_t length = fread(s->token, 1, sizeof s->token - 1, file);
  fclose(file);
  s->token[length] = '\0';
  s->token[strcspn(s->token, "\r\n")] = '\0';
  if (s->token[0] != '\0' && length < sizeof s->token - 1) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: its first line must be a token of 1 to %d characters",
                    path, TOKEN_BYTES - 2);
}

static sbag_code_t open_metrics(server_t *s, mem_t *mem, sbag_status_t *status) {
  const model_config_t *config = s->subject->config;
  void *block = NULL;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(config->table_count, sizeof *s->tables), "serving: metrics", &block,
                     status));
  s->tables = block;
  for (int t = 0; t < config->table_count; t++) s->tables[t] = config->tables[t].name;
  sbag_code_t code = counters_open(s->signatures, s->tables, config->table_count,
                                   sbag_context_size(s->subject->context), mem, &s->metrics, status);
  if (code != SBAG_OK) mem_free(mem, s->tables);
  s->metrics.step = s->subject->step;
  s->metrics.written_s = s->subject->written_s;
  return code;
}

static sbag_code_t start_http(server_t *s, mem_t *mem, sbag_status_t *status) {
  const serve_options_t *o = s->options;
  const http_options_t http = {
      .bind = o->bind,
      .port = (int)o->port,
      .threads = (int)o->threads,
      .connections = (int)o->connections,
      .body_bytes = o->body_bytes,
      .limits = {.tensors = o->tensors, .bag_length = o->bag_length, .samples = o->max_batch},
      .request_s = o->request_s,
      .idle_s = o->idle_s,
      .token = s->token[0] != '\0' ? s->token : NULL,
      .access_log = o->access_log,
      .signatures = s->signatures,
      .queue = &s->queue,
      .metrics = &s->metrics,
      .max_batch = o->max_batch,
      .ready = is_ready,
      .user = s};
  return http_start(&http, mem, &s->http, status);
}

/* Once every rank is there: who reads it may rely on all of them. */
static void announce(server_t *s) {
  const char *bind = s->options->bind;
  atomic_store(&s->engine.busy_us, 0);
  fprintf(s->out, "serving %s, step %" PRId64 ", on %d rank%s at http://%s%s%s:%d\n", s->subject->name,
          s->subject->step, sbag_context_size(s->subject->context),
          sbag_context_size(s->subject->context) > 1 ? "s" : "", strchr(bind, ':') != NULL ? "[" : "", bind,
          strchr(bind, ':') != NULL ? "]" : "", http_port(s->http));
  fflush(s->out);
}

/* ---- turns ---- */

static sbag_code_t turns(server_t *s, sbag_status_t *status) {
  double watched_s = queue_now();
  while (!s->subject->stop_asked()) {
    SBAG_TRY(engine_turn(&s->engine, 1e-3 * TURN_MS, status));
    if (queue_now() - watched_s < WATCH_S) continue;
    watched_s = queue_now();
    http_watch(s->http);
  }
  return SBAG_OK;
}

/* What was taken in is answered to the last byte, if its clients take it in time. */
static sbag_code_t drain(server_t *s, sbag_status_t *status) {
  double until_s = queue_now() + DRAIN_S;
  http_drain(s->http);
  while (http_under_way(s->http) > 0 && queue_now() < until_s) {
    SBAG_TRY(engine_turn(&s->engine, 0.01, status));
    http_watch(s->http);
  }
  queue_close(&s->queue);
  while (queue_length(&s->queue) > 0) SBAG_TRY(engine_turn(&s->engine, 0, status));
  return engine_end(&s->engine, status);
}

/* After an error: whoever waits is told. */
static void give_up(server_t *s, const sbag_status_t *status) {
  queue_close(&s->queue);
  http_drain(s->http);
  ticket_t *tickets = NULL;
  while ((tickets = queue_take(&s->queue, 0, 0, 1)) != NULL) engine_answer(tickets, status->code, status);
  double until_s = queue_now() + 1;
  const struct timespec pause = {.tv_nsec = 10000000};
  while (http_under_way(s->http) > 0 && queue_now() < until_s) nanosleep(&pause, NULL);
}

static sbag_code_t serve_requests(server_t *s, sbag_status_t *status) {
  sbag_code_t code = turns(s, status);
  if (code == SBAG_OK) code = drain(s, status);
  if (code != SBAG_OK) {
    give_up(s, status);
    return code;
  }
  fprintf(s->out, "served %" PRId64 " requests\n",
          s->metrics.requests[SERVE_PREDICTION] + s->metrics.requests[SERVE_EMBEDDINGS]);
  return SBAG_OK;
}

/* ---- all of it ---- */

static sbag_code_t open_server(server_t *s, mem_t *mem, sbag_status_t *status) {
  SBAG_TRY(read_token(s, status));
  SBAG_TRY(queue_open(s->options->queue, &s->queue, status));
  sbag_code_t code = open_metrics(s, mem, status);
  if (code != SBAG_OK) {
    queue_destroy(&s->queue);
    return code;
  }
  code = start_http(s, mem, status);
  if (code == SBAG_OK) return SBAG_OK;
  counters_destroy(&s->metrics);
  mem_free(mem, s->tables);
  queue_destroy(&s->queue);
  return code;
}

static void close_server(server_t *s, mem_t *mem) {
  http_stop(&s->http);
  counters_destroy(&s->metrics);
  mem_free(mem, s->tables);
  queue_destroy(&s->queue);
}

static sbag_code_t run(server_t *s, int rank, mem_t *mem, sbag_status_t *status) {
  comm_t *comm = context_comm(s->subject->context);
  s->engine = (engine_t){.model = s->subject->model,
                         .config = s->subject->config,
                         .comm = comm,
                         .queue = &s->queue,
                         .metrics = rank == 0 ? &s->metrics : NULL,
                         .window_s = 1e-6 * s->options->window_us,
                         .max_batch = s->options->max_batch,
                         .silence_s = s->subject->timeout_s};
  sbag_code_t code = engine_open(&s->engine, mem, status);
  int opened = code == SBAG_OK;
  if (code == SBAG_OK && rank == 0) code = open_server(s, mem, status);
  int serving = code == SBAG_OK && rank == 0;
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK && rank == 0) announce(s);
  if (code == SBAG_OK) code = rank == 0 ? serve_requests(s, status) : engine_follow(&s->engine, status);
  if (serving) close_server(s, mem);
  if (opened) engine_close(&s->engine);
  return code;
}

sbag_code_t serve_run(const serve_subject_t *subject, const serve_options_t *options, FILE *out,
                      sbag_status_t *status) {
  server_t server = {.subject = subject, .options = options, .out = out};
  mem_t *mem = context_mem(subject->context);
  sbag_code_t code = signature_create(subject->name, subject->step, subject->config, subject->model,
                                      subject->multi_hot, mem, server.signatures, status);
  SBAG_TRY(comm_agree(context_comm(subject->context), code, status));
  code = run(&server, sbag_context_rank(subject->context), mem, status);
  signature_clear(server.signatures);
  return code;
}
