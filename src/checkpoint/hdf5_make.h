/* The HDF5 part of a checkpoint that is being written. One rank makes the whole of it and closes it: every
 * dataset is contiguous, allocated at once and without fill values, so that its rows can then be written
 * beside HDF5 by every rank, at an offset. It is made in a file that lies in memory, because libhdf5 1.10
 * does not survive an H5Fclose that cannot write; a real disk is thus met by our own calls alone. */
#ifndef CHECKPOINT_HDF5_MAKE_H
#define CHECKPOINT_HDF5_MAKE_H

#include "checkpoint/layout.h"

typedef struct hdf5_place {
  int64_t *offsets; /* [items]: of a dataset's first row in the file; 0 where there are no rows */
  int64_t bytes;    /* of the file */
} hdf5_place_t;

/* Makes the file, with every dataset and attribute. *file is a descriptor of it, for the caller to close;
 * what is not written in it are holes. place->offsets is the caller's, `path` is for messages. Not
 * collective. */
sbag_code_t hdf5_make(const char *path, const layout_item_t *items, int64_t count, hdf5_place_t *place,
                      int *file, sbag_status_t *status);

#endif
