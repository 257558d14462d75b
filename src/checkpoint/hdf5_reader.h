/* What the files that read share of an open checkpoint. */
#ifndef CHECKPOINT_HDF5_READER_H
#define CHECKPOINT_HDF5_READER_H

#include "checkpoint/checkpoint.h"
#include <hdf5.h>

hid_t hdf5_reader_file(const checkpoint_reader_t *reader);
const char *hdf5_reader_path(const checkpoint_reader_t *reader);
mem_t *hdf5_reader_mem(const checkpoint_reader_t *reader);

#endif
