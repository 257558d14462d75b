/* shardbag eval CHECKPOINT CONFIG */
#include "app/commands.h"
#include "app/job.h"
#include "collection/context.h"
#include "kernel/kernel.h"
#include "train/evaluate.h"
#include "train/snapshot.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The numbers of one pass, in the order in which they are taken. */
typedef struct results {
  metrics_result_t *of; /* [count] */
  int count;
} results_t;

/* One pass over all that is evaluated. */
typedef struct pass {
  job_t *job;
  const settings_t *settings;
  snapshot_t *snapshot;
  journal_t *journal;   /* NULL: numbers are kept and not told */
  const char *dtype;    /* of all tables; NULL: as the config says, or as_saved */
  int as_saved;         /* as the checkpoint has each */
  const results_t *own; /* NULL, or those of as_saved: the changes are told as well */
  int64_t bytes;        /* out: of all tables' rows */
  results_t results;    /* out */
} pass_t;

static sbag_code_t tell(pass_t *p, const char *space, const metrics_result_t *result, sbag_status_t *status) {
  const int number = p->results.count++;
  p->results.of[number] = *result;
  if (p->journal == NULL) return SBAG_OK;
  SBAG_TRY(journal_eval(p->journal, space, p->snapshot->step, result, status));
  if (p->own == NULL) return SBAG_OK;
  return journal_change(p->journal, space, p->snapshot->step, p->dtype, &p->own->of[number], result, status);
}

static sbag_code_t evaluate(pass_t *p, session_t *session, sbag_status_t *status) {
  for (int split = READER_VALID; split <= READER_TEST; split++) {
    metrics_result_t result;
    if (reader_samples(session->evaluation, (reader_split_t)split) == 0) continue;
    SBAG_TRY(evaluate_split(session, (reader_split_t)split, &result, status));
    if (tell(p, evaluate_space((reader_split_t)split), &result, status) != SBAG_OK)
      return session_fail(session, status);
  }
  const settings_eval_t *sets = session->settings->eval.items;
  for (int i = 0; i < session->settings->eval.count; i++) {
    metrics_result_t result;
    SBAG_TRY(evaluate_set(session, &sets[i], &result, status));
    if (tell(p, sets[i].name, &result, status) != SBAG_OK) return session_fail(session, status);
  }
  return SBAG_OK;
}

/* How a table is kept in this pass. What the checkpoint does not have is refused when it is loaded. */
static void set_storage(void *user, sbag_table_options_t *table) {
  const pass_t *p = user;
  (void)options_storage(p->dtype, &table->storage);
  if (!p->as_saved) return;
  checkpoint_type_t type = snapshot_table_type(p->snapshot, table->name);
  table->storage = type == CHECKPOINT_F16    ? SBAG_STORAGE_F16
                   : type == CHECKPOINT_BF16 ? SBAG_STORAGE_BF16
                                             : SBAG_STORAGE_FULL;
}

static int64_t bytes_of(const assembly_t *assembly) {
  int64_t bytes = 0;
  for (int t = 0; t < assembly->model.table_count; t++) {
    const sbag_table_options_t *table = &assembly->tables[t];
    bytes +=
        table->num_embeddings * (int64_t)kernel_row_bytes(SBAG_F32, table->storage, table->embedding_dim);
  }
  return bytes;
}

/* The vocabularies and transforms are the checkpoint's, never fitted anew. */
static int run_pass(pass_t *p, sbag_status_t *status) {
  session_t session;
  sbag_code_t code = session_open_model(p->settings, p->job->context, p->snapshot->blobs,
                                        p->snapshot->blob_count, set_storage, p, &session, status);
  if (code != SBAG_OK) return code == SBAG_ERR_ARGUMENT ? EXIT_USAGE : EXIT_OTHER;
  int exit_code = EXIT_OTHER;
  p->bytes = bytes_of(&session.assembly);
  code = snapshot_load(p->snapshot, &session, status);
  if (code == SBAG_ERR_ARGUMENT) exit_code = EXIT_USAGE; /* config and checkpoint do not fit */
  if (code == SBAG_OK) code = evaluate(p, &session, status);
  session_close(&session);
  return code == SBAG_OK ? EXIT_DONE : exit_code;
}

/* First as the checkpoint is, in silence; then as it is wanted, with what that changes. */
static int compare(pass_t *own, pass_t *wanted, sbag_status_t *status) {
  own->as_saved = 1;
  own->dtype = NULL;
  own->journal = NULL;
  int exit_code = run_pass(own, status);
  if (exit_code != EXIT_DONE) return exit_code;
  wanted->own = &own->results;
  exit_code = run_pass(wanted, status);
  if (exit_code != EXIT_DONE) return exit_code;
  sbag_code_t code = journal_tables(wanted->journal, wanted->dtype, wanted->bytes, own->bytes, status);
  return sbag_context_agree(wanted->job->context, code, status) == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

static int evaluate_file(job_t *job, const settings_t *settings, const char *dtype, snapshot_t *snapshot,
                         journal_t *journal, sbag_status_t *status) {
  const int most = READER_SPLITS + settings->eval.count;
  mem_t *mem = context_mem(job->context);
  void *block = NULL;
  sbag_code_t code =
      mem_alloc(mem, mem_array_bytes(2 * most, sizeof(metrics_result_t)), "eval: numbers", &block, status);
  if (sbag_context_agree(job->context, code, status) != SBAG_OK) return EXIT_OTHER;
  pass_t wanted = {
      .job = job, .settings = settings, .snapshot = snapshot, .journal = journal, .dtype = dtype};
  pass_t own = wanted;
  wanted.results.of = block;
  own.results.of = wanted.results.of + most;
  int exit_code = dtype != NULL ? compare(&own, &wanted, status) : run_pass(&wanted, status);
  mem_free(mem, block);
  return exit_code;
}

static sbag_code_t check_there(const char *path, sbag_status_t *status) {
  if (access(path, R_OK) == 0) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open the checkpoint: %s", path, strerror(errno));
}

static int eval(job_t *job, const settings_t *settings, const options_t *options, sbag_status_t *status) {
  if (job_context(job, settings, status) != SBAG_OK) return EXIT_OTHER;
  const char *path = options->arguments[0];
  if (sbag_context_agree(job->context, check_there(path, status), status) != SBAG_OK) return EXIT_USAGE;
  journal_t journal;
  journal_init(job->rank, JOURNAL_NONE, &journal);
  sbag_code_t code = options->json != NULL ? journal_add_file(&journal, options->json, status) : SBAG_OK;
  if (sbag_context_agree(job->context, code, status) != SBAG_OK) return EXIT_OTHER;
  snapshot_t snapshot;
  int exit_code = EXIT_OTHER;
  if (snapshot_open(context_comm(job->context), context_mem(job->context), path, &snapshot, status) ==
      SBAG_OK) {
    exit_code = evaluate_file(job, settings, options->dtype, &snapshot, &journal, status);
    snapshot_close(&snapshot);
  }
  sbag_status_t closing;
  if (journal_close(&journal, &closing) != SBAG_OK && exit_code == EXIT_DONE) {
    *status = closing;
    exit_code = EXIT_OTHER;
  }
  return exit_code;
}

static int run(const options_t *options) {
  return job_run("eval", options, options->arguments[1], eval);
}

const command_t command_eval = {
    .name = "eval",
    .arguments = "CHECKPOINT CONFIG",
    .summary = "evaluate a checkpoint on the config's valid and test data, and its further sets",
    .argument_count = 2,
    .options = OPTION_JSON | OPTION_SET | OPTION_DEVICE | OPTION_TIMEOUT | OPTION_DTYPE,
    .details = "Prints what the training run printed at its end, on any number of ranks: lines as 'test auc\n"
               "0.7913'. Vocabularies and transforms come from the checkpoint.\n"
               "\n"
               "With --dtype all tables are kept in that type, and it is told as well by how much that\n"
               "changes the numbers, as 'test auc_change -0.000012', and what it saves: the bytes that the\n"
               "tables take, and by how many fewer they are than in the checkpoint's own types. int8 and\n"
               "int4 have a scale and a bias for each row, as FBGEMM's; on device cpu alone.\n",
    .run = run};
