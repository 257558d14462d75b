/* In place of http.c where libmicrohttpd was not found. */
#include "serve/http.h"

sbag_code_t http_available(sbag_status_t *status) {
  return status_set(status, SBAG_ERR_UNSUPPORTED,
                    "this build cannot serve: it was made without libmicrohttpd (Debian: libmicrohttpd-dev)");
}

sbag_code_t http_start(const http_options_t *options, mem_t *mem, http_t **http, sbag_status_t *status) {
  (void)options;
  (void)mem;
  *http = NULL;
  return http_available(status);
}

int http_port(const http_t *http) {
  (void)http;
  return 0;
}

void http_watch(http_t *http) {
  (void)http;
}

void http_drain(http_t *http) {
  (void)http;
}

int http_under_way(http_t *http) {
  (void)http;
  return 0;
}

void http_stop(http_t **http) {
  *http = NULL;
}
