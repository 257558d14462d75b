/* Data sources. Every rank opens the same source and gets its slice of each global batch; which samples are
 * in which global batch, and in which order, depends on the seed and the epoch alone, never on the number of
 * ranks.
 *
 * What comes in: a reader_config_t. What goes out: batches of labels, dense values and one bag per (sample,
 * feature). A background thread has the next batch ready; at most `prefetch` batches, the caller's own two
 * and one shuffle window are in memory, whatever the file's size. Not collective: no call communicates; every
 * rank reads what it needs itself. */
#ifndef READER_READER_H
#define READER_READER_H

#include "base/mem.h"
#include "base/status.h"
#include <stdint.h>

typedef struct reader reader_t;
typedef struct interactions interactions_t; /* interactions.h */

typedef enum reader_kind {
  READER_MOVIELENS,
  READER_DELIMITED,
  READER_SYNTHETIC,
  READER_BINARY,
  READER_RANKING,
  READER_CORPUS
} reader_kind_t;
typedef enum reader_split { READER_TRAIN, READER_VALID, READER_TEST, READER_SPLITS } reader_split_t;

/* What a column of a delimited file is. */
typedef enum reader_column_kind {
  COLUMN_LABEL, /* 0 or 1 */
  COLUMN_CLASS, /* instead of it: any text; the label is its number among all that there are */
  COLUMN_DENSE,
  COLUMN_ONE_HOT,
  COLUMN_MULTI_HOT,
  COLUMN_SKIP,
  COLUMN_WEIGHT /* of the sample, 0 or more; at most one column */
} reader_column_kind_t;
typedef enum reader_transform {
  TRANSFORM_NONE,
  TRANSFORM_LOG1P,
  TRANSFORM_ZSCORE,
  TRANSFORM_LOG1P_ZSCORE
} reader_transform_t;
/* How a token becomes a row: itself (a decimal integer), a hash modulo rows, or a vocabulary fitted on the
 * training split whose row 0 stands for tokens seen fewer than min_count times or never. */
typedef enum reader_mapping { MAPPING_IDENTITY, MAPPING_HASH, MAPPING_VOCABULARY } reader_mapping_t;

typedef struct reader_column {
  char name[64];
  int index; /* 0-based column in the file */
  reader_column_kind_t kind;
  reader_transform_t transform; /* dense */
  double missing;               /* dense: the value of an empty field, before the transform */
  reader_mapping_t mapping;     /* one-hot, multi-hot */
  int64_t rows;       /* identity, hash: rows of the table; vocabulary: at most so many (0 = no limit) */
  int64_t min_count;  /* vocabulary */
  int64_t max_length; /* multi-hot: only the first so many tokens; 0 = all */
  char separator;     /* multi-hot: between tokens */
  int64_t expand;     /* one-hot: a bag of so many rows that follows from the token's row (delimited_row.c);
                         0 or 1 = the row alone */
  int hexadecimal;    /* one-hot: only an empty field or up to 16 hexadecimal digits */
  int ngrams;         /* multi-hot, hash: runs of up to so many tokens have rows too; 0 or 1 = the tokens */
  int lowercase;      /* multi-hot, hash: A to Z count as a to z */
} reader_column_t;

typedef struct reader_delimited_config {
  const char *const *paths; /* [path_count] files that are one data set in this order; each is plain or gzip,
                               told by its first bytes */
  int path_count;
  char delimiter;
  int header_lines; /* skipped in every file */
  int field_count;  /* a row must have exactly so many; 0 = as many as the columns need, or more */
  const reader_column_t *columns;
  int column_count;
  int split_paths[READER_SPLITS]; /* so many of the paths are a split each; all 0: by what follows */
  double split[READER_SPLITS];    /* fractions; sum 1 */
  int split_by_order; /* 1: first rows train, last rows test; 0: by a hash of the row's number in all files */
  int unlabelled; /* 1: labels and weights are not read, all are 0 and 1; there need not be columns of them */
  int skip_bad_rows;      /* 0: a bad row is an error; 1: it is left out and counted */
  int64_t shuffle_window; /* rows permuted together; 0 = file order */
} reader_delimited_config_t;

typedef struct reader_movielens_config {
  const char *folder;     /* holds NAME.inter, NAME.item, NAME.user */
  const char *name;       /* "ml-100k" */
  double like_threshold;  /* label is rating >= this: 4 */
  int64_t history_length; /* the newest so many earlier liked movies; 0 leaves the feature out */
  int shuffle_labels;     /* a control: labels permuted over the rows, so that AUC must be 0.5 */
} reader_movielens_config_t;

typedef struct reader_synthetic_config {
  int64_t samples[READER_SPLITS];
  int dense_count;
  int feature_count;
  const int64_t *rows;       /* [feature_count] */
  const int64_t *bag_length; /* [feature_count] */
  double zipf;               /* exponent of the rows' popularity; 0 = uniform */
} reader_synthetic_config_t;

/* Samples that reader_convert (convert.h) has written. */
typedef struct reader_binary_config {
  const char *path;
  int64_t shuffle_window; /* as below; negative: in the order that the source had */
} reader_binary_config_t;

enum { RANKING_NEGATIVES_MAX = 1024 };

/* Users and their items. */
typedef struct reader_ranking_config {
  const char *const *paths; /* [path_count], of train, valid and test in this order */
  int path_count, split_paths[READER_SPLITS];
  int held_out;      /* 1: RecBole's .inter files, all of train; each user's newest items are held out; 0:
                        LightGCN's lists */
  double holdout[2]; /* held out: shares of valid and test */
  double min_rating; /* held out, where there are ratings: lower ones are left out */
  int64_t negatives; /* a training sample */
  int64_t history_length; /* of the user's other training items in a feature; 0 leaves it out */
  int skip_bad_rows;
  const char *users_path; /* not NULL: the test's samples are this file's users, a line each, in its order */
} reader_ranking_config_t;

/* Text for CBOW. */
typedef struct reader_corpus_config {
  const char *const *paths;
  int path_count;
  int lowercase;
  int64_t min_count, window, negatives;
  double subsample; /* words with a larger share of the text are thinned out; 0 = none */
  double split[READER_SPLITS];
  int skip_bad_rows;
} reader_corpus_config_t;

/* How the training samples are shuffled, of which a source knows one way. */
typedef enum reader_order {
  READER_ORDER_WHOLE,  /* all of them together */
  READER_ORDER_WINDOWS /* windows of them, one after the other */
} reader_order_t;

typedef struct reader_config {
  reader_kind_t kind;
  uint64_t seed;        /* shuffling, synthetic values, hashing */
  uint64_t split_seed;  /* the split by line number */
  int64_t global_batch; /* samples of one global batch, over all ranks */
  int64_t slice;        /* ranks' shares begin at multiples of this; 1 = evenly, 64 in reproducible mode */
  int shuffle;          /* training only */
  int prefetch;         /* batches kept ready; at least 1 */
  int rank, rank_count;
  union {
    reader_movielens_config_t movielens;
    reader_delimited_config_t delimited;
    reader_synthetic_config_t synthetic;
    reader_binary_config_t binary;
    reader_ranking_config_t ranking;
    reader_corpus_config_t corpus;
  } source;
} reader_config_t;

/* What a feature is to a model that matches queries with items; all others take them as inputs. */
typedef enum reader_role { ROLE_INPUT, ROLE_QUERY, ROLE_POSITIVE, ROLE_NEGATIVE } reader_role_t;

/* What the source gives: known after open (vocabularies are fitted in open unless they are given). */
typedef struct reader_feature {
  char name[64];
  int64_t rows;      /* indices are in [0, rows) */
  int multi_hot;     /* 0: every bag has exactly one index */
  const char *table; /* that it looks up; NULL: one of its own name */
  reader_role_t role;
} reader_feature_t;

typedef struct reader_bags {
  int64_t nnz;
  const int64_t *indices; /* [nnz] */
  const int64_t *offsets; /* [samples + 1] */
} reader_bags_t;

typedef struct reader_batch {
  int64_t epoch, step;           /* step counts global batches within the epoch, from 0 */
  int64_t samples;               /* this rank's share; may be 0 */
  int64_t first_sample;          /* where the share begins in the global batch */
  int64_t global_samples;        /* of the whole global batch: global_batch, or less in an epoch's last */
  const float *labels;           /* [samples] */
  const float *weights;          /* [samples]; NULL: 1 each */
  const float *dense;            /* [samples][dense_count] */
  const reader_bags_t *features; /* [feature_count] */
} reader_batch_t;

/* A named piece of the reader's fitted state: "vocabulary/NAME" (vocabulary.h says what is in it),
 * "counts/NAME" (corpus.c), "zscore/NAME", "hash/NAME" and "expand/NAME" (delimited.c), NAME being a column's
 * or a feature's. */
typedef struct reader_blob {
  char name[96];
  void *data;
  int64_t bytes;
} reader_blob_t;

/* Opens the source. If blob_count > 0 the fitted state is taken from the blobs instead of being fitted; a
 * blob that does not fit the config is refused. Strings and arrays of `config` are copied. Errors name file
 * and line. */
sbag_code_t reader_open(const reader_config_t *config, const reader_blob_t *blobs, int blob_count, mem_t *mem,
                        reader_t **reader, sbag_status_t *status);
/* Stops the thread and frees all. NULL is allowed. */
void reader_close(reader_t **reader);

int reader_dense_count(const reader_t *reader);
/* Whether batches have weights. */
int reader_weighted(const reader_t *reader);
/* Labels are 0 to this - 1; 0: labels are no classes. */
int64_t reader_class_count(const reader_t *reader);
int reader_feature_count(const reader_t *reader);
const reader_feature_t *reader_feature(const reader_t *reader, int feature);
/* Samples of a split, over all ranks. */
int64_t reader_samples(const reader_t *reader, reader_split_t split);
/* Of a ranking's source; NULL for all others. */
const interactions_t *reader_interactions(const reader_t *reader);
/* Rows left out as bad (skip_bad_rows), and what is wrong with the first of them, "" where there is none. */
int64_t reader_bad_rows(const reader_t *reader);
const char *reader_first_bad(const reader_t *reader);
/* *window: the samples of a window; 0 where there are none. */
reader_order_t reader_order(const reader_t *reader, int64_t *window);
/* The fitted state, owned by the reader. */
int reader_blob_count(const reader_t *reader);
const reader_blob_t *reader_blob(const reader_t *reader, int blob);

/* Starts (or restarts) reading a split at the given epoch and global batch. */
sbag_code_t reader_start(reader_t *reader, reader_split_t split, int64_t epoch, int64_t step,
                         sbag_status_t *status);
/* The next batch of the started epoch, or *batch = NULL at its end. The batch is valid until the call after
 * the next one (or reader_start): a step can have its own and the next. */
sbag_code_t reader_next(reader_t *reader, const reader_batch_t **batch, sbag_status_t *status);

#endif
