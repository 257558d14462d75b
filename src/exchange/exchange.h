/* The exchange: ids out, vectors back, gradients home, for all tables and features of a batch at once.
 *
 * What comes in: bags on every rank, the plan, the store. What goes out: pooled vectors at the requester;
 * merged gradients by row at the owner. A *route* is the record of one batch: who asked whom for what. It is
 * built once by route_begin to route_open and then read by forward and backward, so several can be in flight.
 *
 * Between one requester and one owner the vectors of a table travel as *pools* (a vector a bag that touches
 * the owner), as *rows* (a vector a distinct row), or some of each, chosen by the requester by bytes; or,
 * where all ranks agree, as dense pools (a vector a bag, added up on the way). */
#ifndef EXCHANGE_EXCHANGE_H
#define EXCHANGE_EXCHANGE_H

#include "comm/comm.h"
#include "kernel/kernel.h"
#include "plan/plan.h"
#include "store/store.h"
#include <shardbag/collection.h>

typedef struct exchange_feature {
  const char *name; /* borrowed */
  int table;
  sbag_mode_t mode;
  int64_t padding_idx; /* resolved; -1 = none */
  int by_freq;
  int64_t dim, column; /* its columns in the output */
} exchange_feature_t;

typedef struct exchange_config {
  kernel_t *kernel;
  comm_t *comm;
  const plan_t *plan;
  store_t *store;
  const exchange_feature_t *features; /* borrowed */
  int feature_count;
  int64_t columns; /* of the output */
  sbag_exchange_t kind;
  wire_t wire; /* of vectors between ranks; not WIRE_FULL for f32 only */
  int reproducible;
  int drop; /* out-of-range indices: 0 = an error */
} exchange_config_t;

typedef struct exchange exchange_t;
typedef struct route route_t;

sbag_code_t exchange_create(const exchange_config_t *config, exchange_t **exchange, sbag_status_t *status);
/* If the comm is broken all memory stays where it is, for good: the transport may still write to it. */
void exchange_destroy(exchange_t **exchange);

/* A route's storage; it is reused batch after batch and keeps its buffers. Routes go before their exchange,
 * under the same rule. */
sbag_code_t route_create(exchange_t *exchange, route_t **route, sbag_status_t *status);
void route_destroy(route_t **route);

/* Begins to send this rank's ids to their owners: prepares them and posts the counts. `local` is the outcome
 * of the caller's own checks (`cause` its message): if any rank comes with an error all learn it in the next
 * route_advance, and nothing has changed. bags: [feature_count], borrowed until the route is begun anew;
 * flags: SBAG_FORWARD_*. Collective. */
sbag_code_t route_begin(route_t *route, const sbag_bags_t *bags, int64_t bag_count, int flags,
                        sbag_code_t local, const sbag_status_t *cause, sbag_status_t *status);
/* Takes a begun route one message further: the counts arrive and the ids leave; then the ids arrive and the
 * owner has its rows. Waits for what it needs. Collective; nothing where the route is open. */
sbag_code_t route_advance(route_t *route, sbag_status_t *status);
/* Goes all the way. Collective. */
sbag_code_t route_open(route_t *route, sbag_status_t *status);

/* What a batch of this rank would take with one owner, in both directions; ids are what goes out to it. */
typedef struct exchange_need {
  int64_t rows, pools;       /* vectors forward */
  int64_t id_bytes;          /* counts and ids */
  int64_t forward_bytes;     /* vectors and places, owner to requester */
  int64_t backward_bytes;    /* gradients, requester to owner */
  int64_t keys, runs, edges; /* distinct rows, bags that touch the owner, lookups */
} exchange_need_t;

/* The choice without the exchange: need [ranks]. Nothing is sent, no shard is read; the comm is only asked
 * for its rank and size, so one process can be each of many ranks in turn. The route must not be under way.
 * Not collective. */
sbag_code_t route_predict(route_t *route, const sbag_bags_t *bags, int64_t bag_count, int flags,
                          exchange_need_t *need, sbag_status_t *status);

/* Owners renormalise, pool and send; collective. */
sbag_code_t route_forward_begin(route_t *route, sbag_status_t *status);
/* Requesters combine: out [bag_count][columns], which is there after the next stream_sync. Collective. */
sbag_code_t route_forward_end(route_t *route, void *out, sbag_status_t *status);

/* Gradients go home; and are merged by row at the owner. weight_grads as in sbag_step_backward. Collective.
 * grad_out must stay as it is from begin until the gradients have been used. */
sbag_code_t route_backward_begin(route_t *route, const void *grad_out, sbag_status_t *status);
sbag_code_t route_backward_end(route_t *route, const void *grad_out, void *const *weight_grads,
                               sbag_status_t *status);

/* What the owner has after backward for one table: local rows [count], `touched` [count + 1] (row i has a
 * gradient if touched[i] < touched[i + 1]), grad [count][dim], NULL until route_take_sums. Borrowed from the
 * route. */
typedef struct route_grads {
  int64_t count;
  const int64_t *rows, *touched;
  const void *grad;
} route_grads_t;
route_grads_t route_grads(const route_t *route, int table);

/* The gradients as sums that are still to be taken, one task a table (no segments where it is frozen): what
 * update_sums takes. Borrowed; grad_out must still be as it was. */
sbag_code_t route_sums(route_t *route, const reduce_task_t **sums, sbag_status_t *status);
/* Takes them, for route_grads. */
sbag_code_t route_take_sums(route_t *route, sbag_status_t *status);
int route_sums_taken(const route_t *route);

/* The same as coalesced sparse rows: global row numbers and values, rows without a gradient left out.
 * Borrowed. */
sbag_code_t route_sparse_grad(route_t *route, int table, const int64_t **rows, const void **values,
                              int64_t *count, sbag_status_t *status);

/* Ends the batch: waits for what is under way. */
void route_release(route_t *route);

/* After forward_end: [bag_count][dim] rows that won a max feature's columns. */
void route_max_rows(const route_t *route, int feature, int64_t *rows);

/* Waits for what route_stats has from the device: the wire's error. A failure breaks the comm. */
void route_settle(route_t *route);
sbag_step_stats_t route_stats(const route_t *route);

/* Tells the peers where a failure came too late to be agreed upon; returns `code`. */
sbag_code_t exchange_give_up(exchange_t *x, sbag_code_t code, sbag_status_t *status);

/* Brings rows written since the last call to all mirrors. Collective. */
sbag_code_t exchange_refresh_mirrors(exchange_t *exchange, sbag_status_t *status);

/* One array of a table: its weights, or a state of its optimizer. */
typedef struct exchange_rows {
  int table;
  sbag_storage_t storage; /* of base; the same on all ranks */
  int64_t width;          /* values of a row */
  void *base;             /* the owner's [local_rows][width]; a read leaves it as it is */
} exchange_rows_t;

/* Rows of an array between any rank and their owners. read: values [count][width], of the collection's dtype,
 * are filled; write: taken (of one row's several values on a rank the last), and rounded to the nearest where
 * the storage has fewer bits. Collective; ranks may bring different rows. */
sbag_code_t exchange_read_rows(exchange_t *exchange, const exchange_rows_t *array, const int64_t *rows,
                               int64_t count, void *values, sbag_status_t *status);
sbag_code_t exchange_write_rows(exchange_t *exchange, const exchange_rows_t *array, const int64_t *rows,
                                int64_t count, const void *values, sbag_status_t *status);

/* In place of either on a rank that can't make the call, because of `local` (with its message in *status):
 * all ranks return it. */
sbag_code_t exchange_decline_rows(exchange_t *exchange, sbag_code_t local, sbag_status_t *status);

/* The same for consecutive rows [first, first + count), each rank its own, also none: without row numbers,
 * and for block plans without a copy but into `values`. write: the ranks' ranges must not overlap. */
sbag_code_t exchange_read_range(exchange_t *exchange, const exchange_rows_t *array, int64_t first,
                                int64_t count, void *values, sbag_status_t *status);
sbag_code_t exchange_write_range(exchange_t *exchange, const exchange_rows_t *array, int64_t first,
                                 int64_t count, const void *values, sbag_status_t *status);
sbag_code_t exchange_decline_range(exchange_t *exchange, sbag_code_t local, sbag_status_t *status);

#endif
