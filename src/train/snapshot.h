/* A run's state in one checkpoint file, and back.
 *
 *   tables/<table>/weight          [rows][dim]
 *   tables/<table>/state/<state>   [rows][dim] or [rows]: the table's optimizer
 *   dense/<array>                  the dense layers, and as dense/state/... their optimizer's state
 *   reader/<blob>                  vocabularies and transforms: they belong to the model
 *   inputs                         what the model takes (inputs.h); not in files of before serving
 *   config                         the config's text
 *   attributes of tables/<table>   optimizer, lr, steps (updates that the table has made); the plan: layout,
 * ranks, replicated
 *   attributes of dense            optimizer, lr
 *   attributes of metrics/train, metrics/valid   the last numbers
 *   attributes of the file         format, version, name, ranks; what progress.h holds; and what the order of
 * the samples follows from: seed, data_seed, split_seed, shuffle, shuffle_window, global_batch and
 * train_samples
 * Every array and group has an attribute description, every array a unit, and every object with numbers as
 * attributes has their units in its attribute units, a line "key: unit" each.
 */
#ifndef TRAIN_SNAPSHOT_H
#define TRAIN_SNAPSHOT_H

#include "checkpoint/checkpoint.h"
#include "train/progress.h"
#include "train/session.h"

/* Collective. Replaces a file of that name in one go: it is the old or the new one at any time. */
sbag_code_t snapshot_save(session_t *session, const char *path, const progress_t *progress,
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
/* In which type the file has a table's weights; CHECKPOINT_OTHER for a table that it has not. Not collective.
 */
checkpoint_type_t snapshot_table_type(const snapshot_t *snapshot, const char *table);
/* Collective: tables and dense layers into the session's model. Tables and shapes that differ are refused. */
sbag_code_t snapshot_load(snapshot_t *snapshot, session_t *session, sbag_status_t *status);
/* Collective: the same, but the tables are read where the file is mapped (collection_map): the snapshot's
 * file must outlive the model. piece_rows: [tables]. */
sbag_code_t snapshot_map(snapshot_t *snapshot, session_t *session, int64_t *piece_rows,
                         sbag_status_t *status);
/* Collective: where the run stood. SBAG_ERR_FORMAT for a file that no training run has written. */
sbag_code_t snapshot_progress(const snapshot_t *snapshot, comm_t *comm, progress_t *progress,
                              sbag_status_t *status);
/* Collective: as snapshot_load, and all else that training goes on from. Also refused, as SBAG_ERR_ARGUMENT:
 * other optimizers than the file's, and a config by which the samples come in another order. What does not
 * match its checksum is SBAG_ERR_FORMAT, and the model is then half loaded. */
sbag_code_t snapshot_resume(snapshot_t *snapshot, session_t *session, sbag_status_t *status);
/* Not collective. */
void snapshot_close(snapshot_t *snapshot);

#endif
