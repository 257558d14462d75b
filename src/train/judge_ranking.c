/* Recall and NDCG of the best k of all items, the user's training items left out; and those of the most
 * popular items, for comparison. As LightGCN's evaluation: means over users who have items in the split;
 * recall is found / (the user's items), NDCG is over the best order that k places allow. */
#include "train/judge.h"

#include "base/exact_sum.h"
#include "base/sort.h"
#include "reader/interactions.h"
#include "train/recommend.h"
#include <math.h>
#include <stdlib.h>

typedef struct totals {
  int64_t users;
  exact_sum_t recall, ndcg, popular_recall, popular_ndcg;
} totals_t;

typedef struct popular {
  int64_t row, count;
} popular_t;

typedef struct ranking_judge {
  judge_t base;
  reader_split_t split;
  const interactions_t *all;
  recommend_t best;
  int64_t k;
  popular_t *popular; /* [items], the most popular first */
  totals_t totals;
} ranking_judge_t;

static void destroy(judge_t *judge) {
  ranking_judge_t *r = (ranking_judge_t *)judge;
  mem_t *mem = judge->session->mem;
  recommend_clear(&r->best);
  mem_free(mem, r->popular);
  mem_free(mem, r);
}

/* ---- what is found ---- */

/* Gains of a list of rows, place by place. */
typedef struct gains {
  const int64_t *wanted;
  int64_t wanted_count, places, found;
  double dcg;
} gains_t;

static double discount(int64_t place) {
  return 1.0 / log2((double)place + 2.0);
}

static void gain(gains_t *g, int64_t row) {
  if (reader_interactions_have(g->wanted, g->wanted_count, row)) {
    g->found++;
    g->dcg += discount(g->places);
  }
  g->places++;
}

static void add_gains(const gains_t *g, int64_t k, exact_sum_t *recall, exact_sum_t *ndcg) {
  double ideal = 0.0;
  for (int64_t i = 0; i < k && i < g->wanted_count; i++) ideal += discount(i);
  exact_sum_add(recall, (double)g->found / (double)g->wanted_count);
  exact_sum_add(ndcg, g->dcg / ideal);
}

static void add_user(ranking_judge_t *r, int64_t user, const topk_hit_t *hits) {
  const int64_t *wanted, *known;
  int64_t wanted_count = reader_interactions_of(r->all, r->split, user, &wanted);
  int64_t known_count = reader_interactions_of(r->all, READER_TRAIN, user, &known);
  gains_t ours = {.wanted = wanted, .wanted_count = wanted_count}, theirs = ours;
  for (int64_t i = 0; i < r->k && hits[i].row >= 0; i++) gain(&ours, hits[i].row);
  for (int64_t i = 0; i < r->all->item_rows - 1 && theirs.places < r->k; i++)
    if (!reader_interactions_have(known, known_count, r->popular[i].row)) gain(&theirs, r->popular[i].row);
  r->totals.users++;
  add_gains(&ours, r->k, &r->totals.recall, &r->totals.ndcg);
  add_gains(&theirs, r->k, &r->totals.popular_recall, &r->totals.popular_ndcg);
}

static sbag_code_t add(judge_t *judge, const reader_batch_t *batch, const float *outputs,
                       sbag_status_t *status) {
  ranking_judge_t *r = (ranking_judge_t *)judge;
  SBAG_TRY(recommend_batch(&r->best, batch, outputs, status));
  for (int64_t i = 0; i < batch->samples; i++)
    add_user(r, batch->features[0].indices[i], r->best.hits + i * r->k);
  return SBAG_OK;
}

static sbag_code_t finish(judge_t *judge, metrics_result_t *result, sbag_status_t *status) {
  ranking_judge_t *r = (ranking_judge_t *)judge;
  totals_t *t = &r->totals;
  exact_sum_t *sums[] = {&t->recall, &t->ndcg, &t->popular_recall, &t->popular_ndcg};
  double means[4];
  for (int i = 0; i < 4; i++) exact_sum_carry(sums[i]);
  SBAG_TRY(comm_allreduce(judge->session->comm, t, (int64_t)(sizeof *t / sizeof(int64_t)), COMM_I64, COMM_SUM,
                          "metrics: totals", status));
  for (int i = 0; i < 4; i++) means[i] = t->users > 0 ? exact_sum_value(sums[i]) / (double)t->users : NAN;
  *result = (metrics_result_t){.kind = METRICS_RANKING,
                               .samples = t->users,
                               .k = r->k,
                               .recall = means[0],
                               .ndcg = means[1],
                               .popular_recall = means[2],
                               .popular_ndcg = means[3]};
  return SBAG_OK;
}

/* ---- creation ---- */

static int by_count(const void *a, const void *b) {
  const popular_t *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  return (x->row > y->row) - (x->row < y->row);
}

static sbag_code_t list_popular(ranking_judge_t *r, sbag_status_t *status) {
  int64_t items = r->all->item_rows - 1;
  SBAG_TRY(mem_alloc(r->base.session->mem, mem_array_bytes(items, sizeof *r->popular),
                     "metrics: popular items", (void **)&r->popular, status));
  for (int64_t i = 0; i < items; i++) r->popular[i] = (popular_t){.row = i + 1};
  for (int64_t i = 0; i < r->all->count[READER_TRAIN]; i++)
    r->popular[r->all->items[READER_TRAIN][i] - 1].count++;
  sort_items(r->popular, items, sizeof *r->popular, by_count);
  return SBAG_OK;
}

static void clear_totals(totals_t *t) {
  t->users = 0;
  exact_sum_clear(&t->recall);
  exact_sum_clear(&t->ndcg);
  exact_sum_clear(&t->popular_recall);
  exact_sum_clear(&t->popular_ndcg);
}

sbag_code_t judge_ranking_create(session_t *session, const reader_t *reader, reader_split_t split,
                                 judge_t **judge, sbag_status_t *status) {
  static const judge_ops_t ops = {add, finish, destroy};
  void *block = NULL;
  sbag_code_t code = mem_calloc(session->mem, sizeof(ranking_judge_t), "metrics", &block, status);
  ranking_judge_t *made = block;
  if (code == SBAG_OK) {
    made->base = (judge_t){.ops = &ops, .session = session};
    made->split = split;
    made->all = reader_interactions(reader);
    made->k = session->settings->train.top_k;
    clear_totals(&made->totals);
    code = list_popular(made, status);
  }
  code = comm_agree(session->comm, code, status);
  if (code == SBAG_OK) code = recommend_create(session, reader, &made->best, status);
  if (code == SBAG_OK) {
    *judge = &made->base;
    return SBAG_OK;
  }
  if (made != NULL) destroy(&made->base);
  return code;
}
