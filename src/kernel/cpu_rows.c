/* A batch's terms by row, table by table: so that what is sorted at a time stays in the cache, and that a
 * table's keys are short. Words are a row above a term; threads take tables, or share one where there are
 * fewer tables than threads. */
#include "kernel/cpu.h"
#include "kernel/cpu_unique.h"

enum { WAVE = 64 /* tables that are sorted before any is listed */ };

typedef struct table {
  int64_t piece, piece_end;
  int64_t edge, edge_end; /* among all that are sorted */
  int64_t rows;           /* distinct */
  const uint64_t *words;  /* sorted */
} table_t;

static int64_t piece_edges(const row_sort_t *s, const row_piece_t *p) {
  return p->begin[s->bag_count] - p->begin[0];
}

static void write_words(const row_sort_t *s, const row_piece_t *p, int term_bits, uint64_t *words) {
  const int64_t first = p->begin[0];
  for (int64_t b = 0; b < s->bag_count; b++)
    for (int64_t e = p->begin[b]; e < p->begin[b + 1]; e++)
      words[e - first] = (uint64_t)p->row[e] << term_bits | (uint64_t)(p->first_term + b);
}

static int64_t count_rows(const uint64_t *words, int64_t count, int term_bits) {
  int64_t rows = count > 0;
  for (int64_t i = 1; i < count; i++) rows += words[i] >> term_bits != words[i - 1] >> term_bits;
  return rows;
}

static void sort_table(const row_sort_t *s, int number, int threads, table_t *t) {
  const int term_bits = cpu_bits_below(s->term_limit);
  uint64_t *words = (uint64_t *)s->scratch + 2 * t->edge, *to = words;
  for (int64_t p = t->piece; p < t->piece_end; p++) {
    write_words(s, &s->pieces[p], term_bits, to);
    to += piece_edges(s, &s->pieces[p]);
  }
  t->words = cpu_sort_words(words, to, to - words, term_bits, cpu_bits_below(s->row_limit[number]), threads);
  t->rows = count_rows(t->words, to - words, term_bits);
}

/* Rows from number `at` on; their terms from t->edge on. */
static void list_table(const row_sort_t *s, const table_t *t, int64_t at) {
  const int term_bits = cpu_bits_below(s->term_limit);
  const uint64_t term_mask = ((uint64_t)1 << term_bits) - 1;
  const int64_t count = t->edge_end - t->edge;
  int64_t *term = s->term + t->edge, row = at - 1;
  uint64_t before = UINT64_MAX;
  for (int64_t i = 0; i < count; i++) {
    const uint64_t key = t->words[i] >> term_bits;
    row += key != before;
    before = key;
    s->row[row] = (int64_t)key;
    s->begin[row + 1] = t->edge + i + 1;
    term[i] = (int64_t)(t->words[i] & term_mask);
  }
}

/* Tables [first, end), whose edges begin with number `edge`; returns where they end. */
static int64_t sort_wave(const row_sort_t *s, int first, int end, int threads, int64_t *piece, int64_t edge) {
  table_t tables[WAVE];
  for (int i = first; i < end; i++) {
    table_t *t = &tables[i - first];
    t->piece = *piece;
    t->edge = edge;
    for (; *piece < s->piece_count && s->pieces[*piece].table == i; ++*piece)
      edge += piece_edges(s, &s->pieces[*piece]);
    t->piece_end = *piece;
    t->edge_end = edge;
  }
  const int shared = s->tables < threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && !shared)
  for (int i = first; i < end; i++) sort_table(s, i, shared ? threads : 1, &tables[i - first]);
  for (int i = first; i < end; i++) s->table_row[i + 1] = s->table_row[i] + tables[i - first].rows;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
  for (int i = first; i < end; i++) list_table(s, &tables[i - first], s->table_row[i]);
  return edge;
}

/* One thread lists a table as soon as it is sorted: it is in its cache then. */
static void cpu_sort_rows(kernel_t *k, kernel_stream_t *stream, const row_sort_t *s) {
  enum { THREADED_LEAST = 1 << 15 };
  (void)stream;
  int64_t piece = 0, edge = 0, edges = 0;
  for (int64_t p = 0; p < s->piece_count; p++) edges += piece_edges(s, &s->pieces[p]);
  const int threads = edges < THREADED_LEAST ? 1 : k->threads, wave = threads > 1 ? WAVE : 1;
  s->table_row[0] = 0;
  s->begin[0] = 0;
  for (int t = 0; t < s->tables; t += wave)
    edge = sort_wave(s, t, t + wave < s->tables ? t + wave : s->tables, threads, &piece, edge);
}

void cpu_rows_ops(kernel_ops_t *ops) {
  ops->sort_rows = cpu_sort_rows;
}
