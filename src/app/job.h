/* The process as one rank of a job: MPI's start and end, agreement between ranks before a run's own context
 * exists, and the one line on stderr for the whole job. */
#ifndef APP_JOB_H
#define APP_JOB_H

#include "app/options.h"
#include "base/mem.h"
#include "train/settings.h"
#include <shardbag/context.h>

/* Exit codes of every command. */
enum { EXIT_DONE = 0, EXIT_OTHER = 1, EXIT_USAGE = 2 };

typedef struct job {
  const char *command;
  sbag_context_h control; /* with default options: agreements outside of the run */
  sbag_context_h context; /* the run's; NULL until job_context */
  mem_t *mem;
  int rank, size;
  double timeout_s;
  int32_t votes[2]; /* of the end */
} job_t;

/* 1 if this process is the launcher's first, or has none: it prints. Needs no MPI. */
int job_speaks_early(void);

/* Collective: the context of the run, by its settings. */
sbag_code_t job_context(job_t *job, const settings_t *settings, sbag_status_t *status);

/* The same for a run without a config: the defaults, on this sbag_device_t. */
sbag_code_t job_device_context(job_t *job, int device, sbag_status_t *status);

/* What a command does once its config is read; settings is NULL for a command without one. Returns the exit
 * code, with the message in *status. */
typedef int (*job_body_t)(job_t *job, const settings_t *settings, const options_t *options,
                          sbag_status_t *status);

/* A whole command: start, config (none if it is NULL), body, end. If it fails on any rank, the others learn
 * of it, and the lowest rank with an error prints the message; where ranks cannot reach each other any more,
 * the lowest one that still runs prints it and ends all. Returns the exit code. */
int job_run(const char *command, const options_t *options, const char *config, job_body_t body);

#endif
