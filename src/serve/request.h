/* An inference request: from the bytes of its body to bags, checked in full, so that what reaches a look-up
 * cannot fail there. Knows nothing of HTTP.
 *
 * The body is KServe v2's JSON, and behind it, where the header length says so, the binary data of its inputs
 * one after the other, in the order in which they are listed. Every refusal is SBAG_ERR_ARGUMENT with one
 * line that names the input; nothing of the body is needed afterwards. */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include "serve/scratch.h"
#include "serve/signature.h"

typedef struct request_limits {
  int64_t tensors;    /* of a request's inputs */
  int64_t bag_length; /* indices of one bag */
  int64_t samples;
} request_limits_t;

/* The bags of a feature; offsets: [samples + 1] from 0 on. */
typedef struct request_bags {
  int given;
  int64_t count;          /* of indices */
  const int64_t *indices; /* each within the table */
  const int64_t *offsets;
  const float *weights; /* NULL, or [count], finite */
} request_bags_t;

typedef struct request_output {
  int output; /* of the signature's */
  int binary;
} request_output_t;

typedef struct request {
  const serve_signature_t *signature;
  const char *id; /* "": none */
  int64_t samples;
  int64_t lookups;          /* indices of all features */
  request_bags_t *features; /* [feature_count] */
  const float *dense;       /* [samples][dense_count], finite */
  int output_count;
  request_output_t *outputs;
  float *result; /* [samples][columns]: room for the answer */
  scratch_t arena;
} request_t;

/* body: header_bytes of JSON, and binary data up to `bytes`. header_bytes -1: all of it is JSON. On failure
 * there is nothing to clear. */
sbag_code_t request_parse(const serve_signature_t *signature, const request_limits_t *limits,
                          const void *body, int64_t bytes, int64_t header_bytes, mem_t *mem,
                          request_t *request, sbag_status_t *status);
void request_clear(request_t *request);

#endif
