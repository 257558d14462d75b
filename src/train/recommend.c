/* From a batch's queries to the best items. */
#include "train/recommend.h"

#include "reader/interactions.h"

static int item_table(const model_config_t *config) {
  int f = 0;
  while (config->roles[f] != MODEL_POSITIVE) f++;
  return config->features[f].table;
}

/* Row 0 is no item's. */
sbag_code_t recommend_create(session_t *session, const reader_t *reader, recommend_t *recommend,
                             sbag_status_t *status) {
  const topk_options_t options = {
      .table = item_table(&session->assembly.model), .first_row = 1, .k = session->settings->train.top_k};
  *recommend = (recommend_t){
      .session = session, .all = reader_interactions(reader), .k = session->settings->train.top_k};
  return topk_create(model_collection(session->model), session->comm, session->mem, &options,
                     &recommend->topk, status);
}

void recommend_clear(recommend_t *recommend) {
  if (recommend->session == NULL) return;
  mem_t *mem = recommend->session->mem;
  topk_destroy(&recommend->topk);
  mem_free(mem, recommend->excluded);
  mem_free(mem, recommend->excluded_counts);
  mem_free(mem, recommend->hits);
  *recommend = (recommend_t){.session = NULL};
}

static sbag_code_t make_room(recommend_t *r, int64_t samples, sbag_status_t *status) {
  mem_t *mem = r->session->mem;
  if (samples <= r->room) return SBAG_OK;
  r->room = 0;
  SBAG_TRY(mem_realloc(mem, mem_array_bytes(samples, sizeof *r->excluded), "best items: users",
                       (void **)(uintptr_t)&r->excluded, status));
  SBAG_TRY(mem_realloc(mem, mem_array_bytes(samples, sizeof *r->excluded_counts), "best items: users",
                       (void **)&r->excluded_counts, status));
  SBAG_TRY(mem_realloc(mem, mem_array_bytes(samples * r->k, sizeof *r->hits), "best items", (void **)&r->hits,
                       status));
  r->room = samples;
  return SBAG_OK;
}

sbag_code_t recommend_batch(recommend_t *recommend, const reader_batch_t *batch, const float *outputs,
                            sbag_status_t *status) {
  recommend_t *r = recommend;
  const int64_t *users = batch->features[0].indices;
  if (make_room(r, batch->samples, status) != SBAG_OK) return session_fail(r->session, status);
  for (int64_t i = 0; i < batch->samples; i++)
    r->excluded_counts[i] = reader_interactions_of(r->all, READER_TRAIN, users[i], &r->excluded[i]);
  const topk_queries_t queries = {.count = batch->samples,
                                  .stride = model_output_count(r->session->model),
                                  .vectors = outputs,
                                  .excluded = r->excluded,
                                  .excluded_counts = r->excluded_counts};
  return topk_search(r->topk, &queries, r->hits, status);
}
