/* What is answered, as KServe v2 writes it. Knows nothing of HTTP. */
#ifndef SERVE_REPLY_H
#define SERVE_REPLY_H

#include "serve/buffer.h"
#include "serve/request.h"

/* The outputs of a request whose result is there: JSON, and behind it the binary ones. *json_bytes: where
 * they begin; 0 where there are none. */
void reply_infer(const request_t *request, buffer_t *buffer, size_t *json_bytes);
/* {"error": MESSAGE} */
void reply_error(const char *message, buffer_t *buffer);
/* /v2: what this server is. */
void reply_server(const char *version, buffer_t *buffer);
/* /v2/models/NAME: what it takes and gives. A feature that is one index a sample is told as [-1, 1], any
 * other as values and offsets; each can be given in every way. */
void reply_model(const serve_signature_t *signature, buffer_t *buffer);
/* /v2/models/NAME/config, as far as Triton's has a counterpart here. */
void reply_config(const serve_signature_t *signature, int64_t max_batch, buffer_t *buffer);
/* /v2/repository/models/NAME/load: which version is served now. */
void reply_loaded(const serve_signature_t *signatures, buffer_t *buffer);
/* /v2/repository/index */
void reply_index(const serve_signature_t *signatures, int count, int ready, buffer_t *buffer);

#endif
