/* How the ranks' dense gradients and losses become those of the global batch. Two ways:
 *
 *  - buckets: as backward finishes layers, ranges of the gradient block go into all-reduces, which run while
 *    backward and the tables' exchanges go on. The order of the sum is MPI's.
 *  - slices (reproducible mode): every slice of MODEL_SLICE samples of the global batch has a gradient of its
 *    own. Each rank receives its share of the parameters from all slices, adds them in the order of the
 * slices, and all gather the sums: nothing depends on which rank had which slice.
 *
 * All calls but reduce_create, reduce_clear, reduce_slice and reduce_slice_loss are collective. */
#ifndef MODEL_REDUCE_H
#define MODEL_REDUCE_H

#include "comm/comm.h"
#include "dense/dense.h"
#include <stdint.h>

/* What one rank brings to a step. */
typedef struct reduce_deal {
  int64_t samples, first_sample, global_samples;
} reduce_deal_t;

typedef struct reduce {
  comm_t *comm;
  dense_t *dense;
  mem_t *mem;
  int64_t count;           /* values of the gradient block */
  float *grad;             /* [count]: this rank's, then the global batch's; device memory */
  double loss[3];          /* sum over samples, their number and their weight */
  comm_request_t *request; /* of the loss, or of the slices' gradients */

  int64_t bucket_count; /* values of a bucket */
  int64_t begun;        /* buckets begun: values [0, begun * bucket_count) */
  int64_t request_max;
  comm_request_t **requests; /* [request_max]; in use: [0, begun) */

  int by_slices;
  reduce_deal_t mine, *deals; /* deals: [ranks] */
  int *order;                 /* ranks by first_sample */
  int64_t *counts;            /* [ranks] bytes */
  comm_part_t *parts;         /* [2 * ranks] */
  copy_part_t *copies;        /* [ranks] */
  kernel_buffer_t sent,
      received;          /* gradients of slices: this rank's, by receiving rank; and this rank's share */
  kernel_buffer_t share; /* its sum */
  double (*slice_loss)[2], (*all_loss)[2]; /* loss and weight */
  int64_t slice_room, all_room;            /* slices that the buffers hold */

  int in_flight; /* reductions have begun and not all have ended */
  int stranded;  /* the comm broke while it held our buffers: it may still write there */
} reduce_t;

/* A zeroed `reduce` becomes one of `count` gradients at `grad`, which ops of `dense` make. reduce_clear frees
 * it, also after a failure. */
sbag_code_t reduce_create(comm_t *comm, dense_t *dense, float *grad, int64_t count, int64_t bucket_bytes,
                          int by_slices, reduce_t *reduce, sbag_status_t *status);
void reduce_clear(reduce_t *reduce);

/* Begins a step of `mine`: in slices, learns what the others have, and refuses batches whose samples do not
 * make up the global batch. */
sbag_code_t reduce_begin(reduce_t *reduce, const reduce_deal_t *mine, sbag_status_t *status);

/* Buckets: gradients [0, end) are final. Begins what has become whole; the last call is with end = count. */
sbag_code_t reduce_ready(reduce_t *reduce, int64_t end, sbag_status_t *status);
/* Buckets: this rank's sum of losses, and of its samples' weights. */
sbag_code_t reduce_loss(reduce_t *reduce, double loss, double weight, sbag_status_t *status);

/* Slices: where the loss of this rank's slice (from 0) goes, by reduce_slices_done at the latest. */
double *reduce_slice_loss(reduce_t *reduce, int64_t slice);
/* Slices: takes the gradient block and the weight of this rank's slice. */
void reduce_slice(reduce_t *reduce, int64_t slice, double weight);
/* Slices: after the last one, begins the exchange. */
sbag_code_t reduce_slices_done(reduce_t *reduce, sbag_status_t *status);

/* Waits: grad is the global batch's, *loss the sum of its samples' losses, *weight of their weights. */
sbag_code_t reduce_end(reduce_t *reduce, double *loss, double *weight, sbag_status_t *status);

/* After an error: ends the requests that are still in flight. */
void reduce_abandon(reduce_t *reduce);

#endif
