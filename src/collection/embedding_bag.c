/* torch's functional form on the caller's own weights: a collection of one table on one rank whose store
 * borrows them, so that it is the same code that training runs. */
#include "collection/collection.h"
#include "collection/device.h"
#include "collection/stage.h"

#include <shardbag/embedding_bag.h>

sbag_embedding_bag_options_t sbag_embedding_bag_options_default(int64_t num_embeddings,
                                                                int64_t embedding_dim) {
  return (sbag_embedding_bag_options_t){.dtype = SBAG_F32,
                                        .num_embeddings = num_embeddings,
                                        .embedding_dim = embedding_dim,
                                        .mode = SBAG_MEAN,
                                        .norm_type = 2};
}

/* Everything that one call needs and frees. */
typedef struct call {
  kernel_t *kernel;
  comm_t *comm;
  plan_t *plan;
  store_table_t table;
  store_t store;
  exchange_feature_t feature;
  exchange_t *exchange;
  route_t *route;
  int64_t bag_count;
  kernel_buffer_t weight, out, grad, weight_grad; /* of what ops do not reach themselves: see stage.h */
} call_t;

static void describe(const sbag_embedding_bag_options_t *o, sbag_table_options_t *table,
                     sbag_feature_options_t *feature) {
  *table = sbag_table_options_default("embedding_bag", o->num_embeddings, o->embedding_dim);
  table->has_max_norm = o->has_max_norm;
  table->max_norm = o->max_norm;
  table->norm_type = o->norm_type;
  *feature = sbag_feature_options_default("embedding_bag", 0);
  feature->mode = o->mode;
  feature->has_padding_idx = o->has_padding_idx;
  feature->padding_idx = o->padding_idx;
  feature->scale_grad_by_freq = o->scale_grad_by_freq;
}

/* weight is borrowed; it is written only by max_norm, which backward leaves out. */
static void borrow(call_t *c, const sbag_embedding_bag_options_t *o, const void *weight, int renorm) {
  c->table = (store_table_t){.name = (char *)(uintptr_t)c->feature.name,
                             .rows = o->num_embeddings,
                             .dim = o->embedding_dim,
                             .local_rows = o->num_embeddings,
                             .trainable = 1,
                             .has_max_norm = renorm && o->has_max_norm,
                             .max_norm = o->max_norm,
                             .norm_type = o->norm_type,
                             .weight = (void *)(uintptr_t)weight};
  c->store = (store_t){
      .kernel = c->kernel, .dtype = o->dtype, .plan = c->plan, .table_count = 1, .tables = &c->table};
}

static void close_call(call_t *c) {
  route_destroy(&c->route);
  exchange_destroy(&c->exchange);
  plan_destroy(&c->plan);
  comm_destroy(&c->comm);
  kernel_buffer_t *buffers[] = {&c->weight, &c->out, &c->grad, &c->weight_grad};
  for (size_t i = 0; c->kernel != NULL && i < sizeof buffers / sizeof *buffers; i++)
    kernel_buffer_free(c->kernel, buffers[i]);
}

static size_t rows_bytes(const sbag_embedding_bag_options_t *o, int64_t rows) {
  return mem_array_bytes(rows, mem_array_bytes(o->embedding_dim, kernel_dtype_bytes(o->dtype)));
}

static sbag_code_t open_call(sbag_context_h context, const sbag_embedding_bag_options_t *o,
                             const void *weight, const sbag_bags_t *bags, int flags, call_t *c,
                             sbag_status_t *status) {
  sbag_table_options_t table;
  sbag_feature_options_t feature;
  sbag_collection_options_t options = sbag_collection_options_default();
  options.dtype = o->dtype;
  describe(o, &table, &feature);
  SBAG_TRY(collection_check(&options, &table, 1, &feature, 1, status));
  *c = (call_t){.kernel = context->kernel,
                .weight.kind = MEMORY_DEVICE,
                .out.kind = MEMORY_DEVICE,
                .grad.kind = MEMORY_DEVICE,
                .weight_grad.kind = MEMORY_DEVICE};
  int64_t columns = collection_features(&table, &feature, 1, &c->feature);
  SBAG_TRY(batch_check(&c->feature, 1, bags, &c->bag_count, status));
  comm_options_t comm_options = {0};
  SBAG_TRY(comm_self_create(context->mem, &comm_options, &c->comm, status));
  SBAG_TRY(device_attach(c->comm, c->kernel, context->seats, status));
  SBAG_TRY(plan_create(context->mem, 1, &table, 1, &c->plan, status));
  SBAG_TRY(stage_in(c->kernel, &c->weight, weight, rows_bytes(o, o->num_embeddings), &weight, status));
  borrow(c, o, weight, (flags & SBAG_FORWARD_NO_BACKWARD) != 0);
  exchange_config_t config = {.kernel = c->kernel,
                              .comm = c->comm,
                              .plan = c->plan,
                              .store = &c->store,
                              .features = &c->feature,
                              .feature_count = 1,
                              .columns = columns,
                              .kind = SBAG_EXCHANGE_ROWS,
                              .reproducible = context->options.reproducible};
  SBAG_TRY(exchange_create(&config, &c->exchange, status));
  SBAG_TRY(route_create(c->exchange, &c->route, status));
  SBAG_TRY(route_begin(c->route, bags, c->bag_count, flags, SBAG_OK, NULL, status));
  return route_open(c->route, status);
}

static sbag_code_t forward(sbag_context_h context, const sbag_embedding_bag_options_t *o, void *weight,
                           const sbag_bags_t *bags, void *out, int64_t *max_indices, call_t *c,
                           sbag_status_t *status) {
  void *there = NULL;
  SBAG_TRY(open_call(context, o, weight, bags, SBAG_FORWARD_NO_BACKWARD, c, status));
  size_t bytes = rows_bytes(o, c->bag_count);
  SBAG_TRY(stage_out(c->kernel, &c->out, out, bytes, &there, status));
  SBAG_TRY(route_forward_begin(c->route, status));
  SBAG_TRY(route_forward_end(c->route, there, status));
  stage_give(c->kernel, out, there, bytes);
  if (o->has_max_norm) stage_give(c->kernel, weight, c->table.weight, rows_bytes(o, o->num_embeddings));
  if (max_indices != NULL && o->mode == SBAG_MAX) route_max_rows(c->route, 0, max_indices);
  return c->kernel->ops->stream_sync(c->kernel, NULL, status);
}

sbag_code_t sbag_embedding_bag_forward(sbag_context_h context, const sbag_embedding_bag_options_t *options,
                                       void *weight, const sbag_bags_t *bags, void *out, int64_t *max_indices,
                                       sbag_status_t *status) {
  call_t c = {0};
  sbag_code_t code = forward(context, options, weight, bags, out, max_indices, &c, status);
  close_call(&c);
  return code;
}

static sbag_code_t backward(sbag_context_h context, const sbag_embedding_bag_options_t *o, const void *weight,
                            const sbag_bags_t *bags, const void *grad_out, int64_t *grad_rows,
                            void *grad_values, int64_t *row_count, void *weight_grad, call_t *c,
                            sbag_status_t *status) {
  int flags = weight_grad != NULL ? SBAG_FORWARD_WEIGHT_GRADS : 0;
  SBAG_TRY(open_call(context, o, weight, bags, flags, c, status));
  size_t bytes = rows_bytes(o, c->bag_count);
  size_t weight_bytes = mem_array_bytes(bags->index_count, kernel_dtype_bytes(o->dtype));
  void *weights = NULL;
  SBAG_TRY(kernel_buffer_reserve(c->kernel, &c->out, bytes, "embedding_bag: forward", status));
  SBAG_TRY(stage_in(c->kernel, &c->grad, grad_out, bytes, &grad_out, status));
  if (weight_grad != NULL)
    SBAG_TRY(stage_out(c->kernel, &c->weight_grad, weight_grad, weight_bytes, &weights, status));
  SBAG_TRY(route_forward_begin(c->route, status));
  SBAG_TRY(route_forward_end(c->route, c->out.data, status)); /* winners and rows for the gradients */
  SBAG_TRY(route_backward_begin(c->route, grad_out, status));
  SBAG_TRY(route_backward_end(c->route, grad_out, weight_grad != NULL ? &weights : NULL, status));
  stage_give(c->kernel, weight_grad, weights, weight_bytes);
  const int64_t *rows;
  const void *values;
  SBAG_TRY(route_sparse_grad(c->route, 0, &rows, &values, row_count, status));
  copy_part_t parts[2] = {{grad_rows, rows, *row_count * (int64_t)sizeof *rows},
                          {grad_values, values, (int64_t)rows_bytes(o, *row_count)}};
  c->kernel->ops->copy(c->kernel, NULL, parts, 2);
  return c->kernel->ops->stream_sync(c->kernel, NULL, status);
}

sbag_code_t sbag_embedding_bag_backward(sbag_context_h context, const sbag_embedding_bag_options_t *options,
                                        const void *weight, const sbag_bags_t *bags, const void *grad_out,
                                        int64_t *grad_rows, void *grad_values, int64_t *row_count,
                                        void *weight_grad, sbag_status_t *status) {
  call_t c = {0};
  sbag_code_t code = backward(context, options, weight, bags, grad_out, grad_rows, grad_values, row_count,
                              weight_grad, &c, status);
  close_call(&c);
  return code;
}
