/* The state of a delimited file, shared by the files that fit it (delimited.c), parse its rows
 * (delimited_row.c) and stream it in windows (delimited_window.c). */
#ifndef READER_DELIMITED_H
#define READER_DELIMITED_H

#include "reader/files.h"
#include "reader/source.h"
#include "reader/vocabulary.h"

enum { DELIMITED_NGRAMS_MAX = 8, DELIMITED_CLASS_BYTES = 1000 };

typedef struct delimited_column {
  reader_column_t c;
  int dense, feature; /* which dense value or feature it is; -1 */
  double mean, deviation;
  vocabulary_t *vocabulary;
  uint64_t hash_key, expand_key;
  int64_t rows;               /* of the table; known when the file is open */
  int64_t tokens, tokens_max; /* multi-hot: of all good rows, of the longest bag */
} delimited_column_t;

/* One row of the window, as text: where it lies there and where it stood. */
typedef struct delimited_row {
  int64_t begin, length;
  files_place_t place;
} delimited_row_t;

/* The rows of this rank among a window of the split's rows, at their places in the epoch's order. */
typedef struct delimited_window {
  int64_t first, count; /* positions of the epoch [first, first + count) */
  int64_t size;         /* of all windows but the last */
  delimited_row_t *rows;
  char *text;
  int64_t row_capacity, text_bytes, text_capacity;
} delimited_window_t;

typedef struct delimited {
  files_t *files;
  delimited_column_t *columns;
  int column_count, field_count; /* field_count: the highest used column + 1 */
  text_t *fields;
  int64_t *bad_lines; /* ascending */
  int64_t bad_capacity;
  int64_t line_count;         /* all data lines */
  int64_t good_bytes;         /* of all good rows */
  int by_order;               /* or by files, which are in that order */
  int64_t cut[READER_SPLITS]; /* then: good rows before cut[s] belong to splits up to s */
  /* Where the stream is: */
  int64_t line, bad_passed;
  reader_split_t split;
  int shuffled;
  int64_t epoch, position;
  delimited_window_t window;
} delimited_t;

/* Splits a line into d->fields; refuses rows with too few or too many fields, NUL bytes or values that
 * their columns do not allow. */
sbag_code_t reader_delimited_row_check(const source_t *source, text_t row, files_place_t place,
                                       sbag_status_t *status);
/* Parses a row into the slot's current sample. */
sbag_code_t reader_delimited_row_parse(const source_t *source, text_t row, files_place_t place, slot_t *slot,
                                       sbag_status_t *status);
/* How many rows a multi-hot column's bag has, of a row that has been split. */
int64_t reader_delimited_row_tokens(const source_t *source, const delimited_column_t *column);
/* The rows of the n-grams of a field that is hashed, into the current sample. */
sbag_code_t reader_delimited_ngrams(const delimited_column_t *column, text_t field, slot_t *slot,
                                    sbag_status_t *status);
/* A dense column's value before the z-score, of a row that has been split. */
sbag_code_t reader_delimited_row_dense(const source_t *source, const delimited_column_t *column,
                                       files_place_t place, double *value, sbag_status_t *status);

/* The split of a data line (counted from 0 over all files, without headers) that is the good_row-th good one.
 */
reader_split_t reader_delimited_split_of(const source_t *source, int64_t line, int64_t good_row);
/* Back to the first data line. */
sbag_code_t reader_delimited_rewind(source_t *source, sbag_status_t *status);
/* The next good row of a split; an error if the files end before it. */
sbag_code_t reader_delimited_next_row(source_t *source, reader_split_t split, text_t *row,
                                      files_place_t *place, sbag_status_t *status);

sbag_code_t reader_delimited_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                                  sbag_status_t *status);
sbag_code_t reader_delimited_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                                  sbag_status_t *status);

#endif
