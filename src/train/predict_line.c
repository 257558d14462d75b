/* Lines of predictions. */
#include "train/predict_line.h"

#include "dense/loss.h"
#include "dense/softmax.h"
#include "reader/interactions.h"
#include "train/recommend.h"
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

/* A text in JSON's quotes. */
static int write_quoted(FILE *file, text_t text) {
  json_object *object = json_object_new_string_len(text.bytes, (int)text.length);
  int written = fputs(json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE), file);
  json_object_put(object);
  return written;
}

static void destroy_plain(predict_line_t *line) {
  mem_free(line->session->mem, line);
}

/* ---- a logit ---- */

static sbag_code_t ctr_convert(predict_line_t *line, const reader_batch_t *batch, const float *outputs,
                               float *records, sbag_status_t *status) {
  (void)line;
  (void)status;
  if (batch->samples > 0) memcpy(records, outputs, (size_t)batch->samples * sizeof *records);
  return SBAG_OK;
}

static int ctr_write(const predict_line_t *line, FILE *file, predict_format_t format, int64_t row,
                     const float *record) {
  double p = 0.0;
  (void)line;
  (void)loss_bce((double)record[0], 0.0, &p);
  if (format == PREDICT_TSV) return fprintf(file, "%" PRId64 "\t%.6f\n", row, p);
  return fprintf(file, "{\"row\":%" PRId64 ",\"probability\":%.6f,\"logit\":%.6f}\n", row, p,
                 (double)record[0]);
}

static sbag_code_t ctr_create(session_t *session, predict_line_t **line, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(session->mem, sizeof(predict_line_t), "prediction", &block, status));
  *line = block;
  **line = (predict_line_t){
      .session = session, .width = 1, .convert = ctr_convert, .write = ctr_write, .destroy = destroy_plain};
  return SBAG_OK;
}

/* ---- classes ---- */

typedef struct classes_line {
  predict_line_t base;
  vocabulary_t *labels;
} classes_line_t;

/* A record: the class, and its probability. */
static sbag_code_t classes_convert(predict_line_t *line, const reader_batch_t *batch, const float *outputs,
                                   float *records, sbag_status_t *status) {
  int64_t classes = line->session->assembly.model.classes;
  (void)status;
  for (int64_t i = 0; i < batch->samples; i++) {
    const float *logits = outputs + i * classes;
    float best = 0.0f;
    double loss = 0.0;
    for (int64_t k = 1; k < classes; k++)
      if (logits[k] > logits[(int64_t)best]) best = (float)k;
    softmax_loss(1, 1, classes, logits, &best, NULL, 1.0, &loss, NULL);
    records[2 * i] = best;
    records[2 * i + 1] = (float)loss_exp_negative(-loss);
  }
  return SBAG_OK;
}

static int classes_write(const predict_line_t *line, FILE *file, predict_format_t format, int64_t row,
                         const float *record) {
  text_t label = reader_vocabulary_token(((const classes_line_t *)line)->labels, (int64_t)record[0]);
  if (format == PREDICT_TSV)
    return fprintf(file, "%" PRId64 "\t%.*s\t%.6f\n", row, (int)label.length, label.bytes, (double)record[1]);
  if (fprintf(file, "{\"row\":%" PRId64 ",\"label\":", row) < 0 || write_quoted(file, label) < 0) return -1;
  return fprintf(file, ",\"probability\":%.6f}\n", (double)record[1]);
}

static void classes_destroy(predict_line_t *line) {
  reader_vocabulary_destroy(&((classes_line_t *)line)->labels);
  mem_free(line->session->mem, line);
}

static sbag_code_t load_labels(session_t *session, vocabulary_t **labels, sbag_status_t *status) {
  const reader_t *reader = session->evaluation;
  for (int i = 0; i < reader_blob_count(reader); i++) {
    reader_blob_t blob = *reader_blob(reader, i);
    const blobs_t blobs = {.items = &blob, .count = 1};
    if (strcmp(blob.name, "vocabulary/label") == 0)
      return reader_vocabulary_load(&blobs, "label", 0, 0, session->mem, labels, status);
  }
  return status_set(status, SBAG_ERR_FORMAT, "the checkpoint has no 'vocabulary/label'");
}

static sbag_code_t classes_create(session_t *session, predict_line_t **line, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(session->mem, sizeof(classes_line_t), "prediction", &block, status));
  classes_line_t *made = block;
  made->base = (predict_line_t){.session = session,
                                .width = 2,
                                .convert = classes_convert,
                                .write = classes_write,
                                .destroy = classes_destroy};
  sbag_code_t code = load_labels(session, &made->labels, status);
  if (code == SBAG_OK)
    *line = &made->base;
  else
    classes_destroy(&made->base);
  return code;
}

/* ---- a user's best items ---- */

typedef struct best_line {
  predict_line_t base;
  recommend_t best;
} best_line_t;

/* A record: the user's row, then the hits, byte by byte. */
static sbag_code_t best_convert(predict_line_t *line, const reader_batch_t *batch, const float *outputs,
                                float *records, sbag_status_t *status) {
  best_line_t *b = (best_line_t *)line;
  size_t bytes = (size_t)b->best.k * sizeof(topk_hit_t);
  SBAG_TRY(recommend_batch(&b->best, batch, outputs, status));
  for (int64_t i = 0; i < batch->samples; i++) {
    char *to = (char *)(records + i * line->width);
    memcpy(to, &batch->features[0].indices[i], sizeof(int64_t));
    memcpy(to + sizeof(int64_t), b->best.hits + i * b->best.k, bytes);
  }
  return SBAG_OK;
}

static int best_write(const predict_line_t *line, FILE *file, predict_format_t format, int64_t row,
                      const float *record) {
  const best_line_t *b = (const best_line_t *)line;
  const char *from = (const char *)record;
  int64_t user, json = format == PREDICT_JSON;
  topk_hit_t hit;
  (void)row;
  memcpy(&user, from, sizeof user);
  text_t name = reader_vocabulary_token(b->best.all->users, user - 1);
  if (!json && fprintf(file, "%.*s", (int)name.length, name.bytes) < 0) return -1;
  if (json &&
      (fputs("{\"user\":", file) < 0 || write_quoted(file, name) < 0 || fputs(",\"items\":[", file) < 0))
    return -1;
  for (int64_t i = 0; i < b->best.k; i++) {
    memcpy(&hit, from + sizeof user + (size_t)i * sizeof hit, sizeof hit);
    if (hit.row < 0) break;
    text_t item = reader_vocabulary_token(b->best.all->item_tokens, hit.row - 1);
    if (!json && fprintf(file, "\t%.*s", (int)item.length, item.bytes) < 0) return -1;
    if (!json) continue;
    if (fputs(i > 0 ? ",[" : "[", file) < 0 || write_quoted(file, item) < 0 ||
        fprintf(file, ",%.6f]", hit.score) < 0)
      return -1;
  }
  return fputs(json ? "]}\n" : "\n", file);
}

static void best_destroy(predict_line_t *line) {
  recommend_clear(&((best_line_t *)line)->best);
  mem_free(line->session->mem, line);
}

static sbag_code_t best_create(session_t *session, predict_line_t **line, sbag_status_t *status) {
  void *block = NULL;
  sbag_code_t code = mem_calloc(session->mem, sizeof(best_line_t), "prediction", &block, status);
  SBAG_TRY(comm_agree(session->comm, code, status));
  best_line_t *made = block;
  made->base = (predict_line_t){
      .session = session, .convert = best_convert, .write = best_write, .destroy = best_destroy};
  code = recommend_create(session, session->evaluation, &made->best, status);
  made->base.width = (int)((sizeof(int64_t) + (size_t)made->best.k * sizeof(topk_hit_t)) / sizeof(float));
  if (code == SBAG_OK)
    *line = &made->base;
  else
    best_destroy(&made->base);
  return code;
}

/* ---- which ---- */

sbag_code_t predict_line_create(session_t *session, predict_line_t **line, sbag_status_t *status) {
  switch (session->assembly.model.kind) {
  case MODEL_CTR:
    return comm_agree(session->comm, ctr_create(session, line, status), status);
  case MODEL_CLASSIFY:
    return comm_agree(session->comm, classes_create(session, line, status), status);
  case MODEL_MATCH:
    if (reader_interactions(session->evaluation) != NULL) return best_create(session, line, status);
    break;
  case MODEL_KINDS:
    break;
  }
  return status_set(
      status, SBAG_ERR_ARGUMENT,
      "data of kind corpus have nothing to predict; shardbag neighbours shows the words' vectors");
}

void predict_line_destroy(predict_line_t **line) {
  if (line == NULL || *line == NULL) return;
  (*line)->destroy(*line);
  *line = NULL;
}
