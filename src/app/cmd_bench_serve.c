/* shardbag bench serve: requests at a server's door. */
#include "app/bench.h"
#include "app/gnuplot.h"
#include "base/sort.h"
#include "bench/load.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static sbag_code_t check_alone(const job_t *job, sbag_status_t *status) {
  if (job->size == 1) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "bench serve is one process, not %d; for more load start several of them", job->size);
}

static sbag_code_t open(job_t *job, const settings_t *unused, const options_t *options, void *state,
                        sbag_status_t *status) {
  (void)unused;
  SBAG_TRY(check_alone(job, status));
  return bench_load_settings_load(options->sets, options->set_count, job->mem, state, status);
}

/* ---- the picture ---- */

static int by_throughput(const void *a, const void *b) {
  double left = ((const load_point_t *)a)->answered_per_s, right = ((const load_point_t *)b)->answered_per_s;
  return (left > right) - (left < right);
}

/* gnuplot reads a quoted text's backslashes and quotes. */
static void put_quoted(const char *text, FILE *file) {
  fputc('"', file);
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\') fputc('\\', file);
    if (*text != '\n') fputc(*text, file);
  }
  fputc('"', file);
}

static void write_plot(const bench_load_curve_t *curve, const char *picture, FILE *file) {
  static const char *const names[] = {"p50", "p99", "p99.9"};
  int svg = strcmp(picture + strlen(picture) - 4, ".svg") == 0;
  fprintf(file, "set terminal %s size 1000,420 font \"sans,10\"\nset output ", svg ? "svg" : "png");
  put_quoted(picture, file);
  fprintf(file, "\nset title ");
  put_quoted(curve->title, file);
  fprintf(file,
          " noenhanced\nset xlabel \"answers a second\"\nset ylabel \"ms from when a request was due\"\n"
          "set logscale y\nset xrange [0:*]\nset grid\nset key outside noenhanced\n$points << EOD\n");
  for (int i = 0; i < curve->count; i++) {
    const load_point_t *p = &curve->points[i];
    if (p->answered > 0)
      fprintf(file, "%.9g %.9g %.9g %.9g\n", p->answered_per_s, p->latency.p50, p->latency.p99,
              p->latency.p999);
  }
  fprintf(file, "EOD\n");
  for (int k = 0; k < 3; k++)
    fprintf(file, "%s$points using 1:%d with linespoints pointtype 7 pointsize 0.6 title \"%s\"",
            k > 0 ? ", \\\n     " : "plot ", k + 2, names[k]);
  fputc('\n', file);
}

/* In the order of throughput: how they were found does not matter. */
static sbag_code_t draw(bench_load_curve_t *curve, const char *picture, sbag_status_t *status) {
  char script[PATH_MAX];
  if (picture[0] == '\0') return SBAG_OK;
  if (snprintf(script, sizeof script, "%s.gp", picture) >= (int)sizeof script)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.64s...: the path is too long", picture);
  sort_items(curve->points, curve->count, sizeof *curve->points, by_throughput);
  FILE *file = fopen(script, "we");
  if (file == NULL)
    return status_set(status, SBAG_ERR_IO, "%s: cannot be written: %s", script, strerror(errno));
  write_plot(curve, picture, file);
  int failed = ferror(file);
  if (fclose(file) != 0 || failed)
    return status_set(status, SBAG_ERR_IO, "%s: cannot be written: %s", script, strerror(errno));
  return gnuplot_run(script, status);
}

static sbag_code_t measure(job_t *job, const options_t *options, void *state, FILE *json,
                           sbag_status_t *status) {
  const bench_load_settings_t *settings = state;
  bench_load_curve_t curve;
  (void)job;
  sbag_code_t code = bench_load(settings, stdout, json, options->json, &curve, status);
  if (code == SBAG_OK) code = draw(&curve, settings->picture, status);
  bench_load_curve_clear(&curve);
  return code;
}

static void close(void *state) {
  bench_load_settings_clear(state);
}

const bench_kind_t bench_kind_serve = {
    .command =
        {.name = "bench serve",
         .arguments = "",
         .summary = "load on a server: latency against throughput, in an open loop",
         .argument_count = 0,
         .options = OPTION_HELP_CONFIG | OPTION_SET | OPTION_JSON | OPTION_TIMEOUT,
         .details =
             "Asks the server at --set url=http://127.0.0.1:8000 for its model and makes requests that fit "
             "it.\n"
             "--set rate=[100,200,400], or the highest rate that it keeps up with is looked for;\n"
             "--help-config prints all keys. Without mpirun.\n",
         .run = bench_run},
    .state_bytes = sizeof(bench_load_settings_t),
    .help = bench_load_settings_help,
    .open = open,
    .measure = measure,
    .close = close};
