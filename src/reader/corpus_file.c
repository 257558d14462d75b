/* A text in the binary form: its words as rows, thinned out, from which every epoch draws its samples. */
#include "reader/binary.h"
#include "reader/corpus.h"

#include <string.h>

#define GROUP "corpus"
#define WORDS GROUP "/words"

/* In the file a word that begins a line is its row's negative. */
static sbag_code_t fill(void *user, int64_t first, int64_t rows, void *out, sbag_status_t *status) {
  const corpus_t *c = user;
  int32_t *to = out;
  (void)status;
  for (int64_t i = 0; i < rows; i++) {
    int32_t row = (int32_t)(c->stream[first + i] & CORPUS_ROW);
    to[i] = (c->stream[first + i] & CORPUS_BEGINS) != 0 ? -row : row;
  }
  return SBAG_OK;
}

sbag_code_t reader_corpus_save(source_t *source, checkpoint_writer_t *writer, sbag_status_t *status) {
  corpus_t *c = source->state;
  SBAG_TRY(checkpoint_add_array(writer, WORDS, CHECKPOINT_I32, 1, &c->length, fill, c, status));
  SBAG_TRY(checkpoint_add_text(writer, WORDS, "description",
                               "the text's words, all splits behind each other; a line's first is negative",
                               status));
  SBAG_TRY(checkpoint_add_text(writer, WORDS, "unit", "row", status));
  for (int s = 0; s < READER_SPLITS; s++)
    SBAG_TRY(
        checkpoint_add_int(writer, GROUP, reader_split_name((reader_split_t)s), source->samples[s], status));
  SBAG_TRY(checkpoint_add_int(writer, GROUP, "min_count", c->min_count, status));
  SBAG_TRY(checkpoint_add_int(writer, GROUP, "window", c->window, status));
  return checkpoint_add_int(writer, GROUP, "negatives", c->negatives, status);
}

/* ---- reading: the checksums say that the file is as it was written, the rest is checked here ---- */

static sbag_code_t read_splits(source_t *source, checkpoint_reader_t *file, sbag_status_t *status) {
  corpus_t *c = source->state;
  int64_t left = c->length;
  for (int s = 0; s < READER_SPLITS; s++) {
    int64_t *samples = &source->samples[s];
    SBAG_TRY(checkpoint_read_int(file, GROUP, reader_split_name((reader_split_t)s), samples, status));
    if (*samples < 0 || *samples > left)
      return reader_binary_damaged(source, "splits beyond its words", status);
    c->first[s] = c->length - left;
    left -= *samples;
  }
  if (left == 0 && source->samples[READER_TRAIN] > 0) return SBAG_OK;
  return reader_binary_damaged(source, "splits that are not its words", status);
}

static sbag_code_t read_words(source_t *source, checkpoint_reader_t *file, sbag_status_t *status) {
  corpus_t *c = source->state;
  const int64_t any = -1;
  checkpoint_array_t array;
  SBAG_TRY(checkpoint_expect(file, WORDS, CHECKPOINT_I32, 1, &any, status));
  SBAG_TRY(checkpoint_array_info(file, WORDS, &array, status));
  c->length = c->capacity = array.shape[0];
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(c->length, sizeof *c->stream), "reader: text",
                     (void **)&c->stream, status));
  SBAG_TRY(checkpoint_read_rows(file, WORDS, 0, c->length, c->stream, status));
  for (int64_t i = 0; i < c->length; i++) {
    int64_t word = (int32_t)c->stream[i], row = word < 0 ? -word : word;
    if (row < 1 || row > c->word_count) return reader_binary_damaged(source, "words that are none", status);
    c->stream[i] = (uint32_t)row | (word < 0 ? CORPUS_BEGINS : 0);
  }
  return SBAG_OK;
}

sbag_code_t reader_corpus_restore(source_t *source, checkpoint_reader_t *file, sbag_status_t *status) {
  SBAG_TRY(mem_calloc(source->mem, sizeof(corpus_t), "reader: corpus", &source->state, status));
  corpus_t *c = source->state;
  SBAG_TRY(checkpoint_read_int(file, GROUP, "min_count", &c->min_count, status));
  SBAG_TRY(checkpoint_read_int(file, GROUP, "window", &c->window, status));
  SBAG_TRY(checkpoint_read_int(file, GROUP, "negatives", &c->negatives, status));
  SBAG_TRY(reader_corpus_check(c->min_count, c->window, c->negatives, status));
  SBAG_TRY(reader_vocabulary_load(&source->blobs, "word", c->min_count, 0, source->mem, &c->words, status));
  c->word_count = reader_vocabulary_count(c->words);
  if (c->word_count < 2 || c->word_count >= INT32_MAX)
    return reader_binary_damaged(source, "fewer than 2 different words", status);
  SBAG_TRY(reader_corpus_load_counts(source, &source->blobs, status));
  SBAG_TRY(read_words(source, file, status));
  SBAG_TRY(read_splits(source, file, status));
  return reader_corpus_ready(source, status);
}
