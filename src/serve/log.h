/* What a server says, by level: lines of JSON in a file, the access log's among them, and text on stderr. Any
 * thread may call. */
#ifndef SERVE_LOG_H
#define SERVE_LOG_H

#include "serve/buffer.h"
#include "serve/options.h"

#include <pthread.h>
#include <stdio.h>

typedef struct serve_log {
  serve_level_t level; /* the last that is said */
  mem_t *mem;
  FILE *lines, *errors; /* lines NULL: none */
  pthread_mutex_t mutex;
} serve_log_t;

/* path: of the file that lines of JSON are added to; NULL: none. `errors` is borrowed. */
sbag_code_t serve_log_open(const char *path, serve_level_t level, FILE *errors, mem_t *mem, serve_log_t *log,
                           sbag_status_t *status);
void serve_log_close(serve_log_t *log);

/* Whether lines of this level go into the file: only then are they begun. */
int serve_log_writes(const serve_log_t *log, serve_level_t level);
/* A line's start, its members `event`, `level` and `time`; the caller adds more, a comma before each. */
void serve_log_begin(const serve_log_t *log, serve_level_t level, const char *event, buffer_t *line);
void serve_log_end(serve_log_t *log, buffer_t *line);

/* A line with a `message` in the file; say: and on stderr. */
void serve_log_note(serve_log_t *log, serve_level_t level, const char *event, const char *message);
void serve_log_say(serve_log_t *log, serve_level_t level, const char *event, const char *message);

#endif
