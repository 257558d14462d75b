/* Requests over HTTP, by libmicrohttpd: its threads run an event loop each, take bodies in, parse them, and
 * are free while the answer is computed, for which the connection is suspended. */
#include "serve/http_impl.h"

#include "base/clock.h"
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char header_length_name[] = "Inference-Header-Content-Length";

sbag_code_t http_available(sbag_status_t *status) {
  (void)status;
  return SBAG_OK;
}

/* ---- answering ---- */

static void set_peer(http_t *h, peer_t *peer, peer_place_t at) {
  pthread_mutex_lock(&h->mutex);
  peer->at = at;
  peer->since_s = clock_now();
  pthread_mutex_unlock(&h->mutex);
}

static struct MHD_Response *make_response(exchange_t *x, const char *type, size_t json_bytes) {
  char length[32];
  struct MHD_Response *response =
      MHD_create_response_from_buffer(x->reply.used, x->reply.data, MHD_RESPMEM_PERSISTENT);
  if (response == NULL) return NULL;
  MHD_add_response_header(response, "Content-Type", json_bytes > 0 ? "application/octet-stream" : type);
  if (json_bytes > 0) {
    snprintf(length, sizeof length, "%zu", json_bytes);
    MHD_add_response_header(response, header_length_name, length);
  }
  if (x->status == MHD_HTTP_SERVICE_UNAVAILABLE) MHD_add_response_header(response, "Retry-After", "1");
  if (x->status == MHD_HTTP_UNAUTHORIZED) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
  return response;
}

/* The reply's memory lives until the request is over; what it was made from may go. */
enum MHD_Result http_answer(exchange_t *x, int status, const char *type, size_t json_bytes) {
  editions_give(x->http->options.editions, &x->edition);
  if (buffer_check(&x->reply, NULL) != SBAG_OK) {
    buffer_clear(&x->reply);
    status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    json_bytes = 0;
  }
  x->status = status;
  x->state = EXCHANGE_REPLIED;
  set_peer(x->http, x->peer, PEER_REPLYING);
  struct MHD_Response *response = make_response(x, type, json_bytes);
  if (response == NULL) return MHD_NO;
  enum MHD_Result queued = MHD_queue_response(x->connection, (unsigned)status, response);
  MHD_destroy_response(response);
  return queued;
}

enum MHD_Result http_refuse(exchange_t *x, int status, counters_error_t kind, const char *message) {
  counters_error(x->http->options.metrics, kind);
  buffer_clear(&x->reply);
  reply_error(message, &x->reply);
  return http_answer(x, status, "application/json", 0);
}

/* ---- inference ---- */

/* Called by the thread that answers, which must not use the ticket afterwards. */
static void answered(ticket_t *ticket) {
  exchange_t *x = ticket->user;
  MHD_resume_connection(x->connection);
}

static const char *header(const exchange_t *x, const char *name) {
  return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* -1: there is none; 0, which no request can have: not a number. */
static int64_t header_length(const exchange_t *x) {
  const char *text = header(x, header_length_name);
  if (text == NULL) return -1;
  if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text) || strlen(text) > 18) return 0;
  return strtoll(text, NULL, 10);
}

/* Its connection waits until the ticket is answered. */
static enum MHD_Result wait_in(exchange_t *x, queue_t *queue) {
  x->ticket.answered = answered;
  x->ticket.user = x;
  x->state = EXCHANGE_WAITING;
  set_peer(x->http, x->peer, PEER_WAITING);
  MHD_suspend_connection(x->connection); /* first: the answer may be there at once */
  if (queue_put(queue, &x->ticket)) return MHD_YES;
  x->ticket.code = SBAG_ERR_STATE;
  MHD_resume_connection(x->connection);
  return MHD_YES;
}

void http_wait_for_load(exchange_t *x) {
  x->loading = 1;
  (void)wait_in(x, x->http->options.loads);
}

static void count_stages(const exchange_t *x, serve_kind_t kind, double now_s) {
  const ticket_t *t = &x->ticket;
  const double stages_s[STAGES] = {[STAGE_RECEIVE] = x->received_s - x->begin_s,
                                   [STAGE_PARSE] = x->parsed_s - x->received_s,
                                   [STAGE_QUEUE] = t->taken_s - x->parsed_s,
                                   [STAGE_COMPUTE] = t->done_s - t->taken_s,
                                   [STAGE_REPLY] = now_s - t->done_s,
                                   [STAGE_SERVER] = now_s - x->received_s};
  counters_request(x->http->options.metrics, kind, t->request.samples, stages_s);
}

/* What clients and files are to blame for is theirs to mend. */
static enum MHD_Result give_load(exchange_t *x) {
  int refused = x->ticket.code == SBAG_ERR_ARGUMENT || x->ticket.code == SBAG_ERR_FORMAT;
  if (x->ticket.code != SBAG_OK)
    return http_refuse(x, refused ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR,
                       refused ? ERROR_BAD_REQUEST : ERROR_INTERNAL, x->ticket.status.message);
  x->edition = editions_take(x->http->options.editions);
  reply_loaded(x->edition->signatures, &x->reply);
  return http_answer(x, MHD_HTTP_OK, "application/json", 0);
}

/* The connection has been resumed: the ticket is answered, or was not taken. */
static enum MHD_Result give_answer(exchange_t *x) {
  size_t json_bytes = 0;
  int closing = atomic_load(&x->http->draining);
  if (x->ticket.code == SBAG_ERR_STATE && x->ticket.done_s == 0)
    return closing ? http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_CLOSING, "the server is closing")
                   : http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_OVERLOAD,
                                 "too many requests wait; try again");
  if (x->loading) return give_load(x);
  if (x->ticket.code != SBAG_OK)
    return http_refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERROR_INTERNAL, x->ticket.status.message);
  serve_kind_t kind = x->ticket.request.signature->kind;
  reply_infer(&x->ticket.request, &x->reply, &json_bytes);
  enum MHD_Result result = http_answer(x, MHD_HTTP_OK, "application/json", json_bytes);
  count_stages(x, kind, clock_now());
  return result;
}

/* By the thread that asked. */
static void answered_now(ticket_t *ticket) {
  (void)ticket;
}

static enum MHD_Result take_up(exchange_t *x, const serve_signature_t *signature) {
  http_t *h = x->http;
  sbag_status_t status;
  sbag_code_t code = request_parse(signature, &h->options.limits, x->body.data, (int64_t)x->body.used,
                                   header_length(x), h->mem, &x->ticket.request, &status);
  if (code == SBAG_ERR_MEMORY)
    return http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_OVERLOAD, status.message);
  if (code != SBAG_OK) return http_refuse(x, MHD_HTTP_BAD_REQUEST, ERROR_BAD_REQUEST, status.message);
  buffer_clear(&x->body); /* all of it is in the request */
  x->has_ticket = x->held = 1;
  atomic_fetch_add(&h->held, 1);
  x->ticket.seat = x->edition->seat;
  x->parsed_s = clock_now();
  x->ticket.answered = answered_now;
  if (h->options.answer_now(h->options.user, &x->ticket)) return give_answer(x);
  return wait_in(x, h->options.queue);
}

/* ---- a request's way through the library's callbacks ---- */

/* The time does not tell how much of the token is right. */
static int is_token(const char *said, const char *token) {
  static const char scheme[] = "Bearer ";
  size_t length = strlen(token), differs = 0;
  if (said == NULL || strncmp(said, scheme, sizeof scheme - 1) != 0) return 0;
  said += sizeof scheme - 1;
  if (strlen(said) != length) return 0;
  for (size_t i = 0; i < length; i++) differs |= (size_t)(said[i] ^ token[i]);
  return differs == 0;
}

/* The headers are there: what can be refused by them is. */
static enum MHD_Result begin(exchange_t *x, const char *method) {
  const http_options_t *o = &x->http->options;
  const char *length = header(x, "Content-Length"), *encoding = header(x, "Content-Encoding");
  snprintf(x->method, sizeof x->method, "%s", method);
  x->state = EXCHANGE_BODY;
  if (o->token != NULL && !is_token(header(x, "Authorization"), o->token))
    return http_refuse(x, MHD_HTTP_UNAUTHORIZED, ERROR_UNAUTHORIZED, "a bearer token is needed");
  if (encoding != NULL && strcasecmp(encoding, "identity") != 0)
    return http_refuse(x, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, ERROR_BAD_REQUEST,
                       "Content-Encoding: only identity is taken");
  if (length != NULL && strtoll(length, NULL, 10) > o->body_bytes)
    return http_refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, ERROR_TOO_LARGE,
                       "the body is larger than --max-body allows");
  return MHD_YES;
}

/* What is beyond the limit is read and thrown away; the end of it is waited for no longer than
 * --request-time. */
static enum MHD_Result take_body(exchange_t *x, const char *data, size_t *bytes) {
  x->received += (int64_t)*bytes;
  if (x->received <= x->http->options.body_bytes) buffer_put(&x->body, data, *bytes);
  *bytes = 0;
  return MHD_YES;
}

static enum MHD_Result end(exchange_t *x, const char *url) {
  x->received_s = clock_now();
  if (x->received > x->http->options.body_bytes)
    return http_refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, ERROR_TOO_LARGE,
                       "the body is larger than --max-body allows");
  if (x->body.failed)
    return http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_OVERLOAD, "no memory for the body");
  const serve_signature_t *signature = http_route(x, url);
  if (signature == NULL) return x->state != EXCHANGE_BODY ? MHD_YES : MHD_NO;
  if (atomic_load(&x->http->draining))
    return http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_CLOSING, "the server is closing");
  if (!x->http->options.ready(x->http->options.user))
    return http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_OVERLOAD, "a rank does not answer");
  if (http_late(x))
    return http_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, ERROR_OVERLOAD, "too many requests wait; try again");
  return take_up(x, signature);
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *bytes,
                              void **own) {
  exchange_t *x = *own;
  (void)user;
  (void)connection;
  (void)version;
  if (x == NULL) return MHD_NO; /* no memory for it */
  switch (x->state) {
  case EXCHANGE_NEW:
    return begin(x, method);
  case EXCHANGE_BODY:
    return *bytes > 0 ? take_body(x, data, bytes) : end(x, url);
  case EXCHANGE_WAITING:
    return give_answer(x);
  case EXCHANGE_REPLIED:
    break;
  }
  *bytes = 0;
  return MHD_YES;
}

/* A request's first line is there. */
static void *first_line(void *user, const char *uri, struct MHD_Connection *connection) {
  http_t *h = user;
  void *block = NULL;
  if (mem_calloc(h->mem, sizeof(exchange_t), "an HTTP request", &block, NULL) != SBAG_OK) return NULL;
  exchange_t *x = block;
  x->http = h;
  x->connection = connection;
  x->body.mem = x->reply.mem = h->mem;
  x->begin_s = clock_now();
  x->peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
  snprintf(x->path, sizeof x->path, "%s", uri);
  set_peer(h, x->peer, PEER_RECEIVING);
  atomic_fetch_add(&h->under_way, 1);
  return x;
}

static void completed(void *user, struct MHD_Connection *connection, void **own,
                      enum MHD_RequestTerminationCode code) {
  http_t *h = user;
  exchange_t *x = *own;
  (void)connection;
  (void)code;
  if (x == NULL) return;
  *own = NULL;
  http_log(x);
  set_peer(h, x->peer, PEER_IDLE);
  if (x->held) atomic_fetch_sub(&h->held, 1);
  if (x->has_ticket) request_clear(&x->ticket.request);
  editions_give(h->options.editions, &x->edition);
  buffer_clear(&x->body);
  buffer_clear(&x->reply);
  mem_free(h->mem, x);
  atomic_fetch_sub(&h->under_way, 1);
}

/* ---- connections ---- */

static void open_peer(http_t *h, struct MHD_Connection *connection, void **own) {
  void *block = NULL;
  int socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
  if (mem_calloc(h->mem, sizeof(peer_t), "a connection", &block, NULL) != SBAG_OK) {
    shutdown(socket, SHUT_RDWR);
    block = &h->spare; /* of those that end at once */
  }
  peer_t *peer = block;
  *own = peer;
  pthread_mutex_lock(&h->mutex);
  peer->socket = socket;
  peer->since_s = clock_now();
  if (peer != &h->spare) {
    peer->next = h->peers;
    if (h->peers != NULL) h->peers->previous = peer;
    h->peers = peer;
  }
  pthread_mutex_unlock(&h->mutex);
}

static void close_peer(http_t *h, void **own) {
  peer_t *peer = *own;
  *own = NULL;
  if (peer == NULL || peer == &h->spare) return;
  pthread_mutex_lock(&h->mutex);
  if (peer->next != NULL) peer->next->previous = peer->previous;
  if (peer->previous != NULL)
    peer->previous->next = peer->next;
  else
    h->peers = peer->next;
  pthread_mutex_unlock(&h->mutex);
  mem_free(h->mem, peer);
}

static void connection_changes(void *user, struct MHD_Connection *connection, void **own,
                               enum MHD_ConnectionNotificationCode code) {
  if (code == MHD_CONNECTION_NOTIFY_STARTED)
    open_peer(user, connection, own);
  else
    close_peer(user, own);
}

/* Under the lock, so that the socket is still the connection's. */
void http_watch(http_t *h) {
  double now_s = clock_now();
  pthread_mutex_lock(&h->mutex);
  for (peer_t *p = h->peers; p != NULL; p = p->next) {
    double limit_s = p->at == PEER_IDLE ? h->options.idle_s : h->options.request_s;
    if (p->cut || p->at == PEER_WAITING || now_s - p->since_s < limit_s) continue;
    p->cut = 1;
    shutdown(p->socket, SHUT_RDWR);
    if (p->at != PEER_IDLE)
      serve_log_note(h->options.log, SERVE_LEVEL_WARN, "cut", "a connection is closed: it took too long");
  }
  pthread_mutex_unlock(&h->mutex);
}

/* ---- start and end ---- */

/* What the library says while it starts tells why it did not; what it says later is for who looks for
 * faults. */
static void note(void *user, const char *format, va_list list) {
  http_t *h = user;
  char text[sizeof h->said];
  vsnprintf(text, sizeof text, format, list);
  text[strcspn(text, "\n")] = '\0';
  if (h->started)
    serve_log_say(h->options.log, SERVE_LEVEL_DEBUG, "http", text);
  else if (h->said[0] == '\0')
    memcpy(h->said, text, sizeof text);
}

static sbag_code_t start_daemon(http_t *h, const struct sockaddr *address, int family,
                                sbag_status_t *status) {
  const http_options_t *o = &h->options;
  unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                   (family == AF_INET6 ? (unsigned)MHD_USE_IPv6 : 0u) |
                   (h->cert != NULL ? (unsigned)MHD_USE_TLS : 0u);
  const struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert},
                                       {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key},
                                       {MHD_OPTION_END, 0, NULL}},
                              none[] = {{MHD_OPTION_END, 0, NULL}};
  errno = 0;
  h->daemon =
      MHD_start_daemon(flags, (uint16_t)o->port, NULL, NULL, handle, h, MHD_OPTION_EXTERNAL_LOGGER, note, h,
                       MHD_OPTION_SOCK_ADDR, address, MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections,
                       MHD_OPTION_THREAD_POOL_SIZE, (unsigned)(o->threads > 1 ? o->threads : 0),
                       MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_URI_LOG_CALLBACK, first_line, h,
                       MHD_OPTION_NOTIFY_COMPLETED, completed, h, MHD_OPTION_NOTIFY_CONNECTION,
                       connection_changes, h, MHD_OPTION_ARRAY, h->cert != NULL ? tls : none, MHD_OPTION_END);
  h->started = h->daemon != NULL;
  if (h->started) return SBAG_OK;
  SBAG_TRY(http_tls_blame(h, status));
  return status_set(status, SBAG_ERR_IO, "cannot listen at %s, port %d: %s", o->bind, o->port,
                    errno != 0 ? strerror(errno) : "libmicrohttpd refuses");
}

static sbag_code_t listen_at(http_t *h, sbag_status_t *status) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE},
                  *found = NULL;
  char port[16];
  snprintf(port, sizeof port, "%d", h->options.port);
  if (getaddrinfo(h->options.bind, port, &hints, &found) != 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "--bind %.64s: must be an address, as 127.0.0.1 or ::", h->options.bind);
  sbag_code_t code = start_daemon(h, found->ai_addr, found->ai_family, status);
  freeaddrinfo(found);
  return code;
}

sbag_code_t http_start(const http_options_t *options, mem_t *mem, http_t **http, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(http_t), "serving: HTTP", &block, status));
  http_t *h = block;
  h->options = *options;
  h->mem = mem;
  h->listening = MHD_INVALID_SOCKET;
  if (pthread_mutex_init(&h->mutex, NULL) != 0) {
    mem_free(mem, h);
    return status_set(status, SBAG_ERR_MEMORY, "serving: no lock");
  }
  sbag_code_t code = http_tls_open(h, status);
  if (code == SBAG_OK) code = listen_at(h, status);
  if (code == SBAG_OK)
    *http = h;
  else
    http_stop(&h);
  return code;
}

int http_port(const http_t *http) {
  return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

void http_drain(http_t *http) {
  atomic_store(&http->draining, 1);
  http->listening = MHD_quiesce_daemon(http->daemon);
  if (http->listening != MHD_INVALID_SOCKET) shutdown(http->listening, SHUT_RDWR);
}

int http_under_way(http_t *http) {
  return atomic_load(&http->under_way);
}

void http_stop(http_t **http) {
  if (http == NULL || *http == NULL) return;
  http_t *h = *http;
  if (h->daemon != NULL) MHD_stop_daemon(h->daemon);
  if (h->listening != MHD_INVALID_SOCKET) close(h->listening);
  http_tls_close(h);
  pthread_mutex_destroy(&h->mutex);
  mem_free(h->mem, h);
  *http = NULL;
}
