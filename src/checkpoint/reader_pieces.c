/* Reads whole pieces and holds each against its checksum while it is still in the processor's cache. Many
 * pieces are read by two threads, each piece by whichever is free: while one takes a checksum, or waits for
 * the kernel's memory, the other has what the disk has brought meanwhile. The system is told what comes next,
 * so that the disk always works. */
#include "checkpoint/reader.h"

#include "checkpoint/disk.h"
#include <fcntl.h>
#include <pthread.h>

/* So many pieces that a second thread is worth its start. */
enum { SHARED_PIECES = 8 };

/* ---- reading ahead ---- */

/* The system reads `window_bytes` ahead of us. It takes a wish only up to a limit of its own, far below that,
 * so they are many small ones. */
static const int64_t window_bytes = (int64_t)32 << 20, wish_bytes = (int64_t)1 << 20;

reader_ahead_t reader_ahead(const trailer_array_t *array, int64_t first_row, int64_t rows) {
  int64_t begin = array->offset + first_row * array->row_bytes;
  return (reader_ahead_t){begin, begin + rows * array->row_bytes};
}

void reader_look_ahead(const checkpoint_reader_t *r, reader_ahead_t *ahead, int64_t at) {
  if (ahead->next < at) ahead->next = at;
  while (ahead->next < ahead->end && ahead->next < at + window_bytes) {
    int64_t left = ahead->end - ahead->next, wish = left < wish_bytes ? left : wish_bytes;
    (void)posix_fadvise(r->data, (off_t)ahead->next, (off_t)wish, POSIX_FADV_WILLNEED);
    ahead->next += wish;
  }
}

/* ---- one piece ---- */

sbag_code_t reader_check_piece(const checkpoint_reader_t *r, const trailer_array_t *array, int64_t piece,
                               const void *data, sbag_status_t *status) {
  int64_t first = 0, rows = 0;
  trailer_piece(array, piece, &first, &rows);
  if (checksum_piece(data, (size_t)(rows * array->row_bytes)) == array->sums[piece]) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT,
                    "checkpoint '%s': '%s': rows %lld to %lld do not match their checksum", r->path,
                    array->name, (long long)first, (long long)(first + rows - 1));
}

sbag_code_t reader_read_piece(const checkpoint_reader_t *r, const trailer_array_t *array, int64_t piece,
                              void *out, sbag_status_t *status) {
  int64_t first = 0, rows = 0;
  trailer_piece(array, piece, &first, &rows);
  SBAG_TRY(disk_read(r->data, r->path, array->offset + first * array->row_bytes, rows * array->row_bytes, out,
                     status));
  return reader_check_piece(r, array, piece, out, status);
}

/* ---- many ---- */

/* Pieces [next, end), of which `begin` goes to `out`. */
typedef struct pieces {
  const checkpoint_reader_t *r;
  const trailer_array_t *array;
  int64_t begin, end, next;
  reader_ahead_t *ahead;
  char *out;
  pthread_mutex_t mutex; /* of next and ahead */
} pieces_t;

typedef struct worker {
  pieces_t *pieces;
  int64_t failed; /* the piece, or `end` */
  sbag_status_t status;
} worker_t;

static int64_t piece_bytes(const trailer_array_t *array) {
  return array->piece_rows * array->row_bytes;
}

static int64_t take_piece(pieces_t *p) {
  pthread_mutex_lock(&p->mutex);
  int64_t piece = p->next;
  if (piece < p->end) {
    p->next++;
    reader_look_ahead(p->r, p->ahead, p->array->offset + piece * piece_bytes(p->array));
  }
  pthread_mutex_unlock(&p->mutex);
  return piece;
}

static void leave_the_rest(pieces_t *p) {
  pthread_mutex_lock(&p->mutex);
  p->next = p->end;
  pthread_mutex_unlock(&p->mutex);
}

/* Pieces are taken in their order: those before one that fails are read to their end. */
static void *run_worker(void *user) {
  worker_t *w = user;
  pieces_t *p = w->pieces;
  for (int64_t piece = take_piece(p); piece < p->end; piece = take_piece(p)) {
    void *out = p->out + (piece - p->begin) * piece_bytes(p->array);
    if (reader_read_piece(p->r, p->array, piece, out, &w->status) == SBAG_OK) continue;
    w->failed = piece;
    leave_the_rest(p);
    break;
  }
  return NULL;
}

/* Without a second thread, where there is none to be had, the first reads all. */
sbag_code_t reader_read_pieces(const checkpoint_reader_t *r, const trailer_array_t *array, int64_t begin,
                               int64_t end, reader_ahead_t *ahead, void *out, sbag_status_t *status) {
  pieces_t pieces = {
      .r = r, .array = array, .begin = begin, .end = end, .next = begin, .ahead = ahead, .out = out};
  worker_t mine = {.pieces = &pieces, .failed = end}, other = {.pieces = &pieces, .failed = end};
  pthread_t thread;
  if (pthread_mutex_init(&pieces.mutex, NULL) != 0)
    return status_set(status, SBAG_ERR_MEMORY, "checkpoint '%s': no lock for its pieces", r->path);
  int started = end - begin >= SHARED_PIECES && pthread_create(&thread, NULL, run_worker, &other) == 0;
  (void)run_worker(&mine);
  if (started) pthread_join(thread, NULL);
  pthread_mutex_destroy(&pieces.mutex);
  const worker_t *first = other.failed < mine.failed ? &other : &mine; /* in the file */
  if (first->failed == end) return SBAG_OK;
  if (status != NULL) *status = first->status;
  return first->status.code;
}
