/* A libFuzzer target: the parser of inference requests. The first two bytes choose the model and where the
 * binary data begin; the rest is a body. What is taken must hold what a look-up relies on, and its answer
 * must be written. tests/fault/fuzz.sh builds and runs it. */
#include "serve/reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(int good) {
  if (!good) abort();
}

static void check_request(const request_t *r, const request_limits_t *limits) {
  const serve_signature_t *s = r->signature;
  require(r->samples >= 1 && r->samples <= limits->samples && r->output_count >= 1);
  for (int f = 0; f < s->feature_count; f++) {
    const request_bags_t *b = &r->features[f];
    require(b->offsets[0] == 0 && b->offsets[r->samples] == b->count);
    for (int64_t i = 0; i < r->samples; i++) {
      int64_t length = b->offsets[i + 1] - b->offsets[i];
      require(length >= 0 && length <= limits->bag_length);
    }
    for (int64_t i = 0; i < b->count; i++) require(b->indices[i] >= 0 && b->indices[i] < s->features[f].rows);
    for (int64_t i = 0; b->weights != NULL && i < b->count; i++) require(isfinite(b->weights[i]));
  }
  for (int64_t i = 0; i < r->samples * s->dense_count; i++) require(isfinite(r->dense[i]));
}

static void check_reply(request_t *r, mem_t *mem) {
  buffer_t out = {.mem = mem};
  size_t json = 0;
  for (int64_t i = 0; i < r->samples * r->signature->columns; i++) r->result[i] = 0.1f * (float)i;
  reply_infer(r, &out, &json);
  require(buffer_check(&out, NULL) == SBAG_OK && json <= out.used);
  buffer_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  serve_feature_t features[] = {{.name = "user", .rows = 10}, {.name = "tags", .rows = 5, .weights = 1}};
  serve_output_t outputs[] = {{.name = "user", .width = 2}, {.name = "tags", .column = 2, .feature = 1}};
  const request_limits_t limits = {.tensors = 12, .bag_length = 8, .samples = 16};
  if (bytes < 2) return 0;
  const serve_signature_t signature = {.kind = data[0] % 2 == 0 ? SERVE_PREDICTION : SERVE_EMBEDDINGS,
                                       .name = "m",
                                       .version = "1",
                                       .feature_count = 2,
                                       .dense_count = data[0] % 4 == 0 ? 2 : 0,
                                       .output_count = 2,
                                       .features = features,
                                       .dense_name = "dense",
                                       .outputs = outputs,
                                       .columns = 3};
  int64_t length = (int64_t)bytes - 2, header = data[1] == 0 ? -1 : length - data[1] + 1;
  mem_t *mem = NULL;
  request_t request;
  sbag_status_t status;
  require(mem_create(&mem, NULL) == SBAG_OK);
  if (request_parse(&signature, &limits, data + 2, length, header, mem, &request, &status) == SBAG_OK) {
    check_request(&request, &limits);
    check_reply(&request, mem);
    request_clear(&request);
  } else {
    require(status.code == SBAG_ERR_ARGUMENT && status.message[0] != '\0');
  }
  require(mem_stats(mem).live_bytes == 0);
  mem_destroy(&mem);
  return 0;
}
