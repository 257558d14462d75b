/* An open checkpoint, for the files that read it. */
#ifndef CHECKPOINT_READER_H
#define CHECKPOINT_READER_H

#include "checkpoint/direct.h"
#include "checkpoint/layout.h"
#include "checkpoint/trailer.h"
#include <hdf5.h>

typedef struct reader_array {
  char *name;
  checkpoint_array_t array;
  int64_t offset;                /* of the first row in the file, as HDF5 tells it; 0 without rows */
  const trailer_array_t *pieces; /* NULL in a foreign file */
} reader_array_t;

struct checkpoint_reader {
  comm_t *comm;
  mem_t *mem;
  char *path;
  hid_t file;      /* negative while it is not open */
  int data;        /* the same file for the rows, -1 while it is not open */
  direct_t direct; /* and again for many at a time; file: -1 where it is not, -2 before it is tried */
  int gated;       /* there is a trailer; else a foreign file that the caller trusts */
  int64_t bytes;
  char footer[TRAILER_FOOTER_BYTES];
  int64_t range[2]; /* what the ranks compare */
  void *list;       /* the trailer's names and checksums */
  trailer_t trailer;
  reader_array_t *arrays; /* sorted by name */
  int64_t count, capacity, chunk_bytes;
  void *map;                /* of the whole file; NULL: none */
  checkpoint_pause_t pause; /* NULL: none */
  void *pauser;
  /* The piece that was read last for a part of its rows, checked. */
  void *piece;
  size_t piece_capacity;
  const trailer_array_t *piece_array; /* NULL: there is none */
  int64_t piece_index;
};

/* Bytes of the file that will be read in order; those before `next` have been wished for. */
typedef struct reader_ahead {
  int64_t next, end;
} reader_ahead_t;

reader_ahead_t reader_ahead(const trailer_array_t *array, int64_t first_row, int64_t rows);
/* Byte `at` is about to be read. */
void reader_look_ahead(const checkpoint_reader_t *reader, reader_ahead_t *ahead, int64_t at);

/* A whole piece, checked. */
sbag_code_t reader_read_piece(const checkpoint_reader_t *reader, const trailer_array_t *array, int64_t piece,
                              void *out, sbag_status_t *status);
/* Pieces [begin, end), checked, the first at `out`. What fails first in the file is told. */
sbag_code_t reader_read_pieces(checkpoint_reader_t *reader, const trailer_array_t *array, int64_t begin,
                               int64_t end, reader_ahead_t *ahead, void *out, sbag_status_t *status);
/* Holds a whole piece, which is at `data`, against its checksum. */
sbag_code_t reader_check_piece(const checkpoint_reader_t *reader, const trailer_array_t *array, int64_t piece,
                               const void *data, sbag_status_t *status);
void reader_unmap(checkpoint_reader_t *reader);

/* NULL if there is none. */
reader_array_t *reader_find(const checkpoint_reader_t *reader, const char *name);

#endif
