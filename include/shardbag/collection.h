/* A collection: tables cut by rows over the ranks, and the features that look them up, all in one exchange.
 *
 * The semantics are torch.nn.functional.embedding_bag's in one process on the concatenation of the ranks'
 * batches, for any number of ranks. One step:
 *
 *   sbag_collection_forward_begin(c, batch, 0, &step, &status);  // ids go out, owners pool, vectors start
 * back
 *   ...                                                          // the caller's own work
 *   sbag_step_forward_end(step, out, &status);                   // out: [samples][sum of dims]
 *   sbag_step_backward(step, grad_out, NULL, &status);           // gradients go home and are merged by row
 *   sbag_step_update(step, lr_factor, &status);                  // owners update rows and optimizer state
 *   sbag_step_release(&step);
 *
 * All calls are collective unless said otherwise: every rank makes them in the same order; a rank may bring
 * zero samples. An error that one rank meets in its batch is returned by all ranks alike, and nothing has
 * changed then.
 *
 * Where the context's device is a GPU, every array that a call takes may be the host's memory or that GPU's.
 */
#ifndef SHARDBAG_COLLECTION_H
#define SHARDBAG_COLLECTION_H

#include <shardbag/batch.h>
#include <shardbag/context.h>
#include <shardbag/table.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sbag_collection *sbag_collection_h;
typedef struct sbag_step *sbag_step_h; /* a batch under way; at most two at a time per collection */

/* What happens to an index outside [0, num_embeddings). */
typedef enum sbag_bounds_check {
  SBAG_BOUNDS_FATAL = 0, /* SBAG_ERR_ARGUMENT naming feature, position and value, on every rank */
  SBAG_BOUNDS_WARNING,   /* dropped as if it were not in the bag, counted, and one warning logged a step */
  SBAG_BOUNDS_IGNORE     /* dropped and counted */
} sbag_bounds_check_t;

typedef struct sbag_collection_options {
  sbag_dtype_t dtype; /* of weights (but see sbag_storage_t), outputs, gradients and optimizer state */
  sbag_bounds_check_t bounds_check;
  int weight_grad; /* 1 (default): backward can be called. 0: inference; no optimizer state is allocated */
} sbag_collection_options_t;

SBAG_API sbag_collection_options_t sbag_collection_options_default(void);

/* Creates the shards of all tables and fills them. Descriptions must be the same on all ranks (checked). */
SBAG_API sbag_code_t sbag_collection_create(sbag_context_h context, const sbag_collection_options_t *options,
                                            const sbag_table_options_t *tables, int table_count,
                                            const sbag_feature_options_t *features, int feature_count,
                                            sbag_collection_h *collection, sbag_status_t *status);
/* Not collective. Steps still held are released. */
SBAG_API void sbag_collection_destroy(sbag_collection_h *collection);

/* Columns of the pooled output: the sum of the features' dims. A feature's columns begin at its offset. Not
 * collective. */
SBAG_API int64_t sbag_collection_output_dim(sbag_collection_h collection);
SBAG_API int64_t sbag_collection_output_offset(sbag_collection_h collection, int feature);

enum {
  SBAG_FORWARD_READ_ONLY = 1,    /* inference: tables are not written; max_norm applies to the value read */
  SBAG_FORWARD_NO_BACKWARD = 2,  /* this step's backward will not be called */
  SBAG_FORWARD_WEIGHT_GRADS = 4, /* backward will be asked for per_sample_weights' gradient */
  SBAG_FORWARD_NO_INDICES = 8    /* with one of the first two: nor will sbag_step_max_indices be; saves a max
                                    the writing of 8 bytes a column */
};

/* Begins a step with this rank's batch: batch[feature_count]. The batch's memory must stay until the step is
 * released. While another step is on its way to its update, only the ids are sent: the rows are read after
 * that update, or in forward_end where that comes first. Between begin and end of a step that nothing holds
 * back, tables must not be written. */
SBAG_API sbag_code_t sbag_collection_forward_begin(sbag_collection_h collection, const sbag_bags_t *batch,
                                                   int flags, sbag_step_h *step, sbag_status_t *status);
/* forward_begin in two or four parts, so that the ids travel while the caller computes something else:
 * prefetch prepares them and posts their counts; each advance waits for one message and goes on to the next
 * (counts, then ids; more calls do nothing); forward_begin does what is left, and what the call above does
 * then. All are collective and must stand in the same order on all ranks, among the other calls too. What a
 * rank finds wrong with its batch all ranks are told in the first advance, or in forward_begin: the step can
 * then only be released. So is a third step, which there is no room for; a fourth beside it is refused here
 * and now, and not collectively. */
SBAG_API sbag_code_t sbag_collection_prefetch(sbag_collection_h collection, const sbag_bags_t *batch,
                                              int flags, sbag_step_h *step, sbag_status_t *status);
SBAG_API sbag_code_t sbag_step_advance(sbag_step_h step, sbag_status_t *status);
SBAG_API sbag_code_t sbag_step_forward_begin(sbag_step_h step, sbag_status_t *status);
/* Ends the forward. out: [samples][output_dim], row-major, of the collection's dtype; written whole. */
SBAG_API sbag_code_t sbag_step_forward_end(sbag_step_h step, void *out, sbag_status_t *status);

/* After forward_end, mode max only: the row that won each column, as torch's max_indices (0 for an empty
 * bag). max_indices: [samples][dim of the feature]. Not collective. */
SBAG_API sbag_code_t sbag_step_max_indices(sbag_step_h step, int feature, int64_t *max_indices,
                                           sbag_status_t *status);

/* Sends gradients home and merges them by row. grad_out: [samples][output_dim]; already divided as the
 * caller's loss demands. weight_grads: NULL, or [feature_count], each NULL or [index_count] and filled with
 * per_sample_weights' gradient (0 at padding); needs SBAG_FORWARD_WEIGHT_GRADS. grad_out must stay as it is
 * until the step's update, or its release: the update may read it. What is written is there on return. */
SBAG_API sbag_code_t sbag_step_backward(sbag_step_h step, const void *grad_out, void *const *weight_grads,
                                        sbag_status_t *status);

/* The same in two parts: gradients are on their way from begin to end. */
SBAG_API sbag_code_t sbag_step_backward_begin(sbag_step_h step, const void *grad_out, sbag_status_t *status);
SBAG_API sbag_code_t sbag_step_backward_end(sbag_step_h step, void *const *weight_grads,
                                            sbag_status_t *status);

/* After backward: this rank's part of the table's gradient as coalesced sparse rows: `rows` [count] distinct
 * global row numbers (all looked up, non-padding rows that this rank owns, in its storage order), `values`
 * [count][dim]. Borrowed until the step is released; both are memory of the context's device, from where
 * sbag_context_copy brings them. Not collective. */
SBAG_API sbag_code_t sbag_step_sparse_grad(sbag_step_h step, int table, const int64_t **rows,
                                           const void **values, int64_t *count, sbag_status_t *status);
/* After backward: the sum of squares of all merged gradients of all ranks' trainable tables: each row's in
 * double, rows added exactly, so that it does not depend on the number of ranks. NaN where a gradient is not
 * finite. */
SBAG_API sbag_code_t sbag_step_grad_norm_squared(sbag_step_h step, double *norm_squared,
                                                 sbag_status_t *status);

/* One update of each trainable table with learning rate (table's lr * lr_factor) and gradients times
 * grad_scale (1, or the clipping factor), then the mirrors of replicated tables are refreshed. */
SBAG_API sbag_code_t sbag_step_update(sbag_step_h step, double lr_factor, double grad_scale,
                                      sbag_status_t *status);

/* Ends the step; NULL is allowed. Not collective; but a step that is given up on its way to its update must
 * go in the same place among the other calls on all ranks: another one may wait for that update. */
SBAG_API void sbag_step_release(sbag_step_h *step);

/* What a step's exchange moved, for this rank. Not collective. */
typedef struct {
  int64_t lookups, dropped;               /* non-padding indices of this rank; out-of-range ones left out */
  int64_t vectors_sent, vectors_received; /* forward, other ranks only */
  int64_t bytes_sent, bytes_received;     /* all phases so far, other ranks only */
  int64_t id_bytes_sent;                  /* of them counts and ids */
  int64_t row_parts, pool_parts, mixed_parts; /* (other rank, table) pairs with something to look up, by how
                                                 the forward's vectors travel */
  int64_t dense_tables;
  double wire_error;  /* root mean square of what 16 bits on the wire took from the vectors that this rank
                         sent, over theirs; infinite where a value was beyond f16's 65504. 0 on a full wire */
  int64_t owned_rows; /* distinct rows of trainable tables, owned by this rank, that the batch of all ranks
                         looks up */
} sbag_step_stats_t;
SBAG_API sbag_step_stats_t sbag_step_stats(sbag_step_h step);

/* Reads or writes any rows of a table from or on any rank: rows [count] global row numbers, values
 * [count][dim]. Ranks may pass different rows, also none. Rows out of range: SBAG_ERR_ARGUMENT on all ranks.
 * A write by two ranks to one row leaves one of the two. Pending updates of rows that lag (see optimizer.h)
 * are applied first. */
SBAG_API sbag_code_t sbag_collection_read_rows(sbag_collection_h collection, int table, const int64_t *rows,
                                               int64_t count, void *values, sbag_status_t *status);
SBAG_API sbag_code_t sbag_collection_write_rows(sbag_collection_h collection, int table, const int64_t *rows,
                                                int64_t count, const void *values, sbag_status_t *status);

/* The same for optimizer state by torch's or FBGEMM's own names ("momentum_buffer", "sum", "momentum1", ...):
 * values are [count][dim] or [count] for row-wise states. state_count and state_name list them. Not
 * collective but the reads and writes. */
SBAG_API int sbag_collection_state_count(sbag_collection_h collection, int table);
SBAG_API const char *sbag_collection_state_name(sbag_collection_h collection, int table, int state);
/* Values a row has of it: dim or 1. */
SBAG_API int64_t sbag_collection_state_width(sbag_collection_h collection, int table, int state);
SBAG_API sbag_code_t sbag_collection_read_state(sbag_collection_h collection, int table, int state,
                                                const int64_t *rows, int64_t count, void *values,
                                                sbag_status_t *status);
SBAG_API sbag_code_t sbag_collection_write_state(sbag_collection_h collection, int table, int state,
                                                 const int64_t *rows, int64_t count, const void *values,
                                                 sbag_status_t *status);

/* The updates that a table has made: what Adam's bias correction and every other rule that knows the step
 * counts by. -1 for a table that is not there. Not collective. */
SBAG_API int64_t sbag_collection_step_count(sbag_collection_h collection, int table);
/* Sets it, the same on all ranks (checked), after all pending updates of lagging rows have been applied. With
 * the rows, all states and this number written, a collection goes on as the one they were read from: on the
 * same number of ranks to the bit. */
SBAG_API sbag_code_t sbag_collection_set_step_count(sbag_collection_h collection, int table,
                                                    int64_t step_count, sbag_status_t *status);

/* The same for consecutive rows [first_row, first_row + count), each rank its own range, also none; state -1
 * is the weight. Takes no memory that grows with count, but on a GPU, where the host's values are staged; for
 * tables in blocks rows move without any other copy. Ranges that ranks write must not overlap. */
SBAG_API sbag_code_t sbag_collection_read_range(sbag_collection_h collection, int table, int state,
                                                int64_t first_row, int64_t count, void *values,
                                                sbag_status_t *status);
SBAG_API sbag_code_t sbag_collection_write_range(sbag_collection_h collection, int table, int state,
                                                 int64_t first_row, int64_t count, const void *values,
                                                 sbag_status_t *status);

/* The rank that owns a row and its place in that rank's shard. Not collective. */
SBAG_API sbag_code_t sbag_collection_locate(sbag_collection_h collection, int table, int64_t row, int *rank,
                                            int64_t *local_row, sbag_status_t *status);

#ifdef __cplusplus
}
#endif
#endif
