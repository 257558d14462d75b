/* Quiet errors, types and slabs for HDF5: see hdf5_common.h. */
#include "checkpoint/hdf5_common.h"

#include <stdio.h>

hdf5_quiet_t hdf5_quiet_begin(void) {
  hdf5_quiet_t quiet = {0};
  H5Eget_auto2(H5E_DEFAULT, &quiet.function, &quiet.data);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  return quiet;
}

void hdf5_quiet_end(const hdf5_quiet_t *quiet) {
  H5Eset_auto2(H5E_DEFAULT, quiet->function, quiet->data);
}

/* Called for each entry of the stack, innermost first. */
static herr_t take_first(unsigned n, const H5E_error2_t *error, void *user) {
  char *reason = user;
  if (n == 0 && error->desc != NULL) snprintf(reason, SBAG_MESSAGE_BYTES / 2, "%s", error->desc);
  return 0;
}

sbag_code_t hdf5_failed(sbag_status_t *status, const char *format, ...) {
  char reason[SBAG_MESSAGE_BYTES / 2] = "no reason given", text[SBAG_MESSAGE_BYTES];
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, reason);
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return status_set(status, SBAG_ERR_IO, "%s: HDF5: %s", text, reason);
}

hid_t hdf5_memory_type(checkpoint_type_t type) {
  switch (type) {
  case CHECKPOINT_F32:
    return H5T_NATIVE_FLOAT;
  case CHECKPOINT_F64:
    return H5T_NATIVE_DOUBLE;
  case CHECKPOINT_I64:
    return H5T_NATIVE_INT64;
  case CHECKPOINT_I32:
    return H5T_NATIVE_INT32;
  case CHECKPOINT_U8:
    return H5T_NATIVE_UINT8;
  case CHECKPOINT_OTHER:
    break;
  }
  return H5I_INVALID_HID;
}

hid_t hdf5_disk_type(checkpoint_type_t type) {
  switch (type) {
  case CHECKPOINT_F32:
    return H5T_IEEE_F32LE;
  case CHECKPOINT_F64:
    return H5T_IEEE_F64LE;
  case CHECKPOINT_I64:
    return H5T_STD_I64LE;
  case CHECKPOINT_I32:
    return H5T_STD_I32LE;
  case CHECKPOINT_U8:
    return H5T_STD_U8LE;
  case CHECKPOINT_OTHER:
    break;
  }
  return H5I_INVALID_HID;
}

sbag_code_t hdf5_slab_open(hid_t dataset, const checkpoint_array_t *array, int64_t first_row, int64_t rows,
                           hdf5_slab_t *slab, sbag_status_t *status) {
  hsize_t first[2] = {(hsize_t)first_row, 0};
  hsize_t count[2] = {(hsize_t)rows, (hsize_t)array->shape[1]};
  slab->memory = H5Screate_simple(array->rank, count, NULL);
  slab->disk = H5Dget_space(dataset);
  if (slab->memory >= 0 && slab->disk >= 0 &&
      H5Sselect_hyperslab(slab->disk, H5S_SELECT_SET, first, NULL, count, NULL) >= 0)
    return SBAG_OK;
  sbag_code_t code =
      hdf5_failed(status, "rows %lld to %lld", (long long)first_row, (long long)(first_row + rows));
  hdf5_slab_close(slab);
  return code;
}

void hdf5_slab_close(hdf5_slab_t *slab) {
  if (slab->memory >= 0) H5Sclose(slab->memory);
  if (slab->disk >= 0) H5Sclose(slab->disk);
  slab->memory = slab->disk = H5I_INVALID_HID;
}
