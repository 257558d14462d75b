/* The HTTP side of a server, on rank 0: threads that read requests, parse them, queue them, and write the
 * answers. A build without libmicrohttpd has http_absent.c in its place. */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H

#include "serve/counters.h"
#include "serve/edition.h"
#include "serve/log.h"
#include "serve/queue.h"

typedef struct http http_t;

typedef struct http_options {
  const char *bind; /* an address, as text */
  int port;         /* 0: one that is free */
  int threads, connections;
  int64_t body_bytes;
  request_limits_t limits;
  double request_s;     /* from its first line to its last byte, and from the answer to its last byte */
  double wait_s;        /* in its connection, while other requests are read; 0: for any time */
  double idle_s;        /* of a connection between two requests */
  const char *token;    /* NULL: none is asked for */
  const char *tls_cert; /* NULL: no TLS; a PEM file of the certificate, and those that it is signed by */
  const char *tls_key;  /* a PEM file of its key */
  serve_log_t *log;
  editions_t *editions;
  queue_t *queue;
  queue_t *loads; /* of tickets without a request: who asks for a newer checkpoint */
  counters_t *metrics;
  int64_t max_batch; /* for the models' configs */
  /* Answers a ticket here and now; 0: it is to be queued. Called by any thread. */
  int (*answer_now)(void *user, ticket_t *ticket);
  /* Whether requests can be answered now. Called by any thread. */
  int (*ready)(void *user);
  void *user;
} http_options_t;

/* SBAG_ERR_UNSUPPORTED with what is missing in a build that cannot serve. */
sbag_code_t http_available(sbag_status_t *status);
sbag_code_t http_start(const http_options_t *options, mem_t *mem, http_t **http, sbag_status_t *status);
int http_port(const http_t *http);
/* To be called about once a second: cuts off connections that take too long. */
void http_watch(http_t *http);
/* No new connections, and requests that come on old ones are refused. */
void http_drain(http_t *http);
/* Requests that are not yet answered to the last byte. */
int http_under_way(http_t *http);
/* No ticket may be queued. NULL is allowed. */
void http_stop(http_t **http);

#endif
