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

/* Floats that HDF5 has no name for: a sign, `exponent` bits, and below them the mantissa. */
enum { F16_EXPONENT = 5, BF16_EXPONENT = 8, NARROW_BITS = 16 };

static hid_t narrow_type(hid_t base, unsigned exponent) {
  const size_t mantissa = NARROW_BITS - 1 - exponent;
  hid_t type = H5Tcopy(base);
  if (type >= 0 && H5Tset_fields(type, NARROW_BITS - 1, mantissa, exponent, 0, mantissa) >= 0 &&
      H5Tset_size(type, NARROW_BITS / 8) >= 0 && H5Tset_ebias(type, (1u << (exponent - 1)) - 1) >= 0)
    return type;
  if (type >= 0) H5Tclose(type);
  return H5I_INVALID_HID;
}

hid_t hdf5_memory_type(checkpoint_type_t type) {
  switch (type) {
  case CHECKPOINT_F32:
    return H5Tcopy(H5T_NATIVE_FLOAT);
  case CHECKPOINT_F64:
    return H5Tcopy(H5T_NATIVE_DOUBLE);
  case CHECKPOINT_I64:
    return H5Tcopy(H5T_NATIVE_INT64);
  case CHECKPOINT_I32:
    return H5Tcopy(H5T_NATIVE_INT32);
  case CHECKPOINT_U8:
    return H5Tcopy(H5T_NATIVE_UINT8);
  case CHECKPOINT_F16:
    return narrow_type(H5T_NATIVE_FLOAT, F16_EXPONENT);
  case CHECKPOINT_BF16:
    return narrow_type(H5T_NATIVE_FLOAT, BF16_EXPONENT);
  case CHECKPOINT_OTHER:
    break;
  }
  return H5I_INVALID_HID;
}

hid_t hdf5_disk_type(checkpoint_type_t type) {
  switch (type) {
  case CHECKPOINT_F32:
    return H5Tcopy(H5T_IEEE_F32LE);
  case CHECKPOINT_F64:
    return H5Tcopy(H5T_IEEE_F64LE);
  case CHECKPOINT_I64:
    return H5Tcopy(H5T_STD_I64LE);
  case CHECKPOINT_I32:
    return H5Tcopy(H5T_STD_I32LE);
  case CHECKPOINT_U8:
    return H5Tcopy(H5T_STD_U8LE);
  case CHECKPOINT_F16:
    return narrow_type(H5T_IEEE_F32LE, F16_EXPONENT);
  case CHECKPOINT_BF16:
    return narrow_type(H5T_IEEE_F32LE, BF16_EXPONENT);
  case CHECKPOINT_OTHER:
    break;
  }
  return H5I_INVALID_HID;
}

static checkpoint_type_t narrow_type_of(hid_t type) {
  size_t sign, exponent, exponent_bits, mantissa, mantissa_bits;
  if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0 ||
      sign != NARROW_BITS - 1 || mantissa != 0 || exponent != mantissa_bits ||
      exponent_bits + mantissa_bits != NARROW_BITS - 1 || H5Tget_norm(type) != H5T_NORM_IMPLIED ||
      H5Tget_ebias(type) != ((size_t)1 << (exponent_bits - 1)) - 1)
    return CHECKPOINT_OTHER;
  return exponent_bits == F16_EXPONENT    ? CHECKPOINT_F16
         : exponent_bits == BF16_EXPONENT ? CHECKPOINT_BF16
                                          : CHECKPOINT_OTHER;
}

checkpoint_type_t hdf5_type_of(hid_t type) {
  size_t bytes = H5Tget_size(type);
  H5T_class_t class = H5Tget_class(type);
  if (class == H5T_FLOAT && bytes == 2) return narrow_type_of(type);
  if (class == H5T_FLOAT && bytes == 4) return CHECKPOINT_F32;
  if (class == H5T_FLOAT && bytes == 8) return CHECKPOINT_F64;
  if (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2 && bytes == 8) return CHECKPOINT_I64;
  if (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2 && bytes == 4) return CHECKPOINT_I32;
  if (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE && bytes == 1) return CHECKPOINT_U8;
  return CHECKPOINT_OTHER;
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
