/* shardbag data convert CONFIG --output FILE */
#include "app/commands.h"
#include "app/job.h"
#include "collection/context.h"
#include "reader/convert.h"
#include "reader/binary.h"
#include "train/session.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 4096 };

/* Before hours of reading: what is wrong with the command line. */
static sbag_code_t check_output(const job_t *job, const options_t *options, sbag_status_t *status) {
  char folder[4096];
  const char *output = options->output;
  if (output == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "--output FILE is missing: the file to write");
  if (job->size > 1)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "one process converts; start it without mpirun, not as %d ranks", job->size);
  const char *slash = strrchr(output, '/');
  int length = slash == NULL ? snprintf(folder, sizeof folder, ".")
                             : snprintf(folder, sizeof folder, "%.*s/", (int)(slash - output), output);
  if (length >= (int)sizeof folder)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.64s...: the path is too long", output);
  if (access(folder, W_OK | X_OK) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot be written in the folder %s: %s", output, folder,
                    strerror(errno));
}

static sbag_code_t write_json(const options_t *options, const convert_result_t *result,
                              const reader_t *reader, sbag_status_t *status) {
  FILE *file = fopen(options->json, "ae");
  if (file == NULL)
    return status_set(status, SBAG_ERR_IO, "%s: cannot open for JSON lines: %s", options->json,
                      strerror(errno));
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("convert"));
  json_object_object_add(object, "path", json_object_new_string(options->output));
  for (int s = 0; s < READER_SPLITS; s++)
    json_object_object_add(object, reader_split_name((reader_split_t)s),
                           json_object_new_int64(result->samples[s]));
  json_object_object_add(object, "bad_rows", json_object_new_int64(reader_bad_rows(reader)));
  json_object_object_add(object, "bytes", json_object_new_int64(result->bytes));
  int written = fprintf(file, "%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
  json_object_put(object);
  if (fclose(file) == 0 && written >= 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", options->json, strerror(errno));
}

static sbag_code_t tell(const options_t *options, const convert_result_t *result, const reader_t *reader,
                        sbag_status_t *status) {
  if (reader_bad_rows(reader) > 0)
    printf("%" PRId64 " bad row%s left out; the first: %s\n", reader_bad_rows(reader),
           reader_bad_rows(reader) == 1 ? "" : "s", reader_first_bad(reader));
  printf("%s: %" PRId64 " train, %" PRId64 " valid, %" PRId64 " test samples of %d dense values and %d "
         "features, %" PRId64 " bytes\n",
         options->output, result->samples[READER_TRAIN], result->samples[READER_VALID],
         result->samples[READER_TEST], reader_dense_count(reader), reader_feature_count(reader),
         result->bytes);
  return options->json == NULL ? SBAG_OK : write_json(options, result, reader, status);
}

static int convert(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  if (sbag_context_agree(job->context, check_output(job, options, status), status) != SBAG_OK)
    return EXIT_USAGE;
  comm_t *comm = context_comm(job->context);
  mem_t *mem = context_mem(job->context);
  settings_t unshuffled = *settings; /* its texts stay the settings' */
  reader_t *reader = NULL;
  unshuffled.data.shuffle = 0;
  sbag_code_t code = session_open_reader(&unshuffled, BATCH, comm, NULL, 0, mem, &reader, status);
  if (code != SBAG_OK) return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  convert_result_t result;
  const convert_options_t wanted = {.output = options->output,
                                    .source = settings->name,
                                    .splits =
                                        options->splits != 0 ? options->splits : (1 << READER_SPLITS) - 1};
  code = reader_convert(reader, comm, &wanted, mem, &result, status);
  if (code == SBAG_OK) code = tell(options, &result, reader, status);
  reader_close(&reader);
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int run_convert(const options_t *options) {
  return job_run("data convert", options, options->arguments[0], convert);
}

static const command_t command_data_convert = {
    .name = "data convert",
    .arguments = "CONFIG",
    .summary = "write a config's samples in a binary form that reads at memory speed",
    .argument_count = 1,
    .options = OPTION_JSON | OPTION_SET | OPTION_OUTPUT | OPTION_SPLIT,
    .details = "Reads the config's data as training would, splits, vocabularies and transforms included, and "
               "writes an HDF5\n"
               "file that data.kind: binary reads: the same samples in the same order. One process does it. "
               "The file stands\n"
               "under its name when it is complete.\n",
    .run = run_convert};

static const command_t *const parts[] = {&command_data_convert, NULL};

const command_t command_data = {
    .name = "data", .arguments = "PART ...", .summary = "convert data", .details = "", .parts = parts};
