/* A run's state in one checkpoint file, and back.
 *
 *   tables/<table>/weight          [rows][dim]
 *   tables/<table>/state/<state>   [rows][dim] or [rows]: the table's optimizer
 *   dense/<array>                  the dense layers and their optimizer's state
 *   reader/<blob>                  vocabularies and transforms: they belong to the model
 *   config                         the config's text
 *   attributes of the file         format, version, name, step, epoch */
#ifndef TRAIN_SNAPSHOT_H
#define TRAIN_SNAPSHOT_H

#include "checkpoint/checkpoint.h"
#include "train/session.h"

/* Collective. Replaces a file of that name in one go: it is the old or the new one at any time. */
sbag_code_t snapshot_save(session_t *session, const char *path, int64_t step, int64_t epoch,
                          sbag_status_t *status);

/* What is read before a session exists. */
typedef struct snapshot {
  checkpoint_reader_t *file;
  const char *path; /* borrowed */
  int64_t step;
  reader_blob_t *blobs;
  int blob_count;
  mem_t *mem;
} snapshot_t;

/* Collective. */
sbag_code_t snapshot_open(comm_t *comm, mem_t *mem, const char *path, snapshot_t *snapshot,
                          sbag_status_t *status);
/* Collective: tables and dense layers into the session's model. Tables and shapes that differ are refused. */
sbag_code_t snapshot_load(snapshot_t *snapshot, session_t *session, sbag_status_t *status);
/* Not collective. */
void snapshot_close(snapshot_t *snapshot);

#endif
