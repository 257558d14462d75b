/* Named byte blobs: the reader's fitted state as the checkpoint keeps it. All numbers in them are
 * little-endian. */
#ifndef READER_BLOBS_H
#define READER_BLOBS_H

#include "reader/reader.h"

typedef struct blobs {
  reader_blob_t *items;
  int64_t count, capacity;
} blobs_t;

/* Room for a blob named "kind/name", zero-filled; `data` is where its content goes. */
sbag_code_t reader_blobs_add(blobs_t *blobs, mem_t *mem, const char *kind, const char *name, int64_t bytes,
                             unsigned char **data, sbag_status_t *status);
void reader_blobs_free(blobs_t *blobs, mem_t *mem);

/* The blob "kind/name" of a given set; an error that names it if it is not there. */
sbag_code_t reader_blobs_find(const blobs_t *blobs, const char *kind, const char *name,
                              const reader_blob_t **blob, sbag_status_t *status);
/* Refuses a given set that is not, name by name, the one the reader has made of it. */
sbag_code_t reader_blobs_check_names(const blobs_t *given, const blobs_t *made, sbag_status_t *status);

void reader_blob_put_u64(unsigned char *at, uint64_t value);
uint64_t reader_blob_get_u64(const unsigned char *at);
void reader_blob_put_f64(unsigned char *at, double value);
double reader_blob_get_f64(const unsigned char *at);

#endif
