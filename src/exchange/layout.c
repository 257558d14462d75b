/* Where vectors and positions stand in the messages between a requester and its owners. Both sides compute it
 * from the same counts. */
#include "exchange/route.h"

int layout_travels(const route_t *r, int table, int phase) {
  const store_table_t *t = &r->x->c.store->tables[table];
  if (phase == PHASE_FORWARD) return t->mirror == NULL;
  return t->trainable || (r->flags & SBAG_FORWARD_WEIGHT_GRADS);
}

static int64_t place_rows(const route_t *r, const int64_t *words, int phase, int64_t element,
                          int64_t *vector_at, int64_t *vectors) {
  const exchange_t *x = r->x;
  for (int t = 0; t < x->tables; t++) {
    vector_at[t] = element;
    if (!layout_travels(r, t, phase)) continue;
    element += words_keys(words, t) * x->c.store->tables[t].dim;
    *vectors += words_keys(words, t);
  }
  return element;
}

static int64_t place_pools(const route_t *r, const int64_t *words, int phase, int64_t element,
                           int64_t *vector_at, int64_t *vectors) {
  const exchange_t *x = r->x;
  for (int f = 0; f < x->c.feature_count; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    vector_at[f] = element;
    if (!layout_travels(r, feature->table, phase)) continue;
    element += words_runs(r, words, f) * feature->dim;
    *vectors += words_runs(r, words, f);
  }
  return element;
}

static int64_t place_positions(const route_t *r, const int64_t *words, int phase, int64_t word,
                               int64_t *position_at) {
  const exchange_t *x = r->x;
  for (int f = 0; f < x->c.feature_count; f++) {
    const exchange_feature_t *feature = &x->c.features[f];
    position_at[f] = word;
    if (feature->mode == SBAG_MAX && layout_travels(r, feature->table, phase))
      word += words_runs(r, words, f) * feature->dim;
  }
  return word;
}

void layout_make(const route_t *r, const int64_t *counts, int phase, layout_t *layout) {
  const exchange_t *x = r->x;
  int64_t pools_flag = phase == PHASE_FORWARD ? PEER_FORWARD_POOLS : PEER_BACKWARD_POOLS;
  int64_t at = 0;
  layout->vectors = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = counts + (int64_t)p * r->words;
    int64_t *vector_at = layout->vector_at + p * layout_stride(x), vectors = 0;
    int64_t element = at / x->real_bytes, end;
    layout->begin[p] = at;
    if (words[WORD_FLAGS] & pools_flag) {
      end = place_pools(r, words, phase, element, vector_at, &vectors);
      end = round8(end * x->real_bytes) / 8;
      end = 8 * place_positions(r, words, phase, end, layout->position_at + (int64_t)p * x->c.feature_count);
    } else {
      end = place_rows(r, words, phase, element, vector_at, &vectors);
      end = round8(end * x->real_bytes);
    }
    layout->bytes[p] = end - at;
    if (p != x->rank) layout->vectors += vectors;
    at = end;
  }
  layout->begin[x->ranks] = at;
}

sbag_code_t layout_exchange_begin(route_t *r, const layout_t *out, void *from, const layout_t *in, void *to,
                                  sbag_status_t *status) {
  for (int p = 0; p < r->x->ranks; p++) {
    r->send[p] = (comm_part_t){(char *)from + out->begin[p], out->bytes[p]};
    r->recv[p] = (comm_part_t){(char *)to + in->begin[p], in->bytes[p]};
  }
  return route_exchange_begin(r, status);
}

sbag_code_t route_exchange_begin(route_t *r, sbag_status_t *status) {
  comm_t *comm = r->x->c.comm;
  SBAG_TRY(r->x->c.kernel->ops->stream_sync(r->x->c.kernel, NULL, status));
  for (int p = 0; p < r->x->ranks; p++) {
    if (p == r->x->rank) continue;
    r->bytes_sent += r->send[p].bytes;
    r->bytes_received += r->recv[p].bytes;
  }
  return comm->ops->exchange_begin(comm, r->send, r->recv, &r->request, status);
}
