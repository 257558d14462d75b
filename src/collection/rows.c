/* A collection's rows, seen from outside of steps. A table or a state that is not there is the error of one
 * rank, of which the others hear at once: they are in the same call. */
#include "collection/collection.h"

enum { WEIGHT = -1, NO_STATE = -2 };

/* `state` as the public calls take it, where the weight is none. */
static int only_state(int state) {
  return state == WEIGHT ? NO_STATE : state;
}

typedef sbag_code_t (*decline_t)(exchange_t *exchange, sbag_code_t local, sbag_status_t *status);

/* The array, or by way of `decline` everybody's error. */
static sbag_code_t find(sbag_collection_h c, int table, int state, decline_t decline, exchange_rows_t *array,
                        sbag_status_t *status) {
  sbag_status_t own; /* agreement needs the message even where the caller wants none */
  status_clear(&own);
  sbag_code_t code = collection_array(c, table, state, array, &own);
  if (code == SBAG_OK) return SBAG_OK;
  code = decline(c->exchange, code, &own);
  if (status != NULL) *status = own;
  return code;
}

static sbag_code_t read_array(sbag_collection_h c, int table, int state, const int64_t *rows, int64_t count,
                              void *values, sbag_status_t *status) {
  exchange_rows_t a;
  SBAG_TRY(find(c, table, state, exchange_decline_rows, &a, status));
  return exchange_read_rows(c->exchange, &a, rows, count, values, status);
}

static sbag_code_t write_array(sbag_collection_h c, int table, int state, const int64_t *rows, int64_t count,
                               const void *values, sbag_status_t *status) {
  exchange_rows_t a;
  SBAG_TRY(find(c, table, state, exchange_decline_rows, &a, status));
  return exchange_write_rows(c->exchange, &a, rows, count, values, status);
}

sbag_code_t sbag_collection_read_rows(sbag_collection_h collection, int table, const int64_t *rows,
                                      int64_t count, void *values, sbag_status_t *status) {
  return read_array(collection, table, WEIGHT, rows, count, values, status);
}

sbag_code_t sbag_collection_write_rows(sbag_collection_h collection, int table, const int64_t *rows,
                                       int64_t count, const void *values, sbag_status_t *status) {
  return write_array(collection, table, WEIGHT, rows, count, values, status);
}

sbag_code_t sbag_collection_read_state(sbag_collection_h collection, int table, int state,
                                       const int64_t *rows, int64_t count, void *values,
                                       sbag_status_t *status) {
  return read_array(collection, table, only_state(state), rows, count, values, status);
}

sbag_code_t sbag_collection_write_state(sbag_collection_h collection, int table, int state,
                                        const int64_t *rows, int64_t count, const void *values,
                                        sbag_status_t *status) {
  return write_array(collection, table, only_state(state), rows, count, values, status);
}

sbag_code_t sbag_collection_read_range(sbag_collection_h collection, int table, int state, int64_t first_row,
                                       int64_t count, void *values, sbag_status_t *status) {
  exchange_rows_t a;
  SBAG_TRY(find(collection, table, state, exchange_decline_range, &a, status));
  return exchange_read_range(collection->exchange, &a, first_row, count, values, status);
}

sbag_code_t sbag_collection_write_range(sbag_collection_h collection, int table, int state, int64_t first_row,
                                        int64_t count, const void *values, sbag_status_t *status) {
  exchange_rows_t a;
  SBAG_TRY(find(collection, table, state, exchange_decline_range, &a, status));
  return exchange_write_range(collection->exchange, &a, first_row, count, values, status);
}
