/* Requesters one after the other, each counted as one more rank that owns nothing: all owners are then
 * others, and no part of a batch stays at home. See exchange_virtual.h. */
#include "bench/exchange_virtual.h"

#include "bench/exchange_count.h"
#include "bench/exchange_report.h"

typedef struct virtual {
  const bench_virtual_config_t *c;
  bench_counter_t *counter;
  int64_t *indices, *owner_bytes;
  int64_t requesters;
  int within;
}
virtual_t;

static sbag_code_t count_case(virtual_t *v, const bench_shape_t *of, sbag_status_t *status) {
  const bench_exchange_settings_t *s = v->c->settings;
  bench_exchange_row_t row = {.of = *of, .ranks = v->c->ranks, .cover = v->c->cover};
  for (int o = 0; o < v->c->ranks; o++) v->owner_bytes[o] = 0;
  for (int64_t i = 0; i < v->requesters; i++) {
    bench_batch_fill(s, of, i * v->c->ranks / v->requesters, 0, v->indices);
    SBAG_TRY(bench_counter_add(v->counter, of, v->indices, &row.count, v->owner_bytes, status));
  }
  int64_t most = 0, all = 0;
  for (int o = 0; o < v->c->ranks; o++) {
    all += v->owner_bytes[o];
    most = v->owner_bytes[o] > most ? v->owner_bytes[o] : most;
  }
  row.bytes_most = all > 0 ? (double)most * v->c->ranks / (double)all : 1.0;
  v->within &= bench_exchange_within(s, &row);
  bench_exchange_report_counts(v->c->out, &row);
  return bench_exchange_report_json(v->c->json, v->c->json_path, s, &row, status);
}

static sbag_code_t count_all(virtual_t *v, sbag_status_t *status) {
  const bench_exchange_settings_t *s = v->c->settings;
  bench_exchange_report_setup(v->c->out, s);
  fprintf(
      v->c->out,
      "# counted, not sent: %d ranks, the batches of %lld of them, each asking as one more rank that owns "
      "nothing\n",
      v->c->ranks, (long long)v->requesters);
  bench_exchange_report_counts_head(v->c->out);
  for (int z = 0; z < s->zipf.count; z++)
    for (int l = 0; l < s->lengths.count; l++) {
      const bench_shape_t of = {.length = s->lengths.values[l], .zipf = s->zipf.values[z]};
      SBAG_TRY(count_case(v, &of, status));
    }
  fprintf(v->c->out, "# within: %s\n", v->within ? "yes" : "no");
  return SBAG_OK;
}

static sbag_code_t allocate(virtual_t *v, sbag_status_t *status) {
  const bench_exchange_settings_t *s = v->c->settings;
  int64_t most = 0;
  void *block = NULL;
  for (int l = 0; l < s->lengths.count; l++) {
    const bench_shape_t of = {.length = s->lengths.values[l]};
    int64_t indices = bench_batch_indices(s, &of);
    most = indices > most ? indices : most;
  }
  SBAG_TRY(mem_alloc(v->c->mem, mem_array_bytes(most + v->c->ranks, sizeof(int64_t)), "bench: batch", &block,
                     status));
  v->indices = block;
  v->owner_bytes = v->indices + most;
  return SBAG_OK;
}

sbag_code_t bench_exchange_virtual(const bench_virtual_config_t *config, sbag_status_t *status) {
  virtual_t v = {.c = config, .requesters = config->settings->requesters, .within = 1};
  if (v.requesters == 0 || v.requesters > config->ranks) v.requesters = config->ranks;
  const bench_counter_config_t counter = {.settings = config->settings,
                                          .mem = config->mem,
                                          .owners = config->ranks,
                                          .ranks = config->ranks + 1,
                                          .rank = config->ranks,
                                          .cover = config->cover};
  sbag_code_t code = allocate(&v, status);
  if (code == SBAG_OK) code = bench_counter_create(&counter, &v.counter, status);
  if (code == SBAG_OK) code = count_all(&v, status);
  bench_counter_destroy(&v.counter);
  mem_free(config->mem, v.indices);
  return code;
}
