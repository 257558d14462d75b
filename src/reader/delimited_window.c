/* Streams a split in windows. In training a window is what is shuffled together; otherwise it is merely a
 * piece of the file. Of a window's rows only this rank's are kept, as text, and parsed when their batch is
 * filled. */
#include "reader/delimited.h"
#include "base/random.h"
#include "reader/grow.h"

#include <stdio.h>
#include <string.h>

enum { PLAIN_WINDOW_ROWS = 4096 };

reader_split_t reader_delimited_split_of(const source_t *source, int64_t line, int64_t good_row) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  const delimited_t *d = source->state;
  if (d->by_order)
    return good_row < d->cut[READER_TRAIN]   ? READER_TRAIN
           : good_row < d->cut[READER_VALID] ? READER_VALID
                                             : READER_TEST;
  double at = random_unit53(random_key(source->config->split_seed, "split"), (uint64_t)line);
  if (at < config->split[READER_TRAIN]) return READER_TRAIN;
  return at < config->split[READER_TRAIN] + config->split[READER_VALID] ? READER_VALID : READER_TEST;
}

sbag_code_t reader_delimited_rewind(source_t *source, sbag_status_t *status) {
  delimited_t *d = source->state;
  SBAG_TRY(reader_files_rewind(d->files, status));
  d->line = d->bad_passed = 0;
  return SBAG_OK;
}

sbag_code_t reader_delimited_next_row(source_t *source, reader_split_t split, text_t *row,
                                      files_place_t *place, sbag_status_t *status) {
  delimited_t *d = source->state;
  for (;;) {
    SBAG_TRY(reader_files_next(d->files, row, place, status));
    if (row->bytes == NULL)
      return status_set(status, SBAG_ERR_IO, "%s: ends where more samples belong; has it been changed?",
                        source->config->source.delimited.paths[0]);
    int64_t line = d->line++;
    if (d->bad_passed < source->bad_rows && d->bad_lines[d->bad_passed] == line) {
      d->bad_passed++;
      continue;
    }
    if (reader_delimited_split_of(source, line, line - d->bad_passed) != split) continue;
    return SBAG_OK;
  }
}

/* Whether the sample at this position of the epoch is in this rank's share of its batch. */
static int is_mine(const source_t *source, int64_t position, int64_t samples) {
  const reader_config_t *config = source->config;
  int64_t first = position / config->global_batch * config->global_batch, begin, end;
  int64_t count = samples - first < config->global_batch ? samples - first : config->global_batch;
  reader_source_share(count, config->slice, config->rank, config->rank_count, &begin, &end);
  return position - first >= begin && position - first < end;
}

static sbag_code_t keep(source_t *source, text_t row, files_place_t place, delimited_row_t *kept,
                        sbag_status_t *status) {
  delimited_window_t *w = &((delimited_t *)source->state)->window;
  SBAG_TRY(reader_grow_to(source->mem, (void **)&w->text, &w->text_capacity, w->text_bytes + row.length, 1,
                          "reader: window of rows", status));
  if (row.length > 0) memcpy(w->text + w->text_bytes, row.bytes, (size_t)row.length);
  *kept = (delimited_row_t){w->text_bytes, row.length, place};
  w->text_bytes += row.length;
  return SBAG_OK;
}

/* Reads the window that follows the current one. */
static sbag_code_t next_window(source_t *source, sbag_status_t *status) {
  delimited_t *d = source->state;
  delimited_window_t *w = &d->window;
  int64_t samples = source->samples[d->split];
  char name[96];
  w->first += w->count;
  w->count = samples - w->first < w->size ? samples - w->first : w->size;
  w->text_bytes = 0;
  snprintf(name, sizeof name, "shuffle epoch %lld window %lld", (long long)d->epoch,
           (long long)(w->first / w->size));
  uint64_t key = random_key(source->config->seed, name);
  for (int64_t i = 0; i < w->count; i++) {
    text_t row;
    files_place_t place;
    int64_t at = d->shuffled ? random_permute_inverse(key, w->count, i) : i;
    SBAG_TRY(reader_delimited_next_row(source, d->split, &row, &place, status));
    if (w->first + at < d->position || !is_mine(source, w->first + at, samples)) continue;
    SBAG_TRY(keep(source, row, place, &w->rows[at], status));
  }
  return SBAG_OK;
}

/* Room for the rows that a window can have of this rank's: those of each batch that it touches. */
static sbag_code_t reserve(source_t *source, sbag_status_t *status) {
  const reader_config_t *config = source->config;
  delimited_t *d = source->state;
  delimited_window_t *w = &d->window;
  int64_t units = config->global_batch / config->slice + 1;
  int64_t share = (units / config->rank_count + 1) * config->slice;
  int64_t batches = w->size / config->global_batch + 2;
  int64_t mine = share < w->size / batches ? batches * share : w->size;
  int64_t row_bytes = d->good_bytes / (d->line_count - source->bad_rows) + 1;
  SBAG_TRY(reader_grow_to(source->mem, (void **)&w->rows, &w->row_capacity, w->size, sizeof *w->rows,
                          "reader: window of rows", status));
  return reader_grow_to(source->mem, (void **)&w->text, &w->text_capacity, mine * row_bytes, 1,
                        "reader: window of rows", status);
}

sbag_code_t reader_delimited_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                                  sbag_status_t *status) {
  const reader_delimited_config_t *config = &source->config->source.delimited;
  delimited_t *d = source->state;
  delimited_window_t *w = &d->window;
  int64_t samples = source->samples[split];
  files_place_t place;
  text_t row;
  d->split = split;
  d->epoch = epoch;
  d->position = position;
  d->shuffled = source->config->shuffle && split == READER_TRAIN && config->shuffle_window > 0;
  int64_t size = d->shuffled ? config->shuffle_window : PLAIN_WINDOW_ROWS;
  w->size = size < samples ? size : samples;
  SBAG_TRY(reserve(source, status));
  SBAG_TRY(reader_delimited_rewind(source, status));
  w->first = position / w->size * w->size;
  w->count = 0;
  for (int64_t i = 0; i < w->first; i++)
    SBAG_TRY(reader_delimited_next_row(source, split, &row, &place, status));
  return SBAG_OK;
}

sbag_code_t reader_delimited_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                                  sbag_status_t *status) {
  delimited_t *d = source->state;
  delimited_window_t *w = &d->window;
  for (int64_t position = begin; position < end; position++) {
    while (position >= w->first + w->count) SBAG_TRY(next_window(source, status));
    const delimited_row_t *kept = &w->rows[position - w->first];
    SBAG_TRY(reader_delimited_row_parse(source, (text_t){w->text + kept->begin, kept->length}, kept->place,
                                        slot, status));
  }
  return SBAG_OK;
}
