/* Decides who writes which of a checkpoint's rows, and has them written: see commit.h. Where the ranks have
 * an array's rows in memory, each first writes the pieces that lie within its own, without the others, so
 * that nobody waits for who is just held up by the disk. All else comes by callback, and there they go
 * together: pieces that begin in one rank's rows and end in another's, and arrays that nobody has in memory.
 */
#include "checkpoint/commit.h"

/* ---- who has which rows ---- */

typedef struct span {
  int64_t first, rows;
} span_t;

/* A rank's own rows of an array. */
static span_t span_of(const commit_t *c, int64_t index, int rank) {
  const int64_t *span = c->spans + 2 * (rank * c->trailer.count + index);
  return (span_t){span[0], span[1]};
}

/* A rank's whole pieces [begin, end). */
static void own_pieces(const commit_t *c, int64_t index, int rank, int64_t *begin, int64_t *end) {
  const trailer_array_t *array = &c->trailer.arrays[index];
  span_t span = span_of(c, index, rank);
  int64_t last = span.first + span.rows;
  *begin = span.first / array->piece_rows + (span.first % array->piece_rows > 0);
  *end = last == array->rows ? trailer_piece_count(array) : last / array->piece_rows;
  if (!c->sources[index].is_owned || span.rows == 0 || *end < *begin) *end = *begin;
}

/* The rows of the piece that begins in a rank's own and ends in another's, which may be none. */
static span_t shared_piece(const commit_t *c, int64_t index, int rank) {
  const trailer_array_t *array = &c->trailer.arrays[index];
  span_t span = span_of(c, index, rank), piece = {0, 0};
  int64_t last = span.first + span.rows, begin = last - last % array->piece_rows;
  if (!c->sources[index].is_owned || last == array->rows || begin == last || begin < span.first) return piece;
  trailer_piece(array, begin / array->piece_rows, &piece.first, &piece.rows);
  return piece;
}

static int is_shared(const commit_t *c, int64_t index) {
  int any = 0;
  for (int rank = 0; rank < comm_size(c->w->comm); rank++) any |= shared_piece(c, index, rank).rows > 0;
  return any;
}

/* The rank, from `rank` on and around, whose own rows begin with `row`; -1 if none has. */
static int rank_from(const commit_t *c, int64_t index, int rank, int64_t row) {
  int size = comm_size(c->w->comm);
  for (int i = 0; i < size; i++) {
    int next = (rank + i) % size;
    span_t span = span_of(c, index, next);
    if (span.rows > 0 && span.first == row) return next;
  }
  return -1;
}

/* Whether every row is one rank's and no more than one's. The same on all ranks. */
static int is_owned(const commit_t *c, int64_t index) {
  int64_t rows = c->trailer.arrays[index].rows, sum = 0, at = 0;
  for (int rank = 0; rank < comm_size(c->w->comm); rank++) sum += span_of(c, index, rank).rows;
  if (sum != rows) return 0;
  for (int rank = 0; at < rows; at += span_of(c, index, rank).rows) {
    rank = rank_from(c, index, rank, at);
    if (rank < 0) return 0;
  }
  return 1;
}

static sbag_code_t ask_one(const commit_t *c, int64_t index, int64_t *span, sbag_status_t *status) {
  const trailer_array_t *array = &c->trailer.arrays[index];
  commit_source_t *source = &c->sources[index];
  checkpoint_rows_t own = {NULL, 0, 0};
  if (source->item->own == NULL) return SBAG_OK;
  SBAG_TRY(source->item->own(source->item->user, &own, status));
  if (own.first_row < 0 || own.rows < 0 || own.first_row > array->rows - own.rows ||
      (own.rows > 0 && own.data == NULL))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "checkpoint '%s': '%s' has %lld rows; %lld rows from row %lld at %s are not in it",
                      c->w->path, array->name, (long long)array->rows, (long long)own.rows,
                      (long long)own.first_row, own.data == NULL ? "NULL" : "an address");
  source->own = own;
  span[0] = own.first_row;
  span[1] = own.rows;
  return SBAG_OK;
}

/* The sources, and behind them the ranks' spans and this rank's own. */
static sbag_code_t list_sources(commit_t *c, int64_t **mine, sbag_status_t *status) {
  int64_t count = c->trailer.count, spans = 2 * count * (comm_size(c->w->comm) + (int64_t)1), next = 0;
  void *block = NULL;
  SBAG_TRY(mem_calloc(c->w->mem,
                      mem_array_bytes(count, sizeof *c->sources) + mem_array_bytes(spans, sizeof(int64_t)),
                      "checkpoint: own rows", &block, status));
  c->sources = block;
  c->spans = (int64_t *)(c->sources + count);
  for (int64_t i = 0; i < c->w->count; i++)
    if (c->w->items[i].key == NULL) c->sources[next++].item = &c->w->items[i];
  *mine = c->spans + 2 * count * comm_size(c->w->comm);
  return SBAG_OK;
}

static sbag_code_t gather_sources(commit_t *c, sbag_status_t *status) {
  comm_t *comm = c->w->comm;
  int64_t *mine = NULL, count = c->trailer.count;
  SBAG_TRY(comm_agree(comm, list_sources(c, &mine, status), status));
  /* One by one: who tells its rows may have to bring them up to date first, and the others wait. */
  for (int64_t i = 0; i < count; i++) SBAG_TRY(comm_agree(comm, ask_one(c, i, mine + 2 * i, status), status));
  SBAG_TRY(comm_allgather(comm, mine, 2 * count * (int64_t)sizeof *mine, c->spans, "checkpoint: own rows",
                          status));
  for (int64_t i = 0; i < count; i++)
    c->sources[i].is_owned = c->sources[i].item->own != NULL && is_owned(c, i);
  return SBAG_OK;
}

/* ---- own rows ---- */

/* Steps of a chunk's bytes between two agreements: so many that waiting for each other does not count, so few
 * that a rank without rows of its own does not run into its deadline. 512 MiB with chunks as they are. */
enum { ROUND_STEPS = 32 };

/* The walk over this rank's own pieces. */
typedef struct own_walk {
  int64_t index, done; /* pieces of that array */
} own_walk_t;

static int64_t step_pieces(const commit_t *c, int64_t index) {
  const trailer_array_t *array = &c->trailer.arrays[index];
  int64_t pieces = c->w->chunk_bytes / (array->piece_rows * array->row_bytes);
  return pieces > 0 ? pieces : 1;
}

/* The rounds that the rank with the most to write needs. */
static int64_t count_rounds(const commit_t *c) {
  int64_t most = 0;
  for (int rank = 0; rank < comm_size(c->w->comm); rank++) {
    int64_t steps = 0;
    for (int64_t i = 0; i < c->trailer.count; i++) {
      int64_t begin, end, each = step_pieces(c, i);
      own_pieces(c, i, rank, &begin, &end);
      steps += (end - begin + each - 1) / each;
    }
    if (steps > most) most = steps;
  }
  return (most + ROUND_STEPS - 1) / ROUND_STEPS;
}

/* Writes the pieces [piece, end) of this rank's own, which are [begin, last). */
static sbag_code_t write_run(commit_t *c, int64_t index, int64_t piece, int64_t end, sbag_status_t *status) {
  const trailer_array_t *array = &c->trailer.arrays[index];
  const checkpoint_rows_t *own = &c->sources[index].own;
  int64_t begin, last, first = piece * array->piece_rows;
  own_pieces(c, index, comm_rank(c->w->comm), &begin, &last);
  commit_run_t run = {.array = array,
                      .piece = piece,
                      .end = end,
                      .data = (const char *)own->data + (first - own->first_row) * array->row_bytes,
                      .joins_before = piece > begin,
                      .joins_after = end < last};
  return commit_pieces(c, &run, status);
}

static sbag_code_t write_round(commit_t *c, own_walk_t *walk, sbag_status_t *status) {
  for (int step = 0; step < ROUND_STEPS && walk->index < c->trailer.count;) {
    int64_t begin, end, each = step_pieces(c, walk->index);
    own_pieces(c, walk->index, comm_rank(c->w->comm), &begin, &end);
    begin += walk->done;
    if (begin == end) {
      *walk = (own_walk_t){walk->index + 1, 0};
      continue;
    }
    if (end - begin > each * (ROUND_STEPS - step)) end = begin + each * (ROUND_STEPS - step);
    SBAG_TRY(write_run(c, walk->index, begin, end, status));
    walk->done += end - begin;
    step += (int)((end - begin + each - 1) / each);
  }
  return SBAG_OK;
}

static sbag_code_t write_own(commit_t *c, sbag_status_t *status) {
  own_walk_t walk = {0, 0};
  for (int64_t left = count_rounds(c); left > 0; left--)
    SBAG_TRY(comm_agree(c->w->comm, write_round(c, &walk, status), status));
  return SBAG_OK;
}

/* ---- rows by callback ---- */

static layout_walk_t walk_of(const commit_t *c, int64_t index) {
  const checkpoint_array_t *array = &c->sources[index].item->array;
  int64_t piece_rows = c->trailer.arrays[index].piece_rows;
  int size = comm_size(c->w->comm), turn = layout_turn(array, piece_rows, index, comm_rank(c->w->comm), size);
  return layout_walk(array, piece_rows, 1, c->w->chunk_bytes, turn, size);
}

/* One chunk for all arrays. */
static sbag_code_t allocate_chunk(commit_t *c, sbag_status_t *status) {
  size_t most = 1;
  for (int64_t i = 0; i < c->trailer.count; i++) {
    if (c->sources[i].item->kind != LAYOUT_ARRAY) continue;
    const trailer_array_t *array = &c->trailer.arrays[i];
    int64_t rows = is_shared(c, i) ? array->piece_rows : 0;
    if (!c->sources[i].is_owned) rows = walk_of(c, i).rows_per_chunk;
    size_t bytes = mem_array_bytes(rows, (size_t)array->row_bytes);
    if (bytes > most) most = bytes;
  }
  return mem_alloc(c->w->mem, most, "checkpoint: chunk", &c->chunk, status);
}

/* Rows of whole pieces that stand at `data` alone. */
static sbag_code_t write_rows(commit_t *c, int64_t index, int64_t first, int64_t rows, const void *data,
                              sbag_status_t *status) {
  const trailer_array_t *array = &c->trailer.arrays[index];
  commit_run_t run = {.array = array, .data = data};
  if (rows == 0) return SBAG_OK;
  run.piece = first / array->piece_rows;
  run.end = (first + rows - 1) / array->piece_rows + 1;
  return commit_pieces(c, &run, status);
}

/* One agreement covers both the callback and the write. */
static sbag_code_t write_chunk(commit_t *c, int64_t index, int64_t first, int64_t rows,
                               sbag_status_t *status) {
  const layout_item_t *item = c->sources[index].item;
  sbag_code_t code = item->fill(item->user, first, rows, c->chunk, status);
  if (code == SBAG_OK) code = write_rows(c, index, first, rows, c->chunk, status);
  return comm_agree(c->w->comm, code, status);
}

static sbag_code_t write_array(commit_t *c, int64_t index, sbag_status_t *status) {
  if (c->sources[index].is_owned) {
    span_t piece = shared_piece(c, index, comm_rank(c->w->comm));
    return is_shared(c, index) ? write_chunk(c, index, piece.first, piece.rows, status) : SBAG_OK;
  }
  layout_walk_t walk = walk_of(c, index);
  for (int64_t i = 0; i < walk.chunk_count; i++)
    SBAG_TRY(write_chunk(c, index, layout_chunk_first(&walk, i), layout_chunk_rows(&walk, i), status));
  return SBAG_OK;
}

/* Rank 0 has all of it. */
static sbag_code_t write_blob(commit_t *c, int64_t index, sbag_status_t *status) {
  const layout_item_t *item = c->sources[index].item;
  sbag_code_t code = SBAG_OK;
  if (comm_rank(c->w->comm) == 0) code = write_rows(c, index, 0, item->array.shape[0], item->data, status);
  return comm_agree(c->w->comm, code, status);
}

sbag_code_t commit_rows(commit_t *c, sbag_status_t *status) {
  SBAG_TRY(gather_sources(c, status));
  SBAG_TRY(write_own(c, status));
  SBAG_TRY(comm_agree(c->w->comm, allocate_chunk(c, status), status));
  for (int64_t i = 0; i < c->trailer.count; i++)
    SBAG_TRY(c->sources[i].item->kind == LAYOUT_BLOB ? write_blob(c, i, status) : write_array(c, i, status));
  return SBAG_OK;
}
