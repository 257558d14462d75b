/* The load generator without a network: when requests are due, what is made of their times, how the highest
 * rate is found, and that the requests it makes are right for the server's own parser, or wrong where they
 * are to be. */
#include "bench/load_model.h"
#include "serve/reply.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(arrivals_are_poisson) {
  static double due_s[4000], again_s[4000];
  double sum = 0, squares = 0;
  int64_t count = load_arrivals(1000, 3, 5, NULL);
  ck_assert_int_eq(load_arrivals(1000, 3, 5, due_s), count);
  ck_assert_msg(llabs(count - 3000) < 5 * 55, "%lld of 3000", (long long)count); /* five deviations */
  for (int64_t i = 1; i < count; i++) {
    double gap = 1000 * (due_s[i] - due_s[i - 1]);
    ck_assert(gap >= 0);
    sum += gap;
    squares += gap * gap;
  }
  ck_assert_double_eq_tol(sum / (double)count, 1, 0.1);
  ck_assert_double_eq_tol(squares / (double)count, 2, 0.4); /* of an exponential */
  ck_assert(due_s[0] >= 0 && due_s[count - 1] < 3);
  load_arrivals(1000, 3, 5, again_s);
  ck_assert_mem_eq(due_s, again_s, (size_t)count * sizeof *due_s);
  load_arrivals(1000, 3, 6, again_s);
  ck_assert(due_s[0] != again_s[0]);
}
END_TEST

START_TEST(percentiles_are_by_rank) {
  double values[1000], one[] = {7};
  for (int i = 0; i < 1000; i++) values[(i * 7) % 1000] = i + 1;
  load_percentiles_t p = load_percentiles(values, 1000);
  ck_assert(p.p50 == 500 && p.p90 == 900 && p.p99 == 990 && p.p999 == 999 && p.max == 1000 &&
            p.mean == 500.5);
  p = load_percentiles(one, 1);
  ck_assert(p.p50 == 7 && p.p999 == 7 && p.max == 7);
  p = load_percentiles(one, 0);
  ck_assert(p.p50 == 0 && p.max == 0);
}
END_TEST

/* 100 requests, one each 10 ms; the server answers in 1 ms, but stands still from 0.5 to 0.8 s, and one
 * connection is all there is. Who counts from sending sees one slow request, who counts from when they were
 * due sees 30. */
START_TEST(time_begins_when_a_request_is_due) {
  load_request_t requests[100];
  double scratch[100], free_s = 0;
  load_point_t point = {.rate = 100, .seconds = 1, .batch = 1};
  for (int i = 0; i < 100; i++) {
    load_request_t *r = &requests[i];
    *r = (load_request_t){.due_s = 0.01 * i, .status = 200};
    r->sent_s = r->due_s > free_s ? r->due_s : free_s;
    r->done_s = r->sent_s + 0.001;
    if (r->done_s > 0.5 && r->sent_s < 0.8) r->done_s = 0.8;
    free_s = r->done_s;
  }
  load_summarize(requests, 100, 0, scratch, &point);
  ck_assert_int_eq(point.answered, 100);
  ck_assert_double_eq_tol(point.latency.p50, 1, 1e-6);
  ck_assert_double_eq_tol(point.service.p90, 1, 1e-6);
  ck_assert_double_ge(point.latency.p90, 180);
  ck_assert_double_eq_tol(point.latency.max, 300, 1e-6);
  ck_assert_double_eq_tol(point.service.max, 300, 1e-6);
  ck_assert_double_ge(point.late.p90, 180);
}
END_TEST

START_TEST(what_became_of_requests_is_counted) {
  load_request_t requests[] = {
      {.due_s = 0.1, .sent_s = 0.1, .done_s = 0.2, .status = 500}, /* in the warm-up */
      {.due_s = 0.5, .sent_s = 0.5, .done_s = 0.6, .status = 200},
      {.due_s = 0.6, .sent_s = 0.6, .done_s = 0.7, .status = 503},
      {.due_s = 0.7, .sent_s = 0.7, .done_s = 0.8, .status = 400, .invalid = 1},
      {.due_s = 0.8, .sent_s = 0.8, .done_s = 0.9, .status = 200, .invalid = 1},
      {.due_s = 0.9, .sent_s = 0.9, .done_s = 0.9, .status = 400},
      {.due_s = 1.0, .sent_s = 3.0, .done_s = 3.0, .status = LOAD_NOT_SENT},
      {.due_s = 1.1, .sent_s = 1.1, .done_s = 3.0, .status = LOAD_NO_ANSWER},
      {.due_s = 1.2, .sent_s = 1.2, .done_s = 1.3, .status = LOAD_DISCONNECTED}};
  double scratch[9];
  load_point_t p = {.rate = 10, .seconds = 1, .batch = 1};
  load_summarize(requests, 9, 0.4, scratch, &p);
  ck_assert(p.requests == 8 && p.answered == 1 && p.refused == 1 && p.wrong == 2 && p.failed == 4);
  ck_assert_int_eq(p.status_count, 6);
  ck_assert_double_eq_tol(p.latency.max, 100, 1e-6);
  ck_assert_double_eq_tol(p.answered_per_s, 1, 1e-6);
  ck_assert(!load_holds(&p, 0.5, 1000) && load_holds(&p, 0.8, 1000) && !load_holds(&p, 0.8, 99));
  load_request_t many[20];
  for (int i = 0; i < 20; i++) many[i] = (load_request_t){.due_s = 1, .status = 500 + i};
  double more[20];
  p = (load_point_t){.seconds = 1};
  load_summarize(many, 20, 0, more, &p);
  ck_assert(p.status_count == LOAD_STATUSES && p.failed == 20);
  ck_assert(p.statuses[LOAD_STATUSES - 1].status == 0 && p.statuses[LOAD_STATUSES - 1].count == 9);
}
END_TEST

/* A server that holds up to a rate, and fails at the `hiccup`-th try whatever it is. */
typedef struct pretence {
  double capacity;
  int tries, hiccup;
} pretence_t;

static sbag_code_t pretend(void *user, double rate, int *holds, sbag_status_t *status) {
  pretence_t *p = user;
  (void)status;
  *holds = rate <= p->capacity && ++p->tries != p->hiccup;
  return SBAG_OK;
}

START_TEST(the_highest_rate_is_found) {
  static const double capacities[] = {2, 30, 50, 51, 1000, 12345, 500000};
  for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++)
    for (int hiccup = 0; hiccup < 4; hiccup++) {
      pretence_t p = {.capacity = capacities[i], .hiccup = hiccup};
      double found = 0;
      ck_assert_int_eq(load_search(50, pretend, &p, &found, NULL), SBAG_OK);
      ck_assert_msg(found <= p.capacity && found > p.capacity / 1.11, "%g of %g", found, p.capacity);
    }
  pretence_t none = {.capacity = 0};
  double found = 1;
  ck_assert_int_eq(load_search(50, pretend, &none, &found, NULL), SBAG_OK);
  ck_assert(found == 0);
}
END_TEST

/* ---- requests ---- */

typedef struct fixture {
  mem_t *mem;
  sbag_status_t status;
  serve_feature_t features[3];
  serve_output_t outputs[1];
  serve_signature_t signature;
  bench_load_settings_t settings;
  load_model_t model;
  load_bodies_t bodies;
} fixture_t;

static void begin(fixture_t *f) {
  *f =
      (fixture_t){.settings = {.batch = 3, .length = 4, .lengths = LENGTHS_UNIFORM, .bodies = 50, .seed = 3}};
  ck_assert_int_eq(mem_create(&f->mem, &f->status), SBAG_OK);
  f->features[0] = (serve_feature_t){.name = "us\"er", .rows = 10};
  f->features[1] = (serve_feature_t){.name = "tags", .rows = 5, .weights = 1, .multi_hot = 1};
  f->features[2] = (serve_feature_t){.name = "one", .rows = 1};
  f->outputs[0] = (serve_output_t){.name = "logit"};
  f->signature = (serve_signature_t){.name = "m",
                                     .version = "7",
                                     .feature_count = 3,
                                     .dense_count = 2,
                                     .output_count = 1,
                                     .features = f->features,
                                     .dense_name = "dense",
                                     .outputs = f->outputs,
                                     .columns = 1};
}

static void end(fixture_t *f) {
  load_bodies_clear(&f->bodies);
  load_model_clear(&f->model);
  ck_assert_int_eq(mem_stats(f->mem).live_bytes, 0);
  mem_destroy(&f->mem);
}

/* What the server would say of itself. */
static void read_model(fixture_t *f) {
  buffer_t metadata = {.mem = f->mem}, config = {.mem = f->mem};
  reply_model(&f->signature, &metadata);
  reply_config(&f->signature, 4096, &config);
  buffer_put(&metadata, "", 1);
  buffer_put(&config, "", 1);
  ck_assert_msg(load_model_parse("m", metadata.data, config.data, 0, f->mem, &f->model, &f->status) ==
                    SBAG_OK,
                "%s", f->status.message);
  buffer_clear(&metadata);
  buffer_clear(&config);
}

START_TEST(a_model_is_read) {
  fixture_t f;
  begin(&f);
  read_model(&f);
  ck_assert(f.model.input_count == 4 && strcmp(f.model.version, "7") == 0);
  ck_assert(f.model.inputs[0].kind == LOAD_DENSE && f.model.inputs[0].width == 2);
  ck_assert(f.model.inputs[1].kind == LOAD_INDEX && f.model.inputs[1].rows == 10 && !f.model.inputs[1].flat);
  ck_assert(f.model.inputs[2].kind == LOAD_BAGS && f.model.inputs[2].rows == 5);
  ck_assert_str_eq(f.model.inputs[2].name, "tags");
  end(&f);
}
END_TEST

START_TEST(a_model_that_cannot_be_asked_is_refused) {
  static const char head[] = "{\"inputs\":[{\"name\":\"a\",";
  static const char *const rest[] = {
      "\"datatype\":\"INT64\",\"shape\":[-1]}]}", "\"datatype\":\"BYTES\",\"shape\":[-1]}]}",
      "\"datatype\":\"FP32\",\"shape\":[-1,-1]}]}", "\"datatype\":\"FP32\",\"shape\":3}]}"};
  static const char *const said[] = {"rows.a", "datatype is BYTES", "its shape", "its shape"};
  static const char *const texts[] = {"", "[]", "{", "{}", "{\"inputs\":[]}"};
  fixture_t f;
  char text[256], name[256];
  begin(&f);
  for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
    snprintf(text, sizeof text, "%s%s", head, rest[i]);
    ck_assert_int_ne(load_model_parse("m", text, NULL, 0, f.mem, &f.model, &f.status), SBAG_OK);
    ck_assert_msg(strstr(f.status.message, said[i]) != NULL, "%s", f.status.message);
  }
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    ck_assert_int_eq(load_model_parse("m", texts[i], NULL, 0, f.mem, &f.model, &f.status), SBAG_ERR_FORMAT);
  snprintf(text, sizeof text, "%s%s", head, rest[0]);
  ck_assert_int_eq(load_model_parse("m", text, "{}", 9, f.mem, &f.model, &f.status), SBAG_OK);
  ck_assert(f.model.inputs[0].rows == 9 && f.model.inputs[0].flat);
  ck_assert_int_eq(load_model_first("[{\"name\":\"x\"},{\"name\":\"y\"}]", name, &f.status), SBAG_OK);
  ck_assert_str_eq(name, "x");
  ck_assert_int_eq(load_model_first("[]", name, &f.status), SBAG_ERR_FORMAT);
  end(&f);
}
END_TEST

static sbag_code_t parse(fixture_t *f, int64_t body, request_t *r) {
  const request_limits_t limits = {.tensors = 8, .bag_length = 7, .samples = 3};
  const load_bodies_t *b = &f->bodies;
  return request_parse(&f->signature, &limits, b->text.data + b->begins[body],
                       (int64_t)(b->begins[body + 1] - b->begins[body]),
                       b->json_bytes > 0 ? b->json_bytes : -1, f->mem, r, &f->status);
}

/* In both forms they say the same, and the server's parser takes them. */
START_TEST(requests_are_right_or_wrong_as_told) {
  fixture_t f;
  request_t r;
  double sums[2][50];
  begin(&f);
  read_model(&f);
  for (int json = 0; json < 2; json++) {
    f.settings.tensors = json ? TENSORS_JSON : TENSORS_BINARY;
    ck_assert_msg(load_bodies_make(&f.model, &f.settings, f.mem, &f.bodies, &f.status) == SBAG_OK, "%s",
                  f.status.message);
    ck_assert(f.bodies.count == 50 && f.bodies.invalid == LOAD_INVALID_BODIES);
    ck_assert((f.bodies.json_bytes > 0) == !json);
    for (int64_t i = 0; i < 50; i++) {
      ck_assert_msg(parse(&f, i, &r) == SBAG_OK, "%s", f.status.message);
      ck_assert(r.samples == 3 && r.features[0].count == 3 && r.features[1].count >= 3);
      sums[json][i] = (double)r.dense[0];
      for (int64_t k = 0; k < r.features[1].count; k++)
        sums[json][i] = 7 * sums[json][i] + (double)r.features[1].indices[k];
      request_clear(&r);
    }
    for (int64_t i = 50; i < 50 + LOAD_INVALID_BODIES; i++) {
      ck_assert_int_eq(parse(&f, i, &r), SBAG_ERR_ARGUMENT);
      ck_assert_msg(strstr(f.status.message, "the index at position") != NULL, "%s", f.status.message);
    }
    load_bodies_clear(&f.bodies);
  }
  ck_assert_mem_eq(sums[0], sums[1], sizeof sums[0]);
  ck_assert(sums[0][0] != sums[0][1]);
  end(&f);
}
END_TEST

Suite *bench_load_suite(void);
Suite *bench_load_suite(void) {
  Suite *suite = suite_create("bench_load");
  TCase *tests = tcase_create("bench_load");
  tcase_add_test(tests, arrivals_are_poisson);
  tcase_add_test(tests, percentiles_are_by_rank);
  tcase_add_test(tests, time_begins_when_a_request_is_due);
  tcase_add_test(tests, what_became_of_requests_is_counted);
  tcase_add_test(tests, the_highest_rate_is_found);
  tcase_add_test(tests, a_model_is_read);
  tcase_add_test(tests, a_model_that_cannot_be_asked_is_refused);
  tcase_add_test(tests, requests_are_right_or_wrong_as_told);
  suite_add_tcase(suite, tests);
  return suite;
}
