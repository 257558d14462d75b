/* Status values: made where an error is first recognised, carried up unchanged. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

const char *sbag_code_name(sbag_code_t code) {
  switch (code) {
  case SBAG_OK:
    return "ok";
  case SBAG_ERR_ARGUMENT:
    return "argument";
  case SBAG_ERR_MEMORY:
    return "memory";
  case SBAG_ERR_COMM:
    return "communication";
  case SBAG_ERR_TIMEOUT:
    return "timeout";
  case SBAG_ERR_IO:
    return "io";
  case SBAG_ERR_FORMAT:
    return "format";
  case SBAG_ERR_STATE:
    return "state";
  case SBAG_ERR_UNSUPPORTED:
    return "unsupported";
  }
  return "unknown";
}

/* One line stays one line: a file's bytes may have been quoted into the message. */
static void flatten(char *text) {
  for (; *text != '\0'; text++)
    if ((unsigned char)*text < ' ' || *text == 0x7f) *text = ' ';
}

sbag_code_t status_set(sbag_status_t *status, sbag_code_t code, const char *format, ...) {
  if (status == NULL) return code;
  va_list args;
  va_start(args, format);
  char text[SBAG_MESSAGE_BYTES]; /* the arguments may point into status->message */
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  flatten(text);
  status->code = code;
  status->rank = -1;
  memcpy(status->message, text, sizeof text);
  return code;
}

sbag_code_t status_prefix(sbag_status_t *status, const char *format, ...) {
  if (status == NULL) return SBAG_OK;
  char head[SBAG_MESSAGE_BYTES], whole[2 * SBAG_MESSAGE_BYTES + 4];
  va_list args;
  va_start(args, format);
  vsnprintf(head, sizeof head, format, args);
  va_end(args);
  snprintf(whole, sizeof whole, "%s: %s", head, status->message);
  flatten(whole);
  memcpy(status->message, whole, sizeof status->message - 1);
  status->message[sizeof status->message - 1] = '\0';
  return status->code;
}

void status_clear(sbag_status_t *status) {
  if (status == NULL) return;
  status->code = SBAG_OK;
  status->rank = -1;
  status->message[0] = '\0';
}
