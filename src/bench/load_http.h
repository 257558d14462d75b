/* The client of `shardbag bench serve`: one thread, an event loop over libcurl's connections. A build without
 * libcurl has load_http_absent.c in its place. */
#ifndef BENCH_LOAD_HTTP_H
#define BENCH_LOAD_HTTP_H

#include "bench/load_model.h"

typedef struct load_http load_http_t;

/* SBAG_ERR_UNSUPPORTED with what is missing in a build that cannot ask. */
sbag_code_t load_http_available(sbag_status_t *status);
/* Nothing is sent yet. */
sbag_code_t load_http_create(const bench_load_settings_t *settings, mem_t *mem, load_http_t **http,
                             sbag_status_t *status);
/* NULL is allowed. */
void load_http_destroy(load_http_t **http);

/* The answer to one request, which is waited for; body NULL: GET. *text is the caller's, by mem_free, and
 * ends with a zero. An answer other than 200 is SBAG_ERR_IO, with what the server said. */
sbag_code_t load_http_ask(load_http_t *http, const char *path, const char *body, char **text,
                          sbag_status_t *status);
/* "/v2/models/NAME" and what follows it, into path; the name may hold anything. */
sbag_code_t load_http_model_path(load_http_t *http, const char *name, const char *rest, char path[1024],
                                 sbag_status_t *status);

/* Sends requests[count] when they are due, from now on, each as soon as a connection is free, until all are
 * answered or their time is over; fills in what became of them. Which body a request has follows from its
 * place, and from `invalid` of it. said: what the server said with the first answer that was not wanted; ""
 * where all were. */
sbag_code_t load_http_run(load_http_t *http, const char *path, const load_bodies_t *bodies,
                          load_request_t *requests, int64_t count, char said[256], sbag_status_t *status);

#endif
