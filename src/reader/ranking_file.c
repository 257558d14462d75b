/* A ranking in the binary form: users' items, from which every epoch draws its samples. */
#include "reader/ranking.h"
#include "reader/binary.h"

#include <stdio.h>
#include <string.h>

#define GROUP    "ranking"
#define TIMELINE GROUP "/timeline"

/* ---- writing ---- */

static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  const int64_t *from = user;
  (void)status;
  if (rows > 0) memcpy(out, from + first, (size_t)rows * sizeof *from);
  return SBAG_OK;
}

static sbag_code_t declare(checkpoint_writer_t *writer, const char *name, int64_t *values, int64_t count,
                           const char *description, const char *unit, sbag_status_t *status) {
  SBAG_TRY(checkpoint_add_array(writer, name, CHECKPOINT_I64, 1, &count, fill, values, status));
  SBAG_TRY(checkpoint_add_text(writer, name, "description", description, status));
  return checkpoint_add_text(writer, name, "unit", unit, status);
}

sbag_code_t reader_ranking_save(source_t *source, checkpoint_writer_t *writer, sbag_status_t *status) {
  ranking_t *r = source->state;
  interactions_t *all = &r->all;
  char name[BINARY_NAME_BYTES];
  for (int s = 0; s < READER_SPLITS; s++) {
    reader_binary_plain_name(GROUP "/begin", (reader_split_t)s, name);
    SBAG_TRY(declare(writer, name, all->begin[s], all->user_rows + 1, "where each user's items begin",
                     "items", status));
    reader_binary_plain_name(GROUP "/items", (reader_split_t)s, name);
    SBAG_TRY(declare(writer, name, all->items[s], all->count[s], "users' items, ascending", "row", status));
  }
  if (all->timeline != NULL)
    SBAG_TRY(declare(writer, TIMELINE, all->timeline, all->count[READER_TRAIN],
                     "users' training items from the oldest on", "row", status));
  SBAG_TRY(checkpoint_add_int(writer, GROUP, "negatives", r->negatives, status));
  return checkpoint_add_int(writer, GROUP, "history_length", r->history_length, status);
}

/* ---- reading: the checksums say that the file is as it was written, the rest is checked here ---- */

/* Numbers that the file has; *count: how many there are, or, if it is not negative, must be. */
static sbag_code_t read_numbers(source_t *source, checkpoint_reader_t *file, const char *name, int64_t *count,
                                int64_t **values, sbag_status_t *status) {
  checkpoint_array_t array;
  SBAG_TRY(checkpoint_expect(file, name, CHECKPOINT_I64, 1, count, status));
  SBAG_TRY(checkpoint_array_info(file, name, &array, status));
  *count = array.shape[0];
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(*count, sizeof **values), "reader: interactions",
                     (void **)values, status));
  return checkpoint_read_rows(file, name, 0, *count, *values, status);
}

static int is_list(const int64_t *items, int64_t count, int64_t rows) {
  for (int64_t i = 0; i < count; i++)
    if (items[i] <= (i == 0 ? 0 : items[i - 1]) || items[i] >= rows) return 0;
  return 1;
}

static sbag_code_t check_split(const source_t *source, int split, sbag_status_t *status) {
  const interactions_t *all = &((const ranking_t *)source->state)->all;
  const int64_t *begin = all->begin[split];
  int fits = begin[0] == 0 && begin[all->user_rows] == all->count[split];
  for (int64_t u = 0; u < all->user_rows && fits; u++)
    fits = begin[u + 1] >= begin[u] && begin[u + 1] <= all->count[split] &&
           is_list(all->items[split] + begin[u], begin[u + 1] - begin[u], all->item_rows);
  return fits && begin[1] == 0 ? SBAG_OK
                               : reader_binary_damaged(source, "users' items that do not ascend", status);
}

static sbag_code_t read_split(source_t *source, checkpoint_reader_t *file, int split, sbag_status_t *status) {
  interactions_t *all = &((ranking_t *)source->state)->all;
  char name[BINARY_NAME_BYTES];
  int64_t users = all->user_rows + 1;
  reader_binary_plain_name(GROUP "/begin", (reader_split_t)split, name);
  SBAG_TRY(read_numbers(source, file, name, &users, &all->begin[split], status));
  all->count[split] = -1;
  reader_binary_plain_name(GROUP "/items", (reader_split_t)split, name);
  SBAG_TRY(read_numbers(source, file, name, &all->count[split], &all->items[split], status));
  return check_split(source, split, status);
}

/* Each item's place among its user's by time; the timeline must have each of them once. */
static sbag_code_t find_places(const source_t *source, sbag_status_t *status) {
  const interactions_t *all = &((const ranking_t *)source->state)->all;
  for (int64_t i = 0; i < all->count[READER_TRAIN]; i++) all->place[i] = -1;
  for (int64_t u = 0; u < all->user_rows; u++) {
    const int64_t *items;
    int64_t count = reader_interactions_of(all, READER_TRAIN, u, &items), begin = all->begin[READER_TRAIN][u];
    for (int64_t t = 0; t < count; t++) {
      int64_t at = reader_interactions_find(items, count, all->timeline[begin + t]);
      if (at < 0 || all->place[begin + at] >= 0)
        return reader_binary_damaged(source, "a user's items by time are not the user's items", status);
      all->place[begin + at] = t;
    }
  }
  return SBAG_OK;
}

static sbag_code_t read_timeline(source_t *source, checkpoint_reader_t *file, sbag_status_t *status) {
  interactions_t *all = &((ranking_t *)source->state)->all;
  int64_t count = all->count[READER_TRAIN];
  if (!checkpoint_exists(file, TIMELINE)) return SBAG_OK;
  SBAG_TRY(read_numbers(source, file, TIMELINE, &count, &all->timeline, status));
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(count, sizeof *all->place), "reader: interactions by time",
                     (void **)&all->place, status));
  return find_places(source, status);
}

sbag_code_t reader_ranking_restore(source_t *source, checkpoint_reader_t *file, sbag_status_t *status) {
  mem_t *mem = source->mem;
  SBAG_TRY(mem_calloc(mem, sizeof(ranking_t), "reader: ranking", &source->state, status));
  ranking_t *r = source->state;
  SBAG_TRY(checkpoint_read_int(file, GROUP, "negatives", &r->negatives, status));
  SBAG_TRY(checkpoint_read_int(file, GROUP, "history_length", &r->history_length, status));
  SBAG_TRY(reader_ranking_check(r->negatives, r->history_length, status));
  SBAG_TRY(reader_vocabulary_load(&source->blobs, "user", 1, 0, mem, &r->all.users, status));
  SBAG_TRY(reader_vocabulary_load(&source->blobs, "item", 1, 0, mem, &r->all.item_tokens, status));
  r->all.user_rows = reader_vocabulary_count(r->all.users) + 1;
  r->all.item_rows = reader_vocabulary_count(r->all.item_tokens) + 1;
  for (int s = 0; s < READER_SPLITS; s++) SBAG_TRY(read_split(source, file, s, status));
  if (r->all.count[READER_TRAIN] == 0)
    return reader_binary_damaged(source, "no user has an item to train on", status);
  SBAG_TRY(read_timeline(source, file, status));
  return reader_ranking_ready(source, status);
}
