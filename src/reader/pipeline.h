/* The background thread: it fills batches ahead of the step into a ring of recycled buffers. */
#ifndef READER_PIPELINE_H
#define READER_PIPELINE_H

#include "reader/source.h"

typedef struct pipeline pipeline_t;

/* No thread runs yet. The source must outlive the pipeline. */
sbag_code_t reader_pipeline_create(source_t *source, pipeline_t **pipeline, sbag_status_t *status);
/* Stops the thread. NULL is allowed. */
void reader_pipeline_destroy(pipeline_t **pipeline);

/* Stops the running thread, if any, and starts one at the given place. */
sbag_code_t reader_pipeline_start(pipeline_t *pipeline, reader_split_t split, int64_t epoch, int64_t step,
                                  sbag_status_t *status);
/* As reader_next. */
sbag_code_t reader_pipeline_next(pipeline_t *pipeline, const reader_batch_t **batch, sbag_status_t *status);

#endif
