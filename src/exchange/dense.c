/* Dense pools: for a table for which every rank offers it, owners pool every requester's every bag (zeros
 * where they have no row of it), and the parts are added up on their way.
 *
 * A rank offers a table where it would send nothing but pools and each of its bags touches each other owner:
 * dense pools then take no more bytes than sparse ones, and the requester has nothing to combine. The offers
 * travel with the counts, so that the agreement costs no message. */
#include "exchange/route.h"

void dense_agree(route_t *r) {
  const exchange_t *x = r->x;
  r->any_offer = r->any_dense = 0;
  for (int t = 0; t < x->tables; t++) {
    int all = 1;
    for (int p = 0; p < x->ranks; p++) {
      int offers = words_dense(route_words(r, r->in, p), t);
      r->any_offer |= offers;
      all &= offers;
    }
    r->dense[t] = all;
    r->any_dense |= all;
  }
}

sbag_code_t dense_forward_begin(route_t *r, const int64_t *edge_term, sbag_status_t *status) {
  (void)r, (void)edge_term;
  return status_set(status, SBAG_ERR_STATE, "dense");
}
sbag_code_t dense_forward_end(route_t *r, void *out, sbag_status_t *status) {
  (void)r, (void)out;
  return status_set(status, SBAG_ERR_STATE, "dense");
}
