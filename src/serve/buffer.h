/* A text that grows: an answer, or a question (bench serve). An allocation that fails is kept until the end,
 * so that writers need not look. */
#ifndef SERVE_BUFFER_H
#define SERVE_BUFFER_H

#include "base/mem.h"

typedef struct buffer {
  mem_t *mem;
  char *data;
  size_t used, room;
  int failed;
} buffer_t;

void buffer_put(buffer_t *buffer, const void *bytes, size_t count);
void buffer_text(buffer_t *buffer, const char *text);
void buffer_print(buffer_t *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* In JSON's quotes; bytes that are not UTF-8 become '?'. */
void buffer_quote(buffer_t *buffer, const char *text);
/* The shortest of up to nine digits that reads back as the same float; null where it is not finite. */
void buffer_float(buffer_t *buffer, float value);
/* Room for `count` bytes more, whose place is returned; NULL where there is none. */
void *buffer_extend(buffer_t *buffer, size_t count);
/* SBAG_ERR_MEMORY where anything failed. */
sbag_code_t buffer_check(const buffer_t *buffer, sbag_status_t *status);
void buffer_clear(buffer_t *buffer);

#endif
