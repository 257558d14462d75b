/* Counts, then ids, from requesters to owners.
 *
 * The counts carry each rank's outcome so far, and no rank sends ids before it has seen all of them: that is
 * how an error on one rank ends the call on all. A message of ids is a row of segments of packed integers
 * (pack.h), each a multiple of 8 bytes, whose sizes both sides know from the counts:
 *
 *   keys of each table by class, ascending, from the owner's first row of the table on | touched keys, from
 * the owner's first on | of each list, by feature: where runs begin among the feature's edges | shifts (max)
 * | the runs' bags (tables that this rank offers for dense pools) | edges, as places among the table's keys |
 * their weights
 *
 * What a rank asks of itself is not sent: its keys are laid by as they are, and the rest is read from its
 * lists when the others' messages are unpacked. */
#include "exchange/route.h"

#include <string.h>

typedef enum part {
  PART_KEYS,
  PART_TOUCH,
  PART_RUNS,
  PART_SHIFTS,
  PART_BAGS,
  PART_EDGES,
  PART_WEIGHTS
} part_t;

typedef struct segment {
  part_t part;
  int index, class; /* table or feature; class of keys */
  phase_t phase;    /* whose list */
  int64_t count, range;
  int ascending;
  int64_t at, bytes; /* in the message */
} segment_t;

typedef struct walk {
  const route_t *r;
  const int64_t *words;
  int owner, self; /* self: the owner is the requester */
  int64_t at;      /* bytes so far */
  void (*visit)(const segment_t *segment, void *context);
  void *context;
} walk_t;

static int64_t segment_bytes(const walk_t *w, const segment_t *s) {
  if (w->self) return s->part == PART_KEYS || s->part == PART_TOUCH ? s->count * (int64_t)sizeof(int64_t) : 0;
  if (s->part == PART_WEIGHTS) return round8(s->count * w->r->x->real_bytes);
  return pack_bytes(s->count, s->range, s->ascending);
}

static void visit(walk_t *w, segment_t s) {
  s.at = w->at;
  s.bytes = segment_bytes(w, &s);
  w->at += s.bytes;
  if (s.count > 0 && w->visit != NULL) w->visit(&s, w->context);
}

static void walk_list(walk_t *w, phase_t phase) {
  const exchange_t *x = w->r->x;
  for (int f = 0; f < x->features; f++) {
    int table = x->feature_table[f];
    int64_t runs = words_runs(w->r, w->words, phase, f), edges = words_edges(w->r, w->words, phase, f);
    if (runs == 0) continue;
    segment_t s = {.index = f, .phase = phase};
    s.part = PART_RUNS, s.count = runs, s.range = edges, s.ascending = 1;
    visit(w, s);
    s.part = PART_SHIFTS, s.range = 2, s.ascending = 0;
    if (x->mode[f] == SBAG_MAX) visit(w, s);
    s.part = PART_BAGS, s.range = w->words[WORD_BAGS], s.ascending = 1;
    if (phase == FORWARD && words_dense(w->words, table)) visit(w, s);
    s.part = PART_EDGES, s.count = edges, s.range = words_keys(w->r, w->words, table), s.ascending = 0;
    visit(w, s);
    s.part = PART_WEIGHTS;
    if (w->words[WORD_FLAGS] & MESSAGE_WEIGHTS) visit(w, s);
  }
}

/* Visits the segments of a message in their order; returns its bytes. */
static int64_t walk(const route_t *r, const int64_t *words, int peer, int owner,
                    void (*visitor)(const segment_t *segment, void *context), void *context) {
  const exchange_t *x = r->x;
  walk_t w = {.r = r,
              .words = words,
              .owner = owner,
              .self = peer == r->x->rank && owner == peer,
              .visit = visitor,
              .context = context};
  for (int t = 0; t < x->tables; t++)
    for (int c = 0; c < CLASSES; c++)
      visit(&w, (segment_t){.part = PART_KEYS,
                            .index = t,
                            .class = c,
                            .count = words_class(r, words, t, c),
                            .range = plan_rank_rows(x->c.plan, owner, t),
                            .ascending = 1});
  int64_t first = plan_rank_key(x->c.plan, owner), last = plan_rank_key(x->c.plan, owner + 1);
  visit(&w,
        (segment_t){.part = PART_TOUCH, .count = words[WORD_TOUCH], .range = last - first, .ascending = 1});
  for (int l = 0; l < r->lists; l++) walk_list(&w, (phase_t)l);
  return w.at;
}

int64_t route_segments_most(const exchange_t *x) {
  return (int64_t)x->tables * CLASSES + 1 + 2 * (int64_t)x->features * 5;
}

/* ---- counts ---- */

static void count_keys(route_t *r, int owner, int64_t *words) {
  const exchange_t *x = r->x;
  for (int t = 0; t < x->tables; t++) {
    int64_t block = (int64_t)owner * x->tables + t;
    if (r->share[FORWARD][block] == SHARE_NONE) continue;
    for (int c = 0; c < CLASSES; c++) {
      int64_t keys = r->class_begin[block * CLASSES + c + 1] - r->class_begin[block * CLASSES + c];
      if (keys > 0) words[words_class_at(r, t, c)] = keys;
    }
  }
}

static int64_t message_flags(const route_t *r) {
  return (r->weighted ? MESSAGE_WEIGHTS : 0) | (int64_t)r->flags << MESSAGE_STEP_SHIFT;
}

static void count_words(route_t *r) {
  const exchange_t *x = r->x;
  for (int o = 0; o < x->ranks; o++) {
    int64_t *words = route_words(r, r->out, o);
    memset(words + WORD_HEADER, 0, (size_t)(r->words_used - WORD_HEADER) * sizeof *words);
    words[WORD_FLAGS] = message_flags(r);
    words[WORD_BAGS] = r->bag_count;
    words[WORD_LONGEST] = r->info.longest;
    words[WORD_TOUCH] = r->touch_begin[o + 1] - r->touch_begin[o];
    for (int t = 0; t < x->tables; t++)
      if (r->offers[t]) words[WORD_HEADER + t / 64] |= (int64_t)((uint64_t)1 << (t % 64));
    count_keys(r, o, words);
    for (int l = 0; l < r->lists; l++) {
      const pool_list_t *list = list_at(r, (phase_t)l);
      int64_t *runs = words + words_list_at(r, l), *edges = runs + x->features;
      for (int f = 0; f < x->features; f++) {
        int64_t i = (int64_t)o * x->features + f;
        runs[f] = list->run_block[i + 1] - list->run_block[i];
        edges[f] = list->edge_block[i + 1] - list->edge_block[i];
      }
    }
  }
}

static void set_headers(route_t *r) {
  for (int p = 0; p < r->x->ranks; p++) {
    int64_t *words = route_words(r, r->out, p);
    if (r->local != SBAG_OK) memset(words, 0, (size_t)r->words * sizeof *words);
    words[WORD_CODE] = r->local;
    words[WORD_ID] = r->id;
    words[WORD_FLAGS] = message_flags(r);
  }
}

static sbag_code_t check_counts(const route_t *r, sbag_status_t *status) {
  for (int p = 0; p < r->x->ranks; p++) {
    const int64_t *words = r->in + (int64_t)p * r->words;
    if (words[WORD_ID] != r->id)
      return status_set(status, SBAG_ERR_STATE,
                        "rank %d is at its batch %lld, rank %d at %lld: all ranks must begin the same steps",
                        r->x->rank, (long long)r->id, p, (long long)words[WORD_ID]);
    if (words[WORD_FLAGS] >> MESSAGE_STEP_SHIFT != r->flags)
      return status_set(status, SBAG_ERR_STATE,
                        "forward's flags are %d on rank %d and %d on rank %d: all ranks must pass the same",
                        r->flags, r->x->rank, (int)(words[WORD_FLAGS] >> MESSAGE_STEP_SHIFT), p);
  }
  return SBAG_OK;
}

/* ---- packing ---- */

typedef struct packing {
  route_t *r;
  int owner;
  char *to; /* the message */
  int64_t tasks;
} packing_t;

static int64_t key_range_begin(const route_t *r, int owner, int table) {
  return r->class_begin[((int64_t)owner * r->x->tables + table) * CLASSES];
}

static void pack_weights(packing_t *p, const segment_t *s) {
  route_t *r = p->r;
  kernel_t *k = r->x->c.kernel;
  int64_t edge = list_at(r, s->phase)->edge_block[(int64_t)p->owner * r->x->features + s->index];
  k->ops->gather_real(k, NULL, r->x->c.store->dtype, real_of(r, BUF_WEIGHT),
                      list_i64(r, s->phase, LIST_ORDER) + edge, s->count, p->to + s->at);
}

static void pack_segment(const segment_t *s, void *context) {
  packing_t *p = context;
  route_t *r = p->r;
  exchange_t *x = r->x;
  int64_t block = (int64_t)p->owner * x->features + s->index;
  const pool_list_t *list = list_at(r, s->phase);
  pack_task_t task = {.count = s->count,
                      .range = s->range,
                      .ascending = s->ascending,
                      .words = (uint64_t *)(void *)(p->to + s->at)};
  switch (s->part) {
  case PART_KEYS:
    task.from =
        i64_of(r, BUF_KEY) + r->class_begin[((int64_t)p->owner * x->tables + s->index) * CLASSES + s->class];
    task.base = plan_block_key(x->c.plan, p->owner, s->index);
    break;
  case PART_TOUCH:
    task.from = i64_of(r, BUF_TOUCH_DISTINCT) + r->touch_begin[p->owner];
    task.base = plan_rank_key(x->c.plan, p->owner);
    break;
  case PART_RUNS:
    task.from = list_i64(r, s->phase, LIST_RUN_BEGIN) + list->run_block[block];
    task.base = list->edge_block[block];
    break;
  case PART_SHIFTS:
    task.from = list_i64(r, s->phase, LIST_SHIFT) + list->run_block[block];
    break;
  case PART_BAGS:
    task.from = list_i64(r, s->phase, LIST_RUN_SLOT) + list->run_block[block];
    task.base = s->index * r->bag_count;
    break;
  case PART_EDGES:
    task.from = i64_of(r, BUF_WHICH);
    task.index = list_i64(r, s->phase, LIST_ORDER) + list->edge_block[block];
    task.base = key_range_begin(r, p->owner, x->feature_table[s->index]);
    break;
  case PART_WEIGHTS:
    pack_weights(p, s);
    return;
  }
  if (s->bytes > 0) r->packs[p->tasks++] = task;
}

/* Of what is this rank's own: the keys, which are not kept for so long. */
static void keep_segment(const segment_t *s, void *context) {
  packing_t *p = context;
  route_t *r = p->r;
  exchange_t *x = r->x;
  const int64_t *from = i64_of(r, BUF_TOUCH_DISTINCT) + r->touch_begin[p->owner];
  if (s->bytes == 0) return;
  if (s->part == PART_KEYS)
    from =
        i64_of(r, BUF_KEY) + r->class_begin[((int64_t)p->owner * x->tables + s->index) * CLASSES + s->class];
  x->c.kernel->ops->gather_i64(x->c.kernel, NULL, from, NULL, s->count, 0,
                               (int64_t *)(void *)(p->to + s->at));
}

sbag_code_t route_pack_ids(route_t *r, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  void *out;
  count_words(r);
  r->ids_out[0] = 0;
  for (int p = 0; p < r->x->ranks; p++)
    r->ids_out[p + 1] = r->ids_out[p] + walk(r, route_words(r, r->out, p), r->x->rank, p, NULL, NULL);
  SBAG_TRY(route_take_bytes(r, BUF_IDS_OUT, r->ids_out[r->x->ranks], &out, status));
  for (int p = 0; p < r->x->ranks; p++) {
    packing_t packing = {.r = r, .owner = p, .to = (char *)out + r->ids_out[p]};
    walk(r, route_words(r, r->out, p), r->x->rank, p, p == r->x->rank ? keep_segment : pack_segment,
         &packing);
    k->ops->pack(k, NULL, r->packs, packing.tasks);
  }
  return SBAG_OK;
}

sbag_code_t route_send_counts(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  /* Ids are prepared before the counts, so that a rank without memory for them can still say so to all. */
  if (r->local == SBAG_OK) r->local = route_pack_ids(r, &r->local_status);
  set_headers(r);
  for (int p = 0; p < x->ranks; p++) {
    int64_t bytes = r->words_used * (int64_t)sizeof(int64_t);
    r->send[p] = (comm_part_t){route_words(r, r->out, p), bytes};
    r->recv[p] = (comm_part_t){route_words(r, r->in, p), bytes};
  }
  return route_exchange_begin(r, status);
}

/* ---- ids ---- */

/* Ranges of what will come in, by peer, and by (peer, table) or (peer, feature). */
static void place_incoming(route_t *r) {
  const exchange_t *x = r->x;
  int64_t key = 0;
  r->in_touch[0] = r->ids_in[0] = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = route_words(r, r->in, p);
    for (int t = 0; t < x->tables; t++) {
      r->in_key[(int64_t)p * x->tables + t] = key;
      key += words_keys(r, words, t);
    }
    r->in_touch[p + 1] = r->in_touch[p] + words[WORD_TOUCH];
    r->ids_in[p + 1] = r->ids_in[p] + (p == x->rank ? 0 : walk(r, words, p, x->rank, NULL, NULL));
  }
  r->in_key[(int64_t)x->ranks * x->tables] = key;
  for (int l = 0; l < r->lists; l++) {
    pool_list_t *list = in_list_at(r, (phase_t)l);
    int64_t run = 0, edge = 0, groups = (int64_t)x->ranks * x->features;
    for (int64_t g = 0; g < groups; g++) {
      const int64_t *words = route_words(r, r->in, (int)(g / x->features));
      list->run_block[g] = run;
      list->edge_block[g] = edge;
      run += words_runs(r, words, (phase_t)l, (int)(g % x->features));
      edge += words_edges(r, words, (phase_t)l, (int)(g % x->features));
    }
    list->run_block[groups] = run;
    list->edge_block[groups] = edge;
  }
}

sbag_code_t route_agree(route_t *r, sbag_status_t *status) {
  sbag_status_t cause = r->local_status;
  sbag_code_t code = comm_agree(r->x->c.comm, r->local, &cause);
  if (status != NULL && code != SBAG_OK) *status = cause;
  return code;
}

sbag_code_t route_send_ids(route_t *r, int *agreed, sbag_status_t *status) {
  exchange_t *x = r->x;
  void *in;
  int any = 0;
  SBAG_TRY(route_wait(r, "forward: counts", status));
  for (int p = 0; p < x->ranks; p++) any |= route_words(r, r->in, p)[WORD_CODE] != SBAG_OK;
  if (any) {
    *agreed = 1;
    return route_agree(r, status);
  }
  SBAG_TRY(check_counts(r, status));
  place_incoming(r);
  dense_agree(r);
  SBAG_TRY(route_take_bytes(r, BUF_IDS_IN, r->ids_in[x->ranks], &in, status));
  for (int p = 0; p < x->ranks; p++) {
    r->send[p] = (comm_part_t){(char *)real_of(r, BUF_IDS_OUT) + r->ids_out[p],
                               p == x->rank ? 0 : r->ids_out[p + 1] - r->ids_out[p]};
    r->recv[p] = (comm_part_t){(char *)in + r->ids_in[p], r->ids_in[p + 1] - r->ids_in[p]};
    if (p != x->rank) r->ids_sent += r->send[p].bytes + r->words_used * (int64_t)sizeof(int64_t);
  }
  return route_exchange_begin(r, status);
}

/* ---- unpacking ---- */

typedef struct unpacking {
  route_t *r;
  int peer;
  const char *from;
  int64_t tasks;
  int64_t class_at; /* keys of this peer's table so far */
  int table;
} unpacking_t;

/* Where keys of a table and class go, in the order of the walk. */
static int64_t *take_keys(unpacking_t *u, const segment_t *s) {
  if (u->table != s->index) u->class_at = 0;
  u->table = s->index;
  u->class_at += s->count;
  return i64_of(u->r, BUF_IN_KEY) + u->r->in_key[(int64_t)u->peer * u->r->x->tables + s->index] +
         u->class_at - s->count;
}

static int64_t *touch_at(const unpacking_t *u) {
  const route_t *r = u->r;
  return i64_of(r, BUF_IN_KEY) + r->in_key[(int64_t)r->x->ranks * r->x->tables] + r->in_touch[u->peer];
}

static void unpack_segment(const segment_t *s, void *context) {
  unpacking_t *u = context;
  route_t *r = u->r;
  exchange_t *x = r->x;
  int64_t block = (int64_t)u->peer * x->features + s->index;
  const pool_list_t *list = in_list_at(r, s->phase);
  unpack_task_t task = {.count = s->count,
                        .range = s->range,
                        .ascending = s->ascending,
                        .words = (const uint64_t *)(const void *)(u->from + s->at)};
  switch (s->part) {
  case PART_KEYS:
    task.to = take_keys(u, s);
    task.base = plan_block_key(x->c.plan, x->rank, s->index);
    break;
  case PART_TOUCH:
    task.to = touch_at(u);
    task.base = plan_rank_key(x->c.plan, x->rank);
    break;
  case PART_RUNS:
    task.to = in_i64(r, s->phase, IN_RUN_BEGIN) + list->run_block[block];
    task.base = list->edge_block[block];
    break;
  case PART_SHIFTS:
    task.to = in_i64(r, s->phase, IN_SHIFT) + list->run_block[block];
    break;
  case PART_BAGS:
    task.to = in_i64(r, s->phase, IN_RUN_BAG) + list->run_block[block];
    break;
  case PART_EDGES:
    task.to = in_i64(r, s->phase, IN_EDGE) + list->edge_block[block];
    task.base = r->in_key[(int64_t)u->peer * x->tables + x->feature_table[s->index]];
    break;
  case PART_WEIGHTS: {
    kernel_t *k = x->c.kernel;
    void *to = real_at(x, real_of(r, in_buffer(r, s->phase, IN_WEIGHT)), list->edge_block[block]);
    copy_part_t part = {to, u->from + s->at, s->count * x->real_bytes};
    k->ops->copy(k, NULL, &part, 1);
    return;
  }
  }
  r->unpacks[u->tasks++] = task;
}

/* The same of what is this rank's own. */
static void take_segment(const segment_t *s, void *context) {
  unpacking_t *u = context;
  route_t *r = u->r;
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t block = (int64_t)u->peer * x->features + s->index, *to = NULL, add = 0;
  const pool_list_t *in = in_list_at(r, s->phase), *out = list_at(r, s->phase);
  const int64_t *from = NULL, *index = NULL;
  switch (s->part) {
  case PART_KEYS:
  case PART_TOUCH:
    from = (const int64_t *)(const void *)(u->from + s->at);
    to = s->part == PART_TOUCH ? touch_at(u) : take_keys(u, s);
    break;
  case PART_RUNS:
    from = list_i64(r, s->phase, LIST_RUN_BEGIN) + out->run_block[block];
    to = in_i64(r, s->phase, IN_RUN_BEGIN) + in->run_block[block];
    add = in->edge_block[block] - out->edge_block[block];
    break;
  case PART_SHIFTS:
    from = list_i64(r, s->phase, LIST_SHIFT) + out->run_block[block];
    to = in_i64(r, s->phase, IN_SHIFT) + in->run_block[block];
    break;
  case PART_BAGS:
    from = list_i64(r, s->phase, LIST_RUN_SLOT) + out->run_block[block];
    to = in_i64(r, s->phase, IN_RUN_BAG) + in->run_block[block];
    add = -s->index * r->bag_count;
    break;
  case PART_EDGES:
    from = i64_of(r, BUF_WHICH);
    index = list_i64(r, s->phase, LIST_ORDER) + out->edge_block[block];
    to = in_i64(r, s->phase, IN_EDGE) + in->edge_block[block];
    add = r->in_key[(int64_t)u->peer * x->tables + x->feature_table[s->index]] -
          key_range_begin(r, u->peer, x->feature_table[s->index]);
    break;
  case PART_WEIGHTS:
    k->ops->gather_real(k, NULL, x->c.store->dtype, real_of(r, BUF_WEIGHT),
                        list_i64(r, s->phase, LIST_ORDER) + out->edge_block[block], s->count,
                        real_at(x, real_of(r, in_buffer(r, s->phase, IN_WEIGHT)), in->edge_block[block]));
    return;
  }
  k->ops->gather_i64(k, NULL, from, index, s->count, add, to);
}

static sbag_code_t take_list(route_t *r, phase_t phase, sbag_status_t *status) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  int64_t groups = (int64_t)x->ranks * x->features, *p;
  int64_t runs = in_list_at(r, phase)->run_block[groups], edges = in_list_at(r, phase)->edge_block[groups];
  void *weight;
  SBAG_TRY(route_take_i64(r, in_buffer(r, phase, IN_RUN_BEGIN), runs + 1, &p, status));
  k->ops->fill_i64(k, NULL, p + runs, 1, edges, 0);
  SBAG_TRY(route_take_i64(r, in_buffer(r, phase, IN_RUN_BAG), r->any_offer ? runs : 0, &p, status));
  SBAG_TRY(route_take_i64(r, in_buffer(r, phase, IN_EDGE), edges, &p, status));
  SBAG_TRY(route_take_i64(r, in_buffer(r, phase, IN_PLACE), x->any_max ? edges : 0, &p, status));
  return route_take_real(r, in_buffer(r, phase, IN_WEIGHT), r->in_weighted ? edges : 0, &weight, status);
}

/* Weights of peers that sent none, where others did. */
static void fill_missing_weights(route_t *r, phase_t phase) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const int64_t *block = in_list_at(r, phase)->edge_block;
  for (int p = 0; p < x->ranks; p++) {
    int64_t first = block[(int64_t)p * x->features], end = block[(int64_t)(p + 1) * x->features];
    if (!(route_words(r, r->in, p)[WORD_FLAGS] & MESSAGE_WEIGHTS))
      k->ops->fill_real(k, NULL, x->c.store->dtype,
                        real_at(x, real_of(r, in_buffer(r, phase, IN_WEIGHT)), first), end - first, 1);
  }
}

static void find_places(route_t *r, phase_t phase) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  run_places_t runs = {.end = in_list_at(r, phase)->run_block[(int64_t)x->ranks * x->features],
                       .run_begin = in_i64(r, phase, IN_RUN_BEGIN),
                       .shift = in_i64(r, phase, IN_SHIFT)};
  k->ops->edge_places(k, NULL, &runs, in_i64(r, phase, IN_PLACE));
}

static sbag_code_t take_shifts(route_t *r, phase_t phase, sbag_status_t *status) {
  kernel_t *k = r->x->c.kernel;
  int64_t runs = in_list_at(r, phase)->run_block[(int64_t)r->x->ranks * r->x->features], *shift;
  SBAG_TRY(route_take_i64(r, in_buffer(r, phase, IN_SHIFT), runs, &shift, status));
  k->ops->fill_i64(k, NULL, shift, runs, 0, 0);
  return SBAG_OK;
}

static void unpack_messages(route_t *r) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  for (int p = 0; p < x->ranks; p++) {
    unpacking_t u = {
        .r = r, .peer = p, .from = (const char *)real_of(r, BUF_IDS_IN) + r->ids_in[p], .table = -1};
    if (p == x->rank) u.from = (const char *)real_of(r, BUF_IDS_OUT) + r->ids_out[p];
    walk(r, route_words(r, r->in, p), p, x->rank, p == x->rank ? take_segment : unpack_segment, &u);
    k->ops->unpack(k, NULL, r->unpacks, u.tasks);
  }
}

sbag_code_t route_take_ids(route_t *r, sbag_status_t *status) {
  exchange_t *x = r->x;
  int64_t *key;
  SBAG_TRY(route_wait(r, "forward: ids", status));
  r->in_weighted = 0;
  for (int p = 0; p < x->ranks; p++)
    r->in_weighted |= (route_words(r, r->in, p)[WORD_FLAGS] & MESSAGE_WEIGHTS) != 0;
  SBAG_TRY(route_take_i64(r, BUF_IN_KEY, r->in_key[(int64_t)x->ranks * x->tables] + r->in_touch[x->ranks],
                          &key, status));
  for (int l = 0; l < r->lists; l++) SBAG_TRY(take_list(r, (phase_t)l, status));
  for (int l = 0; x->any_max && l < r->lists; l++) SBAG_TRY(take_shifts(r, (phase_t)l, status));
  unpack_messages(r);
  for (int l = 0; l < r->lists; l++) {
    if (r->in_weighted) fill_missing_weights(r, (phase_t)l);
    if (x->any_max) find_places(r, (phase_t)l);
  }
  return SBAG_OK;
}
