/* Reads users' items: LightGCN's lists (a line is a user and its items, all integers), one file a split; or
 * RecBole's .inter (a line is a user, an item and a time, found by the header), where the newest of each
 * user's items are held out. */
#include "reader/interactions.h"
#include "base/sort.h"
#include "reader/grow.h"
#include "reader/lines.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_BYTES = 1000, COLUMNS_MAX = 64 };

/* One line's user and one of its items, by their order of appearance or, where a vocabulary is given, by its
 * index. */
typedef struct event {
  int64_t user, item;
  double time;
  int64_t order;
  int split;
} event_t;

typedef struct load {
  source_t *source;
  const reader_ranking_config_t *config;
  interactions_t *out;
  int fits; /* vocabularies are made of what is read */
  lines_t *lines;
  event_t *events;
  int64_t count, capacity;
  int column[4], columns; /* of an .inter file: user, item, time, rating (-1: none); the highest one + 1 */
} load_t;

static sbag_code_t bad(const load_t *l, int64_t column, const char *what, text_t found, const char *right,
                       sbag_status_t *status) {
  return status_set(status, SBAG_ERR_FORMAT, "%s:%lld: column %lld: %s '%.*s'; %s",
                    reader_lines_path(l->lines), (long long)reader_lines_number(l->lines), (long long)column,
                    what, reader_text_shown(found), found.bytes, right);
}

static sbag_code_t check_text(const load_t *l, text_t line, char delimiter, sbag_status_t *status) {
  const char *nul = line.length > 0 ? memchr(line.bytes, '\0', (size_t)line.length) : NULL;
  int64_t column = 0;
  if (nul == NULL) return SBAG_OK;
  for (const char *at = line.bytes; at < nul; at++) column += *at == delimiter;
  return status_set(status, SBAG_ERR_FORMAT,
                    "%s:%lld: column %lld: the row has a NUL byte; it should be text",
                    reader_lines_path(l->lines), (long long)reader_lines_number(l->lines), (long long)column);
}

static sbag_code_t check_token(const load_t *l, const vocabulary_t *known, text_t token, int64_t column,
                               const char *what, sbag_status_t *status) {
  if (token.length == 0 || token.length > TOKEN_BYTES)
    return bad(l, column, what, token, "an id of 1 to 1000 bytes would be right", status);
  if (!l->fits && reader_vocabulary_find(known, token) < 0)
    return bad(l, column, what, token, "it is unknown: one that the model was trained with would be right",
               status);
  return SBAG_OK;
}

static sbag_code_t index_of(const load_t *l, vocabulary_t *words, text_t token, int64_t *index,
                            sbag_status_t *status) {
  if (l->fits) return reader_vocabulary_add(words, token, index, status);
  *index = reader_vocabulary_find(words, token);
  return SBAG_OK;
}

static sbag_code_t add(load_t *l, text_t user, text_t item, double time, int split, sbag_status_t *status) {
  event_t event = {.time = time, .order = l->count, .split = split};
  SBAG_TRY(index_of(l, l->out->users, user, &event.user, status));
  SBAG_TRY(index_of(l, l->out->item_tokens, item, &event.item, status));
  SBAG_TRY(reader_grow_to(l->source->mem, (void **)&l->events, &l->capacity, l->count + 1, sizeof *l->events,
                          "reader: interactions", status));
  l->events[l->count++] = event;
  return SBAG_OK;
}

/* ---- lists ---- */

static sbag_code_t check_list(const load_t *l, text_t line, sbag_status_t *status) {
  text_t rest = line, token;
  int64_t column = 0, number;
  SBAG_TRY(check_text(l, line, ' ', status));
  for (; reader_text_token(&rest, ' ', &token); column++) {
    const char *what = column == 0 ? "not a user:" : "not an item:";
    if (!reader_text_integer(token, &number))
      return bad(l, column, what, token, "an integer of digits alone would be right", status);
    SBAG_TRY(check_token(l, column == 0 ? l->out->users : l->out->item_tokens, token, column, what, status));
  }
  if (column > 0) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_FORMAT,
      "%s:%lld: column 0: the line is empty; a user and its items, with spaces between, would be right",
      reader_lines_path(l->lines), (long long)reader_lines_number(l->lines));
}

static sbag_code_t add_list(load_t *l, text_t line, int split, sbag_status_t *status) {
  text_t user, item;
  int64_t index;
  (void)reader_text_token(&line, ' ', &user);
  if (l->fits)
    SBAG_TRY(reader_vocabulary_add(l->out->users, user, &index, status)); /* who has no items too */
  while (reader_text_token(&line, ' ', &item)) SBAG_TRY(add(l, user, item, 0.0, split, status));
  return SBAG_OK;
}

/* ---- .inter ---- */

static int is_called(text_t field, const char *name) {
  const char *colon = field.length > 0 ? memchr(field.bytes, ':', (size_t)field.length) : NULL;
  if (colon != NULL) field.length = colon - field.bytes;
  return reader_text_equal(field, name);
}

static sbag_code_t find_columns(load_t *l, sbag_status_t *status) {
  static const char *const names[4] = {"user_id", "item_id", "timestamp", "rating"};
  text_t line, fields[COLUMNS_MAX];
  SBAG_TRY(reader_lines_next(l->lines, &line, status));
  int count = line.bytes == NULL ? 0 : reader_text_split(line, '\t', fields, COLUMNS_MAX);
  for (int i = 0; i < 4; i++) {
    l->column[i] = -1;
    for (int f = 0; f < count && l->column[i] < 0; f++)
      if (is_called(fields[f], names[i])) l->column[i] = f;
    if (l->column[i] < 0 && i < 3)
      return status_set(
          status, SBAG_ERR_FORMAT,
          "%s:1: no column '%s'; the first line should be as 'user_id:token', with tabs between",
          reader_lines_path(l->lines), names[i]);
    if (l->column[i] >= l->columns) l->columns = l->column[i] + 1;
  }
  return SBAG_OK;
}

/* *keep: the rating, where there are ratings, is high enough. */
static sbag_code_t check_inter(const load_t *l, text_t line, text_t *fields, double *time, int *keep,
                               sbag_status_t *status) {
  double rating = l->config->min_rating;
  SBAG_TRY(check_text(l, line, '\t', status));
  int count = reader_text_split(line, '\t', fields, l->columns);
  if (count < l->columns)
    return status_set(
        status, SBAG_ERR_FORMAT, "%s:%lld: column %d: missing, the first line promises at least %d",
        reader_lines_path(l->lines), (long long)reader_lines_number(l->lines), count, l->columns);
  SBAG_TRY(check_token(l, l->out->users, fields[l->column[0]], l->column[0], "not a user:", status));
  SBAG_TRY(check_token(l, l->out->item_tokens, fields[l->column[1]], l->column[1], "not an item:", status));
  if (!reader_text_number(fields[l->column[2]], time))
    return bad(l, l->column[2], "not a time:", fields[l->column[2]], "a decimal number would be right",
               status);
  if (l->column[3] >= 0 && !reader_text_number(fields[l->column[3]], &rating))
    return bad(l, l->column[3], "not a rating:", fields[l->column[3]], "a decimal number would be right",
               status);
  *keep = rating >= l->config->min_rating;
  return SBAG_OK;
}

/* ---- files ---- */

static sbag_code_t take_line(load_t *l, text_t line, int split, sbag_status_t *status) {
  text_t fields[COLUMNS_MAX];
  double time = 0.0;
  int keep = 1;
  sbag_status_t why;
  status_clear(&why);
  sbag_code_t code =
      l->config->held_out ? check_inter(l, line, fields, &time, &keep, &why) : check_list(l, line, &why);
  if (code != SBAG_OK && !l->config->skip_bad_rows) return status_set(status, code, "%s", why.message);
  if (code != SBAG_OK) {
    if (l->source->bad_rows++ == 0) memcpy(l->source->first_bad, why.message, sizeof l->source->first_bad);
    return SBAG_OK;
  }
  if (!l->config->held_out) return add_list(l, line, split, status);
  return keep ? add(l, fields[l->column[0]], fields[l->column[1]], time, split, status) : SBAG_OK;
}

static sbag_code_t read_file(load_t *l, const char *path, int split, sbag_status_t *status) {
  text_t line;
  SBAG_TRY(reader_lines_open(path, l->source->mem, &l->lines, status));
  sbag_code_t code = l->config->held_out ? find_columns(l, status) : SBAG_OK;
  while (code == SBAG_OK) {
    code = reader_lines_next(l->lines, &line, status);
    if (code != SBAG_OK || line.bytes == NULL) break;
    code = take_line(l, line, split, status);
  }
  reader_lines_close(&l->lines);
  return code;
}

/* ---- order ---- */

/* What a vocabulary is sorted by. */
typedef struct key {
  text_t token;
  int64_t number, index;
} id_key_t;

static int by_number(const void *a, const void *b) {
  const id_key_t *x = a, *y = b;
  return (x->number > y->number) - (x->number < y->number);
}

static int by_bytes(const void *a, const void *b) {
  const id_key_t *x = a, *y = b;
  size_t shorter = (size_t)(x->token.length < y->token.length ? x->token.length : y->token.length);
  int order = memcmp(x->token.bytes, y->token.bytes, shorter);
  return order != 0 ? order : (x->token.length > y->token.length) - (x->token.length < y->token.length);
}

/* "7" and "007" are two ids: then the bytes decide for all. */
static int are_numbers(id_key_t *keys, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!reader_text_integer(keys[i].token, &keys[i].number) ||
        (keys[i].token.length > 1 && keys[i].token.bytes[0] == '0'))
      return 0;
  return 1;
}

static sbag_code_t sort_keys(vocabulary_t **words, id_key_t *keys, int64_t *place, mem_t *mem,
                             sbag_status_t *status) {
  int64_t count = reader_vocabulary_count(*words), index;
  vocabulary_t *sorted = NULL;
  for (int64_t i = 0; i < count; i++) keys[i] = (id_key_t){reader_vocabulary_token(*words, i), 0, i};
  sort_items(keys, count, sizeof *keys, are_numbers(keys, count) ? by_number : by_bytes);
  SBAG_TRY(reader_vocabulary_create(mem, &sorted, status));
  sbag_code_t code = SBAG_OK;
  for (int64_t i = 0; i < count && code == SBAG_OK; i++) {
    code = reader_vocabulary_add(sorted, keys[i].token, &index, status);
    place[keys[i].index] = i;
  }
  if (code == SBAG_OK) {
    reader_vocabulary_destroy(words);
    *words = sorted;
  } else {
    reader_vocabulary_destroy(&sorted);
  }
  return code;
}

/* The tokens in their order, and where each went: place[old index] is the new one. */
static sbag_code_t sort_words(vocabulary_t **words, mem_t *mem, int64_t **place, sbag_status_t *status) {
  int64_t count = reader_vocabulary_count(*words);
  id_key_t *keys = NULL;
  SBAG_TRY(
      mem_alloc(mem, mem_array_bytes(count, sizeof **place), "reader: order of ids", (void **)place, status));
  SBAG_TRY(
      mem_alloc(mem, mem_array_bytes(count, sizeof *keys), "reader: order of ids", (void **)&keys, status));
  sbag_code_t code = sort_keys(words, keys, *place, mem, status);
  mem_free(mem, keys);
  return code;
}

static sbag_code_t order_ids(load_t *l, sbag_status_t *status) {
  mem_t *mem = l->source->mem;
  int64_t *users = NULL, *items = NULL;
  sbag_code_t code = sort_words(&l->out->users, mem, &users, status);
  if (code == SBAG_OK) code = sort_words(&l->out->item_tokens, mem, &items, status);
  for (int64_t i = 0; i < l->count && code == SBAG_OK; i++) {
    l->events[i].user = users[l->events[i].user];
    l->events[i].item = items[l->events[i].item];
  }
  mem_free(mem, users);
  mem_free(mem, items);
  return code;
}

/* ---- splits ---- */

static int by_user_and_time(const void *a, const void *b) {
  const event_t *x = a, *y = b;
  if (x->user != y->user) return x->user < y->user ? -1 : 1;
  if (x->time != y->time) return x->time < y->time ? -1 : 1;
  return (x->order > y->order) - (x->order < y->order);
}

/* An item that a user has twice is as old as its first time. */
static int by_age(const void *a, const void *b) {
  const event_t *x = a, *y = b;
  if (x->time != y->time) return x->time < y->time ? -1 : 1;
  return (x->order > y->order) - (x->order < y->order);
}

static int by_user_and_item(const void *a, const void *b) {
  const event_t *x = a, *y = b;
  if (x->user != y->user) return x->user < y->user ? -1 : 1;
  if (x->item != y->item) return x->item < y->item ? -1 : 1;
  return by_age(x, y);
}

/* The newest of each user's are the test's, those before them valid's; shares are rounded down. */
static void hold_out(load_t *l) {
  const double *share = l->config->holdout;
  sort_items(l->events, l->count, sizeof *l->events, by_user_and_time);
  for (int64_t begin = 0, end; begin < l->count; begin = end) {
    for (end = begin; end < l->count && l->events[end].user == l->events[begin].user;) end++;
    int64_t count = end - begin, test = (int64_t)((double)count * share[1] + 1e-9);
    int64_t valid = (int64_t)((double)count * share[0] + 1e-9);
    for (int64_t i = begin; i < end; i++)
      l->events[i].split = i >= end - test           ? READER_TEST
                           : i >= end - test - valid ? READER_VALID
                                                     : READER_TRAIN;
  }
}

/* events: a user's, each item once, in the order of the items from `begin` on. */
static void fill_timeline(interactions_t *out, event_t *events, int64_t begin, int64_t count) {
  for (int64_t i = 0; i < count; i++) events[i].user = begin + i; /* whose place is sought */
  sort_items(events, count, sizeof *events, by_age);
  for (int64_t i = 0; i < count; i++) {
    out->timeline[begin + i] = events[i].item + 1;
    out->place[events[i].user] = i;
  }
}

static sbag_code_t fill_timelines(load_t *l, sbag_status_t *status) {
  interactions_t *out = l->out;
  mem_t *mem = l->source->mem;
  size_t bytes = mem_array_bytes(out->count[READER_TRAIN], sizeof(int64_t));
  SBAG_TRY(mem_alloc(mem, bytes, "reader: interactions by time", (void **)&out->timeline, status));
  SBAG_TRY(mem_alloc(mem, bytes, "reader: interactions by time", (void **)&out->place, status));
  for (int64_t i = 0, at = 0, begin = 0; i < l->count;) {
    int64_t user = l->events[i].user, kept = 0, first = i, last = -1;
    for (; i < l->count && l->events[i].user == user; i++) {
      if (l->events[i].split != READER_TRAIN || l->events[i].item == last) continue;
      last = l->events[i].item;
      l->events[first + kept++] = l->events[i];
    }
    begin = at;
    at += kept;
    fill_timeline(out, l->events + first, begin, kept);
  }
  return SBAG_OK;
}

/* A split's items by user; an item that a user has twice counts once. */
static sbag_code_t fill_split(const load_t *l, int split, sbag_status_t *status) {
  interactions_t *out = l->out;
  mem_t *mem = l->source->mem;
  int64_t count = 0, user = -1, item = -1;
  for (int64_t i = 0; i < l->count; i++) count += l->events[i].split == split;
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(out->user_rows + 1, sizeof(int64_t)), "reader: interactions",
                      (void **)&out->begin[split], status));
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(count, sizeof(int64_t)), "reader: interactions",
                     (void **)&out->items[split], status));
  count = 0;
  for (int64_t i = 0; i < l->count; i++) {
    const event_t *event = &l->events[i];
    if (event->split != split || (event->user == user && event->item == item)) continue;
    user = event->user;
    item = event->item;
    out->items[split][count++] = item + 1;
    out->begin[split][user + 2]++;
  }
  for (int64_t u = 0; u < out->user_rows; u++) out->begin[split][u + 1] += out->begin[split][u];
  out->count[split] = count;
  return SBAG_OK;
}

static sbag_code_t get_words(const load_t *l, const char *name, vocabulary_t **words, sbag_status_t *status) {
  if (l->fits) return reader_vocabulary_create(l->source->mem, words, status);
  return reader_vocabulary_load(l->source->given, name, 1, 0, l->source->mem, words, status);
}

static sbag_code_t load(load_t *l, sbag_status_t *status) {
  interactions_t *out = l->out;
  SBAG_TRY(get_words(l, "user", &out->users, status));
  SBAG_TRY(get_words(l, "item", &out->item_tokens, status));
  for (int split = 0, file = 0; split < READER_SPLITS; split++)
    for (int end = file + l->config->split_paths[split]; file < end; file++)
      SBAG_TRY(read_file(l, l->config->paths[file], split, status));
  if (l->fits) SBAG_TRY(order_ids(l, status));
  if (l->config->held_out) hold_out(l);
  out->user_rows = reader_vocabulary_count(out->users) + 1;
  out->item_rows = reader_vocabulary_count(out->item_tokens) + 1;
  sort_items(l->events, l->count, sizeof *l->events, by_user_and_item);
  for (int split = 0; split < READER_SPLITS; split++) SBAG_TRY(fill_split(l, split, status));
  return l->config->held_out ? fill_timelines(l, status) : SBAG_OK;
}

sbag_code_t reader_interactions_load(source_t *source, interactions_t *interactions, sbag_status_t *status) {
  load_t l = {.source = source,
              .config = &source->config->source.ranking,
              .out = interactions,
              .fits = source->given == NULL};
  sbag_code_t code = load(&l, status);
  mem_free(source->mem, l.events);
  return code;
}

void reader_interactions_clear(mem_t *mem, interactions_t *interactions) {
  reader_vocabulary_destroy(&interactions->users);
  reader_vocabulary_destroy(&interactions->item_tokens);
  for (int split = 0; split < READER_SPLITS; split++) {
    mem_free(mem, interactions->begin[split]);
    mem_free(mem, interactions->items[split]);
  }
  mem_free(mem, interactions->timeline);
  mem_free(mem, interactions->place);
  *interactions = (interactions_t){0};
}

int64_t reader_interactions_find(const int64_t *items, int64_t count, int64_t row) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (items[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low < count && items[low] == row ? low : -1;
}

int reader_interactions_have(const int64_t *items, int64_t count, int64_t row) {
  return reader_interactions_find(items, count, row) >= 0;
}

/* Before items[i] there are items[i] - 1 - i rows that are not in the list. */
int64_t reader_interactions_other(const int64_t *items, int64_t count, int64_t r) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (items[middle] - 1 - middle <= r)
      low = middle + 1;
    else
      high = middle;
  }
  return r + 1 + low;
}
