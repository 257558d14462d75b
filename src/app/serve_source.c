/* Finding checkpoints, and loading them. */
#include "app/serve_source.h"

#include "base/clock.h"
#include "collection/context.h"
#include "train/folder.h"
#include "train/served.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

_Static_assert((int)SERVE_PATH_BYTES == (int)FOLDER_PATH_BYTES, "paths of one length");

/* A file that could not be read may be readable later; one that is damaged stays so. */
enum { RETRY_S = 60 };

/* ---- finding ---- */

/* The step of a path that ends as "ckpt-STEP.h5", or -1. */
static int64_t step_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return folder_step(slash != NULL ? slash + 1 : path);
}

/* A path without its last part. */
static void folder_of(const char *path, char folder[SERVE_PATH_BYTES]) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL)
    snprintf(folder, SERVE_PATH_BYTES, ".");
  else
    snprintf(folder, SERVE_PATH_BYTES, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static sbag_code_t find_in_folder(serve_files_t *f, char path[SERVE_PATH_BYTES], sbag_status_t *status) {
  int64_t *steps = NULL, count = 0;
  SBAG_TRY(folder_list(f->folder, f->job->mem, &steps, &count, status));
  sbag_code_t code = SBAG_OK;
  if (count == 0)
    code = status_set(status, SBAG_ERR_ARGUMENT, "%s: holds no checkpoint, ckpt-STEP.h5", f->folder);
  else
    code = folder_checkpoint(f->folder, steps[0], path, status);
  mem_free(f->job->mem, steps);
  return code;
}

/* The newest, into f->found. */
static sbag_code_t look(serve_files_t *f, char path[SERVE_PATH_BYTES], sbag_status_t *status) {
  f->found = (serve_file_t){0};
  if (f->folder[0] != '\0')
    SBAG_TRY(find_in_folder(f, path, status));
  else
    snprintf(path, SERVE_PATH_BYTES, "%s", f->options->arguments[0]);
  if (stat(path, &f->found.about) != 0)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s: cannot open the checkpoint: %s", path, strerror(errno));
  f->found.known = 1;
  f->found.step = step_of(path);
  return SBAG_OK;
}

static int same_file(const serve_file_t *a, const serve_file_t *b) {
  const struct stat *p = &a->about, *q = &b->about;
  return a->known && b->known && p->st_dev == q->st_dev && p->st_ino == q->st_ino &&
         p->st_size == q->st_size && p->st_mtim.tv_sec == q->st_mtim.tv_sec &&
         p->st_mtim.tv_nsec == q->st_mtim.tv_nsec;
}

/* Watching goes forward alone: where the newest was removed, an older one is for somebody to ask for. */
static int is_wanted(const serve_files_t *f) {
  int again = f->refusal == SBAG_ERR_IO || f->refusal == SBAG_ERR_MEMORY;
  if (same_file(&f->found, &f->refused) && !(again && clock_now() - f->refused_s >= RETRY_S)) return 0;
  return f->found.step < 0 || f->found.step >= f->served.step;
}

static sbag_code_t find(void *user, int asked, char path[SERVE_PATH_BYTES], int *found,
                        sbag_status_t *status) {
  serve_files_t *f = user;
  *found = 0;
  SBAG_TRY(look(f, path, status));
  *found = !same_file(&f->found, &f->served) && (asked || is_wanted(f));
  return SBAG_OK;
}

static void outcome(void *user, sbag_code_t code) {
  serve_files_t *f = user;
  if (code == SBAG_OK) {
    f->served = f->found;
    return;
  }
  f->refused = f->found;
  f->refusal = code;
  f->refused_s = clock_now();
}

/* A file is looked for by its name; of a run's file the folder has newer ones. */
static sbag_code_t open_first(serve_files_t *f, char path[SERVE_PATH_BYTES], sbag_status_t *status) {
  const char *argument = f->options->arguments[0];
  struct stat about;
  if (strlen(argument) >= SERVE_PATH_BYTES)
    return status_set(status, SBAG_ERR_ARGUMENT, "%.40s...: the path has more than %d characters", argument,
                      SERVE_PATH_BYTES - 1);
  if (stat(argument, &about) == 0 && S_ISDIR(about.st_mode))
    snprintf(f->folder, sizeof f->folder, "%s", argument);
  SBAG_TRY(look(f, path, status));
  if (f->folder[0] == '\0' && f->found.step >= 0) folder_of(argument, f->folder);
  f->served = f->found;
  return SBAG_OK;
}

sbag_code_t serve_files_open(job_t *job, const options_t *options, serve_files_t *files,
                             char path[SERVE_PATH_BYTES], sbag_status_t *status) {
  comm_t *comm = context_comm(job->control);
  *files = (serve_files_t){.job = job, .options = options};
  memset(path, 0, SERVE_PATH_BYTES);
  sbag_code_t code = job->rank == 0 ? open_first(files, path, status) : SBAG_OK;
  SBAG_TRY(comm_agree(comm, code, status));
  return comm_broadcast(comm, path, SERVE_PATH_BYTES, 0, "serving: the checkpoint's path", status);
}

/* ---- loading ---- */

/* A checkpoint's model with all that it stands on. */
typedef struct item {
  settings_t settings;
  served_t served;
  int *multi_hot; /* NULL until all of it is there */
} item_t;

static sbag_code_t take_multi_hot(item_t *item, mem_t *mem, sbag_status_t *status) {
  const inputs_t *inputs = &item->served.inputs.view;
  void *block = NULL;
  SBAG_TRY(
      mem_alloc(mem, mem_array_bytes(inputs->feature_count, sizeof(int)), "serving: inputs", &block, status));
  item->multi_hot = block;
  for (int f = 0; f < inputs->feature_count; f++) item->multi_hot[f] = inputs->features[f].multi_hot;
  return SBAG_OK;
}

static sbag_code_t load_item(const serve_files_t *f, snapshot_t *snapshot, served_how_t how, item_t *item,
                             char **name, sbag_status_t *status) {
  job_t *job = f->job;
  sbag_storage_t storage;
  if (options_storage(f->options->dtype, &storage)) how.storage = &storage;
  if (job->context == NULL) SBAG_TRY(job_context(job, &item->settings, status));
  SBAG_TRY(served_open(snapshot, &item->settings, job->context, &how, &item->served, status));
  sbag_code_t code = take_multi_hot(item, job->mem, status);
  if (code == SBAG_OK && name != NULL)
    code = checkpoint_read_text(item->served.file != NULL ? item->served.file : snapshot->file, "", "name",
                                name, status);
  code = comm_agree(context_comm(job->context), code, status);
  if (code == SBAG_OK) return SBAG_OK;
  mem_free(job->mem, item->multi_hot);
  served_close(&item->served);
  return code;
}

static sbag_code_t load_settings(const serve_files_t *f, comm_t *comm, snapshot_t *snapshot, served_how_t how,
                                 item_t *item, char **name, sbag_status_t *status) {
  const options_t *o = f->options;
  sbag_code_t code = served_settings(snapshot, o->sets, o->set_count, &item->settings, status);
  const int loaded = code == SBAG_OK;
  code = comm_agree(comm, code, status);
  if (code == SBAG_OK) code = load_item(f, snapshot, how, item, name, status);
  if (code != SBAG_OK && loaded) settings_clear(&item->settings);
  return code;
}

sbag_code_t serve_files_load(serve_files_t *files, const char *path, int beside, serve_pause_t pause,
                             void *pauser, serve_loaded_t *loaded, char **name, sbag_status_t *status) {
  job_t *job = files->job;
  comm_t *comm = context_comm(job->context != NULL ? job->context : job->control);
  const served_how_t how = {
      .mapped = files->options->serve.mapped, .beside = beside, .pause = pause, .pauser = pauser};
  snapshot_t snapshot;
  struct stat about = {0};
  void *block = NULL;
  sbag_code_t code = mem_calloc(job->mem, sizeof(item_t), "serving: a checkpoint", &block, status);
  code = comm_agree(comm, code, status);
  item_t *item = block;
  if (code == SBAG_OK) code = snapshot_open(comm, job->mem, path, &snapshot, status);
  if (code == SBAG_OK) {
    (void)stat(path, &about); /* its age is of rank 0's metrics */
    code = load_settings(files, comm, &snapshot, how, item, name, status);
    if (code == SBAG_OK)
      *loaded = (serve_loaded_t){.model = item->served.session.model,
                                 .config = &item->served.session.assembly.model,
                                 .multi_hot = item->multi_hot,
                                 .step = snapshot.step,
                                 .written_s = (double)about.st_mtime,
                                 .piece_rows = item->served.piece_rows,
                                 .own = item};
    snapshot_close(&snapshot); /* the file may go: all of it that is needed is here */
  }
  if (code != SBAG_OK) mem_free(job->mem, item);
  return code;
}

static sbag_code_t load(void *user, const char *path, serve_pause_t pause, void *pauser,
                        serve_loaded_t *loaded, sbag_status_t *status) {
  return serve_files_load(user, path, 1, pause, pauser, loaded, NULL, status);
}

static void drop(void *user, serve_loaded_t *loaded) {
  const serve_files_t *f = user;
  item_t *item = loaded->own;
  if (item == NULL) return;
  served_close(&item->served);
  settings_clear(&item->settings);
  mem_free(f->job->mem, item->multi_hot);
  mem_free(f->job->mem, item);
}

static sbag_code_t check_piece(const serve_loaded_t *loaded, int table, int64_t piece,
                               sbag_status_t *status) {
  const item_t *item = loaded->own;
  return served_check(&item->served, table, piece, status);
}

serve_source_t serve_files_source(serve_files_t *files) {
  return (serve_source_t){
      .find = find, .outcome = outcome, .load = load, .check = check_piece, .drop = drop, .user = files};
}
