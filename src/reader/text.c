/* Pieces of a line: fields, numbers, hashes. */
#include "reader/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int reader_text_split(text_t line, char delimiter, text_t *fields, int limit) {
  const char *at = line.bytes, *end = line.bytes + line.length;
  for (int i = 0; i < limit; i++) {
    const char *stop = at == end ? NULL : memchr(at, delimiter, (size_t)(end - at));
    fields[i] = (text_t){at, (stop == NULL ? end : stop) - at};
    if (stop == NULL) return i + 1;
    at = stop + 1;
  }
  return limit;
}

int reader_text_token(text_t *rest, char separator, text_t *token) {
  const char *at = rest->bytes, *end = rest->bytes + rest->length;
  while (at < end && *at == separator) at++;
  const char *stop = at;
  while (stop < end && *stop != separator) stop++;
  *token = (text_t){at, stop - at};
  *rest = (text_t){stop, end - stop};
  return token->length > 0;
}

/* Up to 15 digits and a power of ten up to 10^15 are both exact in double, so one division rounds correctly:
 * the same value as strtod. Covers nearly every number of a real file. */
static int short_decimal(text_t text, double *value) {
  static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
  int64_t i = 0, mantissa = 0;
  int digits = 0, after_point = 0, point = 0;
  int negative = text.length > 0 && text.bytes[0] == '-';
  for (i = negative; i < text.length; i++) {
    char c = text.bytes[i];
    if (c == '.' && !point) {
      point = 1;
    } else if (c >= '0' && c <= '9' && digits < 15) {
      mantissa = mantissa * 10 + (c - '0');
      digits++;
      after_point += point;
    } else {
      return 0;
    }
  }
  if (digits == 0) return 0;
  double magnitude = (double)mantissa / powers[after_point];
  *value = negative ? -magnitude : magnitude;
  return 1;
}

int reader_text_number(text_t text, double *value) {
  if (short_decimal(text, value)) return 1;
  char copy[128], *end = NULL;
  if (text.length == 0 || text.length >= (int64_t)sizeof copy) return 0;
  for (int64_t i = 0; i < text.length; i++) {
    if (text.bytes[i] == '\0' || strchr("0123456789+-.eE", text.bytes[i]) == NULL) return 0;
    copy[i] = text.bytes[i];
  }
  copy[text.length] = '\0';
  double parsed = strtod(copy, &end);
  if (end != copy + text.length || !isfinite(parsed)) return 0;
  *value = parsed;
  return 1;
}

int reader_text_integer(text_t text, int64_t *value) {
  int64_t sum = 0;
  if (text.length == 0) return 0;
  for (int64_t i = 0; i < text.length; i++) {
    char c = text.bytes[i];
    if (c < '0' || c > '9' || sum >= ((int64_t)1 << 62) / 10) return 0;
    sum = sum * 10 + (c - '0');
  }
  *value = sum;
  return 1;
}

int reader_text_hexadecimal(text_t text) {
  if (text.length > 16) return 0;
  for (int64_t i = 0; i < text.length; i++) {
    char c = text.bytes[i];
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))) return 0;
  }
  return 1;
}

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static uint64_t lowered(unsigned char byte) {
  return byte >= 'A' && byte <= 'Z' ? (uint64_t)byte + ('a' - 'A') : byte;
}

static inline uint64_t hash(uint64_t key, text_t text, int lower) {
  const unsigned char *bytes = (const unsigned char *)text.bytes;
  uint64_t sum = mix(key + 0x9e3779b97f4a7c15u * ((uint64_t)text.length + 1));
  for (int64_t i = 0; i < text.length; i += 8) {
    uint64_t word = 0;
    int64_t left = text.length - i;
    for (int j = 0; j < (left < 8 ? (int)left : 8); j++)
      word |= (lower ? lowered(bytes[i + j]) : (uint64_t)bytes[i + j]) << 8 * j;
    sum = mix(sum ^ word) + 0x9e3779b97f4a7c15u;
  }
  return mix(sum ^ key);
}

uint64_t reader_text_hash(uint64_t key, text_t text) {
  return hash(key, text, 0);
}

uint64_t reader_text_hash_lower(uint64_t key, text_t text) {
  return hash(key, text, 1);
}

uint64_t reader_text_hash_pair(uint64_t first, uint64_t second) {
  return mix((mix(first) + 0x9e3779b97f4a7c15u) ^ second);
}

int reader_text_equal(text_t text, const char *word) {
  size_t length = strlen(word);
  return (size_t)text.length == length && memcmp(text.bytes, word, length) == 0;
}

int reader_text_shown(text_t text) {
  return text.length > 40 ? 40 : (int)text.length;
}
