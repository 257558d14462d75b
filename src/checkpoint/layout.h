/* What writing and reading share, without HDF5: how an array's rows are walked, and what a writer has been
 * told. */
#ifndef CHECKPOINT_LAYOUT_H
#define CHECKPOINT_LAYOUT_H

#include "checkpoint/checkpoint.h"

/* This rank's walk over an array: chunk c of chunk_count (the same on every rank) is rows
 * [layout_chunk_first, + layout_chunk_rows), which may be none. */
typedef struct layout_walk {
  int64_t first, rows; /* this rank's block */
  int64_t rows_per_chunk, chunk_count;
} layout_walk_t;

enum { LAYOUT_CHUNK_BYTES = 16 << 20, LAYOUT_PIECE_BYTES = 1 << 20 };
/* Blocks begin at multiples of piece_rows. A chunk is a number of whole pieces, or a part of one where
 * `whole` is 0; it has chunk_bytes at most, or one row, or one piece where `whole`. */
layout_walk_t layout_walk(const checkpoint_array_t *array, int64_t piece_rows, int whole, int64_t chunk_bytes,
                          int rank, int size);
/* The place of a rank in the walk over the index-th array: an array with fewer pieces than there are ranks
 * begins on another rank than its neighbour, or rank 0 would have all the small ones. */
int layout_turn(const checkpoint_array_t *array, int64_t piece_rows, int64_t index, int rank, int size);
/* Rows of a piece, which has a checksum of its own: so many that it has piece_bytes at most, or one. It does
 * not depend on the number of ranks. */
int64_t layout_piece_rows(const checkpoint_array_t *array, int64_t piece_bytes);
int64_t layout_chunk_first(const layout_walk_t *walk, int64_t chunk);
int64_t layout_chunk_rows(const layout_walk_t *walk, int64_t chunk);

/* Bytes of one row, and of the whole array. */
int64_t layout_row_bytes(const checkpoint_array_t *array);
int64_t layout_array_bytes(const checkpoint_array_t *array);

/* The attribute of the file that tells a checkpoint of ours even where its trailer is gone. */
#define LAYOUT_MARK "checkpoint_format"

typedef enum layout_kind { LAYOUT_ARRAY, LAYOUT_BLOB, LAYOUT_TEXT, LAYOUT_INT, LAYOUT_REAL } layout_kind_t;

/* One declaration. */
typedef struct layout_item {
  layout_kind_t kind;
  char *name;               /* of the dataset, or of the object that has the attribute */
  char *key;                /* of the attribute; NULL for datasets */
  checkpoint_array_t array; /* datasets */
  checkpoint_fill_t fill;   /* LAYOUT_ARRAY */
  checkpoint_own_t own;     /* likewise; may be NULL */
  void *user;
  const void *data; /* LAYOUT_BLOB, on rank 0 */
  char *text;
  int64_t integer;
  double real;
} layout_item_t;

/* A path of parts that are neither empty nor "." nor "..", separated by '/'. */
sbag_code_t layout_check_name(const char *name, sbag_status_t *status);

#endif
