/* What a server is told on the command line. */
#ifndef SERVE_OPTIONS_H
#define SERVE_OPTIONS_H

#include <stdint.h>

/* How much a server says: of a level and all before it. Requests are errors where the server failed (500),
 * warnings where they were refused. */
typedef enum serve_level {
  SERVE_LEVEL_ERROR,
  SERVE_LEVEL_WARN,
  SERVE_LEVEL_INFO,
  SERVE_LEVEL_DEBUG /* and where each request's time went, and what the HTTP library says */
} serve_level_t;
/* Their names, NULL behind the last. */
extern const char *const serve_levels[];

typedef struct serve_options {
  const char *bind, *name, *token_file; /* name, token_file NULL: the checkpoint's; none */
  const char *log;                      /* a file; NULL: none */
  serve_level_t level;
  const char *tls_cert, *tls_key;     /* files; NULL: no TLS */
  int64_t port, threads, connections; /* threads: of HTTP */
  int64_t max_batch, queue, body_bytes, tensors, bag_length;
  double window_us, wait_ms, request_s, idle_s;
  int mapped;     /* tables are read where the file is mapped */
  double watch_s; /* how often to look for a newer checkpoint; 0: never */
} serve_options_t;

serve_options_t serve_options_default(void);

#endif
