/* From the text of a row to its label, dense values and bags. Messages count columns as the configuration
 * does, from 0, and lines as an editor does, from 1 with the header. */
#include "reader/delimited.h"

#include <math.h>
#include <string.h>

/* Beyond this a value does not fit a float. */
static const double VALUE_MAX = 3.0e38;

static sbag_code_t bad_field(const source_t *source, const reader_column_t *c, int64_t line,
                             sbag_status_t *status, const char *what, text_t found, const char *right) {
  return status_set(status, SBAG_ERR_FORMAT, "%s:%lld: column %d ('%s'): %s '%.*s'; %s",
                    source->config->source.delimited.path, (long long)line, c->index, c->name, what,
                    reader_text_shown(found), found.bytes, right);
}

static sbag_code_t split_row(const source_t *source, text_t row, int64_t line, sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  const delimited_t *d = source->state;
  if (row.length > 0 && memchr(row.bytes, '\0', (size_t)row.length) != NULL)
    return status_set(status, SBAG_ERR_FORMAT, "%s:%lld: the row has a NUL byte; it should be text",
                      config->path, (long long)line);
  int found = reader_text_split(row, config->delimiter, d->fields, d->field_count);
  if (found == d->field_count) return SBAG_OK;
  const reader_column_t *c = NULL; /* the first that is missing */
  for (int i = 0; i < d->column_count; i++) {
    const reader_column_t *other = &d->columns[i].c;
    if (other->kind != COLUMN_SKIP && other->index >= found && (c == NULL || other->index < c->index))
      c = other;
  }
  return status_set(status, SBAG_ERR_FORMAT,
                    "%s:%lld: column %d ('%s'): missing, the row has %d fields; at least %d would be right",
                    config->path, (long long)line, c->index, c->name, found, d->field_count);
}

static sbag_code_t label_of(const source_t *source, const reader_column_t *c, int64_t line, float *label,
                            sbag_status_t *status) {
  text_t field = ((const delimited_t *)source->state)->fields[c->index];
  double value;
  if (!reader_text_number(field, &value) || (value != 0.0 && value != 1.0))
    return bad_field(source, c, line, status, "the label is", field, "0 or 1 would be right");
  *label = (float)value;
  return SBAG_OK;
}

sbag_code_t reader_delimited_row_dense(const source_t *source, const delimited_column_t *column, int64_t line,
                                       double *value, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  text_t field = ((const delimited_t *)source->state)->fields[c->index];
  *value = c->missing;
  if (field.length > 0 && !reader_text_number(field, value))
    return bad_field(source, c, line, status, "not a number:", field, "a decimal number would be right");
  if (fabs(*value) > VALUE_MAX)
    return bad_field(source, c, line, status, "too large:", field, "a float ends at 3e38");
  if (c->transform == TRANSFORM_LOG1P || c->transform == TRANSFORM_LOG1P_ZSCORE)
    *value = log1p(*value > 0.0 ? *value : 0.0);
  return SBAG_OK;
}

int64_t reader_delimited_row_tokens(const source_t *source, const delimited_column_t *column) {
  const reader_column_t *c = &column->c;
  text_t field = ((const delimited_t *)source->state)->fields[c->index], token;
  int64_t n = 0;
  while ((c->max_length == 0 || n < c->max_length) && reader_text_token(&field, c->separator, &token)) n++;
  return n;
}

/* An empty one-hot field is a token like others for hash and vocabulary; identity refuses it. */
static sbag_code_t row_of(const source_t *source, const delimited_column_t *column, text_t token,
                          int64_t line, int64_t *row, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  if (c->mapping == MAPPING_HASH) {
    *row = (int64_t)(reader_text_hash(column->hash_key, token) % (uint64_t)c->rows);
  } else if (c->mapping == MAPPING_VOCABULARY) {
    *row = column->vocabulary == NULL ? 0 : reader_vocabulary_find(column->vocabulary, token) + 1;
  } else {
    if (!reader_text_integer(token, row))
      return bad_field(source, c, line, status, "not a row number:", token,
                       "digits alone would be right (or mapping hash or vocabulary)");
    if (*row >= c->rows)
      return status_set(status, SBAG_ERR_FORMAT,
                        "%s:%lld: column %d ('%s'): row %lld is out of range; the table has %lld rows, 0 to "
                        "%lld would be right",
                        source->config->source.delimited.path, (long long)line, c->index, c->name,
                        (long long)*row, (long long)c->rows, (long long)c->rows - 1);
  }
  return SBAG_OK;
}

/* The column's bag; with slot NULL it is only checked. */
static sbag_code_t bag_of(const source_t *source, const delimited_column_t *column, int64_t line,
                          slot_t *slot, sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  text_t field = ((const delimited_t *)source->state)->fields[c->index], token = field;
  int64_t row;
  if (c->kind == COLUMN_ONE_HOT) {
    SBAG_TRY(row_of(source, column, token, line, &row, status));
    return slot == NULL ? SBAG_OK : reader_slot_push(slot, column->feature, row, status);
  }
  for (int64_t n = 0;
       (c->max_length == 0 || n < c->max_length) && reader_text_token(&field, c->separator, &token); n++) {
    SBAG_TRY(row_of(source, column, token, line, &row, status));
    if (slot != NULL) SBAG_TRY(reader_slot_push(slot, column->feature, row, status));
  }
  return SBAG_OK;
}

sbag_code_t reader_delimited_row_check(const source_t *source, text_t row, int64_t line,
                                       sbag_status_t *status) {
  const delimited_t *d = source->state;
  SBAG_TRY(split_row(source, row, line, status));
  for (int i = 0; i < d->column_count; i++) {
    const delimited_column_t *column = &d->columns[i];
    float label;
    double value;
    if (column->c.kind == COLUMN_LABEL)
      SBAG_TRY(label_of(source, &column->c, line, &label, status));
    else if (column->c.kind == COLUMN_DENSE)
      SBAG_TRY(reader_delimited_row_dense(source, column, line, &value, status));
    else if (column->feature >= 0 && column->c.mapping == MAPPING_IDENTITY)
      SBAG_TRY(bag_of(source, column, line, NULL, status));
  }
  return SBAG_OK;
}

sbag_code_t reader_delimited_row_parse(const source_t *source, text_t row, int64_t line, slot_t *slot,
                                       sbag_status_t *status) {
  const delimited_t *d = source->state;
  SBAG_TRY(split_row(source, row, line, status));
  for (int i = 0; i < d->column_count; i++) {
    const delimited_column_t *column = &d->columns[i];
    if (column->c.kind == COLUMN_LABEL) {
      SBAG_TRY(label_of(source, &column->c, line, reader_slot_label(slot), status));
    } else if (column->c.kind == COLUMN_DENSE) {
      double value;
      SBAG_TRY(reader_delimited_row_dense(source, column, line, &value, status));
      reader_slot_dense(slot)[column->dense] = (float)((value - column->mean) / column->deviation);
    } else if (column->feature >= 0) {
      SBAG_TRY(bag_of(source, column, line, slot, status));
    }
  }
  reader_slot_end_sample(slot);
  return SBAG_OK;
}
