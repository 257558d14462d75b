/* Turning requests away that are late before they are read: they have waited in their connections, because
 * the threads of HTTP have more to do than they can. Those wait ahead of the queue, where nobody counts them,
 * and a look-up of few samples takes less time than its HTTP: the queue never fills then, and all who ask
 * wait for each other. To refuse takes a part of what it takes to answer, so that the threads come round
 * sooner, and who is answered has not waited long.
 *
 * The kernel knows when a connection's last byte came in, to its own clock's tick (4 ms mostly). */
#include "serve/http_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* With fewer in hand a request that waited met a machine that was busy with something else. It is also what
 * is answered where even to refuse takes all the time that there is. */
enum { HELD_MIN = 32 };

int http_late(const exchange_t *x) {
  const http_t *h = x->http;
  struct tcp_info info = {.tcpi_last_data_recv = 0};
  socklen_t bytes = sizeof info;
  if (h->options.wait_s <= 0 || atomic_load(&h->held) < HELD_MIN) return 0;
  if (getsockopt(x->peer->socket, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return 0;
  return 1e-3 * info.tcpi_last_data_recv > h->options.wait_s;
}
