/* Ranking: a training sample is a user, an item of that user and items that are none of the user's, drawn
 * uniformly; which are drawn follows from the seed, the epoch and the item's number alone. An evaluation's
 * samples are its users. Held in memory, so any position is as near as any other. */
#include "reader/ranking.h"
#include "base/random.h"

#include <stdio.h>

sbag_code_t reader_ranking_check(int64_t negatives, int64_t history_length, sbag_status_t *status) {
  if (negatives < 1 || negatives > RANKING_NEGATIVES_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "ranking: %lld negatives; it must be 1 to %d",
                      (long long)negatives, (int)RANKING_NEGATIVES_MAX);
  if (history_length < 0 || history_length > 1 << 20)
    return status_set(status, SBAG_ERR_ARGUMENT, "ranking: history length %lld; it must be 0 to 2^20",
                      (long long)history_length);
  return SBAG_OK;
}

static sbag_code_t check_config(const reader_ranking_config_t *c, sbag_status_t *status) {
  int64_t paths = 0;
  for (int s = 0; s < READER_SPLITS; s++) paths += c->split_paths[s];
  if (paths != c->path_count || c->split_paths[READER_TRAIN] < 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "ranking: %lld files are of a split, of %d; all must be, and one of train",
                      (long long)paths, c->path_count);
  SBAG_TRY(reader_ranking_check(c->negatives, c->history_length, status));
  if (c->held_out && !(c->holdout[0] >= 0 && c->holdout[1] >= 0 && c->holdout[0] + c->holdout[1] < 1))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "ranking: %g and %g are held out; together it must be below 1", c->holdout[0],
                      c->holdout[1]);
  return SBAG_OK;
}

static void set_feature(source_t *source, int feature, const char *name, const char *table,
                        reader_role_t role, int64_t rows, int64_t room) {
  reader_feature_t *f = &source->features[feature];
  snprintf(f->name, sizeof f->name, "%s", name);
  f->rows = rows;
  f->multi_hot = role != ROLE_QUERY || room > 1;
  f->table = table;
  f->role = role;
  source->bag_room[feature] = room;
}

static sbag_code_t describe(source_t *source, sbag_status_t *status) {
  ranking_t *r = source->state;
  char name[64];
  r->history = r->history_length > 0 ? 1 : -1;
  r->positive = 1 + (r->history > 0);
  r->negative = r->positive + 1;
  SBAG_TRY(reader_source_set_features(source, r->negative + (int)r->negatives, status));
  set_feature(source, 0, "user", NULL, ROLE_QUERY, r->all.user_rows, 1);
  if (r->history > 0)
    set_feature(source, r->history, "history", "item", ROLE_QUERY, r->all.item_rows, r->history_length);
  set_feature(source, r->positive, "item", NULL, ROLE_POSITIVE, r->all.item_rows, 1);
  for (int i = 0; i < (int)r->negatives; i++) {
    snprintf(name, sizeof name, "negative_%d", i);
    set_feature(source, r->negative + i, name, "item", ROLE_NEGATIVE, r->all.item_rows, 1);
  }
  return SBAG_OK;
}

static sbag_code_t list_users(source_t *source, reader_split_t split, sbag_status_t *status) {
  ranking_t *r = source->state;
  const int64_t *begin = r->all.begin[split];
  int64_t count = 0;
  for (int64_t u = 0; u < r->all.user_rows; u++) count += begin[u + 1] > begin[u];
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(count, sizeof(int64_t)), "reader: users of an evaluation",
                     (void **)&r->users[split], status));
  source->samples[split] = 0;
  for (int64_t u = 0; u < r->all.user_rows; u++)
    if (begin[u + 1] > begin[u]) r->users[split][source->samples[split]++] = u;
  return SBAG_OK;
}

sbag_code_t reader_ranking_ready(source_t *source, sbag_status_t *status) {
  ranking_t *r = source->state;
  source->samples[READER_TRAIN] = r->all.count[READER_TRAIN];
  SBAG_TRY(list_users(source, READER_VALID, status));
  SBAG_TRY(list_users(source, READER_TEST, status));
  source->interactions = &r->all;
  return describe(source, status);
}

static sbag_code_t ranking_open(source_t *source, sbag_status_t *status) {
  const reader_ranking_config_t *config = &source->config->source.ranking;
  SBAG_TRY(check_config(config, status));
  SBAG_TRY(mem_calloc(source->mem, sizeof(ranking_t), "reader: ranking", &source->state, status));
  ranking_t *r = source->state;
  r->negatives = config->negatives;
  r->history_length = config->history_length;
  SBAG_TRY(reader_interactions_load(source, &r->all, status));
  if (r->all.count[READER_TRAIN] == 0)
    return status_set(status, SBAG_ERR_FORMAT, "%s: no user has an item to train on (%lld bad rows)%s%s",
                      config->paths[0], (long long)source->bad_rows,
                      source->bad_rows > 0 ? "; the first: " : "", source->first_bad);
  SBAG_TRY(reader_vocabulary_save(r->all.users, "user", 1, 0, &source->blobs, source->mem, status));
  SBAG_TRY(reader_vocabulary_save(r->all.item_tokens, "item", 1, 0, &source->blobs, source->mem, status));
  SBAG_TRY(reader_ranking_ready(source, status));
  return config->users_path == NULL ? SBAG_OK : reader_ranking_list(source, status);
}

static void ranking_close(source_t *source) {
  ranking_t *r = source->state;
  if (r == NULL) return;
  reader_interactions_clear(source->mem, &r->all);
  for (int s = 0; s < READER_SPLITS; s++) mem_free(source->mem, r->users[s]);
  mem_free(source->mem, r);
  source->interactions = NULL;
  source->state = NULL;
}

static sbag_code_t ranking_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                                sbag_status_t *status) {
  ranking_t *r = source->state;
  char name[64];
  (void)position;
  (void)status;
  r->split = split;
  r->shuffled = source->config->shuffle && split == READER_TRAIN;
  r->order_key = reader_source_epoch_key(source, epoch);
  snprintf(name, sizeof name, "negatives epoch %lld", (long long)epoch);
  r->negative_key = random_key(source->config->seed, name);
  snprintf(name, sizeof name, "history epoch %lld", split == READER_TRAIN ? (long long)epoch : -1);
  r->history_key = random_key(source->config->seed, name);
  return SBAG_OK;
}

/* The newest of the user's items before `end`. */
static sbag_code_t push_newest(const ranking_t *r, int64_t most, int64_t user, int64_t end, slot_t *slot,
                               sbag_status_t *status) {
  const int64_t *line = r->all.timeline + r->all.begin[READER_TRAIN][user];
  for (int64_t i = end; i > 0 && i > end - most; i--)
    SBAG_TRY(reader_slot_push(slot, r->history, line[i - 1], status));
  return SBAG_OK;
}

/* Without times: of the user's items but `target`, side by side from a place that is drawn. */
static sbag_code_t push_any(const ranking_t *r, int64_t most, int64_t user, int64_t target, int64_t sample,
                            slot_t *slot, sbag_status_t *status) {
  const int64_t *items;
  int64_t count = reader_interactions_of(&r->all, READER_TRAIN, user, &items), taken = 0;
  int64_t first = count > 0 ? random_below(r->history_key, (uint64_t)sample, count) : 0;
  for (int64_t i = 0; i < count && taken < most; i++) {
    int64_t item = items[(first + i) % count];
    if (item == target) continue;
    SBAG_TRY(reader_slot_push(slot, r->history, item, status));
    taken++;
  }
  return SBAG_OK;
}

/* At most so many of the user's training items: those before the target, of an evaluation the newest. */
static sbag_code_t push_history(const source_t *source, int64_t user, int64_t target, int64_t sample,
                                slot_t *slot, sbag_status_t *status) {
  const ranking_t *r = source->state;
  int64_t most = r->history_length;
  const int64_t *begin = &r->all.begin[READER_TRAIN][user];
  if (r->history < 0) return SBAG_OK;
  if (r->all.timeline == NULL) return push_any(r, most, user, target, sample, slot, status);
  return push_newest(r, most, user, r->split == READER_TRAIN ? r->all.place[sample] : begin[1] - begin[0],
                     slot, status);
}

/* Who has all items gets no negatives. */
static sbag_code_t push_negatives(const source_t *source, int64_t user, int64_t sample, slot_t *slot,
                                  sbag_status_t *status) {
  const ranking_t *r = source->state;
  int64_t negatives = r->negatives;
  const int64_t *items;
  int64_t count = reader_interactions_of(&r->all, READER_TRAIN, user, &items);
  int64_t others = r->all.item_rows - 1 - count;
  for (int64_t i = 0; i < negatives && others > 0; i++) {
    int64_t draw = random_below(r->negative_key, (uint64_t)(sample * negatives + i), others);
    SBAG_TRY(
        reader_slot_push(slot, r->negative + (int)i, reader_interactions_other(items, count, draw), status));
  }
  return SBAG_OK;
}

/* The user of the i-th training item. */
static int64_t user_of(const ranking_t *r, int64_t i) {
  const int64_t *begin = r->all.begin[READER_TRAIN];
  int64_t low = 0, high = r->all.user_rows - 1; /* the last user that begins at or before i */
  while (low < high) {
    int64_t middle = low + (high - low + 1) / 2;
    if (begin[middle] <= i)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static sbag_code_t ranking_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                                sbag_status_t *status) {
  const ranking_t *r = source->state;
  for (int64_t position = begin; position < end; position++) {
    int trains = r->split == READER_TRAIN;
    int64_t at = r->shuffled ? random_permute(r->order_key, source->samples[r->split], position) : position;
    int64_t user = trains ? user_of(r, at) : r->users[r->split][at];
    int64_t target = trains ? r->all.items[READER_TRAIN][at] : 0;
    *reader_slot_label(slot) = 0.0F;
    SBAG_TRY(reader_slot_push(slot, 0, user, status));
    SBAG_TRY(push_history(source, user, target, at, slot, status));
    if (trains) SBAG_TRY(reader_slot_push(slot, r->positive, target, status));
    if (trains) SBAG_TRY(push_negatives(source, user, at, slot, status));
    reader_slot_end_sample(slot);
  }
  return SBAG_OK;
}

const source_ops_t reader_source_ranking = {.form = "ranking",
                                            .open = ranking_open,
                                            .close = ranking_close,
                                            .seek = ranking_seek,
                                            .fill = ranking_fill,
                                            .save = reader_ranking_save,
                                            .restore = reader_ranking_restore};
