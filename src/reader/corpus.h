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
  vocabulary_t *words; /* index + 1 is the row; the most frequent first */
  int64_t word_count;
  int64_t *counts;              /* [word_count] in the text, before it is thinned out */
  double *cumulative;           /* [word_count] of the draws of negatives */
  int64_t first[READER_SPLITS]; /* where a split begins in the stream */
  reader_split_t split;         /* being read: */
  int shuffled;
  uint64_t order_key, window_key, negative_key;
} corpus_t;

/* The words of all files into the stream; `all` gets them in their order of appearance. */
sbag_code_t reader_corpus_read(source_t *source, vocabulary_t *all, sbag_status_t *status);

#endif
