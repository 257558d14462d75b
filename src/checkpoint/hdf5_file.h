/* The HDF5 side of a checkpoint that is being written. Only the hdf5_*.c files know HDF5 and MPI. */
#ifndef CHECKPOINT_HDF5_FILE_H
#define CHECKPOINT_HDF5_FILE_H

#include "checkpoint/layout.h"

typedef struct hdf5_file hdf5_file_t;

/* Upper bound of the file's bytes. */
int64_t hdf5_file_bound(const layout_item_t *items, int64_t count);

/* Collective, over all of the comm's ranks: makes the file at `path` with every dataset allocated and every
 * attribute in it, reserves its bytes on disk, and brings its metadata there. All ranks return alike; on an
 * error the file is closed. */
sbag_code_t hdf5_file_create(comm_t *comm, mem_t *mem, const char *path, const layout_item_t *items,
                             int64_t count, hdf5_file_t **file, sbag_status_t *status);
/* Writes rows of the item-th declaration. Not collective; rows may be 0. */
sbag_code_t hdf5_file_write(hdf5_file_t *file, int64_t item, int64_t first_row, int64_t rows,
                            const void *data, sbag_status_t *status);
/* Collective, unless the comm is broken: then the file is left as it is. Nulls *file; NULL is allowed. Not an
 * agreement: ranks may return differently. */
sbag_code_t hdf5_file_close(hdf5_file_t **file, sbag_status_t *status);

/* Reserves bytes of the file on disk, so that later writes to it cannot meet a full disk. Creates it if
 * `create`. Not collective. */
sbag_code_t hdf5_file_reserve(const char *path, int create, int64_t bytes, sbag_status_t *status);

#endif
