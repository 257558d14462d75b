/* What a kind of data source gives the common part: how many samples a split has, and the samples at given
 * positions of an epoch's order. Slicing, the background thread and recycling are not its business. */
#ifndef READER_SOURCE_H
#define READER_SOURCE_H

#include "checkpoint/checkpoint.h"
#include "reader/blobs.h"
#include "reader/reader.h"
#include "reader/slot.h"

typedef struct source source_t;

/* The form of a converted file (binary.h) that holds samples. */
#define BINARY_SAMPLES "samples"

typedef struct source_ops {
  const char *form; /* that its data have in a converted file: BINARY_SAMPLES, where there is no save */
  /* Reads what is needed to know samples, features and blobs; allocates state. On failure close is called. */
  sbag_code_t (*open)(source_t *source, sbag_status_t *status);
  /* Frees the state; it may be half made, or NULL. */
  void (*close)(source_t *source);
  /* Prepares to read the split in the order of the epoch, from a position on. */
  sbag_code_t (*seek)(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                      sbag_status_t *status);
  /* Writes the samples at positions [begin, end) into a slot that has been begun. Positions ascend from call
   * to call. */
  sbag_code_t (*fill)(source_t *source, int64_t begin, int64_t end, slot_t *slot, sbag_status_t *status);
  /* Where an epoch's samples are drawn anew from something smaller, which a converted file then has instead
   * of samples; else NULL. save declares it; what it gives the writer stays while the source does. restore
   * stands for open: config is the binary form's, blobs are there already. */
  sbag_code_t (*save)(source_t *source, checkpoint_writer_t *writer, sbag_status_t *status);
  sbag_code_t (*restore)(source_t *source, checkpoint_reader_t *file, sbag_status_t *status);
} source_ops_t;

struct source {
  const source_ops_t *ops;
  const reader_config_t *config; /* the reader's own copy */
  mem_t *mem;
  const blobs_t *given; /* NULL: fit */
  /* Set by open: */
  int dense_count, feature_count;
  int weighted; /* samples have weights */
  int64_t class_count;
  const interactions_t *interactions;
  reader_feature_t *features;
  int64_t *bag_room; /* [feature_count] indices a bag is given room for at first; 0 is allowed */
  int64_t samples[READER_SPLITS];
  reader_order_t order;
  int64_t shuffle_window; /* READER_ORDER_WINDOWS: samples of a window; 0: they stay in their order */
  int64_t bad_rows;
  char first_bad[SBAG_MESSAGE_BYTES]; /* what is wrong with the first of them */
  blobs_t blobs;
  void *state;
};

extern const source_ops_t reader_source_movielens, reader_source_delimited, reader_source_synthetic,
    reader_source_binary, reader_source_ranking, reader_source_corpus;

source_t *reader_source_of(reader_t *reader);

/* Room for the features' descriptions, zero-filled. */
sbag_code_t reader_source_set_features(source_t *source, int count, sbag_status_t *status);

/* The key of an epoch's shuffling. */
uint64_t reader_source_epoch_key(const source_t *source, int64_t epoch);

/* A rank's share of n samples: it begins and ends at multiples of `slice` (or at n). */
void reader_source_share(int64_t n, int64_t slice, int rank, int rank_count, int64_t *begin, int64_t *end);

#endif
