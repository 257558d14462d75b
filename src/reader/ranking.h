/* A ranking's data in memory, shared by the file that serves it (ranking.c) and the one that keeps it in the
 * binary form (ranking_file.c). */
#ifndef READER_RANKING_H
#define READER_RANKING_H

#include "reader/interactions.h"

typedef struct ranking {
  interactions_t all;
  int64_t negatives, history_length; /* as in the config */
  int64_t *users[READER_SPLITS];     /* those with items in an evaluation's split, ascending; train: NULL */
  int history;                       /* feature; -1: none */
  int positive, negative;            /* features; the first negative */
  reader_split_t split;              /* being read: */
  int shuffled;
  uint64_t order_key, negative_key, history_key;
} ranking_t;

sbag_code_t reader_ranking_check(int64_t negatives, int64_t history_length, sbag_status_t *status);

/* The users of the config's users_path, which take the test's place. */
sbag_code_t reader_ranking_list(source_t *source, sbag_status_t *status);

/* Samples and features, once the state has interactions, negatives and history_length. */
sbag_code_t reader_ranking_ready(source_t *source, sbag_status_t *status);

/* source_ops_t */
sbag_code_t reader_ranking_save(source_t *source, checkpoint_writer_t *writer, sbag_status_t *status);
sbag_code_t reader_ranking_restore(source_t *source, checkpoint_reader_t *file, sbag_status_t *status);

#endif
