/* Scripts for gnuplot, each with its data in it, so that somebody can change one and draw it again; and the
 * page that shows what was drawn. */
#include "app/report.h"

#include "app/gnuplot.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { NAME_BYTES = REPORT_TEXT_BYTES + 8 };

static const struct {
  const char *chart, *title, *y;
} known[] = {{"loss", "Loss in training", "loss"},
             {"throughput", "Throughput", "samples a second"},
             {"learning rate", "Learning rate, of the dense layers", "learning rate"},
             {"imbalance", "The rank with most, beside the median or mean of all", "ratio"},
             {"phases", "A training step by phase", "ms"}};
enum { KNOWN = sizeof known / sizeof known[0] };

static int find_known(const char *chart) {
  for (int i = 0; i < KNOWN; i++)
    if (strcmp(known[i].chart, chart) == 0) return i;
  return -1;
}

static void file_name(const char *chart, const char *end, char name[NAME_BYTES]) {
  snprintf(name, NAME_BYTES, "%s%s", chart, end);
  for (char *c = name; *c != '\0'; c++)
    if (*c == ' ' || *c == '@' || *c == ':') *c = '_';
}

static int in_chart(const report_series_t *s, const char *chart) {
  return strcmp(s->chart, chart) == 0;
}

static void title_of(const report_t *r, const report_series_t *s, char *out, size_t room) {
  snprintf(out, room, "%s%s%s", r->runs[s->run].name, s->label[0] != '\0' ? ", " : "", s->label);
}

/* ---- scripts ---- */

static void write_curves(const report_t *r, const char *chart, FILE *file) {
  char title[2 * REPORT_TEXT_BYTES + 4];
  for (int i = 0; i < r->series_count; i++) {
    const report_series_t *s = &r->series[i];
    if (!in_chart(s, chart)) continue;
    fprintf(file, "$s%d << EOD\n", i);
    for (int64_t k = 0; k < s->count; k++) fprintf(file, "%.12g %.9g\n", s->points[k].x, s->points[k].y);
    fprintf(file, "EOD\n");
  }
  const char *before = "plot ";
  for (int i = 0; i < r->series_count; i++) {
    const report_series_t *s = &r->series[i];
    if (!in_chart(s, chart)) continue;
    title_of(r, s, title, sizeof title);
    fprintf(file, "%s$s%d using 1:2 with linespoints pointtype 7 pointsize 0.4 title \"%s\"", before, i,
            title);
    before = ", \\\n     ";
  }
  fputc('\n', file);
}

static double value_at(const report_series_t *s, int category) {
  for (int64_t k = 0; k < s->count; k++)
    if (s->points[k].x == (double)category) return s->points[k].y;
  return 0.0;
}

static void write_bars(const report_t *r, const char *chart, FILE *file) {
  char title[2 * REPORT_TEXT_BYTES + 4];
  int columns = 1;
  fprintf(file, "set style data histograms\nset style histogram clustered gap 1\n"
                "set style fill solid 0.8 border -1\nset boxwidth 0.9\nset yrange [0:*]\n"
                "set xtics rotate by -35 noenhanced\nset datafile separator \"\\t\"\n$bars << EOD\nphase");
  for (int i = 0; i < r->series_count; i++) {
    if (!in_chart(&r->series[i], chart)) continue;
    title_of(r, &r->series[i], title, sizeof title);
    fprintf(file, "\t%s", title);
    columns++;
  }
  for (int category = 0; category < r->category_count; category++) {
    fprintf(file, "\n%s", r->categories[category]);
    for (int i = 0; i < r->series_count; i++)
      if (in_chart(&r->series[i], chart)) fprintf(file, "\t%.6g", value_at(&r->series[i], category));
  }
  fprintf(file, "\nEOD\nplot for [i=2:%d] $bars using i:xtic(1) title columnheader(i)\n", columns);
}

/* A script draws both pictures. */
static sbag_code_t write_script(const report_t *r, const char *chart, const char *name,
                                sbag_status_t *status) {
  char picture[NAME_BYTES];
  int at = find_known(chart);
  FILE *file = fopen(name, "we");
  if (file == NULL)
    return status_set(status, SBAG_ERR_IO, "%s: cannot be written: %s", name, strerror(errno));
  file_name(chart, ".svg", picture);
  fprintf(file, "set terminal svg size 1000,420 font \"sans,10\"\nset output \"%s\"\n", picture);
  fprintf(file, "set title \"%s\" noenhanced\nset ylabel \"%s\" noenhanced\nset grid\n",
          at >= 0 ? known[at].title : chart, at >= 0 ? known[at].y : chart);
  fprintf(file, "set key outside noenhanced\n");
  if (report_is_bars(chart)) {
    write_bars(r, chart, file);
  } else {
    fprintf(file, "set xlabel \"step\"\n");
    write_curves(r, chart, file);
  }
  file_name(chart, ".png", picture);
  fprintf(file, "set terminal png size 1000,420 font \"sans,10\"\nset output \"%s\"\nreplot\n", picture);
  int failed = ferror(file);
  if (fclose(file) == 0 && !failed) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot be written: %s", name, strerror(errno));
}

/* ---- all of them ---- */

sbag_code_t report_draw(const report_t *report, sbag_status_t *status) {
  for (int i = 0; i < report_chart_count(report); i++) {
    char name[NAME_BYTES];
    file_name(report_chart(report, i), ".gp", name);
    SBAG_TRY(write_script(report, report_chart(report, i), name, status));
    SBAG_TRY(gnuplot_run(name, status));
  }
  return SBAG_OK;
}

/* ---- the page ---- */

static void escape(FILE *file, const char *text) {
  for (; *text != '\0'; text++) {
    const char *entity = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : NULL;
    if (entity != NULL)
      fputs(entity, file);
    else
      fputc(*text, file);
  }
}

static void write_run(const report_t *r, int run, FILE *file) {
  const report_run_t *of = &r->runs[run];
  fputs("<tr><td>", file);
  escape(file, of->name);
  fprintf(file, "</td><td>%" PRId64 "</td><td>%" PRId64 "</td><td>", of->ranks, of->steps);
  if (isfinite(of->seconds)) fprintf(file, "%.1f", of->seconds);
  fputs("</td><td>", file);
  escape(file, of->reason);
  fputs("</td><td>", file);
  for (int i = 0; i < r->series_count; i++) {
    const report_series_t *s = &r->series[i];
    if (s->run != run || s->label[0] == '\0' || s->count == 0 || find_known(s->chart) >= 0) continue;
    escape(file, s->label);
    fputc(' ', file);
    escape(file, s->chart);
    fprintf(file, " %.4f<br>", s->points[s->count - 1].y);
  }
  fputs("</td><td>", file);
  escape(file, of->path);
  fputs("</td></tr>\n", file);
}

sbag_code_t report_page(const report_t *report, sbag_status_t *status) {
  FILE *file = fopen("index.html", "we");
  if (file == NULL)
    return status_set(status, SBAG_ERR_IO, "index.html: cannot be written: %s", strerror(errno));
  fputs("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>shardbag, runs</title><style>"
        "body{font-family:sans-serif;margin:2em}img{max-width:100%}"
        "td,th{text-align:left;vertical-align:top;padding:0.2em 1em 0.2em 0}</style></head><body>\n"
        "<h1>shardbag, runs</h1><table><tr><th>run</th><th>ranks</th><th>steps</th><th>seconds</th>"
        "<th>ended</th><th>last metrics</th><th>file</th></tr>\n",
        file);
  for (int i = 0; i < report->run_count; i++) write_run(report, i, file);
  fputs("</table>\n", file);
  for (int i = 0; i < report_chart_count(report); i++) {
    char name[NAME_BYTES];
    const char *chart = report_chart(report, i);
    file_name(chart, ".svg", name);
    fprintf(file, "<h2>%s</h2><p><img src=\"%s\" alt=\"%s\"></p>\n", chart, name, chart);
  }
  fputs("</body></html>\n", file);
  int failed = ferror(file);
  if (fclose(file) == 0 && !failed) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "index.html: cannot be written: %s", strerror(errno));
}
