/* Writes whole pieces and takes their checksums: see commit.h. What lies between two page bounds is written
 * past the page cache (direct.h), block by block in two threads, so that the disk always has something to do
 * while checksums are taken; the edges, small runs, and all where nothing is direct go through the cache. */
#include "checkpoint/commit.h"

#include "checkpoint/disk.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Of buffered writes: small enough that the processor still has in its cache what the checksum has read. */
static const int64_t buffered_bytes = (int64_t)1 << 20;

static int64_t round_down(int64_t value, int64_t unit) {
  return value - value % unit;
}
static int64_t round_up(int64_t value, int64_t unit) {
  return round_down(value + unit - 1, unit);
}

/* The most of a direct write. */
static int64_t block_bytes(const commit_t *c) {
  int64_t bytes = round_down(c->w->chunk_bytes / 8, c->direct.align);
  return bytes > 0 ? bytes : c->direct.align;
}

sbag_code_t commit_open_direct(commit_t *c, sbag_status_t *status) {
  SBAG_TRY(direct_open(c->w->temporary, &c->direct, status));
  if (c->direct.file < 0) return SBAG_OK;
  size_t bytes = 2 * mem_array_bytes(block_bytes(c), 1) + (size_t)c->direct.memory_align;
  return mem_alloc(c->w->mem, bytes, "checkpoint: aligned blocks", &c->bounce, status);
}

static int64_t piece_offset(const trailer_array_t *array, int64_t piece) {
  return array->offset + piece * array->piece_rows * array->row_bytes;
}

static const char *data_of(const commit_run_t *run, int64_t offset) {
  return (const char *)run->data + (offset - piece_offset(run->array, run->piece));
}

/* The first of a run's pieces that begins at byte `offset` of the file or behind it. */
static int64_t piece_from(const commit_run_t *run, int64_t offset) {
  int64_t bytes = run->array->piece_rows * run->array->row_bytes;
  int64_t piece = offset <= run->array->offset ? 0 : round_up(offset - run->array->offset, bytes) / bytes;
  if (piece < run->piece) piece = run->piece;
  return piece < run->end ? piece : run->end;
}

/* Of the pieces that begin in [begin, end). */
static void take_checksums(const commit_run_t *run, int64_t begin, int64_t end) {
  const trailer_array_t *array = run->array;
  for (int64_t piece = piece_from(run, begin), last = piece_from(run, end); piece < last; piece++) {
    int64_t first, rows;
    trailer_piece(array, piece, &first, &rows);
    array->sums[piece] =
        checksum_piece(data_of(run, piece_offset(array, piece)), (size_t)(rows * array->row_bytes));
  }
}

/* All through the cache. That the disk begins to work at once is a wish. */
static sbag_code_t write_buffered(const commit_t *c, const commit_run_t *run, int64_t begin, int64_t end,
                                  sbag_status_t *status) {
  for (int64_t at = begin; at < end; at += buffered_bytes) {
    int64_t bytes = end - at < buffered_bytes ? end - at : buffered_bytes;
    take_checksums(run, at, at + bytes);
    SBAG_TRY(disk_write(c->file, c->w->temporary, at, bytes, data_of(run, at), status));
    if (bytes == buffered_bytes)
      (void)sync_file_range(c->file, (off_t)at, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
  }
  return SBAG_OK;
}

/* ---- past the cache ---- */

/* Blocks of [begin, end), both aligned, which the threads take in turn. */
typedef struct blocks {
  const commit_t *c;
  const commit_run_t *run;
  int64_t begin, end;
  _Atomic int64_t next;
  _Atomic int refused;
} blocks_t;

typedef struct worker {
  blocks_t *blocks;
  char *bounce; /* where memory is not aligned as the disk wants it */
  sbag_code_t code;
  sbag_status_t status;
} worker_t;

static sbag_code_t write_block(worker_t *w, int64_t at, int64_t bytes, sbag_status_t *status) {
  blocks_t *b = w->blocks;
  const char *data = data_of(b->run, at), *path = b->c->w->temporary;
  int64_t done = 0;
  if (!b->refused) {
    const void *from = data;
    if ((uintptr_t)data % (uintptr_t)b->c->direct.memory_align != 0)
      from = memcpy(w->bounce, data, (size_t)bytes);
    SBAG_TRY(direct_write(&b->c->direct, path, at, bytes, from, &done, status));
    if (done < bytes) b->refused = 1;
  }
  return disk_write(b->c->file, path, at + done, bytes - done, data + done, status);
}

/* A thread that has failed leaves the rest to nobody. */
static sbag_code_t write_blocks(worker_t *w, sbag_status_t *status) {
  blocks_t *b = w->blocks;
  int64_t most = block_bytes(b->c);
  for (;;) {
    int64_t at = atomic_fetch_add(&b->next, most);
    if (at >= b->end) return SBAG_OK;
    int64_t bytes = b->end - at < most ? b->end - at : most;
    take_checksums(b->run, at, at + bytes);
    sbag_code_t code = write_block(w, at, bytes, status);
    if (code == SBAG_OK) continue;
    b->next = b->end;
    return code;
  }
}

static void *run_worker(void *user) {
  worker_t *w = user;
  w->code = write_blocks(w, &w->status);
  return NULL;
}

/* Without a second thread, where there is none to be had, the first does it all. */
static sbag_code_t write_direct(commit_t *c, const commit_run_t *run, int64_t begin, int64_t end,
                                sbag_status_t *status) {
  blocks_t blocks = {.c = c, .run = run, .begin = begin, .end = end, .next = begin};
  char *bounce = (char *)round_up((intptr_t)c->bounce, c->direct.memory_align);
  worker_t mine = {.blocks = &blocks, .bounce = bounce};
  worker_t other = {.blocks = &blocks, .bounce = bounce + block_bytes(c), .code = SBAG_OK};
  pthread_t thread;
  int started = pthread_create(&thread, NULL, run_worker, &other) == 0;
  sbag_code_t code = write_blocks(&mine, status);
  if (started) pthread_join(thread, NULL);
  if (code == SBAG_OK && other.code != SBAG_OK) {
    *status = other.status;
    code = other.code;
  }
  c->refused = blocks.refused;
  return code;
}

sbag_code_t commit_pieces(commit_t *c, const commit_run_t *run, sbag_status_t *status) {
  const trailer_array_t *array = run->array;
  if (run->piece == run->end) return SBAG_OK;
  int64_t align = c->direct.align, first, rows;
  trailer_piece(array, run->end - 1, &first, &rows);
  int64_t begin = piece_offset(array, run->piece), last = array->offset + (first + rows) * array->row_bytes;
  int64_t end = run->joins_after ? round_down(last, align) : last;
  if (run->joins_before) begin = round_down(begin, align);
  int64_t from = round_up(begin, align), to = round_down(end, align);
  int is_direct =
      c->direct.file >= 0 && !c->refused && to - from >= 2 * align && to - from >= c->w->piece_bytes;
  if (!is_direct) from = to = end;
  SBAG_TRY(write_buffered(c, run, begin, from, status));
  SBAG_TRY(write_buffered(c, run, to, end, status));
  if (is_direct) SBAG_TRY(write_direct(c, run, from, to, status));
  take_checksums(run, end, last);
  return SBAG_OK;
}
