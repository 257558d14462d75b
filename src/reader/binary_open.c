/* Opening a file of the binary form: what it says of itself, that its arrays fit that, and the state of the
 * reader that its samples were made by. */
#include "reader/binary_state.h"

#include <stdio.h>
#include <string.h>

static const char *path_of(const source_t *source) {
  return source->config->source.binary.path;
}

sbag_code_t reader_binary_damaged(const source_t *source, const char *what, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_FORMAT, "%s: %s; make it anew by shardbag data convert", path_of(source),
                    what);
}

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
  if (format < 1 || format > BINARY_FORMAT)
    return status_set(status, SBAG_ERR_FORMAT, "%s: samples of format %lld; this program reads up to %d",
                      path_of(source), (long long)format, BINARY_FORMAT);
  if (format > 1) SBAG_TRY(read_int(source, "", "class_count", 0, 1 << 24, &source->class_count, status));
  if (source->class_count == 1) return reader_binary_damaged(source, "one class", status);
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
    return reader_binary_damaged(source, "two features have one position, or a bag no length", status);
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
    source->weighted |= strcmp(checkpoint_name(b->file, i), "weights/train") == 0;
  for (int64_t i = 0; i < checkpoint_count(b->file); i++)
    if (feature_name(checkpoint_name(b->file, i), name)) {
      if (found == features)
        return reader_binary_damaged(source, "it has more features than it says", status);
      SBAG_TRY(describe_feature(source, name, &found, status));
    }
  return found == features ? SBAG_OK
                           : reader_binary_damaged(source, "it has fewer features than it says", status);
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
    reader_binary_plain_name("weights", (reader_split_t)s, name);
    if (source->weighted) SBAG_TRY(checkpoint_expect(b->file, name, CHECKPOINT_F32, 1, shape, status));
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
    return reader_binary_damaged(source, "the reader's state has names that no reader gives", status);
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

/* The source whose form the file has. */
static sbag_code_t find_form(source_t *source, const source_ops_t **ops, sbag_status_t *status) {
  static const source_ops_t *const forms[] = {&reader_source_binary, &reader_source_ranking,
                                              &reader_source_corpus};
  const binary_t *b = source->state;
  int64_t format = 0;
  char *form = NULL;
  *ops = &reader_source_binary;
  if (checkpoint_read_int(b->file, "", BINARY_MARK, &format, NULL) != SBAG_OK || format != BINARY_FORMAT)
    return SBAG_OK; /* samples, or a file that is refused as such */
  SBAG_TRY(checkpoint_read_text(b->file, "", "form", &form, status));
  *ops = NULL;
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
    if (strcmp(form, forms[i]->form) == 0) *ops = forms[i];
  mem_free(source->mem, form);
  return *ops != NULL ? SBAG_OK : reader_binary_damaged(source, "a form that no source has", status);
}

/* From here on the source is the one whose data the file has, which it reads whole. */
static sbag_code_t become(source_t *source, const source_ops_t *ops, sbag_status_t *status) {
  binary_t *b = source->state;
  if (source->config->source.binary.shuffle_window >= 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: data.binary.shuffle_window: a %s's samples are shuffled together; leave it out",
                      path_of(source), ops->form);
  SBAG_TRY(take_blobs(source, status));
  source->ops = ops;
  source->state = NULL;
  sbag_code_t code = ops->restore(source, b->file, status);
  checkpoint_close(&b->file);
  comm_destroy(&b->comm);
  mem_free(source->mem, b);
  return code;
}

sbag_code_t reader_binary_open(source_t *source, sbag_status_t *status) {
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
  const source_ops_t *ops = NULL;
  SBAG_TRY(find_form(source, &ops, status));
  if (ops != &reader_source_binary) return become(source, ops, status);
  SBAG_TRY(describe(source, status));
  SBAG_TRY(measure(source, status));
  return take_blobs(source, status);
}
