/* One process of a soak run (tests/soak/run.sh draws and starts them):
 *
 *   soak cases SEED...           random cases of the property test against the oracle, one for each seed
 *   soak fault SEED RANK KIND N  a random case on a collection, three times over: as it is, with a fault on
 * one rank, and as it is again if the ranks can still talk. KIND: none, memory (the N-th allocation fails),
 * range (an index outside of its table in step N), table (a table that is not there is read in step N), leave
 * (the rank goes in step N)
 *
 * The fault run ends as `shardbag` does, by src/app/job.c. Each rank leaves its outcome in the file
 * $SOAK_REPORT.RANK: "code fired message". */
#include "mpi/property_case.h"

#include "app/job.h"
#include "base/status.h"
#include "collection/context.h"
#include "mpi/mpi_test.h"
#include "oracle/draw.h"
#include <shardbag/mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *property_suite(void);

enum { SOAK_STEPS = 3, READ_MAX = 64 };

typedef enum fault_kind { FAULT_NONE, FAULT_MEMORY, FAULT_RANGE, FAULT_TABLE, FAULT_LEAVE } fault_kind_t;

static const char *const kind_names[] = {"none", "memory", "range", "table", "leave"};

typedef struct fault {
  fault_kind_t kind;
  int64_t at;
  int mine; /* it happens on this rank */
} fault_t;

/* ---- cases ---- */

static int world_rank(void) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

/* The seed is said before it runs, so that a launch that dies tells which one it was. */
static int run_cases(int count, char **seeds) {
  int provided = 0;
  MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
  setenv("SHARDBAG_PROPERTY_CASES", "1", 1);
  for (int i = 0; i < count; i++) {
    if (world_rank() == 0) printf("seed %s\n", seeds[i]);
    fflush(stdout);
    setenv("SHARDBAG_PROPERTY_SEED", seeds[i], 1);
    SRunner *runner = srunner_create(property_suite());
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    if (srunner_ntests_failed(runner) > 0) MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    srunner_free(runner);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (world_rank() == 0) printf("done\n");
  MPI_Finalize();
  return EXIT_SUCCESS;
}

/* ---- fault ---- */

/* What one pass leaves for the comparison with another. */
typedef struct outcome {
  int fired;
  int64_t live_bytes; /* after it */
  double sum;         /* of the rows that were read */
} outcome_t;

typedef struct pass {
  sbag_context_h context;
  sbag_collection_h collection;
  property_case_t it;
  property_batch_t batch[2];
  const fault_t *fault;
  outcome_t *outcome;
} pass_t;

static int strikes(const pass_t *pass, fault_kind_t kind, int step) {
  int now = pass->fault->mine && pass->fault->kind == kind && step == pass->fault->at % SOAK_STEPS;
  if (now) pass->outcome->fired = 1;
  return now;
}

/* Breaks the first index of the first feature that has one on this rank. */
static void spoil_index(pass_t *pass, property_batch_t *batch, int step) {
  for (int f = 0; f < pass->it.feature_count; f++) {
    sbag_bags_t *mine = &batch->mine[f];
    if (mine->index_count == 0 || !strikes(pass, FAULT_RANGE, step)) continue;
    int64_t outside = pass->it.tables[pass->it.features[f].table].num_embeddings;
    if (mine->index_type == SBAG_I64)
      ((int64_t *)(uintptr_t)mine->indices)[0] = outside;
    else
      ((int32_t *)(uintptr_t)mine->indices)[0] = (int32_t)outside;
    return;
  }
}

static sbag_code_t read_some(pass_t *pass, int table, sbag_status_t *status) {
  int known = table < pass->it.table_count ? table : 0;
  int64_t rows = pass->it.tables[known].num_embeddings, dim = pass->it.tables[known].embedding_dim;
  int64_t row[READ_MAX], count = rows < READ_MAX ? rows : READ_MAX;
  for (int64_t i = 0; i < count; i++) row[i] = i;
  double *values = arena_doubles(&pass->it.arena, count * dim);
  void *typed = arena_doubles(&pass->it.arena, count * dim);
  SBAG_TRY(sbag_collection_read_rows(pass->collection, table, row, count, typed, status));
  batch_untyped(typed, count * dim, pass->it.options.dtype, values);
  for (int64_t i = 0; i < count * dim; i++) pass->outcome->sum += values[i];
  return SBAG_OK;
}

static sbag_code_t begin(pass_t *pass, int b, int step, sbag_step_h *handle, sbag_status_t *status) {
  property_batch_draw(&pass->it, &pass->batch[b]);
  spoil_index(pass, &pass->batch[b], step);
  return sbag_collection_forward_begin(pass->collection, pass->batch[b].mine, 0, handle, status);
}

static sbag_code_t end(pass_t *pass, int b, sbag_step_h step, sbag_status_t *status) {
  int64_t columns = sbag_collection_output_dim(pass->collection), rank = pass->it.rank;
  int64_t count = (pass->batch[b].first[rank + 1] - pass->batch[b].first[rank]) * columns;
  double norm = 0, *grad = arena_doubles(&pass->it.arena, count);
  SBAG_TRY(sbag_step_forward_end(step, grad, status));
  memset(grad, 0, (size_t)count * sizeof *grad);
  for (int64_t i = 0; i < count; i++) grad[i] = (double)(i % 5) / 8;
  void *typed = batch_typed(&pass->it.arena, grad, count, pass->it.options.dtype);
  SBAG_TRY(sbag_step_backward(step, typed, NULL, status));
  SBAG_TRY(sbag_step_grad_norm_squared(step, &norm, status));
  return sbag_step_update(step, 1, 1, status);
}

/* The ids of each batch run ahead of the update of the one before. */
static sbag_code_t run_steps(pass_t *pass, sbag_status_t *status) {
  sbag_step_h step[2] = {NULL, NULL};
  sbag_code_t code = begin(pass, 0, 0, &step[0], status);
  for (int s = 0; s < SOAK_STEPS && code == SBAG_OK; s++) {
    if (s + 1 < SOAK_STEPS) code = begin(pass, (s + 1) % 2, s + 1, &step[(s + 1) % 2], status);
    if (code == SBAG_OK) code = end(pass, s % 2, step[s % 2], status);
    if (code == SBAG_OK) sbag_step_release(&step[s % 2]);
    if (code == SBAG_OK && strikes(pass, FAULT_LEAVE, s))
      code = status_set(status, SBAG_ERR_STATE, "step %d: this rank wants no more", s);
    int table = strikes(pass, FAULT_TABLE, s) ? pass->it.table_count : s % pass->it.table_count;
    if (code == SBAG_OK) code = read_some(pass, table, status);
  }
  for (int b = 0; b < 2; b++) sbag_step_release(&step[b]);
  return code;
}

static sbag_code_t run_pass(sbag_context_h context, uint64_t seed, const fault_t *fault, outcome_t *outcome,
                            sbag_status_t *status) {
  pass_t pass = {.context = context, .fault = fault, .outcome = outcome};
  *outcome = (outcome_t){.fired = 0};
  property_case_draw(&pass.it, seed, 0, sbag_context_rank(context), sbag_context_size(context));
  pass.it.options.bounds_check = SBAG_BOUNDS_FATAL;
  pass.it.options.weight_grad = 1;
  if (fault->mine && fault->kind == FAULT_MEMORY) mem_fail_at(context_mem(context), fault->at);
  sbag_code_t code =
      sbag_collection_create(context, &pass.it.options, pass.it.tables, pass.it.table_count, pass.it.features,
                             pass.it.feature_count, &pass.collection, status);
  if (code == SBAG_OK) code = run_steps(&pass, status);
  if (fault->mine && fault->kind == FAULT_MEMORY) {
    mem_fail_at(context_mem(context), 0);
    outcome->fired = code == SBAG_ERR_MEMORY;
  }
  sbag_collection_destroy(&pass.collection);
  arena_free(&pass.it.arena);
  outcome->live_bytes = sbag_context_memory(context).live_bytes;
  return code;
}

static sbag_code_t make_context(job_t *job, uint64_t seed, sbag_status_t *status) {
  static const int64_t chunks[] = {0, 1024, 56, 4096};
  draw_t draw = draw_start(seed ^ 0x50AC, 0);
  sbag_context_options_t options = sbag_context_options_default();
  options.exchange = (sbag_exchange_t)draw_below(&draw, SBAG_EXCHANGE_DENSE + 1);
  options.chunk_bytes = chunks[draw_below(&draw, 4)];
  options.reproducible = draw_one_in(&draw, 5);
  options.timeout_s = job->timeout_s;
  return sbag_context_create_mpi(MPI_COMM_WORLD, &options, &job->context, status);
}

/* A pass after a fault that was agreed on computes what the one before did, and nothing is left behind. The
 * first pass only makes the context grow. */
static sbag_code_t compare(const outcome_t *before, const outcome_t *after, sbag_status_t *status) {
  if (memcmp(&before->sum, &after->sum, sizeof before->sum) != 0 && before->sum == before->sum)
    return status_set(status, SBAG_ERR_STATE, "after the fault the rows' sum is %.17g, not %.17g", after->sum,
                      before->sum);
  if (before->live_bytes != after->live_bytes)
    return status_set(status, SBAG_ERR_STATE, "after the fault %lld bytes are alive, not %lld",
                      (long long)after->live_bytes, (long long)before->live_bytes);
  return SBAG_OK;
}

static sbag_code_t run_faulty(job_t *job, uint64_t seed, const fault_t *fault, int *fired,
                              sbag_status_t *status) {
  const fault_t none = {.kind = FAULT_NONE};
  outcome_t first, second, faulty = {.fired = 0}, last;
  SBAG_TRY(make_context(job, seed, status));
  SBAG_TRY(run_pass(job->context, seed, &none, &first, status));
  SBAG_TRY(run_pass(job->context, seed, &none, &second, status));
  sbag_code_t code = run_pass(job->context, seed, fault, &faulty, status);
  *fired = faulty.fired;
  int alone = fault->kind == FAULT_LEAVE; /* the others do not know yet */
  if (alone || comm_check(context_comm(job->context), NULL) != SBAG_OK) return code;
  sbag_status_t own;
  sbag_code_t again = run_pass(job->context, seed, &none, &last, &own);
  if (again == SBAG_OK) again = compare(&second, &last, &own);
  if (again == SBAG_OK) return code;
  *status = own;
  return again;
}

static void report(const job_t *job, sbag_code_t code, int fired, const sbag_status_t *status) {
  char path[4096];
  const char *prefix = getenv("SOAK_REPORT");
  if (prefix == NULL || snprintf(path, sizeof path, "%s.%d", prefix, job->rank) >= (int)sizeof path) return;
  FILE *file = fopen(path, "we");
  if (file == NULL) return;
  fprintf(file, "%s %d %s\n", sbag_code_name(code), fired, code == SBAG_OK ? "" : status->message);
  fclose(file);
}

static fault_kind_t kind_of(const char *name) {
  for (int k = 0; k < (int)(sizeof kind_names / sizeof *kind_names); k++)
    if (strcmp(kind_names[k], name) == 0) return (fault_kind_t)k;
  return FAULT_NONE;
}

/* arguments: SEED, and "RANK KIND N". */
static int body(job_t *job, const settings_t *unused, const options_t *options, sbag_status_t *status) {
  (void)unused;
  fault_t fault = {.kind = FAULT_NONE};
  int rank = 0, fired = 0;
  char kind[16] = "";
  long long at = 0;
  if (sscanf(options->arguments[1], "%d %15s %lld", &rank, kind, &at) == 3)
    fault = (fault_t){.kind = kind_of(kind), .at = at, .mine = rank == job->rank};
  sbag_code_t code = run_faulty(job, strtoull(options->arguments[0], NULL, 10), &fault, &fired, status);
  report(job, code, fired, status);
  return code == SBAG_OK ? EXIT_DONE : EXIT_OTHER;
}

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "cases") == 0) return run_cases(argc - 2, argv + 2);
  if (argc != 6 || strcmp(argv[1], "fault") != 0) {
    fprintf(stderr, "usage: soak cases SEED... | soak fault SEED RANK KIND N\n");
    return EXIT_USAGE;
  }
  char fault[64];
  const char *timeout = getenv("SOAK_TIMEOUT");
  snprintf(fault, sizeof fault, "%.8s %.15s %.20s", argv[3], argv[4], argv[5]);
  options_t options = {.arguments = {argv[2], fault}, .timeout_s = timeout != NULL ? atof(timeout) : -1};
  return job_run("soak", &options, NULL, body);
}
