/* That all ranks describe the same collection: a digest of each description, compared over the ranks. */
#include "collection/collection.h"

#include <string.h>

typedef struct digest {
  uint64_t value;
} digest_t;

static void add_bytes(digest_t *d, const void *bytes, size_t count) {
  const unsigned char *b = bytes;
  for (size_t i = 0; i < count; i++) d->value = (d->value ^ b[i]) * 0x100000001b3u;
}

static void add_i64(digest_t *d, int64_t v) {
  add_bytes(d, &v, sizeof v);
}

static void add_f64(digest_t *d, double v) {
  add_bytes(d, &v, sizeof v);
}

static void add_optimizer(digest_t *d, const sbag_optimizer_options_t *o) {
  const double reals[] = {
      o->lr,       o->momentum, o->dampening,  o->weight_decay,  o->eps,
      o->lr_decay, o->beta1,    o->beta2,      o->alpha,         o->eta,
      o->ema_beta, o->ar_alpha, o->clip_value, o->min_shrinkage, o->initial_accumulator_value};
  const int integers[] = {(int)o->kind, o->nesterov, o->maximize, (int)o->weight_decay_mode,
                          o->amsgrad,   o->centered};
  for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) add_f64(d, reals[i]);
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) add_i64(d, integers[i]);
}

static int64_t table_digest(const sbag_table_options_t *t) {
  digest_t d = {0xcbf29ce484222325u};
  add_bytes(&d, t->name, strlen(t->name));
  const int64_t integers[] = {t->num_embeddings,
                              t->embedding_dim,
                              (int64_t)t->init,
                              (int64_t)t->seed,
                              t->freeze,
                              t->has_max_norm,
                              (int64_t)t->layout,
                              t->replicated,
                              t->from_pretrained != NULL,
                              (int64_t)t->storage,
                              t->storage != SBAG_STORAGE_FULL ? (int64_t)t->rounding : 0,
                              t->ranks != NULL ? t->rank_count : -1};
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) add_i64(&d, integers[i]);
  for (int i = 0; t->ranks != NULL && i < t->rank_count; i++) add_i64(&d, t->ranks[i]);
  const char *texts[] = {t->init_file, t->init_dataset};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i] != NULL) add_bytes(&d, texts[i], strlen(texts[i]) + 1);
  add_f64(&d, t->init_a);
  add_f64(&d, t->init_b);
  add_f64(&d, t->has_max_norm ? t->max_norm : 0);
  add_f64(&d, t->has_max_norm ? t->norm_type : 0);
  add_optimizer(&d, &t->optimizer);
  return (int64_t)(d.value >> 1);
}

static int64_t feature_digest(const sbag_feature_options_t *f) {
  digest_t d = {0xcbf29ce484222325u};
  add_bytes(&d, f->name, strlen(f->name));
  const int64_t integers[] = {f->table, (int64_t)f->mode, f->has_padding_idx,
                              f->has_padding_idx ? f->padding_idx : 0, f->scale_grad_by_freq};
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) add_i64(&d, integers[i]);
  return (int64_t)(d.value >> 1);
}

/* *differs: the first number that is not the same on all ranks, or -1. Numbers and their negatives are
 * reduced together: equal exactly if the largest is the least. */
static sbag_code_t compare(sbag_context_h context, int64_t *numbers, int64_t count, int64_t *differs,
                           sbag_status_t *status) {
  for (int64_t i = 0; i < count; i++) numbers[count + i] = -numbers[i];
  SBAG_TRY(
      comm_allreduce(context->comm, numbers, 2 * count, COMM_I64, COMM_MAX, "collection: compare", status));
  *differs = -1;
  for (int64_t i = count - 1; i >= 0; i--)
    if (numbers[i] != -numbers[count + i]) *differs = i;
  return SBAG_OK;
}

sbag_code_t collection_same(sbag_context_h context, const sbag_collection_options_t *options,
                            const sbag_table_options_t *tables, int table_count,
                            const sbag_feature_options_t *features, int feature_count,
                            sbag_status_t *status) {
  enum { HEAD = 8 };
  int64_t head[2 * HEAD] = {table_count,
                            feature_count,
                            (int64_t)options->dtype,
                            (int64_t)options->bounds_check,
                            options->weight_grad,
                            context->options.reproducible,
                            (int64_t)context->options.exchange,
                            (int64_t)context->options.wire};
  static const char *const head_name[HEAD] = {"the number of tables",
                                              "the number of features",
                                              "dtype",
                                              "bounds_check",
                                              "weight_grad",
                                              "the context's reproducible",
                                              "the context's exchange kind",
                                              "the context's wire"};
  int64_t differs;
  SBAG_TRY(compare(context, head, HEAD, &differs, status));
  if (differs >= 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "collection: %s is not the same on all ranks",
                      head_name[differs]);
  void *p = NULL;
  int64_t count = table_count + feature_count;
  sbag_code_t code =
      mem_alloc(context->mem, mem_array_bytes(2 * count, sizeof(int64_t)), "collection: compare", &p, status);
  code = comm_agree(context->comm, code, status);
  if (code != SBAG_OK) {
    mem_free(context->mem, p);
    return code;
  }
  int64_t *numbers = p;
  for (int t = 0; t < table_count; t++) numbers[t] = table_digest(&tables[t]);
  for (int f = 0; f < feature_count; f++) numbers[table_count + f] = feature_digest(&features[f]);
  code = compare(context, numbers, count, &differs, status);
  mem_free(context->mem, p);
  if (code != SBAG_OK || differs < 0) return code;
  int is_table = differs < table_count;
  code = status_set(status, SBAG_ERR_ARGUMENT, "%s %d ('%s' here) is not described the same on all ranks",
                    is_table ? "table" : "feature", (int)(is_table ? differs : differs - table_count),
                    is_table ? tables[differs].name : features[differs - table_count].name);
  /* The name may be what differs; the message is the same everywhere all the same. */
  return comm_agree(context->comm, code, status);
}
