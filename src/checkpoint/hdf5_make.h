/* The HDF5 part of a checkpoint that is being written. One rank makes the whole of it by the plain driver and
 * closes it: every dataset is contiguous, allocated at once and without fill values, so that its rows can
 * then be written beside HDF5 by every rank, at an offset. HDF5 is thus neither in the way of the data, nor
 * does it meet a failing disk when there is something to lose. */
#ifndef CHECKPOINT_HDF5_MAKE_H
#define CHECKPOINT_HDF5_MAKE_H

#include "checkpoint/layout.h"

typedef struct hdf5_place {
  int64_t *offsets; /* [items]: of a dataset's first row in the file; 0 where there are no rows */
  int64_t bytes;    /* of the file */
} hdf5_place_t;

/* Upper bound of the file's bytes. */
int64_t hdf5_make_bound(const layout_item_t *items, int64_t count);

/* Makes the file at `path`, with every dataset and attribute, and closes it. place->offsets is the caller's.
 * Not collective. */
sbag_code_t hdf5_make(const char *path, const layout_item_t *items, int64_t count, hdf5_place_t *place,
                      sbag_status_t *status);

#endif
