/* The access log: a line of JSON a request. */
#include "serve/http_impl.h"

#include "base/clock.h"
#include <inttypes.h>

/* 0: its connection ended before there was one. */
static serve_level_t level_of(int status) {
  if (status > 0 && status < MHD_HTTP_BAD_REQUEST) return SERVE_LEVEL_INFO;
  const int failed = status >= MHD_HTTP_INTERNAL_SERVER_ERROR && status != MHD_HTTP_SERVICE_UNAVAILABLE;
  return failed ? SERVE_LEVEL_ERROR : SERVE_LEVEL_WARN;
}

static void put_inference(const exchange_t *x, buffer_t *line) {
  const ticket_t *t = &x->ticket;
  buffer_print(line, ",\"samples\":%" PRId64 ",\"lookups\":%" PRId64 ",\"id\":", t->request.samples,
               t->request.lookups);
  buffer_quote(line, t->request.id);
  if (x->http->options.log->level < SERVE_LEVEL_DEBUG || t->taken_s == 0) return;
  buffer_print(line, ",\"receive_s\":%.6f,\"parse_s\":%.6f,\"queue_s\":%.6f,\"compute_s\":%.6f",
               x->received_s - x->begin_s, x->parsed_s - x->received_s, t->taken_s - x->parsed_s,
               t->done_s - t->taken_s);
}

void http_log(exchange_t *x) {
  serve_log_t *log = x->http->options.log;
  const serve_level_t level = level_of(x->status);
  buffer_t line;
  if (!serve_log_writes(log, level)) return;
  serve_log_begin(log, level, "request", &line);
  buffer_text(&line, ",\"method\":");
  buffer_quote(&line, x->method);
  buffer_text(&line, ",\"path\":");
  buffer_quote(&line, x->path);
  buffer_print(&line, ",\"status\":%d,\"request_bytes\":%" PRId64 ",\"reply_bytes\":%zu,\"seconds\":%.6f",
               x->status, x->received, x->reply.used, clock_now() - x->begin_s);
  if (x->has_ticket) put_inference(x, &line);
  if (x->status >= MHD_HTTP_BAD_REQUEST && x->reply.used > 0) { /* says why, in JSON */
    buffer_text(&line, ",\"reply\":");
    buffer_put(&line, x->reply.data, x->reply.used);
  }
  serve_log_end(log, &line);
}
