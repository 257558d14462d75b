/* An item beside its negatives: the mean loss, and how often the item has the best score. */
#include "train/judge.h"

#include "base/exact_sum.h"
#include <math.h>

typedef struct totals {
  int64_t samples, correct, not_finite;
  exact_sum_t losses;
} totals_t;

typedef struct match_judge {
  judge_t base;
  totals_t totals;
} match_judge_t;

static void destroy(judge_t *judge) {
  mem_free(judge->session->mem, judge);
}

static sbag_code_t add(judge_t *judge, const reader_batch_t *batch, const float *outputs,
                       sbag_status_t *status) {
  totals_t *t = &((match_judge_t *)judge)->totals;
  const model_config_t *config = &judge->session->assembly.model;
  int64_t width = model_output_count(judge->session->model),
          dim = config->tables[config->features[0].table].embedding_dim;
  const match_targets_t targets = {.kind = config->match_loss, .temperature = config->temperature};
  (void)status;
  for (int64_t i = 0; i < batch->samples; i++) {
    const float *scores = outputs + i * width + dim;
    int best = 1, count = (int)(width - dim);
    double loss = match_loss_of(&targets, count, scores);
    for (int k = 1; k < count; k++) best &= scores[0] > scores[k];
    t->samples++;
    t->correct += best;
    if (isfinite(loss))
      exact_sum_add(&t->losses, loss > 0.0 ? loss : 0.0);
    else
      t->not_finite++;
  }
  return SBAG_OK;
}

static sbag_code_t finish(judge_t *judge, metrics_result_t *result, sbag_status_t *status) {
  totals_t *t = &((match_judge_t *)judge)->totals;
  exact_sum_carry(&t->losses);
  SBAG_TRY(comm_allreduce(judge->session->comm, t, (int64_t)(sizeof *t / sizeof(int64_t)), COMM_I64, COMM_SUM,
                          "metrics: totals", status));
  if (t->not_finite > 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "%lld samples have a loss that is no number",
                      (long long)t->not_finite);
  *result = (metrics_result_t){.kind = METRICS_MATCH, .samples = t->samples, .logloss = NAN, .accuracy = NAN};
  if (t->samples == 0) return SBAG_OK;
  result->logloss = exact_sum_value(&t->losses) / (double)t->samples;
  result->accuracy = (double)t->correct / (double)t->samples;
  return SBAG_OK;
}

sbag_code_t judge_match_create(session_t *session, judge_t **judge, sbag_status_t *status) {
  static const judge_ops_t ops = {add, finish, destroy};
  void *block = NULL;
  SBAG_TRY(mem_calloc(session->mem, sizeof(match_judge_t), "metrics", &block, status));
  match_judge_t *made = block;
  made->base = (judge_t){.ops = &ops, .session = session};
  exact_sum_clear(&made->totals.losses);
  *judge = &made->base;
  return SBAG_OK;
}
