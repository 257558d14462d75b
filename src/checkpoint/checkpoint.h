/* Named arrays and blobs in one HDF5 file, written by all ranks of a comm and read by any number of ranks.
 *
 * What comes in: names ("tables/user/weight"; the part before the last '/' becomes HDF5 groups), shapes, and
 * callbacks that give or take rows. What goes out: a plain HDF5 file that h5py opens. This layer knows
 * nothing of tables, models or readers.
 *
 * Writing has two phases, because the space on disk is reserved before any data is written: first everything
 * is declared, then checkpoint_commit writes it all under a temporary name in the same folder, syncs it and
 * renames it. A file under the final name is complete. Every piece of rows (1 MiB) has a checksum and
 * everything else one digest, in a trailer behind HDF5's part (trailer.h), which other programs do not see.
 *
 *   checkpoint_writer_create(comm, mem, "runs/a/ckpt-100.h5", &writer, status);
 *   checkpoint_add_array(writer, "tables/user/weight", CHECKPOINT_F32, 2, shape, fill, user, status);
 *   checkpoint_add_blob(writer, "vocabulary/user", data, bytes, status);
 *   checkpoint_add_int(writer, "", "step", 100, status);      "" is the file itself
 *   checkpoint_commit(&writer, status);
 *
 * Rows that a rank has in memory are written straight from there (checkpoint_add_own_array). All others:
 * arrays are walked in contiguous blocks of rows, one block a rank, each in chunks of at most 16 MiB (or one
 * row; writing, one piece). Every rank makes the same number of callback calls for an array, at the end with
 * 0 rows where its block is shorter, so a callback may be collective itself. If a callback fails on one rank
 * the others finish their call of that chunk; then all ranks return that one message. */
#ifndef CHECKPOINT_CHECKPOINT_H
#define CHECKPOINT_CHECKPOINT_H

#include "base/mem.h"
#include "base/status.h"
#include "comm/comm.h"
#include <stdint.h>

typedef struct checkpoint_writer checkpoint_writer_t;
typedef struct checkpoint_reader checkpoint_reader_t;

/* CHECKPOINT_OTHER: a foreign dataset that this layer lists but does not read. */
typedef enum checkpoint_type {
  CHECKPOINT_F32,
  CHECKPOINT_F64,
  CHECKPOINT_I64,
  CHECKPOINT_I32,
  CHECKPOINT_U8,
  CHECKPOINT_F16,
  CHECKPOINT_BF16,
  CHECKPOINT_OTHER
} checkpoint_type_t;

typedef struct checkpoint_array {
  checkpoint_type_t type;
  int rank;         /* 1 or 2 */
  int64_t shape[2]; /* rows, columns; columns is 1 where rank is 1 */
} checkpoint_array_t;

/* Writes rows [first_row, first_row + rows) to out [rows][columns]. rows may be 0, out is then unusable. */
typedef sbag_code_t (*checkpoint_fill_t)(void *user, int64_t first_row, int64_t rows, void *out,
                                         sbag_status_t *status);
/* Rows [first_row, first_row + rows) of an array, which stand together at data [rows][columns]. */
typedef struct checkpoint_rows {
  const void *data;
  int64_t first_row, rows;
} checkpoint_rows_t;
/* Tells the rows that this rank has in memory, which must stay as they are until the commit is done; rows is
 * 0 where it has none. Not collective. */
typedef sbag_code_t (*checkpoint_own_t)(void *user, checkpoint_rows_t *own, sbag_status_t *status);
/* Takes rows [first_row, first_row + rows) from data [rows][columns], which is valid during the call. */
typedef sbag_code_t (*checkpoint_take_t)(void *user, int64_t first_row, int64_t rows, const void *data,
                                         sbag_status_t *status);

/* ---- Writing. All ranks declare the same things in the same order; commit checks it. ---- */

/* Not collective; nothing is touched on disk before commit. comm and mem must outlive the writer. */
sbag_code_t checkpoint_writer_create(comm_t *comm, mem_t *mem, const char *path, checkpoint_writer_t **writer,
                                     sbag_status_t *status);

/* The most bytes of a chunk, at least 1; 0 = the default, 16 MiB. The same on all ranks. Not collective. */
void checkpoint_writer_set_chunk(checkpoint_writer_t *writer, int64_t bytes);

/* The most bytes of a piece, which has a checksum of its own, at least 1; 0 = the default, 1 MiB. The same on
 * all ranks. Not collective. */
void checkpoint_writer_set_piece(checkpoint_writer_t *writer, int64_t bytes);

/* Not collective. rank is 1 or 2, shape [rank], rows may be 0. `user` is borrowed until commit. */
sbag_code_t checkpoint_add_array(checkpoint_writer_t *writer, const char *name, checkpoint_type_t type,
                                 int rank, const int64_t *shape, checkpoint_fill_t fill, void *user,
                                 sbag_status_t *status);
/* As checkpoint_add_array, for rows that the ranks have in memory: commit asks `own` once, and where all
 * ranks' rows make up the array, each row one rank's, every rank writes its own from where they stand,
 * without waiting for the others. `fill` is then called, once and on all ranks, only if pieces begin in one
 * rank's rows and end in another's; otherwise as ever. own may be NULL. */
sbag_code_t checkpoint_add_own_array(checkpoint_writer_t *writer, const char *name, checkpoint_type_t type,
                                     int rank, const int64_t *shape, checkpoint_fill_t fill,
                                     checkpoint_own_t own, void *user, sbag_status_t *status);
/* Not collective. A u8 array; rank 0's data and bytes count, the other ranks may pass NULL and 0. data is
 * borrowed until commit. */
sbag_code_t checkpoint_add_blob(checkpoint_writer_t *writer, const char *name, const void *data,
                                int64_t bytes, sbag_status_t *status);
/* Attributes of an array, blob or group ("tables/user"; "" is the file). Not collective; values are copied,
 * must be equal on all ranks, text has at most CHECKPOINT_TEXT_BYTES. */
enum { CHECKPOINT_TEXT_BYTES = 32768 };
sbag_code_t checkpoint_add_text(checkpoint_writer_t *writer, const char *object, const char *key,
                                const char *value, sbag_status_t *status);
sbag_code_t checkpoint_add_int(checkpoint_writer_t *writer, const char *object, const char *key,
                               int64_t value, sbag_status_t *status);
sbag_code_t checkpoint_add_real(checkpoint_writer_t *writer, const char *object, const char *key,
                                double value, sbag_status_t *status);

/* Collective. Writes, syncs and renames the file, replacing one of that name; frees the writer and nulls
 * *writer in any case. On an error, which all ranks return alike, the temporary file is gone and an older
 * file of that name untouched; if only the folder's own sync fails, which comes last, the new file stands
 * there complete. */
sbag_code_t checkpoint_commit(checkpoint_writer_t **writer, sbag_status_t *status);
/* Frees a writer that is not to be committed; nulls *writer. NULL is allowed. Not collective. */
void checkpoint_abort(checkpoint_writer_t **writer);

/* ---- Reading, on any number of ranks, whatever number wrote. ---- */

/* Collective. A file that is missing, damaged, cut short, of a newer version, or not written by this layer is
 * refused on all ranks with one message, before libhdf5 sees it. Rows are checked as they are read: what does
 * not match its checksum is SBAG_ERR_FORMAT with the array's name and the rows. comm and mem must outlive it.
 */
sbag_code_t checkpoint_open(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                            sbag_status_t *status);
/* Collective. As checkpoint_open, but takes HDF5 files of other programs too, whose bytes libhdf5 reads
 * unchecked: only for files that the user trusts. One of ours that has lost its trailer is refused. */
sbag_code_t checkpoint_open_trusted(comm_t *comm, mem_t *mem, const char *path, checkpoint_reader_t **reader,
                                    sbag_status_t *status);
/* Nulls *reader. NULL is allowed. Not collective. */
void checkpoint_close(checkpoint_reader_t **reader);

/* As checkpoint_writer_set_chunk. */
void checkpoint_reader_set_chunk(checkpoint_reader_t *reader, int64_t bytes);

/* Whoever loads tables from it stops now and then, on all ranks at the same place, and calls `pause`, which
 * may be collective; an error, the same on all ranks, ends the load. NULL: it does not stop. Not collective.
 */
typedef sbag_code_t (*checkpoint_pause_t)(void *user, sbag_status_t *status);
void checkpoint_reader_set_pause(checkpoint_reader_t *reader, checkpoint_pause_t pause, void *user);
int checkpoint_reader_pauses(const checkpoint_reader_t *reader);
/* Collective: calls it, if there is one. */
sbag_code_t checkpoint_reader_pause(checkpoint_reader_t *reader, sbag_status_t *status);

/* The datasets in the order of their names. Not collective. */
int64_t checkpoint_count(const checkpoint_reader_t *reader);
const char *checkpoint_name(const checkpoint_reader_t *reader, int64_t i);
int checkpoint_exists(const checkpoint_reader_t *reader, const char *name);
/* Shape and type; SBAG_ERR_FORMAT with the file's and the dataset's name if there is none. Not collective. */
sbag_code_t checkpoint_array_info(const checkpoint_reader_t *reader, const char *name,
                                  checkpoint_array_t *array, sbag_status_t *status);
/* As checkpoint_array_info, and refuses another type, rank or shape than expected, naming both. A negative
 * number in shape matches anything. Not collective. */
sbag_code_t checkpoint_expect(const checkpoint_reader_t *reader, const char *name, checkpoint_type_t type,
                              int rank, const int64_t *shape, sbag_status_t *status);

/* Collective: hands the array's rows to `take`, block by block as described above. */
sbag_code_t checkpoint_read_array(checkpoint_reader_t *reader, const char *name, checkpoint_take_t take,
                                  void *user, sbag_status_t *status);
/* Rows [first_row, first_row + rows) into out [rows][columns]; each rank may ask for its own. Not
 * collective. */
sbag_code_t checkpoint_read_rows(checkpoint_reader_t *reader, const char *name, int64_t first_row,
                                 int64_t rows, void *out, sbag_status_t *status);
/* The array's rows where the file is mapped, all of them, unchecked: valid until the reader is closed.
 * *piece_rows: of a piece that has a checksum, the last one may have fewer. Not collective. */
sbag_code_t checkpoint_map_array(checkpoint_reader_t *reader, const char *name, const void **rows,
                                 int64_t *piece_rows, sbag_status_t *status);
/* Holds a piece of an array that was mapped against its checksum; SBAG_ERR_FORMAT names its rows. Not
 * collective. */
sbag_code_t checkpoint_check_piece(const checkpoint_reader_t *reader, const char *name, int64_t piece,
                                   sbag_status_t *status);
/* A whole u8 array of one dimension into a block from the reader's mem (caller frees by mem_free), with a
 * zero byte behind it that `bytes` does not count. Not collective. */
sbag_code_t checkpoint_read_blob(checkpoint_reader_t *reader, const char *name, void **data, int64_t *bytes,
                                 sbag_status_t *status);
/* Attributes; missing or of another kind: SBAG_ERR_FORMAT. text receives a zero-terminated block from the
 * reader's mem. Not collective. */
sbag_code_t checkpoint_read_text(checkpoint_reader_t *reader, const char *object, const char *key,
                                 char **value, sbag_status_t *status);
sbag_code_t checkpoint_read_int(checkpoint_reader_t *reader, const char *object, const char *key,
                                int64_t *value, sbag_status_t *status);
sbag_code_t checkpoint_read_real(checkpoint_reader_t *reader, const char *object, const char *key,
                                 double *value, sbag_status_t *status);

/* "f32", "i64" ...; never NULL. */
const char *checkpoint_type_name(checkpoint_type_t type);
int64_t checkpoint_type_bytes(checkpoint_type_t type);

#endif
