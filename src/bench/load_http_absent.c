/* In place of load_http.c where libcurl was not found. */
#include "bench/load_http.h"

sbag_code_t load_http_available(sbag_status_t *status) {
  return status_set(
      status, SBAG_ERR_UNSUPPORTED,
      "this build cannot ask a server: it was made without libcurl (Debian: libcurl4-openssl-dev)");
}

sbag_code_t load_http_create(const bench_load_settings_t *settings, mem_t *mem, load_http_t **http,
                             sbag_status_t *status) {
  (void)settings, (void)mem;
  *http = NULL;
  return load_http_available(status);
}

void load_http_destroy(load_http_t **http) {
  *http = NULL;
}

sbag_code_t load_http_ask(load_http_t *http, const char *path, const char *body, char **text,
                          sbag_status_t *status) {
  (void)http, (void)path, (void)body;
  *text = NULL;
  return load_http_available(status);
}

sbag_code_t load_http_model_path(load_http_t *http, const char *name, const char *rest, char path[1024],
                                 sbag_status_t *status) {
  (void)http, (void)name, (void)rest;
  path[0] = '\0';
  return load_http_available(status);
}

sbag_code_t load_http_run(load_http_t *http, const char *path, const load_bodies_t *bodies,
                          load_request_t *requests, int64_t count, char said[256], sbag_status_t *status) {
  (void)http, (void)path, (void)bodies, (void)requests, (void)count;
  said[0] = '\0';
  return load_http_available(status);
}
