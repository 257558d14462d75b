/* Queries beside items: each sample has a query, the sum of one or more vectors, an item that it
 * goes with and items that it does not. Scores are dot products; the losses:
 *
 *   MATCH_BPR       mean over the negatives of log(1 + e^(s_k - s_0)) (Rendle et al. 2009)
 *   MATCH_SOFTMAX   log(sum of all e^s) - s_0 (sampled softmax)
 *   MATCH_LOGISTIC  log(1 + e^-s_0) + sum over the negatives of log(1 + e^s_k) (Mikolov et al. 2013)
 *
 * The functions are the CPU's; a row's results are a function of that row alone, whatever the number of
 * threads. */
#ifndef DENSE_MATCH_H
#define DENSE_MATCH_H

#include <stdint.h>

enum { MATCH_ITEMS_MAX = 1025 }; /* of a sample */

typedef enum match_loss { MATCH_BPR, MATCH_SOFTMAX, MATCH_LOGISTIC, MATCH_LOSSES } match_loss_t;

/* Where the vectors of `dim` values begin in a row of the pooled matrix. */
typedef struct match_shape {
  int64_t dim, pooled_dim;
  int query_count, item_count; /* item_count: the positive item and the negatives */
  const int64_t *queries;      /* [query_count] columns */
  const int64_t *items;        /* [item_count], the positive one first */
} match_shape_t;

/* out: [rows][dim + item_count]: the query, then the scores. */
void match_forward(int threads, const match_shape_t *shape, int64_t rows, const float *pooled, float *out);

typedef struct match_targets {
  match_loss_t kind;
  double temperature;   /* scores are divided by it */
  double l2;            /* half of it times the squares of all of a row's vectors is added to its loss */
  double grad_scale;    /* of gradients */
  const float *weights; /* [rows], or NULL: 1 each */
} match_targets_t;

/* losses: [rows], weighted. score_grads: [rows][item_count]. pooled, out: as forward had and left them. */
void match_loss(int threads, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                const float *pooled, const float *out, double *losses, float *score_grads);

/* Of one sample, without l2. */
double match_loss_of(const match_targets_t *targets, int count, const float *scores);

/* Writes all of pooled_grad [rows][pooled_dim]. */
void match_backward(int threads, const match_shape_t *shape, const match_targets_t *targets, int64_t rows,
                    const float *pooled, const float *out, const float *score_grads, float *pooled_grad);

#endif
