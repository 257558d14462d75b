/* The access log: a line of JSON a request. */
#include "serve/http_impl.h"

#include "base/clock.h"
#include <inttypes.h>
#include <time.h>

void http_log(exchange_t *x) {
  http_t *h = x->http;
  struct timespec now;
  struct tm utc;
  char stamp[32];
  if (h->log == NULL) return;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  buffer_t line = {.mem = h->mem};
  buffer_print(&line, "{\"event\":\"request\",\"time\":\"%s.%03ldZ\",\"method\":", stamp,
               now.tv_nsec / 1000000);
  buffer_quote(&line, x->method);
  buffer_text(&line, ",\"path\":");
  buffer_quote(&line, x->path);
  buffer_print(&line, ",\"status\":%d,\"request_bytes\":%" PRId64 ",\"reply_bytes\":%zu,\"seconds\":%.6f",
               x->status, x->received, x->reply.used, clock_now() - x->begin_s);
  if (x->has_ticket) {
    buffer_print(&line, ",\"samples\":%" PRId64 ",\"lookups\":%" PRId64, x->ticket.request.samples,
                 x->ticket.request.lookups);
    buffer_text(&line, ",\"id\":");
    buffer_quote(&line, x->ticket.request.id);
  }
  buffer_text(&line, "}\n");
  pthread_mutex_lock(&h->mutex);
  if (!line.failed && fwrite(line.data, 1, line.used, h->log) == line.used) fflush(h->log);
  pthread_mutex_unlock(&h->mutex);
  buffer_clear(&line);
}
