/* Any reader's data into the binary form.
 *
 * Where samples are drawn anew in every epoch, what they are drawn from is written by its source. Else the
 * samples are:
 *
 * A file's arrays must be declared with their shapes before the first row is written (checkpoint.h), and a
 * reader gives all columns of a sample at once: so the samples are first spooled, a file an array, all splits
 * behind each other. */
#include "reader/convert.h"
#include "reader/binary.h"
#include "reader/grow.h"
#include "reader/spool.h"

#include <errno.h>
#include <shardbag/version.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* One array of the file: where its rows begin in the spool. */
typedef struct piece {
  const spool_t *spool;
  int64_t begin, row_bytes;
} piece_t;

typedef struct column {
  spool_t values, offsets; /* offsets: of multi-hot features */
  int64_t shortest, longest;
  int64_t nnz[READER_SPLITS];
  piece_t value_pieces[READER_SPLITS], offset_pieces[READER_SPLITS];
} column_t;

typedef struct convert {
  reader_t *reader;
  const convert_options_t *options;
  mem_t *mem;
  spool_t labels, dense, weights; /* dense, weights: where the samples have them */
  piece_t label_pieces[READER_SPLITS], dense_pieces[READER_SPLITS], weight_pieces[READER_SPLITS];
  column_t *columns; /* [feature_count] */
  int feature_count, dense_count;
  int64_t samples[READER_SPLITS];
  void *scratch;
  int64_t scratch_bytes;
} convert_t;

/* ---- spooling ---- */

static sbag_code_t open_spools(convert_t *c, sbag_status_t *status) {
  const char *beside = c->options->output;
  SBAG_TRY(reader_spool_open(beside, &c->labels, status));
  if (c->dense_count > 0) SBAG_TRY(reader_spool_open(beside, &c->dense, status));
  if (reader_weighted(c->reader)) SBAG_TRY(reader_spool_open(beside, &c->weights, status));
  for (int f = 0; f < c->feature_count; f++) {
    SBAG_TRY(reader_spool_open(beside, &c->columns[f].values, status));
    if (reader_feature(c->reader, f)->multi_hot)
      SBAG_TRY(reader_spool_open(beside, &c->columns[f].offsets, status));
  }
  return SBAG_OK;
}

/* The batch's row numbers in the file's type. */
static sbag_code_t append_values(convert_t *c, int feature, const reader_bags_t *bags,
                                 sbag_status_t *status) {
  spool_t *spool = &c->columns[feature].values;
  if (reader_binary_type(reader_feature(c->reader, feature)->rows) == CHECKPOINT_I64)
    return reader_spool_append(spool, bags->indices, bags->nnz * (int64_t)sizeof(int64_t), status);
  int64_t bytes = bags->nnz * (int64_t)sizeof(int32_t);
  SBAG_TRY(reader_grow_to(c->mem, &c->scratch, &c->scratch_bytes, bytes, 1, "conversion: a batch", status));
  int32_t *narrow = c->scratch;
  for (int64_t i = 0; i < bags->nnz; i++) narrow[i] = (int32_t)bags->indices[i];
  return reader_spool_append(spool, narrow, bytes, status);
}

static sbag_code_t append_offsets(convert_t *c, int feature, reader_split_t split, int64_t samples,
                                  const reader_bags_t *bags, sbag_status_t *status) {
  column_t *column = &c->columns[feature];
  int64_t bytes = samples * (int64_t)sizeof(int64_t);
  for (int64_t i = 0; i < samples; i++) {
    int64_t length = bags->offsets[i + 1] - bags->offsets[i];
    if (length < column->shortest) column->shortest = length;
    if (length > column->longest) column->longest = length;
  }
  if (!reader_feature(c->reader, feature)->multi_hot) return SBAG_OK;
  SBAG_TRY(reader_grow_to(c->mem, &c->scratch, &c->scratch_bytes, bytes, 1, "conversion: a batch", status));
  int64_t *ends = c->scratch;
  for (int64_t i = 0; i < samples; i++) ends[i] = column->nnz[split] + bags->offsets[i + 1];
  return reader_spool_append(&column->offsets, ends, bytes, status);
}

static sbag_code_t append_batch(convert_t *c, reader_split_t split, const reader_batch_t *batch,
                                sbag_status_t *status) {
  int64_t bytes = batch->samples * (int64_t)sizeof(float);
  SBAG_TRY(reader_spool_append(&c->labels, batch->labels, bytes, status));
  if (c->dense_count > 0)
    SBAG_TRY(reader_spool_append(&c->dense, batch->dense, bytes * c->dense_count, status));
  if (batch->weights != NULL) SBAG_TRY(reader_spool_append(&c->weights, batch->weights, bytes, status));
  for (int f = 0; f < c->feature_count; f++) {
    const reader_bags_t *bags = &batch->features[f];
    SBAG_TRY(append_offsets(c, f, split, batch->samples, bags, status));
    SBAG_TRY(append_values(c, f, bags, status));
    c->columns[f].nnz[split] += bags->nnz;
  }
  c->samples[split] += batch->samples;
  return SBAG_OK;
}

static sbag_code_t begin_split(convert_t *c, reader_split_t split, sbag_status_t *status) {
  static const int64_t zero = 0;
  c->label_pieces[split] = (piece_t){&c->labels, c->labels.bytes, (int64_t)sizeof(float)};
  c->weight_pieces[split] = (piece_t){&c->weights, c->weights.bytes, (int64_t)sizeof(float)};
  c->dense_pieces[split] = (piece_t){&c->dense, c->dense.bytes, c->dense_count * (int64_t)sizeof(float)};
  for (int f = 0; f < c->feature_count; f++) {
    column_t *column = &c->columns[f];
    column->value_pieces[split] = (piece_t){.spool = &column->values, .begin = column->values.bytes};
    column->offset_pieces[split] =
        (piece_t){&column->offsets, column->offsets.bytes, (int64_t)sizeof(int64_t)};
    if (column->offsets.file >= 0)
      SBAG_TRY(reader_spool_append(&column->offsets, &zero, (int64_t)sizeof zero, status));
  }
  return SBAG_OK;
}

static sbag_code_t spool_all(convert_t *c, sbag_status_t *status) {
  for (int s = 0; s < READER_SPLITS; s++) {
    reader_split_t split = (reader_split_t)s;
    const reader_batch_t *batch = NULL;
    SBAG_TRY(begin_split(c, split, status));
    if ((c->options->splits >> s & 1) == 0) continue;
    SBAG_TRY(reader_start(c->reader, split, 0, 0, status));
    for (;;) {
      SBAG_TRY(reader_next(c->reader, &batch, status));
      if (batch == NULL) break;
      SBAG_TRY(append_batch(c, split, batch, status));
    }
  }
  return SBAG_OK;
}

/* ---- the file ---- */

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  const piece_t *piece = user;
  return reader_spool_read(piece->spool, piece->begin + first * piece->row_bytes, rows * piece->row_bytes,
                           out, status);
}

static sbag_code_t declare(checkpoint_writer_t *writer, const char *name, checkpoint_type_t type, int rank,
                           const int64_t *shape, piece_t *piece, const char *description, const char *unit,
                           sbag_status_t *status) {
  piece->row_bytes = checkpoint_type_bytes(type) * (rank == 2 ? shape[1] : 1);
  SBAG_TRY(checkpoint_add_array(writer, name, type, rank, shape, fill, piece, status));
  SBAG_TRY(checkpoint_add_text(writer, name, "description", description, status));
  return checkpoint_add_text(writer, name, "unit", unit, status);
}

/* The length that all bags have; -1 where they differ, or are empty, or there are none. */
static int64_t bag_length(const convert_t *c, int feature) {
  const column_t *column = &c->columns[feature];
  if (!reader_feature(c->reader, feature)->multi_hot) return 1;
  return column->shortest == column->longest && column->longest > 0 ? column->longest : -1;
}

static sbag_code_t declare_feature(convert_t *c, checkpoint_writer_t *writer, int feature,
                                   sbag_status_t *status) {
  const reader_feature_t *f = reader_feature(c->reader, feature);
  column_t *column = &c->columns[feature];
  int64_t length = bag_length(c, feature);
  for (int s = 0; s < READER_SPLITS; s++) {
    char name[BINARY_NAME_BYTES];
    int64_t shape[2] = {length > 0 ? c->samples[s] : column->nnz[s], length};
    reader_binary_name(f->name, BINARY_VALUES, (reader_split_t)s, name);
    SBAG_TRY(declare(writer, name, reader_binary_type(f->rows), f->multi_hot && length > 0 ? 2 : 1, shape,
                     &column->value_pieces[s], "the rows that samples look up", "row", status));
    if (length > 0) continue;
    shape[0] = c->samples[s] + 1;
    reader_binary_name(f->name, BINARY_OFFSETS, (reader_split_t)s, name);
    SBAG_TRY(declare(writer, name, CHECKPOINT_I64, 1, shape, &column->offset_pieces[s],
                     "where each sample's bag begins in values, and the last one ends", "values", status));
  }
  char group[BINARY_NAME_BYTES];
  snprintf(group, sizeof group, BINARY_FEATURES "%s", f->name);
  SBAG_TRY(checkpoint_add_int(writer, group, "position", feature, status));
  SBAG_TRY(checkpoint_add_int(writer, group, "rows", f->rows, status));
  SBAG_TRY(checkpoint_add_int(writer, group, "multi_hot", f->multi_hot, status));
  return checkpoint_add_int(writer, group, "bag_length", length, status);
}

static sbag_code_t declare_blobs(const convert_t *c, checkpoint_writer_t *writer, sbag_status_t *status) {
  for (int i = 0; i < reader_blob_count(c->reader); i++) {
    const reader_blob_t *blob = reader_blob(c->reader, i);
    char name[sizeof blob->name + sizeof BINARY_BLOBS];
    snprintf(name, sizeof name, BINARY_BLOBS "%s", blob->name);
    SBAG_TRY(checkpoint_add_blob(writer, name, blob->data, blob->bytes, status));
    SBAG_TRY(checkpoint_add_text(writer, name, "description",
                                 "fitted state of the reader that gave the samples, bytes as in src/reader",
                                 status));
    SBAG_TRY(checkpoint_add_text(writer, name, "unit", "bytes", status));
  }
  return SBAG_OK;
}

static sbag_code_t declare_file(const convert_t *c, checkpoint_writer_t *writer, sbag_status_t *status) {
  int64_t window = 0;
  reader_order_t order = reader_order(c->reader, &window);
  SBAG_TRY(checkpoint_add_int(writer, "", BINARY_MARK, BINARY_FORMAT, status));
  SBAG_TRY(checkpoint_add_text(writer, "", "form", reader_source_of(c->reader)->ops->form, status));
  SBAG_TRY(checkpoint_add_text(writer, "", "version", SBAG_VERSION, status));
  SBAG_TRY(checkpoint_add_text(writer, "", "source", c->options->source, status));
  SBAG_TRY(checkpoint_add_int(writer, "", "dense_count", c->dense_count, status));
  SBAG_TRY(checkpoint_add_int(writer, "", "feature_count", c->feature_count, status));
  SBAG_TRY(checkpoint_add_int(writer, "", "class_count", reader_class_count(c->reader), status));
  SBAG_TRY(checkpoint_add_int(writer, "", "bad_rows", reader_bad_rows(c->reader), status));
  SBAG_TRY(
      checkpoint_add_text(writer, "", "order", order == READER_ORDER_WHOLE ? "whole" : "windows", status));
  return checkpoint_add_int(writer, "", "shuffle_window", window, status);
}

static sbag_code_t declare_all(convert_t *c, checkpoint_writer_t *writer, sbag_status_t *status) {
  SBAG_TRY(declare_file(c, writer, status));
  for (int s = 0; s < READER_SPLITS; s++) {
    char name[BINARY_NAME_BYTES];
    const int64_t shape[2] = {c->samples[s], c->dense_count};
    reader_binary_plain_name("labels", (reader_split_t)s, name);
    SBAG_TRY(declare(writer, name, CHECKPOINT_F32, 1, shape, &c->label_pieces[s], "labels", "1", status));
    if (reader_weighted(c->reader)) {
      reader_binary_plain_name("weights", (reader_split_t)s, name);
      SBAG_TRY(declare(writer, name, CHECKPOINT_F32, 1, shape, &c->weight_pieces[s], "weights of the samples",
                       "1", status));
    }
    if (c->dense_count == 0) continue;
    reader_binary_plain_name("dense", (reader_split_t)s, name);
    SBAG_TRY(declare(writer, name, CHECKPOINT_F32, 2, shape, &c->dense_pieces[s],
                     "dense values, after their transforms", "1", status));
  }
  for (int f = 0; f < c->feature_count; f++) SBAG_TRY(declare_feature(c, writer, f, status));
  return declare_blobs(c, writer, status);
}

static sbag_code_t write_file(convert_t *c, comm_t *comm, sbag_status_t *status) {
  checkpoint_writer_t *writer = NULL;
  SBAG_TRY(checkpoint_writer_create(comm, c->mem, c->options->output, &writer, status));
  sbag_code_t code = declare_all(c, writer, status);
  if (code == SBAG_OK) return checkpoint_commit(&writer, status);
  checkpoint_abort(&writer);
  return code;
}

/* ---- all of it ---- */

static sbag_code_t begin(convert_t *c, sbag_status_t *status) {
  SBAG_TRY(mem_calloc(c->mem, mem_array_bytes(c->feature_count, sizeof *c->columns), "conversion: features",
                      (void **)&c->columns, status));
  for (int f = 0; f < c->feature_count; f++)
    c->columns[f] = (column_t){.values.file = -1, .offsets.file = -1, .shortest = INT64_MAX};
  return open_spools(c, status);
}

static void end(convert_t *c) {
  reader_spool_close(&c->labels);
  reader_spool_close(&c->dense);
  reader_spool_close(&c->weights);
  for (int f = 0; c->columns != NULL && f < c->feature_count; f++) {
    reader_spool_close(&c->columns[f].values);
    reader_spool_close(&c->columns[f].offsets);
  }
  mem_free(c->mem, c->columns);
  mem_free(c->mem, c->scratch);
}

static sbag_code_t tell(const convert_t *c, convert_result_t *result, sbag_status_t *status) {
  struct stat found;
  if (stat(c->options->output, &found) != 0)
    return status_set(status, SBAG_ERR_IO, "%s: %s", c->options->output, strerror(errno));
  result->bytes = (int64_t)found.st_size;
  memcpy(result->samples, c->samples, sizeof result->samples);
  return SBAG_OK;
}

/* What samples are drawn from, as the source keeps it. */
static sbag_code_t convert_whole(convert_t *c, source_t *source, comm_t *comm, convert_result_t *result,
                                 sbag_status_t *status) {
  checkpoint_writer_t *writer = NULL;
  if (c->options->splits != (1 << READER_SPLITS) - 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "--split: data of kind %s are converted whole, for a split draws on the others",
                      source->ops->form);
  for (int s = 0; s < READER_SPLITS; s++) c->samples[s] = source->samples[s];
  SBAG_TRY(checkpoint_writer_create(comm, c->mem, c->options->output, &writer, status));
  sbag_code_t code = declare_file(c, writer, status);
  if (code == SBAG_OK) code = source->ops->save(source, writer, status);
  if (code == SBAG_OK) code = declare_blobs(c, writer, status);
  if (code != SBAG_OK) {
    checkpoint_abort(&writer);
    return code;
  }
  SBAG_TRY(checkpoint_commit(&writer, status));
  return tell(c, result, status);
}

sbag_code_t reader_convert(reader_t *reader, comm_t *comm, const convert_options_t *options, mem_t *mem,
                           convert_result_t *result, sbag_status_t *status) {
  convert_t c = {.reader = reader,
                 .options = options,
                 .mem = mem,
                 .labels.file = -1,
                 .dense.file = -1,
                 .weights.file = -1,
                 .feature_count = reader_feature_count(reader),
                 .dense_count = reader_dense_count(reader)};
  if (comm_size(comm) != 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "a conversion is one process's work; there are %d",
                      comm_size(comm));
  source_t *source = reader_source_of(reader);
  if (source->ops->save != NULL) return convert_whole(&c, source, comm, result, status);
  sbag_code_t code = begin(&c, status);
  if (code == SBAG_OK) code = spool_all(&c, status);
  if (code == SBAG_OK) code = write_file(&c, comm, status);
  if (code == SBAG_OK) code = tell(&c, result, status);
  end(&c);
  return code;
}
