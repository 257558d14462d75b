/* Which answer a path has. All but inference is answered here. */
#include "serve/http_impl.h"

#include <shardbag/context.h>
#include <string.h>

static const char json_type[] = "application/json", text_type[] = "text/plain; version=0.0.4";

static int is_ready(const exchange_t *x) {
  return !atomic_load(&x->http->draining) && x->http->options.ready(x->http->options.user);
}

static void unknown(exchange_t *x, const char *url) {
  char message[320];
  snprintf(message, sizeof message, "there is nothing at '%.200s'", url);
  http_refuse(x, MHD_HTTP_NOT_FOUND, ERROR_NOT_FOUND, message);
}

/* Health is said by the status alone. */
static void answer_health(exchange_t *x, int well) {
  http_answer(x, well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, json_type, 0);
}

/* The signature whose name the path begins with, the longer one where both do; *rest is what follows. */
static const serve_signature_t *find_model(const exchange_t *x, const char *path, const char **rest) {
  const serve_signature_t *found = NULL;
  size_t longest = 0;
  for (int k = 0; k < SERVE_KINDS; k++) {
    const serve_signature_t *s = &x->edition->signatures[k];
    size_t length = strlen(s->name);
    if (s->output_count == 0 || length <= longest || strncmp(path, s->name, length) != 0) continue;
    if (path[length] != '\0' && path[length] != '/') continue;
    found = s;
    longest = length;
  }
  *rest = path + longest;
  return found;
}

/* Passes over "/versions/V"; 0 where V is another. */
static int skip_version(const serve_signature_t *s, const char **rest) {
  static const char word[] = "/versions/";
  if (strncmp(*rest, word, sizeof word - 1) != 0) return 1;
  const char *at = *rest + sizeof word - 1;
  size_t length = strcspn(at, "/");
  if (length != strlen(s->version) || strncmp(at, s->version, length) != 0) return 0;
  *rest = at + length;
  return 1;
}

static int is_get(const exchange_t *x) {
  return strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0;
}

/* 0: answered. */
static int check_method(exchange_t *x, int get) {
  if (get ? is_get(x) : strcmp(x->method, "POST") == 0) return 1;
  http_refuse(x, MHD_HTTP_METHOD_NOT_ALLOWED, ERROR_BAD_REQUEST,
              get ? "only GET is answered here" : "only POST is answered here");
  return 0;
}

static void refuse_model(exchange_t *x, const char *path) {
  const serve_signature_t *all = x->edition->signatures;
  char message[320];
  snprintf(message, sizeof message,
           "there is no such model or version: '%.100s'; served is '%.100s', version %s", path,
           all[all[0].output_count > 0 ? 0 : 1].name, all[0].version);
  http_refuse(x, MHD_HTTP_NOT_FOUND, ERROR_NOT_FOUND, message);
}

static const serve_signature_t *route_model(exchange_t *x, const char *url, const char *path) {
  const char *rest = NULL;
  x->edition = editions_take(x->http->options.editions);
  const serve_signature_t *s = find_model(x, path, &rest);
  if (s == NULL || !skip_version(s, &rest)) {
    refuse_model(x, path);
    return NULL;
  }
  if (strcmp(rest, "/infer") == 0) return check_method(x, 0) ? s : NULL;
  int known = rest[0] == '\0' || strcmp(rest, "/ready") == 0 || strcmp(rest, "/config") == 0;
  if (!known) {
    unknown(x, url);
  } else if (!check_method(x, 1)) {
    return NULL;
  } else if (strcmp(rest, "/ready") == 0) {
    answer_health(x, is_ready(x));
  } else {
    if (rest[0] == '\0')
      reply_model(s, &x->reply);
    else
      reply_config(s, x->http->options.max_batch, &x->reply);
    http_answer(x, MHD_HTTP_OK, json_type, 0);
  }
  return NULL;
}

/* Behind /v2/repository/: index, models/NAME/load, models/NAME/unload. Both models are of one checkpoint. */
static void route_repository(exchange_t *x, const char *url, const char *path) {
  static const char models[] = "models/";
  const char *rest = NULL;
  x->edition = editions_take(x->http->options.editions);
  if (strcmp(path, "index") == 0) {
    if (!check_method(x, 0)) return;
    reply_index(x->edition->signatures, SERVE_KINDS, is_ready(x), &x->reply);
    http_answer(x, MHD_HTTP_OK, json_type, 0);
    return;
  }
  if (strncmp(path, models, sizeof models - 1) != 0) {
    unknown(x, url);
    return;
  }
  if (find_model(x, path + sizeof models - 1, &rest) == NULL) {
    refuse_model(x, path + sizeof models - 1);
  } else if (strcmp(rest, "/unload") == 0) {
    http_refuse(x, MHD_HTTP_BAD_REQUEST, ERROR_BAD_REQUEST, "the model of a server is not unloaded: end it");
  } else if (strcmp(rest, "/load") != 0) {
    unknown(x, url);
  } else if (check_method(x, 0)) {
    editions_give(x->http->options.editions, &x->edition); /* it waits for the next one */
    http_wait_for_load(x);
  }
}

static void answer_metrics(exchange_t *x) {
  const http_options_t *o = &x->http->options;
  counters_write(o->metrics, queue_length(o->queue), is_ready(x), &x->reply);
  http_answer(x, MHD_HTTP_OK, text_type, 0);
}

const serve_signature_t *http_route(exchange_t *x, const char *url) {
  static const char models[] = "/v2/models/", repository[] = "/v2/repository/";
  if (strncmp(url, models, sizeof models - 1) == 0) return route_model(x, url, url + sizeof models - 1);
  if (strncmp(url, repository, sizeof repository - 1) == 0) {
    route_repository(x, url, url + sizeof repository - 1);
    return NULL;
  }
  int live = strcmp(url, "/v2/health/live") == 0, ready = strcmp(url, "/v2/health/ready") == 0;
  int server = strcmp(url, "/v2") == 0 || strcmp(url, "/v2/") == 0, metrics = strcmp(url, "/metrics") == 0;
  if (!live && !ready && !server && !metrics) {
    unknown(x, url);
  } else if (!check_method(x, 1)) {
    return NULL;
  } else if (metrics) {
    answer_metrics(x);
  } else if (server) {
    reply_server(sbag_version(), &x->reply);
    http_answer(x, MHD_HTTP_OK, json_type, 0);
  } else {
    answer_health(x, live || is_ready(x));
  }
  return NULL;
}
