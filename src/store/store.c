/* The local shard. */
#include "store/store.h"

#include <string.h>

static size_t state_bytes(const store_t *store, const store_table_t *table, int64_t width) {
  return mem_array_bytes(table->local_rows, mem_array_bytes(width, kernel_dtype_bytes(store->dtype)));
}

static size_t weight_bytes(const store_t *store, const store_table_t *table, int64_t rows) {
  return mem_array_bytes(rows, kernel_row_bytes(store->dtype, table->storage, table->dim));
}

int64_t store_row_bytes(const store_t *store, int table) {
  return (int64_t)weight_bytes(store, &store->tables[table], 1);
}

static sbag_code_t alloc(const store_t *store, size_t bytes, const store_table_t *table, const char *what,
                         void **block, sbag_status_t *status) {
  char text[160];
  int n = 0;
  while (table->name[n] != '\0' && n < 100) n++; /* a long name still leaves room for the rest */
  text[0] = '\0';
  strcat(text, "table '");
  strncat(text, table->name, (size_t)n);
  strcat(text, "': ");
  strncat(text, what, 40);
  return store->kernel->ops->alloc(store->kernel, MEMORY_DEVICE, bytes, text, block, status);
}

static sbag_code_t alloc_states(store_t *store, store_table_t *table, sbag_status_t *status) {
  kernel_t *k = store->kernel;
  table->info = optimizer_info(&table->optimizer);
  for (int s = 0; s < table->info.state_count; s++) {
    const optimizer_state_info_t *state = &table->info.states[s];
    int64_t width = state->row_wise ? 1 : table->dim;
    SBAG_TRY(alloc(store, state_bytes(store, table, width), table, state->name, &table->states[s], status));
    k->ops->fill_real(k, NULL, store->dtype, table->states[s], table->local_rows * width, state->initial);
  }
  if (!table->info.moves_untouched) return SBAG_OK;
  void *p = NULL;
  size_t bytes = mem_array_bytes(table->local_rows, sizeof(int32_t));
  SBAG_TRY(alloc(store, bytes, table, "last steps", &p, status));
  table->last_step = p;
  k->ops->clear(k, NULL, p, (int64_t)bytes);
  SBAG_TRY(alloc(store, OPTIMIZER_LR_LOG * sizeof(double), table, "learning rates", &p, status));
  table->lr_log = p;
  return SBAG_OK;
}

/* ---- initial values ---- */

/* The shard of which a table's array has the rows: this rank's, or for a mirror the one with all rows. */
typedef struct target {
  const store_table_t *table;
  const sbag_table_options_t *options;
  const plan_table_t *plan;
  int shard;
  int64_t rows;
  void *weight;
} target_t;

/* Rows first .. first + count - 1 of the shard, from the caller's [rows][dim] on this rank. */
static void copy_given(const store_t *store, const target_t *target, int64_t first, int64_t count, void *to) {
  const size_t bytes = (size_t)target->table->dim * kernel_dtype_bytes(store->dtype);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = target->plan != NULL ? plan_row(target->plan, target->shard, first + i) : first + i;
    copy_part_t part = {.to = (char *)to + (size_t)i * bytes,
                        .from = (const char *)target->options->from_pretrained + (size_t)row * bytes,
                        .bytes = (int64_t)bytes};
    store->kernel->ops->copy(store->kernel, NULL, &part, 1);
  }
}

/* A piece at a time stands in full beside the table. */
static sbag_code_t round_given(const store_t *store, const target_t *target, sbag_status_t *status) {
  enum { PIECE_ROWS = 1024 };
  kernel_t *k = store->kernel;
  const int64_t dim = target->table->dim;
  kernel_buffer_t values = {.kind = MEMORY_DEVICE}, rows = {.kind = MEMORY_DEVICE};
  sbag_code_t code = kernel_buffer_reserve(
      k, &values, mem_array_bytes(PIECE_ROWS, mem_array_bytes(dim, sizeof(float))), "given rows", status);
  if (code == SBAG_OK)
    code = kernel_buffer_reserve(k, &rows, PIECE_ROWS * sizeof(int64_t), "given rows", status);
  for (int64_t done = 0; code == SBAG_OK && done < target->rows; done += PIECE_ROWS) {
    const int64_t count = target->rows - done < PIECE_ROWS ? target->rows - done : PIECE_ROWS;
    copy_given(store, target, done, count, values.data);
    k->ops->fill_i64(k, NULL, rows.data, count, done, 1);
    k->ops->scatter_rows(k, NULL, store->dtype, target->table->storage, values.data, dim, rows.data, count,
                         target->weight);
  }
  if (code == SBAG_OK) code = k->ops->stream_sync(k, NULL, status);
  kernel_buffer_free(k, &values);
  kernel_buffer_free(k, &rows);
  return code;
}

static sbag_code_t fill(const store_t *store, const target_t *target, const int64_t *zero_rows,
                        int zero_count, sbag_status_t *status) {
  const sbag_table_options_t *options = target->options;
  if (options->from_pretrained != NULL) {
    if (target->table->storage != SBAG_STORAGE_FULL) return round_given(store, target, status);
    copy_given(store, target, 0, target->rows, target->weight);
    return SBAG_OK;
  }
  init_task_t task = {.plan = target->plan,
                      .shard = target->shard,
                      .rows = target->rows,
                      .dim = options->embedding_dim,
                      .kind = options->init,
                      .a = options->init_a,
                      .b = options->init_b,
                      .key = random_key(options->seed, options->name),
                      .zero_rows = zero_rows,
                      .zero_count = zero_count,
                      .storage = target->table->storage,
                      .weight = target->weight,
                      .fresh = 1};
  store->kernel->ops->init(store->kernel, NULL, store->dtype, &task);
  return SBAG_OK;
}

/* A mirror serves only tables whose rows change in updates alone: rows that max_norm rewrites or that lag
 * behind are read from their owners. */
static int wants_mirror(const sbag_table_options_t *options, const store_table_t *table) {
  return options->replicated && !options->has_max_norm && !(table->trainable && table->info.moves_untouched);
}

static sbag_code_t create_mirror(store_t *store, const sbag_table_options_t *options, store_table_t *table,
                                 const int64_t *zero_rows, int zero_count, sbag_status_t *status) {
  SBAG_TRY(alloc(store, weight_bytes(store, table, table->rows), table, "mirror", &table->mirror, status));
  plan_table_t whole = {
      .rows = table->rows, .layout = SBAG_LAYOUT_BLOCK, .shard_count = 1, .block_rows = table->rows};
  const target_t target = {table, options, &whole, 0, table->rows, table->mirror};
  return fill(store, &target, zero_rows, zero_count, status);
}

static sbag_code_t create_table(store_t *store, int t, int training, const sbag_table_options_t *options,
                                const int64_t *zero_rows, int zero_count, sbag_status_t *status) {
  store_table_t *table = &store->tables[t];
  const plan_table_t *plan = &store->plan->tables[t];
  *table =
      (store_table_t){.rows = options->num_embeddings,
                      .dim = options->embedding_dim,
                      .local_rows = plan_rank_rows(store->plan, store->rank, t),
                      .shard = plan_shard_of_rank(plan, store->rank),
                      .storage = options->storage,
                      .rounding = {.kind = options->rounding,
                                   .key = random_key(random_key(options->seed, options->name), "rounding"),
                                   .plan = plan},
                      .trainable = training && !options->freeze,
                      .has_max_norm = options->has_max_norm,
                      .max_norm = options->max_norm,
                      .norm_type = options->norm_type,
                      .optimizer = options->optimizer,
                      .changed = {.kind = MEMORY_DEVICE}};
  table->rounding.shard = table->shard;
  void *p = NULL;
  size_t name_bytes = strlen(options->name) + 1;
  SBAG_TRY(mem_alloc(store->kernel->mem, name_bytes, "table's name", &p, status));
  table->name = memcpy(p, options->name, name_bytes);
  SBAG_TRY(
      alloc(store, weight_bytes(store, table, table->local_rows), table, "weight", &table->weight, status));
  const target_t target = {table, options, plan, table->shard, table->local_rows, table->weight};
  if (table->local_rows > 0) SBAG_TRY(fill(store, &target, zero_rows, zero_count, status));
  if (table->trainable) SBAG_TRY(alloc_states(store, table, status));
  if (wants_mirror(options, table))
    SBAG_TRY(create_mirror(store, options, table, zero_rows, zero_count, status));
  return SBAG_OK;
}

sbag_code_t store_create(kernel_t *kernel, const plan_t *plan, int rank, sbag_dtype_t dtype, int training,
                         const sbag_table_options_t *tables, const int64_t *const *zero_rows,
                         const int *zero_counts, store_t **store, sbag_status_t *status) {
  void *p = NULL;
  SBAG_TRY(mem_calloc(kernel->mem, sizeof(store_t), "store", &p, status));
  store_t *made = p;
  *made = (store_t){.kernel = kernel, .dtype = dtype, .plan = plan, .rank = rank};
  sbag_code_t code =
      mem_calloc(kernel->mem, mem_array_bytes(plan->table_count, sizeof(store_table_t)), "store", &p, status);
  if (code == SBAG_OK) made->tables = p;
  for (int t = 0; code == SBAG_OK && t < plan->table_count; t++) {
    made->table_count = t + 1;
    code = create_table(made, t, training, &tables[t], zero_rows[t], zero_counts[t], status);
  }
  if (code != SBAG_OK) {
    store_destroy(&made);
    return code;
  }
  *store = made;
  return SBAG_OK;
}

void store_destroy(store_t **store) {
  if (store == NULL || *store == NULL) return;
  store_t *s = *store;
  kernel_t *k = s->kernel;
  for (int t = 0; t < s->table_count; t++) {
    store_table_t *table = &s->tables[t];
    mem_free(k->mem, table->name);
    void *blocks[] = {table->lent ? NULL : table->weight, table->last_step, table->lr_log, table->mirror};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
      if (blocks[i] != NULL) k->ops->release(k, MEMORY_DEVICE, blocks[i]);
    for (int i = 0; i < OPTIMIZER_STATES_MAX; i++)
      if (table->states[i] != NULL) k->ops->release(k, MEMORY_DEVICE, table->states[i]);
    kernel_buffer_free(k, &table->changed);
  }
  mem_free(k->mem, s->tables);
  mem_free(k->mem, s);
  *store = NULL;
}

void store_lend(store_t *store, int table, const void *weight) {
  store_table_t *t = &store->tables[table];
  if (!t->lent && t->weight != NULL) store->kernel->ops->release(store->kernel, MEMORY_DEVICE, t->weight);
  t->weight = (void *)(uintptr_t)weight; /* ops that only read it take it so too */
  t->lent = 1;
}

sbag_code_t store_will_write(store_t *store, int table, const int64_t *rows, int64_t count,
                             sbag_status_t *status) {
  store_table_t *t = &store->tables[table];
  if (t->mirror == NULL || count == 0) return SBAG_OK;
  /* Mirrors are refreshed after every update, so the list is empty here but after writes that did not
   * refresh. */
  kernel_buffer_t grown = {.kind = MEMORY_DEVICE};
  size_t bytes = mem_array_bytes(t->changed_count + count, sizeof(int64_t));
  if (bytes > t->changed.bytes) {
    SBAG_TRY(kernel_buffer_reserve(store->kernel, &grown, bytes, "changed rows of a mirror", status));
    copy_part_t part = {grown.data, t->changed.data, t->changed_count * (int64_t)sizeof(int64_t)};
    store->kernel->ops->copy(store->kernel, NULL, &part, 1);
    kernel_buffer_free(store->kernel, &t->changed);
    t->changed = grown;
  }
  store->kernel->ops->gather_i64(store->kernel, NULL, rows, NULL, count, 0,
                                 (int64_t *)t->changed.data + t->changed_count);
  t->changed_count += count;
  return SBAG_OK;
}

optimizer_rows_t store_optimizer_rows(const store_t *store, int table) {
  const store_table_t *t = &store->tables[table];
  optimizer_rows_t rows = {.options = &t->optimizer,
                           .dtype = store->dtype,
                           .dim = t->dim,
                           .storage = t->storage,
                           .rounding = t->rounding,
                           .weight = t->weight,
                           .last_step = t->last_step,
                           .epoch_step = t->epoch_step,
                           .lr_log = t->lr_log};
  memcpy(rows.states, t->states, sizeof rows.states);
  return rows;
}

sbag_code_t store_catch_up(store_t *store, int table, const int64_t *rows, int64_t count,
                           sbag_status_t *status) {
  store_table_t *t = &store->tables[table];
  (void)status;
  if (t->last_step == NULL || t->step == 0) return SBAG_OK;
  optimizer_rows_t at = store_optimizer_rows(store, table);
  store->kernel->ops->catch_up(store->kernel, NULL, &at, t->step, rows != NULL ? count : t->local_rows, rows);
  return SBAG_OK;
}

/* All rows are brought to the present and the log of learning rates starts anew. */
static sbag_code_t restart_log(store_t *store, int table, sbag_status_t *status) {
  store_table_t *t = &store->tables[table];
  if (t->last_step != NULL) {
    SBAG_TRY(store_catch_up(store, table, NULL, 0, status));
    store->kernel->ops->clear(store->kernel, NULL, t->last_step,
                              t->local_rows * (int64_t)sizeof *t->last_step);
  }
  t->epoch_step = t->step;
  return SBAG_OK;
}

sbag_code_t store_set_step_count(store_t *store, int table, int64_t step_count, sbag_status_t *status) {
  SBAG_TRY(restart_log(store, table, status));
  store->tables[table].step = store->tables[table].epoch_step = step_count;
  return SBAG_OK;
}

/* That the log starts anew when it is full bounds it and the length of any one row's catching up. */
static sbag_code_t roll_log(store_t *store, int table, sbag_status_t *status) {
  const store_table_t *t = &store->tables[table];
  if (t->step - t->epoch_step < OPTIMIZER_LR_LOG) return SBAG_OK;
  return restart_log(store, table, status);
}

sbag_code_t store_begin_update(store_t *store, int table, double lr, double grad_scale, const int64_t *rows,
                               int64_t count, optimizer_update_t *update, sbag_status_t *status) {
  store_table_t *t = &store->tables[table];
  SBAG_TRY(store_will_write(store, table, rows, count, status));
  if (t->last_step != NULL) {
    SBAG_TRY(roll_log(store, table, status));
    copy_part_t part = {t->lr_log + (t->step - t->epoch_step), &lr, sizeof lr};
    store->kernel->ops->copy(store->kernel, NULL, &part, 1);
  }
  t->step++;
  *update = (optimizer_update_t){.at = store_optimizer_rows(store, table),
                                 .step = t->step,
                                 .lr = lr,
                                 .grad_scale = grad_scale,
                                 .count = count,
                                 .rows = rows};
  return SBAG_OK;
}

sbag_code_t store_update(store_t *store, int table, double lr, double grad_scale, const int64_t *rows,
                         const int64_t *touched, const void *grad, int64_t count, sbag_status_t *status) {
  optimizer_update_t update;
  SBAG_TRY(store_begin_update(store, table, lr, grad_scale, rows, count, &update, status));
  update.touched = touched;
  update.grad = grad;
  store->kernel->ops->update(store->kernel, NULL, &update);
  return SBAG_OK;
}

sbag_code_t store_renorm(store_t *store, int table, const int64_t *rows, int64_t count,
                         sbag_status_t *status) {
  store_table_t *t = &store->tables[table];
  SBAG_TRY(store_will_write(store, table, rows, count, status));
  store->kernel->ops->renorm(store->kernel, NULL, store->dtype, t->storage, t->weight, t->dim, rows, count,
                             t->max_norm, t->norm_type, NULL);
  return SBAG_OK;
}
