/* Ranking of rows: all ranks' queries go to all owners, each owner scores its rows by matrix products and
 * keeps the best k of each query, and these go back.
 *
 * The matrix product is only a sieve: its rounding depends on sizes and processor. What it cannot rule out
 * within its error bound is computed again in double. */
#include "model/topk.h"

#include "base/sort.h"
#include "collection/collection.h"
#include "dense/gemm.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 4096, TILE_QUERIES = 64 };

struct topk {
  sbag_collection_h collection;
  comm_t *comm;
  mem_t *mem;
  topk_options_t options;
  int64_t dim, chunks; /* as many on all ranks */
  int64_t *rows;       /* [CHUNK_ROWS] */
  float *vectors;      /* [CHUNK_ROWS][dim] */
  float *scores;       /* [TILE_QUERIES][CHUNK_ROWS] */
};

/* What a search needs, all of it of its own. */
typedef struct search {
  topk_t *t;
  int64_t *deals, *bytes;            /* [size][2]: queries and excluded rows of each rank; [size] */
  int64_t all, all_excluded;         /* of all ranks */
  float *mine, *queries;             /* [count][dim], [all][dim] */
  int64_t *my_lists, *lists;         /* of each query: how many are excluded; then all of these */
  int64_t *list_begin, *list_length; /* [all] */
  double *norms;                     /* [all] of the queries */
  topk_hit_t *heaps;                 /* [all][k], the worst at the root */
  int64_t *held;                     /* [all] hits in the heap */
  topk_hit_t *received;              /* [size][count][k] */
  comm_part_t *parts;                /* [2 size] */
} search_t;

/* ---- creation ---- */

static int64_t own_rows(const topk_t *t) {
  return plan_rank_rows(t->collection->plan, comm_rank(t->comm), t->options.table);
}

static sbag_code_t allocate(topk_t *t, sbag_status_t *status) {
  SBAG_TRY(mem_alloc(t->mem, CHUNK_ROWS * sizeof *t->rows, "ranking: rows", (void **)&t->rows, status));
  SBAG_TRY(mem_alloc(t->mem, mem_array_bytes(CHUNK_ROWS * t->dim, sizeof(float)), "ranking: rows",
                     (void **)&t->vectors, status));
  return mem_alloc(t->mem, sizeof(float) * TILE_QUERIES * CHUNK_ROWS, "ranking: scores", (void **)&t->scores,
                   status);
}

static sbag_code_t check(sbag_collection_h c, const topk_options_t *o, sbag_status_t *status) {
  if (o->table < 0 || o->table >= c->table_count || o->k < 1 || o->k > 1 << 20 || o->first_row < 0)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "ranking: table %d of %d, the best %lld from row %lld on: k must be 1 to 2^20, the row 0 or more",
        o->table, c->table_count, (long long)o->k, (long long)o->first_row);
  if (c->options.dtype == SBAG_F32) return SBAG_OK;
  return status_set(status, SBAG_ERR_UNSUPPORTED, "ranking: only of vectors in float32");
}

sbag_code_t topk_create(sbag_collection_h collection, comm_t *comm, mem_t *mem, const topk_options_t *options,
                        topk_t **topk, sbag_status_t *status) {
  void *block = NULL;
  sbag_code_t code = check(collection, options, status);
  if (code == SBAG_OK) code = mem_calloc(mem, sizeof(topk_t), "ranking", &block, status);
  topk_t *made = block;
  if (code == SBAG_OK) {
    *made = (topk_t){.collection = collection, .comm = comm, .mem = mem, .options = *options};
    exchange_rows_t array;
    code = collection_array(collection, options->table, -1, &array, status);
    if (code == SBAG_OK) made->dim = array.width;
    if (code == SBAG_OK) code = allocate(made, status);
  }
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) {
    made->chunks = (own_rows(made) + CHUNK_ROWS - 1) / CHUNK_ROWS;
    code = comm_allreduce(comm, &made->chunks, 1, COMM_I64, COMM_MAX, "ranking: rows", status);
  }
  if (code != SBAG_OK)
    topk_destroy(&made);
  else
    *topk = made;
  return code;
}

void topk_destroy(topk_t **topk) {
  if (topk == NULL || *topk == NULL) return;
  topk_t *t = *topk;
  mem_free(t->mem, t->rows);
  mem_free(t->mem, t->vectors);
  mem_free(t->mem, t->scores);
  mem_free(t->mem, t);
  *topk = NULL;
}

/* ---- all ranks' queries ---- */

static sbag_code_t take(search_t *s, int64_t count, size_t size, void *block, sbag_status_t *status) {
  return mem_alloc(s->t->mem, mem_array_bytes(count, size), "ranking: queries", block, status);
}

static void search_clear(search_t *s) {
  void *blocks[] = {s->deals,       s->bytes, s->mine,  s->queries, s->my_lists, s->lists, s->list_begin,
                    s->list_length, s->norms, s->heaps, s->held,    s->received, s->parts};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(s->t->mem, blocks[i]);
}

static sbag_code_t make_room(search_t *s, int64_t mine, int64_t my_excluded, sbag_status_t *status) {
  int64_t size = comm_size(s->t->comm), k = s->t->options.k;
  s->all = s->all_excluded = 0;
  for (int64_t r = 0; r < size; r++) {
    s->all += s->deals[2 * r];
    s->all_excluded += s->deals[2 * r + 1];
  }
  SBAG_TRY(take(s, mine * s->t->dim, sizeof(float), (void *)&s->mine, status));
  SBAG_TRY(take(s, s->all * s->t->dim, sizeof(float), (void *)&s->queries, status));
  SBAG_TRY(take(s, mine + my_excluded, sizeof(int64_t), (void *)&s->my_lists, status));
  SBAG_TRY(take(s, s->all + s->all_excluded, sizeof(int64_t), (void *)&s->lists, status));
  SBAG_TRY(take(s, s->all, sizeof(int64_t), (void *)&s->list_begin, status));
  SBAG_TRY(take(s, s->all, sizeof(int64_t), (void *)&s->list_length, status));
  SBAG_TRY(take(s, s->all, sizeof(double), (void *)&s->norms, status));
  SBAG_TRY(take(s, s->all * k, sizeof(topk_hit_t), (void *)&s->heaps, status));
  SBAG_TRY(take(s, s->all, sizeof(int64_t), (void *)&s->held, status));
  SBAG_TRY(take(s, size * mine * k, sizeof(topk_hit_t), (void *)&s->received, status));
  return take(s, 2 * size, sizeof(comm_part_t), (void *)&s->parts, status);
}

/* Where each query's list is: a rank's part has the lengths first, then the lists. */
static void place_lists(search_t *s) {
  int64_t query = 0, at = 0;
  for (int r = 0; r < comm_size(s->t->comm); r++) {
    int64_t count = s->deals[2 * r], list = at + count;
    for (int64_t i = 0; i < count; i++, query++) {
      s->list_begin[query] = list;
      list += s->lists[at + i];
      s->list_length[query] = s->lists[at + i];
      s->held[query] = 0;
    }
    at = list;
  }
}

static double norm_of(const float *vector, int64_t dim) {
  double sum = 0.0;
  for (int64_t i = 0; i < dim; i++) sum += (double)vector[i] * (double)vector[i];
  return sqrt(sum);
}

static sbag_code_t gather(search_t *s, const topk_queries_t *q, sbag_status_t *status) {
  topk_t *t = s->t;
  int size = comm_size(t->comm);
  int64_t *next = s->my_lists;
  for (int64_t i = 0; i < q->count; i++) {
    memcpy(s->mine + i * t->dim, q->vectors + i * q->stride, (size_t)t->dim * sizeof(float));
    *next++ = q->excluded_counts[i];
  }
  for (int64_t i = 0; i < q->count; next += q->excluded_counts[i++])
    if (q->excluded_counts[i] > 0)
      memcpy(next, q->excluded[i], (size_t)q->excluded_counts[i] * sizeof(int64_t));
  for (int r = 0; r < size; r++) s->bytes[r] = s->deals[2 * r] * t->dim * (int64_t)sizeof(float);
  SBAG_TRY(comm_allgatherv(t->comm, s->mine, s->bytes, s->queries, "ranking: queries", status));
  for (int r = 0; r < size; r++)
    s->bytes[r] = (s->deals[2 * r] + s->deals[2 * r + 1]) * (int64_t)sizeof(int64_t);
  SBAG_TRY(comm_allgatherv(t->comm, s->my_lists, s->bytes, s->lists, "ranking: excluded rows", status));
  for (int64_t i = 0; i < s->all; i++) s->norms[i] = norm_of(s->queries + i * t->dim, t->dim);
  place_lists(s);
  return SBAG_OK;
}

/* ---- the best of an owner's rows ---- */

static int is_worse(const topk_hit_t *a, const topk_hit_t *b) {
  return a->score < b->score || (a->score == b->score && a->row > b->row);
}

static void sift_down(topk_hit_t *heap, int64_t count, int64_t i) {
  for (;;) {
    int64_t worst = i, left = 2 * i + 1, right = left + 1;
    if (left < count && is_worse(&heap[left], &heap[worst])) worst = left;
    if (right < count && is_worse(&heap[right], &heap[worst])) worst = right;
    if (worst == i) return;
    topk_hit_t swap = heap[i];
    heap[i] = heap[worst];
    heap[worst] = swap;
    i = worst;
  }
}

static void sift_up(topk_hit_t *heap, int64_t i) {
  while (i > 0 && is_worse(&heap[i], &heap[(i - 1) / 2])) {
    topk_hit_t swap = heap[i];
    heap[i] = heap[(i - 1) / 2];
    heap[(i - 1) / 2] = swap;
    i = (i - 1) / 2;
  }
}

/* A query's best so far. */
typedef struct best {
  topk_hit_t *heap;
  int64_t held, k;
  const int64_t *excluded;
  int64_t excluded_count;
} best_t;

static int has(const int64_t *list, int64_t count, int64_t row) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (list[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low < count && list[low] == row;
}

static void offer(best_t *b, double score, int64_t row) {
  topk_hit_t hit = {score, row};
  if (isnan(score)) return;
  if (b->held == b->k && !is_worse(&b->heap[0], &hit)) return;
  if (has(b->excluded, b->excluded_count, row)) return;
  if (b->held < b->k) {
    b->heap[b->held] = hit;
    sift_up(b->heap, b->held++);
  } else {
    b->heap[0] = hit;
    sift_down(b->heap, b->k, 0);
  }
}

static double product(const float *a, const float *b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

/* Offers what the sieve does not rule out. bound: the most that a score of it can be off. */
static void sieve(const topk_t *t, best_t *b, const float *query, const float *scores, int64_t rows,
                  double bound) {
  for (int64_t i = 0; i < rows; i++) {
    if (b->held == b->k && scores[i] < b->heap[0].score - bound) continue;
    if (t->rows[i] < t->options.first_row) continue;
    offer(b, product(query, t->vectors + i * t->dim, t->dim), t->rows[i]);
  }
}

/* All queries against the chunk's rows. Summing n products in float errs by less than n eps |a| |b|, whatever
 * the order (Higham, 3.5). */
static void rank_chunk(search_t *s, int64_t rows) {
  topk_t *t = s->t;
  double longest = 0.0, error = 1.01 * (double)(t->dim + 2) * (double)FLT_EPSILON;
  for (int64_t i = 0; i < rows; i++) {
    double norm = norm_of(t->vectors + i * t->dim, t->dim);
    if (!(norm <= longest)) longest = norm;
  }
  for (int64_t first = 0; first < s->all && rows > 0; first += TILE_QUERIES) {
    int64_t queries = s->all - first < TILE_QUERIES ? s->all - first : TILE_QUERIES;
    gemm_openblas()->nt(queries, rows, t->dim, s->queries + first * t->dim, t->dim, t->vectors, t->dim,
                        t->scores, CHUNK_ROWS);
    (void)comm_progress(t->comm, NULL); /* who waits sees that this rank is at work */
    for (int64_t q = first; q < first + queries; q++) {
      best_t best = {.heap = s->heaps + q * t->options.k,
                     .held = s->held[q],
                     .k = t->options.k,
                     .excluded = s->lists + s->list_begin[q],
                     .excluded_count = s->list_length[q]};
      sieve(t, &best, s->queries + q * t->dim, t->scores + (q - first) * CHUNK_ROWS, rows,
            error * s->norms[q] * longest);
      s->held[q] = best.held;
    }
  }
}

static sbag_code_t rank_rows(search_t *s, sbag_status_t *status) {
  topk_t *t = s->t;
  const plan_table_t *table = &t->collection->plan->tables[t->options.table];
  int shard = plan_shard_of_rank(table, comm_rank(t->comm));
  int64_t own = own_rows(t);
  for (int64_t chunk = 0; chunk < t->chunks; chunk++) {
    int64_t first = chunk * CHUNK_ROWS, left = own > first ? own - first : 0;
    int64_t rows = left < CHUNK_ROWS ? left : CHUNK_ROWS;
    for (int64_t i = 0; i < rows; i++) t->rows[i] = plan_row(table, shard, first + i);
    SBAG_TRY(sbag_collection_read_rows(t->collection, t->options.table, t->rows, rows, t->vectors, status));
    rank_chunk(s, rows);
  }
  return SBAG_OK;
}

/* ---- merging ---- */

static int by_rank(const void *a, const void *b) {
  const topk_hit_t *x = a, *y = b;
  return is_worse(y, x) ? -1 : is_worse(x, y);
}

static void fill_up(topk_hit_t *hits, int64_t held, int64_t k) {
  for (int64_t i = held; i < k; i++) hits[i] = (topk_hit_t){-INFINITY, -1};
}

static sbag_code_t send_home(search_t *s, int64_t mine, sbag_status_t *status) {
  topk_t *t = s->t;
  int64_t k = t->options.k, each = k * (int64_t)sizeof(topk_hit_t), query = 0;
  int size = comm_size(t->comm);
  for (int64_t q = 0; q < s->all; q++) fill_up(s->heaps + q * k, s->held[q], k);
  for (int r = 0; r < size; query += s->deals[2 * r++]) {
    s->parts[r] = (comm_part_t){.data = s->heaps + query * k, .bytes = s->deals[2 * r] * each};
    s->parts[size + r] = (comm_part_t){.data = s->received + r * mine * k, .bytes = mine * each};
  }
  return comm_exchange(t->comm, s->parts, s->parts + size, "ranking: best rows", status);
}

static void merge(const search_t *s, int64_t mine, topk_hit_t *hits) {
  int64_t k = s->t->options.k;
  for (int64_t q = 0; q < mine; q++) {
    best_t best = {.heap = hits + q * k, .k = k};
    for (int r = 0; r < comm_size(s->t->comm); r++) {
      const topk_hit_t *from = s->received + (r * mine + q) * k;
      for (int64_t i = 0; i < k; i++)
        if (from[i].row >= 0) offer(&best, from[i].score, from[i].row);
    }
    sort_items(best.heap, best.held, sizeof *best.heap, by_rank);
    fill_up(best.heap, best.held, k);
  }
}

static sbag_code_t search(search_t *s, const topk_queries_t *q, topk_hit_t *hits, sbag_status_t *status) {
  comm_t *comm = s->t->comm;
  int64_t deal[2] = {q->count, 0};
  for (int64_t i = 0; i < q->count; i++) deal[1] += q->excluded_counts[i];
  sbag_code_t code = take(s, 2 * comm_size(comm), sizeof(int64_t), (void *)&s->deals, status);
  if (code == SBAG_OK) code = take(s, comm_size(comm), sizeof(int64_t), (void *)&s->bytes, status);
  SBAG_TRY(comm_agree(comm, code, status));
  SBAG_TRY(comm_allgather(comm, deal, (int64_t)sizeof deal, s->deals, "ranking: queries", status));
  SBAG_TRY(comm_agree(comm, make_room(s, deal[0], deal[1], status), status));
  SBAG_TRY(gather(s, q, status));
  SBAG_TRY(rank_rows(s, status));
  SBAG_TRY(send_home(s, deal[0], status));
  merge(s, deal[0], hits);
  return SBAG_OK;
}

sbag_code_t topk_search(topk_t *topk, const topk_queries_t *queries, topk_hit_t *hits,
                        sbag_status_t *status) {
  search_t s = {.t = topk};
  sbag_code_t code = search(&s, queries, hits, status);
  search_clear(&s);
  return code;
}
