/* Reads metrics.jsonl line by line and finds where it must end. */
#include "train/history.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Offsets in the file; -1: not found. */
typedef struct history {
  const progress_t *progress;
  int64_t whole;      /* behind the last line that is whole */
  int64_t origin;     /* the first line of the run */
  int64_t checkpoint; /* behind the line of the checkpoint */
  int64_t later;      /* the first line of a later step */
} history_t;

static int64_t number(json_object *object, const char *key) {
  json_object *value = NULL;
  return json_object_object_get_ex(object, key, &value) ? json_object_get_int64(value) : -1;
}

static void take_event(history_t *h, json_object *object, int64_t begin, int64_t end) {
  json_object *value = NULL;
  if (!json_object_object_get_ex(object, "event", &value)) return;
  const char *event = json_object_get_string(value);
  int64_t step = number(object, "step");
  if (event == NULL) return;
  if (strcmp(event, "start") == 0 && number(object, "from") == 0) {
    h->origin = number(object, "run") == h->progress->run ? begin : -1;
    h->checkpoint = h->later = -1;
    return;
  }
  if (h->origin < 0) return;
  if (strcmp(event, "checkpoint") == 0 && step == h->progress->step) h->checkpoint = end;
  if (step > h->progress->step && h->later < 0) h->later = begin;
}

static sbag_code_t read_lines(FILE *file, const char *path, history_t *h, sbag_status_t *status) {
  char *line = NULL;
  size_t room = 0;
  ssize_t bytes;
  while ((bytes = getline(&line, &room, file)) > 0) {
    if (line[bytes - 1] != '\n') break;
    int64_t begin = h->whole;
    h->whole += bytes;
    json_object *object = h->progress != NULL ? json_tokener_parse(line) : NULL;
    if (object == NULL) continue;
    take_event(h, object, begin, h->whole);
    json_object_put(object);
  }
  free(line);
  if (!ferror(file)) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
}

static int64_t end_of(const history_t *h) {
  if (h->progress == NULL || h->origin < 0) return h->whole;
  if (h->progress->step == 0) return h->origin;
  if (h->checkpoint >= 0) return h->checkpoint;
  return h->later >= 0 ? h->later : h->whole;
}

sbag_code_t history_cut(const char *path, const progress_t *progress, sbag_status_t *status) {
  history_t h = {.progress = progress, .origin = -1, .checkpoint = -1, .later = -1};
  FILE *file = fopen(path, "re");
  if (file == NULL && errno == ENOENT) return SBAG_OK;
  if (file == NULL) return status_set(status, SBAG_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
  sbag_code_t code = read_lines(file, path, &h, status);
  fclose(file);
  if (code == SBAG_OK && truncate(path, (off_t)end_of(&h)) != 0)
    code = status_set(status, SBAG_ERR_IO, "%s: cannot be cut at byte %lld: %s", path, (long long)end_of(&h),
                      strerror(errno));
  return code;
}
