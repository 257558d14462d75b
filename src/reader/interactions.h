/* Who had to do with what: users and items of a data set for ranking, in memory on every rank.
 *
 * Row 0 of users and items is for none. Rows follow the order of the ids: by their value where all are
 * integers, else by their bytes. */
#ifndef READER_INTERACTIONS_H
#define READER_INTERACTIONS_H

#include "reader/source.h"
#include "reader/vocabulary.h"

struct interactions {
  int64_t user_rows, item_rows;  /* row 0 included */
  int64_t *begin[READER_SPLITS]; /* [user_rows + 1] where a user's items begin */
  int64_t *items[READER_SPLITS]; /* item rows, ascending, each once a user */
  int64_t count[READER_SPLITS];  /* of items */
  int64_t *timeline; /* where times are known: a user's training items from the oldest on, each user's from
                        begin[READER_TRAIN] on; else NULL */
  int64_t *place;    /* with it: where the i-th of items[READER_TRAIN] is among its user's */
  vocabulary_t *users, *item_tokens; /* index + 1 is the row */
};

/* Reads the files of the source's config; vocabularies are those given, or made. On failure what there is
 * must still be cleared. */
sbag_code_t reader_interactions_load(source_t *source, interactions_t *interactions, sbag_status_t *status);
void reader_interactions_clear(mem_t *mem, interactions_t *interactions);

static inline int64_t reader_interactions_of(const interactions_t *all, reader_split_t split, int64_t user,
                                             const int64_t **items) {
  *items = all->items[split] + all->begin[split][user];
  return all->begin[split][user + 1] - all->begin[split][user];
}

/* Where `items` [count], ascending, have the row; -1: nowhere. And whether they have it. */
int64_t reader_interactions_find(const int64_t *items, int64_t count, int64_t row);
int reader_interactions_have(const int64_t *items, int64_t count, int64_t row);

/* The r-th (from 0) of the item rows from 1 on that `items` does not have; r must be below their number. */
int64_t reader_interactions_other(const int64_t *items, int64_t count, int64_t r);

#endif
