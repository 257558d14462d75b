/* Batch by batch: each rank predicts its share, rank 0 receives the shares in the ranks' order, which is the
 * input's, and writes them. */
#include "train/predict.h"

#include "train/predict_line.h"
#include <errno.h>
#include <string.h>

typedef struct predicting {
  session_t *session;
  const predict_sink_t *sink;
  predict_line_t *line;
  int outputs, width; /* floats of a sample: the model's, and a line's record */
  sbag_bags_t *bags;
  float *made, *own, *all; /* outputs and records of this rank's share; rank 0: records of the whole batch */
  int64_t made_room, own_room, all_room;
  int64_t *counts;          /* [ranks] samples */
  comm_part_t *send, *recv; /* [ranks] */
  int64_t rows;
} predicting_t;

static sbag_code_t prepare(predicting_t *p, sbag_status_t *status) {
  mem_t *mem = p->session->mem;
  size_t ranks = (size_t)comm_size(p->session->comm);
  void *block = NULL;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(p->session->assembly.model.feature_count, sizeof *p->bags),
                     "prediction: bags", &block, status));
  p->bags = block;
  SBAG_TRY(mem_calloc(mem, ranks * sizeof *p->counts, "prediction: ranks", &block, status));
  p->counts = block;
  SBAG_TRY(mem_calloc(mem, ranks * sizeof *p->send, "prediction: ranks", &block, status));
  p->send = block;
  SBAG_TRY(mem_calloc(mem, ranks * sizeof *p->recv, "prediction: ranks", &block, status));
  p->recv = block;
  return SBAG_OK;
}

static void clear(predicting_t *p) {
  void *blocks[] = {p->bags, p->made, p->own, p->all, p->counts, p->send, p->recv};
  /* In a broken comm the transport may still write to them; they then live until the process ends. */
  predict_line_destroy(&p->line);
  if (comm_check(p->session->comm, NULL) != SBAG_OK) return;
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) mem_free(p->session->mem, blocks[i]);
}

static sbag_code_t fit(const predicting_t *p, int64_t samples, int width, float **block, int64_t *room,
                       sbag_status_t *status) {
  void *grown = *block;
  if (samples <= *room) return SBAG_OK;
  SBAG_TRY(mem_realloc(p->session->mem, mem_array_bytes(samples, (size_t)width * sizeof(float)),
                       "prediction: outputs", &grown, status));
  *block = grown;
  *room = samples;
  return SBAG_OK;
}

/* The shares come to rank 0. */
static sbag_code_t collect(predicting_t *p, int64_t samples, sbag_status_t *status) {
  comm_t *comm = p->session->comm;
  int64_t each = p->width * (int64_t)sizeof(float), before = 0;
  int root = comm_rank(comm) == 0;
  SBAG_TRY(comm_allgather(comm, &samples, (int64_t)sizeof samples, p->counts, "prediction: counts", status));
  for (int r = 0; r < comm_size(comm); r++) {
    p->send[r] = (comm_part_t){.data = p->own, .bytes = r == 0 ? samples * each : 0};
    p->recv[r] = (comm_part_t){.data = root ? p->all + before * p->width : NULL,
                               .bytes = root ? p->counts[r] * each : 0};
    before += p->counts[r];
  }
  return comm_exchange(comm, p->send, p->recv, "prediction: outputs", status);
}

static sbag_code_t write_lines(predicting_t *p, int64_t samples, sbag_status_t *status) {
  const predict_sink_t *sink = p->sink;
  for (int64_t i = 0; i < samples && comm_rank(p->session->comm) == 0; i++)
    if (p->line->write(p->line, sink->file, sink->format, p->rows + i, p->all + i * p->width) < 0)
      return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", sink->name, strerror(errno));
  p->rows += samples;
  return SBAG_OK;
}

static sbag_code_t predict_batch(predicting_t *p, const reader_batch_t *batch, sbag_status_t *status) {
  session_t *s = p->session;
  int64_t whole = comm_rank(s->comm) == 0 ? batch->global_samples : 0;
  if (fit(p, batch->samples, p->outputs, &p->made, &p->made_room, status) != SBAG_OK ||
      fit(p, batch->samples, p->width, &p->own, &p->own_room, status) != SBAG_OK ||
      fit(p, whole, p->width, &p->all, &p->all_room, status) != SBAG_OK)
    return session_fail(s, status);
  model_batch_t input = session_batch(s, batch, p->bags);
  SBAG_TRY(model_predict(s->model, &input, p->made, status));
  SBAG_TRY(p->line->convert(p->line, batch, p->made, p->own, status));
  SBAG_TRY(collect(p, batch->samples, status));
  return write_lines(p, batch->global_samples, status) == SBAG_OK ? SBAG_OK : session_fail(s, status);
}

static sbag_code_t predict_all(predicting_t *p, reader_split_t split, sbag_status_t *status) {
  session_t *s = p->session;
  if (reader_start(s->evaluation, split, 0, 0, status) != SBAG_OK) return session_fail(s, status);
  for (;;) {
    const reader_batch_t *batch = NULL;
    if (reader_next(s->evaluation, &batch, status) != SBAG_OK) return session_fail(s, status);
    if (batch == NULL) return SBAG_OK;
    SBAG_TRY(predict_batch(p, batch, status));
  }
}

sbag_code_t predict_split(session_t *session, reader_split_t split, const predict_sink_t *sink, int64_t *rows,
                          sbag_status_t *status) {
  predicting_t p = {.session = session, .sink = sink, .outputs = model_output_count(session->model)};
  sbag_code_t code = comm_agree(session->comm, prepare(&p, status), status);
  if (code == SBAG_OK) code = predict_line_create(session, &p.line, status);
  if (code == SBAG_OK) p.width = p.line->width;
  if (code == SBAG_OK) code = predict_all(&p, split, status);
  clear(&p);
  *rows = p.rows;
  return code;
}
