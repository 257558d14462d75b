/* Growing, and JSON's texts and numbers. */
#include "serve/buffer.h"

#include "serve/cursor.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fit(buffer_t *b, size_t count) {
  if (b->failed) return 0;
  if (count <= b->room - b->used) return 1;
  void *block = b->data;
  size_t room = 2 * (b->used + count) + 256;
  if (mem_realloc(b->mem, room, "a reply", &block, NULL) != SBAG_OK) {
    b->failed = 1;
    return 0;
  }
  b->data = block;
  b->room = room;
  return 1;
}

void *buffer_extend(buffer_t *b, size_t count) {
  if (!fit(b, count)) return NULL;
  void *at = b->data + b->used;
  b->used += count;
  return at;
}

void buffer_put(buffer_t *b, const void *bytes, size_t count) {
  void *at = buffer_extend(b, count);
  if (at != NULL && count > 0) memcpy(at, bytes, count);
}

void buffer_text(buffer_t *b, const char *text) {
  buffer_put(b, text, strlen(text));
}

void buffer_print(buffer_t *b, const char *format, ...) {
  char text[512];
  va_list list;
  va_start(list, format);
  int length = vsnprintf(text, sizeof text, format, list);
  va_end(list);
  if (length < 0 || length >= (int)sizeof text)
    b->failed = 1;
  else
    buffer_put(b, text, (size_t)length);
}

void buffer_quote(buffer_t *b, const char *text) {
  buffer_text(b, "\"");
  while (*text != '\0') {
    unsigned char c = (unsigned char)*text;
    int length = c < 0x80 ? 1 : cursor_utf8_length(text, text + strlen(text));
    if (c == '"' || c == '\\')
      buffer_print(b, "\\%c", c);
    else if (c < 0x20)
      buffer_print(b, "\\u%04x", c);
    else if (length == 0)
      buffer_text(b, "?");
    else
      buffer_put(b, text, (size_t)length);
    text += length > 0 ? length : 1;
  }
  buffer_text(b, "\"");
}

void buffer_float(buffer_t *b, float value) {
  char text[32];
  if (!isfinite(value)) {
    buffer_text(b, "null");
    return;
  }
  for (int digits = 6; digits <= 9; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, (double)value);
    if (digits == 9 || strtof(text, NULL) == value) break;
  }
  buffer_text(b, text);
}

sbag_code_t buffer_check(const buffer_t *b, sbag_status_t *status) {
  return b->failed ? status_set(status, SBAG_ERR_MEMORY, "a reply: no memory") : SBAG_OK;
}

void buffer_clear(buffer_t *b) {
  mem_free(b->mem, b->data);
  *b = (buffer_t){.mem = b->mem};
}
