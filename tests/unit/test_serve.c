/* Requests and replies of the server without HTTP: JSON, tensors in it and behind it, and every way in which
 * they can be wrong. */
#include "serve/batch.h"
#include "serve/cursor.h"
#include "serve/edition.h"
#include "serve/pieces.h"
#include "serve/queue.h"
#include "serve/reply.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct fixture {
  mem_t *mem;
  sbag_status_t status;
  serve_feature_t features[2];
  serve_output_t outputs[2];
  serve_signature_t signature;
  request_limits_t limits;
} fixture_t;

/* Two features, of 10 and 5 rows; the second pools by sum. Two dense values. */
static void begin(fixture_t *f, serve_kind_t kind) {
  *f = (fixture_t){.limits = {.tensors = 8, .bag_length = 4, .samples = 6}};
  ck_assert_int_eq(mem_create(&f->mem, &f->status), SBAG_OK);
  f->features[0] = (serve_feature_t){.name = "user", .rows = 10};
  f->features[1] = (serve_feature_t){.name = "tags", .rows = 5, .weights = 1, .multi_hot = 1};
  f->outputs[0] = (serve_output_t){.name = "user", .width = 2};
  f->outputs[1] = (serve_output_t){.name = "tags", .width = 0, .column = 2, .feature = 1};
  f->signature = (serve_signature_t){.kind = kind,
                                     .name = "m",
                                     .version = "7",
                                     .feature_count = 2,
                                     .dense_count = kind == SERVE_PREDICTION ? 2 : 0,
                                     .output_count = 2,
                                     .features = f->features,
                                     .dense_name = "dense",
                                     .outputs = f->outputs,
                                     .columns = 3};
}

static void end(fixture_t *f) {
  ck_assert_int_eq(mem_stats(f->mem).live_bytes, 0);
  mem_destroy(&f->mem);
}

/* From memory that ends where the body does, so that a sanitizer sees what reads on. */
static sbag_code_t parse_bytes(fixture_t *f, const void *body, size_t bytes, int64_t header, request_t *r) {
  void *copy = malloc(bytes + (bytes == 0));
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, body, bytes);
  status_clear(&f->status);
  sbag_code_t code =
      request_parse(&f->signature, &f->limits, copy, (int64_t)bytes, header, f->mem, r, &f->status);
  memset(copy, 'x', bytes); /* nothing of it is needed any more */
  free(copy);
  return code;
}

static sbag_code_t parse(fixture_t *f, const char *body, request_t *r) {
  return parse_bytes(f, body, strlen(body), -1, r);
}

#define INPUT(name, type, shape, data)                                                                       \
  "{\"name\":\"" name "\",\"datatype\":\"" type "\",\"shape\":" shape ",\"data\":" data "}"
#define DENSE INPUT("dense", "FP32", "[2,2]", "[[0.5,1],[2e0,-3]]")
#define USER  INPUT("user", "INT64", "[2,1]", "[3,9]")
#define TAGS                                                                                                 \
  INPUT("tags.values", "INT32", "[3]", "[4,0,1]") "," INPUT("tags.offsets", "INT64", "[3]", "[0,0,3]")
#define WHOLE "{\"inputs\":[" DENSE "," USER "," TAGS "]}"

START_TEST(json_is_taken_as_told) {
  fixture_t f;
  request_t r;
  begin(&f, SERVE_PREDICTION);
  ck_assert_msg(parse(&f, WHOLE, &r) == SBAG_OK, "%s", f.status.message);
  ck_assert_int_eq(r.samples, 2);
  ck_assert_int_eq(r.lookups, 5);
  ck_assert(r.dense[0] == 0.5f && r.dense[2] == 2.0f && r.dense[3] == -3.0f);
  ck_assert(r.features[0].count == 2 && r.features[0].indices[1] == 9 && r.features[0].offsets[2] == 2);
  ck_assert(r.features[1].count == 3 && r.features[1].indices[0] == 4);
  ck_assert(r.features[1].offsets[0] == 0 && r.features[1].offsets[1] == 0 && r.features[1].offsets[2] == 3);
  ck_assert_ptr_null(r.features[1].weights);
  ck_assert_int_eq(r.output_count, 2);
  ck_assert_str_eq(r.id, "");
  request_clear(&r);
  end(&f);
}
END_TEST

START_TEST(all_ways_of_bags_are_one) {
  static const char *const ways[] = {
      TAGS,
      INPUT("tags.lengths", "INT32", "[2]", "[0,3]") "," INPUT("tags.values", "INT64", "[3]", "[4,0,1]"),
      "{\"data\":[4,0,1],\"shape\":[3],\"datatype\":\"INT64\",\"name\":\"\\u0074ags.values\"}," INPUT(
          "tags.offsets", "INT32", "[3]", " [ 0 , 0 , 3 ] ")};
  fixture_t f;
  request_t r;
  begin(&f, SERVE_PREDICTION);
  for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
    char body[1024];
    snprintf(body, sizeof body, "{\"id\":\"a\\n\\ud83d\\ude00\",\"inputs\":[%s," USER "," DENSE "]}",
             ways[w]);
    ck_assert_msg(parse(&f, body, &r) == SBAG_OK, "%s", f.status.message);
    ck_assert(r.features[1].offsets[1] == 0 && r.features[1].offsets[2] == 3 &&
              r.features[1].indices[2] == 1);
    ck_assert_str_eq(r.id, "a\n\xf0\x9f\x98\x80");
    request_clear(&r);
  }
  ck_assert_msg(parse(&f,
                      "{\"inputs\":[" DENSE "," USER
                      "," INPUT("tags", "INT64", "[2,3]", "[[1,2,3],[4,0,1]]") "," INPUT(
                          "tags.weights", "FP64", "[2,3]", "[1,1,1,0.5,2,-1]") "]}",
                      &r) == SBAG_OK,
                "%s", f.status.message);
  ck_assert(r.features[1].offsets[1] == 3 && r.features[1].weights[3] == 0.5f);
  request_clear(&r);
  end(&f);
}
END_TEST

/* Builds a binary request of USER, and of dense values, at an odd address. */
static size_t binary(char *body, const char *sizes[2], size_t *header) {
  const int64_t users[2] = {3, 9};
  const float dense[4] = {0.5f, 1.0f, 2.0f, -3.0f};
  *header = (size_t)sprintf(body,
                            "{\"inputs\":[{\"name\":\"user\",\"datatype\":\"INT64\",\"shape\":[2],"
                            "\"parameters\":{\"binary_data_size\":%s}},"
                            "{\"name\":\"dense\",\"datatype\":\"FP32\",\"shape\":[2,2],\"parameters\":{"
                            "\"binary_data_size\":%s}}," TAGS "]}",
                            sizes[0], sizes[1]);
  memcpy(body + *header, users, sizeof users);
  memcpy(body + *header + sizeof users, dense, sizeof dense);
  return *header + sizeof users + sizeof dense;
}

START_TEST(binary_data_lie_behind) {
  fixture_t f;
  request_t r;
  char body[2048];
  size_t header = 0, bytes = binary(body, (const char *[]){"16", "16"}, &header);
  begin(&f, SERVE_PREDICTION);
  ck_assert_msg(parse_bytes(&f, body, bytes, (int64_t)header, &r) == SBAG_OK, "%s", f.status.message);
  ck_assert(r.features[0].indices[1] == 9 && r.dense[3] == -3.0f && r.samples == 2);
  request_clear(&r);
  end(&f);
}
END_TEST

START_TEST(binary_lies_are_refused) {
  static const struct {
    const char *sizes[2];
    int64_t header, bytes; /* added */
    const char *said;
  } lies[] = {{{"8", "16"}, 0, 0, "'user': binary_data_size is 8"},
              {{"16", "17"}, 0, 0, "'dense': binary_data_size is 17"},
              {{"16", "12"}, 0, 0, "'dense': binary_data_size is 12"},
              {{"16", "16"}, 0, 1, "1 bytes of binary data follow"},
              {{"16", "16"}, 0, -1, "'dense': binary_data_size is 16, but only 15"},
              {{"-16", "16"}, 0, 0, "binary_data_size is -16"},
              {{"9223372036854775807", "16"}, 0, 0, "'user': binary_data_size is 92"},
              {{"16", "16"}, 1, 0, "something follows"},
              {{"16", "16"}, -1, 0, "the text ends"},
              {{"16", "16"}, 1000000, 0, "Inference-Header-Content-Length is"},
              {{"\"16\"", "16"}, 0, 0, "a number is expected"}};
  fixture_t f;
  request_t r;
  char body[2048];
  begin(&f, SERVE_PREDICTION);
  for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
    size_t header = 0;
    memset(body, 0, sizeof body);
    size_t bytes = binary(body, (const char **)(uintptr_t)lies[i].sizes, &header);
    ck_assert_int_eq(
        parse_bytes(&f, body, bytes + (size_t)lies[i].bytes, (int64_t)header + lies[i].header, &r),
        SBAG_ERR_ARGUMENT);
    ck_assert_msg(strstr(f.status.message, lies[i].said) != NULL, "%zu: %s", i, f.status.message);
  }
  ck_assert_int_eq(parse_bytes(&f, "{}", 2, 0, &r), SBAG_ERR_ARGUMENT);
  const float nan[4] = {1.0f, NAN, 1.0f, 1.0f};
  size_t header = 0, bytes = binary(body, (const char *[]){"16", "16"}, &header);
  memcpy(body + bytes - sizeof nan, nan, sizeof nan);
  ck_assert_int_eq(parse_bytes(&f, body, bytes, (int64_t)header, &r), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "'dense': the value at position 1 is not finite"));
  end(&f);
}
END_TEST

/* A body, and what must be said of it. */
typedef struct wrong {
  const char *body, *said;
} wrong_t;

#define WITH(inputs) "{\"inputs\":[" inputs "]}"
static const wrong_t wrongs[] = {
    {"", "an object is expected"},
    {"[]", "an object is expected"},
    {"{", "the text ends"},
    {"{}", "no inputs"},
    {"{\"inputs\":[]}", "no inputs"},
    {"{\"inputs\":{}}", "an array is expected"},
    {"{\"inputs\":[1]}", "an object is expected"},
    {"{\"inputs\":[{}]}", "no name"},
    {"{\"inputs\":[{\"name\":\"user\"}]}", "'user' has no datatype"},
    {"{\"inputs\":[{\"name\":\"user\",\"datatype\":\"INT64\"}]}", "'user' has no shape"},
    {"{\"inputs\":[{\"name\":\"user\",\"datatype\":\"INT64\",\"shape\":[1]}]}", "'user' has no data"},
    {"{\"inputs\":[{\"name\":\"user\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[1],\"parameters\":{"
     "\"binary_data_size\":8}}]}",
     "both data and binary"},
    {"{\"inputs\":[{\"name\":\"user\",\"datatype\":\"INT64\",\"shape\":[1],\"parameters\":{"
     "\"shared_memory_region\":\"r\"}}]}",
     "shared memory"},
    {"{\"inputs\":[" USER "],}", "a string is expected"},
    {"{\"inputs\":[" USER "]} x", "something follows"},
    {"{\"id\":1,\"inputs\":[" USER "]}", "id: byte"},
    {"{\"id\":\"\x80\"}", "not UTF-8"},
    {"{\"id\":\"\\ud800\"}", "not an escape"},
    {"{\"id\":\"\x01\"}", "control character"},
    {WITH(DENSE "," TAGS), "'user' is missing"},
    {WITH(USER "," TAGS), "'dense' is missing"},
    {WITH(DENSE "," USER "," TAGS "," USER), "'user': is there twice"},
    {WITH(DENSE "," DENSE "," USER "," TAGS), "'dense': is there twice"},
    {WITH(DENSE "," USER "," TAGS "," INPUT("item", "INT64", "[2]", "[1,1]")), "'item': model 'm' has none"},
    {WITH(INPUT("dense", "FP32", "[2,3]", "[1,1,1,1,1,1]") "," USER "," TAGS), "[samples][2]"},
    {WITH(INPUT("dense", "BYTES", "[2,2]", "[1,1,1,1]") "," USER "," TAGS), "its datatype is BYTES"},
    {WITH(INPUT("dense", "FP32", "[2,2]", "[1,1,1]") "," USER "," TAGS), "3 values, its shape 4"},
    {WITH(INPUT("dense", "FP32", "[2,2]", "[1,1,1,1,1]") "," USER "," TAGS), "more values than the 4"},
    {WITH(INPUT("dense", "FP32", "[2,2]", "[1,1,1,1e39]") "," USER "," TAGS),
     "position 3: a number that a float"},
    {WITH(INPUT("dense", "FP32", "[2,2]", "[1,1,1,true]") "," USER "," TAGS),
     "position 3: a number is expected"},
    {WITH(INPUT("dense", "FP32", "[2,2,1]", "[1,1,1,1]") "," USER "," TAGS), "1 or 2 lengths"},
    {WITH(INPUT("dense", "FP32", "[-2,2]", "[1,1,1,1]") "," USER "," TAGS), "1 or 2 lengths"},
    {WITH(INPUT("dense", "FP32", "[4294967296,4294967296]", "[1]") "," USER "," TAGS), "1 or 2 lengths"},
    {WITH(DENSE "," INPUT("user", "INT64", "[100000000000]", "[1]") "," TAGS),
     "100000000000 samples, but 'dense'"},
    {WITH(DENSE "," INPUT("user", "FP32", "[2]", "[1,2]") "," TAGS), "must be INT64 or INT32"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2]", "[1,10]") "," TAGS),
     "'user': the index at position 1 is 10; it must be from 0 to 9"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2]", "[-1,1]") "," TAGS), "the index at position 0 is -1"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2]", "[1.5,1]") "," TAGS), "position 0: an integer is expected"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2]", "[9223372036854775808,1]") "," TAGS),
     "an integer of 64 bits"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2]", "[01,1]") "," TAGS), "the request: byte"},
    {WITH(DENSE "," INPUT("user", "INT64", "[3]", "[1,1,1]") "," TAGS), "3 samples, but 'dense' has 2"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2,5]", "[1,1,1,1,1,1,1,1,1,1]") "," TAGS),
     "5 indices; at most 4"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]", "[1,2,3]")),
     "offsets or lengths are missing"},
    {WITH(DENSE "," USER "," INPUT("tags.offsets", "INT64", "[3]", "[0,1,3]")), "'tags' is missing"},
    {WITH(DENSE "," USER "," TAGS "," INPUT("tags.lengths", "INT64", "[2]", "[0,3]")), "one is enough"},
    {WITH(DENSE "," USER "," TAGS "," INPUT("tags", "INT64", "[2,1]", "[0,3]")), "one is enough"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]",
                                   "[1,2,3]") "," INPUT("tags.offsets", "INT64", "[3]", "[0,2,1]")),
     "offsets fall at position 2"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]",
                                   "[1,2,3]") "," INPUT("tags.offsets", "INT64", "[3]", "[1,2,3]")),
     "the first offset must be 0"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]",
                                   "[1,2,3]") "," INPUT("tags.offsets", "INT64", "[3]", "[0,2,2]")),
     "the last offset is 2"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]",
                                   "[1,2,3]") "," INPUT("tags.offsets", "INT64", "[2]", "[0,3]")),
     "has 1 samples, but 'dense' has 2"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]", "[1,2,3]") "," INPUT(
         "tags.lengths", "INT64", "[2]", "[9223372036854775807,1]")),
     "3 values are left"},
    {WITH(DENSE "," USER "," INPUT("tags.values", "INT64", "[3]",
                                   "[1,2,3]") "," INPUT("tags.lengths", "INT64", "[2]", "[1,1]")),
     "add up to 2; there are 3"},
    {WITH(DENSE "," USER "," TAGS "," INPUT("tags.weights", "FP32", "[2]", "[1,1]")),
     "that of 'tags.values'"},
    {WITH(DENSE "," USER "," TAGS "," INPUT("user.weights", "FP32", "[2,1]", "[1,1]")), "takes no weights"},
    {WITH(DENSE "," INPUT("user", "INT64", "[2]", "[[[[1,2]]]]") "," TAGS) " ", NULL},
    {"{\"outputs\":[{\"name\":\"logits\"}],\"inputs\":[" DENSE "," USER "," TAGS "]}",
     "'logits': model 'm' has none"},
    {"{\"outputs\":[{\"name\":\"user\"},{\"name\":\"user\"}],\"inputs\":[" DENSE "," USER "," TAGS "]}",
     "twice"},
    {"{\"outputs\":[{\"name\":\"user\",\"parameters\":{\"classification\":2}}],\"inputs\":[" DENSE "," USER
     "," TAGS "]}",
     "'classification' is not served"},
    {"{\"outputs\":[{}],\"inputs\":[" DENSE "," USER "," TAGS "]}", "an output has no name"},
    {"{\"outputs\":3,\"inputs\":[" DENSE "," USER "," TAGS "]}", "outputs: byte"},
    {"{\"parameters\":{\"binary_data_output\":1},\"inputs\":[" DENSE "," USER "," TAGS "]}", "true or false"},
    {"{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", "nested too deep"}};

START_TEST(what_is_wrong_is_named) {
  fixture_t f;
  request_t r;
  begin(&f, SERVE_PREDICTION);
  for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
    sbag_code_t code = parse(&f, wrongs[i].body, &r);
    if (wrongs[i].said == NULL) {
      ck_assert_msg(code == SBAG_OK, "%zu: %s", i, f.status.message);
      request_clear(&r);
      continue;
    }
    ck_assert_msg(code == SBAG_ERR_ARGUMENT, "%zu is taken: %s", i, wrongs[i].body);
    ck_assert_msg(strstr(f.status.message, wrongs[i].said) != NULL, "%zu: %s", i, f.status.message);
  }
  end(&f);
}
END_TEST

START_TEST(limits_hold) {
  fixture_t f;
  request_t r;
  begin(&f, SERVE_PREDICTION);
  f.limits.samples = 1;
  ck_assert_int_eq(parse(&f, WHOLE, &r), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "2 samples; at most 1"));
  f.limits = (request_limits_t){.tensors = 3, .bag_length = 4, .samples = 6};
  ck_assert_int_eq(parse(&f, WHOLE, &r), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "more than 3 inputs"));
  end(&f);
}
END_TEST

/* Every prefix of a good body, and it with every byte changed, ends well; memory that fails anywhere too. */
START_TEST(cut_and_changed_bodies_end_well) {
  fixture_t f;
  request_t r;
  char body[sizeof WHOLE];
  begin(&f, SERVE_PREDICTION);
  for (size_t bytes = 0; bytes < sizeof WHOLE - 1; bytes++)
    ck_assert_int_eq(parse_bytes(&f, WHOLE, bytes, -1, &r), SBAG_ERR_ARGUMENT);
  for (size_t at = 0; at < sizeof WHOLE - 1; at++)
    for (int change = 1; change < 256; change += 37) {
      memcpy(body, WHOLE, sizeof WHOLE);
      body[at] = (char)(body[at] ^ change);
      if (parse_bytes(&f, body, sizeof WHOLE - 1, -1, &r) == SBAG_OK) request_clear(&r);
    }
  for (int64_t n = 1; n < 4; n++) {
    mem_fail_at(f.mem, n);
    if (parse(&f, WHOLE, &r) == SBAG_OK)
      request_clear(&r);
    else
      ck_assert_int_eq(f.status.code, SBAG_ERR_MEMORY);
  }
  mem_fail_at(f.mem, 0);
  end(&f);
}
END_TEST

START_TEST(replies_are_written) {
  fixture_t f;
  request_t r;
  size_t json = 0;
  begin(&f, SERVE_PREDICTION);
  buffer_t out = {.mem = f.mem};
  ck_assert_int_eq(parse(&f, "{\"id\":\"\\\"q\\\"\",\"inputs\":[" DENSE "," USER "," TAGS "]}", &r), SBAG_OK);
  const float result[6] = {0.1f, 1e-9f, 3.0f, INFINITY, 16777217.0f, -0.25f};
  memcpy(r.result, result, sizeof result);
  reply_infer(&r, &out, &json);
  buffer_put(&out, "", 1);
  ck_assert_uint_eq(json, 0);
  ck_assert_str_eq(out.data,
                   "{\"model_name\":\"m\",\"model_version\":\"7\",\"id\":\"\\\"q\\\"\",\"outputs\":["
                   "{\"name\":\"user\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[0.1,1e-09,null,"
                   "16777216]},{\"name\":\"tags\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[3,-0.25]}]}");
  request_clear(&r);
  buffer_clear(&out);
  ck_assert_int_eq(
      parse(&f,
            "{\"parameters\":{\"binary_data_output\":true},\"outputs\":[{\"name\":\"tags\"},{\"name\":"
            "\"user\",\"parameters\":{\"binary_data\":false}}],\"inputs\":[" DENSE "," USER "," TAGS "]}",
            &r),
      SBAG_OK);
  memcpy(r.result, result, sizeof result);
  reply_infer(&r, &out, &json);
  ck_assert_uint_eq(out.used, json + 2 * sizeof(float));
  ck_assert_int_eq(memcmp(out.data + json, (const float[]){3.0f, -0.25f}, 2 * sizeof(float)), 0);
  ck_assert_ptr_nonnull(strstr(out.data, "\"binary_data_size\":8}"));
  request_clear(&r);
  buffer_clear(&out);
  reply_error("a \"quote\" and \x80", &out);
  buffer_put(&out, "", 1);
  ck_assert_str_eq(out.data, "{\"error\":\"a \\\"quote\\\" and ?\"}");
  buffer_clear(&out);
  end(&f);
}
END_TEST

START_TEST(models_are_described) {
  fixture_t f;
  begin(&f, SERVE_PREDICTION);
  buffer_t out = {.mem = f.mem};
  reply_model(&f.signature, &out);
  buffer_put(&out, "", 1);
  ck_assert_str_eq(out.data,
                   "{\"name\":\"m\",\"versions\":[\"7\"],\"platform\":\"shardbag\",\"inputs\":["
                   "{\"name\":\"dense\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"
                   "{\"name\":\"user\",\"datatype\":\"INT64\",\"shape\":[-1,1]},"
                   "{\"name\":\"tags.values\",\"datatype\":\"INT64\",\"shape\":[-1]},"
                   "{\"name\":\"tags.offsets\",\"datatype\":\"INT64\",\"shape\":[-1]}],\"outputs\":["
                   "{\"name\":\"user\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"
                   "{\"name\":\"tags\",\"datatype\":\"FP32\",\"shape\":[-1]}]}");
  buffer_clear(&out);
  end(&f);
}
END_TEST

START_TEST(embeddings_take_some_features) {
  fixture_t f;
  request_t r;
  begin(&f, SERVE_EMBEDDINGS);
  ck_assert_msg(parse(&f, WITH(USER), &r) == SBAG_OK, "%s", f.status.message);
  ck_assert(r.output_count == 1 && r.outputs[0].output == 0 && r.features[1].count == 0);
  ck_assert(!r.features[1].given && r.features[1].offsets[2] == 0);
  request_clear(&r);
  ck_assert_int_eq(parse(&f, "{\"outputs\":[{\"name\":\"tags\"}],\"inputs\":[" USER "]}", &r),
                   SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "its input is not given"));
  ck_assert_int_eq(parse(&f, WITH(USER "," DENSE), &r), SBAG_ERR_ARGUMENT);
  end(&f);
}
END_TEST

/* ---- batches ---- */

static void set_ticket(fixture_t *f, const char *body, ticket_t *t) {
  *t = (ticket_t){.code = SBAG_OK};
  ck_assert_msg(parse(f, body, &t->request) == SBAG_OK, "%s", f->status.message);
}

START_TEST(requests_are_joined) {
  fixture_t f;
  ticket_t first, second;
  batch_t batch;
  begin(&f, SERVE_PREDICTION);
  const model_config_t config = {.feature_count = 4, .first_order = 2, .dense_count = 2, .kind = MODEL_CTR};
  set_ticket(&f, WHOLE, &first);
  set_ticket(&f,
             WITH(INPUT("dense", "FP32", "[1,2]", "[8,9]") "," INPUT("user", "INT64", "[1]", "[5]") "," INPUT(
                 "tags", "INT64", "[1,2]", "[2,2]") "," INPUT("tags.weights", "FP32", "[1,2]", "[3,4]")),
             &second);
  first.next = &second;
  ck_assert_int_eq(batch_create(&config, f.mem, &batch, &f.status), SBAG_OK);
  ck_assert_int_eq(batch_join(&batch, &first, &f.status), SBAG_OK);
  ck_assert(batch.samples == 3 && batch.tickets == 2 && batch.dense[4] == 8.0f);
  const sbag_bags_t *user = &batch.bags[0], *tags = &batch.bags[1];
  ck_assert(user->index_count == 3 && ((const int64_t *)user->indices)[2] == 5);
  ck_assert(tags->index_count == 5 && ((const int64_t *)tags->offsets)[3] == 5);
  ck_assert(((const float *)tags->per_sample_weights)[0] == 1.0f);
  ck_assert(((const float *)tags->per_sample_weights)[4] == 4.0f);
  ck_assert_ptr_eq(batch.bags[3].indices, tags->indices); /* first-order weights */
  ck_assert_int_eq(batch_room(&batch, 1, &f.status), SBAG_OK);
  for (int i = 0; i < 3; i++) batch.outputs[i] = (float)i;
  batch_deal(&batch, &first, 1);
  ck_assert(first.request.result[0] == 0.5f && first.request.result[4] == 1.0f);
  ck_assert(second.request.result[1] == 2.0f && fabsf(second.request.result[0] - 0.880797f) < 1e-6f);
  first.next = NULL;
  ck_assert_int_eq(batch_join(&batch, &first, &f.status), SBAG_OK);
  ck_assert_ptr_eq(batch.bags[0].indices, first.request.features[0].indices); /* nothing is copied */
  ck_assert_int_eq(batch_join(&batch, NULL, &f.status), SBAG_OK);
  ck_assert(batch.samples == 0 && batch.bags[0].index_count == 0 && batch.bags[0].offset_count == 1);
  batch_clear(&batch);
  request_clear(&first.request);
  request_clear(&second.request);
  end(&f);
}
END_TEST

START_TEST(the_queue_is_bounded_and_cut_by_signature) {
  static ticket_t tickets[5];
  serve_signature_t other = {.kind = SERVE_EMBEDDINGS};
  queue_t queue;
  fixture_t f;
  begin(&f, SERVE_PREDICTION);
  ck_assert_int_eq(queue_open(4, &queue, &f.status), SBAG_OK);
  ck_assert_ptr_null(queue_take(&queue, 0.001, 0, 10));
  ck_assert_int_eq(queue_ready(&queue, 0, 10), 0);
  for (int i = 0; i < 5; i++) {
    tickets[i].request.signature = i == 2 ? &other : &f.signature;
    tickets[i].request.samples = 3;
    ck_assert_int_eq(queue_put(&queue, &tickets[i]), i < 4);
  }
  ck_assert_int_eq(queue_ready(&queue, 0, 100), 1);
  ck_assert_int_eq(queue_ready(&queue, 60, 100), 0);           /* more may come */
  ck_assert_int_eq(queue_ready(&queue, 60, 12), 1);            /* no more would fit */
  ck_assert_ptr_eq(queue_take(&queue, 0, 0, 10), &tickets[0]); /* with 1: 2 is of another signature */
  ck_assert(tickets[0].next == &tickets[1] && tickets[1].next == NULL);
  ck_assert_ptr_eq(queue_take(&queue, 0, 0, 10), &tickets[2]);
  ck_assert_int_eq(queue_put(&queue, &tickets[4]), 1);
  ck_assert_ptr_eq(queue_take(&queue, 0, 0, 5), &tickets[3]); /* 4 would make six samples */
  ck_assert_ptr_null(tickets[3].next);
  ck_assert_ptr_eq(queue_take(&queue, 0, 0.001, 1), &tickets[4]); /* one is taken whatever its size */
  ck_assert_int_eq(queue_length(&queue), 0);
  queue_close(&queue);
  ck_assert_int_eq(queue_put(&queue, &tickets[0]), 0);
  queue_destroy(&queue);
  end(&f);
}
END_TEST

typedef struct taker {
  queue_t *queue;
  atomic_int done;
  ticket_t *taken;
} taker_t;

static void *take(void *user) {
  taker_t *taker = user;
  taker->taken = queue_take(taker->queue, 60, 0, 10);
  atomic_store(&taker->done, 1);
  return NULL;
}

/* Only of a thread that waits; and that one takes nothing until it has its place back. */
START_TEST(the_place_at_the_queue_is_borrowed) {
  static ticket_t ticket, other;
  static taker_t taker;
  const struct timespec pause = {.tv_nsec = 20000000};
  pthread_t thread;
  queue_t queue;
  fixture_t f;
  begin(&f, SERVE_PREDICTION);
  ticket.request.signature = other.request.signature = &f.signature;
  taker.queue = &queue;
  ck_assert_int_eq(queue_open(4, &queue, &f.status), SBAG_OK);
  ck_assert_int_eq(queue_borrow(&queue), 0);
  ck_assert_int_eq(pthread_create(&thread, NULL, take, &taker), 0);
  while (!queue_borrow(&queue)) nanosleep(&pause, NULL);
  ck_assert_int_eq(queue_borrow(&queue), 0); /* it is gone */
  ck_assert_int_eq(queue_put(&queue, &ticket), 1);
  nanosleep(&pause, NULL);
  ck_assert_int_eq(atomic_load(&taker.done), 0);
  queue_give_back(&queue);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_ptr_eq(taker.taken, &ticket);
  ck_assert_int_eq(queue_borrow(&queue), 0); /* nobody waits */
  ck_assert_int_eq(queue_put(&queue, &other), 1);
  ck_assert_int_eq(queue_borrow(&queue), 0);
  ck_assert_ptr_eq(queue_take(&queue, 60, 0, 10), &other);
  queue_destroy(&queue);
  end(&f);
}
END_TEST

START_TEST(an_edition_stays_while_it_is_used) {
  editions_t editions;
  ck_assert_int_eq(editions_open(&editions, NULL), SBAG_OK);
  edition_t *first = editions_take(&editions), *again = editions_take(&editions);
  ck_assert(first == again && first->seat == 0);
  editions_switch(&editions, 1);
  edition_t *second = editions_take(&editions);
  ck_assert_int_eq(second->seat, 1);
  editions_give(&editions, &first);
  ck_assert(first == NULL && !editions_unused(&editions, 0));
  editions_give(&editions, &first); /* NULL is nothing */
  editions_give(&editions, &again);
  ck_assert(editions_unused(&editions, 0) && !editions_unused(&editions, 1));
  editions_give(&editions, &second);
  editions_destroy(&editions);
}
END_TEST

/* f's signature as an edition's; the other one stands for both models. */
static edition_t edition_of(const fixture_t *f) {
  return (edition_t){.signatures = {f->signature, f->signature}};
}

START_TEST(clients_need_not_change) {
  fixture_t f, g;
  begin(&f, SERVE_PREDICTION);
  begin(&g, SERVE_PREDICTION);
  edition_t old = edition_of(&f);
  g.features[0].rows = 11; /* a vocabulary grows */
  edition_t fresh = edition_of(&g);
  ck_assert_int_eq(edition_check(&old, &fresh, &f.status), SBAG_OK);
  g.outputs[1].width = 3;
  ck_assert_int_eq(edition_check(&old, &fresh, &f.status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "output 'tags'"));
  g.features[1].name = "tag";
  ck_assert_int_eq(edition_check(&old, &fresh, &f.status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "input 'tag'"));
  g.features[1] = f.features[1];
  fresh.signatures[0].dense_count = 3;
  ck_assert_int_eq(edition_check(&old, &fresh, &f.status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "input 'dense'"));
  fresh.signatures[0].output_count = 1;
  ck_assert_int_eq(edition_check(&old, &fresh, &f.status), SBAG_ERR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(f.status.message, "1 outputs"));
  end(&f);
  end(&g);
}
END_TEST

/* Tables of 10 and 5 rows, in pieces of 4: 3 and 2; the first-order weights of the first are in memory. */
START_TEST(pieces_are_checked_once) {
  const sbag_table_options_t tables[] = {{.name = "user", .num_embeddings = 10},
                                         {.name = "tags", .num_embeddings = 5},
                                         {.name = "bias", .num_embeddings = 10}};
  const sbag_feature_options_t features[] = {{.table = 0}, {.table = 1}, {.table = 2}, {.table = 1}};
  const model_config_t config = {
      .tables = tables, .table_count = 3, .features = features, .feature_count = 4, .first_order = 2};
  const int64_t rows[] = {4, 4, 0};
  static ticket_t ticket; /* user 3 and 9, tags 4, 0 and 1 */
  fixture_t f;
  pieces_t pieces;
  int64_t of_table = -1;
  begin(&f, SERVE_PREDICTION);
  set_ticket(&f, WHOLE, &ticket);
  ck_assert_int_eq(pieces_create(&config, rows, f.mem, &pieces, &f.status), SBAG_OK);
  ck_assert_int_eq(pieces.open, 5);
  pieces_list(&pieces, &config, &ticket);
  ck_assert(pieces.count == 4 && pieces.list[0] == 0 && pieces.list[1] == 2 && pieces.list[2] == 4 &&
            pieces.list[3] == 3);
  ck_assert(pieces_table(&pieces, 4, &of_table) == 1 && of_table == 1);
  memset(pieces.damaged, 0, 4 * sizeof *pieces.damaged);
  pieces.damaged[1] = 1;
  pieces_note(&pieces);
  ck_assert_int_eq(pieces.open, 2);
  pieces_list(&pieces, &config, &ticket);
  ck_assert_int_eq(pieces.count, 0);
  ck_assert_int_eq(pieces_damaged(&pieces, &config, &ticket), 2);
  pieces_clear(&pieces);
  request_clear(&ticket.request);
  end(&f);
}
END_TEST

Suite *serve_suite(void);
Suite *serve_suite(void) {
  Suite *suite = suite_create("serve");
  TCase *tests = tcase_create("serve");
  tcase_add_test(tests, json_is_taken_as_told);
  tcase_add_test(tests, all_ways_of_bags_are_one);
  tcase_add_test(tests, binary_data_lie_behind);
  tcase_add_test(tests, binary_lies_are_refused);
  tcase_add_test(tests, what_is_wrong_is_named);
  tcase_add_test(tests, limits_hold);
  tcase_add_test(tests, cut_and_changed_bodies_end_well);
  tcase_add_test(tests, replies_are_written);
  tcase_add_test(tests, models_are_described);
  tcase_add_test(tests, embeddings_take_some_features);
  tcase_add_test(tests, requests_are_joined);
  tcase_add_test(tests, the_queue_is_bounded_and_cut_by_signature);
  tcase_add_test(tests, the_place_at_the_queue_is_borrowed);
  tcase_add_test(tests, an_edition_stays_while_it_is_used);
  tcase_add_test(tests, clients_need_not_change);
  tcase_add_test(tests, pieces_are_checked_once);
  suite_add_tcase(suite, tests);
  return suite;
}
