/* Creates a checkpoint's HDF5 file and writes rows into it: parallel HDF5 over the comm's communicator, or
 * the plain driver for a comm without MPI.
 *
 * Every dataset is contiguous and allocated at once, without fill values; large ones start at a multiple of
 * 1 MiB. So after hdf5_file_create nothing but raw data is left to be written, into bytes that are already
 * reserved: HDF5 neither meets a full disk nor has metadata to flush when the file is closed. */
#include "checkpoint/hdf5_file.h"

#include "checkpoint/hdf5_common.h"
#include "comm/comm_mpi.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const int64_t alignment_bytes = (int64_t)1 << 20;
static const int64_t object_bytes = 8 << 10; /* more than HDF5 spends on a dataset, group or attribute */

struct hdf5_file {
  comm_t *comm;
  mem_t *mem;
  const char *path; /* the caller's */
  const layout_item_t *items;
  int64_t count;
  hid_t id;
  hid_t *datasets; /* [count]; invalid for attributes */
};

int64_t hdf5_file_bound(const layout_item_t *items, int64_t count) {
  int64_t bytes = object_bytes;
  for (int64_t i = 0; i < count; i++) {
    bytes += object_bytes;
    for (const char *at = items[i].name; *at != '\0'; at++) bytes += *at == '/' ? object_bytes : 0;
    if (items[i].text != NULL) bytes += (int64_t)strlen(items[i].text);
    if (items[i].key == NULL) {
      int64_t data = layout_array_bytes(&items[i].array);
      bytes += data + (data >= alignment_bytes ? alignment_bytes : 0);
    }
  }
  return bytes;
}

sbag_code_t hdf5_file_reserve(const char *path, int create, int64_t bytes, sbag_status_t *status) {
  int file = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0666);
  if (file < 0)
    return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be created: %s", path, strerror(errno));
  int reason = bytes > 0 ? posix_fallocate(file, 0, (off_t)bytes) : 0;
  if (close(file) != 0 && reason == 0) reason = errno;
  if (reason == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "checkpoint '%s': %lld bytes cannot be reserved: %s", path,
                    (long long)bytes, strerror(reason));
}

/* The access list: which driver, where large objects start. Locks are of no use under a temporary name, and
 * not every parallel file system has them. */
static hid_t access_list(comm_t *comm) {
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  if (list < 0) return list;
  MPI_Comm handle = comm_mpi_handle(comm);
  int good = H5Pset_alignment(list, (hsize_t)alignment_bytes, (hsize_t)alignment_bytes) >= 0 &&
             H5Pset_file_locking(list, 0, 1) >= 0;
  if (good && handle != MPI_COMM_NULL) good = H5Pset_fapl_mpio(list, handle, MPI_INFO_NULL) >= 0;
  if (good) return list;
  H5Pclose(list);
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

static sbag_code_t create_dataset(hdf5_file_t *file, int64_t i, hid_t links, hid_t creation,
                                  sbag_status_t *status) {
  const layout_item_t *item = &file->items[i];
  hsize_t shape[2] = {(hsize_t)item->array.shape[0], (hsize_t)item->array.shape[1]};
  hid_t space = H5Screate_simple(item->array.rank, shape, NULL);
  if (space >= 0)
    file->datasets[i] = H5Dcreate2(file->id, item->name, hdf5_disk_type(item->array.type), space, links,
                                   creation, H5P_DEFAULT);
  sbag_code_t code = SBAG_OK;
  if (space < 0 || file->datasets[i] < 0)
    code = hdf5_failed(status, "checkpoint '%s': array '%s'", file->path, item->name);
  if (space >= 0) H5Sclose(space);
  return code;
}

/* The object that has an attribute: a dataset, or a group that is made if there is none. */
static hid_t open_object(hdf5_file_t *file, const char *name, hid_t links) {
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

static sbag_code_t create_attribute(hdf5_file_t *file, const layout_item_t *item, hid_t links,
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
static sbag_code_t create_objects(hdf5_file_t *file, hid_t links, hid_t creation, sbag_status_t *status) {
  for (int64_t i = 0; i < file->count; i++)
    if (file->items[i].key == NULL) SBAG_TRY(create_dataset(file, i, links, creation, status));
  for (int64_t i = 0; i < file->count; i++)
    if (file->items[i].key != NULL) SBAG_TRY(create_attribute(file, &file->items[i], links, status));
  return SBAG_OK;
}

static sbag_code_t create_all(hdf5_file_t *file, sbag_status_t *status) {
  hid_t access = access_list(file->comm), links = link_list(), creation = dataset_list();
  sbag_code_t code = SBAG_OK;
  if (access >= 0 && links >= 0 && creation >= 0)
    file->id = H5Fcreate(file->path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  if (file->id < 0) code = hdf5_failed(status, "checkpoint '%s': cannot be created", file->path);
  if (code == SBAG_OK) code = create_objects(file, links, creation, status);
  if (access >= 0) H5Pclose(access);
  if (links >= 0) H5Pclose(links);
  if (creation >= 0) H5Pclose(creation);
  return code;
}

/* H5Fcreate gave back what was reserved before it, so the file's size, now known, is reserved again before
 * the first write of any length. */
static sbag_code_t reserve_and_flush(hdf5_file_t *file, sbag_status_t *status) {
  hsize_t bytes = 0;
  sbag_code_t code = SBAG_OK;
  if (H5Fget_filesize(file->id, &bytes) < 0)
    code = hdf5_failed(status, "checkpoint '%s': its size", file->path);
  if (code == SBAG_OK && comm_rank(file->comm) == 0)
    code = hdf5_file_reserve(file->path, 0, (int64_t)bytes, status);
  SBAG_TRY(comm_agree(file->comm, code, status));
  if (H5Fflush(file->id, H5F_SCOPE_LOCAL) < 0)
    code = hdf5_failed(status, "checkpoint '%s': cannot be flushed", file->path);
  return comm_agree(file->comm, code, status);
}

static sbag_code_t allocate(comm_t *comm, mem_t *mem, const layout_item_t *items, int64_t count,
                            const char *path, hdf5_file_t **file, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(hdf5_file_t), "checkpoint: file", &block, status));
  hdf5_file_t *made = block;
  *made = (hdf5_file_t){.comm = comm, .mem = mem, .path = path, .items = items, .count = count};
  made->id = H5I_INVALID_HID;
  *file = made;
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(count, sizeof(hid_t)), "checkpoint: datasets", &block, status));
  made->datasets = block;
  for (int64_t i = 0; i < count; i++) made->datasets[i] = H5I_INVALID_HID;
  return SBAG_OK;
}

sbag_code_t hdf5_file_create(comm_t *comm, mem_t *mem, const char *path, const layout_item_t *items,
                             int64_t count, hdf5_file_t **file, sbag_status_t *status) {
  hdf5_file_t *made = NULL;
  sbag_code_t code = allocate(comm, mem, items, count, path, &made, status);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) {
    hdf5_quiet_t quiet = hdf5_quiet_begin();
    code = create_all(made, status);
    code = comm_agree(comm, code, status);
    if (code == SBAG_OK) code = reserve_and_flush(made, status);
    hdf5_quiet_end(&quiet);
  }
  if (code == SBAG_OK)
    *file = made;
  else
    hdf5_file_close(&made, NULL);
  return code;
}

sbag_code_t hdf5_file_write(hdf5_file_t *file, int64_t item, int64_t first_row, int64_t rows,
                            const void *data, sbag_status_t *status) {
  if (rows == 0) return SBAG_OK;
  const layout_item_t *what = &file->items[item];
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  hdf5_slab_t slab;
  sbag_code_t code = hdf5_slab_open(file->datasets[item], &what->array, first_row, rows, &slab, status);
  if (code == SBAG_OK) {
    if (H5Dwrite(file->datasets[item], hdf5_memory_type(what->array.type), slab.memory, slab.disk,
                 H5P_DEFAULT, data) < 0)
      code = hdf5_failed(status, "checkpoint '%s': array '%s', rows %lld to %lld", file->path, what->name,
                         (long long)first_row, (long long)(first_row + rows - 1));
    hdf5_slab_close(&slab);
  }
  hdf5_quiet_end(&quiet);
  return code;
}

sbag_code_t hdf5_file_close(hdf5_file_t **file, sbag_status_t *status) {
  hdf5_file_t *f = *file;
  if (f == NULL) return SBAG_OK;
  *file = NULL;
  sbag_code_t code = SBAG_OK;
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  if (f->id >= 0 && comm_check(f->comm, NULL) == SBAG_OK) {
    for (int64_t i = 0; i < f->count; i++)
      if (f->datasets[i] >= 0 && H5Dclose(f->datasets[i]) < 0 && code == SBAG_OK)
        code = hdf5_failed(status, "checkpoint '%s': array '%s' cannot be closed", f->path, f->items[i].name);
    if (H5Fclose(f->id) < 0 && code == SBAG_OK)
      code = hdf5_failed(status, "checkpoint '%s': cannot be closed", f->path);
  }
  hdf5_quiet_end(&quiet);
  mem_free(f->mem, f->datasets);
  mem_free(f->mem, f);
  return code;
}
