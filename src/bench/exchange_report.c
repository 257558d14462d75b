/* Aligned rows and JSON lines: see exchange_report.h. */
#include "bench/exchange_report.h"

#include "bench/json.h"
#include <inttypes.h>

/* A number's mean over batches. */
static double mean(const bench_exchange_row_t *row, bench_count_number_t number) {
  return (double)row->count.n[number] / (double)row->count.n[COUNT_BATCHES];
}

/* Where there is nothing to send, nothing is 1 times nothing. */
static double ratio_of(double a, double b) {
  return b > 0 ? a / b : 1.0;
}

static double cover_ratio(const bench_exchange_row_t *row) {
  return ratio_of(mean(row, COUNT_CHOSEN), mean(row, COUNT_COVER));
}

int bench_exchange_within(const bench_exchange_settings_t *s, const bench_exchange_row_t *row) {
  int near = !row->cover || s->mode == SBAG_MAX || cover_ratio(row) <= 1.10;
  return near && row->count.n[COUNT_OVER] == 0;
}

void bench_exchange_report_setup(FILE *out, const bench_exchange_settings_t *s) {
  fprintf(out,
          "# shardbag %s bench exchange: %" PRId64 " tables of %" PRId64 " x %" PRId64
          " %s, layout %s, mode %s\n",
          sbag_version(), s->tables, s->rows, s->dim, s->dtype == SBAG_F64 ? "f64" : "f32",
          bench_exchange_layout(s), bench_exchange_mode(s));
  fprintf(out,
          "# batch %" PRId64
          " bags of each table on every rank, exchange %s, wire %s, popular rows %s, seed %" PRId64 "\n",
          s->batch, bench_exchange_kind(s), bench_exchange_wire(s), s->scatter ? "anywhere" : "first",
          s->seed);
}

void bench_exchange_report_counts_head(FILE *out) {
  fprintf(out, "# a requester and step, with other ranks; bytes of both directions\n"
               "#             |------------------ vectors forward -------------------| chosen/ |"
               "-------------- kB --------------| |--- each way alone, kB --| max/\n"
               "#    L  zipf    dense   sparse distinct   better    cover   chosen   cover      ids  forward "
               "backward    total    pools     rows    dense  mean\n");
}

void bench_exchange_report_counts(FILE *out, const bench_exchange_row_t *row) {
  char cover[16] = "-", ratio[16] = "-";
  if (row->cover) {
    snprintf(cover, sizeof cover, "%.0f", mean(row, COUNT_COVER));
    snprintf(ratio, sizeof ratio, "%.3f", cover_ratio(row));
  }
  double ids = mean(row, COUNT_IDS), forward = mean(row, COUNT_FORWARD), backward = mean(row, COUNT_BACKWARD);
  fprintf(
      out,
      "%6" PRId64 " %5.2f %8.0f %8.0f %8.0f %8.0f %8s %8.0f %7s %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f "
      "%5.2f\n",
      row->of.length, row->of.zipf, mean(row, COUNT_DENSE), mean(row, COUNT_SPARSE),
      mean(row, COUNT_DISTINCT), mean(row, COUNT_BETTER), cover, mean(row, COUNT_CHOSEN), ratio, ids / 1e3,
      forward / 1e3, backward / 1e3, (ids + forward + backward) / 1e3, mean(row, COUNT_POOLS_BYTES) / 1e3,
      mean(row, COUNT_ROWS_BYTES) / 1e3, mean(row, COUNT_DENSE_BYTES) / 1e3, row->bytes_most);
}

void bench_exchange_report_times_head(FILE *out) {
  fprintf(out,
          "#\n"
          "# a step, of its slowest rank; waits are in the whole, the update is not; choice: time on a core, "
          "and its\n"
          "# part of the step's. Again: the same messages once more with a pass over what came; raw: plain\n"
          "# all-to-alls of these bytes (MPI_Alltoallv; on GPUs NCCL's) with that pass; to raw: of the same "
          "step. #wrong:\n# of a sample of bags, rows\n"
          "#            |------ sent by a rank, kB ------| |----------- ms, medians of steps -----------| "
          "|-choice-|  other |--- ms ---| |- to raw --|\n"
          "#    L  zipf     ids  forward backward    total     ids forward backwrd   whole  (min)   waits "
          "    ms   %%  update   raw  again  again  whole hidden%% #wrong\n");
}

/* "-" where there is none. */
static const char *optional(char text[32], int there, int digits, double value) {
  snprintf(text, 32, "-");
  if (there) snprintf(text, 32, "%.*f", digits, value);
  return text;
}

void bench_exchange_report_times(FILE *out, const bench_exchange_row_t *row) {
  const bench_exchange_times_t *t = &row->times;
  char texts[9][32];
  const double *sent = row->sent;
  fprintf(out, "%6" PRId64 " %5.2f %7.1f %8.1f %8.1f %8.1f", row->of.length, row->of.zipf,
          sent[LEG_IDS] / 1e3, sent[LEG_FORWARD] / 1e3, sent[LEG_BACKWARD] / 1e3,
          (sent[LEG_IDS] + sent[LEG_FORWARD] + sent[LEG_BACKWARD]) / 1e3);
  fprintf(out, " %7.2f %7.2f %7.2f %7.2f %6.2f %7.2f %6s %3s", t->leg[LEG_IDS].median,
          t->leg[LEG_FORWARD].median, t->leg[LEG_BACKWARD].median, t->whole.median, t->whole.min,
          t->waits.median, optional(texts[7], t->has_choice, 2, t->choice.median),
          optional(texts[8], t->has_choice, 0, 100 * t->choice_part));
  fprintf(out, " %7s %5s %6s %6s %6s %7s %6s\n", optional(texts[0], t->has_update, 2, t->update.median),
          optional(texts[1], t->has_raw, 2, t->raw.median),
          optional(texts[2], t->has_raw, 2, t->again.median),
          optional(texts[3], t->has_raw, 2, t->again_ratio.median),
          optional(texts[4], t->has_raw, 2, t->whole_ratio.median),
          optional(texts[5], t->has_hidden, 0, 100 * t->hidden),
          optional(texts[6], row->wrong >= 0, 0, (double)row->wrong));
}

/* ---- JSON ---- */

static void add_settings(json_object *object, const bench_exchange_settings_t *s) {
  bench_json_int(object, "rows", s->rows);
  bench_json_int(object, "dim", s->dim);
  bench_json_int(object, "tables", s->tables);
  bench_json_int(object, "batch", s->batch);
  bench_json_text(object, "layout", bench_exchange_layout(s));
  bench_json_text(object, "mode", bench_exchange_mode(s));
  bench_json_text(object, "kind", bench_exchange_kind(s));
  bench_json_text(object, "wire", bench_exchange_wire(s));
}

static void add_counts(json_object *object, const bench_exchange_settings_t *s,
                       const bench_exchange_row_t *row) {
  static const char *const names[COUNTS] = {
      [COUNT_CHOSEN] = "vectors",          [COUNT_DENSE] = "dense_pools",
      [COUNT_SPARSE] = "sparse_pools",     [COUNT_DISTINCT] = "distinct_rows",
      [COUNT_BETTER] = "better_per_pair",  [COUNT_IDS] = "id_bytes",
      [COUNT_FORWARD] = "forward_bytes",   [COUNT_BACKWARD] = "backward_bytes",
      [COUNT_POOLS_BYTES] = "pools_bytes", [COUNT_ROWS_BYTES] = "rows_bytes",
      [COUNT_DENSE_BYTES] = "dense_bytes"};
  for (int n = 0; n < COUNTS; n++)
    if (names[n] != NULL) bench_json_real(object, names[n], mean(row, (bench_count_number_t)n));
  bench_json_int(object, "batches", row->count.n[COUNT_BATCHES]);
  bench_json_real(object, "bytes_max_over_mean", row->bytes_most);
  bench_json_bool(object, "within", bench_exchange_within(s, row));
  if (!row->cover) return;
  bench_json_real(object, "cover", mean(row, COUNT_COVER));
  bench_json_real(object, "vectors_over_cover", cover_ratio(row));
}

static void add_times(json_object *object, const bench_exchange_row_t *row) {
  static const char *const sent[LEGS] = {"id_bytes_sent", "forward_bytes_sent", "backward_bytes_sent"};
  static const char *const legs[LEGS] = {"ids_ms", "forward_ms", "backward_ms"};
  const bench_exchange_times_t *t = &row->times;
  for (int leg = 0; leg < LEGS; leg++) {
    bench_json_real(object, sent[leg], row->sent[leg]);
    bench_json_range(object, legs[leg], t->leg[leg]);
  }
  bench_json_range(object, "ms", t->whole);
  bench_json_range(object, "wait_ms", t->waits);
  if (t->has_choice) bench_json_range(object, "choice_ms", t->choice);
  if (t->has_update) bench_json_range(object, "update_ms", t->update);
  if (t->has_choice) bench_json_real(object, "choice_part", t->choice_part);
  if (t->has_raw) {
    bench_json_range(object, "again_ms", t->again);
    bench_json_range(object, "raw_ms", t->raw);
    bench_json_range(object, "again_over_raw", t->again_ratio);
    bench_json_range(object, "whole_over_raw", t->whole_ratio);
  }
  if (t->has_hidden) bench_json_real(object, "hidden_part", t->hidden);
  if (row->wrong >= 0) bench_json_int(object, "wrong", row->wrong);
}

sbag_code_t bench_exchange_report_json(FILE *json, const char *path,
                                       const bench_exchange_settings_t *settings,
                                       const bench_exchange_row_t *row, sbag_status_t *status) {
  if (json == NULL) return SBAG_OK;
  json_object *object = bench_json("exchange");
  bench_json_bool(object, "counted_only", !row->timed);
  bench_json_int(object, "ranks", row->ranks);
  add_settings(object, settings);
  bench_json_int(object, "length", row->of.length);
  bench_json_real(object, "zipf", row->of.zipf);
  add_counts(object, settings, row);
  if (row->timed) add_times(object, row);
  return bench_json_write(json, path, object, status);
}
