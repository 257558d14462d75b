/* One thread's segments, over all its tasks, as one stream of vectors: so the vectors that are fetched ahead
 * are those of the next terms whichever segment or task has them. The stream is listed some hundred addresses
 * at a time, and the segments among them are handed to the instruction set's functions as runs. While a list
 * is made nothing is fetched, so plain sums of rows by their numbers go without one, but for a task's last
 * terms, behind which the next task's are to be fetched. */
#include "kernel/cpu_reduce.h"
#include "kernel/quant.h"

#include <string.h>

enum {
  RUN_TERMS = 512,         /* of a run, at most */
  AHEAD_MOST = 64,         /* terms */
  AHEAD_LEAST = 8,         /* terms */
  AHEAD_BYTES = 32768,     /* of the vectors between the one that is added and the one that is fetched */
  ROOM_BYTES = 256 << 10,  /* of the vectors of a run, where several passes go over them */
  STREAM_BYTES = 32 << 20, /* of outputs that no cache will keep */
  OUTS_AHEAD = 16          /* segments whose outputs are fetched ahead, at most */
};

/* Where the list's next address comes from. */
typedef struct cursor {
  const reduce_span_t *span;
  int64_t task, place, last;
} cursor_t;

typedef struct stream {
  const reduce_isa_t *isa;
  cursor_t cursor;
  int64_t head, tail;                          /* of what is listed and not yet added */
  int64_t most;                                /* terms to be listed at a time */
  const char *row[RUN_TERMS + 2 * AHEAD_MOST]; /* the last AHEAD_MOST only at the very end */
  float scale[RUN_TERMS];                      /* of a run's terms, where they are not in order */
  int64_t select[RUN_TERMS];
  const int64_t *winner[RUN_TERMS];
} stream_t;

enum { LISTED_MOST = RUN_TERMS + AHEAD_MOST };

static int64_t place_of(const reduce_task_t *t, int64_t segment) {
  return t->begin != NULL ? t->begin[segment] : segment;
}

static int64_t out_offset(const reduce_task_t *t, int64_t segment) {
  return (t->out_at != NULL ? t->out_at[segment] : segment - t->segment_begin) * t->out_stride;
}

static int64_t row_bytes(const reduce_task_t *t) {
  return (int64_t)kernel_row_bytes(SBAG_F32, t->storage, t->dim);
}

/* Bytes from one term number to the next. */
static int64_t term_bytes(const reduce_task_t *t) {
  if (kernel_is_quantised(t->storage)) return row_bytes(t);
  return t->stride * (t->storage == SBAG_STORAGE_FULL ? (int64_t)sizeof(float) : (int64_t)sizeof(uint16_t));
}

/* Others are left to the reference: maxima with positions of their own, selected columns of narrow vectors,
 * vectors or bags of a size that nobody has. */
static int streams(const reduce_task_t *t) {
  return t->dim <= REDUCE_PART_COLUMNS && (t->op != REDUCE_MAX || t->position == NULL) &&
         (t->select == NULL || t->storage == SBAG_STORAGE_FULL) &&
         place_of(t, t->segment_end) - place_of(t, t->segment_begin) < INT32_MAX;
}

/* ---- the list ---- */

static void enter_task(cursor_t *c) {
  const reduce_task_t *t = &c->span->tasks[c->task];
  c->place = c->last = 0;
  if (!streams(t)) return;
  c->place = place_of(t, reduce_span_first(c->span, c->task));
  c->last = place_of(t, reduce_span_end(c->span, c->task));
}

static int at_end(const cursor_t *c) {
  return c->task == c->span->count;
}

static void list_rows(const reduce_task_t *t, int64_t place, int64_t count, const char **row) {
  const int64_t step = term_bytes(t), *term = t->term;
  const char *src = t->src;
  if (t->order != NULL)
    for (int64_t i = 0; i < count; i++) row[i] = src + term[t->order[place + i]] * step;
  else
    for (int64_t i = 0; i < count; i++) row[i] = src + term[place + i] * step;
}

/* What the next call will list: it comes in a burst, too short for the processor to see where it goes. */
static void fetch_terms(const reduce_task_t *t, int64_t place, int64_t last) {
  const int64_t *from = t->order != NULL ? t->order : t->term;
  const int64_t end = last - place < RUN_TERMS ? last : place + RUN_TERMS;
  for (int64_t i = place; i < end; i += LINE_BYTES / (int64_t)sizeof *from) __builtin_prefetch(from + i);
}

/* As many as there is room for. What is beyond the last term is fetched, but never read. */
static void list_more(stream_t *s) {
  cursor_t *c = &s->cursor;
  memmove(s->row, s->row + s->head, (size_t)(s->tail - s->head) * sizeof *s->row);
  s->tail -= s->head;
  s->head = 0;
  while (s->tail < s->most && !at_end(c)) {
    const int64_t room = s->most - s->tail, left = c->last - c->place, n = room < left ? room : left;
    if (n > 0) list_rows(&c->span->tasks[c->task], c->place, n, s->row + s->tail);
    s->tail += n;
    c->place += n;
    if (n > 0) fetch_terms(&c->span->tasks[c->task], c->place, c->last);
    if (c->place == c->last && ++c->task < c->span->count) enter_task(c);
  }
  if (!at_end(c)) return;
  for (int64_t i = 0; i < AHEAD_MOST; i++) s->row[s->tail + i] = s->tail > 0 ? s->row[s->tail - 1] : NULL;
}

/* Terms of the list that can be added while others are behind them to be fetched. */
static int64_t ready(const stream_t *s) {
  const int64_t listed = s->tail - s->head;
  return at_end(&s->cursor) ? listed : listed > AHEAD_MOST ? listed - AHEAD_MOST : 0;
}

/* A list that goes on from here, of at most so many terms at a time; what was listed is dropped. */
static void list_from(stream_t *s, int64_t task, int64_t place, int64_t most) {
  cursor_t *c = &s->cursor;
  s->head = s->tail = 0;
  s->most = most < LISTED_MOST ? most : LISTED_MOST;
  c->task = task;
  enter_task(c);
  c->place = place;
  list_more(s);
}

static int64_t clamp(int64_t value, int64_t least, int64_t most) {
  return value < least ? least : value > most ? most : value;
}

static int64_t terms_ahead(const reduce_task_t *t) {
  return clamp(AHEAD_BYTES / (t->dim > 0 ? row_bytes(t) : 1), AHEAD_LEAST, AHEAD_MOST);
}

static void start_stream(stream_t *s, const reduce_isa_t *isa, const reduce_span_t *span) {
  s->isa = isa;
  s->cursor = (cursor_t){.span = span};
  enter_task(&s->cursor);
  list_from(s, 0, s->cursor.place, AHEAD_MOST);
  s->most = LISTED_MOST;
  const int64_t bytes = clamp(row_bytes(&span->tasks[0]), 0, AHEAD_BYTES);
  const int64_t ahead = terms_ahead(&span->tasks[0]);
  for (int64_t i = 0; i < ahead && i < s->tail; i++)
    for (int64_t byte = 0; byte < bytes; byte += LINE_BYTES) __builtin_prefetch(s->row[i] + byte, 0, 2);
}

/* ---- runs ---- */

/* What a task's runs have in common. */
typedef struct run_task {
  const reduce_task_t *task;
  int kind, stream, whole_lines; /* whole_lines: vectors begin and end with lines */
  int direct;                    /* 1: terms may go without a list */
  int64_t row_bytes, lines, terms_most;
  int64_t passes, pass_columns;
} run_task_t;

static int has_whole_lines(const reduce_task_t *t) {
  return (uintptr_t)t->out % LINE_BYTES == 0 && t->dim * (int64_t)sizeof(float) % LINE_BYTES == 0 &&
         t->out_stride * (int64_t)sizeof(float) % LINE_BYTES == 0;
}

/* Lines of a row to fetch from its first byte on, when its last byte's is fetched as well: where rows begin
 * at multiples of what they exceed whole lines by, they touch one line more than those, and that is the last.
 */
static int64_t lines_of(int64_t bytes) {
  const int64_t lines = bytes / LINE_BYTES, rest = bytes % LINE_BYTES;
  if (rest == 0) return lines;
  return lines > 0 && LINE_BYTES % rest == 0 ? lines : lines + 1;
}

static run_task_t prepare_task(const stream_t *s, const reduce_task_t *t) {
  run_task_t r = {.task = t, .row_bytes = row_bytes(t), .passes = 1, .terms_most = RUN_TERMS};
  r.kind = t->op == REDUCE_MAX ? RUN_MAX
           : t->select != NULL ? RUN_SELECTED
           : t->scale != NULL  ? RUN_SCALED
                               : RUN_SUM;
  r.lines = lines_of(r.row_bytes);
  r.whole_lines = (uintptr_t)t->src % LINE_BYTES == 0 && r.row_bytes % LINE_BYTES == 0;
  r.stream = s->cursor.span->stream && has_whole_lines(t);
  const int64_t vectors = (t->dim + s->isa->lanes - 1) / s->isa->lanes, most = s->isa->vectors[r.kind];
  r.passes = (vectors + most - 1) / most;
  r.pass_columns = (vectors + r.passes - 1) / (r.passes > 0 ? r.passes : 1) * s->isa->lanes;
  /* Rows of a cache line or less take so little that to have their addresses ready is worth a list. */
  r.direct = r.kind == RUN_SUM && t->storage == SBAG_STORAGE_FULL && t->order == NULL && r.passes == 1 &&
             r.row_bytes > LINE_BYTES;
  if (r.passes > 1 && r.terms_most * r.row_bytes > ROOM_BYTES) r.terms_most = ROOM_BYTES / r.row_bytes;
  if (r.terms_most < AHEAD_MOST) r.terms_most = AHEAD_MOST;
  return r;
}

/* What a run's terms have beside their vectors. */
static void list_factors(stream_t *s, const run_task_t *of, int64_t place, int64_t terms, reduce_run_t *run) {
  const reduce_task_t *t = of->task;
  const float *scale = t->scale;
  if (scale != NULL) {
    for (int64_t j = 0; j < terms && t->order != NULL; j++) s->scale[j] = scale[t->order[place + j]];
    run->scale = t->order != NULL ? s->scale : scale + place;
  }
  if (of->kind != RUN_SELECTED) return;
  for (int64_t j = 0; j < terms; j++) {
    const int64_t i = t->order != NULL ? t->order[place + j] : place + j;
    s->select[j] = t->select[i];
    s->winner[j] = t->select[i] >= 0 ? t->winner + t->select_at[i] : NULL;
    if (s->winner[j] != NULL) __builtin_prefetch(s->winner[j], 0, 2);
  }
  run->select = s->select;
  run->winner = s->winner;
}

/* What is to be fetched of a run's vectors. */
static void fetch_of(const run_task_t *of, reduce_run_t *run) {
  run->ahead = terms_ahead(of->task);
  run->lines = of->lines;
  run->last_byte = of->whole_lines ? 0 : of->row_bytes - 1;
}

/* All columns of a run, whose arrays by segment and by term are set. */
static void do_run(stream_t *s, const run_task_t *of, int64_t place, int64_t terms, reduce_run_t *run) {
  const reduce_task_t *t = of->task;
  run->row = s->row + s->head;
  run->code_bytes = quant_code_bytes(t->storage, t->dim);
  fetch_of(of, run);
  list_factors(s, of, place, terms, run);
  for (run->column = 0; run->column < t->dim; run->column += of->pass_columns) {
    const int64_t left = t->dim - run->column;
    run->columns = left < of->pass_columns ? left : of->pass_columns;
    const int64_t vectors = (run->columns + s->isa->lanes - 1) / s->isa->lanes;
    s->isa->run[of->kind][t->storage][vectors - 1](run);
    run->lines = run->last_byte = 0;
  }
  s->head += terms;
}

/* Segments that follow each other in memory are put out to lines that were fetched while the terms before
 * were added. */
static int64_t out_ahead(const run_task_t *of, int64_t segments, int64_t terms) {
  const reduce_task_t *t = of->task;
  if (of->stream || t->out_at != NULL || terms == 0) return 0;
  return clamp(terms_ahead(t) * segments / terms, 1, OUTS_AHEAD) * t->out_stride;
}

/* Segments [first, first + segments), whole. */
static reduce_run_t run_of_segments(const run_task_t *of, int64_t first, int64_t segments, int64_t terms) {
  const reduce_task_t *t = of->task;
  const int64_t at = t->out_at != NULL ? 0 : out_offset(t, first);
  return (reduce_run_t){.begin = t->begin != NULL ? t->begin + first : NULL,
                        .segments = segments,
                        .out_at = t->out_at != NULL ? t->out_at + first : NULL,
                        .out = (float *)t->out + at,
                        .out_stride = t->out_stride,
                        .out_ahead = out_ahead(of, segments, terms),
                        .out_position = t->out_position != NULL ? t->out_position + at : NULL,
                        .count_begin = t->count_begin != NULL ? t->count_begin + first : NULL,
                        .stream = of->stream};
}

static void do_segments(stream_t *s, const run_task_t *of, int64_t first, int64_t segments) {
  const int64_t place = place_of(of->task, first), terms = place_of(of->task, first + segments) - place;
  reduce_run_t run = run_of_segments(of, first, segments, terms);
  do_run(s, of, place, terms, &run);
}

/* ---- segments longer than a run ---- */

/* The terms [first, last) of a segment, listed piece by piece, into one vector (and its positions). */
static void do_pieces(stream_t *s, const run_task_t *of, int64_t first, int64_t last, float *out,
                      int64_t *position) {
  for (int64_t place = first; place < last;) {
    if (ready(s) < last - place && ready(s) < RUN_TERMS / 2) list_more(s);
    const int64_t room = ready(s) < of->terms_most ? ready(s) : of->terms_most;
    const int64_t n = last - place < room ? last - place : room, ends[2] = {0, n};
    reduce_run_t run = {
        .begin = ends, .segments = 1, .out = out, .out_position = position, .carry = place - first};
    do_run(s, of, place, n, &run);
    place += n;
  }
}

static void do_long_sum(stream_t *s, const run_task_t *of, int64_t segment) {
  const reduce_task_t *t = of->task;
  const int64_t first = place_of(t, segment), last = place_of(t, segment + 1);
  float *out = (float *)t->out + out_offset(t, segment), part[REDUCE_PART_COLUMNS];
  for (int64_t at = first; at < last; at += REDUCE_BLOCK) {
    do_pieces(s, of, at, last - at > REDUCE_BLOCK ? at + REDUCE_BLOCK : last, at == first ? out : part, NULL);
    for (int64_t c = 0; c < t->dim && at > first; c++) out[c] += part[c];
  }
  const int64_t count = t->count_begin != NULL ? t->count_begin[segment + 1] - t->count_begin[segment] : 0;
  for (int64_t c = 0; c < t->dim && count > 0; c++) out[c] /= (float)count;
}

static void do_long_max(stream_t *s, const run_task_t *of, int64_t segment) {
  const reduce_task_t *t = of->task;
  const int64_t at = out_offset(t, segment);
  int64_t room[REDUCE_PART_COLUMNS];
  do_pieces(s, of, place_of(t, segment), place_of(t, segment + 1), (float *)t->out + at,
            t->out_position != NULL ? t->out_position + at : room);
}

/* ---- a thread's tasks ---- */

/* How many segments from `first` on have at most `terms` terms. */
static int64_t segments_within(const reduce_task_t *t, int64_t first, int64_t end, int64_t terms) {
  if (t->begin == NULL) return end - first < terms ? end - first : terms;
  int64_t low = first, high = end; /* as many as low - first surely do, those up to high + 1 do not */
  const int64_t limit = t->begin[first] + terms;
  while (low < high) {
    const int64_t middle = high - (high - low) / 2;
    if (t->begin[middle] <= limit)
      low = middle;
    else
      high = middle - 1;
  }
  return low - first;
}

/* Segments from the list, up to `end`. */
static void do_listed(stream_t *s, const run_task_t *of, int64_t first, int64_t end) {
  const reduce_task_t *t = of->task;
  while (first < end) {
    if (ready(s) < RUN_TERMS / 2) list_more(s);
    const int64_t room = ready(s) < of->terms_most ? ready(s) : of->terms_most;
    const int64_t n = segments_within(t, first, end, room);
    if (n > 0) {
      do_segments(s, of, first, n);
      first += n;
    } else if (ready(s) < of->terms_most && !at_end(&s->cursor)) {
      list_more(s);
    } else {
      (t->op == REDUCE_MAX ? do_long_max : do_long_sum)(s, of, first++);
    }
  }
}

/* Segments without a list, as long as what is fetched ahead is of this task and no segment is long. Returns
 * the first one that is left. */
static int64_t do_direct(const stream_t *s, const run_task_t *of, int64_t first, int64_t end) {
  const reduce_task_t *t = of->task;
  const int64_t last = place_of(t, end) - terms_ahead(t),
                vectors = (t->dim + s->isa->lanes - 1) / s->isa->lanes;
  while (first < end) {
    const int64_t place = place_of(t, first), left = last - place;
    const int64_t n =
        left > 0 ? segments_within(t, first, end, left < REDUCE_BLOCK ? left : REDUCE_BLOCK) : 0;
    if (n == 0) return first;
    reduce_run_t run = run_of_segments(of, first, n, place_of(t, first + n) - place);
    run.term = t->term + place;
    run.src = t->src;
    run.term_bytes = term_bytes(t);
    run.columns = t->dim;
    fetch_of(of, &run);
    s->isa->run[RUN_DIRECT][SBAG_STORAGE_FULL][vectors - 1](&run);
    first += n;
  }
  return first;
}

static void do_task(stream_t *s, int64_t task, int64_t first, int64_t end) {
  const run_task_t of = prepare_task(s, &s->cursor.span->tasks[task]);
  while (of.direct && first < end) {
    const int64_t segment = do_direct(s, &of, first, end);
    if (segment == end) return;
    const int64_t place = place_of(of.task, segment), left = place_of(of.task, end) - place;
    const int is_tail = left <= REDUCE_BLOCK + AHEAD_MOST;
    list_from(s, task, place, (is_tail ? left : LISTED_MOST) + AHEAD_MOST);
    do_listed(s, &of, segment, is_tail ? end : segment + 1);
    s->most = LISTED_MOST;
    first = is_tail ? end : segment + 1;
  }
  do_listed(s, &of, first, end);
}

void cpu_reduce_stream(const reduce_isa_t *isa, const reduce_span_t *span) {
  stream_t s;
  start_stream(&s, isa, span);
  for (int64_t i = 0; i < span->count; i++) {
    const reduce_task_t *t = &span->tasks[i];
    const int64_t first = reduce_span_first(span, i), end = reduce_span_end(span, i);
    if (streams(t))
      do_task(&s, i, first, end);
    else
      cpu_reduce_scalar(SBAG_F32, t, first, end);
  }
}

int cpu_reduce_streams(const reduce_task_t *tasks, int64_t count) {
  int64_t bytes = 0;
  for (int64_t i = 0; i < count; i++)
    bytes += (tasks[i].segment_end - tasks[i].segment_begin) * tasks[i].dim * (int64_t)sizeof(float);
  return bytes >= STREAM_BYTES;
}
