/* Criteo's click logs as columns of a delimited file: 40 fields between tabs, which are a label, 13 integers
 * I1 to I13 and 26 categories C1 to C26 of up to 16 hexadecimal digits. An empty field is a missing value. */
#ifndef READER_CRITEO_H
#define READER_CRITEO_H

#include "reader/reader.h"

enum { CRITEO_INTEGERS = 13, CRITEO_CATEGORIES = 26, CRITEO_COLUMNS = 40 };

/* An array of one element stands for 26 equal ones. */
typedef struct criteo_options {
  reader_transform_t transform; /* of the integers */
  reader_mapping_t mapping;     /* of the categories: MAPPING_HASH or MAPPING_VOCABULARY */
  int64_t min_count;            /* vocabulary: rarer categories go to row 0 */
  const int64_t *rows;          /* [row_count] as reader_column_t's */
  int row_count;
  const int64_t *expand; /* [expand_count] as reader_column_t's: MLPerf's bag sizes */
  int expand_count;
} criteo_options_t;

/* TRANSFORM_LOG1P is what facebookresearch/dlrm, and with it MLPerf, makes of an integer: log(1 + x), where
 * missing and negative values count as 0 (its data_utils.py). An empty category is a category of its own. */
void reader_criteo_columns(const criteo_options_t *options, reader_column_t columns[CRITEO_COLUMNS]);

#endif
