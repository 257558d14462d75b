/* What the HDF5 files share: quiet errors, and types. */
#ifndef CHECKPOINT_HDF5_COMMON_H
#define CHECKPOINT_HDF5_COMMON_H

#include "checkpoint/checkpoint.h"
#include <hdf5.h>
#include <stdarg.h>

/* HDF5 prints its error stack by itself. It is told not to for the length of a call of ours, and then set
 * back to what the program had. */
typedef struct hdf5_quiet {
  H5E_auto2_t function;
  void *data;
} hdf5_quiet_t;
hdf5_quiet_t hdf5_quiet_begin(void);
void hdf5_quiet_end(const hdf5_quiet_t *quiet);

/* Sets SBAG_ERR_IO with the text and HDF5's innermost reason; call it before any other HDF5 call. */
sbag_code_t hdf5_failed(sbag_status_t *status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The type in memory and on disk (little-endian), to be closed; H5I_INVALID_HID for CHECKPOINT_OTHER. */
hid_t hdf5_memory_type(checkpoint_type_t type);
hid_t hdf5_disk_type(checkpoint_type_t type);
/* Which of ours a type of a file is. */
checkpoint_type_t hdf5_type_of(hid_t type);

/* Rows of an open dataset. The memory space has the dataset's rank: one of another rank is 10 to 40 times
 * slower. */
typedef struct hdf5_slab {
  hid_t memory, disk;
} hdf5_slab_t;
sbag_code_t hdf5_slab_open(hid_t dataset, const checkpoint_array_t *array, int64_t first_row, int64_t rows,
                           hdf5_slab_t *slab, sbag_status_t *status);
void hdf5_slab_close(hdf5_slab_t *slab);

#endif
