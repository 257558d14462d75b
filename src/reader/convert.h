/* Any reader's samples into the binary form (binary.h). */
#ifndef READER_CONVERT_H
#define READER_CONVERT_H

#include "comm/comm.h"
#include "reader/reader.h"

typedef struct convert_options {
  const char *output;
  const char *source; /* what the file says it was made from */
  int splits;         /* bit s: split s is written; the others are there without samples */
} convert_options_t;

typedef struct convert_result {
  int64_t samples[READER_SPLITS];
  int64_t bytes; /* of the file */
} convert_result_t;

/* One process alone: `comm` has one rank, as has the reader, which was opened without shuffling. The samples
 * are read once and kept, array by array, in files without a name beside the output; then the output is
 * written under a temporary name, synced and renamed. Needs about twice the output's space meanwhile. After
 * an error nothing is left, and an older file of that name is as it was. */
sbag_code_t reader_convert(reader_t *reader, comm_t *comm, const convert_options_t *options, mem_t *mem,
                           convert_result_t *result, sbag_status_t *status);

#endif
