/* The source that reads the binary form (binary.h).
 *
 * The samples of a window are read array by array, each in one go, and a batch's samples are gathered from
 * there, feature by feature. In training a window is what is shuffled together, otherwise it is merely a
 * piece of the file. No call here after open uses libhdf5: the background thread may read while the main one
 * writes a checkpoint. */
#include "reader/binary_state.h"
#include "base/random.h"
#include "reader/grow.h"

#include <stdio.h>
#include <string.h>

enum { PLAIN_WINDOW_ROWS = 16384 };

static void binary_close(source_t *source) {
  binary_t *b = source->state;
  if (b == NULL) return;
  for (int f = 0; b->features != NULL && f < source->feature_count; f++) {
    mem_free(source->mem, b->features[f].values);
    mem_free(source->mem, b->features[f].offsets);
  }
  mem_free(source->mem, b->features);
  mem_free(source->mem, b->labels);
  mem_free(source->mem, b->dense);
  mem_free(source->mem, b->weights);
  mem_free(source->mem, b->rows);
  checkpoint_close(&b->file);
  comm_destroy(&b->comm);
  mem_free(source->mem, b);
  source->state = NULL;
}

/* Rows of an array into a buffer that grows; elements: of the array's row. */
static sbag_code_t read_rows(const source_t *source, const char *name, int64_t first, int64_t rows,
                             size_t row_bytes, void **buffer, int64_t *capacity, sbag_status_t *status) {
  const binary_t *b = source->state;
  SBAG_TRY(reader_grow_to(source->mem, buffer, capacity, rows, row_bytes, "binary samples: window", status));
  return checkpoint_read_rows(b->file, name, first, rows, *buffer, status);
}

/* The checksums say that the file is as it was written; that it was written well is checked here. */
static sbag_code_t check_offsets(const source_t *source, int feature, int64_t *values,
                                 sbag_status_t *status) {
  const binary_t *b = source->state;
  const int64_t *offsets = b->features[feature].offsets;
  for (int64_t i = 0; i < b->count; i++)
    if (offsets[i] < 0 || offsets[i + 1] < offsets[i])
      return reader_binary_damaged(source, "offsets that do not ascend", status);
  *values = offsets[b->count] - offsets[0];
  return SBAG_OK;
}

static sbag_code_t read_feature(source_t *source, int feature, sbag_status_t *status) {
  binary_t *b = source->state;
  binary_feature_t *f = &b->features[feature];
  char name[BINARY_NAME_BYTES];
  const char *own = source->features[feature].name;
  int64_t begin = b->first, rows = b->count;
  size_t row_bytes = (size_t)checkpoint_type_bytes(f->type);
  if (f->bag_length > 0) {
    row_bytes *= (size_t)f->bag_length;
  } else {
    reader_binary_name(own, BINARY_OFFSETS, b->split, name);
    SBAG_TRY(read_rows(source, name, b->first, b->count + 1, sizeof *f->offsets, (void **)&f->offsets,
                       &f->offset_capacity, status));
    SBAG_TRY(check_offsets(source, feature, &rows, status));
    begin = f->offsets[0];
  }
  reader_binary_name(own, BINARY_VALUES, b->split, name);
  return read_rows(source, name, begin, rows, row_bytes, &f->values, &f->value_capacity, status);
}

static sbag_code_t check_labels(const source_t *source, sbag_status_t *status) {
  const binary_t *b = source->state;
  for (int64_t i = 0; i < b->count && source->class_count > 0; i++)
    if (!(b->labels[i] >= 0 && b->labels[i] < (float)source->class_count) ||
        b->labels[i] != (float)(int)b->labels[i])
      return reader_binary_damaged(source, "labels that are no classes", status);
  return SBAG_OK;
}

static sbag_code_t next_window(source_t *source, sbag_status_t *status) {
  binary_t *b = source->state;
  int64_t samples = source->samples[b->split];
  char name[BINARY_NAME_BYTES];
  b->first += b->count;
  b->count = samples - b->first < b->size ? samples - b->first : b->size;
  if (source->order == READER_ORDER_WHOLE) {
    b->key = reader_source_epoch_key(source, b->epoch);
  } else {
    snprintf(name, sizeof name, "shuffle epoch %lld window %lld", (long long)b->epoch,
             (long long)(b->first / b->size));
    b->key = random_key(source->config->seed, name);
  }
  reader_binary_plain_name("labels", b->split, name);
  SBAG_TRY(read_rows(source, name, b->first, b->count, sizeof *b->labels, (void **)&b->labels,
                     &b->label_capacity, status));
  SBAG_TRY(check_labels(source, status));
  reader_binary_plain_name("weights", b->split, name);
  if (source->weighted)
    SBAG_TRY(read_rows(source, name, b->first, b->count, sizeof *b->weights, (void **)&b->weights,
                       &b->weight_capacity, status));
  reader_binary_plain_name("dense", b->split, name);
  if (source->dense_count > 0)
    SBAG_TRY(read_rows(source, name, b->first, b->count, (size_t)source->dense_count * sizeof *b->dense,
                       (void **)&b->dense, &b->dense_capacity, status));
  for (int f = 0; f < source->feature_count; f++) SBAG_TRY(read_feature(source, f, status));
  return SBAG_OK;
}

static sbag_code_t binary_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                               sbag_status_t *status) {
  binary_t *b = source->state;
  int64_t samples = source->samples[split], size = PLAIN_WINDOW_ROWS;
  (void)status;
  b->split = split;
  b->epoch = epoch;
  b->shuffled = source->config->shuffle && split == READER_TRAIN &&
                (source->order == READER_ORDER_WHOLE || source->shuffle_window > 0);
  if (b->shuffled) size = source->order == READER_ORDER_WHOLE ? samples : source->shuffle_window;
  b->size = size < samples ? size : samples;
  b->first = position / b->size * b->size;
  b->count = 0;
  return SBAG_OK;
}

/* ---- batches ---- */

/* Where in the window the sample at a position of the epoch is. A source that shuffles the whole asks which
 * sample comes, one that shuffles windows where a sample goes. */
static int64_t row_at(const source_t *source, int64_t position) {
  const binary_t *b = source->state;
  return b->shuffled ? random_permute(b->key, b->count, position - b->first) : position - b->first;
}

/* Copies `length` row numbers and returns whether one of them is none of the table's. Two loops, so that each
 * is a plain one over one type. */
static int copy_rows(const binary_feature_t *f, int64_t begin, int64_t length, uint64_t limit, int64_t *out) {
  int bad = 0;
  if (f->type == CHECKPOINT_I32) {
    const int32_t *from = (const int32_t *)f->values + begin;
    for (int64_t j = 0; j < length; j++) {
      out[j] = from[j];
      bad |= (uint64_t)(int64_t)from[j] >= limit;
    }
  } else {
    const int64_t *from = (const int64_t *)f->values + begin;
    for (int64_t j = 0; j < length; j++) {
      out[j] = from[j];
      bad |= (uint64_t)from[j] >= limit;
    }
  }
  return bad;
}

static sbag_code_t refuse_bag(const source_t *source, int feature, int64_t sample, const int64_t *bag,
                              int64_t length, sbag_status_t *status) {
  const binary_t *b = source->state;
  int64_t rows = source->features[feature].rows, j = 0;
  while (j < length - 1 && bag[j] >= 0 && bag[j] < rows) j++;
  return status_set(status, SBAG_ERR_FORMAT, "%s: feature '%s', %s sample %lld: row %lld; the table has %lld",
                    source->config->source.binary.path, source->features[feature].name,
                    reader_split_name(b->split), (long long)(b->first + sample), (long long)bag[j],
                    (long long)rows);
}

/* The bags of `count` samples, which stand at b->rows in the window, where all have one length. */
static sbag_code_t gather_fixed(const source_t *source, int feature, int64_t count, slot_t *slot,
                                sbag_status_t *status) {
  const binary_t *b = source->state;
  const binary_feature_t *f = &b->features[feature];
  slot_bag_t *bag = &slot->bags[feature];
  int64_t length = f->bag_length, *room;
  uint64_t limit = (uint64_t)source->features[feature].rows;
  SBAG_TRY(reader_slot_room(slot, feature, count * length, &room, status));
  for (int64_t i = 0; i < count; i++, room += length) {
    if (copy_rows(f, b->rows[i] * length, length, limit, room))
      return refuse_bag(source, feature, b->rows[i], room, length, status);
    bag->nnz += length;
    bag->offsets[slot->samples + i + 1] = bag->nnz;
  }
  return SBAG_OK;
}

/* As copy_rows, of one row of each sample: by far the most common bag. */
static int copy_single(const binary_t *b, const binary_feature_t *f, int64_t count, uint64_t limit,
                       int64_t *out) {
  int bad = 0;
  if (f->type == CHECKPOINT_I32) {
    const int32_t *from = f->values;
    for (int64_t i = 0; i < count; i++) {
      out[i] = from[b->rows[i]];
      bad |= (uint64_t)out[i] >= limit;
    }
  } else {
    const int64_t *from = f->values;
    for (int64_t i = 0; i < count; i++) {
      out[i] = from[b->rows[i]];
      bad |= (uint64_t)out[i] >= limit;
    }
  }
  return bad;
}

static sbag_code_t gather_single(const source_t *source, int feature, int64_t count, slot_t *slot,
                                 sbag_status_t *status) {
  const binary_t *b = source->state;
  const binary_feature_t *f = &b->features[feature];
  slot_bag_t *bag = &slot->bags[feature];
  int64_t limit = source->features[feature].rows, *room;
  SBAG_TRY(reader_slot_room(slot, feature, count, &room, status));
  int bad = copy_single(b, f, count, (uint64_t)limit, room);
  for (int64_t i = 0; i < count && bad; i++)
    if (room[i] < 0 || room[i] >= limit) return refuse_bag(source, feature, b->rows[i], &room[i], 1, status);
  for (int64_t i = 0; i < count; i++) bag->offsets[slot->samples + i + 1] = bag->nnz + i + 1;
  bag->nnz += count;
  return SBAG_OK;
}

static sbag_code_t gather(const source_t *source, int feature, int64_t count, slot_t *slot,
                          sbag_status_t *status) {
  const binary_t *b = source->state;
  const binary_feature_t *f = &b->features[feature];
  slot_bag_t *bag = &slot->bags[feature];
  uint64_t limit = (uint64_t)source->features[feature].rows;
  if (f->bag_length == 1) return gather_single(source, feature, count, slot, status);
  if (f->bag_length > 1) return gather_fixed(source, feature, count, slot, status);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = b->rows[i], begin = f->offsets[row], length = f->offsets[row + 1] - begin, *room;
    SBAG_TRY(reader_slot_room(slot, feature, length, &room, status));
    if (copy_rows(f, begin - f->offsets[0], length, limit, room))
      return refuse_bag(source, feature, row, room, length, status);
    bag->nnz += length;
    bag->offsets[slot->samples + i + 1] = bag->nnz;
  }
  return SBAG_OK;
}

/* Samples that all lie in the window. */
static sbag_code_t fill_part(const source_t *source, int64_t begin, int64_t count, slot_t *slot,
                             sbag_status_t *status) {
  const binary_t *b = source->state;
  size_t dense = (size_t)source->dense_count;
  float *labels = reader_slot_label(slot), *values = reader_slot_dense(slot);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = row_at(source, begin + i);
    b->rows[i] = row;
    labels[i] = b->labels[row];
    if (source->weighted) reader_slot_weight(slot)[i] = b->weights[row];
    if (dense > 0) memcpy(values + (size_t)i * dense, b->dense + (size_t)row * dense, dense * sizeof *values);
  }
  for (int f = 0; f < source->feature_count; f++) SBAG_TRY(gather(source, f, count, slot, status));
  slot->samples += count;
  return SBAG_OK;
}

static sbag_code_t binary_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                               sbag_status_t *status) {
  binary_t *b = source->state;
  SBAG_TRY(reader_grow_to(source->mem, (void **)&b->rows, &b->row_capacity, end - begin, sizeof *b->rows,
                          "binary samples: a batch", status));
  for (int64_t at = begin; at < end;) {
    while (at >= b->first + b->count) SBAG_TRY(next_window(source, status));
    int64_t stop = b->first + b->count < end ? b->first + b->count : end;
    SBAG_TRY(fill_part(source, at, stop - at, slot, status));
    at = stop;
  }
  return SBAG_OK;
}

const source_ops_t reader_source_binary = {.form = BINARY_SAMPLES,
                                           .open = reader_binary_open,
                                           .close = binary_close,
                                           .seek = binary_seek,
                                           .fill = binary_fill};
