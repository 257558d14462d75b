/* Delimited files: what the configuration may say, the passes that open it, and its saved state.
 *
 * Opening reads the files once to find bad rows and to count, and once more over the training rows if there
 * are vocabularies or deviations to fit. The files themselves are never in memory; vocabularies, the list of
 * bad lines and one window are. */
#include "reader/delimited.h"
#include "base/random.h"
#include "reader/grow.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char ZSCORE_MAGIC[] = "SBZSCOR1", HASH_MAGIC[] = "SBHASHK1", EXPAND_MAGIC[] = "SBEXPND1";

static sbag_code_t check_column(const reader_delimited_config_t *config, const reader_column_t *c,
                                sbag_status_t *status) {
  const char *name = c->name;
  if (memchr(name, '\0', sizeof c->name) == NULL || name[0] == '\0')
    return status_set(status, SBAG_ERR_ARGUMENT, "column %d: its name must have 1 to 63 bytes", c->index);
  if (c->index < 0 || c->index > 65535)
    return status_set(status, SBAG_ERR_ARGUMENT, "column '%s': index %d; it must be 0 to 65535", name,
                      c->index);
  if (c->kind == COLUMN_DENSE && !isfinite(c->missing))
    return status_set(status, SBAG_ERR_ARGUMENT, "column '%s': the value for missing must be finite", name);
  if (c->kind != COLUMN_ONE_HOT && c->kind != COLUMN_MULTI_HOT) return SBAG_OK;
  int64_t least = c->mapping == MAPPING_VOCABULARY ? 0 : 1;
  if (c->rows < least || c->rows > (int64_t)1 << 48)
    return status_set(status, SBAG_ERR_ARGUMENT, "column '%s': %lld rows; it must be %lld to 2^48", name,
                      (long long)c->rows, (long long)least);
  if (c->ngrams < 0 || c->ngrams > DELIMITED_NGRAMS_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "column '%s': ngrams %d; it must be 0 to %d", name,
                      c->ngrams, (int)DELIMITED_NGRAMS_MAX);
  if ((c->ngrams > 1 || c->lowercase) && (c->kind != COLUMN_MULTI_HOT || c->mapping != MAPPING_HASH))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "column '%s': ngrams and lowercase are of multi-hot columns that are hashed", name);
  if (c->min_count < 0 || c->max_length < 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "column '%s': min_count and max_length cannot be negative",
                      name);
  if (c->expand < 0 || c->expand > 1 << 20)
    return status_set(status, SBAG_ERR_ARGUMENT, "column '%s': expands to %lld rows; it must be at most 2^20",
                      name, (long long)c->expand);
  if (c->kind == COLUMN_MULTI_HOT && (c->separator == config->delimiter || c->separator == '\0'))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "column '%s': its separator must be a character other than the delimiter", name);
  return SBAG_OK;
}

static int by_files(const reader_delimited_config_t *config) {
  return config->split_paths[READER_TRAIN] > 0;
}

static sbag_code_t check_config(const reader_delimited_config_t *config, sbag_status_t *status) {
  double sum = 0.0;
  int labels = 0, weights = 0;
  if (config->delimiter == '\0' || config->delimiter == '\n' || config->delimiter == '\r')
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: the delimiter cannot be NUL or a line end",
                      config->paths[0]);
  if (config->header_lines < 0 || config->shuffle_window < 0 || config->shuffle_window > 1 << 30)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "%s: header lines %d, shuffle window %lld; they must be 0 or more, the window up to 2^30",
        config->paths[0], config->header_lines, (long long)config->shuffle_window);
  if (config->field_count < 0 || config->field_count > 65536)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: rows of %d fields; it must be 0 to 65536",
                      config->paths[0], config->field_count);
  int64_t split_paths = 0;
  for (int s = 0; s < READER_SPLITS; s++) split_paths += config->split_paths[s];
  if (split_paths != 0 && (split_paths != config->path_count || !by_files(config)))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: %lld files are of a split, of %d; all must be, and one of train", config->paths[0],
                      (long long)split_paths, config->path_count);
  for (int s = 0; s < READER_SPLITS; s++) {
    if (!(config->split[s] >= 0.0)) sum = NAN;
    sum += config->split[s];
  }
  if (!(fabs(sum - 1.0) < 1e-6))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: the split is %g, %g, %g; it should add up to 1",
                      config->paths[0], config->split[0], config->split[1], config->split[2]);
  for (int i = 0; i < config->column_count; i++) {
    SBAG_TRY(check_column(config, &config->columns[i], status));
    labels += config->columns[i].kind == COLUMN_LABEL || config->columns[i].kind == COLUMN_CLASS;
    weights += config->columns[i].kind == COLUMN_WEIGHT;
    for (int j = 0; j < i; j++)
      if (strcmp(config->columns[i].name, config->columns[j].name) == 0)
        return status_set(status, SBAG_ERR_ARGUMENT, "%s: two columns are named '%s'", config->paths[0],
                          config->columns[i].name);
  }
  if (weights > 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %d weight columns; at most one would be right",
                      config->paths[0], weights);
  if (labels != 1 && !config->unlabelled)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %d label columns; exactly one would be right",
                      config->paths[0], labels);
  return SBAG_OK;
}

static int is_bag(const reader_column_t *c) {
  return c->kind == COLUMN_ONE_HOT || c->kind == COLUMN_MULTI_HOT;
}

static int expands(const reader_column_t *c) {
  return c->kind == COLUMN_ONE_HOT && c->expand > 1;
}

static int has_zscore(const reader_column_t *c) {
  return c->kind == COLUMN_DENSE &&
         (c->transform == TRANSFORM_ZSCORE || c->transform == TRANSFORM_LOG1P_ZSCORE);
}

static int has_vocabulary(const reader_column_t *c) {
  return is_bag(c) && c->mapping == MAPPING_VOCABULARY;
}

/* Not fitted to the training rows: what the files have, in the order in which it appears. */
static int is_class(const reader_column_t *c) {
  return c->kind == COLUMN_CLASS;
}

static sbag_code_t make_columns(source_t *source, sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  delimited_t *d = source->state;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(config->column_count, sizeof *d->columns),
                      "reader: columns", (void **)&d->columns, status));
  d->column_count = config->column_count;
  int features = 0;
  for (int i = 0; i < d->column_count; i++) {
    delimited_column_t *column = &d->columns[i];
    *column = (delimited_column_t){.c = config->columns[i], .dense = -1, .feature = -1, .deviation = 1.0};
    int told = column->c.kind == COLUMN_LABEL || column->c.kind == COLUMN_WEIGHT;
    if (told && config->unlabelled) column->c.kind = COLUMN_SKIP;
    source->weighted |= column->c.kind == COLUMN_WEIGHT;
    if (column->c.kind == COLUMN_DENSE) column->dense = source->dense_count++;
    if (is_bag(&column->c)) column->feature = features++;
    if (column->c.kind != COLUMN_SKIP && column->c.index >= d->field_count)
      d->field_count = column->c.index + 1;
  }
  if (config->field_count > 0 && d->field_count > config->field_count)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: rows have %d fields, but there is a column %d",
                      config->paths[0], config->field_count, d->field_count - 1);
  if (config->field_count > 0) d->field_count = config->field_count;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(d->field_count, sizeof *d->fields), "reader: fields",
                      (void **)&d->fields, status));
  return reader_source_set_features(source, features, status);
}

static sbag_code_t note_bad(source_t *source, int64_t line, const sbag_status_t *why, sbag_status_t *status) {
  delimited_t *d = source->state;
  if (source->bad_rows == 0) memcpy(source->first_bad, why->message, sizeof source->first_bad);
  SBAG_TRY(reader_grow_to(source->mem, (void **)&d->bad_lines, &d->bad_capacity, source->bad_rows + 1,
                          sizeof *d->bad_lines, "reader: list of bad rows", status));
  d->bad_lines[source->bad_rows++] = line;
  return SBAG_OK;
}

/* By files: good_rows[file] of them. */
static void cut_by_files(source_t *source, const int64_t *good_rows) {
  const int *paths = source->config->source.delimited.split_paths;
  delimited_t *d = source->state;
  int64_t sum = 0;
  for (int s = 0, file = 0; s < READER_SPLITS; s++) {
    source->samples[s] = 0;
    for (int end = file + paths[s]; file < end; file++) source->samples[s] += good_rows[file];
    d->cut[s] = sum += source->samples[s];
  }
}

/* By order: the first floor(n f0) good rows train, those up to floor(n (f0 + f1)) validate, the rest test. A
 * millionth of a row is added so that 0.8 + 0.1 is not taken for less than 0.9. */
static void cut_by_order(source_t *source, int64_t rows) {
  const double *split = source->config->source.delimited.split;
  delimited_t *d = source->state;
  double sum = 0.0;
  int64_t before = 0;
  for (int s = 0; s < READER_SPLITS; s++) {
    sum += split[s];
    int64_t cut = (int64_t)floor((double)rows * sum + 1e-6);
    d->cut[s] = s == READER_SPLITS - 1 || cut > rows ? rows : cut;
    source->samples[s] = d->cut[s] - before;
    before = d->cut[s];
  }
}

/* What the buffers will need is measured now, so that they need not grow while training. */
static sbag_code_t note_good(source_t *source, text_t row, sbag_status_t *status) {
  delimited_t *d = source->state;
  d->good_bytes += row.length;
  for (int i = 0; i < d->column_count; i++) {
    delimited_column_t *column = &d->columns[i];
    int64_t index;
    if (is_class(&column->c) && source->given == NULL)
      SBAG_TRY(reader_vocabulary_add(column->vocabulary, d->fields[column->c.index], &index, status));
    if (column->c.kind != COLUMN_MULTI_HOT) continue;
    int64_t tokens = reader_delimited_row_tokens(source, column);
    column->tokens += tokens;
    if (tokens > column->tokens_max) column->tokens_max = tokens;
  }
  if (!d->by_order) source->samples[reader_delimited_split_of(source, d->line_count, 0)]++;
  return SBAG_OK;
}

/* The first pass: which rows are bad, how many good ones each split has. */
static sbag_code_t scan(source_t *source, int64_t *good_rows, sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  delimited_t *d = source->state;
  sbag_status_t why;
  status_clear(&why);
  SBAG_TRY(reader_delimited_rewind(source, status));
  for (;;) {
    text_t row;
    files_place_t place;
    SBAG_TRY(reader_files_next(d->files, &row, &place, status));
    if (row.bytes == NULL) break;
    /* Of bad rows only the first one's message is kept. */
    int tells = !config->skip_bad_rows || source->bad_rows == 0;
    sbag_code_t code = reader_delimited_row_check(source, row, place, tells ? &why : NULL);
    if (code != SBAG_OK && !config->skip_bad_rows) return status_set(status, code, "%s", why.message);
    if (code != SBAG_OK)
      SBAG_TRY(note_bad(source, d->line_count, &why, status));
    else
      SBAG_TRY(note_good(source, row, status));
    good_rows[place.file] += code == SBAG_OK;
    d->line_count++;
  }
  if (d->line_count == source->bad_rows)
    return status_set(status, SBAG_ERR_FORMAT, "%s: no usable row after %d header lines (%lld bad ones)%s%s",
                      config->paths[0], config->header_lines, (long long)source->bad_rows,
                      source->bad_rows > 0 ? "; the first: " : "", source->first_bad);
  if (config->split_by_order) cut_by_order(source, d->line_count - source->bad_rows);
  if (by_files(config)) cut_by_files(source, good_rows);
  return SBAG_OK;
}

static sbag_code_t scan_files(source_t *source, sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  int64_t *good_rows = NULL;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(config->path_count, sizeof *good_rows), "reader: files",
                      (void **)&good_rows, status));
  sbag_code_t code = scan(source, good_rows, status);
  mem_free(source->mem, good_rows);
  return code;
}

/* What a column has seen of the training rows. */
typedef struct fit {
  vocabulary_t *all;
  int64_t count;
  double mean, squares; /* Welford's running sums */
} fit_t;

static sbag_code_t fit_column(source_t *source, const delimited_column_t *column, files_place_t place,
                              fit_t *fit, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  int64_t index;
  if (has_zscore(c)) {
    double value;
    SBAG_TRY(reader_delimited_row_dense(source, column, place, &value, status));
    double off = value - fit->mean;
    fit->mean += off / (double)++fit->count;
    fit->squares += off * (value - fit->mean);
  }
  if (!has_vocabulary(c)) return SBAG_OK; /* a skipped column need not be among the fields */
  text_t field = ((const delimited_t *)source->state)->fields[c->index], token = field;
  if (c->kind == COLUMN_ONE_HOT) return reader_vocabulary_add(fit->all, token, &index, status);
  for (int64_t n = 0;
       (c->max_length == 0 || n < c->max_length) && reader_text_token(&field, c->separator, &token); n++)
    SBAG_TRY(reader_vocabulary_add(fit->all, token, &index, status));
  return SBAG_OK;
}

/* A constant column has deviation 1: its values become 0. */
static sbag_code_t fit_result(source_t *source, delimited_column_t *column, const fit_t *fit,
                              sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  if (has_zscore(c) && fit->count > 0) {
    double deviation = sqrt(fit->squares / (double)fit->count);
    column->mean = fit->mean;
    column->deviation = deviation > 1e-12 * (1.0 + fabs(fit->mean)) && isfinite(deviation) ? deviation : 1.0;
  }
  if (!has_vocabulary(c)) return SBAG_OK;
  return reader_vocabulary_select(fit->all, c->min_count, c->rows > 0 ? c->rows - 1 : -1, source->mem,
                                  &column->vocabulary, status);
}

static sbag_code_t fit_all(source_t *source, fit_t *fits, sbag_status_t *status) {
  delimited_t *d = source->state;
  for (int i = 0; i < d->column_count; i++)
    if (has_vocabulary(&d->columns[i].c))
      SBAG_TRY(reader_vocabulary_create(source->mem, &fits[i].all, status));
  SBAG_TRY(reader_delimited_rewind(source, status));
  for (int64_t n = 0; n < source->samples[READER_TRAIN]; n++) {
    text_t row;
    files_place_t place;
    SBAG_TRY(reader_delimited_next_row(source, READER_TRAIN, &row, &place, status));
    SBAG_TRY(reader_delimited_row_check(source, row, place, status));
    for (int i = 0; i < d->column_count; i++)
      SBAG_TRY(fit_column(source, &d->columns[i], place, &fits[i], status));
  }
  for (int i = 0; i < d->column_count; i++) SBAG_TRY(fit_result(source, &d->columns[i], &fits[i], status));
  return SBAG_OK;
}

static sbag_code_t fit(source_t *source, sbag_status_t *status) {
  delimited_t *d = source->state;
  fit_t *fits = NULL;
  int needed = 0;
  for (int i = 0; i < d->column_count; i++)
    needed |= has_zscore(&d->columns[i].c) || has_vocabulary(&d->columns[i].c);
  if (!needed) return SBAG_OK;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(d->column_count, sizeof *fits), "reader: fit",
                      (void **)&fits, status));
  sbag_code_t code = fit_all(source, fits, status);
  for (int i = 0; i < d->column_count; i++) reader_vocabulary_destroy(&fits[i].all);
  mem_free(source->mem, fits);
  return code;
}

/* A blob of three words: "zscore/NAME" is SBZSCOR1, u64 transform (reader_transform_t), f64 mean,
 * f64 deviation; "hash/NAME" is SBHASHK1, u64 rows, u64 key, u64 0; "expand/NAME" is SBEXPND1, u64 length of
 * the bags, u64 key, u64 0. */
enum { WORDS_BYTES = 32 };

static sbag_code_t load_words(const source_t *source, const char *kind, const char *name, const char *magic,
                              uint64_t setting, const unsigned char **data, sbag_status_t *status) {
  const reader_blob_t *blob = NULL;
  SBAG_TRY(reader_blobs_find(source->given, kind, name, &blob, status));
  *data = blob->data;
  if (blob->bytes != WORDS_BYTES || memcmp(*data, magic, 8) != 0)
    return status_set(status, SBAG_ERR_FORMAT,
                      "the saved '%s/%s' is damaged: it should be %d bytes from %s on", kind, name,
                      WORDS_BYTES, magic);
  if (reader_blob_get_u64(*data + 8) != setting)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the saved '%s/%s' was made with %s %lld, the configuration says %lld", kind, name,
                      magic == HASH_MAGIC     ? "rows"
                      : magic == EXPAND_MAGIC ? "bags of"
                                              : "transform",
                      (long long)reader_blob_get_u64(*data + 8), (long long)setting);
  return SBAG_OK;
}

/* The state of one column from the blobs given. */
static sbag_code_t load_column(const source_t *source, delimited_column_t *column, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  const unsigned char *data = NULL;
  if (expands(c)) {
    SBAG_TRY(load_words(source, "expand", c->name, EXPAND_MAGIC, (uint64_t)c->expand, &data, status));
    column->expand_key = reader_blob_get_u64(data + 16);
  }
  if (has_zscore(c)) {
    SBAG_TRY(load_words(source, "zscore", c->name, ZSCORE_MAGIC, (uint64_t)c->transform, &data, status));
    column->mean = reader_blob_get_f64(data + 16);
    column->deviation = reader_blob_get_f64(data + 24);
    if (!isfinite(column->mean) || !isfinite(column->deviation) || !(column->deviation > 0.0))
      return status_set(status, SBAG_ERR_FORMAT, "the saved 'zscore/%s' is damaged: mean %g, deviation %g",
                        c->name, column->mean, column->deviation);
  } else if (has_vocabulary(c) || is_class(c)) {
    return reader_vocabulary_load(source->given, c->name, c->min_count, c->rows, source->mem,
                                  &column->vocabulary, status);
  } else if (is_bag(c) && c->mapping == MAPPING_HASH) {
    SBAG_TRY(load_words(source, "hash", c->name, HASH_MAGIC, (uint64_t)c->rows, &data, status));
    column->hash_key = reader_blob_get_u64(data + 16);
  }
  return SBAG_OK;
}

static void make_keys(const source_t *source, delimited_column_t *column) {
  char name[96];
  snprintf(name, sizeof name, "hash of column %s", column->c.name);
  column->hash_key = random_key(source->config->seed, name);
  snprintf(name, sizeof name, "expansion of column %s", column->c.name);
  column->expand_key = random_key(source->config->seed, name);
}

static sbag_code_t save_words(source_t *source, const char *kind, const char *name, const char *magic,
                              uint64_t setting, unsigned char **data, sbag_status_t *status) {
  SBAG_TRY(reader_blobs_add(&source->blobs, source->mem, kind, name, WORDS_BYTES, data, status));
  memcpy(*data, magic, 8);
  reader_blob_put_u64(*data + 8, setting);
  return SBAG_OK;
}

static sbag_code_t save_column(source_t *source, const delimited_column_t *column, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  unsigned char *data = NULL;
  if (expands(c)) {
    SBAG_TRY(save_words(source, "expand", c->name, EXPAND_MAGIC, (uint64_t)c->expand, &data, status));
    reader_blob_put_u64(data + 16, column->expand_key);
  }
  if (has_vocabulary(c) || is_class(c))
    return reader_vocabulary_save(column->vocabulary, c->name, c->min_count, c->rows, &source->blobs,
                                  source->mem, status);
  if (is_bag(c) && c->mapping == MAPPING_HASH) {
    SBAG_TRY(save_words(source, "hash", c->name, HASH_MAGIC, (uint64_t)c->rows, &data, status));
    reader_blob_put_u64(data + 16, column->hash_key);
  } else if (has_zscore(c)) {
    SBAG_TRY(save_words(source, "zscore", c->name, ZSCORE_MAGIC, (uint64_t)c->transform, &data, status));
    reader_blob_put_f64(data + 16, column->mean);
    reader_blob_put_f64(data + 24, column->deviation);
  }
  return SBAG_OK;
}

/* Twice the mean bag and some: a batch's sum stays below that even where a few bags are very long. */
static int64_t room_for_bag(const source_t *source, const delimited_column_t *column) {
  const delimited_t *d = source->state;
  if (column->c.kind == COLUMN_ONE_HOT) return expands(&column->c) ? column->c.expand : 1;
  int64_t usual = 2 * (column->tokens / (d->line_count - source->bad_rows)) + 16;
  return usual < column->tokens_max ? usual : column->tokens_max;
}

static void describe(source_t *source, delimited_column_t *column) {
  if (column->feature < 0) return;
  reader_feature_t *f = &source->features[column->feature];
  memcpy(f->name, column->c.name, sizeof f->name);
  f->multi_hot = column->c.kind == COLUMN_MULTI_HOT || expands(&column->c);
  f->rows = has_vocabulary(&column->c) ? reader_vocabulary_count(column->vocabulary) + 1 : column->c.rows;
  column->rows = f->rows;
  source->bag_room[column->feature] = room_for_bag(source, column);
}

/* A class's number must be a float, as any label. */
static sbag_code_t count_classes(source_t *source, const delimited_column_t *column, sbag_status_t *status) {
  if (!is_class(&column->c)) return SBAG_OK;
  source->class_count = reader_vocabulary_count(column->vocabulary);
  if (source->class_count >= 2 && source->class_count <= 1 << 24) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT,
                    "%s: column %d ('%s') has %lld different labels; 2 to 2^24 would be right",
                    source->config->source.delimited.paths[0], column->c.index, column->c.name,
                    (long long)source->class_count);
}

static sbag_code_t delimited_open(source_t *source, sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  SBAG_TRY(check_config(config, status));
  SBAG_TRY(mem_calloc(source->mem, sizeof(delimited_t), "reader: delimited file", &source->state, status));
  delimited_t *d = source->state;
  SBAG_TRY(make_columns(source, status));
  d->by_order = config->split_by_order || by_files(config);
  for (int i = 0; i < d->column_count; i++) {
    make_keys(source, &d->columns[i]);
    if (source->given != NULL)
      SBAG_TRY(load_column(source, &d->columns[i], status));
    else if (is_class(&d->columns[i].c))
      SBAG_TRY(reader_vocabulary_create(source->mem, &d->columns[i].vocabulary, status));
  }
  source->order = READER_ORDER_WINDOWS;
  source->shuffle_window = config->shuffle_window;
  SBAG_TRY(reader_files_open(config->paths, config->path_count, config->header_lines, source->mem, &d->files,
                             status));
  SBAG_TRY(scan_files(source, status));
  if (source->given == NULL) SBAG_TRY(fit(source, status));
  for (int i = 0; i < d->column_count; i++) {
    describe(source, &d->columns[i]);
    SBAG_TRY(count_classes(source, &d->columns[i], status));
    SBAG_TRY(save_column(source, &d->columns[i], status));
  }
  return SBAG_OK;
}

static void delimited_close(source_t *source) {
  delimited_t *d = source->state;
  if (d == NULL) return;
  reader_files_close(&d->files);
  for (int i = 0; i < d->column_count; i++) reader_vocabulary_destroy(&d->columns[i].vocabulary);
  mem_free(source->mem, d->columns);
  mem_free(source->mem, d->fields);
  mem_free(source->mem, d->bad_lines);
  mem_free(source->mem, d->window.rows);
  mem_free(source->mem, d->window.text);
  mem_free(source->mem, d);
  source->state = NULL;
}

const source_ops_t reader_source_delimited = {.form = BINARY_SAMPLES,
                                              .open = delimited_open,
                                              .close = delimited_close,
                                              .seek = reader_delimited_seek,
                                              .fill = reader_delimited_fill};
