/* shardbag predict CHECKPOINT CONFIG --input FILE */
#include "app/commands.h"
#include "app/job.h"
#include "collection/context.h"
#include "train/predict.h"
#include "train/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where the lines go: a file stands under its name when it is complete. */
typedef struct output {
  predict_sink_t sink;
  char path[4096]; /* of the unfinished file; "": standard output */
  journal_t journal;
} output_t;

static sbag_code_t open_output(const job_t *job, const options_t *options, output_t *output,
                               sbag_status_t *status) {
  output->sink.format = options->format;
  output->sink.name = options->output != NULL ? options->output : "standard output";
  output->sink.file = stdout;
  journal_init(job->rank, JOURNAL_NONE, &output->journal);
  if (options->json != NULL) SBAG_TRY(journal_add_file(&output->journal, options->json, status));
  if (options->output == NULL || job->rank != 0) return SBAG_OK;
  int length = snprintf(output->path, sizeof output->path, "%s.tmp", options->output);
  if (length >= (int)sizeof output->path)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.64s...: the path is too long", options->output);
  output->sink.file = fopen(output->path, "we");
  if (output->sink.file != NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot be written: %s", output->path, strerror(errno));
}

static sbag_code_t close_output(output_t *output, sbag_code_t code, sbag_status_t *status) {
  sbag_status_t closing;
  if (journal_close(&output->journal, &closing) != SBAG_OK && code == SBAG_OK) {
    *status = closing;
    code = closing.code;
  }
  if (output->path[0] == '\0' || output->sink.file == NULL) return code;
  int closed = fclose(output->sink.file) == 0;
  if (code == SBAG_OK && (!closed || rename(output->path, output->sink.name) != 0))
    code = status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", output->sink.name, strerror(errno));
  if (code != SBAG_OK) unlink(output->path);
  return code;
}

static sbag_code_t check_options(const options_t *options, reader_split_t *split, sbag_status_t *status) {
  int wanted = 0;
  for (int s = 0; s < READER_SPLITS; s++)
    if ((options->splits >> s & 1) != 0) {
      *split = (reader_split_t)s;
      wanted++;
    }
  if (options->input != NULL) *split = READER_TEST;
  if ((options->input != NULL) + wanted == 1 && (options->input != NULL || !options->no_label)) {
    if (options->input == NULL || access(options->input, R_OK) == 0) return SBAG_OK;
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot be read: %s", options->input, strerror(errno));
  }
  return status_set(
      status, SBAG_ERR_ARGUMENT,
      "what to predict is missing or said twice: give --input FILE (and --no-label), or one --split "
      "of the config's data");
}

/* The vocabularies and transforms are the checkpoint's, never fitted anew. */
static int predict_file(job_t *job, const settings_t *settings, snapshot_t *snapshot, reader_split_t split,
                        output_t *output, sbag_status_t *status) {
  session_t session;
  int64_t rows = 0;
  sbag_code_t code = session_open(settings, job->context, snapshot->blobs, snapshot->blob_count,
                                  SESSION_MODEL, &session, status);
  if (code != SBAG_OK) return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  int exit_code = EXIT_OTHER;
  code = snapshot_load(snapshot, &session, status);
  if (code == SBAG_ERR_ARGUMENT) exit_code = EXIT_USAGE; /* config and checkpoint do not fit */
  if (code == SBAG_OK) code = predict_split(&session, split, &output->sink, &rows, status);
  if (code == SBAG_OK) {
    code = journal_predict(&output->journal, snapshot->step, rows, status);
    if (code != SBAG_OK) session_fail(&session, status);
  }
  session_close(&session);
  return code == SBAG_OK ? EXIT_DONE : exit_code;
}

static int predict_to(job_t *job, const settings_t *settings, const options_t *options, reader_split_t split,
                      output_t *output, sbag_status_t *status) {
  snapshot_t snapshot;
  if (snapshot_open(context_comm(job->context), context_mem(job->context), options->arguments[0], &snapshot,
                    status) != SBAG_OK)
    return EXIT_OTHER;
  int exit_code = predict_file(job, settings, &snapshot, split, output, status);
  snapshot_close(&snapshot);
  return exit_code;
}

/* The config but for the data, and computed in reproducible mode: the same text on any number of ranks. */
static settings_t own_settings(const settings_t *settings, const options_t *options) {
  settings_t own = *settings;
  if (options->k > 0) own.train.top_k = options->k;
  own.train.reproducible = 1;
  if (options->input == NULL) return own;
  own.data.files = (config_texts_t){.count = 1, .values = &options->input};
  own.data.unlabelled = options->no_label ? 2 : 1;
  return own;
}

static int predict(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  settings_t own = own_settings(settings, options);
  reader_split_t split = READER_TEST;
  output_t output = {.sink.file = NULL};
  if (job_context(job, &own, status) != SBAG_OK) return EXIT_OTHER;
  sbag_code_t code = check_options(options, &split, status);
  if (code == SBAG_OK && access(options->arguments[0], R_OK) != 0)
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open the checkpoint: %s", options->arguments[0],
                      strerror(errno));
  if (code == SBAG_OK) code = open_output(job, options, &output, status);
  if (sbag_context_agree(job->context, code, status) != SBAG_OK) {
    close_output(&output, SBAG_ERR_ARGUMENT, NULL);
    return EXIT_USAGE;
  }
  int exit_code = predict_to(job, &own, options, split, &output, status);
  code = exit_code == EXIT_DONE ? SBAG_OK : SBAG_ERR_STATE;
  code = close_output(&output, code, status);
  return exit_code == EXIT_DONE && code != SBAG_OK ? EXIT_OTHER : exit_code;
}

static int run(const options_t *options) {
  return job_run("predict", options, options->arguments[1], predict);
}

const command_t command_predict = {
    .name = "predict",
    .arguments = "CHECKPOINT CONFIG",
    .summary = "a line for each row of a file: what a checkpoint makes of it",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_SET | OPTION_DEVICE | OPTION_TIMEOUT | OPTION_INPUT | OPTION_NO_LABEL |
               OPTION_SPLIT | OPTION_FORMAT | OPTION_OUTPUT | OPTION_K,
    .details =
        "The file has the columns of the config's data.delimited or data.criteo; labels and weights are "
        "not read, and with\n"
        "--no-label there is no column of labels. Any data can be predicted by --split. A line is the "
        "row's number, from 0,\n"
        "and the probability of label 1, on any number of ranks in the file's order and the same to the "
        "last digit; JSON\n"
        "also has the logit. Of classes it has the likeliest label and its probability; of a ranking it is a "
        "user and\n"
        "the best --k items, those that it was trained with left out, and the file has a user a line.\n",
    .run = run};
