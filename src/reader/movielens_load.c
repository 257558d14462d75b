/* Reads the three RecBole files of MovieLens. Columns are found by the names in the header line, as
 * "user_id:token"; further columns are passed over. */
#include "reader/movielens.h"
#include "base/random.h"
#include "reader/grow.h"

#include <stdio.h>
#include <string.h>

enum { COLUMNS_MAX = 64, WANTED_MAX = 4 };

/* One of the files, open, and where its wanted columns are. */
typedef struct table {
  lines_t *lines;
  int column[WANTED_MAX];
  int wanted, columns; /* columns: the highest wanted one + 1 */
  text_t fields[COLUMNS_MAX];
} table_t;

/* A header field is NAME:TYPE; `names` lists what the column may be called, separated by '|'. */
static int is_called(text_t field, const char *names) {
  const char *colon = memchr(field.bytes, ':', (size_t)field.length);
  text_t rest = {names, (int64_t)strlen(names)}, name;
  if (colon != NULL) field.length = colon - field.bytes;
  while (reader_text_token(&rest, '|', &name))
    if (name.length == field.length && memcmp(name.bytes, field.bytes, (size_t)name.length) == 0) return 1;
  return 0;
}

static sbag_code_t find_columns(table_t *table, const char *const *names, int wanted, sbag_status_t *status) {
  text_t line;
  SBAG_TRY(reader_lines_next(table->lines, &line, status));
  if (line.bytes == NULL)
    return status_set(status, SBAG_ERR_FORMAT,
                      "%s: the file is empty; its first line should name the columns",
                      reader_lines_path(table->lines));
  int fields = reader_text_split(line, '\t', table->fields, COLUMNS_MAX);
  table->wanted = wanted;
  for (int i = 0; i < wanted; i++) {
    table->column[i] = -1;
    for (int f = 0; f < fields && table->column[i] < 0; f++)
      if (is_called(table->fields[f], names[i])) table->column[i] = f;
    if (table->column[i] < 0)
      return status_set(
          status, SBAG_ERR_FORMAT,
          "%s:1: no column '%s'; the first line should be as 'user_id:token', with tabs between",
          reader_lines_path(table->lines), names[i]);
    if (table->column[i] >= table->columns) table->columns = table->column[i] + 1;
  }
  return SBAG_OK;
}

static sbag_code_t table_open(table_t *table, const source_t *source, const char *ending,
                              const char *const *names, int wanted, sbag_status_t *status) {
  const reader_movielens_config_t *config = &source->config->source.movielens;
  char path[4096];
  *table = (table_t){0};
  int length = snprintf(path, sizeof path, "%s/%s.%s", config->folder, config->name, ending);
  if (length < 0 || (size_t)length >= sizeof path)
    return status_set(status, SBAG_ERR_ARGUMENT, "MovieLens: the path of the .%s file is too long", ending);
  SBAG_TRY(reader_lines_open(path, source->mem, &table->lines, status));
  sbag_code_t code = find_columns(table, names, wanted, status);
  if (code != SBAG_OK) reader_lines_close(&table->lines);
  return code;
}

/* The wanted fields of the next line; *found = 0 at the end. */
static sbag_code_t table_next(table_t *table, text_t *wanted, int *found, sbag_status_t *status) {
  text_t line;
  SBAG_TRY(reader_lines_next(table->lines, &line, status));
  *found = line.bytes != NULL;
  if (!*found) return SBAG_OK;
  int fields = reader_text_split(line, '\t', table->fields, table->columns);
  if (fields < table->columns)
    return status_set(status, SBAG_ERR_FORMAT, "%s:%lld: %d fields, the first line promises at least %d",
                      reader_lines_path(table->lines), (long long)reader_lines_number(table->lines), fields,
                      table->columns);
  for (int i = 0; i < table->wanted; i++) wanted[i] = table->fields[table->column[i]];
  return SBAG_OK;
}

/* A token's row; a new token gets one if the words are being fitted, else row 0. */
static sbag_code_t row_of(const source_t *source, movielens_words_t which, text_t token, int64_t *row,
                          sbag_status_t *status) {
  const movielens_t *m = source->state;
  int64_t index = -1;
  if (source->given == NULL)
    SBAG_TRY(reader_vocabulary_add(m->words[which], token, &index, status));
  else
    index = reader_vocabulary_find(m->words[which], token);
  *row = index + 1;
  return SBAG_OK;
}

static int64_t age_row(text_t token) {
  double age;
  if (!reader_text_number(token, &age) || age < 0) return 0;
  int64_t last = AGE_ROWS - 2;
  return 1 + (age >= (double)(last * AGE_BUCKET_YEARS) ? last : (int64_t)age / AGE_BUCKET_YEARS);
}

/* The index of a token; *is_new if it was not there. */
static sbag_code_t index_of(vocabulary_t *tokens, text_t token, int64_t *index, int *is_new,
                            sbag_status_t *status) {
  int64_t before = reader_vocabulary_count(tokens);
  SBAG_TRY(reader_vocabulary_add(tokens, token, index, status));
  *is_new = reader_vocabulary_count(tokens) > before;
  return SBAG_OK;
}

static sbag_code_t twice(const table_t *table, text_t token, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_FORMAT, "%s:%lld: '%.*s' has a line of its own already",
                    reader_lines_path(table->lines), (long long)reader_lines_number(table->lines),
                    reader_text_shown(token), token.bytes);
}

static sbag_code_t new_user(source_t *source, text_t token, int64_t *index, int *is_new,
                            sbag_status_t *status) {
  movielens_t *m = source->state;
  SBAG_TRY(index_of(m->user_tokens, token, index, is_new, status));
  if (!*is_new) return SBAG_OK;
  SBAG_TRY(reader_grow_to(source->mem, (void **)&m->users, &m->user_capacity, *index + 1, sizeof *m->users,
                          "MovieLens: users", status));
  m->users[*index] = (movielens_user_t){.row = 0};
  return SBAG_OK;
}

static sbag_code_t new_movie(source_t *source, text_t token, int64_t *index, int *is_new,
                             sbag_status_t *status) {
  movielens_t *m = source->state;
  SBAG_TRY(index_of(m->movie_tokens, token, index, is_new, status));
  if (!*is_new) return SBAG_OK;
  SBAG_TRY(reader_grow_to(source->mem, (void **)&m->movies, &m->movie_capacity, *index + 1, sizeof *m->movies,
                          "MovieLens: movies", status));
  m->movies[*index] = (movielens_movie_t){.row = 0};
  return SBAG_OK;
}

static sbag_code_t read_users(source_t *source, table_t *table, sbag_status_t *status) {
  movielens_t *m = source->state;
  text_t field[WANTED_MAX];
  int found = 1, is_new;
  int64_t index;
  for (;;) {
    SBAG_TRY(table_next(table, field, &found, status));
    if (!found) return SBAG_OK;
    SBAG_TRY(new_user(source, field[0], &index, &is_new, status));
    if (!is_new) return twice(table, field[0], status);
    movielens_user_t *user = &m->users[index];
    SBAG_TRY(row_of(source, WORDS_USER, field[0], &user->row, status));
    user->age_row = age_row(field[1]);
    SBAG_TRY(row_of(source, WORDS_GENDER, field[2], &user->gender_row, status));
    SBAG_TRY(row_of(source, WORDS_OCCUPATION, field[3], &user->occupation_row, status));
  }
}

static sbag_code_t read_genres(source_t *source, text_t genres, movielens_movie_t *movie,
                               sbag_status_t *status) {
  movielens_t *m = source->state;
  text_t genre;
  movie->genres_begin = m->genre_row_count;
  while (reader_text_token(&genres, ' ', &genre)) {
    SBAG_TRY(reader_grow_to(source->mem, (void **)&m->genre_rows, &m->genre_row_capacity,
                            m->genre_row_count + 1, sizeof *m->genre_rows, "MovieLens: genres", status));
    SBAG_TRY(row_of(source, WORDS_GENRES, genre, &m->genre_rows[m->genre_row_count], status));
    m->genre_row_count++;
  }
  movie->genre_count = m->genre_row_count - movie->genres_begin;
  if (movie->genre_count > m->genres_max) m->genres_max = movie->genre_count;
  return SBAG_OK;
}

static sbag_code_t read_movies(source_t *source, table_t *table, sbag_status_t *status) {
  movielens_t *m = source->state;
  text_t field[WANTED_MAX];
  int found = 1, is_new;
  int64_t index;
  for (;;) {
    SBAG_TRY(table_next(table, field, &found, status));
    if (!found) return SBAG_OK;
    SBAG_TRY(new_movie(source, field[0], &index, &is_new, status));
    if (!is_new) return twice(table, field[0], status);
    SBAG_TRY(row_of(source, WORDS_MOVIE, field[0], &m->movies[index].row, status));
    SBAG_TRY(read_genres(source, field[1], &m->movies[index], status));
  }
}

static sbag_code_t number_at(const table_t *table, int wanted, const char *name, text_t field, double *value,
                             sbag_status_t *status) {
  if (reader_text_number(field, value)) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT,
                    "%s:%lld: column %d ('%s'): '%.*s' is not a number; a decimal number would be right",
                    reader_lines_path(table->lines), (long long)reader_lines_number(table->lines),
                    table->column[wanted], name, reader_text_shown(field), field.bytes);
}

/* 8 : 1 : 1 by a hash of the line number. */
static reader_split_t split_of_line(const source_t *source, int64_t line) {
  uint64_t key = random_key(source->config->split_seed, "split");
  uint64_t tenth = random_u64(key, (uint64_t)line) % 10;
  return tenth < 8 ? READER_TRAIN : tenth == 8 ? READER_VALID : READER_TEST;
}

static sbag_code_t read_ratings(source_t *source, table_t *table, sbag_status_t *status) {
  movielens_t *m = source->state;
  double threshold = source->config->source.movielens.like_threshold, stars;
  text_t field[WANTED_MAX];
  int found = 1, is_new;
  for (;;) {
    movielens_rating_t rating = {0};
    SBAG_TRY(table_next(table, field, &found, status));
    if (!found) return SBAG_OK;
    /* Users and movies without a line of their own have row 0 in every feature. */
    SBAG_TRY(new_user(source, field[0], &rating.user, &is_new, status));
    SBAG_TRY(new_movie(source, field[1], &rating.movie, &is_new, status));
    SBAG_TRY(number_at(table, 2, "rating", field[2], &stars, status));
    SBAG_TRY(number_at(table, 3, "timestamp", field[3], &rating.time, status));
    rating.label = stars >= threshold ? 1.0F : 0.0F;
    rating.split = split_of_line(source, m->rating_count);
    source->samples[rating.split]++;
    SBAG_TRY(reader_grow_to(source->mem, (void **)&m->ratings, &m->rating_capacity, m->rating_count + 1,
                            sizeof *m->ratings, "MovieLens: ratings", status));
    m->ratings[m->rating_count++] = rating;
  }
}

static sbag_code_t read_file(source_t *source, const char *ending, const char *const *names, int wanted,
                             sbag_code_t (*read)(source_t *, table_t *, sbag_status_t *),
                             sbag_status_t *status) {
  table_t table;
  SBAG_TRY(table_open(&table, source, ending, names, wanted, status));
  sbag_code_t code = read(source, &table, status);
  reader_lines_close(&table.lines);
  return code;
}

sbag_code_t reader_movielens_load(source_t *source, sbag_status_t *status) {
  static const char *const user_columns[] = {"user_id", "age", "gender", "occupation"};
  static const char *const movie_columns[] = {"item_id", "class|genre|genres"};
  static const char *const rating_columns[] = {"user_id", "item_id", "rating", "timestamp"};
  SBAG_TRY(read_file(source, "user", user_columns, 4, read_users, status));
  SBAG_TRY(read_file(source, "item", movie_columns, 2, read_movies, status));
  return read_file(source, "inter", rating_columns, 4, read_ratings, status);
}
