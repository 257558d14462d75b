/* From a batch of bags to edges, and from winning edges back to index values.
 *
 * In waves of features. Their offsets are checked; then their entries, cut into pieces of whole bags: where
 * nothing is out of range and nothing is padding, which is the usual case, a feature is *plain*. Now each
 * piece knows how many edges stand before it, and all can write beside each other. */
#include "kernel/cpu.h"
#include "kernel/cpu_check.h"

enum { WAVE_FEATURES = 64, PIECES = 8 /* of a feature at most */, PIECE_LEAST = 1 << 14 /* entries */ };
enum { THREADED_LEAST = 1 << 15 /* entries of a batch: below, threads cost more than they give */ };

typedef struct piece {
  int feature;
  int64_t bag, bag_end, entry, entry_end;
  int64_t bad, padding;             /* its entries out of range, and its padding entries */
  int64_t first_entry, edge, touch; /* how many stand before it: entries of features, edges, touched rows */
  int64_t longest;                  /* of its bags, in edges */
} piece_t;

typedef struct wave {
  const edges_request_t *request;
  edges_info_t *info;
  const check_isa_t *check;
  int first, features;     /* of the request */
  int fine[WAVE_FEATURES]; /* offsets */
  int plain[WAVE_FEATURES];
  int64_t longest[WAVE_FEATURES]; /* entries of its longest bag */
  piece_t piece[WAVE_FEATURES * PIECES];
  int pieces;
} wave_t;

static int set_fault(edges_info_t *info, edges_fault_t fault, int feature, int64_t position, int64_t value) {
  *info = (edges_info_t){
      .fault = fault, .fault_feature = feature, .fault_position = position, .fault_value = value};
  return 0;
}

static int64_t bag_begin(const sbag_bags_t *bags, int64_t bag_count, int64_t bag) {
  if (bags->offsets == NULL) return bag * bags->bag_length;
  if (bag == bag_count && !bags->include_last_offset) return bags->index_count;
  return cpu_index_at(bags->index_type, bags->offsets, bag);
}

/* ---- offsets ---- */

/* torch's rules for offsets (and ours where its message is an internal error). */
static int name_offset_fault(const sbag_bags_t *bags, int feature, edges_info_t *info) {
  int64_t before = 0;
  for (int64_t b = 0; b < bags->offset_count; b++) {
    int64_t offset = cpu_index_at(bags->index_type, bags->offsets, b);
    edges_fault_t fault = EDGES_FINE;
    if (b == 0 && offset != 0)
      fault = EDGES_FIRST_OFFSET;
    else if (offset < before)
      fault = EDGES_OFFSET_FALLS;
    else if (offset > bags->index_count)
      fault = EDGES_OFFSET_TOO_BIG;
    if (fault != EDGES_FINE) {
      set_fault(info, fault, feature, b, offset);
      info->fault_before = before;
      return 0;
    }
    before = offset;
  }
  return set_fault(info, EDGES_LAST_OFFSET, feature, bags->offset_count - 1, before);
}

static int check_offsets(const wave_t *w, const sbag_bags_t *bags, int64_t *longest) {
  int64_t bag_count = w->request->bag_count;
  *longest = bags->offsets == NULL && bag_count > 0 ? bags->bag_length : 0;
  if (bags->offsets == NULL || bags->offset_count == 0) return 1;
  int fine = w->check->offsets(bags, longest);
  if (!fine || bags->include_last_offset || bag_count == 0) return fine;
  int64_t last = bags->index_count - bag_begin(bags, bag_count, bag_count - 1);
  *longest = last > *longest ? last : *longest;
  return 1;
}

/* ---- pieces ---- */

/* The first bag that begins at this entry or behind it. */
static int64_t bag_from(const sbag_bags_t *bags, int64_t bag_count, int64_t entry) {
  int64_t low = 0, high = bag_count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (bag_begin(bags, bag_count, middle) < entry)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static void cut_feature(wave_t *w, int f, int threads) {
  const sbag_bags_t *bags = &w->request->features[f].bags;
  int64_t count = w->request->bag_count, entries = count > 0 ? bag_begin(bags, count, count) : 0;
  int64_t pieces = threads > 1 ? entries / PIECE_LEAST + 1 : 1, bag = 0;
  if (pieces > PIECES) pieces = PIECES;
  for (int64_t p = 1; p <= pieces; p++) {
    int64_t end = p < pieces ? bag_from(bags, count, entries / pieces * p) : count;
    if (end > bag)
      w->piece[w->pieces++] = (piece_t){.feature = f,
                                        .bag = bag,
                                        .bag_end = end,
                                        .entry = bag_begin(bags, count, bag),
                                        .entry_end = bag_begin(bags, count, end)};
    bag = end;
  }
}

static void check_piece(const wave_t *w, piece_t *p) {
  w->check->entries(&w->request->features[p->feature], p->entry, p->entry_end, &p->bad, &p->padding);
}

static int name_index_fault(const edges_request_t *r, const piece_t *p, edges_info_t *info) {
  const edges_feature_t *f = &r->features[p->feature];
  for (int64_t i = p->entry; i < p->entry_end; i++) {
    int64_t row = cpu_index_at(f->bags.index_type, f->bags.indices, i);
    if (row < 0 || row >= f->num_embeddings) return set_fault(info, EDGES_OUT_OF_RANGE, p->feature, i, row);
  }
  return 1;
}

/* The first fault of the wave, or what stands before each piece. */
static int place_pieces(wave_t *w, int64_t *first_entry) {
  const edges_request_t *r = w->request;
  edges_info_t *info = w->info;
  piece_t *p = w->piece, *end = p + w->pieces;
  for (int f = 0; f < w->features; f++) {
    const edges_feature_t *feature = &r->features[w->first + f];
    if (!w->fine[f]) return name_offset_fault(&feature->bags, w->first + f, info);
    w->plain[f] = 1;
    for (; p < end && p->feature == w->first + f; p++) {
      if (p->bad > 0 && !r->drop) return name_index_fault(r, p, info);
      p->first_entry = *first_entry;
      p->edge = info->edge_count;
      p->touch = info->touch_count;
      w->plain[f] &= p->bad + p->padding == 0;
      info->edge_count += p->entry_end - p->entry - p->bad - p->padding;
      info->touch_count += feature->touch_padding ? p->padding : 0;
      info->dropped += p->bad;
    }
    *first_entry += feature->bags.index_count;
  }
  return 1;
}

/* ---- what is written ---- */

/* Four at a time: what is too much the next bag overwrites, within the piece. */
static inline void write_slots(sbag_index_t type, const edges_request_t *r, const piece_t *p) {
  enum { AT_ONCE = 4 };
  const sbag_bags_t *bags = &r->features[p->feature].bags;
  int64_t slot = p->feature * r->bag_count, *to = r->slot + p->edge - p->entry, i = p->entry;
  for (int64_t b = p->bag; b < p->bag_end; b++) {
    int64_t end = bags->offsets == NULL ? (b + 1) * bags->bag_length
                  : b + 1 < p->bag_end  ? cpu_index_at(type, bags->offsets, b + 1)
                                        : p->entry_end;
    if (i + AT_ONCE <= p->entry_end)
      for (int64_t n = 0; n < AT_ONCE; n++) to[i + n] = slot + b;
    else
      for (int64_t n = i; n < end; n++) to[n] = slot + b;
    for (i += AT_ONCE; i < end; i++) to[i] = slot + b;
    i = end;
  }
}

/* Every entry is an edge. */
static void write_plain(const edges_request_t *r, piece_t *p) {
  const edges_feature_t *f = &r->features[p->feature];
  const sbag_bags_t *bags = &f->bags;
  int64_t count = p->entry_end - p->entry, slot = p->feature * r->bag_count, before = p->edge - p->entry;
  if (r->slot_begin != NULL)
    for (int64_t b = p->bag; b < p->bag_end; b++)
      r->slot_begin[slot + b] = before + bag_begin(bags, r->bag_count, b);
  if (r->slot != NULL && bags->index_type == SBAG_I32) write_slots(SBAG_I32, r, p);
  if (r->slot != NULL && bags->index_type != SBAG_I32) write_slots(SBAG_I64, r, p);
  if (r->key != NULL) cpu_keys(f->plan, bags->index_type, bags->indices, p->entry, count, r->key + p->edge);
  if (r->row != NULL)
    for (int64_t i = 0; i < count; i++)
      r->row[p->edge + i] = cpu_index_at(bags->index_type, bags->indices, p->entry + i);
  if (r->entry != NULL)
    for (int64_t i = 0; i < count; i++) r->entry[p->edge + i] = p->first_entry + p->entry + i;
}

/* Its keys are rows at first; rows to be touched likewise. */
static void write_mixed(const edges_request_t *r, piece_t *p) {
  const edges_feature_t *f = &r->features[p->feature];
  const sbag_bags_t *bags = &f->bags;
  int64_t edge = p->edge, touch = p->touch, i = p->entry;
  for (int64_t b = p->bag; b < p->bag_end; b++) {
    int64_t end = bag_begin(bags, r->bag_count, b + 1), first = edge, slot = p->feature * r->bag_count + b;
    if (r->slot_begin != NULL) r->slot_begin[slot] = edge;
    for (; i < end; i++) {
      int64_t row = cpu_index_at(bags->index_type, bags->indices, i);
      if (row < 0 || row >= f->num_embeddings) continue;
      if (row == f->padding_idx) {
        if (f->touch_padding && r->touch != NULL) r->touch[touch++] = row;
        continue;
      }
      if (r->key != NULL) r->key[edge] = row;
      if (r->row != NULL) r->row[edge] = row;
      if (r->slot != NULL) r->slot[edge] = slot;
      if (r->entry != NULL) r->entry[edge] = p->first_entry + i;
      edge++;
    }
    p->longest = edge - first > p->longest ? edge - first : p->longest;
  }
  if (r->key != NULL) cpu_keys_in_place(f->plan, edge - p->edge, r->key + p->edge);
  if (r->touch != NULL) cpu_keys_in_place(f->plan, touch - p->touch, r->touch + p->touch);
}

/* ---- the op ---- */

static void write_piece(const wave_t *w, piece_t *p) {
  if (w->plain[p->feature - w->first])
    write_plain(w->request, p);
  else
    write_mixed(w->request, p);
}

static int do_wave(wave_t *w, int threads, int64_t *first_entry) {
  const edges_request_t *r = w->request;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (int f = 0; f < w->features; f++)
    w->fine[f] = check_offsets(w, &r->features[w->first + f].bags, &w->longest[f]);
  w->pieces = 0;
  for (int f = 0; f < w->features && w->fine[f]; f++) cut_feature(w, w->first + f, threads);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (int i = 0; i < w->pieces; i++) check_piece(w, &w->piece[i]);
  if (!place_pieces(w, first_entry)) return 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (int i = 0; i < w->pieces; i++) write_piece(w, &w->piece[i]);
  for (int f = 0; f < w->features; f++)
    if (w->plain[f] && w->longest[f] > w->info->longest) w->info->longest = w->longest[f];
  for (int i = 0; i < w->pieces; i++)
    if (w->piece[i].longest > w->info->longest) w->info->longest = w->piece[i].longest;
  return 1;
}

void cpu_edges_build(kernel_t *k, kernel_stream_t *stream, const edges_request_t *request,
                     edges_info_t *info) {
  wave_t wave;
  int64_t entries = 0, first_entry = 0;
  (void)stream;
  *info = (edges_info_t){0};
  for (int f = 0; f < request->feature_count; f++) entries += request->features[f].bags.index_count;
  int threads = entries < THREADED_LEAST ? 1 : k->threads;
  wave.request = request;
  wave.info = info;
  wave.check = check_for(k->isa);
  for (int f = 0; f < request->feature_count; f += wave.features) {
    int left = request->feature_count - f;
    wave.first = f;
    wave.features = left < WAVE_FEATURES ? left : WAVE_FEATURES;
    if (!do_wave(&wave, threads, &first_entry)) return;
  }
  if (request->slot_begin != NULL)
    request->slot_begin[request->feature_count * request->bag_count] = info->edge_count;
  for (int64_t i = info->edge_count; request->pad != 0 && i < entries; i++) {
    if (request->key != NULL) request->key[i] = request->pad;
    if (request->slot != NULL) request->slot[i] = 0;
  }
  info->plain = info->edge_count == entries;
}

void cpu_winner_rows(kernel_t *k, kernel_stream_t *stream, const sbag_bags_t *bags, int64_t first_entry,
                     const int64_t *slot_begin, int64_t bag_count, int64_t dim, const int64_t *entry,
                     const int64_t *position, int64_t stride, int64_t *to) {
  (void)k, (void)stream;
  for (int64_t b = 0; b < bag_count; b++) {
    for (int64_t c = 0; c < dim; c++) {
      int64_t at = position[b * stride + c];
      to[b * dim + c] =
          at < 0 ? 0 : cpu_index_at(bags->index_type, bags->indices, entry[slot_begin[b] + at] - first_entry);
    }
  }
}
