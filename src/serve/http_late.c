/* Turning requests away before they are read, by what --queue, which bounds those that wait for a look-up,
 * does not see: a look-up of few samples takes less time than its HTTP, so that where too much is asked it is
 * the threads of HTTP that have more to do than they can. Requests wait then in their connections, and
 * answers to be written. To refuse takes a part of what it takes to answer, so that the threads come round
 * sooner. */
#include "serve/http_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* With fewer in hand a request that waited met a machine that was busy with something else. It is also what
 * is answered where even to refuse takes all the time that there is. */
enum { HELD_MIN = 32 };

/* As many as wait are looked up, or their answers are written; and each thread may be at one. */
static int64_t held_most(const http_options_t *o) {
  return 2 * o->queue->tickets_max + o->threads;
}

/* The kernel knows when a connection's last byte came in, to its own clock's tick (4 ms mostly). */
int http_late(const exchange_t *x) {
  const http_options_t *o = &x->http->options;
  const int held = atomic_load(&x->http->held);
  struct tcp_info info = {.tcpi_last_data_recv = 0};
  socklen_t bytes = sizeof info;
  if (held >= held_most(o)) return 1;
  if (o->wait_s <= 0 || held < HELD_MIN) return 0;
  if (getsockopt(x->peer->socket, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return 0;
  return 1e-3 * info.tcpi_last_data_recv > o->wait_s;
}
