/* The inside of an exchange and its routes, shared by the files of this layer, in the order of a step:
 * edges.c (the requester's edges and distinct keys), share.c (what travels as rows, what as pools), list.c
 * (runs of pooled edges), wire.c (counts and ids), owner.c (the owner's view), layout.c (where vectors stand
 * in messages), forward.c, dense.c, backward.c, merge.c, weight_grads.c; and solo.c and solo_sums.c, all of a
 * step on one rank. */
#ifndef EXCHANGE_ROUTE_H
#define EXCHANGE_ROUTE_H

#include "exchange/exchange.h"
#include "kernel/arena.h"

enum { TRANSFER_BUFFERS = 12 };

/* A step's directions. */
typedef enum phase { FORWARD, BACKWARD, PHASES } phase_t;

struct exchange {
  exchange_config_t c;
  int rank, ranks, tables, features;
  int64_t real_bytes, wire_bytes; /* of one value: as computed, and as it travels */
  int any_max, any_freq, any_mirror;
  int solo;            /* one rank, which serves itself without an exchange: solo.c */
  int64_t *column;     /* [features] for slot_map_t */
  sbag_mode_t *mode;   /* [features] */
  int *by_freq;        /* [features] */
  int *feature_table;  /* [features] */
  int *table_freq;     /* [tables] a feature of it counts frequencies */
  int *table_sums;     /* [tables] no feature of it pools by max */
  int *table_feature;  /* [tables] one of its features, or -1 */
  int *table_features; /* [tables] how many it has */
  int *by_table;       /* [features] table by table */
  int64_t *row_limit;  /* [tables] rows */
  int64_t next_id;
  kernel_buffer_t range_rows, range_values;   /* of range.c */
  kernel_buffer_t transfer[TRANSFER_BUFFERS]; /* of transfer.c and mirror.c */
  int64_t *transfer_counts;                   /* [4 * (ranks + 1) * (tables + 2)] host */
  comm_part_t *transfer_send, *transfer_recv; /* [ranks] */
};

/* The message of counts from a requester to an owner, in words of int64: the header, the dense tables' bits,
 * keys by table and class, and of each list runs and then edges by feature. */
enum {
  WORD_CODE,
  WORD_ID,
  WORD_FLAGS, /* MESSAGE_*, and above MESSAGE_STEP_SHIFT the SBAG_FORWARD_* flags, which must agree */
  WORD_BAGS,
  WORD_LONGEST, /* edges of the batch's longest bag */
  WORD_TOUCH,
  WORD_HEADER
};
enum { MESSAGE_WEIGHTS = 1 /* with per_sample_weights */, MESSAGE_STEP_SHIFT = 8 };

/* The pools of a direction: this rank's runs of edges, by (owner, feature) in batch order, and those that
 * come in, by (peer, feature). The block arrays are host numbers [ranks * features + 1]. */
enum {
  LIST_ORDER,     /* [edges] the batch's edges */
  LIST_RUN_BEGIN, /* [runs + 1] */
  LIST_RUN_SLOT,  /* [runs] */
  LIST_SHIFT,     /* [runs] where there are max features: see run_places_t */
  LIST_BUFFERS
};
enum {
  IN_RUN_BEGIN, /* [runs + 1] */
  IN_RUN_BAG,   /* [runs] where a table is offered for dense pools */
  IN_SHIFT,     /* [runs] where there are max features */
  IN_EDGE,      /* [edges] owned distinct row */
  IN_PLACE,     /* [edges] where there are max features */
  IN_WEIGHT,    /* [edges] where there are weights */
  IN_BUFFERS
};
/* This rank's lists: one for each phase, or one of all edges for both; and the edges whose rows came. */
enum { LIST_FORWARD, LIST_BACKWARD, LIST_ALL, LIST_ROWS, LISTS };
typedef struct pool_list {
  int64_t *run_block, *edge_block;
} pool_list_t;

/* Where the vectors of one direction stand. Vectors of a peer are neighbours, its rows table by table before
 * its pools feature by feature; in a message the places of its max pools follow. */
typedef struct layout {
  int64_t *row_at;   /* [ranks * tables] first element of a block of rows in the buffer of vectors */
  int64_t *pool_at;  /* [ranks * features] of a block of pools */
  int64_t *place_at; /* [ranks * features] first element of a block of places in the buffer of places */
  int64_t *begin;    /* [ranks + 1] first element of a peer's vectors */
  int64_t *elements; /* [ranks] values of a peer's vectors */
  int64_t *message;  /* [ranks] byte offset of a peer's message in the buffer of messages */
  int64_t *bytes;    /* [ranks] its size */
  int64_t places, message_bytes; /* of all */
  int64_t vectors;               /* with other ranks */
} layout_t;

/* A route's step buffers. The first ones live as long as the batch; those from BUF_KEPT on are taken from the
 * arena and live until their phase releases its mark. */
enum {
  BUF_SLOT_BEGIN,
  BUF_ROW,
  BUF_ENTRY,
  BUF_WEIGHT,
  BUF_WHICH,
  BUF_LISTS,
  BUF_IN_LISTS = BUF_LISTS + LISTS * LIST_BUFFERS,
  BUF_IN_KEY = BUF_IN_LISTS + PHASES * IN_BUFFERS,
  BUF_IDS_OUT,
  BUF_IDS_IN,
  BUF_OWN_WHICH,
  BUF_OWN_ROW,
  BUF_VECTORS_OUT,
  BUF_MESSAGES_OUT,
  BUF_VECTORS_IN,
  BUF_MESSAGES_IN,
  BUF_DENSE_OUT,
  BUF_DENSE_IN,
  BUF_GRADS_IN,
  BUF_VECTOR_AT,
  BUF_WINNER,
  BUF_PLACES_IN,
  BUF_SEGMENTS,
  BUF_MERGED,
  BUF_SPARSE_WHICH,
  BUF_SPARSE_ROW,
  BUF_SPARSE_VALUE,
  BUF_REPLY_OUT,
  BUF_REPLY_IN,
  BUF_KEPT,
  BUF_SLOT = BUF_KEPT,
  BUF_SLOT_NUMBER,
  BUF_DISTINCT,
  BUF_KEY,
  BUF_TOUCH_DISTINCT,
  BUF_TOUCH_WHICH,
  BUF_MEMBER,
  BUF_SCRATCH,
  BUF_ROW_FLAG,
  BUF_KEEP,
  BUF_GROUP,
  BUF_GROUP_BEGIN,
  BUF_ALL_BEGIN,
  BUF_KEY_BLOCK,
  BUF_RUN_BLOCK,
  BUF_OWN_SOURCE,
  BUF_RENORMED,
  BUF_PLACES_OUT,
  BUF_EDGE_GRAD,
  BUF_MERGE_MEMBER,
  BUF_ROW_BEGIN,
  BUF_ROW_MEMBER,
  BUF_TERM_A,
  BUF_TERM_B,
  BUF_TERM_C,
  BUF_TERM_D,
  BUF_TERM_E,
  BUF_TERM_F,
  BUF_SCALE_A,
  BUF_SCALE_B,
  BUF_WIDENED,
  BUF_COUNT
};

typedef enum route_stage { STAGE_IDLE, STAGE_COUNTS, STAGE_IDS, STAGE_OPEN } route_stage_t;

struct route {
  exchange_t *x;
  int64_t id;
  int flags; /* SBAG_FORWARD_* */
  route_stage_t stage;
  sbag_code_t local; /* this rank's own outcome, until the counts have told everybody */
  sbag_status_t local_status;
  /* This rank's batch. */
  const sbag_bags_t *bags;
  int64_t bag_count, slots, entries;
  edges_feature_t *features; /* [features] */
  int64_t *first_entry;      /* [features + 1] */
  int weighted;              /* some feature has per_sample_weights */
  edges_info_t info;
  int64_t distinct;
  int told;      /* what route_edges asked for has come to the host */
  int ahead;     /* it has not, and the host goes on without it */
  int64_t edges; /* the batch's edges; while ahead its entries, which are no fewer */
  int direct;    /* solo: rows and weights are read from the caller's arrays */
  /* Host numbers by (owner, table): [ranks * tables (+ 1)]. */
  int64_t *key_block;              /* first distinct key */
  int64_t *class_begin;            /* [ranks * tables * CLASSES + 1] first distinct key of each class */
  share_t *share[PHASES];          /* how their vectors travel */
  int *wanted;                     /* of cover_request_t */
  int64_t *row_count;              /* likewise */
  int64_t *pool_runs, *pool_edges; /* [ranks * features] likewise */
  int64_t *row_cost, *pool_cost, *edge_cost;
  int64_t *touch_begin;              /* [ranks + 1] */
  int64_t *owner_key;                /* [ranks + 2] first key, or first distinct one, of each owner */
  int64_t *block_first, *block_step; /* [ranks * max(tables * CLASSES, features)] of fill_blocks */
  /* Pools. A phase's list is `list[of[phase]]`; its edges are the same in both phases where lists is 1. */
  int lists;
  int of[PHASES];
  int filled[LISTS]; /* the list is there */
  int ordered;       /* of LIST_ALL the order is */
  pool_list_t list[LISTS], in_list[PHASES];
  int key_words; /* classes a table has in the counts: 2, or 4 where there are two lists */
  int words, words_used;
  int64_t *out, *in; /* [ranks * words] counts to and from each peer */
  /* Host numbers of what came in. */
  int64_t *in_key;           /* [ranks * tables + 1] first key of (peer, table) */
  int64_t *in_touch;         /* [ranks + 1] */
  int64_t *ids_out, *ids_in; /* [ranks + 1] byte offsets of the messages of ids */
  int64_t own_count;
  int64_t *own_block; /* [tables + 1] ranges of the owned distinct rows */
  int64_t *merged_at; /* [tables + 1] element offset of a table's merged gradients */
  reduce_task_t
      *sums;       /* [tables] after the backward: the merged gradients, as sums to be taken of what came */
  int merged;      /* they have been taken */
  int in_weighted; /* some peer sent per_sample_weights */
  int *offers;     /* [tables] this rank offers dense pools for the table: its pools are all pools */
  int *dense;      /* [tables] all ranks did: dense pools are taken */
  int any_offer, any_dense;
  int any_rows; /* some rows travel to this rank in the forward */
  layout_t layout_out[PHASES], layout_in[PHASES];
  int vectors_out, vectors_in; /* buffers of the phase under way */
  comm_part_t *send, *recv;    /* [ranks] */
  row_piece_t *pieces;         /* [features] */
  reduce_task_t *tasks;        /* [ranks * (tables + features) + tables + features] */
  pack_task_t *packs;          /* [segments_most] */
  unpack_task_t *unpacks;      /* likewise */
  comm_request_t *request;     /* what is under way, of whatever phase */
  comm_request_t *dense_request;
  int64_t bytes_sent, bytes_received, ids_sent;
  wire_error_t error;
  kernel_buffer_t buffer[BUF_KEPT];
  void *data[BUF_COUNT]; /* where each buffer is */
  kernel_arena_t arena;
  mem_t *mem;
};

/* ---- words ---- */

static inline int64_t *route_words(const route_t *r, int64_t *all, int peer) {
  return all + (int64_t)peer * r->words;
}
static inline int words_dense_words(const exchange_t *x) {
  return (x->tables + 63) / 64;
}
static inline int words_dense(const int64_t *w, int table) {
  return (int)((uint64_t)w[WORD_HEADER + table / 64] >> (table % 64) & 1);
}
static inline int words_class_at(const route_t *r, int table, int class) {
  int first = WORD_HEADER + words_dense_words(r->x) + table * r->key_words;
  return r->key_words == CLASSES ? first + class : first + (class == CLASS_POOL_POOL);
}
/* Keys of one class; where there is one list a key travels in the same way in both phases. */
static inline int64_t words_class(const route_t *r, const int64_t *w, int table, int class) {
  if (r->key_words < CLASSES && class != CLASS_ROW_ROW && class != CLASS_POOL_POOL) return 0;
  return w[words_class_at(r, table, class)];
}
static inline int64_t words_keys(const route_t *r, const int64_t *w, int table) {
  int64_t keys = 0;
  for (int c = 0; c < CLASSES; c++) keys += words_class(r, w, table, c);
  return keys;
}
/* The keys of a table that travel as rows in a phase: their number, and how many keys stand before them. */
static inline int64_t words_rows(const route_t *r, const int64_t *w, int table, phase_t phase,
                                 int64_t *first) {
  int64_t row_pool = words_class(r, w, table, CLASS_ROW_POOL);
  *first = phase == FORWARD ? 0 : row_pool;
  return words_class(r, w, table, CLASS_ROW_ROW) +
         (phase == FORWARD ? row_pool : words_class(r, w, table, CLASS_POOL_ROW));
}
/* list: of the one or two that are sent. */
static inline int words_list_at(const route_t *r, int list) {
  return WORD_HEADER + words_dense_words(r->x) + r->x->tables * r->key_words + 2 * list * r->x->features;
}
static inline int64_t words_runs(const route_t *r, const int64_t *w, phase_t phase, int f) {
  return w[words_list_at(r, r->lists == 1 ? 0 : (int)phase) + f];
}
static inline int64_t words_edges(const route_t *r, const int64_t *w, phase_t phase, int f) {
  return w[words_list_at(r, r->lists == 1 ? 0 : (int)phase) + r->x->features + f];
}

/* ---- buffers ---- */

static inline int64_t *i64_of(const route_t *r, int buffer) {
  return r->data[buffer];
}
static inline void *real_of(const route_t *r, int buffer) {
  return r->data[buffer];
}
static inline int list_buffer(const route_t *r, phase_t phase, int part) {
  return BUF_LISTS + r->of[phase] * LIST_BUFFERS + part;
}
static inline int64_t *list_i64(const route_t *r, phase_t phase, int part) {
  return r->data[list_buffer(r, phase, part)];
}
static inline const pool_list_t *list_at(const route_t *r, phase_t phase) {
  return &r->list[r->of[phase]];
}
/* What came in for a phase. */
static inline int in_phase(const route_t *r, phase_t phase) {
  return r->lists == 1 ? FORWARD : (int)phase;
}
static inline pool_list_t *in_list_at(route_t *r, phase_t phase) {
  return &r->in_list[in_phase(r, phase)];
}
static inline int in_buffer(const route_t *r, phase_t phase, int part) {
  return BUF_IN_LISTS + in_phase(r, phase) * IN_BUFFERS + part;
}
static inline int64_t *in_i64(const route_t *r, phase_t phase, int part) {
  return r->data[in_buffer(r, phase, part)];
}
/* In integers: an empty batch may come with NULL. */
static inline void *real_at(const exchange_t *x, const void *base, int64_t element) {
  return (void *)((uintptr_t)base + (uintptr_t)(element * x->real_bytes));
}
static inline int64_t round8(int64_t bytes) {
  return (bytes + 7) / 8 * 8;
}

/* Where the batch's slots stand in [bags][columns]. */
static inline slot_map_t route_slot_map(const route_t *r) {
  const exchange_t *x = r->x;
  return (slot_map_t){.bag_count = r->bag_count,
                      .columns = x->c.columns,
                      .feature_count = x->features,
                      .column = x->column,
                      .mode = x->mode};
}

/* Reserves a buffer for `count` int64 or values; the pointer may move, the content is not kept. */
sbag_code_t route_take_i64(route_t *r, int buffer, int64_t count, int64_t **data, sbag_status_t *status);
sbag_code_t route_take_real(route_t *r, int buffer, int64_t count, void **data, sbag_status_t *status);
sbag_code_t route_take_bytes(route_t *r, int buffer, int64_t bytes, void **data, sbag_status_t *status);

/* Begins the exchange of r->send and r->recv, counting bytes; leaves r->request. */
sbag_code_t route_exchange_begin(route_t *r, sbag_status_t *status);
sbag_code_t route_wait(route_t *r, const char *what, sbag_status_t *status);

/* edges.c */
void route_describe(route_t *r);
/* The batch's edges: r->info and BUF_SLOT_BEGIN, and what is wanted (EDGE_*) of keys (BUF_DISTINCT), slots,
 * entries, rows, and weights where the batch has any. Nobody waits for EDGE_AGAIN: a batch whose r->info is
 * known already (and found good); nor for EDGE_AHEAD: keys and slots are then padded, and there are no
 * weights. */
enum {
  EDGE_KEYS = 1,
  EDGE_SLOTS = 2,
  EDGE_ENTRIES = 4,
  EDGE_ROWS = 8,
  EDGE_WEIGHTS = 16,
  EDGE_AGAIN = 32,
  EDGE_AHEAD = 64
};
sbag_code_t route_build_edges(route_t *r, int wanted, sbag_status_t *status);
/* Whether anybody may ask what won a maximum: the backward, or the caller. */
static inline int route_wants_winners(const route_t *r) {
  return r->x->any_max && !(r->flags & SBAG_FORWARD_NO_INDICES);
}
/* Edges, their order by owner and feature where it may be needed (LIST_ALL), and distinct keys by owner and
 * table (BUF_DISTINCT, BUF_WHICH, key_block). They may be ahead. */
sbag_code_t route_edges(route_t *r, sbag_status_t *status);
/* Waits for the numbers of what was asked so far; the batch's faults come out here. */
sbag_code_t route_told(route_t *r, sbag_status_t *status);
/* The request's keys become the distinct ones, ascending; buffer `which` gets each key's place among them. Of
 * the request count, key, bound and places are read. owner: whose keys they all are, or -1. Nobody waits. */
sbag_code_t route_unique(route_t *r, int owner, const unique_request_t *of, int which, int64_t *distinct,
                         sbag_status_t *status);
/* Each edge's slot, into BUF_SLOT (scratch): kept between phases only as the slots' first edges. */
sbag_code_t route_slots(route_t *r, int64_t **slot, sbag_status_t *status);

/* share.c: whether anything may be pooled, so that runs must be known before the choice; ahead, a guess. */
int route_may_pool(const route_t *r);
/* How many lists there are, from the step's flags alone: all ranks find the same. */
void route_set_lists(route_t *r);
/* How each owner's part of each table travels; BUF_KEY gets the keys by class. */
sbag_code_t route_share(route_t *r, sbag_status_t *status);
/* Whether vectors of a table travel in a phase: not where a mirror serves, nor gradients of a frozen table.
 */
int route_travels(const route_t *r, int table, phase_t phase);
/* Bytes of one place of a max pool whose requester's longest bag has so many edges. */
int route_place_width(int64_t longest);

/* list.c: LIST_ALL, of all edges. First their order, while BUF_DISTINCT still has the edges' keys; then their
 * runs. Its numbers are told with the others. */
sbag_code_t route_order_all(route_t *r, sbag_status_t *status);
sbag_code_t route_list_all(route_t *r, sbag_status_t *status);
/* Fills list `which` with the runs of all edges whose key has keep[key] != 0 (NULL: of all edges), and of its
 * buffers those that the requester needs. known: its blocks are there already; else this waits for them. */
sbag_code_t route_list(route_t *r, int which, const int64_t *keep, int known, sbag_status_t *status);
/* Runs of a list at most. */
int64_t route_most_runs(const route_t *r);
void route_list_empty(route_t *r, int which);
run_places_t route_run_places(const route_t *r, phase_t phase, int owner, int feature);

/* wire.c: counts and ids travel. */
/* Counts and messages of ids, ready to be sent (out, ids_out, BUF_IDS_OUT). */
sbag_code_t route_pack_ids(route_t *r, sbag_status_t *status);
/* Prepares and posts the counts; a failure of this rank is kept for the agreement. */
sbag_code_t route_send_counts(route_t *r, sbag_status_t *status);
/* Makes the batch's own error, if any rank has one, that of all ranks. Collective. */
sbag_code_t route_agree(route_t *r, sbag_status_t *status);
/* *agreed: 1 where an error is one that all ranks return. */
sbag_code_t route_send_ids(route_t *r, int *agreed, sbag_status_t *status);
sbag_code_t route_take_ids(route_t *r, sbag_status_t *status);
/* Segments of one message of ids at most. */
int64_t route_segments_most(const exchange_t *x);

/* owner.c: what came in, in terms of owned rows. */
sbag_code_t route_owner(route_t *r, sbag_status_t *status);

/* layout.c */
void layout_make(const route_t *r, const int64_t *counts, phase_t phase, layout_t *layout);
/* The vectors' buffers of a phase, ready to be filled: where vectors for `peer` go, and its layout. This
 * rank's own part needs no message: it is written where it will be read. */
sbag_code_t layout_take(route_t *r, phase_t phase, int out_buffer, int in_buffer, sbag_status_t *status);
void *layout_target(const route_t *r, phase_t phase, int peer, const layout_t **layout);
int64_t *layout_places(const route_t *r, int peer);
/* Sends what was filled, and, after the wait, unpacks what came. */
sbag_code_t layout_send(route_t *r, phase_t phase, sbag_status_t *status);
sbag_code_t layout_receive(route_t *r, phase_t phase, const char *what, sbag_status_t *status);

/* forward.c: pools one feature's runs of one peer from owned rows; `out` is the caller's. */
reduce_task_t route_pool_task(const route_t *r, int peer, int feature, const int64_t *term);

/* dense.c: pools of tables for which all ranks agreed on it, one vector a bag whether an owner has rows of it
 * or not: owners' parts are added up on their way (reduce-scatter), bags' gradients go to all. */
void dense_agree(route_t *r);
/* Vectors with other ranks, sent or received. */
int64_t dense_vectors(const route_t *r, int sent);
sbag_code_t dense_forward_begin(route_t *r, const int64_t *edge_term, sbag_status_t *status);
sbag_code_t dense_forward_end(route_t *r, void *out, sbag_status_t *status);

/* solo.c: a step on one rank. Decides at creation. */
int solo_possible(const exchange_t *x);
sbag_code_t solo_begin(route_t *r, sbag_status_t *status);
sbag_code_t solo_forward(route_t *r, void *out, sbag_status_t *status);
sbag_code_t solo_backward(route_t *r, const void *grad_out, void *const *weight_grads, sbag_status_t *status);
/* Rows of a feature's edges, each at the edge's number over all features. */
const int64_t *solo_rows_of(const route_t *r, int f);
/* solo_sums.c: r->sums, where a bag gives one gradient to all its rows. */
int solo_sums_possible(const route_t *r);
sbag_code_t solo_sums(route_t *r, const void *grad_out, sbag_status_t *status);

/* merge.c: gradients that have come in, sorted by row: r->sums, whose terms stay in the arena. */
sbag_code_t route_merge(route_t *r, sbag_status_t *status);
/* Whether gradients of a table are merged here. */
int route_merges(const route_t *r, int table);

/* weight_grads.c: to[i] = <row row[i] of the table, the bag's gradient at grad + grad_at[i]>; rows as the
 * table keeps them. */
typedef struct row_dots {
  int table;
  const void *rows;
  const int64_t *row;
  int64_t count;
  const void *grad;
  const int64_t *grad_at;
  void *to;
} row_dots_t;
sbag_code_t route_dot_rows(route_t *r, const row_dots_t *dots, sbag_status_t *status);
/* From edges to entries of the features that want it. */
sbag_code_t route_spread_weight_grads(route_t *r, const void *edge_grad, void *const *weight_grads,
                                      sbag_status_t *status);
/* After the bags' gradients have come in (BUF_GRADS_IN), per_sample_weights' gradients.
 * Collective. */
sbag_code_t route_weight_grads(route_t *r, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status);

#endif
