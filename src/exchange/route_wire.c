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

/* The edges' arrays in order of owner, as they will travel. */
static sbag_code_t prepare_edges(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edges = r->info.edge_count, *length, *index, *position = NULL;
  const int64_t *order = i64_of(r, BUF_ORDER);
  SBAG_TRY(route_take_i64(r, BUF_WIRE_LENGTH, r->runs, &length, status));
  SBAG_TRY(route_take_i64(r, BUF_WIRE_INDEX, edges, &index, status));
  SBAG_TRY(route_take_i64(r, BUF_WIRE_POSITION, x->any_max ? edges : 0, &position, status));
  k->ops->lengths(k, NULL, i64_of(r, BUF_RUN_BEGIN), r->runs, length);
  for (int o = 0; o < x->ranks; o++) {
    int64_t first = r->owner_edge[o], count = r->owner_edge[o + 1] - first;
    int64_t first_key = r->key_block[(int64_t)o * x->tables];
    k->ops->gather_i64(k, NULL, i64_of(r, BUF_WHICH), order + first, count, -first_key, index + first);
  }
  if (x->any_max)
    k->ops->edge_positions(k, NULL, order, i64_of(r, BUF_SLOT), i64_of(r, BUF_SLOT_BEGIN), edges, position);
  if (!r->weighted) return SBAG_OK;
  void *weight = NULL;
  SBAG_TRY(route_take_real(r, BUF_WIRE_WEIGHT, edges, &weight, status));
  k->ops->gather_real(k, NULL, x->c.store->dtype, real_of(r, BUF_WEIGHT), order, edges, weight);
  return SBAG_OK;
}

static int64_t add_part(route_t *r, int64_t n, char **to, const void *from, int64_t bytes, int64_t advance) {
  if (bytes > 0) r->parts[n++] = (copy_part_t){*to, from, bytes};
  *to += advance;
  return n;
}

static void pack_ids(route_t *r, int owner, const ids_size_t *s, char *to) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t edge = r->owner_edge[owner], run = r->owner_run[owner], n = 0;
  int64_t key = r->key_block[(int64_t)owner * x->tables];
  n = add_part(r, n, &to, i64_of(r, BUF_DISTINCT) + key, s->key_bytes, s->key_bytes);
  n = add_part(r, n, &to, i64_of(r, BUF_TOUCH_DISTINCT) + r->touch_begin[owner], s->touch_bytes,
               s->touch_bytes);
  if (s->edges > 0) {
    n = add_part(r, n, &to, i64_of(r, BUF_WIRE_LENGTH) + run, s->run_bytes, s->run_bytes);
    n = add_part(r, n, &to, i64_of(r, BUF_WIRE_INDEX) + edge, s->edge_bytes, s->edge_bytes);
    if (s->position_bytes > 0)
      n = add_part(r, n, &to, i64_of(r, BUF_WIRE_POSITION) + edge, s->position_bytes, s->position_bytes);
    if (s->weight_bytes > 0)
      n = add_part(r, n, &to, real_at(x, real_of(r, BUF_WIRE_WEIGHT), edge), s->edges * x->real_bytes,
                   s->weight_bytes);
  }
  k->ops->copy(k, NULL, r->parts, n);
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

/* From one peer's message to the arrays over all peers. Touched keys stand behind all keys. */
static void unpack_ids(route_t *r, int peer, const ids_size_t *s, const char *from) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t n = 0, keys = r->in_key[x->ranks], edge = r->in_edge[peer];
  const struct {
    void *to;
    int64_t bytes;
  } part[] = {{i64_of(r, BUF_IN_KEY) + r->in_key[peer], s->key_bytes},
              {i64_of(r, BUF_IN_KEY) + keys + r->in_touch[peer], s->touch_bytes},
              {i64_of(r, BUF_IN_LENGTH) + r->in_run[peer], s->run_bytes},
              {i64_of(r, BUF_IN_INDEX) + edge, s->edge_bytes},
              {i64_of(r, BUF_IN_POSITION) + edge, s->position_bytes}};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
    if (part[i].bytes == 0) continue;
    r->parts[n++] = (copy_part_t){part[i].to, from, part[i].bytes};
    from += part[i].bytes;
  }
  void *weight = real_at(x, real_of(r, BUF_IN_WEIGHT), edge);
  if (s->weight_bytes > 0) r->parts[n++] = (copy_part_t){weight, from, s->edges * x->real_bytes};
  k->ops->copy(k, NULL, r->parts, n);
  if (s->weight_bytes == 0 && s->edges > 0)
    k->ops->fill_real(k, NULL, x->c.store->dtype, weight, s->edges, 1);
}

static sbag_code_t take_incoming(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int ranks = x->ranks;
  int64_t *p;
  void *weight;
  SBAG_TRY(route_take_i64(r, BUF_IN_KEY, r->in_key[ranks] + r->in_touch[ranks], &p, status));
  SBAG_TRY(route_take_i64(r, BUF_IN_LENGTH, r->in_run[ranks], &p, status));
  SBAG_TRY(route_take_i64(r, BUF_IN_INDEX, r->in_edge[ranks], &p, status));
  SBAG_TRY(route_take_i64(r, BUF_IN_POSITION, x->any_max ? r->in_edge[ranks] : 0, &p, status));
  return route_take_real(r, BUF_IN_WEIGHT, r->in_edge[ranks], &weight, status);
}

static sbag_code_t exchange_ids(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t out_bytes = 0, in_bytes = 0;
  for (int p = 0; p < x->ranks; p++) {
    out_bytes += ids_size(r, route_words(r, r->out, p)).bytes;
    in_bytes += ids_size(r, route_words(r, r->in, p)).bytes;
  }
  void *out, *in;
  SBAG_TRY(route_take_bytes(r, BUF_SEND, out_bytes, &out, status));
  SBAG_TRY(route_take_bytes(r, BUF_IDS_IN, in_bytes, &in, status));
  SBAG_TRY(take_incoming(r, status));
  char *to = out, *from = in;
  for (int p = 0; p < x->ranks; p++) {
    ids_size_t mine = ids_size(r, route_words(r, r->out, p)), theirs = ids_size(r, route_words(r, r->in, p));
    pack_ids(r, p, &mine, to);
    r->send[p] = (comm_part_t){to, mine.bytes};
    r->recv[p] = (comm_part_t){from, theirs.bytes};
    to += mine.bytes;
    from += theirs.bytes;
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
  if (local == SBAG_OK) local = prepare_edges(r, status);
  SBAG_TRY(exchange_counts(r, local, agreed, status));
  place_incoming(r);
  return exchange_ids(r, status);
}
