/* Start, turns of the engine, newer checkpoints between them, and a tidy end. */
#include "serve/serve.h"

#include "base/clock.h"
#include "collection/context.h"
#include "serve/engine.h"
#include "serve/http.h"
#include "serve/token.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { TURN_MS = 50, WATCH_S = 1, STALLED_S = 5, DRAIN_S = 10, LOADS_MAX = 64 };

/* Rank 0's part, but for what is said to be all ranks'. */
typedef struct server {
  const serve_subject_t *subject;  /* all ranks */
  const serve_options_t *options;  /* all ranks */
  engine_t engine;                 /* all ranks */
  editions_t editions;             /* all ranks */
  serve_loaded_t loaded[EDITIONS]; /* all ranks: what has the engine's seats */
  int rank;
  queue_t queue, loads;
  counters_t metrics;
  http_t *http;
  serve_log_t log;
  atomic_int silent; /* a rank is, as was told */
  char token[TOKEN_BYTES];
  double watched_s; /* when slow connections were last looked for */
  double looked_s;  /* when a newer checkpoint was */
  int ending;       /* asked while a checkpoint was loaded */
  double paused_s;  /* when the load went on */
  FILE *out, *errors;
} server_t;

enum { SAID_BYTES = 2 * SBAG_MESSAGE_BYTES };

serve_options_t serve_options_default(void) {
  return (serve_options_t){.bind = "127.0.0.1",
                           .level = SERVE_LEVEL_INFO,
                           .port = 8000,
                           .threads = 2,
                           .connections = 256,
                           .max_batch = 4096,
                           .queue = 256,
                           .body_bytes = (int64_t)64 << 20,
                           .tensors = 1024,
                           .bag_length = 65536,
                           .wait_ms = 50,
                           .request_s = 10,
                           .idle_s = 60};
}

/* Once, whoever is first to see it. */
static void tell_silence(server_t *s, int silent) {
  if (atomic_exchange(&s->silent, silent) == silent) return;
  serve_log_say(&s->log, SERVE_LEVEL_WARN, silent ? "silent" : "ready",
                silent ? "a rank does not answer: requests are refused" : "all ranks answer again");
}

/* A batch that does not end is a rank that does not answer: it is called so at a quarter of the time after
 * which the job ends. */
static int is_ready(void *user) {
  server_t *s = user;
  long long since_us = atomic_load(&s->engine.busy_us);
  double limit_s = s->subject->timeout_s > 0 ? s->subject->timeout_s / 4 : STALLED_S;
  int ready = since_us == 0 || clock_now() - 1e-6 * (double)since_us < limit_s;
  tell_silence(s, !ready);
  return ready;
}

static int answer_now(void *user, ticket_t *ticket) {
  server_t *s = user;
  return engine_answer_now(&s->engine, ticket);
}

/* ---- start ---- */

static sbag_code_t open_metrics(server_t *s, mem_t *mem, sbag_status_t *status) {
  const serve_loaded_t *first = &s->subject->first;
  SBAG_TRY(counters_open(s->editions.items[0].signatures, first->config,
                         sbag_context_size(s->subject->context), mem, &s->metrics, status));
  counters_served(&s->metrics, first->step, first->written_s);
  return SBAG_OK;
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
      .wait_s = 1e-3 * o->wait_ms,
      .idle_s = o->idle_s,
      .token = s->token[0] != '\0' ? s->token : NULL,
      .tls_cert = o->tls_cert,
      .tls_key = o->tls_key,
      .log = &s->log,
      .editions = &s->editions,
      .queue = &s->queue,
      .loads = &s->loads,
      .metrics = &s->metrics,
      .max_batch = o->max_batch,
      .answer_now = answer_now,
      .ready = is_ready,
      .user = s};
  return http_start(&http, mem, &s->http, status);
}

/* Once every rank is there: who reads it may rely on all of them. */
static void announce(server_t *s) {
  const char *bind = s->options->bind;
  char line[SAID_BYTES];
  atomic_store(&s->engine.busy_us, 0);
  snprintf(line, sizeof line, "serving %s, step %" PRId64 ", on %d rank%s at %s://%s%s%s:%d",
           s->subject->name, s->subject->first.step, sbag_context_size(s->subject->context),
           sbag_context_size(s->subject->context) > 1 ? "s" : "",
           s->options->tls_cert != NULL ? "https" : "http", strchr(bind, ':') != NULL ? "[" : "", bind,
           strchr(bind, ':') != NULL ? "]" : "", http_port(s->http));
  serve_log_note(&s->log, SERVE_LEVEL_INFO, "serving", line);
  fprintf(s->out, "%s\n", line);
  fflush(s->out);
}

/* ---- what has a seat, on all ranks ---- */

static sbag_code_t make_edition(server_t *s, int seat, sbag_status_t *status) {
  const serve_loaded_t *l = &s->loaded[seat];
  edition_t *edition = &s->editions.items[seat];
  return signature_create(s->subject->name, l->step, l->config, l->model, l->multi_hot, s->engine.mem,
                          edition->signatures, status);
}

static sbag_code_t check_tables(const model_config_t *old, const model_config_t *fresh,
                                sbag_status_t *status) {
  int same = old->table_count == fresh->table_count;
  for (int t = 0; same && t < old->table_count; t++)
    same = strcmp(old->tables[t].name, fresh->tables[t].name) == 0;
  if (same) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "it has other tables than what is served: restart to serve it");
}

static void drop(void *user, int seat) {
  server_t *s = user;
  engine_leave_seat(&s->engine, seat);
  signature_clear(s->editions.items[seat].signatures);
  s->subject->source.drop(s->subject->source.user, &s->loaded[seat]);
  s->loaded[seat] = (serve_loaded_t){0};
}

/* What is in s->loaded gets the seat. */
static sbag_code_t seat_loaded(server_t *s, int seat, sbag_status_t *status) {
  const int current = s->editions.current;
  SBAG_TRY(make_edition(s, seat, status));
  if (seat != current) {
    SBAG_TRY(check_tables(s->loaded[current].config, s->loaded[seat].config, status));
    SBAG_TRY(edition_check(&s->editions.items[current], &s->editions.items[seat], status));
  }
  return engine_take_seat(&s->engine, seat, s->loaded[seat].model, s->loaded[seat].config,
                          s->loaded[seat].piece_rows, status);
}

static sbag_code_t check_piece(void *user, int seat, int table, int64_t piece, sbag_status_t *status) {
  const server_t *s = user;
  return s->subject->source.check(&s->loaded[seat], table, piece, status);
}

static sbag_code_t pause_load(void *user, sbag_status_t *status);

static sbag_code_t load(void *user, int seat, const char *path, sbag_status_t *status) {
  server_t *s = user;
  const serve_source_t *source = &s->subject->source;
  SBAG_TRY(source->load(source->user, path, pause_load, s, &s->loaded[seat], status));
  sbag_code_t code = comm_agree(s->engine.comm, seat_loaded(s, seat, status), status);
  if (code != SBAG_OK) {
    drop(s, seat);
    return status_prefix(status, "%s", path);
  }
  if (s->rank > 0) s->editions.current = seat;
  return SBAG_OK;
}

/* ---- turns ---- */

static void watch_connections(server_t *s) {
  if (clock_now() - s->watched_s < WATCH_S) return;
  s->watched_s = clock_now();
  http_watch(s->http);
}

/* A load stops here now and then, for what waits: at most as long as the load then went on for, so that it
 * comes to an end under any load of requests, but for one batch at least. */
static sbag_code_t pause_load(void *user, sbag_status_t *status) {
  server_t *s = user;
  if (s->rank > 0) return engine_follow(&s->engine, status);
  double begin_s = clock_now(), most_s = begin_s - s->paused_s;
  do {
    SBAG_TRY(engine_turn(&s->engine, 0, status));
  } while (queue_length(&s->queue) > 0 && clock_now() - begin_s < most_s);
  watch_connections(s);
  s->ending |= s->subject->stop_asked();
  s->paused_s = clock_now();
  return engine_resume(&s->engine, s->ending, status);
}

/* The seat that is not served from, where nobody is left who has it: it is dropped. 0: not yet. */
static int free_seat(server_t *s, int *seat, sbag_code_t *code, sbag_status_t *status) {
  *seat = 1 - s->editions.current;
  *code = SBAG_OK;
  if (s->loaded[*seat].model == NULL) return 1;
  if (!editions_unused(&s->editions, *seat)) return 0;
  *code = engine_drop(&s->engine, *seat, status);
  return *code == SBAG_OK;
}

static void tell_refusal(server_t *s, const sbag_status_t *why) {
  char line[SAID_BYTES];
  snprintf(line, sizeof line, "a checkpoint is refused, step %" PRId64 " goes on: %s",
           s->loaded[s->editions.current].step, why->message);
  serve_log_say(&s->log, SERVE_LEVEL_WARN, "refused", line);
}

static void tell_switch(server_t *s, int seat, double seconds) {
  char line[SAID_BYTES];
  snprintf(line, sizeof line, "serving %s, step %" PRId64 ", in place of step %" PRId64 ": loaded in %.3f s",
           s->subject->name, s->loaded[seat].step, s->loaded[1 - seat].step, seconds);
  serve_log_note(&s->log, SERVE_LEVEL_INFO, "switched", line);
  if (s->log.level < SERVE_LEVEL_INFO) return;
  fprintf(s->out, "%s\n", line);
  fflush(s->out);
}

static void switch_to(server_t *s, int seat, double seconds) {
  const serve_loaded_t *fresh = &s->loaded[seat];
  tell_switch(s, seat, seconds);
  editions_switch(&s->editions, seat);
  counters_served(&s->metrics, fresh->step, fresh->written_s);
}

/* *why is what a refusal is told by, status what ends the server. */
static sbag_code_t load_newer(server_t *s, int seat, const char *path, sbag_status_t *why,
                              sbag_status_t *status) {
  double begin_s = s->paused_s = clock_now();
  sbag_code_t code = engine_load(&s->engine, seat, path, why);
  double seconds = clock_now() - begin_s;
  if (comm_check(s->engine.comm, NULL) != SBAG_OK) {
    *status = *why;
    return code;
  }
  if (s->ending) return SBAG_OK; /* and it is loaded no further */
  s->subject->source.outcome(s->subject->source.user, code);
  counters_refresh(&s->metrics, code == SBAG_OK ? REFRESH_SERVED : REFRESH_REFUSED, seconds);
  if (code == SBAG_OK)
    switch_to(s, seat, seconds);
  else
    tell_refusal(s, why);
  return SBAG_OK;
}

/* Looks for a newer checkpoint where somebody asks, or it is time to. */
static sbag_code_t refresh(server_t *s, sbag_status_t *status) {
  char path[SERVE_PATH_BYTES] = "";
  int seat = 0, found = 0;
  sbag_code_t code = SBAG_OK;
  sbag_status_t why;
  if (!free_seat(s, &seat, &code, status)) return code;
  ticket_t *wishes = queue_length(&s->loads) > 0 ? queue_take(&s->loads, 0, 0, 0) : NULL;
  int asked = s->subject->refresh_asked() || wishes != NULL;
  int due = s->options->watch_s > 0 && clock_now() - s->looked_s >= s->options->watch_s;
  if (!asked && !due) return SBAG_OK;
  s->looked_s = clock_now();
  status_clear(&why);
  if (s->subject->source.find(s->subject->source.user, asked, path, &found, &why) != SBAG_OK) {
    if (asked) tell_refusal(s, &why);
  } else if (found) {
    code = load_newer(s, seat, path, &why, status);
  }
  s->looked_s = clock_now();
  engine_answer(wishes, why.code, &why);
  return code;
}

static sbag_code_t turns(server_t *s, sbag_status_t *status) {
  s->watched_s = s->looked_s = clock_now();
  while (!s->ending && !s->subject->stop_asked()) {
    SBAG_TRY(engine_turn(&s->engine, 1e-3 * TURN_MS, status));
    SBAG_TRY(refresh(s, status));
    watch_connections(s);
  }
  return SBAG_OK;
}

static void refuse_loads(server_t *s) {
  sbag_status_t ends;
  queue_close(&s->loads);
  status_set(&ends, SBAG_ERR_STATE, "the server is closing");
  engine_answer(queue_take(&s->loads, 0, 0, 0), SBAG_ERR_STATE, &ends);
}

/* What was taken in is answered to the last byte, if its clients take it in time. */
static sbag_code_t drain(server_t *s, sbag_status_t *status) {
  double until_s = clock_now() + DRAIN_S;
  http_drain(s->http);
  refuse_loads(s);
  while (http_under_way(s->http) > 0 && clock_now() < until_s) {
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
  refuse_loads(s);
  ticket_t *tickets = NULL;
  while ((tickets = queue_take(&s->queue, 0, 0, 1)) != NULL) engine_answer(tickets, status->code, status);
  double until_s = clock_now() + 1;
  const struct timespec pause = {.tv_nsec = 10000000};
  while (http_under_way(s->http) > 0 && clock_now() < until_s) nanosleep(&pause, NULL);
}

static sbag_code_t serve_requests(server_t *s, sbag_status_t *status) {
  sbag_code_t code = turns(s, status);
  if (code == SBAG_OK) code = drain(s, status);
  char line[64];
  if (code != SBAG_OK) {
    serve_log_note(&s->log, SERVE_LEVEL_ERROR, "failed", status->message); /* the job says it */
    give_up(s, status);
    return code;
  }
  snprintf(line, sizeof line, "served %" PRId64 " requests",
           s->metrics.requests[SERVE_PREDICTION] + s->metrics.requests[SERVE_EMBEDDINGS]);
  fprintf(s->out, "%s\n", line);
  serve_log_note(&s->log, SERVE_LEVEL_INFO, "ended", line);
  return SBAG_OK;
}

/* ---- all of it ---- */

static sbag_code_t open_queues(server_t *s, sbag_status_t *status) {
  SBAG_TRY(queue_open(s->options->queue, &s->queue, status));
  sbag_code_t code = queue_open(LOADS_MAX, &s->loads, status);
  if (code != SBAG_OK) queue_destroy(&s->queue);
  return code;
}

static void close_queues(server_t *s) {
  queue_destroy(&s->queue);
  queue_destroy(&s->loads);
}

static sbag_code_t open_parts(server_t *s, mem_t *mem, sbag_status_t *status) {
  SBAG_TRY(open_queues(s, status));
  sbag_code_t code = open_metrics(s, mem, status);
  if (code != SBAG_OK) {
    close_queues(s);
    return code;
  }
  code = start_http(s, mem, status);
  if (code == SBAG_OK) return SBAG_OK;
  counters_destroy(&s->metrics);
  close_queues(s);
  return code;
}

static sbag_code_t open_server(server_t *s, mem_t *mem, sbag_status_t *status) {
  const serve_options_t *o = s->options;
  if (o->token_file != NULL) SBAG_TRY(token_read(o->token_file, s->token, status));
  SBAG_TRY(serve_log_open(o->log, o->level, s->errors, mem, &s->log, status));
  sbag_code_t code = open_parts(s, mem, status);
  if (code != SBAG_OK) serve_log_close(&s->log);
  return code;
}

static void close_server(server_t *s) {
  http_stop(&s->http);
  counters_destroy(&s->metrics);
  close_queues(s);
  serve_log_close(&s->log);
}

static sbag_code_t run(server_t *s, mem_t *mem, sbag_status_t *status) {
  comm_t *comm = s->engine.comm;
  sbag_code_t code = seat_loaded(s, 0, status);
  if (code == SBAG_OK) code = engine_open(&s->engine, s->subject->first.config->table_count, status);
  int opened = code == SBAG_OK;
  if (code == SBAG_OK && s->rank == 0) code = open_server(s, mem, status);
  int serving = code == SBAG_OK && s->rank == 0;
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK && s->rank == 0) announce(s);
  if (code == SBAG_OK) code = s->rank == 0 ? serve_requests(s, status) : engine_follow(&s->engine, status);
  if (serving) close_server(s);
  for (int seat = 0; seat < EDITIONS; seat++)
    if (s->loaded[seat].model != NULL) drop(s, seat);
  if (opened) engine_close(&s->engine);
  return code;
}

sbag_code_t serve_run(const serve_subject_t *subject, const serve_options_t *options, FILE *out, FILE *errors,
                      sbag_status_t *status) {
  mem_t *mem = context_mem(subject->context);
  server_t server = {.subject = subject,
                     .options = options,
                     .rank = sbag_context_rank(subject->context),
                     .out = out,
                     .errors = errors};
  server.engine = (engine_t){.comm = context_comm(subject->context),
                             .mem = mem,
                             .queue = &server.queue,
                             .metrics = &server.metrics,
                             .window_s = 1e-6 * options->window_us,
                             .max_batch = options->max_batch,
                             .silence_s = subject->timeout_s,
                             .load = load,
                             .drop = drop,
                             .check = check_piece,
                             .user = &server};
  sbag_code_t code = editions_open(&server.editions, status);
  const int opened = code == SBAG_OK;
  code = comm_agree(server.engine.comm, code, status);
  server.loaded[0] = subject->first;
  if (code == SBAG_OK)
    code = run(&server, mem, status);
  else
    subject->source.drop(subject->source.user, &server.loaded[0]);
  if (opened) editions_destroy(&server.editions);
  return code;
}
