/* Reading a token: see token.h. */
#include "serve/token.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

sbag_code_t token_read(const char *path, char token[TOKEN_BYTES], sbag_status_t *status) {
  FILE *file = fopen(path, "re");
  if (file == NULL) return status_set(status, SBAG_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
  size_t length = fread(token, 1, TOKEN_BYTES - 1, file);
  fclose(file);
  token[length] = '\0';
  token[strcspn(token, "\r\n")] = '\0';
  if (token[0] != '\0' && length < TOKEN_BYTES - 1) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: its first line must be a token of 1 to %d characters",
                    path, TOKEN_BYTES - 2);
}
