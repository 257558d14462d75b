/* What a server counts, and its text for Prometheus. Any thread may call. */
#ifndef SERVE_COUNTERS_H
#define SERVE_COUNTERS_H

#include "serve/buffer.h"
#include "serve/signature.h"

#include <pthread.h>

/* Where a request's time goes, from the first of its headers on. */
typedef enum counters_stage {
  STAGE_RECEIVE, /* until the last byte of its body is there */
  STAGE_PARSE,   /* until it is queued */
  STAGE_QUEUE,   /* until a batch takes it */
  STAGE_COMPUTE, /* until its answer is computed */
  STAGE_REPLY,   /* until that is written and handed to the HTTP library */
  STAGE_SERVER,  /* all of these but the first */
  STAGES
} counters_stage_t;

typedef enum counters_error {
  ERROR_BAD_REQUEST,
  ERROR_UNAUTHORIZED,
  ERROR_NOT_FOUND,
  ERROR_TOO_LARGE,
  ERROR_OVERLOAD,
  ERROR_CLOSING,
  ERROR_INTERNAL,
  ERRORS
} counters_error_t;

enum { COUNTERS_TIMES = 18, COUNTERS_SIZES = 14 };

typedef struct counters_histogram {
  int64_t counts[COUNTERS_TIMES + 1]; /* the last: beyond all bounds */
  double sum;
} counters_histogram_t;

typedef struct counters {
  pthread_mutex_t mutex;
  mem_t *mem;
  const serve_signature_t *signatures;
  const char *const *tables; /* [table_count] names */
  int table_count, rank_count;
  int64_t step;     /* of the checkpoint */
  double written_s; /* when its file was, since 1970 */
  int64_t requests[SERVE_KINDS], samples[SERVE_KINDS], errors[ERRORS];
  counters_histogram_t stages[STAGES], batch_samples, batch_requests;
  int64_t *lookups; /* [tables][ranks] */
} counters_t;

/* tables: [config's], borrowed, as the signatures are. */
sbag_code_t counters_open(const serve_signature_t *signatures, const char *const *tables, int table_count,
                          int rank_count, mem_t *mem, counters_t *metrics, sbag_status_t *status);
void counters_destroy(counters_t *metrics);

void counters_error(counters_t *metrics, counters_error_t error);
/* One request that was answered. */
void counters_request(counters_t *metrics, serve_kind_t kind, int64_t samples, const double stages_s[STAGES]);
/* One batch; lookups: [tables][ranks], of its indices by owner. */
void counters_batch(counters_t *metrics, int64_t requests, int64_t samples, const int64_t *lookups);
/* queued: requests that wait. */
void counters_write(counters_t *metrics, int64_t queued, int ready, buffer_t *buffer);

#endif
