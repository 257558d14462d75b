/* JSON as a request brings it, read in place: a cursor over bytes, no tree. A tree of objects takes some 30
 * times the text's memory, which a server that is open to others cannot give; numbers go straight to where
 * they are needed.
 *
 * What is read is strict (RFC 8259, UTF-8), and nested at most CURSOR_DEPTH deep. A call that fails returns
 * -1 and leaves in `fault` what was expected; `at` stands where. Never reads beyond `end`. */
#ifndef SERVE_CURSOR_H
#define SERVE_CURSOR_H

#include <stddef.h>
#include <stdint.h>

enum { CURSOR_DEPTH = 32 };

typedef struct cursor {
  const char *begin, *at, *end;
  const char *fault; /* NULL: none */
  int depth;
} cursor_t;

/* A piece of the text. */
typedef struct cursor_span {
  const char *bytes;
  size_t length;
} cursor_span_t;

cursor_t cursor_over(const void *text, size_t bytes);

/* What comes next, without taking it: '{', '[', '"', '0' for a number, 't', 'f', 'n', or 0 where there is
 * none of these. */
char cursor_peek(cursor_t *json);
/* Takes the '{' or '['. */
int cursor_open(cursor_t *json, char bracket);
/* Behind the bracket, then after each value: 1 with the next key read (of an array: key is NULL), 0 at the
 * end, which is taken. *first starts as 1. The key is as it is written, without the quotes. */
int cursor_next(cursor_t *json, int *first, cursor_span_t *key);

/* Values. The string is as it is written, without the quotes: see cursor_unescape. */
int cursor_string(cursor_t *json, cursor_span_t *string);
int cursor_integer(cursor_t *json,
                   int64_t *value); /* refuses fractions, exponents, and what int64 does not hold */
int cursor_real(cursor_t *json, double *value); /* refuses what is not finite as a float */
int cursor_boolean(cursor_t *json, int *value);
/* Passes over any value, which is checked; *value (may be NULL) is its text. */
int cursor_skip(cursor_t *json, cursor_span_t *value);
/* Only blanks may follow. */
int cursor_end(cursor_t *json);

/* Writes the string's bytes to out [length + 1], zero-terminated; returns how many. A zero byte in the string
 * ends it. */
size_t cursor_unescape(cursor_span_t string, char *out);
/* The bytes of the UTF-8 character at `at`, before `end`; 0 where there is none. */
int cursor_utf8_length(const char *at, const char *end);
/* Whether a key or string is this word; escapes are not resolved. */
int cursor_is(cursor_span_t string, const char *word);

#endif
