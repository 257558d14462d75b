/* From a body to a request: the JSON's top, then each tensor to the input that its name is, then the bags. */
#include "serve/request.h"

#include "serve/tensor.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What a tensor brings of a feature. */
typedef enum part { PART_BAGS, PART_VALUES, PART_OFFSETS, PART_LENGTHS, PART_WEIGHTS, PARTS } part_t;
static const char *const suffixes[PARTS] = {"", ".values", ".offsets", ".lengths", ".weights"};

typedef struct feature_parts {
  const tensor_t *part[PARTS];
} feature_parts_t;

typedef struct parsing {
  const serve_signature_t *signature;
  const request_limits_t *limits;
  request_t *request;
  tensor_list_t tensors;
  cursor_span_t outputs; /* read when the inputs are known; bytes NULL: none */
  int binary;            /* outputs that do not say are binary */
  feature_parts_t *parts;
  const tensor_t *dense;
  const char *measured; /* the input that told how many samples there are */
  sbag_status_t *status;
} parsing_t;

static sbag_code_t refuse(const parsing_t *p, const char *name, const char *what) {
  return status_set(p->status, SBAG_ERR_ARGUMENT, "input '%.64s': %s", name, what);
}

/* ---- the top ---- */

static sbag_code_t add_tensor(parsing_t *p, cursor_t *json) {
  tensor_list_t *list = &p->tensors;
  if (list->count == p->limits->tensors)
    return status_set(p->status, SBAG_ERR_ARGUMENT, "more than %" PRId64 " inputs", p->limits->tensors);
  if (list->count == list->room) {
    void *grown = NULL;
    int64_t room = list->room > 0 ? 2 * list->room : 16;
    SBAG_TRY(scratch_take(&p->request->arena, (size_t)room * sizeof *list->items, &grown, p->status));
    if (list->count > 0) memcpy(grown, list->items, (size_t)list->count * sizeof *list->items);
    list->items = grown;
    list->room = room;
  }
  SBAG_TRY(tensor_read(json, &p->request->arena, &list->items[list->count], p->status));
  list->count++;
  return SBAG_OK;
}

static sbag_code_t read_inputs(parsing_t *p, cursor_t *json) {
  int first = 1, more = cursor_open(json, '[');
  while (more >= 0 && (more = cursor_next(json, &first, NULL)) == 1) SBAG_TRY(add_tensor(p, json));
  return more == 0 ? SBAG_OK : tensor_refuse_json(json, "inputs", p->status);
}

static sbag_code_t read_parameters(parsing_t *p, cursor_t *json) {
  cursor_span_t key;
  int first = 1, more = cursor_open(json, '{');
  while (more >= 0 && (more = cursor_next(json, &first, &key)) == 1) {
    int bad =
        cursor_is(key, "binary_data_output") ? cursor_boolean(json, &p->binary) : cursor_skip(json, NULL);
    if (bad) break;
  }
  return more == 0 ? SBAG_OK : tensor_refuse_json(json, "parameters", p->status);
}

static sbag_code_t read_key(parsing_t *p, cursor_t *json, cursor_span_t key) {
  cursor_span_t word;
  if (cursor_is(key, "inputs")) return read_inputs(p, json);
  if (cursor_is(key, "parameters")) return read_parameters(p, json);
  if (cursor_is(key, "id")) {
    if (cursor_string(json, &word) != 0) return tensor_refuse_json(json, "id", p->status);
    return tensor_text(word, &p->request->arena, &p->request->id, p->status);
  }
  if (cursor_skip(json, cursor_is(key, "outputs") ? &p->outputs : NULL) != 0)
    return tensor_refuse_json(json, "the request", p->status);
  return SBAG_OK;
}

static sbag_code_t read_top(parsing_t *p, cursor_t *json) {
  cursor_span_t key;
  int first = 1, more = cursor_open(json, '{');
  while (more >= 0 && (more = cursor_next(json, &first, &key)) == 1) SBAG_TRY(read_key(p, json, key));
  if (more != 0 || cursor_end(json) != 0) return tensor_refuse_json(json, "the request", p->status);
  if (p->tensors.count > 0) return SBAG_OK;
  return status_set(p->status, SBAG_ERR_ARGUMENT, "the request has no inputs");
}

/* ---- which input a tensor is ---- */

static int part_of(const char *name, const char *feature) {
  size_t length = strlen(feature);
  if (strncmp(name, feature, length) != 0) return -1;
  for (int i = 0; i < PARTS; i++)
    if (strcmp(name + length, suffixes[i]) == 0) return i;
  return -1;
}

/* The inputs that there are, for a message. */
static void list_inputs(const serve_signature_t *s, char *out, size_t room) {
  size_t used = 0;
  out[0] = '\0';
  for (int f = 0; f < s->feature_count && used + 80 < room; f++)
    used += (size_t)snprintf(out + used, room - used, "%s%.60s", f > 0 ? ", " : "", s->features[f].name);
  if (s->dense_count > 0 && used + 40 < room) snprintf(out + used, room - used, ", %s", s->dense_name);
}

/* A whole name is a feature's before it is a feature's part. Tensors mostly come in the features' order:
 * *hint is where the last one was. */
static sbag_code_t place(parsing_t *p, const tensor_t *t, int *hint) {
  const serve_signature_t *s = p->signature;
  int feature = -1, part = -1;
  if (s->dense_count > 0 && strcmp(t->name, s->dense_name) == 0) {
    if (p->dense != NULL) return refuse(p, t->name, "is there twice");
    p->dense = t;
    return SBAG_OK;
  }
  for (int i = 0; i < s->feature_count && part != PART_BAGS; i++) {
    int f = (*hint + i) % s->feature_count, found = part_of(t->name, s->features[f].name);
    if (found < 0 || (part >= 0 && found != PART_BAGS)) continue;
    feature = f;
    part = found;
    if (!s->dotted) break;
  }
  if (part < 0) {
    char all[320];
    list_inputs(s, all, sizeof all);
    return status_set(p->status, SBAG_ERR_ARGUMENT,
                      "input '%.64s': model '%.64s' has none of that name; it has %s", t->name, s->name, all);
  }
  *hint = feature;
  if (p->parts[feature].part[part] != NULL) return refuse(p, t->name, "is there twice");
  p->parts[feature].part[part] = t;
  return SBAG_OK;
}

static sbag_code_t place_all(parsing_t *p) {
  void *piece = NULL;
  int hint = 0;
  size_t bytes = (size_t)p->signature->feature_count * sizeof *p->parts;
  SBAG_TRY(scratch_take(&p->request->arena, bytes, &piece, p->status));
  memset(piece, 0, bytes);
  p->parts = piece;
  for (int64_t i = 0; i < p->tensors.count; i++) SBAG_TRY(place(p, &p->tensors.items[i], &hint));
  return SBAG_OK;
}

/* ---- bags ---- */

/* All inputs must agree on the number of samples; the first one tells it. */
static sbag_code_t measure(parsing_t *p, const char *name, int64_t samples) {
  if (p->measured == NULL) {
    p->measured = name;
    p->request->samples = samples;
    if (samples < 1) return refuse(p, name, "has no samples");
    if (samples <= p->limits->samples) return SBAG_OK;
    return status_set(p->status, SBAG_ERR_ARGUMENT,
                      "input '%.64s': %" PRId64 " samples; at most %" PRId64 " are taken in one request",
                      name, samples, p->limits->samples);
  }
  if (samples == p->request->samples) return SBAG_OK;
  return status_set(p->status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': has %" PRId64 " samples, but '%.64s' has %" PRId64, name, samples,
                    p->measured, p->request->samples);
}

static sbag_code_t make_offsets(parsing_t *p, int64_t **offsets) {
  void *piece = NULL;
  SBAG_TRY(scratch_take(&p->request->arena, (size_t)(p->request->samples + 1) * sizeof **offsets, &piece,
                        p->status));
  *offsets = piece;
  return SBAG_OK;
}

static sbag_code_t check_bag(const parsing_t *p, const char *name, int64_t sample, int64_t length) {
  if (length <= p->limits->bag_length) return SBAG_OK;
  return status_set(p->status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': the bag of sample %" PRId64 " has %" PRId64 " indices; at most %" PRId64
                    " are taken",
                    name, sample, length, p->limits->bag_length);
}

/* [samples] or [samples][length]. */
static sbag_code_t take_fixed(parsing_t *p, const tensor_t *t, request_bags_t *bags) {
  int64_t length = t->rank == 2 ? t->shape[1] : 1, *offsets = NULL;
  SBAG_TRY(measure(p, t->name, t->shape[0]));
  SBAG_TRY(check_bag(p, t->name, 0, length));
  SBAG_TRY(make_offsets(p, &offsets));
  for (int64_t i = 0; i <= p->request->samples; i++) offsets[i] = i * length;
  bags->offsets = offsets;
  return SBAG_OK;
}

static sbag_code_t take_offsets(parsing_t *p, const tensor_t *t, int64_t values, request_bags_t *bags) {
  const int64_t *offsets = NULL;
  if (t->rank != 1 || t->count < 1) return refuse(p, t->name, "its shape must be [samples + 1]");
  SBAG_TRY(measure(p, t->name, t->count - 1));
  SBAG_TRY(tensor_integers(t, &p->request->arena, &offsets, p->status));
  if (offsets[0] != 0) return refuse(p, t->name, "the first offset must be 0");
  for (int64_t i = 0; i < p->request->samples; i++) {
    if (offsets[i + 1] < offsets[i])
      return status_set(p->status, SBAG_ERR_ARGUMENT, "input '%.64s': offsets fall at position %" PRId64,
                        t->name, i + 1);
    SBAG_TRY(check_bag(p, t->name, i, offsets[i + 1] - offsets[i]));
  }
  bags->offsets = offsets;
  if (offsets[p->request->samples] == values) return SBAG_OK;
  return status_set(p->status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': the last offset is %" PRId64
                    "; it must be the number of values, %" PRId64,
                    t->name, offsets[p->request->samples], values);
}

static sbag_code_t take_lengths(parsing_t *p, const tensor_t *t, int64_t values, request_bags_t *bags) {
  const int64_t *lengths = NULL;
  int64_t *offsets = NULL;
  if (t->rank != 1) return refuse(p, t->name, "its shape must be [samples]");
  SBAG_TRY(measure(p, t->name, t->count));
  SBAG_TRY(tensor_integers(t, &p->request->arena, &lengths, p->status));
  SBAG_TRY(make_offsets(p, &offsets));
  offsets[0] = 0;
  for (int64_t i = 0; i < p->request->samples; i++) {
    if (lengths[i] < 0 || lengths[i] > values - offsets[i])
      return status_set(p->status, SBAG_ERR_ARGUMENT,
                        "input '%.64s': the length at position %" PRId64 " is %" PRId64 "; %" PRId64
                        " values are left",
                        t->name, i, lengths[i], values - offsets[i]);
    SBAG_TRY(check_bag(p, t->name, i, lengths[i]));
    offsets[i + 1] = offsets[i] + lengths[i];
  }
  bags->offsets = offsets;
  if (offsets[p->request->samples] == values) return SBAG_OK;
  return status_set(p->status, SBAG_ERR_ARGUMENT,
                    "input '%.64s': the lengths add up to %" PRId64 "; there are %" PRId64 " values", t->name,
                    offsets[p->request->samples], values);
}

static sbag_code_t take_indices(parsing_t *p, const serve_feature_t *f, const tensor_t *t,
                                request_bags_t *bags) {
  SBAG_TRY(tensor_integers(t, &p->request->arena, &bags->indices, p->status));
  bags->count = t->count;
  p->request->lookups += t->count;
  for (int64_t i = 0; i < t->count; i++)
    if ((uint64_t)bags->indices[i] >= (uint64_t)f->rows)
      return status_set(p->status, SBAG_ERR_ARGUMENT,
                        "input '%.64s': the index at position %" PRId64 " is %" PRId64
                        "; it must be from 0 to %" PRId64,
                        t->name, i, bags->indices[i], f->rows - 1);
  return SBAG_OK;
}

static sbag_code_t take_weights(parsing_t *p, const serve_feature_t *f, const tensor_t *t,
                                const tensor_t *indices, request_bags_t *bags) {
  if (!f->weights) return refuse(p, t->name, "the feature does not pool by sum, and takes no weights");
  if (t->rank != indices->rank || t->shape[0] != indices->shape[0] ||
      (t->rank == 2 && t->shape[1] != indices->shape[1]))
    return status_set(p->status, SBAG_ERR_ARGUMENT, "input '%.64s': its shape must be that of '%.64s'",
                      t->name, indices->name);
  return tensor_floats(t, &p->request->arena, &bags->weights, p->status);
}

/* The parts must make one way of telling bags. */
static sbag_code_t check_parts(const parsing_t *p, const serve_feature_t *f, const feature_parts_t *parts) {
  const tensor_t *bags = parts->part[PART_BAGS], *values = parts->part[PART_VALUES];
  int told = (parts->part[PART_OFFSETS] != NULL) + (parts->part[PART_LENGTHS] != NULL);
  if (bags == NULL && values == NULL)
    return status_set(p->status, SBAG_ERR_ARGUMENT,
                      "input '%.64s' is missing: give it as [samples][length], or '%.64s.values' with "
                      "'%.64s.offsets' or '%.64s.lengths'",
                      f->name, f->name, f->name, f->name);
  if (bags != NULL && (values != NULL || told > 0))
    return refuse(p, f->name, "is given as a whole and by values, offsets or lengths too; one is enough");
  if (values == NULL) return SBAG_OK;
  if (values->rank != 1) return refuse(p, values->name, "its shape must be [number of values]");
  if (told == 1) return SBAG_OK;
  return refuse(p, values->name,
                told == 0 ? "offsets or lengths are missing" : "has offsets and lengths; one is enough");
}

static sbag_code_t take_feature(parsing_t *p, int feature) {
  const serve_feature_t *f = &p->signature->features[feature];
  const feature_parts_t *parts = &p->parts[feature];
  request_bags_t *bags = &p->request->features[feature];
  const tensor_t *indices = parts->part[PART_BAGS];
  for (int i = 0; i < PARTS; i++) bags->given |= parts->part[i] != NULL;
  if (!bags->given && p->signature->kind == SERVE_EMBEDDINGS) return SBAG_OK;
  SBAG_TRY(check_parts(p, f, parts));
  if (indices != NULL) {
    SBAG_TRY(take_fixed(p, indices, bags));
  } else {
    indices = parts->part[PART_VALUES];
    if (parts->part[PART_OFFSETS] != NULL)
      SBAG_TRY(take_offsets(p, parts->part[PART_OFFSETS], indices->count, bags));
    else
      SBAG_TRY(take_lengths(p, parts->part[PART_LENGTHS], indices->count, bags));
  }
  SBAG_TRY(take_indices(p, f, indices, bags));
  if (parts->part[PART_WEIGHTS] == NULL) return SBAG_OK;
  return take_weights(p, f, parts->part[PART_WEIGHTS], indices, bags);
}

static sbag_code_t take_dense(parsing_t *p) {
  const serve_signature_t *s = p->signature;
  if (s->dense_count == 0) return SBAG_OK;
  if (p->dense == NULL)
    return status_set(p->status, SBAG_ERR_ARGUMENT, "input '%s' is missing: [samples][%d] of FP32",
                      s->dense_name, s->dense_count);
  if (p->dense->rank != 2 || p->dense->shape[1] != s->dense_count)
    return status_set(p->status, SBAG_ERR_ARGUMENT, "input '%s': its shape must be [samples][%d]",
                      s->dense_name, s->dense_count);
  SBAG_TRY(measure(p, s->dense_name, p->dense->shape[0]));
  return tensor_floats(p->dense, &p->request->arena, &p->request->dense, p->status);
}

/* A feature that is not given has empty bags. */
static sbag_code_t fill_missing(parsing_t *p) {
  int64_t *zeros = NULL;
  for (int f = 0; f < p->signature->feature_count; f++) {
    if (p->request->features[f].given) continue;
    if (zeros == NULL) {
      SBAG_TRY(make_offsets(p, &zeros));
      memset(zeros, 0, (size_t)(p->request->samples + 1) * sizeof *zeros);
    }
    p->request->features[f].offsets = zeros;
  }
  return SBAG_OK;
}

static sbag_code_t take_inputs(parsing_t *p) {
  void *piece = NULL;
  size_t bytes = (size_t)p->signature->feature_count * sizeof *p->request->features;
  SBAG_TRY(scratch_take(&p->request->arena, bytes, &piece, p->status));
  memset(piece, 0, bytes);
  p->request->features = piece;
  SBAG_TRY(take_dense(p));
  for (int f = 0; f < p->signature->feature_count; f++) SBAG_TRY(take_feature(p, f));
  return fill_missing(p);
}

/* ---- outputs ---- */

static sbag_code_t refuse_output(const parsing_t *p, const char *name) {
  const serve_signature_t *s = p->signature;
  char all[320] = "";
  size_t used = 0;
  for (int i = 0; i < s->output_count && used + 80 < sizeof all; i++)
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%.60s", i > 0 ? ", " : "", s->outputs[i].name);
  return status_set(p->status, SBAG_ERR_ARGUMENT,
                    "output '%.64s': model '%.64s' has none of that name; it has %s", name, s->name, all);
}

static sbag_code_t add_output(parsing_t *p, const char *name, int binary) {
  const serve_signature_t *s = p->signature;
  request_t *r = p->request;
  int found = 0;
  while (found < s->output_count && strcmp(s->outputs[found].name, name) != 0) found++;
  if (found == s->output_count) return refuse_output(p, name);
  for (int i = 0; i < r->output_count; i++)
    if (r->outputs[i].output == found)
      return status_set(p->status, SBAG_ERR_ARGUMENT, "output '%.64s' is wanted twice", name);
  if (s->kind == SERVE_EMBEDDINGS && !r->features[s->outputs[found].feature].given)
    return status_set(p->status, SBAG_ERR_ARGUMENT, "output '%.64s' is wanted, but its input is not given",
                      name);
  r->outputs[r->output_count++] = (request_output_t){.output = found, .binary = binary};
  return SBAG_OK;
}

static sbag_code_t read_output_parameters(parsing_t *p, cursor_t *json, int *binary) {
  cursor_span_t key;
  int first = 1, more = cursor_open(json, '{');
  while (more >= 0 && (more = cursor_next(json, &first, &key)) == 1) {
    if (cursor_is(key, "classification") || (key.length > 13 && memcmp(key.bytes, "shared_memory", 13) == 0))
      return status_set(p->status, SBAG_ERR_ARGUMENT, "outputs: parameters: '%.*s' is not served",
                        (int)(key.length < 64 ? key.length : 64), key.bytes);
    if (cursor_is(key, "binary_data") ? cursor_boolean(json, binary) : cursor_skip(json, NULL)) break;
  }
  return more == 0 ? SBAG_OK : tensor_refuse_json(json, "outputs: parameters", p->status);
}

static sbag_code_t read_output(parsing_t *p, cursor_t *json) {
  cursor_span_t key, word;
  const char *name = NULL;
  int first = 1, binary = p->binary, more = cursor_open(json, '{');
  while (more >= 0 && (more = cursor_next(json, &first, &key)) == 1) {
    if (cursor_is(key, "name")) {
      if (cursor_string(json, &word) != 0) return tensor_refuse_json(json, "outputs: name", p->status);
      SBAG_TRY(tensor_text(word, &p->request->arena, &name, p->status));
    } else if (cursor_is(key, "parameters")) {
      SBAG_TRY(read_output_parameters(p, json, &binary));
    } else if (cursor_skip(json, NULL) != 0) {
      break;
    }
  }
  if (more != 0) return tensor_refuse_json(json, "outputs", p->status);
  if (name == NULL) return status_set(p->status, SBAG_ERR_ARGUMENT, "an output has no name");
  return add_output(p, name, binary);
}

static sbag_code_t take_outputs(parsing_t *p) {
  const serve_signature_t *s = p->signature;
  request_t *r = p->request;
  void *piece = NULL;
  SBAG_TRY(scratch_take(&r->arena, (size_t)s->output_count * sizeof *r->outputs, &piece, p->status));
  r->outputs = piece;
  if (p->outputs.bytes != NULL) {
    cursor_t json = cursor_over(p->outputs.bytes, p->outputs.length);
    int first = 1, more = cursor_open(&json, '[');
    while (more >= 0 && (more = cursor_next(&json, &first, NULL)) == 1) SBAG_TRY(read_output(p, &json));
    if (more != 0) return tensor_refuse_json(&json, "outputs", p->status);
  }
  if (r->output_count > 0) return SBAG_OK;
  for (int i = 0; i < s->output_count; i++)
    if (s->kind != SERVE_EMBEDDINGS || r->features[s->outputs[i].feature].given)
      r->outputs[r->output_count++] = (request_output_t){.output = i, .binary = p->binary};
  return SBAG_OK;
}

/* ---- all of it ---- */

static sbag_code_t parse(parsing_t *p, const char *body, int64_t bytes, int64_t header_bytes) {
  request_t *r = p->request;
  void *piece = NULL;
  cursor_t json = cursor_over(body, (size_t)header_bytes);
  SBAG_TRY(read_top(p, &json));
  SBAG_TRY(tensor_deal(&p->tensors, body + header_bytes, bytes - header_bytes, p->status));
  SBAG_TRY(place_all(p));
  SBAG_TRY(take_inputs(p));
  SBAG_TRY(take_outputs(p));
  SBAG_TRY(scratch_take(&r->arena, mem_array_bytes(r->samples * p->signature->columns, sizeof *r->result),
                        &piece, p->status));
  r->result = piece;
  return SBAG_OK;
}

sbag_code_t request_parse(const serve_signature_t *signature, const request_limits_t *limits,
                          const void *body, int64_t bytes, int64_t header_bytes, mem_t *mem,
                          request_t *request, sbag_status_t *status) {
  sbag_status_t own;
  *request = (request_t){.signature = signature, .id = "", .arena = {.mem = mem}};
  parsing_t p = {
      .signature = signature, .limits = limits, .request = request, .status = status != NULL ? status : &own};
  if (header_bytes > bytes || header_bytes < -1 || header_bytes == 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "Inference-Header-Content-Length is %" PRId64
                      "; it must be from 1 to the body's %" PRId64 " bytes",
                      header_bytes, bytes);
  sbag_code_t code = parse(&p, body, bytes, header_bytes < 0 ? bytes : header_bytes);
  if (code != SBAG_OK) request_clear(request);
  return code;
}

void request_clear(request_t *request) {
  scratch_clear(&request->arena);
}
