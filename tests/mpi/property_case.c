/* Draws the cases of the property test. Values are small multiples of 1/8, so that ties are common and sums
 * are exact in float32 in any order. See property_case.h. */
#include "property_case.h"

#include "kernel/optimizer.h"

#include <math.h>
#include <string.h>

static double draw_dyadic(draw_t *draw, int64_t most) {
  return (double)draw_between(draw, -most, most) / 8;
}

/* In [low, high), no round number. */
static double draw_real(draw_t *draw, double low, double high) {
  return low + (high - low) * draw_unit(draw);
}

static void draw_torch_optimizer(draw_t *draw, sbag_optimizer_options_t *o) {
  int adam = o->kind == SBAG_OPT_ADAM || o->kind == SBAG_OPT_ADAMW;
  o->maximize = draw_one_in(draw, 4);
  if (o->kind != SBAG_OPT_SPARSE_ADAM && draw_one_in(draw, 3)) o->weight_decay = draw_real(draw, 0.01, 0.3);
  if (o->kind == SBAG_OPT_SGD || o->kind == SBAG_OPT_RMSPROP)
    o->momentum = draw_one_in(draw, 2) ? 0 : draw_real(draw, 0.3, 0.95);
  if (o->kind == SBAG_OPT_SGD && o->momentum > 0) {
    o->nesterov = draw_one_in(draw, 3);
    o->dampening = o->nesterov ? 0 : draw_real(draw, 0, 0.5);
  }
  if (o->kind == SBAG_OPT_ADAGRAD) {
    o->lr_decay = draw_one_in(draw, 2) ? 0 : draw_real(draw, 0.01, 0.4);
    o->initial_accumulator_value = draw_one_in(draw, 2) ? 0 : draw_real(draw, 0, 1);
  }
  if (o->kind == SBAG_OPT_RMSPROP) {
    o->alpha = draw_real(draw, 0.6, 0.99);
    o->centered = draw_one_in(draw, 2);
  }
  if (adam) o->amsgrad = draw_one_in(draw, 3);
}

static void draw_fbgemm_optimizer(draw_t *draw, sbag_optimizer_options_t *o) {
  int adagrad = o->kind == SBAG_OPT_EXACT_ADAGRAD || o->kind == SBAG_OPT_EXACT_ROWWISE_ADAGRAD;
  int decays = !adagrad && o->kind != SBAG_OPT_EXACT_SGD && o->kind != SBAG_OPT_ROWWISE_RMSPROP;
  if (adagrad && draw_one_in(draw, 2)) o->initial_accumulator_value = draw_real(draw, 0, 1);
  if (decays && draw_one_in(draw, 2)) o->weight_decay = draw_real(draw, 0.01, 0.3);
  if (o->kind == SBAG_OPT_EXACT_ROWWISE_ADAGRAD) {
    o->weight_decay_mode = (sbag_weight_decay_t)draw_below(draw, 3);
    o->weight_decay = o->weight_decay_mode == SBAG_DECAY_NONE ? 0 : draw_real(draw, 0.01, 0.3);
  }
  if (o->kind == SBAG_OPT_LARS_SGD) {
    o->momentum = draw_real(draw, 0, 0.9);
    o->eta = draw_real(draw, 0.001, 0.3);
  }
  if (o->kind == SBAG_OPT_ROWWISE_RMSPROP) {
    o->ema_beta = draw_real(draw, 0.5, 0.99);
    o->ar_alpha = draw_one_in(draw, 2) ? 0 : draw_real(draw, 0, 3);
    o->min_shrinkage = draw_real(draw, 0.05, 0.5);
  }
}

static sbag_optimizer_options_t draw_optimizer(draw_t *draw) {
  sbag_optimizer_options_t o =
      sbag_optimizer_options_default((sbag_optimizer_t)draw_below(draw, SBAG_OPT_COUNT));
  o.lr = draw_real(draw, 0.01, 0.3);
  o.eps = draw_one_in(draw, 2) ? o.eps : draw_real(draw, 1e-4, 0.1);
  /* No round numbers, or moments of dyadic gradients cancel to a rounding error that LAMB would scale up. */
  o.beta1 = draw_real(draw, 0.5, 0.95);
  o.beta2 = draw_real(draw, 0.6, 0.999);
  if (draw_one_in(draw, 5)) o.clip_value = draw_real(draw, 0.1, 2);
  if (o.kind <= SBAG_OPT_RMSPROP)
    draw_torch_optimizer(draw, &o);
  else
    draw_fbgemm_optimizer(draw, &o);
  return o;
}

/* All ranks, or some of them in any order. */
static void draw_owners(property_case_t *it, sbag_table_options_t *table) {
  draw_t *draw = &it->draw;
  table->layout = (sbag_layout_t)draw_below(draw, 3);
  table->replicated = draw_one_in(draw, 5);
  if (!draw_one_in(draw, 3)) return;
  int *ranks = arena_alloc(&it->arena, it->size, sizeof *ranks);
  for (int r = 0; r < it->size; r++) ranks[r] = r;
  for (int r = it->size - 1; r > 0; r--) {
    int other = (int)draw_below(draw, r + 1), kept = ranks[r];
    ranks[r] = ranks[other];
    ranks[other] = kept;
  }
  table->ranks = ranks;
  table->rank_count = draw_one_in(draw, 2) ? 1 : (int)draw_between(draw, 1, it->size);
}

static void draw_max_norm(draw_t *draw, sbag_table_options_t *table) {
  static const double norms[] = {1, 2, 3, INFINITY};
  if (!draw_one_in(draw, 4)) return;
  table->has_max_norm = 1;
  table->norm_type = norms[draw_below(draw, 4)];
  table->max_norm = draw_real(draw, 0.4, 4); /* no row has just this norm */
}

/* From draws of its own, so that all else of a case does not depend on it. The oracle computes in full, and
 * takes over what rounding has made of it after each step. */
static void draw_storage(property_case_t *it, int t) {
  draw_t draw = draw_start(it->seed ^ 0x5706A6Eu, it->number * TABLES_MAX + (uint64_t)t);
  sbag_table_options_t *table = &it->tables[t];
  int is_updated = it->options.weight_grad && !table->freeze && !it->special;
  if (it->options.dtype != SBAG_F32 || (!it->synchronized && (is_updated || table->has_max_norm))) return;
  if (it->options.weight_grad && !table->freeze && optimizer_info(&table->optimizer).moves_untouched) return;
  table->storage = (sbag_storage_t)draw_below(&draw, 3);
  table->rounding = (sbag_rounding_t)draw_below(&draw, 2);
  it->unit[t] = table->storage == SBAG_STORAGE_F16    ? 0x1p-10
                : table->storage == SBAG_STORAGE_BF16 ? 0x1p-7
                                                      : 0;
}

static double draw_weight(property_case_t *it) {
  static const double specials[] = {NAN, INFINITY, -INFINITY, -0.0};
  if (it->special && draw_one_in(&it->draw, 6)) return specials[draw_below(&it->draw, 4)];
  return draw_dyadic(&it->draw, 12);
}

static void draw_table(property_case_t *it, int t) {
  draw_t *draw = &it->draw;
  int64_t rows = draw_one_in(draw, 4) ? draw_between(draw, 1, 5) : draw_between(draw, 1, 60);
  int64_t dim = draw_between(draw, 1, 20);
  if (it->full) rows = draw_between(draw, 60, 300);
  sbag_table_options_t *table = &it->tables[t];
  *table = sbag_table_options_default(arena_text(&it->arena, "table%d", t), rows, dim);
  table->optimizer = draw_optimizer(draw);
  table->freeze = draw_one_in(draw, 8);
  draw_max_norm(draw, table);
  draw_owners(it, table);
  draw_storage(it, t);
  it->weights[t] = (oracle_table_t){rows, dim, arena_doubles(&it->arena, rows * dim)};
  for (int64_t i = 0; i < rows * dim; i++) it->weights[t].weight[i] = draw_weight(it);
  it->optimizers[t] = oracle_optimizer_create(&it->arena, &table->optimizer, rows, dim);
  if (!it->writes_weights)
    table->from_pretrained = batch_typed(&it->arena, it->weights[t].weight, rows * dim, it->options.dtype);
}

static void draw_feature(property_case_t *it, int f) {
  draw_t *draw = &it->draw;
  sbag_feature_options_t *feature = &it->features[f];
  /* Every table has a feature if there are enough. */
  int table = f < it->table_count ? f : (int)draw_below(draw, it->table_count);
  int64_t rows = it->tables[table].num_embeddings;
  *feature = sbag_feature_options_default(arena_text(&it->arena, "feature%d", f), table);
  feature->mode = (sbag_mode_t)draw_below(draw, it->synchronized ? 3 : 2);
  feature->has_padding_idx = draw_one_in(draw, 3);
  feature->padding_idx = draw_between(draw, -rows, rows - 1);
  if (!feature->has_padding_idx) feature->padding_idx = 0;
  feature->scale_grad_by_freq = feature->mode != SBAG_MAX && draw_one_in(draw, 4);
  it->lookups[f] = (oracle_feature_t){feature->mode, feature->has_padding_idx, feature->padding_idx,
                                      feature->scale_grad_by_freq};
}

void property_case_draw(property_case_t *it, uint64_t seed, uint64_t number, int rank, int size) {
  *it = (property_case_t){.seed = seed, .number = number, .rank = rank, .size = size};
  it->draw = draw_start(seed, number);
  draw_t *draw = &it->draw;
  it->options = sbag_collection_options_default();
  it->options.dtype = (sbag_dtype_t)draw_below(draw, 2);
  it->options.bounds_check = (sbag_bounds_check_t)draw_below(draw, 3);
  it->special = draw_one_in(draw, 12);
  it->options.weight_grad = !draw_one_in(draw, 10);
  it->synchronized = it->special || !draw_one_in(draw, 3);
  it->writes_weights = draw_one_in(draw, 4);
  it->step_count = it->special ? 1 : (int)draw_between(draw, 1, STEPS_MAX);
  it->full = draw_one_in(draw, 4);
  it->table_count = (int)draw_between(draw, 1, it->full ? 2 : TABLES_MAX);
  it->feature_count = (int)draw_between(draw, 1, it->full ? 3 : FEATURES_MAX);
  if (it->table_count > it->feature_count && !draw_one_in(draw, 4)) it->table_count = it->feature_count;
  for (int t = 0; t < it->table_count; t++) draw_table(it, t);
  for (int f = 0; f < it->feature_count; f++) draw_feature(it, f);
}

/* Batches -------------------------------------------------------------------------------------------------
 */

/* An index that is often one of few, so that rows repeat; outside the table where that is allowed. */
static int64_t draw_index(property_case_t *it, int64_t rows, int crowded, int spread) {
  draw_t *draw = &it->draw;
  if (it->options.bounds_check != SBAG_BOUNDS_FATAL && draw_one_in(draw, 15))
    return draw_one_in(draw, 2) ? -draw_between(draw, 1, 3) : rows + draw_below(draw, 3);
  if (crowded) return draw_below(draw, rows < 3 ? rows : 3);
  if (it->full && !spread && draw_one_in(draw, 2)) return draw_below(draw, (rows + 7) / 8);
  return draw_below(draw, rows);
}

/* Bags of any lengths, or (uniform > 0) of one. */
static void draw_bags(property_case_t *it, int f, property_batch_t *batch, int64_t uniform) {
  draw_t *draw = &it->draw;
  oracle_bags_t *bags = &batch->bags[f];
  int64_t rows = it->tables[it->features[f].table].num_embeddings;
  int64_t *offsets = arena_ints(&it->arena, batch->samples + 1);
  int empty = draw_one_in(draw, 10), crowded = !batch->spread && draw_one_in(draw, it->full ? 10 : 3);
  for (int64_t bag = 0; bag < batch->samples; bag++) {
    int64_t length = draw_one_in(draw, 3) ? 0 : draw_one_in(draw, 25) ? 30 : draw_between(draw, 1, 6);
    offsets[bag + 1] = offsets[bag] + (uniform > 0 ? uniform : empty ? 0 : length);
  }
  int64_t count = offsets[batch->samples];
  int64_t *indices = arena_ints(&it->arena, count);
  for (int64_t i = 0; i < count; i++) indices[i] = draw_index(it, rows, crowded, batch->spread);
  *bags = (oracle_bags_t){batch->samples, offsets, indices, NULL};
  if (it->features[f].mode != SBAG_SUM || draw_one_in(draw, 2)) return;
  double *weights = arena_doubles(&it->arena, count);
  for (int64_t i = 0; i < count; i++) weights[i] = draw_dyadic(draw, 8);
  bags->weights = weights;
  /* A rank may bring none, which weighs all of its indices 1. */
  for (int r = 0; r < it->size; r++) {
    batch->unweighted[f][r] = draw_one_in(draw, 6);
    if (!batch->unweighted[f][r]) continue;
    for (int64_t i = offsets[batch->first[r]]; i < offsets[batch->first[r + 1]]; i++) weights[i] = 1;
  }
}

/* Each rank passes its part in a form of its own. */
static void take_mine(property_case_t *it, int f, property_batch_t *batch, int64_t uniform) {
  draw_t *draw = &it->draw;
  for (int r = 0; r < it->size; r++) {
    batch_form_t form = {.index_type = (sbag_index_t)draw_below(draw, 2), .dtype = it->options.dtype};
    form.include_last_offset = draw_one_in(draw, 2);
    form.two_d = uniform > 0 && draw_one_in(draw, 2);
    form.bag_length = uniform;
    if (r != it->rank) continue;
    oracle_bags_t all = batch->bags[f];
    if (batch->unweighted[f][r]) all.weights = NULL;
    batch->mine[f] = batch_slice(&it->arena, &all, batch->first[r], batch->first[r + 1], &form);
  }
}

static void count_lookups(const property_case_t *it, int f, property_batch_t *batch) {
  const oracle_bags_t *bags = &batch->bags[f];
  const oracle_feature_t *lookup = &it->lookups[f];
  int64_t rows = it->tables[it->features[f].table].num_embeddings;
  int64_t padding = lookup->padding < 0 ? lookup->padding + rows : lookup->padding;
  int64_t end = bags->offsets[batch->first[it->rank + 1]];
  for (int64_t i = bags->offsets[batch->first[it->rank]]; i < end; i++) {
    int outside = bags->indices[i] < 0 || bags->indices[i] >= rows;
    batch->dropped += outside;
    batch->lookups += !outside && !(lookup->has_padding && bags->indices[i] == padding);
  }
}

/* No rank without samples: dense pools are agreed upon by all or not at all. */
static void split_evenly(property_case_t *it, property_batch_t *batch) {
  int64_t each = draw_between(&it->draw, 1, 48 / it->size + 1);
  batch->samples = it->size * each;
  for (int r = 0; r <= it->size; r++) batch->first[r] = r * each;
}

void property_batch_draw(property_case_t *it, property_batch_t *batch) {
  draw_t *draw = &it->draw;
  *batch = (property_batch_t){.first = arena_ints(&it->arena, it->size + 1)};
  batch->samples = draw_one_in(draw, 12) ? 0 : draw_between(draw, 1, 24);
  batch_split(draw, batch->samples, it->size, batch->first);
  if (it->full && !draw_one_in(draw, 6)) split_evenly(it, batch);
  batch->spread = it->full && draw_one_in(draw, 2);
  for (int f = 0; f < it->feature_count; f++) {
    batch->unweighted[f] = arena_alloc(&it->arena, it->size, sizeof *batch->unweighted[f]);
    int64_t dim = it->tables[it->features[f].table].embedding_dim;
    int64_t uniform = draw_one_in(draw, 3) ? draw_between(draw, 1, 5) : 0;
    if (it->full) uniform = draw_between(draw, 2, 12);
    if (batch->spread) uniform = draw_between(draw, 8, 10) * it->size;
    draw_bags(it, f, batch, uniform);
    take_mine(it, f, batch, uniform);
    count_lookups(it, f, batch);
    batch->grads[f] = arena_doubles(&it->arena, batch->samples * dim);
    for (int64_t i = 0; i < batch->samples * dim; i++) batch->grads[f][i] = draw_dyadic(draw, 10);
  }
}
