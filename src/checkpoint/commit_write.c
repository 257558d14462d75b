/* Writes whole pieces and takes their checksums: see commit.h. What lies between two page bounds is written
 * past the page cache (direct.h), in two parts at once, so that the disk always has something to do while
 * checksums are taken; the edges, small runs, and all where nothing is direct go through the cache. */
#include "checkpoint/commit.h"

#include "checkpoint/disk.h"
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

/* Of buffered writes: small enough that the processor still has in its cache what the checksum has read. */
static const int64_t buffered_bytes = (int64_t)1 << 20;

static int64_t round_down(int64_t value, int64_t unit) {
  return value - value % unit;
}
static int64_t round_up(int64_t value, int64_t unit) {
  return round_down(value + unit - 1, unit);
}

/* The most of a direct write. A chunk is thus two parts of two blocks. */
static int64_t block_bytes(const commit_t *c) {
  int64_t bytes = round_down(c->w->chunk_bytes / 4, c->direct.align);
  return bytes > 0 ? bytes : c->direct.align;
}

sbag_code_t commit_open_direct(commit_t *c, sbag_status_t *status) {
  SBAG_TRY(direct_open(c->w->temporary, &c->direct, status));
  if (c->direct.file < 0) return SBAG_OK;
  size_t bytes = 2 * mem_array_bytes(block_bytes(c), 1) + (size_t)c->direct.memory_align;
  return mem_alloc(c->w->mem, bytes, "checkpoint: aligned blocks", &c->bounce, status);
}

/* What one thread does. */
typedef struct part {
  const commit_t *c;
  const commit_run_t *run;
  int64_t begin, end;  /* bytes of the file that it writes; aligned, if directly */
  int64_t piece, last; /* it takes the checksums of the pieces [piece, last) */
  char *bounce;        /* where memory is not aligned as the disk wants it; NULL: all is buffered */
  sbag_code_t code;
  sbag_status_t status;
} part_t;

static int64_t piece_offset(const trailer_array_t *array, int64_t piece) {
  return array->offset + piece * array->piece_rows * array->row_bytes;
}

static const char *data_of(const commit_run_t *run, int64_t offset) {
  return (const char *)run->data + (offset - piece_offset(run->array, run->piece));
}

/* Of the pieces that begin before byte `end`. */
static void take_checksums(part_t *p, int64_t end) {
  const trailer_array_t *array = p->run->array;
  for (; p->piece < p->last && piece_offset(array, p->piece) < end; p->piece++) {
    int64_t first, rows;
    trailer_piece(array, p->piece, &first, &rows);
    array->sums[p->piece] =
        checksum_piece(data_of(p->run, piece_offset(array, p->piece)), (size_t)(rows * array->row_bytes));
  }
}

static sbag_code_t write_block(part_t *p, int64_t at, int64_t bytes, sbag_status_t *status) {
  const char *data = data_of(p->run, at), *path = p->c->w->temporary;
  int64_t done = 0;
  if (p->bounce != NULL) {
    const void *from = data;
    if ((uintptr_t)data % (uintptr_t)p->c->direct.memory_align != 0)
      from = memcpy(p->bounce, data, (size_t)bytes);
    SBAG_TRY(direct_write(&p->c->direct, path, at, bytes, from, &done, status));
    if (done < bytes) p->bounce = NULL;
  }
  return disk_write(p->c->file, path, at + done, bytes - done, data + done, status);
}

static sbag_code_t write_part(part_t *p, sbag_status_t *status) {
  int64_t most = p->bounce != NULL ? block_bytes(p->c) : buffered_bytes;
  for (int64_t at = p->begin; at < p->end; at += most) {
    int64_t bytes = p->end - at < most ? p->end - at : most;
    take_checksums(p, at + bytes);
    SBAG_TRY(write_block(p, at, bytes, status));
  }
  take_checksums(p, INT64_MAX);
  return SBAG_OK;
}

static void *run_part(void *user) {
  part_t *p = user;
  p->code = write_part(p, &p->status);
  return NULL;
}

/* The second part in a thread of its own, or behind the first where there is none to be had. */
static sbag_code_t run_parts(part_t *parts, sbag_status_t *status) {
  pthread_t thread;
  int started = pthread_create(&thread, NULL, run_part, &parts[1]) == 0;
  sbag_code_t code = write_part(&parts[0], status);
  if (started)
    pthread_join(thread, NULL);
  else
    run_part(&parts[1]);
  if (code == SBAG_OK && parts[1].code != SBAG_OK) {
    *status = parts[1].status;
    code = parts[1].code;
  }
  return code;
}

/* Bytes [begin, end) of the file, both aligned. */
static sbag_code_t write_middle(commit_t *c, const commit_run_t *run, int64_t begin, int64_t end,
                                sbag_status_t *status) {
  char *bounce = (char *)round_up((intptr_t)c->bounce, c->direct.memory_align);
  part_t part = {.c = c, .run = run, .piece = run->piece, .last = run->end};
  part_t parts[2] = {part, part};
  int64_t middle = begin + round_up((end - begin) / 2, c->direct.align), cut = run->piece;
  while (cut < run->end && piece_offset(run->array, cut) < middle) cut++;
  parts[0].begin = begin;
  parts[0].end = parts[1].begin = middle;
  parts[1].end = end;
  parts[0].last = parts[1].piece = cut;
  parts[0].bounce = bounce;
  parts[1].bounce = bounce + block_bytes(c);
  sbag_code_t code = run_parts(parts, status);
  c->refused |= parts[0].bounce == NULL || parts[1].bounce == NULL;
  return code;
}

/* All through the cache. That the disk begins to work at once is a wish. */
static sbag_code_t write_buffered(commit_t *c, const commit_run_t *run, int64_t begin, int64_t end,
                                  sbag_status_t *status) {
  part_t part = {.c = c, .run = run, .begin = begin, .end = end, .piece = run->piece, .last = run->end};
  SBAG_TRY(write_part(&part, status));
  if (begin < end) (void)sync_file_range(c->file, (off_t)begin, (off_t)(end - begin), SYNC_FILE_RANGE_WRITE);
  return SBAG_OK;
}

sbag_code_t commit_pieces(commit_t *c, const commit_run_t *run, sbag_status_t *status) {
  const trailer_array_t *array = run->array;
  if (run->piece == run->end) return SBAG_OK;
  int64_t align = c->direct.align, first, rows;
  trailer_piece(array, run->end - 1, &first, &rows);
  int64_t begin = piece_offset(array, run->piece), end = array->offset + (first + rows) * array->row_bytes;
  if (run->joins_before) begin = round_down(begin, align);
  if (run->joins_after) end = round_down(end, align);
  int64_t from = round_up(begin, align), to = round_down(end, align);
  if (c->direct.file < 0 || c->refused || to - from < 2 * align || to - from < c->w->piece_bytes)
    return write_buffered(c, run, begin, end, status);
  const char *path = c->w->temporary;
  SBAG_TRY(disk_write(c->file, path, begin, from - begin, data_of(run, begin), status));
  SBAG_TRY(disk_write(c->file, path, to, end - to, data_of(run, to), status));
  return write_middle(c, run, from, to, status);
}
