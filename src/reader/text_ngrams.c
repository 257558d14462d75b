/* Word n-grams of a text as rows of a table: each run of one to n tokens is hashed to a row. A token's row is
 * the one that mapping hash gives it; a longer run's hash is made of its tokens' hashes in their order. */
#include "reader/delimited.h"

/* The rows of the runs that end with the i-th token; last[j]: hash of token j, for the newest ones. */
static void push_runs(const delimited_column_t *column, const uint64_t *last, int64_t i, int64_t **room) {
  const reader_column_t *c = &column->c;
  for (int64_t n = 1; n == 1 || (n <= c->ngrams && n <= i + 1); n++) {
    uint64_t hash = last[(i - n + 1) % DELIMITED_NGRAMS_MAX];
    for (int64_t j = i - n + 2; j <= i; j++)
      hash = reader_text_hash_pair(hash, last[j % DELIMITED_NGRAMS_MAX]);
    *(*room)++ = (int64_t)(hash % (uint64_t)c->rows);
  }
}

sbag_code_t reader_delimited_ngrams(const delimited_column_t *column, text_t field, slot_t *slot,
                                    sbag_status_t *status) {
  const reader_column_t *c = &column->c;
  uint64_t last[DELIMITED_NGRAMS_MAX];
  text_t token;
  for (int64_t i = 0;
       (c->max_length == 0 || i < c->max_length) && reader_text_token(&field, c->separator, &token); i++) {
    int64_t *begin = NULL;
    last[i % DELIMITED_NGRAMS_MAX] = c->lowercase ? reader_text_hash_lower(column->hash_key, token)
                                                  : reader_text_hash(column->hash_key, token);
    int64_t most = c->ngrams < 1 ? 1 : c->ngrams;
    SBAG_TRY(reader_slot_room(slot, column->feature, most < i + 1 ? most : i + 1, &begin, status));
    int64_t *end = begin;
    push_runs(column, last, i, &end);
    slot->bags[column->feature].nnz += end - begin;
  }
  return SBAG_OK;
}
