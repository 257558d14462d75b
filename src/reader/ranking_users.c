/* Users by name, whose best items are asked for: a line is a user; what stands behind it, after a space or a
 * tab, is not read, so that LightGCN's lists will do. */
#include "reader/grow.h"
#include "reader/lines.h"
#include "reader/ranking.h"

#include <string.h>

static text_t first_word(text_t line) {
  text_t word = line;
  for (int64_t i = 0; i < line.length; i++)
    if (line.bytes[i] == ' ' || line.bytes[i] == '\t') {
      word.length = i;
      break;
    }
  return word;
}

static sbag_code_t find_user(const source_t *source, const lines_t *lines, text_t line, int64_t *row,
                             sbag_status_t *status) {
  const ranking_t *r = source->state;
  text_t user = first_word(line);
  *row = reader_vocabulary_find(r->all.users, user) + 1;
  if (*row > 0) return SBAG_OK;
  return status_set(
      status, SBAG_ERR_FORMAT,
      "%s:%lld: column 0: not a user: '%.*s'; one that the model was trained with would be right",
      reader_lines_path(lines), (long long)reader_lines_number(lines), reader_text_shown(user), user.bytes);
}

static sbag_code_t read_users(source_t *source, lines_t *lines, sbag_status_t *status) {
  ranking_t *r = source->state;
  int64_t *count = &source->samples[READER_TEST], capacity = 0;
  text_t line;
  mem_free(source->mem, r->users[READER_TEST]);
  r->users[READER_TEST] = NULL;
  *count = 0;
  for (;;) {
    SBAG_TRY(reader_lines_next(lines, &line, status));
    if (line.bytes == NULL) return SBAG_OK;
    SBAG_TRY(reader_grow_to(source->mem, (void **)&r->users[READER_TEST], &capacity, *count + 1,
                            sizeof(int64_t), "reader: users", status));
    SBAG_TRY(find_user(source, lines, line, &r->users[READER_TEST][*count], status));
    ++*count;
  }
}

sbag_code_t reader_ranking_list(source_t *source, sbag_status_t *status) {
  lines_t *lines = NULL;
  SBAG_TRY(reader_lines_open(source->config->source.ranking.users_path, source->mem, &lines, status));
  sbag_code_t code = read_users(source, lines, status);
  reader_lines_close(&lines);
  return code;
}
