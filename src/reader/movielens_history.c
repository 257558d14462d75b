/* The liked-movies history: for a rating at time t, the movies that its user liked in training ratings
 * strictly before t. All training likes lie sorted by user and time, so a rating's history is a range that
 * ends where t begins: nothing of the future, and nothing of validation or test, can be in it. */
#include "reader/movielens.h"
#include "base/sort.h"

#include <stdlib.h>

typedef struct like {
  int64_t user, line, movie_row;
  double time;
} like_t;

static int by_user_and_time(const void *a, const void *b) {
  const like_t *x = a, *y = b;
  if (x->user != y->user) return x->user < y->user ? -1 : 1;
  if (x->time != y->time) return x->time < y->time ? -1 : 1;
  return x->line < y->line ? -1 : x->line > y->line;
}

static int is_like(const movielens_rating_t *rating) {
  return rating->split == READER_TRAIN && rating->label == 1.0F;
}

/* The first like that is not before (user, time). */
static int64_t lower_bound(const like_t *likes, int64_t count, int64_t user, double time) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    const like_t *like = &likes[middle];
    if (like->user < user || (like->user == user && like->time < time))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static void link(movielens_t *m, like_t *likes, int64_t count, int64_t length) {
  int64_t filled = 0;
  for (int64_t i = 0; i < m->rating_count; i++) {
    const movielens_rating_t *rating = &m->ratings[i];
    if (!is_like(rating)) continue;
    likes[filled++] = (like_t){rating->user, i, m->movies[rating->movie].row, rating->time};
  }
  sort_items(likes, count, sizeof *likes, by_user_and_time);
  for (int64_t i = 0; i < count; i++) m->liked_rows[i] = likes[i].movie_row;
  for (int64_t i = 0; i < m->rating_count; i++) {
    movielens_rating_t *rating = &m->ratings[i];
    rating->liked_end = lower_bound(likes, count, rating->user, rating->time);
    rating->liked_begin = rating->liked_end;
    while (rating->liked_begin > 0 && rating->liked_end - rating->liked_begin < length &&
           likes[rating->liked_begin - 1].user == rating->user)
      rating->liked_begin--;
  }
}

sbag_code_t reader_movielens_link_history(source_t *source, sbag_status_t *status) {
  movielens_t *m = source->state;
  like_t *likes = NULL;
  int64_t count = 0;
  for (int64_t i = 0; i < m->rating_count; i++) count += is_like(&m->ratings[i]);
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(count, sizeof *m->liked_rows), "MovieLens: history",
                     (void **)&m->liked_rows, status));
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(count, sizeof *likes), "MovieLens: history",
                     (void **)&likes, status));
  link(m, likes, count, source->config->source.movielens.history_length);
  mem_free(source->mem, likes);
  return SBAG_OK;
}
