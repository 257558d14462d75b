/* The reader as the rest of the program sees it: checks the configuration, keeps its own copy of it, and
 * hands the work to the source of the kind and to the pipeline. */
#include "reader/reader.h"
#include "base/random.h"
#include "reader/grow.h"
#include "reader/pipeline.h"

#include <stdio.h>
#include <string.h>

struct reader {
  mem_t *mem;
  reader_config_t config;
  source_t source;
  pipeline_t *pipeline;
};

source_t *reader_source_of(reader_t *reader) {
  return &reader->source;
}

sbag_code_t reader_source_set_features(source_t *source, int count, sbag_status_t *status) {
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(count, sizeof *source->features), "reader: features",
                      (void **)&source->features, status));
  SBAG_TRY(mem_calloc(source->mem, mem_array_bytes(count, sizeof *source->bag_room), "reader: features",
                      (void **)&source->bag_room, status));
  source->feature_count = count;
  return SBAG_OK;
}

uint64_t reader_source_epoch_key(const source_t *source, int64_t epoch) {
  char name[64];
  snprintf(name, sizeof name, "shuffle epoch %lld", (long long)epoch);
  return random_key(source->config->seed, name);
}

void reader_source_share(int64_t n, int64_t slice, int rank, int rank_count, int64_t *begin, int64_t *end) {
  int64_t units = n / slice + (n % slice != 0);
  int64_t from = units * rank / rank_count, to = units * (rank + 1) / rank_count;
  /* Only the last unit can be short. */
  *begin = from == units ? n : from * slice;
  *end = to == units ? n : to * slice;
}

/* What every kind needs; the ops' open checks the rest. */
static sbag_code_t check_config(const reader_config_t *c, sbag_status_t *status) {
  const int64_t limit = (int64_t)1 << 40;
  if (c->global_batch < 1 || c->global_batch > limit)
    return status_set(status, SBAG_ERR_ARGUMENT, "global batch is %lld samples; it must be 1 to 2^40",
                      (long long)c->global_batch);
  if (c->slice < 1 || c->slice > limit)
    return status_set(status, SBAG_ERR_ARGUMENT, "slice is %lld samples; it must be 1 to 2^40",
                      (long long)c->slice);
  if (c->prefetch < 1 || c->prefetch > 1024)
    return status_set(status, SBAG_ERR_ARGUMENT, "prefetch is %d batches; it must be 1 to 1024", c->prefetch);
  if (c->rank_count < 1 || c->rank_count > 1 << 20 || c->rank < 0 || c->rank >= c->rank_count)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "rank %d of %d: ranks count from 0 to one below their number", c->rank, c->rank_count);
  return SBAG_OK;
}

static sbag_code_t copy_text(mem_t *mem, const char **text, const char *what, sbag_status_t *status) {
  const char *from = *text;
  *text = NULL;
  if (from == NULL) return status_set(status, SBAG_ERR_ARGUMENT, "%s is not given", what);
  return reader_grow_copy(mem, from, strlen(from) + 1, what, (void **)(uintptr_t)text, status);
}

static void free_const(mem_t *mem, const void *block) {
  mem_free(mem, (void *)(uintptr_t)block);
}

static sbag_code_t copy_array(mem_t *mem, const void *from, int count, size_t size, const char *what,
                              const void **copy, sbag_status_t *status) {
  void *made = NULL;
  *copy = NULL;
  if (count < 0 || (count > 0 && from == NULL))
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: %d of them, but none are given", what, count);
  SBAG_TRY(reader_grow_copy(mem, from, mem_array_bytes(count, size), what, &made, status));
  *copy = made;
  return SBAG_OK;
}

static sbag_code_t copy_paths(mem_t *mem, const char *const **paths, int *path_count, sbag_status_t *status) {
  const char *const *from = *paths;
  const char **made = NULL;
  int count = *path_count;
  *paths = NULL;
  *path_count = 0;
  if (count < 1 || from == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "delimited file: the path is not given");
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(count, sizeof *made), "reader: paths", (void **)&made, status));
  *paths = made;
  for (int i = 0; i < count; i++) {
    made[i] = from[i];
    SBAG_TRY(copy_text(mem, &made[i], "delimited file: a path", status));
    *path_count = i + 1;
  }
  return SBAG_OK;
}

static sbag_code_t copy_config(reader_t *reader, const reader_config_t *config, sbag_status_t *status) {
  mem_t *mem = reader->mem;
  reader_config_t *own = &reader->config;
  *own = *config;
  if (config->kind == READER_MOVIELENS) {
    reader_movielens_config_t *c = &own->source.movielens;
    const char *name = c->name;
    c->name = NULL; /* until it is ours, the clean-up must not free it */
    SBAG_TRY(copy_text(mem, &c->folder, "MovieLens: the folder", status));
    c->name = name;
    return copy_text(mem, &c->name, "MovieLens: the name", status);
  }
  if (config->kind == READER_DELIMITED) {
    reader_delimited_config_t *c = &own->source.delimited;
    const void *columns = c->columns;
    c->columns = NULL;
    SBAG_TRY(copy_paths(mem, &c->paths, &c->path_count, status));
    return copy_array(mem, columns, c->column_count, sizeof *c->columns, "delimited file: columns",
                      (const void **)&c->columns, status);
  }
  if (config->kind == READER_RANKING) {
    reader_ranking_config_t *c = &own->source.ranking;
    c->users_path = NULL;
    SBAG_TRY(copy_paths(mem, &c->paths, &c->path_count, status));
    c->users_path = config->source.ranking.users_path;
    return c->users_path == NULL ? SBAG_OK : copy_text(mem, &c->users_path, "ranking: users", status);
  }
  if (config->kind == READER_CORPUS)
    return copy_paths(mem, &own->source.corpus.paths, &own->source.corpus.path_count, status);
  if (config->kind == READER_BINARY)
    return copy_text(mem, &own->source.binary.path, "binary samples: the path", status);
  reader_synthetic_config_t *c = &own->source.synthetic;
  const void *rows = c->rows, *lengths = c->bag_length;
  c->bag_length = NULL;
  SBAG_TRY(copy_array(mem, rows, c->feature_count, sizeof *c->rows, "synthetic data: rows",
                      (const void **)&c->rows, status));
  return copy_array(mem, lengths, c->feature_count, sizeof *c->bag_length, "synthetic data: bag lengths",
                    (const void **)&c->bag_length, status);
}

static void free_paths(mem_t *mem, const char *const *paths, int count) {
  for (int i = 0; i < count; i++) free_const(mem, paths[i]);
  free_const(mem, paths);
}

static void free_config(reader_t *reader) {
  reader_config_t *own = &reader->config;
  if (own->kind == READER_MOVIELENS) {
    free_const(reader->mem, own->source.movielens.folder);
    free_const(reader->mem, own->source.movielens.name);
  } else if (own->kind == READER_DELIMITED) {
    free_paths(reader->mem, own->source.delimited.paths, own->source.delimited.path_count);
    free_const(reader->mem, own->source.delimited.columns);
  } else if (own->kind == READER_RANKING) {
    free_paths(reader->mem, own->source.ranking.paths, own->source.ranking.path_count);
    free_const(reader->mem, own->source.ranking.users_path);
  } else if (own->kind == READER_CORPUS) {
    free_paths(reader->mem, own->source.corpus.paths, own->source.corpus.path_count);
  } else if (own->kind == READER_BINARY) {
    free_const(reader->mem, own->source.binary.path);
  } else {
    free_const(reader->mem, own->source.synthetic.rows);
    free_const(reader->mem, own->source.synthetic.bag_length);
  }
}

static const source_ops_t *ops_of(reader_kind_t kind) {
  switch (kind) {
  case READER_MOVIELENS:
    return &reader_source_movielens;
  case READER_DELIMITED:
    return &reader_source_delimited;
  case READER_SYNTHETIC:
    return &reader_source_synthetic;
  case READER_BINARY:
    return &reader_source_binary;
  case READER_RANKING:
    return &reader_source_ranking;
  case READER_CORPUS:
    return &reader_source_corpus;
  }
  return NULL;
}

static sbag_code_t open_source(reader_t *reader, const blobs_t *given, sbag_status_t *status) {
  source_t *source = &reader->source;
  source->config = &reader->config;
  source->mem = reader->mem;
  source->given = given->count > 0 ? given : NULL;
  source->ops = ops_of(reader->config.kind);
  SBAG_TRY(source->ops->open(source, status));
  if (source->given != NULL) SBAG_TRY(reader_blobs_check_names(given, &source->blobs, status));
  source->given = NULL; /* the caller's; not ours after open */
  return reader_pipeline_create(source, &reader->pipeline, status);
}

sbag_code_t reader_open(const reader_config_t *config, const reader_blob_t *blobs, int blob_count, mem_t *mem,
                        reader_t **reader, sbag_status_t *status) {
  reader_t *made = NULL;
  blobs_t given = {.items = (reader_blob_t *)(uintptr_t)blobs, .count = blob_count}; /* only read */
  if (ops_of(config->kind) == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "there is no kind %d of data source", (int)config->kind);
  if (blob_count < 0 || (blob_count > 0 && blobs == NULL))
    return status_set(status, SBAG_ERR_ARGUMENT, "reader_open: %d blobs, but none are given", blob_count);
  SBAG_TRY(check_config(config, status));
  SBAG_TRY(mem_calloc(mem, sizeof *made, "reader", (void **)&made, status));
  made->mem = mem;
  sbag_code_t code = copy_config(made, config, status);
  if (code == SBAG_OK) code = open_source(made, &given, status);
  if (code != SBAG_OK)
    reader_close(&made);
  else
    *reader = made;
  return code;
}

void reader_close(reader_t **reader) {
  if (reader == NULL || *reader == NULL) return;
  reader_t *r = *reader;
  reader_pipeline_destroy(&r->pipeline);
  if (r->source.ops != NULL) r->source.ops->close(&r->source);
  reader_blobs_free(&r->source.blobs, r->mem);
  mem_free(r->mem, r->source.features);
  mem_free(r->mem, r->source.bag_room);
  free_config(r);
  mem_free(r->mem, r);
  *reader = NULL;
}

int reader_dense_count(const reader_t *reader) {
  return reader->source.dense_count;
}

int reader_weighted(const reader_t *reader) {
  return reader->source.weighted;
}

int64_t reader_class_count(const reader_t *reader) {
  return reader->source.class_count;
}

int reader_feature_count(const reader_t *reader) {
  return reader->source.feature_count;
}

const reader_feature_t *reader_feature(const reader_t *reader, int feature) {
  return &reader->source.features[feature];
}

int64_t reader_samples(const reader_t *reader, reader_split_t split) {
  return reader->source.samples[split];
}

const interactions_t *reader_interactions(const reader_t *reader) {
  return reader->source.interactions;
}

int64_t reader_bad_rows(const reader_t *reader) {
  return reader->source.bad_rows;
}

const char *reader_first_bad(const reader_t *reader) {
  return reader->source.first_bad;
}

reader_order_t reader_order(const reader_t *reader, int64_t *window) {
  *window = reader->source.order == READER_ORDER_WINDOWS ? reader->source.shuffle_window : 0;
  return reader->source.order;
}

int reader_blob_count(const reader_t *reader) {
  return (int)reader->source.blobs.count;
}

const reader_blob_t *reader_blob(const reader_t *reader, int blob) {
  return &reader->source.blobs.items[blob];
}

sbag_code_t reader_start(reader_t *reader, reader_split_t split, int64_t epoch, int64_t step,
                         sbag_status_t *status) {
  if ((int)split < 0 || split >= READER_SPLITS || epoch < 0 || step < 0)
    return status_set(
        status, SBAG_ERR_ARGUMENT,
        "reader_start: split %d, epoch %lld, step %lld: none may be negative, splits are 0 to 2", (int)split,
        (long long)epoch, (long long)step);
  return reader_pipeline_start(reader->pipeline, split, epoch, step, status);
}

sbag_code_t reader_next(reader_t *reader, const reader_batch_t **batch, sbag_status_t *status) {
  return reader_pipeline_next(reader->pipeline, batch, status);
}
