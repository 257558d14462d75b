/* Reads rows. In a checkpoint of ours they are read beside HDF5, straight to where they are wanted, and every
 * piece is held against its checksum (reader_pieces.c): a rank that needs a part of a piece reads and checks
 * the whole. In a trusted foreign file, whose arrays may be laid out in any way, HDF5 reads them. */
#include "checkpoint/hdf5_common.h"
#include "checkpoint/reader.h"

#include <string.h>

/* An array that this layer can read. */
static sbag_code_t find_array(const checkpoint_reader_t *r, const char *name, const reader_array_t **array,
                              sbag_status_t *status) {
  const reader_array_t *found = reader_find(r, name);
  checkpoint_array_t unused;
  if (found == NULL) return checkpoint_array_info(r, name, &unused, status); /* has the words for it */
  if (found->array.type == CHECKPOINT_OTHER)
    return status_set(
        status, SBAG_ERR_UNSUPPORTED,
        "checkpoint '%s': '%s' is no array of 1 or 2 dimensions of f32, f16, bf16, f64, i64, i32 or u8",
        r->path, name);
  *array = found;
  return SBAG_OK;
}

/* ---- pieces ---- */

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
  SBAG_TRY(reader_read_piece(r, array, piece, r->piece, status));
  r->piece_array = array;
  r->piece_index = piece;
  return SBAG_OK;
}

/* Of the piece of `row` those from it on, at most `rows`: a part, not the whole. */
static sbag_code_t read_part(checkpoint_reader_t *r, const trailer_array_t *array, int64_t row, int64_t rows,
                             reader_ahead_t *ahead, void *out, int64_t *count, sbag_status_t *status) {
  int64_t piece = row / array->piece_rows, first = 0, whole = 0;
  trailer_piece(array, piece, &first, &whole);
  *count = first + whole - row < rows ? first + whole - row : rows;
  reader_look_ahead(r, ahead, array->offset + row * array->row_bytes);
  SBAG_TRY(hold_piece(r, array, piece, status));
  memcpy(out, (const char *)r->piece + (row - first) * array->row_bytes, (size_t)(*count * array->row_bytes));
  return SBAG_OK;
}

static sbag_code_t read_checked(checkpoint_reader_t *r, const trailer_array_t *array, int64_t first_row,
                                int64_t rows, reader_ahead_t *ahead, void *out, sbag_status_t *status) {
  for (int64_t done = 0, count = 0; done < rows; done += count) {
    int64_t row = first_row + done, last = first_row + rows, piece = row / array->piece_rows;
    int64_t end = last == array->rows ? trailer_piece_count(array) : last / array->piece_rows;
    char *to = (char *)out + done * array->row_bytes;
    if (row % array->piece_rows == 0 && piece < end) {
      count = (end == trailer_piece_count(array) ? array->rows : end * array->piece_rows) - row;
      SBAG_TRY(reader_read_pieces(r, array, piece, end, ahead, to, status));
    } else {
      SBAG_TRY(read_part(r, array, row, rows - done, ahead, to, &count, status));
    }
  }
  return SBAG_OK;
}

/* ---- foreign files ---- */

static sbag_code_t read_slab(const checkpoint_reader_t *r, const reader_array_t *array, hid_t dataset,
                             int64_t first_row, int64_t rows, void *out, sbag_status_t *status) {
  hdf5_slab_t slab;
  SBAG_TRY(hdf5_slab_open(dataset, &array->array, first_row, rows, &slab, status));
  sbag_code_t code = SBAG_OK;
  hid_t type = hdf5_memory_type(array->array.type);
  if (type < 0 || H5Dread(dataset, type, slab.memory, slab.disk, H5P_DEFAULT, out) < 0)
    code = hdf5_failed(status, "checkpoint '%s': array '%s', rows %lld to %lld", r->path, array->name,
                       (long long)first_row, (long long)(first_row + rows - 1));
  if (type >= 0) H5Tclose(type);
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

static reader_ahead_t ahead_of(const reader_array_t *array, int64_t first_row, int64_t rows) {
  if (array->pieces == NULL) return (reader_ahead_t){0, 0};
  return reader_ahead(array->pieces, first_row, rows);
}

static sbag_code_t read_rows(checkpoint_reader_t *r, const reader_array_t *array, int64_t first_row,
                             int64_t rows, reader_ahead_t *ahead, void *out, sbag_status_t *status) {
  if (rows == 0) return SBAG_OK;
  if (array->pieces != NULL) return read_checked(r, array->pieces, first_row, rows, ahead, out, status);
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
  reader_ahead_t ahead = ahead_of(array, first_row, rows);
  return read_rows(reader, array, first_row, rows, &ahead, out, status);
}

/* Agreed on before every call of `take`, which nobody may enter alone: one agreement covers the call before
 * it and the read. */
static sbag_code_t hand_out(checkpoint_reader_t *r, const reader_array_t *array, const layout_walk_t *walk,
                            void *chunk, checkpoint_take_t take, void *user, sbag_status_t *status) {
  reader_ahead_t ahead = ahead_of(array, walk->first, walk->rows);
  sbag_code_t code = SBAG_OK;
  for (int64_t c = 0; c < walk->chunk_count; c++) {
    int64_t first = layout_chunk_first(walk, c), rows = layout_chunk_rows(walk, c);
    if (code == SBAG_OK) code = read_rows(r, array, first, rows, &ahead, chunk, status);
    SBAG_TRY(comm_agree(r->comm, code, status));
    SBAG_TRY(checkpoint_reader_pause(r, status));
    code = take(user, first, rows, chunk, status);
  }
  return comm_agree(r->comm, code, status);
}

static layout_walk_t walk_of(const checkpoint_reader_t *r, const reader_array_t *array) {
  int64_t piece_rows = array->pieces != NULL ? array->pieces->piece_rows : 1;
  int size = comm_size(r->comm),
      turn = layout_turn(&array->array, piece_rows, array - r->arrays, comm_rank(r->comm), size);
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
