/* Writing replies. */
#include "serve/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- inference ---- */

static void put_values(const request_t *r, const serve_output_t *output, buffer_t *buffer) {
  int64_t width = output->width > 0 ? output->width : 1;
  buffer_text(buffer, ",\"data\":[");
  for (int64_t i = 0; i < r->samples; i++)
    for (int64_t k = 0; k < width; k++) {
      if (i + k > 0) buffer_text(buffer, ",");
      buffer_float(buffer, r->result[i * r->signature->columns + output->column + k]);
    }
  buffer_text(buffer, "]");
}

static void put_binary(const request_t *r, const serve_output_t *output, buffer_t *buffer) {
  size_t width = (size_t)(output->width > 0 ? output->width : 1);
  float *to = buffer_extend(buffer, (size_t)r->samples * width * sizeof(float));
  for (int64_t i = 0; i < r->samples && to != NULL; i++)
    memcpy((char *)to + (size_t)i * width * sizeof(float),
           r->result + i * r->signature->columns + output->column, width * sizeof(float));
}

static void put_output(const request_t *r, const request_output_t *wanted, buffer_t *buffer) {
  const serve_output_t *output = &r->signature->outputs[wanted->output];
  buffer_text(buffer, "{\"name\":");
  buffer_quote(buffer, output->name);
  buffer_print(buffer, ",\"datatype\":\"FP32\",\"shape\":[%" PRId64, r->samples);
  if (output->width > 0) buffer_print(buffer, ",%" PRId64, output->width);
  buffer_text(buffer, "]");
  if (wanted->binary)
    buffer_print(buffer, ",\"parameters\":{\"binary_data_size\":%" PRId64 "}",
                 r->samples * (output->width > 0 ? output->width : 1) * (int64_t)sizeof(float));
  else
    put_values(r, output, buffer);
  buffer_text(buffer, "}");
}

void reply_infer(const request_t *r, buffer_t *buffer, size_t *json_bytes) {
  int binary = 0;
  buffer_text(buffer, "{\"model_name\":");
  buffer_quote(buffer, r->signature->name);
  buffer_print(buffer, ",\"model_version\":\"%s\"", r->signature->version);
  if (r->id[0] != '\0') {
    buffer_text(buffer, ",\"id\":");
    buffer_quote(buffer, r->id);
  }
  buffer_text(buffer, ",\"outputs\":[");
  for (int i = 0; i < r->output_count; i++) {
    if (i > 0) buffer_text(buffer, ",");
    put_output(r, &r->outputs[i], buffer);
    binary |= r->outputs[i].binary;
  }
  buffer_text(buffer, "]}");
  *json_bytes = binary ? buffer->used : 0;
  for (int i = 0; i < r->output_count; i++)
    if (r->outputs[i].binary) put_binary(r, &r->signature->outputs[r->outputs[i].output], buffer);
}

/* ---- what there is ---- */

void reply_error(const char *message, buffer_t *buffer) {
  buffer_text(buffer, "{\"error\":");
  buffer_quote(buffer, message);
  buffer_text(buffer, "}");
}

void reply_server(const char *version, buffer_t *buffer) {
  buffer_print(buffer,
               "{\"name\":\"shardbag\",\"version\":\"%s\",\"extensions\":[\"binary_tensor_data\","
               "\"model_configuration\",\"model_repository\"]}",
               version);
}

/* One tensor of a list; width 0: one length alone. In a config types and shapes have other keys. */
static void put_tensor(buffer_t *buffer, int config, int *first, const char *name, const char *suffix,
                       const char *type, int64_t width) {
  char whole[256];
  size_t length = strlen(name), more = strlen(suffix);
  if (length + more >= sizeof whole) length = sizeof whole - 1 - more;
  memcpy(whole, name, length);
  memcpy(whole + length, suffix, more + 1);
  buffer_text(buffer, *first ? "{\"name\":" : ",{\"name\":");
  buffer_quote(buffer, whole);
  if (config)
    buffer_print(buffer, ",\"data_type\":\"TYPE_%s\",\"dims\":[-1", type);
  else
    buffer_print(buffer, ",\"datatype\":\"%s\",\"shape\":[-1", type);
  if (width > 0) buffer_print(buffer, ",%" PRId64, width);
  buffer_text(buffer, "]}");
  *first = 0;
}

static void put_inputs(const serve_signature_t *s, int config, buffer_t *buffer) {
  int first = 1;
  if (s->dense_count > 0) put_tensor(buffer, config, &first, s->dense_name, "", "FP32", s->dense_count);
  for (int f = 0; f < s->feature_count; f++) {
    const serve_feature_t *feature = &s->features[f];
    if (feature->multi_hot) {
      put_tensor(buffer, config, &first, feature->name, ".values", "INT64", 0);
      put_tensor(buffer, config, &first, feature->name, ".offsets", "INT64", 0);
    } else {
      put_tensor(buffer, config, &first, feature->name, "", "INT64", 1);
    }
  }
}

static void put_outputs(const serve_signature_t *s, int config, buffer_t *buffer) {
  int first = 1;
  for (int i = 0; i < s->output_count; i++)
    put_tensor(buffer, config, &first, s->outputs[i].name, "", "FP32", s->outputs[i].width);
}

void reply_model(const serve_signature_t *s, buffer_t *buffer) {
  buffer_text(buffer, "{\"name\":");
  buffer_quote(buffer, s->name);
  buffer_print(buffer, ",\"versions\":[\"%s\"],\"platform\":\"shardbag\",\"inputs\":[", s->version);
  put_inputs(s, 0, buffer);
  buffer_text(buffer, "],\"outputs\":[");
  put_outputs(s, 0, buffer);
  buffer_text(buffer, "]}");
}

/* How many rows an index can name, for who makes requests; `parameters` is where Triton has a model's own. */
static void put_rows(const serve_signature_t *s, buffer_t *buffer) {
  char key[256];
  for (int f = 0; f < s->feature_count; f++) {
    snprintf(key, sizeof key, "rows.%s", s->features[f].name);
    buffer_text(buffer, ",");
    buffer_quote(buffer, key);
    buffer_print(buffer, ":{\"string_value\":\"%" PRId64 "\"}", s->features[f].rows);
  }
}

/* Batches are made here, of whole requests: max_batch_size, which would make the first length the batch's, is
 * Triton's 0. */
void reply_config(const serve_signature_t *s, int64_t max_batch, buffer_t *buffer) {
  buffer_text(buffer, "{\"name\":");
  buffer_quote(buffer, s->name);
  buffer_print(buffer,
               ",\"platform\":\"shardbag\",\"backend\":\"shardbag\",\"max_batch_size\":0,"
               "\"parameters\":{\"max_batch\":{\"string_value\":\"%" PRId64 "\"}",
               max_batch);
  put_rows(s, buffer);
  buffer_text(buffer, "},\"input\":[");
  put_inputs(s, 1, buffer);
  buffer_text(buffer, "],\"output\":[");
  put_outputs(s, 1, buffer);
  buffer_text(buffer, "]}");
}

void reply_loaded(const serve_signature_t *signatures, buffer_t *buffer) {
  buffer_print(buffer, "{\"version\":\"%s\"}", signatures[0].version);
}

void reply_index(const serve_signature_t *signatures, int count, int ready, buffer_t *buffer) {
  buffer_text(buffer, "[");
  for (int i = 0; i < count; i++) {
    if (signatures[i].output_count == 0) continue;
    if (buffer->used > 1) buffer_text(buffer, ",");
    buffer_text(buffer, "{\"name\":");
    buffer_quote(buffer, signatures[i].name);
    buffer_print(buffer, ",\"version\":\"%s\",\"state\":\"%s\",\"reason\":\"\"}", signatures[i].version,
                 ready ? "READY" : "UNAVAILABLE");
  }
  buffer_text(buffer, "]");
}
