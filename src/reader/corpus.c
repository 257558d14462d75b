/* A text's words for CBOW: a sample is a word of the text, the words around it, and words drawn as negatives.
 *
 * The text is held in memory as row numbers, four bytes a word. Frequent words are thinned out once, when it
 * is read (word2vec's rule); how many words around one count, and which negatives are drawn, follows from the
 * seed, the epoch and the word's number alone. */
#include "reader/corpus.h"
#include "base/random.h"
#include "reader/grow.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char COUNTS_MAGIC[] = "SBCOUNT1";

sbag_code_t reader_corpus_check(int64_t min_count, int64_t window, int64_t negatives, sbag_status_t *status) {
  if (window < 1 || window > 1000)
    return status_set(status, SBAG_ERR_ARGUMENT, "corpus: window %lld; it must be 1 to 1000",
                      (long long)window);
  if (negatives < 1 || negatives > RANKING_NEGATIVES_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "corpus: %lld negatives; it must be 1 to %d",
                      (long long)negatives, (int)RANKING_NEGATIVES_MAX);
  if (min_count < 1)
    return status_set(status, SBAG_ERR_ARGUMENT, "corpus: min_count %lld; 1 is the least",
                      (long long)min_count);
  return SBAG_OK;
}

static sbag_code_t check_config(const reader_corpus_config_t *c, sbag_status_t *status) {
  double sum = c->split[0] + c->split[1] + c->split[2];
  SBAG_TRY(reader_corpus_check(c->min_count, c->window, c->negatives, status));
  if (!(c->subsample >= 0.0))
    return status_set(status, SBAG_ERR_ARGUMENT, "corpus: subsample %g; 0 is the least", c->subsample);
  if (!(c->split[0] >= 0 && c->split[1] >= 0 && c->split[2] >= 0 && fabs(sum - 1.0) < 1e-6))
    return status_set(status, SBAG_ERR_ARGUMENT, "corpus: the split is %g, %g, %g; it should add up to 1",
                      c->split[0], c->split[1], c->split[2]);
  return SBAG_OK;
}

/* ---- words and their frequencies ---- */

/* Blob "counts/word": 8 bytes SBCOUNT1, u64 min_count, u64 count[words], how often the text has each. */
static sbag_code_t save_counts(source_t *source, sbag_status_t *status) {
  const corpus_t *c = source->state;
  unsigned char *data = NULL;
  SBAG_TRY(
      reader_blobs_add(&source->blobs, source->mem, "counts", "word", 16 + 8 * c->word_count, &data, status));
  memcpy(data, COUNTS_MAGIC, 8);
  reader_blob_put_u64(data + 8, (uint64_t)c->min_count);
  for (int64_t i = 0; i < c->word_count; i++) reader_blob_put_u64(data + 16 + 8 * i, (uint64_t)c->counts[i]);
  return SBAG_OK;
}

sbag_code_t reader_corpus_load_counts(source_t *source, const blobs_t *given, sbag_status_t *status) {
  corpus_t *c = source->state;
  const reader_blob_t *blob = NULL;
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(c->word_count, sizeof(int64_t)), "reader: frequencies",
                      (void **)&c->counts, status));
  SBAG_TRY(reader_blobs_find(given, "counts", "word", &blob, status));
  const unsigned char *data = blob->data;
  if (blob->bytes != 16 + 8 * c->word_count || memcmp(data, COUNTS_MAGIC, 8) != 0)
    return status_set(status, SBAG_ERR_FORMAT,
                      "the saved 'counts/word' is damaged: it should have %lld numbers",
                      (long long)c->word_count);
  for (int64_t i = 0; i < c->word_count; i++) {
    uint64_t count = reader_blob_get_u64(data + 16 + 8 * i);
    if (count < 1 || count > (uint64_t)1 << 62)
      return status_set(status, SBAG_ERR_FORMAT, "the saved 'counts/word' is damaged: word %lld has no count",
                        (long long)i);
    c->counts[i] = (int64_t)count;
  }
  return SBAG_OK;
}

/* From the order of appearance to that of the vocabulary: rows, 0 for words that are too rare; and how often
 * the text has each word. */
static sbag_code_t select_words(source_t *source, vocabulary_t *all, int64_t **rows, sbag_status_t *status) {
  const reader_corpus_config_t *config = &source->config->source.corpus;
  corpus_t *c = source->state;
  mem_t *mem = source->mem;
  int64_t count = reader_vocabulary_count(all);
  if (source->given == NULL)
    SBAG_TRY(reader_vocabulary_select(all, config->min_count, -1, mem, &c->words, status));
  else
    SBAG_TRY(reader_vocabulary_load(source->given, "word", config->min_count, 0, mem, &c->words, status));
  c->word_count = reader_vocabulary_count(c->words);
  if (c->word_count < 2 || c->word_count >= INT32_MAX)
    return status_set(status, SBAG_ERR_FORMAT,
                      "%s: %lld different words at least %lld times; 2 to 2^31 - 2 would be right",
                      config->paths[0], (long long)c->word_count, (long long)config->min_count);
  SBAG_TRY(mem_alloc(mem, mem_array_bytes(count, sizeof(int64_t)), "reader: rows of words", (void **)rows,
                     status));
  for (int64_t i = 0; i < count; i++)
    (*rows)[i] = reader_vocabulary_find(c->words, reader_vocabulary_token(all, i)) + 1;
  if (source->given != NULL) return reader_corpus_load_counts(source, source->given, status);
  return mem_calloc(mem, mem_array_bytes(c->word_count, sizeof(int64_t)), "reader: frequencies",
                    (void **)&c->counts, status);
}

/* cumulative[i]: the share of draws that give a word up to the i-th, by count^0.75. */
static sbag_code_t make_noise(source_t *source, sbag_status_t *status) {
  corpus_t *c = source->state;
  double sum = 0.0;
  SBAG_TRY(mem_alloc(source->mem, mem_array_bytes(c->word_count, sizeof(double)), "reader: frequencies",
                     (void **)&c->cumulative, status));
  for (int64_t i = 0; i < c->word_count; i++) c->cumulative[i] = sum += pow((double)c->counts[i], 0.75);
  for (int64_t i = 0; i < c->word_count; i++) c->cumulative[i] /= sum;
  return SBAG_OK;
}

/* ---- the text ---- */

/* Of a word with this share of the text, the share that stays. */
static double kept_share(double share, double subsample) {
  if (subsample == 0.0 || share <= subsample) return 1.0;
  return sqrt(subsample / share) + subsample / share;
}

/* Rare words go, frequent ones are thinned out; a line's first word that stays is marked. */
static void thin_out(source_t *source, const int64_t *rows) {
  const reader_corpus_config_t *config = &source->config->source.corpus;
  corpus_t *c = source->state;
  uint64_t key = random_key(source->config->seed, "subsample");
  double total = 0.0;
  int64_t kept = 0;
  for (int64_t i = 0; i < c->word_count; i++) total += (double)c->counts[i];
  for (int64_t i = 0, begins = 1; i < c->length; i++) {
    int64_t row = rows[c->stream[i] & CORPUS_ROW];
    begins |= (c->stream[i] & CORPUS_BEGINS) != 0;
    if (row == 0) continue;
    double share = (double)c->counts[row - 1] / total;
    if (random_unit53(key, (uint64_t)i) >= kept_share(share, config->subsample)) continue;
    c->stream[kept++] = (uint32_t)row | (begins ? CORPUS_BEGINS : 0);
    begins = 0;
  }
  c->length = kept;
}

/* By order, and no word sees over the seam. */
static void cut(source_t *source) {
  const double *split = source->config->source.corpus.split;
  corpus_t *c = source->state;
  double sum = 0.0;
  for (int s = 0; s < READER_SPLITS; s++) {
    c->first[s] = s == 0 ? 0 : c->first[s - 1] + source->samples[s - 1];
    sum += split[s];
    int64_t end = s == READER_SPLITS - 1 ? c->length : (int64_t)((double)c->length * sum + 1e-6);
    source->samples[s] = (end > c->length ? c->length : end) - c->first[s];
    if (c->first[s] < c->length) c->stream[c->first[s]] |= CORPUS_BEGINS;
  }
}

static sbag_code_t make_samples(source_t *source, const int64_t *rows, sbag_status_t *status) {
  corpus_t *c = source->state;
  if (source->given == NULL)
    for (int64_t i = 0; i < c->length; i++) {
      int64_t row = rows[c->stream[i] & CORPUS_ROW];
      if (row > 0) c->counts[row - 1]++;
    }
  thin_out(source, rows);
  cut(source);
  if (source->samples[READER_TRAIN] > 0 || source->given != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_FORMAT, "%s: no words to train on",
                    source->config->source.corpus.paths[0]);
}

static void set_feature(source_t *source, int feature, const char *name, const char *table,
                        reader_role_t role, int64_t room) {
  const corpus_t *c = source->state;
  reader_feature_t *f = &source->features[feature];
  snprintf(f->name, sizeof f->name, "%s", name);
  f->rows = c->word_count + 1;
  f->multi_hot = role != ROLE_POSITIVE;
  f->table = table;
  f->role = role;
  source->bag_room[feature] = room;
}

static sbag_code_t describe(source_t *source, sbag_status_t *status) {
  const corpus_t *c = source->state;
  char name[64];
  SBAG_TRY(reader_source_set_features(source, CORPUS_NEGATIVE + (int)c->negatives, status));
  set_feature(source, CORPUS_CONTEXT, "context", "word", ROLE_QUERY, 2 * c->window);
  set_feature(source, CORPUS_TARGET, "target", NULL, ROLE_POSITIVE, 1);
  for (int i = 0; i < (int)c->negatives; i++) {
    snprintf(name, sizeof name, "negative_%d", i);
    set_feature(source, CORPUS_NEGATIVE + i, name, "target", ROLE_NEGATIVE, 1);
  }
  return SBAG_OK;
}

sbag_code_t reader_corpus_ready(source_t *source, sbag_status_t *status) {
  SBAG_TRY(make_noise(source, status));
  return describe(source, status);
}

static sbag_code_t open_with(source_t *source, vocabulary_t *all, sbag_status_t *status) {
  corpus_t *c = source->state;
  int64_t *rows = NULL;
  SBAG_TRY(reader_corpus_read(source, all, status));
  sbag_code_t code = select_words(source, all, &rows, status);
  if (code == SBAG_OK) code = make_samples(source, rows, status);
  mem_free(source->mem, rows);
  SBAG_TRY(code);
  SBAG_TRY(reader_vocabulary_save(c->words, "word", c->min_count, 0, &source->blobs, source->mem, status));
  SBAG_TRY(save_counts(source, status));
  return reader_corpus_ready(source, status);
}

static sbag_code_t corpus_open(source_t *source, sbag_status_t *status) {
  const reader_corpus_config_t *config = &source->config->source.corpus;
  vocabulary_t *all = NULL;
  SBAG_TRY(check_config(config, status));
  SBAG_TRY(mem_calloc(source->mem, sizeof(corpus_t), "reader: corpus", &source->state, status));
  corpus_t *c = source->state;
  c->min_count = config->min_count;
  c->window = config->window;
  c->negatives = config->negatives;
  SBAG_TRY(reader_vocabulary_create(source->mem, &all, status));
  sbag_code_t code = open_with(source, all, status);
  reader_vocabulary_destroy(&all);
  return code;
}

static void corpus_close(source_t *source) {
  corpus_t *c = source->state;
  if (c == NULL) return;
  reader_vocabulary_destroy(&c->words);
  mem_free(source->mem, c->stream);
  mem_free(source->mem, c->counts);
  mem_free(source->mem, c->cumulative);
  mem_free(source->mem, c);
  source->state = NULL;
}

/* ---- samples ---- */

/* An evaluation draws as an epoch before the first would. */
static sbag_code_t corpus_seek(source_t *source, reader_split_t split, int64_t epoch, int64_t position,
                               sbag_status_t *status) {
  corpus_t *c = source->state;
  char name[64];
  (void)position;
  (void)status;
  int64_t number = split == READER_TRAIN ? epoch : -1;
  c->split = split;
  c->shuffled = source->config->shuffle && split == READER_TRAIN;
  c->order_key = reader_source_epoch_key(source, epoch);
  snprintf(name, sizeof name, "window epoch %lld", (long long)number);
  c->window_key = random_key(source->config->seed, name);
  snprintf(name, sizeof name, "negatives epoch %lld", (long long)number);
  c->negative_key = random_key(source->config->seed, name);
  return SBAG_OK;
}

static int64_t row_at(const corpus_t *c, int64_t at) {
  return (int64_t)(c->stream[at] & CORPUS_ROW);
}

/* Words of the same line, at most `reach` before and behind. */
static sbag_code_t push_context(const corpus_t *c, int64_t at, int64_t reach, slot_t *slot,
                                sbag_status_t *status) {
  int64_t begin = at, end = at + 1;
  while (begin > 0 && at - begin < reach && !(c->stream[begin] & CORPUS_BEGINS)) begin--;
  while (end < c->length && end - at <= reach && !(c->stream[end] & CORPUS_BEGINS)) end++;
  for (int64_t i = begin; i < end; i++)
    if (i != at) SBAG_TRY(reader_slot_push(slot, CORPUS_CONTEXT, row_at(c, i), status));
  return SBAG_OK;
}

/* The word whose part of [0, 1) has u. */
static int64_t drawn(const corpus_t *c, double u) {
  int64_t low = 0, high = c->word_count - 1;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (c->cumulative[middle] > u)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* Drawn again where it is the word itself; a word that is nearly all of the text gets fewer of them. */
static sbag_code_t push_negatives(const corpus_t *c, int64_t at, slot_t *slot, sbag_status_t *status) {
  enum { DRAWS = 16 };
  int64_t negatives = c->negatives, target = row_at(c, at);
  for (int64_t i = 0; i < negatives; i++) {
    uint64_t number = (uint64_t)(at * negatives + i) * DRAWS;
    int64_t row = target;
    for (uint64_t draw = 0; draw < DRAWS && row == target; draw++)
      row = drawn(c, random_unit53(c->negative_key, number + draw)) + 1;
    if (row != target) SBAG_TRY(reader_slot_push(slot, CORPUS_NEGATIVE + (int)i, row, status));
  }
  return SBAG_OK;
}

static sbag_code_t corpus_fill(source_t *source, int64_t begin, int64_t end, slot_t *slot,
                               sbag_status_t *status) {
  const corpus_t *c = source->state;
  for (int64_t position = begin; position < end; position++) {
    int64_t i = c->shuffled ? random_permute(c->order_key, source->samples[c->split], position) : position;
    int64_t at = c->first[c->split] + i;
    int64_t reach = 1 + random_below(c->window_key, (uint64_t)at, c->window);
    *reader_slot_label(slot) = 0.0F;
    SBAG_TRY(push_context(c, at, reach, slot, status));
    SBAG_TRY(reader_slot_push(slot, CORPUS_TARGET, row_at(c, at), status));
    SBAG_TRY(push_negatives(c, at, slot, status));
    reader_slot_end_sample(slot);
  }
  return SBAG_OK;
}

const source_ops_t reader_source_corpus = {.form = "corpus",
                                           .open = corpus_open,
                                           .close = corpus_close,
                                           .seek = corpus_seek,
                                           .fill = corpus_fill,
                                           .save = reader_corpus_save,
                                           .restore = reader_corpus_restore};
