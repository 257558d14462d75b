/* How a status is made and carried up: see shardbag/status.h for the type.
 *
 *   return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': dim %lld is below 1", name, (long long)dim);
 *   SBAG_TRY(plan_create(..., status));            // carries an error up as it is
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <shardbag/status.h>
#include <stdarg.h>

/* Sets code and message (truncated to fit, never across a line end) and returns the code. status may be NULL.
 */
sbag_code_t status_set(sbag_status_t *status, sbag_code_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the message; returns status->code. */
sbag_code_t status_prefix(sbag_status_t *status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void status_clear(sbag_status_t *status);

#define SBAG_TRY(call)                                                                                       \
  do {                                                                                                       \
    sbag_code_t sbag_try_code_ = (call);                                                                     \
    if (sbag_try_code_ != SBAG_OK) return sbag_try_code_;                                                    \
  } while (0)

/* As SBAG_TRY, for functions that clean up at a label. Needs a local `sbag_code_t code`. */
#define SBAG_TRY_GOTO(call, label)                                                                           \
  do {                                                                                                       \
    code = (call);                                                                                           \
    if (code != SBAG_OK) goto label;                                                                         \
  } while (0)

#endif
