/* One candidate after the other, on all ranks alike. */
#include "train/resume.h"

#include "collection/context.h"
#include "train/folder.h"
#include "train/snapshot.h"

#include <inttypes.h>
#include <string.h>

typedef struct search {
  const settings_t *settings;
  sbag_context_h context;
  comm_t *comm;
  mem_t *mem;
  journal_t *journal;
  retention_t *retention;
  int64_t run;                /* whose checkpoints are looked for; 0: any */
  int64_t *steps, step_count; /* candidates, the largest first */
} search_t;

/* ---- the candidates ---- */

/* Rank 0 looks, as the others may see the folder late. */
static sbag_code_t list(search_t *s, sbag_status_t *status) {
  int64_t *count = &s->step_count;
  void *block = NULL;
  sbag_code_t code = SBAG_OK;
  if (comm_rank(s->comm) == 0)
    code = folder_list(s->settings->checkpoint.dir, s->mem, &s->steps, count, status);
  SBAG_TRY(comm_agree(s->comm, code, status));
  SBAG_TRY(comm_broadcast(s->comm, count, (int64_t)sizeof *count, 0, "resume: checkpoints", status));
  if (comm_rank(s->comm) != 0) {
    code =
        mem_alloc(s->mem, mem_array_bytes(*count, sizeof *s->steps), "list of checkpoints", &block, status);
    s->steps = block;
  }
  SBAG_TRY(comm_agree(s->comm, code, status));
  return comm_broadcast(s->comm, s->steps, *count * (int64_t)sizeof *s->steps, 0, "resume: checkpoints",
                        status);
}

/* A file that is not what it should be is left out; any other error is the run's. */
static int is_files_fault(const search_t *s, sbag_code_t code) {
  return (code == SBAG_ERR_FORMAT || code == SBAG_ERR_IO) && comm_check(s->comm, NULL) == SBAG_OK;
}

static void leave_out(const search_t *s, const char *path, const char *reason) {
  if (comm_rank(s->comm) == 0)
    context_log(s->context, SBAG_LOG_WARNING, "resume: %s is left out: %s", path, reason);
}

/* Opens a checkpoint of the run; *fits is 0 where it is left out. */
static sbag_code_t open_candidate(const search_t *s, const char *path, snapshot_t *snapshot,
                                  progress_t *progress, int *fits, sbag_status_t *status) {
  sbag_status_t own;
  status_clear(&own);
  *fits = 0;
  sbag_code_t code = snapshot_open(s->comm, s->mem, path, snapshot, &own);
  int opened = code == SBAG_OK;
  if (opened) code = snapshot_progress(snapshot, s->comm, progress, &own);
  *fits = code == SBAG_OK && (s->run == 0 || progress->run == s->run);
  if (opened && !*fits) snapshot_close(snapshot);
  if (code != SBAG_OK && !is_files_fault(s, code)) {
    if (status != NULL) *status = own;
    return code;
  }
  if (code != SBAG_OK)
    leave_out(s, path, own.message);
  else if (!*fits)
    leave_out(s, path, "it was written by an earlier run in this folder");
  return SBAG_OK;
}

/* ---- loading ---- */

static sbag_code_t load(const search_t *s, snapshot_t *snapshot, session_t *session, sbag_status_t *status) {
  SBAG_TRY(session_open(s->settings, s->context, snapshot->blobs, snapshot->blob_count,
                        SESSION_TRAINING | SESSION_MODEL | SESSION_LOADED, session, status));
  sbag_code_t code = snapshot_resume(snapshot, session, status);
  if (code != SBAG_OK) session_close(session);
  return code;
}

/* *found: whether the run goes on from the checkpoint at `step`. A row whose checksum is wrong shows only
 * now. */
static sbag_code_t try_step(const search_t *s, int64_t step, session_t *session, progress_t *progress,
                            int *found, sbag_status_t *status) {
  char path[FOLDER_PATH_BYTES];
  snapshot_t snapshot;
  sbag_status_t own;
  int fits = 0;
  *found = 0;
  SBAG_TRY(folder_checkpoint(s->settings->checkpoint.dir, step, path, status));
  SBAG_TRY(open_candidate(s, path, &snapshot, progress, &fits, status));
  if (!fits) return SBAG_OK;
  status_clear(&own);
  sbag_code_t code = load(s, &snapshot, session, &own);
  snapshot_close(&snapshot);
  if (code == SBAG_OK) {
    *found = 1;
    journal_say(s->journal, "resume: goes on from %s", path);
    return SBAG_OK;
  }
  if (code == SBAG_ERR_FORMAT && comm_check(s->comm, NULL) == SBAG_OK) {
    leave_out(s, path, own.message);
    return SBAG_OK;
  }
  if (status != NULL) *status = own;
  return code;
}

/* The run's own among the older ones, so that `keep` counts them. */
static sbag_code_t note_older(search_t *s, int64_t first, sbag_status_t *status) {
  for (int64_t i = first; s->retention->keep > 0 && i < s->step_count; i++) {
    char path[FOLDER_PATH_BYTES];
    snapshot_t snapshot;
    progress_t progress;
    int fits = 0;
    SBAG_TRY(folder_checkpoint(s->settings->checkpoint.dir, s->steps[i], path, status));
    SBAG_TRY(open_candidate(s, path, &snapshot, &progress, &fits, status));
    if (!fits) continue;
    snapshot_close(&snapshot);
    SBAG_TRY(comm_agree(s->comm, retention_add(s->retention, s->steps[i], status), status));
  }
  return SBAG_OK;
}

static sbag_code_t find(search_t *s, session_t *session, progress_t *progress, int *found,
                        sbag_status_t *status) {
  SBAG_TRY(list(s, status));
  for (int64_t i = 0; i < s->step_count && !*found; i++) {
    progress_t there = *progress;
    SBAG_TRY(try_step(s, s->steps[i], session, &there, found, status));
    if (!*found) continue;
    *progress = there;
    s->run = there.run;
    sbag_code_t code = note_older(s, i, status); /* the one found included */
    if (code != SBAG_OK) session_close(session);
    return code;
  }
  return SBAG_OK;
}

sbag_code_t resume_open(const settings_t *settings, sbag_context_h context, journal_t *journal,
                        retention_t *retention, session_t *session, progress_t *progress, int *found,
                        sbag_status_t *status) {
  search_t s = {.settings = settings,
                .context = context,
                .comm = context_comm(context),
                .mem = context_mem(context),
                .journal = journal,
                .retention = retention,
                .run = progress->run};
  *found = 0;
  sbag_code_t code = find(&s, session, progress, found, status);
  if (code != SBAG_OK) *found = 0;
  if (comm_check(s.comm, NULL) == SBAG_OK) mem_free(s.mem, s.steps); /* a broken comm may still write to it */
  return code;
}
