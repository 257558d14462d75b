/* shardbag plan CONFIG: which rank owns how many rows of which table, without making any. */
#include "app/commands.h"
#include "app/job.h"
#include "collection/context.h"
#include "kernel/kernel.h"
#include "plan/plan.h"
#include "train/session.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static int64_t weight_bytes(const sbag_table_options_t *table) {
  return (int64_t)kernel_row_bytes(SBAG_F32, table->storage, table->embedding_dim);
}

/* Bytes of a row: the weight and its optimizer's state. */
static int64_t row_bytes(const sbag_table_options_t *table) {
  int64_t values = 0;
  optimizer_info_t info = optimizer_info(&table->optimizer);
  for (int i = 0; i < info.state_count && !table->freeze; i++)
    values += info.states[i].row_wise ? 1 : table->embedding_dim;
  return weight_bytes(table) + values * (int64_t)sizeof(float);
}

static sbag_code_t write_object(FILE *json, const char *path, const sbag_table_options_t *table, int rank,
                                int64_t rows, int64_t bytes, sbag_status_t *status) {
  if (json == NULL) return SBAG_OK;
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("plan"));
  json_object_object_add(object, "table", json_object_new_string(table->name));
  json_object_object_add(object, "rank", json_object_new_int(rank));
  json_object_object_add(object, "rows", json_object_new_int64(rows));
  json_object_object_add(object, "bytes", json_object_new_int64(bytes));
  int written = fprintf(json, "%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
  json_object_put(object);
  if (written >= 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

static sbag_code_t print_plan(const assembly_t *assembly, const plan_t *plan, FILE *json, const char *path,
                              sbag_status_t *status) {
  printf("# table rank rows bytes (weights and optimizer state)\n");
  for (int rank = 0; rank < plan->rank_count; rank++) {
    int64_t total = 0, mirror = 0;
    for (int t = 0; t < plan->table_count; t++) {
      const sbag_table_options_t *table = &assembly->tables[t];
      int64_t rows = plan_rank_rows(plan, rank, t), bytes = rows * row_bytes(table);
      total += bytes;
      if (table->replicated) mirror += table->num_embeddings * weight_bytes(table);
      printf("%s %d %" PRId64 " %" PRId64 "\n", table->name, rank, rows, bytes);
      SBAG_TRY(write_object(json, path, table, rank, rows, bytes, status));
    }
    printf("# rank %d: %" PRId64 " bytes", rank, total);
    if (mirror > 0) printf(" and %" PRId64 " of mirrors", mirror);
    printf("\n");
  }
  return SBAG_OK;
}

static sbag_code_t open_and_print(const assembly_t *assembly, const plan_t *plan, const char *path,
                                  sbag_status_t *status) {
  FILE *json = NULL;
  if (path != NULL && (json = fopen(path, "ae")) == NULL)
    return status_set(status, SBAG_ERR_IO, "%s: cannot open for JSON lines: %s", path, strerror(errno));
  sbag_code_t code = print_plan(assembly, plan, json, path, status);
  if (json != NULL && fclose(json) != 0 && code == SBAG_OK)
    code = status_set(status, SBAG_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
  return code;
}

static int plan(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  session_t session;
  sbag_code_t code = session_open(settings, job->context, NULL, 0, 0, &session, status);
  if (code != SBAG_OK) return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  int ranks = options->ranks > 0 ? (int)options->ranks : job->size;
  plan_t *made = NULL;
  int exit_code = EXIT_USAGE;
  code = plan_create(session.mem, ranks, session.assembly.tables, session.assembly.model.table_count, &made,
                     status);
  code = sbag_context_agree(job->context, code, status);
  if (code == SBAG_OK) {
    if (job->rank == 0) code = open_and_print(&session.assembly, made, options->json, status);
    code = sbag_context_agree(job->context, code, status);
    exit_code = code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
  }
  plan_destroy(&made);
  session_close(&session);
  return exit_code;
}

static int run(const options_t *options) {
  return job_run("plan", options, options->arguments[0], plan);
}

const command_t command_plan = {.name = "plan",
                                .arguments = "CONFIG",
                                .summary = "print which rank would own how many rows and bytes of each table",
                                .argument_count = 1,
                                .options = OPTION_JSON | OPTION_SET | OPTION_TIMEOUT | OPTION_RANKS,
                                .details = "Reads the data as far as the tables' rows depend on it.\n",
                                .run = run};
