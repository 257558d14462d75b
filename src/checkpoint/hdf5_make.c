/* Makes a checkpoint's HDF5 file, in memory, on one rank: see hdf5_make.h. */
#include "checkpoint/hdf5_make.h"

#include "checkpoint/hdf5_common.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const int64_t alignment_bytes = (int64_t)1 << 20;

typedef struct making {
  const char *path, *in_memory; /* for messages, and for HDF5 */
  const layout_item_t *items;
  int64_t count;
  hid_t id;
  hdf5_place_t *place;
} making_t;

/* Where large objects start. The stdio driver, because the others ask for the file's real path, which one in
 * memory has not. */
static hid_t access_list(void) {
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  if (list >= 0 && H5Pset_alignment(list, (hsize_t)alignment_bytes, (hsize_t)alignment_bytes) >= 0 &&
      H5Pset_fapl_stdio(list) >= 0)
    return list;
  if (list >= 0) H5Pclose(list);
  return H5I_INVALID_HID;
}

/* Parent groups are made as needed. */
static hid_t link_list(void) {
  hid_t list = H5Pcreate(H5P_LINK_CREATE);
  if (list >= 0 && H5Pset_create_intermediate_group(list, 1) >= 0) return list;
  H5Pclose(list);
  return H5I_INVALID_HID;
}

/* Contiguous, allocated at once, no fill values, no time stamps (equal contents give equal files). */
static hid_t dataset_list(void) {
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  if (list >= 0 && H5Pset_layout(list, H5D_CONTIGUOUS) >= 0 &&
      H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY) >= 0 &&
      H5Pset_fill_time(list, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(list, 0) >= 0)
    return list;
  H5Pclose(list);
  return H5I_INVALID_HID;
}

/* The offset of an array without rows is none; it counts as 0. */
static sbag_code_t create_dataset(making_t *file, int64_t i, hid_t links, hid_t creation,
                                  sbag_status_t *status) {
  const layout_item_t *item = &file->items[i];
  hsize_t shape[2] = {(hsize_t)item->array.shape[0], (hsize_t)item->array.shape[1]};
  hid_t dataset = H5I_INVALID_HID, space = H5Screate_simple(item->array.rank, shape, NULL);
  hid_t type = hdf5_disk_type(item->array.type);
  if (space >= 0 && type >= 0)
    dataset = H5Dcreate2(file->id, item->name, type, space, links, creation, H5P_DEFAULT);
  haddr_t offset = dataset >= 0 && shape[0] > 0 ? H5Dget_offset(dataset) : 0;
  sbag_code_t code = SBAG_OK;
  if (dataset < 0 || offset == HADDR_UNDEF)
    code = hdf5_failed(status, "checkpoint '%s': array '%s'", file->path, item->name);
  file->place->offsets[i] = (int64_t)offset;
  if (dataset >= 0) H5Dclose(dataset);
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  return code;
}

/* The object that has an attribute: a dataset, or a group that is made if there is none. */
static hid_t open_object(making_t *file, const char *name, hid_t links) {
  if (name[0] == '\0') return H5Gopen2(file->id, "/", H5P_DEFAULT);
  hid_t object = H5Oopen(file->id, name, H5P_DEFAULT);
  if (object >= 0) return object;
  return H5Gcreate2(file->id, name, links, H5P_DEFAULT, H5P_DEFAULT);
}

/* Text has a fixed length; h5py gives such an attribute as bytes. */
static hid_t value_type(const layout_item_t *item) {
  if (item->kind == LAYOUT_INT) return H5Tcopy(H5T_STD_I64LE);
  if (item->kind == LAYOUT_REAL) return H5Tcopy(H5T_IEEE_F64LE);
  size_t bytes = strlen(item->text);
  hid_t type = H5Tcopy(H5T_C_S1);
  if (type >= 0 && H5Tset_size(type, bytes > 0 ? bytes : 1) >= 0 &&
      H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0)
    return type;
  if (type >= 0) H5Tclose(type);
  return H5I_INVALID_HID;
}

static int write_value(hid_t attribute, hid_t type, const layout_item_t *item) {
  if (item->kind == LAYOUT_INT) return H5Awrite(attribute, H5T_NATIVE_INT64, &item->integer) >= 0;
  if (item->kind == LAYOUT_REAL) return H5Awrite(attribute, H5T_NATIVE_DOUBLE, &item->real) >= 0;
  return H5Awrite(attribute, type, item->text) >= 0;
}

static sbag_code_t create_attribute(making_t *file, const layout_item_t *item, hid_t links,
                                    sbag_status_t *status) {
  hid_t space = H5Screate(H5S_SCALAR), type = value_type(item), object = open_object(file, item->name, links);
  hid_t attribute = H5I_INVALID_HID;
  if (space >= 0 && type >= 0 && object >= 0)
    attribute = H5Acreate2(object, item->key, type, space, H5P_DEFAULT, H5P_DEFAULT);
  sbag_code_t code = SBAG_OK;
  if (attribute < 0 || !write_value(attribute, type, item))
    code = hdf5_failed(status, "checkpoint '%s': attribute '%s' of '%s'", file->path, item->key, item->name);
  if (attribute >= 0) H5Aclose(attribute);
  if (object >= 0) H5Oclose(object);
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  return code;
}

/* Datasets first: an attribute of an object that is no dataset makes it a group. */
static sbag_code_t create_objects(making_t *file, hid_t links, hid_t creation, sbag_status_t *status) {
  for (int64_t i = 0; i < file->count; i++)
    if (file->items[i].key == NULL) SBAG_TRY(create_dataset(file, i, links, creation, status));
  for (int64_t i = 0; i < file->count; i++)
    if (file->items[i].key != NULL) SBAG_TRY(create_attribute(file, &file->items[i], links, status));
  return SBAG_OK;
}

static sbag_code_t create_all(making_t *file, sbag_status_t *status) {
  hid_t access = access_list(), links = link_list(), creation = dataset_list();
  sbag_code_t code = SBAG_OK;
  if (access >= 0 && links >= 0 && creation >= 0)
    file->id = H5Fcreate(file->in_memory, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  if (file->id < 0) code = hdf5_failed(status, "checkpoint '%s': cannot be created", file->path);
  if (code == SBAG_OK) code = create_objects(file, links, creation, status);
  if (access >= 0) H5Pclose(access);
  if (links >= 0) H5Pclose(links);
  if (creation >= 0) H5Pclose(creation);
  return code;
}

static sbag_code_t make(making_t *file, sbag_status_t *status) {
  sbag_code_t code = create_all(file, status);
  hsize_t bytes = 0;
  if (code == SBAG_OK && (H5Fflush(file->id, H5F_SCOPE_LOCAL) < 0 || H5Fget_filesize(file->id, &bytes) < 0))
    code = hdf5_failed(status, "checkpoint '%s': cannot be written", file->path);
  if (file->id >= 0 && H5Fclose(file->id) < 0 && code == SBAG_OK)
    code = hdf5_failed(status, "checkpoint '%s': cannot be closed", file->path);
  file->place->bytes = (int64_t)bytes;
  return code;
}

sbag_code_t hdf5_make(const char *path, const layout_item_t *items, int64_t count, hdf5_place_t *place,
                      int *file, sbag_status_t *status) {
  char in_memory[64];
  int made = memfd_create("shardbag-checkpoint", MFD_CLOEXEC);
  if (made < 0)
    return status_set(status, SBAG_ERR_IO, "checkpoint '%s': no file in memory: %s", path, strerror(errno));
  snprintf(in_memory, sizeof in_memory, "/proc/self/fd/%d", made);
  making_t making = {.path = path,
                     .in_memory = in_memory,
                     .items = items,
                     .count = count,
                     .id = H5I_INVALID_HID,
                     .place = place};
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  sbag_code_t code = make(&making, status);
  hdf5_quiet_end(&quiet);
  if (code == SBAG_OK)
    *file = made;
  else
    close(made);
  return code;
}
