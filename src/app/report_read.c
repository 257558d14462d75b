/* From JSON lines to series. What an object has is taken by its keys, so that a model's own metrics need no
 * line here. */
#include "app/report.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char bars[] = "phases";

int report_is_bars(const char *chart) {
  return strcmp(chart, bars) == 0;
}

/* ---- the lists ---- */

static sbag_code_t grow(mem_t *mem, void **items, int *capacity, int count, size_t size,
                        sbag_status_t *status) {
  if (count <= *capacity) return SBAG_OK;
  int wanted = 2 * *capacity > count ? 2 * *capacity : count;
  SBAG_TRY(mem_realloc(mem, mem_array_bytes(wanted, size), "report", items, status));
  *capacity = wanted;
  return SBAG_OK;
}

/* What cannot stand in a script or a file's name becomes '_'. */
static void take_text(const char *from, char to[REPORT_TEXT_BYTES]) {
  snprintf(to, REPORT_TEXT_BYTES, "%s", from);
  for (char *c = to; *c != '\0'; c++)
    if ((unsigned char)*c < ' ' || strchr("\"'\\`$|/<>&", *c) != NULL) *c = '_';
}

static report_series_t *find(const report_t *r, int run, const char *chart, const char *label) {
  for (int i = 0; i < r->series_count; i++) {
    report_series_t *s = &r->series[i];
    if (s->run == run && strcmp(s->chart, chart) == 0 && strcmp(s->label, label) == 0) return s;
  }
  return NULL;
}

const report_series_t *report_find(const report_t *report, int run, const char *chart, const char *label) {
  return find(report, run, chart, label);
}

static sbag_code_t add_point(report_t *r, const char *chart, const char *label, double x, double y,
                             sbag_status_t *status) {
  char chart_name[REPORT_TEXT_BYTES], label_name[REPORT_TEXT_BYTES];
  void *items = r->series;
  if (!isfinite(y)) return SBAG_OK;
  take_text(chart, chart_name);
  take_text(label, label_name);
  report_series_t *s = find(r, r->run_count - 1, chart_name, label_name);
  if (s == NULL) {
    SBAG_TRY(grow(r->mem, &items, &r->series_capacity, r->series_count + 1, sizeof *s, status));
    r->series = items;
    s = &r->series[r->series_count++];
    *s = (report_series_t){.run = r->run_count - 1};
    memcpy(s->chart, chart_name, sizeof s->chart);
    memcpy(s->label, label_name, sizeof s->label);
  }
  if (s->count == s->capacity) {
    int64_t wanted = 2 * s->capacity + 64;
    items = s->points;
    SBAG_TRY(mem_realloc(r->mem, mem_array_bytes(wanted, sizeof *s->points), "report", &items, status));
    s->points = items;
    s->capacity = wanted;
  }
  s->points[s->count++] = (report_point_t){x, y};
  return SBAG_OK;
}

/* A run that is begun again in its file. */
static void forget_run(report_t *r) {
  int kept = 0;
  for (int i = 0; i < r->series_count; i++) {
    if (r->series[i].run == r->run_count - 1)
      mem_free(r->mem, r->series[i].points);
    else
      r->series[kept++] = r->series[i];
  }
  r->series_count = kept;
}

static sbag_code_t category_of(report_t *r, const char *name, int *category, sbag_status_t *status) {
  char text[REPORT_TEXT_BYTES];
  void *items = r->categories;
  take_text(name, text);
  for (*category = 0; *category < r->category_count; ++*category)
    if (strcmp(r->categories[*category], text) == 0) return SBAG_OK;
  SBAG_TRY(grow(r->mem, &items, &r->category_capacity, r->category_count + 1, sizeof *r->categories, status));
  r->categories = items;
  memcpy(r->categories[r->category_count++], text, sizeof text);
  return SBAG_OK;
}

void report_clear(report_t *report) {
  for (int i = 0; i < report->series_count; i++) mem_free(report->mem, report->series[i].points);
  mem_free(report->mem, report->series);
  mem_free(report->mem, report->runs);
  mem_free(report->mem, report->categories);
  *report = (report_t){.mem = report->mem};
}

int report_chart_count(const report_t *report) {
  int count = 0;
  while (report_chart(report, count) != NULL) count++;
  return count;
}

const char *report_chart(const report_t *report, int chart) {
  for (int i = 0; i < report->series_count; i++) {
    int first = 1;
    for (int j = 0; j < i && first; j++)
      first = strcmp(report->series[i].chart, report->series[j].chart) != 0;
    if (first && chart-- == 0) return report->series[i].chart;
  }
  return NULL;
}

/* ---- objects ---- */

static double number(json_object *object, const char *key) {
  json_object *value = NULL;
  if (!json_object_object_get_ex(object, key, &value)) return NAN;
  if (!json_object_is_type(value, json_type_double) && !json_object_is_type(value, json_type_int)) return NAN;
  return json_object_get_double(value);
}

static const char *text(json_object *object, const char *key) {
  json_object *value = NULL;
  if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_string))
    return "";
  return json_object_get_string(value);
}

static int64_t whole(json_object *object, const char *key) {
  double value = number(object, key);
  return isfinite(value) && fabs(value) < 9e15 ? (int64_t)value : 0;
}

static void take_start(report_t *r, json_object *object) {
  report_run_t *run = &r->runs[r->run_count - 1];
  if (whole(object, "from") == 0) forget_run(r);
  take_text(text(object, "name"), run->name);
  run->ranks = whole(object, "ranks");
  run->steps = whole(object, "steps");
  run->seconds = NAN;
  run->reason[0] = '\0';
}

/* A rank's most beside the median or mean: 1 is even. */
static sbag_code_t take_imbalance(report_t *r, json_object *object, double step, sbag_status_t *status) {
  static const struct {
    const char *label, *most, *usual;
  } kinds[] = {{"time of work", "slowest_ms", "median_ms"},
               {"rows owned", "owned_rows_max", "owned_rows_median"},
               {"bytes sent", "sent_bytes_max", "sent_bytes_mean"}};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    SBAG_TRY(add_point(r, "imbalance", kinds[i].label, step,
                       number(object, kinds[i].most) / number(object, kinds[i].usual), status));
  return SBAG_OK;
}

static sbag_code_t take_train(report_t *r, json_object *object, sbag_status_t *status) {
  double step = number(object, "step");
  SBAG_TRY(add_point(r, "loss", "", step, number(object, "loss"), status));
  SBAG_TRY(add_point(r, "throughput", "", step, number(object, "samples_per_s"), status));
  SBAG_TRY(add_point(r, "learning rate", "", step, number(object, "lr"), status));
  if (r->runs[r->run_count - 1].ranks < 2) return SBAG_OK;
  return take_imbalance(r, object, step, status);
}

static sbag_code_t take_eval(report_t *r, json_object *object, sbag_status_t *status) {
  double step = number(object, "step");
  struct json_object_iterator at = json_object_iter_begin(object), end = json_object_iter_end(object);
  for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
    const char *key = json_object_iter_peek_name(&at);
    if (strcmp(key, "step") == 0 || strcmp(key, "samples") == 0) continue;
    SBAG_TRY(add_point(r, key, text(object, "space"), step, number(object, key), status));
  }
  return SBAG_OK;
}

static sbag_code_t take_bench(report_t *r, json_object *object, sbag_status_t *status) {
  json_object *pipeline = NULL;
  int category = 0;
  if (strcmp(text(object, "bench"), "step") != 0 || strcmp(text(object, "kind"), "phase") != 0)
    return SBAG_OK;
  r->runs[r->run_count - 1].ranks = whole(object, "ranks");
  int ahead = json_object_object_get_ex(object, "pipeline", &pipeline) && json_object_get_boolean(pipeline);
  SBAG_TRY(category_of(r, text(object, "name"), &category, status));
  return add_point(r, bars, ahead ? "pipelined" : "one after the other", category, number(object, "ms"),
                   status);
}

/* Rank 0's, of the run's steps. */
static sbag_code_t take_end(report_t *r, json_object *object, sbag_status_t *status) {
  report_run_t *run = &r->runs[r->run_count - 1];
  json_object *phases = NULL;
  run->seconds = number(object, "seconds");
  run->steps = whole(object, "step");
  take_text(text(object, "reason"), run->reason);
  if (!json_object_object_get_ex(object, "phases_ms", &phases) ||
      !json_object_is_type(phases, json_type_object))
    return SBAG_OK;
  struct json_object_iterator at = json_object_iter_begin(phases), end = json_object_iter_end(phases);
  for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
    int category = 0;
    const char *name = json_object_iter_peek_name(&at);
    SBAG_TRY(category_of(r, name, &category, status));
    SBAG_TRY(add_point(r, bars, "", category, number(phases, name), status));
  }
  return SBAG_OK;
}

static sbag_code_t take_object(report_t *r, json_object *object, sbag_status_t *status) {
  const char *event = text(object, "event");
  if (strcmp(event, "start") == 0) take_start(r, object);
  if (strcmp(event, "train") == 0) return take_train(r, object, status);
  if (strcmp(event, "eval") == 0) return take_eval(r, object, status);
  if (strcmp(event, "bench") == 0) return take_bench(r, object, status);
  if (strcmp(event, "end") == 0) return take_end(r, object, status);
  return SBAG_OK;
}

/* ---- the file ---- */

static sbag_code_t refuse(const report_t *r, int64_t line, int64_t column, const char *why,
                          sbag_status_t *status) {
  return status_set(
      status, SBAG_ERR_FORMAT,
      "%s:%lld:%lld: %s; a line would be right that is one JSON object, as train and bench step "
      "write them by --json",
      r->runs[r->run_count - 1].path, (long long)line, (long long)column, why);
}

/* A last line without an end is one that a run had no time to write. */
static sbag_code_t take_line(report_t *r, json_tokener *tokener, const char *line, int64_t bytes, int64_t at,
                             sbag_status_t *status) {
  int ended = line[bytes - 1] == '\n';
  int64_t length = ended ? bytes - 1 : bytes;
  if (length > 0 && line[length - 1] == '\r') length--;
  if (length == 0) return SBAG_OK;
  const char *nul = memchr(line, '\0', (size_t)length);
  if (nul != NULL) return refuse(r, at, nul - line + 1, "a NUL byte", status);
  if (bytes > INT32_MAX) return refuse(r, at, 1, "a line of 2 GiB", status);
  json_tokener_reset(tokener);
  json_object *object =
      json_tokener_parse_ex(tokener, line, (int)(ended ? bytes : length)); /* a line's end ends a number */
  enum json_tokener_error error = json_tokener_get_error(tokener);
  int64_t used = (int64_t)json_tokener_get_parse_end(tokener);
  sbag_code_t code = SBAG_OK;
  if (error != json_tokener_success)
    code = ended ? refuse(r, at, used + 1,
                          error == json_tokener_continue ? "the line ends too early"
                                                         : json_tokener_error_desc(error),
                          status)
                 : SBAG_OK;
  else if (used < length)
    code = refuse(r, at, used + 1, "more than one value", status);
  else if (!json_object_is_type(object, json_type_object))
    code = refuse(r, at, 1, "no object", status);
  else
    code = take_object(r, object, status);
  json_object_put(object);
  return code;
}

static sbag_code_t take_lines(report_t *r, FILE *file, json_tokener *tokener, sbag_status_t *status) {
  char *line = NULL;
  size_t room = 0;
  ssize_t bytes;
  sbag_code_t code = SBAG_OK;
  for (int64_t at = 1; code == SBAG_OK && (bytes = getline(&line, &room, file)) > 0; at++)
    code = take_line(r, tokener, line, bytes, at, status);
  free(line);
  if (code == SBAG_OK && ferror(file))
    code = status_set(status, SBAG_ERR_IO, "%s: cannot be read: %s", r->runs[r->run_count - 1].path,
                      strerror(errno));
  return code;
}

/* By the file's name, where the run says none. */
static void name_run(report_t *r) {
  report_run_t *run = &r->runs[r->run_count - 1];
  char name[REPORT_TEXT_BYTES];
  const char *slash = strrchr(run->path, '/');
  if (run->name[0] == '\0') take_text(slash != NULL ? slash + 1 : run->path, run->name);
  int same = 0;
  memcpy(name, run->name, sizeof name);
  for (int i = 0; i < r->run_count - 1; i++) {
    if (strcmp(r->runs[i].name, run->name) != 0) continue;
    snprintf(run->name, sizeof run->name, "%.80s (%d)", name, ++same + 1);
    i = -1; /* the new name may be taken too */
  }
}

sbag_code_t report_read(report_t *report, const char *path, sbag_status_t *status) {
  void *items = report->runs;
  SBAG_TRY(
      grow(report->mem, &items, &report->run_capacity, report->run_count + 1, sizeof *report->runs, status));
  report->runs = items;
  report->runs[report->run_count++] = (report_run_t){.path = path, .seconds = NAN};
  FILE *file = fopen(path, "re");
  if (file == NULL) return status_set(status, SBAG_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
  json_tokener *tokener = json_tokener_new();
  if (tokener != NULL) json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
  sbag_code_t code = tokener != NULL ? take_lines(report, file, tokener, status)
                                     : status_set(status, SBAG_ERR_MEMORY, "%s: no memory to read it", path);
  if (tokener != NULL) json_tokener_free(tokener);
  fclose(file);
  SBAG_TRY(code);
  name_run(report);
  for (int i = 0; i < report->series_count; i++)
    if (report->series[i].run == report->run_count - 1) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_FORMAT,
      "%s: there is nothing to draw; metrics.jsonl of a run, or what train or bench step write by "
      "--json, would be right",
      path);
}
