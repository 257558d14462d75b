/* Which rank owns which row of which table, as pure arithmetic.
 *
 * A table's rows are dealt to its shards (one a listed rank); a shard's rows are numbered from 0 (local
 * rows). All rows of all tables on all ranks also have one number, the key: ranks one behind the other,
 * within a rank its tables one behind the other, within a table the local rows. Sorting keys groups by owner,
 * then by table. Replicated tables are owned like any other. */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include "base/mem.h"
#include "base/random.h"
#include "base/status.h"
#include <shardbag/table.h>
#include <stdint.h>

/* The plan of one table: plain data, usable on a device. */
typedef struct plan_table {
  int64_t rows;
  sbag_layout_t layout;
  int shard_count;
  int64_t block_rows, block_extra; /* blocks: the first block_extra shards have block_rows + 1 rows */
  uint64_t scramble_key;
  const int *ranks;         /* [shard_count] the rank of each shard */
  const int64_t *shard_key; /* [shard_count] the key of each shard's local row 0 */
} plan_table_t;

typedef struct plan {
  int rank_count, table_count;
  plan_table_t *tables; /* [table_count] */
  int64_t *block_key;  /* [rank_count * table_count + 1] first key of (rank, table); the last is the number of
                          keys */
  int *ranks;          /* storage of the tables' lists */
  int64_t *shard_keys; /* likewise */
  mem_t *mem;
} plan_t;

/* Checks layouts and rank lists (distinct, within the communicator) with messages naming the table. */
sbag_code_t plan_create(mem_t *mem, int rank_count, const sbag_table_options_t *tables, int table_count,
                        plan_t **plan, sbag_status_t *status);
void plan_destroy(plan_t **plan);

static inline int64_t plan_rank_key(const plan_t *plan, int rank) {
  return plan->block_key[(int64_t)rank * plan->table_count];
}

/* First key of a table on a rank. */
static inline int64_t plan_block_key(const plan_t *plan, int rank, int table) {
  return plan->block_key[(int64_t)rank * plan->table_count + table];
}

/* Rows of a table that a rank owns (0 where it has no shard). */
static inline int64_t plan_rank_rows(const plan_t *plan, int rank, int table) {
  int64_t i = (int64_t)rank * plan->table_count + table;
  return plan->block_key[i + 1] - plan->block_key[i];
}

/* The shard with this rank, or -1. */
int plan_shard_of_rank(const plan_table_t *table, int rank);

HOST_DEVICE static inline int64_t plan_shard_rows(const plan_table_t *t, int shard) {
  if (t->layout == SBAG_LAYOUT_CYCLIC) return (t->rows - shard + t->shard_count - 1) / t->shard_count;
  return t->block_rows + (shard < t->block_extra ? 1 : 0);
}

HOST_DEVICE static inline void plan_locate(const plan_table_t *t, int64_t row, int *shard, int64_t *local) {
  if (t->layout == SBAG_LAYOUT_CYCLIC) {
    *shard = (int)(row % t->shard_count);
    *local = row / t->shard_count;
    return;
  }
  int64_t place = t->layout == SBAG_LAYOUT_SCRAMBLE ? random_permute(t->scramble_key, t->rows, row) : row;
  int64_t wide_end = t->block_extra * (t->block_rows + 1);
  if (place < wide_end) {
    *shard = (int)(place / (t->block_rows + 1));
    *local = place % (t->block_rows + 1);
  } else {
    *shard = (int)(t->block_extra + (place - wide_end) / t->block_rows);
    *local = (place - wide_end) % t->block_rows;
  }
}

/* The row at a place: plan_locate undone. */
HOST_DEVICE static inline int64_t plan_row(const plan_table_t *t, int shard, int64_t local) {
  if (t->layout == SBAG_LAYOUT_CYCLIC) return local * t->shard_count + shard;
  int64_t wide = shard < t->block_extra ? shard : t->block_extra;
  int64_t place = shard * t->block_rows + wide + local;
  return t->layout == SBAG_LAYOUT_SCRAMBLE ? random_permute_inverse(t->scramble_key, t->rows, place) : place;
}

HOST_DEVICE static inline int64_t plan_key(const plan_table_t *t, int64_t row) {
  int shard;
  int64_t local;
  plan_locate(t, row, &shard, &local);
  return t->shard_key[shard] + local;
}

#endif
