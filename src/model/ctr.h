/* The network of click-through models: DLRM (Naumov et al. 2019, arXiv:1906.00091), DCN-v2 (Wang et al. 2020,
 * arXiv:2008.13535), DeepFM (Guo et al. 2017, arXiv:1703.04247), Wide & Deep (Cheng et al. 2016,
 * arXiv:1606.07792), of parts that they share:
 *
 *  - a bottom MLP makes a vector of the dense values;
 *  - each feature gives a vector, projected where its dim differs;
 *  - the interaction makes of these vectors what the top MLP sees, which ends in the logit;
 *  - to the logit may be added a factorisation machine's second order, the cross layers' own weights
 * (parallel structure), and a first order: weights of dim 1 by feature, and one for each dense value.
 *
 * What the top MLP sees of the dot interaction: the products of all pairs of vectors, and in front of them
 *  - with dense values, the bottom MLP's output, as in the paper. Its bias gives each feature a term of its
 * own (the product with a vector that is the same for all samples), not only terms in pairs;
 *  - without, every feature's vector: there would be no such term otherwise, and "this film is liked" or
 * "this user rates high", most of what there is to know of MovieLens, could not be said.
 * Of all others: the vectors side by side, x_0; of cross layers in the stacked structure the last one's
 * output, x_{l+1} = x_0 * (W_l x_l + b_l) + x_l.
 *
 * The loss is binary cross entropy with logits. */
#ifndef MODEL_CTR_H
#define MODEL_CTR_H

#include "model/network.h"

/* Where a feature's vector comes from. */
typedef struct ctr_source {
  int64_t column; /* first column in the pooled matrix */
  int projection; /* which projection makes the vector; -1: the columns are the vector */
} ctr_source_t;

/* Layers in params, in this order: counts, and where each part begins. */
typedef struct ctr_layers {
  int bottom_count, project_count, first_order_count, cross_count, top_count, out_count;
  int project, first_order, cross, top, out, count;
} ctr_layers_t;

typedef struct ctr {
  network_t base;
  uint64_t seed;
  double dropout;
  model_interaction_t kind;
  int parallel, cross_count, cross_parts; /* cross layers, and linear layers of each: 1, or 2 of low rank */
  ctr_layers_t at;
  int vector_features; /* that give a vector: the first ones */
  int first_order;     /* that are weights: the others */
  int64_t first_order_column;
  ctr_source_t *sources;         /* [vector_features] */
  interaction_vector_t *vectors; /* the bottom MLP's output if any, then the features' */
  interaction_t interaction;
  int64_t width; /* of what the interaction makes */

  int64_t forward_rows, backward_rows; /* what the buffers hold */
  float *forward_block, *backward_block;
  float *mixed;       /* [rows][width]: what the interaction makes; of cross layers x_0 */
  float *crossed;     /* [cross layers][rows][width]: x_1 and on */
  float **layer_out;  /* [layers]: [rows][out] */
  float *vector_grad; /* [1 + projections][rows][D]: of the bottom MLP's output and of projected vectors */
  float *logit_grad;  /* [rows] */
  float *mixed_grad, *crossed_grad; /* [rows][width], with cross layers: of x_0, and of x_l on the way back */
  float *flow[2];                   /* gradients between layers, each [rows][widest layer] */
  int64_t flow_width;
} ctr_t;

network_create_fn ctr_create;

/* For the files of this network alone. */
void ctr_begin(network_t *network, const network_pass_t *pass);
const float *ctr_forward(network_t *network, const network_pass_t *pass);
void ctr_loss(network_t *network, const network_pass_t *pass, const network_targets_t *targets, double *sum);
sbag_code_t ctr_backward_pooled(network_t *network, const network_backward_t *backward,
                                sbag_status_t *status);
sbag_code_t ctr_backward_rest(network_t *network, const network_backward_t *backward, sbag_status_t *status);

#endif
