/* What stands behind the HDF5 part of a checkpoint: a list of the pieces of every array with their checksums,
 * a digest of everything else, and a footer of fixed size that finds the list. HDF5 and h5py do not look
 * behind their own end of file. This file is bytes in memory only; gate.h reads them from a file.
 *
 *   [HDF5 part, padded to 8 bytes][list][footer of 64 bytes]
 *
 * All numbers are little-endian, 8 bytes, unsigned.
 *   list:    array count, digest low, digest high, zero; then for each array, in the order of their offsets:
 *            name bytes (with its zero and padding to 8), offset, rows, bytes of a row, rows of a piece,
 *            piece count; the name; XXH3-64 of each piece
 *   footer:  "SBAGCKPT", format version, bytes of the file, offset of the list, bytes of the list, XXH3-64 of
 *            the list, zero, XXH3-64 of the footer up to here
 * The digest is XXH3-128 over all bytes in front of the list that belong to no array. */
#ifndef CHECKPOINT_TRAILER_H
#define CHECKPOINT_TRAILER_H

#include "base/mem.h"
#include "checkpoint/checksum.h"

enum { TRAILER_VERSION = 1, TRAILER_FOOTER_BYTES = 64 };

typedef struct trailer_array {
  const char *name;
  int64_t offset, rows, row_bytes, piece_rows; /* the offset of no rows is 0 */
  uint64_t *sums;                              /* [trailer_piece_count] */
} trailer_array_t;

typedef struct trailer {
  trailer_array_t *arrays; /* by offset */
  int64_t count;
  checksum_digest_t digest;
} trailer_t;

typedef struct trailer_footer {
  int64_t list_offset, list_bytes;
  uint64_t list_sum;
} trailer_footer_t;

int64_t trailer_piece_count(const trailer_array_t *array);
/* Rows [first, + rows) of a piece. */
void trailer_piece(const trailer_array_t *array, int64_t piece, int64_t *first, int64_t *rows);

/* ---- writing ---- */

/* Where the list begins behind so many bytes of HDF5. */
int64_t trailer_list_offset(int64_t hdf5_bytes);
/* Bytes of list and footer. */
int64_t trailer_bytes(const trailer_t *trailer);
/* Writes trailer_bytes to out; the list will stand at list_offset. */
void trailer_encode(const trailer_t *trailer, int64_t list_offset, void *out);

/* ---- reading; nothing in the bytes is trusted ---- */

/* Whether the footer's first bytes are ours. */
int trailer_is_footer(const void *bytes);
/* A footer of a file of file_bytes. `path` is for messages. */
sbag_code_t trailer_decode_footer(const void *bytes, int64_t file_bytes, const char *path,
                                  trailer_footer_t *footer, sbag_status_t *status);
/* The list; names and checksums stay in `list`, which must outlive the trailer and be aligned to 8 bytes. */
sbag_code_t trailer_decode(mem_t *mem, const trailer_footer_t *footer, void *list, const char *path,
                           trailer_t *trailer, sbag_status_t *status);
void trailer_clear(mem_t *mem, trailer_t *trailer);

#endif
