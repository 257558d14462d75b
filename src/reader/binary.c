/* The source that reads the binary form (binary.h).
 *
 * The samples of a window are read array by array, each in one go, and a batch's samples are gathered from
 * there, feature by feature. In training a window is what is shuffled together, otherwise it is merely a
 * piece of the file. No call here after open uses libhdf5: the background thread may read while the main one
 * writes a checkpoint. */
#include "reader/binary.h"
#include "base/random.h"
#include "reader/grow.h"
#include "reader/source.h"

#include <stdio.h>
#include <string.h>

enum { PLAIN_WINDOW_ROWS = 16384 };

typedef struct binary_feature {
  int64_t bag_length; /* -1: offsets tell */
  checkpoint_type_t type;
  /* Of the window: */
  void *values;
  int64_t *offsets; /* as in the file, so that offsets[0] need not be 0 */
  int64_t value_capacity, offset_capacity;
} binary_feature_t;

typedef struct binary {
  comm_t *comm; /* of this process alone */
  checkpoint_reader_t *file;
  binary_feature_t *features; /* [feature_count] */
  /* Where the stream is: */
  reader_split_t split;
  int shuffled;
  int64_t epoch;
  /* The window: positions [first, first + count) of the epoch; size: of all windows but the last. */
  int64_t first, count, size;
  uint64_t key;
  float *labels, *dense;
  int64_t label_capacity, dense_capacity;
  int64_t *rows; /* of a batch: their places in the window */
  int64_t row_capacity;
} binary_t;

static const char *path_of(const source_t *source) {
  return source->config->source.binary.path;
}

static sbag_code_t damaged(const source_t *source, const char *what, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_FORMAT, "%s: %s; make it anew by shardbag data convert", path_of(source),
                    what);
}

/* ---- what the file holds ---- */

static sbag_code_t read_int(const source_t *source, const char *object, const char *key, int64_t least,
                            int64_t most, int64_t *value, sbag_status_t *status) {
  const binary_t *b = source->state;
  SBAG_TRY(checkpoint_read_int(b->file, object, key, value, status));
  if (*value >= least && *value <= most) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT, "%s: '%s' has %s %lld; it should be %lld to %lld",
                    path_of(source), object, key, (long long)*value, (long long)least, (long long)most);
}

static sbag_code_t read_head(source_t *source, int64_t *features, sbag_status_t *status) {
  const binary_t *b = source->state;
  int64_t format = 0, dense = 0, stored = 0, wanted = source->config->source.binary.shuffle_window;
  char *order = NULL;
  if (checkpoint_read_int(b->file, "", BINARY_MARK, &format, NULL) != SBAG_OK)
    return status_set(status, SBAG_ERR_FORMAT,
                      "%s: holds no samples, but is perhaps a model's checkpoint; "
                      "shardbag data convert makes files of samples",
                      path_of(source));
  if (format != BINARY_FORMAT)
    return status_set(status, SBAG_ERR_FORMAT, "%s: samples of format %lld; this program reads format %d",
                      path_of(source), (long long)format, BINARY_FORMAT);
  SBAG_TRY(read_int(source, "", "dense_count", 0, 1 << 20, &dense, status));
  SBAG_TRY(read_int(source, "", "feature_count", 0, 1 << 20, features, status));
  SBAG_TRY(read_int(source, "", "shuffle_window", 0, 1 << 30, &stored, status));
  SBAG_TRY(checkpoint_read_text(b->file, "", "order", &order, status));
  source->order = wanted < 0 && strcmp(order, "whole") == 0 ? READER_ORDER_WHOLE : READER_ORDER_WINDOWS;
  mem_free(source->mem, order);
  source->shuffle_window = wanted < 0 ? stored : wanted;
  source->dense_count = (int)dense;
  return SBAG_OK;
}

/* The NAME of "features/NAME/values/train"; 0 for other arrays. */
static int feature_name(const char *array, char name[64]) {
  static const char tail[] = BINARY_VALUES "train";
  size_t head = strlen(BINARY_FEATURES), bytes = strlen(array), end = strlen(tail);
  if (bytes <= head + end || bytes - head - end >= 64 || strncmp(array, BINARY_FEATURES, head) != 0 ||
      strcmp(array + bytes - end, tail) != 0)
    return 0;
  memset(name, 0, 64);
  memcpy(name, array + head, bytes - head - end);
  return 1;
}

static sbag_code_t describe_feature(source_t *source, const char *name, int64_t *found,
                                    sbag_status_t *status) {
  binary_t *b = source->state;
  int64_t position = 0, rows = 0, multi_hot = 0, length = 0;
  char group[BINARY_NAME_BYTES];
  snprintf(group, sizeof group, BINARY_FEATURES "%s", name);
  SBAG_TRY(read_int(source, group, "position", 0, source->feature_count - 1, &position, status));
  SBAG_TRY(read_int(source, group, "rows", 1, (int64_t)1 << 48, &rows, status));
  SBAG_TRY(read_int(source, group, "multi_hot", 0, 1, &multi_hot, status));
  SBAG_TRY(read_int(source, group, "bag_length", -1, 1 << 24, &length, status));
  if (length == 0 || (!multi_hot && length != 1) || source->features[position].rows != 0)
    return damaged(source, "two features have one position, or a bag no length", status);
  reader_feature_t *f = &source->features[position];
  snprintf(f->name, sizeof f->name, "%s", name);
  f->rows = rows;
  f->multi_hot = (int)multi_hot;
  b->features[position].bag_length = length;
  b->features[position].type = reader_binary_type(rows);
  ++*found;
  return SBAG_OK;
}

static sbag_code_t describe(source_t *source, sbag_status_t *status) {
  binary_t *b = source->state;
  int64_t features = 0, found = 0;
  char name[64];
  SBAG_TRY(read_head(source, &features, status));
  SBAG_TRY(reader_source_set_features(source, (int)features, status));
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(features, sizeof *b->features), "binary samples: features",
                      (void **)&b->features, status));
  for (int64_t i = 0; i < checkpoint_count(b->file); i++)
    if (feature_name(checkpoint_name(b->file, i), name)) {
      if (found == features) return damaged(source, "it has more features than it says", status);
      SBAG_TRY(describe_feature(source, name, &found, status));
    }
  return found == features ? SBAG_OK : damaged(source, "it has fewer features than it says", status);
}

/* A batch's bags are given twice their mean room, and some. */
static sbag_code_t check_feature(source_t *source, int feature, reader_split_t split, sbag_status_t *status) {
  const binary_t *b = source->state;
  const reader_feature_t *f = &source->features[feature];
  const binary_feature_t *own = &b->features[feature];
  char name[BINARY_NAME_BYTES];
  int64_t n = source->samples[split], shape[2] = {own->bag_length > 0 ? n : -1, own->bag_length};
  reader_binary_name(f->name, BINARY_VALUES, split, name);
  SBAG_TRY(checkpoint_expect(b->file, name, own->type, f->multi_hot && own->bag_length > 0 ? 2 : 1, shape,
                             status));
  int64_t *room = &source->bag_room[feature];
  if (own->bag_length > 0) {
    *room = own->bag_length;
    return SBAG_OK;
  }
  checkpoint_array_t values;
  SBAG_TRY(checkpoint_array_info(b->file, name, &values, status));
  int64_t usual = n > 0 ? 2 * (values.shape[0] / n) + 16 : 0;
  if (usual > *room) *room = usual;
  shape[0] = n + 1;
  reader_binary_name(f->name, BINARY_OFFSETS, split, name);
  return checkpoint_expect(b->file, name, CHECKPOINT_I64, 1, shape, status);
}

/* Sizes, and that all arrays fit them. */
static sbag_code_t measure(source_t *source, sbag_status_t *status) {
  const binary_t *b = source->state;
  for (int s = 0; s < READER_SPLITS; s++) {
    char name[BINARY_NAME_BYTES];
    checkpoint_array_t labels;
    reader_binary_plain_name("labels", (reader_split_t)s, name);
    const int64_t any[2] = {-1, 1};
    SBAG_TRY(checkpoint_expect(b->file, name, CHECKPOINT_F32, 1, any, status));
    SBAG_TRY(checkpoint_array_info(b->file, name, &labels, status));
    source->samples[s] = labels.shape[0];
    const int64_t shape[2] = {labels.shape[0], source->dense_count};
    reader_binary_plain_name("dense", (reader_split_t)s, name);
    if (source->dense_count > 0) SBAG_TRY(checkpoint_expect(b->file, name, CHECKPOINT_F32, 2, shape, status));
    for (int f = 0; f < source->feature_count; f++)
      SBAG_TRY(check_feature(source, f, (reader_split_t)s, status));
  }
  return SBAG_OK;
}

/* The state is the one that the samples were made with; a given one must be the same. */
static sbag_code_t take_blob(source_t *source, const char *name, sbag_status_t *status) {
  const binary_t *b = source->state;
  const char *whole = name + strlen(BINARY_BLOBS), *slash = strchr(whole, '/');
  char kind[96];
  unsigned char *copy = NULL;
  void *data = NULL;
  int64_t bytes = 0;
  if (slash == NULL || strlen(whole) >= sizeof kind)
    return damaged(source, "the reader's state has names that no reader gives", status);
  snprintf(kind, sizeof kind, "%.*s", (int)(slash - whole), whole);
  SBAG_TRY(checkpoint_read_blob(b->file, name, &data, &bytes, status));
  sbag_code_t code = reader_blobs_add(&source->blobs, source->mem, kind, slash + 1, bytes, &copy, status);
  if (code == SBAG_OK && bytes > 0) memcpy(copy, data, (size_t)bytes);
  mem_free(source->mem, data);
  SBAG_TRY(code);
  const reader_blob_t *given = NULL;
  if (source->given == NULL) return SBAG_OK;
  SBAG_TRY(reader_blobs_find(source->given, kind, slash + 1, &given, status));
  if (given->bytes == bytes && memcmp(given->data, copy, (size_t)bytes) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "the saved '%s' is not the one that the samples of %s were made with; convert them with "
                    "the config that the model was trained with",
                    whole, path_of(source));
}

static sbag_code_t take_blobs(source_t *source, sbag_status_t *status) {
  const binary_t *b = source->state;
  for (int64_t i = 0; i < checkpoint_count(b->file); i++) {
    const char *name = checkpoint_name(b->file, i);
    if (strncmp(name, BINARY_BLOBS, strlen(BINARY_BLOBS)) == 0) SBAG_TRY(take_blob(source, name, status));
  }
  return SBAG_OK;
}

static sbag_code_t binary_open(source_t *source, sbag_status_t *status) {
  const reader_binary_config_t *config = &source->config->source.binary;
  if (config->shuffle_window > 1 << 30)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: shuffle window %lld; it must be at most 2^30",
                      config->path, (long long)config->shuffle_window);
  SBAG_TRY(mem_calloc(source->mem, sizeof(binary_t), "binary samples", &source->state, status));
  binary_t *b = source->state;
  SBAG_TRY(comm_self_create(source->mem, NULL, &b->comm, status));
  sbag_code_t code = checkpoint_open(b->comm, source->mem, config->path, &b->file, status);
  if (code != SBAG_OK)
    status_prefix(status, "samples"); /* they are told as a checkpoint, which is their form */
  SBAG_TRY(code);
  SBAG_TRY(describe(source, status));
  SBAG_TRY(measure(source, status));
  return take_blobs(source, status);
}

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
  mem_free(source->mem, b->rows);
  checkpoint_close(&b->file);
  comm_destroy(&b->comm);
  mem_free(source->mem, b);
  source->state = NULL;
}

/* ---- windows ---- */

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
      return damaged(source, "offsets that do not ascend", status);
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
                    path_of(source), source->features[feature].name, reader_split_name(b->split),
                    (long long)(b->first + sample), (long long)bag[j], (long long)rows);
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

const source_ops_t reader_source_binary = {binary_open, binary_close, binary_seek, binary_fill};
