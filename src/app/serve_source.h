/* The checkpoints that `shardbag serve` can load: the file that its argument names, or the newest in a
 * folder. */
#ifndef APP_SERVE_SOURCE_H
#define APP_SERVE_SOURCE_H

#include "app/job.h"
#include "serve/serve.h"

#include <sys/stat.h>

/* One that is or was looked at. */
typedef struct serve_file {
  int known;
  struct stat about;
  int64_t step; /* by its name; -1: it does not tell */
} serve_file_t;

typedef struct serve_files {
  job_t *job;
  const options_t *options;
  char folder[SERVE_PATH_BYTES]; /* "": the argument's file alone */
  serve_file_t found, served, refused;
  sbag_code_t refusal;
  double refused_s;
} serve_files_t;

/* Collective: finds the first one to serve. SBAG_ERR_ARGUMENT where there is none. */
sbag_code_t serve_files_open(job_t *job, const options_t *options, serve_files_t *files,
                             char path[SERVE_PATH_BYTES], sbag_status_t *status);
/* Collective. Creates the job's context, as the first checkpoint has it. name: the model's, freed by mem_free
 * of the job's mem; NULL: not wanted. */
sbag_code_t serve_files_load(serve_files_t *files, const char *path, int beside, serve_pause_t pause,
                             void *pauser, serve_loaded_t *loaded, char **name, sbag_status_t *status);
serve_source_t serve_files_source(serve_files_t *files);

#endif
