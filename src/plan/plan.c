/* Building a plan from the tables' descriptions. */
#include "plan/plan.h"

#include <string.h>

static sbag_code_t check_ranks(const sbag_table_options_t *table, int rank_count, sbag_status_t *status) {
  if (table->ranks == NULL) return SBAG_OK;
  if (table->rank_count < 1 || table->rank_count > rank_count)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': %d owning ranks given; from 1 to %d are possible", table->name,
                      table->rank_count, rank_count);
  for (int i = 0; i < table->rank_count; i++) {
    if (table->ranks[i] < 0 || table->ranks[i] >= rank_count)
      return status_set(status, SBAG_ERR_ARGUMENT, "table '%s': rank %d (entry %d) is not in 0 to %d",
                        table->name, table->ranks[i], i, rank_count - 1);
    for (int j = 0; j < i; j++)
      if (table->ranks[j] == table->ranks[i])
        return status_set(status, SBAG_ERR_ARGUMENT,
                          "table '%s': rank %d is listed twice (entries %d and %d)", table->name,
                          table->ranks[i], j, i);
  }
  return SBAG_OK;
}

static sbag_code_t check_table(const sbag_table_options_t *table, int rank_count, sbag_status_t *status) {
  if (table->layout < SBAG_LAYOUT_BLOCK || table->layout > SBAG_LAYOUT_SCRAMBLE)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "table '%s': layout %d is none of block (0), cyclic (1), scramble (2)", table->name,
                      (int)table->layout);
  return check_ranks(table, rank_count, status);
}

static int shard_count_of(const sbag_table_options_t *table, int rank_count) {
  return table->ranks != NULL ? table->rank_count : rank_count;
}

static void describe_table(const sbag_table_options_t *from, int rank_count, int *ranks, int64_t *shard_key,
                           plan_table_t *to) {
  int shards = shard_count_of(from, rank_count);
  for (int s = 0; s < shards; s++) ranks[s] = from->ranks != NULL ? from->ranks[s] : s;
  *to = (plan_table_t){.rows = from->num_embeddings,
                       .layout = from->layout,
                       .shard_count = shards,
                       .block_rows = from->num_embeddings / shards,
                       .block_extra = from->num_embeddings % shards,
                       .scramble_key = random_key(0, from->name),
                       .ranks = ranks,
                       .shard_key = shard_key};
}

int plan_shard_of_rank(const plan_table_t *table, int rank) {
  for (int s = 0; s < table->shard_count; s++)
    if (table->ranks[s] == rank) return s;
  return -1;
}

static void number_keys(plan_t *plan, int64_t *shard_keys) {
  int64_t key = 0;
  for (int rank = 0; rank < plan->rank_count; rank++) {
    int64_t *table_keys = shard_keys;
    for (int t = 0; t < plan->table_count; t++) {
      const plan_table_t *table = &plan->tables[t];
      plan->block_key[(int64_t)rank * plan->table_count + t] = key;
      int shard = plan_shard_of_rank(table, rank);
      if (shard >= 0) {
        table_keys[shard] = key;
        key += plan_shard_rows(table, shard);
      }
      table_keys += table->shard_count;
    }
  }
  plan->block_key[(int64_t)plan->rank_count * plan->table_count] = key;
}

static sbag_code_t allocate(plan_t *plan, int64_t shard_total, sbag_status_t *status) {
  int64_t blocks = (int64_t)plan->rank_count * plan->table_count + 1;
  void *p = NULL;
  SBAG_TRY(
      mem_calloc(plan->mem, mem_array_bytes(plan->table_count, sizeof(plan_table_t)), "plan", &p, status));
  plan->tables = p;
  SBAG_TRY(mem_calloc(plan->mem, mem_array_bytes(blocks, sizeof(int64_t)), "plan", &p, status));
  plan->block_key = p;
  SBAG_TRY(mem_calloc(plan->mem, mem_array_bytes(shard_total, sizeof(int)), "plan", &p, status));
  plan->ranks = p;
  SBAG_TRY(mem_calloc(plan->mem, mem_array_bytes(shard_total, sizeof(int64_t)), "plan", &p, status));
  plan->shard_keys = p;
  return SBAG_OK;
}

sbag_code_t plan_create(mem_t *mem, int rank_count, const sbag_table_options_t *tables, int table_count,
                        plan_t **plan, sbag_status_t *status) {
  int64_t shard_total = 0, key_total = 0;
  for (int t = 0; t < table_count; t++) {
    SBAG_TRY(check_table(&tables[t], rank_count, status));
    shard_total += shard_count_of(&tables[t], rank_count);
    if (__builtin_add_overflow(key_total, tables[t].num_embeddings, &key_total))
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "table '%s': the rows of all tables up to it pass 2^63 - 1", tables[t].name);
  }
  void *p = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(plan_t), "plan", &p, status));
  plan_t *made = p;
  *made = (plan_t){.rank_count = rank_count, .table_count = table_count, .mem = mem};
  sbag_code_t code = allocate(made, shard_total, status);
  if (code != SBAG_OK) {
    plan_destroy(&made);
    return code;
  }
  int64_t used = 0;
  for (int t = 0; t < table_count; t++) {
    describe_table(&tables[t], rank_count, made->ranks + used, made->shard_keys + used, &made->tables[t]);
    used += made->tables[t].shard_count;
  }
  number_keys(made, made->shard_keys);
  *plan = made;
  return SBAG_OK;
}

void plan_destroy(plan_t **plan) {
  if (plan == NULL || *plan == NULL) return;
  plan_t *p = *plan;
  mem_free(p->mem, p->tables);
  mem_free(p->mem, p->block_key);
  mem_free(p->mem, p->ranks);
  mem_free(p->mem, p->shard_keys);
  mem_free(p->mem, p);
  *plan = NULL;
}
