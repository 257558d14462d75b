/* Counts, then ids, from requesters to owners.
 *
 * The counts carry each rank's outcome so far, and no rank sends ids before it has seen all of them: that is
 * how an error on one rank ends the call on all. The ids' message from one requester to one owner is, in
 * int64 words: keys [keys] | touched keys [touch] | lengths of runs [runs] | edges [edges] | positions
 * [edges] | weights [edges] where runs to weights are there only if the flags say so; an edge is the place of
 * its key in `keys`. */
#include "exchange/route.h"

#include <string.h>

/* Sizes of one ids' message, from its counts. */
typedef struct ids_size {
  int64_t keys, touch, runs, edges;
  int64_t key_bytes, touch_bytes, run_bytes, edge_bytes, position_bytes, weight_bytes, bytes;
} ids_size_t;

static ids_size_t ids_size(const route_t *r, const int64_t *words) {
  const exchange_t *x = r->x;
  ids_size_t s = {.touch = words[WORD_TOUCH]};
  for (int t = 0; t < x->tables; t++) s.keys += words_keys(words, t);
  for (int f = 0; f < x->c.feature_count; f++) {
    s.runs += words_runs(r, words, f);
    s.edges += words_edges(r, words, f);
  }
  s.key_bytes = 8 * s.keys;
  s.touch_bytes = 8 * s.touch;
  s.run_bytes = 8 * s.runs;
  s.edge_bytes = 8 * s.edges;
  s.position_bytes = x->any_max ? 8 * s.edges : 0;
  s.weight_bytes = words[WORD_FLAGS] & PEER_WEIGHTS ? round8(s.edges * x->real_bytes) : 0;
  s.bytes = s.key_bytes + s.touch_bytes + s.run_bytes + s.edge_bytes + s.position_bytes + s.weight_bytes;
  return s;
}

static sbag_code_t check_counts(const route_t *r, sbag_status_t *status) {
  for (int p = 0; p < r->x->ranks; p++) {
    const int64_t *words = r->in + (int64_t)p * r->words;
    if (words[WORD_ID] != r->id)
      return status_set(status, SBAG_ERR_STATE,
                        "rank %d is at its batch %lld, rank %d at %lld: all ranks must begin the same steps",
                        r->x->rank, (long long)r->id, p, (long long)words[WORD_ID]);
    if (words[WORD_FLAGS] >> PEER_STEP_SHIFT != r->flags)
      return status_set(status, SBAG_ERR_STATE,
                        "forward's flags are %d on rank %d and %d on rank %d: all ranks must pass the same",
                        r->flags, r->x->rank, (int)(words[WORD_FLAGS] >> PEER_STEP_SHIFT), p);
  }
  return SBAG_OK;
}

/* All ranks exchange counts and learn whether any of them met an error. */
static sbag_code_t exchange_counts(route_t *r, sbag_code_t local, int *agreed, sbag_status_t *status) {
  exchange_t *x = r->x;
  for (int p = 0; p < x->ranks; p++) {
    int64_t *words = route_words(r, r->out, p);
    if (local != SBAG_OK) memset(words, 0, (size_t)r->words * sizeof *words);
    words[WORD_CODE] = local;
    words[WORD_ID] = r->id;
    r->send[p] = (comm_part_t){words, r->words * 8};
    r->recv[p] = (comm_part_t){route_words(r, r->in, p), r->words * 8};
  }
  sbag_status_t cause;
  status_clear(&cause);
  sbag_code_t code = route_exchange_begin(r, &cause);
  if (code == SBAG_OK) code = comm_wait(x->c.comm, &r->request, "forward: counts", &cause);
  if (code != SBAG_OK) {
    if (status != NULL) *status = cause;
    return code;
  }
  int any = 0;
  for (int p = 0; p < x->ranks; p++) any |= route_words(r, r->in, p)[WORD_CODE] != SBAG_OK;
  if (!any) return check_counts(r, status);
  *agreed = 1;
  return comm_agree(x->c.comm, local, status);
}

/* Where the parts of one message begin, in bytes. */
static int64_t lengths_at(const ids_size_t *s) {
  return s->key_bytes + s->touch_bytes;
}
static int64_t edges_at(const ids_size_t *s) {
  return lengths_at(s) + s->run_bytes;
}
static int64_t positions_at(const ids_size_t *s) {
  return edges_at(s) + s->edge_bytes;
}
static int64_t weights_at(const ids_size_t *s) {
  return positions_at(s) + s->position_bytes;
}

/* The edges' part of the message to one owner, in batch order. */
static void pack_edges(route_t *r, int owner, const ids_size_t *s, char *to) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int64_t *order = i64_of(r, BUF_ORDER) + r->owner_edge[owner];
  int64_t first_key = r->key_block[(int64_t)owner * x->tables];
  k->ops->lengths(k, NULL, i64_of(r, BUF_RUN_BEGIN) + r->owner_run[owner], s->runs,
                  (int64_t *)(void *)(to + lengths_at(s)));
  k->ops->gather_i64(k, NULL, i64_of(r, BUF_WHICH), order, s->edges, -first_key,
                     (int64_t *)(void *)(to + edges_at(s)));
  if (s->position_bytes > 0)
    k->ops->edge_positions(k, NULL, order, i64_of(r, BUF_SLOT), i64_of(r, BUF_SLOT_BEGIN), s->edges,
                           (int64_t *)(void *)(to + positions_at(s)));
  if (s->weight_bytes > 0)
    k->ops->gather_real(k, NULL, x->c.store->dtype, real_of(r, BUF_WEIGHT), order, s->edges,
                        to + weights_at(s));
}

static void pack_ids(route_t *r, int owner, const ids_size_t *s, char *to) {
  kernel_t *k = r->x->c.kernel;
  int64_t key = r->key_block[(int64_t)owner * r->x->tables];
  copy_part_t parts[2] = {
      {to, i64_of(r, BUF_DISTINCT) + key, s->key_bytes},
      {to + s->key_bytes, i64_of(r, BUF_TOUCH_DISTINCT) + r->touch_begin[owner], s->touch_bytes}};
  k->ops->copy(k, NULL, parts, 2);
  if (s->edges > 0) pack_edges(r, owner, s, to);
}

static sbag_code_t prepare_ids(route_t *r, sbag_status_t *status) {
  int64_t bytes = 0;
  void *out;
  for (int p = 0; p < r->x->ranks; p++) bytes += ids_size(r, route_words(r, r->out, p)).bytes;
  SBAG_TRY(route_take_bytes(r, BUF_IDS_OUT, bytes, &out, status));
  size_t mark = kernel_arena_mark(&r->arena);
  int64_t *slot;
  if (r->x->any_max) SBAG_TRY(route_slots(r, &slot, status));
  char *to = out;
  for (int p = 0; p < r->x->ranks; p++) {
    ids_size_t s = ids_size(r, route_words(r, r->out, p));
    pack_ids(r, p, &s, to);
    to += s.bytes;
  }
  kernel_arena_release(r->x->c.kernel, &r->arena, mark);
  return SBAG_OK;
}

/* Ranges of what will come in, by peer, and by (peer, feature). */
static void place_incoming(route_t *r) {
  exchange_t *x = r->x;
  int features = x->c.feature_count;
  r->in_key[0] = r->in_touch[0] = r->in_run[0] = r->in_edge[0] = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = route_words(r, r->in, p);
    ids_size_t s = ids_size(r, words);
    int64_t *run = r->in_run_block + (int64_t)p * (features + 1);
    int64_t *edge = r->in_edge_block + (int64_t)p * (features + 1);
    run[0] = r->in_run[p];
    edge[0] = r->in_edge[p];
    for (int f = 0; f < features; f++) {
      run[f + 1] = run[f] + words_runs(r, words, f);
      edge[f + 1] = edge[f] + words_edges(r, words, f);
    }
    r->in_key[p + 1] = r->in_key[p] + s.keys;
    r->in_touch[p + 1] = r->in_touch[p] + s.touch;
    r->in_run[p + 1] = r->in_run[p] + s.runs;
    r->in_edge[p + 1] = r->in_edge[p] + s.edges;
  }
}

/* From one peer's message to the arrays over all peers. Touched keys stand behind all keys; edges stay where
 * they are. */
static void unpack_ids(route_t *r, int peer, const ids_size_t *s, const char *from) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t n = 0, keys = r->in_key[x->ranks], edge = r->in_edge[peer];
  copy_part_t parts[5];
  parts[n++] = (copy_part_t){i64_of(r, BUF_IN_KEY) + r->in_key[peer], from, s->key_bytes};
  parts[n++] =
      (copy_part_t){i64_of(r, BUF_IN_KEY) + keys + r->in_touch[peer], from + s->key_bytes, s->touch_bytes};
  parts[n++] = (copy_part_t){i64_of(r, BUF_IN_LENGTH) + r->in_run[peer], from + lengths_at(s), s->run_bytes};
  if (s->position_bytes > 0)
    parts[n++] = (copy_part_t){i64_of(r, BUF_IN_POSITION) + edge, from + positions_at(s), s->position_bytes};
  if (s->weight_bytes > 0)
    parts[n++] = (copy_part_t){real_at(x, real_of(r, BUF_IN_WEIGHT), edge), from + weights_at(s),
                               s->edges * x->real_bytes};
  k->ops->copy(k, NULL, parts, n);
  r->in_index[peer] = (from - (const char *)real_of(r, BUF_IDS_IN) + edges_at(s)) / 8;
}

static sbag_code_t take_incoming(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int ranks = x->ranks, weighted = 0;
  int64_t *p;
  void *weight;
  for (int peer = 0; peer < ranks; peer++)
    weighted |= (route_words(r, r->in, peer)[WORD_FLAGS] & PEER_WEIGHTS) != 0;
  SBAG_TRY(route_take_i64(r, BUF_IN_KEY, r->in_key[ranks] + r->in_touch[ranks], &p, status));
  SBAG_TRY(route_take_i64(r, BUF_IN_LENGTH, r->in_run[ranks], &p, status));
  SBAG_TRY(route_take_i64(r, BUF_IN_POSITION, x->any_max ? r->in_edge[ranks] : 0, &p, status));
  return route_take_real(r, BUF_IN_WEIGHT, weighted ? r->in_edge[ranks] : 0, &weight, status);
}

static sbag_code_t exchange_ids(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t in_bytes = 0;
  void *in;
  for (int p = 0; p < x->ranks; p++) in_bytes += ids_size(r, route_words(r, r->in, p)).bytes;
  SBAG_TRY(route_take_bytes(r, BUF_IDS_IN, in_bytes, &in, status));
  SBAG_TRY(take_incoming(r, status));
  char *to = real_of(r, BUF_IDS_OUT), *from = in;
  for (int p = 0; p < x->ranks; p++) {
    r->send[p] = (comm_part_t){to, ids_size(r, route_words(r, r->out, p)).bytes};
    r->recv[p] = (comm_part_t){from, ids_size(r, route_words(r, r->in, p)).bytes};
    to += r->send[p].bytes;
    from += r->recv[p].bytes;
  }
  SBAG_TRY(route_exchange_begin(r, status));
  SBAG_TRY(comm_wait(x->c.comm, &r->request, "forward: ids", status));
  from = in;
  for (int p = 0; p < x->ranks; p++) {
    ids_size_t theirs = ids_size(r, route_words(r, r->in, p));
    unpack_ids(r, p, &theirs, from);
    from += theirs.bytes;
  }
  return SBAG_OK;
}

sbag_code_t route_wire(route_t *r, sbag_code_t local, int *agreed, sbag_status_t *status) {
  /* Prepared before the counts, so that a rank without memory for it can still say so to all. */
  if (local == SBAG_OK) local = prepare_ids(r, status);
  SBAG_TRY(exchange_counts(r, local, agreed, status));
  place_incoming(r);
  return exchange_ids(r, status);
}
