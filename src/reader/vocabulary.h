/* Tokens and their rows: row 0 stands for unknown tokens, the token of index i has row i + 1. */
#ifndef READER_VOCABULARY_H
#define READER_VOCABULARY_H

#include "reader/blobs.h"
#include "reader/text.h"

typedef struct vocabulary vocabulary_t;

sbag_code_t reader_vocabulary_create(mem_t *mem, vocabulary_t **vocabulary, sbag_status_t *status);
/* NULL is allowed. */
void reader_vocabulary_destroy(vocabulary_t **vocabulary);

/* Counts one more of the token and gives its index; new tokens get the next one. */
sbag_code_t reader_vocabulary_add(vocabulary_t *vocabulary, text_t token, int64_t *index,
                                  sbag_status_t *status);
/* The token's index, or -1. */
int64_t reader_vocabulary_find(const vocabulary_t *vocabulary, text_t token);
/* Distinct tokens; rows are one more. */
int64_t reader_vocabulary_count(const vocabulary_t *vocabulary);
text_t reader_vocabulary_token(const vocabulary_t *vocabulary, int64_t index);

/* A vocabulary of the tokens seen at least min_count times, the most frequent first (the earlier seen of
 * equals), at most limit of them (negative: all). */
sbag_code_t reader_vocabulary_select(const vocabulary_t *all, int64_t min_count, int64_t limit, mem_t *mem,
                                     vocabulary_t **selected, sbag_status_t *status);

/* Blob "vocabulary/NAME": 8 bytes "SBVOCAB1"; u64 min_count; u64 rows_max (0: no limit); u64 count; u64
 * text_bytes; u64 ends[count], where each token ends in the text, ascending; the tokens' bytes side by side.
 */
sbag_code_t reader_vocabulary_save(const vocabulary_t *vocabulary, const char *name, int64_t min_count,
                                   int64_t rows_max, blobs_t *blobs, mem_t *mem, sbag_status_t *status);
/* Refuses a blob that is damaged or that was fitted with another min_count or rows_max. */
sbag_code_t reader_vocabulary_load(const blobs_t *blobs, const char *name, int64_t min_count,
                                   int64_t rows_max, mem_t *mem, vocabulary_t **vocabulary,
                                   sbag_status_t *status);

#endif
