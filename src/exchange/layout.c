/* Where vectors stand in the messages between a requester and its owners, and their way: filled, narrowed
 * where the wire is, sent, widened. Both sides compute the layout from the same counts.
 *
 * Vectors have a buffer of their own (f32 or f64) only where the wire is narrow; else the messages are that
 * buffer. This rank's own vectors are written where they will be read, and are never narrowed. */
#include "exchange/route.h"

static int narrow(const exchange_t *x) {
  return x->wire_bytes != x->real_bytes;
}

/* One peer's rows and pools from `element` on; returns the element behind them. */
static int64_t place_vectors(const route_t *r, const int64_t *words, phase_t phase, int peer, int64_t element,
                             layout_t *l, int64_t *vectors) {
  const exchange_t *x = r->x;
  for (int t = 0; t < x->tables; t++) {
    int64_t skipped, rows = route_travels(r, t, phase) ? words_rows(r, words, t, phase, &skipped) : 0;
    l->row_at[(int64_t)peer * x->tables + t] = element;
    element += rows * x->c.store->tables[t].dim;
    *vectors += rows;
  }
  for (int f = 0; f < x->features; f++) {
    int t = x->feature_table[f];
    int sparse = phase == BACKWARD || !r->dense[t];
    int64_t runs = sparse && route_travels(r, t, phase) ? words_runs(r, words, phase, f) : 0;
    l->pool_at[(int64_t)peer * x->features + f] = element;
    element += runs * x->c.features[f].dim;
    *vectors += runs;
  }
  return element;
}

/* Places of max pools: their offsets among all, and the bytes that they take in the message. */
static int64_t place_places(const route_t *r, const int64_t *words, phase_t phase, int peer, layout_t *l) {
  const exchange_t *x = r->x;
  int64_t bytes = 0;
  for (int f = 0; f < x->features; f++) {
    l->place_at[(int64_t)peer * x->features + f] = l->places;
    if (x->mode[f] != SBAG_MAX || !route_travels(r, x->feature_table[f], phase)) continue;
    int64_t places = words_runs(r, words, phase, f) * x->c.features[f].dim;
    l->places += places;
    bytes += round8(places * route_place_width(words[WORD_LONGEST]));
  }
  return bytes;
}

void layout_make(const route_t *r, const int64_t *counts, phase_t phase, layout_t *l) {
  const exchange_t *x = r->x;
  int64_t element = 0;
  l->vectors = l->places = l->message_bytes = 0;
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = counts + (int64_t)p * r->words;
    int64_t vectors = 0, end = place_vectors(r, words, phase, p, element, l, &vectors);
    int64_t place_bytes = place_places(r, words, phase, p, l);
    l->begin[p] = element;
    l->elements[p] = end - element;
    l->message[p] = narrow(x) ? l->message_bytes : element * x->real_bytes;
    l->bytes[p] = round8((end - element) * x->wire_bytes) + place_bytes;
    element = narrow(x) ? end : (l->message[p] + l->bytes[p]) / x->real_bytes;
    if (p == x->rank) continue;
    l->message_bytes = l->message[p] + l->bytes[p];
    l->vectors += vectors;
  }
  l->begin[x->ranks] = element;
}

sbag_code_t layout_take(route_t *r, phase_t phase, int out_buffer, int in_buffer, sbag_status_t *status) {
  layout_t *out = &r->layout_out[phase], *in = &r->layout_in[phase];
  const int64_t *to = phase == FORWARD ? r->in : r->out, *from = phase == FORWARD ? r->out : r->in;
  int64_t *places;
  void *data;
  layout_make(r, to, phase, out);
  layout_make(r, from, phase, in);
  r->vectors_out = out_buffer;
  r->vectors_in = in_buffer;
  SBAG_TRY(route_take_real(r, out_buffer, out->begin[r->x->ranks], &data, status));
  SBAG_TRY(route_take_real(r, in_buffer, in->begin[r->x->ranks], &data, status));
  SBAG_TRY(route_take_i64(r, BUF_PLACES_OUT, out->places, &places, status));
  SBAG_TRY(route_take_i64(r, BUF_PLACES_IN, in->places, &places, status));
  if (!narrow(r->x)) return SBAG_OK;
  SBAG_TRY(route_take_bytes(r, BUF_MESSAGES_OUT, out->message_bytes, &data, status));
  return route_take_bytes(r, BUF_MESSAGES_IN, in->message_bytes, &data, status);
}

void *layout_target(const route_t *r, phase_t phase, int peer, const layout_t **layout) {
  int self = peer == r->x->rank;
  *layout = self ? &r->layout_in[phase] : &r->layout_out[phase];
  return real_of(r, self ? r->vectors_in : r->vectors_out);
}

int64_t *layout_places(const route_t *r, int peer) {
  return i64_of(r, peer == r->x->rank ? BUF_PLACES_IN : BUF_PLACES_OUT);
}

/* The places' parts of the messages, to or from the buffer of places. */
static void move_places(route_t *r, phase_t phase, int receives) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const layout_t *l = receives ? &r->layout_in[phase] : &r->layout_out[phase];
  const int64_t *counts = (phase == FORWARD) == receives ? r->out : r->in;
  char *messages = real_of(r, narrow(x) ? (receives ? BUF_MESSAGES_IN : BUF_MESSAGES_OUT)
                                        : (receives ? r->vectors_in : r->vectors_out));
  for (int p = 0; p < x->ranks; p++) {
    const int64_t *words = counts + (int64_t)p * r->words;
    char *at = messages + l->message[p] + round8(l->elements[p] * x->wire_bytes);
    int width = route_place_width(words[WORD_LONGEST]);
    for (int f = 0; p != x->rank && f < x->features; f++) {
      if (x->mode[f] != SBAG_MAX || !route_travels(r, x->feature_table[f], phase)) continue;
      int64_t places = words_runs(r, words, phase, f) * x->c.features[f].dim;
      int64_t *plain =
          i64_of(r, receives ? BUF_PLACES_IN : BUF_PLACES_OUT) + l->place_at[(int64_t)p * x->features + f];
      if (receives)
        k->ops->widen_i64(k, NULL, at, places, width, plain);
      else
        k->ops->narrow_i64(k, NULL, plain, places, width, at);
      at += round8(places * width);
    }
  }
}

static void move_vectors(route_t *r, phase_t phase, int receives) {
  exchange_t *x = r->x;
  kernel_t *k = x->c.kernel;
  const layout_t *l = receives ? &r->layout_in[phase] : &r->layout_out[phase];
  char *messages = real_of(r, receives ? BUF_MESSAGES_IN : BUF_MESSAGES_OUT);
  for (int p = 0; p < x->ranks; p++) {
    void *plain = real_at(x, real_of(r, receives ? r->vectors_in : r->vectors_out), l->begin[p]);
    uint16_t *wire = (uint16_t *)(void *)(messages + l->message[p]);
    if (p == x->rank) continue;
    if (receives)
      k->ops->widen_real(k, NULL, x->c.wire, wire, l->elements[p], plain);
    else
      k->ops->narrow_real(k, NULL, x->c.wire, plain, l->elements[p], wire, &r->error);
  }
}

sbag_code_t layout_send(route_t *r, phase_t phase, sbag_status_t *status) {
  exchange_t *x = r->x;
  const layout_t *out = &r->layout_out[phase], *in = &r->layout_in[phase];
  if (x->any_max) move_places(r, phase, 0);
  if (narrow(x)) move_vectors(r, phase, 0);
  char *to = real_of(r, narrow(x) ? BUF_MESSAGES_OUT : r->vectors_out);
  char *from = real_of(r, narrow(x) ? BUF_MESSAGES_IN : r->vectors_in);
  for (int p = 0; p < x->ranks; p++) {
    int64_t self = p == x->rank;
    r->send[p] = (comm_part_t){to + out->message[p], self ? 0 : out->bytes[p]};
    r->recv[p] = (comm_part_t){from + in->message[p], self ? 0 : in->bytes[p]};
  }
  return route_exchange_begin(r, status);
}

sbag_code_t layout_receive(route_t *r, phase_t phase, const char *what, sbag_status_t *status) {
  SBAG_TRY(route_wait(r, what, status));
  if (narrow(r->x)) move_vectors(r, phase, 1);
  if (r->x->any_max) move_places(r, phase, 1);
  return SBAG_OK;
}
