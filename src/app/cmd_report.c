/* shardbag report RUN.json ... */
#include "app/commands.h"
#include "app/job.h"
#include "app/report.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A run's folder stands for its metrics.jsonl. */
static sbag_code_t read_run(report_t *report, const char *argument, char path[PATH_MAX],
                            sbag_status_t *status) {
  struct stat found;
  int folder = stat(argument, &found) == 0 && S_ISDIR(found.st_mode);
  int length = snprintf(path, PATH_MAX, "%s%s", argument, folder ? "/metrics.jsonl" : "");
  if (length >= PATH_MAX)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.64s...: the path is too long", argument);
  return report_read(report, path, status);
}

static sbag_code_t enter(const char *folder, sbag_status_t *status) {
  if (mkdir(folder, 0777) != 0 && errno != EEXIST)
    return status_set(status, SBAG_ERR_IO, "%s: cannot be made: %s", folder, strerror(errno));
  if (chdir(folder) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot be entered: %s", folder, strerror(errno));
}

static sbag_code_t report_all(const options_t *options, mem_t *mem, sbag_status_t *status) {
  report_t report = {.mem = mem};
  void *paths = NULL;
  const char *folder = options->output != NULL ? options->output : "report";
  sbag_code_t code =
      mem_alloc(mem, mem_array_bytes(options->argument_count, PATH_MAX), "report: paths", &paths, status);
  for (int i = 0; i < options->argument_count && code == SBAG_OK; i++)
    code = read_run(&report, options->arguments[i], (char *)paths + (size_t)i * PATH_MAX, status);
  if (code == SBAG_OK) code = enter(folder, status);
  if (code == SBAG_OK) code = report_draw(&report, status);
  if (code == SBAG_OK) code = report_page(&report, status);
  if (code == SBAG_OK)
    printf("%s/index.html: %d run%s, %d charts\n", folder, report.run_count, report.run_count == 1 ? "" : "s",
           report_chart_count(&report));
  report_clear(&report);
  mem_free(mem, paths);
  return code;
}

/* Needs no MPI: under mpirun the first process does it. */
static int run(const options_t *options) {
  sbag_status_t status;
  mem_t *mem = NULL;
  if (!job_speaks_early()) return EXIT_DONE;
  status_clear(&status);
  sbag_code_t code = mem_create(&mem, &status);
  if (code == SBAG_OK) code = report_all(options, mem, &status);
  mem_destroy(&mem);
  if (code == SBAG_OK && fflush(stdout) == 0) return EXIT_DONE;
  fprintf(stderr, "shardbag report: %s\n",
          code != SBAG_OK ? status.message : "standard output: cannot write");
  return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
}

const command_t command_report = {
    .name = "report",
    .arguments = "RUN ...",
    .summary = "draw what runs have logged: loss, metrics, throughput, imbalance, phases",
    .argument_count = -1,
    .options = OPTION_OUTPUT,
    .details =
        "A RUN is a run's folder, its metrics.jsonl, or what train or bench step wrote by --json. Runs are "
        "drawn beside\n"
        "each other, as SVG and PNG by gnuplot, into the folder of --output (report), whose index.html "
        "shows all. A file's\n"
        "last run from the beginning counts. Each picture's script, with its data, stays beside it.\n",
    .run = run};
