/* Per-element work behind a table of functions: the scalar reference today; AVX and CUDA beside it.
 *
 * Above this layer no C loop touches an element. Ops take a stream and may return before the work is done; on
 * the CPU a stream is eager, but callers still say what waits for what. Index arrays are int64_t. All
 * pointers are device memory of the kernel unless a comment says host. Results that the host must see
 * ("host:") are valid after stream_sync.
 *
 * Words: an *entry* is one index of a batch; an *edge* is an entry that counts (in range, not padding); edges
 * are in (feature, bag, position) order; a *slot* is one bag of one feature, numbered feature * bags + bag. A
 * *key* is a row's number over all ranks and tables (plan.h). A *vector offset* counts elements from a base
 * pointer. */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include "base/exact_sum.h"
#include "base/mem.h"
#include "base/status.h"
#include "kernel/optimizer.h"
#include "kernel/pack.h"
#include "plan/plan.h"
#include <shardbag/batch.h>
#include <shardbag/context.h>
#include <shardbag/table.h>
#include <math.h>
#include <stdint.h>

typedef enum kernel_memory { MEMORY_HOST, MEMORY_PINNED, MEMORY_DEVICE, MEMORY_KINDS } kernel_memory_t;

typedef struct kernel kernel_t;
typedef struct kernel_stream kernel_stream_t;

/* ---- edges: from bags to rows ---- */

typedef struct edges_feature {
  sbag_bags_t bags; /* the caller's memory */
  int64_t num_embeddings;
  int64_t padding_idx; /* resolved; -1 = none */
  int touch_padding;   /* 1: padding entries are listed as touched rows (max_norm renormalises them too) */
  const plan_table_t *plan;
} edges_feature_t;

typedef enum edges_fault {
  EDGES_FINE = 0,
  EDGES_OUT_OF_RANGE,   /* position: entry; value: index */
  EDGES_FIRST_OFFSET,   /* value: offsets[0], which is not 0 */
  EDGES_OFFSET_FALLS,   /* position: bag; value: its offset, below the one before */
  EDGES_OFFSET_TOO_BIG, /* position: bag; value: its offset, beyond index_count */
  EDGES_LAST_OFFSET     /* include_last_offset: value: the last offset, which is not index_count */
} edges_fault_t;

/* host: what edges_build found. */
typedef struct edges_info {
  int64_t edge_count, touch_count, dropped;
  edges_fault_t fault; /* the first one, by feature and position; then the counts are 0 */
  int fault_feature;
  int64_t fault_position, fault_value;
  int64_t fault_before; /* EDGES_OFFSET_FALLS: the offset before */
  int64_t longest;      /* edges of the longest bag */
  int plain;            /* 1: every entry is an edge, so offsets and indices can be used as they are */
} edges_info_t;

/* Outputs that are NULL are not wanted; with all of them NULL the batch is only checked and counted. */
typedef struct edges_request {
  const edges_feature_t *features; /* host array */
  int feature_count;
  int64_t bag_count;   /* of each feature */
  int drop;            /* 1: out-of-range entries are dropped and counted; 0: they are a fault */
  int64_t *slot_begin; /* out: [slots + 1] first edge of each slot */
  int64_t *key;        /* out: [entries] an edge's key */
  int64_t *row;        /* out: [entries] an edge's row in its table */
  int64_t *slot;       /* out: [entries] */
  int64_t *entry;      /* out: [entries] an edge's entry, counted over all features */
  int64_t *touch;      /* out: [entries] keys of padding rows to be touched */
  int64_t pad;         /* not 0: `key` is this, and `slot` 0, behind the edges up to the entries' number, for
                          whoever goes on before it is told how many edges there are; not after a fault */
} edges_request_t;

/* ---- reduce: pool, combine, gather, merge ---- */

enum { REDUCE_SUM, REDUCE_MAX };

/* Terms of a segment that the CPU adds in one go: of a longer segment it adds the sums of its blocks, so that
 * several threads can share a row that is hot, and the result is the same for any number of them. */
enum { REDUCE_BLOCK = 4096 };

/* out[segment] = op over the segment's terms of scale * vector. A REDUCE_SUM of an empty segment is zeros.
 * The CPU adds in the order of the terms, from 0, each block of REDUCE_BLOCK by itself and then their sums.
 * REDUCE_MAX carries (value, position in the bag) as torch needs it: the term at position 0 starts and wins
 * for good if it is NaN; a later NaN is passed over; the first of equals wins; the positions of an empty
 * segment are -1 and its values 0. Tasks of one call run beside each other: none reads what another writes.
 */
typedef struct reduce_task {
  int op;
  int64_t dim;
  int64_t segment_begin, segment_end; /* segments of `begin` to do */
  const int64_t *begin; /* [segment_end + 1] first term of a segment; NULL: segment s is the one term s */
  const int64_t
      *order; /* NULL, or [terms]: the i-th term's entries stand at order[i] in the arrays by term below */
  const int64_t *term; /* [terms] vector index; its vector is at src + term * stride */
  int64_t stride;      /* elements: the dim where terms are rows, 1 where they are vector offsets */
  const void *src;
  sbag_storage_t storage; /* of src; not SBAG_STORAGE_FULL for the dtype SBAG_F32 alone. Quantised: terms are
                             rows, one behind the other, and there is no select */
  const void *scale;      /* NULL, or [terms] of the dtype */
  const int64_t *
      count_begin; /* NULL, or a mean: the sum is divided by count_begin[s + 1] - count_begin[s] (unless 0) */
  /* REDUCE_MAX: where a term stands in its bag. NULL: term - begin[segment]. Else p >= 0 is the position; p <
   * 0: the term is a partial maximum whose positions are at partial + (-1 - p), one a column (-1: no
   * candidate). */
  const int64_t *position;
  const int64_t *partial;
  /* REDUCE_SUM: a term with select[term] >= 0 gives only the columns whose winner[select_at[term] + column]
   * == select[term]. */
  const int64_t *select;    /* NULL: all columns */
  const int64_t *select_at; /* [terms] */
  const int64_t *winner;
  const int64_t *out_at; /* NULL: segment s goes to out + (s - segment_begin) * out_stride; else to out +
                            out_at[s] * out_stride */
  void *out;
  int64_t out_stride;
  int64_t *out_position; /* REDUCE_MAX: beside out, with the same stride; may be NULL */
} reduce_task_t;

/* ---- packed integers: see pack.h ---- */

typedef struct pack_task {
  int64_t count, range;
  int ascending;
  const int64_t *from, *index; /* value i is from[index[i]] - base, or from[i] - base where index is NULL */
  int64_t base;
  uint64_t *words; /* out: [pack_form(count, range, ascending).words] */
} pack_task_t;

typedef struct unpack_task {
  int64_t count, range;
  int ascending;
  const uint64_t *words;
  int64_t base;
  int64_t *to; /* out: [count] value i + base */
} unpack_task_t;

/* ---- rows, pools, or some of each ---- */

/* How an owner's part of a table's bags travels: distinct rows, pools, or a mixture of them; or not at all.
 */
typedef enum share { SHARE_ROWS, SHARE_POOLS, SHARE_MIXED, SHARE_NONE } share_t;

/* The four classes of keys, in the order in which they stand within their (owner, table): so those that
 * travel as rows are neighbours in either direction. */
enum { CLASS_ROW_POOL, CLASS_ROW_ROW, CLASS_POOL_ROW, CLASS_POOL_POOL, CLASSES }; /* forward, backward */

/* Bags, rows and edges of each (owner, table) are a bipartite graph; a set of bags (pools) and rows that
 * touches every edge is to be found, small in cost. Threshold: of each table the rows with at least t edges,
 * and the bags that have an edge to any other, with the t of the least cost over all owners; then, once: a
 * row that alone keeps a bag among the pools joins the rows, and a row all of whose bags are pools anyway
 * leaves them, each unless that costs more; so the set never costs more than all rows or all pools. A row's
 * degree is its edges over all features; degrees above COVER_DEGREES count as that; of thresholds of one cost
 * the least is taken. A key without an edge is no row. Vectors within 1 or 2 % of the minimum (Koenig: the
 * maximum matching) on Zipf and uniform batches; exact sums, so that all kernels find the same set. */
enum { COVER_DEGREES = 64 };

typedef struct cover_request {
  int ranks, tables, features;
  const int *feature_table;     /* host */
  const int *wanted;            /* host: [ranks * tables] 1: to be covered; 0: left out, its results are 0 */
  int only_worth;               /* 1: left out are also those none of whose runs has two edges */
  const int64_t *key_block;     /* [ranks * tables + 1] first key of (owner, table) */
  const int64_t *run_block;     /* [ranks * features + 1] first run of (owner, feature) */
  const int64_t *run_begin;     /* [runs + 1] places in `order` */
  const int64_t *order;         /* [edges] */
  const int64_t *which;         /* the key of edge order[i] is which[order[i]] */
  int64_t key_count, run_count; /* or more */
  const int64_t *row_cost;      /* host: [tables] of a row, in bits; all costs of vectors are above 0 */
  const int64_t *pool_cost;     /* host: [features] of a pool */
  const int64_t *edge_cost;     /* host: [features] of an edge that is pooled */
  int64_t *row;                 /* out: [keys] 1: travels as a row; 0: its edges are pooled */
  int64_t *row_count;           /* out, host: [ranks * tables] keys with row 1 */
  int64_t *pool_runs, *pool_edges; /* out, host: [ranks * features] runs with a pooled edge; pooled edges */
  int64_t *scratch;                /* [2 * keys] */
} cover_request_t;

typedef struct edge_groups {
  int64_t count; /* edges */
  const int64_t *which, *slot;
  const int64_t *keep; /* NULL, or [keys]: edges of keys with 0 are left out */
  int ranks, features;
  const int64_t *owner_key; /* host: [ranks + 1] first key of each owner */
  int64_t bag_count;        /* slots of a feature */
  int64_t *group;           /* out: [edges] owner * features + feature; ranks * features for those left out */
} edge_groups_t;

/* Runs of a pool list: run r has the edges order[run_begin[r] .. run_begin[r + 1]), at least one, ascending,
 * all of slot run_slot[r]. Arrays by run or by edge are indexed as these are; arrays [runs][dim] hold the
 * runs [first, end) alone: run r is at (r - first) * dim.
 * A run's *place* p counts its edges from 0, or from 1 (shift 1) where its first edge is not the first of its
 * bag: nothing but a bag's first edge is at place 0, which REDUCE_MAX needs to know. */
typedef struct run_places {
  int64_t first, end; /* runs */
  int64_t dim;
  const int64_t *run_begin, *run_slot, *order, *slot_begin;
  const int64_t *shift; /* of run_shifts; which itself does not read it */
} run_places_t;

/* ---- narrow vectors ---- */

typedef enum wire { WIRE_FULL, WIRE_F16, WIRE_BF16 } wire_t;

/* host: what rounding to the wire's type has cost. Over finite values; one that overflows has lost inf. */
typedef struct wire_error {
  double squares, lost, most; /* sum of squares of the values; of what they lost; the largest loss */
} wire_error_t;

/* ---- distinct keys ---- */

/* `distinct` may be `key` (which is then overwritten). `begin`, `member` and `which` may each be NULL where
 * they are not wanted; without the first two no order is needed, which is much cheaper where keys are dense.
 */
typedef struct unique_request {
  int64_t count;
  const int64_t *key;   /* [count] not negative */
  int64_t key_first;    /* keys are not below it */
  int64_t key_limit;    /* keys are below it */
  int64_t *distinct;    /* out: [count] distinct keys, ascending */
  int64_t *begin;       /* out: [count + 1] first member of each distinct key in `member` */
  int64_t *member;      /* out: [count] positions in `key`, grouped by distinct key, in order within one */
  int64_t *which;       /* out: [count] which distinct key a position has */
  int64_t *scratch;     /* [unique_scratch()] */
  const int64_t *bound; /* host, or NULL: [bounds] */
  int64_t bounds;
  int64_t *place;    /* out, host: [bounds] distinct keys below bound[i]; may be `bound` */
  int64_t *place_at; /* out, or NULL: the same where ops can read it */
} unique_request_t;

/* Room for a sort, or for a bit a key and a count each word of them, where a sort would be more work. */
enum { UNIQUE_WORDS = 4 /* of bits, for each key, at most */ };
static inline int64_t unique_scratch(int64_t count, int64_t key_first, int64_t key_limit) {
  int64_t words = (key_limit - key_first + 63) / 64, map = words + (words + 1) / 2;
  return map > 2 * count && words / UNIQUE_WORDS < count ? map : 2 * count;
}

/* Runs of equal slot[order[i]] within each group; groups are ranges of places i. */
typedef struct run_list {
  const int64_t *slot, *order;
  const int64_t *group_begin; /* [groups + 1], from 0 on */
  int64_t groups;
  int64_t most;          /* group_begin[groups] is not above it */
  int64_t *run_begin;    /* out: [runs + 1] places */
  int64_t *run_slot;     /* out: [runs] */
  int64_t *group_run;    /* out, host, or NULL: [groups + 1] first run of each group */
  int64_t *group_run_at; /* out, or NULL: the same where ops can read it */
} run_list_t;

/* The edges of one feature, whose bag b has edges begin[b] to begin[b + 1] - 1; all are of term first_term +
 * b. */
typedef struct row_piece {
  int table;
  const int64_t *begin; /* [bags + 1] edges, counted over all pieces' features */
  const int64_t *row;   /* of an edge, at its number: only the piece's own are there */
  int64_t first_term;
} row_piece_t;

/* Every table's terms by row, rows ascending; those of one row in the order of pieces and edges. */
typedef struct row_sort {
  const row_piece_t *pieces; /* host, tables ascending */
  int64_t piece_count, bag_count;
  int tables;
  const int64_t
      *row_limit;     /* host: [tables] rows are below it: its bits and a term's are 64 together at most */
  int64_t term_limit; /* terms are below it */
  int64_t *row;       /* out: [edges] distinct rows, table by table */
  int64_t *begin;     /* out: [edges + 1] first of each row's terms in `term` */
  int64_t *term;      /* out: [edges] */
  int64_t *table_row; /* out, host: [tables + 1] first distinct row of each table */
  int64_t *scratch;   /* [2 * edges] */
} row_sort_t;

/* ---- init ---- */

typedef struct init_task {
  const plan_table_t *plan;
  int shard;
  int64_t first, rows, dim; /* local rows [first, first + rows) */
  sbag_init_t kind;
  double a, b;
  uint64_t key;             /* random_key(seed, table name) */
  const int64_t *zero_rows; /* host: [zero_count] global rows that start as zero */
  int zero_count;
  sbag_storage_t storage; /* of weight; 16 bits or fewer: of SBAG_F32 alone, rounded to the nearest */
  void *weight;           /* out: [rows][dim] */
  int fresh;              /* 1: weight is what alloc has just given, all of it */
} init_task_t;

/* What is drawn is low + size * u, u from 0 to 1; of normal values low is the mean and size the deviation. */
static inline void init_range(const init_task_t *task, double *low, double *size) {
  const double bound = task->kind == SBAG_INIT_UNIFORM_DLRM ? 1 / sqrt((double)task->plan->rows) : 0;
  *low = task->kind == SBAG_INIT_UNIFORM_DLRM ? -bound : task->a;
  const double high = task->kind == SBAG_INIT_UNIFORM_DLRM ? bound : task->b;
  *size = task->kind == SBAG_INIT_NORMAL ? task->b : high - *low;
}

typedef struct copy_part {
  void *to;
  const void *from;
  int64_t bytes;
} copy_part_t;

/* Where a slot's columns are in [bags][columns], and how its feature pools. Host arrays. */
typedef struct slot_map {
  int64_t bag_count, columns;
  int feature_count;
  const int64_t *column; /* [feature_count] */
  const sbag_mode_t *mode;
} slot_map_t;

/* What the backward needs of edges or runs: see grad_terms. */
typedef struct grad_terms {
  int64_t count;
  const int64_t *slot;       /* [edges or runs] */
  const int64_t *order;      /* NULL, or [count]: item i is slot[order[i]] */
  const int64_t *slot_begin; /* [slots + 1] */
  const void *weight;        /* NULL, or per edge, of the dtype */
  int64_t *at;               /* out: [count] vector offset of the slot's columns in [bags][columns] */
  void *scale; /* out: [count] weight, divided by the bag's length where its feature is a mean */
  int64_t
      *select; /* out or NULL: [count] the edge's position in its bag where its feature is a max, else -1 */
} grad_terms_t;

struct kernel_ops {
  const char *name;
  sbag_device_t device;  /* whose memory is device memory: CPU or CUDA */
  int eager;             /* 1: what an op tells the host is there when it returns */
  int sums_in_registers; /* 1: see update_sums */
  int quantised; /* 1: reduce, init, scatter_rows, gather_rows and renorm (but not in place) know quant.h's
                    rows */
  void (*destroy)(kernel_t *k);

  /* What the calls from here on belong to (NULL: nothing), for a profiler of the device to show. */
  void (*phase)(kernel_t *k, const char *name);

  /* Memory, and the stream that orders ops. stream NULL is the kernel's own. */
  sbag_code_t (*alloc)(kernel_t *k, kernel_memory_t kind, size_t bytes, const char *what, void **block,
                       sbag_status_t *status);
  void (*release)(kernel_t *k, kernel_memory_t kind, void *block);
  /* Whether ops can read and write at `data`, which somebody brought: not memory of the host, where the
   * device is a GPU. */
  int (*reaches)(kernel_t *k, const void *data);
  sbag_code_t (*stream_sync)(kernel_t *k, kernel_stream_t *stream, sbag_status_t *status);
  /* The first failure of what the stream was asked, so far as it is known without waiting: before a comm is
   * given memory of the device, whose operations come after what was asked of the kernel's own stream. */
  sbag_code_t (*stream_check)(kernel_t *k, kernel_stream_t *stream, sbag_status_t *status);
  /* Many copies as one op. Parts do not overlap. `parts` (host) is read during the call. Either side may be
   * host memory too: what is read there may change on return, what is written there is valid after
   * stream_sync. */
  void (*copy)(kernel_t *k, kernel_stream_t *stream, const copy_part_t *parts, int64_t count);

  /* Every byte 0. */
  void (*clear)(kernel_t *k, kernel_stream_t *stream, void *to, int64_t bytes);

  /* --- integers --- */
  void (*edges_build)(kernel_t *k, kernel_stream_t *stream, const edges_request_t *request,
                      edges_info_t *info);
  /* *distinct_count: host. */
  void (*unique)(kernel_t *k, kernel_stream_t *stream, const unique_request_t *request,
                 int64_t *distinct_count);
  /* NULL where the kernel sorts keys by unique alone. */
  void (*sort_rows)(kernel_t *k, kernel_stream_t *stream, const row_sort_t *request);
  /* Stable counting sort of bucket[count], values in [0, buckets): begin [buckets + 1], member [count]. */
  void (*bucket)(kernel_t *k, kernel_stream_t *stream, const int64_t *bucket, int64_t count, int64_t buckets,
                 int64_t *begin, int64_t *member);
  /* place[i] (host) = number of values in the ascending sorted[count] below bound[i] (host). */
  void (*lower_bounds)(kernel_t *k, kernel_stream_t *stream, const int64_t *sorted, int64_t count,
                       const int64_t *bound, int64_t bounds, int64_t *place);
  void (*runs)(kernel_t *k, kernel_stream_t *stream, const run_list_t *request);
  /* to[i] = from[index[i]] + add; index NULL: from[i] + add. */
  void (*gather_i64)(kernel_t *k, kernel_stream_t *stream, const int64_t *from, const int64_t *index,
                     int64_t count, int64_t add, int64_t *to);
  /* to[i] = first + i * step. */
  void (*fill_i64)(kernel_t *k, kernel_stream_t *stream, int64_t *to, int64_t count, int64_t first,
                   int64_t step);
  /* to[i] = value[j] for begin[j] <= i + begin[0] < begin[j + 1]: a run's value to its members. */
  void (*expand)(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *value,
                 int64_t runs, int64_t *to);
  /* position[i] = order[i] - slot_begin[slot[order[i]]]: where an edge stands in its bag. */
  void (*edge_positions)(kernel_t *k, kernel_stream_t *stream, const int64_t *order, const int64_t *slot,
                         const int64_t *slot_begin, int64_t count, int64_t *position);
  /* The values of the winning entries: to[b][c] = the feature's index at the entry of edge slot_begin[b] +
   * position[b * stride + c], or 0 where the position is -1. slot_begin: of the feature's slots. */
  void (*winner_rows)(kernel_t *k, kernel_stream_t *stream, const sbag_bags_t *bags, int64_t first_entry,
                      const int64_t *slot_begin, int64_t bag_count, int64_t dim, const int64_t *entry,
                      const int64_t *position, int64_t stride, int64_t *to);
  /* which[j] = the j-th i with begin[i] < begin[i + 1]; *nonempty (host): how many. */
  void (*nonempty)(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, int64_t count, int64_t *which,
                   int64_t *nonempty);
  /* to[i] = test[i] >= 0 ? from[i] : otherwise. */
  void (*select_i64)(kernel_t *k, kernel_stream_t *stream, const int64_t *test, const int64_t *from,
                     int64_t otherwise, int64_t count, int64_t *to);
  /* to[order[i]] = i: a permutation undone. */
  void (*invert)(kernel_t *k, kernel_stream_t *stream, const int64_t *order, int64_t count, int64_t *to);
  /* to[i] = first[j] + (i - begin[j]) * step[j] for begin[j] <= i < begin[j + 1]. begin [blocks + 1], first,
   * step: host. */
  void (*fill_blocks)(kernel_t *k, kernel_stream_t *stream, const int64_t *begin, const int64_t *first,
                      const int64_t *step, int64_t blocks, int64_t *to);

  /* --- the route's lists --- */
  /* tasks: host. */
  void (*pack)(kernel_t *k, kernel_stream_t *stream, const pack_task_t *tasks, int64_t count);
  void (*unpack)(kernel_t *k, kernel_stream_t *stream, const unpack_task_t *tasks, int64_t count);
  void (*edge_groups)(kernel_t *k, kernel_stream_t *stream, const edge_groups_t *request);
  void (*cover)(kernel_t *k, kernel_stream_t *stream, const cover_request_t *request);
  /* bucket[i] = CLASSES * block + class, for key i of block j: key_block[j] <= i < key_block[j + 1]; forward
   * and backward: the share_t of each block; row: of cover, read where a share is SHARE_MIXED. All but row
   * and bucket host. SHARE_NONE is as the other direction, or CLASS_POOL_POOL. */
  void (*key_classes)(kernel_t *k, kernel_stream_t *stream, const int64_t *key_block, int64_t blocks,
                      const share_t *forward, const share_t *backward, const int64_t *row, int64_t *bucket);
  /* shift[r] of runs [first, end): see run_places. */
  void (*run_shifts)(kernel_t *k, kernel_stream_t *stream, const run_places_t *runs, int64_t *shift);
  /* place[i] of every edge i of runs [first, end), at its index in the list. */
  void (*edge_places)(kernel_t *k, kernel_stream_t *stream, const run_places_t *runs, int64_t *place);
  /* place [end - first][dim], in place: from places in the run to positions in the bag; -1 stays. */
  void (*places_to_positions)(kernel_t *k, kernel_stream_t *stream, const run_places_t *runs, int64_t *place);
  /* place [end - first][dim]: where in run r the bag's winner of each column is (winner[at[r] + column], a
   * position in the bag or -1; at by run, as run_slot); -1: not in this run. */
  void (*positions_to_places)(kernel_t *k, kernel_stream_t *stream, const run_places_t *runs,
                              const int64_t *winner, const int64_t *at, int64_t *place);
  /* Integers in `width` bytes (1, 2, 4, 8), to which `to` and `from` are aligned: from -1, which is all ones,
   * up to 2^(8 * width) - 2. */
  void (*narrow_i64)(kernel_t *k, kernel_stream_t *stream, const int64_t *from, int64_t count, int width,
                     void *to);
  void (*widen_i64)(kernel_t *k, kernel_stream_t *stream, const void *from, int64_t count, int width,
                    int64_t *to);
  /* f32 to WIRE_F16 or WIRE_BF16 (nearest, ties to even; NaN stays NaN) and back; error (host) is added to.
   */
  void (*narrow_real)(kernel_t *k, kernel_stream_t *stream, wire_t wire, const float *from, int64_t count,
                      uint16_t *to, wire_error_t *error);
  void (*widen_real)(kernel_t *k, kernel_stream_t *stream, wire_t wire, const uint16_t *from, int64_t count,
                     float *to);

  /* rows[i] = global row of local row local[i] of a shard. */
  void (*global_rows)(kernel_t *k, kernel_stream_t *stream, const plan_table_t *plan, int shard,
                      const int64_t *local, int64_t count, int64_t *rows);

  /* --- values --- */
  /* to[i] = from[index[i]]. */
  void (*gather_real)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                      const int64_t *index, int64_t count, void *to);
  /* to[index[i]] = from[i]; indices are distinct. */
  void (*scatter_real)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *from,
                       const int64_t *index, int64_t count, void *to);
  void (*fill_real)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, void *to, int64_t count,
                    double value);
  /* weight[e] = per_sample_weights of entry[e] (1 where its feature has none); first_entry: [features + 1]
   * (host). */
  void (*edge_weights)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype,
                       const edges_feature_t *features, int feature_count, const int64_t *first_entry,
                       const int64_t *entry, int64_t edge_count, void *weight);
  void (*grad_terms)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const slot_map_t *map,
                     const grad_terms_t *terms);
  void (*reduce)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const reduce_task_t *tasks,
                 int64_t count);
  /* dot[i] = <left + left_at[i], right + right_at[i] * right_stride> over dim columns. */
  void (*dot)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, int64_t dim, int64_t count,
              const void *left, const int64_t *left_at, const void *right, const int64_t *right_at,
              int64_t right_stride, void *dot);
  /* Terms in groups: the i-th is item order[i], segments are ranges of i. An item's scale is divided by the
   * number of items of its feature in its segment, where by_freq[feature] (host, [feature_count]) is set.
   * Items of one feature are neighbours within a segment. */
  void (*frequency_scale)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const int64_t *begin,
                          int64_t segments, const int64_t *order, const int64_t *feature, int feature_count,
                          const int *by_freq, void *scale);
  /* Adds the sum of squares of each of `count` rows [count][dim] to *sum, exactly, so that it does not depend
   * on which rank has a row; a row whose sum is not finite counts in *non_finite instead. Both host. */
  void (*norm_squared)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const void *rows,
                       int64_t count, int64_t dim, exact_sum_t *sum, int64_t *non_finite);

  /* --- rows of a shard --- */
  void (*init)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, const init_task_t *task);
  /* weight[rows[i]] = values[i], which are of the dtype; rounded to the nearest where the storage has fewer
   * bits. Rows are distinct. */
  void (*scatter_rows)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                       const void *values, int64_t dim, const int64_t *rows, int64_t count, void *weight);
  /* values[i] = weight[rows[i]]: of the dtype, bit for bit; widened where the storage has fewer. */
  void (*gather_rows)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                      const void *weight, int64_t dim, const int64_t *rows, int64_t count, void *values);
  /* Scales distinct rows whose norm is above max_norm by max_norm / (norm + 1e-7), as torch. to NULL: in
   * place; else to[i], of the dtype, is the row's value after that and the table is not written. A row with
   * NaN is left alone. Scaled rows are rounded to the nearest where the storage has fewer bits. */
  void (*renorm)(kernel_t *k, kernel_stream_t *stream, sbag_dtype_t dtype, sbag_storage_t storage,
                 void *weight, int64_t dim, const int64_t *rows, int64_t count, double max_norm,
                 double norm_type, void *to);
  void (*update)(kernel_t *k, kernel_stream_t *stream, const optimizer_update_t *update);
  /* For each i: reduce of sums[i] (a REDUCE_SUM, segments [0, updates[i].count)), then update of updates[i]
   * with those sums as its gradients and with touched = sums[i].begin (its own grad and touched are not
   * read): in one pass, where the kernel can. sums[i].out: room for the sums, [count][dim] and out_stride
   * dim, whose content afterwards is nobody's; NULL will do where the kernel has sums_in_registers. Sums have
   * no count_begin and no out_at, and their vectors are of the dtype. */
  void (*update_sums)(kernel_t *k, kernel_stream_t *stream, const optimizer_update_t *updates,
                      const reduce_task_t *sums, int64_t count);
  void (*catch_up)(kernel_t *k, kernel_stream_t *stream, const optimizer_rows_t *at, int64_t step,
                   int64_t count, const int64_t *rows);
};
typedef struct kernel_ops kernel_ops_t;

/* Which instructions a kernel of the CPU uses: the best that this machine has, or a set by name. */
typedef enum kernel_isa { ISA_BEST, ISA_SCALAR, ISA_AVX2, ISA_AVX512, ISA_COUNT } kernel_isa_t;

struct kernel {
  const kernel_ops_t *ops;
  mem_t *mem;
  int threads;      /* that ops of the CPU may use, at least 1 */
  kernel_isa_t isa; /* of the CPU: not ISA_BEST */
};

typedef struct kernel_cpu_options {
  int threads; /* at least 1 */
  kernel_isa_t isa;
} kernel_cpu_options_t;

/* A kernel of the CPU. ISA_BEST is what SHARDBAG_ISA (scalar, avx2, avx512) says, where that is set. Refuses
 * an instruction set that this machine lacks. All of them, with any number of threads, give the same bits. */
sbag_code_t kernel_cpu_create(mem_t *mem, const kernel_cpu_options_t *options, kernel_t **kernel,
                              sbag_status_t *status);
/* Whether this machine has it. */
int kernel_isa_available(kernel_isa_t isa);
void kernel_destroy(kernel_t **kernel);

static inline size_t kernel_dtype_bytes(sbag_dtype_t dtype) {
  return dtype == SBAG_F64 ? 8 : 4;
}

/* A table in 16 bits or fewer has at most so many columns: an op has room for one row of them in f32. */
enum { KERNEL_NARROW_COLUMNS = 65536 };

/* Whether rows are codes with a scale and a bias, as quant.h has them. */
static inline int kernel_is_quantised(sbag_storage_t storage) {
  return storage == SBAG_STORAGE_INT8 || storage == SBAG_STORAGE_INT4;
}

/* Bytes of a table's row. */
static inline size_t kernel_row_bytes(sbag_dtype_t dtype, sbag_storage_t storage, int64_t columns) {
  if (storage == SBAG_STORAGE_INT8) return (size_t)columns + 2 * sizeof(float);
  if (storage == SBAG_STORAGE_INT4) return (size_t)(columns + 1) / 2 + 2 * sizeof(uint16_t);
  return (size_t)columns * (storage == SBAG_STORAGE_FULL ? kernel_dtype_bytes(dtype) : 2);
}

/* A block of a memory kind that grows and stays: reserve keeps no content and leaves headroom, so that a warm
 * step allocates nothing. */
typedef struct kernel_buffer {
  void *data;
  size_t bytes;
  kernel_memory_t kind;
} kernel_buffer_t;

sbag_code_t kernel_buffer_reserve(kernel_t *kernel, kernel_buffer_t *buffer, size_t bytes, const char *what,
                                  sbag_status_t *status);
void kernel_buffer_free(kernel_t *kernel, kernel_buffer_t *buffer);

#endif
