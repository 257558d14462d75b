/* What the files of the HTTP side share. Nobody else includes this. */
#ifndef SERVE_HTTP_IMPL_H
#define SERVE_HTTP_IMPL_H

#include "serve/http.h"
#include "serve/reply.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>

typedef enum peer_place { PEER_IDLE, PEER_RECEIVING, PEER_WAITING, PEER_REPLYING } peer_place_t;

/* A connection, watched for how long it takes. */
typedef struct peer {
  struct peer *next, *previous;
  int socket, cut;
  double since_s; /* of what it is at */
  peer_place_t at;
} peer_t;

/* One HTTP request, from its first line until its reply is sent. */
typedef struct exchange {
  http_t *http;
  peer_t *peer;
  struct MHD_Connection *connection;
  enum { EXCHANGE_NEW, EXCHANGE_BODY, EXCHANGE_WAITING, EXCHANGE_REPLIED } state;
  char path[256]; /* for the log */
  char method[8];
  buffer_t body, reply;
  int64_t received; /* bytes of the body, also those that were thrown away */
  double begin_s, received_s, parsed_s;
  int has_ticket, status;
  int held;           /* counted as one that is in hand */
  int loading;        /* it asks for a newer checkpoint */
  edition_t *edition; /* that it is answered by, until that is done; NULL: none */
  ticket_t ticket;
} exchange_t;

struct http {
  http_options_t options;
  mem_t *mem;
  struct MHD_Daemon *daemon;
  MHD_socket listening; /* what is left to close after http_drain */
  char *cert, *key;     /* PEM; NULL: no TLS */
  char said[160];       /* by the library, while it starts */
  int started;
  pthread_mutex_t mutex; /* of the peers */
  peer_t *peers;
  peer_t spare; /* of connections that there was no memory for */
  atomic_int under_way, draining;
  atomic_int held; /* requests that were read and are not answered to the last byte */
};

/* http_route.c: a request that is there in full, except an inference, which http.c takes up: its signature is
 * returned then, one of the exchange's edition. */
const serve_signature_t *http_route(exchange_t *exchange, const char *url);

/* Answers with the reply's buffer. type: its Content-Type. json_bytes: of an inference with binary outputs.
 */
enum MHD_Result http_answer(exchange_t *exchange, int status, const char *type, size_t json_bytes);
enum MHD_Result http_refuse(exchange_t *exchange, int status, counters_error_t kind, const char *message);

/* A request for a newer checkpoint: the answer comes when that is served, or refused. */
void http_wait_for_load(exchange_t *exchange);

/* http_tls.c: the options' files into memory. */
sbag_code_t http_tls_open(http_t *http, sbag_status_t *status);
/* What a start that failed says, where TLS was the cause; else SBAG_OK. */
sbag_code_t http_tls_blame(const http_t *http, sbag_status_t *status);
void http_tls_close(http_t *http);

/* http_late.c: whether a request that is there in full is one too many, or has waited for too long. */
int http_late(const exchange_t *exchange);

/* http_log.c */
void http_log(exchange_t *exchange);

#endif
