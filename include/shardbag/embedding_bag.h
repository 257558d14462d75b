/* torch.nn.functional.embedding_bag on the caller's own weights, in one process: no table, no communication.
 * On a GPU, arrays may be the host's memory or the GPU's; weights that are the host's are copied there by
 * each call. */
#ifndef SHARDBAG_EMBEDDING_BAG_H
#define SHARDBAG_EMBEDDING_BAG_H

#include <shardbag/batch.h>
#include <shardbag/context.h>
#include <shardbag/table.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sbag_embedding_bag_options {
  sbag_dtype_t dtype;
  int64_t num_embeddings, embedding_dim;
  sbag_mode_t mode; /* SBAG_MEAN */
  int has_padding_idx;
  int64_t padding_idx;
  int scale_grad_by_freq;
  int has_max_norm;
  double max_norm, norm_type;
} sbag_embedding_bag_options_t;

SBAG_API sbag_embedding_bag_options_t sbag_embedding_bag_options_default(int64_t num_embeddings,
                                                                         int64_t embedding_dim);

/* weight: [num_embeddings][embedding_dim], written only by max_norm. out: [bags][embedding_dim].
 * max_indices: NULL, or [bags][embedding_dim] (mode max). Not collective. */
SBAG_API sbag_code_t sbag_embedding_bag_forward(sbag_context_h context,
                                                const sbag_embedding_bag_options_t *options, void *weight,
                                                const sbag_bags_t *bags, void *out, int64_t *max_indices,
                                                sbag_status_t *status);

/* grad_out: [bags][embedding_dim]. The gradient of weight as coalesced sparse rows in ascending order:
 * *row_count of them; grad_rows has room for min(index_count, num_embeddings) rows, grad_values for as many
 * times embedding_dim values. weight (as forward left it) is read for max and for weight_grad: NULL, or
 * [index_count], per_sample_weights' gradient. */
SBAG_API sbag_code_t sbag_embedding_bag_backward(sbag_context_h context,
                                                 const sbag_embedding_bag_options_t *options,
                                                 const void *weight, const sbag_bags_t *bags,
                                                 const void *grad_out, int64_t *grad_rows, void *grad_values,
                                                 int64_t *row_count, void *weight_grad,
                                                 sbag_status_t *status);

#ifdef __cplusplus
}
#endif
#endif
