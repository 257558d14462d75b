/* A bearer token in a file: a server's, and that of who asks it. */
#ifndef SERVE_TOKEN_H
#define SERVE_TOKEN_H

#include "base/status.h"

enum { TOKEN_BYTES = 512 };

/* The file's first line. */
sbag_code_t token_read(const char *path, char token[TOKEN_BYTES], sbag_status_t *status);

#endif
