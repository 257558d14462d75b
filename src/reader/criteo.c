/* Criteo's click logs as columns of a delimited file. */
#include "reader/criteo.h"

#include <stdio.h>

static int64_t of(const int64_t *values, int count, int i) {
  return values[count > 1 ? i : 0];
}

void reader_criteo_columns(const criteo_options_t *o, reader_column_t columns[CRITEO_COLUMNS]) {
  columns[0] = (reader_column_t){.name = "label", .kind = COLUMN_LABEL};
  for (int i = 1; i <= CRITEO_INTEGERS; i++) {
    columns[i] = (reader_column_t){.index = i, .kind = COLUMN_DENSE, .transform = o->transform};
    snprintf(columns[i].name, sizeof columns[i].name, "I%d", i);
  }
  for (int i = 0; i < CRITEO_CATEGORIES; i++) {
    reader_column_t *c = &columns[1 + CRITEO_INTEGERS + i];
    *c = (reader_column_t){.index = 1 + CRITEO_INTEGERS + i,
                           .kind = COLUMN_ONE_HOT,
                           .mapping = o->mapping,
                           .rows = of(o->rows, o->row_count, i),
                           .min_count = o->min_count,
                           .expand = of(o->expand, o->expand_count, i),
                           .hexadecimal = 1};
    snprintf(c->name, sizeof c->name, "C%d", i + 1);
  }
}
