/* Reads whole pieces and holds each against its checksum while it is still in the processor's cache. Many
 * bytes are read by several threads, each piece by whichever is free: while one takes a checksum, or waits
 * for the kernel's memory, another is at the disk. They read past the page cache (direct.h), which would take
 * as much memory again and the time to make it, but for what is there already; where that cannot be, because
 * a piece does not begin with a block of the disk, the system is told what comes next. */
#include "checkpoint/reader.h"

#include "checkpoint/disk.h"
#include <fcntl.h>
#include <pthread.h>

/* So many bytes that a second thread is worth its start. */
static const int64_t shared_bytes = (int64_t)4 << 20;

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

/* One more than cores that take checksums: somebody is at the disk. */
enum { WORKERS = 4 };

/* Pieces [next, end), of which `begin` goes to `out`. */
typedef struct pieces {
  const checkpoint_reader_t *r;
  const trailer_array_t *array;
  int64_t begin, end, next;
  reader_ahead_t *ahead;
  char *out;
  int direct;            /* places in file and memory are as direct reads want them */
  const char *map;       /* where `begin` would be in memory; NULL: not mapped */
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
    if (!p->direct) reader_look_ahead(p->r, p->ahead, p->array->offset + piece * piece_bytes(p->array));
  }
  pthread_mutex_unlock(&p->mutex);
  return piece;
}

static void leave_the_rest(pieces_t *p) {
  pthread_mutex_lock(&p->mutex);
  p->next = p->end;
  pthread_mutex_unlock(&p->mutex);
}

/* Past the page cache, unless the piece is there already. */
static sbag_code_t read_past(const pieces_t *p, int64_t piece, void *out, sbag_status_t *status) {
  const checkpoint_reader_t *r = p->r;
  int64_t first = 0, rows = 0, done = 0;
  trailer_piece(p->array, piece, &first, &rows);
  const int64_t at = p->array->offset + first * p->array->row_bytes, bytes = rows * p->array->row_bytes;
  const int64_t behind = (piece - p->begin) * piece_bytes(p->array);
  if (p->map == NULL || !direct_is_cached(p->map + behind, bytes))
    done = direct_read(&r->direct, at, bytes, out);
  SBAG_TRY(disk_read(r->data, r->path, at + done, bytes - done, (char *)out + done, status));
  return reader_check_piece(r, p->array, piece, out, status);
}

/* Pieces are taken in their order: those before one that fails are read to their end. */
static void *run_worker(void *user) {
  worker_t *w = user;
  pieces_t *p = w->pieces;
  for (int64_t piece = take_piece(p); piece < p->end; piece = take_piece(p)) {
    void *out = p->out + (piece - p->begin) * piece_bytes(p->array);
    sbag_code_t code = p->direct ? read_past(p, piece, out, &w->status)
                                 : reader_read_piece(p->r, p->array, piece, out, &w->status);
    if (code == SBAG_OK) continue;
    w->failed = piece;
    leave_the_rest(p);
    break;
  }
  return NULL;
}

/* Of the workers the first is this thread; where there are no more to be had, it reads all. */
static void run_workers(worker_t *workers, int count) {
  pthread_t threads[WORKERS];
  int started = 1;
  while (started < count && pthread_create(&threads[started], NULL, run_worker, &workers[started]) == 0)
    started++;
  (void)run_worker(&workers[0]);
  for (int i = 1; i < started; i++) pthread_join(threads[i], NULL);
}

static int can_read_past(checkpoint_reader_t *r, const trailer_array_t *array, int64_t begin,
                         const void *out) {
  if (r->direct.file == -2) direct_reopen(r->data, &r->direct);
  if (r->direct.file < 0) return 0;
  const int64_t each = piece_bytes(array), at = array->offset + begin * each;
  return each % r->direct.align == 0 && at % r->direct.align == 0 &&
         (uintptr_t)out % (uintptr_t)r->direct.memory_align == 0;
}

sbag_code_t reader_read_pieces(checkpoint_reader_t *r, const trailer_array_t *array, int64_t begin,
                               int64_t end, reader_ahead_t *ahead, void *out, sbag_status_t *status) {
  const int shared = (end - begin) * piece_bytes(array) >= shared_bytes;
  pieces_t pieces = {.r = r,
                     .array = array,
                     .begin = begin,
                     .end = end,
                     .next = begin,
                     .ahead = ahead,
                     .out = out,
                     .direct = shared && can_read_past(r, array, begin, out)};
  worker_t workers[WORKERS];
  const worker_t *first = &workers[0]; /* in the file, of those that fail */
  for (int i = 0; i < WORKERS; i++) workers[i] = (worker_t){.pieces = &pieces, .failed = end};
  if (pthread_mutex_init(&pieces.mutex, NULL) != 0)
    return status_set(status, SBAG_ERR_MEMORY, "checkpoint '%s': no lock for its pieces", r->path);
  const int64_t each = piece_bytes(array), all = (array->rows - begin * array->piece_rows) * array->row_bytes;
  const int64_t bytes = all < (end - begin) * each ? all : (end - begin) * each;
  void *map = pieces.direct ? direct_map(r->data, array->offset + begin * each, bytes) : NULL;
  pieces.map = map;
  run_workers(workers, shared ? WORKERS : 1);
  direct_unmap(map, bytes);
  pthread_mutex_destroy(&pieces.mutex);
  for (int i = 1; i < WORKERS; i++)
    if (workers[i].failed < first->failed) first = &workers[i];
  if (first->failed == end) return SBAG_OK;
  if (status != NULL) *status = first->status;
  return first->status.code;
}
