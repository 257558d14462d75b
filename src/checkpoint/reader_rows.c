/* Reads rows. In a checkpoint of ours they are read beside HDF5, and every piece is held against its
 * checksum: a rank that needs a part of a piece reads and checks the whole. In a trusted foreign file, whose
 * arrays may be laid out in any way, HDF5 reads them. */
#include "checkpoint/hdf5_common.h"
#include "checkpoint/reader.h"

#include "checkpoint/disk.h"
#include <fcntl.h>
#include <string.h>

/* An array that this layer can read. */
static sbag_code_t find_array(const checkpoint_reader_t *r, const char *name, const reader_array_t **array,
                              sbag_status_t *status) {
  const reader_array_t *found = reader_find(r, name);
  checkpoint_array_t unused;
  if (found == NULL) return checkpoint_array_info(r, name, &unused, status); /* has the words for it */
  if (found->array.type == CHECKPOINT_OTHER)
    return status_set(status, SBAG_ERR_UNSUPPORTED,
                      "checkpoint '%s': '%s' is no array of 1 or 2 dimensions of f32, f64, i64, i32 or u8",
                      r->path, name);
  *array = found;
  return SBAG_OK;
}

/* ---- pieces ---- */

static sbag_code_t check_piece(const checkpoint_reader_t *r, const trailer_array_t *array, int64_t piece,
                               const void *data, sbag_status_t *status) {
  int64_t first = 0, rows = 0;
  trailer_piece(array, piece, &first, &rows);
  if (checksum_piece(data, (size_t)(rows * array->row_bytes)) == array->sums[piece]) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT,
                    "checkpoint '%s': '%s': rows %lld to %lld do not match their checksum", r->path,
                    array->name, (long long)first, (long long)(first + rows - 1));
}

/* Whole pieces from `piece` on, as many as fit into `rows`, in one read. */
static sbag_code_t read_pieces(const checkpoint_reader_t *r, const trailer_array_t *array, int64_t piece,
                               int64_t rows, void *out, int64_t *taken, sbag_status_t *status) {
  int64_t begin = piece * array->piece_rows, end = begin, first = 0, count = 0, next = piece;
  for (; next < trailer_piece_count(array); next++) {
    trailer_piece(array, next, &first, &count);
    if (first + count - begin > rows) break;
    end = first + count;
  }
  SBAG_TRY(disk_read(r->data, r->path, array->offset + begin * array->row_bytes,
                     (end - begin) * array->row_bytes, out, status));
  for (int64_t i = piece; i < next; i++)
    SBAG_TRY(check_piece(r, array, i, (const char *)out + (i - piece) * array->piece_rows * array->row_bytes,
                         status));
  *taken = end - begin;
  return SBAG_OK;
}

/* Makes `piece` the one that the reader holds. */
static sbag_code_t hold_piece(checkpoint_reader_t *r, const trailer_array_t *array, int64_t piece,
                              sbag_status_t *status) {
  if (r->piece_array == array && r->piece_index == piece) return SBAG_OK;
  int64_t first = 0, rows = 0;
  trailer_piece(array, piece, &first, &rows);
  size_t bytes = mem_array_bytes(rows, (size_t)array->row_bytes);
  r->piece_array = NULL;
  if (bytes > r->piece_capacity) {
    mem_free(r->mem, r->piece);
    r->piece = NULL;
    r->piece_capacity = 0;
    SBAG_TRY(mem_alloc(r->mem, bytes, "checkpoint: piece", &r->piece, status));
    r->piece_capacity = bytes;
  }
  SBAG_TRY(read_pieces(r, array, piece, rows, r->piece, &rows, status));
  r->piece_array = array;
  r->piece_index = piece;
  return SBAG_OK;
}

static sbag_code_t read_checked(checkpoint_reader_t *r, const trailer_array_t *array, int64_t first_row,
                                int64_t rows, void *out, sbag_status_t *status) {
  for (int64_t done = 0; done < rows;) {
    int64_t row = first_row + done, piece = row / array->piece_rows, first = 0, whole = 0;
    trailer_piece(array, piece, &first, &whole);
    char *to = (char *)out + done * array->row_bytes;
    int64_t count = first + whole - row;
    if (count > rows - done) count = rows - done;
    if (count == whole) {
      SBAG_TRY(read_pieces(r, array, piece, rows - done, to, &count, status));
    } else {
      SBAG_TRY(hold_piece(r, array, piece, status));
      memcpy(to, (const char *)r->piece + (row - first) * array->row_bytes,
             (size_t)(count * array->row_bytes));
    }
    done += count;
  }
  return SBAG_OK;
}

/* ---- foreign files ---- */

static sbag_code_t read_slab(const checkpoint_reader_t *r, const reader_array_t *array, hid_t dataset,
                             int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  hdf5_slab_t slab;
  SBAG_TRY(hdf5_slab_open(dataset, &array->array, first_row, rows, &slab, status));
  sbag_code_t code = SBAG_OK;
  if (H5Dread(dataset, hdf5_memory_type(array->array.type), slab.memory, slab.disk, H5P_DEFAULT, out) < 0)
    code = hdf5_failed(status, "checkpoint '%s': array '%s', rows %lld to %lld", r->path, array->name,
                       (long long)first_row, (long long)(first_row + rows - 1));
  hdf5_slab_close(&slab);
  return code;
}

static sbag_code_t read_foreign(const checkpoint_reader_t *r, const reader_array_t *array, int64_t first_row,
                                int64_t rows, void *out, sbag_status_t *status) {
  hdf5_quiet_t quiet = hdf5_quiet_begin();
  hid_t dataset = H5Dopen2(r->file, array->name, H5P_DEFAULT);
  sbag_code_t code = SBAG_OK;
  if (dataset < 0)
    code = hdf5_failed(status, "checkpoint '%s': array '%s'", r->path, array->name);
  else
    code = read_slab(r, array, dataset, first_row, rows, out, status);
  if (dataset >= 0) H5Dclose(dataset);
  hdf5_quiet_end(&quiet);
  return code;
}

/* ---- rows ---- */

static sbag_code_t read_rows(checkpoint_reader_t *r, const reader_array_t *array, int64_t first_row,
                             int64_t rows, void *out, sbag_status_t *status) {
  if (rows == 0) return SBAG_OK;
  if (array->pieces != NULL) return read_checked(r, array->pieces, first_row, rows, out, status);
  return read_foreign(r, array, first_row, rows, out, status);
}

sbag_code_t checkpoint_read_rows(checkpoint_reader_t *reader, const char *name, int64_t first_row,
                                 int64_t rows, void *out, sbag_status_t *status) {
  const reader_array_t *array = NULL;
  SBAG_TRY(find_array(reader, name, &array, status));
  int64_t all = array->array.shape[0];
  if (first_row < 0 || rows < 0 || first_row > all || rows > all - first_row)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint '%s': '%s' has %lld rows; %lld rows from row %lld are not in it",
                      reader->path, name, (long long)all, (long long)rows, (long long)first_row);
  return read_rows(reader, array, first_row, rows, out, status);
}

/* A wish: the disk reads the next chunk while this one is checked and taken. */
static void read_ahead(const checkpoint_reader_t *r, const reader_array_t *array, const layout_walk_t *walk,
                       int64_t chunk) {
  int64_t first = layout_chunk_first(walk, chunk), rows = layout_chunk_rows(walk, chunk);
  if (array->pieces == NULL || rows == 0) return;
  (void)posix_fadvise(r->data, (off_t)(array->offset + first * array->pieces->row_bytes),
                      (off_t)(rows * array->pieces->row_bytes), POSIX_FADV_WILLNEED);
}

/* Agreed on twice a chunk: nobody may enter `take` alone. */
static sbag_code_t hand_out(checkpoint_reader_t *r, const reader_array_t *array, const layout_walk_t *walk,
                            void *chunk, checkpoint_take_t take, void *user, sbag_status_t *status) {
  for (int64_t c = 0; c < walk->chunk_count; c++) {
    int64_t first = layout_chunk_first(walk, c), rows = layout_chunk_rows(walk, c);
    if (c == 0) read_ahead(r, array, walk, 0);
    read_ahead(r, array, walk, c + 1);
    SBAG_TRY(comm_agree(r->comm, read_rows(r, array, first, rows, chunk, status), status));
    SBAG_TRY(comm_agree(r->comm, take(user, first, rows, chunk, status), status));
  }
  return SBAG_OK;
}

/* As the writer's: an array of few pieces begins on another rank than its neighbour. */
static layout_walk_t walk_of(const checkpoint_reader_t *r, const reader_array_t *array) {
  int size = comm_size(r->comm), turn = (int)((comm_rank(r->comm) + (array - r->arrays)) % size);
  int64_t piece_rows = array->pieces != NULL ? array->pieces->piece_rows : 1;
  return layout_walk(&array->array, piece_rows, 0, r->chunk_bytes, turn, size);
}

sbag_code_t checkpoint_read_array(checkpoint_reader_t *reader, const char *name, checkpoint_take_t take,
                                  void *user, sbag_status_t *status) {
  const reader_array_t *array = NULL;
  layout_walk_t walk = {0};
  void *chunk = NULL;
  sbag_code_t code = find_array(reader, name, &array, status);
  if (code == SBAG_OK) {
    walk = walk_of(reader, array);
    size_t bytes = mem_array_bytes(walk.rows_per_chunk, (size_t)layout_row_bytes(&array->array));
    code = mem_alloc(reader->mem, bytes, "checkpoint: chunk", &chunk, status);
  }
  code = comm_agree(reader->comm, code, status);
  if (code == SBAG_OK) code = hand_out(reader, array, &walk, chunk, take, user, status);
  mem_free(reader->mem, chunk);
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
