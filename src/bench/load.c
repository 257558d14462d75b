/* Rates, one after the other, and what came of them: see load.h. */
#include "bench/load_http.h"

#include "base/clock.h"
#include "base/random.h"
#include "bench/json.h"

#include <inttypes.h>
#include <shardbag/context.h>
#include <string.h>
#include <time.h>

typedef struct load {
  const bench_load_settings_t *s;
  mem_t *mem;
  load_http_t *http;
  load_model_t model;
  load_bodies_t bodies;
  load_request_t *requests; /* of the rate that is measured */
  double *scratch;
  char path[1024];
  bench_load_curve_t *curve;
  FILE *out, *json;
  const char *json_path;
} load_t;

/* ---- what to ask ---- */

static sbag_code_t find_model(load_t *l, char name[256], sbag_status_t *status) {
  char *index = NULL;
  if (l->s->model[0] != '\0') {
    if (snprintf(name, 256, "%s", l->s->model) < 256) return SBAG_OK;
    return status_set(status, SBAG_ERR_ARGUMENT, "the model's name '%.80s...' is too long", l->s->model);
  }
  SBAG_TRY(load_http_ask(l->http, "/v2/repository/index", "{}", &index, status));
  sbag_code_t code = load_model_first(index, name, status);
  mem_free(l->mem, index);
  return code;
}

/* The config is an extension of Triton's: a server may have none. */
static sbag_code_t read_model(load_t *l, sbag_status_t *status) {
  char name[256], path[1024], *metadata = NULL, *config = NULL;
  SBAG_TRY(find_model(l, name, status));
  SBAG_TRY(load_http_model_path(l->http, name, "", path, status));
  SBAG_TRY(load_http_ask(l->http, path, NULL, &metadata, status));
  sbag_code_t code = load_http_model_path(l->http, name, "/config", path, status);
  if (code == SBAG_OK && load_http_ask(l->http, path, NULL, &config, NULL) != SBAG_OK) config = NULL;
  if (code == SBAG_OK) code = load_model_parse(name, metadata, config, l->s->rows, l->mem, &l->model, status);
  mem_free(l->mem, metadata);
  mem_free(l->mem, config);
  return code;
}

/* One request before any is measured: what is wrong with all of them shows at once. */
static sbag_code_t try_one(load_t *l, sbag_status_t *status) {
  load_request_t one = {.due_s = 0};
  char said[256];
  SBAG_TRY(load_http_run(l->http, l->path, &l->bodies, &one, 1, said, status));
  if (one.status == 200) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: the first request fails: %s", l->s->url, said);
}

static sbag_code_t open_load(load_t *l, sbag_status_t *status) {
  SBAG_TRY(load_http_create(l->s, l->mem, &l->http, status));
  SBAG_TRY(read_model(l, status));
  SBAG_TRY(load_bodies_make(&l->model, l->s, l->mem, &l->bodies, status));
  if (l->s->invalid > 0 && l->bodies.invalid == 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "invalid=%g: the model has no indices that could be wrong",
                      l->s->invalid);
  SBAG_TRY(load_http_model_path(l->http, l->model.name, "/infer", l->path, status));
  return try_one(l, status);
}

static void close_load(load_t *l) {
  load_http_destroy(&l->http);
  load_model_clear(&l->model);
  load_bodies_clear(&l->bodies);
}

/* ---- one rate ---- */

/* Each rate has arrivals of its own. */
static void plan_requests(load_t *l, double rate, double seconds, int64_t seed, int64_t count) {
  uint64_t key = random_key((uint64_t)seed, "bench: invalid");
  memset(l->requests, 0, (size_t)count * sizeof *l->requests);
  load_arrivals(rate, seconds, seed, l->scratch);
  for (int64_t i = 0; i < count; i++) {
    l->requests[i].due_s = l->scratch[i];
    l->requests[i].invalid = random_unit53(key, (uint64_t)i) < l->s->invalid;
  }
}

static sbag_code_t make_room(load_t *l, int64_t count, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_alloc(l->mem, mem_array_bytes(count, sizeof *l->requests), "bench serve: requests", &block,
                     status));
  l->requests = block;
  SBAG_TRY(
      mem_alloc(l->mem, mem_array_bytes(count, sizeof *l->scratch), "bench serve: requests", &block, status));
  l->scratch = block;
  return SBAG_OK;
}

static void drop_room(load_t *l) {
  mem_free(l->mem, l->requests);
  mem_free(l->mem, l->scratch);
  l->requests = NULL;
  l->scratch = NULL;
}

static sbag_code_t send_rate(load_t *l, double rate, load_point_t *point, char said[256],
                             sbag_status_t *status) {
  const bench_load_settings_t *s = l->s;
  double seconds = s->warmup_s + s->seconds;
  int64_t seed = s->seed + l->curve->count, count = load_arrivals(rate, seconds, seed, NULL);
  *point = (load_point_t){.rate = rate, .seconds = s->seconds, .batch = s->batch};
  SBAG_TRY(make_room(l, count, status));
  plan_requests(l, rate, seconds, seed, count);
  double used_s = clock_read(CLOCK_PROCESS_CPUTIME_ID), began_s = clock_now();
  SBAG_TRY(load_http_run(l->http, l->path, &l->bodies, l->requests, count, said, status));
  point->cpu = (clock_read(CLOCK_PROCESS_CPUTIME_ID) - used_s) / (clock_now() - began_s);
  load_summarize(l->requests, count, s->warmup_s, l->scratch, point);
  return SBAG_OK;
}

/* ---- what is told ---- */

static const char *status_name(int status, char text[32]) {
  if (status == LOAD_NOT_SENT) return "not sent";
  if (status == LOAD_NO_ANSWER) return "no answer";
  if (status == LOAD_DISCONNECTED) return "disconnected";
  if (status == 0) return "others";
  snprintf(text, 32, "%d", status);
  return text;
}

static void print_head(const load_t *l) {
  const bench_load_settings_t *s = l->s;
  fprintf(l->out,
          "# shardbag %s bench serve: %s, model %s, version %s\n"
          "# batch %" PRId64 ", %s tensors, %" PRId64 " different requests, at most %" PRId64 " connections\n"
          "# Poisson arrivals, %g s at a rate after %g s that do not count; requests with another answer "
          "than 200 are\n"
          "# in no time; \"due\" is from when a request was to be sent, \"sent\" from when it was\n#\n",
          sbag_version(), s->url, l->model.name, l->model.version[0] != '\0' ? l->model.version : "unknown",
          s->batch, s->tensors == TENSORS_BINARY ? "binary" : "json", l->bodies.count, s->connections,
          s->seconds, s->warmup_s);
  fprintf(l->out,
          "#          |--- answered ----| |---------- ms from due -----------| |-- sent --| |--- late ---|\n"
          "#     rate     1/s samples/s     p50     p90     p99   p99.9     max    p50   p99  p99 ms   CPU  "
          "#failed "
          "#wrong\n");
  fflush(l->out);
}

static void print_point(const load_t *l, const load_point_t *p, const char *said) {
  char name[32];
  fprintf(l->out,
          "%10.1f %7.0f %9.0f %7.3f %7.3f %7.3f %7.3f %7.3f %6.3f %5.2f %7.3f %4.0f%% %8" PRId64 " %6" PRId64
          "\n",
          p->rate, p->answered_per_s, p->answered_per_s * (double)p->batch, p->latency.p50, p->latency.p90,
          p->latency.p99, p->latency.p999, p->latency.max, p->service.p50, p->service.p99, p->late.p99,
          100 * p->cpu, p->failed, p->wrong);
  if (p->failed + p->wrong > 0) {
    fprintf(l->out, "#         ");
    for (int i = 0; i < p->status_count; i++)
      fprintf(l->out, " %s: %" PRId64 "%s", status_name(p->statuses[i].status, name), p->statuses[i].count,
              i + 1 < p->status_count ? "," : "");
    fprintf(l->out, "; first: %s\n", said);
  }
  fflush(l->out);
}

static void json_percentiles(json_object *object, const char *name, const load_percentiles_t *p) {
  json_object *made = json_object_new_object();
  bench_json_real(made, "p50", p->p50);
  bench_json_real(made, "p90", p->p90);
  bench_json_real(made, "p99", p->p99);
  bench_json_real(made, "p99.9", p->p999);
  bench_json_real(made, "max", p->max);
  bench_json_real(made, "mean", p->mean);
  json_object_object_add(object, name, made);
}

static sbag_code_t write_json(const load_t *l, const load_point_t *p, sbag_status_t *status) {
  char name[32];
  if (l->json == NULL) return SBAG_OK;
  json_object *object = bench_json("serve"), *statuses = json_object_new_object();
  bench_json_text(object, "url", l->s->url);
  bench_json_text(object, "model", l->model.name);
  bench_json_text(object, "version", l->model.version);
  bench_json_text(object, "tensors", l->s->tensors == TENSORS_BINARY ? "binary" : "json");
  bench_json_int(object, "batch", p->batch);
  bench_json_int(object, "connections", l->s->connections);
  bench_json_real(object, "rate", p->rate);
  bench_json_real(object, "seconds", p->seconds);
  bench_json_int(object, "requests", p->requests);
  bench_json_int(object, "answered", p->answered);
  bench_json_int(object, "refused", p->refused);
  bench_json_int(object, "failed", p->failed);
  bench_json_int(object, "wrong", p->wrong);
  bench_json_real(object, "answered_per_s", p->answered_per_s);
  bench_json_real(object, "samples_per_s", p->answered_per_s * (double)p->batch);
  json_percentiles(object, "latency_ms", &p->latency);
  json_percentiles(object, "service_ms", &p->service);
  json_percentiles(object, "late_ms", &p->late);
  bench_json_real(object, "cpu", p->cpu);
  for (int i = 0; i < p->status_count; i++)
    bench_json_int(statuses, status_name(p->statuses[i].status, name), p->statuses[i].count);
  json_object_object_add(object, "status", statuses);
  return bench_json_write(l->json, l->json_path, object, status);
}

static sbag_code_t keep_point(load_t *l, const load_point_t *point, sbag_status_t *status) {
  bench_load_curve_t *c = l->curve;
  if (c->count == c->room) {
    void *grown = c->points;
    SBAG_TRY(mem_realloc(c->mem, mem_array_bytes(2 * c->room + 16, sizeof *c->points), "bench serve: curve",
                         &grown, status));
    c->points = grown;
    c->room = 2 * c->room + 16;
  }
  c->points[c->count++] = *point;
  return SBAG_OK;
}

static sbag_code_t measure_rate(load_t *l, double rate, load_point_t *point, sbag_status_t *status) {
  char said[256];
  sbag_code_t code = send_rate(l, rate, point, said, status);
  drop_room(l);
  SBAG_TRY(code);
  print_point(l, point, said);
  SBAG_TRY(keep_point(l, point, status));
  return write_json(l, point, status);
}

/* ---- all rates ---- */

static sbag_code_t try_rate(void *user, double rate, int *holds, sbag_status_t *status) {
  load_t *l = user;
  load_point_t point;
  SBAG_TRY(measure_rate(l, rate, &point, status));
  *holds = load_holds(&point, l->s->errors, l->s->p99_ms);
  return SBAG_OK;
}

static sbag_code_t find_rate(load_t *l, sbag_status_t *status) {
  SBAG_TRY(load_search(l->s->from, try_rate, l, &l->curve->sustained, status));
  fprintf(l->out,
          "#\n# sustained: %.0f requests/s, %.0f samples/s (p99 within %g ms, failed at most %g %%)\n",
          l->curve->sustained, l->curve->sustained * (double)l->s->batch, l->s->p99_ms, 100 * l->s->errors);
  if (l->json == NULL) return SBAG_OK;
  json_object *object = bench_json("serve");
  bench_json_real(object, "sustained_per_s", l->curve->sustained);
  bench_json_int(object, "batch", l->s->batch);
  bench_json_real(object, "p99_ms", l->s->p99_ms);
  bench_json_real(object, "errors", l->s->errors);
  return bench_json_write(l->json, l->json_path, object, status);
}

static sbag_code_t measure(load_t *l, sbag_status_t *status) {
  load_point_t point;
  snprintf(l->curve->title, sizeof l->curve->title, "%.120s, batch %" PRId64 ", %s tensors", l->model.name,
           l->s->batch, l->s->tensors == TENSORS_BINARY ? "binary" : "json");
  print_head(l);
  if (l->s->rates.values[0] == 0) return find_rate(l, status);
  for (int i = 0; i < l->s->rates.count; i++)
    SBAG_TRY(measure_rate(l, l->s->rates.values[i], &point, status));
  return SBAG_OK;
}

sbag_code_t bench_load(const bench_load_settings_t *settings, FILE *out, FILE *json, const char *json_path,
                       bench_load_curve_t *curve, sbag_status_t *status) {
  load_t load = {
      .s = settings, .mem = settings->mem, .curve = curve, .out = out, .json = json, .json_path = json_path};
  *curve = (bench_load_curve_t){.mem = settings->mem};
  sbag_code_t code = load_http_available(status);
  if (code == SBAG_OK) code = open_load(&load, status);
  if (code == SBAG_OK) code = measure(&load, status);
  close_load(&load);
  return code;
}

void bench_load_curve_clear(bench_load_curve_t *curve) {
  if (curve->mem != NULL) mem_free(curve->mem, curve->points);
  memset(curve, 0, sizeof *curve);
}
