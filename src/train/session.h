/* What a run has open: the data, the model made to fit it, and where they came from.
 *
 * Two readers serve a training run: one walks the training split, the other the splits of an evaluation, so
 * that an evaluation does not disturb the epoch. The second takes the first one's vocabularies. */
#ifndef TRAIN_SESSION_H
#define TRAIN_SESSION_H

#include "comm/comm.h"
#include "model/model.h"
#include "reader/reader.h"
#include "train/assembly.h"
#include "train/settings.h"

/* What each table is kept in, in place of what the config says; not collective. */
typedef void (*session_storage_t)(void *user, sbag_table_options_t *table);

typedef struct session {
  const settings_t *settings;
  sbag_context_h context;
  comm_t *comm; /* the context's */
  mem_t *mem;   /* the context's */
  reader_t *training, *evaluation;
  assembly_t assembly;
  model_t *model; /* NULL for a session without one */
} session_t;

enum {
  SESSION_TRAINING = 1, /* open the training reader, and fit vocabularies unless blobs are given */
  SESSION_MODEL = 2,    /* create the model */
  SESSION_LOADED = 4 /* a checkpoint fills the model: what its tables once started from need not be there */
};

/* Collective; all ranks return the same. settings and context must outlive the session. blobs: a
 * checkpoint's, or none. */
sbag_code_t session_open(const settings_t *settings, sbag_context_h context, const reader_blob_t *blobs,
                         int blob_count, int parts, session_t *session, sbag_status_t *status);
/* The same of a session that loads blobs' checkpoint to predict, with tables kept as `storage` sets it (NULL:
 * as the config says). */
sbag_code_t session_open_model(const settings_t *settings, sbag_context_h context, const reader_blob_t *blobs,
                               int blob_count, session_storage_t storage, void *user, session_t *session,
                               sbag_status_t *status);
/* Not collective: this rank's reader, as the settings describe it; its errors are this rank's own. */
sbag_code_t session_open_reader(const settings_t *settings, int64_t global_batch, comm_t *comm,
                                const reader_blob_t *blobs, int blob_count, mem_t *mem, reader_t **reader,
                                sbag_status_t *status);
/* Not collective: this rank's reader of other files of the config's kind of data, all of whose rows are test
 * samples (of binary samples: their own test samples), by the vocabularies of the session. unlabelled: 1:
 * labels and weights are not read; 2: and there is no column of labels. */
sbag_code_t session_open_files(session_t *session, const config_texts_t *paths, int unlabelled,
                               reader_t **reader, sbag_status_t *status);
/* Not collective. */
void session_close(session_t *session);

/* The reader that is open, whichever it is: for features, samples and blobs. */
const reader_t *session_reader(const session_t *session);

/* Ends the job's collective work after an error of this rank alone: the others' next wait returns it. */
sbag_code_t session_fail(session_t *session, sbag_status_t *status);

/* A reader's batch as the model wants it. bags: [features] storage. */
model_batch_t session_batch(const session_t *session, const reader_batch_t *batch, sbag_bags_t *bags);

#endif
