/* Creating collections, and what they tell of themselves. */
#include "collection/collection.h"

#include <string.h>

int64_t collection_features(const sbag_table_options_t *tables, const sbag_feature_options_t *features,
                            int feature_count, exchange_feature_t *made) {
  int64_t column = 0;
  for (int f = 0; f < feature_count; f++) {
    const sbag_table_options_t *table = &tables[features[f].table];
    int64_t padding = features[f].padding_idx;
    made[f] = (exchange_feature_t){.name = features[f].name,
                                   .table = features[f].table,
                                   .mode = features[f].mode,
                                   .padding_idx = !features[f].has_padding_idx ? -1
                                                  : padding < 0 ? padding + table->num_embeddings
                                                                : padding,
                                   .by_freq = features[f].scale_grad_by_freq,
                                   .dim = table->embedding_dim,
                                   .column = column};
    column += table->embedding_dim;
  }
  return column;
}

static sbag_code_t copy_name(mem_t *mem, const char **name, sbag_status_t *status) {
  size_t bytes = strlen(*name) + 1;
  void *p = NULL;
  SBAG_TRY(mem_alloc(mem, bytes, "feature's name", &p, status));
  *name = memcpy(p, *name, bytes);
  return SBAG_OK;
}

/* The rows that start as zero: those that a feature of the table names as padding, unless weights are given.
 */
static sbag_code_t create_store(sbag_collection_h c, const sbag_table_options_t *tables,
                                sbag_status_t *status) {
  mem_t *mem = c->context->mem;
  int64_t *rows = NULL;
  const int64_t **of_table = NULL;
  int *counts = NULL;
  void *p = NULL;
  int64_t places = (int64_t)c->table_count * c->feature_count;
  sbag_code_t code = mem_alloc(mem, mem_array_bytes(places, sizeof *rows), "collection", &p, status);
  if (code == SBAG_OK) rows = p;
  if (code == SBAG_OK)
    code = mem_alloc(mem, mem_array_bytes(c->table_count, sizeof *of_table), "collection", &p, status);
  if (code == SBAG_OK) of_table = p;
  if (code == SBAG_OK && rows != NULL)
    code = mem_calloc(mem, mem_array_bytes(c->table_count, sizeof *counts), "collection", &p, status);
  if (code == SBAG_OK) counts = p;
  for (int t = 0; code == SBAG_OK && t < c->table_count; t++) {
    int64_t *mine = rows + (int64_t)t * c->feature_count;
    of_table[t] = mine;
    for (int f = 0; f < c->feature_count; f++)
      if (c->features[f].table == t && c->features[f].padding_idx >= 0)
        mine[counts[t]++] = c->features[f].padding_idx;
  }
  if (code == SBAG_OK)
    code = store_create(c->context->kernel, c->plan, comm_rank(c->context->comm), c->options.dtype,
                        c->options.weight_grad, tables, of_table, counts, &c->store, status);
  mem_free(mem, rows);
  mem_free(mem, of_table);
  mem_free(mem, counts);
  return code;
}

static wire_t wire_of(sbag_wire_t wire, sbag_dtype_t dtype) {
  if (dtype != SBAG_F32) return WIRE_FULL;
  return wire == SBAG_WIRE_F16 ? WIRE_F16 : wire == SBAG_WIRE_BF16 ? WIRE_BF16 : WIRE_FULL;
}

static sbag_code_t create_parts(sbag_collection_h c, const sbag_table_options_t *tables,
                                const sbag_feature_options_t *features, sbag_status_t *status) {
  sbag_context_h context = c->context;
  void *p = NULL;
  SBAG_TRY(mem_calloc(context->mem, mem_array_bytes(c->feature_count, sizeof *c->features), "collection", &p,
                      status));
  exchange_feature_t *made = p;
  c->output_dim = collection_features(tables, features, c->feature_count, made);
  for (int f = 0; f < c->feature_count; f++) {
    sbag_code_t code = copy_name(context->mem, &made[f].name, status);
    if (code != SBAG_OK) { /* from here on the names are the caller's, not ours to free */
      while (f-- > 0) mem_free(context->mem, (void *)(uintptr_t)made[f].name);
      mem_free(context->mem, made);
      return code;
    }
  }
  c->features = made;
  SBAG_TRY(plan_create(context->mem, comm_size(context->comm), tables, c->table_count, &c->plan, status));
  SBAG_TRY(create_store(c, tables, status));
  exchange_config_t config = {.kernel = context->kernel,
                              .comm = context->comm,
                              .plan = c->plan,
                              .store = c->store,
                              .features = c->features,
                              .feature_count = c->feature_count,
                              .columns = c->output_dim,
                              .kind = context->options.exchange,
                              .wire = wire_of(context->options.wire, c->options.dtype),
                              .reproducible = context->options.reproducible,
                              .drop = c->options.bounds_check != SBAG_BOUNDS_FATAL};
  SBAG_TRY(exchange_create(&config, &c->exchange, status));
  SBAG_TRY(mem_calloc(context->mem, mem_array_bytes(c->table_count, sizeof *c->updates), "collection", &p,
                      status));
  c->updates = p;
  SBAG_TRY(
      mem_calloc(context->mem, mem_array_bytes(c->table_count, sizeof *c->sums), "collection", &p, status));
  c->sums = p;
  SBAG_TRY(mem_calloc(context->mem, mem_array_bytes(c->feature_count, sizeof *c->weight_grads), "collection",
                      &p, status));
  c->weight_grads = p;
  c->out_staged.kind = MEMORY_DEVICE;
  for (int s = 0; s <= COLLECTION_STEPS; s++) {
    c->steps[s] = (struct sbag_step){.collection = c, .grad_staged.kind = MEMORY_DEVICE};
    SBAG_TRY(route_create(c->exchange, &c->steps[s].route, status));
  }
  return SBAG_OK;
}

/* Quantised rows are known to the kernels of the CPU alone. */
static sbag_code_t check_kernel(sbag_context_h context, const sbag_table_options_t *tables, int table_count,
                                sbag_status_t *status) {
  for (int t = 0; t < table_count; t++)
    if (kernel_is_quantised(tables[t].storage) && !context->kernel->ops->quantised)
      return status_set(
          status, SBAG_ERR_ARGUMENT,
          "table '%s': tables kept in int8 or int4 are looked up on the CPU; the device is a %s",
          tables[t].name, context->kernel->ops->name);
  return SBAG_OK;
}

static sbag_code_t create_local(sbag_context_h context, const sbag_collection_options_t *options,
                                const sbag_table_options_t *tables, int table_count,
                                const sbag_feature_options_t *features, int feature_count,
                                sbag_collection_h *collection, sbag_status_t *status) {
  void *p = NULL;
  SBAG_TRY(mem_calloc(context->mem, sizeof(struct sbag_collection), "collection", &p, status));
  sbag_collection_h c = p;
  *c = (struct sbag_collection){
      .context = context, .options = *options, .table_count = table_count, .feature_count = feature_count};
  sbag_code_t code = create_parts(c, tables, features, status);
  if (code != SBAG_OK) {
    sbag_collection_destroy(&c);
    return code;
  }
  *collection = c;
  return SBAG_OK;
}

/* A rank may have all rows to fill and the others none. So the deadline leaves it a microsecond for each
 * value, several times what it takes. */
static sbag_code_t agree_on_filling(comm_t *comm, const sbag_table_options_t *tables, int table_count,
                                    sbag_code_t code, sbag_status_t *status) {
  double timeout_s = comm->options.timeout_s, values = 0;
  for (int t = 0; t < table_count; t++)
    values += (double)tables[t].num_embeddings * (double)tables[t].embedding_dim;
  if (timeout_s > 0) comm->options.timeout_s += values * 1e-6;
  code = comm_agree(comm, code, status);
  comm->options.timeout_s = timeout_s;
  return code;
}

sbag_code_t sbag_collection_create(sbag_context_h context, const sbag_collection_options_t *options,
                                   const sbag_table_options_t *tables, int table_count,
                                   const sbag_feature_options_t *features, int feature_count,
                                   sbag_collection_h *collection, sbag_status_t *status) {
  sbag_collection_options_t checked = options != NULL ? *options : sbag_collection_options_default();
  sbag_status_t own; /* agreement needs the message even where the caller wants none */
  status_clear(&own);
  sbag_collection_h made = NULL;
  sbag_code_t code = collection_check(&checked, tables, table_count, features, feature_count, &own);
  if (code == SBAG_OK) code = check_kernel(context, tables, table_count, &own);
  code = comm_agree(context->comm, code, &own);
  if (code == SBAG_OK)
    code = collection_same(context, &checked, tables, table_count, features, feature_count, &own);
  if (code == SBAG_OK) {
    code = create_local(context, &checked, tables, table_count, features, feature_count, &made, &own);
    code = agree_on_filling(context->comm, tables, table_count, code, &own);
  }
  if (code == SBAG_OK) code = collection_init_files(made, tables, &own);
  if (code != SBAG_OK) {
    sbag_collection_destroy(&made);
    if (status != NULL) *status = own;
    return code;
  }
  *collection = made;
  return SBAG_OK;
}

void sbag_collection_destroy(sbag_collection_h *collection) {
  if (collection == NULL || *collection == NULL) return;
  sbag_collection_h c = *collection;
  mem_t *mem = c->context->mem;
  for (int s = 0; s <= COLLECTION_STEPS; s++) {
    if (c->steps[s].route != NULL) route_release(c->steps[s].route);
    route_destroy(&c->steps[s].route);
    kernel_buffer_free(c->context->kernel, &c->steps[s].grad_staged);
  }
  exchange_destroy(&c->exchange);
  store_destroy(&c->store);
  plan_destroy(&c->plan);
  for (int f = 0; c->features != NULL && f < c->feature_count; f++)
    mem_free(mem, (void *)(uintptr_t)c->features[f].name);
  mem_free(mem, c->features);
  mem_free(mem, c->updates);
  mem_free(mem, c->sums);
  mem_free(mem, c->weight_grads);
  kernel_buffer_free(c->context->kernel, &c->out_staged);
  if (comm_check(c->context->comm, NULL) == SBAG_OK) mem_free(mem, c); /* else `norm` is left to the comm */
  *collection = NULL;
}

int64_t sbag_collection_output_dim(sbag_collection_h collection) {
  return collection->output_dim;
}

int64_t sbag_collection_output_offset(sbag_collection_h collection, int feature) {
  if (feature < 0 || feature >= collection->feature_count) return -1;
  return collection->features[feature].column;
}

static sbag_code_t check_table_index(sbag_collection_h c, int table, sbag_status_t *status) {
  if (table >= 0 && table < c->table_count) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "table %d is not in 0 to %d", table, c->table_count - 1);
}

static sbag_code_t check_state_index(sbag_collection_h c, int table, int state, sbag_status_t *status) {
  SBAG_TRY(check_table_index(c, table, status));
  int count = sbag_collection_state_count(c, table);
  if (state >= 0 && state < count) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': state %d of %d", c->store->tables[table].name,
                    state, count);
}

int sbag_collection_state_count(sbag_collection_h collection, int table) {
  if (table < 0 || table >= collection->table_count) return 0;
  const store_table_t *t = &collection->store->tables[table];
  return t->trainable ? t->info.state_count : 0;
}

const char *sbag_collection_state_name(sbag_collection_h collection, int table, int state) {
  if (state < 0 || state >= sbag_collection_state_count(collection, table)) return NULL;
  return collection->store->tables[table].info.states[state].name;
}

int64_t sbag_collection_state_width(sbag_collection_h collection, int table, int state) {
  if (state < 0 || state >= sbag_collection_state_count(collection, table)) return 0;
  const store_table_t *t = &collection->store->tables[table];
  return t->info.states[state].row_wise ? 1 : t->dim;
}

sbag_code_t collection_array(sbag_collection_h c, int table, int state, exchange_rows_t *array,
                             sbag_status_t *status) {
  SBAG_TRY(check_table_index(c, table, status));
  if (state != -1) SBAG_TRY(check_state_index(c, table, state, status));
  const store_table_t *t = &c->store->tables[table];
  *array = (exchange_rows_t){.table = table, .storage = t->storage, .width = t->dim, .base = t->weight};
  if (state == -1) return SBAG_OK;
  *array = (exchange_rows_t){
      .table = table, .width = sbag_collection_state_width(c, table, state), .base = t->states[state]};
  return SBAG_OK;
}

int64_t sbag_collection_step_count(sbag_collection_h collection, int table) {
  if (table < 0 || table >= collection->table_count) return -1;
  return collection->store->tables[table].step;
}

static sbag_code_t check_step_count(sbag_collection_h c, int table, int64_t step_count,
                                    sbag_status_t *status) {
  SBAG_TRY(check_table_index(c, table, status));
  if (step_count >= 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': %lld updates; it must be 0 or more",
                    c->store->tables[table].name, (long long)step_count);
}

/* Rows would differ without a word where the ranks' numbers do. */
static sbag_code_t same_step_count(sbag_collection_h c, int table, int64_t step_count,
                                   sbag_status_t *status) {
  int64_t *range = c->norm;
  range[0] = table;
  range[1] = step_count;
  range[2] = -range[0];
  range[3] = -range[1];
  SBAG_TRY(comm_allreduce(c->context->comm, range, 4, COMM_I64, COMM_MAX, "step count", status));
  if (range[0] == -range[2] && range[1] == -range[3]) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_ARGUMENT,
      "set_step_count: table %d and %lld updates here, others on another rank; they must be equal", table,
      (long long)step_count);
}

sbag_code_t sbag_collection_set_step_count(sbag_collection_h collection, int table, int64_t step_count,
                                           sbag_status_t *status) {
  comm_t *comm = collection->context->comm;
  sbag_status_t own; /* agreement needs the message even where the caller wants none */
  status_clear(&own);
  sbag_code_t code = comm_agree(comm, check_step_count(collection, table, step_count, &own), &own);
  if (code == SBAG_OK) code = comm_agree(comm, same_step_count(collection, table, step_count, &own), &own);
  if (code == SBAG_OK) code = store_set_step_count(collection->store, table, step_count, &own);
  if (code != SBAG_OK && status != NULL) *status = own;
  return code;
}

sbag_code_t sbag_collection_locate(sbag_collection_h collection, int table, int64_t row, int *rank,
                                   int64_t *local_row, sbag_status_t *status) {
  SBAG_TRY(check_table_index(collection, table, status));
  const plan_table_t *plan = &collection->plan->tables[table];
  if (row < 0 || row >= plan->rows)
    return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': row %lld is not in 0 to %lld",
                      collection->store->tables[table].name, (long long)row, (long long)plan->rows - 1);
  int shard;
  plan_locate(plan, row, &shard, local_row);
  *rank = plan->ranks[shard];
  return SBAG_OK;
}
