/* Aligned rows and JSON lines: see report.h. */
#include "bench/report.h"

#include "base/sort.h"
#include "bench/json.h"
#include <inttypes.h>
#include <stdlib.h>

bench_range_t bench_range(double *values, int64_t count) {
  sort_reals(values, count);
  return (bench_range_t){.min = values[0],
                         .median = (values[(count - 1) / 2] + values[count / 2]) / 2,
                         .max = values[count - 1]};
}

static bench_range_t speeds(const bench_case_t *row, const double *seconds, double *scratch) {
  for (int64_t i = 0; i < row->count; i++) scratch[i] = (double)row->bytes / seconds[i] / 1e9;
  return bench_range(scratch, row->count);
}

/* Of the two measurements of each round: a disk's speed changes from round to round. */
static bench_range_t ratios(const bench_case_t *row, double *scratch) {
  for (int64_t i = 0; i < row->count; i++) scratch[i] = row->raw_seconds[i] / row->seconds[i];
  return bench_range(scratch, row->count);
}

void bench_report_head(FILE *out) {
  fprintf(
      out,
      "#\n"
      "#               |-------- shardbag --------| |----------- raw ----------| |- of the same round -|\n"
      "#   case   size      min   median      max      min   median      max       ours / raw       #wrong\n"
      "#            MB     GB/s     GB/s     GB/s     GB/s     GB/s     GB/s    min  median    max    "
      "rows\n");
}

void bench_report_row(FILE *out, const bench_case_t *row, double *scratch) {
  bench_range_t ours = speeds(row, row->seconds, scratch);
  bench_range_t raw = speeds(row, row->raw_seconds, scratch);
  bench_range_t ratio = ratios(row, scratch);
  char wrong[32] = "N/A";
  if (row->wrong >= 0) snprintf(wrong, sizeof wrong, "%" PRId64, row->wrong);
  fprintf(out, "%8s %6.0f %8.3f %8.3f %8.3f %8.3f %8.3f %8.3f %6.2f %7.2f %6.2f %7s\n", row->name,
          (double)row->bytes / 1e6, ours.min, ours.median, ours.max, raw.min, raw.median, raw.max, ratio.min,
          ratio.median, ratio.max, wrong);
}

sbag_code_t bench_report_json(FILE *json, const char *path, int ranks, const bench_case_t *row,
                              double *scratch, sbag_status_t *status) {
  json_object *object = bench_json("checkpoint");
  bench_json_text(object, "case", row->name);
  bench_json_int(object, "ranks", ranks);
  bench_json_int(object, "bytes", row->bytes);
  bench_json_real(object, "gb_per_s", speeds(row, row->seconds, scratch).median);
  bench_json_real(object, "raw_gb_per_s", speeds(row, row->raw_seconds, scratch).median);
  bench_json_real(object, "ratio", ratios(row, scratch).median);
  bench_json_reals(object, "seconds", row->seconds, row->count);
  bench_json_reals(object, "raw_seconds", row->raw_seconds, row->count);
  if (row->wrong >= 0) bench_json_int(object, "wrong", row->wrong);
  return bench_json_write(json, path, object, status);
}
