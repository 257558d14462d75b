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

typedef enum counters_refresh { REFRESH_SERVED, REFRESH_REFUSED, REFRESHES } counters_refresh_t;

enum { COUNTERS_TIMES = 18, COUNTERS_SIZES = 14 };

typedef struct counters_histogram {
  int64_t counts[COUNTERS_TIMES + 1]; /* the last: beyond all bounds */
  double sum;
} counters_histogram_t;

typedef struct counters {
  pthread_mutex_t mutex;
  mem_t *mem;
  char models[SERVE_KINDS][160]; /* names; "": not served */
  char **tables;                 /* [table_count] names */
  int table_count, rank_count;
  int64_t step;                 /* of the checkpoint */
  double written_s;             /* when its file was, since 1970 */
  int64_t refreshes[REFRESHES]; /* newer checkpoints, by what became of them */
  double refresh_s;             /* how long the last one took to load */
  int64_t requests[SERVE_KINDS], samples[SERVE_KINDS], errors[ERRORS];
  int64_t overlapped; /* batches */
  counters_histogram_t stages[STAGES], batch_samples, batch_requests;
  int64_t *lookups; /* [tables][ranks] */
  int64_t sent_bytes, received_bytes;
} counters_t;

/* Names are copied: of the signatures, and of the config's tables. */
sbag_code_t counters_open(const serve_signature_t *signatures, const model_config_t *config, int rank_count,
                          mem_t *mem, counters_t *metrics, sbag_status_t *status);
void counters_destroy(counters_t *metrics);

void counters_error(counters_t *metrics, counters_error_t error);
/* One request that was answered. */
void counters_request(counters_t *metrics, serve_kind_t kind, int64_t samples, const double stages_s[STAGES]);
/* One batch; lookups: [tables][ranks], of its indices by owner. */
void counters_batch(counters_t *metrics, int64_t requests, int64_t samples, const int64_t *lookups);
/* One batch that was begun before the one ahead of it had ended. */
void counters_overlap(counters_t *metrics);
/* What look-ups moved between rank 0, whose the requests are, and the others. */
void counters_exchange(counters_t *metrics, int64_t sent_bytes, int64_t received_bytes);
/* Which checkpoint is served from now on. */
void counters_served(counters_t *metrics, int64_t step, double written_s);
/* One checkpoint that was loaded beside it, or refused. */
void counters_refresh(counters_t *metrics, counters_refresh_t outcome, double seconds);
/* queued: requests that wait. */
void counters_write(counters_t *metrics, int64_t queued, int ready, buffer_t *buffer);

#endif
