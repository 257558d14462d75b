/* shardbag neighbours CHECKPOINT WORD: the rows of a table that are nearest to a word's, by cosine. Every
 * rank looks at a part of the rows. */
#include "app/ckpt.h"
#include "kernel/narrow.h"
#include "reader/blobs.h"
#include "reader/vocabulary.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct near {
  double cosine;
  int64_t row;
} near_t;

typedef struct search {
  ckpt_t *ckpt;
  checkpoint_reader_t *reader;
  char name[512]; /* of its weight */
  checkpoint_array_t array;
  vocabulary_t *words;
  int64_t row, k; /* the word's row */
  float *query;   /* [columns] */
  double norm;    /* its length */
  float *widened; /* [columns] */
  near_t *best;   /* [k], the best first */
  int64_t held;
} search_t;

/* ---- the word ---- */

/* "tables/NAME/weight" that has a vocabulary "reader/vocabulary/NAME": *table is NAME where there is one
 * alone. */
static sbag_code_t find_table(search_t *s, char table[256], sbag_status_t *status) {
  static const char head[] = "reader/vocabulary/";
  char all[300] = "";
  int count = 0;
  for (int64_t i = 0; i < checkpoint_count(s->reader); i++) {
    const char *blob = checkpoint_name(s->reader, i);
    char weight[512];
    if (strncmp(blob, head, strlen(head)) != 0) continue;
    snprintf(weight, sizeof weight, "tables/%.250s/weight", blob + strlen(head));
    if (!checkpoint_exists(s->reader, weight)) continue;
    size_t used = strlen(all);
    snprintf(all + used, sizeof all - used, "%s%.60s", count > 0 ? ", " : "", blob + strlen(head));
    snprintf(table, 256, "%.250s", blob + strlen(head));
    count++;
  }
  if (count == 1) return SBAG_OK;
  if (count == 0)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: no table has a vocabulary: there are no words to look up",
                      s->ckpt->options->arguments[0]);
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: say by --table whose rows: %s have a vocabulary",
                    s->ckpt->options->arguments[0], all);
}

static sbag_code_t load_words(search_t *s, const char *table, sbag_status_t *status) {
  char name[512];
  void *data = NULL;
  int64_t bytes = 0;
  snprintf(name, sizeof name, "reader/vocabulary/%.250s", table);
  if (!checkpoint_exists(s->reader, name))
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "%s: table '%s' has no vocabulary: there are no words to look up",
                      s->ckpt->options->arguments[0], table);
  SBAG_TRY(checkpoint_read_blob(s->reader, name, &data, &bytes, status));
  reader_blob_t blob = {.data = data, .bytes = bytes};
  const blobs_t blobs = {.items = &blob, .count = 1};
  snprintf(blob.name, sizeof blob.name, "vocabulary/%.80s", table);
  int64_t min_count = bytes >= 24 ? (int64_t)reader_blob_get_u64((unsigned char *)data + 8) : 0;
  int64_t rows_max = bytes >= 24 ? (int64_t)reader_blob_get_u64((unsigned char *)data + 16) : 0;
  sbag_code_t code =
      reader_vocabulary_load(&blobs, table, min_count, rows_max, s->ckpt->mem, &s->words, status);
  mem_free(s->ckpt->mem, data);
  return code;
}

static sbag_code_t find_word(search_t *s, sbag_status_t *status) {
  const char *word = s->ckpt->options->arguments[1];
  s->row = reader_vocabulary_find(s->words, (text_t){word, (int64_t)strlen(word)}) + 1;
  if (s->row > 0 && s->row < s->array.shape[0]) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "%s: '%.64s' is not among the %" PRId64 " words of its vocabulary",
                    s->ckpt->options->arguments[0], word, reader_vocabulary_count(s->words));
}

/* ---- rows ---- */

static const float *widen(search_t *s, const void *data, int64_t row) {
  int64_t columns = s->array.shape[1];
  if (s->array.type == CHECKPOINT_F32) return (const float *)data + row * columns;
  const uint16_t *from = (const uint16_t *)data + row * columns;
  for (int64_t i = 0; i < columns; i++)
    s->widened[i] = s->array.type == CHECKPOINT_F16 ? narrow_f16_value(from[i]) : narrow_bf16_value(from[i]);
  return s->widened;
}

static double product(const float *a, const float *b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

/* Of equal ones the lower row is first. */
static void offer(search_t *s, near_t candidate) {
  int64_t at = s->held < s->k ? s->held++ : s->k;
  for (; at > 0; at--) {
    const near_t *before = &s->best[at - 1];
    if (before->cosine > candidate.cosine ||
        (before->cosine == candidate.cosine && before->row < candidate.row))
      break;
    if (at < s->k) s->best[at] = *before;
  }
  if (at < s->k) s->best[at] = candidate;
}

/* Row 0 is no word's; a row of zeros has no direction. */
static sbag_code_t visit(void *user, int64_t first, int64_t rows, const void *data, sbag_status_t *status) {
  search_t *s = user;
  int64_t columns = s->array.shape[1];
  (void)status;
  for (int64_t i = 0; i < rows; i++) {
    const float *row = widen(s, data, i);
    double norm = sqrt(product(row, row, columns));
    if (first + i == 0 || first + i == s->row || !(norm > 0.0)) continue;
    offer(s, (near_t){product(row, s->query, columns) / (norm * s->norm), first + i});
  }
  return SBAG_OK;
}

static sbag_code_t read_query(search_t *s, sbag_status_t *status) {
  int64_t columns = s->array.shape[1];
  void *block = NULL;
  SBAG_TRY(mem_alloc(s->ckpt->mem, (size_t)ckpt_row_bytes(&s->array), "neighbours: a row", &block, status));
  sbag_code_t code = checkpoint_read_rows(s->reader, s->name, s->row, 1, block, status);
  if (code == SBAG_OK) memcpy(s->query, widen(s, block, 0), (size_t)columns * sizeof *s->query);
  mem_free(s->ckpt->mem, block);
  SBAG_TRY(code);
  s->norm = sqrt(product(s->query, s->query, columns));
  if (s->norm > 0.0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: the row of '%.64s' is zero: it has no direction",
                    s->ckpt->options->arguments[0], s->ckpt->options->arguments[1]);
}

static sbag_code_t prepare(search_t *s, sbag_status_t *status) {
  const options_t *o = s->ckpt->options;
  char found[256];
  void *block = NULL;
  const int64_t any[2] = {-1, -1};
  if (o->table == NULL) SBAG_TRY(find_table(s, found, status));
  const char *table = o->table != NULL ? o->table : found;
  snprintf(s->name, sizeof s->name, "tables/%.250s/weight", table);
  if (!checkpoint_exists(s->reader, s->name))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: there is no table '%.64s'; see shardbag ckpt ls",
                      o->arguments[0], table);
  SBAG_TRY(checkpoint_array_info(s->reader, s->name, &s->array, status));
  if (s->array.type != CHECKPOINT_F16 && s->array.type != CHECKPOINT_BF16)
    SBAG_TRY(checkpoint_expect(s->reader, s->name, CHECKPOINT_F32, 2, any, status));
  SBAG_TRY(load_words(s, table, status));
  SBAG_TRY(find_word(s, status));
  s->k = o->k > 0 ? o->k : 10;
  size_t row = mem_array_bytes(s->array.shape[1], sizeof(float));
  SBAG_TRY(mem_alloc(s->ckpt->mem, row, "neighbours: a row", &block, status));
  s->query = block;
  SBAG_TRY(mem_alloc(s->ckpt->mem, row, "neighbours: a row", &block, status));
  s->widened = block;
  SBAG_TRY(mem_alloc(s->ckpt->mem, mem_array_bytes(s->k, sizeof(near_t)), "neighbours", &block, status));
  s->best = block;
  return read_query(s, status);
}

/* ---- all ranks ---- */

static sbag_code_t print(search_t *s, sbag_status_t *status) {
  for (int64_t i = 0; i < s->held; i++) {
    text_t word = reader_vocabulary_token(s->words, s->best[i].row - 1);
    printf("%.*s %.6f\n", (int)word.length, word.bytes, s->best[i].cosine);
    if (s->ckpt->json == NULL) continue;
    json_object *object = json_object_new_object();
    json_object_object_add(object, "event", json_object_new_string("neighbour"));
    json_object_object_add(object, "word", json_object_new_string_len(word.bytes, (int)word.length));
    json_object_object_add(object, "row", json_object_new_int64(s->best[i].row));
    json_object_object_add(object, "cosine", json_object_new_double(s->best[i].cosine));
    SBAG_TRY(ckpt_json(s->ckpt, object, status));
  }
  return SBAG_OK;
}

/* The best of all ranks' bests. */
static sbag_code_t merge(search_t *s, sbag_status_t *status) {
  comm_t *comm = s->ckpt->comm;
  int64_t all = s->k * comm_size(comm);
  void *block = NULL;
  for (int64_t i = s->held; i < s->k; i++) s->best[i].row = 0;
  sbag_code_t code =
      mem_alloc(s->ckpt->mem, mem_array_bytes(all, sizeof(near_t)), "neighbours", &block, status);
  SBAG_TRY(comm_agree(comm, code, status));
  code = comm_allgather(comm, s->best, s->k * (int64_t)sizeof(near_t), block, "neighbours", status);
  const near_t *theirs = block;
  s->held = 0;
  for (int64_t i = 0; i < all && code == SBAG_OK; i++)
    if (theirs[i].row > 0) offer(s, theirs[i]);
  mem_free(s->ckpt->mem, block);
  return code;
}

static sbag_code_t find_neighbours(search_t *s, sbag_status_t *status) {
  ckpt_t *c = s->ckpt;
  SBAG_TRY(comm_agree(c->comm, prepare(s, status), status));
  int64_t words = reader_vocabulary_count(s->words) + 1;
  int64_t end = words < s->array.shape[0] ? words : s->array.shape[0];
  SBAG_TRY(ckpt_walk(c, s->reader, s->name, 0, end, visit, s, status));
  SBAG_TRY(merge(s, status));
  return comm_rank(c->comm) == 0 ? print(s, status) : SBAG_OK;
}

static sbag_code_t neighbours(ckpt_t *c, sbag_status_t *status) {
  search_t s = {.ckpt = c};
  SBAG_TRY(ckpt_open(c, c->options->arguments[0], 0, &s.reader, status));
  sbag_code_t code = find_neighbours(&s, status);
  reader_vocabulary_destroy(&s.words);
  mem_free(c->mem, s.query);
  mem_free(c->mem, s.widened);
  mem_free(c->mem, s.best);
  checkpoint_close(&s.reader);
  return code;
}

static int run(const options_t *options) {
  return ckpt_run("neighbours", options, neighbours);
}

const command_t command_neighbours = {
    .name = "neighbours",
    .arguments = "CHECKPOINT WORD",
    .summary = "the words whose rows are nearest to a word's, by cosine",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_TIMEOUT | OPTION_TABLE | OPTION_K,
    .details = "Of the table that has a vocabulary, or of --table: words of CBOW, users and items of a "
               "ranking, values of\n"
               "a column. A line is a word and the cosine. Under mpirun the ranks share the rows.\n",
    .run = run};
