/* The input tensors of a request as they stand in its body: names, types, shapes, and where the data are. For
 * request.c and tensor.c alone. */
#ifndef SERVE_TENSOR_H
#define SERVE_TENSOR_H

#include "serve/cursor.h"
#include "serve/request.h"

typedef enum tensor_type { TENSOR_NONE, TENSOR_INT32, TENSOR_INT64, TENSOR_FP32, TENSOR_FP64 } tensor_type_t;

typedef struct tensor {
  const char *name;
  tensor_type_t type; /* TENSOR_NONE: one that is not taken */
  char datatype[16];  /* as it was said */
  int rank;           /* 1 or 2 */
  int64_t shape[2], count;
  int64_t binary_bytes; /* -1: the data stand in the JSON */
  const char *binary;   /* where they stand otherwise */
  cursor_span_t data;   /* in JSON; bytes NULL: none */
} tensor_t;

typedef struct tensor_list {
  tensor_t *items;
  int64_t count, room;
} tensor_list_t;

/* One element of "inputs". */
sbag_code_t tensor_read(cursor_t *json, scratch_t *arena, tensor_t *tensor, sbag_status_t *status);
/* Deals the binary data out; all of them must be wanted. */
sbag_code_t tensor_deal(tensor_list_t *tensors, const char *binary, int64_t bytes, sbag_status_t *status);

/* All values, of whichever type the tensor has. */
sbag_code_t tensor_integers(const tensor_t *tensor, scratch_t *arena, const int64_t **values,
                            sbag_status_t *status);
/* Refuses what is not finite. */
sbag_code_t tensor_floats(const tensor_t *tensor, scratch_t *arena, const float **values,
                          sbag_status_t *status);

/* The body is not JSON, or not this JSON: "the request: byte 12: a comma is expected". */
sbag_code_t tensor_refuse_json(const cursor_t *json, const char *where, sbag_status_t *status);
/* A string of the JSON as a text. */
sbag_code_t tensor_text(cursor_span_t string, scratch_t *arena, const char **text, sbag_status_t *status);

#endif
