/* Starting, agreeing, and ending with one voice. */
#include "app/job.h"

#include "app/deadline.h"
#include "app/stop.h"
#include "collection/context.h"
#include <shardbag/mpi.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEET_S = 3 }; /* how long a rank with an error waits for the others */

/* The launcher's word for this process, before MPI runs; 0 without one. */
static int rank_early(void) {
  static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const char *rank = getenv(names[i]);
    if (rank != NULL) return (int)strtol(rank, NULL, 10);
  }
  return 0;
}

int job_speaks_early(void) {
  return rank_early() == 0;
}

static void log_line(void *user, sbag_log_level_t level, const char *line) {
  (void)user;
  if (level == SBAG_LOG_WARNING) fprintf(stderr, "warning: %s\n", line);
}

static sbag_context_options_t context_options(const job_t *job) {
  sbag_context_options_t o = sbag_context_options_default();
  o.timeout_s = job->timeout_s;
  o.log = log_line;
  return o;
}

/* SIGUSR1 is caught as early as can be: before, it ends the process. */
static sbag_code_t start(const char *command, const options_t *options, job_t *job, sbag_status_t *status) {
  *job = (job_t){.command = command, .timeout_s = options->timeout_s, .size = 1};
  if (job->timeout_s < 0) job->timeout_s = sbag_context_options_default().timeout_s;
  job->rank = rank_early(); /* who speaks if MPI cannot start */
  SBAG_TRY(stop_catch(SIGUSR1, status));
  int provided = 0;
  deadline_t deadline;
  deadline_begin(&deadline, command, "start of MPI", job->timeout_s, rank_early());
  int started = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) == MPI_SUCCESS;
  deadline_end(&deadline);
  if (!started) return status_set(status, SBAG_ERR_COMM, "MPI cannot start");
  MPI_Comm_rank(MPI_COMM_WORLD, &job->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &job->size);
  SBAG_TRY(mem_create(&job->mem, status));
  sbag_context_options_t o = context_options(job);
  return sbag_context_create_mpi(MPI_COMM_WORLD, &o, &job->control, status);
}

/* FNV-1a, kept positive. */
static int64_t text_hash(const char *text) {
  uint64_t hash = 14695981039346656037u;
  for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
  return (int64_t)(hash >> 1);
}

static sbag_code_t check_same(job_t *job, const settings_t *settings, const char *file,
                              sbag_status_t *status) {
  int64_t hash = text_hash(config_tree_text(settings->tree));
  int64_t range[2] = {hash, -hash}; /* least and, negated, greatest */
  SBAG_TRY(comm_allreduce(context_comm(job->control), range, 2, COMM_I64, COMM_MIN, "config", status));
  if (range[0] == -range[1]) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "%s: ranks have read different texts; every rank needs the same config", file);
}

/* The config, read by every rank. */
static sbag_code_t load_settings(job_t *job, const char *file, const options_t *options, settings_t *settings,
                                 sbag_status_t *status) {
  sbag_code_t code = settings_load(file, options->sets, options->set_count, job->mem, settings, status);
  int loaded = code == SBAG_OK;
  code = sbag_context_agree(job->control, code, status);
  if (code == SBAG_OK) code = check_same(job, settings, file, status);
  if (code != SBAG_OK && loaded) settings_clear(settings);
  return code;
}

sbag_code_t job_context(job_t *job, const settings_t *settings, sbag_status_t *status) {
  sbag_context_options_t o = context_options(job);
  o.device = (sbag_device_t)settings->device;
  o.threads = (int)settings->threads;
  o.exchange = (sbag_exchange_t)settings->exchange;
  o.wire = (sbag_wire_t)settings->wire.vectors;
  o.chunk_bytes = settings->wire.chunk_bytes;
  o.reproducible = settings->train.reproducible;
  return sbag_context_create_mpi(MPI_COMM_WORLD, &o, &job->context, status);
}

sbag_code_t job_device_context(job_t *job, int device, sbag_status_t *status) {
  sbag_context_options_t o = context_options(job);
  o.device = (sbag_device_t)device;
  return sbag_context_create_mpi(MPI_COMM_WORLD, &o, &job->context, status);
}

static void say(const job_t *job, const sbag_status_t *status) {
  fflush(stdout);
  fprintf(stderr, "shardbag %s: %s\n", job->command, status->message);
  fflush(stderr);
}

static int is_broken(sbag_context_h context) {
  return context != NULL && comm_check(context_comm(context), NULL) != SBAG_OK;
}

/* Ends the job. MPI_Abort asks the launcher, which may be out of reach: a rank does not wait for its answer.
 */
static void abort_job(int exit_code) {
  deadline_t deadline;
  deadline_begin_silent(&deadline, 5, exit_code);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
}

static void wait_for_end(int64_t seconds) {
  struct timespec wait = {.tv_sec = seconds, .tv_nsec = 500000000};
  nanosleep(&wait, NULL);
}

/* A job whose ranks cannot reach each other any more. Rank 0 speaks and aborts; if it hangs, the rank that
 * found the cause does, and if that is gone too, the lowest that is left: a second lies between any two, so
 * that the first one's abort ends the others before they speak. Even rank 0 waits a little: a stopped process
 * is woken to be ended, and must not get as far as speaking then. */
static void end_broken(const job_t *job, int exit_code, const sbag_status_t *status) {
  int turn = job->rank < 60 ? job->rank : 60;
  wait_for_end(turn == 0 ? 0 : turn + (status->rank == job->rank ? 1 : 5));
  say(job, status);
  abort_job(exit_code);
}

/* All ranks come here, with whatever outcome; if one does not, the others must not wait for it in
 * MPI_Finalize. *first is the lowest rank with an error, or size; *broken says whether operations of the run
 * are left unfinished on any rank. */
static sbag_code_t meet(job_t *job, int exit_code, int broken, int *first, int *any_broken,
                        sbag_status_t *status) {
  comm_t *comm = context_comm(job->control);
  job->votes[0] = exit_code == EXIT_DONE ? job->size : job->rank;
  job->votes[1] = -broken;
  double limit_s = comm->options.timeout_s;
  /* Who comes with an error has waited already. */
  if (exit_code != EXIT_DONE && !(limit_s > 0 && limit_s < MEET_S)) comm->options.timeout_s = MEET_S;
  SBAG_TRY(comm_allreduce(comm, job->votes, 2, COMM_I32, COMM_MIN, "end", status));
  comm->options.timeout_s = limit_s;
  *first = job->votes[0];
  *any_broken = job->votes[1] < 0;
  return SBAG_OK;
}

/* said: the job has spoken already, and does not again if a rank is stopped just now. */
static void finish(job_t *job, int exit_code, int said) {
  deadline_t deadline;
  sbag_context_destroy(&job->context);
  sbag_context_destroy(&job->control);
  mem_destroy(&job->mem);
  if (said)
    deadline_begin_silent(&deadline, job->timeout_s, exit_code == EXIT_DONE ? EXIT_OTHER : exit_code);
  else
    deadline_begin(&deadline, job->command, "end of MPI", job->timeout_s, job->rank);
  MPI_Finalize();
  deadline_end(&deadline);
}

/* One rank speaks: the lowest that has something to say. A run that is left unfinished on some rank can't be
 * tidied up. */
static void end_together(job_t *job, int exit_code, const sbag_status_t *status) {
  sbag_status_t late;
  int broken = is_broken(job->context), first = 0, any_broken = 0;
  /* An error of this rank alone: the others learn of it in their waits, and come here too. One that names a
   * rank was agreed upon or told by a peer: to tell it again could break the agreement of a slower rank. */
  if (exit_code != EXIT_DONE && job->context != NULL && status->rank < 0)
    comm_fail(context_comm(job->context), status);
  if (meet(job, exit_code, broken, &first, &any_broken, &late) != SBAG_OK)
    end_broken(job, EXIT_OTHER, exit_code == EXIT_DONE ? &late : status);
  if (first == job->rank) say(job, status);
  if (any_broken) {
    if (first != job->rank) wait_for_end(job->rank < 5 ? 5 + job->rank : 10);
    abort_job(EXIT_OTHER);
  }
  finish(job, exit_code, first < job->size);
}

static int end(job_t *job, int exit_code, const sbag_status_t *status) {
  int started = 0;
  if (MPI_Initialized(&started) != MPI_SUCCESS) started = 0;
  int silent = exit_code != EXIT_DONE && status->code == SBAG_ERR_TIMEOUT;
  /* Wherever that was met, also while the config was read. */
  if (silent || (exit_code != EXIT_DONE && status->code == SBAG_ERR_COMM)) exit_code = EXIT_OTHER;
  if (!started) {
    if (job->rank == 0) say(job, status);
    return exit_code;
  }
  if (silent || job->control == NULL || is_broken(job->control)) end_broken(job, exit_code, status);
  end_together(job, exit_code, status);
  return exit_code;
}

/* Output that went nowhere, as into a full disk, is no success. */
static int flush_output(int exit_code, sbag_status_t *status) {
  if (exit_code != EXIT_DONE || (fflush(stdout) == 0 && !ferror(stdout))) return exit_code;
  status_set(status, SBAG_ERR_IO, "standard output: cannot write: %s", strerror(errno));
  return EXIT_OTHER;
}

int job_run(const char *command, const options_t *options, const char *config, job_body_t body) {
  job_t job;
  settings_t settings;
  sbag_status_t status;
  status_clear(&status);
  int exit_code = EXIT_OTHER;
  if (start(command, options, &job, &status) == SBAG_OK) {
    exit_code = EXIT_USAGE;
    if (config == NULL) {
      exit_code = body(&job, NULL, options, &status);
    } else if (load_settings(&job, config, options, &settings, &status) == SBAG_OK) {
      exit_code = body(&job, &settings, options, &status);
      settings_clear(&settings);
    }
  }
  return end(&job, flush_output(exit_code, &status), &status);
}
