/* A model to answer by: made from a checkpoint alone, without the data that it was trained on. Of the file
 * only weights are read, and no rank has memory for gradients of tables or for optimizers. */
#ifndef TRAIN_SERVED_H
#define TRAIN_SERVED_H

#include "train/inputs.h"
#include "train/snapshot.h"

/* The settings that the checkpoint was trained by, with `sets` applied after those of the training. Not
 * collective. */
sbag_code_t served_settings(const snapshot_t *snapshot, const char *const *sets, int set_count,
                            settings_t *settings, sbag_status_t *status);

typedef struct served {
  session_t session; /* without readers */
  inputs_kept_t inputs;
  checkpoint_reader_t *file; /* of mapped tables; NULL: they are in memory */
  int64_t *piece_rows;       /* likewise: [tables] rows that have a checksum together; 0: a table in memory */
} served_t;

/* How a model is loaded. */
typedef struct served_how {
  const sbag_storage_t *storage; /* of all tables; NULL: as the settings say */
  int mapped;                    /* the tables' rows are read where the file is mapped, and not before */
  int beside;                    /* another is in memory: refused where this one does not fit beside it */
  checkpoint_pause_t pause;      /* NULL: none */
  void *pauser;
} served_how_t;

/* Collective. A plan's ranks that are not there are taken as all: what is served does not have to run on as
 * many ranks as were trained on. A checkpoint of before serving does not tell the model's inputs: the data
 * that the settings name are opened then, for their features alone. */
sbag_code_t served_open(snapshot_t *snapshot, const settings_t *settings, sbag_context_h context,
                        const served_how_t *how, served_t *served, sbag_status_t *status);
/* Not collective: holds a piece of a mapped table against its checksum, as has to be done before one of its
 * rows is looked up. SBAG_ERR_FORMAT names table and rows. */
sbag_code_t served_check(const served_t *served, int table, int64_t piece, sbag_status_t *status);
/* Not collective. */
void served_close(served_t *served);

#endif
