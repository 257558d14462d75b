/* Lines for people, objects for programs. */
#include "train/journal.h"

#include "base/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

void journal_init(int rank, journal_progress_t progress, journal_t *journal) {
  *journal = (journal_t){.speaks = rank == 0, .progress = progress};
}

sbag_code_t journal_add_file(journal_t *journal, const char *path, sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  FILE *file = fopen(path, "ae");
  if (file == NULL)
    return status_set(status, SBAG_ERR_IO, "%s: cannot open for JSON lines: %s", path, strerror(errno));
  journal->files[journal->file_count] = file;
  journal->paths[journal->file_count++] = path;
  return SBAG_OK;
}

sbag_code_t journal_close(journal_t *journal, sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  for (int i = 0; i < journal->file_count; i++)
    if (fclose(journal->files[i]) != 0 && code == SBAG_OK)
      code = status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", journal->paths[i], strerror(errno));
  journal->file_count = 0;
  return code;
}

/* ---- objects ---- */

static json_object *event(const char *name) {
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string(name));
  return object;
}

static void add_int(json_object *object, const char *key, int64_t value) {
  json_object_object_add(object, key, json_object_new_int64(value));
}

/* JSON knows no NaN: null. Nine digits tell any two float32 apart. */
static void add_real(json_object *object, const char *key, double value) {
  char text[64];
  snprintf(text, sizeof text, "%.9g", value);
  json_object_object_add(object, key, isfinite(value) ? json_object_new_double_s(value, text) : NULL);
}

/* Six decimals: what an evaluation on another number of ranks gives too. */
static void add_metric(json_object *object, const char *key, double value) {
  char text[64];
  snprintf(text, sizeof text, "%.6f", value);
  json_object_object_add(object, key, isfinite(value) ? json_object_new_double_s(value, text) : NULL);
}

/* Writes and frees the object. */
static sbag_code_t emit(journal_t *journal, json_object *object, sbag_status_t *status) {
  const char *text =
      json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
  sbag_code_t code = SBAG_OK;
  for (int i = 0; i < journal->file_count && code == SBAG_OK; i++)
    if (fprintf(journal->files[i], "%s\n", text) < 0 || fflush(journal->files[i]) != 0)
      code = status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", journal->paths[i], strerror(errno));
  json_object_put(object);
  return code;
}

/* ---- stdout ---- */

static void clear_bar(const journal_t *journal) {
  if (journal->progress == JOURNAL_BAR) fputs("\r\033[K", stdout);
}

static void time_text(double seconds, char *out, size_t room) {
  long long s = seconds > 0 && seconds < 1e9 ? (long long)(seconds + 0.5) : 0;
  if (s >= 3600)
    snprintf(out, room, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    snprintf(out, room, "%02lld:%02lld", s / 60, s % 60);
}

static double training_s(const journal_t *journal) {
  return clock_now() - journal->start_s - journal->paused_s;
}

static void left_text(const journal_t *journal, int64_t step, char *out, size_t room) {
  double per_step = training_s(journal) / (double)(step - journal->first_step);
  time_text(per_step * (double)(journal->total_steps - step), out, room);
}

static void draw_bar(journal_t *journal, int64_t step, double lr) {
  enum { CELLS = 24 };
  char bar[CELLS + 1], left[24];
  double part = journal->total_steps > 0 ? (double)step / (double)journal->total_steps : 1.0;
  int full = (int)(part * CELLS);
  for (int i = 0; i < CELLS; i++) bar[i] = i < full ? '#' : '.';
  bar[CELLS] = '\0';
  left_text(journal, step, left, sizeof left);
  printf("\r\033[K%3.0f%% [%s] step %" PRId64 "/%" PRId64 "  loss %.4f  lr %.3g  %.0f samples/s  %s left",
         100 * part, bar, step, journal->total_steps, journal->loss, lr, journal->rate, left);
  fflush(stdout);
  journal->drawn_s = clock_now();
}

static void print_line(const journal_t *journal, int64_t step, int64_t epoch, double lr) {
  char left[24];
  left_text(journal, step, left, sizeof left);
  printf("step %" PRId64 "/%" PRId64 "  epoch %" PRId64 "  loss %.6f  lr %.4g  %.0f samples/s  %s left\n",
         step, journal->total_steps, epoch, journal->loss, lr, journal->rate, left);
  fflush(stdout);
}

/* Of a rank and a step. */
static void print_imbalance(const imbalance_line_t *line) {
  printf("  ranks: %.4g kB sent, most %.4g; %.4g rows owned, most %.4g; %.3g ms of work, most %.3g (rank %d)",
         line->sent_bytes_mean / 1e3, line->sent_bytes_max / 1e3, line->owned_rows_median,
         line->owned_rows_max, line->median_ms, line->slowest_ms, line->slowest_rank);
  if (line->hot_table != NULL)
    printf("; hottest %s[%" PRId64 "], %" PRId64 " lookups", line->hot_table, line->hot_row,
           line->hot_lookups);
  if (line->wire_error > 0) printf("; the wire took %.2g of vectors", line->wire_error);
  putchar('\n');
  fflush(stdout);
}

void journal_say(journal_t *journal, const char *format, ...) {
  if (!journal->speaks || journal->progress == JOURNAL_NONE) return;
  va_list args;
  va_start(args, format);
  clear_bar(journal);
  vprintf(format, args);
  va_end(args);
  putchar('\n');
  fflush(stdout);
}

/* ---- events ---- */

sbag_code_t journal_start(journal_t *journal, const char *name, int ranks, int64_t total_steps,
                          const reader_t *reader, int64_t log_every, const progress_t *progress,
                          sbag_status_t *status) {
  int64_t samples = reader_samples(reader, READER_TRAIN), bad_rows = reader_bad_rows(reader);
  journal->total_steps = total_steps;
  journal->log_every = log_every;
  journal->ranks = ranks;
  journal->first_step = progress->step;
  journal->start_s = journal->since_s = clock_now();
  if (!journal->speaks) return SBAG_OK;
  journal_say(journal, "%s: %" PRId64 " training samples, %" PRId64 " steps on %d rank%s", name, samples,
              total_steps, ranks, ranks == 1 ? "" : "s");
  if (bad_rows > 0)
    journal_say(journal, "%" PRId64 " bad row%s left out; the first: %s", bad_rows, bad_rows == 1 ? "" : "s",
                reader_first_bad(reader));
  json_object *object = event("start");
  json_object_object_add(object, "name", json_object_new_string(name));
  add_int(object, "run", progress->run);
  add_int(object, "from", progress->step);
  add_int(object, "ranks", ranks);
  add_int(object, "steps", total_steps);
  add_int(object, "samples", samples);
  add_int(object, "bad_rows", bad_rows);
  return emit(journal, object, status);
}

/* The interval's mean loss and speed so far. */
static void take_interval(journal_t *journal, const progress_t *progress) {
  double span = clock_now() - journal->since_s;
  journal->loss = progress->loss_sum / (double)progress->loss_count;
  journal->rate = span > 0 ? (double)journal->samples / span : 0;
}

/* On every rank alike. */
static void reset_interval(journal_t *journal, progress_t *progress) {
  journal->since_s = clock_now();
  journal->samples = 0;
  progress->loss_sum = 0;
  progress->loss_count = 0;
}

static void add_imbalance(json_object *object, const imbalance_line_t *line) {
  add_real(object, "sent_bytes_mean", line->sent_bytes_mean);
  add_real(object, "sent_bytes_max", line->sent_bytes_max);
  add_real(object, "owned_rows_median", line->owned_rows_median);
  add_real(object, "owned_rows_max", line->owned_rows_max);
  add_int(object, "slowest_rank", line->slowest_rank);
  add_real(object, "slowest_ms", line->slowest_ms);
  add_real(object, "median_ms", line->median_ms);
  add_real(object, "wire_error", line->wire_error);
  if (line->hot_table == NULL) return;
  json_object_object_add(object, "hot_table", json_object_new_string(line->hot_table));
  add_int(object, "hot_row", line->hot_row);
  add_int(object, "hot_lookups", line->hot_lookups);
}

static sbag_code_t emit_step(journal_t *journal, const progress_t *progress, double lr,
                             const imbalance_line_t *imbalance, sbag_status_t *status) {
  int64_t epoch = progress->epoch + 1;
  if (journal->progress == JOURNAL_PLAIN) {
    print_line(journal, progress->step, epoch, lr);
    if (journal->ranks > 1) print_imbalance(imbalance);
  }
  json_object *object = event("train");
  add_int(object, "step", progress->step);
  add_int(object, "epoch", epoch);
  add_real(object, "loss", journal->loss);
  add_real(object, "lr", lr);
  add_real(object, "samples_per_s", journal->rate);
  add_real(object, "seconds", training_s(journal));
  add_imbalance(object, imbalance);
  return emit(journal, object, status);
}

int journal_due(const journal_t *journal, int64_t step) {
  return step % journal->log_every == 0 || step == journal->total_steps;
}

sbag_code_t journal_step(journal_t *journal, progress_t *progress, double loss, double lr, int64_t samples,
                         const imbalance_line_t *imbalance, sbag_status_t *status) {
  static const double redraw_s = 0.1;
  sbag_code_t code = SBAG_OK;
  progress->loss_sum += loss;
  progress->loss_count++;
  journal->samples += samples;
  int due = journal_due(journal, progress->step);
  int draw =
      journal->speaks && journal->progress == JOURNAL_BAR && clock_now() - journal->drawn_s >= redraw_s;
  if (due || draw) take_interval(journal, progress);
  if (draw) draw_bar(journal, progress->step, lr);
  if (due && journal->speaks) code = emit_step(journal, progress, lr, imbalance, status);
  if (due) reset_interval(journal, progress);
  return code;
}

void journal_pause(journal_t *journal) {
  journal->pause_began_s = clock_now();
}

void journal_resume(journal_t *journal) {
  double pause = clock_now() - journal->pause_began_s;
  journal->paused_s += pause;
  journal->since_s += pause;
}

sbag_code_t journal_eval(journal_t *journal, const char *space, int64_t step, const metrics_result_t *result,
                         sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  metrics_value_t metrics[METRICS_VALUES];
  int count = metrics_values(result, metrics);
  clear_bar(journal);
  for (int i = 0; i < count; i++) printf("%s %s %.4f\n", space, metrics[i].name, metrics[i].value);
  fflush(stdout);
  json_object *object = event("eval");
  json_object_object_add(object, "space", json_object_new_string(space));
  add_int(object, "step", step);
  add_int(object, "samples", result->samples);
  for (int i = 0; i < count; i++) add_metric(object, metrics[i].name, metrics[i].value);
  return emit(journal, object, status);
}

sbag_code_t journal_tables(journal_t *journal, const char *dtype, int64_t bytes, int64_t own_bytes,
                           sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  clear_bar(journal);
  printf("tables %s bytes %" PRId64 " saved_bytes %" PRId64 "\n", dtype, bytes, own_bytes - bytes);
  fflush(stdout);
  json_object *object = event("tables");
  json_object_object_add(object, "dtype", json_object_new_string(dtype));
  add_int(object, "bytes", bytes);
  add_int(object, "saved_bytes", own_bytes - bytes);
  return emit(journal, object, status);
}

/* Six decimals: a change is small. */
sbag_code_t journal_change(journal_t *journal, const char *space, int64_t step, const char *dtype,
                           const metrics_result_t *own, const metrics_result_t *result,
                           sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  metrics_value_t before[METRICS_VALUES], after[METRICS_VALUES];
  int count = metrics_values(own, before);
  metrics_values(result, after);
  json_object *object = event("change");
  json_object_object_add(object, "space", json_object_new_string(space));
  add_int(object, "step", step);
  json_object_object_add(object, "dtype", json_object_new_string(dtype));
  clear_bar(journal);
  for (int i = 0; i < count; i++) {
    const double change = after[i].value - before[i].value;
    printf("%s %s_change %+.6f\n", space, after[i].name, change);
    add_metric(object, after[i].name, change);
  }
  fflush(stdout);
  return emit(journal, object, status);
}

sbag_code_t journal_checkpoint(journal_t *journal, int64_t step, const char *path, sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  journal_say(journal, "checkpoint %s", path);
  json_object *object = event("checkpoint");
  add_int(object, "step", step);
  json_object_object_add(object, "path", json_object_new_string(path));
  return emit(journal, object, status);
}

sbag_code_t journal_predict(journal_t *journal, int64_t step, int64_t rows, sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  json_object *object = event("predict");
  add_int(object, "step", step);
  add_int(object, "rows", rows);
  return emit(journal, object, status);
}

static void add_phases(json_object *object, const phases_t *phases, int64_t steps) {
  json_object *all = json_object_new_object();
  for (int i = 0; i < phases_count(phases) && steps > 0; i++) {
    const comm_trace_row_t *row = &phases->trace->rows[i];
    char name[128];
    double ms = 1e3 * phases_seconds(phases, i) / (double)steps;
    snprintf(name, sizeof name, "%s%s", row->is_transfer ? "wait: " : "", row->name);
    if (ms > 0) add_real(all, name, ms);
  }
  json_object_object_add(object, "phases_ms", all);
}

sbag_code_t journal_end(journal_t *journal, int64_t step, const char *reason, const phases_t *phases,
                        sbag_status_t *status) {
  if (!journal->speaks) return SBAG_OK;
  double seconds = training_s(journal);
  journal_say(journal, "trained %" PRId64 " steps in %.2f s (%s)", step - journal->first_step, seconds,
              reason);
  json_object *object = event("end");
  add_int(object, "step", step);
  add_real(object, "seconds", seconds);
  json_object_object_add(object, "reason", json_object_new_string(reason));
  add_phases(object, phases, step - journal->first_step);
  return emit(journal, object, status);
}
