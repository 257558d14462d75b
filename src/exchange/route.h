/* The inside of an exchange and its routes, shared by the files of this layer: route_local.c (the requester's
 * ids), route_wire.c (counts and ids), route_owner.c (the owner's view), layout.c (where vectors stand in a
 * message), forward.c, backward.c, weight_grads.c. */
#ifndef EXCHANGE_ROUTE_H
#define EXCHANGE_ROUTE_H

#include "exchange/exchange.h"
#include "kernel/arena.h"

enum { TRANSFER_BUFFERS = 12 };

struct exchange {
  exchange_config_t c;
  int rank, ranks, tables;
  int64_t real_bytes;
  int any_max, any_freq;
  int64_t *column;   /* [features] for slot_map_t */
  sbag_mode_t *mode; /* [features] */
  int *by_freq;      /* [features] */
  int64_t next_id;
  kernel_buffer_t range_rows;                 /* of range.c */
  kernel_buffer_t transfer[TRANSFER_BUFFERS]; /* of transfer.c and mirror.c */
  int64_t *transfer_counts;                   /* [4 * (ranks + 1) * (tables + 2)] host */
  comm_part_t *transfer_send, *transfer_recv; /* [ranks] */
};

/* The message of counts from a requester to an owner: words of int64. */
enum {
  WORD_CODE,
  WORD_ID,
  WORD_FLAGS,
  WORD_TOUCH,
  WORD_KEYS /* then [tables] keys, [features] runs, [features] edges */
};

enum {
  PEER_FORWARD_POOLS = 1, /* else rows */
  PEER_BACKWARD_POOLS = 2,
  PEER_EDGES = 4,     /* runs and edges are sent */
  PEER_WEIGHTS = 8,   /* with per_sample_weights */
  PEER_REPLY = 16,    /* the owner returns per_sample_weights' gradients */
  PEER_STEP_SHIFT = 8 /* the SBAG_FORWARD_* flags stand above: they must agree */
};

/* Where things stand in the messages of one direction. Vectors come first, in tables' or features' order;
 * where pools of max features carry positions these follow at the next multiple of 8 bytes. */
typedef struct layout {
  int64_t *bytes;     /* [ranks] message with each peer */
  int64_t *begin;     /* [ranks + 1] byte offset of it in the buffer, multiples of 8 */
  int64_t *vector_at; /* [ranks * max(tables, features)] element offset in the buffer of a block of vectors */
  int64_t *position_at; /* [ranks * features] int64 offset in the buffer of a block of positions */
  int64_t vectors;      /* number of vectors with other ranks */
} layout_t;

/* A route's step buffers. The first ones live as long as the batch; those from BUF_SCRATCH on are taken from
 * the arena and live until their phase releases its mark. */
enum {
  BUF_SLOT_BEGIN,
  BUF_ROW,
  BUF_ENTRY,
  BUF_WEIGHT,
  BUF_WHICH,
  BUF_ORDER,
  BUF_RUN_SLOT,
  BUF_IN_POSITION,
  BUF_IN_WEIGHT,
  BUF_IN_RUN_BEGIN,
  BUF_IN_EDGE_OWN,
  BUF_OWN_WHICH,
  BUF_OWN_ROW,
  BUF_VECTORS_OUT,
  BUF_VECTORS_IN,
  BUF_VECTOR_AT,
  BUF_WINNER,
  BUF_GRADS_IN,
  BUF_SEGMENTS,
  BUF_MERGED,
  BUF_SPARSE_WHICH,
  BUF_SPARSE_ROW,
  BUF_SPARSE_VALUE,
  BUF_KEPT,
  BUF_SCRATCH = BUF_KEPT,
  BUF_SLOT,
  BUF_SLOT_NUMBER,
  BUF_DISTINCT,
  BUF_TOUCH_DISTINCT,
  BUF_TOUCH_MEMBER,
  BUF_MEMBER,
  BUF_TOUCH_WHICH,
  BUF_OWNER,
  BUF_OWNER_BEGIN,
  BUF_RUN_BEGIN,
  BUF_IDS_OUT,
  BUF_IDS_IN,
  BUF_IN_KEY,
  BUF_IN_LENGTH,
  BUF_OWN_MEMBER,
  BUF_OWN_SOURCE,
  BUF_RENORMED,
  BUF_REPLY_OUT,
  BUF_REPLY_IN,
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
  BUF_COUNT
};

struct route {
  exchange_t *x;
  int64_t id;
  int flags; /* SBAG_FORWARD_* */
  /* This rank's batch. */
  const sbag_bags_t *bags;
  int64_t bag_count, slots, entries;
  edges_feature_t *features; /* [features] */
  int64_t *first_entry;      /* [features + 1] */
  int weighted;              /* some feature has per_sample_weights */
  edges_info_t info;
  /* Host numbers: ranges of this rank's keys, edges and runs by owner. */
  int64_t *key_block;                            /* [ranks * tables + 1] */
  int64_t *touch_begin, *owner_edge, *owner_run; /* [ranks + 1] */
  int64_t *run_block,
      *edge_block; /* [ranks * (features + 1)] first run and edge of (owner, feature), and the owner's end */
  int64_t distinct, runs;
  int words;
  int64_t *out, *in; /* [ranks * words] counts to and from each peer */
  /* Host numbers of what came in, by peer. */
  int64_t *in_key, *in_touch, *in_run, *in_edge; /* [ranks + 1] */
  int64_t *in_run_block, *in_edge_block;         /* as run_block, edge_block */
  int64_t *in_index; /* [ranks] where a peer's edges are in BUF_IDS_IN, in words */
  int64_t own_count;
  int64_t *own_block; /* [tables + 1] ranges of the owned distinct rows */
  int64_t *merged_at; /* [tables] element offset of a table's merged gradients */
  layout_t forward_out, forward_in, backward_out, backward_in;
  comm_part_t *send, *recv; /* [ranks] */
  reduce_task_t *tasks;     /* [ranks * max(tables, features) + features] */
  comm_request_t *request;
  int backward_done;
  int64_t bytes_sent, bytes_received;
  kernel_buffer_t buffer[BUF_KEPT];
  void *data[BUF_COUNT]; /* where each buffer is */
  kernel_arena_t arena;
  mem_t *mem;
};

static inline int64_t *route_words(const route_t *r, int64_t *all, int peer) {
  return all + (int64_t)peer * r->words;
}
static inline int64_t words_keys(const int64_t *w, int table) {
  return w[WORD_KEYS + table];
}
static inline int64_t words_runs(const route_t *r, const int64_t *w, int f) {
  return w[WORD_KEYS + r->x->tables + f];
}
static inline int64_t words_edges(const route_t *r, const int64_t *w, int f) {
  return w[WORD_KEYS + r->x->tables + r->x->c.feature_count + f];
}

static inline int64_t *i64_of(const route_t *r, int buffer) {
  return r->data[buffer];
}
static inline void *real_of(const route_t *r, int buffer) {
  return r->data[buffer];
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
                      .feature_count = x->c.feature_count,
                      .column = x->column,
                      .mode = x->mode};
}

/* Reserves a buffer for `count` int64 or values; the pointer may move, the content is not kept. */
sbag_code_t route_take_i64(route_t *r, int buffer, int64_t count, int64_t **data, sbag_status_t *status);
sbag_code_t route_take_real(route_t *r, int buffer, int64_t count, void **data, sbag_status_t *status);
sbag_code_t route_take_bytes(route_t *r, int buffer, int64_t bytes, void **data, sbag_status_t *status);

/* Each edge's slot, into BUF_SLOT (scratch): kept between phases only as the slots' first edges. */
sbag_code_t route_slots(route_t *r, int64_t **slot, sbag_status_t *status);

/* layout.c */
enum { PHASE_FORWARD, PHASE_BACKWARD };
void layout_make(const route_t *r, const int64_t *counts, int phase, layout_t *layout);
/* Whether vectors of a feature or a table travel in a phase: not where a mirror serves, nor gradients of a
 * frozen table. */
int layout_travels(const route_t *r, int table, int phase);
/* vector_at of every vector of (peer, block) into per-vector arrays: at[first + i] = offset. */
static inline int64_t layout_stride(const exchange_t *x) {
  return x->tables > x->c.feature_count ? x->tables : x->c.feature_count;
}
/* Exchanges the messages of two layouts between two buffers, and counts bytes. begin leaves r->request. */
sbag_code_t layout_exchange_begin(route_t *r, const layout_t *out, void *from, const layout_t *in, void *to,
                                  sbag_status_t *status);

/* Begins the exchange of r->send and r->recv, counting bytes; leaves r->request. */
sbag_code_t route_exchange_begin(route_t *r, sbag_status_t *status);

/* route_local.c: edges, distinct keys, order by owner, runs, kinds, counts. */
sbag_code_t route_local(route_t *r, sbag_status_t *status);
/* route_wire.c: counts and ids travel. */
/* *agreed: 1 where an error is one that all ranks return. */
sbag_code_t route_wire(route_t *r, sbag_code_t local, int *agreed, sbag_status_t *status);
/* route_owner.c: what came in, in terms of owned rows. */
sbag_code_t route_owner(route_t *r, sbag_status_t *status);
/* weight_grads.c */
/* After the bags' gradients have come in (BUF_GRADS_IN): per_sample_weights' gradients. Collective. */
sbag_code_t route_weight_grads(route_t *r, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status);

#endif
