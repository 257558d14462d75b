/* A text as row numbers, shared by the file that reads it (corpus_read.c) and the one that serves it
 * (corpus.c). */
#ifndef READER_CORPUS_H
#define READER_CORPUS_H

#include "reader/source.h"
#include "reader/vocabulary.h"

enum { CORPUS_CONTEXT, CORPUS_TARGET, CORPUS_NEGATIVE /* the first of them */ };

/* An element of the stream: a number, and whether the word begins a line. */
#define CORPUS_BEGINS 0x80000000u
#define CORPUS_ROW    0x7fffffffu

typedef struct corpus {
  uint32_t *stream; /* [length] as read: the order of appearance; then rows */
  int64_t length, capacity;
  int64_t min_count, window, negatives; /* as in the config */
  vocabulary_t *words;                  /* index + 1 is the row; the most frequent first */
  int64_t word_count;
  int64_t *counts;              /* [word_count] in the text, before it is thinned out */
  double *cumulative;           /* [word_count] of the draws of negatives */
  int64_t first[READER_SPLITS]; /* where a split begins in the stream */
  reader_split_t split;         /* being read: */
  int shuffled;
  uint64_t order_key, window_key, negative_key;
} corpus_t;

sbag_code_t reader_corpus_check(int64_t min_count, int64_t window, int64_t negatives, sbag_status_t *status);

/* counts, from the blob "counts/word" of the given ones. */
sbag_code_t reader_corpus_load_counts(source_t *source, const blobs_t *given, sbag_status_t *status);

/* What is drawn from and features, once the state has the text, words, counts and the config's numbers. */
sbag_code_t reader_corpus_ready(source_t *source, sbag_status_t *status);

/* source_ops_t */
sbag_code_t reader_corpus_save(source_t *source, checkpoint_writer_t *writer, sbag_status_t *status);
sbag_code_t reader_corpus_restore(source_t *source, checkpoint_reader_t *file, sbag_status_t *status);

/* The words of all files into the stream; `all` gets them in their order of appearance. */
sbag_code_t reader_corpus_read(source_t *source, vocabulary_t *all, sbag_status_t *status);

#endif
