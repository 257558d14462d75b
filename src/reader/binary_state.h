/* The state of the source of the binary form, shared by the files that open it (binary_open.c) and stream it
 * (binary.c). */
#ifndef READER_BINARY_STATE_H
#define READER_BINARY_STATE_H

#include "reader/binary.h"
#include "reader/source.h"

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
  float *labels, *dense, *weights; /* weights: where there are any */
  int64_t label_capacity, dense_capacity, weight_capacity;
  int64_t *rows; /* of a batch: their places in the window */
  int64_t row_capacity;
} binary_t;

/* Reads what the file holds, and checks that it fits together. */
sbag_code_t reader_binary_open(source_t *source, sbag_status_t *status);

#endif
