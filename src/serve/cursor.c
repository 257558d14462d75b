/* The cursor. */
#include "serve/cursor.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int fail(cursor_t *json, const char *fault) {
  if (json->fault == NULL) json->fault = fault;
  return -1;
}

cursor_t cursor_over(const void *text, size_t bytes) {
  const char *begin = text;
  return (cursor_t){.begin = begin, .at = begin, .end = begin + bytes};
}

static void blanks(cursor_t *json) {
  while (json->at < json->end &&
         (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r'))
    json->at++;
}

static int is_digit(const cursor_t *json) {
  return json->at < json->end && *json->at >= '0' && *json->at <= '9';
}

char cursor_peek(cursor_t *json) {
  blanks(json);
  if (json->at == json->end) return 0;
  char c = *json->at;
  if (c == '-' || is_digit(json)) return '0';
  return c != '\0' && strchr("{[\"tfn", c) != NULL ? c : 0;
}

int cursor_open(cursor_t *json, char bracket) {
  blanks(json);
  if (json->at == json->end || *json->at != bracket)
    return fail(json, bracket == '{' ? "an object is expected" : "an array is expected");
  if (json->depth == CURSOR_DEPTH) return fail(json, "nested too deep");
  json->depth++;
  json->at++;
  return 0;
}

int cursor_next(cursor_t *json, int *first, cursor_span_t *key) {
  char close = key != NULL ? '}' : ']';
  blanks(json);
  if (json->at == json->end) return fail(json, "the text ends within an array or object");
  if (*json->at == close) {
    json->at++;
    json->depth--;
    return 0;
  }
  if (!*first) {
    if (*json->at != ',') return fail(json, "a comma or the end of the array or object is expected");
    json->at++;
    blanks(json);
  }
  *first = 0;
  if (key == NULL) return 1;
  if (cursor_string(json, key) != 0) return -1;
  blanks(json);
  if (json->at == json->end || *json->at != ':') return fail(json, "a colon is expected");
  json->at++;
  return 1;
}

/* ---- strings ---- */

int cursor_utf8_length(const char *text, const char *text_end) {
  const unsigned char *at = (const unsigned char *)text, *end = (const unsigned char *)text_end;
  int more = *at < 0x80 ? 0 : *at >= 0xc2 && *at < 0xe0 ? 1 : (*at & 0xf0) == 0xe0 ? 2 : 3;
  if (*at >= 0x80 && (*at < 0xc2 || *at > 0xf4)) return 0;
  if (end - at <= more) return 0;
  for (int i = 1; i <= more; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  if (*at == 0xe0 && at[1] < 0xa0) return 0; /* longer than needed */
  if (*at == 0xed && at[1] > 0x9f) return 0; /* half a pair */
  if (*at == 0xf0 && at[1] < 0x90) return 0;
  if (*at == 0xf4 && at[1] > 0x8f) return 0; /* above U+10FFFF */
  return more + 1;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits of \uXXXX, or -1. */
static int hex4(const char *at, const char *end) {
  int value = 0;
  if (end - at < 4) return -1;
  for (int i = 0; i < 4; i++) {
    int digit = hex_value(at[i]);
    if (digit < 0) return -1;
    value = 16 * value + digit;
  }
  return value;
}

/* The length of the escape behind the backslash at `at`, 0 where it is none. */
static int escape_length(const char *at, const char *end) {
  if (end - at < 2) return 0;
  if (at[1] != 'u') return at[1] != '\0' && strchr("\"\\/bfnrt", at[1]) != NULL ? 2 : 0;
  int high = hex4(at + 2, end);
  if (high < 0 || (high >= 0xdc00 && high < 0xe000)) return 0;
  if (high < 0xd800 || high >= 0xe000) return 6;
  if (end - at < 12 || at[6] != '\\' || at[7] != 'u') return 0;
  int low = hex4(at + 8, end);
  return low >= 0xdc00 && low < 0xe000 ? 12 : 0;
}

int cursor_string(cursor_t *json, cursor_span_t *string) {
  blanks(json);
  if (json->at == json->end || *json->at != '"') return fail(json, "a string is expected");
  const char *begin = ++json->at;
  while (json->at < json->end && *json->at != '"') {
    unsigned char c = (unsigned char)*json->at;
    int length = 1;
    if (c < 0x20) return fail(json, "a control character in a string");
    if (c == '\\') {
      length = escape_length(json->at, json->end);
      if (length == 0) return fail(json, "not an escape of JSON");
    } else if (c >= 0x80) {
      length = cursor_utf8_length(json->at, json->end);
      if (length == 0) return fail(json, "not UTF-8");
    }
    json->at += length;
  }
  if (json->at == json->end) return fail(json, "the text ends within a string");
  *string = (cursor_span_t){.bytes = begin, .length = (size_t)(json->at - begin)};
  json->at++;
  return 0;
}

static char *put_utf8(char *out, int code) {
  if (code < 0x80) {
    *out++ = (char)code;
  } else if (code < 0x800) {
    *out++ = (char)(0xc0 | code >> 6);
    *out++ = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *out++ = (char)(0xe0 | code >> 12);
    *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    *out++ = (char)(0x80 | (code & 0x3f));
  } else {
    *out++ = (char)(0xf0 | code >> 18);
    *out++ = (char)(0x80 | (code >> 12 & 0x3f));
    *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    *out++ = (char)(0x80 | (code & 0x3f));
  }
  return out;
}

static char plain_escape(char c) {
  static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
  const char *at = strchr(from, c);
  return at != NULL ? to[at - from] : c;
}

size_t cursor_unescape(cursor_span_t string, char *out) {
  const char *at = string.bytes, *end = at + string.length;
  char *to = out;
  while (at < end) {
    if (*at != '\\') {
      *to++ = *at++;
      continue;
    }
    int length = escape_length(at, end);
    if (length <= 2) {
      *to++ = plain_escape(at[1]);
    } else {
      int code = hex4(at + 2, end);
      if (length == 12) code = 0x10000 + ((code - 0xd800) << 10) + (hex4(at + 8, end) - 0xdc00);
      to = put_utf8(to, code);
    }
    at += length > 0 ? length : 1;
  }
  *to = '\0';
  return (size_t)(to - out);
}

int cursor_is(cursor_span_t string, const char *word) {
  return strlen(word) == string.length && memcmp(string.bytes, word, string.length) == 0;
}

/* ---- numbers ---- */

static int digits(cursor_t *json) {
  if (!is_digit(json)) return fail(json, "a digit is expected");
  while (is_digit(json)) json->at++;
  return 0;
}

/* *whole: without fraction and exponent. */
static int number(cursor_t *json, cursor_span_t *span, int *whole) {
  blanks(json);
  const char *begin = json->at;
  *whole = 1;
  if (json->at < json->end && *json->at == '-') json->at++;
  if (!is_digit(json)) {
    json->at = begin;
    return fail(json, "a number is expected");
  }
  if (*json->at == '0')
    json->at++;
  else if (digits(json) != 0)
    return -1;
  if (json->at < json->end && *json->at == '.') {
    json->at++;
    *whole = 0;
    if (digits(json) != 0) return -1;
  }
  if (json->at < json->end && (*json->at == 'e' || *json->at == 'E')) {
    json->at++;
    *whole = 0;
    if (json->at < json->end && (*json->at == '+' || *json->at == '-')) json->at++;
    if (digits(json) != 0) return -1;
  }
  if (is_digit(json)) return fail(json, "a number begins with 0");
  *span = (cursor_span_t){.bytes = begin, .length = (size_t)(json->at - begin)};
  return 0;
}

int cursor_integer(cursor_t *json, int64_t *value) {
  cursor_span_t span;
  int whole = 0;
  blanks(json);
  const char *begin = json->at;
  if (number(json, &span, &whole) != 0) return -1;
  uint64_t magnitude = 0;
  int negative = *span.bytes == '-', large = 0;
  uint64_t limit = (uint64_t)INT64_MAX + (uint64_t)negative;
  for (size_t i = (size_t)negative; i < span.length && whole && !large; i++) {
    uint64_t digit = (uint64_t)(span.bytes[i] - '0');
    large = magnitude > (limit - digit) / 10;
    magnitude = 10 * magnitude + digit;
  }
  if (!whole || large) {
    json->at = begin;
    return fail(json, whole ? "an integer of 64 bits is expected" : "an integer is expected");
  }
  *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
  return 0;
}

int cursor_real(cursor_t *json, double *value) {
  cursor_span_t span;
  char text[64];
  int whole = 0;
  blanks(json);
  const char *begin = json->at;
  if (number(json, &span, &whole) != 0) return -1;
  if (span.length < sizeof text) {
    memcpy(text, span.bytes, span.length);
    text[span.length] = '\0';
    *value = strtod(text, NULL);
    if (fabs(*value) <= (double)FLT_MAX) return 0;
  }
  json->at = begin;
  return fail(json, span.length < sizeof text ? "a number that a float holds is expected"
                                              : "a number is longer than 63 characters");
}

/* ---- the others ---- */

static int word(cursor_t *json, const char *text) {
  size_t length = strlen(text);
  if ((size_t)(json->end - json->at) < length || memcmp(json->at, text, length) != 0)
    return fail(json, "a value is expected");
  json->at += length;
  return 0;
}

int cursor_boolean(cursor_t *json, int *value) {
  char next = cursor_peek(json);
  if (next != 't' && next != 'f') return fail(json, "true or false is expected");
  *value = next == 't';
  return word(json, *value ? "true" : "false");
}

static int skip_members(cursor_t *json, int object) {
  cursor_span_t key;
  int first = 1, more = 0;
  if (cursor_open(json, object ? '{' : '[') != 0) return -1;
  while ((more = cursor_next(json, &first, object ? &key : NULL)) == 1)
    if (cursor_skip(json, NULL) != 0) return -1;
  return more;
}

static int skip_any(cursor_t *json, char next) {
  cursor_span_t span;
  int whole = 0;
  switch (next) {
  case '{':
  case '[':
    return skip_members(json, next == '{');
  case '"':
    return cursor_string(json, &span);
  case '0':
    return number(json, &span, &whole);
  case 't':
    return word(json, "true");
  case 'f':
    return word(json, "false");
  case 'n':
    return word(json, "null");
  default:
    return fail(json,
                json->at == json->end ? "the text ends where a value is expected" : "a value is expected");
  }
}

int cursor_skip(cursor_t *json, cursor_span_t *value) {
  char next = cursor_peek(json);
  const char *begin = json->at;
  if (skip_any(json, next) != 0) return -1;
  if (value != NULL) *value = (cursor_span_t){.bytes = begin, .length = (size_t)(json->at - begin)};
  return 0;
}

int cursor_end(cursor_t *json) {
  blanks(json);
  return json->at == json->end ? 0 : fail(json, "something follows the value");
}
