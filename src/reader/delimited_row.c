/* From the text of a row to its label, dense values and bags. Messages count columns as the configuration
 * does, from 0, and lines as an editor does, from 1 with the header. */
#include "reader/delimited.h"
#include "base/random.h"

#include <math.h>
#include <string.h>

/* Beyond this a value does not fit a float. */
static const double VALUE_MAX = 3.0e38;

static const char *path_of(const source_t *source, files_place_t place) {
  return source->config->source.delimited.paths[place.file];
}

static sbag_code_t bad_field(const source_t *source, const reader_column_t *c, files_place_t place,
                             sbag_status_t *status, const char *what, text_t found, const char *right) {
  return status_set(status, SBAG_ERR_FORMAT, "%s:%lld: column %d ('%s'): %s '%.*s'; %s",
                    path_of(source, place), (long long)place.line, c->index, c->name, what,
                    reader_text_shown(found), found.bytes, right);
}

/* The number of the field that a byte of the row lies in. */
static int column_at(text_t row, char delimiter, const char *byte) {
  int column = 0;
  for (const char *at = row.bytes; at < byte; at++) column += *at == delimiter;
  return column;
}

/* Of a row whose fields must be exactly those that it was split into. */
static sbag_code_t check_end(const source_t *source, text_t row, files_place_t place, sbag_status_t *status) {
  const delimited_t *d = source->state;
  const text_t *last = &d->fields[d->field_count - 1];
  int64_t more = row.bytes + row.length - (last->bytes + last->length);
  if (more == 0) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_FORMAT,
      "%s:%lld: column %d: the row goes on behind its last field with '%.*s'; exactly %d fields "
      "would be right",
      path_of(source, place), (long long)place.line, d->field_count,
      reader_text_shown((text_t){last->bytes + last->length, more}), last->bytes + last->length,
      d->field_count);
}

static sbag_code_t split_row(const source_t *source, text_t row, files_place_t place, sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  const delimited_t *d = source->state;
  const char *nul = row.length > 0 ? memchr(row.bytes, '\0', (size_t)row.length) : NULL;
  if (nul != NULL)
    return status_set(status, SBAG_ERR_FORMAT,
                      "%s:%lld: column %d: the row has a NUL byte; it should be text", path_of(source, place),
                      (long long)place.line, column_at(row, config->delimiter, nul));
  int found = reader_text_split(row, config->delimiter, d->fields, d->field_count);
  if (found == d->field_count)
    return config->field_count == 0 ? SBAG_OK : check_end(source, row, place, status);
  const reader_column_t *c = NULL; /* the first that is missing */
  for (int i = 0; i < d->column_count; i++) {
    const reader_column_t *other = &d->columns[i].c;
    if (other->kind != COLUMN_SKIP && other->index >= found && (c == NULL || other->index < c->index))
      c = other;
  }
  return status_set(status, SBAG_ERR_FORMAT,
                    "%s:%lld: column %d ('%s'): missing, the row has %d fields; %s %d would be right",
                    path_of(source, place), (long long)place.line, c->index, c->name, found,
                    config->field_count == 0 ? "at least" : "exactly", d->field_count);
}

static sbag_code_t label_of(const source_t *source, const reader_column_t *c, files_place_t place,
                            float *label, sbag_status_t *status) {
  text_t field = ((const delimited_t *)source->state)->fields[c->index];
  double value;
  if (!reader_text_number(field, &value) || (value != 0.0 && value != 1.0))
    return bad_field(source, c, place, status, "the label is", field, "0 or 1 would be right");
  *label = (float)value;
  return SBAG_OK;
}

static sbag_code_t weight_of(const source_t *source, const reader_column_t *c, files_place_t place,
                             float *weight, sbag_status_t *status) {
  text_t field = ((const delimited_t *)source->state)->fields[c->index];
  double value;
  if (!reader_text_number(field, &value) || !(value >= 0.0) || value > VALUE_MAX)
    return bad_field(source, c, place, status, "the sample's weight is", field,
                     "a number from 0 to 3e38 would be right");
  *weight = (float)value;
  return SBAG_OK;
}

/* As text; whether it is one of the classes is known where these are given, or all rows have been seen. */
static sbag_code_t class_of(const source_t *source, const delimited_column_t *column, files_place_t place,
                            int known, float *label, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  *label = 0.0F;
  if (source->config->source.delimited.unlabelled) return SBAG_OK;
  text_t field = ((const delimited_t *)source->state)->fields[c->index];
  if (field.length == 0 || field.length > DELIMITED_CLASS_BYTES)
    return bad_field(source, c, place, status, field.length == 0 ? "no label:" : "the label is long:", field,
                     "1 to 1000 bytes would be right");
  int64_t index = known ? reader_vocabulary_find(column->vocabulary, field) : 0;
  if (index < 0)
    return bad_field(source, c, place, status, "an unknown label:", field,
                     "one that the model was trained with would be right");
  *label = (float)index;
  return SBAG_OK;
}

sbag_code_t reader_delimited_row_dense(const source_t *source, const delimited_column_t *column,
                                       files_place_t place, double *value, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  text_t field = ((const delimited_t *)source->state)->fields[c->index];
  *value = c->missing;
  if (field.length > 0 && !reader_text_number(field, value))
    return bad_field(source, c, place, status, "not a number:", field, "a decimal number would be right");
  if (fabs(*value) > VALUE_MAX)
    return bad_field(source, c, place, status, "too large:", field, "a float ends at 3e38");
  if (c->transform == TRANSFORM_LOG1P || c->transform == TRANSFORM_LOG1P_ZSCORE)
    *value = log1p(*value > 0.0 ? *value : 0.0);
  return SBAG_OK;
}

int64_t reader_delimited_row_tokens(const source_t *source, const delimited_column_t *column) {
  const reader_column_t *c = &column->c;
  text_t field = ((const delimited_t *)source->state)->fields[c->index], token;
  int64_t n = 0;
  while ((c->max_length == 0 || n < c->max_length) && reader_text_token(&field, c->separator, &token)) n++;
  int64_t rows = n;
  for (int64_t g = 2; g <= c->ngrams && g <= n; g++) rows += n - g + 1;
  return rows;
}

/* An empty one-hot field is a token like others for hash and vocabulary; identity refuses it. */
static sbag_code_t row_of(const source_t *source, const delimited_column_t *column, text_t token,
                          files_place_t place, int64_t *row, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  if (c->hexadecimal && !reader_text_hexadecimal(token))
    return bad_field(source, c, place, status, "not a category:", token,
                     "an empty field or up to 16 hexadecimal digits would be right");
  if (c->mapping == MAPPING_HASH) {
    *row = (int64_t)(reader_text_hash(column->hash_key, token) % (uint64_t)c->rows);
  } else if (c->mapping == MAPPING_VOCABULARY) {
    *row = column->vocabulary == NULL ? 0 : reader_vocabulary_find(column->vocabulary, token) + 1;
  } else {
    if (!reader_text_integer(token, row))
      return bad_field(source, c, place, status, "not a row number:", token,
                       "digits alone would be right (or mapping hash or vocabulary)");
    if (*row >= c->rows)
      return status_set(status, SBAG_ERR_FORMAT,
                        "%s:%lld: column %d ('%s'): row %lld is out of range; the table has %lld rows, 0 to "
                        "%lld would be right",
                        path_of(source, place), (long long)place.line, c->index, c->name, (long long)*row,
                        (long long)c->rows, (long long)c->rows - 1);
  }
  return SBAG_OK;
}

/* MLPerf's synthetic multi-hot data (torchrec_dlrm/multi_hot.py of facebookresearch/dlrm, "uniform"): every
 * row of a table stands for a bag of itself and of rows drawn uniformly once and for all. There a table of
 * draws from numpy's generator holds them; here each is a function of the column's key, the row and its
 * place. */
static sbag_code_t expand(const delimited_column_t *column, int64_t row, slot_t *slot,
                          sbag_status_t *status) {
  int64_t *room, count = column->c.expand;
  SBAG_TRY(reader_slot_room(slot, column->feature, count, &room, status));
  room[0] = row;
  for (int64_t i = 1; i < count; i++)
    room[i] = random_below(column->expand_key, (uint64_t)row * (uint64_t)count + (uint64_t)i, column->rows);
  slot->bags[column->feature].nnz += count;
  return SBAG_OK;
}

/* The column's bag; with slot NULL it is only checked. */
static sbag_code_t bag_of(const source_t *source, const delimited_column_t *column, files_place_t place,
                          slot_t *slot, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  text_t field = ((const delimited_t *)source->state)->fields[c->index], token = field;
  int64_t row;
  if (c->kind == COLUMN_ONE_HOT) {
    SBAG_TRY(row_of(source, column, token, place, &row, status));
    if (slot == NULL) return SBAG_OK;
    return c->expand > 1 ? expand(column, row, slot, status)
                         : reader_slot_push(slot, column->feature, row, status);
  }
  if (slot != NULL && (c->ngrams > 1 || c->lowercase))
    return reader_delimited_ngrams(column, field, slot, status);
  for (int64_t n = 0;
       (c->max_length == 0 || n < c->max_length) && reader_text_token(&field, c->separator, &token); n++) {
    SBAG_TRY(row_of(source, column, token, place, &row, status));
    if (slot != NULL) SBAG_TRY(reader_slot_push(slot, column->feature, row, status));
  }
  return SBAG_OK;
}

sbag_code_t reader_delimited_row_check(const source_t *source, text_t row, files_place_t place,
                                       sbag_status_t *status) {
  const delimited_t *d = source->state;
  SBAG_TRY(split_row(source, row, place, status));
  for (int i = 0; i < d->column_count; i++) {
    const delimited_column_t *column = &d->columns[i];
    float label;
    double value;
    if (column->c.kind == COLUMN_LABEL)
      SBAG_TRY(label_of(source, &column->c, place, &label, status));
    else if (column->c.kind == COLUMN_WEIGHT)
      SBAG_TRY(weight_of(source, &column->c, place, &label, status));
    else if (column->c.kind == COLUMN_CLASS)
      SBAG_TRY(class_of(source, column, place, source->given != NULL, &label, status));
    else if (column->c.kind == COLUMN_DENSE)
      SBAG_TRY(reader_delimited_row_dense(source, column, place, &value, status));
    else if (column->feature >= 0 && (column->c.mapping == MAPPING_IDENTITY || column->c.hexadecimal))
      SBAG_TRY(bag_of(source, column, place, NULL, status));
  }
  return SBAG_OK;
}

sbag_code_t reader_delimited_row_parse(const source_t *source, text_t row, files_place_t place, slot_t *slot,
                                       sbag_status_t *status) {
  const delimited_t *d = source->state;
  SBAG_TRY(split_row(source, row, place, status));
  *reader_slot_label(slot) = 0.0f; /* where none is read */
  for (int i = 0; i < d->column_count; i++) {
    const delimited_column_t *column = &d->columns[i];
    if (column->c.kind == COLUMN_LABEL) {
      SBAG_TRY(label_of(source, &column->c, place, reader_slot_label(slot), status));
    } else if (column->c.kind == COLUMN_WEIGHT) {
      SBAG_TRY(weight_of(source, &column->c, place, reader_slot_weight(slot), status));
    } else if (column->c.kind == COLUMN_CLASS) {
      SBAG_TRY(class_of(source, column, place, 1, reader_slot_label(slot), status));
    } else if (column->c.kind == COLUMN_DENSE) {
      double value;
      SBAG_TRY(reader_delimited_row_dense(source, column, place, &value, status));
      reader_slot_dense(slot)[column->dense] = (float)((value - column->mean) / column->deviation);
    } else if (column->feature >= 0) {
      SBAG_TRY(bag_of(source, column, place, slot, status));
    }
  }
  reader_slot_end_sample(slot);
  return SBAG_OK;
}
