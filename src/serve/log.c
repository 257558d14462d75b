/* Lines of JSON, and text on stderr. */
#include "serve/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

const char *const serve_levels[] = {"error", "warn", "info", "debug", NULL};

sbag_code_t serve_log_open(const char *path, serve_level_t level, FILE *errors, mem_t *mem, serve_log_t *log,
                           sbag_status_t *status) {
  *log = (serve_log_t){.level = level, .mem = mem, .errors = errors};
  if (path != NULL) log->lines = fopen(path, "ae");
  if (path != NULL && log->lines == NULL)
    return status_set(status, SBAG_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
  if (pthread_mutex_init(&log->mutex, NULL) == 0) return SBAG_OK;
  if (log->lines != NULL) fclose(log->lines);
  return status_set(status, SBAG_ERR_MEMORY, "serving: no lock for the log");
}

void serve_log_close(serve_log_t *log) {
  if (log->lines != NULL) fclose(log->lines);
  pthread_mutex_destroy(&log->mutex);
}

int serve_log_writes(const serve_log_t *log, serve_level_t level) {
  return log->lines != NULL && level <= log->level;
}

void serve_log_begin(const serve_log_t *log, serve_level_t level, const char *event, buffer_t *line) {
  struct timespec now;
  struct tm utc;
  char stamp[32];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  *line = (buffer_t){.mem = log->mem};
  buffer_print(line, "{\"event\":\"%s\",\"level\":\"%s\",\"time\":\"%s.%03ldZ\"", event, serve_levels[level],
               stamp, now.tv_nsec / 1000000);
}

void serve_log_end(serve_log_t *log, buffer_t *line) {
  buffer_text(line, "}\n");
  pthread_mutex_lock(&log->mutex);
  if (!line->failed && fwrite(line->data, 1, line->used, log->lines) == line->used) fflush(log->lines);
  pthread_mutex_unlock(&log->mutex);
  buffer_clear(line);
}

void serve_log_note(serve_log_t *log, serve_level_t level, const char *event, const char *message) {
  buffer_t line;
  if (!serve_log_writes(log, level)) return;
  serve_log_begin(log, level, event, &line);
  buffer_text(&line, ",\"message\":");
  buffer_quote(&line, message);
  serve_log_end(log, &line);
}

void serve_log_say(serve_log_t *log, serve_level_t level, const char *event, const char *message) {
  if (level > log->level) return;
  fprintf(log->errors, "shardbag serve: %s\n", message);
  fflush(log->errors);
  serve_log_note(log, level, event, message);
}
