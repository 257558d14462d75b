/* Sending on time and taking answers: see load_http.h.
 *
 * libcurl speaks HTTP and keeps the connections; epoll says which of them have something to say, and waits
 * until the next request is due, to the microsecond. Of the idle connections the one that was used last is
 * taken. */
#include "bench/load_http.h"

#include "base/clock.h"
#include "serve/token.h"
#include <curl/curl.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, SAID_BYTES = 256, SLACK_NS = 1000 };

/* A connection's worth of requests, one at a time. */
typedef struct slot {
  CURL *easy;
  int64_t request;
  size_t said;
  char text[SAID_BYTES]; /* how the answer begins */
  struct slot *next;     /* of those that are free */
} slot_t;

struct load_http {
  mem_t *mem;
  const bench_load_settings_t *s;
  CURLM *multi;
  slot_t *slots, *free_slots;
  int64_t busy;
  int epoll;
  double timer_s; /* when libcurl wants to be called; negative: not */
  double zero_s;  /* of the clock, at a run's start */
  struct curl_slist *headers, *plain_headers;
  char token[TOKEN_BYTES];
  int64_t json_bytes; /* what `headers` says of it */
  int broken;         /* epoll has failed */
};

sbag_code_t load_http_available(sbag_status_t *status) {
  (void)status;
  return SBAG_OK;
}

/* ---- libcurl's callbacks ---- */

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *own) {
  load_http_t *h = user;
  struct epoll_event event = {.data.fd = socket};
  (void)easy, (void)own;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(h->epoll, EPOLL_CTL_DEL, socket, NULL); /* it may be closed, and gone */
    return 0;
  }
  if (what & CURL_POLL_IN) event.events |= EPOLLIN;
  if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
  if (epoll_ctl(h->epoll, EPOLL_CTL_MOD, socket, &event) == 0) return 0;
  if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, socket, &event) != 0) h->broken = 1;
  return 0;
}

static int on_timer(CURLM *multi, long wait_ms, void *user) {
  load_http_t *h = user;
  (void)multi;
  h->timer_s = wait_ms < 0 ? -1 : clock_now() + 1e-3 * (double)wait_ms;
  return 0;
}

static size_t on_answer(char *bytes, size_t size, size_t count, void *user) {
  slot_t *slot = user;
  size_t room = SAID_BYTES - 1 - slot->said, taken = size * count < room ? size * count : room;
  memcpy(slot->text + slot->said, bytes, taken);
  slot->said += taken;
  return size * count;
}

/* ---- opening ---- */

static sbag_code_t add_header(struct curl_slist **list, const char *line, sbag_status_t *status) {
  struct curl_slist *longer = curl_slist_append(*list, line);
  if (longer == NULL) return status_set(status, SBAG_ERR_MEMORY, "bench serve: no memory for headers");
  *list = longer;
  return SBAG_OK;
}

/* No "Expect: 100-continue", which would wait for the server before a large body is sent. */
static sbag_code_t make_headers(load_http_t *h, int64_t json_bytes, struct curl_slist **list,
                                sbag_status_t *status) {
  char line[TOKEN_BYTES + 32];
  curl_slist_free_all(*list);
  *list = NULL;
  SBAG_TRY(add_header(list, "Expect:", status));
  SBAG_TRY(add_header(
      list, json_bytes > 0 ? "Content-Type: application/octet-stream" : "Content-Type: application/json",
      status));
  if (json_bytes > 0) {
    snprintf(line, sizeof line, "Inference-Header-Content-Length: %lld", (long long)json_bytes);
    SBAG_TRY(add_header(list, line, status));
  }
  if (h->token[0] == '\0') return SBAG_OK;
  snprintf(line, sizeof line, "Authorization: Bearer %s", h->token);
  return add_header(list, line, status);
}

static int set_up(load_http_t *h, CURL *easy) {
  int bad = curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != CURLE_OK;
  bad |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) != CURLE_OK;
  bad |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)ceil(1e3 * h->s->timeout_s)) != CURLE_OK;
  bad |= curl_easy_setopt(easy, CURLOPT_PROXY, "") != CURLE_OK;
  bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer) != CURLE_OK;
  if (h->s->ca[0] != '\0') bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, h->s->ca) != CURLE_OK;
  return bad;
}

static sbag_code_t open_slots(load_http_t *h, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(h->mem, mem_array_bytes(h->s->connections, sizeof *h->slots),
                      "bench serve: connections", &block, status));
  h->slots = block;
  for (int64_t i = h->s->connections - 1; i >= 0; i--) {
    slot_t *slot = &h->slots[i];
    slot->easy = curl_easy_init();
    if (slot->easy == NULL || set_up(h, slot->easy) ||
        curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot) != CURLE_OK)
      return status_set(status, SBAG_ERR_MEMORY, "bench serve: libcurl gives no request");
    slot->next = h->free_slots;
    h->free_slots = slot;
  }
  return SBAG_OK;
}

static sbag_code_t open_multi(load_http_t *h, sbag_status_t *status) {
  h->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (h->epoll < 0) return status_set(status, SBAG_ERR_IO, "bench serve: epoll: %s", strerror(errno));
  h->multi = curl_multi_init();
  int bad = h->multi == NULL || curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->s->connections) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) != CURLM_OK;
  if (bad) return status_set(status, SBAG_ERR_MEMORY, "bench serve: libcurl cannot start");
  return SBAG_OK;
}

sbag_code_t load_http_create(const bench_load_settings_t *settings, mem_t *mem, load_http_t **http,
                             sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof **http, "bench serve", &block, status));
  load_http_t *h = block;
  *h = (load_http_t){.mem = mem, .s = settings, .epoll = -1, .timer_s = -1};
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    mem_free(mem, h);
    return status_set(status, SBAG_ERR_MEMORY, "bench serve: libcurl cannot start");
  }
  *http = h;
  sbag_code_t code =
      settings->token_file[0] != '\0' ? token_read(settings->token_file, h->token, status) : SBAG_OK;
  if (code == SBAG_OK) code = make_headers(h, 0, &h->plain_headers, status);
  if (code == SBAG_OK) code = open_multi(h, status);
  if (code == SBAG_OK) code = open_slots(h, status);
  if (code != SBAG_OK) load_http_destroy(http);
  return code;
}

void load_http_destroy(load_http_t **http) {
  load_http_t *h = *http;
  if (h == NULL) return;
  for (int64_t i = 0; h->slots != NULL && i < h->s->connections; i++) curl_easy_cleanup(h->slots[i].easy);
  if (h->multi != NULL) curl_multi_cleanup(h->multi);
  if (h->epoll >= 0) close(h->epoll);
  curl_slist_free_all(h->headers);
  curl_slist_free_all(h->plain_headers);
  curl_global_cleanup();
  mem_free(h->mem, h->slots);
  mem_free(h->mem, h);
  *http = NULL;
}

/* ---- one question ---- */

static size_t take_answer(char *bytes, size_t size, size_t count, void *user) {
  buffer_t *answer = user;
  buffer_put(answer, bytes, size * count);
  return answer->failed ? 0 : size * count;
}

enum { URL_BYTES = 2048 };

static sbag_code_t make_url(const load_http_t *h, const char *path, char url[URL_BYTES],
                            sbag_status_t *status) {
  size_t server = strlen(h->s->url);
  while (server > 0 && h->s->url[server - 1] == '/') server--;
  if (snprintf(url, URL_BYTES, "%.*s%s", (int)server, h->s->url, path) < URL_BYTES) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "'%.80s...' is too long", url);
}

static CURLcode ask(load_http_t *h, CURL *easy, const char *url, const char *body, buffer_t *answer,
                    long *http_status) {
  CURLcode code = set_up(h, easy) ? CURLE_FAILED_INIT : curl_easy_setopt(easy, CURLOPT_URL, url);
  if (code == CURLE_OK) code = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, h->plain_headers);
  if (code == CURLE_OK) code = curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer);
  if (code == CURLE_OK) code = curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
  if (code == CURLE_OK && body != NULL) code = curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
  if (code == CURLE_OK) code = curl_easy_perform(easy);
  if (code == CURLE_OK) code = curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, http_status);
  return code;
}

sbag_code_t load_http_ask(load_http_t *h, const char *path, const char *body, char **text,
                          sbag_status_t *status) {
  char url[URL_BYTES];
  buffer_t answer = {.mem = h->mem};
  long http_status = 0;
  SBAG_TRY(make_url(h, path, url, status));
  CURL *easy = curl_easy_init();
  CURLcode code = easy != NULL ? ask(h, easy, url, body, &answer, &http_status) : CURLE_OUT_OF_MEMORY;
  curl_easy_cleanup(easy);
  int empty = answer.used == 0;
  buffer_put(&answer, "", 1);
  if (code == CURLE_OK && answer.failed) code = CURLE_OUT_OF_MEMORY;
  if (code == CURLE_OK && http_status == 200 && !empty) {
    *text = answer.data;
    return SBAG_OK;
  }
  if (code != CURLE_OK)
    status_set(status, SBAG_ERR_IO, "%.200s: %s", url, curl_easy_strerror(code));
  else
    status_set(status, SBAG_ERR_IO, "%.200s: status %ld: %.200s", url, http_status, answer.data);
  buffer_clear(&answer);
  return SBAG_ERR_IO;
}

sbag_code_t load_http_model_path(load_http_t *h, const char *name, const char *rest, char path[1024],
                                 sbag_status_t *status) {
  char *escaped = curl_easy_escape(h->slots[0].easy, name, 0);
  int length = escaped != NULL ? snprintf(path, 1024, "/v2/models/%s%s", escaped, rest) : 1024;
  curl_free(escaped);
  if (length < 1024) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "the model's name '%.80s' is too long", name);
}

/* ---- a run ---- */

typedef struct run {
  load_http_t *h;
  const load_bodies_t *bodies;
  load_request_t *requests;
  int64_t count, next, done; /* next: to be sent */
  char *said;                /* [SAID_BYTES] */
} run_t;

static sbag_code_t point_slots(load_http_t *h, const char *path, int64_t json_bytes, sbag_status_t *status) {
  char url[URL_BYTES];
  SBAG_TRY(make_url(h, path, url, status));
  SBAG_TRY(make_headers(h, json_bytes, &h->headers, status));
  for (int64_t i = 0; i < h->s->connections; i++)
    if (curl_easy_setopt(h->slots[i].easy, CURLOPT_URL, url) != CURLE_OK ||
        curl_easy_setopt(h->slots[i].easy, CURLOPT_HTTPHEADER, h->headers) != CURLE_OK)
      return status_set(status, SBAG_ERR_MEMORY, "bench serve: libcurl has no memory for a request");
  return SBAG_OK;
}

static sbag_code_t send_one(run_t *r, double at_s, sbag_status_t *status) {
  load_http_t *h = r->h;
  slot_t *slot = h->free_slots;
  load_request_t *request = &r->requests[r->next];
  const load_bodies_t *b = r->bodies;
  int64_t body = request->invalid ? b->count + r->next % b->invalid : r->next % b->count;
  if (curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                       (curl_off_t)(b->begins[body + 1] - b->begins[body])) != CURLE_OK ||
      curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, b->text.data + b->begins[body]) != CURLE_OK ||
      curl_multi_add_handle(h->multi, slot->easy) != CURLM_OK)
    return status_set(status, SBAG_ERR_MEMORY, "bench serve: libcurl takes no request");
  h->free_slots = slot->next;
  h->busy++;
  slot->request = r->next++;
  slot->said = 0;
  request->sent_s = at_s;
  return SBAG_OK;
}

/* Those that are due, while connections are free; what has waited for longer than its time is given up. */
static sbag_code_t send_due(run_t *r, sbag_status_t *status) {
  while (r->next < r->count) {
    double at_s = clock_now() - r->h->zero_s;
    load_request_t *request = &r->requests[r->next];
    if (request->due_s > at_s) return SBAG_OK;
    if (at_s - request->due_s > r->h->s->timeout_s) {
      request->status = LOAD_NOT_SENT;
      request->sent_s = request->done_s = at_s;
      r->next++;
      r->done++;
    } else if (r->h->free_slots != NULL) {
      SBAG_TRY(send_one(r, at_s, status));
    } else {
      return SBAG_OK;
    }
  }
  return SBAG_OK;
}

static void keep_said(run_t *r, slot_t *slot, CURLcode code) {
  const load_request_t *request = &r->requests[slot->request];
  if (r->said[0] != '\0' || request->status == (request->invalid ? 400 : 200)) return;
  slot->text[slot->said] = '\0';
  if (code != CURLE_OK)
    snprintf(r->said, SAID_BYTES, "%s", curl_easy_strerror(code));
  else
    snprintf(r->said, SAID_BYTES, "status %d: %.200s", request->status, slot->text);
}

static sbag_code_t take_done(run_t *r, sbag_status_t *status) {
  load_http_t *h = r->h;
  int left = 0;
  for (CURLMsg *message; (message = curl_multi_info_read(h->multi, &left)) != NULL;) {
    if (message->msg != CURLMSG_DONE) continue;
    CURL *easy = message->easy_handle;
    CURLcode code = message->data.result; /* gone once the handle is */
    void *own = NULL;
    long http_status = 0;
    if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, &own) != CURLE_OK ||
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &http_status) != CURLE_OK ||
        curl_multi_remove_handle(h->multi, easy) != CURLM_OK)
      return status_set(status, SBAG_ERR_STATE, "bench serve: libcurl loses a request");
    slot_t *slot = own;
    load_request_t *request = &r->requests[slot->request];
    request->done_s = clock_now() - h->zero_s;
    request->status = code == CURLE_OK                   ? (int)http_status
                      : code == CURLE_OPERATION_TIMEDOUT ? LOAD_NO_ANSWER
                                                         : LOAD_DISCONNECTED;
    keep_said(r, slot, code);
    slot->next = h->free_slots;
    h->free_slots = slot;
    h->busy--;
    r->done++;
  }
  return SBAG_OK;
}

static sbag_code_t act(run_t *r, curl_socket_t socket, int events, sbag_status_t *status) {
  int running = 0;
  if (curl_multi_socket_action(r->h->multi, socket, events, &running) == CURLM_OK && !r->h->broken)
    return take_done(r, status);
  return status_set(status, SBAG_ERR_IO, "bench serve: libcurl or epoll cannot go on: %s", strerror(errno));
}

static sbag_code_t act_on_timer(run_t *r, sbag_status_t *status) {
  while (r->h->timer_s >= 0 && r->h->timer_s <= clock_now()) {
    r->h->timer_s = -1;
    SBAG_TRY(act(r, CURL_SOCKET_TIMEOUT, 0, status));
  }
  return SBAG_OK;
}

/* Until the next request is due, or libcurl wants to be called. */
static struct timespec how_long(const run_t *r) {
  double wait_s = 1, at_s = clock_now();
  if (r->h->timer_s >= 0 && r->h->timer_s - at_s < wait_s) wait_s = r->h->timer_s - at_s;
  if (r->next < r->count && r->h->free_slots != NULL) {
    double due_s = r->h->zero_s + r->requests[r->next].due_s - at_s;
    if (due_s < wait_s) wait_s = due_s;
  }
  if (wait_s < 0) wait_s = 0;
  return (struct timespec){.tv_sec = (time_t)wait_s, .tv_nsec = (long)(1e9 * (wait_s - floor(wait_s)))};
}

static sbag_code_t turn(run_t *r, sbag_status_t *status) {
  struct epoll_event events[EVENTS];
  SBAG_TRY(send_due(r, status));
  SBAG_TRY(act_on_timer(r, status));
  struct timespec wait = how_long(r);
  int count = epoll_pwait2(r->h->epoll, events, EVENTS, &wait, NULL);
  if (count < 0 && errno != EINTR)
    return status_set(status, SBAG_ERR_IO, "bench serve: epoll: %s", strerror(errno));
  for (int i = 0; i < count; i++) {
    int what = (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
               (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    SBAG_TRY(act(r, events[i].data.fd, what, status));
    SBAG_TRY(send_due(r, status));
    SBAG_TRY(act_on_timer(r, status));
  }
  return SBAG_OK;
}

/* Requests that are under way when a run ends early. */
static void take_back(load_http_t *h) {
  h->free_slots = NULL;
  for (int64_t i = h->s->connections - 1; i >= 0; i--) {
    curl_multi_remove_handle(h->multi, h->slots[i].easy);
    h->slots[i].next = h->free_slots;
    h->free_slots = &h->slots[i];
  }
  h->busy = 0;
}

sbag_code_t load_http_run(load_http_t *h, const char *path, const load_bodies_t *bodies,
                          load_request_t *requests, int64_t count, char said[256], sbag_status_t *status) {
  run_t r = {.h = h, .bodies = bodies, .requests = requests, .count = count, .said = said};
  said[0] = '\0';
  SBAG_TRY(point_slots(h, path, bodies->json_bytes, status));
  int slack_ns = prctl(PR_GET_TIMERSLACK); /* what a wait may be late: 50 us, if nothing is said */
  prctl(PR_SET_TIMERSLACK, SLACK_NS);
  h->zero_s = clock_now();
  sbag_code_t code = SBAG_OK;
  while (r.done < count && code == SBAG_OK) code = turn(&r, status);
  if (slack_ns > 0) prctl(PR_SET_TIMERSLACK, slack_ns);
  if (h->busy > 0) take_back(h);
  return code;
}
