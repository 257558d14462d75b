/* Pieces of a line: fields, numbers, hashes. A text is a slice of somebody else's buffer, without a NUL at
 * its end, so that reading a row copies nothing. */
#ifndef READER_TEXT_H
#define READER_TEXT_H

#include <stdint.h>

typedef struct text {
  const char *bytes;
  int64_t length;
} text_t;

/* The first `limit` fields of a line; returns how many there are, at most `limit`. */
int reader_text_split(text_t line, char delimiter, text_t *fields, int limit);

/* Takes the next token off the front of *rest. Returns 0 when none is left; tokens of length 0 are passed
 * over. */
int reader_text_token(text_t *rest, char separator, text_t *token);

/* A finite decimal number that fills the whole text ("3", "-0.5", "1e-3"; no hexadecimal, inf, nan or
 * spaces). Returns whether it is one. */
int reader_text_number(text_t text, double *value);
/* A decimal integer of digits only. Returns whether it is one below 2^62. */
int reader_text_integer(text_t text, int64_t *value);

/* Up to 16 hexadecimal digits, or nothing. */
int reader_text_hexadecimal(text_t text);

/* A keyed hash of the bytes, the same on every machine; and of the bytes with A to Z as a to z. */
uint64_t reader_text_hash(uint64_t key, text_t text);
uint64_t reader_text_hash_lower(uint64_t key, text_t text);
/* Of two hashes in this order. */
uint64_t reader_text_hash_pair(uint64_t first, uint64_t second);

int reader_text_equal(text_t text, const char *word);

/* For "%.*s" in messages: at most 40 bytes. */
int reader_text_shown(text_t text);

#endif
