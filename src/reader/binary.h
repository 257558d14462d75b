/* The binary form of a reader's data: what convert.c writes and the source in binary.c reads. A file of
 * src/checkpoint. Its attribute form says what is in it: samples, or what a source draws its samples from,
 * anew in every epoch (source_ops_t.save). Samples are these arrays, SPLIT being train, valid or test, n its
 * samples (0 is allowed):
 *
 *   labels/SPLIT                 f32 [n]
 *   dense/SPLIT                  f32 [n][dense_count], after their transforms; none where dense_count is 0
 *   features/NAME/values/SPLIT   i32, or i64 where the table has 2^31 rows or more: the rows that samples
 * look up: [n] for one-hot features, [n][bag_length], or all bags side by side features/NAME/offsets/SPLIT
 * i64 [n + 1], where bags differ in length: bag i is values[offsets[i]] up to offsets[i + 1] reader/BLOB the
 * reader's fitted state (reader_blob_t), vocabularies among it
 *
 * Attributes of the file: samples_format (BINARY_FORMAT; 1 had neither form nor class_count), form, version,
 * source (the config's name), dense_count, feature_count, class_count (0: labels are no classes), bad_rows
 * (that were left out), and how the source shuffles: order (whole or windows) and shuffle_window. Of
 * features/NAME: position (0 is the first), rows, multi_hot (0 or 1), bag_length (-1: bags differ). Samples
 * are in the source's own order.
 *
 * Form ranking, U users and row 0 (interactions.h); group ranking has the attributes negatives and
 * history_length:
 *
 *   ranking/begin/SPLIT          i64 [U + 2], where each user's items begin in
 *   ranking/items/SPLIT          i64, ascending for each user
 *   ranking/timeline             i64, as ranking/items/train, from the oldest on; where times are known
 *   reader/vocabulary/user, item
 *
 * Form corpus; group corpus has the attributes train, valid, test (words), min_count, window, negatives:
 *
 *   corpus/words                 i32, the words that were not thinned out as rows, a line's first as minus it
 *   reader/vocabulary/word, reader/counts/word
 *
 * HDF5 sees contiguous datasets; what is read and checked at once is a piece of at most 1 MiB of rows
 * (checkpoint/trailer.h). HDF5's own chunks would bring libhdf5, which is neither safe in threads nor made
 * for damaged files, into the thread that reads. */
#ifndef READER_BINARY_H
#define READER_BINARY_H

#include "checkpoint/checkpoint.h"
#include "reader/source.h"

enum { BINARY_FORMAT = 2, BINARY_NAME_BYTES = 128 };
#define BINARY_MARK     "samples_format"
#define BINARY_FEATURES "features/"
#define BINARY_VALUES   "/values/"
#define BINARY_OFFSETS  "/offsets/"
#define BINARY_BLOBS    "reader/"

/* "train" ... */
const char *reader_split_name(reader_split_t split);

/* The name of a feature's array of a split; part: BINARY_VALUES or BINARY_OFFSETS. */
void reader_binary_name(const char *feature, const char *part, reader_split_t split,
                        char out[BINARY_NAME_BYTES]);
/* The name of WHAT/SPLIT. */
void reader_binary_plain_name(const char *what, reader_split_t split, char out[BINARY_NAME_BYTES]);

/* SBAG_ERR_FORMAT: the file, which its checksums call intact, says what no conversion writes. */
sbag_code_t reader_binary_damaged(const source_t *source, const char *what, sbag_status_t *status);

/* The type of row numbers below `rows`. */
checkpoint_type_t reader_binary_type(int64_t rows);

#endif
