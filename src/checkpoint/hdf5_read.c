/* Reads a checkpoint. Every rank opens the file by itself with HDF5's plain driver: reading needs no
 * agreement inside HDF5, so a rank can ask for any rows at any time, and an error on one rank cannot leave
 * another waiting in a collective call. The names are listed once, when the file is opened. */
#include "checkpoint/hdf5_common.h"
#include "checkpoint/hdf5_reader.h"
#include "checkpoint/layout.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct listed {
  char *name;
  checkpoint_array_t array;
} listed_t;

struct checkpoint_reader {
  comm_t *comm;
  mem_t *mem;
  char *path;
  hid_t file;
  listed_t *arrays; /* sorted by name */
  int64_t count, capacity, chunk_bytes;
};

hid_t hdf5_reader_file(const checkpoint_reader_t *reader) {
  return reader->file;
}

const char *hdf5_reader_path(const checkpoint_reader_t *reader) {
  return reader->path;
}

mem_t *hdf5_reader_mem(const checkpoint_reader_t *reader) {
  return reader->mem;
}

static checkpoint_type_t type_of(hid_t type) {
  size_t bytes = H5Tget_size(type);
  H5T_class_t class = H5Tget_class(type);
  if (class == H5T_FLOAT && bytes == 4) return CHECKPOINT_F32;
  if (class == H5T_FLOAT && bytes == 8) return CHECKPOINT_F64;
  if (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2 && bytes == 8) return CHECKPOINT_I64;
  if (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2 && bytes == 4) return CHECKPOINT_I32;
  if (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE && bytes == 1) return CHECKPOINT_U8;
  return CHECKPOINT_OTHER;
}

/* Type and shape of an open dataset; a shape that this layer does not read makes the type OTHER. */
static checkpoint_array_t describe(hid_t dataset) {
  checkpoint_array_t array = {CHECKPOINT_OTHER, 0, {0, 1}};
  hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
  hsize_t shape[2] = {0, 1};
  if (type >= 0 && space >= 0) {
    array.rank = H5Sget_simple_extent_ndims(space);
    if ((array.rank == 1 || array.rank == 2) && H5Sget_simple_extent_dims(space, shape, NULL) >= 0 &&
        shape[1] > 0 && shape[1] < INT64_MAX / 32 && shape[0] < INT64_MAX / 32 / shape[1]) {
      array.type = type_of(type);
      array.shape[0] = (int64_t)shape[0];
      array.shape[1] = (int64_t)shape[1];
    }
  }
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  return array;
}

static sbag_code_t copy_name(mem_t *mem, const char *name, char **copy, sbag_status_t *status) {
  void *block = NULL;
  size_t bytes = strlen(name) + 1;
  SBAG_TRY(mem_alloc(mem, bytes, "checkpoint: name", &block, status));
  memcpy(block, name, bytes);
  *copy = block;
  return SBAG_OK;
}

static sbag_code_t list_one(checkpoint_reader_t *r, const char *name, sbag_status_t *status) {
  hid_t dataset = H5Dopen2(r->file, name, H5P_DEFAULT);
  if (dataset < 0) return hdf5_failed(status, "checkpoint '%s': array '%s'", r->path, name);
  checkpoint_array_t array = describe(dataset);
  H5Dclose(dataset);
  if (r->count == r->capacity) {
    void *block = r->arrays;
    int64_t capacity = r->capacity > 0 ? 2 * r->capacity : 32;
    SBAG_TRY(
        mem_realloc(r->mem, mem_array_bytes(capacity, sizeof(listed_t)), "checkpoint: list", &block, status));
    r->arrays = block;
    r->capacity = capacity;
  }
  listed_t *made = &r->arrays[r->count];
  made->array = array;
  SBAG_TRY(copy_name(r->mem, name, &made->name, status));
  r->count++;
  return SBAG_OK;
}

typedef struct visit {
  checkpoint_reader_t *reader;
  sbag_code_t code;
  sbag_status_t *status;
} visit_t;

static herr_t visit_object(hid_t file, const char *name, const H5O_info_t *info, void *user) {
  (void)file;
  visit_t *v = user;
  if (info->type == H5O_TYPE_DATASET) v->code = list_one(v->reader, name, v->status);
  return v->code == SBAG_OK ? 0 : -1;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const listed_t *)a)->name, ((const listed_t *)b)->name);
}

static sbag_code_t list_all(checkpoint_reader_t *r, sbag_status_t *status) {
  visit_t visit = {.reader = r, .code = SBAG_OK, .status = status};
  herr_t result = H5Ovisit2(r->file, H5_INDEX_NAME, H5_ITER_NATIVE, visit_object, &visit, H5O_INFO_BASIC);
  if (visit.code != SBAG_OK) return visit.code;
  if (result < 0) return hdf5_failed(status, "checkpoint '%s': its list of names", r->path);
  qsort(r->arrays, (size_t)r->count, sizeof *r->arrays, by_name);
  return SBAG_OK;
}

static sbag_code_t open_file(checkpoint_reader_t *r, sbag_status_t *status) {
  if (access(r->path, R_OK) != 0)
    return status_set(status, SBAG_ERR_IO, "checkpoint '%s': cannot be read: %s", r->path, strerror(errno));
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  /* No locks: a file under its final name is never written again, and not every file system has them. */
  if (list < 0 || H5Pset_file_locking(list, 0, 1) < 0)
    return hdf5_failed(status, "checkpoint '%s': cannot be opened", r->path);
  r->file = H5Fopen(r->path, H5F_ACC_RDONLY, list);
  sbag_code_t code = SBAG_OK;
  if (r->file < 0) {
    code = hdf5_failed(status, "checkpoint '%s': is no HDF5 file, or a damaged one", r->path);
    if (status != NULL) status->code = SBAG_ERR_FORMAT;
    code = SBAG_ERR_FORMAT;
  }
  H5Pclose(list);
  return code == SBAG_OK ? list_all(r, status) : code;
}

static sbag_code_t create_reader(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                                 sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(checkpoint_reader_t), "checkpoint: reader", &block, status));
  checkpoint_reader_t *made = block;
  made->comm = comm;
  made->mem = mem;
  made->chunk_bytes = LAYOUT_CHUNK_BYTES;
  made->file = H5I_INVALID_HID;
  *reader = made;
  SBAG_TRY(copy_name(mem, path, &made->path, status));
  return open_file(made, status);
}

sbag_code_t checkpoint_open(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                            sbag_status_t *status) {
  checkpoint_reader_t *made = NULL;
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  sbag_code_t code = create_reader(comm, mem, path, &made, status);
  hdf5_quiet_end(&quiet);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK)
    *reader = made;
  else
    checkpoint_close(&made);
  return code;
}

void checkpoint_close(checkpoint_reader_t **reader) {
  if (reader == NULL || *reader == NULL) return;
  checkpoint_reader_t *r = *reader;
  *reader = NULL;
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  if (r->file >= 0) H5Fclose(r->file);
  hdf5_quiet_end(&quiet);
  mem_t *mem = r->mem;
  for (int64_t i = 0; i < r->count; i++) mem_free(mem, r->arrays[i].name);
  mem_free(mem, r->arrays);
  mem_free(mem, r->path);
  mem_free(mem, r);
}

void checkpoint_reader_set_chunk(checkpoint_reader_t *reader, int64_t bytes) {
  reader->chunk_bytes = bytes > 0 ? bytes : LAYOUT_CHUNK_BYTES;
}

int64_t checkpoint_count(const checkpoint_reader_t *reader) {
  return reader->count;
}

const char *checkpoint_name(const checkpoint_reader_t *reader, int64_t i) {
  return reader->arrays[i].name;
}

static const listed_t *find(const checkpoint_reader_t *r, const char *name) {
  int64_t low = 0, high = r->count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int order = strcmp(name, r->arrays[middle].name);
    if (order == 0) return &r->arrays[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

int checkpoint_exists(const checkpoint_reader_t *reader, const char *name) {
  return find(reader, name) != NULL;
}

sbag_code_t checkpoint_array_info(const checkpoint_reader_t *reader, const char *name,
                                  checkpoint_array_t *array, sbag_status_t *status) {
  const listed_t *found = find(reader, name);
  if (found == NULL)
    return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': there is no array '%s' among its %lld",
                      reader->path, name, (long long)reader->count);
  *array = found->array;
  return SBAG_OK;
}

/* "f32 [100][16]"; a negative number prints as "any". */
static const char *shape_text(char text[96], checkpoint_type_t type, int rank, const int64_t *shape) {
  char number[2][24] = {"any", "any"};
  for (int i = 0; i < 2 && i < rank; i++)
    if (shape[i] >= 0) snprintf(number[i], sizeof number[i], "%" PRId64, shape[i]);
  if (rank == 1 || rank == 2)
    snprintf(text, 96, rank == 1 ? "%s [%s]" : "%s [%s][%s]", checkpoint_type_name(type), number[0],
             number[1]);
  else
    snprintf(text, 96, "%s of %d dimensions", checkpoint_type_name(type), rank);
  return text;
}

sbag_code_t checkpoint_expect(const checkpoint_reader_t *reader, const char *name, checkpoint_type_t type,
                              int rank, const int64_t *shape, sbag_status_t *status) {
  checkpoint_array_t found;
  SBAG_TRY(checkpoint_array_info(reader, name, &found, status));
  int equal = found.type == type && found.rank == rank;
  for (int i = 0; equal && i < rank; i++) equal = shape[i] < 0 || shape[i] == found.shape[i];
  if (equal) return SBAG_OK;
  char is[96], wanted[96];
  return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': '%s' is %s; expected %s", reader->path, name,
                    shape_text(is, found.type, found.rank, found.shape),
                    shape_text(wanted, type, rank, shape));
}

/* An array that this layer can read, opened. */
static sbag_code_t open_array(const checkpoint_reader_t *r, const char *name, checkpoint_array_t *array,
                              hid_t *dataset, sbag_status_t *status) {
  SBAG_TRY(checkpoint_array_info(r, name, array, status));
  if (array->type == CHECKPOINT_OTHER)
    return status_set(status, SBAG_ERR_UNSUPPORTED,
                      "checkpoint '%s': '%s' is no array of 1 or 2 dimensions of f32, f64, i64, i32 or u8",
                      r->path, name);
  *dataset = H5Dopen2(r->file, name, H5P_DEFAULT);
  if (*dataset < 0) return hdf5_failed(status, "checkpoint '%s': array '%s'", r->path, name);
  return SBAG_OK;
}

static sbag_code_t read_slab(const checkpoint_reader_t *r, const char *name, hid_t dataset,
                             const checkpoint_array_t *array, int64_t first_row, int64_t rows, void *out,
                             sbag_status_t *status) {
  if (rows == 0) return SBAG_OK;
  hdf5_slab_t slab;
  SBAG_TRY(hdf5_slab_open(dataset, array, first_row, rows, &slab, status));
  sbag_code_t code = SBAG_OK;
  if (H5Dread(dataset, hdf5_memory_type(array->type), slab.memory, slab.disk, H5P_DEFAULT, out) < 0)
    code = hdf5_failed(status, "checkpoint '%s': array '%s', rows %lld to %lld", r->path, name,
                       (long long)first_row, (long long)(first_row + rows - 1));
  hdf5_slab_close(&slab);
  return code;
}

static sbag_code_t read_rows(checkpoint_reader_t *r, const char *name, int64_t first_row, int64_t rows,
                             void *out, sbag_status_t *status) {
  checkpoint_array_t array;
  hid_t dataset = H5I_INVALID_HID;
  SBAG_TRY(open_array(r, name, &array, &dataset, status));
  sbag_code_t code = SBAG_OK;
  if (first_row < 0 || rows < 0 || first_row > array.shape[0] || rows > array.shape[0] - first_row)
    code = status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint '%s': '%s' has %lld rows; %lld rows from row %lld are not in it", r->path,
                      name, (long long)array.shape[0], (long long)rows, (long long)first_row);
  else
    code = read_slab(r, name, dataset, &array, first_row, rows, out, status);
  H5Dclose(dataset);
  return code;
}

sbag_code_t checkpoint_read_rows(checkpoint_reader_t *reader, const char *name, int64_t first_row,
                                 int64_t rows, void *out, sbag_status_t *status) {
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  sbag_code_t code = read_rows(reader, name, first_row, rows, out, status);
  hdf5_quiet_end(&quiet);
  return code;
}

/* Agreed on twice a chunk: nobody may enter `take` alone. */
static sbag_code_t hand_out(checkpoint_reader_t *r, const char *name, const checkpoint_array_t *array,
                            hid_t dataset, void *chunk, checkpoint_take_t take, void *user,
                            sbag_status_t *status) {
  layout_walk_t walk = layout_walk(array, r->chunk_bytes, comm_rank(r->comm), comm_size(r->comm));
  for (int64_t c = 0; c < walk.chunk_count; c++) {
    int64_t first = layout_chunk_first(&walk, c), rows = layout_chunk_rows(&walk, c);
    hdf5_quiet_t quiet = hdf5_quiet_begin();
    sbag_code_t code = read_slab(r, name, dataset, array, first, rows, chunk, status);
    hdf5_quiet_end(&quiet);
    SBAG_TRY(comm_agree(r->comm, code, status));
    code = take(user, first, rows, chunk, status);
    SBAG_TRY(comm_agree(r->comm, code, status));
  }
  return SBAG_OK;
}

sbag_code_t checkpoint_read_array(checkpoint_reader_t *reader, const char *name, checkpoint_take_t take,
                                  void *user, sbag_status_t *status) {
  checkpoint_array_t array;
  hid_t dataset = H5I_INVALID_HID;
  void *chunk = NULL;
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  sbag_code_t code = open_array(reader, name, &array, &dataset, status);
  hdf5_quiet_end(&quiet);
  if (code == SBAG_OK) {
    layout_walk_t walk =
        layout_walk(&array, reader->chunk_bytes, comm_rank(reader->comm), comm_size(reader->comm));
    size_t bytes = mem_array_bytes(walk.rows_per_chunk, (size_t)layout_row_bytes(&array));
    code = mem_alloc(reader->mem, bytes, "checkpoint: chunk", &chunk, status);
  }
  code = comm_agree(reader->comm, code, status);
  if (code == SBAG_OK) code = hand_out(reader, name, &array, dataset, chunk, take, user, status);
  mem_free(reader->mem, chunk);
  if (dataset >= 0) H5Dclose(dataset);
  return code;
}

sbag_code_t checkpoint_read_blob(checkpoint_reader_t *reader, const char *name, void **data, int64_t *bytes,
                                 sbag_status_t *status) {
  checkpoint_array_t array = {0};
  int64_t any = -1;
  SBAG_TRY(checkpoint_expect(reader, name, CHECKPOINT_U8, 1, &any, status));
  SBAG_TRY(checkpoint_array_info(reader, name, &array, status));
  void *block = NULL;
  SBAG_TRY(mem_alloc(reader->mem, (size_t)array.shape[0] + 1, "checkpoint: blob", &block, status));
  sbag_code_t code = checkpoint_read_rows(reader, name, 0, array.shape[0], block, status);
  if (code != SBAG_OK) {
    mem_free(reader->mem, block);
    return code;
  }
  ((char *)block)[array.shape[0]] = '\0';
  *data = block;
  *bytes = array.shape[0];
  return SBAG_OK;
}
