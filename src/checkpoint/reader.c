/* Opens a checkpoint and lists it. Every rank takes the file through the gate and gives libhdf5 a copy of
 * what passed: reading needs no agreement inside HDF5, so a rank can ask for any rows at any time, and hosts
 * whose disks differ notice. The names are listed once. */
#include "checkpoint/hdf5_common.h"
#include "base/sort.h"
#include "checkpoint/reader.h"

#include "checkpoint/disk.h"
#include "checkpoint/gate.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Type and shape of an open dataset; a shape that this layer does not read makes the type OTHER. */
static checkpoint_array_t describe(hid_t dataset) {
  checkpoint_array_t array = {CHECKPOINT_OTHER, 0, {0, 1}};
  hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
  hsize_t shape[2] = {0, 1};
  if (type >= 0 && space >= 0) {
    array.rank = H5Sget_simple_extent_ndims(space);
    if ((array.rank == 1 || array.rank == 2) && H5Sget_simple_extent_dims(space, shape, NULL) >= 0 &&
        shape[1] > 0 && shape[1] < INT64_MAX / 32 && shape[0] < INT64_MAX / 32 / shape[1]) {
      array.type = hdf5_type_of(type);
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
  int64_t offset = array.shape[0] > 0 ? (int64_t)H5Dget_offset(dataset) : 0;
  H5Dclose(dataset);
  if (r->count == r->capacity) {
    void *block = r->arrays;
    int64_t capacity = r->capacity > 0 ? 2 * r->capacity : 32;
    SBAG_TRY(mem_realloc(r->mem, mem_array_bytes(capacity, sizeof(reader_array_t)), "checkpoint: list",
                         &block, status));
    r->arrays = block;
    r->capacity = capacity;
  }
  reader_array_t *made = &r->arrays[r->count];
  *made = (reader_array_t){.array = array, .offset = offset};
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
  return strcmp(((const reader_array_t *)a)->name, ((const reader_array_t *)b)->name);
}

static sbag_code_t list_all(checkpoint_reader_t *r, sbag_status_t *status) {
  visit_t visit = {.reader = r, .code = SBAG_OK, .status = status};
  herr_t result = H5Ovisit2(r->file, H5_INDEX_NAME, H5_ITER_NATIVE, visit_object, &visit, H5O_INFO_BASIC);
  if (visit.code != SBAG_OK) return visit.code;
  if (result < 0) return hdf5_failed(status, "checkpoint '%s': its list of names", r->path);
  sort_items(r->arrays, r->count, sizeof *r->arrays, by_name);
  return SBAG_OK;
}

reader_array_t *reader_find(const checkpoint_reader_t *r, const char *name) {
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

static sbag_code_t create_reader(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                                 sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(checkpoint_reader_t), "checkpoint: reader", &block, status));
  checkpoint_reader_t *made = block;
  made->comm = comm;
  made->mem = mem;
  made->chunk_bytes = LAYOUT_CHUNK_BYTES;
  made->file = H5I_INVALID_HID;
  made->data = -1;
  made->direct.file = -2;
  *reader = made;
  SBAG_TRY(copy_name(mem, path, &made->path, status));
  return gate_open(made->path, &made->data, &made->bytes, status);
}

/* Reads the trailer and checks what HDF5 is about to read; *copy is for it. */
static sbag_code_t pass_gate(checkpoint_reader_t *r, int trusted, int *copy, sbag_status_t *status) {
  int ours = 0;
  trailer_footer_t footer;
  SBAG_TRY(gate_footer(r->data, r->path, r->bytes, r->footer, &ours, status));
  if (!ours) return trusted ? SBAG_OK : gate_no_footer(r->data, r->path, r->bytes, status);
  SBAG_TRY(gate_pass(r->mem, r->data, r->path, r->bytes, r->footer, &r->list, copy, status));
  SBAG_TRY(trailer_decode_footer(r->footer, r->bytes, r->path, &footer, status));
  SBAG_TRY(trailer_decode(r->mem, &footer, r->list, r->path, &r->trailer, status));
  r->gated = 1;
  return SBAG_OK;
}

/* The footer stands for the whole file. */
static sbag_code_t compare_ranks(checkpoint_reader_t *r, sbag_status_t *status) {
  r->range[0] = (int64_t)(checksum_piece(r->footer, sizeof r->footer) >> 1);
  r->range[1] = -r->range[0];
  SBAG_TRY(comm_allreduce(r->comm, r->range, 2, COMM_I64, COMM_MAX, "checkpoint: footer", status));
  if (r->range[0] == -r->range[1]) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT, "checkpoint '%s': the ranks see different files", r->path);
}

/* Each array's pieces. The list and HDF5 must tell the same, or the file was put together by somebody else.
 */
static sbag_code_t match(checkpoint_reader_t *r, sbag_status_t *status) {
  int64_t matched = 0;
  for (int64_t i = 0; i < r->trailer.count; i++) {
    const trailer_array_t *pieces = &r->trailer.arrays[i];
    reader_array_t *found = reader_find(r, pieces->name);
    if (found == NULL || found->pieces != NULL || found->array.type == CHECKPOINT_OTHER ||
        found->array.shape[0] != pieces->rows || layout_row_bytes(&found->array) != pieces->row_bytes ||
        found->offset != pieces->offset)
      return status_set(status, SBAG_ERR_FORMAT,
                        "checkpoint '%s': '%s' is another array in the list of pieces than in HDF5", r->path,
                        pieces->name);
    found->pieces = pieces;
    matched++;
  }
  if (matched == r->count) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT,
                    "checkpoint '%s': has %lld arrays, %lld of them in the list of pieces", r->path,
                    (long long)r->count, (long long)matched);
}

/* A checkpoint of ours that has lost its trailer is damaged, or was changed since: not what it says it is. */
static sbag_code_t check_foreign(checkpoint_reader_t *r, sbag_status_t *status) {
  htri_t marked = H5Aexists(r->file, LAYOUT_MARK);
  if (marked == 0) return SBAG_OK;
  return gate_no_footer(r->data, r->path, r->bytes, status);
}

/* `copy` is what passed the gate, in memory, which the stdio driver alone can open (hdf5_make.c); -1: the
 * file itself. No locks there, because not every file system has them. */
static sbag_code_t open_hdf5(checkpoint_reader_t *r, int copy, sbag_status_t *status) {
  char in_memory[64];
  snprintf(in_memory, sizeof in_memory, "/proc/self/fd/%d", copy);
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  if (list < 0 || (copy >= 0 ? H5Pset_fapl_stdio(list) : H5Pset_file_locking(list, 0, 1)) < 0)
    return hdf5_failed(status, "checkpoint '%s': cannot be opened", r->path);
  r->file = H5Fopen(copy >= 0 ? in_memory : r->path, H5F_ACC_RDONLY, list);
  sbag_code_t code = SBAG_OK;
  if (r->file < 0) {
    code = hdf5_failed(status, "checkpoint '%s': is no HDF5 file, or a damaged one", r->path);
    if (status != NULL) status->code = SBAG_ERR_FORMAT;
    code = SBAG_ERR_FORMAT;
  }
  H5Pclose(list);
  if (code == SBAG_OK) code = list_all(r, status);
  if (code == SBAG_OK) code = r->gated ? match(r, status) : check_foreign(r, status);
  return code;
}

static sbag_code_t open_all(checkpoint_reader_t *r, int trusted, int *copy, sbag_status_t *status) {
  SBAG_TRY(comm_agree(r->comm, pass_gate(r, trusted, copy, status), status));
  SBAG_TRY(compare_ranks(r, status));
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  sbag_code_t code = open_hdf5(r, *copy, status);
  hdf5_quiet_end(&quiet);
  return comm_agree(r->comm, code, status);
}

static sbag_code_t open_reader(comm_t *comm, mem_t *mem, const char *path, int trusted,
                               checkpoint_reader_t **reader, sbag_status_t *status) {
  checkpoint_reader_t *made = NULL;
  int copy = -1;
  sbag_code_t code = create_reader(comm, mem, path, &made, status);
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) code = open_all(made, trusted, &copy, status);
  (void)disk_close(&copy, path, NULL); /* HDF5 has opened it by itself */
  if (code == SBAG_OK)
    *reader = made;
  else if (comm_check(comm, NULL) == SBAG_OK) /* a broken comm may still write into it: it is left */
    checkpoint_close(&made);
  return code;
}

sbag_code_t checkpoint_open(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                            sbag_status_t *status) {
  return open_reader(comm, mem, path, 0, reader, status);
}

sbag_code_t checkpoint_open_trusted(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                                    sbag_status_t *status) {
  return open_reader(comm, mem, path, 1, reader, status);
}

void checkpoint_close(checkpoint_reader_t **reader) {
  if (reader == NULL || *reader == NULL) return;
  checkpoint_reader_t *r = *reader;
  *reader = NULL;
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  if (r->file >= 0) H5Fclose(r->file);
  hdf5_quiet_end(&quiet);
  reader_unmap(r);
  (void)disk_close(&r->data, r->path, NULL); /* it was only read */
  (void)disk_close(&r->direct.file, r->path, NULL);
  mem_t *mem = r->mem;
  for (int64_t i = 0; i < r->count; i++) mem_free(mem, r->arrays[i].name);
  mem_free(mem, r->arrays);
  if (r->gated) trailer_clear(mem, &r->trailer);
  mem_free(mem, r->list);
  mem_free(mem, r->piece);
  mem_free(mem, r->path);
  mem_free(mem, r);
}

void checkpoint_reader_set_chunk(checkpoint_reader_t *reader, int64_t bytes) {
  reader->chunk_bytes = bytes > 0 ? bytes : LAYOUT_CHUNK_BYTES;
}

void checkpoint_reader_set_pause(checkpoint_reader_t *reader, checkpoint_pause_t pause, void *user) {
  reader->pause = pause;
  reader->pauser = user;
}

int checkpoint_reader_pauses(const checkpoint_reader_t *reader) {
  return reader->pause != NULL;
}

sbag_code_t checkpoint_reader_pause(checkpoint_reader_t *reader, sbag_status_t *status) {
  return reader->pause != NULL ? reader->pause(reader->pauser, status) : SBAG_OK;
}

int64_t checkpoint_count(const checkpoint_reader_t *reader) {
  return reader->count;
}

const char *checkpoint_name(const checkpoint_reader_t *reader, int64_t i) {
  return reader->arrays[i].name;
}

int checkpoint_exists(const checkpoint_reader_t *reader, const char *name) {
  return reader_find(reader, name) != NULL;
}

sbag_code_t checkpoint_array_info(const checkpoint_reader_t *reader, const char *name,
                                  checkpoint_array_t *array, sbag_status_t *status) {
  const reader_array_t *found = reader_find(reader, name);
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
